"""The noise scale from two ranks (gloo, two processes): per-rank gradients against reduced ones."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.known_noise import G_SQ, TRACE, Normalised

TIMEOUT_S = 120


@pytest.fixture(scope="module")
def reports() -> dict[str, list[dict[str, Any]]]:
    """What each scenario of two_ranks_noise.py printed, by scenario, rank 0 first."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(__file__).parents[2]
    processes = []
    for rank in (0, 1):
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "NODE_RANK": "0"}
        environment = os.environ | where | {"LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(root)}
        command = [sys.executable, "-m", "tests.integration.two_ranks_noise"]
        processes.append(
            subprocess.Popen(
                command, cwd=root, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
            )
        )
    found: dict[str, list[dict[str, Any]]] = {}
    try:
        with ThreadPoolExecutor(2) as pool:
            outputs = list(pool.map(lambda process: process.communicate(timeout=TIMEOUT_S), processes))
        for process, (out, err) in zip(processes, outputs, strict=True):
            assert process.returncode == 0, err[-4000:]
            for line in out.splitlines():
                if line.startswith("{"):
                    report = json.loads(line)
                    found.setdefault(report["scenario"], []).append(report)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    return found


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
