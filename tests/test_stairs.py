"""Stairs at the ends of epochs: found where they are, not where the loss only falls."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling import CurveBuilder, LossCurve, LRSchedule
from lightning_scaling.stairs import find_epochs, has_stairs

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


def test_a_bare_curve_shows_its_epochs(rng: np.random.Generator) -> None:
    for period in (210, 600, 1000):
        L = SMOOTH - 0.2 * ((S - 1) // period) + 0.05 * rng.standard_normal(S.size)
        ends = np.array(find_epochs(LossCurve(S, L)))
        assert ends.size >= 2
        assert ends[0] == pytest.approx(period * round(ends[0] / period), rel=0.03)  # or a multiple of the epoch
        assert ends == pytest.approx(ends[0] * np.arange(1, ends.size + 1), abs=ends.size)
        assert has_stairs(LossCurve(S, L))


def test_no_epochs_are_seen_where_there_are_none(rng: np.random.Generator) -> None:
    one_shift = SMOOTH - 0.5 * (S > 1000)
    rising = SMOOTH + 0.2 * ((S - 1) // 600)
    uneven = SMOOTH - 0.5 * (S > 700) - 0.5 * (S > 1900)
    for L in (SMOOTH, one_shift, rising, uneven):
        assert find_epochs(LossCurve(S, L + 0.05 * rng.standard_normal(S.size))) == ()
    red = np.convolve(rng.standard_normal(S.size + 60), np.ones(60) / 60**0.5, mode="valid")[: S.size]
    assert find_epochs(LossCurve(S, SMOOTH + 0.05 * red)) == ()
    alarms = [find_epochs(LossCurve(S, SMOOTH + 0.1 * rng.standard_normal(S.size))) for _ in range(100)]
    assert sum(map(bool, alarms)) <= 2


def test_without_points_nothing_is_said() -> None:
    assert not has_stairs(LossCurve([1, 2, 3], [3, 2, 1], epoch_ends=[2]))
    assert find_epochs(LossCurve([1, 2, 3], [3, 2, 1])) == ()
    assert find_epochs(LossCurve(np.geomspace(1, 1e5, 200), np.geomspace(5, 2, 200))) == ()


def test_a_rate_that_falls_at_the_ends_of_epochs_makes_no_stairs() -> None:
    halving = LRSchedule.from_array(0.5 ** ((S - 1) // 600))
    curve = LossCurve(S, SMOOTH + drops(0.2), epoch_ends=range(600, 3000, 600))
    assert has_stairs(curve)
    assert not has_stairs(curve, halving)
