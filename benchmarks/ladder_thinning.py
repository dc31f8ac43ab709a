"""Making a store small enough to ship: numbers with fewer digits, files with the names of their runs."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning_scaling.store.sheet import SUFFIX, pack, read_json, unpack

#: Digits kept: of losses, forecasts and steps far more than their noise leaves, of rates and spreads enough. An
#: interval of fewer digits than the end of its run may hold it where the whole one does not.
_DIGITS = {"curve": 6, "lr_schedule": 4, "forecasts": 6, "derived": 5, "tags": 4}
_ROUGH = {"lr": 4, "spread": 3}


def thin_store(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> int:
    """Write the finished runs of a folder into another with fewer digits, and return the bytes written.

    A run that was trained twice is kept once, the newest of them.
    """
    folder, total = Path(target), 0
    folder.mkdir(parents=True, exist_ok=True)
    for file in sorted(Path(source).glob(f"*{SUFFIX}"), key=lambda file: file.stat().st_mtime):
        parts = unpack(file.read_bytes())
        if read_json(parts["state"]) != "finished":
            continue
        name = str(read_json(parts["tags"])["name"])
        data = pack({key: _shorter(key, text) for key, text in parts.items()})
        (folder / f"{name}{SUFFIX}").write_bytes(data)
    for file in folder.glob(f"*{SUFFIX}"):
        total += file.stat().st_size
    return total


def _shorter(key: str, text: str) -> str:
    import json

    if key not in _DIGITS:
        return text
    value = read_json(text)
    digits = _DIGITS[key]
    if isinstance(value, dict):
        value = {name: _rounded(x, _ROUGH.get(name, digits)) for name, x in value.items()}
    return json.dumps(value, separators=(",", ":"), allow_nan=False)


def _rounded(value: Any, digits: int) -> Any:
    if isinstance(value, float):
        short = float(f"{value:.{digits}g}")
        return int(short) if short.is_integer() and abs(short) < 1e15 and short else short
    if isinstance(value, list):
        return [_rounded(x, digits) for x in value]
    if isinstance(value, dict):
        return {key: _rounded(x, digits) for key, x in value.items()}
    return value
