"""A validation loss, or another logged one, watched instead of or beside the training loss, in real fits."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from lightning_scaling import (
    Action,
    Reason,
    ScalingLawMonitor,
    ScalingWarning,
    TargetUnreachable,
    Verdict,
)
from lightning_scaling.host.metrics import LoggedMetric
from lightning_scaling.live import METRICS
from tests.trainers import (
    IN_AN_EPOCH,
    PACKAGES,
    PLAIN_CHECKPOINTS,
    QUIET,
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

EVERY = 10


def val_law(step: int) -> float:
    return law(step) + 1.0


def records(monitor: ScalingLawMonitor) -> dict[str | None, Any]:
    """All forecasts of both series."""
    assert monitor._session is not None
    losses = monitor._session.losses
    return {series.name: series.live.ledger.records for series in (losses.main, losses.beside)}


@pytest.mark.parametrize("package", PACKAGES)
def test_the_monitored_metric_is_what_everything_speaks_of(package: str) -> None:
    monitor = ScalingLawMonitor("val_loss", verbose=False)
    runner = validate(monitor, package=package, module=validated_module(val_law, package=package))
    assert monitor.curve.S.tolist() == list(range(EVERY, T + 1, EVERY))  # the sanity check is none of them
    assert monitor.curve.L == pytest.approx([val_law(s) for s in range(EVERY, T + 1, EVERY)])
    assert monitor.curve.lr == pytest.approx(0.1)
    assert [r.step for r in monitor.history] == list(range(EVERY, T + 1, EVERY))
    halfway = next(r for r in monitor.history if r.step == T // 2)
    assert halfway.final_loss.low <= val_law(T) <= halfway.final_loss.high
    assert list(monitor.forecasts) == ["val_loss", "train_loss"]
    assert monitor.forecasts["val_loss"] is monitor.forecast
    assert monitor.forecasts["train_loss"].final_loss.mid == pytest.approx(law(T), abs=0.05)
    assert "Forecasts of val_loss at step 400, and what happened" in monitor.summary()
    assert f"ended at {val_law(T):.4g}" in monitor.summary()
    known = runner.callback_metrics
    assert float(known["scaling/final_loss"]) == pytest.approx(val_law(T), abs=0.05)
    assert float(known["scaling/train_loss/final_loss"]) == pytest.approx(law(T), abs=0.05)
    expected = {f"scaling/{place}{name}" for name in METRICS for place in ("", "train_loss/")}
    assert set(known) == expected | {"val_loss"}


def test_of_a_metric_with_too_few_values_the_closing_words_say_why_and_lead_to_the_losses_of_all_steps() -> None:
    often, seldom = ScalingLawMonitor("val_loss", verbose=False), ScalingLawMonitor("val_loss", verbose=False)
    validate(often)
    validate(seldom, val_check_interval=T // 2)
    assert "of every step" not in often.summary()
    words = seldom.summary()
    assert f"val_loss was there at 2 of {T} steps" in words
    assert f"Forecasts of the loss of every step at step {T}, and what happened" in words
    assert "forecasts held the loss inside its interval" in words


def test_rules_act_on_the_monitored_metric_alone() -> None:
    rule = TargetUnreachable(loss=2.8)  # the training loss gets there, the validation loss does not
    monitor = ScalingLawMonitor("val_loss", stop=rule, verbose=False)
    stopped = validate(monitor)
    assert stopped.global_step < T // 2
    assert monitor.advice is not None
    assert (monitor.advice.action, monitor.advice.reason) == (Action.STOP, Reason.TARGET_UNREACHABLE)
    assert "target unreachable" in monitor.summary()
    assert monitor.history[-1].step == stopped.global_step  # the validation that brought the stop
    assert monitor.curve.step == stopped.global_step
    beside = ScalingLawMonitor(stop=rule, verbose=False)
    assert validate(beside).global_step == T
    assert beside.forecasts["val_loss"].final_loss.low > 2.8


@pytest.mark.parametrize("key", ["val_loss", "nll"])
def test_a_metric_stops_the_run_at_the_end_of_the_validation_or_the_epoch_that_brought_it(key: str) -> None:
    hooks = ("on_train_batch_start", "on_train_batch_end", "on_validation_end", "on_train_epoch_end", "on_train_end")
    seen: list[str] = []
    noted = {hook: lambda self, t, *a, hook=hook: seen.append(hook) for hook in hooks}
    monitor = ScalingLawMonitor(key, stop=TargetUnreachable(loss=1.5), verbose=False)
    by_epochs: dict[str, Any] = {"steps": -1, "max_epochs": 40, "batches": 10, "every": 1.0, "module": Epochs()}
    runner = validate(watch(**noted), monitor, **(by_epochs if key == "nll" else {}))
    assert runner.global_step < T
    assert monitor.history[-1].step == runner.global_step  # the value that brought the stop
    assert monitor.curve.S.tolist() == list(range(EVERY, runner.global_step + 1, EVERY))
    assert seen[-4:] == ["on_train_batch_end", "on_validation_end", "on_train_epoch_end", "on_train_end"]
    assert seen.count("on_train_batch_start") == runner.global_step


def test_the_checkpoint_of_the_validation_that_stops_a_run_knows_of_the_stop(tmp_path: Path) -> None:
    monitor, keep = (
        ScalingLawMonitor("val_loss", stop=TargetUnreachable(loss=1.5), verbose=False),
        ModelCheckpoint(tmp_path),
    )
    runner = validate(
        monitor,
        keep,
        enable_checkpointing=True,
        steps=-1,
        max_epochs=40,
        batches=10,
        every=1.0,
        min_epochs=13,  # type: ignore[arg-type]
    )
    assert runner.global_step == 130  # at the end of the last epoch that has to be, not a batch later
    assert torch.load(keep.best_model_path, weights_only=PLAIN_CHECKPOINTS)["callbacks"][monitor.state_key][
        "stopped_by"
    ]


def test_a_validation_loss_is_found_and_leaves_the_training_loss_alone(caplog: pytest.LogCaptureFixture) -> None:
    alone, both = ScalingLawMonitor(verbose=False), ScalingLawMonitor()
    fit(alone)
    with caplog.at_level("INFO"):
        runner = validate(both)
    assert both.history == alone.history
    assert both.curve.L.tolist() == alone.curve.L.tolist()
    assert list(both.forecasts) == ["train_loss", "val_loss"]
    assert both.forecasts["val_loss"].final_loss.mid == pytest.approx(val_law(T), abs=0.05)
    assert "scaling/val_loss/final_loss" in runner.callback_metrics
    messages = [record.getMessage() for record in caplog.records]
    assert messages.count("val_loss is forecast beside the training loss.") == 1
    assert any(re.match(r"Step 300 of 400: .* val_loss should end at 3\.\d+±[\d.]+\.$", m) for m in messages)


def test_nothing_found_and_nothing_happens(caplog: pytest.LogCaptureFixture) -> None:
    monitor = ScalingLawMonitor()
    with caplog.at_level("INFO"):
        runner = validate(monitor, module=validated_module(key="val_accuracy"))
    assert list(monitor.forecasts) == ["train_loss"]
    assert not [r for r in caplog.records if "beside" in r.getMessage()]
    assert set(runner.callback_metrics) == {"val_accuracy", *(f"scaling/{name}" for name in METRICS)}


def test_own_numbers_are_not_taken_for_a_validation_loss() -> None:
    monitor = ScalingLawMonitor(name="val", verbose=False)
    validate(monitor, module=validated_module(key="accuracy"))
    assert list(monitor.forecasts) == ["train_loss"]


def test_where_data_repeat_the_sentence_gives_the_validation_loss(caplog: pytest.LogCaptureFixture) -> None:
    def stairs(step: int) -> float:
        return law(step) - 0.4 * ((step - 1) // 100)

    monitor = ScalingLawMonitor()
    with caplog.at_level("INFO"):
        module = validated_module(lambda s: val_law(s), loss=stairs)
        validate(monitor, steps=-1, max_epochs=4, batches=100, module=module)
    assert monitor.forecast is not None
    assert monitor.forecast.verdict is Verdict.REPEATED_DATA
    assert monitor.forecasts["val_loss"].verdict is not Verdict.REPEATED_DATA
    said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("Step 300 of 400")]
    assert len(said) == 1
    found = re.search(r" The data repeat, so this says little of held-out loss: val_loss should end at (\S+)±", said[0])
    assert found is not None
    assert float(found[1]) == pytest.approx(val_law(T), abs=0.1)


def saver(path: Path, at: int, hook: str) -> Any:
    def save(self: Any, t: Any, *args: Any) -> None:
        if t.global_step == at and not t.sanity_checking:
            t.save_checkpoint(path)

    return watch(**{hook: save})


@pytest.mark.parametrize("monitor", [None, "val_loss"])
@pytest.mark.parametrize("package", PACKAGES)
@pytest.mark.parametrize(
    ("at", "hook"),
    [
        (200, "on_validation_end"),
        *(pytest.param(at, "on_train_batch_end", marks=IN_AN_EPOCH) for at in (5, 137, 201)),
    ],
)
def test_resumed_run_forecasts_what_the_uninterrupted_one_would(
    tmp_path: Path, package: str, monitor: str | None, at: int, hook: str
) -> None:
    path = tmp_path / "mid.ckpt"
    whole, rest = ScalingLawMonitor(monitor, verbose=False), ScalingLawMonitor(monitor, verbose=False)
    module = validated_module(configure=cosine(T))
    validate(whole, saver(path, at, hook), module=module)
    state = torch.load(path, weights_only=True)["callbacks"][whole.state_key]
    assert state["version"] == 1
    module = validated_module(configure=cosine(T), package=package)
    runner = validate(rest, module=module, package=package, ckpt_path=path)
    assert runner.global_step == T
    assert records(rest) == records(whole)
    assert len(records(whole)["val_loss"]) == T // EVERY
    assert list(rest.forecasts) == list(whole.forecasts)
    assert len(rest.forecasts) == 2
    for name, forecast in rest.forecasts.items():
        assert forecast.final_loss == whole.forecasts[name].final_loss
    assert rest.curve.L.tolist() == whole.curve.L.tolist()
    assert rest.summary() == whole.summary()


@IN_AN_EPOCH
def test_a_checkpoint_from_before_there_were_metrics_is_read(tmp_path: Path) -> None:
    validate(ScalingLawMonitor(verbose=False), saver(tmp_path / "a.ckpt", 100, "on_validation_end"))
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    del checkpoint["callbacks"]["ScalingLawMonitor"]["metric"]
    torch.save(checkpoint, tmp_path / "b.ckpt")
    monitor = ScalingLawMonitor(verbose=False)
    validate(monitor, ckpt_path=tmp_path / "b.ckpt")
    assert monitor.curve.S[0] == 1
    assert [r.step for r in records(monitor)["val_loss"]] == list(range(110, T + 1, EVERY))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_metric_that_is_never_there_is_warned_of_once(package: str) -> None:
    monitor = ScalingLawMonitor("val_los", stop=TargetUnreachable(loss=0.0), verbose=False)
    with pytest.warns(
        ScalingWarning, match="Expected a metric 'val_los' in callback_metrics, got .*val_loss"
    ) as caught:
        runner = validate(monitor, module=validated_module(package=package), package=package)
    assert len([w for w in caught if w.category is ScalingWarning]) == 1
    assert runner.global_step == T
    assert monitor.forecast is None
    assert list(monitor.forecasts) == ["train_loss"]


@pytest.mark.parametrize("settings", [{"max_epochs": 3}, {"max_epochs": 1}, {"max_steps": 30}])
def test_without_a_validation_a_missing_metric_is_warned_of_too(settings: dict[str, int]) -> None:
    monitor = ScalingLawMonitor("val_loss", verbose=False)
    with pytest.warns(ScalingWarning, match="Expected a metric 'val_loss'") as caught:
        trainer(monitor, **settings).fit(scripted_module(), loader(50))
    assert len([w for w in caught if w.category is ScalingWarning]) == 1


@pytest.mark.filterwarnings("ignore:.*barebones.*")
def test_no_logger_no_steps_and_barebones_are_unharmed() -> None:
    from lightning.pytorch import Trainer

    monitor = ScalingLawMonitor("val_loss", verbose=False)
    quick = trainer(monitor, fast_dev_run=2)
    quick.fit(validated_module(), loader(10), loader(2))
    assert monitor.forecasts == {}
    runner = Trainer(barebones=True, max_steps=100, accelerator="cpu", callbacks=[monitor])
    with pytest.warns(ScalingWarning, match="got none at all"):  # a barebones Trainer logs nothing
        runner.fit(validated_module(), loader(100), loader(1))
    assert runner.global_step == 100
    assert list(monitor.forecasts) == ["train_loss"]


def test_a_series_that_fails_does_not_end_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    for broken in ("note", "take", "fetch"):
        monkeypatch.setattr(LoggedMetric, broken, lambda *a, **k: 1 / 0)
        with pytest.warns(ScalingWarning, match="ZeroDivisionError"):
            assert validate(ScalingLawMonitor("val_loss", verbose=False), steps=30).global_step == 30
        monkeypatch.undo()


def test_loggers_get_both(tmp_path: Path) -> None:
    from lightning.pytorch.loggers import CSVLogger

    monitor = ScalingLawMonitor(verbose=False)
    logger = CSVLogger(tmp_path, name="csv", version=0)
    validate(monitor, module=validated_module(key="val/loss"), logger=logger, log_every_n_steps=1)
    rows = read_csv(tmp_path / "csv/version_0/metrics.csv")
    ours = [row for row in rows if row["scaling/val_loss/final_loss"]]
    assert len(ours) == len(records(monitor)["val/loss"])
    last = monitor.forecasts["val/loss"].final_loss
    assert float(ours[-1]["scaling/val_loss/final_loss_high"]) == last.high
    steps = [int(row["step"]) for row in rows if row["scaling/loss"] or row["scaling/val_loss/loss"]]
    assert steps == sorted(steps)  # wandb drops what comes with a smaller step


@pytest.mark.parametrize(
    ("key", "settings"),
    [
        ("val_loss", {"steps": 100, "every": 120, "batches": 50, "check_val_every_n_epoch": None}),
        ("val_loss", {"steps": -1, "max_epochs": 2, "batches": 50, "every": 1.0, "check_val_every_n_epoch": 3}),
        ("val_loss", {"steps": 300, "every": 120, "batches": 50, "check_val_every_n_epoch": None}),
        ("mean", {"steps": -1, "max_epochs": 3, "batches": 50, "every": 10}),
        ("mean", {"steps": -1, "max_epochs": 1, "batches": 50, "every": 10}),
        ("late", {"steps": -1, "max_epochs": 3, "batches": 50, "every": 10}),
    ],
)
def test_nothing_is_said_of_a_metric_before_it_could_have_been_there(
    recwarn: pytest.WarningsRecorder, key: str, settings: dict[str, Any]
) -> None:
    validate(ScalingLawMonitor(key, verbose=False), module=Epochs(), **settings)
    assert not [w for w in recwarn if issubclass(w.category, ScalingWarning)]


def test_what_is_missing_is_said_after_ten_validations_of_the_first_epoch_or_at_the_end(
    recwarn: pytest.WarningsRecorder,
) -> None:
    said_from: list[int] = []

    def look(self: Any, runner: Any, *args: Any) -> None:
        if any(w.category is ScalingWarning for w in recwarn):
            said_from.append(runner.global_step)

    validate(ScalingLawMonitor("val_los", verbose=False), watch(on_train_batch_start=look), steps=150)
    assert said_from[0] == 10 * EVERY
    with pytest.warns(ScalingWarning, match="Expected a metric 'val_los'"):
        validate(ScalingLawMonitor("val_los", verbose=False), steps=25)


class Epochs(type(validated_module())):  # type: ignore[misc]
    """Logs its training loss in three ways: of a step and of the epoch, at the end of the epoch, and of a step only."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("nll", loss, on_step=True, on_epoch=True)
        self.log("last", loss)
        self.log("mean", loss, on_step=False, on_epoch=True)
        return loss

    def on_train_epoch_end(self) -> None:
        self.log("late", 1.0 + self.current_epoch)


