"""Where the numbers of a forecast go: progress bar, loggers, and the metrics that other callbacks can monitor."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch

from lightning_scaling.errors import say_warning
from lightning_scaling.host.loggers import Facts, Picture, Writer, writer_of

_Value = TypeVar("_Value")


class Outlets:
    """Writes a monitor's numbers wherever a Trainer shows numbers.

    Args:
        name: Prefix of the metrics.
        tell: Prints a text, once for all ranks.
    """

    def __init__(self, name: str, tell: Callable[[str], None]) -> None:
        self.tell = tell
        self._name = name
        self._bar_key = "end" if name == "scaling" else f"{name} end"
        self._writers: dict[int, Writer] = {}  # each holds its logger, so that no other gets the same identity
        self._failed: set[int] = set()

    def say(self, trainer: Any, text: str) -> None:
        """Print a sentence while the run is on, above its progress bar where it has one."""
        text = text if self._name == "scaling" else f"[{self._name}] {text}"
        bar = trainer.progress_bar_callback
        # `is_enabled` is what Lightning's own bars have; a user's bar need not.
        if bar is not None and getattr(bar, "is_enabled", True):
            bar.print(text)
        else:
            self.tell(text)

    def show(self, trainer: Any, reading: str | None) -> None:
        """Show a short reading in the progress bar, or take it away."""
        if reading is None:
            trainer.progress_bar_metrics.pop(self._bar_key, None)
        else:
            trainer.progress_bar_metrics[self._bar_key] = reading

    def offer(self, trainer: Any, values: Mapping[str, float]) -> None:
        """Offer the numbers to other callbacks, the ones that are known: EarlyStopping ends a run that shows a NaN."""
        for key, value in values.items():
            if math.isfinite(value):
                trainer.callback_metrics[f"{self._name}/{key}"] = torch.tensor(value)

    def log(self, trainer: Any, values: Mapping[str, float], step: int) -> None:
        """Send the numbers to every logger, always the same keys; a logger that fails is left out from then on."""
        metrics = self._named(values)
        self._to_each(trainer, lambda writer: writer.numbers(metrics, step))

    def log_facts(self, trainer: Any, facts: Facts, step: int) -> None:
        """Record with what a run begins, in the loggers that keep such facts."""
        named = self._named(facts)
        self._to_each(trainer, lambda writer: writer.facts(named, step))

    def log_closing(self, trainer: Any, values: Mapping[str, float], words: str, step: int) -> None:
        """Record what became of a run: numbers, and a text."""
        metrics, text = self._named(values), (f"{self._name}/summary", words)
        self._to_each(trainer, lambda writer: writer.closing(metrics, text, step))

    def log_picture(self, trainer: Any, picture: Picture, step: int) -> None:
        """Hand a picture to the loggers that show pictures."""
        self._to_each(trainer, lambda writer: writer.picture(f"{self._name}/forecast", picture, step))

    def shows_pictures(self, trainer: Any) -> bool:
        """Return whether there is a logger that shows pictures."""
        return any(self._writer(logger).shows for logger in trainer.loggers)

    def _named(self, values: Mapping[str, _Value]) -> dict[str, _Value]:
        return {f"{self._name}/{key}": value for key, value in values.items()}

    def _writer(self, logger: Any) -> Writer:
        if id(logger) not in self._writers:
            self._writers[id(logger)] = writer_of(logger)
        return self._writers[id(logger)]

    def _to_each(self, trainer: Any, write: Callable[[Writer], None]) -> None:
        for logger in trainer.loggers:
            if id(logger) in self._failed:
                continue
            try:
                write(self._writer(logger))
            except Exception as error:
                self._failed.add(id(logger))
                say_warning(
                    f"Expected {type(logger).__name__} to take the forecast, got {type(error).__name__}: {error}, so "
                    "it gets no more of them; training goes on."
                )
