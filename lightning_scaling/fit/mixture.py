"""GaussianMixture: what the forecast engine knows of a number, as a weighted sum of normal distributions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

__all__ = ["GaussianMixture"]

FloatArray = NDArray[np.float64]

#: Halvings of the bracket in which a quantile is sought, and Newton steps after them, which never leave it.
_BISECTIONS, _NEWTON = 10, 4
#: Bins of mean and of standard deviation in which a large mixture is gathered before its quantiles are sought.
_MEAN_BINS, _SD_BINS = 26, 6
#: Quantities from which they are not sought in the whole mixture once more: that is for a few, not for a picture.
_MANY = 64
#: Largest share of a mixture that its lower bound may cut off.
_MOST_CUT = 0.8
_ROOT_2_PI = float(np.sqrt(2.0 * np.pi))


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    r"""Mixture :math:`\sum_c w_c\, \mathcal{N}(m_{cp}, s_{cp}^2)` for P quantities at once.

    Args:
        weights: Weights that sum to 1 [1], shape (C,).
        means: Means [unit of the quantity], shape (C, P).
        sds: Standard deviations, all > 0 [same unit], shape (C, P).
        least: The quantities are known not to lie below this [same unit]: what the normals say there is cut off. A
            quantity that has more than four fifths of its probability there belies it and is left as it is.

    Example:
        >>> mixture = GaussianMixture(np.array([0.5, 0.5]), np.array([[-1.0], [1.0]]), np.array([[0.1], [0.1]]))
        >>> round(float(mixture.cdf(0.0)[0]), 6), round(float(mixture.quantiles([0.25])[0, 0]), 3)
        (0.5, -1.0)
    """

    weights: FloatArray
    means: FloatArray
    sds: FloatArray
    least: float = -np.inf

    def cdf(self, x: ArrayLike) -> FloatArray:
        """Return P(quantity <= x) of each quantity [1], shape (P,); ``x`` broadcasts to (P,)."""
        below = self._below
        return np.asarray(np.clip((self._whole_cdf(x) - below) / (1.0 - below), 0.0, 1.0))

    def _whole_cdf(self, x: ArrayLike) -> FloatArray:
        z = (np.asarray(x, dtype=np.float64) - self.means) / self.sds
        return np.asarray(np.einsum("c,cp->p", self.weights, ndtr(z)))

    @cached_property
    def _below(self) -> FloatArray:
        """Share of each normal mixture that is cut off, shape (P,)."""
        if self.least == -np.inf:
            return np.zeros(self.means.shape[1])
        below = self._whole_cdf(self.least)
        return np.where(below <= _MOST_CUT, below, 0.0)

    def quantiles(self, probabilities: ArrayLike) -> FloatArray:
        """Return quantiles of each quantity [its unit], shape (Q, P), by bisection and Newton steps on the CDF.

        Args:
            probabilities: Probabilities between 0 and 1 [1], shape (Q,).
        """
        p = self._below + np.asarray(probabilities, dtype=np.float64)[:, None] * (1.0 - self._below)
        weights, means, sds = self._gathered()
        low = np.broadcast_to((means - 9.0 * sds).min(axis=0), p.shape)
        high = np.broadcast_to((means + 9.0 * sds).max(axis=0), low.shape)
        for _ in range(_BISECTIONS):
            middle = 0.5 * (low + high)
            below = np.einsum("cp,qcp->qp", weights, ndtr((middle[:, None, :] - means) / sds)) < p
            low, high = np.where(below, middle, low), np.where(below, high, middle)
        x = 0.5 * (low + high)
        for _ in range(_NEWTON):
            z = (x[:, None, :] - means) / sds
            excess = np.einsum("cp,qcp->qp", weights, ndtr(z)) - p
            density = np.einsum("cp,qcp->qp", weights, np.exp(-0.5 * z**2) / (_ROOT_2_PI * sds))
            low, high = np.where(excess < 0.0, x, low), np.where(excess < 0.0, high, x)
            step = x - excess / np.maximum(density, 1e-300)
            slack = 1e-3 * (high - low)  # a root at an end of the bracket may be overshot by rounding
            inside = (step >= low - slack) & (step <= high + slack)
            x = np.where(inside, np.clip(step, low, high), 0.5 * (low + high))
        if weights.shape[0] == self.weights.size or x.shape[1] > _MANY:
            return np.asarray(x)
        # One Newton step on the whole mixture takes back what gathering changed.
        z = (x[:, None, :] - self.means) / self.sds
        excess = np.einsum("c,qcp->qp", self.weights, ndtr(z)) - p
        density = np.einsum("c,qcp->qp", self.weights, np.exp(-0.5 * z**2) / (_ROOT_2_PI * self.sds))
        return np.asarray(x - np.clip(excess / np.maximum(density, 1e-300), -0.1 * self.sd(), 0.1 * self.sd()))

    def mean(self) -> FloatArray:
        """Return the mean of each quantity [its unit], shape (P,)."""
        return np.asarray(np.einsum("c,cp->p", self.weights, self.means))

    def sd(self) -> FloatArray:
        """Return the standard deviation of each quantity [its unit], shape (P,)."""
        return np.asarray(np.sqrt(np.einsum("c,cp->p", self.weights, self.sds**2 + (self.means - self.mean()) ** 2)))

    def _gathered(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return weights, means and sds of at most 156 normals per quantity, each (C', P).

        Normals of nearly equal mean and width are replaced by one of the same two moments.
        """
        C, P = self.means.shape
        bins = _MEAN_BINS * _SD_BINS
        if bins >= C:
            return np.asarray(np.broadcast_to(self.weights[:, None], (C, P))), self.means, self.sds
        low, log_sd = self.means.min(axis=0), np.log(self.sds)
        by_mean = (self.means - low) / np.maximum(np.ptp(self.means, axis=0), 1e-300) * _MEAN_BINS
        by_sd = (log_sd - log_sd.min(axis=0)) / np.maximum(np.ptp(log_sd, axis=0), 1e-300) * _SD_BINS
        index = np.minimum(by_mean.astype(int), _MEAN_BINS - 1) * _SD_BINS + np.minimum(by_sd.astype(int), _SD_BINS - 1)
        index = index + np.arange(P) * bins
        w = np.broadcast_to(self.weights[:, None], (C, P))
        sums = [
            np.bincount(index.ravel(), weights=x.ravel(), minlength=bins * P).reshape(P, bins).T
            for x in (w, w * (self.means - low), w * (self.sds**2 + (self.means - low) ** 2))
        ]
        filled = sums[0] > 0.0
        weight = np.where(filled, sums[0], 1.0)
        mean = sums[1] / weight
        variance = np.where(filled, np.maximum(sums[2] / weight - mean**2, 0.0), 0.0)
        least = self.sds.min(axis=0)
        gathered_sds = np.sqrt(np.maximum(variance, least**2))
        used = filled.any(axis=1)
        gathered = np.asarray(sums[0], dtype=np.float64), np.where(filled, mean, 0.0) + low, gathered_sds
        return gathered[0][used], gathered[1][used], gathered[2][used]
