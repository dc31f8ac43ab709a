"""The plan of a run as one value: where it ends and with which learning rates it gets there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.describe import describe_rates
from lightning_scaling.host.by_hand import Rhythm, steps_taken
from lightning_scaling.host.horizon import PlannedEnd, planned_end
from lightning_scaling.host.lr import rates_ahead, scheduler_rates
from lightning_scaling.host.settings import Settings
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.units import thousands

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Plan:
    """Where a run ends and how its learning rate goes.

    Args:
        end: Planned end, or why it is not known.
        rates: Learning rate of steps 1..end [unit of the optimizer], None where it is not known.
        words: The schedule in words, or why it is not known.
    """

    end: PlannedEnd
    rates: FloatArray | None
    words: str

    def __str__(self) -> str:
        if self.end.step is None:
            return f"planned end not known ({self.end.why}; give horizon=…)"
        return f"{thousands(self.end.step)} steps ({self.end.why}), {self.words}"


def make_plan(
    trainer: Any,
    pl_module: Any,
    settings: Settings,
    *,
    step: int,
    past: FloatArray | None,
    batches: int | None,
    by_time: int | None = None,
    rhythm: Rhythm | None = None,
) -> Plan:
    """Plan a run between two of its batches.

    Args:
        trainer: The Trainer.
        pl_module: Its module.
        settings: What the user has given goes before what is found.
        step: Optimizer steps done [steps].
        past: Learning rate of those steps [unit of the optimizer], None where it was not recorded.
        batches: Batches per epoch where the data has no length and an earlier epoch was counted.
        by_time: Estimate of the step at which ``max_time`` will end the run [steps].
        rhythm: How often manual optimization steps.
    """
    if settings.horizon is not None:
        end = PlannedEnd(settings.horizon, "as given")
    else:
        end = planned_end(trainer, step=step, batches=batches, by_time=by_time, rhythm=rhythm)
    if end.step is None or end.step <= step:
        return Plan(end, None, "no steps ahead")
    if settings.rates is not None:
        return Plan(end, settings.rates, describe_rates(settings.rates))
    per_batch = None if rhythm is None else rhythm.per_batch
    ahead = rates_ahead(trainer, pl_module, end.step - step, batches=batches, step=step, per_batch=per_batch)
    if ahead.rates is None:
        return Plan(end, None, f"learning rate ahead not known ({ahead.why}; give lr_schedule=…)")
    rates = np.concatenate([np.full(step, ahead.rates[0]) if past is None else past, ahead.rates])
    if rates.max() <= 0.0:
        return Plan(end, None, "learning rate ahead not known (it is 0)")
    return Plan(end, rates, describe_rates(rates))


def scheduler_plan(scheduler: Any, end: PlannedEnd, schedule: LRSchedule | None, peak: float, curve: LossCurve) -> Plan:
    """Plan a loop without a Trainer that steps a scheduler of torch once after each optimizer step.

    Args:
        scheduler: The scheduler as it stands between two steps.
        end: The planned end, which is known.
        schedule: An earlier plan, None where there is none or it no longer holds.
        peak: The highest rate of that plan [unit of the optimizer].
        curve: The run so far.
    """
    unknown, horizon, done = "learning rate ahead not known", end.step, steps_taken(scheduler)
    if horizon is None or done >= horizon:
        return Plan(end, None, f"{unknown} (the scheduler has come to its end)")
    ahead = scheduler_rates(scheduler, horizon - done)
    if ahead.rates is None:
        return Plan(end, None, f"{unknown} ({ahead.why})")
    past = past_rates(done, schedule, peak, curve)
    rates = np.concatenate([np.full(done, ahead.rates[0]) if past is None else past, ahead.rates])
    return Plan(end, rates, describe_rates(rates)) if rates.max() > 0.0 else Plan(end, None, f"{unknown} (it is 0)")


def past_rates(step: int, schedule: LRSchedule | None, peak: float, curve: LossCurve) -> FloatArray | None:
    """Return the learning rate of steps 1..step from an earlier plan, or else from what was recorded on the way."""
    if not step:
        return np.empty(0)
    steps = np.arange(1, step + 1)
    if schedule is not None and schedule.horizon >= step:
        return schedule.rate_at(steps) * peak
    if curve.lr is not None and len(curve):
        return np.interp(steps, curve.S, curve.lr)
    return None
