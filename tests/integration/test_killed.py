"""Runs killed with SIGKILL at random steps and resumed know, to the bit, what runs never killed know."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.integration.killed import KILLS, RUNS
from tests.trainers import QUIET, REPEATS_A_BATCH

pytestmark = [
    *QUIET,
    pytest.mark.skipif(REPEATS_A_BATCH, reason="this Lightning does not go on where it was, but a batch before"),
    pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked"),
]

Ends = dict[str, dict[str, Any]]


@pytest.fixture(scope="module")
def ends(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Ends]:
    """What was known at the end of each run, by run, and by whether it was ``whole`` or ``killed``."""
    folder, root = tmp_path_factory.mktemp("killed"), Path(__file__).parents[2]
    # Threads of a numerical library would not survive a fork.
    alone = {f"{library}_NUM_THREADS": "1" for library in ("OMP", "OPENBLAS", "MKL")}
    done = subprocess.run(
        [sys.executable, "-m", "tests.integration.killed", str(folder)],
        cwd=root,
        env=os.environ | alone,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return {name: json.loads((folder / f"{name}.json").read_text()) for name in RUNS}


def test_fifty_kills(ends: dict[str, Ends]) -> None:
    statuses = [status for run in ends.values() for status in run["killed"]["statuses"]]
    assert statuses.count(-9) == KILLS == 50
    assert statuses.count(0) == len(RUNS)
    assert all(run["whole"]["statuses"] == [0] for run in ends.values())


@pytest.mark.parametrize("name", RUNS)
def test_what_is_known_is_known_to_the_bit(ends: dict[str, Ends], name: str) -> None:
    whole, killed = ends[name]["whole"], ends[name]["killed"]
    assert killed["ended"] == whole["ended"] == RUNS[name].steps
    assert len(whole["state"]["live"]["ledger"]["rows"]) >= 7
    assert bool(killed["borrowed from"]) == bool(RUNS[name].siblings)
    names = [state["state"].pop("run_id") for state in (whole, killed)]  # in the store: of its first checkpoint's life
    assert all((run_id is not None) == bool(RUNS[name].siblings) for run_id in names)
    for end in (whole, killed):
        for live in (end["state"]["live"], (end["state"]["metric"] or end["state"])["live"]):
            for departure in live["alarm"]["found"]:
                departure[-1] = "by the clock"  # how many seconds ago it was
    for part in whole["state"]:  # equal as text: NaN is equal to NaN there, and no digit is lost
        assert json.dumps(killed["state"][part]) == json.dumps(whole["state"][part]), part
    assert killed["summary"] == whole["summary"]


def test_alarms_and_distrust_are_among_what_is_known(ends: dict[str, Ends]) -> None:
    shifted, by_hand = (ends[name]["killed"]["state"] for name in ("level shift", "rate by hand"))
    assert shifted["live"]["alarms"] > 0
    assert shifted["live"]["departures"] > 1
    assert len(shifted["live"]["alarm"]["found"]) == 2
    assert by_hand["distrust"] > 1
    assert by_hand["live"]["schedule"] is None
