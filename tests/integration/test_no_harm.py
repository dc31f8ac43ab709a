"""Whatever fails, training ends as it would have without the monitor."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler as schedulers

import lightning_scaling.live as live
from lightning_scaling import (
    ScalingLawMonitor,
    ScalingWarning,
    TargetUnreachable,
    forecast,
)
from lightning_scaling.host import session
from tests.trainers import QUIET, T, fit, loader, read_csv, scripted_module, trainer, validated_module

pytestmark = QUIET


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
    rows = read_csv(tmp_path / "good/version_0/metrics.csv")
    assert len(rows) == len(monitor.history) + 1  # the last holds what became of the run


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


class Tuned(type(validated_module())):  # type: ignore[misc]
    """A module whose rate and batch size a tuner may look for."""

    def __init__(self) -> None:
        super().__init__()
        self.lr, self.batch_size = 0.1, 2

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.lr)

    def train_dataloader(self) -> Any:
        return loader(200, batch_size=self.batch_size)

    def val_dataloader(self) -> Any:
        return loader(4)


@pytest.mark.filterwarnings("ignore:.*suggestion.*")
@pytest.mark.parametrize("scan", ["lr_find", "scale_batch_size", "LearningRateFinder", "BatchSizeFinder"])
def test_scans_of_the_tuner_are_not_part_of_the_run(scan: str, tmp_path: Path) -> None:
    from lightning.pytorch import callbacks
    from lightning.pytorch.tuner import Tuner

    few = {"max_trials": 2, "steps_per_trial": 2}
    short = {"lr_find": {"num_training": 12}, "LearningRateFinder": {"num_training_steps": 12}}.get(scan, few)
    monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=0.0), verbose=False)
    finders = [getattr(callbacks, scan)(**short)] if scan[0].isupper() else []
    runner = trainer(monitor, *finders, max_steps=60, default_root_dir=tmp_path)
    module = Tuned()
    if not finders:
        getattr(Tuner(runner), scan)(module, **short)
        assert monitor.history == ()
    runner.fit(module)
    assert runner.global_step <= 60
    assert monitor.curve.S[:10].tolist() == list(range(1, 11))
    assert monitor.curve.step == runner.global_step
    assert monitor.history[-1].horizon == 60


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"overfit_batches": 4, "max_epochs": 5}, 20),
        ({"limit_train_batches": 0.5, "limit_val_batches": 1, "max_epochs": 2}, 20),
        ({"limit_val_batches": 0, "max_epochs": 2}, 40),
        ({"num_sanity_val_steps": -1, "max_steps": 30}, 30),
        ({"max_epochs": 2, "accumulate_grad_batches": 8}, 6),
    ],
)
@pytest.mark.filterwarnings("ignore:.*overfit.*")
@pytest.mark.parametrize("monitor", [None, "val_loss"])
def test_limits_of_all_kinds(settings: dict[str, Any], steps: int, monitor: str | None) -> None:
    watcher = ScalingLawMonitor(monitor, verbose=False)
    runner = trainer(watcher, **settings)
    with warnings.catch_warnings():
        if settings.get("limit_val_batches") == 0:
            warnings.simplefilter("ignore", ScalingWarning)  # there is no val_loss then
        runner.fit(validated_module(), loader(20), loader(3))
    assert runner.global_step == steps
    assert watcher._session is not None
    curve = watcher._session.losses.steps.curve(None)
    assert curve.step == steps
    assert curve.S.tolist() == list(range(1, steps + 1))
    assert watcher._session.course.plan.end.step == steps