@pytest.mark.parametrize("every", [20, 7])
def test_an_epochs_metric_is_taken_once_per_epoch_whatever_is_validated(every: int) -> None:
    found = {}
    for key in ("nll", "late", "last"):
        monitor = ScalingLawMonitor(key, verbose=False)
        validate(monitor, steps=-1, max_epochs=5, batches=20, every=every, module=Epochs())
        assert monitor.curve.S.tolist() == [20, 40, 60, 80, 100]
        found[key] = monitor.curve.L.tolist()
        steps = monitor._session.losses.steps.curve(None)  # type: ignore[union-attr]
    assert found["late"] == [1, 2, 3, 4, 5]
    of_epochs = [steps.L[(steps.S > s - 20) & (steps.S <= s)].mean() for s in (20, 40, 60, 80)]
    assert found["nll"][:4] == pytest.approx(of_epochs, rel=1e-3)
    assert found["last"][:4] == pytest.approx([steps.L[steps.S == s][0] for s in (20, 40, 60, 80)], rel=1e-6)


def test_validation_less_often_than_epochs_is_taken_when_it_happens() -> None:
    monitor = ScalingLawMonitor("val_loss", verbose=False)
    validate(monitor, steps=-1, max_epochs=7, batches=20, every=1.0, check_val_every_n_epoch=3)  # type: ignore[arg-type]
    assert monitor.curve.S.tolist() == [60, 120]
    assert monitor.curve.step == 120
    of_the_metric, _, of_the_steps = monitor.summary().partition("val_loss was there at 2 of 140 steps")
    assert "what happened" not in of_the_metric
    assert "what happened" in of_the_steps


