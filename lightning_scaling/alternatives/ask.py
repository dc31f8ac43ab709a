"""What else could be done with a run: let the learning rate fall now, or train for longer."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.alternatives.alternative import Alternative, Price, compare
from lightning_scaling.curve import LossCurve
from lightning_scaling.finished import FinishedRun
from lightning_scaling.forecast import Forecast, Store, forecast
from lightning_scaling.schedule import LRSchedule

__all__ = ["decay_now", "longer"]

FloatArray = NDArray[np.float64]

#: Length of a decay where none is given, as a share of the steps done: a sixth of the run that ends with it.
_DECAY = 0.2
#: Multiples of the planned end beyond this are no plan.
_MOST_TIMES = 1e6
#: Most blocks in which a decay is held.
_BLOCKS = 128


def decay_now(
    curve: LossCurve,
    horizon: int,
    lr_schedule: ArrayLike | LRSchedule | None = None,
    *,
    decay_steps: int | None = None,
    price: Price | None = None,
    level: float = 0.9,
    store: Store | Iterable[FinishedRun] | None = None,
    planned: Forecast | None = None,
) -> Alternative:
    """Forecast the loss if the learning rate began to fall now, beside the loss at the planned end.

    The rate goes from what it is linearly to zero, and there the run ends; its past is kept as it was. This is the
    question of runs at a constant rate and of those that hold it before a decay (WSD); any other schedule may ask it.
    What a decay brings that the run has not shown is known from other runs only (verdict `before decay`).

    Args:
        curve: The run so far.
        horizon: Planned last optimizer step [steps].
        lr_schedule: Learning rate of steps 1..horizon [any unit], shape (horizon,), or an LRSchedule; None: the present
            rate is held.
        decay_steps: Length of the decay [steps]; default: 20 % of the steps done, in two digits, at most the steps
            that are left.
        price: What a step costs; default: gains are told in steps only.
        level: Probability of the intervals, between 0 and 1.
        store: Finished runs to borrow from, as in `forecast`.
        planned: The forecast of this curve as planned, where it is there already; default: it is made.

    Returns:
        Both forecasts and what lies between them; the verdicts of the forecasts say what it is worth.

    Raises:
        TypeError: If the curve or the price is of the wrong kind, or a number of steps is none.
        ValueError: If the run has not begun, is over, or has come to a rate of 0; and as in `forecast`.

    Example:
        >>> S = np.arange(1, 5001)
        >>> curve = LossCurve(S=S, L=2.0 + 6.0 * S**-0.5)
        >>> found = decay_now(curve, 20_000, [1.0] * 20_000, price=Price(seconds_per_step=0.36))
        >>> found.other.horizon, found.steps, round(found.hours, 2)
        (6000, -14000, -1.4)
    """
    schedule = _schedule(curve, horizon, lr_schedule)
    step, left = curve.step, horizon - curve.step
    if not len(curve) or left < 1:
        raise ValueError(
            f"Expected a run between its first and its last step, got step {step} of {horizon}, so there is no rate "
            "to let fall."
        )
    if decay_steps is None:
        decay_steps = min(max(_two_digits(_DECAY * step), 1), left)
    _require_steps("decay_steps", decay_steps)
    rate = float(schedule.rate_at(step))
    if rate <= 0.0:
        raise ValueError(f"Expected a learning rate above 0 at step {step}, got 0, so there is none to let fall.")
    edges = np.unique(np.round(np.linspace(0.0, decay_steps, min(decay_steps, _BLOCKS) + 1)))
    falling = rate * (1.0 - 0.5 * (edges[1:] + edges[:-1]) / decay_steps)
    decayed = _branched(schedule, step, step + edges, falling, known=True)
    planned = _planned(planned, curve, horizon, schedule, level, store)
    other = forecast(curve, horizon=decayed.horizon, lr_schedule=decayed, level=level, store=store)
    return compare("decay now", planned, other, schedule, decay_steps=decay_steps, price=price)


def longer(
    curve: LossCurve,
    horizon: int,
    lr_schedule: ArrayLike | LRSchedule | None = None,
    times: float = 2.0,
    *,
    price: Price | None = None,
    level: float = 0.9,
    store: Store | Iterable[FinishedRun] | None = None,
    planned: Forecast | None = None,
) -> Alternative:
    """Forecast the loss at a multiple of the planned steps, beside the loss at the planned end.

    The rest of the schedule is stretched up to the new end; its past is kept as it was.

    Args:
        curve: The run so far.
        horizon: Planned last optimizer step [steps].
        lr_schedule: Learning rate of steps 1..horizon [any unit], shape (horizon,), or an LRSchedule; None: the present
            rate is held.
        times: New last step as a multiple of the planned one [1]; below 1 it is shorter.
        price: What a step costs; default: gains are told in steps only.
        level: Probability of the intervals, between 0 and 1.
        store: Finished runs to borrow from, as in `forecast`; with one, the curve may be empty.
        planned: The forecast of this curve as planned, where it is there already; default: it is made.

    Returns:
        Both forecasts and what lies between them; the verdicts of the forecasts say what it is worth.

    Raises:
        TypeError: If the curve or the price is of the wrong kind, or a number is none.
        ValueError: If the run is over, or the new end is the planned one or not after the last step; and as in
            `forecast`.

    Example:
        >>> S = np.arange(1, 5001)
        >>> curve = LossCurve(S=S, L=2.0 + 6.0 * S**-0.5)
        >>> found = longer(curve, 10_000, [1.0] * 10_000)
        >>> found.steps, round(found.other.final_loss.mid, 2), round(-found.difference.mid, 2)
        (10000, 2.04, 0.02)
    """
    schedule = _schedule(curve, horizon, lr_schedule)
    step, left = curve.step, horizon - curve.step
    if left < 1:
        raise ValueError(f"Expected a run before its last step, got step {step} of {horizon}, so there is no rest.")
    end = _new_end(times, horizon, step)
    here = int(np.searchsorted(schedule.edges, step, side="right")) - 1  # the block that holds the next step
    edges = np.concatenate(([float(step)], schedule.edges[here + 1 :]))
    edges = step + (edges - step) * ((end - step) / left)
    edges[-1] = end
    stretched = _branched(schedule, step, edges, schedule.rates[here:], known=schedule.known)
    planned = _planned(planned, curve, horizon, schedule, level, store)
    other = forecast(curve, horizon=end, lr_schedule=stretched, level=level, store=store)
    return compare("longer" if end > horizon else "shorter", planned, other, schedule, price=price)


def _schedule(curve: LossCurve, horizon: int, lr_schedule: ArrayLike | LRSchedule | None) -> LRSchedule:
    """Return the planned schedule; what else is wrong with the arguments, `forecast` says."""
    if not isinstance(curve, LossCurve):
        raise TypeError(f"Expected curve to be a LossCurve, got {type(curve).__name__}. Build LossCurve(S=…, L=…).")
    _require_steps("horizon", horizon)
    if isinstance(lr_schedule, LRSchedule):
        schedule = lr_schedule
    elif lr_schedule is None:
        schedule = LRSchedule.of_past(curve.S, curve.lr, max(horizon, curve.step))
    else:
        schedule = LRSchedule.from_array(lr_schedule)
    if schedule.horizon != horizon or curve.step > horizon:
        raise ValueError(
            f"Expected a run of {horizon} steps, got a schedule of {schedule.horizon} and a curve up to {curve.step}. "
            "Give one learning rate per optimizer step up to the horizon."
        )
    return schedule


def _planned(
    planned: Forecast | None,
    curve: LossCurve,
    horizon: int,
    schedule: LRSchedule,
    level: float,
    store: Store | Iterable[FinishedRun] | None,
) -> Forecast:
    if planned is None:
        return forecast(curve, horizon=horizon, lr_schedule=schedule, level=level, store=store)
    if (planned.step, planned.horizon, planned.level) != (curve.step, horizon, level):
        raise ValueError(
            f"Expected planned to be the forecast at step {curve.step} of {horizon} at level {level}, got one at step "
            f"{planned.step} of {planned.horizon} at {planned.level}, so leave it out."
        )
    return planned


def _branched(schedule: LRSchedule, step: int, edges: FloatArray, rates: FloatArray, *, known: bool) -> LRSchedule:
    """Return the schedule up to a step, and from there on other blocks, of which ``edges`` begins with that step."""
    # A block of many steps at the start would pass for a warm-up, so the first step is one by itself.
    past = np.unique(np.concatenate((schedule.edges, [1.0])))
    past = past[past < step]
    before = schedule.rates[np.searchsorted(schedule.edges, past, side="right") - 1]
    return LRSchedule(np.concatenate((past, edges)), np.concatenate((before, rates)), known)


def _new_end(times: Any, horizon: int, step: int) -> int:
    if isinstance(times, bool) or not isinstance(times, Real):
        raise TypeError(f"Expected times to be a number, got {times!r}, so give 2.0 for twice the steps.")
    end = round(float(times) * horizon) if abs(float(times)) < _MOST_TIMES else 0
    if end <= step or end == horizon:
        raise ValueError(
            f"Expected times to lead to another end than {horizon}, after step {step}, got {times!r}, so give 2.0 for "
            "twice the steps."
        )
    return end


def _two_digits(x: float) -> int:
    return round(float(f"{x:.1e}"))


def _require_steps(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"Expected {name} to be a number of steps, got {value!r}, so give an int.")
    if value < 1:
        raise ValueError(f"Expected {name} to be at least 1, got {value!r}, so give a number of steps.")
