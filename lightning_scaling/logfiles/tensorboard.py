"""TensorBoard's event files, read by TensorBoard's own reader."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.logfiles.run import RawRun

__all__ = ["event_files", "read_events"]

FloatArray = NDArray[np.float64]


def event_files(folder: Path) -> list[Path]:
    """Return the event files of one run, in the order in which they were begun."""
    return sorted(folder.glob("events.out.tfevents.*"), key=lambda p: _by_number(p.name))


def _by_number(name: str) -> list[tuple[int, int, str]]:
    """Return a key that takes digits for numbers: of two files of one second the tenth comes after the ninth."""
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", name)]


def read_events(paths: Sequence[Path], name: str) -> RawRun:
    """Return the run of one or more event files.

    Args:
        paths: The files, oldest first: a run that is resumed begins a new one.
        name: What the run is called.

    Raises:
        ModuleNotFoundError: If TensorBoard is not installed.
        ValueError: If there are no scalars.
    """
    series: dict[str, list[tuple[int, float, float]]] = {}
    for place, (tag, step, value) in enumerate(_scalars(paths)):
        series.setdefault(tag, []).append((place, float(step), value))
    if not series:
        raise ValueError(f"Expected scalars in {paths[0]}, got none, so give the event file of the training.")

    def fetch(names: Sequence[str]) -> Mapping[str, FloatArray]:
        rows = sorted(
            (place, step, k, value)
            for k, tag in enumerate(names)
            if tag != "step"
            for place, step, value in series[tag]
        )
        columns = {tag: np.full(len(rows), np.nan) for tag in names}
        for i, (_, step, k, value) in enumerate(rows):
            if "step" in columns:
                columns["step"][i] = step
            columns[names[k]][i] = value
        return columns

    return RawRun(name, "TensorBoard events", ("step", *series), fetch)


def _scalars(paths: Iterable[Path]) -> Iterator[tuple[str, int, float]]:
    """Yield (tag, step, value) of each scalar, in the order logged; infinity where a value is not finite."""
    try:
        from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Expected TensorBoard to read its event files, got no module 'tensorboard', so install it (pip install "
            "tensorboard), or give a CSV that was downloaded from its page.",
            name="tensorboard",
        ) from error
    for path in paths:
        for event in LegacyEventFileLoader(str(path)).Load():
            if not event.HasField("summary"):
                continue
            for entry in event.summary.value:
                value = _value(entry)
                if value is not None:
                    yield entry.tag, int(event.step), value if math.isfinite(value) else math.inf


def _value(entry: Any) -> float | None:
    """Return the number of a summary; None where it is an image, a histogram, a text."""
    kind = entry.WhichOneof("value")
    if kind == "simple_value":
        return float(entry.simple_value)
    if kind != "tensor" or entry.metadata.plugin_data.plugin_name not in ("", "scalars"):
        return None
    from tensorboard.util.tensor_util import make_ndarray

    try:
        array = make_ndarray(entry.tensor)
        return float(array.item()) if array.size == 1 else None
    except (TypeError, ValueError):
        return None
