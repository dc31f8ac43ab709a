"""The noise scale from two ranks (gloo, two processes): per-rank gradients against reduced ones."""

from __future__ import annotations

from typing import Any

import pytest

from tests.integration.ranks import run_on_two_ranks
from tests.known_noise import G_SQ, TRACE, Normalised

TIMEOUT_S = 120


@pytest.fixture(scope="module")
def reports() -> dict[str, list[dict[str, Any]]]:
    """What each scenario of two_ranks_noise.py printed, by scenario, rank 0 first."""
    return run_on_two_ranks("tests.integration.two_ranks_noise", timeout_s=TIMEOUT_S)


@pytest.mark.parametrize(
    ("scenario", "samples", "per_step"),
    [("ranks", 240, 8), ("ranks and micro-batches", 120, 16), ("a communication hook of one's own", 240, 8)],
)
def test_ranks_within_10_percent(
    reports: dict[str, list[dict[str, Any]]], scenario: str, samples: int, per_step: int
) -> None:
    for report in reports[scenario]:
        assert report["n"] == samples
        assert report["per_step"] == per_step
        assert report["G_sq"] == pytest.approx(G_SQ, rel=0.1)
        assert report["trace"] == pytest.approx(TRACE, rel=0.1)
        assert report["B"] == pytest.approx(TRACE / G_SQ, rel=0.1)


def test_examples_on_ranks_within_10_percent(reports: dict[str, list[dict[str, Any]]]) -> None:
    for report in reports["examples"]:
        assert report["G_sq"] == pytest.approx(Normalised.G_sq(), rel=0.1)
        assert report["trace"] == pytest.approx(Normalised.trace(), rel=0.1)
        assert report["B"] == pytest.approx(Normalised.trace() / Normalised.G_sq(), rel=0.1)


def test_both_ranks_know_the_same(reports: dict[str, list[dict[str, Any]]]) -> None:
    for scenario in ("ranks", "ranks and micro-batches", "examples"):
        zero, one = reports[scenario]
        assert {**zero, "rank": 1} == one


def test_training_is_the_same_to_the_bit(reports: dict[str, list[dict[str, Any]]]) -> None:
    assert reports["ranks"][0]["weights"] == reports["ranks without a monitor"][0]["weights"]


def test_a_rank_that_fails_leaves_none_waiting(reports: dict[str, list[dict[str, Any]]]) -> None:
    zero, one = reports["one rank fails"]
    assert zero["ended"] == one["ended"] == 240
    assert zero["n"] == one["n"] == 240  # what is left is rank 0's
    assert zero["B"] == one["B"] == pytest.approx(TRACE / G_SQ, rel=0.2)
