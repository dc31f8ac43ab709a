"""ScalingLawMonitor in real fits: what it shows, stores, decides, and what it leaves alone."""

from __future__ import annotations

import copy
import csv
import importlib
import math
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.optim import lr_scheduler as schedulers
from torch.utils.data import DataLoader

import lightning_scaling.live as live
from lightning_scaling import (
    Action,
    Converged,
    CurveBuilder,
    Diverged,
    Reason,
    ScalingLawMonitor,
    ScalingWarning,
    TargetUnreachable,
    forecast,
)
from lightning_scaling.host import session
from lightning_scaling.live import METRICS
from tests.trainers import PACKAGES, QUIET, Unsized, cosine, law, loader, scripted_module, trainer

pytestmark = QUIET

T = 400


def fit(monitor: Any, *others: Any, steps: int = T, module: Any = None, batches: int | None = None, **settings: Any) -> Any:
    """Fit a scripted module for so many steps under a monitor; return the Trainer."""
    runner = trainer(monitor, *others, max_steps=steps, **settings)
    runner.fit(module or scripted_module(), loader(batches or steps))
    return runner


def read(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(path.read_text().splitlines()))


class Watch:
    """Built on first use, because a callback needs the base class of the package under test."""

    @staticmethod
    def of(package: str, **hooks: Any) -> Any:
        return type("Watch", (importlib.import_module(package).Callback,), hooks)()


# What it tells ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize("bare", [False, True])
def test_at_home_in_both_packages(package: str, bare: bool) -> None:
    monitor = ScalingLawMonitor(verbose=False)
    lightning = importlib.import_module(package)
    runner = trainer(package=package, max_steps=T)
    if bare:
        runner = lightning.Trainer(
            callbacks=monitor, max_steps=T, accelerator="cpu", logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False,
        )  # fmt: skip
    else:
        runner = trainer(monitor, package=package, max_steps=T)
    runner.fit(scripted_module(package=package), loader(T))
    assert isinstance(monitor, lightning.Callback)
    assert monitor.forecast is not None
    assert monitor.forecast.step == monitor.forecast.horizon == T
    halfway = next(r for r in monitor.history if r.step == T // 2)
    assert halfway.final_loss.low <= law(T) <= halfway.final_loss.high
    assert float(runner.callback_metrics["scaling/final_loss"]) == pytest.approx(monitor.forecast.final_loss.mid)
    assert set(runner.callback_metrics) == {f"scaling/{name}" for name in METRICS}


def test_the_curve_holds_the_losses_the_module_returned() -> None:
    seen: list[float] = []
    keep = Watch.of(
        "lightning.pytorch", on_train_batch_end=lambda self, t, m, outputs, *a: seen.append(outputs["loss"].item())
    )
    monitor = ScalingLawMonitor(verbose=False)
    fit(monitor, keep)
    expected = CurveBuilder()
    expected.extend(range(1, T + 1), seen, [0.1] * T)
    assert monitor.curve.L.tolist() == expected.curve().L.tolist()
    assert monitor.curve.lr == pytest.approx(0.1)
    assert monitor.curve.N == 3


def test_loggers_get_all_keys_from_the_first_record_on(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger

    class Logs(type(scripted_module())):  # type: ignore[misc]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.log("train_loss", loss)
            return loss

    monitor = ScalingLawMonitor(verbose=False)
    loggers = [CSVLogger(tmp_path, name="csv", version=0), TensorBoardLogger(tmp_path, name="tb", version=0)]
    fit(monitor, module=Logs(), logger=loggers, log_every_n_steps=1)
    rows = read(tmp_path / "csv/version_0/metrics.csv")
    ours = [row for row in rows if row["scaling/loss"]]
    assert [int(row["step"]) + 1 for row in ours] == [record.step for record in monitor.history]
    assert math.isnan(float(ours[0]["scaling/final_loss"])) == math.isnan(monitor.history[0].final_loss.mid)
    last = monitor.history[-1]
    assert float(ours[-1]["scaling/final_loss_low"]) == last.final_loss.low
    assert float(ours[-1]["scaling/loss"]) == last.present_loss.mid
    # The same x as Lightning's own: what was logged of step s lies at the same place in both.
    theirs = {int(row["step"]): float(row["train_loss"]) for row in rows if row["train_loss"]}
    assert all(int(row["step"]) in theirs for row in ours)
    assert abs(theirs[int(ours[-1]["step"])] - float(ours[-1]["scaling/loss"])) < 0.1

    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path / "tb/version_0"))
    events.Reload()
    assert {f"scaling/{name}" for name in METRICS} <= set(events.Tags()["scalars"])


