"""Series: one loss over the steps of a run, and what is forecast of it."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from lightning_scaling.curve import LossCurve
from lightning_scaling.live import LiveForecast
from lightning_scaling.recording.recorder import CurveRecorder


class Series:
    """The values of a loss by optimizer step, and its live forecast.

    Args:
        name: Name of the loss, None while it is not known.
        recorder: Its values.
        live: Its forecasts.
    """

    def __init__(self, name: str | None, recorder: CurveRecorder, live: LiveForecast) -> None:
        self.name = name
        self.recorder = recorder
        self.live = live
        recorder.listener = self._watch

    def _watch(self, steps: Sequence[int], losses: Sequence[float | None]) -> None:
        self.live.watch(steps, losses, time.monotonic())

    @property
    def label(self) -> str:
        """The name as a part of the names of metrics: one word without slashes."""
        return one_word(self.name or "")

    def curve(self, N: float | None) -> LossCurve:
        """Return what has been fetched so far."""
        return self.recorder.builder.curve(N=N)

    def is_behind(self) -> bool:
        """Return whether there are values that no forecast knows, and something to forecast from."""
        return len(self.recorder.builder) > 0 and self.recorder.step > self.live.last_step

    def is_due(self) -> bool:
        """Return whether it is time to fit again: as planned, or because of an alarm."""
        recorder = self.recorder
        alarmed = self.live.is_alarmed(recorder.builder.n_nonfinite, recorder.latest, recorder.latest_error)
        return recorder.step >= self.live.next_step or alarmed

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists."""
        return {"recorder": self.recorder.state_dict(), "live": self.live.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`.

        Raises:
            ValueError: If the state is of another version.
        """
        self.live.load_state_dict(state["live"])
        self.recorder.load_state_dict(state["recorder"])


def one_word(key: str) -> str:
    """Return the key of a metric as a part of the names of others: without slashes.

    Example:
        >>> one_word("val/loss")
        'val_loss'
    """
    return re.sub(r"[^\w.-]+", "_", key)
