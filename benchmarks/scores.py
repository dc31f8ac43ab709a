"""Score one forecast against what happened.

The truth is a mean of noisy losses over the last 2 % of a run, a forecast is one of the expected loss at its end: the
noise of that mean (about .01 nats for raw step losses) is charged to every method alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from benchmarks.curves import Task
from benchmarks.predictions import N_QUANTILES, PROBABILITIES, Prediction

INTERVAL_LEVELS = (0.5, 0.8, 0.9)
ERROR_FLOOR_SHARE = 0.02
ERROR_CUT = 5.0


def error_unit(truth: float, last_value: float, initial: float) -> float:
    r"""Return what an error is divided by: 1 is then no better than looking at the curve.

    .. math:: \max(|last - truth|, 0.02 |initial - truth|)

    Args:
        truth: Mean loss over the last 2 % of the run.
        last_value: Mean loss over the last 5 % of the prefix.
        initial: First loss logged.

    Example:
        >>> error_unit(truth=2.0, last_value=3.0, initial=10.0), round(error_unit(2.0, 2.01, 10.0), 6)
        (1.0, 0.16)
    """
    return max(abs(last_value - truth), ERROR_FLOOR_SHARE * abs(initial - truth))


def cut_ratio(error: float, unit: float) -> float:
    """Return ``error / unit``, cut at 5; a curve that is flat from start to end counts 0 or 5.

    Example:
        >>> cut_ratio(0.5, 1.0), cut_ratio(50.0, 1.0)
        (0.5, 5.0)
    """
    if unit == 0.0:
        return 0.0 if error == 0.0 else ERROR_CUT
    return min(ERROR_CUT, error / unit)


def interval_score(low: float, high: float, truth: float, level: float) -> float:
    """Return the width plus 2/(1 - level) times the distance by which the truth lies outside (less is better).

    Source: Gneiting & Raftery 2007, Eq. 43.

    Example:
        >>> round(interval_score(1.0, 2.0, 2.5, level=0.9), 6)
        11.0
    """
    outside = max(low - truth, 0.0) + max(truth - high, 0.0)
    return high - low + 2.0 / (1.0 - level) * outside


def crps(prediction: Prediction, truth: float) -> float:
    """Return the continuous ranked probability score, in the unit of the loss (less is better).

    Twice the quantile loss, averaged over the 99 quantiles: within 1 % of the integral for a normal distribution.
    Without a distribution the forecast is a point, whose CRPS is its absolute error.
    """
    if prediction.quantiles is None:
        return abs(prediction.mid - truth)
    excess = truth - prediction.quantiles
    quantile_loss = np.where(excess >= 0.0, PROBABILITIES * excess, (PROBABILITIES - 1.0) * excess)
    # The trapezoid rule on [0, 1]; the integrand is taken as zero at both ends, where it vanishes for normal tails.
    return float(2.0 * quantile_loss.sum() / (N_QUANTILES + 1.0))


def pit(prediction: Prediction, truth: float) -> float:
    """Return the forecast probability of a value at most the truth, cut to .005 and .995: even if calibrated."""
    if prediction.quantiles is None:
        return math.nan
    below = np.searchsorted(prediction.quantiles, truth, side="left")
    if below in (0, N_QUANTILES):
        return 0.005 if below == 0 else 0.995
    return float(np.interp(truth, prediction.quantiles, PROBABILITIES))


@dataclass(frozen=True)
class Score:
    """One forecast of one task, scored. Losses are in the curve's own unit (nats for language models).

    Attributes:
        unit: What the normalised figures are divided by: the miss of the last value, floored.
        low: Lower ends of the 50, 80 and 90 % intervals, NaN where the method has none.
        high: Upper ends.
        pit: Forecast probability of a value at most the truth.
        failed: The last value stands in for the method.
    """

    method: str
    curve: str
    group: str
    domain: str
    schedule: str
    horizon_known: bool
    fraction: float
    n_points: int
    T: int
    truth: float
    mid: float
    unit: float
    crps: float
    pit: float
    low: tuple[float, ...]
    high: tuple[float, ...]
    seconds: float
    failed: bool
    verdict: str

    @property
    def bias(self) -> float:
        """Signed error of the median: positive is too high."""
        return self.mid - self.truth

    @property
    def error(self) -> float:
        """Absolute error of the median."""
        return abs(self.bias)

    @property
    def normalised_error(self) -> float:
        """Error in units of the last value's miss, cut at 5."""
        return cut_ratio(self.error, self.unit)

    @property
    def normalised_crps(self) -> float:
        """CRPS in the same unit, cut at 5."""
        return cut_ratio(self.crps, self.unit)

    @property
    def has_interval(self) -> bool:
        """True if the method gave a distribution."""
        return math.isfinite(self.low[0])

    def covers(self, level: float) -> float:
        """Return 1 if the interval of that level holds the truth, 0 if not, NaN without an interval."""
        i = INTERVAL_LEVELS.index(level)
        return float(self.low[i] <= self.truth <= self.high[i]) if self.has_interval else math.nan

    def width(self, level: float) -> float:
        """Return the width of the interval of that level, NaN without one."""
        i = INTERVAL_LEVELS.index(level)
        return self.high[i] - self.low[i]

    def normalised_width(self, level: float) -> float:
        """Return the width in units of the last value's miss, cut at 5."""
        return cut_ratio(self.width(level), self.unit) if self.has_interval else math.nan

    def interval_score(self, level: float) -> float:
        """Return the interval score of that level, NaN without an interval."""
        i = INTERVAL_LEVELS.index(level)
        return interval_score(self.low[i], self.high[i], self.truth, level) if self.has_interval else math.nan


def score(task: Task, method: str, prediction: Prediction, seconds: float) -> Score:
    """Score a prediction of a task."""
    ends = [prediction.interval(level) for level in INTERVAL_LEVELS]
    curve = task.curve
    return Score(
        method=method,
        curve=curve.id,
        group=curve.group,
        domain=curve.domain,
        schedule=curve.schedule,
        horizon_known=curve.horizon_known,
        fraction=task.fraction,
        n_points=len(task.S),
        T=task.T,
        truth=task.truth,
        mid=prediction.mid,
        unit=error_unit(task.truth, task.last_value, task.initial),
        crps=crps(prediction, task.truth),
        pit=pit(prediction, task.truth),
        low=tuple(low for low, _ in ends),
        high=tuple(high for _, high in ends),
        seconds=seconds if prediction.seconds is None else prediction.seconds,
        failed=prediction.failed,
        verdict=prediction.verdict,
    )
