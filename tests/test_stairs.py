"""Stairs at the ends of epochs: found where they are, not where the loss only falls."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling import CurveBuilder, LossCurve, LRSchedule
from lightning_scaling.stairs import has_stairs

S = np.arange(1, 3001, dtype=float)
SMOOTH = 2.0 + 6.0 * S**-0.4


def drops(size: float) -> np.ndarray:
    return -size * ((S - 1) // 600)


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("windowed", [False, True])
def test_stairs_are_found_and_a_smooth_fall_is_none(rng: np.random.Generator, noise: float, windowed: bool) -> None:
    def curve(L: np.ndarray) -> LossCurve:
        L = L + noise * rng.standard_normal(S.size)
        if not windowed:
            return LossCurve(S, L, epoch_ends=range(600, 3000, 600))
        builder = CurveBuilder()
        for step, loss in zip(S.astype(int), L, strict=True):
            builder.append(int(step), float(loss))
            if step % 600 == 0:
                builder.mark_epoch_end(int(step))
        return builder.curve()

    assert has_stairs(curve(SMOOTH + drops(0.2)))
    assert not has_stairs(curve(SMOOTH))


def test_false_alarms_are_rare(rng: np.random.Generator) -> None:
    alarms = [
        has_stairs(LossCurve(S, SMOOTH + 0.1 * rng.standard_normal(S.size), epoch_ends=[600, 1200, 1800]))
        for _ in range(200)
    ]
    assert np.mean(alarms) <= 0.02


def test_without_epoch_ends_or_points_nothing_is_said() -> None:
    assert not has_stairs(LossCurve(S, SMOOTH + drops(0.5)))
    assert not has_stairs(LossCurve([1, 2, 3], [3, 2, 1], epoch_ends=[2]))


def test_a_rate_that_falls_at_the_ends_of_epochs_makes_no_stairs() -> None:
    halving = LRSchedule.from_array(0.5 ** ((S - 1) // 600))
    curve = LossCurve(S, SMOOTH + drops(0.2), epoch_ends=range(600, 3000, 600))
    assert has_stairs(curve)
    assert not has_stairs(curve, halving)
