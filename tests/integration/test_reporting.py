"""What the monitor shows and stores: curve, loggers, progress bar, sentences, metrics for other callbacks."""

from __future__ import annotations

import importlib
import math
import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import RichProgressBar, TQDMProgressBar

from lightning_scaling import (
    CurveBuilder,
    ScalingLawMonitor,
    TargetUnreachable,
)
from lightning_scaling.live import METRICS
from tests.trainers import (
    PACKAGES,
    QUIET,
    REPEATS_A_BATCH,
    T,
    cosine,
    fit,
    law,
    loader,
    read_csv,
    scripted_module,
    trainer,
    validate,
    validated_module,
    watch,
)

pytestmark = QUIET


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
    keep = watch(on_train_batch_end=lambda self, t, m, outputs, *a: seen.append(outputs["loss"].item()))
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
    rows = read_csv(tmp_path / "csv/version_0/metrics.csv")
    ours = [row for row in rows if row["scaling/loss"]]
    assert [int(row["step"]) + 1 for row in ours] == [record.step for record in monitor.history]
    assert not monitor.history[0].verdict.usable
    assert all(math.isnan(float(ours[0][f"scaling/{name}"])) for name in METRICS)
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
    fit(monitor, TQDMProgressBar(), enable_progress_bar=True)  # Lightning takes another where rich is installed
    shown = capsys.readouterr().out
    readings = set(re.findall(r"end=([^,\]]+)[,\]]", shown))
    assert len(readings) > 5
    assert readings <= {record.final_loss.short() for record in monitor.history if record.verdict.usable}
    early = shown[: shown.index("end=")]
    assert "it/s" in early  # steps went by before there was something to say


@pytest.mark.parametrize(
    "bar",
    ["tqdm", pytest.param("rich", marks=pytest.mark.skipif(REPEATS_A_BATCH, reason="its bar breaks with this rich"))],
)
def test_sentences_stand_whole_above_the_bar_and_the_reading_in_it(
    bar: str, capsys: pytest.CaptureFixture[str]
) -> None:
    wide = {"force_terminal": True, "width": 400, "color_system": None}
    shown = TQDMProgressBar() if bar == "tqdm" else RichProgressBar(console_kwargs=wide)
    monitor = ScalingLawMonitor("val_loss", name="b")  # both names stand in brackets, which mean a style to rich
    fit_validated = {"max_steps": T, "val_check_interval": 10, "enable_progress_bar": True}
    trainer(monitor, shown, **fit_validated).fit(validated_module(), loader(T), loader(1))
    lines = re.split(r"[\r\n]+", re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", capsys.readouterr().out))
    said = [line.rstrip() for line in lines if line.startswith("[b] [val_loss] Step ")]
    steps = [100, 200, 300]
    assert [re.findall(r"Step (\d+) of 400: the run should end at", line) for line in said] == [[f"{n}"] for n in steps]
    assert all(line.endswith(".") and "train_loss should end at" in line for line in said)
    last = [line for line in lines if "400/400" in line][-1]  # the newest value has its forecast once the bar is closed
    assert f"b end{'=' if bar == 'tqdm' else ': '}{monitor.history[-2].final_loss.short()}" in last


def test_sentences(caplog: pytest.LogCaptureFixture) -> None:
    monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=1.0))
    with caplog.at_level("INFO"):
        fit(monitor, module=scripted_module(configure=cosine(T, warmup=20)), min_steps=T)
    messages = [record.getMessage() for record in caplog.records if "lightning" in record.name]
    opening = [m for m in messages if m.startswith("ScalingLawMonitor:")]
    assert opening == [
        "ScalingLawMonitor: N = 3 non-embedding parameters, 400 steps (max_steps), cosine decay to 0 % after 20 "
        "warm-up steps, 1 sample per step."
    ]
    said = [m for m in messages if m.startswith("Step ")]
    assert len(said) == len(set(said))
    assert any(re.search(r": stop\. The run is stopped if this still stands at step \d+\.$", m) for m in said)
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


def pair(**settings: Any) -> tuple[ScalingLawMonitor, ScalingLawMonitor]:
    """Return two monitors of different losses that bear no names."""
    return ScalingLawMonitor(verbose=False, **settings), ScalingLawMonitor("val_loss", verbose=False, **settings)


def test_two_monitors_of_different_losses_need_no_names(tmp_path: Path) -> None:
    steps, metric = pair()
    runner = validate(steps, metric)
    told = runner.callback_metrics
    assert told["scaling/final_loss"] == pytest.approx(steps.forecast.final_loss.mid)  # type: ignore[union-attr]
    assert told["scaling_val_loss/final_loss"] == pytest.approx(metric.forecast.final_loss.mid)  # type: ignore[union-attr]
    assert told["scaling_val_loss/final_loss"] - told["scaling/final_loss"] == pytest.approx(1.0, abs=0.1)
    runner.save_checkpoint(tmp_path / "two.ckpt")
    again = pair()
    validate(*again, steps=T + 20, ckpt_path=tmp_path / "two.ckpt")
    for before, after in zip((steps, metric), again, strict=True):
        assert after.history[: len(before.history)] == before.history
        assert after.curve.S[0] == before.curve.S[0]
    # Alone, the second has the usual prefix.
    assert "scaling/final_loss" in validate(ScalingLawMonitor("val_loss", verbose=False)).callback_metrics


def test_two_monitors_of_one_loss_are_refused_before_training() -> None:
    with pytest.raises(RuntimeError, match="`ScalingLawMonitor`"):
        trainer(*pair(), ScalingLawMonitor("val_loss", level=0.5))


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
@pytest.mark.parametrize("first", [0, 1])
def test_a_run_that_is_resumed_to_watch_another_loss_keeps_its_curves(tmp_path: Path, first: int) -> None:
    before, after = pair()[first], pair()[1 - first]
    runner = validate(before)
    runner.save_checkpoint(tmp_path / "end.ckpt")
    validate(after, steps=T + 20, ckpt_path=tmp_path / "end.ckpt")
    assert {*after.forecasts} == {"train_loss", "val_loss"}
    assert after.curve.S[0] == (10.0 if first == 0 else 1.0)


def test_other_callbacks_can_monitor_the_numbers(tmp_path: Path) -> None:
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

    keep = ModelCheckpoint(tmp_path, monitor="scaling/final_loss", every_n_train_steps=100, save_top_k=1)
    stop = EarlyStopping("scaling/final_loss", strict=False, stopping_threshold=100.0, check_on_train_epoch_end=True)
    runner = trainer(ScalingLawMonitor(verbose=False), keep, stop, max_epochs=10, enable_checkpointing=True)
    runner.fit(scripted_module(), loader(200))
    assert runner.global_step == 200  # the threshold is met at the end of the first epoch
    assert keep.best_model_score is not None
    assert float(keep.best_model_score) > 0
