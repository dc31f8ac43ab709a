"""Two ranks (gloo, two processes): one mean, one decision, one reduction per flush, and no rank left waiting."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.ranks import run_on_two_ranks
from tests.trainers import law

TIMEOUT_S = 300
FINE = (
    "whole",
    "stop",
    "resume",
    "checkpoints",
    "guests",
    "guest of rank 0",
    "found",
    "metric",
    "metric resumed",
    "epoch metric",
    "beside",
    "without",
    "one rank is NaN",
)
APART = tuple(f"one rank {fault}{how}" for fault in ("raises", "stops alone") for how in ("", ", without"))
FAILING = (
    "engine fails",
    "one rank fails",
    "one rank fails beside a metric",
    "one rank cannot fetch",
    "one rank has no loss",
)
LOOPS = ("loop stops", "loop ends", "loop fails")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    """What each scenario of two_ranks.py printed, by scenario, rank 0 first."""
    folder = tmp_path_factory.mktemp("ranks")
    return run_on_two_ranks("tests.integration.two_ranks", str(folder), timeout_s=TIMEOUT_S, spare_ports=4)


def test_every_scenario_came_to_its_end_on_both_ranks(reports: dict[str, list[dict[str, Any]]]) -> None:
    assert set(reports) == {*FINE, *APART, *FAILING, *LOOPS, "sizes"}
    for both in reports.values():
        assert [r["rank"] for r in both] == [0, 1]
        assert both[0]["ended"] == both[1]["ended"]
        assert both[0]["collectives"] == both[1]["collectives"]


def test_curve_is_the_mean_over_the_ranks(reports: dict[str, list[dict[str, Any]]]) -> None:
    for report in reports["whole"]:
        assert report["S"][:40] == list(range(1, 41))
        assert report["L"][:40] == pytest.approx([law(s) for s in range(1, 41)], rel=1e-6)
        assert report["S"][-1] > 295
        assert report["L"][-1] == pytest.approx(law(298), rel=1e-2)


def test_parameters_of_a_replicated_model_are_counted_once(reports: dict[str, list[dict[str, Any]]]) -> None:
    assert [report["N"] for report in reports["whole"]] == [3.0, 3.0]  # a weight for each of two inputs, and a bias


def test_few_reductions(reports: dict[str, list[dict[str, Any]]]) -> None:
    steps = reports["whole"][0]["collectives"]
    assert len(steps) <= 50
    assert len(steps[:-1]) == len(set(steps[:-1]))  # one per flush, and one to close the run
    assert steps[-1] == 300


def test_only_rank_0_forecasts_and_all_ranks_know_the_numbers(reports: dict[str, list[dict[str, Any]]]) -> None:
    for scenario in ("whole", "checkpoints"):
        zero, one = reports[scenario]
        assert zero["forecasts"]
        assert one["forecasts"] == []
        assert zero["metrics"] == one["metrics"]
        assert zero["metrics"]["scaling/final_loss"] == pytest.approx(law(zero["ended"]), abs=0.05)


def test_both_ranks_stop_at_the_same_step_and_early(reports: dict[str, list[dict[str, Any]]]) -> None:
    zero, one = reports["stop"]
    assert zero["ended"] == one["ended"] < 500
    assert zero["stopped_by"] == "TARGET_UNREACHABLE"


def test_resumed_on_purpose_it_goes_on(reports: dict[str, list[dict[str, Any]]]) -> None:
    zero, one = reports["resume"]
    assert zero["ended"] == one["ended"] == 400
    assert zero["S"][0] == one["S"][0] == 1


def test_a_metric_is_what_rank_0_sees_and_all_ranks_know_what_comes_of_it(
    reports: dict[str, list[dict[str, Any]]],
) -> None:
    zero, one = reports["found"]
    assert zero["seen"] == pytest.approx({"train_loss": law(300), "val_loss": law(300) + 1.0}, abs=0.1)
    assert one["seen"] == {}
    ours = [{key: x for key, x in r["metrics"].items() if key.startswith("scaling/")} for r in (zero, one)]
    assert ours[0] == ours[1]
    assert ours[1]["scaling/val_loss/final_loss"] == pytest.approx(law(300) + 1.0, abs=0.1)


def test_both_ranks_stop_for_a_metric_and_go_on_with_it(reports: dict[str, list[dict[str, Any]]]) -> None:
    zero, one = reports["metric"]
    assert zero["ended"] == one["ended"] < 500
    assert zero["stopped_by"] == "TARGET_UNREACHABLE"
    assert zero["S"] == list(range(20, zero["ended"] + 1, 20))  # with the validation that brought it, on both
    assert zero["L"] == pytest.approx([law(int(s)) + 1.0 for s in zero["S"]])
    zero, one = reports["metric resumed"]
    assert zero["ended"] == one["ended"] == 500
    assert zero["S"][:3] == [20, 40, 60]
    assert list(zero["seen"]) == ["val_loss", "train_loss"]


def test_the_mean_of_an_epoch_is_taken_on_all_ranks_at_once(reports: dict[str, list[dict[str, Any]]]) -> None:
    for report in reports["epoch metric"]:
        assert report["S"] == list(range(20, 401, 20))
        first = sum(law(s) for s in range(1, 21)) / 20
        assert report["L"][0] == pytest.approx(first, rel=1e-5)


@pytest.mark.parametrize("scenario", ["guests", "guest of rank 0"])
def test_a_guest_needs_no_other_rank(reports: dict[str, list[dict[str, Any]]], scenario: str) -> None:
    """LIGHTNING_SCALING may be set on one machine of two: then the other rank has no monitor at all."""
    zero, one = reports[scenario]
    assert zero["ended"] == one["ended"] == 200
    assert zero["collectives"] == one["collectives"] == []
    assert zero["L"][:40] == pytest.approx([law(s) - 1.0 for s in range(1, 41)], rel=1e-6)  # rank 0's own loss
    assert zero["metrics"]["scaling/final_loss"] == pytest.approx(law(200) - 1.0, abs=0.05)
    assert one["forecasts"] == one["S"] == []


def test_a_plain_loop_stops_on_both_ranks_and_knows_all_steps(reports: dict[str, list[dict[str, Any]]]) -> None:
    for report in reports["loop stops"]:
        assert 120 <= report["ended"] < 400
        assert report["step"] == report["ended"]
    for name in ("loop ends", "loop fails"):
        zero, one = reports[name]
        assert zero["ended"] == zero["step"] == one["step"] == 600
        assert zero["L"] == one["L"]
        assert zero["L"][:40] == pytest.approx([law(s) for s in range(1, 41)], rel=1e-6)
        assert zero["forecasts"][-1] == 600
        assert one["forecasts"] == []
    assert reports["loop fails"][0]["L"][-1] == pytest.approx(law(595) - 1.0, abs=0.02)  # rank 0's loss is left


def test_sharded_models_count_in_full(reports: dict[str, list[dict[str, Any]]]) -> None:
    found = reports["sizes"][0]["found"]
    assert len(found) == 6
    for how, (sharded, whole) in found.items():
        assert sharded == whole, how


def test_failures_leave_no_rank_waiting(reports: dict[str, list[dict[str, Any]]]) -> None:
    assert [r["ended"] for r in reports["engine fails"]] == [120, 120]
    for scenario in FAILING[1:]:
        zero, one = reports[scenario]
        assert zero["ended"] == one["ended"] < 400, scenario  # rank 0 still decides, and both follow


def test_both_ranks_learn_what_they_would_without_a_monitor(reports: dict[str, list[dict[str, Any]]]) -> None:
    assert reports["beside"][0]["forecasts"]
    weights = {r["weights"] for scenario in ("beside", "without") for r in reports[scenario]}
    assert len(weights) == 1


def test_a_rank_whose_loss_is_nan_stops_both_at_once(reports: dict[str, list[dict[str, Any]]]) -> None:
    zero, one = reports["one rank is NaN"]
    assert 40 < zero["ended"] == one["ended"] < 70
    assert zero["stopped_by"] == "DIVERGED"
    assert zero["S"][-1] == 40


@pytest.mark.parametrize("fault", ["raises", "stops alone"])
def test_a_rank_that_leaves_ends_the_run_as_it_would_without_a_monitor(
    reports: dict[str, list[dict[str, Any]]], fault: str
) -> None:
    ours, theirs = reports[f"one rank {fault}"], reports[f"one rank {fault}, without"]
    for rank in (0, 1):
        for what in ("ended", "weights"):
            assert ours[rank][what] == theirs[rank][what]
        # In which of its words gloo says that the other is gone depends on the moment.
        assert bool(ours[rank]["error"]) == bool(theirs[rank]["error"])
        assert ours[rank]["error"].partition(":")[0] == theirs[rank]["error"].partition(":")[0]
    assert ours[0]["error"]  # nobody answers it any more
    assert bool(ours[1]["error"]) == (fault == "raises")
    assert ours[0]["forecasts"][-1] >= 30  # what was known before is known after
    assert ours[0]["S"] == list(range(1, len(ours[0]["S"]) + 1))
