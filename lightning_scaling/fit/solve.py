"""Solve the law on a grid: closed-form posteriors of its linear parameters, weighed by what they say of the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr

from lightning_scaling.fit.annealing import Annealing
from lightning_scaling.fit.data import FitData
from lightning_scaling.fit.decay import DecayBelief
from lightning_scaling.fit.misfit import MisfitModel
from lightning_scaling.fit.posterior import Posterior
from lightning_scaling.fit.power import power_basis
from lightning_scaling.fit.prior import Prior

__all__ = ["solve"]

FloatArray = NDArray[np.float64]

#: Grid points below this weight, relative to the largest, are dropped.
_NEGLIGIBLE = 1e-3
#: Weak prior of E about the present loss, in slopes.
_E_SPREAD = 30.0


@dataclass(frozen=True, eq=False)
class _Solved:
    """Log weight and linear parameters at every point (alpha and delay, response, b) of the grid, for one misfit.

    Shapes (I, J, K), and (I, 1, 1) of the covariances, which do not depend on what is regressed on.
    """

    log_weight: FloatArray
    E: FloatArray
    A: FloatArray
    covariance: tuple[FloatArray, FloatArray, FloatArray]


def _regress(model: MisfitModel, alpha: FloatArray, b: FloatArray, J: int) -> _Solved:
    """Regress y + b a on 1 and phi under the normal priors of E and A, at every grid point at once."""
    prior, slope = model.prior, model.data.slope
    W, last = model.whitened, 2 + alpha.size
    # Inner products of the constant, the data and the responses with every column, and of every column with itself.
    G, own = np.einsum("mi,mj->ij", W[:, [0, 1, *range(last, last + J)]], W), np.einsum("mi,mi->i", W, W)
    i, j = slice(2, last), slice(last, last + J)
    one_y = (G[0, 1] + np.outer(G[0, j], b))[None]
    phi_y = G[1, i][:, None, None] + G[2:, i].T[:, :, None] * b
    y_y = (own[1] + 2.0 * np.outer(G[1, j], b) + np.outer(own[j], b**2))[None]
    m_A, s_A = (x * slope / alpha for x in prior.excess)
    p_EE, p_EA, p_AA = own[0] + 1.0 / (_E_SPREAD * slope) ** 2, G[0, i], own[i] + 1.0 / s_A**2
    det = p_EE * p_AA - p_EA**2
    v_EE, v_EA, v_AA = (x[:, None, None] for x in (p_AA / det, -p_EA / det, p_EE / det))
    r_A = phi_y + (m_A / s_A**2)[:, None, None]
    E, A = v_EE * one_y + v_EA * r_A, v_EA * one_y + v_AA * r_A
    quadratic = y_y + ((m_A / s_A) ** 2)[:, None, None] - (E * one_y + A * r_A)
    log_evidence = -0.5 * quadratic - (0.5 * np.log(det) + np.log(s_A))[:, None, None]
    return _Solved(log_evidence + log_ndtr(A / np.sqrt(v_AA)), E, A, (v_EE, v_EA, v_AA))


def _shares(evidence: FloatArray, trust: float) -> FloatArray:
    """Return the weights of models: by their evidence as far as it is trusted, the rest in equal parts."""
    by_evidence = np.exp(evidence - evidence.max())
    return np.asarray(trust * by_evidence / by_evidence.sum() + (1.0 - trust) / evidence.size)


def _grid(prior: Prior) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return alpha, delay and log prior weight at each point of their grid, each of shape (I,)."""
    alpha, delay = (x.ravel() for x in np.meshgrid(prior.alphas, prior.delays, indexing="ij"))
    middle, spread = prior.log_alpha
    # Student's t with 4 degrees of freedom: a run may have an exponent that other runs have not.
    return alpha, delay, -2.5 * np.log1p(((np.log(alpha) - middle) / spread) ** 2 / 4.0)


def solve(data: FitData, annealing: Annealing, decay: DecayBelief, prior: Prior, *, positive: bool) -> Posterior:
    r"""Return the posterior of the law of one run.

    For each grid point (alpha, delay, response, b) and each misfit the model

    .. math:: y = E + A\,\phi_{\alpha,\delta}(S) - b\,a(S) + d(S) + \epsilon

    is linear in (E, A) with normal priors, so their posterior and the evidence have closed forms; all grid points share
    one factor per misfit and one matrix of inner products. A >= 0 and, for a loss that has been positive throughout, a
    positive limit enter as the probability that the posterior gives them.

    Misfits of different size keep equal weight whatever their evidence: a model that is wrong judges itself kindly. How
    fast the misfit grows into the past is half believed by the evidence (``prior.trust``).

    Args:
        data: The windows.
        annealing: The annealing term of the run's schedule.
        decay: What is believed of its amplitude.
        prior: Grids and scales.
        positive: The loss cannot fall below zero.

    Returns:
        The mixture over the grid.
    """
    schedule, b, J = annealing.schedule, decay.b, decay.log_weight.shape[0]
    alpha, delay, log_alpha = _grid(prior)
    phi = power_basis(schedule.summed(data.S), max(float(schedule.summed(data.now)), 1e-9), alpha, delay)
    a_data, a_end = annealing.at(data.S), annealing.at(np.array([float(schedule.horizon)]))[0]
    ones, y = np.ones((data.S.size, 1)), (data.y - data.present)[:, None]
    columns = np.concatenate((ones, y, phi, a_data[:, :J]), axis=1)
    log_prior = log_alpha[:, None, None] + decay.log_weight
    models, laws = [], []
    for size in prior.misfits:
        solved, log_weights = [], []
        for growth in prior.growths:
            model = MisfitModel.build(data, size * data.slope, growth, prior, columns)
            one = _regress(model, alpha, b, J)
            log_weight = one.log_weight + log_prior
            if positive:
                limit = data.present + one.E - b * a_end[:J, None]
                log_weight = log_weight + log_ndtr(limit / np.sqrt(one.covariance[0]))
            models.append(model)
            solved.append(one)
            log_weights.append(log_weight - 0.5 * model.log_determinant)
        tops = np.array([x.max() for x in log_weights])
        weights = [np.exp(x - top) for x, top in zip(log_weights, tops, strict=True)]
        shares = _shares(tops + np.log([w.sum() for w in weights]), prior.trust) / len(prior.misfits)
        for m, (one, w, share) in enumerate(zip(solved, weights, shares, strict=True), len(models) - len(solved)):
            w = np.where(w > _NEGLIGIBLE, w, 0.0)
            i, j, k = np.nonzero(w)
            kept = (share * w[i, j, k] / w.sum(), np.full(i.size, m), i, j, b[k], one.E[i, j, k], one.A[i, j, k])
            laws.append((*kept, np.stack([v[i, 0, 0] for v in one.covariance], axis=1)))
    weight, index, i, j, amplitude, E, A, covariance = (np.concatenate(part) for part in zip(*laws, strict=True))
    return Posterior(
        data=data,
        annealing=annealing,
        prior=prior,
        models=tuple(models),
        model=index,
        weights=weight,
        alpha=alpha[i],
        delay=delay[i],
        basis=i,
        response=j,
        b=amplitude,
        E=E,
        A=A,
        covariance=covariance,
    )
