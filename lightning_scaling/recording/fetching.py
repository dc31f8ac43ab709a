"""Fetching: the steps at which the losses of a run are sent off, taken in and looked at."""

from __future__ import annotations

from collections.abc import Callable

from lightning_scaling.live import LiveForecast
from lightning_scaling.recording.recorder import CurveRecorder
from lightning_scaling.refits import LAG, next_fetch

__all__ = ["Fetching"]


class Fetching:
    """Drives a recorder, so that forecasts are made of the same losses however fast a device is.

    Losses in the host's memory are fetched and looked at in the same step. Those on a device are sent off at the steps
    at which the host's would be fetched, and taken in and looked at `LAG` steps later, or at the next such step where
    that comes first: what is looked at are the same losses, and no step waits for the one that it ends. All of these
    steps follow from the step alone, so that a resumed run keeps to them.

    Args:
        recorder: The losses.
        live: Their forecasts, which say when a refit is due.
        across_ranks: Whether every rank takes part in a fetch.
        last: A step at which there is a fetch in any case [steps].

    Attributes:
        due: The step at which there is something to do [steps].
    """

    def __init__(
        self, recorder: CurveRecorder, live: LiveForecast, *, across_ranks: bool, last: int | None = None
    ) -> None:
        self._recorder = recorder
        self._live = live
        self._across_ranks = across_ranks
        self._last = last
        self.due = 0

    def plan(self, step: int) -> None:
        """Find anew what is due after a step: refits are planned anew, or a run goes on."""
        sent = self._recorder.sent
        if sent is None:
            self.due = self._next(step, self._live.next_step)
        else:
            self.due = max(min(sent + LAG, self._next(sent, self._live.due_after(sent))), step + 1)

    def turn(self, step: int, look: Callable[[], None], *, wait: bool = False) -> None:
        """Do what is due at a step.

        Args:
            step: Optimizer steps done, all of them recorded [steps].
            look: What to do with losses that have been taken in.
            wait: Whether to take in at once what is sent off now; every rank must say the same.
        """
        if self._across_ranks:
            self.plan(step)  # the other ranks rely on it, whatever fails here
            self._recorder.flush(wait=wait)
            look()
            return
        self.land(look)
        if self.due > step and not wait:
            return
        self._recorder.flush(wait=wait)
        if self._recorder.sent is None:
            look()
        self.plan(step)

    def land(self, look: Callable[[], None]) -> None:
        """Take in what a device has sent off, and look at it."""
        sent = self._recorder.sent
        if sent is None:
            return
        self._recorder.land()
        look()
        self.due = self._next(sent, self._live.next_step)

    def _next(self, step: int, refit: int) -> int:
        found = next_fetch(step, refit, across_ranks=self._across_ranks, horizon=self._live.horizon)
        return min(found, self._last) if self._last is not None and step < self._last else found
