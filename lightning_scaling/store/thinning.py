"""Bring a long curve to the windows that a live run would have been recorded in."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.windows import WINDOWS_PER_E_FOLD

__all__ = ["thin"]

FloatArray = NDArray[np.float64]

#: Curves of up to this many points are kept as they are: more than the windows of ten million steps.
LONG = 700
#: Ends of epochs kept; a live run keeps as many.
_EPOCH_ENDS = 256


def thin(curve: LossCurve) -> LossCurve:
    r"""Return a curve of bounded length: itself where it is short, and else the means over windows.

    A window that begins at step S spans :math:`\max(1, S/48)` steps, as in `CurveBuilder`. The spread of a window is
    that of all its steps, NaN where one of its points does not know its own.

    Args:
        curve: Any curve.

    Returns:
        A curve of at most ``LONG`` points, or of one per window where that is more (from some 15 million steps on),
        with the first 256 ends of epochs.

    Example:
        >>> S = np.arange(1, 10_001)
        >>> len(thin(LossCurve(S=S, L=5.0 * S**-0.1)))
        333
    """
    if len(curve) <= LONG and len(curve.epoch_ends) <= _EPOCH_ENDS:
        return curve
    heads = _heads(curve.S) if len(curve) > LONG else np.arange(len(curve))
    count = np.add.reduceat(curve.count, heads)

    def mean(values: FloatArray) -> FloatArray:
        return np.asarray(np.add.reduceat(values * curve.count, heads) / count)

    if heads.size == len(curve):
        S, L, lr, B, spread = curve.S, curve.L, curve.lr, curve.B, curve.spread
    else:
        S, L, lr, B = mean(curve.S), mean(curve.L), *(None if x is None else mean(x) for x in (curve.lr, curve.B))
        spread = _spread(curve, heads, count, L)
    return LossCurve(
        S=S,
        L=L,
        lr=lr,
        B=B,
        N=curve.N,
        count=count,
        spread=spread,
        step=curve.step,
        n_nonfinite=curve.n_nonfinite,
        epoch_ends=curve.epoch_ends[:_EPOCH_ENDS],
        unit=curve.unit,
        B_unit=curve.B_unit,
    )


def _heads(S: FloatArray) -> NDArray[np.intp]:
    """Return where each window begins."""
    heads, first = [], 0
    while first < S.size:
        heads.append(first)
        end = S[first] + max(1.0, S[first] / WINDOWS_PER_E_FOLD) - 1.0
        first = max(first + 1, int(np.searchsorted(S, end, side="right")))
    return np.array(heads)


def _spread(curve: LossCurve, heads: NDArray[np.intp], count: FloatArray, L: FloatArray) -> FloatArray:
    """Return the standard deviation of the single steps of each window, about its mean L."""
    window = np.repeat(np.arange(heads.size), np.diff(np.append(heads, len(curve))))
    within = np.where(curve.count > 1.0, (curve.count - 1.0) * curve.spread**2, 0.0)
    squares = np.add.reduceat(within + curve.count * (curve.L - L[window]) ** 2, heads)
    return np.where(count > 1.0, np.sqrt(squares / np.maximum(count - 1.0, 1.0)), np.nan)
