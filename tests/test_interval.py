"""`Interval`: what it accepts, and how it prints."""

from __future__ import annotations

import dataclasses
import math
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling.interval import Interval

NAN, INF = math.nan, math.inf
numbers = st.floats(-1e12, 1e12).map(lambda x: x if abs(x) > 1e-9 else 0.0)


@pytest.mark.parametrize(
    ("low", "mid", "high", "text", "short"),
    [
        # the three leading digits of the error decide: up to 354 two digits, up to 949 one, above that 1000 with two
        (1.852, 1.873, 1.897, "1.873 (1.852 to 1.897, 90 %)", "1.873±0.022"),
        (2.0646, 2.1, 2.1354, "2.100 (2.065 to 2.135, 90 %)", "2.100±0.035"),
        (2.0645, 2.1, 2.1355, "2.10 (2.06 to 2.14, 90 %)", "2.10±0.04"),
        (2.0048, 2.1, 2.1952, "2.10 (2.00 to 2.20, 90 %)", "2.10±0.10"),
        # steps: no decimals, zeros for digits that are not known
        (76_000, 81_234, 86_000, "81000 (76000 to 86000, 90 %)", "81000±5000"),
        (900, 1000, 20_000, "1000 (900 to 20000, 90 %)", "1000±10000"),
        # the closer bound sets the digits, up to one more than the farther bound deserves
        (1.899, 1.9, 1.95, "1.900 (1.899 to 1.950, 90 %)", "1.900±0.025"),
        (1.8999999, 1.9, 1.95, "1.900 (1.900 to 1.950, 90 %)", "1.900±0.025"),
        # rounding noise is not an error
        (1.9, 1.9 + 4e-16, 1.9 + 8e-16, "1.900000000 (1.900000000 to 1.900000000, 90 %)", "1.900000000±0.000000000"),
        # large and small numbers split off their power of ten
        (8.1e6, 9.1e6, 9.9e6, "9100000 (8100000 to 9900000, 90 %)", "9100000±900000"),
        (2.1e7, 2.35e7, 2.5e7, "2.35e+07 (2.10e+07 to 2.50e+07, 90 %)", "(2.35±0.20)e+07"),
        (1.9e10, 2.345e10, 2.8e10, "2.3e+10 (1.9e+10 to 2.8e+10, 90 %)", "(2.3±0.5)e+10"),
        (1e-9, 2e-9, 4e-9, "2.0e-09 (1.0e-09 to 4.0e-09, 90 %)", "(2.0±1.5)e-09"),
        # never, and nothing known
        (76_000, 81_234, INF, "81000 (76000 to inf, 90 %)", "81230±inf"),
        (INF, INF, INF, "inf (inf to inf, 90 %)", "inf"),
        (NAN, NAN, NAN, "not known yet", "not known yet"),
        (NAN, 3.0, NAN, "3.000 (bounds not known yet)", "not known yet"),
        # an exact number, and a gain around zero without a negative zero
        (1.5, 1.5, 1.5, "1.500 (1.500 to 1.500, 90 %)", "1.500±0"),
        (-0.00004, 0.01, 0.03, "0.010 (0.000 to 0.030, 90 %)", "0.010±0.015"),
    ],
)
def test_printed_digits_follow_the_error(low: float, mid: float, high: float, text: str, short: str) -> None:
    interval = Interval(low, mid, high, 0.9)
    assert str(interval) == text
    assert interval.short() == short


@pytest.mark.parametrize(("level", "text"), [(0.5, "50 %"), (0.683, "68.3 %"), (0.995, "99.5 %")])
def test_the_level_prints_in_percent(level: float, text: str) -> None:
    assert str(Interval(1.0, 2.0, 3.0, level)).endswith(f", {text})")


@given(st.lists(numbers, min_size=3, max_size=3).map(sorted))
def test_printed_bounds_are_the_bounds_to_the_printed_digit(bounds: list[float]) -> None:
    low, mid, high = bounds
    text = str(Interval(low, mid, high, 0.9))
    printed = [float(x) for x in re.findall(r"-?\d+\.?\d*(?:e[+-]\d\d)?", text)[:3]]
    # Rounding an error of 355 to one digit moves a number by up to 50; without an error four digits are printed.
    tolerance = max(50.0 / 355.0 * (high - low), 0.5e-3 * max(abs(low), abs(high)))
    assert np.abs(np.array(printed) - [mid, low, high]).max() <= 1.001 * tolerance
    assert printed[1] <= printed[0] <= printed[2]


