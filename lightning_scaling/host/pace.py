"""Where ``max_time`` will end a run: an estimate from the steps that it has taken so far."""

from __future__ import annotations

from typing import Any

#: How far a new estimate of the end may lie from the planned one, in parts of it, before the run is planned anew.
TOLERANCE = 0.02


class Pace:
    """Optimizer steps per second, by the clock of the Trainer's Timer, which is what ``max_time`` becomes.

    The pace is that of the newer half of the steps: the first ones of a run are slow, and a machine may be shared.
    """

    def __init__(self) -> None:
        self._marks: list[tuple[int, float]] = []  # (optimizer step, seconds of training) of every look, one per fit

    def end(self, trainer: Any, step: int) -> int | None:
        """Return the step at which the time will be up, None where there is no limit or two looks have yet to come.

        Args:
            trainer: The Trainer.
            step: Optimizer steps done [steps].
        """
        timer = time_limit(trainer)
        if timer is None:
            return None
        elapsed, left = float(timer.time_elapsed()), max(float(timer.time_remaining()), 0.0)
        earlier = [mark for mark in self._marks if mark[0] < step]
        self._marks = [*earlier, (step, elapsed)]
        halfway = [mark for mark in earlier if 2 * mark[0] <= step] or earlier[:1]
        if not halfway or elapsed <= halfway[-1][1]:
            return None
        since, then = halfway[-1]
        return step + round(left * (step - since) / (elapsed - then))


def time_limit(trainer: Any) -> Any | None:
    """Return the Timer that may end the run, None where there is none."""
    timers = (c for c in trainer.callbacks if hasattr(c, "time_remaining") and hasattr(c, "time_elapsed"))
    return next((timer for timer in timers if timer.time_remaining() is not None), None)


def time_is_up(trainer: Any) -> bool:
    """Return whether the time of the run is over."""
    timer = time_limit(trainer)
    return timer is not None and timer.time_remaining() <= 0.0
