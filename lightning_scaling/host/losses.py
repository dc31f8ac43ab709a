"""Losses: the training loss and a logged metric side by side, one of them the main one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lightning_scaling.branch import reasons_to_overrule
from lightning_scaling.curve import LossCurve
from lightning_scaling.forecast import Forecast
from lightning_scaling.forecast.judge import BROKEN_AFTER
from lightning_scaling.host.metrics import LoggedMetric, find_validation_loss
from lightning_scaling.host.series import Series
from lightning_scaling.host.settings import Settings
from lightning_scaling.live import METRICS, LiveForecast
from lightning_scaling.outcome import outcome
from lightning_scaling.recording.recorder import CurveRecorder
from lightning_scaling.units import thousands
from lightning_scaling.verdict import Verdict


class Losses:
    """The series of a run, and what they say together.

    Args:
        settings: What the user has set; ``monitor`` decides which series is the main one.
        recorder: Collects the training loss.

    Attributes:
        steps: The training loss of every optimizer step.
        metric: A logged metric; without a name until one is found.
        main: The one that advice, rules and the progress bar speak of.
        beside: The other one.
    """

    def __init__(self, settings: Settings, recorder: CurveRecorder) -> None:
        monitor, level, refits = settings.monitor, settings.level, settings.refits
        ruled = LiveForecast(
            settings.rules, advisers=settings.advisers, level=level, refits=refits, loss=monitor or "the loss"
        )
        other = "the loss" if monitor is None else "the loss of every step"
        free = LiveForecast(level=level, refits=refits, loss=other)
        self._monitor = monitor
        # A logged metric may bear the name that the training loss has here.
        name = "train_loss" if monitor != "train_loss" else "step_loss"
        self.steps = Series(name, recorder, ruled if monitor is None else free)
        self.metric = LoggedMetric(monitor, free if monitor is None else ruled, refits=refits)
        self.main: Series = self.steps if monitor is None else self.metric
        self.beside: Series = self.metric if monitor is None else self.steps

    def find(self, keys: Sequence[str]) -> bool:
        """Look for a validation loss among logged metrics; return whether one is found."""
        self.metric.name = find_validation_loss(keys)
        return self.metric.name is not None

    def set_batch_size(self, B: float, unit: str) -> None:
        """Set the batch size of the steps to come [`unit` per step, tokens or samples]."""
        for series in (self.steps, self.metric):
            series.recorder.set_batch_size(B, unit)

    def curve(self, series: Series, N: float | None, *, newest: bool = False) -> LossCurve:
        """Return what is known of a series; where the training loss is broken, a metric is as well.

        Args:
            series: One of the two.
            N: Non-embedding parameters, None where not known.
            newest: Whether to fetch what has not been fetched yet; forecasts are made without it.
        """
        curve, steps = series.recorder.curve(N=N) if newest else series.curve(N), self.steps.recorder
        if series is self.steps or steps.builder.n_nonfinite < BROKEN_AFTER:
            return curve
        broken = max(curve.n_nonfinite, steps.builder.n_nonfinite)
        return replace(curve, step=max(curve.step, steps.step), n_nonfinite=broken)

    def breaks_beside(self) -> bool:
        """Return whether the main loss is a metric that does not know yet that the training loss has broken."""
        broken = self.steps.recorder.builder.n_nonfinite
        return self.main is self.metric and bool(broken) and self.main.live.is_alarmed(broken, math.nan, math.inf)

    def forecasts(self) -> dict[str, Forecast]:
        """Return the newest forecasts by the name of the loss, the main one first."""
        named = [(series.name, series.live.forecast) for series in (self.main, self.beside)]
        return {name: found for name, found in named if name is not None and found is not None}

    def numbers(self, series: Series, values: Sequence[float]) -> dict[str, float]:
        """Return the values of `METRICS` of a series by the names under which they are told."""
        place = "" if series is self.main else f"{series.label}/"
        return {f"{place}{name}": value for name, value in zip(METRICS, values, strict=True)}

    def named(self, words: str) -> str:
        """Return words about the main loss with its name before them, where one was given."""
        return words if self._monitor is None else f"[{self._monitor}] {words}"

    def sentence(self) -> str:
        """Return the advice in words, and what the series beside has to say."""
        main, reading = self.main.live, self.beside.live.reading()
        words = self.named(main.sentence)
        if reading is None:
            return words
        if self._monitor is None and main.forecast is not None and main.forecast.verdict is Verdict.REPEATED_DATA:
            words = f"{words} The data repeat, so this says little of held-out loss:"
        return f"{words} {self.beside.name} should end at {reading}."

    def summary(self, step: int) -> str:
        """Return the closing words of the main loss; of a metric that was never forecast, why, and those of the other.

        Args:
            step: Optimizer step that the run has reached [steps].
        """
        curve = self.curve(self.main, None, newest=True)
        words = self.main.live.summary(curve, step)
        told = any(record.verdict.usable for _, record in self.main.live.ledger.at_tenths())
        if self.main is self.steps or told or curve.n_nonfinite or not step:
            return words
        steps = self.curve(self.steps, None, newest=True)
        return (
            f"{words}\n\n{self._monitor} was there at {int(curve.count.sum())} of {thousands(step)} steps: a metric is "
            "taken after epochs and validations, and forecast from some ten values on. Without a name the monitor "
            "follows the training loss of every step, of which this was forecast beside it.\n\n"
            f"{self.steps.live.summary(steps)}"
        )

    def outcome(self, step: int) -> dict[str, float]:
        """Return the closing numbers of the main loss, as `summary` does in words."""
        curve = self.curve(self.main, None, newest=True)
        return outcome(self.main.live, curve, step)

    def reasons_to_overrule(self, stopped_by: str | None, taken_up: Losses) -> list[str]:
        """Return the reasons that do not stop a run again that these losses are of.

        Args:
            stopped_by: Name of the reason for which it was stopped, None where it was not.
            taken_up: What is known of a run that is taken up.
        """
        pairs = ((self.main.live, taken_up.main.live), (self.beside.live, taken_up.beside.live))
        return reasons_to_overrule(self.main.live, stopped_by, *pairs)

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists."""
        return {
            **self.steps.state_dict(),
            "metric": None if self.metric.name is None else self.metric.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`; another metric than that of the state begins anew, as does one without a state.

        Raises:
            ValueError: If the state is of another version.
        """
        self.steps.load_state_dict(state)
        known = state.get("metric")
        if known is not None and known["name"] == (self._monitor or find_validation_loss([known["name"]])):
            self.metric.load_state_dict(known)
