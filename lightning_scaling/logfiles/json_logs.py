"""JSON: lines of entries, an array of them, a dictionary of columns, and Hugging Face's ``trainer_state.json``."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.logfiles.delimited import decoded
from lightning_scaling.logfiles.run import RawRun, from_columns

__all__ = ["read_json"]

FloatArray = NDArray[np.float64]

#: Lists at whose entries a document may keep its history.
_HISTORIES = ("log_history", "history", "logs", "log", "metrics")


def read_json(path: Path, data: bytes, name: str) -> list[RawRun]:
    """Return the run of a JSON document or of JSON lines.

    Args:
        path: The file, for messages.
        data: Its bytes.
        name: What the run is called.

    Raises:
        ValueError: If it is neither, or holds no history.
    """
    text = decoded(data)
    try:
        document = json.loads(text)
    except json.JSONDecodeError:
        return [_lines(path, text, name)]
    except RecursionError as error:
        raise ValueError(f"Expected a log in {path}, got JSON nested beyond all measure, so give another.") from error
    if isinstance(document, list):
        return [from_columns(name, "JSON", _columns(_entries(document)))]
    if isinstance(document, dict) and isinstance(document.get("log_history"), list) and "global_step" in document:
        return [_trainer_state(document, name)]
    if isinstance(document, dict):
        for key in _HISTORIES:
            if isinstance(document.get(key), list) and any(isinstance(e, dict) for e in document[key]):
                return [from_columns(name, "JSON", _columns(_entries(document[key])))]
        columns = {key: _listed(v) for key, v in document.items() if _is_list_of_numbers(v)}
        if columns:
            longest = max(c.size for c in columns.values())
            columns = {k: c for k, c in columns.items() if c.size == longest}
            return [from_columns(name, "JSON", columns)]
        if len(text.splitlines()) == 1 and "_step" in document and "_runtime" not in document:
            return [from_columns(name, "JSON lines", _columns(_entries([document])))]
    raise ValueError(
        f"Expected a history of losses in {path}, got a JSON document without one. The summary of a run holds its last "
        "values only: give its history, for example trainer_state.json, or W&B's wandb-history.jsonl."
    )


def _trainer_state(state: Mapping[str, Any], name: str) -> RawRun:
    """Return the run of Hugging Face's Trainer: each loss is the mean over the steps since the entry before."""
    entries = [dict(e) for e in _entries(state["log_history"])]
    for entry in entries:
        if "train_runtime" in entry:
            entry.pop("train_loss", None)  # the mean over the whole run
    columns = _columns(entries)
    planned = state.get("max_steps")
    run = from_columns(name, "Hugging Face trainer state", columns)
    return RawRun(
        run.name,
        run.format,
        run.names,
        run.fetch,
        averaged="loss" in columns,
        planned=int(planned) if isinstance(planned, (int, float)) and 0 < planned < math.inf else None,
    )


def _lines(path: Path, text: str, name: str) -> RawRun:
    """Read JSON lines; one that is cut off at the end, because it is being written, is left out."""
    entries, bad = [], 0
    for line in text.splitlines():
        if not (line := line.strip()):
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError:
            bad += 1
            continue
        if isinstance(entry, dict):
            entries.append(entry)
    if not entries or bad > max(len(entries), 1):
        raise ValueError(
            f"Expected JSON lines in {path}, got {bad} lines that are not JSON and {len(entries)} that are, so give a "
            "log with one JSON object per line."
        )
    columns = _columns(_entries(entries))
    history = {"_step", "_runtime"} <= set(columns) or "_step" in columns
    run = from_columns(name, "W&B history" if history else "JSON lines", columns)
    said = (f"{bad} lines that are not JSON were left out.",) if bad > 1 else ()
    return RawRun(run.name, run.format, run.names, run.fetch, warnings=said)


def _entries(items: Iterable[Any]) -> Iterator[dict[str, Any]]:
    """Yield the entries with what they nest brought to one level: ``{"train": {"loss": 2}}`` holds ``train/loss``."""
    for item in items:
        if isinstance(item, dict):
            yield _flat(item) if any(isinstance(v, dict) for v in item.values()) else item


def _flat(entry: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in entry.items():
        if isinstance(value, dict):
            found |= _flat(value, f"{prefix}{key}/")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _columns(entries: Iterable[dict[str, Any]]) -> dict[str, FloatArray]:
    """Turn entries into columns of numbers, NaN where an entry has none."""
    rows = list(entries)
    names = dict.fromkeys(key for row in rows for key in row)
    columns = {name: np.array([_value(row.get(name)) for row in rows], dtype=np.float64) for name in names}
    return {name: column for name, column in columns.items() if not np.isnan(column).all()}


def _value(value: Any) -> float:
    if isinstance(value, bool) or value is None:
        return math.nan
    if isinstance(value, str):  # W&B writes "NaN" and "Infinity", and some loggers write numbers as text
        try:
            value = float(value)
        except ValueError:
            return math.nan
    if not isinstance(value, (int, float)):
        return math.nan
    return float(value) if math.isfinite(value) else math.inf


def _is_list_of_numbers(value: Any) -> bool:
    return isinstance(value, list) and len(value) > 1 and all(isinstance(v, (int, float, type(None))) for v in value)


def _listed(values: Sequence[Any]) -> FloatArray:
    return np.array([_value(v) for v in values], dtype=np.float64)
