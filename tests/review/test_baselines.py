"""Simple methods, on curves whose end is known."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling.curve import LossCurve
from lightning_scaling.review.baselines import BASELINES, best_so_far, last_value, power_law


@pytest.mark.parametrize("alpha", [0.1, 0.3, 0.7, 1.5])
def test_the_power_law_finds_a_power_law(alpha: float) -> None:
    S = np.arange(1, 3001)
    curve = LossCurve(S=S, L=2.0 + 6.0 * S**-alpha)
    assert power_law(curve, 20_000) == pytest.approx(2.0 + 6.0 * 19_800.0**-alpha, abs=2e-3)


def test_last_and_best() -> None:
    curve = LossCurve(S=np.arange(1, 101), L=[*range(100, 10, -1), *[4.0, 2.0, 3.0, 3.0, 3.0, 1.0, 3.0, 3.0, 3.0, 5.0]])
    assert last_value(curve, 1000) == pytest.approx(3.0)
    assert best_so_far(curve, 1000) == 1.0


@pytest.mark.parametrize("name", BASELINES)
def test_few_or_flat_points(name: str) -> None:
    for curve in (LossCurve(S=[1], L=[2.0]), LossCurve(S=[0, 1, 2, 3, 4], L=[2.0] * 5)):
        assert BASELINES[name](curve, 100) == pytest.approx(2.0)
