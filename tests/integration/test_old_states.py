"""States that earlier versions have written: gone on from, or ignored with a warning.

Each file of ``golden/states`` holds what the code of its time wrote at step 30 of 100: the callback's state, and that
of a `LoopMonitor` once there was one. They stay as they are; what is written today is added when something changes.
"""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_scaling import LoopMonitor, ScalingLawMonitor, ScalingWarning
from tests.trainers import IN_AN_EPOCH, QUIET, fit, law, loader, scripted_module, trainer

pytestmark = [*QUIET, IN_AN_EPOCH]

AT, STEPS = 30, 100
STATES = {path.stem: json.loads(path.read_text()) for path in (Path(__file__).parents[1] / "golden/states").glob("*")}
#: Those that lack what a stop has to know.
UNREADABLE = {"1_first"}
LOOPS = {name for name in STATES if "loop" in STATES[name]}


def go_on(folder: Path, state: dict[str, Any]) -> ScalingLawMonitor:
    """Resume a run of which an earlier version has written the state."""
    fit(ScalingLawMonitor(), steps=AT, batches=STEPS).save_checkpoint(folder / "now.ckpt")
    checkpoint = torch.load(folder / "now.ckpt", weights_only=True)
    checkpoint["callbacks"]["ScalingLawMonitor"] = state
    torch.save(checkpoint, folder / "then.ckpt")
    monitor = ScalingLawMonitor(verbose=False, refits=12)
    runner = trainer(monitor, max_steps=STEPS)
    runner.fit(scripted_module(), loader(STEPS), ckpt_path=folder / "then.ckpt")
    assert runner.global_step == STEPS
    return monitor


@pytest.mark.parametrize("name", sorted(STATES.keys() - UNREADABLE))
def test_a_state_of_an_earlier_version_is_gone_on_from(tmp_path: Path, name: str) -> None:
    state = STATES[name]["callback"]
    monitor = go_on(tmp_path, state)
    curve, rows = monitor.curve, state["live"]["ledger"]["rows"]
    assert (curve.S[0], curve.step, curve.count.sum()) == (1, STEPS, STEPS)
    assert np.abs(curve.L - [law(s) for s in curve.S]).max() < 0.1
    assert len(rows) > 2
    assert [(r.step, r.final_loss.mid) for r in monitor.history[: len(rows)]] == [(row[0], row[5]) for row in rows]
    assert monitor.history[-1].step == STEPS


@pytest.mark.parametrize("name", sorted(UNREADABLE))
def test_a_state_that_lacks_something_is_ignored_with_a_warning(tmp_path: Path, name: str) -> None:
    with pytest.warns(ScalingWarning, match="Expected a readable state of ScalingLawMonitor"):
        monitor = go_on(tmp_path, STATES[name]["callback"])
    assert (monitor.curve.S[0], monitor.curve.step) == (pytest.approx(AT + 1, abs=0.5), STEPS)
    assert min(r.step for r in monitor.history) > AT


@pytest.mark.parametrize("name", sorted(LOOPS))
def test_a_state_of_an_earlier_loop_is_gone_on_from(name: str) -> None:
    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, STEPS)
    monitor = LoopMonitor(STEPS, scheduler, tell=None, refits=12)
    for step in range(1, STEPS + 1):
        optimizer.step()
        scheduler.step()
        if step == AT:
            monitor.load_state_dict(STATES[name]["loop"])
        elif step > AT:
            monitor.step(law(step))
    curve = monitor.curve
    assert (curve.S[0], curve.step, curve.count.sum()) == (1, STEPS, STEPS)
    assert curve.L.tolist() == pytest.approx([law(s) for s in curve.S], rel=1e-3)
    rows = STATES[name]["loop"]["live"]["ledger"]["rows"]
    assert [r.step for r in monitor.history[: len(rows)]] == [row[0] for row in rows]
    assert monitor.forecast is not None
    assert monitor.forecast.schedule_known


@pytest.mark.parametrize("name", sorted(LOOPS))
def test_a_state_of_a_loop_that_lacks_something_is_refused(name: str) -> None:
    monitor, state = LoopMonitor(STEPS, tell=None), copy.deepcopy(STATES[name]["loop"])
    del state["live"]["overruled"]
    with pytest.raises(ValueError, match="Expected a readable LoopMonitor state"):
        monitor.load_state_dict(state)
    assert not len(monitor.curve)
