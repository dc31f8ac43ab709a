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
    TargetUnreachable,
    forecast,
)
from tests.trainers import QUIET, T, Unsized, apart, cosine, fit, loader, scripted_module, trainer, watch

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


def test_data_without_a_length_gets_its_end_after_one_epoch(caplog: pytest.LogCaptureFixture) -> None:
    monitor = ScalingLawMonitor()
    runner = trainer(monitor, max_epochs=3)
    with caplog.at_level("INFO"):
        runner.fit(scripted_module(), DataLoader(Unsized(100), batch_size=1))
    said = [m for m in caplog.messages if "(max_epochs)" in m]
    assert said == ["Step 100: 300 steps (max_epochs), constant learning rate."]
    assert {r.horizon for r in monitor.history if r.step <= 100} == {None}
    assert {r.horizon for r in monitor.history if r.step > 101} == {300}
    assert monitor.curve.epoch_ends == (100, 200)  # the end of the last pass is no repetition


@pytest.mark.parametrize("first", [True, False])
def test_a_run_that_goes_on_past_its_planned_end_gets_another(first: bool, caplog: pytest.LogCaptureFixture) -> None:
    def more(self: Any, runner: Any, *_: Any) -> None:
        runner.fit_loop.max_epochs = 4

    monitor, raises = ScalingLawMonitor(), watch(on_train_epoch_end=more)
    runner = trainer(*((raises, monitor) if first else (monitor, raises)), max_epochs=1)
    with caplog.at_level("INFO"):
        runner.fit(scripted_module(), loader(100))
    assert runner.global_step == 400
    assert {r.horizon for r in monitor.history if r.step > 101} == {400}
    said = f"Step {100 if first else 101}: 400 steps (max_epochs), constant learning rate."
    assert [m for m in caplog.messages if "400 steps (max_epochs)" in m] == [said]


@pytest.mark.parametrize("accumulate", [1, 4])
def test_what_is_found_is_said_in_one_sentence(accumulate: int, caplog: pytest.LogCaptureFixture) -> None:
    class Large(type(scripted_module())):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.wte = torch.nn.Embedding(65, 384)
            self.body = torch.nn.Linear(3256, 3255)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(torch.zeros(1, 2)).mean()

        def configure_optimizers(self) -> Any:
            return cosine(20_000, warmup=500)(self)

    tokens = torch.zeros(64 * 12, 1024, dtype=torch.long)
    stop = watch(on_train_batch_end=lambda self, t, *a: setattr(t, "should_stop", t.global_step >= 2))
    runner = trainer(ScalingLawMonitor(), stop, max_steps=20_000, accumulate_grad_batches=accumulate)
    with caplog.at_level("INFO"):
        runner.fit(Large(), DataLoader(tokens, batch_size=64 // accumulate))  # type: ignore[arg-type]
    opening = [r.getMessage() for r in caplog.records if r.getMessage().startswith("ScalingLawMonitor:")]
    assert opening == [
        "ScalingLawMonitor: N = 10.6 M non-embedding parameters, 20 000 steps (max_steps), cosine decay to 0 % after "
        "500 warm-up steps, 65 536 tokens per step."
    ]


@pytest.mark.filterwarnings("ignore:ReduceLROnPlateau conditioned on metric x")
def test_a_plateau_scheduler_leaves_the_rate_ahead_unknown(caplog: pytest.LogCaptureFixture) -> None:
    def plateau(module: Any) -> Any:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "x", "strict": False}}

    monitor = ScalingLawMonitor()
    with caplog.at_level("INFO"):
        fit(monitor, module=scripted_module(configure=plateau), steps=60, max_epochs=9)
    assert monitor.forecast is not None
    assert not monitor.forecast.schedule_known
    assert any("ReduceLROnPlateau waits for what the run will do" in r.getMessage() for r in caplog.records)


@pytest.mark.parametrize("often", [(1, 5), (4,), (1,), (1, 1)])
@pytest.mark.parametrize("settings", [{"max_epochs": 2}, {"max_steps": 360}])
def test_the_end_of_manual_optimization_is_estimated_from_its_rhythm(
    often: tuple[int, ...], settings: dict[str, int]
) -> None:
    """Each optimizer steps in every so many batches: a critic, a generator; or gradients are accumulated by hand."""

    class Manual(type(scripted_module())):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False
            self.n = 0

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.n += 1
            loss = self.layer(batch).mean() * 0.0 + 2.0 + 6.0 * self.n**-0.5
            self.manual_backward(loss)
            found = self.optimizers()
            for optimizer, every in zip(found if isinstance(found, list) else [found], often, strict=True):
                if self.n % every == 0:
                    optimizer.step()
                    optimizer.zero_grad()
            return loss

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.parameters(), lr=0.1) for _ in often]

    monitor = ScalingLawMonitor(verbose=False)
    runner = trainer(monitor, **settings)
    runner.fit(Manual(), loader(800 if "max_steps" in settings and often == (4,) else 200))
    steps = monitor.curve.step
    assert steps == (runner.global_step if len(often) == 1 else round(runner.global_step / (1 + 1 / often[1])))
    known = [r for r in monitor.history if r.step > 20]
    assert len(known) > 5
    assert all(r.horizon == pytest.approx(steps, rel=0.04) for r in known)
    assert known[-1].horizon == known[-1].step == steps  # the closing forecast knows where the run has ended
    assert "estimated" in str(monitor._session.course.plan)


def test_groups_on_different_schedules_leave_the_rate_ahead_unknown_and_no_rule_acts() -> None:
    def configure(module: Any) -> Any:
        optimizer, scheduler = apart(list(module.parameters()), T)
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]

    rule = TargetUnreachable(loss=1.0)  # out of reach, and stopped for where the rate ahead is known
    assert fit(ScalingLawMonitor(stop=rule, verbose=False), module=scripted_module(configure=cosine(T))).global_step < T
    monitor = ScalingLawMonitor(stop=rule, verbose=False)
    assert fit(monitor, module=scripted_module(configure=configure)).global_step == T
    assert monitor.forecast is not None
    assert not monitor.forecast.schedule_known
