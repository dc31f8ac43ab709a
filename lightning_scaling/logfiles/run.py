"""RawRun and RunLog: a run as a file holds it, and as a loss curve with what was taken and assumed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.units import thousands

__all__ = ["RawRun", "RunLog", "from_columns"]

FloatArray = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class RawRun:
    """The columns of one run, row by row as they were logged; none is read before it is asked for.

    In a column NaN means that the row does not hold it, infinity that what was logged is no finite number.

    Args:
        name: What the file calls the run, or the name of the file.
        format: Which program wrote it.
        names: Names of the columns with numbers.
        fetch: Returns the named columns, each of shape (rows,).
        averaged: Whether a loss is the mean over the steps since the entry before.
        planned: Planned last step, where the file tells [steps].
        N: Parameters of the model, where the file tells.
        warnings: What the reader found odd.
    """

    name: str
    format: str
    names: tuple[str, ...]
    fetch: Callable[[Sequence[str]], Mapping[str, FloatArray]]
    averaged: bool = False
    planned: int | None = None
    N: float | None = None
    warnings: tuple[str, ...] = ()


def from_columns(name: str, format: str, columns: Mapping[str, FloatArray]) -> RawRun:
    """Return a run whose columns are at hand."""
    return RawRun(name, format, tuple(columns), lambda names: {n: columns[n] for n in names})


@dataclass(frozen=True, eq=False)
class RunLog:
    """A run that was read from a log.

    Args:
        path: The file or folder.
        name: What the run is called: by its file, or by the file it shares with others.
        format: Which program wrote it.
        columns: Which column was taken for ``step``, ``loss``, ``lr``, ``epoch``, ``N``, ``B``.
        curve: The losses.
        planned: Planned last step, where the file tells [steps].
        n_rows: Rows with a loss.
        n_repeated: Rows left out because a resumed run logged their steps again.
        n_nonfinite: Rows whose loss is NaN or infinite.
        notes: What was assumed, in sentences.
        warnings: What makes the log a poor one to forecast from, in sentences.

    Example:
        >>> curve = LossCurve(S=[1, 2, 3], L=[5.0, 4.0, 3.5])
        >>> print(RunLog("run.csv", "run", "CSV", {"step": "step", "loss": "train_loss"}, curve, n_rows=3))
        run.csv (CSV): 3 losses up to step 3; step from 'step', loss from 'train_loss'
    """

    path: str
    name: str
    format: str
    columns: Mapping[str, str]
    curve: LossCurve
    planned: int | None = None
    n_rows: int = 0
    n_repeated: int = 0
    n_nonfinite: int = 0
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = field(default=())

    def __str__(self) -> str:
        """Return one line that says what was taken."""
        taken = ", ".join(f"{_WORDS.get(role, role)} from '{name}'" for role, name in self.columns.items())
        losses, step = (thousands(n) for n in (len(self.curve), self.curve.step))
        left_out = "".join(
            f", {n:,} {words}".replace(",", " ").replace("  ", ", ", 1)
            for n, words in ((self.n_repeated, "logged again later"), (self.n_nonfinite, "not finite"))
            if n
        )
        return f"{self.path} ({self.format}): {losses} losses{left_out} up to step {step}; {taken}"


_WORDS = {"lr": "learning rate", "N": "parameters", "B": "batch size"}
