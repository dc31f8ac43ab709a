"""The grid solution against textbook linear regression, and its use of the grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.special import log_ndtr

from lightning_scaling import LossCurve, LRSchedule
from lightning_scaling.fit.annealing import Annealing
from lightning_scaling.fit.data import reduce_curve
from lightning_scaling.fit.decay import DecayBelief
from lightning_scaling.fit.misfit import _LEAST_NOISE, _amplitude, _kernel
from lightning_scaling.fit.posterior import Posterior
from lightning_scaling.fit.prior import DEFAULT_PRIOR, Prior
from lightning_scaling.fit.record import fit
from lightning_scaling.fit.solve import _E_SPREAD, _log_above_zero, solve


def posterior(prior: Prior, curve: LossCurve, horizon: int) -> Posterior:
    data = reduce_curve(
        curve, windows_per_e_fold=prior.windows_per_e_fold, e_folds=prior.e_folds, outlier=prior.outlier
    )
    schedule = LRSchedule.constant(horizon)
    annealing = Annealing(schedule, prior.responses)
    belief = DecayBelief.before(data, schedule, prior, decays=False, positive=False)
    return solve(data, annealing, belief, prior, positive=False)


def noisy_curve(rng: np.random.Generator, alpha: float = 0.5, n: int = 3000) -> LossCurve:
    S = np.arange(1, n + 1)
    return LossCurve(S, 2.0 + 0.3 * (S / n) ** -alpha + 0.05 * rng.standard_normal(n))


def test_one_grid_point_is_bayesian_linear_regression(rng: np.random.Generator) -> None:
    prior = Prior(alphas=(0.5,), delays=(0.0,), head_starts=(), misfits=(0.1,), growths=(2.0,))
    p = posterior(prior, noisy_curve(rng), 10_000)
    d = p.data
    phi = (d.S / d.now) ** -0.5
    X = np.stack((np.ones_like(phi), phi), axis=1)
    sd = _amplitude(d.S, d.now, 0.1 * d.slope, 2.0)
    C = _kernel(d.S, d.S, prior.misfit_length) * np.outer(sd, sd) + np.diag(d.variance + _LEAST_NOISE * sd**2)
    m_A, s_A = prior.excess[0] * d.slope / 0.5, prior.excess[1] * d.slope / 0.5
    P = np.diag([1 / (_E_SPREAD * d.slope) ** 2, 1 / s_A**2])
    V = np.linalg.inv(X.T @ np.linalg.solve(C, X) + P)
    mean = V @ (X.T @ np.linalg.solve(C, d.y - d.present) + P @ [0.0, m_A])
    assert (p.E[0], p.A[0]) == pytest.approx(tuple(mean), rel=1e-5)
    assert p.covariance[0] == pytest.approx([V[0, 0], V[0, 1], V[1, 1]], rel=1e-4)


@pytest.mark.parametrize("alpha", [0.25, 0.5, 1.0])
def test_the_exponent_is_found(rng: np.random.Generator, alpha: float) -> None:
    prior = Prior(misfits=(0.02,), growths=(1.0,))
    p = posterior(prior, noisy_curve(rng, alpha, 20_000), 40_000)
    low, high = p.quantiles(p.alpha, [0.02, 0.98])
    assert low - 0.1 <= alpha <= high + 0.1


def test_weights_are_a_distribution_and_small_ones_are_dropped(rng: np.random.Generator) -> None:
    p = posterior(DEFAULT_PRIOR, noisy_curve(rng), 10_000)
    assert p.weights.sum() == pytest.approx(1.0)
    assert (p.weights > 0).all()
    shares = np.bincount(p.model, p.weights).reshape(len(DEFAULT_PRIOR.misfits), len(DEFAULT_PRIOR.growths))
    assert shares.sum(axis=1) == pytest.approx(np.full(len(DEFAULT_PRIOR.misfits), 1 / len(DEFAULT_PRIOR.misfits)))
    assert shares.min() >= (1 - DEFAULT_PRIOR.trust) / shares.size - 1e-9  # none is put out by the evidence alone


def test_a_decay_under_way_tells_how_much_it_brings(rng: np.random.Generator) -> None:
    n, b = 10_000, 0.4
    step = np.arange(1, n + 1)
    lr = np.where(step < 0.5 * n, 1.0, 1 - 0.9 * (step - 0.5 * n) / (0.5 * n))
    loss = 2.0 + 6.0 * np.cumsum(lr) ** -0.5 - b * (1 - lr) + 0.02 * rng.standard_normal(n)
    schedule = LRSchedule.from_array(lr)
    annealing = Annealing(schedule, DEFAULT_PRIOR.responses)

    def amplitude(share: float) -> tuple[float, float]:
        curve = LossCurve(step, loss).until(share * n)
        data = reduce_curve(curve, windows_per_e_fold=32, e_folds=5.0, outlier=7.0)
        before = DecayBelief.before(data, schedule, DEFAULT_PRIOR, decays=True, positive=True)
        p = solve(data, annealing, before, DEFAULT_PRIOR, positive=True)
        after = np.exp(before.after(p.response, p.node, p.b, np.sqrt(p.b_variance), p.weights).log_weight)
        assert after.sum() == pytest.approx(1.0, abs=1e-3)
        mean = float(p.weights @ p.b)
        return mean, float(np.sqrt(p.weights @ (p.b - mean) ** 2))

    (early, _), (late, late_sd) = amplitude(0.45), amplitude(0.9)
    assert abs(late - b) < 0.5 * abs(early - b)
    assert abs(late - b) < 3.0 * late_sd


@pytest.mark.parametrize("kind", ["constant", "linear"])
def test_a_run_that_goes_on_from_a_trained_model_is_not_taken_for_one_that_its_rate_speeds_up(
    rng: np.random.Generator, kind: str
) -> None:
    T, trained, now = 10_000, 8_000.0, 3_000
    rate = np.ones(T) if kind == "constant" else np.linspace(1.0, 0.0, T)
    expected = 1.0 + 0.6 * ((np.cumsum(rate) + trained) / trained) ** -0.5
    L = expected[:now] + 0.02 * rng.standard_normal(now)
    prior = DEFAULT_PRIOR
    found = {}
    for name, own in (("with", prior), ("without", replace(prior, head_starts=()))):
        p = fit(LossCurve(np.arange(1, now + 1), L), LRSchedule.from_array(rate), own).posterior
        found[name] = p.loss([float(T)]).quantiles([0.05, 0.5, 0.95])[:, 0]
    low, middle, high = found["with"]
    assert low < expected[-1] < high
    assert abs(middle - expected[-1]) < 0.6 * abs(found["without"][1] - expected[-1])


def test_a_falling_rate_is_not_believed_to_do_harm(rng: np.random.Generator) -> None:
    S = np.arange(1, 6001)
    schedule = LRSchedule.from_array(np.interp(np.arange(1, 10_001), [1, 3000, 10_000], [1.0, 1.0, 0.0]))
    L = 2.0 + 0.3 * (S / 3000) ** -0.5 + 0.05 * np.clip(S / 3000 - 1.0, 0.0, None) + 0.02 * rng.standard_normal(6000)
    data = reduce_curve(LossCurve(S, L), windows_per_e_fold=32, e_folds=4.0, outlier=5.0)
    annealing = Annealing(schedule, DEFAULT_PRIOR.responses)
    belief = DecayBelief.before(data, schedule, DEFAULT_PRIOR, decays=True, positive=True)
    p = solve(data, annealing, belief, DEFAULT_PRIOR, positive=True)
    assert p.weights @ p.b > -0.1 * data.slope
    assert p.loss([10_000.0]).quantiles([0.5])[0, 0] < data.present + 0.05


def test_the_log_of_a_probability_holds_far_from_zero_too() -> None:
    z = np.array([-1e3, -40.0, -9.5, -8.9, -1.0, 0.0, 3.0, 8.9, 9.5, 1e3])
    assert _log_above_zero(2.0 * z, np.full(z.shape, 2.0)) == pytest.approx(log_ndtr(z), rel=1e-14, abs=1e-15)
    assert np.isnan(_log_above_zero(np.array([np.nan]), np.ones(1))).all()
