"""GaussianMixture: what the forecast engine knows of a number, as a weighted sum of normal distributions."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr

from lightning_scaling.fit.stretch import Stretch

__all__ = ["GaussianMixture"]

FloatArray = NDArray[np.float64]

#: Halvings of the bracket in which a quantile is sought, and Newton steps after them, which never leave it.
_BISECTIONS, _NEWTON = 10, 4
#: Bins of mean and of standard deviation in which a large mixture is gathered before its quantiles are sought.
_MEAN_BINS, _SD_BINS = 26, 6
#: Quantities from which they are not sought in the whole mixture once more: that is for a few, not for a picture.
_MANY = 64
#: Largest share of a mixture that its lower bound may cut off.
_MOST_CUT = 0.995
#: Standard deviations beyond which a normal has nothing, and in which its quantiles are sought.
_FAR = 9.0
_ROOT_2_PI = float(np.sqrt(2.0 * np.pi))


@dataclass(frozen=True, eq=False)
class GaussianMixture:
    r"""Mixture :math:`\sum_c w_c\, \mathcal{N}(m_{cp}, s_{cp}^2)` for P quantities at once.

    Args:
        weights: Weights that sum to 1 [1], shape (C,).
        means: Means [unit of the quantity], shape (C, P).
        sds: Standard deviations, all > 0 [same unit], shape (C, P).
        least: The quantities are known not to lie below this [same unit], a number or one of each, shape (P,): what
            the normals say there is cut off. A quantity that has more than 99.5 % of its probability there belies it
            and is left as it is.

    Example:
        >>> mixture = GaussianMixture(np.array([0.5, 0.5]), np.array([[-1.0], [1.0]]), np.array([[0.1], [0.1]]))
        >>> round(float(mixture.cdf(0.0)[0]), 6), round(float(mixture.quantiles([0.25])[0, 0]), 3)
        (0.5, -1.0)
    """

    weights: FloatArray
    means: FloatArray
    sds: FloatArray
    least: float | FloatArray = -np.inf
    stretch: Stretch | None = None

    def cdf(self, x: ArrayLike) -> FloatArray:
        """Return P(quantity <= x) of each quantity [1], shape (P,); ``x`` broadcasts to (P,)."""
        below = self._below
        if self.stretch is not None:
            x = self.stretch.undo(np.asarray(x, dtype=np.float64), self._median)
        return np.asarray(np.clip((self._whole_cdf(x) - below) / (1.0 - below), 0.0, 1.0))

    def _whole_cdf(self, x: ArrayLike) -> FloatArray:
        z = (np.asarray(x, dtype=np.float64) - self.means) / self.sds
        return np.asarray(np.einsum("c,cp->p", self.weights, ndtr(z)))

    @cached_property
    def _below(self) -> FloatArray:
        """Share of each normal mixture that is cut off, shape (P,)."""
        if np.all(self.least == -np.inf):
            return np.zeros(self.means.shape[1])
        if ((self.least - self.means) / self.sds).max() < -_FAR:
            return np.zeros(self.means.shape[1])
        below = self._whole_cdf(self.least)
        return np.where(below <= _MOST_CUT, below, 0.0)

    def quantiles(self, probabilities: ArrayLike) -> FloatArray:
        """Return quantiles of each quantity [its unit], shape (Q, P), by bisection and Newton steps on the CDF.

        Args:
            probabilities: Probabilities between 0 and 1 [1], shape (Q,).
        """
        asked = np.asarray(probabilities, dtype=np.float64)
        if self.stretch is None:
            return self._unstretched(asked)
        middle = np.flatnonzero(asked == 0.5)
        x = self._unstretched(asked if middle.size else np.append(asked, 0.5))
        return self.stretch.apply(x[: asked.size], x[middle[0] if middle.size else -1])

    @cached_property
    def _median(self) -> FloatArray:
        return np.asarray(self._unstretched(np.array([0.5]))[0])

    def _unstretched(self, probabilities: FloatArray) -> FloatArray:
        p = self._below + probabilities[:, None] * (1.0 - self._below)
        weights, means, sds = self._gathered()
        x = _roots(weights, means, sds, p)
        if weights.shape[-1] < self.weights.size and x.shape[1] <= _MANY:
            # One Newton step on the whole mixture takes back what gathering changed.
            excess, density = _excess(self.weights, self.means.T, self.sds.T, x, p)
            reach = 0.1 * self.sd()
            x = x - np.clip(excess / np.maximum(density, 1e-300), -reach, reach)
        return np.asarray(np.where(self._below > 0.0, np.maximum(x, self.least), x))

    def mean(self) -> FloatArray:
        """Return the mean of each quantity [its unit], shape (P,)."""
        return np.asarray(np.einsum("c,cp->p", self.weights, self.means))

    def sd(self) -> FloatArray:
        """Return the standard deviation of each quantity [its unit], shape (P,)."""
        return np.asarray(np.sqrt(np.einsum("c,cp->p", self.weights, self.sds**2 + (self.means - self.mean()) ** 2)))

    def sigma(self) -> FloatArray:
        """Return half of the central 68 %, which laws of next to no weight do not widen [its unit], shape (P,)."""
        low, high = self.quantiles(ndtr([-1.0, 1.0]))
        return np.asarray(0.5 * (high - low))

    def _gathered(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return weights, means and sds of at most 156 normals per quantity, each (P, C').

        Normals of nearly equal mean and width are replaced by one of the same two moments.
        """
        means, sds = self.means.T, self.sds.T
        P, C = means.shape
        w = np.broadcast_to(self.weights, (P, C))
        bins = _MEAN_BINS * _SD_BINS
        if bins >= C:
            return w, means, sds
        low, log_sd = means.min(axis=1, keepdims=True), np.log(sds)
        above = means - low
        index = _bin(above, _MEAN_BINS) * _SD_BINS + _bin(log_sd - log_sd.min(axis=1, keepdims=True), _SD_BINS)
        index = (index + bins * np.arange(P)[:, None]).ravel()
        weight, first, second = (
            np.bincount(index, weights=x.ravel(), minlength=bins * P).reshape(P, bins)
            for x in (w, w * above, w * (sds**2 + above**2))
        )
        used = (weight > 0.0).any(axis=0)
        weight, first, second = weight[:, used], first[:, used], second[:, used]
        whole = np.where(weight > 0.0, weight, 1.0)
        mean = first / whole
        variance = np.maximum(second / whole - mean**2, sds.min(axis=1, keepdims=True) ** 2)
        return np.asarray(weight, dtype=np.float64), np.asarray(mean + low), np.asarray(np.sqrt(variance))


