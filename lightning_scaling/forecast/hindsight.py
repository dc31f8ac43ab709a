"""Hindsight: what the loss of a run was, in windows, without a law."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.fit.data import reduce_curve
from lightning_scaling.fit.prior import DEFAULT_PRIOR

__all__ = ["Hindsight"]

FloatArray = NDArray[np.float64]

#: Windows averaged on each side where a trend is asked for: about a third of an e-fold of steps in all.
_REACH = 5


@dataclass(frozen=True, eq=False)
class Hindsight:
    """The expected loss of the steps that lie behind.

    The law of a forecast forgets the past on purpose, so it is not asked about it.

    Args:
        S: Mean step of each window [steps], shape (M,).
        y: Mean loss [unit of the loss], shape (M,).
        variance: Variance of y from the noise of single steps [unit squared], shape (M,).

    Example:
        >>> steps = np.arange(1, 1001)
        >>> past = Hindsight.of(LossCurve(S=steps, L=2.0 + 6.0 / np.sqrt(steps)))
        >>> round(float(past.at(np.array([400.0]))[0][0]), 3)
        2.3
    """

    S: FloatArray
    y: FloatArray
    variance: FloatArray

    @classmethod
    def of(cls, curve: LossCurve) -> Hindsight:
        """Return the windows of the whole curve."""
        data = reduce_curve(curve, windows_per_e_fold=DEFAULT_PRIOR.windows_per_e_fold, e_folds=50.0, outlier=9.0)
        return cls(data.S, data.y, data.variance)

    def at(self, S: FloatArray, *, smooth: bool = False) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation of the expected loss at steps S.

        Args:
            S: Steps [steps], shape (P,).
            smooth: Average some ten windows, so that the luckiest of many noisy ones is not taken for the trend.
        """
        y, variance = self._averaged() if smooth else (self.y, self.variance)
        where, windows = np.log(np.maximum(S, 0.5)), np.log(self.S)
        return np.interp(where, windows, y), np.interp(where, windows, np.sqrt(variance))

    def _averaged(self) -> tuple[FloatArray, FloatArray]:
        """Return the centred moving average and its variance; it narrows towards both ends."""
        place = np.arange(self.y.size)
        half = np.minimum(np.minimum(place, place[::-1]), _REACH)
        low, high = place - half, place + half + 1
        y, variance = (np.concatenate(([0.0], np.cumsum(x))) for x in (self.y, self.variance))
        width = (high - low).astype(np.float64)
        return (y[high] - y[low]) / width, (variance[high] - variance[low]) / width**2
