"""Memory: the store of runs beside a run that is going on, which reads it once and never waits for it in a step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lightning_scaling.curve import LossCurve
from lightning_scaling.errors import say_warning
from lightning_scaling.forecast import forecast
from lightning_scaling.host.settings import Settings
from lightning_scaling.ledger import LAST_PART, ForecastLedger, recent_loss
from lightning_scaling.live import LiveForecast
from lightning_scaling.store import RunStore, StoredRun
from lightning_scaling.store.writing import new_id
from lightning_scaling.track_record import KEY, TrackRecord, score

__all__ = ["Memory", "recall"]

#: Longest wait for the store at the end of a run [s].
_PATIENCE = 60.0


def recall(settings: Settings, live: LiveForecast, run_id: str | None, *, loss: str, step: int = 0) -> Memory | None:
    """Open the store of runs that a monitor was given, and let its forecasts borrow from what is there.

    Args:
        settings: What the user has set.
        live: The forecasts of the run.
        run_id: Name of the run in the store, of an earlier session; None: a new one.
        loss: Which loss is forecast; a store is of many, and each run says of which one it is.
        step: Optimizer steps done [steps].

    Returns:
        The memory, None where no store was given.
    """
    if settings.store is None:
        return None
    memory = Memory(settings.store, {**settings.tags, "loss": loss}, run_id)
    memory.read(step)
    live.siblings = memory.siblings
    return memory


class Memory:
    """Reads the siblings of a run from a store at its start, and writes the run into it as it goes on.

    Whatever the store does, training goes on: its failures are warned of once, and a write that hangs is left behind.

    Args:
        store: The store.
        tags: What tells this run apart.
        run_id: Name of the run in the store, of an earlier session; None: a new one.

    Attributes:
        siblings: The finished runs that were there at the start.
        record: What the forecasts of these were worth.
    """

    def __init__(self, store: RunStore, tags: Mapping[str, Any], run_id: str | None = None) -> None:
        self._store = store
        self._tags = dict(tags)
        self.run_id = run_id or new_id(self._tags)
        self.siblings: Sequence[StoredRun] = ()
        self.record = TrackRecord()
        self._writing: threading.Thread | None = None
        self._has_warned = False

    def read(self, step: int = 0) -> None:
        """Read the finished runs of the same loss.

        Args:
            step: Where this run goes on [steps]. One of its name that is over and went further stays in the store as it
                is: this run branches off it, and gets a name of its own.
        """
        try:
            loss, runs = self._tags.get("loss"), self._store.runs()
            if any(run.id == self.run_id and run.state != "running" and run.curve.step > step for run in runs):
                self.run_id = new_id(self._tags)
            finished = [run for run in runs if run.state == "finished" and run.id != self.run_id]
            self.siblings = [run for run in finished if run.tags.get("loss", loss) == loss]
            self.record = TrackRecord.of(self.siblings)
        except Exception as error:
            self._warn(error)

    def opening(self, live: LiveForecast, N: float | None) -> str:
        """Return what the siblings say of a run that has just begun, in words; nothing where there are none."""
        if not self.siblings or live.horizon is None or self._has_warned:
            return ""
        record = str(self.record)
        said = f" {record[:1].upper()}{record[1:]}." if self.record.n else ""
        try:
            begun = forecast(
                LossCurve([], [], N=N), horizon=live.horizon, lr_schedule=live.schedule, store=self.siblings
            )
        except Exception as error:
            self._warn(error)
            return ""
        runs = f"{len(self.siblings)} finished run{'s' * (len(self.siblings) != 1)} in the store"
        if not begun.verdict.usable:
            return f"{runs}, none like this one so far.{said}"
        return f"{runs}: from {begun.n_siblings} of them this one should end at {begun.final_loss}.{said}"

    def keep(self, live: LiveForecast, curve: LossCurve) -> None:
        """Write what is known of the run, in a thread; left out where the last writing still goes on."""
        if self._writing is not None and self._writing.is_alive():
            return
        if len(curve) and not self._has_warned:
            self._start(self._writer(live, curve, None))

    def close(self, live: LiveForecast, curve: LossCurve, *, over: bool, step: int | None = None) -> None:
        """Write the run a last time, and wait for that for a while.

        Args:
            live: Its plan and its forecasts.
            curve: Its loss.
            over: Whether it ended as it was meant to, or was stopped for good; False: it was cut off, and may go on.
            step: Step that the run has reached, where the loss is not known at every step; default: the curve's.
        """
        if not len(curve) or self._has_warned:
            return
        if self._writing is not None:
            self._writing.join(_PATIENCE)
        step, horizon = curve.step if step is None else step, live.horizon
        # A value from before the last part of a run is not its end.
        ended = horizon is None or (step >= horizon and curve.step >= (1.0 - LAST_PART) * horizon)
        self._start(self._writer(live, curve, ended if over else None))
        assert self._writing is not None
        self._writing.join(_PATIENCE)
        if self._writing.is_alive():
            self._warn(TimeoutError(f"no answer for {_PATIENCE:.0f} s"))

    def _writer(self, live: LiveForecast, curve: LossCurve, finished: bool | None) -> Callable[[], None]:
        horizon = live.horizon if live.horizon is not None and curve.step <= live.horizon else None
        schedule = live.schedule if horizon is not None else None
        state = live.ledger.state_dict()  # the run goes on while this is written

        def write() -> None:
            forecasts, derived = ForecastLedger.from_state(state), None
            if finished:
                found = score(forecasts, recent_loss(curve))
                derived = None if found is None else {KEY: found}
            self._store.add(
                curve,
                horizon=horizon,
                lr_schedule=schedule,
                tags=self._tags,
                finished=finished,
                forecasts=forecasts,
                derived=derived,
                id=self.run_id,
            )

        return write

    def _start(self, write: Callable[[], None]) -> None:
        def work() -> None:
            try:
                write()
            except Exception as error:
                self._warn(error)

        # A daemon: a store that does not answer must not keep the program from ending.
        self._writing = threading.Thread(target=work, name="lightning_scaling store", daemon=True)
        self._writing.start()

    def _warn(self, error: Exception) -> None:
        if not self._has_warned:
            self._has_warned = True
            say_warning(
                f"Expected the store of runs to be there, got {type(error).__name__}: {error}, so this run goes on "
                "without it; training is not affected."
            )
