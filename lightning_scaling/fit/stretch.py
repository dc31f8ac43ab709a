"""Stretch: how much less sure a large fall of the loss is than a law alone would say."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Stretch"]

FloatArray = NDArray[np.float64]

#: A stretched fall goes no further than to this share of the present loss, unless the law alone does.
_DEEPEST = 1e-6


@dataclass(frozen=True, eq=False)
class Stretch:
    r"""What is said of the share by which a positive loss will fall, made less sure the larger the share.

    A law that has seen a third of a fall knows how far it goes to within a few per cent of the loss; one that expects
    nine tenths of the loss to go cannot tell a run that halves it from one that solves its task. With the falls
    :math:`x = \ln(L_{now}/L)` and their median :math:`\tilde x`, each quantile becomes

    .. math:: x' = \tilde x\,(x/\tilde x)^k, \qquad k = 1 + \kappa \min(1, \tilde x)^2

    so that the median stays, a rise stays, and a fall by 5 % is left as it is. There is no theory behind it: it is what
    the misses of small runs asked for (docs/how_forecasts_work.md).

    Args:
        present: The loss now, positive [unit of the loss].
        growth: kappa, how fast falls become less sure with their size, 0 for not at all [1].
        kind: What each quantity is, shape (P,): 1 a loss to come, -1 such a loss less the present one, 0 neither.

    Example:
        >>> half, = Stretch(2.0, 1.0, np.ones(1)).apply(np.array([[1.6], [1.0], [0.4]]), np.array([1.0])).T
        >>> half.round(3)
        array([1.757, 1.   , 0.179])
    """

    present: float
    growth: float
    kind: FloatArray

    def of(self, kind: FloatArray) -> Stretch:
        """Return the same for other quantities."""
        return Stretch(self.present, self.growth, kind)

    def apply(self, x: FloatArray, median: FloatArray) -> FloatArray:
        """Return quantiles (Q, P), of medians (P,), as they are after the stretch [unit of the loss]."""
        return self._bent(x, median, inverse=False)

    def undo(self, x: FloatArray, median: FloatArray) -> FloatArray:
        """Return which values before the stretch became x, which broadcasts with (P,) [unit of the loss]."""
        return self._bent(x, median, inverse=True)

    def _bent(self, x: FloatArray, median: FloatArray, *, inverse: bool) -> FloatArray:
        x, median, kind = np.broadcast_arrays(x, median, self.kind)
        fall, middle = self._fall(x, kind), self._fall(median, kind)
        bends = (kind != 0.0) & (middle > 0.0) & (fall > 0.0) & np.isfinite(fall)
        middle, before = np.where(bends, middle, 1.0), np.where(bends, fall, 1.0)
        power = 1.0 + self.growth * np.minimum(middle, 1.0) ** 2
        after = middle * (before / middle) ** (1.0 / power if inverse else power)
        if not inverse:
            after = np.minimum(after, np.maximum(before, -np.log(_DEEPEST)))
        loss = self.present * np.exp(-after)
        return np.where(bends, np.where(kind < 0.0, loss - self.present, loss), x)

    def _fall(self, x: FloatArray, kind: FloatArray) -> FloatArray:
        """Return ln(now/L); infinite where no loss is left."""
        with np.errstate(divide="ignore", over="ignore"):
            left = np.where(kind < 0.0, self.present + x, x) / self.present
            return np.asarray(-np.log(np.maximum(left, 0.0)))
