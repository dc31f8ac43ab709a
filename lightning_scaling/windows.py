"""CurveBuilder: raw training steps in, a bounded number of log-spaced windows out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import Any

import numpy as np

from lightning_scaling.curve import LossCurve

__all__ = ["WINDOWS_PER_E_FOLD", "CurveBuilder"]

#: A window at step S spans S/48 steps: twenty thousand steps make about 370 windows, ten million about 670.
WINDOWS_PER_E_FOLD = 48

_COLUMNS = ("count", "sum_S", "mean_L", "m2_L", "sum_lr", "n_lr", "sum_B", "n_B")


class CurveBuilder:
    r"""Collect a run's losses step by step in windows whose width grows with the step.

    A window that begins at step S takes :math:`\max(1, \lfloor S/48 \rfloor)` steps, so the first 95 steps are kept
    singly and memory grows with the logarithm of the run only. In each window the count, the mean and the spread of
    the losses are kept (Welford's update), and the mean learning rate and batch size where given.

    NaN and infinite losses are counted, never stored: :attr:`n_nonfinite` is their number since the last finite loss.

    Example:
        >>> builder = CurveBuilder()
        >>> builder.extend(range(1, 10_001), [5.0 * s**-0.1 for s in range(1, 10_001)])
        >>> len(builder.curve()), builder.curve().step
        (333, 10000)
    """

    def __init__(self) -> None:
        self._columns: dict[str, list[float]] = {name: [] for name in _COLUMNS}
        self._window_end = 0.0
        self._step = 0
        self._n_nonfinite = 0
        self._n_nonfinite_total = 0
        self._epoch_ends: list[int] = []
        #: What batch sizes count, ``tokens`` or ``samples``; None, until it is told: tokens.
        self.B_unit: str | None = None

    @property
    def step(self) -> int:
        """Last optimizer step seen, finite loss or not."""
        return self._step

    @property
    def n_nonfinite(self) -> int:
        """Steps with a NaN or infinite loss since the last finite one."""
        return self._n_nonfinite

    @property
    def n_nonfinite_total(self) -> int:
        """Steps with a NaN or infinite loss in the whole run."""
        return self._n_nonfinite_total

    def __len__(self) -> int:
        """Return the number of windows held."""
        return len(self._columns["count"])

    def append(self, step: int, loss: float, lr: float | None = None, B: float | None = None) -> None:
        """Add one optimizer step.

        Args:
            step: Optimizer step, above the last one [steps].
            loss: Its training loss [any unit]; NaN and inf are counted apart.
            lr: Learning rate used [any one unit].
            B: Batch size [`B_unit`].

        Raises:
            ValueError: If ``step`` does not come after the last one.
        """
        self.extend((step,), (loss,), (lr,), (B,))

    def extend(
        self,
        steps: Iterable[int],
        losses: Iterable[float],
        lrs: Iterable[float | None] | None = None,
        Bs: Iterable[float | None] | None = None,
    ) -> None:
        """Add several optimizer steps in order; see :meth:`append`."""
        rates, batches = iter(repeat(None) if lrs is None else lrs), iter(repeat(None) if Bs is None else Bs)
        columns = list(self._columns.values())
        # There is one of them at every step of a run: the open window is kept at hand.
        window = [column[-1] for column in columns] if columns[0] else [0.0] * len(columns)
        n, sum_S, mean_L, m2_L, sum_lr, n_lr, sum_B, n_B = window
        try:
            for step, loss in zip(steps, losses, strict=True):
                lr, B = next(rates), next(batches)
                if step <= self._step:
                    raise ValueError(
                        f"Expected a step after {self._step}, got step={step}. Was an old checkpoint resumed? "
                        "Restore the builder with it, or start a new one."
                    )
                self._step = int(step)
                if not math.isfinite(loss):
                    self._n_nonfinite += 1
                    self._n_nonfinite_total += 1
                    continue
                self._n_nonfinite = 0
                if step > self._window_end or not columns[0]:
                    self._keep((n, sum_S, mean_L, m2_L, sum_lr, n_lr, sum_B, n_B))
                    self._window_end = step + max(1.0, step / WINDOWS_PER_E_FOLD) - 1.0
                    for column in columns:
                        column.append(0.0)
                    n = sum_S = mean_L = m2_L = sum_lr = n_lr = sum_B = n_B = 0.0
                n += 1.0
                sum_S += step
                delta = loss - mean_L
                mean_L += delta / n
                m2_L += delta * (loss - mean_L)
                if lr is not None and math.isfinite(lr):
                    sum_lr += lr
                    n_lr += 1.0
                if B is not None and math.isfinite(B):
                    sum_B += B
                    n_B += 1.0
        finally:
            self._keep((n, sum_S, mean_L, m2_L, sum_lr, n_lr, sum_B, n_B))

    def _keep(self, window: Iterable[float]) -> None:
        """Write the open window, where there is one."""
        for column, value in zip(self._columns.values(), window, strict=True):
            if column:
                column[-1] = value

    def mark_epoch_end(self, step: int) -> None:
        """Note that a pass over the training data ended at ``step``; the first 256 are kept."""
        if len(self._epoch_ends) < 256 and (not self._epoch_ends or step > self._epoch_ends[-1]):
            self._epoch_ends.append(int(step))

    def curve(self, *, N: float | None = None, unit: str = "") -> LossCurve:
        """Return what has been seen so far as a LossCurve of windows.

        Args:
            N: Non-embedding parameters, if known.
            unit: Unit of the loss, for print, such as ``nats/token``.

        Returns:
            One point per window at the mean step of the window.
        """
        c = {name: np.array(column) for name, column in self._columns.items()}
        n = c["count"]
        with np.errstate(divide="ignore", invalid="ignore"):
            spread = np.where(n > 1, np.sqrt(c["m2_L"] / (n - 1)), np.nan)
        has_lr = bool(n.size and (c["n_lr"] > 0).all())
        has_B = bool(n.size and (c["n_B"] > 0).all())
        return LossCurve(
            S=c["sum_S"] / n if n.size else [],
            L=c["mean_L"],
            lr=c["sum_lr"] / c["n_lr"] if has_lr else None,
            B=c["sum_B"] / c["n_B"] if has_B else None,
            N=N,
            count=n if n.size else None,
            spread=spread,
            step=self._step,
            n_nonfinite=self._n_nonfinite,
            epoch_ends=self._epoch_ends,
            unit=unit,
            B_unit=self.B_unit or "tokens",
        )

    def state_dict(self) -> dict[str, Any]:
        """Return the builder's state as plain numbers and lists, exact to the bit."""
        return {
            "version": 1,
            **{name: list(column) for name, column in self._columns.items()},
            "window_end": self._window_end,
            "step": self._step,
            "n_nonfinite": self._n_nonfinite,
            "n_nonfinite_total": self._n_nonfinite_total,
            "epoch_ends": list(self._epoch_ends),
            "B_unit": self.B_unit,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> CurveBuilder:
        """Rebuild a builder from :meth:`state_dict`.

        Raises:
            ValueError: If the state is of another version or its columns differ in length.
        """
        if state.get("version") != 1:
            version = state.get("version")
            raise ValueError(f"Expected a CurveBuilder state of version 1, got {version!r}. Start a new builder.")
        builder = cls()
        builder._columns = {name: [float(x) for x in state[name]] for name in _COLUMNS}
        lengths = {name: len(column) for name, column in builder._columns.items()}
        if len(set(lengths.values())) != 1:
            raise ValueError(f"Expected columns of one length, got {lengths}. The state is damaged: start a new one.")
        builder._window_end = float(state["window_end"])
        builder._step = int(state["step"])
        builder._n_nonfinite = int(state["n_nonfinite"])
        builder._n_nonfinite_total = int(state["n_nonfinite_total"])
        builder._epoch_ends = [int(e) for e in state["epoch_ends"]]
        builder.B_unit = state.get("B_unit", "tokens" if any(builder._columns["n_B"]) else None)
        return builder
