"""ScalingLawCallback: forecasts and stops for the Trainer of Hugging Face transformers."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist

from lightning_scaling.advice import StopRule
from lightning_scaling.branch import reasons_to_overrule
from lightning_scaling.curve import LossCurve
from lightning_scaling.errors import say_warning
from lightning_scaling.host.herald import Herald
from lightning_scaling.host.horizon import PlannedEnd
from lightning_scaling.host.lr import lambda_rates
from lightning_scaling.host.memory import Memory, recall
from lightning_scaling.host.plan import Plan, scheduler_plan
from lightning_scaling.host.settings import Settings
from lightning_scaling.host.size import describe_size, model_size
from lightning_scaling.live import LiveForecast
from lightning_scaling.logs import LogCurve
from lightning_scaling.readings import Readings
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.store import RunStore
from lightning_scaling.units import thousands

if TYPE_CHECKING:

    class TrainerCallback: ...

else:
    try:
        from transformers import TrainerCallback
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Expected transformers to be installed, got none, so run pip install 'lightning-scaling[hf]'.",
            name=error.name,
        ) from error

__all__ = ["ScalingLawCallback"]

#: Logged losses of a run below which it is said that they are few.
_FEW_LOGS = 50
#: Where a stop is noted in the log of the run, so that a run that is resumed on purpose is not stopped again.
_MARK = "scaling/stopped_by"
#: Where its name in the store of runs is noted.
_RUN = "scaling/run_id"


def _say(text: str) -> None:
    from tqdm.auto import tqdm

    tqdm.write(text)


class ScalingLawCallback(Readings, TrainerCallback):
    r"""Watch the loss that a ``transformers.Trainer`` logs, forecast where it will end, and stop the run if told to.

    What is watched are the means over ``logging_steps`` that the Trainer logs, so log often: a hundred times in a run
    at least. The planned end is ``state.max_steps``, the learning rates ahead are found by replaying a copy of the
    scheduler. Each time the law is fitted anew, ``scaling/final_loss``, ``_low`` and ``_high`` are added to the logs
    that later callbacks see; what changes is told in a sentence, and at the end comes a table of the forecasts beside
    what happened.

    A stop acts after a fifth of the run at the earliest, if it stands at a second look, and on a learning rate ahead
    that is known; `Diverged` acts at once on NaN, which ``logging_nan_inf_filter`` hides, and at the second look
    otherwise. Rank 0 decides for all ranks. A run that is resumed after a stop goes on: there that reason advises only.
    Resumed from before the stop it goes on with the callback that stopped it; a new one needs ``stop=None`` there.

    Nothing is kept beside a checkpoint: the Trainer saves its log, in which all is found again on resuming.

    Once training has begun nothing here raises: what fails is warned of once, and training goes on.

    Args:
        stop: A rule or several that may end the run; none: advice only.
        advise: A rule or several that are told of, in the sentences and in `advice`, and never stop the run, such as
            `ComputeEfficient`. What those of ``stop`` say comes first.
        metric: What to forecast of the log: ``loss``, or ``eval_loss`` where there are evaluations enough.
        level: Probability that an interval holds its number [1].
        refits: Fits over the run, as far as there are logs for them.
        tell: What is called with each sentence; default: ``tqdm.write``, above the progress bar; None: nothing.
        store: A `RunStore`, or the folder or URL of one: as in `ScalingLawMonitor`, rank 0 reads its finished runs of
            the same metric at the start, and writes this run into it.
        tags: What tells this run apart in the store, such as ``{"task": "text"}``.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a number is out of its range.

    Example::

        from lightning_scaling import TargetUnreachable
        from lightning_scaling.huggingface import ScalingLawCallback

        monitor = ScalingLawCallback(stop=TargetUnreachable(loss=2.9))
        trainer = Trainer(model, TrainingArguments(logging_steps=10, max_steps=5_000), callbacks=[monitor], ...)
        trainer.train()
        print(monitor.forecast, monitor.advice, sep="\n")
    """

    def __init__(
        self,
        stop: StopRule | Sequence[StopRule] | None = None,
        *,
        advise: StopRule | Sequence[StopRule] | None = None,
        metric: str = "loss",
        level: float = 0.9,
        refits: int = 40,
        tell: Callable[[str], object] | None = _say,
        store: str | PathLike[str] | RunStore | None = None,
        tags: Mapping[str, str | int | float | bool] | None = None,
    ) -> None:
        self._settings = Settings.of(
            stop=stop,
            advise=advise,
            level=level,
            refits=refits,
            verbose=tell is not None,
            store=store,
            tags=tags,
        )
        if metric not in ("loss", "eval_loss"):
            raise ValueError(f"Expected metric to be 'loss' or 'eval_loss', got {metric!r}, so choose one of them.")
        self._metric = metric
        self._given_tell = self._tell = tell
        self._failed = False
        self._reset()

    @property
    def curve(self) -> LossCurve:
        """The loss so far, one point per entry of the log."""
        return self._log.curve(step=self._ended_at, epoch_ends=self._epoch_ends)

    def summary(self) -> str:
        """Return the table of the forecasts at 10, 20, … 90 % of the run, beside what happened once it is over."""
        return self._live.summary(self.curve)

    def on_train_begin(
        self, args: Any, state: Any, control: Any, model: Any = None, lr_scheduler: Any = None, **kwargs: Any
    ) -> None:
        """Plan the run; of one that is resumed, go through its log again."""
        self._failed = False
        self._guard(lambda: self._begin(args, state, model, _unwrapped(lr_scheduler)))

    def on_log(
        self, args: Any, state: Any, control: Any, logs: Any = None, lr_scheduler: Any = None, **kwargs: Any
    ) -> None:
        """Take a loss, forecast where it is time, and stop the run where a rule may."""
        if not logs or self._metric not in logs:
            return
        self._guard(lambda: self._logged(state, logs, _unwrapped(lr_scheduler)))
        if self._settings.rules:
            self._guard(lambda: self._vote(args, state, control), even_if_failed=True)

    def on_epoch_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Note that a pass over the training data has ended."""
        self._guard(lambda: self._epoch_ends.append(int(state.global_step)))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Say how the forecasts did."""
        self._guard(lambda: self._finish(state))

    # Inside -----------------------------------------------------------------------------------------------------------

    def _reset(self) -> None:
        settings = self._settings
        self._live = LiveForecast(
            settings.rules, advisers=settings.advisers, level=settings.level, refits=settings.refits
        )
        self._herald = Herald(None)
        self._log = LogCurve(averaged=self._metric == "loss")
        self._epoch_ends: list[int] = []
        self._ended_at = 0
        self._memory: Memory | None = None
        self._wants_stop = self._stopped = False
        self._stopped_by: str | None = None
        self._distrust = 0  # how often the rate in use was not the planned one

    def _begin(self, args: Any, state: Any, model: Any, scheduler: Any) -> None:
        before, stopped_by = self._live, self._stopped_by
        self._reset()
        self._tell = self._given_tell if state.is_world_process_zero else None
        done, schedule, peak = int(state.global_step), None, 1.0
        past = lambda_rates(scheduler, done)
        if past is not None and past.size and past.max() > 0.0:
            schedule, peak = LRSchedule.from_array(past), float(past.max())
        plan = self._make_plan(state, scheduler, schedule, peak, step=0)
        if done and state.epoch:
            self._epoch_ends = [round(k * done / state.epoch) for k in range(1, int(state.epoch) + 1)]
        known = [entry for entry in state.log_history if entry.get("step", 0) <= done]
        if state.is_world_process_zero:
            self._recall(state, known)
        for entry in known:
            self._again(entry)
        for reason in reasons_to_overrule(before, stopped_by, (before, self._live)):
            self._live.overrule(reason)
        if self._tell is None:
            return
        size = "N not known" if model is None else describe_size(model_size(model))
        self._tell(f"ScalingLawCallback: {size}, {plan}.")
        if self._memory is not None and (said := self._memory.opening(self._live, None)):
            self._tell(f"ScalingLawCallback: {said}")
        by_steps = getattr(args.logging_strategy, "value", args.logging_strategy) == "steps"
        n = state.max_steps / max(int(state.logging_steps), 1) if by_steps else state.num_train_epochs
        if self._metric == "loss" and n < _FEW_LOGS:
            self._tell(f"The loss is logged {n:.0f} times in the run: log more often for earlier and surer forecasts.")

    def _recall(self, state: Any, known: Sequence[Mapping[str, Any]]) -> None:
        """Open the store of runs, under the name that the log knows, and let the log know a new one."""
        run_id = next((str(entry[_RUN]) for entry in reversed(known) if _RUN in entry), None)
        loss = "train_loss" if self._metric == "loss" else self._metric
        self._memory = recall(self._settings, self._live, run_id, loss=loss, step=int(state.global_step))
        if self._memory is not None and run_id != self._memory.run_id:
            state.log_history.append({_RUN: self._memory.run_id, "step": int(state.global_step)})

    def _make_plan(self, state: Any, scheduler: Any, schedule: LRSchedule | None, peak: float, *, step: int) -> Plan:
        end = PlannedEnd(int(state.max_steps) if state.max_steps > 0 else None, "max_steps")
        if self._distrust > 1:
            plan = Plan(end, None, "learning rate ahead not known (the one in use is not the scheduler's)")
        else:
            plan = scheduler_plan(scheduler, end, schedule, peak, self.curve)
        self._live.plan(end.step, plan.rates, step=step)
        return plan

    def _again(self, entry: Mapping[str, Any]) -> None:
        """Take an entry of the log of an earlier part of the run."""
        if self._metric in entry:
            self._take(int(entry["step"]), entry)
            self._live.alarm.news()  # was told then
        if (reason := entry.get(_MARK)) is not None:
            self._live.overrule(str(reason))

    def _take(self, step: int, entry: Mapping[str, Any]) -> bool | None:
        """Take an entry; return whether a forecast brought news, None where there was no forecast."""
        lr = entry.get("learning_rate")
        if step > self._log.step:
            self._live.watch([step], [float(entry[self._metric])])
        self._log.append(step, float(entry[self._metric]), None if lr is None else float(lr))
        live = self._live
        if self._log.step < live.next_step and not live.is_alarmed(self._log.n_nonfinite, math.nan, math.inf):
            return None
        return live.refit(self.curve)

    def _logged(self, state: Any, logs: dict[str, Any], scheduler: Any) -> None:
        step, lr = int(state.global_step), logs.get("learning_rate")
        if lr is not None and not self._live.keeps_promise(step, float(lr)):
            self._distrust += 1
            plan = self._make_plan(state, scheduler, None, 1.0, step=self._log.step)
            if self._tell is not None:
                self._tell(f"Step {thousands(step)}: the learning rate left its schedule; now: {plan}.")
        news = self._take(step, logs)
        for departure in self._live.alarm.news():
            words = self._herald.tell(departure)
            if self._tell is not None:
                self._tell(words)
        if news is not None:
            if self._memory is not None:
                self._memory.keep(self._live, self.curve)
            self._wants_stop = self._live.wants_stop
            known = {f"scaling/{key}": value for key, value in self.values.items() if key.startswith("final_loss")}
            logs.update({key: value for key, value in known.items() if math.isfinite(value)})
        if news and self._tell is not None:
            self._tell(self._live.sentence)

    def _vote(self, args: Any, state: Any, control: Any) -> None:
        """Stop where rank 0 wants to; rounding may differ between machines, and all ranks must end together."""
        wants = self._wants_stop and not self._failed
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            vote = torch.tensor([float(wants)], device=args.device)
            dist.broadcast(vote, src=0)
            wants = bool(vote.item())
        if wants:
            self._stopped = True
            control.should_training_stop = True
            reason = "" if self._live.acts_on is None else self._live.acts_on.name
            self._stopped_by = reason
            state.log_history.append({_MARK: reason, "step": int(state.global_step)})

    def _finish(self, state: Any) -> None:
        self._ended_at = int(state.global_step)
        known = self.history[-1].step if self.history else 0
        if self._ended_at > known and not self._stopped:
            self._live.refit(self.curve)
        if self._memory is not None:
            self._memory.close(self._live, self.curve, over=True)
        if self._tell is not None:
            self._tell("\n" + self.summary())

    def _guard(self, work: Callable[[], None], *, even_if_failed: bool = False) -> None:
        if self._failed and not even_if_failed:
            return
        try:
            work()
        except Exception as error:
            if not self._failed:
                self._failed = True
                say_warning(
                    f"Expected to follow the loss, got {type(error).__name__}: {error}, so ScalingLawCallback is quiet "
                    "from here on; training is not affected. Please report this."
                )


def _unwrapped(scheduler: Any) -> Any:
    """Return the scheduler of torch inside that of accelerate."""
    return getattr(scheduler, "scheduler", scheduler)
