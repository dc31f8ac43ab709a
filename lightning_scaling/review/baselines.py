"""What simpler methods say of the end of a run: the last value, the best so far, a power law by least squares."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from lightning_scaling.curve import LossCurve

__all__ = ["BASELINES", "best_so_far", "last_value", "power_law"]

FloatArray = NDArray[np.float64]

#: Share of the points whose mean is the last value.
_LAST = 0.05
#: Windows in which a curve is fitted, spaced evenly in log steps.
_WINDOWS = 150


def last_value(curve: LossCurve, horizon: int) -> float:
    """Say that the loss stays at the mean of its newest twentieth."""
    n = max(1, round(_LAST * len(curve)))
    return float(np.average(curve.L[-n:], weights=curve.count[-n:]))


def best_so_far(curve: LossCurve, horizon: int) -> float:
    """Say that the loss ends at the lowest that was logged."""
    return float(curve.L.min())


def power_law(curve: LossCurve, horizon: int) -> float:
    r"""Fit :math:`L = E + A S^{-\alpha}` to all of the curve by least squares and read it at 99 % of the run.

    For a fixed exponent E and A are linear; the exponent is sought between .02 and 3.

    Example:
        >>> S = np.arange(1, 2001)
        >>> round(power_law(LossCurve(S=S, L=2.0 + 6.0 * S**-0.5), 10_000), 4)
        2.0603
    """
    S, L, weight = _windows(curve)
    if S.size < 4:
        return last_value(curve, horizon)
    now, root = S[-1], np.sqrt(weight)

    def solve(log_alpha: float) -> tuple[float, FloatArray]:
        basis = np.stack((np.ones_like(S), (S / now) ** -np.exp(log_alpha)), axis=1)
        found, *_ = np.linalg.lstsq(basis * root[:, None], L * root, rcond=None)
        return float(np.sum((root * (basis @ found - L)) ** 2)), found

    grid = np.linspace(np.log(0.02), np.log(3.0), 25)
    best = int(np.argmin([solve(a)[0] for a in grid]))
    bounds = grid[max(best - 1, 0)], grid[min(best + 1, 24)]
    log_alpha = float(minimize_scalar(lambda a: solve(a)[0], bounds=bounds, method="bounded").x)
    E, A = solve(log_alpha)[1]
    return float(E + A * (0.99 * horizon / now) ** -np.exp(log_alpha))


#: The methods by the name that a table calls them.
BASELINES: Mapping[str, Callable[[LossCurve, int], float]] = {
    "last value": last_value,
    "best so far": best_so_far,
    "power law": power_law,
}


def _windows(curve: LossCurve) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean step, mean loss and number of steps of log-spaced windows."""
    x = np.log(np.maximum(curve.S, max(curve.S[-1] * 1e-5, 0.5)))
    label = np.searchsorted(np.linspace(x[0], x[-1], _WINDOWS + 1)[1:-1], x)
    heads = np.flatnonzero(np.diff(label, prepend=-1))
    n = np.add.reduceat(curve.count, heads)
    S, L = (np.add.reduceat(v * curve.count, heads) / n for v in (np.maximum(curve.S, 0.5), curve.L))
    return S, L, n
