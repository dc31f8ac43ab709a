"""Course: the plan of a run, held against what happens and made anew where it no longer holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from lightning_scaling.host.by_hand import Habit, Rhythm, habit
from lightning_scaling.host.horizon import PlannedEnd, planned_end
from lightning_scaling.host.losses import Losses
from lightning_scaling.host.pace import TOLERANCE, Pace
from lightning_scaling.host.plan import Plan, make_plan, past_rates
from lightning_scaling.host.settings import Settings
from lightning_scaling.units import thousands


class Course:
    """Where a run ends and with which learning rates, as far as can be told; its losses are planned with it.

    Args:
        settings: What the user has given goes before what is found.
        losses: The losses of the run.
        state: What an earlier session of this run left, nothing where there was none.

    Attributes:
        plan: The newest plan, without its rates: one number per step of the run is not kept.
    """

    def __init__(self, settings: Settings, losses: Losses, state: Mapping[str, Any]) -> None:
        self.plan = Plan(PlannedEnd(None, "not planned yet"), None, "")
        self._settings = settings
        self._losses = losses
        self._distrust = int(state.get("distrust", 0))  # how often the rate in use was not the planned one
        self._batches: int | None = state.get("batches")  # per epoch, as counted in the last one
        self._by_time: int | None = state.get("by_time")  # where max_time will end the run, as far as can be told
        self._pace = Pace()
        self._rhythm = Rhythm(state.get("rhythm", ()))
        self._habits: list[Habit | None] = []  # how often the schedulers are stepped by hand

    @property
    def ends_by_time(self) -> bool:
        """Whether ``max_time`` ends the run."""
        return self._by_time is not None

    @property
    def is_estimated(self) -> bool:
        """Whether the planned end is an estimate from the rhythm of manual optimization."""
        return bool(self._rhythm.marks) and self._settings.horizon is None and self.plan.end.step is not None

    def begin(self, trainer: Any, pl_module: Any, step: int) -> None:
        """Plan a run that begins or goes on after a step; one that cannot be planned is recorded all the same."""
        try:
            if not pl_module.automatic_optimization:
                if not self._rhythm.marks:
                    self._rhythm.note(trainer, step)
                self._habits = _habits(trainer, step)
            self._make(trainer, pl_module, step)
        except Exception as error:  # other ranks count on this one
            self.plan = Plan(PlannedEnd(None, f"{type(error).__name__}: {error}"), None, "")

    def count_epoch(self, trainer: Any) -> None:
        """Take the length of the epoch that has just ended, in batches."""
        self._batches = int(trainer.fit_loop.epoch_loop.batch_progress.current.processed)

    def follow_end(self, trainer: Any, pl_module: Any, step: int) -> bool:
        """Plan anew if the planned end has moved; return whether it has."""
        if self._settings.horizon is not None:
            return False
        end = planned_end(trainer, step=step, batches=self._batches, by_time=self._by_time, rhythm=self._rhythm).step
        known = self.plan.end.step
        if pl_module.automatic_optimization or known is None or end is None:
            moved: bool = end != known
        else:  # an estimate: one that is nearly right is kept, and a run that is over has no new one
            moved = end > step and (step >= known or abs(end - known) > TOLERANCE * known)
        if moved:
            self._make(trainer, pl_module, step)
        return moved

    def follow_clock(self, trainer: Any, pl_module: Any, step: int) -> str:
        """Where ``max_time`` ends the run, estimate the end anew; one that is nearly right is kept.

        Returns:
            What is to be said of it, nothing after the first time.
        """
        if self._settings.horizon is not None:
            return ""
        known, found = self._by_time, self._pace.end(trainer, step)
        if found is None or (known is not None and step < known and abs(found - known) <= TOLERANCE * known):
            return ""
        self._by_time = max(found, step + 1)
        moved = self.follow_end(trainer, pl_module, step)
        return f"Step {thousands(step)}: {self.plan}." if moved and known is None else ""

    def follow_hand(self, trainer: Any, pl_module: Any, step: int) -> str:
        """After a step of manual optimization, plan anew if it is in another rhythm than was planned with.

        Returns:
            What is to be said of it, nothing where the plan is known no better than before.
        """
        if pl_module.automatic_optimization:
            return ""
        self._rhythm.note(trainer, step)
        habits, known = _habits(trainer, step), self.plan.end.step
        changed, self._habits = habits != self._habits, habits
        if not self.follow_end(trainer, pl_module, step) and changed:
            self._make(trainer, pl_module, step)
        return f"Step {thousands(step)}: {self.plan}." if known is None and self.plan.end.step is not None else ""

    def follow_rate(self, trainer: Any, pl_module: Any, step: int) -> str:
        """Hold the rate in use against the planned one; plan again once, then believe no plan any more.

        A rate that changes without a scheduler is set by hand: there is no second plan.

        Returns:
            What is to be said of it, nothing where the rate is as planned.
        """
        steps = self._losses.steps
        lr, at = steps.recorder.lr, steps.recorder.step
        if lr is None or self._settings.rates is not None or steps.live.keeps_promise(at, lr):
            return ""
        self._distrust += 1 if trainer.lr_scheduler_configs else 2  # without a scheduler it was set by hand
        self._make(trainer, pl_module, step, trust_plan=False)
        return f"Step {thousands(at)}: the learning rate left its schedule; now: {self.plan}."

    def settle(self, step: int) -> None:
        """Take a step as the end: the time is up, and what was an estimate is known now."""
        live = self._losses.steps.live
        live.plan(step, past_rates(step, live.schedule, live.peak, self._losses.steps.curve(None)), step=step)
        self._losses.metric.live.adopt(live)

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers."""
        return {"distrust": self._distrust, "batches": self._batches, "by_time": self._by_time} | (
            {"rhythm": self._rhythm.marks} if self._rhythm.marks else {}
        )

    def _make(self, trainer: Any, pl_module: Any, step: int, *, trust_plan: bool = True) -> None:
        steps = self._losses.steps
        past = past_rates(step, steps.live.schedule if trust_plan else None, steps.live.peak, steps.curve(None))
        plan = make_plan(
            trainer,
            pl_module,
            self._settings,
            step=step,
            past=past,
            batches=self._batches,
            by_time=self._by_time,
            rhythm=self._rhythm,
        )
        if self._distrust > 1:
            why = "the one in use is not the scheduler's" if trainer.lr_scheduler_configs else "it is set by hand"
            plan = Plan(plan.end, None, f"learning rate ahead not known ({why}; give lr_schedule=…)")
        steps.live.plan(plan.end.step, plan.rates, step=steps.recorder.step)
        self._losses.metric.live.adopt(steps.live)
        self.plan = replace(plan, rates=None)


def _habits(trainer: Any, step: int) -> list[Habit | None]:
    return [habit(trainer, config.scheduler, step) for config in trainer.lr_scheduler_configs]
