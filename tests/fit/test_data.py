"""What a fit sees of a curve: windows, noise, scales."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling import CurveBuilder, LossCurve
from lightning_scaling.fit.data import FitData, compact, reduce_curve


def reduce(curve: LossCurve) -> FitData:
    return reduce_curve(curve, windows_per_e_fold=24, e_folds=5.0, outlier=5.0)


def noisy(rng: np.random.Generator, n: int = 5000, sigma: float = 0.1) -> tuple[np.ndarray, np.ndarray]:
    S = np.arange(1, n + 1)
    return S, 2.0 + 5.0 * S**-0.4 + sigma * rng.standard_normal(n)


def test_white_noise_is_measured(rng: np.random.Generator) -> None:
    data = reduce(LossCurve(*noisy(rng)))
    assert data.step_noise == pytest.approx(0.1, rel=0.05)
    truth = 2.0 + 5.0 * data.S**-0.4
    late = data.S > 500
    pulls = (data.y - truth)[late] / np.sqrt(data.variance[late])
    assert 0.6 < pulls.std() < 1.4


def test_correlated_noise_makes_windows_less_certain(rng: np.random.Generator) -> None:
    S, L = noisy(rng, sigma=0.0)
    shocks = rng.standard_normal(S.size)
    slow = np.zeros(S.size)
    for i in range(1, S.size):
        slow[i] = 0.95 * slow[i - 1] + shocks[i]
    white, coloured = (reduce(LossCurve(S, L + 0.02 * x)) for x in (shocks, slow))
    per_step = [d.variance[-5:].mean() / d.step_noise**2 for d in (white, coloured)]
    assert per_step[1] > 3.0 * per_step[0]


def test_a_spike_that_recovered_loses_its_say(rng: np.random.Generator) -> None:
    S, L = noisy(rng)
    spiked = L.copy()
    spiked[2500:2520] += 50.0
    clean, hit = reduce(LossCurve(S, L)), reduce(LossCurve(S, spiked))
    window = int(np.argmin(np.abs(hit.S - 2510)))
    assert hit.variance[window] > 1e3 * clean.variance[window]
    assert hit.slope == pytest.approx(clean.slope, rel=0.2)


@pytest.mark.parametrize("unit", [1e-4, 1e4])
def test_everything_scales_with_the_unit(rng: np.random.Generator, unit: float) -> None:
    S, L = noisy(rng)
    one, other = reduce(LossCurve(S, L)), reduce(LossCurve(S, unit * L))
    for name, power in (("y", 1), ("variance", 2), ("slope", 1), ("present", 1), ("step_noise", 1)):
        assert getattr(other, name) == pytest.approx(unit**power * np.asarray(getattr(one, name)), rel=1e-9)


def test_windows_from_a_builder_say_what_single_steps_say(rng: np.random.Generator) -> None:
    S, L = noisy(rng)
    builder = CurveBuilder()
    builder.extend(S.tolist(), L.tolist())
    raw, windowed = reduce(LossCurve(S, L)), reduce(builder.curve())
    assert windowed.slope == pytest.approx(raw.slope, rel=0.1)
    assert windowed.present == pytest.approx(raw.present, abs=0.02)
    assert windowed.variance[-5:].mean() == pytest.approx(raw.variance[-5:].mean(), rel=1.0)


@pytest.mark.parametrize("loss", [0.0, 3.0, -2.0])
def test_a_constant_loss_has_a_scale_all_the_same(loss: float) -> None:
    data = reduce(LossCurve(np.arange(1, 101), np.full(100, loss)))
    assert data.slope > 0.0
    assert np.isfinite(data.variance).all()


def test_a_long_history_is_brought_to_bounded_length_without_loss(rng: np.random.Generator) -> None:
    S, L = noisy(rng, 400_000)
    curve = LossCurve(S, L, N=5.0, step=400_007, n_nonfinite=7)
    short = compact(curve)
    assert len(short) < 4_000
    assert short.count.sum() == len(curve)
    assert short.L @ short.count == pytest.approx(L.sum())
    assert (short.step, short.N, short.n_nonfinite) == (curve.step, 5.0, 7)
    a, b = reduce(curve), reduce(short)
    assert b.slope == pytest.approx(a.slope, rel=0.02)
    assert b.variance[-5:].mean() == pytest.approx(a.variance[-5:].mean(), rel=0.3)
    few = LossCurve(S[:100], L[:100])
    assert compact(few) is few


def test_the_newest_point_of_a_log_may_be_a_spike_but_a_jump_is_none(rng: np.random.Generator) -> None:
    S = np.arange(10, 2010, 10)
    L = 2.0 + 6.0 * S**-0.5 + 0.01 * rng.standard_normal(S.size)
    calm = reduce(LossCurve(S, L)).present
    for back in (1, 2, 3):
        spiked = L.copy()
        spiked[-back] += 0.5
        assert reduce(LossCurve(S, spiked)).present == pytest.approx(calm, abs=0.01)
        jumped = L.copy()
        jumped[-back:] += 0.5
        if back > 1:
            assert reduce(LossCurve(S, jumped)).y[-1] > calm + 0.03


def test_huge_losses_that_follow_each_other_keep_their_say(rng: np.random.Generator) -> None:
    S = np.arange(1, 401)
    L = 2.0 + 0.01 * rng.standard_normal(S.size)
    L[250:] += 1.0
    assert reduce(LossCurve(S, L)).y[-1] == pytest.approx(3.0, abs=0.01)
    steep = 2.0 + 1e6 * np.exp(-S / 5.0)  # a fall, not a row of spikes
    assert reduce(LossCurve(S, steep)).y[-1] == pytest.approx(2.0, abs=0.01)


@pytest.mark.parametrize("size", [1.0, 30.0])
def test_a_window_with_a_huge_step_says_so_by_its_own_scatter(rng: np.random.Generator, size: float) -> None:
    n = 3000
    L = 2.0 + 6.0 * np.arange(1, n + 1) ** -0.5 + 0.05 * rng.standard_normal(n)
    spiked = L.copy()
    spiked[-20] += size
    found = []
    for losses in (L, spiked):
        builder = CurveBuilder()
        builder.extend(range(1, n + 1), losses.tolist())
        found.append(reduce(builder.curve()).present)
    assert found[1] == pytest.approx(found[0], abs=0.012)


def test_the_error_of_an_end_is_that_of_the_mean_of_the_losses_that_are_still_to_come() -> None:
    rng, T, sd = np.random.default_rng(3), 20_000, 0.2
    for every in (1, 10, 100):  # how often a loss is logged
        S = np.arange(every, T // 2 + 1, every, dtype=float)
        curve = LossCurve(S, 2.0 + S**-0.5 + sd * rng.standard_normal(S.size))
        data = reduce_curve(curve, windows_per_e_fold=32, e_folds=4.0, outlier=5.0)
        assert data.per_step == pytest.approx(1.0 / every, rel=0.02)
        n = 0.02 * T / every
        assert data.error_of_end(T, 0.02) == pytest.approx(sd / np.sqrt(n), rel=0.35)
    # Of the last 400 steps half are seen, and of one that is over all are.
    assert data.error_of_end(T // 2 + 100, 0.02) < 0.75 * data.error_of_end(1.5 * T, 0.02) * 1.5**0.5 * 3.0**0.5
    assert data.error_of_end(T // 2, 0.02) == 0.0


def test_a_curve_of_windows_knows_the_noise_of_its_steps() -> None:
    rng, n = np.random.default_rng(4), 30_000
    builder = CurveBuilder()
    builder.extend(range(1, n + 1), (3.0 + 0.1 * rng.standard_normal(n)).tolist())
    data = reduce_curve(builder.curve(), windows_per_e_fold=32, e_folds=4.0, outlier=5.0)
    assert data.per_step == pytest.approx(1.0, rel=0.05)
    assert data.error_of_end(2 * n, 0.02) == pytest.approx(0.1 / np.sqrt(0.04 * n), rel=0.35)
