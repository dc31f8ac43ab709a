"""FinishedRun: what is asked of a run that others learn from, wherever it is kept."""

from __future__ import annotations

from typing import Protocol

from lightning_scaling.curve import LossCurve
from lightning_scaling.schedule import LRSchedule

__all__ = ["FinishedRun"]


class FinishedRun(Protocol):
    """What is asked of a finished run; a `StoredRun` is one."""

    @property
    def curve(self) -> LossCurve:
        """Its losses; N and B travel in it."""

    @property
    def horizon(self) -> int | None:
        """Its planned end [steps]."""

    @property
    def lr_schedule(self) -> LRSchedule | None:
        """Learning rate of all its steps; None where not known."""
