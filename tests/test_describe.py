"""Schedules in words."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from lightning_scaling.describe import describe_rates

RAMP = np.linspace(0.002, 1.0, 500)
X = np.linspace(0.0, 1.0, 9_500)
COSINE = 0.5 * (1.0 + np.cos(np.pi * X))


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        (np.ones(100), "constant learning rate"),
        (COSINE, "cosine decay to 0 %"),
        (np.concatenate([RAMP, 0.1 + 0.9 * COSINE]), "cosine decay to 10 % after 500 warm-up steps"),
        (np.concatenate([RAMP, 1 - X]), "linear decay to 0 % after 500 warm-up steps"),
        (np.concatenate([RAMP, np.ones(9_500)]), "constant learning rate after 500 warm-up steps"),
        (
            np.concatenate([np.ones(8_000), np.linspace(1, 0, 2_000)]),
            "constant rate with a linear decay to 0 % over the last 2 000 steps",
        ),
        (0.5 ** (np.arange(1000) // 250), "decay in steps to 12.5 %"),
        (0.999 ** np.arange(1000), "decay to 36.8 %"),
        (np.tile([1.0, 0.5, 0.25, 0.5], 250), "learning rate that rises and falls, ending at 50 % of its peak"),
    ],
)
def test_words(rates: NDArray[np.float64], words: str) -> None:
    assert describe_rates(3e-4 * rates) == words
