"""Which curves are one and the same, by what is in them."""

from __future__ import annotations

from hashlib import blake2b
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.schedule import LRSchedule

__all__ = ["digest", "same_run"]

FloatArray = NDArray[np.float64]

#: Points at the start by which a run is known to be the same one, and how nearly their sums agree.
_SAME, _EQUAL = 12, 1e-9

_known: WeakKeyDictionary[LossCurve, bytes] = WeakKeyDictionary()


def digest(curve: LossCurve, schedule: LRSchedule) -> bytes:
    """Return a short name for a run that depends on its size, losses and rates alone, not on when it was read."""
    if curve not in _known:
        arrays = (curve.S, curve.L, curve.count, np.array([curve.N or 0.0, curve.step, curve.n_nonfinite]))
        _known[curve] = blake2b(b"".join(x.tobytes() for x in arrays), digest_size=16).digest()
    rates = b"".join(x.tobytes() for x in (schedule.edges, schedule.rates, np.array([schedule.known])))
    return blake2b(_known[curve] + rates, digest_size=16).digest()


def same_run(one: LossCurve, other: LossCurve) -> bool:
    """Tell whether two curves begin with the very same losses, be they logged singly or in windows."""
    if not (len(one) and len(other)) or _first(one) != _first(other):
        return False
    fine, coarse = sorted((one, other), key=lambda curve: float(curve.count[:_SAME].sum()))
    ends = _sums(coarse, min(_SAME, len(coarse)))
    sums = _sums(fine, min(int(ends[0, -1]), len(fine)))
    shared, i, j = np.intersect1d(ends[0], sums[0], return_indices=True)
    # A window that is still open has an end of its own; two that both share are asked for at least.
    return shared.size > 1 and bool(np.allclose(ends[1:, i], sums[1:, j], rtol=_EQUAL, atol=0.0))


def _first(curve: LossCurve) -> float:
    """Return the step that a curve begins with, which lies half a window before the middle of its first one."""
    return float(curve.S[0] - 0.5 * (curve.count[0] - 1.0))


def _sums(curve: LossCurve, n: int) -> FloatArray:
    """Return the number, the steps and the losses of the first n points, summed up, shape (3, n)."""
    count = curve.count[:n]
    return np.cumsum(np.stack((count, count * curve.S[:n], count * curve.L[:n])), axis=1)
