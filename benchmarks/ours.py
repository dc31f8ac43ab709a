"""The forecasts of `lightning_scaling` as a method of the benchmark."""

from __future__ import annotations

import math
from dataclasses import replace
from time import perf_counter

import numpy as np
from numpy.typing import NDArray

from benchmarks.curves import Task
from benchmarks.predictions import PROBABILITIES, Prediction
from benchmarks.scores import INTERVAL_LEVELS
from lightning_scaling import Forecast, LossCurve, forecast

Array = NDArray[np.float64]

NAME = "lightning_scaling"


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
    """Return the 99 quantiles: the published intervals where there is one, those of the forecast in between."""
    widest = results[-1].final_loss
    low, high = float(widest.low), float(widest.high)
    if not (math.isfinite(low) and math.isfinite(high)):
        return None
    if high <= low:
        return np.full(PROBABILITIES.size, low)
    mixture = results[-1].mixture_at()
    assert mixture is not None
    quantiles = mixture.quantiles(PROBABILITIES)[:, 0]
    # What a user is shown is what is scored: the ends and the middle of the intervals stand where they are told.
    for result, level in zip(results, INTERVAL_LEVELS, strict=True):
        for probability, value in ((0.5 - level / 2, result.final_loss.low), (0.5 + level / 2, result.final_loss.high)):
            quantiles[int(np.abs(PROBABILITIES - probability).argmin())] = float(value)
    quantiles[PROBABILITIES.size // 2] = float(widest.mid)
    return np.maximum.accumulate(quantiles)
