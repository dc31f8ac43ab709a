"""The forecasts of `lightning_scaling` as a method of the benchmark."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from benchmarks.curves import Task
from benchmarks.predictions import PROBABILITIES, Prediction
from benchmarks.scores import INTERVAL_LEVELS
from lightning_scaling import Forecast, LossCurve, forecast

Array = NDArray[np.float64]

NAME = "lightning_scaling"

# How far beyond its widest interval, in widths of it, the distribution is read.
_REACH = 2.0


def ours(task: Task) -> Prediction:
    """Forecast the loss at the end of the run from the bare curve and, where it was logged, the learning rate.

    The time is that of one call of `forecast`. Where the package declines to show a number, the last value stands in
    and the forecast is counted as failed.
    """
    curve = LossCurve(task.S, task.L)
    start = perf_counter()
    result = forecast(curve, horizon=task.T, lr_schedule=task.rates, level=INTERVAL_LEVELS[-1])
    seconds = perf_counter() - start
    verdict = result.verdict.name
    mid = float(result.final_loss.mid)
    if not math.isfinite(mid):
        return Prediction(task.last_value, failed=True, verdict=verdict, seconds=seconds)
    others = [forecast(curve, horizon=task.T, lr_schedule=task.rates, level=level) for level in INTERVAL_LEVELS[:-1]]
    return replace(Prediction(mid, _quantiles([*others, result])), verdict=verdict, seconds=seconds)


def _quantiles(results: list[Forecast]) -> Array | None:
    """Return the 99 quantiles: the published intervals where there is one, the predictive CDF in between."""
    widest = results[-1].final_loss
    low, high = float(widest.low), float(widest.high)
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    if high <= low:
        return np.full(PROBABILITIES.size, low)
    reach = _REACH * (high - low)

    quantiles = _tabulated(results[-1].probability_below, low - reach, high + reach)
    # What a user is shown is what is scored: the ends and the middle of the intervals override the tabulated CDF.
    for result, level in zip(results, INTERVAL_LEVELS, strict=True):
        for probability, value in ((0.5 - level / 2, result.final_loss.low), (0.5 + level / 2, result.final_loss.high)):
            quantiles[int(np.abs(PROBABILITIES - probability).argmin())] = float(value)
    quantiles[PROBABILITIES.size // 2] = float(widest.mid)
    return np.maximum.accumulate(quantiles)


def _tabulated(cdf: Callable[[float], float], low: float, high: float, n_points: int = 33) -> Array:
    """Invert a smooth CDF that is dear to call: tabulate it evenly, then where it rises, and interpolate in between.

    Interpolation is linear in the normal quantile of the probability, which is exact for a normal distribution.
    """
    coarse = np.linspace(low, high, n_points)
    crowded = _inverse(np.linspace(0.002, 0.998, n_points), coarse, _increasing(cdf, coarse))
    x = np.unique(np.concatenate([[low], crowded, [high]]))
    return _inverse(PROBABILITIES, x, _increasing(cdf, x))


def _increasing(cdf: Callable[[float], float], x: Array) -> Array:
    return np.maximum.accumulate(np.array([cdf(float(value)) for value in x]))


def _inverse(probability: Array, x: Array, p: Array) -> Array:
    z = ndtri(np.clip(p, 1e-12, 1.0 - 1e-12))
    rising = np.concatenate([[True], np.diff(z) > 0.0])
    return np.asarray(np.interp(ndtri(probability), z[rising], x[rising]), dtype=np.float64)
