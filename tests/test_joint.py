"""fit_joint: planted constants are recovered as often as their intervals say, and what cannot be told is said."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling import CriticalBatch, CurveBuilder, FitError, KaplanNS, LossCurve, example_store
from lightning_scaling.joint import JointFit, fit_joint
from lightning_scaling.joint.whitening import Whitening

SIZES = np.geomspace(4e3, 4e5, 6)
KAPLAN = (0.1, 0.5, 1e8, 20.0, 0.0)
WITH_E = (0.3, 0.5, 1e4, 20.0, 1.0)
NAMES = ("alpha_N", "alpha_S", "N_c", "S_c", "E")


def planted(
    rng: np.random.Generator, constants: tuple[float, ...], *, steps: int = 1000, noise: float = 0.1, unit: float = 1.0
) -> list[LossCurve]:
    """Simulate a run of each size with the noise of single steps, in the windows that a live run is kept in."""
    alpha_N, alpha_S, N_c, S_c, E = constants
    S, runs = np.arange(1, steps + 1), []
    for N in SIZES:
        builder = CurveBuilder()
        L = E + (N_c / N) ** alpha_N + (S_c / S) ** alpha_S + noise * rng.standard_normal(steps)
        builder.extend(S, unit * L)
        c = builder.curve()
        runs.append(LossCurve(c.S, c.L, N=N, count=c.count, spread=c.spread, step=c.step))
    return runs


def held(fit: JointFit, constants: tuple[float, ...]) -> list[bool]:
    intervals = [getattr(fit, name) for name in NAMES]
    return [interval.low <= value <= interval.high for interval, value in zip(intervals, constants, strict=True)]


@pytest.mark.parametrize(("constants", "offset"), [(KAPLAN, False), (WITH_E, True)])
def test_planted_constants_lie_inside_their_intervals_at_the_stated_rate(
    constants: tuple[float, ...], offset: bool
) -> None:
    rng, n = np.random.default_rng(3), 16
    fits = [fit_joint(planted(rng, constants), offset=offset).require_ok() for _ in range(n)]
    rate = np.mean([held(fit, constants) for fit in fits], axis=0)
    # Of 16 intervals that hold in 90 % of all cases, fewer than 12 hold once in sixty times.
    assert rate.min() >= 12 / 16, dict(zip(NAMES, rate, strict=True))
    middle = np.median([[getattr(fit, name).mid for name in NAMES] for fit in fits], axis=0)
    assert middle[:2] == pytest.approx(constants[:2], rel=0.1)
    widths = [fit.alpha_N.high / fit.alpha_N.low for fit in fits]
    assert 1.01 < np.median(widths) < 1.3  # an interval that holds everything would hold this too


def test_more_noise_and_less_to_see_widen_the_intervals() -> None:
    quiet, loud, short = (
        fit_joint(planted(np.random.default_rng(0), WITH_E, noise=noise, steps=steps))
        for noise, steps in ((0.02, 1000), (0.2, 1000), (0.02, 150))
    )
    assert quiet.alpha_S.half_width < 0.5 * loud.alpha_S.half_width
    assert quiet.alpha_N.half_width < 0.7 * short.alpha_N.half_width


def test_the_loss_of_a_larger_model_is_forecast_with_its_interval() -> None:
    alpha_N, alpha_S, N_c, S_c, E = WITH_E
    inside = []
    for seed in range(6):
        fit = fit_joint(planted(np.random.default_rng(seed), WITH_E))
        N, S = np.array([1.2e6, 4e6]), 3000.0
        truth = E + (N_c / N) ** alpha_N + (S_c / S) ** alpha_S
        loss = fit.loss(N, S)
        assert np.asarray(loss.mid).shape == (2,)
        inside.append((loss.low <= truth) & (truth <= loss.high))
    assert np.mean(inside) >= 0.7


def test_the_unit_of_the_loss_changes_nothing_but_the_unit() -> None:
    one, thousand = (fit_joint(planted(np.random.default_rng(5), WITH_E, unit=u)) for u in (1.0, 1000.0))
    assert thousand.alpha_N.mid == pytest.approx(one.alpha_N.mid, rel=1e-6)
    assert thousand.E.mid == pytest.approx(1000.0 * one.E.mid, rel=1e-6)
    assert thousand.residual == pytest.approx(1000.0 * one.residual, rel=1e-6)


def test_the_order_of_the_runs_matters_to_rounding_only_and_a_second_fit_is_the_same() -> None:
    runs = planted(np.random.default_rng(1), WITH_E)
    one, again, turned = fit_joint(runs), fit_joint(runs), fit_joint(runs[::-1])
    assert (one.draws == again.draws).all()
    assert turned.alpha_N.mid == pytest.approx(one.alpha_N.mid, rel=1e-6)


def test_steps_at_several_batch_sizes_are_brought_to_S_min() -> None:
    law, critical = KaplanNS(0.1, 0.5, 1e8, 20.0), CriticalBatch(3e3, 0.4)
    S, rng, runs = np.arange(1.0, 1001.0), np.random.default_rng(0), []
    for N, B in zip(SIZES, (256, 512, 1024, 2048, 4096, 512), strict=True):
        L = law.loss_at_batch(N, S, B, critical) + 0.02 * rng.standard_normal(S.size)
        runs.append(LossCurve(S, L, N=N, B=B))
    fit = fit_joint(runs, offset=False, critical=critical)
    assert fit.alpha_S.low <= 0.5 <= fit.alpha_S.high
    assert fit.S_c.low <= 20.0 <= fit.S_c.high
    assert fit_joint(runs, offset=False).S_c.low > 20.0  # in steps at small batches the law starts later
    assert fit.kaplan()[0].loss(1e5, 500.0) == pytest.approx(law.loss(1e5, 500.0), rel=0.02)


def test_a_fit_with_E_is_a_law_of_size_and_tokens() -> None:
    fit = fit_joint(planted(np.random.default_rng(0), WITH_E))
    N, S, B = 1e5, 700.0, 1024.0
    losses = [float(law.loss(N, B * S)) for law in fit.hoffmann(B)]
    low, mid, high = np.quantile(losses, [0.05, 0.5, 0.95])
    expected = fit.loss(N, S)
    assert (low, mid, high) == pytest.approx((expected.low, expected.mid, expected.high))
    with pytest.raises(ValueError, match="without E"):
        fit.kaplan()
    with pytest.raises(ValueError, match="B above 0"):
        fit.hoffmann(0.0)


def test_what_cannot_be_told_is_said() -> None:
    runs = planted(np.random.default_rng(0), KAPLAN)
    two = fit_joint(runs[:2])
    assert "2 sizes" in two.reason
    assert np.isnan(two.alpha_N.mid)
    assert str(two).startswith("No L(N, S) from 2 runs: ")
    with pytest.raises(FitError, match="2 sizes"):
        two.loss(1e5, 100)
    assert "0 sizes" in fit_joint([]).reason
    signed = [LossCurve(c.S, c.L - 9.0, N=c.N) for c in runs]
    assert "above zero" in fit_joint(signed).reason
    rising = [LossCurve(c.S, 9.0 - c.L, N=c.N) for c in runs]
    assert "do not fall" in fit_joint(rising).reason
    alike = [LossCurve(runs[0].S, runs[0].L, N=c.N, count=runs[0].count) for c in runs]
    assert "is not found between" in fit_joint(alike, offset=False).reason


def test_wrong_arguments_are_refused() -> None:
    runs = planted(np.random.default_rng(0), KAPLAN)
    with pytest.raises(TypeError, match=r"^Expected curves to be LossCurves, got StoredRun, so .*run\.curve for run"):
        fit_joint(example_store().runs())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="N in every curve"):
        fit_joint([LossCurve([1, 2, 3], [3.0, 2.0, 1.0])])
    with pytest.raises(ValueError, match="B in every curve"):
        fit_joint(runs, critical=CriticalBatch(1e3, 0.2))
    with pytest.raises(ValueError, match="first between"):
        fit_joint(runs, first=1.0)
    with pytest.raises(ValueError, match="level between"):
        fit_joint(runs, level=0.0)
    with pytest.raises(ValueError, match="N > 0"):
        fit_joint(runs).loss(0.0, 10.0)


@pytest.mark.parametrize("n", [1, 39, 40, 41, 130])
def test_points_are_whitened_in_tiles_as_in_one_piece(n: int, rng: np.random.Generator) -> None:
    at = np.sort(rng.uniform(0.0, 8.0, n))
    covariance = 1e-4 * np.diag(rng.uniform(0.5, 2.0, n)) + 0.01 * np.exp(-np.abs(at[:, None] - at) / 2.0)
    values, white = rng.standard_normal((n, 5)), Whitening(covariance)
    np.testing.assert_allclose(white.gram(values), values.T @ np.linalg.solve(covariance, values), rtol=1e-9)
    assert 2.0 * white.log_det == pytest.approx(np.linalg.slogdet(covariance)[1])


def test_what_is_no_covariance_is_not_whitened() -> None:
    with pytest.raises(np.linalg.LinAlgError):
        Whitening(np.array([[1.0, 2.0], [2.0, 1.0]]))
