"""LoopCourse: the plan of a loop without a Trainer, held against the learning rates in use."""

from __future__ import annotations

from dataclasses import replace

from torch.optim.lr_scheduler import LRScheduler

from lightning_scaling.describe import describe_rates
from lightning_scaling.host.by_hand import steps_taken
from lightning_scaling.host.horizon import PlannedEnd
from lightning_scaling.host.plan import Plan, scheduler_plan
from lightning_scaling.host.settings import Settings
from lightning_scaling.live import LiveForecast
from lightning_scaling.recording.recorder import CurveRecorder
from lightning_scaling.units import thousands


class LoopCourse:
    """With which learning rates a loop gets to its end, as far as can be told; its loss is planned with it.

    Args:
        settings: What the user has given.
        scheduler: What is stepped once after each optimizer step, None where there is nothing.
        recorder: The losses, and the rates that were used.
        live: Their forecasts.

    Attributes:
        plan: The newest plan, without its rates: one number per step of the run is not kept.
        distrust: How often the rate in use was not the planned one.
    """

    def __init__(
        self, settings: Settings, scheduler: LRScheduler | None, recorder: CurveRecorder, live: LiveForecast
    ) -> None:
        self.distrust = 0
        self._settings = settings
        self._scheduler = scheduler
        self._recorder = recorder
        self._live = live
        self.plan = self._made(0)

    def renew(self, step: int) -> None:
        """Plan anew, as the run and its scheduler stand after a step."""
        self.plan = self._made(step)

    def follow_rate(self, now: int) -> str:
        """Hold the rate in use against the planned one; plan again once, then believe no plan any more.

        Args:
            now: Optimizer steps done, of which not all need have been fetched [steps].

        Returns:
            What is to be said of it, nothing where the rate is as planned.
        """
        lr, step = self._recorder.lr, self._recorder.step
        if lr is None or self._scheduler is None or self._live.keeps_promise(step, lr):
            return ""
        self.distrust += 1
        self.renew(now)
        return f"Step {thousands(step)}: the learning rate left its schedule; now: {self.plan}."

    def _made(self, now: int) -> Plan:
        """Find the learning rates from what was given, and plan with them."""
        horizon, live = self._settings.horizon, self._live
        end = PlannedEnd(horizon, "none was given" if horizon is None else "as given")
        unknown = "learning rate ahead not known"
        if self._settings.rates is not None:
            plan = Plan(end, self._settings.rates, describe_rates(self._settings.rates))
        elif self._scheduler is None:
            plan = Plan(end, None, f"{unknown} (give lr_schedule=…)")
        elif self.distrust > 1 or (self.distrust and abs(steps_taken(self._scheduler) - now) > 1):
            plan = Plan(end, None, f"{unknown} (that in use is not of a scheduler stepped once per optimizer step)")
        else:
            curve = self._recorder.builder.curve()
            plan = scheduler_plan(self._scheduler, end, None if self.distrust else live.schedule, live.peak, curve)
        live.plan(horizon, plan.rates, step=self._recorder.step)
        return replace(plan, rates=None)