def test_progress_bar_shows_a_short_reading(capsys: pytest.CaptureFixture[str]) -> None:
    monitor = ScalingLawMonitor()
    fit(monitor, enable_progress_bar=True)
    shown = capsys.readouterr().out
    assert f"end={monitor.history[-2].final_loss.short()}" in shown.replace(", end", " end") or "end=" in shown
    assert "end=not" not in shown
    assert "end=nan" not in shown


def test_sentences(caplog: pytest.LogCaptureFixture) -> None:
    monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=1.0))
    with caplog.at_level("INFO"):
        fit(monitor, module=scripted_module(configure=cosine(T, warmup=20)), min_steps=T)
    messages = [record.getMessage() for record in caplog.records if "lightning" in record.name]
    opening = [m for m in messages if m.startswith("ScalingLawMonitor:")]
    assert opening == [
        "ScalingLawMonitor: N = 3 non-embedding parameters, 400 steps (max_steps), cosine decay to 0 % after 20 warm-up "
        "steps, 1 sample per step."
    ]
    said = [m for m in messages if m.startswith("Step ")]
    assert len(said) == len(set(said))
    assert any(m.endswith(": stop.") for m in said)
    closing = [m for m in messages if "what happened" in m]
    assert len(closing) == 1
    assert all(f"{tenth}0 %" in closing[0] for tenth in range(1, 11))
    assert monitor.summary() in closing[0]


def test_quiet_when_told_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        fit(ScalingLawMonitor(verbose=False), steps=50)
    assert not [r for r in caplog.records if "ScalingLaw" in r.getMessage() or "Step " in r.getMessage()]


def test_two_monitors_in_one_trainer(tmp_path: Path) -> None:
    one, two = ScalingLawMonitor(verbose=False), ScalingLawMonitor(level=0.5, name="half", verbose=False)
    runner = fit(one, two)
    assert {"scaling/final_loss", "half/final_loss"} <= set(runner.callback_metrics)
    assert one.forecast.final_loss.half_width > two.forecast.final_loss.half_width  # type: ignore[union-attr]
    runner.save_checkpoint(tmp_path / "two.ckpt")
    assert {"ScalingLawMonitor", "ScalingLawMonitor[half]"} <= set(torch.load(tmp_path / "two.ckpt")["callbacks"])


def test_other_callbacks_can_monitor_the_numbers(tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

    keep = ModelCheckpoint(tmp_path, monitor="scaling/final_loss", every_n_train_steps=100, save_top_k=1)
    stop = EarlyStopping("scaling/final_loss", strict=False, stopping_threshold=100.0, check_on_train_epoch_end=True)
    runner = trainer(ScalingLawMonitor(verbose=False), keep, stop, max_epochs=10, enable_checkpointing=True)
    runner.fit(scripted_module(), loader(200))
    assert runner.global_step == 200  # the threshold is met at the end of the first epoch
    assert keep.best_model_score is not None
    assert float(keep.best_model_score) > 0


# Which loss, which step, which rate ---------------------------------------------------------------------------------------


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


# The plan -----------------------------------------------------------------------------------------------------------------


def test_forecast_is_that_of_the_losses_and_the_true_schedule() -> None:
    seen: list[float] = []
    keep = Watch.of(
        "lightning.pytorch", on_train_batch_end=lambda self, t, m, outputs, *a: seen.append(outputs["loss"].item())
    )
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
    stop = Watch.of(
        "lightning.pytorch",
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


# Stopping -----------------------------------------------------------------------------------------------------------------


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
    ("settings", "end"), [({"min_steps": 900}, 900), ({"min_epochs": 4}, 1200), ({"min_epochs": 2, "min_steps": 650}, 650)]
)
def test_minimum_is_honoured_and_the_wish_does_not_latch(settings: dict[str, int], end: int) -> None:
    latched: list[int] = []
    watch = Watch.of(
        "lightning.pytorch",
        on_train_batch_start=lambda self, t, *a: latched.append(t.global_step) if t.should_stop else None,
    )
    monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=1.5), verbose=False)
    runner = trainer(monitor, watch, max_steps=2000, **settings)
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


