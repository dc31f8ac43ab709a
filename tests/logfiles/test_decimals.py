"""Decimals: every number that is read is the one that `float` reads, to the last bit."""

from __future__ import annotations

import math
from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling.logfiles.decimals import PAD, decimals


def read(cells: list[str]) -> tuple[list[float], list[bool]]:
    """Return what is read of cells that lie side by side, digits all around them."""
    data = ",".join(cells).encode()
    cuts = np.append(np.flatnonzero(np.frombuffer(data, dtype=np.uint8) == ord(",")), len(data))
    starts = np.concatenate(([0], cuts[:-1] + 1))
    numbers, known = decimals(b"7" * PAD + data + b"7" * PAD, starts + PAD, cuts + PAD)
    return numbers.tolist(), known.tolist()


def agree(cells: list[str]) -> list[bool]:
    """Return which cells were read, all of them rightly."""
    numbers, known = read(cells)
    for cell, x, sure in zip(cells, numbers, known, strict=True):
        assert not sure or (float(cell), math.copysign(1.0, float(cell))) == (x, math.copysign(1.0, x)), cell
    return known


FLOATS = st.floats(-1e15, 1e15).filter(lambda x: x == 0.0 or abs(x) > 1e-30)


@given(st.lists(FLOATS, min_size=1), st.sampled_from(["r", ".6f", ".18e", ".17g", ".4g"]))
def test_numbers_as_programs_write_them(values: list[float], form: str) -> None:
    agree([repr(x) if form == "r" else format(x, form) for x in values])


@given(st.lists(st.text("0123456789.eE+-", max_size=27), min_size=1))
def test_what_is_no_number_is_not_read(cells: list[str]) -> None:
    numbers, known = read(cells)
    for cell, x, sure in zip(cells, numbers, known, strict=True):
        try:
            assert not sure or float(cell) == x
        except ValueError:
            pytest.fail(f"'{cell}' was read as {x}")


@given(st.lists(st.floats(1e-8, 1e8), min_size=1), st.integers(14, 19))
def test_the_middle_between_two_floats_is_left_to_others(values: list[float], digits: int) -> None:
    middles = [(Decimal(x) + Decimal(math.nextafter(x, math.inf))) / 2 for x in values]
    agree([format(middle, f".{digits}f") for middle in middles])
    assert not any(agree([str(2**53 + 1), f"{2**53 + 1}.0", f"{2**52 + 1}.5"]))


READ = """
0 -0.0 7 +7 5. .5 -.5 12345678 123456789 1234567890123456 0.1 2.0951234567890123 0.00029999999999925975 9.999e-05
1.5E-05 1.000000000000000000e+00 9.999999999999999999e+05 9007199254740992 0.3333333333333333 000000.5
"""


@pytest.mark.parametrize("cell", READ.split())
def test_read_are(cell: str) -> None:
    assert agree([cell]) == [True]


@pytest.mark.parametrize(
    "cell", ["", "-", ".", "e-05", "-e-05", ".e-05", "nan", "1_0", "1.2.3", "1e-5", "1" * 17, " 1"]
)
def test_not_read_are(cell: str) -> None:
    assert agree([cell]) == [False]


def test_nothing_at_all() -> None:
    assert decimals(bytes(2 * PAD), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))[0].size == 0
