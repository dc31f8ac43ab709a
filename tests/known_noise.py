"""Modules whose gradient noise scale is known in closed form, whatever the optimizer does."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

#: Mean and standard deviation of all inputs, and their number: G = MU in each of D directions, Σ = SD² there.
MU, SD, D = 0.5, 1.0, 60
G_SQ, TRACE = D * MU**2, D * SD**2


class Linear(LightningModule):
    """The loss w·x: the gradient of an example is x itself."""

    def __init__(self, lr: float = 1e-3) -> None:
        super().__init__()
        self.weights = torch.nn.ParameterList([torch.nn.Parameter(torch.zeros(D // 3)) for _ in range(3)])
        self.lr = lr

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return (batch[0] @ torch.cat(list(self.weights))).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)


class Normalised(LightningModule):
    """A normalisation layer is all there is: the loss is the sum of x y, with y = w z + b and z = ±1.

    The gradients of an example are x z and x, summed over POSITIONS: |G|² and tr(Σ) of 2 D independent numbers.
    """

    POSITIONS = 3

    def __init__(self) -> None:
        super().__init__()
        self.norm = torch.nn.LayerNorm(D // 3, eps=0.0)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x = batch[0].reshape(-1, self.POSITIONS, D // 3)
        z = torch.ones_like(x)
        z[..., ::2] = -1.0
        return (x * self.norm(z)).sum(dim=(1, 2)).mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-3)

    @classmethod
    def G_sq(cls) -> float:
        return 2.0 * (D // 3) * (cls.POSITIONS * MU) ** 2

    @classmethod
    def trace(cls) -> float:
        return 2.0 * (D // 3) * cls.POSITIONS * SD**2


def known_loader(batches: int, *, batch_size: int = 4) -> DataLoader[Any]:
    """Return so many batches of fresh examples."""
    x = MU + SD * torch.randn(batches * batch_size, D, generator=torch.Generator().manual_seed(0))
    return DataLoader(TensorDataset(x), batch_size=batch_size)