# Resuming -----------------------------------------------------------------------------------------------------------------


def saver(path: Path, at: int) -> Any:
    return Watch.of(
        "lightning.pytorch",
        on_train_batch_end=lambda self, t, *a: t.save_checkpoint(path) if t.global_step == at else None,
    )


@pytest.mark.parametrize("at", [137, 200, 256])
@pytest.mark.parametrize("package", PACKAGES)
def test_resumed_run_forecasts_what_the_uninterrupted_one_would(tmp_path: Path, package: str, at: int) -> None:
    path = tmp_path / "mid.ckpt"
    whole, rest = ScalingLawMonitor(verbose=False), ScalingLawMonitor(verbose=False)
    fit(whole, saver(path, at), module=scripted_module(configure=cosine(T)))
    runner = trainer(rest, package=package, max_steps=T)
    runner.fit(scripted_module(configure=cosine(T), package=package), loader(T), ckpt_path=path)
    assert runner.global_step == T
    assert rest.history == whole.history
    assert rest.forecast is not None
    assert rest.forecast.final_loss == whole.forecast.final_loss  # type: ignore[union-attr]
    assert rest.curve.L.tolist() == whole.curve.L.tolist()
    assert rest.summary() == whole.summary()


def test_checkpoint_is_small_and_plain(tmp_path: Path) -> None:
    monitor = ScalingLawMonitor(verbose=False)
    runner = fit(monitor, steps=2000, module=scripted_module(configure=cosine(2000)))
    runner.save_checkpoint(tmp_path / "end.ckpt")
    state = torch.load(tmp_path / "end.ckpt", weights_only=True)["callbacks"]["ScalingLawMonitor"]
    assert state["version"] == 1
    assert len(pickle.dumps(state)) < 256 * 1024

    def only_plain(x: object) -> bool:
        if isinstance(x, dict):
            return all(isinstance(k, str) and only_plain(v) for k, v in x.items())
        return all(map(only_plain, x)) if isinstance(x, list) else x is None or type(x) in (bool, int, float, str)

    assert only_plain(state)


def test_stopped_run_that_is_resumed_goes_on(tmp_path: Path) -> None:
    rule = TargetUnreachable(loss=1.5)
    first = ScalingLawMonitor(stop=rule, verbose=False)
    runner = fit(first, steps=2000)
    runner.save_checkpoint(tmp_path / "stopped.ckpt")
    again = ScalingLawMonitor(stop=[rule, Diverged()], verbose=False)
    resumed = trainer(again, max_steps=1500)
    resumed.fit(scripted_module(), loader(2000), ckpt_path=tmp_path / "stopped.ckpt")
    assert resumed.global_step == 1500
    assert again.advice is not None
    assert again.advice.reason is Reason.TARGET_UNREACHABLE  # still its opinion
    # Another reason still stops it.
    third = ScalingLawMonitor(stop=[rule, Diverged()], verbose=False)
    broken = trainer(third, max_steps=4000)
    broken.fit(scripted_module(lambda s: math.nan), loader(4000), ckpt_path=tmp_path / "stopped.ckpt")
    assert broken.global_step < runner.global_step + session.BUFFER + 20


