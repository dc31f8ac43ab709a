"""Two futures of a run side by side: what lies between them, in loss, steps, hours and money."""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from lightning_scaling.fit.futures import difference
from lightning_scaling.fit.posterior import Posterior
from lightning_scaling.forecast import Forecast
from lightning_scaling.forecast.readout import interval_of, last_part, unknown
from lightning_scaling.interval import Interval
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.units import thousands

__all__ = ["Alternative", "Price", "compare"]


@dataclass(frozen=True)
class Price:
    """What training costs.

    Args:
        seconds_per_step: Time of an optimizer step, with all that comes with it [s].
        price_per_hour: Price of an hour of all machines together [any money]; None: not known.

    Raises:
        TypeError: If one of them is no number.
        ValueError: If the time is not above 0, or the price is negative; if one is not finite.

    Example:
        >>> price = Price(seconds_per_step=0.5, price_per_hour=4.0)
        >>> price.hours(7_200), price.money(7_200)
        (1.0, 4.0)
    """

    seconds_per_step: float
    price_per_hour: float | None = None

    def __post_init__(self) -> None:
        _require_amount("seconds_per_step", self.seconds_per_step, "above 0", least=1e-12)
        if self.price_per_hour is not None:
            _require_amount("price_per_hour", self.price_per_hour, "not negative", least=0.0)

    def hours(self, steps: float) -> float:
        """Return the time of so many steps [h]."""
        return steps * self.seconds_per_step / 3600.0

    def money(self, steps: float) -> float | None:
        """Return the price of so many steps [the money of the price], None where it is not known."""
        return None if self.price_per_hour is None else self.hours(steps) * self.price_per_hour


@dataclass(frozen=True, eq=False)
class Alternative:
    """What a run would come to in another way, beside what it comes to as planned.

    Attributes:
        name: What is done: ``"decay now"``, ``"longer"`` or ``"shorter"``.
        planned: The forecast of the run as planned.
        other: The forecast of the alternative.
        difference: Final loss of the alternative minus that of the plan [unit of the loss]. The two forecasts go on
            from one present by one law, and that is counted once: it is taken out law by law of the posterior. Only
            what each future may do beside the law is taken as independent, which makes the interval rather too wide.
            Where a forecast is not of that kind (borrowed from other runs, a loss that rises, rates that are not known)
            both are taken as independent altogether, which is wider still, as they err together.
        decay_steps: Length of the decay of `decay_now` [steps], else None.
        price: What a step costs, None where it is not known.
    """

    name: str
    planned: Forecast
    other: Forecast
    difference: Interval
    decay_steps: int | None = None
    price: Price | None = None

    @property
    def usable(self) -> bool:
        """Whether both forecasts are, and there is a difference to speak of."""
        return self.planned.verdict.usable and self.other.verdict.usable and math.isfinite(float(self.difference.mid))

    @property
    def steps(self) -> int:
        """Steps that the alternative takes beyond the plan, negative where it saves some [steps]."""
        return (self.other.horizon or 0) - (self.planned.horizon or 0)

    @property
    def share(self) -> float:
        """Steps that the alternative has before it, as a share of those that the plan has [1]."""
        now = self.planned.step
        return ((self.other.horizon or 0) - now) / max((self.planned.horizon or 0) - now, 1)

    @property
    def hours(self) -> float | None:
        """Time of `steps` [h], None where that of a step is not known."""
        return None if self.price is None else self.price.hours(self.steps)

    @property
    def money(self) -> float | None:
        """Price of `steps` [the money of the price], None where it is not known."""
        return None if self.price is None else self.price.money(self.steps)

    @property
    def gain(self) -> Interval:
        """By how much the longer of the two ends lower [unit of the loss]."""
        return _times(self.difference, -1.0 if self.steps > 0 else 1.0)

    @property
    def gain_per_step(self) -> Interval:
        """What each further step of the longer one buys [unit of the loss per step]; NaN where both are equal."""
        return self._per(self.steps)

    @property
    def gain_per_hour(self) -> Interval | None:
        """What each further hour buys [unit of the loss per hour], None where the time is not known."""
        return None if self.hours is None else self._per(self.hours)

    @property
    def gain_per_money(self) -> Interval | None:
        """What each further unit of money buys [unit of the loss per unit], None where the price is not known."""
        return None if self.money is None else self._per(self.money)

    def _per(self, cost: float) -> Interval:
        return _times(self.gain, 1.0 / abs(cost)) if cost else unknown(self.difference.level)

    def sentence(self) -> str:
        """Return it in one sentence, empty where there is nothing to compare."""
        if not self.usable:
            return ""
        ends = f"would end at {self.other.final_loss.short()}"
        instead = f"instead of {self.planned.final_loss.short()} at the planned end"
        if self.decay_steps is not None:
            share = f"{100.0 * self.share:.0f} % of the {'steps' if self.price is None else 'hours'} still to come"
            what = f"Decaying now over {thousands(self.decay_steps)} steps {ends} {instead}, in {share}"
        else:
            what = f"Training for {thousands(self.other.horizon or 0)} steps {ends} {instead}"
        return f"{what}{self._costs(', ')}."

    def _costs(self, before: str) -> str:
        """Return time and money of the steps between the two, as far as they are known."""
        if self.hours is None:
            return ""
        money = "" if self.money is None else f" and {abs(self.money):.3g} in money"
        return f"{before}{_duration(abs(self.hours))}{money} {'more' if self.steps > 0 else 'less'}"

    def __str__(self) -> str:
        """Return a few lines a person can read."""
        if not self.usable:
            bad = self.other if self.planned.verdict.usable else self.planned
            return f"No comparison ({self.name}): {bad.verdict}. {bad.verdict.why} {bad.verdict.what_to_do}"
        unit = f" {self.planned.unit}" if self.planned.unit else ""
        what = f"Train to step {thousands(self.other.horizon or 0)}"
        if self.decay_steps is not None:
            what = f"Let the learning rate fall now, over {thousands(self.decay_steps)} steps"
        lines = [
            f"{what}: the run should end at {self.other.final_loss}{unit} ({self.other.verdict}).",
            f"As planned, to step {thousands(self.planned.horizon or 0)}: {self.planned.final_loss}{unit} "
            f"({self.planned.verdict}).",
        ]
        steps = f"{thousands(abs(self.steps))} steps {'more' if self.steps > 0 else 'fewer'}"
        higher = float(self.difference.mid) > 0.0
        by = _times(self.difference, 1.0 if higher else -1.0)
        lines.append(f"It ends {by} {'higher' if higher else 'lower'}, with {steps}{self._costs(', ')}.")
        if self.steps:
            rates = [f"{_times(self.gain_per_step, 1000.0).short()} per 1 000 steps"]
            if self.gain_per_hour is not None and self.gain_per_money is not None:
                rates.append(f"{self.gain_per_hour.short()} per hour")
                rates.append(f"{self.gain_per_money.short()} per unit of money")
            elif self.gain_per_hour is not None:
                rates.append(f"{self.gain_per_hour.short()} per hour")
            lines.append(f"What the longer one buys: {', '.join(rates)}.")
        return "\n".join(lines)


