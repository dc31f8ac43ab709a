"""Published numbers, with the inputs that give them, and the digits they were printed with."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest


def golden(file: str, *what: str) -> list[Any]:
    """Return the rows of a file of this folder about the quantities ``what`` (none: all) as pytest parameters."""
    rows = json.loads((Path(__file__).parent / file).read_text(encoding="utf-8"))["rows"]
    chosen = [pytest.param(row, id=row["id"]) for row in rows if not what or row["what"] in what]
    assert chosen, f"Expected rows about {what} in {file}, got none."
    return chosen


def half_unit(printed: str) -> float:
    """Return half a unit of the last digit of a printed number: "1.06911e+06" gives 5."""
    exponent = Decimal(printed).as_tuple().exponent
    assert isinstance(exponent, int)
    return 0.5 * 10.0**exponent
