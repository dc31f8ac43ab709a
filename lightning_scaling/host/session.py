"""One fit of a Trainer, from its first batch to its last: what the callback's hooks set in motion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch.distributed as dist

from lightning_scaling.curve import LossCurve
from lightning_scaling.errors import say_warning
from lightning_scaling.host.advisor import Advisor
from lightning_scaling.host.batch import BatchSize, batch_size, data_ranks
from lightning_scaling.host.horizon import PlannedEnd, planned_end
from lightning_scaling.host.losses import Losses
from lightning_scaling.host.memory import Memory
from lightning_scaling.host.outlets import Outlets
from lightning_scaling.host.pace import TOLERANCE, Pace, time_is_up
from lightning_scaling.host.plan import Plan, make_plan, past_rates
from lightning_scaling.host.series import Series
from lightning_scaling.host.settings import Settings
from lightning_scaling.host.size import describe_size, model_size
from lightning_scaling.host.steps import StepTracker, is_half_precision, logged_step, may_stop
from lightning_scaling.live import METRICS
from lightning_scaling.recorder import CurveRecorder
from lightning_scaling.refits import BUFFER, next_fetch


class Session:
    """The state of one fit: losses on their way, their forecasts, the plan, and whether to stop.

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
        self._batches: int | None = None  # per epoch, as counted in the last one
        self._by_time: int | None = None  # where max_time will end the run, as far as can be told
        self._pace = Pace()
        self._pass_ended_at = 0
        self.losses = self._new_losses()
        self.tracker.start(trainer, pl_module, self._restore(trainer, state))
        try:
            self.plan = self._make_plan(trainer, pl_module)
        except Exception as error:  # losses are recorded all the same, and other ranks count on it
            self.plan = Plan(PlannedEnd(None, f"{type(error).__name__}: {error}"), None, "")
        self._next_flush = self._flush_after(self.tracker.step)
        self.memory = self._recall(state)
        self.advisor = Advisor(settings.price_per_hour, self.tracker.step)

    # Between the hooks ------------------------------------------------------------------------------------------------

    def step_ended(self, trainer: Any, pl_module: Any, batch: Any) -> None:
        """Take in an optimizer step; now and then, fetch and forecast.

        Other ranks count on this one for two things, whatever else fails: that it takes part in every reduction, at the
        same step as they, and that it stops when all have agreed to.
        """
        tracker = self.tracker
        try:
            self.losses.steps.recorder.append(tracker.step, tracker.loss, tracker.lr)
            if tracker.step >= self._next_flush:
                self._next_flush = self._flush_after(tracker.step)
                self._flush(trainer, pl_module, batch)
            if self.losses.metric.is_fresh and self._thinks and not self.muted:
                self._look(trainer)
            if not self._introduced:
                self._introduce(trainer, pl_module, batch)
            if tracker.error is not None:
                raise tracker.error
        finally:
            if self._stop_asked:
                self._stop(trainer, epochs_done=trainer.current_epoch)

    def epoch_started(self, trainer: Any) -> None:
        """Note that the data begins anew; what the module logged when its last epoch ended is there only now."""
        if self.settings.monitor is not None:
            self._take(trainer)
        if self._pass_ended_at:
            self.losses.steps.recorder.mark_epoch_end(self._pass_ended_at)
            self._pass_ended_at = 0

    def validation_started(self, trainer: Any) -> None:
        """Note what was logged before."""
        if self.losses.metric.name is not None:
            self.losses.metric.note(self._logged(trainer))

    def validation_ended(self, trainer: Any) -> None:
        """Take the metric that is watched; where none is named, look for a validation loss."""
        losses = self.losses
        if losses.metric.name is None:
            if not losses.find(list(self._logged(trainer))):
                return
            if self.settings.verbose and self._thinks:
                self._outlets.say(trainer, f"{losses.metric.name} is forecast beside the training loss.")
        self._take(trainer, complain=True)

    def epoch_ended(self, trainer: Any, pl_module: Any) -> None:
        """Look at the plan again: the length of an epoch may have become known, and ``min_epochs`` be reached."""
        if self.settings.monitor is not None:  # on every rank: this look may make Lightning reduce an epoch's metrics
            self._take(trainer, complain=not trainer.enable_validation)
        if self._stop_asked:
            self._stop(trainer, epochs_done=trainer.current_epoch + 1)
        if trainer.should_stop:
            return
        self._pass_ended_at = self.tracker.step
        self._batches = int(trainer.fit_loop.epoch_loop.batch_progress.current.processed)
        if self._thinks and not self.muted and self._end_moved(trainer):
            self.plan = self._make_plan(trainer, pl_module)
            if not self.across_ranks:
                self._next_flush = self._flush_after(self.tracker.step)

    def finish(self, trainer: Any, *, together: bool) -> None:
        """Fetch what is left and say how the forecasts did.

        Args:
            trainer: The Trainer.
            together: Whether every rank is here; if not, nothing waits for another rank.
        """
        losses = self.losses
        if self.across_ranks and trainer.should_stop and not self._stop_asked:
            together = False  # whoever has stopped the run need not have asked the other ranks
        if self.across_ranks and not together:
            losses.steps.recorder.discard()
        else:
            losses.steps.recorder.flush()
        if together and self.settings.monitor is not None:
            self._take(trainer, complain=True, at_once=True)
        if not self._thinks or self.muted:
            return
        losses.metric.fetch()
        if settled := self._by_time is not None and time_is_up(trainer):
            self._settle()
        for series in (losses.beside, losses.main):
            news = series.is_behind() or (settled and len(series.live.ledger) > 0)
            if news and (series is losses.beside or self.stopped_by is None):
                self._refit(trainer, series, logged_at=max(logged_step(trainer) - 1, 0))
        if self.memory is not None:
            self.memory.close(losses.main.live, losses.curve(losses.main, self._N), over=together)
        if self.settings.verbose and len(losses.main.recorder.builder):
            self._outlets.tell("\n" + losses.summary(self.tracker.step))  # the bar may be closed already

    def curve(self) -> LossCurve:
        """Return the main loss so far; on one rank this fetches the newest losses."""
        return self.losses.main.recorder.curve(N=self._N)

    def summary(self) -> str:
        """Return the closing words; on one rank this fetches the newest losses."""
        self.curve()
        return self.losses.summary(self.tracker.step)

    def mute(self) -> None:
        """Think no more; go on taking part in what other ranks wait for."""
        self.muted = True
        recorder = self.losses.steps.recorder
        recorder.note = [0.0] * len(recorder.note)

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists."""
        return {
            "step": self.tracker.step,
            "global_step": self.tracker.global_step,
            **self.losses.state_dict(),
            "stopped_by": self.stopped_by,
            "run_id": None if self.memory is None else self.memory.run_id,
            "distrust": self._distrust,
            "batches": self._batches,
            "by_time": self._by_time,
            "pass_ended_at": self._pass_ended_at,
        }

    # Inside -----------------------------------------------------------------------------------------------------------

    def _new_losses(self) -> Losses:
        recorder = CurveRecorder(
            buffer=4 * BUFFER, across_ranks=self.across_ranks, note_size=2 + 2 * len(METRICS), device=self._device
        )
        return Losses(self.settings, recorder)

    def _recall(self, state: Mapping[str, Any] | None) -> Memory | None:
        """Open the store of runs, where there is one, and borrow from what is there."""
        settings = self.settings
        if settings.store is None or not self._thinks:
            return None
        # A store is of many losses: each run says which one it is of.
        tags = {**settings.tags, "loss": settings.monitor or "train_loss"}
        resumed = self.tracker.step > 0 and state is not None
        memory = Memory(settings.store, tags, state.get("run_id") if resumed and state is not None else None)
        memory.read()
        self.losses.main.live.siblings = memory.siblings
        return memory

    def _restore(self, trainer: Any, state: Mapping[str, Any] | None) -> int | None:
        """Go on from a state; return the optimizer steps done, None where only the Trainer knows."""
        if not state:
            return None
        try:
            if trainer.global_step < state["global_step"]:
                return None  # a new run with the same callback
            self.losses.load_state_dict(state)
            self._distrust, self._pass_ended_at = int(state.get("distrust", 0)), int(state.get("pass_ended_at", 0))
            self._batches, self._by_time = state.get("batches"), state.get("by_time")
            behind = int(trainer.global_step - state["global_step"])
            if (reason := state["stopped_by"]) is not None:
                self.losses.main.live.overrule(reason)
                self._overruled = reason.lower().replace("_", " ")
            self._stop_asked = self.losses.main.live.wants_stop  # a wish that has to wait for min_steps
            return int(state["step"]) + behind // max(len(trainer.optimizers), 1)
        except Exception as error:
            say_warning(f"Expected a readable state of ScalingLawMonitor, got {error!r}, so its curve begins anew.")
            self.losses = self._new_losses()
            return None

    def _make_plan(self, trainer: Any, pl_module: Any, *, trust_plan: bool = True) -> Plan:
        step, steps = self.tracker.step, self.losses.steps
        past = past_rates(step, steps.live.schedule if trust_plan else None, steps.live.peak, steps.curve(None))
        plan = make_plan(
            trainer, pl_module, self.settings, step=step, past=past, batches=self._batches, by_time=self._by_time
        )
        if self._distrust > 1:
            plan = Plan(plan.end, None, "learning rate ahead not known (the one in use is not the scheduler's)")
        steps.live.plan(plan.end.step, plan.rates, step=steps.recorder.step)
        self.losses.metric.live.adopt(steps.live)
        return replace(plan, rates=None)  # one number per step of the run is not kept

    def _end_moved(self, trainer: Any) -> bool:
        if self.settings.horizon is not None:
            return False
        end = planned_end(trainer, step=self.tracker.step, batches=self._batches, by_time=self._by_time)
        return end.step != self.plan.end.step

    def _watch_time(self, trainer: Any, pl_module: Any) -> None:
        """Where ``max_time`` ends the run, estimate the end anew; one that is nearly right is kept."""
        if self.settings.horizon is not None:
            return
        step, known = self.tracker.step, self._by_time
        found = self._pace.end(trainer, step)
        if found is None or (known is not None and step < known and abs(found - known) <= TOLERANCE * known):
            return
        self._by_time = max(found, step + 1)
        if self._end_moved(trainer):
            self.plan = self._make_plan(trainer, pl_module)
            if known is None and self.settings.verbose:
                self._outlets.say(trainer, f"Step {step}: {self.plan}.")

    def _settle(self) -> None:
        """The time is up: what was an estimate of the end is known now."""
        step, live = self.tracker.step, self.losses.steps.live
        live.plan(step, past_rates(step, live.schedule, live.peak, self.losses.steps.curve(None)), step=step)
        self.losses.metric.live.adopt(live)

    def _flush(self, trainer: Any, pl_module: Any, batch: Any) -> None:
        losses, recorder = self.losses, self.losses.steps.recorder
        try:
            recorder.flush(wait=False)
        finally:
            if self.across_ranks:
                self._stop_asked = recorder.heard[0] > 0.0
        if self.across_ranks and recorder.heard[1]:
            self._offer(trainer, losses.main, recorder.heard[2 : 2 + len(METRICS)])
            self._offer(trainer, losses.beside, recorder.heard[2 + len(METRICS) :])
        if self._thinks and not self.muted:
            self._watch_batch(trainer, pl_module, batch)
            due = losses.steps.is_due()  # before a new plan moves the next refit on
            self._watch_rate(trainer, pl_module)
            if losses.breaks_beside():
                self._refit(trainer, losses.main, logged_at=logged_step(trainer))
            if due:
                self._watch_time(trainer, pl_module)
                self._refit(trainer, losses.steps, logged_at=logged_step(trainer))
            if not self.across_ranks:
                self._next_flush = self._flush_after(self.tracker.step)

    def _flush_after(self, step: int) -> int:
        return next_fetch(step, self.losses.steps.live.next_step, across_ranks=self.across_ranks)

    def _take(self, trainer: Any, *, complain: bool = False, at_once: bool = False) -> None:
        """Take the metric if it has been renewed, without waiting for it; maybe warn of one that is never there."""
        metrics = self._logged(trainer)
        self.losses.metric.take(metrics, self.tracker.step, self.tracker.lr)
        if complain and self._thinks and not self.muted:
            self.losses.metric.complain(metrics, at_once=at_once)

    def _logged(self, trainer: Any) -> dict[str, Any]:
        """Return what others have logged; nothing where that may wait for ranks that have no monitor."""
        if trainer.world_size > 1 and not self.across_ranks:
            return {}
        ours = f"{self.settings.name}/"
        return {
            key: value
            for key, value in trainer.callback_metrics.items()
            if not (key.startswith(ours) and key.rpartition("/")[2] in METRICS)
        }

    def _look(self, trainer: Any) -> None:
        """Fetch what was taken of the metric, and forecast."""
        metric = self.losses.metric
        metric.fetch()
        if metric.is_due():
            self._refit(trainer, metric, logged_at=logged_step(trainer))

    def _watch_batch(self, trainer: Any, pl_module: Any, batch: Any) -> None:
        """See whether the batch size has changed; the last batch of an epoch may be a short one."""
        if self.settings.tokens_per_step is None and not trainer.is_last_batch:
            self._measure(trainer, pl_module, batch)

    def _measure(self, trainer: Any, pl_module: Any, batch: Any) -> BatchSize | None:
        """Return the size of an optimizer step, and note it for the steps to come if it is one in tokens."""
        accumulate = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
        found = batch_size(batch, accumulate=accumulate, ranks=data_ranks(trainer))
        if found is not None and found.unit == "tokens":
            self.losses.set_batch_size(float(found.per_step))
        return found

    def _watch_rate(self, trainer: Any, pl_module: Any) -> None:
        """Hold the rate in use against the planned one; plan again once, then believe no plan any more."""
        steps, lr = self.losses.steps, self.losses.steps.recorder.lr
        if lr is None or self.settings.rates is not None or steps.live.keeps_promise(steps.recorder.step, lr):
            return
        self._distrust += 1
        self.plan = self._make_plan(trainer, pl_module, trust_plan=False)
        if self.settings.verbose:
            self._outlets.say(
                trainer, f"Step {steps.recorder.step}: the learning rate left its schedule; now: {self.plan}."
            )

    def _refit(self, trainer: Any, series: Series, *, logged_at: int) -> None:
        losses, main, values = self.losses, self.losses.main.live, series.live.values
        curve = losses.curve(series, self._N)
        changed = series.live.refit(curve)
        self._outlets.log(trainer, losses.numbers(series, values()), logged_at)
        if self.across_ranks:
            losses.steps.recorder.note = [float(main.wants_stop), 1.0, *main.values(), *losses.beside.live.values()]
        else:
            self._stop_asked = main.wants_stop
            self._offer(trainer, series, values())
        if series is losses.main:
            self._outlets.show(trainer, main.reading())
            if self.memory is not None:
                self.memory.keep(main, curve)
            more = self.advisor.renew(main, curve, step=self.tracker.step) if main.at_quarter else ""
            if changed and self.settings.verbose:
                self._outlets.say(trainer, losses.sentence())
            if more and self.settings.verbose:
                self._outlets.say(trainer, losses.named(more))

    def _introduce(self, trainer: Any, pl_module: Any, batch: Any) -> None:
        """Say once what was found; only after the first step do lazy modules and the batch size show."""
        self._introduced = True
        for series in (self.losses.main, self.losses.beside):
            self._offer(trainer, series, series.live.values())  # what a resumed run knows already
        self._outlets.show(trainer, self.losses.main.live.reading())
        settings, size = self.settings, model_size(pl_module if trainer.model is None else trainer.model)
        if settings.tokens_per_step is not None:
            self.losses.set_batch_size(float(settings.tokens_per_step))
            per_step = f"{settings.tokens_per_step:,} tokens per step".replace(",", " ")
        else:
            found = self._measure(trainer, pl_module, batch)
            per_step = "batch size not known" if found is None else str(found)
        if settings.N is None and size is not None and size.non_embedding > 0:
            self._N = float(size.non_embedding)
        if settings.verbose and self._thinks:
            N = describe_size(size) if settings.N is None else f"N = {settings.N:.4g} as given"
            of = "" if settings.monitor is None else f" of {settings.monitor}"
            self._outlets.say(trainer, f"ScalingLawMonitor{of}: {N}, {self.plan}, {per_step}.")
            if self.memory is not None and (known := self.memory.opening(self.losses.main.live, self._N)):
                self._outlets.say(trainer, f"ScalingLawMonitor: {known}")
            if self._overruled:
                self._outlets.say(
                    trainer, f"The run was stopped before ({self._overruled}): that advises only from here on."
                )
        if self.tracker.loss is not None and is_half_precision(self.tracker.loss) and self._thinks:
            say_warning(
                f"Expected a loss in float32, got {self.tracker.loss.dtype}, which resolves 3 digits at best, so "
                "compute the loss of training_step in float32, for example from logits.float()."
            )

    def _offer(self, trainer: Any, series: Series, values: Sequence[float]) -> None:
        if series.name is not None:
            self._outlets.offer(trainer, self.losses.numbers(series, values))

    def _stop(self, trainer: Any, *, epochs_done: int) -> None:
        """Ask the Trainer to stop, not before it may: it would keep the wish even if we changed our mind."""
        if trainer.should_stop or not may_stop(trainer, epochs_done=epochs_done):
            return
        trainer.should_stop = True
        reason = self.losses.main.live.acts_on
        self.stopped_by = "" if reason is None else reason.name
