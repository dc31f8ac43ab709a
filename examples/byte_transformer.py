"""What the demo trains: a small byte-level transformer as a LightningModule."""

from __future__ import annotations

import math
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.nn import functional as F


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
