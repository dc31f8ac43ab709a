"""GuestMonitor: the monitor of a script that has not asked for one."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from lightning_scaling.callback import ScalingLawMonitor

__all__ = ["GuestMonitor"]


class GuestMonitor(ScalingLawMonitor):
    """A `ScalingLawMonitor` that `autoload` puts into a Trainer: it advises only, and is in nobody's way.

    It is silent in a Trainer that has a monitor of its own. Across ranks it follows the loss of rank 0 and waits for no
    other rank, because nobody knows whether the others have one too.

    Args:
        arguments: Those of `ScalingLawMonitor`, without ``stop``.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a number is out of its range.
    """

    _is_guest = True

    def __init__(self, **arguments: Any) -> None:
        if "stop" in arguments:
            raise TypeError("Expected no 'stop', got one, so put a ScalingLawMonitor into the script to stop runs.")
        super().__init__(**arguments)
        self._settings = replace(self._settings, across_ranks=False)
        # Lightning refuses two callbacks of one key, and a script's own monitor may bear any name.
        self.state_key = "GuestMonitor"

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Take up a run, unless another monitor does or this is not rank 0."""
        self._active = False
        others = [c for c in trainer.callbacks if isinstance(c, ScalingLawMonitor) and c is not self]
        if others or not trainer.is_global_zero:
            self._restored = None  # what is not gone on with is not saved again
            return
        super().on_train_start(trainer, pl_module)
