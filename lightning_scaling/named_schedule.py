"""Learning rates ahead by name: ``cosine``, ``linear``, ``wsd``, ``constant``; and what the log says of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.units import thousands

__all__ = ["PlannedRates", "as_logged", "named_rates", "planned_rates"]

FloatArray = NDArray[np.float64]

#: Share of the peak by which the logged rates may lie off a named schedule.
_TOLERANCE = 0.05
_HELP = (
    "cosine, cosine:0.1 (ends at 10 % of the peak), linear, linear:0.1, wsd:0.2 (decays over the last 20 %), constant"
)


@dataclass(frozen=True, eq=False)
class PlannedRates:
    """The learning rates of a run, and what was assumed of them.

    Args:
        schedule: Rates of steps 1..horizon; None: not known, so that the present rate is held.
        assumed: What was assumed, in a sentence.
        warnings: Where the log says otherwise.
    """

    schedule: LRSchedule | None
    assumed: str
    warnings: tuple[str, ...] = ()


def named_rates(name: str, horizon: int, warmup: int = 0) -> FloatArray:
    r"""Return the rates of steps 1..horizon of a named schedule, relative to their peak, shape (horizon,).

    After a linear warm-up of W steps, with x = (s - W)/(T - W) and a last rate f:

    .. math:: \text{cosine: } f + \tfrac{1-f}{2} (1 + \cos \pi x), \qquad \text{linear: } 1 - (1 - f)\, x

    and wsd holds the peak until its decay, which is linear.

    Args:
        name: ``cosine[:f]``, ``linear[:f]``, ``wsd[:decay[:f]]`` or ``constant``; the decay is a share of the run
            below 1, or a number of steps; default f = 0, decay = 0.2.
        horizon: Last step T [steps].
        warmup: Steps W of linear warm-up [steps].

    Raises:
        ValueError: If the name is not known, or a number is out of its range.

    Example:
        >>> named_rates("linear", 4).tolist(), named_rates("wsd:0.5", 4, warmup=2).tolist()
        ([0.75, 0.5, 0.25, 0.0], [0.5, 1.0, 0.5, 0.0])
    """
    kind, *rest = name.lower().split(":")
    try:
        numbers = [float(text) for text in rest]
    except ValueError:
        raise ValueError(f"Expected a learning-rate schedule such as {_HELP}, got '{name}', so write it so.") from None
    most = {"constant": 0, "cosine": 1, "linear": 1, "wsd": 2}.get(kind, -1)
    if len(numbers) > most or any(not np.isfinite(x) or x < 0.0 for x in numbers):
        raise ValueError(f"Expected a learning-rate schedule such as {_HELP}, got '{name}', so write it so.")
    if not 0 <= warmup < horizon:
        raise ValueError(f"Expected a warm-up of 0 to {horizon - 1} steps, got {warmup}. Count it in optimizer steps.")
    s = np.arange(1.0, horizon + 1.0)
    x = np.clip((s - warmup) / (horizon - warmup), 0.0, 1.0)
    last = numbers[-1] if numbers and len(numbers) == most else 0.0
    if last > 1.0:
        raise ValueError(f"Expected the last rate as a share of the peak, got {last:g} in '{name}'. Give 0.1 for 10 %.")
    if kind == "cosine":
        rates = last + 0.5 * (1.0 - last) * (1.0 + np.cos(np.pi * x))
    elif kind == "linear":
        rates = 1.0 - (1.0 - last) * x
    elif kind == "wsd":
        decay = numbers[0] if numbers else 0.2
        length = decay * horizon if decay < 1.0 else decay
        rates = 1.0 - (1.0 - last) * np.clip((s - (horizon - length)) / max(length, 1.0), 0.0, 1.0)
    else:
        rates = np.ones(horizon)
    return np.minimum(rates, np.minimum(s / max(warmup, 1), 1.0)) if warmup else rates


def planned_rates(curve: LossCurve, horizon: int, name: str | None, warmup: int = 0) -> PlannedRates:
    """Return the rates of a run: those of the log up to now, those of a named schedule ahead.

    Args:
        curve: The run so far, with the rates that were logged.
        horizon: Last step [steps].
        name: A schedule as `named_rates` takes it; None: the future is not known.
        warmup: Steps of warm-up of the schedule [steps].

    Raises:
        ValueError: If the schedule cannot be understood.
    """
    past = curve.lr
    if name is None:
        if past is None:
            return PlannedRates(None, "No learning rate was logged or given: it is taken to stay as it is.")
        return PlannedRates(None, "The learning rate ahead was not given: it is taken to stay as the log has it last.")
    rates = named_rates(name, horizon, warmup)
    words = f"{name} over {thousands(horizon)} steps{f' after {thousands(warmup)} of warm-up' if warmup else ''}"
    if past is None or not past.max() > 0.0:
        return PlannedRates(LRSchedule.from_array(rates), f"The learning rate is taken to follow {words}.")
    now = np.clip(curve.S, 1.0, horizon).astype(np.int64) - 1
    scale = float(past @ rates[now]) / max(float(rates[now] @ rates[now]), 1e-300)
    off = float(np.abs(past - scale * rates[now]).max()) / max(scale, float(past.max()))
    seen = int(min(curve.step, horizon))
    joined = np.concatenate((np.interp(np.arange(1.0, seen + 1.0), curve.S, past), scale * rates[seen:]))
    assumed = f"The learning rate is that of the log up to now, and taken to follow {words} from here on."
    if off <= _TOLERANCE:
        return PlannedRates(LRSchedule.from_array(joined), assumed)
    warning = (
        f"The logged learning rate lies up to {100.0 * off:.0f} % of its peak off {words}: check schedule, warm-up and "
        "horizon."
    )
    return PlannedRates(LRSchedule.from_array(joined), assumed, (warning,))


def as_logged(curve: LossCurve, horizon: int) -> PlannedRates:
    """Return the rates of a run that is over, as its log has them: before its first entry and after its last they hold.

    Args:
        curve: The whole run.
        horizon: Its last step [steps].
    """
    if curve.lr is None or not curve.lr.max() > 0.0:
        return PlannedRates(None, "No learning rate was logged: at every moment the present one is taken to stay.")
    rates = np.interp(np.arange(1.0, horizon + 1.0), curve.S, curve.lr)
    return PlannedRates(
        LRSchedule.from_array(rates), "The learning rate ahead is taken to have been planned as it was then logged."
    )
