"""Read a folder of finished training curves and cut forecasting tasks from them.

A folder holds ``<id>.csv`` files with the columns ``step,loss`` and, where it was logged, ``lr``. An ``index.json``
beside them (a list of objects with at least an ``id``) adds what is known of each run: ``group``, ``domain``,
``schedule``, ``noise``, ``horizon_known``, ``N``. Without an index every ``*.csv`` of the folder is a run of one group
named after the folder, so a user's own runs are scored by the same code.

A *task* is what a forecaster may see at the fraction ``f`` of a run: the points with ``step <= f T``, the length ``T``
and, where ``lr`` was logged, the learning rate of all ``T`` steps. The *truth* is the mean loss over the last 2 % of
the steps.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: File of a folder of curves that tells where they are from, and what is told without one.
ABOUT = "about.md"
_PUBLIC = "The curves are public logs of other people's runs and are not part of this repository."
FRACTIONS = (0.1, 0.2, 0.3, 0.5, 0.7)
TARGET_SHARE = 0.02
LAST_SHARE = 0.05
MIN_POINTS = 10

# A step that sits on a cut (say 0.3 T) must not change sides through rounding of the product.
_ON_THE_CUT = 1e-9


@dataclass(frozen=True)
class RunCurve:
    """One finished run as it was logged.

    Attributes:
        id: Name of the run; the file is ``<id>.csv``.
        group: Source of the run. Runs of one group share code, data or seeds and are not independent.
        S: Steps of the logged points, strictly increasing, shape (n,).
        L: Losses at those steps, finite, shape (n,).
        lr: Learning rates at those steps in any unit (NaN where not logged), shape (n,); None if never logged.
        schedule: Name of the schedule, a guess unless ``lr`` is there.
        noise: What one loss is: raw step, window mean, evaluation, ….
        domain: What was trained.
        horizon_known: False if the last step need not be the planned end: reported, never averaged into accuracy.
        n_dropped: Points left out on reading: non-finite losses and steps that a resumed run logged again.
        planned: Learning rates of steps 1, 2, …, where they are known from elsewhere than ``lr``.
        N: Parameters of the model as its source counts them, None where not known.
    """

    id: str
    group: str
    S: Array
    L: Array
    lr: Array | None = None
    schedule: str = "unknown"
    noise: str = "unknown"
    domain: str = "unknown"
    horizon_known: bool = True
    n_dropped: int = 0
    planned: Array | None = None
    N: float | None = None

    @property
    def T(self) -> int:
        """Length of the run [steps]: the last step that was logged."""
        return math.ceil(float(self.S[-1]))

    @property
    def truth(self) -> float:
        """Mean loss over the last 2 % of the steps, that is over the points with ``step > 0.98 T``."""
        late = self.S > (1.0 - TARGET_SHARE) * self.T * (1.0 + _ON_THE_CUT)
        return float(self.L[late].mean())

    def rates(self) -> Array | None:
        """Return the learning rate of the steps 1..T, shape (T,), or None where it was not logged."""
        if self.planned is not None:
            return self.planned[: self.T]
        return None if self.lr is None else rates_of_all_steps(self.S, self.lr, self.T)

    def prefix(self, fraction: float) -> NDArray[np.bool_]:
        """Mark the points a forecaster sees at a fraction of the run: ``step <= fraction * T``."""
        cut = fraction * self.T * (1.0 + _ON_THE_CUT)
        return np.asarray(cut >= self.S)


@dataclass(frozen=True)
class Task:
    """What a forecaster is given at one fraction of one run, and the answer it is scored against.

    ``S``, ``L``, ``T`` and ``rates`` are what it may look at; ``truth`` is the mean loss over the steps in (0.98 T, T].
    ``rates`` (the learning rate of the steps 1..T) is None where it was not logged.
    """

    curve: RunCurve = field(repr=False)
    fraction: float
    S: Array = field(repr=False)
    L: Array = field(repr=False)
    T: int
    rates: Array | None = field(repr=False)
    truth: float

    @property
    def last_value(self) -> float:
        """Mean of the last 5 % of the prefix's points (at least one)."""
        n = max(1, round(LAST_SHARE * len(self.L)))
        return float(self.L[-n:].mean())

    @property
    def initial(self) -> float:
        """First loss that was logged."""
        return float(self.L[0])