@pytest.mark.parametrize("state", [{"version": 99}, {"wait_count": 3}])
def test_foreign_state_is_ignored_with_a_warning(tmp_path: Path, state: dict[str, Any]) -> None:
    runner = fit(ScalingLawMonitor(verbose=False), steps=100)
    runner.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    checkpoint["callbacks"]["ScalingLawMonitor"] = state
    torch.save(checkpoint, tmp_path / "b.ckpt")
    monitor = ScalingLawMonitor(verbose=False)
    with pytest.warns(ScalingWarning, match="ignored"):
        trainer(monitor, max_steps=200).fit(scripted_module(), loader(200), ckpt_path=tmp_path / "b.ckpt")
    assert monitor.curve.S[0] == 101.5  # the mean of a window of two


def test_damaged_state_is_ignored_with_a_warning(tmp_path: Path) -> None:
    runner = fit(ScalingLawMonitor(verbose=False), steps=100)
    runner.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    del checkpoint["callbacks"]["ScalingLawMonitor"]["recorder"]
    torch.save(checkpoint, tmp_path / "b.ckpt")
    monitor = ScalingLawMonitor(verbose=False)
    with pytest.warns(ScalingWarning, match="begins anew"):
        trainer(monitor, max_steps=200).fit(scripted_module(), loader(200), ckpt_path=tmp_path / "b.ckpt")
    assert monitor.curve.S[0] == 101.5  # the mean of a window of two


def test_monitor_that_joins_a_run_late(tmp_path: Path) -> None:
    runner = trainer(max_steps=100)
    runner.fit(scripted_module(configure=cosine(T)), loader(T))
    runner.save_checkpoint(tmp_path / "without.ckpt")
    monitor = ScalingLawMonitor(verbose=False)
    late = trainer(monitor, max_steps=T)
    late.fit(scripted_module(configure=cosine(T)), loader(T), ckpt_path=tmp_path / "without.ckpt")
    assert (monitor.curve.S[0], monitor.curve.step) == (101.5, T)
    assert monitor.forecast is not None
    assert monitor.forecast.schedule_known


def test_fit_twice_goes_on_and_a_new_trainer_begins_anew() -> None:
    monitor = ScalingLawMonitor(verbose=False)
    runner = trainer(monitor, max_epochs=1)
    module = scripted_module()
    runner.fit(module, loader(100))
    runner.fit_loop.max_epochs = 3
    runner.fit(module, loader(100))
    assert (monitor.curve.S[0], monitor.curve.step) == (1, 300)
    trainer(monitor, max_steps=50).fit(scripted_module(), loader(50))
    assert (monitor.curve.S[0], monitor.curve.step) == (1, 50)
    assert monitor.history[-1].horizon == 50


# No harm ------------------------------------------------------------------------------------------------------------------


