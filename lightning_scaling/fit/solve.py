"""Solve the law on a grid: closed-form posteriors of its linear parameters, weighed by what they say of the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from lightning_scaling.fit.annealing import Annealing
from lightning_scaling.fit.data import FitData
from lightning_scaling.fit.misfit import MisfitModel
from lightning_scaling.fit.posterior import Posterior
from lightning_scaling.fit.power import power_basis
from lightning_scaling.fit.prior import Prior

__all__ = ["DecayBelief", "solve"]

FloatArray = NDArray[np.float64]

#: Grid of log b, in standard deviations about its median: far up, because some recipes gain much from their decay.
_DECAY_NODES = np.linspace(-2.0, 5.0, 15)
#: Its weights: Student's t with 4 degrees of freedom, so that the run may overrule the prior.
_DECAY_WEIGHTS = (1.0 + _DECAY_NODES**2 / 4.0) ** -2.5
#: Grid points below this weight are dropped.
_NEGLIGIBLE = 1e-5
#: Weak prior of E about the present loss, in slopes.
_E_SPREAD = 30.0


@dataclass(frozen=True, eq=False)
class DecayBelief:
    """What is believed of the loss that a full decay brings, before (or after) a fit.

    Args:
        b: Amplitudes [unit of the loss], shape (K,).
        log_weight: Log weight of each response and amplitude, shape (J, K).
    """

    b: FloatArray
    log_weight: FloatArray

    @classmethod
    def before(cls, data: FitData, annealing: Annealing, prior: Prior, *, positive: bool) -> DecayBelief:
        """Return the prior: scaled by the slope expected at the end and, for positive losses, by the loss."""
        if not annealing.any:
            return cls(np.zeros(1), np.zeros((1, 1)))
        schedule = annealing.schedule
        ahead = float(schedule.summed(schedule.horizon) / max(float(schedule.summed(data.now)), 1e-9))
        scale = prior.decay * data.slope * max(ahead, 1.0) ** -prior.slope_exponent
        if positive:
            share = prior.decay_share * data.present
            scale = float(np.exp(prior.decay_mix * np.log(scale) + (1.0 - prior.decay_mix) * np.log(share)))
        b = np.concatenate(([0.0], scale * np.exp(prior.decay_spread * _DECAY_NODES)))
        shares = (1.0 - prior.decay_none) * _DECAY_WEIGHTS / _DECAY_WEIGHTS.sum()
        weight = np.log(np.concatenate(([prior.decay_none], shares)))
        return cls(b, np.broadcast_to(weight, (len(prior.responses), b.size)))

    @classmethod
    def after(cls, posterior: Posterior, before: DecayBelief) -> DecayBelief:
        """Return the marginal of (response, b) that a fit has left, on the grid of ``before``."""
        share = np.zeros(before.log_weight.shape)
        np.add.at(share, (posterior.response, np.searchsorted(before.b, posterior.b)), posterior.weights)
        return cls(before.b, np.log(share + 1e-6))


@dataclass(frozen=True, eq=False)
class _Solved:
    """Log weight and linear parameters at every point (alpha, response, b) of the grid, for one misfit.

    Shapes (I, J, K), and (I, 1, 1) of the covariances, which do not depend on what is regressed on.
    """

    log_weight: FloatArray
    E: FloatArray
    A: FloatArray
    covariance: tuple[FloatArray, FloatArray, FloatArray]


def _regress(model: MisfitModel, alpha: FloatArray, b: FloatArray, J: int) -> _Solved:
    """Regress y + b a on 1 and phi under the normal priors of E and A, at every grid point at once."""
    prior, slope = model.prior, model.data.slope
    G = np.einsum("mi,mj->ij", model.whitened, model.whitened)
    i, j = slice(2, 2 + alpha.size), slice(2 + alpha.size, 2 + alpha.size + J)
    one_y = (G[0, 1] + np.outer(G[0, j], b))[None]
    phi_y = G[i, 1][:, None, None] + G[i, j][:, :, None] * b
    y_y = (G[1, 1] + 2.0 * np.outer(G[1, j], b) + np.outer(np.diag(G)[j], b**2))[None]
    m_A, s_A = (x * slope / alpha for x in prior.excess)
    p_EE, p_EA, p_AA = G[0, 0] + 1.0 / (_E_SPREAD * slope) ** 2, G[0, i], np.diag(G)[i] + 1.0 / s_A**2
    det = p_EE * p_AA - p_EA**2
    v_EE, v_EA, v_AA = (x[:, None, None] for x in (p_AA / det, -p_EA / det, p_EE / det))
    r_A = phi_y + (m_A / s_A**2)[:, None, None]
    E, A = v_EE * one_y + v_EA * r_A, v_EA * one_y + v_AA * r_A
    quadratic = y_y + ((m_A / s_A) ** 2)[:, None, None] - (E * one_y + A * r_A)
    log_evidence = -0.5 * quadratic - (0.5 * np.log(det) + np.log(s_A))[:, None, None]
    return _Solved(log_evidence + log_ndtr(A / np.sqrt(v_AA)), E, A, (v_EE, v_EA, v_AA))


def solve(data: FitData, annealing: Annealing, decay: DecayBelief, prior: Prior, *, positive: bool) -> Posterior:
    r"""Return the posterior of the law of one run.

    For each grid point (alpha, response, b) and each misfit the model

    .. math:: y = E + A\,\phi_\alpha(S) - b\,a(S) + d(S) + \epsilon

    is linear in (E, A) with normal priors, so their posterior and the evidence have closed forms; all grid points share
    one factor per misfit and one matrix of inner products. A >= 0 and, for a loss that has been positive throughout, a
    positive limit enter as the probability that the posterior gives them.

    Misfits keep equal weight whatever their evidence: a model that is wrong judges itself kindly.

    Args:
        data: The windows.
        annealing: The annealing term of the run's schedule.
        decay: What is believed of its amplitude.
        prior: Grids and scales.
        positive: The loss cannot fall below zero.

    Returns:
        The mixture over the grid.
    """
    schedule, alpha, b, J = annealing.schedule, np.array(prior.alphas), decay.b, decay.log_weight.shape[0]
    phi = power_basis(schedule.summed(data.S), max(float(schedule.summed(data.now)), 1e-9), alpha)
    a_data, a_end = annealing.at(data.S), annealing.at(np.array([float(schedule.horizon)]))[0]
    ones, y = np.ones((data.S.size, 1)), (data.y - data.present)[:, None]
    columns = np.concatenate((ones, y, phi, a_data[:, :J]), axis=1)
    log_alpha = -0.5 * ((np.log(alpha) - prior.log_alpha[0]) / prior.log_alpha[1]) ** 2
    log_prior = log_alpha[:, None, None] + decay.log_weight
    models, laws = [], []
    for m, (size, growth) in enumerate(prior.misfits):
        model = MisfitModel.build(data, size * data.slope, growth, prior, columns)
        solved = _regress(model, alpha, b, J)
        log_weight = solved.log_weight + log_prior
        if positive:
            limit = data.present + solved.E - b * a_end[:J, None]
            log_weight = log_weight + log_ndtr(limit / np.sqrt(solved.covariance[0]))
        weight = np.exp(log_weight - log_weight.max())
        weight = np.where(weight > _NEGLIGIBLE, weight, 0.0)
        i, j, k = np.nonzero(weight)
        kept = (weight[i, j, k] / weight.sum(), np.full(i.size, m), i, j, b[k], solved.E[i, j, k], solved.A[i, j, k])
        laws.append((*kept, np.stack([v[i, 0, 0] for v in solved.covariance], axis=1)))
        models.append(model)
    weights, index, i, j, amplitude, E, A, covariance = (np.concatenate(part) for part in zip(*laws, strict=True))
    return Posterior(
        data=data,
        annealing=annealing,
        prior=prior,
        models=tuple(models),
        model=index,
        weights=weights / weights.sum(),
        alpha=alpha[i],
        basis=i,
        response=j,
        b=amplitude,
        E=E,
        A=A,
        covariance=covariance,
    )
