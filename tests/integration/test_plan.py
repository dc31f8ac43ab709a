"""The planned end and the learning rates ahead, found, given, unknown, and mistaken."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from lightning_scaling import (
    CurveBuilder,
    ScalingLawMonitor,
    forecast,
)
from tests.trainers import QUIET, T, Unsized, cosine, fit, loader, scripted_module, trainer, watch

pytestmark = QUIET


def test_forecast_is_that_of_the_losses_and_the_true_schedule() -> None:
    seen: list[float] = []
    keep = watch(on_train_batch_end=lambda self, t, m, outputs, *a: seen.append(outputs["loss"].item()))
    monitor = ScalingLawMonitor(verbose=False)
    fit(monitor, keep, module=scripted_module(configure=cosine(T)))
    rates = [0.05 * (1 + math.cos(math.pi * s / T)) for s in range(T)]
    builder = CurveBuilder()
    builder.extend(range(1, T // 2 + 1), seen[: T // 2], rates[: T // 2])
    expected = forecast(builder.curve(N=3), horizon=T, lr_schedule=rates)
    at_half = next(r for r in monitor.history if r.step == T // 2)
    assert at_half.verdict is expected.verdict
    for name in ("final_loss", "converged_loss", "present_loss", "remaining_gain", "alpha_S"):
        ours, theirs = getattr(at_half, name), getattr(expected, name)
        assert (ours.low, ours.mid, ours.high) == pytest.approx((theirs.low, theirs.mid, theirs.high), rel=1e-6)


def test_rates_set_by_hand_are_noticed() -> None:
    def by_hand(module: Any) -> Any:
        module.optimizer_step = lambda epoch, i, optimizer, closure: (
            optimizer.param_groups[0].update(lr=0.1 / (1 + i)),
            optimizer.step(closure=closure),
        )
        return torch.optim.SGD(module.parameters(), lr=0.1)

    monitor = ScalingLawMonitor(verbose=False)
    fit(monitor, module=scripted_module(configure=by_hand))
    assert monitor.forecast is not None
    assert not monitor.forecast.schedule_known
    assert monitor.curve.lr[:3] == pytest.approx([0.1, 0.05, 0.1 / 3])  # type: ignore[index]


def test_given_plan_goes_before_the_found_one() -> None:
    rates = np.linspace(1.0, 0.1, 1000).tolist()
    monitor = ScalingLawMonitor(lr_schedule=rates, N=5e6, tokens_per_step=4096, verbose=False)
    fit(monitor)
    assert monitor.forecast is not None
    assert monitor.forecast.horizon == 1000
    assert monitor.forecast.schedule_known
    assert monitor.curve.N == 5e6
    assert monitor.curve.B == pytest.approx(4096)


def test_unknown_end_still_gives_the_converged_loss() -> None:
    monitor = ScalingLawMonitor(verbose=False)
    stop = watch(
        on_train_batch_end=lambda self, t, *a: setattr(t, "should_stop", t.global_step >= 300),
    )
    runner = trainer(monitor, stop, max_epochs=-1)
    runner.fit(scripted_module(), loader(500))
    assert monitor.forecast is not None
    assert monitor.forecast.horizon is None
    assert math.isnan(monitor.forecast.final_loss.mid)
    assert math.isfinite(monitor.forecast.converged_loss.mid)


def test_data_without_a_length_gets_its_end_after_one_epoch() -> None:
    monitor = ScalingLawMonitor(verbose=False)
    runner = trainer(monitor, max_epochs=3)
    runner.fit(scripted_module(), DataLoader(Unsized(100), batch_size=1))
    assert {r.horizon for r in monitor.history if r.step <= 100} == {None}
    assert {r.horizon for r in monitor.history if r.step > 101} == {300}
    assert monitor.curve.epoch_ends == (100, 200)  # the end of the last pass is no repetition
