"""LRSchedule: exact sums in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling import LRSchedule
from lightning_scaling.schedule import MAX_BLOCKS


@given(st.lists(st.floats(0, 10), min_size=1, max_size=300).filter(lambda r: max(r) > 1e-6), st.floats(0.1, 1e3))
def test_sums_are_exact_at_the_edges_and_free_of_the_unit(rates: list[float], unit: float) -> None:
    schedule = LRSchedule.from_array(rates)
    edges = schedule.edges.astype(int)
    sums = np.concatenate(([0.0], np.cumsum(rates)))[edges] / max(rates)
    assert schedule.summed(edges) == pytest.approx(sums)
    other = LRSchedule.from_array(np.array(rates) * unit)
    assert other.rates == pytest.approx(schedule.rates)
    assert schedule.horizon == len(rates)


def test_long_schedules_are_bounded_and_follow_the_rate() -> None:
    n = 1_000_000
    step = np.arange(1, n + 1)
    rates = np.minimum(1.0, step / 2000) * 0.5 * (1 + np.cos(np.pi * step / n))
    schedule = LRSchedule.from_array(rates)
    assert schedule.rates.size <= 1.1 * MAX_BLOCKS
    at = np.array([10, 1_000, 50_000, 500_000, 990_000])
    assert schedule.rate_at(at) == pytest.approx(rates[at - 1] / rates.max(), abs=0.01)
    assert schedule.summed(n) == pytest.approx(rates.sum() / rates.max(), rel=1e-12)


def test_the_last_rate_holds_beyond_the_horizon() -> None:
    schedule = LRSchedule.from_array([1.0, 1.0, 0.5])
    assert schedule.rate_at([3, 10]).tolist() == [0.5, 0.5]
    assert schedule.summed([3, 5]).tolist() == [2.5, 3.5]


@pytest.mark.parametrize(
    ("rates", "words"),
    [
        ([], "shape"),
        ([[1.0, 2.0]], "shape"),
        ([1.0, -1.0], ">= 0"),
        ([1.0, np.nan], "finite"),
        ([np.inf], "finite"),
        ([0.0, 0.0], "all zeros"),
    ],
)
def test_bad_rates_are_refused(rates: object, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LRSchedule.from_array(rates)  # type: ignore[arg-type]


def test_of_past_holds_the_last_rate_and_says_that_it_is_not_known() -> None:
    schedule = LRSchedule.of_past([10, 20, 30], [1.0, 1.0, 0.4], 100)
    assert not schedule.known
    assert (schedule.horizon, float(schedule.rate_at(90))) == (100, 0.4)
    assert LRSchedule.of_past([10], None, 100).rates.tolist() == [1.0]
