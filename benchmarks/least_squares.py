"""Fit a law that is linear in most of its parameters, the way a careful user would with SciPy.

A law here is ``L(S) = E + sum_j w_j phi_j(S; theta)``: for fixed shape parameters theta the rest is linear least
squares. A coarse grid over theta finds the start, `scipy.optimize.least_squares` polishes all parameters together, and
the covariance at the solution, from the residuals, gives the standard error of the forecast. That is the textbook
interval; how often it covers the truth is for the benchmark to say.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares, nnls

Array = NDArray[np.float64]

# Columns phi_j at S for shape parameters theta: shape (n, k). The weights of the columns are constrained >= 0.
Basis = Callable[[Array, Array], Array]

N_WINDOWS = 150


class FitFailed(Exception):
    """The fit has no usable solution; the caller falls back and counts it."""


@dataclass(frozen=True)
class Windows:
    """A prefix thinned to at most 150 log-spaced windows, so that a fit costs the same for any length of log.

    Attributes:
        S: Mean step of each window, shape (n,).
        L: Mean loss of each window, shape (n,).
        count: Logged points in each window, shape (n,).
    """

    S: Array
    L: Array
    count: Array


def thin(S: Array, L: Array, n_windows: int = N_WINDOWS) -> Windows:
    """Average a log in at most ``n_windows`` windows, evenly spaced in log step.

    Example:
        >>> windows = thin(np.arange(1.0, 10001.0), np.ones(10000))
        >>> len(windows.S) <= 150, int(windows.count.sum())
        (True, 10000)
    """
    # A log that starts late (or at step 0) must not spend its windows on decades without points.
    x = np.log(np.maximum(S, max(S[-1] * 1e-5, 0.5)))
    edges = np.linspace(x[0], x[-1], n_windows + 1)[1:-1]
    label = np.searchsorted(edges, x, side="left")
    _, start, count = np.unique(label, return_index=True, return_counts=True)
    return Windows(np.add.reduceat(S, start) / count, np.add.reduceat(L, start) / count, count.astype(np.float64))


@dataclass(frozen=True)
class Fit:
    """A fitted law and what it says of the run's last 2 %.

    Attributes:
        theta: Shape parameters, shape (m,).
        weights: Constant term and weights of the columns, shape (1 + k,).
        mid: Forecast, the law averaged over the target steps.
        sd: Its standard error from the covariance of the fit; infinite where a parameter is not determined.
        rss: Weighted sum of squared residuals.
        n: Windows fitted.
    """

    theta: Array
    weights: Array
    mid: float
    sd: float
    rss: float
    n: int


def fit(
    basis: Basis,
    windows: Windows,
    target: Array,
    grid: tuple[Array, ...],
    bounds: tuple[Array, Array],
    *,
    caps: tuple[float, ...] = (),
    huber: float | None = None,
) -> Fit:
    """Fit a law to the windows, each weighted by its number of points, and average it over the target steps.

    Args:
        basis: Columns of the law for steps and shape parameters.
        windows: What to fit.
        target: Steps over which the forecast is averaged [steps], shape (q,).
        grid: Starting values of each shape parameter.
        bounds: Lowest and highest shape parameters, shape (m,) each.
        caps: Highest weight of each column, in units of the range of the losses; default no limit.
        huber: Where a squared residual becomes an absolute one, relative to the mean size of the losses; None: nowhere.

    Raises:
        FitFailed: If nothing finite comes out.
    """
    S, L, root = windows.S, windows.L, np.sqrt(windows.count)
    unit = float(np.ptp(L))
    if unit == 0.0:
        raise FitFailed("all losses are equal")
    y = (L - L.mean()) / unit

    best: tuple[float, Array, Array] | None = None
    for point in product(*grid):
        theta = np.array(point)
        columns = np.column_stack([np.ones_like(S), basis(S, theta)])
        weights, norm = _linear(columns * root[:, None], y * root)
        if np.isfinite(norm) and (best is None or norm < best[0]):
            best = (norm, theta, weights)
    if best is None:
        raise FitFailed("no start gives finite values")
    _, theta, weights = best
    m, used = theta.size, np.flatnonzero(weights[1:] > 0.0)

    # A column with weight zero at the best start is left out: its shape has no gradient there.
    def predict(p: Array, steps: Array) -> Array:
        return np.asarray(p[m] + basis(steps, p[:m])[:, used] @ p[m + 1 :], dtype=np.float64)

    def residuals(p: Array) -> Array:
        return np.asarray((predict(p, S) - y) * root, dtype=np.float64)

    start = np.concatenate([theta, weights[:1], weights[1:][used]])
    highest = np.array(caps)[used] if caps else np.full(used.size, np.inf)
    low = np.concatenate([bounds[0], [-np.inf], np.zeros(used.size)])
    high = np.concatenate([bounds[1], [np.inf], highest])
    robust = {} if huber is None else {"loss": "huber", "f_scale": huber * float(np.abs(L).mean()) / unit}
    try:
        solved = least_squares(
            residuals, np.clip(start, low, high), bounds=(low, high), x_scale="jac", max_nfev=200, **robust
        )
    except (ValueError, np.linalg.LinAlgError) as error:
        raise FitFailed(str(error)) from error
    p, rss = solved.x, float((solved.fun**2).sum())
    jacobian = np.column_stack([(residuals(p + h) - residuals(p - h)) / (2.0 * h.sum()) for h in np.diag(_steps(p))])
    mid = float(predict(p, target).mean())
    if not np.isfinite(mid):
        raise FitFailed("the forecast is not finite")
    sd = _standard_error(jacobian, rss, lambda q: float(predict(q, target).mean()), p, bounds=(low, high))
    all_weights = np.zeros(weights.size)
    all_weights[0] = p[m] * unit + L.mean()
    all_weights[1:][used] = p[m + 1 :] * unit
    return Fit(p[:m], all_weights, mid * unit + float(L.mean()), sd * unit, rss * unit**2, len(S))


def _linear(columns: Array, y: Array) -> tuple[Array, float]:
    """Solve for a free constant and non-negative weights; return them and the residual norm."""
    if not np.isfinite(columns).all():
        return np.zeros(columns.shape[1]), np.inf
    # Non-negative least squares with the constant split in its positive and negative part.
    scale = np.linalg.norm(columns, axis=0)
    scale[scale == 0.0] = 1.0
    scaled = columns / scale
    try:
        solution, norm = nnls(np.column_stack([-scaled[:, 0], scaled]), y)
    except RuntimeError:
        return np.zeros(columns.shape[1]), np.inf
    weights = solution[1:]
    weights[0] -= solution[0]
    return weights / scale, float(norm)


def _steps(p: Array) -> Array:
    """Return the steps of the central differences."""
    return np.asarray(1e-6 * np.maximum(np.abs(p), 1e-3), dtype=np.float64)


def _standard_error(
    jacobian: Array, rss: float, forecast: Callable[[Array], float], p: Array, bounds: tuple[Array, Array]
) -> float:
    """Propagate the covariance of the free parameters to the forecast (delta method)."""
    n, n_parameters = jacobian.shape
    if n <= n_parameters:
        return np.inf
    step = _steps(p)
    inside = (p - step > bounds[0]) & (p + step < bounds[1])
    gradient = np.zeros(n_parameters)
    for i in np.flatnonzero(inside):
        shift = np.zeros(n_parameters)
        shift[i] = step[i]
        gradient[i] = (forecast(p + shift) - forecast(p - shift)) / (2.0 * step[i])
    # A parameter on its bound does not move and adds no variance; one that the prefix does not feel at all (the shape
    # of a decay that has not begun) adds none if the forecast does not feel it either, and infinitely much if it does.
    felt = np.linalg.norm(jacobian, axis=0) > 0.0
    if gradient[~felt].any():
        return np.inf
    free = inside & felt
    try:
        covariance = np.linalg.inv(jacobian[:, free].T @ jacobian[:, free]) * rss / (n - n_parameters)
    except np.linalg.LinAlgError:
        return np.inf
    variance = float(gradient[free] @ covariance @ gradient[free])
    return float(np.sqrt(variance)) if variance >= 0.0 else np.inf