def _bin(x: FloatArray, n: int) -> NDArray[np.intp]:
    """Return in which of n even bins, from 0 to the largest of each row, each x lies, shape (P, C)."""
    return np.asarray(np.minimum((x / np.maximum(x.max(axis=1, keepdims=True), 1e-300) * n).astype(np.intp), n - 1))


def _excess(
    weights: FloatArray, means: FloatArray, sds: FloatArray, x: FloatArray, p: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return by how much the CDF at x (Q, P) lies above p, and the density there, of normals of shape (P, C)."""
    z = (x[:, :, None] - means) / sds
    density = np.einsum("qpc,pc->qp", np.exp(-0.5 * z**2), weights / (_ROOT_2_PI * sds))
    return _sum(weights, ndtr(z)) - p, density


def _sum(weights: FloatArray, values: FloatArray) -> FloatArray:
    """Return the weighted sum over the normals of values (Q, P, C)."""
    return np.asarray(np.einsum("qpc,pc->qp" if weights.ndim == 2 else "qpc,c->qp", values, weights))


def _roots(weights: FloatArray, means: FloatArray, sds: FloatArray, p: FloatArray) -> FloatArray:
    """Return where the CDF of normals, shape (P, C), is p (Q, P)."""
    low = np.broadcast_to((means - _FAR * sds).min(axis=1), p.shape)
    high = np.broadcast_to((means + _FAR * sds).max(axis=1), p.shape)
    for _ in range(_BISECTIONS):
        middle = 0.5 * (low + high)
        below = _sum(weights, ndtr((middle[:, :, None] - means) / sds)) < p
        low, high = np.where(below, middle, low), np.where(below, high, middle)
    x = 0.5 * (low + high)
    for _ in range(_NEWTON):
        excess, density = _excess(weights, means, sds, x, p)
        low, high = np.where(excess < 0.0, x, low), np.where(excess < 0.0, high, x)
        step = x - excess / np.maximum(density, 1e-300)
        slack = 1e-3 * (high - low)  # a root at an end of the bracket may be overshot by rounding
        inside = (step >= low - slack) & (step <= high + slack)
        x = np.where(inside, np.clip(step, low, high), 0.5 * (low + high))
    return np.asarray(x)
