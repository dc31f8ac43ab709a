"""Solve the law on a grid: closed-form posteriors of its linear parameters, weighed by what they say of the data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, ndtr

from lightning_scaling.fit.annealing import Annealing
from lightning_scaling.fit.data import FitData
from lightning_scaling.fit.decay import DecayBelief
from lightning_scaling.fit.grid import Grid
from lightning_scaling.fit.kin import Kin
from lightning_scaling.fit.misfit import MisfitModel
from lightning_scaling.fit.posterior import Posterior
from lightning_scaling.fit.prior import Prior

__all__ = ["solve"]

FloatArray = NDArray[np.float64]

#: Grid points below this weight, relative to the largest, are dropped.
_NEGLIGIBLE = 1e-2
#: Standard deviations from zero beyond which there is no doubt, to the last digit of a log weight, on which side it is.
_CERTAIN = 9.0
#: Weak prior of E about the present loss, in slopes.
_E_SPREAD = 30.0


@dataclass(frozen=True, eq=False)
class _Solved:
    """Log weight and linear parameters at every point (alpha and delay, response, b) of the grid, for one misfit.

    Shapes (I, J, K); of what b does not change (I, J, 1), and (I, 1, 1) of the covariance of E and A given b.
    """

    log_weight: FloatArray
    b: FloatArray
    b_variance: FloatArray
    E: FloatArray
    A: FloatArray
    E_per_b: FloatArray
    A_per_b: FloatArray
    covariance: tuple[FloatArray, FloatArray, FloatArray]

    def log_positive(self, present: float, a_end: FloatArray) -> FloatArray:
        """Return the log of the probability of a limit above zero, with E from the present loss and a at the end."""
        limit = present + self.E - self.b * a_end
        sd = np.sqrt(self.covariance[0] + (self.E_per_b - a_end) ** 2 * self.b_variance)
        return _log_above_zero(limit, sd)


def _regress(model: MisfitModel, turned: FloatArray, grid: Grid, decay: DecayBelief) -> _Solved:
    """Regress y on 1, phi and -a under the normal priors of E, A and b, at every grid point at once.

    Given b the posterior of (E, A) is normal with a mean that is linear in b, and what is left over is quadratic in it.
    ``turned`` are the columns of the windows as `MisfitModel.build` returns them.
    """
    prior, slope = model.prior, model.data.slope
    last, J = 2 + grid.alpha.size, decay.b.shape[0]
    # Inner products of the constant, the data and the responses with every column, and of every column with itself.
    # Too small a product for the matrix library to start threads.
    G = turned.T[[0, 1, *range(last, last + J)]] @ model.solved
    own = np.einsum("mi,mi->i", turned, model.solved)
    i, j = slice(2, last), slice(last, last + J)
    m_A, s_A = (x * slope * grid.stretch / grid.alpha for x in prior.excess)
    p_EE, p_EA, p_AA = own[0] + 1.0 / (_E_SPREAD * slope) ** 2, G[0, i], own[i] + 1.0 / s_A**2
    det = p_EE * p_AA - p_EA**2
    v_EE, v_EA, v_AA = (x[:, None] for x in (p_AA / det, -p_EA / det, p_EE / det))
    r_E, r_A = G[0, 1], (G[1, i] + m_A / s_A**2)[:, None]
    E, A = v_EE * r_E + v_EA * r_A, v_EA * r_E + v_AA * r_A
    g_E, g_A = G[0, j][None, :], G[2:, i].T
    E_per_b, A_per_b = v_EE * g_E + v_EA * g_A, v_EA * g_E + v_AA * g_A
    left = own[1] + ((m_A / s_A) ** 2)[:, None] - (E * r_E + A * r_A)
    linear, square = G[1, j] - (E * g_E + A * g_A), own[j] - (E_per_b * g_E + A_per_b * g_A)
    precision = 1.0 / decay.sd**2 + np.maximum(square, 0.0)[:, :, None]
    b = (decay.b / decay.sd**2 - linear[:, :, None]) / precision
    quadratic = left[:, :, None] + (decay.b / decay.sd) ** 2 - precision * b**2
    log_evidence = -0.5 * (quadratic + np.log(precision * decay.sd**2))
    log_evidence = log_evidence - (0.5 * np.log(det) + np.log(s_A))[:, None, None]
    E, A, E_per_b, A_per_b, v_EE, v_EA, v_AA = (x[:, :, None] for x in (E, A, E_per_b, A_per_b, v_EE, v_EA, v_AA))
    E, A = E + E_per_b * b, A + A_per_b * b
    log_weight = log_evidence + _log_above_zero(A, np.sqrt(v_AA + A_per_b**2 / precision))
    # A falling rate does no harm: b is above zero too, as far as the prior has it there.
    log_weight = log_weight + _log_above_zero(b, precision**-0.5) - _log_above_zero(decay.b, decay.sd)
    return _Solved(log_weight, b, 1.0 / precision, E, A, E_per_b, A_per_b, (v_EE, v_EA, v_AA))


def _log_above_zero(mean: FloatArray, sd: FloatArray) -> FloatArray:
    """Return the log of the probability that a normal is above zero, to the last digit of a log weight.

    It is 0 far above zero, and no series is needed but far below.
    """
    z = mean / sd
    log = np.zeros(z.shape)
    below = z < -_CERTAIN
    doubtful = ~(below | (z >= _CERTAIN))
    log[below] = log_ndtr(z[below])
    log[doubtful] = np.log(ndtr(z[doubtful]))
    return log


def _shares(evidence: FloatArray, trust: float) -> FloatArray:
    """Return the weights of models: by their evidence as far as it is trusted, the rest in equal parts."""
    by_evidence = np.exp(evidence - evidence.max())
    return np.asarray(trust * by_evidence / by_evidence.sum() + (1.0 - trust) / evidence.size)


def solve(
    data: FitData,
    annealing: Annealing,
    decay: DecayBelief,
    prior: Prior,
    *,
    positive: bool,
    kin: Kin | None = None,
) -> Posterior:
    r"""Return the posterior of the law of one run.

    For each grid point (alpha, delay, response, normal of b) and each misfit the model

    .. math:: y = E + A\,\phi_{\alpha,\delta}(S) - b\,a(S) + d(S) + \epsilon

    is linear in (E, A, b) with normal priors (a mixture of them for b), so their posterior and the evidence have closed
    forms; all grid points share one factor per misfit and one matrix of inner products. A >= 0, b >= 0 and, for a loss
    that has been positive throughout, a positive limit enter as the probability that the posterior gives them.

    Misfits of different size keep equal weight whatever their evidence: a model that is wrong judges itself kindly. How
    fast the misfit grows into the past goes by the evidence in part (``prior.trust``).

    Args:
        data: The windows.
        annealing: The annealing term of the run's schedule.
        decay: What is believed of its amplitude.
        prior: Grids and scales.
        positive: The loss cannot fall below zero.
        kin: What related runs say, None where there are none; ``decay`` then holds theirs as well.

    Returns:
        The mixture over the grid.
    """
    schedule, J = annealing.schedule, decay.b.shape[0]
    z_now = max(float(schedule.summed(data.now)), 1e-9)
    grid = Grid.of(prior, kin, z_now)
    phi, a = grid.power_laws(schedule.summed(data.S), z_now), annealing.at(data.S)[:, :J]
    columns = np.concatenate(([np.ones(data.S.size), data.y - data.present], phi.T, a.T)).T
    log_prior = grid.log_weight[:, None, None] + decay.log_weight
    if kin is not None:
        log_prior = np.where(grid.family[:, None, None] == decay.family, log_prior, -np.inf)
    models: list[MisfitModel] = []
    laws: list[tuple[NDArray[Any], ...]] = []
    for size in prior.misfits:
        built = [MisfitModel.build(data, size * data.slope, growth, prior, columns) for growth in prior.growths]
        solved = [_regress(model, turned, grid, decay) for model, turned in built]
        log_weights = [one.log_weight + log_prior for one in solved]
        if positive:
            a_end = annealing.at_end[:J, None]
            limits = [one.log_positive(data.present, a_end) for one in solved]
            log_weights = [x + limit for x, limit in zip(log_weights, limits, strict=True)]
        log_weights = [x - 0.5 * model.log_determinant for x, (model, _) in zip(log_weights, built, strict=True)]
        laws += _weighed(solved, log_weights, prior, len(models))
        models += [model for model, _ in built]
    return _posterior(laws, grid, data=data, annealing=annealing, prior=prior, models=tuple(models))


def _posterior(laws: list[tuple[NDArray[Any], ...]], grid: Grid, **known: Any) -> Posterior:
    """Return the mixture of the laws of all misfits."""
    weight, index, i, j, k, b, b_variance, E, A, per_b, covariance = (
        np.concatenate(part) for part in zip(*laws, strict=True)
    )
    return Posterior(
        **known,
        model=index,
        weights=weight,
        grid=grid,
        basis=i,
        response=j,
        node=k,
        b=b,
        b_variance=b_variance,
        E=E,
        A=A,
        per_b=per_b,
        covariance=covariance,
    )


def _weighed(
    solved: list[_Solved], log_weights: list[FloatArray], prior: Prior, first: int
) -> list[tuple[NDArray[Any], ...]]:
    """Return the laws of misfits that differ in growth alone, counted from model ``first``, with their weights."""
    tops = np.array([x.max() for x in log_weights])
    weights = [np.exp(x - top) for x, top in zip(log_weights, tops, strict=True)]
    shares = _shares(tops + np.log([w.sum() for w in weights]), prior.trust) / len(prior.misfits)
    grids = zip(solved, weights, shares, strict=True)
    return [_kept(one, m, weight, float(share)) for m, (one, weight, share) in enumerate(grids, first)]


def _kept(one: _Solved, m: int, weight: FloatArray, share: float) -> tuple[NDArray[Any], ...]:
    """Return the laws that count under misfit model m, with weights that sum to its share."""
    kept = np.flatnonzero(weight > _NEGLIGIBLE)
    i, j, k = np.unravel_index(kept, weight.shape)
    weights = weight.ravel()[kept]
    linear = (x.ravel()[kept] for x in (one.b, one.b_variance, one.E, one.A))
    per_b = np.stack((one.E_per_b[i, j, 0], one.A_per_b[i, j, 0]), axis=1)
    covariance = np.stack([v[i, 0, 0] for v in one.covariance], axis=1)
    return share * weights / weights.sum(), np.full(i.size, m), i, j, k, *linear, per_b, covariance