def test_validations_inside_one_optimizer_step_count_once() -> None:
    monitor = ScalingLawMonitor("val_loss", verbose=False)
    validate(monitor, steps=20, every=4, batches=160, accumulate_grad_batches=8)
    assert monitor.curve.S.tolist() == list(range(1, 21))
    assert monitor.curve.L == pytest.approx([val_law(s) for s in range(1, 21)])


@pytest.mark.parametrize("batches", [7, 100])
def test_a_checkpoint_of_the_smoothed_loss_beside_early_validations(tmp_path: Path, batches: int) -> None:
    keep = ModelCheckpoint(tmp_path, monitor="scaling/loss", every_n_train_steps=T // 10)
    first: list[int] = []

    def look(self: Any, runner: Any, *args: Any) -> None:
        if "scaling/loss" in runner.callback_metrics and not first:
            first.append(runner.global_step)

    seen = watch(on_train_batch_start=look)
    monitor = ScalingLawMonitor(verbose=False)
    assert validate(monitor, seen, keep, every=5, batches=batches, enable_checkpointing=True).global_step == T
    assert first == [T // 20]
    assert str(T) in Path(keep.best_model_path).name


def test_a_checkpoint_that_looks_before_the_first_forecast_is_refused_by_lightning(tmp_path: Path) -> None:
    keep = ModelCheckpoint(tmp_path, monitor="scaling/loss")
    with pytest.raises(MisconfigurationException, match="could not find the monitored key"):
        validate(ScalingLawMonitor(verbose=False), keep, every=5, enable_checkpointing=True)
