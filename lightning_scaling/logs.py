"""LogCurve: the loss curve of a log that holds means over the steps since the entry before."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lightning_scaling.curve import LossCurve

__all__ = ["LogCurve"]


class LogCurve:
    """Collects the losses that a training loop logs, and puts each where it belongs: in the middle of its window.

    Args:
        averaged: Whether a loss is the mean over all steps since the entry before; else it is of its own step.

    Attributes:
        step: Step of the newest entry [steps].
        n_nonfinite: Steps with a NaN or infinite loss since the last finite one.

    Example:
        >>> log = LogCurve()
        >>> for step, loss in ((10, 5.5), (20, 4.1), (30, 3.6)):
        ...     log.append(step, loss)
        >>> log.curve().S.tolist(), log.curve().count.tolist(), log.curve().step
        ([5.5, 15.5, 25.5], [10.0, 10.0, 10.0], 30)
    """

    def __init__(self, *, averaged: bool = True) -> None:
        self.step = 0
        self.n_nonfinite = 0
        self._averaged = averaged
        self._rows: list[tuple[float, float, float, float]] = []  # middle, mean loss, learning rate, steps

    def append(self, step: int, loss: float, lr: float | None = None) -> None:
        """Add an entry; one that does not come after the newest, of a run that was taken up again, is left out."""
        if step <= self.step:
            return
        count = step - self.step if self._averaged else 1
        n_steps, self.step = step - self.step, step
        if not math.isfinite(loss):
            self.n_nonfinite += n_steps
            return
        self.n_nonfinite = 0
        self._rows.append((step - 0.5 * (count - 1), loss, math.nan if lr is None else lr, count))

    def curve(self, *, step: int | None = None, epoch_ends: Sequence[int] = ()) -> LossCurve:
        """Return what was logged so far.

        Args:
            step: The present step where it lies after the newest entry [steps].
            epoch_ends: Steps at which a pass over the training data ended [steps].
        """
        S, L, lr, count = np.array(self._rows, dtype=np.float64).reshape(-1, 4).T
        known = bool(lr.size) and bool(np.isfinite(lr).all() and lr.min() >= 0.0)
        now = max(self.step, step or 0)
        return LossCurve(
            S=S,
            L=L,
            lr=lr if known else None,
            count=count,
            step=now,
            n_nonfinite=self.n_nonfinite,
            epoch_ends=[end for end in epoch_ends if end <= now],
        )
