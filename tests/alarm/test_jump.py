"""Jumps: found beside the losses just before, not where the noise is correlated, bent or a spike."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from lightning_scaling.alarm.jump import Jump, _Line, _mean_square, find_jump, noise_of
from lightning_scaling.alarm.jump_watch import JumpWatch

Array = NDArray[np.float64]

M, T = 150, 1000.0
END = np.arange(500.0, 500.0 + M)


def noise(seed: int, correlation: float = 0.0) -> Array:
    """Return noise of unit width, each value like the one before."""
    x = np.random.default_rng(seed).standard_normal(M)
    for k in range(1, M):
        x[k] = correlation * x[k - 1] + math.sqrt(1.0 - correlation**2) * x[k]
    return x


def found(L: Array, said: Array | None = None, kink: float = 1e-3) -> Jump:
    """Look for a jump with a forecast that was made 40 steps ago, and is so unsure of its slope."""
    said = np.full(M, 3.0) if said is None else said
    jump = find_jump(END, END, np.ones(M), L, said, since=END[0], made=END[-1] - 40.0, kink=kink, T=T)
    assert jump is not None
    return jump


@pytest.mark.parametrize(("correlation", "low", "high"), [(0.0, 0.0, 0.3), (0.8, 0.5, 0.95)])
def test_noise_is_measured_with_its_correlation(correlation: float, low: float, high: float) -> None:
    told = [noise_of(0.1 * noise(seed, correlation)) for seed in range(40)]
    assert low <= float(np.median([x.correlation for x in told if x])) <= high
    assert np.median([math.sqrt(x.variance) for x in told if x]) == pytest.approx(0.1, rel=0.3)
    assert noise_of(np.zeros(M)) is None


def test_a_jump_is_measured_where_it_began() -> None:
    for seed in range(10):
        jump = found(3.0 + 0.01 * noise(seed) + np.where(END >= END[-12], 0.05, 0.0))
        assert abs(jump.start - (M - 12)) <= 1
        assert jump.sigma > 6.0
        assert jump.size == pytest.approx(0.05, abs=0.015)


def test_a_jump_as_small_as_the_forecast_is_unsure_is_seen() -> None:
    said = 3.0 + 0.02 * (END - END[0]) / M  # off by far more than the noise
    assert found(3.0 + 0.001 * noise(1) + np.where(END >= END[-12], 0.005, 0.0), said).sigma > 5.0


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_noise_alone_seldom_makes_one(correlation: float) -> None:
    assert sum(found(3.0 + 0.01 * noise(seed, correlation)).sigma > 5.0 for seed in range(200)) <= 1


def test_a_jump_in_correlated_noise_is_told_by_what_follows_its_first_value() -> None:
    steps = np.where(END >= END[-20], 0.05, 0.0)
    assert np.median([found(3.0 + 0.01 * noise(seed, 0.8) + steps).sigma for seed in range(20)]) > 4.5
    # The same first value, but it fades as its noise does, and carries those after it along for a while.
    fades = steps * 0.8 ** np.maximum(END - END[-20], 0.0)
    assert max(found(3.0 + 0.01 * noise(seed, 0.8) + fades).sigma for seed in range(20)) < 4.5


def test_the_noise_is_that_of_the_values_before_a_jump() -> None:
    small, large = (found(3.0 + 0.01 * noise(4) + np.where(END >= END[-20], x, 0.0)).sigma for x in (0.05, 0.5))
    assert large > small > 5.0


def test_a_forecast_that_is_unsure_of_its_slope_makes_a_jump_less_sure() -> None:
    L = 3.5 - (END - END[0]) / M + 0.001 * noise(5) + np.where(END >= END[-8], 0.005, 0.0)
    said = 3.5 - (END - END[0]) / M
    sure, unsure = (found(L, said, kink).sigma for kink in (1e-6, 1e-2))
    assert sure > 1.2 * unsure


def test_a_fall_that_was_forecast_and_does_not_come_in_time_is_no_jump() -> None:
    said = 3.0 - np.where(END >= END[-12], 0.05, 0.0)
    assert found(3.0 + 0.002 * noise(6)).sigma <= 3.0
    assert found(3.0 + 0.002 * noise(6), said).sigma <= 3.0


def test_a_spike_a_fall_and_a_jump_that_is_too_young_are_none() -> None:
    for begin, end, height in ((12, 8, 1e3), (12, 0, -0.05), (4, 0, 0.05)):
        L = 3.0 + 0.01 * noise(2)
        L[M - begin : M - end] += height
        assert found(L).sigma <= 3.0


def test_losses_of_any_size_are_looked_at() -> None:
    for unit in (1e-300, 1e300):
        L = unit * (3.0 + 0.01 * noise(3) + np.where(END >= END[-12], 0.05, 0.0))
        assert found(L, np.full(M, 3.0 * unit)).sigma > 6.0


def plain_jump(line: _Line, c: int, *, with_first: bool) -> tuple[float, float, float]:
    """Return precision and sizes of a jump at a place, by least squares of it beside the line, for these alone."""
    X, b, sd = line.white[:3], -line.off_by[:3], line.sd * math.sqrt(1.0 - line.phi**2)
    jump = np.concatenate((np.zeros(c), [line.rows[0, c] / sd], X[0, c + 1 :]))
    used = np.arange(X.shape[1]) != (-1 if with_first else c)
    design = np.vstack((X, jump))[:, used]
    gram = design @ design.T
    gram[:3, :3] += line.prior
    off, sizes = line.white[3] - b @ X, []
    for most, of_first in ((5.0, 2.5), (20.0, 20.0)):
        rest = np.clip(off, -most, most)
        right = design @ rest[used] - np.append(line.prior @ b, 0.0)
        right[3] += with_first * jump[c] * (np.clip(off[c], -of_first, of_first) - rest[c])
        sizes.append(np.linalg.solve(gram, right)[3])
    return 1.0 / np.linalg.inv(gram)[3, 3], sizes[0], sizes[1]


@pytest.mark.parametrize("seed", range(12))
def test_all_jumps_at_once_are_those_of_least_squares_one_by_one(seed: int) -> None:
    rng, first = np.random.default_rng(seed), M - 20
    S = np.cumsum(rng.choice([1.0, 2.0, 30.0], M))  # with gaps
    n = rng.integers(1, 9, M).astype(float)
    spiky = np.where(rng.random(M) < 0.05, rng.normal(0.0, 1.0, M), 0.0)
    off = 0.1 * noise(seed, 0.8 * (seed % 3) / 2.0) / np.sqrt(n) + spiky + np.where(np.arange(M) >= M - 10, 0.2, 0.0)
    line = _Line.through(S, n, off, (0.1 * seed, 0.01), first, S[first] - 0.5)
    assert line is not None
    unsure = 0.05
    z, size = line.jumps(unsure)
    for k in range(20):
        for row, with_first in enumerate((True, False)):
            if k == 19 and not with_first:  # nothing follows the last
                assert z[row, k] == 0.0
                continue
            precision, clipped, measured = plain_jump(line, first + k, with_first=with_first)
            expected = clipped * math.sqrt(precision / (1.0 + precision * unsure**2))
            assert z[row, k] == pytest.approx(expected, rel=1e-6, abs=1e-8)
            assert size[row, k] == pytest.approx(measured, rel=1e-6, abs=1e-8)


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1.0])
def test_a_mean_square_counts_no_square_for_more_than_nine_of_them(scale: float) -> None:
    for seed in range(20):
        x = scale * np.random.default_rng(seed).standard_t(2, 11 + seed)
        ordered = np.sort(x**2)
        mean = max(np.median(ordered) / 0.4549, ordered[: int(0.9 * x.size)].mean())
        for _ in range(3):
            mean = 1.05 * np.minimum(ordered, 9.0 * mean).mean()
        assert _mean_square(x) == pytest.approx(mean, rel=1e-9)


def test_a_watch_goes_on_where_it_was_left_off() -> None:
    L = 3.0 + 0.05 * np.random.default_rng(4).standard_normal(2000) + np.where(np.arange(2000) >= 1200, 0.25, 0.0)
    watches, told = [JumpWatch(), JumpWatch()], [[], []]
    for step, loss in enumerate(L.tolist(), start=1):
        for k in range(2):
            cell = watches[k].cell(step)
            cell[1:] = [cell[1] + 1.0, cell[2] + step, cell[3] + loss]
            made = step // 100 * 100 - 60
            if watches[k].close(step, 2000.0):
                told[k].append(watches[k].look(np.array([1.0, 2000.0]), np.full(2, 3.0), made, 1e-6, 2000.0))
        again = JumpWatch()
        again.load_state_dict(json.loads(json.dumps(watches[1].state_dict())))
        watches[1] = again
    assert told[0] == told[1]
    first = next(x for x in told[0] if x is not None and x.sigma > 5.0)
    assert abs(first.start - 1200) <= 4