def compare(
    name: str,
    planned: Forecast,
    other: Forecast,
    schedule: LRSchedule,
    *,
    decay_steps: int | None = None,
    price: Price | None = None,
) -> Alternative:
    """Return an alternative from both forecasts.

    Args:
        name: What is done.
        planned: The forecast of the run as planned.
        other: The forecast of the alternative.
        schedule: Learning rate of all steps as planned, relative to the peak.
        decay_steps: Length of its decay [steps].
        price: What a step costs.
    """
    if price is not None and not isinstance(price, Price):
        raise TypeError(f"Expected price to be a Price, got {price!r}, so give Price(seconds_per_step=0.5).")
    return Alternative(name, planned, other, _difference(planned, other, schedule), decay_steps, price)


def _difference(planned: Forecast, other: Forecast, schedule: LRSchedule) -> Interval:
    """Return the final loss of the alternative minus that of the plan."""
    x, y, law = other.final_loss, planned.final_loss, other._posterior
    if not math.isfinite(float(x.mid)) or not math.isfinite(float(y.mid)):
        return unknown(x.level)
    if isinstance(law, Posterior) and law.beyond is None and other.horizon and planned.horizon:
        here, there = last_part(other.step, other.horizon), last_part(planned.step, planned.horizon)
        with np.errstate(all="ignore"):
            found = interval_of(difference(law, schedule, here, there), x.level)
        if math.isfinite(float(found.half_width)):
            return found
    mid = float(x.mid) - float(y.mid)
    low = mid - math.hypot(float(x.mid) - float(x.low), float(y.high) - float(y.mid))
    high = mid + math.hypot(float(x.high) - float(x.mid), float(y.mid) - float(y.low))
    return Interval(low, mid, high, x.level)


def _require_amount(name: str, value: Any, what: str, *, least: float) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"Expected {name} to be a number, got {value!r}, so give e.g. 2.5.")
    if not (math.isfinite(value) and float(value) >= least):
        raise ValueError(f"Expected {name} to be finite and {what}, got {value!r}, so give e.g. 2.5.")


def _times(interval: Interval, factor: float) -> Interval:
    low, mid, high = (factor * float(x) for x in (interval.low, interval.mid, interval.high))
    return Interval(min(low, high), mid, max(low, high), interval.level) if mid == mid else interval


def _duration(hours: float) -> str:
    """Return a time in the unit that reads best."""
    for unit, size in (("hours", 1.0), ("minutes", 60.0)):
        if hours * size >= 1.0:
            return f"{hours * size:.3g} {unit}"
    return f"{3600.0 * hours:.2g} seconds"
