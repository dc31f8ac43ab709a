"""One fit of a Trainer, from its first batch to its last: what the callback's hooks set in motion."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

import torch
import torch.distributed as dist

from lightning_scaling.curve import LossCurve
from lightning_scaling.errors import say_warning
from lightning_scaling.host.advisor import Advisor
from lightning_scaling.host.batch import BatchSize, step_size
from lightning_scaling.host.course import Course
from lightning_scaling.host.herald import Herald
from lightning_scaling.host.losses import Losses
from lightning_scaling.host.memory import recall
from lightning_scaling.host.metrics import logged_by_others
from lightning_scaling.host.pace import time_is_up
from lightning_scaling.host.refitting import Refitting
from lightning_scaling.host.settings import Settings
from lightning_scaling.host.size import model_size
from lightning_scaling.host.steps import StepTracker, is_half_precision, logged_step, may_stop
from lightning_scaling.host.teller import Teller
from lightning_scaling.live import METRICS
from lightning_scaling.recording.fetching import Fetching
from lightning_scaling.recording.recorder import CurveRecorder
from lightning_scaling.refits import BUFFER
from lightning_scaling.units import thousands


def in_step(trainer: Any, settings: Settings) -> bool:
    """Return whether the ranks of a Trainer take the mean of their losses together."""
    several = settings.across_ranks and trainer.world_size > 1
    return bool(several and dist.is_available() and dist.is_initialized())


def all_begin_at(step: int | None, trainer: Any) -> bool:
    """Return, on every rank the same, whether all have a session and begin at one step; each waits for the others.

    Args:
        step: Optimizer steps done, as this rank counts them, None where it has no session [steps].
        trainer: The Trainer.
    """
    known = -1 if step is None else step
    ends = torch.tensor([known, -known], dtype=torch.int64, device=trainer.strategy.root_device)
    dist.all_reduce(ends, op=dist.ReduceOp.MIN)
    first, last = ends.tolist()
    return bool(first >= 0 and first == -last)


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
        before: The session that the same monitor had before.
    """

    def __init__(
        self,
        trainer: Any,
        pl_module: Any,
        settings: Settings,
        state: Mapping[str, Any] | None,
        tell: Callable[[str], None] = print,
        before: Session | None = None,
    ) -> None:
        self.settings = settings
        self.across_ranks = in_step(trainer, settings)
        self.tracker = StepTracker()
        self.stopped_by: str | None = None
        self._overruled = ""
        self.muted = False  # has failed, but other ranks count on this one in every reduction
        self._thinks = bool(trainer.is_global_zero)
        self._device = trainer.strategy.root_device if self.across_ranks else None
        self._introduced = False
        self._run_id: str | None = None  # in the store, of an earlier session
        self._pass_ended_at = 0
        self.losses = self._new_losses()
        self.course = Course(settings, self.losses, {})
        self.tracker.start(trainer, pl_module, self._restore(trainer, state, before))
        self.course.begin(trainer, pl_module, self.tracker.step)
        steps, main = self.losses.steps, self.losses.main
        self._fetching = Fetching(steps.recorder, steps.live, across_ranks=self.across_ranks)
        self._fetching.plan(self.tracker.step)
        self.memory = None
        if self._thinks:
            loss, step = settings.monitor or "train_loss", self.tracker.step
            self.memory = recall(settings, main.live, self._run_id, loss=loss, step=step)
        self.advisor = Advisor(settings.price_per_hour, self.tracker.step)
        self._teller = Teller(settings, self.losses, tell)
        self._refitting = Refitting(
            self.losses,
            self._teller,
            self.memory,
            self.advisor,
            Herald(settings.on_departure),
            across_ranks=self.across_ranks,
        )
        self._refitting.N = settings.N
        self._refitting.stop_asked = main.live.wants_stop  # of an earlier session, that has to wait for min_steps

    # Between the hooks ------------------------------------------------------------------------------------------------

    def step_ended(self, trainer: Any, pl_module: Any, batch: Any) -> None:
        """Take in an optimizer step; now and then, fetch and forecast.

        Other ranks count on this one for two things, whatever else fails: that it takes part in every reduction, at the
        same step as they, and that it stops when all have agreed to.
        """
        tracker = self.tracker
        try:
            self.losses.steps.recorder.append(tracker.step, tracker.loss, tracker.lr)
            if tracker.step - 1 == self.course.plan.end.step:  # longer epochs, or a max_epochs that has been raised
                self._follow_end(trainer, pl_module)
            if tracker.step >= self._fetching.due:
                self._fetch(trainer, pl_module, batch)
            metric = self.losses.metric
            if metric.is_fresh and self._thinks and not self.muted and metric.fetch(tracker.step):
                self._refitting.metric(trainer, tracker.step)
            if not self._introduced:
                self._introduce(trainer, pl_module, batch)
            if tracker.error is not None:
                raise tracker.error
        finally:
            if self._refitting.stop_asked:
                self._stop(trainer, epochs_done=trainer.current_epoch)

    def count(self, trainer: Any, pl_module: Any) -> bool:
        """Count a step whose batch could not be taken in, as other ranks do; return whether one has ended."""
        tracker, global_step = self.tracker, int(trainer.global_step)
        if global_step == tracker.global_step:
            return False
        tracker.step = global_step if pl_module.automatic_optimization else tracker.step + 1
        tracker.global_step, tracker.loss, tracker.error = global_step, None, None
        return True

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
            if self._thinks:
                self._teller.say(trainer, f"{losses.metric.name} is forecast beside the training loss.")
        try:
            self._take(trainer, "validation")
        finally:
            self._act(trainer, epochs_done=trainer.current_epoch)

    def epoch_ended(self, trainer: Any, pl_module: Any) -> None:
        """Look at the plan again: the length of an epoch may have become known, and ``min_epochs`` be reached."""
        if self.settings.monitor is not None:  # on every rank: this look may make Lightning reduce an epoch's metrics
            try:
                self._take(trainer, "epoch")
            finally:
                self._act(trainer, epochs_done=trainer.current_epoch + 1)
        if self._refitting.stop_asked:
            self._stop(trainer, epochs_done=trainer.current_epoch + 1)
        if trainer.should_stop:
            return
        self._pass_ended_at = self.tracker.step
        self.course.count_epoch(trainer)
        self._follow_end(trainer, pl_module)

    def finish(self, trainer: Any, *, together: bool) -> None:
        """Fetch what is left and say how the forecasts did.

        Args:
            trainer: The Trainer.
            together: Whether every rank is here; if not, nothing waits for another rank.
        """
        losses, metric = self.losses, self.losses.metric
        if self.across_ranks and trainer.should_stop and not self._refitting.stop_asked:
            together = False  # whoever has stopped the run need not have asked the other ranks
        if self.across_ranks and not together:
            losses.steps.recorder.discard()
        else:
            self._fetching.land(lambda: self._forecast(trainer))  # what has been sent off has a look of its own
            losses.steps.recorder.flush()
        if together and self.settings.monitor is not None:
            self._take(trainer, "run")
        if not self._thinks or self.muted:
            return
        if metric.recorder.sent is not None:
            metric.recorder.land()
            self._refitting.metric(trainer, self.tracker.step)
        metric.recorder.flush()
        ran_out = self.course.ends_by_time and time_is_up(trainer)
        if settled := ran_out or (self.course.is_estimated and together and not trainer.should_stop):
            self.course.settle(self.tracker.step)
        self._refitting.last(trainer, self.tracker.step, settled=settled, stopped=self.stopped_by is not None)
        if self.memory is not None:
            curve = losses.curve(losses.main, self._refitting.N)
            self.memory.close(losses.main.live, curve, over=together, step=self.tracker.step)
        self._teller.close(trainer, self.tracker.step, logged_at=max(logged_step(trainer) - 1, 0), over=together)

    def curve(self) -> LossCurve:
        """Return the main loss so far; on one rank this fetches the newest losses."""
        return self.losses.main.recorder.curve(N=self._refitting.N)

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
            "run_id": self._run_id if self.memory is None else self.memory.run_id,
            **self.course.state_dict(),
            "pass_ended_at": self._pass_ended_at,
        }

    # Inside -----------------------------------------------------------------------------------------------------------

    def _new_losses(self) -> Losses:
        recorder = CurveRecorder(
            buffer=4 * BUFFER, across_ranks=self.across_ranks, note_size=2 + 2 * len(METRICS), device=self._device
        )
        return Losses(self.settings, recorder)

    def _restore(self, trainer: Any, state: Mapping[str, Any] | None, before: Session | None) -> int | None:
        """Go on from a state; return the optimizer steps done, None where only the Trainer knows."""
        if not state:
            return None
        try:
            if trainer.global_step < state["global_step"]:
                return None  # a new run with the same callback
            self.losses.load_state_dict(state)
            self.course = Course(self.settings, self.losses, state)
            self._pass_ended_at, self._run_id = int(state.get("pass_ended_at", 0)), state.get("run_id")
            behind = int(trainer.global_step - state["global_step"])
            known = [] if before is None else before.losses.reasons_to_overrule(before.stopped_by, self.losses)
            for reason in [*known, *([] if state["stopped_by"] is None else [state["stopped_by"]])]:
                self.losses.main.live.overrule(reason)
                self._overruled = reason.lower().replace("_", " ")
            return int(state["step"]) + behind // max(len(trainer.optimizers), 1)
        except Exception as error:
            say_warning(f"Expected a readable state of ScalingLawMonitor, got {error!r}, so its curve begins anew.")
            self.losses, self._run_id, self._pass_ended_at = self._new_losses(), None, 0
            self.course = Course(self.settings, self.losses, {})
            return None

    def _follow_end(self, trainer: Any, pl_module: Any) -> None:
        """Plan anew if the planned end has moved; say so if it was not known, or has been reached."""
        step, known = self.tracker.step, self.course.plan.end.step
        if not self._thinks or self.muted or not self.course.follow_end(trainer, pl_module, step):
            return
        if (known is None or step >= known) and self.course.plan.end.step is not None:
            self._teller.say(trainer, f"Step {thousands(step)}: {self.course.plan}.")
        if not self.across_ranks:
            self._fetching.plan(step)

    def _fetch(self, trainer: Any, pl_module: Any, batch: Any) -> None:
        try:
            self._fetching.turn(self.tracker.step, lambda: self._look(trainer, pl_module, batch))
        finally:
            if self.across_ranks:
                self._refitting.stop_asked = self.losses.steps.recorder.heard[0] > 0.0

    def _look(self, trainer: Any, pl_module: Any, batch: Any) -> None:
        """See what has changed in the run, and forecast where it is time."""
        losses, heard, step = self.losses, self.losses.steps.recorder.heard, self.tracker.step
        if self.across_ranks and heard[1]:
            self._teller.offer(trainer, losses.main, heard[2 : 2 + len(METRICS)])
            self._teller.offer(trainer, losses.beside, heard[2 + len(METRICS) :])
        if not self._thinks or self.muted:
            return
        # A size that the user has not given; the last batch of an epoch may be a short one.
        if self.settings.tokens_per_step is None and not trainer.is_last_batch:
            self._measure(trainer, pl_module, batch)
        due = losses.steps.is_due()  # before a new plan moves the next forecast on
        self._teller.say(trainer, self.course.follow_hand(trainer, pl_module, step))
        self._teller.say(trainer, self.course.follow_rate(trainer, pl_module, step))
        follow_clock = self.course.follow_clock
        self._forecast(trainer, due, lambda: self._teller.say(trainer, follow_clock(trainer, pl_module, step)))

    def _forecast(self, trainer: Any, due: bool | None = None, before: Callable[[], object] = lambda: None) -> None:
        if self._thinks and not self.muted:
            self._refitting.steps(trainer, self.tracker.step, due, before)

    def _take(self, trainer: Any, after: Literal["validation", "epoch", "run"] | None = None) -> None:
        """Take the metric if it has been renewed, without waiting for it; maybe warn of one that is never there."""
        metrics = self._logged(trainer)
        self.losses.metric.take(metrics, self.tracker.step, self.tracker.lr)
        if after is not None and self._thinks and not self.muted:
            self.losses.metric.complain(metrics, after, validates=bool(trainer.enable_validation))

    def _act(self, trainer: Any, *, epochs_done: int) -> None:
        """Where rules speak of the metric, see at once what its new value says: here a run ends best.

        As Lightning's EarlyStopping does, this waits for the value, and one number of rank 0 for all ranks; never in a
        step, and never for a rank that has been stopped by itself.
        """
        if self.settings.monitor is None or not self.settings.rules or trainer.should_stop:
            return
        metric, step = self.losses.metric, self.tracker.step
        try:
            if metric.is_fresh and self._thinks and not self.muted:
                metric.fetch(step, at_once=True)
                self._refitting.metric(trainer, step)
        finally:
            if self.across_ranks:
                note = self.losses.steps.recorder.note
                vote = torch.tensor(note[0] if self._thinks and not self.muted else 0.0, device=self._device)
                dist.broadcast(vote, src=0)
                self._refitting.stop_asked = bool(vote.item())
            if self._refitting.stop_asked:
                self._stop(trainer, epochs_done=epochs_done)

    def _logged(self, trainer: Any) -> dict[str, Any]:
        """Return what others have logged; nothing where that may wait for ranks that have no monitor."""
        if trainer.world_size > 1 and not self.across_ranks:
            return {}
        return logged_by_others(trainer, self.settings.name)

    def _measure(self, trainer: Any, pl_module: Any, batch: Any) -> BatchSize | None:
        """Return the size of an optimizer step, and note it for the steps to come."""
        found = step_size(trainer, pl_module, batch)
        if found is not None:
            self.losses.set_batch_size(float(found.per_step), found.unit)
        return found

    def _introduce(self, trainer: Any, pl_module: Any, batch: Any) -> None:
        """Say once what was found; only after the first step do lazy modules and the batch size show."""
        self._introduced = True
        if self._thinks and not self.muted:
            self.course.follow_hand(trainer, pl_module, self.tracker.step)
            if not self.across_ranks and not pl_module.automatic_optimization:
                self._fetching.plan(self.tracker.step)
        settings, live, found = self.settings, self.losses.main.live, None
        for series in (self.losses.main, self.losses.beside):
            self._teller.offer(trainer, series, series.live.values())  # what a resumed run knows already
        self._teller.show(trainer)
        size = model_size(pl_module if trainer.model is None else trainer.model)
        if settings.tokens_per_step is not None:
            self.losses.set_batch_size(float(settings.tokens_per_step), "tokens")
        else:
            found = self._measure(trainer, pl_module, batch)
        if settings.N is None and size is not None and size.non_embedding > 0:
            self._refitting.N = float(size.non_embedding)
        if settings.verbose and self._thinks:
            known = "" if self.memory is None else self.memory.opening(live, self._refitting.N)
            self._teller.introduce(trainer, size, self.course.plan, found, known=known, overruled=self._overruled)
        if self._thinks:
            self._teller.record(trainer, self._refitting.N, self.course.plan, found)
        if self.tracker.loss is not None and is_half_precision(self.tracker.loss) and self._thinks:
            say_warning(
                f"Expected a loss in float32, got {self.tracker.loss.dtype}, which resolves 3 digits at best, so "
                "compute the loss of training_step in float32, for example from logits.float()."
            )

    def _stop(self, trainer: Any, *, epochs_done: int) -> None:
        """Ask the Trainer to stop, not before it may: it would keep the wish even if we changed our mind."""
        if trainer.should_stop or not may_stop(trainer, epochs_done=epochs_done):
            return
        trainer.should_stop = True
        live = self.losses.main.live
        self.stopped_by = "" if live.acts_on is None else live.acts_on.name
        if self._thinks and not self.muted:
            words = self.losses.named(live.stopped())
            if not self._refitting.stop_told:
                self._teller.say(trainer, words, always=True)
