"""LoopMonitor: forecasts and stops for a training loop of one's own."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor
from torch.optim.lr_scheduler import LRScheduler

from lightning_scaling.advice import StopRule
from lightning_scaling.alarm import Departure
from lightning_scaling.branch import reasons_to_overrule
from lightning_scaling.curve import LossCurve
from lightning_scaling.errors import say_warning
from lightning_scaling.host.herald import Herald
from lightning_scaling.host.loop_course import LoopCourse
from lightning_scaling.host.memory import Memory, recall
from lightning_scaling.host.settings import Settings
from lightning_scaling.host.steps import is_half_precision
from lightning_scaling.live import LiveForecast
from lightning_scaling.readings import Readings
from lightning_scaling.recording.fetching import Fetching
from lightning_scaling.recording.recorder import CurveRecorder
from lightning_scaling.refits import BUFFER
from lightning_scaling.store import RunStore

__all__ = ["LoopMonitor"]

_VERSION = 1


class LoopMonitor(Readings):
    """Watch the loss of a plain PyTorch loop, forecast where it will end, and say when to stop.

    One call per optimizer step is all it takes; see the example. `step` keeps a copy of the loss where it is and waits
    for no device. At a bounded number of steps the losses are fetched and the law is fitted anew; what changes is told
    in a sentence, and the numbers are in `reading`, `values`, `forecast`, `advice` and `history`.

    `step` returns True from when a rule of ``stop`` may act: after a fifth of the run, if it stands at a second look,
    and on a learning rate ahead that is known; `Diverged` acts at once on NaN and at the second look otherwise.
    Once the loop is running, `step` and `state_dict` never raise: what fails is warned of once, and then there is
    silence.

    Args:
        horizon: Planned end of the run [steps]; None: the converged loss is forecast only.
        lr_schedule: Learning rates ahead: a scheduler of torch that is stepped once after each optimizer step, of which
            a copy is replayed, or the rate of steps 1..horizon [any unit]; None: taken to stay as it is.
        stop: A rule or several; none: advice only.
        advise: A rule or several that are told of, in the sentences and in `advice`, and never stop the run, such as
            `ComputeEfficient`. What those of ``stop`` say comes first.
        level: Probability that an interval holds its number [1].
        refits: Most fits over a run of known length.
        tell: What is called with each sentence, such as ``tqdm.write``; None: nothing.
        across_ranks: Whether every rank of the default process group has a monitor. Then the loss is the mean over the
            ranks, rank 0 decides, and `step` returns the same on all of them. Where False, each follows its own loss.
        store: A `RunStore`, or the folder or URL of one: as in `ScalingLawMonitor`, rank 0 reads its finished runs at
            the first step and writes this one into it, as over at the horizon, at a stop, and where `close` says so.
        tags: What tells this run apart in the store, such as ``{"task": "text"}``.
        on_departure: What is called with a `Departure` when the loss leaves its own forecast: see `ScalingLawMonitor`.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a number is out of its range, ``lr_schedule`` has not ``horizon`` entries, or rules are to stop
            one of several ranks and ``across_ranks`` does not say how.

    Example:
        >>> monitor = LoopMonitor(horizon=1_000, lr_schedule=[0.1] * 1_000, tell=None)
        >>> for step in range(1, 501):
        ...     if monitor.step(2.0 + 6.0 * step**-0.5):  # the loss of your own step, usually a tensor
        ...         break
        >>> print(monitor.reading, monitor.forecast.verdict)
        2.192±0.008 ok
    """

    def __init__(
        self,
        horizon: int | None = None,
        lr_schedule: LRScheduler | Sequence[float] | NDArray[np.float64] | None = None,
        *,
        stop: StopRule | Sequence[StopRule] | None = None,
        advise: StopRule | Sequence[StopRule] | None = None,
        level: float = 0.9,
        refits: int = 40,
        tell: Callable[[str], object] | None = print,
        across_ranks: bool | None = None,
        store: str | PathLike[str] | RunStore | None = None,
        tags: Mapping[str, str | int | float | bool] | None = None,
        on_departure: Callable[[Departure], object] | None = None,
    ) -> None:
        self._scheduler: LRScheduler | None = None
        if isinstance(lr_schedule, LRScheduler):
            self._scheduler, lr_schedule = lr_schedule, None
        self._settings = Settings.of(
            stop=stop,
            advise=advise,
            horizon=horizon,
            lr_schedule=lr_schedule,
            level=level,
            refits=refits,
            verbose=tell is not None,
            store=store,
            tags=tags,
            on_departure=on_departure,
        )
        if self._scheduler is not None and horizon is None:
            raise ValueError("Expected a horizon beside a scheduler, got None, so give the number of steps planned.")
        self._across_ranks = _together(across_ranks, self._settings.rules)
        first = not (dist.is_available() and dist.is_initialized()) or dist.get_rank() == 0
        self._tell = tell if first else None
        self._thinks = first or not self._across_ranks
        self._remembers = first and store is not None
        self._memory: Memory | None = None
        self._run_id: str | None = None
        self._failed = False
        self._introduced = False
        self._stop = False
        self._stopped_by: str | None = None
        self._step = 0
        self._live = LiveForecast(
            self._settings.rules, advisers=self._settings.advisers, level=self._settings.level, refits=refits
        )
        self._recorder = CurveRecorder(buffer=4 * BUFFER, across_ranks=self._across_ranks, note_size=1)
        self._recorder.listener = lambda steps, losses: self._live.watch(steps, losses, time.monotonic())
        self._herald = Herald(on_departure)
        self._course = LoopCourse(self._settings, self._scheduler, self._recorder, self._live)
        self._fetching = Fetching(
            self._recorder, self._live, across_ranks=self._across_ranks, last=self._settings.horizon
        )
        self._fetching.plan(0)

    def step(self, loss: Tensor | float, lr: Tensor | float | None = None, *, at: int | None = None) -> bool:
        """Take the loss of an optimizer step; return whether to stop.

        Args:
            loss: Loss of the step, a tensor of one element (of more: their mean) or a number. With gradient
                accumulation, the mean over its batches. A copy is taken.
            lr: Learning rate used; default: that of the scheduler's optimizer.
            at: The optimizer step, counted from 1 [steps]; default: one more than the last.
        """
        self._guard(lambda: self._append(loss, lr, self._step + 1 if at is None else at))
        if self._step >= self._fetching.due:
            self._guard(self._fetch)
        return self._stop

    def close(self) -> None:
        """Say that the run is over: forecast what no forecast knows yet, and write it into its store.

        Of use where a loop ends before its horizon, or has none. Every rank must call it.
        """
        self._guard(self._finish)

    @property
    def curve(self) -> LossCurve:
        """The loss so far, in windows; asking for it fetches the newest losses, but across ranks waits for none."""
        return self._recorder.curve()

    def summary(self) -> str:
        """Return the table of the forecasts at 10, 20, … 90 % of the run, beside what happened once it is over."""
        return self._live.summary(self.curve)

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists, as ``torch.load(weights_only=True)`` wants them."""
        state: dict[str, Any] = {"version": _VERSION, "step": self._step, "stopped_by": self._stopped_by}
        state |= {"distrust": self._course.distrust, "run_id": self._run_id}
        self._guard(lambda: state.update(recorder=self._recorder.state_dict(), live=self._live.state_dict()))
        return state if "live" in state else {}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`; a rule that had stopped the run advises only from here on.

        A state of before the stop knows nothing of it, but the monitor that said stop does.

        Raises:
            ValueError: If the state is of another version, or no state of a `LoopMonitor`; nothing is changed then.
        """
        if state_dict == {}:  # of a monitor that had failed
            return
        step, distrust, stopped_by = _readable(state_dict)
        known = LiveForecast()
        known.load_state_dict(state_dict["live"])
        overruled = reasons_to_overrule(self._live, self._stopped_by, (self._live, known))
        self._live.load_state_dict(state_dict["live"])
        self._live.forecast = None
        self._recorder.load_state_dict(state_dict["recorder"])
        self._step, self._course.distrust = step, distrust
        for reason in [*overruled, *([] if stopped_by is None else [stopped_by])]:
            self._live.overrule(reason)
        self._stop, self._stopped_by = False, None
        self._run_id, self._memory = state_dict.get("run_id"), None
        self._course.renew(self._step)
        self._fetching.plan(self._step)

    def _append(self, loss: Any, lr: Any, step: int) -> None:
        """Record a step; one whose loss cannot be taken counts all the same, because other ranks rely on the count."""
        failure = None
        try:
            if lr is None and self._scheduler is not None:
                lr = self._scheduler.optimizer.param_groups[0]["lr"]
            loss, lr = _copied(loss), _copied(lr)
        except Exception as error:
            loss, lr, failure = None, None, error
        self._recorder.append(step, loss, lr)
        self._step = step
        if failure is not None:
            raise failure
        if self._remembers and self._memory is None:
            self._memory = recall(self._settings, self._live, self._run_id, loss="train_loss", step=step - 1)
            self._run_id = None if self._memory is None else self._memory.run_id
        if not self._introduced:
            self._introduce(loss)

    def _introduce(self, loss: Any) -> None:
        """Say once what was found."""
        self._introduced = True
        if self._tell is not None:
            self._tell(f"LoopMonitor: {self._course.plan}.")
            if self._memory is not None and (known := self._memory.opening(self._live, None)):
                self._tell(f"LoopMonitor: {known}")
        if isinstance(loss, Tensor) and is_half_precision(loss) and self._thinks:
            say_warning(
                f"Expected a loss in float32, got {loss.dtype}, which resolves 3 digits at best, so compute the loss "
                "in float32, for example from logits.float()."
            )

    def _fetch(self) -> None:
        """Fetch the losses, and see what they say."""
        try:
            self._fetching.turn(self._step, self._look, wait=self._step == self._settings.horizon)
        finally:
            self._hear()

    def _hear(self) -> None:
        """Take rank 0's decision, where it decides for others."""
        if self._across_ranks:
            self._stop = self._recorder.heard[0] > 0.0

    def _look(self) -> None:
        """Where it is time, forecast, and let rank 0's decision be known."""
        recorder, live = self._recorder, self._live
        self._hear()
        if self._stop and self._across_ranks:
            recorder.flush()  # every rank is here: get what is under way
        if not self._thinks:
            return
        self._announce()
        if (news := self._course.follow_rate(self._step)) and self._tell is not None:
            self._tell(news)
        alarmed = live.is_alarmed(recorder.builder.n_nonfinite, recorder.latest, recorder.latest_error)
        if recorder.step >= live.next_step or alarmed:
            self._refit()
        if self._memory is not None and (self._stop or recorder.step == self._settings.horizon):
            self._memory.close(live, recorder.builder.curve(), over=True)

    def _announce(self) -> None:
        """Tell of a loss that has left its forecast since the last look."""
        for departure in self._live.alarm.news():
            words = self._herald.tell(departure)
            if self._tell is not None:
                self._tell(words)

    def _refit(self) -> None:
        live, curve = self._live, self._recorder.builder.curve()
        changed = live.refit(curve)
        if self._across_ranks:
            self._recorder.note = [float(live.wants_stop)]
        else:
            self._stop = live.wants_stop
        if live.wants_stop and live.acts_on is not None:
            self._stopped_by = live.acts_on.name
        if self._memory is not None:
            self._memory.keep(live, curve)
        if changed and self._tell is not None:
            self._tell(live.sentence)

    def _finish(self) -> None:
        recorder, live = self._recorder, self._live
        self._fetching.land(self._look)
        recorder.flush()
        if not self._thinks:
            return
        self._announce()
        if len(recorder.builder) and recorder.step > live.last_step and not self._stop:
            self._refit()
        if self._memory is not None:
            self._memory.close(live, recorder.builder.curve(), over=True)

    def _guard(self, work: Callable[[], None]) -> None:
        """Do something that must not raise; after a failure go quiet, but take part in what other ranks wait for."""
        if self._failed and not self._across_ranks:
            return
        try:
            work()
        except Exception as error:
            self._thinks, self._recorder.note = False, [0.0]
            if not self._across_ranks:
                self._stop = False
            if not self._failed:
                self._failed = True
                say_warning(
                    f"Expected to follow the loss, got {type(error).__name__}: {error}, so LoopMonitor is quiet from "
                    "here on; training is not affected."
                )


def _readable(state: Any) -> tuple[int, int, str | None]:
    """Return step, distrust and stopping reason of a state, after both of its large parts were read for trial."""
    without = "so go on without it: the curve then begins at the present step."
    found = repr(state.get("version")) if isinstance(state, Mapping) else f"a {type(state).__name__}"
    if not isinstance(state, Mapping) or state.get("version") != _VERSION:
        raise ValueError(f"Expected a LoopMonitor state of version {_VERSION}, got {found}, {without}")
    try:
        LiveForecast().load_state_dict(state["live"])
        CurveRecorder().load_state_dict(state["recorder"])
        stopped_by = state["stopped_by"]
        if not isinstance(stopped_by, str | None):
            raise TypeError(f"stopped_by={stopped_by!r}")
        return int(state["step"]), int(state.get("distrust", 0)), stopped_by
    except Exception as error:
        raise ValueError(f"Expected a readable LoopMonitor state, got {error!r}, {without}") from error


def _together(across_ranks: bool | None, rules: tuple[StopRule, ...]) -> bool:
    """Return whether the ranks decide together; where one of them might stop alone, it must be said."""
    several = dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1
    if across_ranks is None and several and rules:
        raise ValueError(
            f"Expected across_ranks to be given where a rule may stop one of {dist.get_world_size()} ranks, got None, "
            "so give True on every rank, or False and tell the other ranks yourself."
        )
    return bool(across_ranks) and several


def _copied(value: Any) -> Any:
    """Return a copy of a tensor on its device: a loop may write its next loss, or rate, into the same tensor."""
    return value.detach().clone() if isinstance(value, Tensor) else value
