"""Teller: what is said of a run, and where its numbers go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lightning_scaling.host.batch import BatchSize
from lightning_scaling.host.losses import Losses
from lightning_scaling.host.outlets import Outlets
from lightning_scaling.host.plan import Plan
from lightning_scaling.host.series import Series
from lightning_scaling.host.settings import Settings
from lightning_scaling.host.size import ModelSize, describe_size


class Teller:
    """Tells in a Trainer what is known of the losses of a run: in sentences, in its loggers and in its metrics.

    Args:
        settings: What the user has set.
        losses: The losses of the run.
        tell: Prints a text, once for all ranks.
    """

    def __init__(self, settings: Settings, losses: Losses, tell: Callable[[str], None]) -> None:
        self._settings = settings
        self._losses = losses
        self._outlets = Outlets(settings.name, tell)

    def introduce(
        self, trainer: Any, size: ModelSize | None, plan: Plan, batch: BatchSize | None, *, known: str, overruled: str
    ) -> None:
        """Say with what a run begins, or goes on.

        Args:
            trainer: The Trainer.
            size: Size of the model, None where it is not known.
            plan: Where the run ends, and with which learning rates.
            batch: Size of an optimizer step, None where it is not known.
            known: What the store of runs says of it; nothing where there is none.
            overruled: The reason for which it was stopped before; nothing where it was not.
        """
        settings = self._settings
        of = "" if settings.monitor is None else f" of {settings.monitor}"
        N = describe_size(size) if settings.N is None else f"N = {settings.N:.4g} as given"
        if settings.tokens_per_step is not None:
            per_step = f"{settings.tokens_per_step:,} tokens per step".replace(",", " ")
        else:
            per_step = "batch size not known" if batch is None else str(batch)
        self.say(trainer, f"ScalingLawMonitor{of}: {N}, {plan}, {per_step}.")
        self.say(trainer, known and f"ScalingLawMonitor: {known}")
        if overruled:
            self.say(trainer, f"The run was stopped before ({overruled}): that advises only from here on.")

    def say(self, trainer: Any, words: str) -> None:
        """Say something while the run is on, unless there is nothing to say or nobody wants to hear."""
        if words and self._settings.verbose:
            self._outlets.say(trainer, words)

    def offer(self, trainer: Any, series: Series, values: Sequence[float]) -> None:
        """Offer the numbers of a loss to other callbacks."""
        if series.name is not None:
            self._outlets.offer(trainer, self._losses.numbers(series, values))

    def show(self, trainer: Any) -> None:
        """Show the main forecast in the progress bar."""
        self._outlets.show(trainer, self._losses.main.live.reading())

    def log(self, trainer: Any, series: Series, step: int) -> None:
        """Send the numbers of a loss to every logger, at a step of theirs."""
        self._outlets.log(trainer, self._losses.numbers(series, series.live.values()), step)

    def close(self, step: int) -> None:
        """Say how the forecasts did, of a run that has come to a step; its progress bar may be closed already."""
        if self._settings.verbose and len(self._losses.main.recorder.builder):
            self._outlets.tell("\n" + self._losses.summary(step))
