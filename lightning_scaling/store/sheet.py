"""The file of one run: a JSON object with one key per line.

The line of a long part, such as the learning rates, is parsed only when somebody asks for it. A file that another tool
has laid out in another way is read all the same.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from typing import Any

__all__ = ["SCHEMA", "SUFFIX", "BadSheetError", "pack", "read_json", "unpack", "write_json"]

#: Ends the name of every file of a store.
SUFFIX = ".run.json"
#: Version of the format. A reader skips files of a higher one; keys that are only added do not raise it.
SCHEMA = 1
_FORMAT = "lightning_scaling run"

_KEY = re.compile(r'"(\w+)":')
_WORDS = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class BadSheetError(ValueError):
    """A file is not one of this format; the message says what it is instead."""


def pack(parts: Mapping[str, str]) -> bytes:
    """Return the file that holds the JSON text of each key."""
    whole = {"format": write_json(_FORMAT), "schema": write_json(SCHEMA)} | dict(parts)
    lines = ",\n".join(f"{json.dumps(key)}:{text}" for key, text in whole.items())
    return f"{{\n{lines}\n}}\n".encode()


def unpack(data: bytes) -> dict[str, str]:
    """Return the JSON text of each key of a file.

    Raises:
        BadSheetError: If the file is cut off or damaged, is none of ours, or was written by a later version.

    Example:
        >>> unpack(pack({"N": "1000"}))["N"]
        '1000'
        >>> unpack(b"")
        Traceback (most recent call last):
        lightning_scaling.store.sheet.BadSheetError: an empty file
    """
    if not data:
        raise BadSheetError("an empty file")
    try:
        parts = _split(data.decode())
    except Exception as error:  # whatever a stranger's bytes do to a parser
        raise BadSheetError(f"a damaged file or one of another kind ({type(error).__name__}: {error})") from error
    if parts.get("format") != write_json(_FORMAT):
        raise BadSheetError("a file of another kind")
    schema = read_json(parts.get("schema", "null"))
    if type(schema) is not int or schema < 1:
        raise BadSheetError(f"a file without a schema ({schema!r:.40})")
    if schema > SCHEMA:
        writer = read_json(parts.get("written_by", '"?"'))
        raise BadSheetError(f"schema {schema} of version {writer!s:.40}, newer than this one: update lightning_scaling")
    return {key: text for key, text in parts.items() if key not in ("format", "schema")}


def write_json(value: object, *, words: bool = False) -> str:
    """Return strict JSON without spaces.

    Args:
        value: What is made of plain numbers, text, lists and mappings.
        words: Whether NaN and infinity, which JSON lacks, are written as ``"nan"``, ``"inf"`` and ``"-inf"``.

    Raises:
        TypeError: If the value holds anything else.
        ValueError: If it holds NaN or infinity, without `words`.

    Example:
        >>> write_json([0.1, float("nan"), None], words=True)
        '[0.1,"nan",null]'
    """
    return json.dumps(_worded(value) if words else value, separators=(",", ":"), allow_nan=False)


def read_json(text: str, *, words: bool = False) -> Any:
    """Return a value from its JSON text; with `words`, the three words above are numbers again."""
    value = json.loads(text)
    return _unworded(value) if words else value


def _split(text: str) -> dict[str, str]:
    lines = text.split("\n")
    keys = [_KEY.match(line) for line in lines[1:-2]]
    if lines[0] == "{" and lines[-2:] == ["}", ""] and all(keys):
        return {key[1]: line[key.end() :].removesuffix(",") for key, line in zip(keys, lines[1:-2], strict=True) if key}
    whole = json.loads(text)
    if not isinstance(whole, dict):
        raise BadSheetError(f"JSON that is no object but {type(whole).__name__}")
    return {key: write_json(value) for key, value in whole.items()}


def _worded(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(float(value))
    if isinstance(value, (list, tuple)):
        return [_worded(x) for x in value]
    if isinstance(value, Mapping):
        return {key: _worded(x) for key, x in value.items()}
    return value


def _unworded(value: Any) -> Any:
    if isinstance(value, list):
        return [_unworded(x) for x in value]
    if isinstance(value, dict):
        return {key: _unworded(x) for key, x in value.items()}
    return _WORDS.get(value, value) if isinstance(value, str) else value
