"""MLflow's local store: a folder per run, in it a file per metric with lines ``timestamp value step``."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.logfiles.delimited import number
from lightning_scaling.logfiles.run import RawRun, from_columns

__all__ = ["is_metric", "read_mlflow", "runs_below"]

FloatArray = NDArray[np.float64]

#: Names under which the planned end is recorded among the parameters.
_PLANNED = ("max_steps", "total_steps", "num_training_steps", "train_steps", "max_iters", "num_steps")


def is_metric(path: Path, head: str) -> bool:
    """Tell whether a file is a metric of MLflow: lines of a timestamp in milliseconds, a number and a step."""
    lines = head.splitlines()
    first = lines[0].split() if lines else []
    if len(first) != 3 or not (first[0].isdigit() and first[2].lstrip("-").isdigit()):
        return False
    return "metrics" in path.parts or len(first[0]) == 13


def runs_below(folder: Path) -> list[Path]:
    """Return the runs of a folder: itself, or those of an experiment or of a whole ``mlruns``."""
    if (folder / "metrics").is_dir():
        return [folder]
    return sorted(p.parent for pattern in ("*/metrics", "*/*/metrics") for p in folder.glob(pattern) if p.is_dir())


def read_mlflow(path: Path) -> RawRun:
    """Return a run from its folder, or from one of its metrics.

    Raises:
        ValueError: If it holds no metrics.
    """
    if path.is_file():
        files = {path.name: path}
        folder = next((p.parent for p in path.parents if p.name == "metrics"), path.parent)
    else:
        folder, root = path, path / "metrics"
        files = {p.relative_to(root).as_posix(): p for p in sorted(root.rglob("*")) if p.is_file()}
    if not files:
        raise ValueError(f"Expected metrics in {path}, got none, so give the folder of a run that has logged some.")
    tables = {key: _read(file) for key, file in files.items()}
    # One table with the rows of all metrics one below the other, each by its own steps.
    total = sum(len(t) for t in tables.values())
    columns = {"step": np.concatenate([t[:, 2] for t in tables.values()])}
    start = 0
    for key, table in tables.items():
        columns[key] = np.full(total, np.nan)
        columns[key][start : start + len(table)] = table[:, 1]
        start += len(table)
    run = from_columns(_name(folder), "MLflow store", columns)
    return RawRun(run.name, run.format, run.names, run.fetch, planned=_planned(folder / "params"))


def _read(file: Path) -> FloatArray:
    """Return the rows (timestamp, value, step) in the order of time; older stores have no step."""
    rows = [line.split() for line in file.read_text(encoding="utf-8", errors="replace").splitlines()]
    full = [(number(r[0]), number(r[1]), number(r[2]) if len(r) > 2 else i) for i, r in enumerate(rows) if len(r) > 1]
    table = np.array(full, dtype=np.float64).reshape(-1, 3)
    return table[np.argsort(table[:, 0], kind="stable")]


def _planned(params: Path) -> int | None:
    for name in _PLANNED:
        for file in params.rglob(name) if params.is_dir() else ():
            value = number(file.read_text(encoding="utf-8", errors="replace").strip())
            if np.isfinite(value) and value > 0:
                return int(value)
    return None


def _name(folder: Path) -> str:
    """Return the name that a run was given, or that of its folder."""
    for tag in ("mlflow.runName", "mlflow.run_name"):
        file = folder / "tags" / tag
        if file.is_file():
            return file.read_text(encoding="utf-8", errors="replace").strip() or folder.name
    return folder.name
