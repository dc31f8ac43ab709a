"""Stop rules in real fits."""

from __future__ import annotations

import math

import pytest

from lightning_scaling import (
    Action,
    Converged,
    Diverged,
    Reason,
    ScalingLawMonitor,
    TargetUnreachable,
)
from lightning_scaling.host import session
from tests.trainers import QUIET, T, fit, law, loader, scripted_module, trainer, watch

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
