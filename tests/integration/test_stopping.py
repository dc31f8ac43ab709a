"""Stop rules in real fits."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint

from lightning_scaling import (
    Action,
    Converged,
    Diverged,
    Reason,
    ScalingLawMonitor,
    TargetUnreachable,
    Verdict,
)
from lightning_scaling.host import session
from tests.trainers import QUIET, T, fit, law, loader, scripted_module, trainer, validate, validated_module, watch

pytestmark = QUIET


def test_unreachable_target_stops_the_run_and_saves_steps() -> None:
    monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=1.5), verbose=False)
    runner = fit(monitor, steps=2000)
    assert runner.global_step < 1000
    assert monitor.advice is not None
    assert (monitor.advice.action, monitor.advice.reason) == (Action.STOP, Reason.TARGET_UNREACHABLE)
    assert monitor.history[-1].step == runner.global_step
    assert f"step {runner.global_step:,} of 2 000" in monitor.summary().replace(",", " ")


def test_without_rules_nothing_is_stopped() -> None:
    assert fit(ScalingLawMonitor(verbose=False), module=scripted_module(lambda s: 2.0)).global_step == T


@pytest.mark.parametrize(
    ("settings", "end"),
    [({"min_steps": 900}, 900), ({"min_epochs": 4}, 1200), ({"min_epochs": 2, "min_steps": 650}, 650)],
)
def test_minimum_is_honoured_and_the_wish_does_not_latch(settings: dict[str, int], end: int) -> None:
    latched: list[int] = []
    observer = watch(
        on_train_batch_start=lambda self, t, *a: latched.append(t.global_step) if t.should_stop else None,
    )
    monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=1.5), verbose=False)
    runner = trainer(monitor, observer, max_steps=2000, **settings)
    runner.fit(scripted_module(), loader(300))
    assert runner.global_step == end
    assert latched == []


def test_several_rules_and_a_diverged_run() -> None:
    def breaks(step: int) -> float:
        return law(step) if step <= 500 else math.nan

    monitor = ScalingLawMonitor(stop=[Converged(min_gain=1e-9), Diverged()], verbose=False)
    runner = fit(monitor, steps=2000, module=scripted_module(breaks))
    assert monitor.advice is not None
    assert monitor.advice.reason is Reason.DIVERGED
    assert 500 < runner.global_step <= 500 + session.BUFFER + 3


def test_spike_of_nan_losses_is_survived() -> None:
    def spike(step: int) -> float:
        return math.inf if step in (200, 201) else law(step)

    monitor = ScalingLawMonitor(stop=Diverged(), verbose=False)
    runner = fit(monitor, module=scripted_module(spike))
    assert runner.global_step == T
    assert monitor.forecast is not None
    assert monitor.forecast.final_loss.low < law(T) < monitor.forecast.final_loss.high


@pytest.mark.parametrize("monitor", [None, "val_loss"])
@pytest.mark.parametrize("begins", [3, 200])
def test_a_training_loss_that_breaks_ends_the_run_whatever_is_monitored(monitor: str | None, begins: int) -> None:
    module = validated_module(loss=lambda s: law(s) if s < begins else math.nan)
    watcher = ScalingLawMonitor(monitor, stop=Diverged(), verbose=False)
    runner = validate(watcher, steps=2000, every=100, module=module)
    assert begins < runner.global_step <= begins + session.BUFFER + 3
    assert watcher.advice is not None
    assert (watcher.advice.action, watcher.advice.reason) == (Action.STOP, Reason.DIVERGED)
    assert "NaN" in watcher.summary()


def test_a_metric_of_a_run_that_recovers_is_forecast_again() -> None:
    module = validated_module(loss=lambda s: math.nan if 100 <= s < 145 else law(s))
    monitor = ScalingLawMonitor("val_loss", verbose=False)
    assert validate(monitor, module=module).global_step == T
    verdicts = {r.step: r.verdict for r in monitor.history}
    assert Verdict.DIVERGED in verdicts.values()
    assert monitor.history[-1].verdict.usable
    assert "held the loss" in monitor.summary()


def test_the_reason_is_the_same_in_the_log_the_checkpoint_and_the_advice(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=1.5))
    with caplog.at_level("INFO"):
        runner = fit(monitor)
    assert runner.global_step < T
    assert monitor.advice is not None
    assert monitor.advice.reason is Reason.TARGET_UNREACHABLE
    said = [r.getMessage() for r in caplog.records if "The run is being stopped." in r.getMessage()]
    assert said == [f"{monitor.advice.sentence} The run is being stopped."]
    runner.save_checkpoint(tmp_path / "end.ckpt")
    state = torch.load(tmp_path / "end.ckpt", weights_only=True)["callbacks"]["ScalingLawMonitor"]
    assert state["stopped_by"] == "TARGET_UNREACHABLE"
    assert state["live"]["advice"][:3] == ["STOP", "TARGET_UNREACHABLE", monitor.advice.sentence]


def test_the_last_validation_and_checkpoint_are_those_of_any_stop(tmp_path: Path) -> None:
    def run(folder: str, stopper: Any) -> tuple[list[str], list[str], int]:
        hooks = ("on_validation_end", "on_train_epoch_end", "on_save_checkpoint", "on_train_end")
        seen: list[str] = []
        record = {name: lambda self, t, *a, name=name: seen.append(f"{name} {t.global_step}") for name in hooks}
        keep = ModelCheckpoint(tmp_path / folder)
        runner = validate(stopper, watch(**record), keep, steps=2000, every=150, enable_checkpointing=True)
        return seen, sorted(path.name for path in (tmp_path / folder).iterdir()), runner.global_step

    ours = run("ours", ScalingLawMonitor(stop=TargetUnreachable(loss=1.5), verbose=False))
    end = ours[2]
    stop_there = watch(
        on_train_batch_end=lambda self, t, *a: setattr(t, "should_stop", t.should_stop or t.global_step == end)
    )
    assert run("theirs", stop_there) == ours
    assert f"on_validation_end {end}" in ours[0]
    assert len(ours[1]) == 1


def test_a_stop_of_somebody_else_is_left_standing() -> None:
    def asks(self: Any, runner: Any, *args: Any) -> None:
        runner.should_stop = runner.should_stop or runner.global_step == 150

    runner = fit(ScalingLawMonitor(stop=TargetUnreachable(loss=0.1), verbose=False), watch(on_train_batch_start=asks))
    assert runner.global_step <= 151
    eager = fit(watch(on_train_batch_start=asks), ScalingLawMonitor(stop=Diverged(), verbose=False))
    assert eager.global_step == 151


def test_after_an_overruled_rule_the_advice_names_the_rule_that_stopped_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    target = TargetUnreachable(loss=1.5)
    fit(ScalingLawMonitor(stop=target, verbose=False), steps=1000).save_checkpoint(tmp_path / "stopped.ckpt")
    caplog.clear()
    monitor = ScalingLawMonitor(stop=[target, Converged(min_gain=0.1)])
    runner = trainer(monitor, max_steps=1000)
    with caplog.at_level("INFO"):
        runner.fit(scripted_module(), loader(1000), ckpt_path=tmp_path / "stopped.ckpt")
    assert runner.global_step < 1000
    assert monitor.advice is not None
    assert monitor.advice.reason is Reason.CONVERGED
    assert monitor.state_dict()["stopped_by"] == "CONVERGED"
    assert being_stopped(caplog) == [f"{monitor.advice.sentence} The run is being stopped."]


@pytest.mark.parametrize("verbose", [True, False])
def test_a_stop_is_said_once_and_only_when_nothing_holds_it_back(
    caplog: pytest.LogCaptureFixture, verbose: bool
) -> None:
    monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=1.5), verbose=verbose)
    said_at: list[int] = []
    look = watch(on_train_batch_end=lambda self, t, *a: said_at.append(t.global_step) if being_stopped(caplog) else 0)
    runner = trainer(look, monitor, max_steps=2000, min_steps=450, min_epochs=2)
    with caplog.at_level("INFO"):
        runner.fit(scripted_module(), loader(200))
    assert runner.global_step == 450
    assert said_at == []  # a look before the monitor's own of that step
    assert len(being_stopped(caplog)) == 1
    waits = [r.getMessage() for r in caplog.records if "The stop waits for min_steps = 450" in r.getMessage()]
    assert bool(waits) is verbose


def test_a_wish_to_stop_that_goes_away_is_never_called_a_stop(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        breaks = scripted_module(lambda s: math.nan if 150 <= s < 190 else law(s))
        assert fit(ScalingLawMonitor(stop=Diverged()), module=breaks, min_steps=300).global_step == T
    assert "The stop waits for min_steps = 300 and min_epochs = 1." in caplog.text
    assert not being_stopped(caplog)


def test_a_stop_without_sentences_is_said_all_the_same(caplog: pytest.LogCaptureFixture) -> None:
    monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=1.5), verbose=False)
    with caplog.at_level("INFO"):
        fit(monitor)
    assert monitor.advice is not None
    assert being_stopped(caplog) == [f"{monitor.advice.sentence} The run is being stopped."]


def being_stopped(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was said that calls the run stopped."""
    return [r.getMessage() for r in caplog.records if "The run is being stopped" in r.getMessage()]
