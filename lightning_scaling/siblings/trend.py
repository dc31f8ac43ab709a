"""trend(): what several runs say of a number that differs from run to run and drifts with their size and length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Outlook", "Scatter", "trend"]

FloatArray = NDArray[np.float64]

#: Run-to-run spreads that are tried, as multiples of the one expected.
_SPREADS = np.array([0.35, 0.5, 0.7, 1.0, 1.4, 2.0, 2.8])
#: The same of the spread from kind to kind.
_SPREADS_BY_KIND = np.array([0.5, 1.0, 2.0])
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
        by_kind: Expected standard deviation from kind to kind of runs, such as schedules; 0 where kinds do not matter.
    """

    middle: tuple[float, float]
    per_log_N: tuple[float, float]
    per_log_T: tuple[float, float]
    spread: float
    by_kind: float = 0.0


@dataclass(frozen=True)
class Outlook:
    """Mean and standard deviation of a number of a run that has not shown it, and the log evidence for the model."""

    mean: float
    sd: float
    log_evidence: float


def trend(
    values: FloatArray,
    variances: FloatArray,
    weights: FloatArray,
    log_N: FloatArray,
    log_T: FloatArray,
    prior: Scatter,
    alike: FloatArray | None = None,
) -> Outlook:
    r"""Predict a number of one run from what related runs have shown of theirs.

    .. math:: x_r = m + b_N \ln\frac{N_r}{N} + b_T \ln\frac{T_r}{T} + s_r + u_r + e_r, \qquad
              u_r \sim \mathcal{N}(0, \sigma^2),\quad e_r \sim \mathcal{N}(0, v_r)

    with normal priors of m, b_N, b_T. The spread sigma is summed over, each value weighed by its evidence: siblings
    that agree give a narrow prediction, siblings that do not a wide one. A run that is less related than others
    counts as a fraction of a run.

    Where kinds of runs matter, such as their schedules, s_r is what a kind brings: the same for two runs of one kind,
    nearly so for two of like kinds. So the nearest kinds tell the level, and two runs of one kind and of two sizes tell
    the drift with the size whatever their kind.

    Args:
        values: What each run showed, shape (n,).
        variances: How well it is known there, shape (n,).
        weights: How related each run is, 0 < w <= 1, shape (n,).
        log_N: ln N_r/N, 0 where a size is not known, shape (n,).
        log_T: ln T_r/T, shape (n,).
        prior: What is believed of the number beforehand.
        alike: Correlation of what the kinds of the runs bring, this run the last [1], shape (n + 1, n + 1); None where
            kinds do not matter.

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
    kinds, like = (np.ones(1), np.zeros((values.size + 1,) * 2)) if alike is None else (_SPREADS_BY_KIND, alike)
    # Every spread from run to run with every one from kind to kind: the first axis of all that follows.
    by_run, by_kind = (x.ravel() for x in np.meshgrid(_SPREADS, kinds))
    sigma2 = (prior.spread * by_run) ** 2
    K = ((prior.by_kind * by_kind) ** 2)[:, None, None] * like
    inverse, determinants = _inverses(variances + sigma2[:, None], weights, K[:, :-1, :-1])
    P = precision + X.T @ inverse @ X
    covariance = np.linalg.inv(P)
    theta = np.einsum("fij,fj->fi", covariance, precision @ mean + inverse @ values @ X)
    off, moved = values - theta @ X.T, theta - mean
    misfit = np.einsum("fi,fij,fj->f", off, inverse, off) + np.einsum("fi,ij,fj->f", moved, precision, moved)
    log_evidence = -0.5 * (determinants + misfit + np.linalg.slogdet(P)[1])
    for factor in (by_run, by_kind):
        log_evidence -= _WORTH * (np.log(factor) + 0.5 / factor**2)
    pull = np.einsum("fij,fj->fi", inverse, K[:, :-1, -1])
    x = np.array([1.0, 0.0, 0.0]) - pull @ X
    means = theta[:, 0] + np.einsum("fi,fi->f", pull, off)
    squares = np.einsum("fi,fij,fj->f", x, covariance, x) + sigma2
    squares += K[:, -1, -1] - np.einsum("fi,fi->f", K[:, -1, :-1], pull)
    return _mixed(means, squares, log_evidence)


def _inverses(apart: FloatArray, weights: FloatArray, together: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the inverse covariances of the runs for each spread, shape (f, n, n), and their log determinants.

    Args:
        apart: Variance of each run by itself, shape (f, n).
        weights: For how much of a run each counts, shape (n,).
        together: Covariance of what their kinds bring, shape (f, n, n).
    """
    root = np.sqrt(apart / weights)
    roots = root[:, :, None] * root[:, None, :]
    whitened = np.eye(weights.size) + together / roots
    return np.linalg.inv(whitened) / roots, np.log(apart) @ weights + np.linalg.slogdet(whitened)[1]


def _mixed(means: FloatArray, variances: FloatArray, log_evidence: FloatArray) -> Outlook:
    """Return what the predictions of all spreads say together, each weighed by its evidence."""
    share = np.exp(log_evidence - log_evidence.max())
    total = float(np.log(share.sum()) + log_evidence.max())
    share = share / share.sum()
    middle = float(share @ means)
    return Outlook(middle, float(np.sqrt(share @ (variances + (means - middle) ** 2))), total)
