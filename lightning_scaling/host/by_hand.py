"""Manual optimization: how often a module steps its optimizers and schedulers, which only the run so far shows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from lightning_scaling.host.calendar import Calendar

Habit = Literal["step", "epoch"]

#: Batches after which the optimizer steps per batch are taken to be known.
ENOUGH = 10


class Rhythm:
    """Optimizer steps per batch, and per step that the Trainer counts, from the run so far.

    Both are taken between two optimizer steps, so that a regular rhythm is found as it is, wherever one looks.

    Args:
        marks: `marks` of an earlier session of this run.

    Attributes:
        marks: Optimizer steps, batches and the Trainer's steps at the start and at the latest look.
    """

    def __init__(self, marks: Iterable[Sequence[int]] = ()) -> None:
        self.marks = [list(mark) for mark in marks]

    def note(self, trainer: Any, step: int) -> None:
        """Look at a run that begins, or whose latest batch has ended with an optimizer step."""
        batches = int(trainer.fit_loop.epoch_loop.batch_progress.total.processed)
        self.marks = [*self.marks[:1], [step, batches, int(trainer.global_step)]]

    @property
    def per_batch(self) -> float | None:
        """Optimizer steps per batch [1], None before `ENOUGH` batches."""
        return self._ratio(1)

    @property
    def per_count(self) -> float | None:
        """Optimizer steps per step of the Trainer's count, to which each optimizer adds its own [1]."""
        return self._ratio(2)

    def _ratio(self, of: int) -> float | None:
        if len(self.marks) < 2:
            return None
        (first, latest), more = self.marks, [b - a for a, b in zip(*self.marks, strict=True)]
        return more[0] / more[of] if latest[1] - first[1] >= ENOUGH and min(more) > 0 else None


def habit(trainer: Any, scheduler: Any, step: int) -> Habit | None:
    """Return how often a module steps a scheduler by hand: as often as its optimizer, or once per epoch.

    Args:
        trainer: A Trainer between two batches.
        scheduler: The scheduler.
        step: Optimizer steps done [steps].

    Returns:
        None where it is stepped in another way, or not yet.
    """
    taken = steps_taken(scheduler)
    if not taken:
        return None
    if abs(taken - step) <= max(1, step // 100):  # its step may come later in the batch, or be left out now and then
        return "step"
    calendar = Calendar.of(trainer)
    return "epoch" if calendar.epoch - (calendar.batch == 0) <= taken <= calendar.epoch else None


def steps_taken(scheduler: Any) -> int:
    """Return how often a scheduler of torch has been stepped, 0 where it does not say."""
    return max(int(getattr(scheduler, "last_epoch", 0)), 0)
