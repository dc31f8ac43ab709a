"""What the small examples train: a network that learns what a larger one says, of inputs that never repeat."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

import pytorch_lightning as pl
import torch
from torch import Tensor, nn


def network(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(16, width), nn.Tanh(), nn.Linear(width, 1))


class Student(pl.LightningModule):
    """Learns the answers of its teacher, and their noise of 0.1, so that a loss of 0.01 is the lowest there is.

    The inputs of a step are drawn from its number: a run that is resumed sees what it would have seen.
    """

    def __init__(self, steps: int) -> None:
        super().__init__()
        self.steps = steps
        self.net, self.teacher = network(64), network(256).requires_grad_(False)

    def train_dataloader(self) -> Iterable[Tensor]:
        return itertools.repeat(torch.zeros(64, 16))

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        rng = torch.Generator().manual_seed(2 * self.global_step + self.global_rank)
        x, noise = torch.randn(batch.shape, generator=rng), 0.1 * torch.randn(len(batch), 1, generator=rng)
        return nn.functional.mse_loss(self.net(x), 4.0 * self.teacher(x) + noise)

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.Adam(self.net.parameters(), lr=3e-3)
        scheduler = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, total_iters=self.steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
