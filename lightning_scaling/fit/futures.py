"""Two futures of one run: by how much they differ, with what is common to both taken out."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.fit.annealing import Annealing
from lightning_scaling.fit.mixture import GaussianMixture
from lightning_scaling.fit.posterior import Posterior
from lightning_scaling.schedule import LRSchedule

__all__ = ["difference"]

FloatArray = NDArray[np.float64]


def difference(posterior: Posterior, other: LRSchedule, S: float, S_other: float) -> GaussianMixture:
    r"""Predict by how much the loss of a run lies above what it would be in another future.

    Both futures go on from the present of one run, so they have its law in common, and law by law of the posterior

    .. math:: L(t) - L'(t') = A\,[\phi(t) - \phi(t')] - b\,[a(t) - a'(t')] + d(t) - d'(t')

    where the converged loss E is gone. Only the misfits d and d' of the two futures are taken as independent. They
    start from one value and so err together, which makes the difference smaller than that: the interval is rather too
    wide than too narrow.

    Args:
        posterior: The law of the run, fitted with the schedule of the first future.
        other: Schedule of the second: the same up to the present, relative to the same peak.
        S: Step of the first future, not before the present [steps].
        S_other: Step of the second [steps].

    Returns:
        The mixture of one quantity [unit of the loss].
    """
    schedule, annealing = posterior.schedule, posterior.annealing
    z_now = max(float(schedule.summed(posterior.data.now)), 1e-9)
    z = np.array([float(schedule.summed(S)), float(other.summed(S_other))])
    phi = posterior.grid.power_laws(z, z_now)[:, posterior.basis].T
    # A response is a share of the summed rate of its run: here it is one run, so one time.
    ratio = float(schedule.summed(schedule.horizon)) / max(float(other.summed(other.horizon)), 1e-9)
    responses = tuple(replace(r, timescale=r.timescale * ratio) for r in annealing.responses)
    a = np.stack((annealing.at(np.array([S]))[0], Annealing(other, responses).at(np.array([S_other]))[0]), axis=1)
    a, has_decay = a[posterior.response], bool(annealing.any)
    means, variances = np.empty(posterior.weights.size), np.empty(posterior.weights.size)
    for m, model in enumerate(posterior.models):
        law = posterior.model == m
        # Rows of pull: the constant, the data, the power laws, the responses (none where the rate never falls).
        pull, unexplained = model.predict(np.array([S, S_other]), np.eye(2))
        of_phi = phi[law] - pull[2 + posterior.basis[law]]
        of_a = a[law].copy()
        if has_decay:
            of_a -= pull[2 + posterior.n_basis + posterior.response[law]]
        by_E, by_A, by_b = (1.0 - pull[0]) @ _MINUS, of_phi @ _MINUS, of_a @ _MINUS
        E, A, b = (x[law] for x in (posterior.E, posterior.A, posterior.b))
        means[law] = pull[1] @ _MINUS + E * by_E + A * by_A - b * by_b
        v_EE, v_EA, v_AA = posterior.covariance[law].T
        given_b = by_E**2 * v_EE + 2.0 * by_E * by_A * v_EA + by_A**2 * v_AA
        by_b = by_E * posterior.per_b[law, 0] + by_A * posterior.per_b[law, 1] - by_b
        variances[law] = given_b + by_b**2 * posterior.b_variance[law] + unexplained.sum()
    least = max(1e-12 * posterior.data.slope, 1e-300)
    sds = np.sqrt(np.maximum(variances, least**2))
    return GaussianMixture(posterior.weights, means[:, None], sds[:, None])


_MINUS = np.array([1.0, -1.0])
