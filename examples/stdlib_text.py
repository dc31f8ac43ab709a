"""What the examples train on and what they train: Python's own source code, and a small byte-level transformer."""

from __future__ import annotations

import itertools
import math
import random
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

#: Left out: tests, what pip has added, and modules that are tables of data rather than code.
SKIP = {"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "pydoc_data", "lib2to3"}
GOLDEN = (5**0.5 - 1) / 2


def stdlib_text() -> Tensor:
    """Return the source of the standard library as one tensor of bytes, in the same order on every machine."""
    root = Path(sysconfig.get_path("stdlib"))
    files = (f.relative_to(root) for f in root.rglob("*.py"))
    chosen = sorted(f.as_posix() for f in files if SKIP.isdisjoint(f.parts))
    return torch.frombuffer(bytearray(b"\n".join((root / f).read_bytes() for f in chosen)), dtype=torch.uint8)


class Crops(torch.utils.data.IterableDataset[Tensor]):
    """Endless batches of crops, spread evenly over the text by the golden ratio: any few batches in a row see all of it.

    So single batches are as much alike as they can be, and nothing is seen twice before the whole text has been read.
    """

    def __init__(self, text: Tensor, batch_size: int, length: int, seed: int = 0) -> None:
        self.text, self.batch_size, self.length, self.seed = text, batch_size, length, seed

    def __iter__(self) -> Iterator[Tensor]:
        start = random.Random(self.seed).random()
        for first in itertools.count(step=self.batch_size):
            share = (start + GOLDEN * torch.arange(first, first + self.batch_size, dtype=torch.float64)) % 1.0
            places = (share * (len(self.text) - self.length)).long()
            yield self.text[places[:, None] + torch.arange(self.length)].long()


class ByteTransformer(pl.LightningModule):
    """Predicts the next byte; trained by AdamW with a linear warm-up and a cosine decay of the learning rate."""

    def __init__(self, width: int, depth: int, context: int, steps: int, lr: float = 4e-3) -> None:
        super().__init__()
        self.steps, self.lr = steps, lr
        self.embedding, self.position = nn.Embedding(256, width), nn.Embedding(context, width)
        self.mix = nn.Conv1d(width, width, kernel_size=4)  # each position sees the three bytes before it
        block = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, 256)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(context))

    def forward(self, x: Tensor) -> Tensor:
        h = self.embedding(x)
        h = h + self.mix(nn.functional.pad(h.mT, (3, 0))).mT + self.position.weight
        return self.head(self.blocks(h, mask=self.mask, is_causal=True))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return nn.functional.cross_entropy(self(batch[:, :-1]).flatten(0, 1), batch[:, 1:].flatten())

    def configure_optimizers(self) -> dict:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, betas=(0.9, 0.95), weight_decay=0.1)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, self.relative_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def relative_rate(self, step: int) -> float:
        """Return the learning rate after ``step`` steps relative to its peak: 5 % warm-up, then a cosine to a tenth."""
        warmup = max(self.steps // 20, 1)
        if step < warmup:
            return (step + 1) / warmup
        done = min((step - warmup) / max(self.steps - warmup, 1), 1.0)
        return 0.1 + 0.9 * 0.5 * (1.0 + math.cos(math.pi * done))
