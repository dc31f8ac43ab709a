"""What the examples train on and what they train: Python's own source code, and a small byte-level transformer."""

from __future__ import annotations

import itertools
import math
import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F

#: Left out: tests, what pip has added, and packages that are tables of data rather than code.
SKIP = {"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "pydoc_data"}
GOLDEN = (5**0.5 - 1) / 2


def stdlib_text() -> Tensor:
    """Return the source of the standard library as one tensor of bytes, its files in the order of their names."""
    root = Path(sysconfig.get_path("stdlib"))
    files = [file for file in root.rglob("*.py") if SKIP.isdisjoint(file.relative_to(root).parts)]
    return torch.frombuffer(bytearray(b"\n".join(f.read_bytes() for f in sorted(files))), dtype=torch.uint8)


class Crops(torch.utils.data.IterableDataset[tuple[Tensor, Tensor]]):
    """Endless batches of crops and the bytes that follow, spread evenly over the text by the golden ratio.

    Any few batches in a row see all parts of the text, so that their losses differ little, and no place is seen twice.
    """

    def __init__(self, text: Tensor, batch_size: int, length: int) -> None:
        self.text, self.batch_size, self.length = text, batch_size, length

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for first in itertools.count(step=self.batch_size):
            share = GOLDEN * torch.arange(first, first + self.batch_size, dtype=torch.float64) % 1.0
            starts = (share * (len(self.text) - self.length)).long()
            crops = self.text[starts[:, None] + torch.arange(self.length + 1)].long()
            yield crops[:, :-1], crops[:, 1:]


class ByteTransformer(pl.LightningModule):
    """Predicts the next byte; trained by AdamW with a linear warm-up and a cosine decay of the learning rate."""

    def __init__(self, width: int, depth: int, context: int, steps: int, lr: float = 4e-3) -> None:
        super().__init__()
        self.steps, self.lr = steps, lr
        self.embedding, self.position = nn.Embedding(256, width), nn.Embedding(context, width)
        self.mix = nn.Conv1d(width, width, kernel_size=4)  # shows each position the three bytes before it
        block = nn.TransformerEncoderLayer(
            width, 4, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, depth, norm=nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, 256)
        self.register_buffer("mask", nn.Transformer.generate_square_subsequent_mask(context))

    def forward(self, x: Tensor) -> Tensor:
        h = self.embedding(x)
        h = h + self.mix(F.pad(h.mT, (3, 0))).mT + self.position.weight
        return self.head(self.blocks(h, mask=self.mask, is_causal=True))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        loss = F.cross_entropy(self(x).flatten(0, 1), y.flatten())
        self.log("loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.lr, betas=(0.9, 0.95), weight_decay=0.1)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self.relative_rate)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def relative_rate(self, step: int) -> float:
        """Return the learning rate after ``step`` steps, in parts of its peak: warm-up, then a cosine to a tenth."""
        warmup = max(self.steps // 20, 1)
        if step < warmup:
            return (step + 1) / warmup
        done = min((step - warmup) / max(self.steps - warmup, 1), 1.0)
        return 0.1 + 0.45 * (1.0 + math.cos(math.pi * done))
