"""Refits: bounded in number, the same for a resumed run, at the tenths of the run."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from lightning_scaling.refits import BUFFER, FIRST, LAG, RANK_BUFFER, next_fetch, next_refit


def schedule(horizon: int | None, refits: int, *, start: int = 0, until: int | None = None) -> list[int]:
    steps = [start]
    while steps[-1] < (until or horizon or 0):
        steps.append(next_refit(steps[-1], horizon, refits))
    return steps[1:]


@given(horizon=st.integers(1, 10**9), refits=st.integers(4, 200))
def test_never_more_than_asked_for_and_the_end_is_one_of_them(horizon: int, refits: int) -> None:
    steps = schedule(horizon, refits)
    assert len(steps) <= refits
    assert steps[-1] == horizon
    assert all(a < b for a, b in pairwise(steps))
    assert horizon <= FIRST or steps[0] >= FIRST


@pytest.mark.parametrize("horizon", [200, 1_000, 20_000, 10_000_000])
def test_the_tenths_of_the_closing_table_are_among_them(horizon: int) -> None:
    assert {horizon * tenth // 10 for tenth in range(1, 11)} <= set(schedule(horizon, 40))


@given(horizon=st.one_of(st.none(), st.integers(1, 10**7)), start=st.integers(0, 10**6))
def test_a_resumed_run_keeps_to_the_same_moments(horizon: int | None, start: int) -> None:
    end = min(horizon or 10**6, 10**6)
    assume(start < end)
    whole = schedule(horizon, 40, until=end)
    assert schedule(horizon, 40, start=start, until=end) == [s for s in whole if s > start]


def test_without_an_end_their_number_grows_with_the_logarithm_of_the_run() -> None:
    assert len(schedule(None, 40, until=10**5)) == 41
    assert len(schedule(None, 40, until=10**7)) == 61


def test_after_the_planned_end_it_goes_on() -> None:
    assert next_refit(1000, 1000, 40) > 1000
    assert len(schedule(1000, 40, start=1000, until=100_000)) <= 25


def test_fetches_are_no_later_than_refits_and_bounded_apart() -> None:
    for step in (0, 1, 9, 10, 255, 256, 5_000, 10**6):
        for refit in (step + 1, step + 13, step + 10**5):
            alone = next_fetch(step, refit, across_ranks=False)
            assert step < alone <= min(refit, step + BUFFER)
        together = {next_fetch(step, refit, across_ranks=True) for refit in (0, step + 1, step + 10**5)}
        assert len(together) == 1, "ranks know the step, not each other's refits"
        assert step < together.pop() <= step + RANK_BUFFER


def test_a_short_run_is_fetched_a_hundred_times_and_none_more_often_than_a_device_can_answer() -> None:
    far = 10**9
    assert next_fetch(1000, far, across_ranks=False, horizon=5000) == 1050
    assert next_fetch(1003, far, across_ranks=False, horizon=5000) == 1050  # wherever it was resumed
    assert next_fetch(160, far, across_ranks=False, horizon=200) == 256  # its refits are close enough
    assert next_fetch(1000, far, across_ranks=False, horizon=1000 * 2) == 1020
    for horizon in (700, 1000, 3333):
        steps = [0]
        while steps[-1] < horizon:
            refit = next_refit(steps[-1], horizon, 40)
            steps.append(next_fetch(steps[-1], refit, across_ranks=False, horizon=horizon))
        late = [step for step in steps if step >= horizon / 20]
        assert all(2 * LAG <= b - a + 1 <= max(horizon / 50, 2 * LAG + 8) for a, b in pairwise(late))
    assert next_fetch(1000, far, across_ranks=False, horizon=10**6) == 1024


@given(horizon=st.integers(200, 10**8))
def test_little_is_refitted_where_nothing_can_be_said_yet(horizon: int) -> None:
    early = [step for step in schedule(horizon, 40) if step < horizon / 20]
    assert all(later >= 1.5 * step - 1 for step, later in pairwise(early))
    assert len(early) <= 20
