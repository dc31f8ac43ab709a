"""What a table holds: one run, the runs of a W&B export, or the long tables of MLflow and TensorBoard."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.logfiles.delimited import Table
from lightning_scaling.logfiles.names import normal
from lightning_scaling.logfiles.run import RawRun, from_columns

__all__ = ["runs_of"]

FloatArray = NDArray[np.float64]

#: A column of a W&B export: name of the run, and of what it logged.
_OF_RUN = re.compile(r"^(?P<run>.+?) - (?P<key>[^ ]+|_step)(?P<end>__MIN|__MAX)?$")
#: What the columns of a long table are called: one row for each value.
_KEYS, _VALUES, _RUNS = ("key", "metric", "tag", "name", "metric_name"), ("value", "metric_value"), ("run_id", "run")


def runs_of(table: Table, name: str) -> list[RawRun]:
    """Return the runs of a table.

    Args:
        table: The table.
        name: What a single run in it is called.
    """
    names = {normal(n): n for n in table.names}
    key, value = (next((names[n] for n in known if n in names), None) for known in (_KEYS, _VALUES))
    if {"wall_time", "step", "value"} == set(names):
        return [_tensorboard(table, name)]
    if value is not None and key is not None and "step" in names:
        return _long(table, name, key, value, names)
    if any(n.endswith("__MIN") for n in table.names) or _runs_in(table.names):
        return _wandb(table, name)
    return [RawRun(name, _program(table), table.names, table.numbers)]


def _program(table: Table) -> str:
    """Say which program wrote a plain table."""
    beside = (table.path.parent / "hparams.yaml").is_file()
    if beside and table.path.name == "metrics.csv":
        return "Lightning CSVLogger"
    if {"_step", "_runtime"} <= set(table.names):
        return "W&B history"
    return {"\t": "TSV", None: "columns of text"}.get(table.delimiter, "CSV")


def _tensorboard(table: Table, name: str) -> RawRun:
    """Return the scalar of a CSV that TensorBoard's page offers for download."""
    value = next(n for n in table.names if normal(n) == "value")

    def fetch(names: Sequence[str]) -> Mapping[str, FloatArray]:
        found = table.numbers([value if n == "loss" else n for n in names])
        return {n: found[value if n == "loss" else n] for n in names}

    names = tuple("loss" if n == value else n for n in table.names if normal(n) != "wall_time")
    return RawRun(name, "CSV from TensorBoard's page", names, fetch)


def _runs_in(names: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return {run: {key: column}} of a W&B export; empty where no column names a run."""
    found: dict[str, dict[str, str]] = {}
    for name in names:
        match = _OF_RUN.match(name)
        if match and not name.endswith(("__MIN", "__MAX")):
            found.setdefault(match["run"], {})[match["key"]] = name
    return found


def _wandb(table: Table, name: str) -> list[RawRun]:
    """Return the runs of a CSV that W&B's page exports from a chart."""
    runs = _runs_in(table.names) or {name: {n: n for n in table.names if not n.endswith(("__MIN", "__MAX"))}}
    shared = [n for n in table.names if not _OF_RUN.match(n)]
    found = []
    for run, columns in runs.items():
        known = {n: n for n in shared if not n.endswith(("__MIN", "__MAX"))} | columns

        def fetch(names: Sequence[str], known: Mapping[str, str] = known) -> Mapping[str, FloatArray]:
            wanted = list(dict.fromkeys(known[n] for n in names))
            values = table.numbers(wanted)
            return {n: values[known[n]] for n in names}

        found.append(RawRun(run, "W&B export", tuple(known), fetch, warnings=_aggregated(table, columns)))
    return found


def _aggregated(table: Table, columns: Mapping[str, str]) -> tuple[str, ...]:
    """Warn where the points of a W&B export stand for several steps each: then their MIN and MAX differ."""
    for key, column in columns.items():
        low, high = f"{column}__MIN", f"{column}__MAX"
        if "loss" in normal(key) and low in table.names and high in table.names:
            ends = table.numbers([low, high])
            with np.errstate(invalid="ignore"):
                apart = float(np.mean(ends[high][~np.isnan(ends[high])] > ends[low][~np.isnan(ends[low])]))
            if apart > 0.05:
                return (
                    f"The export of '{column}' holds one value for several steps (its MIN and MAX differ in "
                    f"{100.0 * apart:.0f} % of the rows): export the full history through the API, if you can.",
                )
    return ()


def _long(table: Table, name: str, key: str, value: str, names: Mapping[str, str]) -> list[RawRun]:
    """Return the runs of a table that has one row for each value, as MLflow exports it."""
    step = names["step"]
    numbers = table.numbers([step, value])
    keys = np.array(table.texts(key))
    owner = next((names[n] for n in _RUNS if n in names), None)
    owners = np.array(table.texts(owner) if owner is not None else [name] * keys.size)
    runs = []
    for run in dict.fromkeys(owners.tolist()):
        mine = owners == run
        columns = {"step": numbers[step][mine]}
        for one in dict.fromkeys(keys[mine].tolist()):
            columns[one] = np.where(keys[mine] == one, numbers[value][mine], np.nan)
        runs.append(from_columns(run if owner is not None else name, "MLflow export", columns))
    return runs
