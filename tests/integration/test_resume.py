"""A run that is interrupted and resumed knows and forecasts what the whole run would."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from lightning_scaling import (
    Diverged,
    Reason,
    ScalingLawMonitor,
    ScalingWarning,
    TargetUnreachable,
)
from lightning_scaling.host import session
from tests.trainers import (
    IN_AN_EPOCH,
    PACKAGES,
    QUIET,
    REPEATS_A_BATCH,
    STOP_IS_FORGOTTEN,
    T,
    cosine,
    fit,
    law,
    loader,
    scripted_module,
    trainer,
    validate,
    validated_module,
    watch,
)

pytestmark = QUIET


def saver(path: Path, at: int) -> Any:
    return watch(
        on_train_batch_end=lambda self, t, *a: t.save_checkpoint(path) if t.global_step == at else None,
    )


@pytest.mark.skipif(REPEATS_A_BATCH, reason="this Lightning does not go on where it was, but a batch before")
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


@IN_AN_EPOCH
@pytest.mark.parametrize("same_trainer", [False, pytest.param(True, marks=STOP_IS_FORGOTTEN)])
@pytest.mark.parametrize("metric", [None, "val_loss"])
def test_the_monitor_that_stopped_a_run_lets_it_go_on_from_before_the_stop(
    tmp_path: Path, metric: str | None, same_trainer: bool
) -> None:
    monitor = ScalingLawMonitor(metric, stop=TargetUnreachable(loss=1.5), verbose=False)
    runner = validate(monitor, saver(tmp_path / "before.ckpt", 75))
    assert 75 < runner.global_step < T
    first_stop = runner.global_step
    again = runner if same_trainer else trainer(monitor, max_steps=T, val_check_interval=10)
    again.fit(validated_module(), loader(T), loader(1), ckpt_path=tmp_path / "before.ckpt")
    assert again.global_step == T
    assert monitor.curve.S[0] <= 10
    assert monitor.advice is not None
    assert monitor.advice.reason is Reason.TARGET_UNREACHABLE  # still its opinion
    # A new process cannot know of the stop.
    fresh = ScalingLawMonitor(metric, stop=TargetUnreachable(loss=1.5), verbose=False)
    assert validate(fresh, ckpt_path=tmp_path / "before.ckpt").global_step == first_stop


def test_a_stop_of_another_run_does_not_bind_the_monitor(tmp_path: Path) -> None:
    rule = TargetUnreachable(loss=1.5)
    other = scripted_module(lambda s: law(s) + 0.1)
    stopped = fit(ScalingLawMonitor(stop=rule, verbose=False), saver(tmp_path / "other.ckpt", 75), module=other)
    monitor = ScalingLawMonitor(stop=rule, verbose=False)
    assert fit(monitor).global_step < T
    runner = trainer(monitor, max_steps=T)
    runner.fit(other, loader(T), ckpt_path=tmp_path / "other.ckpt")
    assert 75 < runner.global_step == stopped.global_step < T


@STOP_IS_FORGOTTEN
def test_a_stopped_run_goes_on_where_its_trainer_fits_again() -> None:
    monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=1.5), verbose=False)
    runner, module = trainer(monitor, max_steps=T), scripted_module()
    runner.fit(module, loader(T))
    assert runner.global_step < T
    runner.fit(module, loader(T))
    assert (runner.global_step, monitor.curve.S[0]) == (T, 1)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda state: {"version": 99}, "ignored"),
        (lambda state: {"wait_count": 3}, "ignored"),
        (lambda state: [1, 2, 3], "got a list, so it is ignored"),
        (lambda state: "hello", "got a str, so it is ignored"),
        (lambda state: {"version": 1}, "begins anew"),
        (lambda state: {**state, "stopped_by": 5}, "begins anew"),
        (lambda state: {key: value for key, value in state.items() if key != "recorder"}, "begins anew"),
    ],
    ids=["newer", "foreign", "list", "text", "empty", "no reason", "damaged"],
)
def test_state_that_cannot_be_read_is_ignored_with_a_warning(
    tmp_path: Path, damage: Callable[[dict[str, Any]], Any], words: str
) -> None:
    runner = fit(ScalingLawMonitor(verbose=False), steps=100)
    runner.save_checkpoint(tmp_path / "a.ckpt")
    checkpoint = torch.load(tmp_path / "a.ckpt", weights_only=True)
    checkpoint["callbacks"]["ScalingLawMonitor"] = damage(checkpoint["callbacks"]["ScalingLawMonitor"])
    torch.save(checkpoint, tmp_path / "b.ckpt")
    monitor = ScalingLawMonitor(verbose=False)
    with pytest.warns(ScalingWarning, match=words):
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


@pytest.mark.parametrize("same_trainer", [False, True])
@pytest.mark.parametrize("steps", [60, 200])
def test_another_runs_curve_is_not_gone_on_with(tmp_path: Path, steps: int, same_trainer: bool) -> None:
    other = trainer(max_steps=100)
    other.fit(scripted_module(lambda s: 9.0), loader(T))
    other.save_checkpoint(tmp_path / "other.ckpt")
    monitor = ScalingLawMonitor(verbose=False)
    runner = fit(monitor, steps=steps)
    if same_trainer:
        runner.fit_loop.epoch_loop.max_steps = 300
    else:
        runner = trainer(monitor, max_steps=300)
    with pytest.warns(ScalingWarning, match="may be another run's, so the curve begins at the present step"):
        runner.fit(scripted_module(lambda s: 9.0), loader(T), ckpt_path=tmp_path / "other.ckpt")
    assert (monitor.curve.S[0], monitor.curve.step) == (pytest.approx(101, abs=1), 300)
    assert monitor.curve.L.min() > 8.0
    assert min(record.step for record in monitor.history) > 100


@pytest.mark.parametrize(
    ("evaluate", "which"),
    [
        ("validate", "newest"),
        ("validate", "older"),
        ("validate", "foreign"),
        ("validate", "without a state"),
        ("test", "older"),
        ("predict", "foreign"),
    ],
)
def test_a_checkpoint_that_is_evaluated_in_between_is_not_gone_on_from(
    tmp_path: Path, evaluate: str, which: str
) -> None:
    fit(ScalingLawMonitor(verbose=False), module=scripted_module(lambda s: 9.0), steps=150).save_checkpoint(
        tmp_path / "foreign.ckpt"
    )
    fit(watch(), steps=150).save_checkpoint(tmp_path / "without a state.ckpt")
    monitor = ScalingLawMonitor(verbose=False)
    runner = trainer(monitor, saver(tmp_path / "older.ckpt", 50), saver(tmp_path / "newest.ckpt", 100), max_epochs=1)
    module = evaluated_module()
    runner.fit(module, loader(100), loader(1))
    known = monitor.history
    getattr(runner, evaluate)(module, loader(1), ckpt_path=tmp_path / f"{which}.ckpt")
    assert monitor.history == known
    runner.fit_loop.max_epochs = 2
    runner.fit(module, loader(100), loader(1))
    assert (monitor.curve.S[0], monitor.curve.step) == (1, 200)
    assert monitor.curve.L.max() < 9.0
    assert monitor.history[: len(known)] == known


def test_after_an_evaluation_the_checkpoint_of_a_fit_is_gone_on_from(tmp_path: Path) -> None:
    fit(ScalingLawMonitor(verbose=False), saver(tmp_path / "a.ckpt", 100), steps=100)
    monitor = ScalingLawMonitor(verbose=False)
    runner = trainer(monitor, max_steps=200)
    runner.validate(evaluated_module(), loader(1), ckpt_path=tmp_path / "a.ckpt")
    runner.fit(evaluated_module(), loader(T), loader(1), ckpt_path=tmp_path / "a.ckpt")
    assert (monitor.curve.S[0], monitor.curve.step) == (1, 200)


def evaluated_module() -> Any:
    """Return a scripted module that can be validated, tested and predicted with."""

    def step(self: Any, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch).mean()

    names = ("validation_step", "test_step", "predict_step")
    return type("Evaluated", (type(scripted_module()),), dict.fromkeys(names, step))()


def test_a_monitor_that_has_seen_no_fit_says_where_else_one_may_have_been() -> None:
    monitor = ScalingLawMonitor()
    assert (monitor.forecast, monitor.history, len(monitor.curve)) == (None, (), 0)
    assert "not begun in this process" in monitor.summary()
    assert "trainer.callback_metrics" in monitor.summary()


def test_a_monitor_that_has_seen_a_fit_can_be_copied_and_pickled() -> None:
    monitor = ScalingLawMonitor(verbose=False)
    module = scripted_module()
    fit(monitor, steps=50, module=module)
    assert copy.deepcopy(monitor).curve.S.tolist() == monitor.curve.S.tolist()
    assert monitor.__getstate__()["_trainer"] is None
