"""Units against the paper's example and each other."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling.units import PF_DAY, from_pf_days, to_pf_days, training_compute
from tests.golden import golden, half_unit


@pytest.mark.parametrize("row", golden("units.json", "C_pf_days"))
def test_compute_of_a_run_in_pf_days(row: dict[str, Any]) -> None:
    got = to_pf_days(training_compute(**row["inputs"]))
    assert got == pytest.approx(row["value"], abs=half_unit(row["printed"]), rel=0)


def test_a_pf_day_is_a_day_at_1e15_flop_per_second() -> None:
    assert pytest.approx(1e15 * 24 * 60 * 60) == PF_DAY


@given(st.floats(1e-12, 1e12))
def test_pf_days_round_trip(C_pf_days: float) -> None:
    assert to_pf_days(from_pf_days(C_pf_days)) == pytest.approx(C_pf_days, rel=1e-14)


def test_compute_broadcasts_and_does_not_overflow_integers() -> None:
    got = training_compute(np.array([10**9, 10**12]), 2**22, np.array([[10**6], [10**9]]))
    assert got.shape == (2, 2)
    assert got[1, 1] == pytest.approx(6.0 * 1e12 * 2**22 * 1e9)


def test_compute_needs_shapes_that_fit() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        training_compute(np.ones(2), np.ones(3), 1)
