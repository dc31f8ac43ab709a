"""What others would say: every baseline is a function from a task to a prediction.

Fits see the prefix thinned to at most 150 log-spaced windows, each weighted by its number of points. A fit that
fails falls back to the last value and is counted. Intervals are given only where the method itself has one: those of
the least squares fits are the residual-based standard error of the expected loss, as a textbook would print it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from benchmarks.curves import TARGET_SHARE, Task
from benchmarks.least_squares import Basis, Fit, FitFailed, fit, thin
from benchmarks.predictions import Prediction
from benchmarks.schedule_laws import MPL_BETA, MPL_C, MPL_GAMMA, multi_power_basis, relative_rates, tissue_basis

Array = NDArray[np.float64]
Method = Callable[[Task], Prediction]
Bounds = tuple[tuple[float, float], ...]

LAST_VALUE = "last-value"

_ALPHA = np.geomspace(0.05, 2.0, 12)
_ALPHA_BOUNDS = (0.02, 3.0)
_N_TARGET = 9

# The authors of both schedule laws fit with a Huber loss of 1e-3 on log losses. At the start of a decay the drop it
# will bring is not identified and a free fit can forecast anything; it is kept below the distance come so far.
_HUBER = 1e-3
_DECAY_CAPS = (np.inf, 1.0)


def target_steps(T: int) -> Array:
    """Return steps spread over the last 2 % of the run, over which a law is averaged, shape (9,)."""
    return np.linspace((1.0 - TARGET_SHARE) * T, T, _N_TARGET)


def last_value(task: Task) -> Prediction:
    """Say that the loss stays at the mean of the last 5 % of the prefix."""
    return Prediction(task.last_value)


def best_so_far(task: Task) -> Prediction:
    """Say that the loss ends at the lowest that was logged."""
    return Prediction(float(task.L.min()))


def log_law(task: Task) -> Prediction:
    """Fit L = a - b log S: two parameters and no floor."""
    return _predict(task, _columns(task, _log))


def power_law(task: Task) -> Prediction:
    """Fit L = E + A S^-alpha: plain least squares."""
    return _predict(task, _columns(task, _power), (_ALPHA,), (_ALPHA_BOUNDS,))


def tissue(task: Task) -> Prediction:
    """Fit Tissue's law, lambda = 0.999; before the first drop of the rate its C cannot be known and is 0."""
    basis = tissue_basis(relative_rates(task), float(task.S[-1]))
    return _predict(task, basis, (_ALPHA,), (_ALPHA_BOUNDS,), caps=_DECAY_CAPS, huber=_HUBER)


def multi_power(task: Task) -> Prediction:
    """Fit the Multi-Power Law from the published C, beta, gamma; before the first drop its B is 0."""
    rates = relative_rates(task)
    basis = multi_power_basis(rates, float(task.S[-1]))
    C = MPL_C * np.array([0.1, 1.0, 10.0] if rates[: int(task.S[-1])].min() < 1.0 else [1.0])
    grid = (_ALPHA, np.log(C), np.array([MPL_BETA]), np.array([MPL_GAMMA]))
    bounds = (_ALPHA_BOUNDS, (float(np.log(MPL_C * 1e-3)), float(np.log(MPL_C * 1e3))), (0.2, 1.5), (0.0, 1.5))
    return _predict(task, basis, grid, bounds, caps=_DECAY_CAPS, huber=_HUBER)


def curve_ensemble(task: Task) -> Prediction:
    """Fit six families of curves and mix them by exp(-BIC/2): after Domhan et al. 2015, but least squares, no MCMC.

    Each family's error is normal with the standard error of its own fit.
    """
    fits = []
    for function, grid, bounds in _FAMILIES:
        try:
            fits.append(_fit(task, _columns(task, function), grid, bounds))
        except FitFailed:
            continue
    usable = [f for f in fits if np.isfinite(f.sd)]
    if not usable:
        return _fallback(task)
    bic = np.array(
        [f.n * np.log(max(f.rss, 1e-300) / f.n) + (1 + f.theta.size + f.weights.size) * np.log(f.n) for f in usable]
    )
    weights = np.exp(-0.5 * (bic - bic.min()))
    return Prediction.mixture([f.mid for f in usable], [f.sd for f in usable], weights / weights.sum())