def test_our_failure_is_warned_of_once_and_training_goes_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls = []

    def fails(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > 5:
            raise RuntimeError("engine on fire")
        return forecast(*args, **kwargs)

    monkeypatch.setattr(live, "forecast", fails)
    monitor = ScalingLawMonitor(verbose=False)
    with pytest.warns(ScalingWarning, match="engine on fire") as caught:
        runner = fit(monitor)
    assert len([w for w in caught if w.category is ScalingWarning]) == 1
    assert runner.global_step == T
    assert len(monitor.history) == 5  # what was known before is known after
    runner.save_checkpoint(tmp_path / "after.ckpt")
    assert torch.load(tmp_path / "after.ckpt", weights_only=True)["callbacks"]["ScalingLawMonitor"]["version"] == 1


@pytest.mark.parametrize(
    "hook",
    ["batch_end", "before_optimizer_step", "start"],
)
def test_failure_in_any_hook_is_survived(monkeypatch: pytest.MonkeyPatch, hook: str) -> None:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("broken")

    monkeypatch.setattr(session.StepTracker, hook, fails)
    with pytest.warns(ScalingWarning, match="broken"):
        assert fit(ScalingLawMonitor(verbose=False), steps=20).global_step == 20


def test_warnings_made_errors_do_not_end_the_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(live, "forecast", lambda *a, **k: 1 / 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error", ScalingWarning)
        assert fit(ScalingLawMonitor(verbose=False), steps=20).global_step == 20
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_logger_that_throws_is_left_out(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import CSVLogger

    class Throws(CSVLogger):
        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            raise OSError("disk full")

    monitor = ScalingLawMonitor(verbose=False)
    good = CSVLogger(tmp_path, name="good", version=0)
    with pytest.warns(ScalingWarning, match="disk full") as caught:
        fit(monitor, logger=[Throws(tmp_path, name="bad"), good], log_every_n_steps=1)
    assert len([w for w in caught if w.category is ScalingWarning]) == 1
    rows = read(tmp_path / "good/version_0/metrics.csv")
    assert len(rows) == len(monitor.history)


def test_scheduler_that_cannot_be_copied() -> None:
    class NotCopied(schedulers.ExponentialLR):
        def __deepcopy__(self, memo: Any) -> Any:
            raise RuntimeError("no copies")

    def configure(module: Any) -> Any:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        return [optimizer], [{"scheduler": NotCopied(optimizer, 0.999), "interval": "step"}]

    monitor = ScalingLawMonitor(verbose=False)
    assert fit(monitor, module=scripted_module(configure=configure)).global_step == T
    assert monitor.forecast is not None
    assert not monitor.forecast.schedule_known


def test_interrupted_run_closes_with_its_table(caplog: pytest.LogCaptureFixture) -> None:
    class Breaks(type(scripted_module())):  # type: ignore[misc]
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if self.trainer.global_step == 300:
                raise RuntimeError("the user's own bug")
            return super().training_step(batch, batch_idx)

    monitor = ScalingLawMonitor()
    with caplog.at_level("INFO"), pytest.raises(RuntimeError, match="own bug"):
        fit(monitor, module=Breaks())
    assert monitor.forecast is not None
    assert monitor.forecast.step == 300
    closing = [r.getMessage() for r in caplog.records if "The run ended at step 300 of 400" in r.getMessage()]
    assert len(closing) == 1


@pytest.mark.parametrize("settings", [{"fast_dev_run": 3}, {"limit_train_batches": 0, "max_epochs": 1}])
def test_does_nothing_where_there_is_nothing_to_watch(settings: dict[str, Any]) -> None:
    monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=0.0), verbose=False)
    runner = trainer(monitor, **settings)
    runner.fit(scripted_module(), loader(10))
    assert monitor.history == ()
    assert monitor.forecast is None
    assert "not begun" in monitor.summary()


def test_other_loops_are_left_alone() -> None:
    class Validates(type(scripted_module())):  # type: ignore[misc]
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val", 1.0)

    monitor = ScalingLawMonitor(verbose=False)
    runner = trainer(monitor, max_epochs=2, num_sanity_val_steps=2, val_check_interval=50)
    module = Validates()
    runner.fit(module, loader(100), loader(3))
    assert monitor.curve.step == 200
    before = monitor.history
    runner.validate(module, dataloaders=loader(3), verbose=False)
    assert monitor.history == before


@pytest.mark.filterwarnings("ignore:.*barebones.*")
def test_barebones() -> None:
    monitor = ScalingLawMonitor(verbose=False)
    import lightning.pytorch as lightning

    runner = lightning.Trainer(barebones=True, max_steps=100, accelerator="cpu", callbacks=[monitor])
    runner.fit(scripted_module(), loader(100))
    assert monitor.curve.step == 100


def test_copies_and_pickles() -> None:
    monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=1.0), verbose=False)
    for twin in (copy.deepcopy(monitor), pickle.loads(pickle.dumps(monitor))):
        assert fit(twin, steps=60).global_step <= 60
        assert twin.history


