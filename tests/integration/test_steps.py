"""Which loss, which step and which learning rate the monitor takes from each kind of training."""

from __future__ import annotations

import importlib
import math
import warnings
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader

from lightning_scaling import (
    ScalingLawMonitor,
    ScalingWarning,
    TargetUnreachable,
)
from tests.trainers import (
    QUIET,
    REPEATS_A_BATCH,
    cosine,
    loader,
    scripted_module,
    trainer,
)

pytestmark = QUIET


def curve_of(module: Any, batches: int = 24, **settings: Any) -> Any:
    monitor = ScalingLawMonitor(verbose=False)
    runner = trainer(monitor, **settings)
    runner.fit(module, loader(batches))
    return monitor, runner


class Rising(type(scripted_module())):  # type: ignore[misc]
    """Loss 1, 2, 3, … by batch."""

    def on_fit_start(self) -> None:
        self.n = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.n += 1
        return self.layer(batch).mean() * 0.0 + float(self.n)


def test_accumulated_batches_count_as_one_step_with_their_mean() -> None:
    monitor, runner = curve_of(Rising(), batches=10, max_epochs=2, accumulate_grad_batches=4)
    assert runner.global_step == 6
    assert monitor.curve.S.tolist() == [1, 2, 3, 4, 5, 6]
    assert monitor.curve.L.tolist() == pytest.approx([2.5, 6.5, 9.5, 12.5, 16.5, 19.5])


def test_steps_that_returned_nothing_leave_gaps() -> None:
    class Skips(Rising):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            return None if self.n % 3 == 0 else {"loss": loss, "extra": loss * 2}

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*returned .None.*")
        monitor, runner = curve_of(Skips(), max_steps=9)
    assert runner.global_step == 9
    assert monitor.curve.S.tolist() == [1, 2, 4, 5, 7, 8]
    assert monitor.curve.L.tolist() == [1, 2, 4, 5, 7, 8]


def test_a_run_whose_last_steps_returned_nothing_has_reached_its_end() -> None:
    class Skips(type(scripted_module())):  # type: ignore[misc]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx >= 397 else super().training_step(batch, batch_idx)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*returned .None.*")
        monitor, runner = curve_of(Skips(), batches=400, max_epochs=1)
    assert (monitor.curve.step, runner.global_step) == (397, 400)
    assert "Forecasts of the loss at step 400, and what happened" in monitor.summary()
    assert "saved" not in monitor.summary()


class Manual(Rising):
    """Two optimizers, the first one's rate set by hand; returns its loss or not."""

    def __init__(self, *, returns: bool, every: int = 1) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.returns, self.every = returns, every

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        for optimizer in self.optimizers():
            self.manual_backward(loss, retain_graph=True)
            if self.n % self.every == 0:
                optimizer.param_groups[0]["lr"] = 1.0 / self.n
                optimizer.step()
                optimizer.zero_grad()
        return loss if self.returns else None

    def configure_optimizers(self) -> Any:
        return [torch.optim.SGD(self.parameters(), lr=0.1), torch.optim.SGD(self.parameters(), lr=7.0)]


@pytest.mark.parametrize("returns", [True, False])
def test_manual_optimization_with_two_optimizers(returns: bool) -> None:
    monitor, runner = curve_of(Manual(returns=returns), max_epochs=1, batches=8)
    assert runner.global_step == 16
    assert monitor.curve.S.tolist() == list(range(1, 9))
    assert monitor.curve.L.tolist() == list(range(1, 9))
    assert monitor.curve.lr == pytest.approx([1 / n for n in range(1, 9)])


def test_manual_accumulation() -> None:
    monitor, _ = curve_of(Manual(returns=True, every=4), max_epochs=1, batches=8)
    assert monitor.curve.S.tolist() == [1, 2]
    assert monitor.curve.L.tolist() == [2.5, 6.5]


def test_rates_are_the_ones_used_not_the_next_ones() -> None:
    monitor, _ = curve_of(scripted_module(configure=cosine(20)), max_steps=20)
    expected = [0.05 * (1 + math.cos(math.pi * s / 20)) for s in range(20)]
    assert monitor.curve.lr == pytest.approx(expected)


def test_half_precision_losses_are_warned_of_once() -> None:
    class Half(Rising):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx).bfloat16()

    with pytest.warns(ScalingWarning, match="float32") as caught:
        curve_of(Half(), max_steps=20)
    assert len([w for w in caught if w.category is ScalingWarning]) == 1