METHODS: Mapping[str, Method] = {
    LAST_VALUE: last_value,
    "best-so-far": best_so_far,
    "log-law": log_law,
    "power-law": power_law,
    "tissue": tissue,
    "multi-power": multi_power,
    "curve-ensemble": curve_ensemble,
}


def _predict(
    task: Task,
    basis: Basis,
    grid: tuple[Array, ...] = (),
    bounds: Bounds = (),
    *,
    caps: tuple[float, ...] = (),
    huber: float | None = None,
) -> Prediction:
    try:
        fitted = _fit(task, basis, grid, bounds, caps, huber)
    except FitFailed:
        return _fallback(task)
    return Prediction.gaussian(fitted.mid, fitted.sd)


def _fit(
    task: Task,
    basis: Basis,
    grid: tuple[Array, ...],
    bounds: Bounds,
    caps: tuple[float, ...] = (),
    huber: float | None = None,
) -> Fit:
    low, high = np.array(bounds, dtype=np.float64).reshape(-1, 2).T
    return fit(basis, thin(task.S, task.L), target_steps(task.T), grid, (low, high), caps=caps, huber=huber)


def _fallback(task: Task) -> Prediction:
    return Prediction(task.last_value, failed=True)


# -- families of curves: functions of x = S / (last step seen) that fall with x; the fit adds E and a weight >= 0 --


def _columns(task: Task, function: Callable[..., Array]) -> Basis:
    """Turn a function of x into a basis of one column; a log that begins at step 0 is read from step .5."""

    def basis(S: Array, theta: Array) -> Array:
        return function(np.maximum(S, 0.5) / task.S[-1], *theta)[:, None]

    return basis


def _log(x: Array) -> Array:
    return np.asarray(-np.log(x), dtype=np.float64)


def _power(x: Array, alpha: float) -> Array:
    return np.asarray(x**-alpha, dtype=np.float64)


def _shifted_power(x: Array, alpha: float, log_shift: float) -> Array:
    return np.asarray((x + np.exp(log_shift)) ** -alpha, dtype=np.float64)


def _stretched_exponential(x: Array, log_rate: float, power: float) -> Array:
    return np.asarray(np.exp(-((np.exp(log_rate) * x) ** power)), dtype=np.float64)


def _exponential(x: Array, log_rate: float) -> Array:
    return _stretched_exponential(x, log_rate, 1.0)


def _hill(x: Array, log_rate: float, power: float) -> Array:
    return np.asarray(1.0 / (1.0 + (np.exp(log_rate) * x) ** power), dtype=np.float64)


_RATE, _RATE_BOUNDS = np.log(np.geomspace(0.3, 100.0, 6)), (float(np.log(0.03)), float(np.log(3e3)))
_SHAPE, _SHAPE_BOUNDS = np.array([0.3, 0.6, 1.0, 1.6]), (0.1, 3.0)
_SHIFT, _SHIFT_BOUNDS = np.log([0.003, 0.03, 0.3]), (float(np.log(1e-4)), float(np.log(3.0)))

_FAMILIES: tuple[tuple[Callable[..., Array], tuple[Array, ...], Bounds], ...] = (
    (_log, (), ()),
    (_power, (_ALPHA,), (_ALPHA_BOUNDS,)),
    (_shifted_power, (_ALPHA[::2], _SHIFT), (_ALPHA_BOUNDS, _SHIFT_BOUNDS)),
    (_exponential, (_RATE,), (_RATE_BOUNDS,)),
    (_stretched_exponential, (_RATE, _SHAPE), (_RATE_BOUNDS, _SHAPE_BOUNDS)),
    (_hill, (_RATE, _SHAPE), (_RATE_BOUNDS, _SHAPE_BOUNDS)),
)
