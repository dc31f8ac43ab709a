"""GuestMonitor: it gives way, and leaves nothing behind where it did."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lightning_scaling import ScalingLawMonitor
from lightning_scaling.guest import GuestMonitor
from tests.trainers import PACKAGES, QUIET, loader, scripted_module, trainer

pytestmark = QUIET
STEPS = 80


def run(*monitors: Any, package: str = "lightning.pytorch") -> Any:
    runner = trainer(*monitors, package=package, max_steps=STEPS)
    runner.fit(scripted_module(package=package), loader(STEPS))
    return runner


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("name", ["scaling", "other"])
def test_it_is_silent_beside_a_monitor_of_any_name(package: str, name: str, capsys: pytest.CaptureFixture[str]) -> None:
    own, guest = ScalingLawMonitor(name=name, verbose=False), GuestMonitor(name=name)
    runner = run(own, guest, package=package)
    assert own.history
    assert guest.history == ()
    assert guest.state_dict() == {}
    assert {key.partition("/")[0] for key in runner.callback_metrics} == {name}
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("package", PACKAGES)
def test_a_monitor_that_the_module_brings_counts_too(package: str) -> None:
    own, guest = ScalingLawMonitor(verbose=False), GuestMonitor(verbose=False)
    module = scripted_module(package=package)
    module.configure_callbacks = lambda: [own]
    trainer(guest, package=package, max_steps=STEPS).fit(module, loader(STEPS))
    assert own.history
    assert guest.history == ()


def test_its_state_is_saved_and_gone_on_with(tmp_path: Path) -> None:
    first = GuestMonitor(verbose=False, horizon=200)
    run(first).save_checkpoint(tmp_path / "a.ckpt")
    second = GuestMonitor(verbose=False, horizon=200)
    runner = trainer(second, max_steps=2 * STEPS)
    runner.fit(scripted_module(), loader(2 * STEPS), ckpt_path=tmp_path / "a.ckpt")
    assert second.curve.S[0] == 1
    assert second.curve.step == 2 * STEPS
    assert second.history[: len(first.history)] == first.history


def test_a_state_that_it_cannot_go_on_with_is_dropped(tmp_path: Path) -> None:
    run(GuestMonitor(verbose=False)).save_checkpoint(tmp_path / "a.ckpt")
    guest = GuestMonitor(verbose=False)
    runner = trainer(guest, ScalingLawMonitor(verbose=False), max_steps=STEPS + 10)
    runner.fit(scripted_module(), loader(STEPS + 10), ckpt_path=tmp_path / "a.ckpt")
    assert guest.state_dict() == {}


def test_it_takes_no_rule() -> None:
    with pytest.raises(TypeError, match="'stop'"):
        GuestMonitor(stop=None)
