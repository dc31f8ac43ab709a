"""trend(): what several runs say of a number that differs from run to run and drifts with their size and length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Outlook", "Scatter", "trend"]

FloatArray = NDArray[np.float64]

#: Run-to-run spreads that are tried, as multiples of the one expected.
_SPREADS = np.array([0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8])
#: Runs that the expected spread counts for.
_WORTH = 3.0


@dataclass(frozen=True)
class Scatter:
    """What is believed of a number before any run has shown it.

    Args:
        middle: Its mean and standard deviation for a run such as this.
        per_log_N: By how much it changes with log N: mean and standard deviation.
        per_log_T: The same for the log of the length of the run.
        spread: Expected standard deviation from run to run, sizes and lengths being equal.
    """

    middle: tuple[float, float]
    per_log_N: tuple[float, float]
    per_log_T: tuple[float, float]
    spread: float


@dataclass(frozen=True)
class Outlook:
    """Mean and standard deviation of a number of a run that has not shown it, and the log evidence for the model."""

    mean: float
    sd: float
    log_evidence: float


def trend(
    values: FloatArray, variances: FloatArray, weights: FloatArray, log_N: FloatArray, log_T: FloatArray, prior: Scatter
) -> Outlook:
    r"""Predict a number of one run from what related runs have shown of theirs.

    .. math:: x_r = m + b_N \ln\frac{N_r}{N} + b_T \ln\frac{T_r}{T} + u_r + e_r, \qquad
              u_r \sim \mathcal{N}(0, \sigma^2),\quad e_r \sim \mathcal{N}(0, v_r)

    with normal priors of m, b_N, b_T. The spread sigma is summed over, each value weighed by its evidence: siblings
    that agree give a narrow prediction, siblings that do not a wide one. A run that is less related than others
    counts as a fraction of a run.

    Args:
        values: What each run showed, shape (n,).
        variances: How well it is known there, shape (n,).
        weights: How related each run is, 0 < w <= 1, shape (n,).
        log_N: ln N_r/N, 0 where a size is not known, shape (n,).
        log_T: ln T_r/T, shape (n,).
        prior: What is believed of the number beforehand.

    Returns:
        Prediction for the run itself, spread from run to run included.

    Example:
        >>> shown, exact, alike = np.array([1.0, 1.1, 0.9]), np.full(3, 1e-4), np.ones(3)
        >>> prior = Scatter(middle=(0.0, 5.0), per_log_N=(0.0, 0.1), per_log_T=(0.0, 0.1), spread=0.1)
        >>> said = trend(shown, exact, alike, np.zeros(3), np.zeros(3), prior)
        >>> round(said.mean, 2), round(said.sd, 2)
        (1.0, 0.14)
    """
    X = np.stack((np.ones(values.size), log_N, log_T), axis=1)
    mean = np.array([prior.middle[0], prior.per_log_N[0], prior.per_log_T[0]])
    precision = np.diag([1.0 / s**2 for s in (prior.middle[1], prior.per_log_N[1], prior.per_log_T[1])])
    found = []
    for factor in _SPREADS:
        sigma2 = (prior.spread * factor) ** 2
        variance = (variances + sigma2) / weights
        P = precision + X.T @ (X / variance[:, None])
        theta = np.linalg.solve(P, precision @ mean + X.T @ (values / variance))
        off, moved = values - X @ theta, theta - mean
        misfit = float(off @ (off / variance)) + float(moved @ precision @ moved)
        evidence = -0.5 * (float(weights @ np.log(variances + sigma2)) + misfit + np.linalg.slogdet(P)[1])
        evidence -= _WORTH * (np.log(factor) + 0.5 / factor**2)
        found.append((evidence, theta[0], float(np.linalg.inv(P)[0, 0]) + sigma2))
    log_evidence, means, squares = np.array(found).T
    share = np.exp(log_evidence - log_evidence.max())
    total = float(np.log(share.sum()) + log_evidence.max())
    share = share / share.sum()
    middle = float(share @ means)
    return Outlook(middle, float(np.sqrt(share @ (squares + (means - middle) ** 2))), total)