def test_hooks_wait_for_nothing_between_flushes() -> None:
    """The hooks are run on tensors that complain when their value is asked for."""
    from tests.test_recorder import Untouchable

    class Guarded(type(scripted_module())):  # type: ignore[misc]
        def on_fit_start(self) -> None:
            self.flushed = 0

    monitor = ScalingLawMonitor(verbose=False)
    runner = trainer(max_steps=1)
    runner.fit(scripted_module(), loader(1))
    runner.fit_loop.epoch_loop.max_steps = 10_000
    monitor.on_train_start(runner, runner.lightning_module)
    assert monitor._session is not None
    progress = runner.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.total
    optimizer = runner.optimizers[0]
    optimizer.param_groups[0]["lr"] = torch.tensor(0.1).as_subclass(Untouchable)
    Untouchable.guarded = False  # the first step is fetched at once
    flushes = -1
    for step in range(2, 700):
        # A flush happens where `flushes` will grow: find out on a copy of the plan, and guard all other steps.
        due = step >= monitor._session._next_flush
        Untouchable.guarded = not due
        progress.completed = step
        try:
            monitor.on_before_optimizer_step(runner, runner.lightning_module, optimizer)
            loss: Tensor = torch.tensor(law(step)).as_subclass(Untouchable)
            monitor.on_train_batch_end(runner, runner.lightning_module, {"loss": loss}, torch.zeros(1, 2), step - 1)
        finally:
            Untouchable.guarded = True
        flushes = monitor._session.recorder.flushes
        assert monitor._active, f"went quiet at step {step}"
    assert 5 < flushes < 60
    assert monitor.forecast is not None


# Arguments and the command line -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"stop": "now"}, TypeError),
        ({"stop": [TargetUnreachable(1.0), 3]}, TypeError),
        ({"horizon": 0}, ValueError),
        ({"horizon": 10.5}, TypeError),
        ({"horizon": True}, TypeError),
        ({"horizon": 3, "lr_schedule": [1.0, 1.0]}, ValueError),
        ({"lr_schedule": [1.0, math.nan]}, ValueError),
        ({"lr_schedule": [0.0, 0.0]}, ValueError),
        ({"lr_schedule": []}, ValueError),
        ({"lr_schedule": ["fast"]}, TypeError),
        ({"N": -1.0}, ValueError),
        ({"N": math.inf}, ValueError),
        ({"tokens_per_step": 0}, ValueError),
        ({"level": 90}, ValueError),
        ({"level": 1.0}, ValueError),
        ({"refits": 3}, ValueError),
        ({"refits": None}, TypeError),
        ({"name": ""}, ValueError),
    ],
)
def test_wrong_arguments_say_what_was_expected(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"Expected .*got"):
        ScalingLawMonitor(**arguments)


# https://github.com/Lightning-AI/pytorch-lightning/issues/21900
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("package", PACKAGES)
def test_configured_from_yaml(tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])
    cli = importlib.import_module(f"{package}.cli")
    config = tmp_path / "config.yaml"
    config.write_text(
        """
trainer:
  max_steps: 60
  accelerator: cpu
  devices: 1
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  callbacks:
    - class_path: lightning_scaling.ScalingLawMonitor
      init_args:
        horizon: 500
        level: 0.8
        verbose: false
        stop:
          class_path: lightning_scaling.TargetUnreachable
          init_args: {loss: 1.9}
    - class_path: lightning_scaling.ScalingLawMonitor
      init_args:
        name: other
        lr_schedule: [1.0, 0.5]
        verbose: false
        stop:
          - class_path: lightning_scaling.Converged
            init_args: {min_gain: 0.01}
          - class_path: lightning_scaling.Diverged
"""
    )
    module = type(scripted_module(package=package))
    parsed = cli.LightningCLI(
        module, run=False, args=["--config", str(config)], save_config_callback=None, seed_everything_default=False
    )
    one, other = (c for c in parsed.trainer.callbacks if isinstance(c, ScalingLawMonitor))
    assert one._settings.rules == (TargetUnreachable(loss=1.9),)
    assert (one._settings.horizon, one._settings.level) == (500, 0.8)
    assert other._settings.rules == (Converged(min_gain=0.01), Diverged())
    assert other._settings.horizon == 2
    parsed.trainer.fit(parsed.model, loader(60))
    assert one.history[-1].horizon == 500
