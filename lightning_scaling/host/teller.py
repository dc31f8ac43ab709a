"""Teller: what is said of a run, and where its numbers and pictures go."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

from lightning_scaling.curve import LossCurve
from lightning_scaling.errors import say_warning
from lightning_scaling.host.batch import BatchSize
from lightning_scaling.host.figures import Figures, can_draw
from lightning_scaling.host.loggers import Picture
from lightning_scaling.host.losses import Losses
from lightning_scaling.host.outlets import Outlets
from lightning_scaling.host.plan import Plan
from lightning_scaling.host.series import Series
from lightning_scaling.host.settings import Settings
from lightning_scaling.host.size import ModelSize, describe_size
from lightning_scaling.host.steps import logged_step
from lightning_scaling.units import thousands

_LAW = "L(N,S), Kaplan et al. 2020 Eq. 1.6"


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
        self._figures: Figures | None = None

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
            per_step = f"{thousands(settings.tokens_per_step)} tokens per step"
        else:
            per_step = "batch size not known" if batch is None else str(batch)
        self.say(trainer, f"ScalingLawMonitor{of}: {N}, {plan}, {per_step}.")
        self.say(trainer, known and f"ScalingLawMonitor: {known}")
        if overruled:
            self.say(trainer, f"The run was stopped before ({overruled}): that advises only from here on.")

    def say(self, trainer: Any, words: str, *, always: bool = False) -> bool:
        """Say something while the run is on, unless there is nothing to say or nobody wants to hear.

        Args:
            trainer: The Trainer.
            words: What to say.
            always: Whether to say it in any case, as it must be said why a run ends.

        Returns:
            Whether it was said.
        """
        said = bool(words) and (always or self._settings.verbose)
        if said:
            self._outlets.say(trainer, words)
        return said

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

    def record(self, trainer: Any, N: float | None, plan: Plan, batch: BatchSize | None) -> None:
        """Record in the loggers with what the run begins, or goes on; decide whether there will be figures.

        Args:
            trainer: The Trainer.
            N: Non-embedding parameters, None where not known.
            plan: Where the run ends, and with which learning rates.
            batch: Size of an optimizer step, None where it is not known.
        """
        settings = self._settings
        if settings.tokens_per_step is not None:
            batch = BatchSize(settings.tokens_per_step, "tokens")
        facts: dict[str, str | int | float] = {
            "monitor": settings.monitor or "training loss of every step",
            "N": "not known" if N is None else int(N),
            "horizon": "not known" if plan.end.step is None else plan.end.step,
            "horizon_from": plan.end.why,
            "lr_schedule": plan.words,
            f"{'tokens' if batch is None else batch.unit}_per_step": "not known" if batch is None else batch.per_step,
            "level": settings.level,
            "law": _LAW,
            "version": str(importlib.import_module("lightning_scaling").__version__),
        }
        self._outlets.log_facts(trainer, facts, logged_step(trainer))
        if settings.figures:
            if not self._outlets.shows_pictures(trainer):
                there = ", ".join(type(logger).__name__ for logger in trainer.loggers) or "none at all"
                say_warning(
                    f"Expected a logger that shows pictures for figures=True, got {there}, so there are none; give the "
                    "Trainer a TensorBoardLogger, WandbLogger or MLFlowLogger."
                )
            elif can_draw():
                self._figures = Figures(settings.monitor or "training loss")

    def draw(self, trainer: Any, curve: LossCurve, step: int) -> None:
        """Hand a picture that is finished to the loggers, and have the next one drawn where it is due.

        Args:
            trainer: The Trainer.
            curve: The main loss so far.
            step: Where the loggers are [steps].
        """
        if self._figures is not None:
            self._hand_over(trainer, self._figures.take(), step)
            self._figures.follow(self._losses.main.live, curve)

    def close(self, trainer: Any, step: int, *, logged_at: int, over: bool) -> None:
        """Say how the forecasts did, and record it.

        Args:
            trainer: The Trainer; its progress bar may be closed already.
            step: Optimizer step that the run has come to [steps].
            logged_at: Where the loggers are [steps].
            over: Whether it ended as it was meant to; one that was cut off waits for no picture.
        """
        if not len(self._losses.main.recorder.builder):
            return
        words = self._losses.summary(step)
        if self._settings.verbose:
            self._outlets.tell("\n" + words)
        self._outlets.log_closing(trainer, self._losses.outcome(step), words, logged_at)
        if self._figures is not None:
            main = self._losses.main
            last = self._figures.last(main.live, main.curve(None)) if over else self._figures.take()
            self._hand_over(trainer, last, logged_at)

    def _hand_over(self, trainer: Any, picture: Picture | None, step: int) -> None:
        if picture is not None:
            self._outlets.log_picture(trainer, picture, step)
