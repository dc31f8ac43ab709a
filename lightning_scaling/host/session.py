"""One fit of a Trainer, from its first batch to its last: what the callback's hooks set in motion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch.distributed as dist

from lightning_scaling.curve import LossCurve
from lightning_scaling.errors import say_warning
from lightning_scaling.host.batch import batch_size, data_ranks
from lightning_scaling.host.horizon import PlannedEnd, planned_end
from lightning_scaling.host.outlets import Outlets
from lightning_scaling.host.plan import Plan, make_plan, past_rates
from lightning_scaling.host.settings import Settings
from lightning_scaling.host.size import describe_size, model_size
from lightning_scaling.host.steps import StepTracker, is_half_precision, logged_step, may_stop
from lightning_scaling.live import METRICS, LiveForecast
from lightning_scaling.recorder import CurveRecorder
from lightning_scaling.refits import BUFFER, next_fetch


class Session:
    """The state of one fit: losses on their way, the forecast, the plan, and whether to stop.

    Across ranks every rank has a session and fetches at the same steps, which depend on nothing but the step; rank 0
    alone forecasts, and each fetch carries its numbers and its vote to all ranks.

    Args:
        trainer: The Trainer, at the start of training.
        pl_module: Its module.
        settings: What the user has set.
        state: What an earlier session of this run left.
        tell: Prints a text, once for all ranks.
    """

    def __init__(
        self,
        trainer: Any,
        pl_module: Any,
        settings: Settings,
        state: Mapping[str, Any] | None,
        tell: Callable[[str], None] = print,
    ) -> None:
        self.settings = settings
        ranks = settings.across_ranks and trainer.world_size > 1
        self.across_ranks = ranks and dist.is_available() and dist.is_initialized()
        self.tracker = StepTracker()
        self.stopped_by: str | None = None
        self._overruled = ""
        self.muted = False  # has failed, but other ranks count on this one in every reduction
        self._outlets = Outlets(settings.name, tell)
        self._thinks = bool(trainer.is_global_zero)
        self._N: float | None = settings.N
        self._device = trainer.strategy.root_device if self.across_ranks else None
        self._stop_asked = False
        self._introduced = False
        self._distrust = 0  # how often the rate in use was not the planned one
        self._batches: int | None = None
        self._pass_ended_at = 0
        self.live, self.recorder = self._new_records()
        self.tracker.start(trainer, pl_module, self._restore(trainer, state))
        try:
            self.plan = self._make_plan(trainer, pl_module)
        except Exception as error:  # losses are recorded all the same, and other ranks count on it
            self.plan = Plan(PlannedEnd(None, f"{type(error).__name__}: {error}"), None, "")
        self._next_flush = self._flush_after(self.tracker.step)

    # Between the hooks ------------------------------------------------------------------------------------------------

    def step_ended(self, trainer: Any, pl_module: Any, batch: Any) -> None:
        """Take in an optimizer step; now and then, fetch and forecast.

        Other ranks count on this one for two things, whatever else fails: that it takes part in every reduction, at the
        same step as they, and that it stops when all have agreed to.
        """
        tracker = self.tracker
        try:
            self.recorder.append(tracker.step, tracker.loss, tracker.lr)
            if tracker.step >= self._next_flush:
                self._next_flush = self._flush_after(tracker.step)
                self._flush(trainer, pl_module)
            if not self._introduced:
                self._introduce(trainer, pl_module, batch)
            if tracker.error is not None:
                raise tracker.error
        finally:
            if self._stop_asked:
                self._stop(trainer, epochs_done=trainer.current_epoch)

    def epoch_started(self) -> None:
        """Note that the data begins anew."""
        if self._pass_ended_at:
            self.recorder.mark_epoch_end(self._pass_ended_at)
            self._pass_ended_at = 0

    def epoch_ended(self, trainer: Any, pl_module: Any) -> None:
        """Look at the plan again: the length of an epoch may have become known, and ``min_epochs`` be reached."""
        if self._stop_asked:
            self._stop(trainer, epochs_done=trainer.current_epoch + 1)
        if trainer.should_stop:
            return
        self._pass_ended_at = self.tracker.step
        self._batches = int(trainer.fit_loop.epoch_loop.batch_progress.current.processed)
        if self._thinks and not self.muted and self._end_moved(trainer):
            self.plan = self._make_plan(trainer, pl_module)

    def finish(self, trainer: Any, *, together: bool) -> None:
        """Fetch what is left and say how the forecasts did.

        Args:
            trainer: The Trainer.
            together: Whether every rank is here; if not, nothing waits for another rank.
        """
        if self.across_ranks and not together:
            self.recorder.discard()
        else:
            self.recorder.flush()
        if not self._thinks or self.muted or not len(self.recorder.builder):
            return
        known = self.live.ledger.records[-1].step if len(self.live.ledger) else 0
        if self.recorder.step > known and self.stopped_by is None:
            self._refit(trainer, logged_at=max(logged_step(trainer) - 1, 0))
        if self.settings.verbose:
            self._outlets.tell("\n" + self.live.summary(self.recorder.builder.curve()))  # the bar may be closed already

    def curve(self) -> LossCurve:
        """Return the loss so far; on one rank this fetches the newest losses."""
        return self.recorder.curve(N=self._N)

    def mute(self) -> None:
        """Think no more; go on taking part in what other ranks wait for."""
        self.muted = True
        self.recorder.note = [0.0] * len(self.recorder.note)

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists."""
        return {
            "step": self.tracker.step,
            "global_step": self.tracker.global_step,
            "recorder": self.recorder.state_dict(),
            "live": self.live.state_dict(),
            "stopped_by": self.stopped_by,
        }

    # Inside -----------------------------------------------------------------------------------------------------------

    def _new_records(self) -> tuple[LiveForecast, CurveRecorder]:
        live = LiveForecast(self.settings.rules, level=self.settings.level, refits=self.settings.refits)
        recorder = CurveRecorder(
            buffer=4 * BUFFER, across_ranks=self.across_ranks, note_size=2 + len(METRICS), device=self._device
        )
        return live, recorder

    def _restore(self, trainer: Any, state: Mapping[str, Any] | None) -> int | None:
        """Go on from a state; return the optimizer steps done, None where only the Trainer knows."""
        if not state:
            return None
        try:
            if trainer.global_step < state["global_step"]:
                return None  # a new run with the same callback
            self.live.load_state_dict(state["live"])
            self.recorder.load_state_dict(state["recorder"])
            behind = int(trainer.global_step - state["global_step"])
            if (reason := state["stopped_by"]) is not None:
                self.live.overrule(reason)
                self._overruled = reason.lower().replace("_", " ")
            return int(state["step"]) + behind // max(len(trainer.optimizers), 1)
        except Exception as error:
            say_warning(f"Expected a readable state of ScalingLawMonitor, got {error!r}, so its curve begins anew.")
            self.live, self.recorder = self._new_records()
            return None

    def _make_plan(self, trainer: Any, pl_module: Any, *, trust_plan: bool = True) -> Plan:
        step = self.tracker.step
        curve = self.recorder.builder.curve()
        past = past_rates(step, self.live.schedule if trust_plan else None, self.live.peak, curve)
        plan = make_plan(trainer, pl_module, self.settings, step=step, past=past, batches=self._batches)
        if self._distrust > 1:
            plan = Plan(plan.end, None, "learning rate ahead not known (the one in use is not the scheduler's)")
        self.live.plan(plan.end.step, plan.rates, step=self.recorder.step)
        return plan

    def _end_moved(self, trainer: Any) -> bool:
        if self.settings.horizon is not None:
            return False
        return planned_end(trainer, step=self.tracker.step, batches=self._batches).step != self.plan.end.step

    def _flush(self, trainer: Any, pl_module: Any) -> None:
        recorder, live = self.recorder, self.live
        try:
            recorder.flush(wait=False)
        finally:
            if self.across_ranks:
                self._stop_asked = recorder.heard[0] > 0.0
        if self.across_ranks and recorder.heard[1]:
            self._offer(trainer, recorder.heard[2:])
        if self._thinks and not self.muted:
            self._watch_rate(trainer, pl_module)
            alarmed = live.is_alarmed(recorder.builder.n_nonfinite, recorder.latest, recorder.latest_error)
            if recorder.step >= live.next_step or alarmed:
                self._refit(trainer, logged_at=logged_step(trainer))
                if not self.across_ranks:
                    self._next_flush = self._flush_after(self.tracker.step)

    def _flush_after(self, step: int) -> int:
        return next_fetch(step, self.live.next_step, across_ranks=self.across_ranks)

    def _watch_rate(self, trainer: Any, pl_module: Any) -> None:
        """Hold the rate in use against the planned one; plan again once, then believe no plan any more."""
        lr = self.recorder.lr
        if lr is None or self.settings.rates is not None or self.live.keeps_promise(self.recorder.step, lr):
            return
        self._distrust += 1
        self.plan = self._make_plan(trainer, pl_module, trust_plan=False)
        if self.settings.verbose:
            self._outlets.say(
                trainer, f"Step {self.recorder.step}: the learning rate left its schedule; now: {self.plan}."
            )

    def _refit(self, trainer: Any, *, logged_at: int) -> None:
        live = self.live
        changed = live.refit(self.recorder.builder.curve(N=self._N))
        values = live.values()
        self._outlets.log(trainer, dict(zip(METRICS, values, strict=True)), logged_at)
        self._outlets.show(trainer, live.reading())
        if self.across_ranks:
            self.recorder.note = [float(live.wants_stop), 1.0, *values]
        else:
            self._stop_asked = live.wants_stop
            self._offer(trainer, values)
        if changed and self.settings.verbose and live.advice is not None:
            self._outlets.say(trainer, live.sentence)

    def _introduce(self, trainer: Any, pl_module: Any, batch: Any) -> None:
        """Say once what was found; only after the first step do lazy modules and the batch size show."""
        self._introduced = True
        self._offer(trainer, self.live.values())  # what a resumed run knows already
        self._outlets.show(trainer, self.live.reading())
        settings, size = self.settings, model_size(pl_module if trainer.model is None else trainer.model)
        if settings.tokens_per_step is not None:
            self.recorder.set_batch_size(float(settings.tokens_per_step))
            per_step = f"{settings.tokens_per_step:,} tokens per step".replace(",", " ")
        else:
            accumulate = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
            found = batch_size(batch, accumulate=accumulate, ranks=data_ranks(trainer))
            if found is not None and found.unit == "tokens":
                self.recorder.set_batch_size(float(found.per_step))
            per_step = "batch size not known" if found is None else str(found)
        if settings.N is None and size is not None and size.non_embedding > 0:
            self._N = float(size.non_embedding)
        if settings.verbose and self._thinks:
            N = describe_size(size) if settings.N is None else f"N = {settings.N:.4g} as given"
            self._outlets.say(trainer, f"ScalingLawMonitor: {N}, {self.plan}, {per_step}.")
            if self._overruled:
                self._outlets.say(
                    trainer, f"The run was stopped before ({self._overruled}): that advises only from here on."
                )
        if self.tracker.loss is not None and is_half_precision(self.tracker.loss) and self._thinks:
            say_warning(
                f"Expected a loss in float32, got {self.tracker.loss.dtype}, which resolves 3 digits at best, so "
                "compute the loss of training_step in float32, for example from logits.float()."
            )

    def _offer(self, trainer: Any, values: Sequence[float]) -> None:
        self._outlets.offer(trainer, dict(zip(METRICS, values, strict=True)))

    def _stop(self, trainer: Any, *, epochs_done: int) -> None:
        """Ask the Trainer to stop, not before it may: it would keep the wish even if we changed our mind."""
        if trainer.should_stop or not may_stop(trainer, epochs_done=epochs_done):
            return
        trainer.should_stop = True
        self.stopped_by = "" if self.live.acts_on is None else self.live.acts_on.name