def rates_of_all_steps(S: Array, lr: Array, T: int) -> Array:
    """Return the learning rate of the steps 1..T from a log that may be sparse or start late.

    Between two logged steps the rate is interpolated linearly. Steps before the first logged one take the first logged
    rate, steps after the last one the last: a warm-up that was not logged is not invented.

    Args:
        S: Steps where a rate was logged, increasing, shape (n,).
        lr: The rates there, any unit, shape (n,); non-finite ones count as not logged.
        T: Length of the run [steps].

    Returns:
        Learning rates of the steps 1..T, shape (T,), in the unit of ``lr``.

    Example:
        >>> rates_of_all_steps(np.array([3.0, 5.0]), np.array([1.0, 0.0]), 6).tolist()
        [1.0, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    good = np.isfinite(lr)
    if not good.any():
        raise ValueError(
            "Expected at least one finite learning rate, got none. Leave the column out if it was not logged."
        )
    return np.interp(np.arange(1, T + 1, dtype=np.float64), S[good], lr[good])


def load_curves(folder: str | Path, *, held_out: bool = False) -> list[RunCurve]:
    """Read every run of a folder, in the order of its ``index.json`` or, without one, of the file names.

    Args:
        folder: Where the runs lie.
        held_out: Read the held-out losses (``<id>.val.csv``, columns ``step,val_loss``) of the runs that have them,
            with the learning rates of the run, instead of the training losses.

    Raises:
        ValueError: If the folder has no curves, or a file lacks a column or has fewer than two finite losses.
    """
    root = Path(folder)
    index_file = root / "index.json"
    if index_file.is_file():
        entries: list[dict[str, Any]] = json.loads(index_file.read_text(encoding="utf-8"))
    else:
        names = sorted(path.name[: -len(".csv")] for path in root.glob("*.csv") if not path.name.endswith(".val.csv"))
        entries = [{"id": name, "group": root.resolve().name} for name in names]
    if not entries:
        raise ValueError(f"Expected index.json or *.csv files in {root}, got none. Name a folder of finished runs.")
    runs = [_read(root / f"{entry['id']}.csv", entry) for entry in entries]
    if not held_out:
        return runs
    pairs = [(run, entry, root / f"{run.id}.val.csv") for run, entry in zip(runs, entries, strict=True)]
    found = [_held_out(run, entry, path) for run, entry, path in pairs if path.is_file()]
    if not found:
        raise ValueError(f"Expected files named <id>.val.csv in {root}, got none. Leave out --held-out.")
    return found


def _held_out(run: RunCurve, entry: dict[str, Any], path: Path) -> RunCurve:
    """Read the held-out losses of a run; where they go on beyond its log, the last rate is held."""
    losses = _read(path, {**entry, "id": f"{run.id}.val", "noise": "evaluation"}, loss="val_loss")
    rates = run.rates()
    if rates is not None and losses.T > rates.size:
        rates = np.concatenate((rates, np.full(losses.T - rates.size, rates[-1])))
    return replace(losses, lr=None, planned=rates)


def about(folder: str | Path) -> str:
    """Return where the curves of a folder are from, as its ``about.md`` tells it."""
    file = Path(folder) / ABOUT
    return file.read_text(encoding="utf-8").strip() if file.is_file() else _PUBLIC


def make_tasks(curves: Iterable[RunCurve], fractions: Sequence[float] = FRACTIONS) -> list[Task]:
    """Cut every curve at every fraction; prefixes with fewer than 10 points are skipped.

    Example:
        >>> run = RunCurve("r", "g", S=np.arange(1.0, 51.0), L=np.arange(50.0, 0.0, -1.0))
        >>> [(task.fraction, len(task.S), task.truth) for task in make_tasks([run], [0.1, 0.2, 0.5])]
        [(0.2, 10, 1.0), (0.5, 25, 1.0)]
    """
    tasks = []
    for curve in curves:
        rates = curve.rates()
        for fraction in fractions:
            seen = curve.prefix(fraction)
            if seen.sum() >= MIN_POINTS:
                S, L = curve.S[seen], curve.L[seen]
                tasks.append(Task(curve, fraction, S, L, curve.T, rates, curve.truth))
    return tasks


def _read(path: Path, entry: dict[str, Any], loss: str = "loss") -> RunCurve:
    """Read one file; the later row wins where a resumed run logged a step again."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    names = set(rows[0]) if rows else set()
    if not {"step", loss} <= names:
        raise ValueError(f"Expected the columns step,{loss}[,lr] in {path}, got {sorted(names)}. Add a header line.")
    S, L = _column(rows, "step"), _column(rows, loss)
    lr = _column(rows, "lr") if "lr" in names else None
    kept = np.isfinite(S) & np.isfinite(L)
    # Among the finite rows, one is superseded if a later row has its step or an earlier one.
    later = np.append(S[kept][1:], np.inf)
    kept[kept] = S[kept] < np.minimum.accumulate(later[::-1])[::-1]
    if kept.sum() < 2:
        raise ValueError(f"Expected at least two finite losses in {path}, got {int(kept.sum())}. Remove the file.")
    return RunCurve(
        id=str(entry["id"]),
        group=str(entry.get("group", "unknown")),
        S=S[kept],
        L=L[kept],
        lr=None if lr is None or not np.isfinite(lr[kept]).any() else lr[kept],
        schedule=str(entry.get("schedule", "unknown")),
        noise=str(entry.get("noise", "unknown")),
        domain=str(entry.get("domain", "unknown")),
        horizon_known=bool(entry.get("horizon_known", True)),
        n_dropped=int((~kept).sum()),
        N=float(entry["N"]) if entry.get("N") else None,
    )


def _column(rows: list[dict[str, str]], name: str) -> Array:
    return np.array([_number(row.get(name)) for row in rows], dtype=np.float64)


def _number(text: str | None) -> float:
    try:
        return float(text) if text else math.nan
    except ValueError:
        return math.nan
