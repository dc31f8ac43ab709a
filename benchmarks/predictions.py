"""What a method says of the final loss: a median and, where it has one, a distribution as 99 quantiles.

Intervals, coverage, CRPS and PIT are all read off the quantiles 1 %, 2 %, …, 99 %, so that every method is scored by
the same arithmetic, whatever its distribution was made of.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, ndtri

Array = NDArray[np.float64]

N_QUANTILES = 99
PROBABILITIES: Array = np.arange(1, N_QUANTILES + 1) / (N_QUANTILES + 1.0)

_STANDARD_NORMAL: Array = np.asarray(ndtri(PROBABILITIES), dtype=np.float64)


@dataclass(frozen=True)
class Prediction:
    """What a method says of the final loss.

    Attributes:
        mid: Median.
        quantiles: Quantiles at `PROBABILITIES`, shape (99,), or None if the method has no honest distribution.
        failed: True if the method could not answer and the last value stands in for it.
        verdict: The method's own word on its forecast, if it has one.
        seconds: What the forecast alone took, where reading its distribution must not count; None: time the whole call.
    """

    mid: float
    quantiles: Array | None = None
    failed: bool = False
    verdict: str = ""
    seconds: float | None = None

    @classmethod
    def gaussian(cls, mean: float, sd: float) -> Prediction:
        """Return a normal forecast; a standard deviation that is not finite leaves the mean alone."""
        if not (math.isfinite(sd) and sd >= 0.0):
            return cls(mean)
        return cls(mean, mean + sd * _STANDARD_NORMAL)

    @classmethod
    def mixture(cls, means: ArrayLike, sds: ArrayLike, weights: ArrayLike) -> Prediction:
        """Return a mixture of normal forecasts, shape (n,) each; weights sum to one."""
        m, s, w = (np.asarray(a, dtype=np.float64) for a in (means, sds, weights))
        s = np.maximum(s, 1e-12 * max(1.0, float(np.abs(m).max())))

        def cdf(x: Array) -> Array:
            return np.asarray(ndtr((x[:, None] - m) / s) @ w, dtype=np.float64)

        low, high = float((m - 4.0 * s).min()), float((m + 4.0 * s).max())
        quantiles = invert_cdf(cdf, low, high)
        return cls(float(quantiles[N_QUANTILES // 2]), quantiles)

    def interval(self, level: float) -> tuple[float, float]:
        """Return (low, high) of the central interval; NaN without a distribution.

        Example:
            >>> low, high = Prediction.gaussian(2.0, 0.1).interval(0.9)
            >>> round(low, 3), round(high, 3)
            (1.836, 2.164)
        """
        if self.quantiles is None:
            return math.nan, math.nan
        tail = 0.5 * (1.0 - level)
        low, high = np.interp([tail, 1.0 - tail], PROBABILITIES, self.quantiles)
        return float(low), float(high)


def invert_cdf(cdf: Callable[[Array], Array], low: float, high: float, probabilities: Array = PROBABILITIES) -> Array:
    """Return quantiles of a distribution known by its CDF, by bisection.

    Args:
        cdf: Probability of a value at most x, for an array of x; increasing.
        low: A value below nearly everything.
        high: A value above nearly everything.
        probabilities: Where the quantiles are wanted, shape (n,).

    Returns:
        Quantiles, increasing, shape (n,); values outside [low, high] are cut to it.
    """
    below, above = np.full(probabilities.shape, low), np.full(probabilities.shape, high)
    for _ in range(52):
        x = 0.5 * (below + above)
        short = cdf(x) < probabilities
        below, above = np.where(short, x, below), np.where(short, above, x)
    return np.asarray(0.5 * (below + above), dtype=np.float64)
