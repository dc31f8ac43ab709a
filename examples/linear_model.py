"""What the small examples train: a linear model whose loss falls as a power law, since its features are ever weaker."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytorch_lightning as pl
import torch
from torch import Tensor, nn

FEATURES, BATCH_SIZE = 256, 256


class LinearModel(pl.LightningModule):
    """Learns to add features of variance i^-1.5 up; the noise of the sum makes 0.01 the lowest loss there is.

    The batch of a step is drawn from its number: a run that is resumed sees what it would have seen.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.weight = nn.Parameter(torch.zeros(FEATURES))
        self.register_buffer("scale", torch.arange(1.0, FEATURES + 1.0) ** -0.75)

    def train_dataloader(self) -> Iterable[Tensor]:
        return itertools.repeat(torch.zeros(BATCH_SIZE, FEATURES))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        rng = torch.Generator().manual_seed(2 * self.global_step + self.global_rank)
        x = self.scale * torch.randn(batch.shape, generator=rng)
        y = x.sum(dim=1) + 0.1 * torch.randn(len(batch), generator=rng)
        return nn.functional.mse_loss(x @ self.weight, y)

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.1, total_iters=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
