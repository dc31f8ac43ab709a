"""What the image examples learn from: noisy pictures of regular polygons, drawn here, to be told by their corners."""

from __future__ import annotations

import math

import torch
from torch.utils.data import TensorDataset

CORNERS = (3, 4, 5, 6)
SIDE = 24


def polygons(n: int, seed: int, noise: float = 0.2) -> TensorDataset:
    """Return n images, shape (n, 1, 24, 24), of polygons of any size, place and turn, each with its class."""
    rng = torch.Generator().manual_seed(seed)
    label = torch.randint(len(CORNERS), (n,), generator=rng)
    corners = torch.tensor(CORNERS)[label].view(-1, 1, 1)
    across, down, turn, size = torch.rand(4, n, 1, 1, generator=rng)
    pixel = torch.linspace(-1.0, 1.0, SIDE)
    x, y = pixel - 0.6 * (across - 0.5), pixel[:, None] - 0.6 * (down - 0.5)
    sector = 2.0 * math.pi / corners
    angle = torch.remainder(torch.atan2(y, x) + 2.0 * math.pi * turn, sector) - 0.5 * sector
    edge = torch.hypot(x, y) * torch.cos(angle) / torch.cos(0.5 * sector)  # equal along the outline
    image = torch.sigmoid((0.4 + 0.3 * size - edge) * SIDE) + noise * torch.randn(n, SIDE, SIDE, generator=rng)
    return TensorDataset(image[:, None], label)