def test_arrays_print_their_first_and_last_value() -> None:
    interval = Interval([1.9, 1.7], [2.0, 1.8], [2.1, 1.9], 0.8)
    assert str(interval) == "2 values, 2.00 (1.90 to 2.10, 80 %) … 1.80 (1.70 to 1.90, 80 %)"
    assert interval.short() == "2 values, 2.00±0.10 … 1.80±0.10"
    assert str(Interval([], [], [], 0.8)) == "no values"


def test_half_width() -> None:
    assert Interval(1.0, 1.5, 3.0, 0.9).half_width == 1.0
    assert math.isnan(Interval(INF, INF, INF, 0.9).half_width)
    assert np.array_equal(Interval([1.0, 2.0], [1.0, 2.0], [2.0, 5.0], 0.9).half_width, [0.5, 1.5])


def test_numbers_become_floats_and_arrays_read_only_copies() -> None:
    assert isinstance(Interval(np.float32(1), np.int64(2), np.array(3), 0.9).mid, float)
    mine = np.array([1.0, 2.0])
    theirs = Interval(mine, mine, mine, 0.9)
    mine[0] = -5.0
    assert theirs.mid[0] == 1.0  # type: ignore[index]
    with pytest.raises(ValueError, match="read-only"):
        theirs.mid[0] = 0.0  # type: ignore[index]
    with pytest.raises(dataclasses.FrozenInstanceError):
        theirs.level = 0.5  # type: ignore[misc]


def test_equality_looks_at_every_number() -> None:
    assert Interval(1.0, 2.0, 3.0, 0.9) == Interval(1.0, 2.0, 3.0, 0.9)
    assert Interval(1.0, 2.0, 3.0, 0.9) != Interval(1.0, 2.0, 3.0, 0.8)
    assert Interval([1.0], [2.0], [3.0], 0.9) != Interval([1.0], [2.0], [3.5], 0.9)
    assert Interval(NAN, NAN, NAN, 0.9) == Interval(NAN, NAN, NAN, 0.9)
    assert Interval(1.0, 2.0, 3.0, 0.9) != "1.0 to 3.0"


@pytest.mark.parametrize(
    ("low", "mid", "high", "message"),
    [
        (2.0, 1.0, 3.0, r"got low=2 above mid=1, so pass the bounds in order"),
        (1.0, 4.0, 3.0, r"got mid=4 above high=3"),
        (4.0, NAN, 3.0, r"got low=4 above high=3"),
        (INF, 5.0, INF, r"got low=inf above mid=5"),
        ([1.0, 2.5], [2.0, 2.0], [3.0, 3.0], r"got low\[1\]=2.5 above mid\[1\]=2"),
        ([1.0, 2.0], [2.0], [3.0, 3.0], r"Expected low, mid and high of equal shape, got \(2,\), \(1,\) and \(2,\)"),
    ],
)
def test_disordered_bounds_are_refused(low: object, mid: object, high: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Interval(low, mid, high, 0.9)  # type: ignore[arg-type]


@pytest.mark.parametrize("level", [0.0, 1.0, 90.0, -0.1, NAN])
def test_a_level_is_a_probability(level: float) -> None:
    with pytest.raises(ValueError, match=r"Expected level between 0 and 1, got .* such as 0.9 for 90 %"):
        Interval(1.0, 2.0, 3.0, level)


def test_bounds_must_be_numbers() -> None:
    with pytest.raises(TypeError, match="Expected mid to be a number or an array of numbers, got 'two'"):
        Interval(1.0, "two", 3.0, 0.9)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("bounds", "text"),
    [
        ((12_000.0, 30_000.0, 5.7e8), "30000 (12000 to 570000000, 90 %)"),
        ((45_000.0, 1.2e6, math.inf), "1200000 (45000 to inf, 90 %)"),
        ((0.0012, 0.5, 0.7), "0.5 (0.0012 to 0.7, 90 %)"),
    ],
)
def test_bounds_of_different_size_keep_their_own_digits(bounds: tuple[float, float, float], text: str) -> None:
    assert str(Interval(*bounds, 0.9)) == text