@pytest.mark.parametrize("automatic", [True, False])
def test_losses_scaled_for_fp16_are_recorded_without_their_scale(automatic: bool) -> None:
    plugins = importlib.import_module("lightning.pytorch.plugins")
    MixedPrecision = getattr(plugins, "MixedPrecision", None) or plugins.MixedPrecisionPlugin  # its name before 2.1

    class Half(Manual):
        def __init__(self) -> None:
            super().__init__(returns=False)
            self.automatic_optimization = automatic

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return (
                Rising.training_step(self, batch, batch_idx) if automatic else super().training_step(batch, batch_idx)
            )

        def configure_optimizers(self) -> Any:
            return torch.optim.SGD(self.parameters(), lr=0.1) if automatic else super().configure_optimizers()

    scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    monitor, _ = curve_of(Half(), max_epochs=1, batches=8, plugins=[MixedPrecision("16-mixed", "cpu", scaler)])
    assert monitor.curve.S.tolist() == list(range(1, 9))
    assert monitor.curve.L.tolist() == list(range(1, 9))


@pytest.mark.skipif(REPEATS_A_BATCH, reason="this Lightning may not know bf16-true")
def test_a_run_in_bf16_is_warned_of_its_losses() -> None:
    class Plain(type(scripted_module())):  # type: ignore[misc]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(batch).pow(2).mean()

    with pytest.warns(ScalingWarning, match="bfloat16"):
        curve_of(Plain(), max_steps=5, precision="bf16-true")


def test_lazy_modules_are_counted_after_their_first_batch() -> None:
    class Lazy(Rising):
        def __init__(self) -> None:
            super().__init__()
            self.late = torch.nn.LazyLinear(5)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return super().training_step(batch, batch_idx) + 0.0 * self.late(batch).mean()

    monitor, _ = curve_of(Lazy(), max_steps=12)
    assert monitor.curve.N == (2 + 1) + (2 * 5 + 5)


def test_a_batch_size_that_changes_is_noticed_and_a_short_last_batch_is_not() -> None:
    class Tokens(Rising):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer(torch.zeros(1, 2)).mean() * 0.0 + 2.0

    batches = [[0] * size for size in [4] * 12 + [8] * 13 + [1]]
    tokens = torch.zeros(1, 10, dtype=torch.long)
    monitor = ScalingLawMonitor(verbose=False)
    trainer(monitor, max_epochs=1).fit(Tokens(), DataLoader(tokens, batch_sampler=batches))  # type: ignore[arg-type]
    assert monitor.curve.B is not None
    assert monitor.curve.B[:10].tolist() == [40] * 10
    assert monitor.curve.B[-1] == 80
    assert set(monitor.curve.B.tolist()) == {40, 80}


@pytest.mark.parametrize("interval", ["step", "epoch"])
@pytest.mark.parametrize(("every", "known"), [(1, True), (3, False), (40, True)])
def test_schedulers_stepped_by_hand_are_known_by_their_steps_whatever_is_declared(
    interval: str, every: int, known: bool
) -> None:
    class Steps(Manual):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = Rising.training_step(self, batch, batch_idx)
            optimizer = self.optimizers()
            self.manual_backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            if self.n % every == 0:
                self.lr_schedulers().step()
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.98)
            return [optimizer], [{"scheduler": scheduler, "interval": interval}]

    monitor, _ = curve_of(Steps(returns=True), max_epochs=6, batches=40)
    assert ("learning rate ahead not known" in str(monitor._session.course.plan)) != known
    if known:
        schedule = monitor._session.losses.steps.live.schedule
        assert schedule.rate_at([240]) / schedule.rate_at([1]) == pytest.approx(0.98 ** (239 // every), rel=0.03)


@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_no_rule_acts_before_a_decay_that_is_stepped_by_hand(interval: str) -> None:
    class Decays(Rising):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            optimizer = self.optimizers()
            lr = optimizer.param_groups[0]["lr"]
            loss = super().training_step(batch, batch_idx) * 0.0 + 2.0 + 6.0 * self.n**-0.5 + 5.0 * lr
            self.manual_backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            self.lr_schedulers().step()
            return loss

        def configure_optimizers(self) -> Any:
            optimizer = torch.optim.SGD(self.parameters(), lr=0.1)
            scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda k: min(1.0, max(600 - k, 0) / 90))
            return [optimizer], [{"scheduler": scheduler, "interval": interval}]

    monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=2.4), verbose=False)
    runner = trainer(monitor, max_epochs=1)
    runner.fit(Decays(), loader(600))
    assert runner.global_step == 600


def test_no_rule_acts_before_a_decay_by_hand_once_the_rate_has_been_set_by_hand(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class ByHand(type(scripted_module())):  # type: ignore[misc]
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            self.trainer.optimizers[0].param_groups[0]["lr"] = 0.2 if batch_idx < 300 else 0.02

    monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=0.0))
    runner = trainer(monitor, max_steps=400)
    with caplog.at_level("INFO"):
        runner.fit(ByHand(), loader(400))
    said = "Step 10: the learning rate left its schedule; now: 400 steps (max_steps), learning rate ahead not known "
    why = "(it is set by hand; give lr_schedule=…)."
    assert [m for m in caplog.messages if "left its schedule" in m] == [said + why]
    assert runner.global_step == 400
    assert not monitor.forecast.schedule_known
