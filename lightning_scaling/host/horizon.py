"""The planned end of a run in optimizer steps, as far as the Trainer's settings tell."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from lightning_scaling.host.by_hand import ENOUGH, Rhythm
from lightning_scaling.host.calendar import Calendar
from lightning_scaling.host.pace import time_limit

#: Lightning's stand-in for "nobody said how long": max_epochs when neither max_epochs nor max_steps was given.
DEFAULT_EPOCHS = 1000


@dataclass(frozen=True)
class PlannedEnd:
    """The optimizer step at which a run will end, or why that is not known.

    Args:
        step: Last optimizer step [steps], None where it is not known.
        why: Where the number comes from, or what is missing.
    """

    step: int | None
    why: str


def planned_end(
    trainer: Any,
    *,
    step: int = 0,
    batches: int | None = None,
    by_time: int | None = None,
    rhythm: Rhythm | None = None,
) -> PlannedEnd:
    """Find the planned end of a run; call it between two batches, on every rank.

    ``Trainer.estimated_stepping_batches`` is not used: it is too high after a stop inside an epoch, ignores changes of
    the gradient accumulation, and answers -1 for data without a length.

    Args:
        trainer: A Trainer whose training data is set up (``on_train_start`` or later).
        step: Optimizer steps done so far [steps].
        batches: Batches per epoch where they were counted in an earlier epoch and the data has no length.
        by_time: Estimate of the step at which ``max_time`` will end the run [steps], None where there is none yet.
        rhythm: How often manual optimization steps.

    Returns:
        The end by ``max_steps``, ``max_epochs`` or the estimate for ``max_time``, whichever comes first. Unknown are an
        end by ``max_time`` alone before there is an estimate, manual optimization before it has shown its rhythm, data
        without a length before its first epoch has passed, and exactly 1000 epochs, which is what Lightning assumes
        when nothing was said.
    """
    module = trainer.lightning_module
    if module is None or module.automatic_optimization:
        end = _by_counts(trainer, step, batches)
    else:
        end = _by_rhythm(trainer, step, batches, rhythm)
    if time_limit(trainer) is None:
        return end
    if by_time is not None and (end.step is None or by_time < end.step):
        return PlannedEnd(by_time, "max_time, estimated from the pace so far")
    if end.step is None:
        return PlannedEnd(None, "max_time: it is estimated once some steps have been timed")
    return PlannedEnd(end.step, f"{end.why}; max_time may end it earlier")


def _by_counts(trainer: Any, step: int, batches: int | None) -> PlannedEnd:
    """Find the end by ``max_steps`` or ``max_epochs``, whichever comes first."""
    calendar = Calendar.of(trainer, batches)
    by_steps: int | None = None
    if trainer.max_steps is not None and trainer.max_steps >= 0:
        by_steps = int(trainer.max_steps)
    return _sooner(trainer, by_steps, calendar, lambda epochs: step + _steps_left(calendar, epochs))


def _by_rhythm(trainer: Any, step: int, batches: int | None, rhythm: Rhythm | None) -> PlannedEnd:
    """Estimate the end of a run in manual optimization, where any batch may step any number of optimizers.

    Lightning counts the step of every optimizer; ours is a batch in which there was one.
    """
    per_batch, per_count = (None, None) if rhythm is None else (rhythm.per_batch, rhythm.per_count)
    if per_batch is None or per_count is None:
        return PlannedEnd(None, f"manual optimization: it is estimated after some {ENOUGH} batches")
    calendar = Calendar.of(trainer, batches)
    by_steps: int | None = None
    if trainer.max_steps is not None and trainer.max_steps >= 0:
        by_steps = step + round(max(trainer.max_steps - trainer.global_step, 0) * per_count)

    def by_epochs(epochs: int) -> int:
        left = max((epochs - calendar.epoch) * (calendar.batches or 0) - calendar.batch, 0)
        return step + round(left * per_batch)

    end = _sooner(trainer, by_steps, calendar, by_epochs)
    return end if end.step is None else PlannedEnd(end.step, f"{end.why}, estimated from the steps per batch so far")


def _sooner(trainer: Any, by_steps: int | None, calendar: Calendar, by_epochs: Callable[[int], int]) -> PlannedEnd:
    """Return the end by ``max_steps`` or that by ``max_epochs``, whichever comes first."""
    epochs = trainer.max_epochs
    if epochs is None or epochs < 0:
        if by_steps is not None:
            return PlannedEnd(by_steps, "max_steps")
        return PlannedEnd(None, "neither max_steps nor max_epochs is set")
    if epochs == DEFAULT_EPOCHS and by_steps is None:
        return PlannedEnd(None, "max_epochs=1000 is what Lightning assumes when nothing is set")

    if calendar.batches is None:
        if by_steps is not None:
            return PlannedEnd(by_steps, "max_steps")
        return PlannedEnd(None, "the training data has no length before its first epoch has passed")
    end = by_epochs(epochs)
    if by_steps is not None and by_steps <= end:
        return PlannedEnd(by_steps, "max_steps")
    return PlannedEnd(end, "max_epochs")


def _steps_left(calendar: Calendar, epochs: int) -> int:
    """Return the optimizer steps from here to the end of the last epoch."""
    if calendar.epoch >= epochs:
        return 0
    left = calendar.steps_in_epoch(calendar.epoch, after=calendar.batch)
    starts = [calendar.epoch + 1, *(first for first, _ in calendar.changes if first > calendar.epoch + 1), epochs]
    for start, stop in pairwise(starts):
        left += max(min(stop, epochs) - start, 0) * calendar.steps_in_epoch(start)
    return left
