"""Two ranks, on one of which the monitor fails as early as can be: neither waits for the other."""

from __future__ import annotations

import pytest

from tests.integration.ranks import Reports, run_on_two_ranks

TIMEOUT_S = 120


@pytest.fixture(scope="module")
def reports() -> Reports:
    """What each scenario of two_ranks_begin.py printed, by scenario, rank 0 first."""
    return run_on_two_ranks("tests.integration.two_ranks_begin", timeout_s=TIMEOUT_S)


@pytest.mark.parametrize("failing", [0, 1])
def test_where_one_rank_cannot_begin_all_are_quiet_and_the_run_goes_on(reports: Reports, failing: int) -> None:
    both = reports[f"begin {failing}"]
    assert [report["ended"] for report in both] == [60, 60]
    assert [report["forecasts"] for report in both] == [0, 0]
    assert ["only here" in " ".join(report["told"]) for report in both] == [rank == failing for rank in (0, 1)]
    assert all(len(report["told"]) == 1 for report in both)


def test_ranks_that_count_different_steps_do_not_wait_for_each_other(reports: Reports) -> None:
    assert [report["ended"] for report in reports["apart"]] == [60, 60]
    assert all("at another step" in report["told"][0] for report in reports["apart"])


def test_a_rank_that_cannot_take_in_its_batches_takes_part_all_the_same(reports: Reports) -> None:
    zero, one = reports["batch 1"]
    assert zero["ended"] == one["ended"] < 300  # rank 0 forecasts and stops the run
    assert zero["forecasts"] > 0
    assert (len(zero["told"]), len(one["told"])) == (0, 1)
    assert [report["ended"] for report in reports["batch 0"]] == [60, 60]
    assert [len(report["told"]) for report in reports["batch 0"]] == [1, 0]
