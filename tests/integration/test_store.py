"""A monitor with a store of runs: it remembers, borrows, and never keeps training waiting."""

from __future__ import annotations

import copy
import re
import threading
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_scaling import (
    RunStore,
    ScalingLawMonitor,
    ScalingWarning,
    StoreError,
    TargetUnreachable,
    fit_critical_batch,
)
from lightning_scaling.host import memory
from lightning_scaling.laws import KAPLAN_TABLE_3, CriticalBatch, Frontier
from lightning_scaling.own_laws import own_laws
from lightning_scaling.track_record import KEY
from tests.trainers import QUIET, fit, law, loader, scripted_module, trainer, validate, watch

pytestmark = QUIET


def monitor(store: Any, **arguments: Any) -> ScalingLawMonitor:
    return ScalingLawMonitor(store=store, verbose=arguments.pop("verbose", False), refits=8, **arguments)


def test_a_run_is_remembered_and_the_next_one_borrows(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    first = monitor(str(tmp_path), tags={"task": "script"})
    fit(first, steps=600)
    (stored,) = RunStore(tmp_path).runs()
    assert (stored.state, stored.horizon, stored.curve.step) == ("finished", 600, 600)
    assert dict(stored.tags) == {"task": "script", "loss": "train_loss"}
    assert len(stored.forecasts) == len(first.history)
    assert stored.derived[KEY]["n"] >= 1
    assert stored.lr_schedule is not None

    second = monitor(tmp_path, verbose=True)
    with caplog.at_level("INFO"):
        # Not the very same losses: a run is not told its own end.
        trainer(second, max_steps=900).fit(scripted_module(lambda step: 1.03 * law(step)), loader(900))
    assert second.forecast is not None
    assert second.forecast.n_siblings == 1
    assert len(RunStore(tmp_path)) == 2
    assert "1 finished run in the store: from 1 of them this one should end at" in caplog.text
    assert re.search(r"90 %\)\. Your 90 % intervals held \d+ of \d+ times, in 1 run\.", caplog.text)


def test_images_are_kept_in_samples_and_scanned_for_a_critical_batch(tmp_path: Path) -> None:
    law_of = CriticalBatch(B_star=2e3, alpha_B=0.25)
    for size in (8, 16, 64, 128):
        # Loss 2 + 6 S_min^-1/2 where S = S_min (1 + B_crit/B), with B_crit taken at the loss of the batch far above.
        steps = np.arange(1, 1001.0)
        S = steps * (1.0 + law_of.B_crit(2.0 + 6.0 * steps**-0.5) / size)
        script = partial(np.interp, xp=S, fp=2.0 + 6.0 * steps**-0.5)
        trainer(monitor(tmp_path, N=1e5 * size), max_steps=900).fit(
            scripted_module(lambda step, f=script: float(f(step)), noise=0.002), loader(900, batch_size=size)
        )
    runs = RunStore(tmp_path).runs()
    first = runs[0]
    assert (first.batch, first.batch_unit, first.samples, first.tokens) == (8.0, "samples", 7200.0, None)
    assert "batch 8 samples" in str(first)

    fit_of = fit_critical_batch([run.curve for run in runs])
    assert "samples / L^" in str(fit_of)
    assert float(fit_of.B_crit.mid[-1]) == pytest.approx(float(law_of.B_crit(fit_of.losses[-1])), rel=0.3)
    in_tokens = replace(first.curve, B_unit="tokens")
    with pytest.raises(ValueError, match=r"Expected batch sizes in one unit, got samples and tokens, so"):
        fit_critical_batch([in_tokens, *(run.curve for run in runs[1:])])
    with pytest.raises(ValueError, match=r"Expected a critical batch size in tokens, got one in samples"):
        Frontier(KAPLAN_TABLE_3, fit_of.require_ok())

    assert own_laws(runs).laws is None
    assert "4 with a batch in samples" in own_laws(runs).reason


def test_a_metric_and_the_training_loss_are_not_mixed(tmp_path: Path) -> None:
    fit(monitor(tmp_path), steps=300)
    store = RunStore(tmp_path)
    stored = store.runs()[0]
    store.add(stored.curve, horizon=300, tags={"loss": "val_loss"}, id="other")
    second = monitor(tmp_path)
    fit(second, steps=400)
    assert second._session is not None
    assert second._session.memory is not None
    assert [run.id for run in second._session.memory.siblings] == [stored.id]


@pytest.mark.parametrize(("every", "state"), [(33, "finished"), (35, "stopped")])
def test_a_run_is_finished_where_its_last_validation_lies_in_its_last_fiftieth(
    tmp_path: Path, every: int, state: str
) -> None:
    runner = validate(monitor(tmp_path, monitor="val_loss"), steps=400, every=every)
    (stored,) = RunStore(tmp_path).runs()
    assert (stored.state, stored.curve.step, stored.horizon) == (state, 400 - 400 % every, runner.global_step)


def test_a_stopped_run_is_kept_as_stopped_and_a_resumed_one_under_its_name(tmp_path: Path) -> None:
    stopped = monitor(tmp_path / "runs", stop=TargetUnreachable(loss=0.0))
    runner = fit(stopped, steps=1000)
    assert runner.global_step < 1000
    (before,) = RunStore(tmp_path / "runs").runs()
    assert before.state == "stopped"
    runner.save_checkpoint(tmp_path / "stopped.ckpt")
    resumed = monitor(tmp_path / "runs", stop=TargetUnreachable(loss=0.0))
    again = trainer(resumed, max_steps=1000)
    again.fit(scripted_module(), loader(1000), ckpt_path=str(tmp_path / "stopped.ckpt"))
    (after,) = RunStore(tmp_path / "runs").runs()
    assert (after.id, after.state, after.curve.step) == (before.id, "finished", 1000)


def test_a_place_that_cannot_be_a_store_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match="Expected"):
        monitor(tmp_path / "file")
    with pytest.raises(TypeError, match="tags"):
        monitor(tmp_path, tags={"task": ["text"]})


def test_a_store_that_fails_is_warned_of_once_and_training_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*args: Any, **kwargs: Any) -> str:
        raise StoreError("Expected space, got none.")

    monkeypatch.setattr(RunStore, "add", full)
    watched = scripted_module()
    alone = copy.deepcopy(watched)
    followed = monitor(tmp_path)
    trainer(followed, max_steps=300).fit(watched, loader(300))
    trainer(max_steps=300).fit(alone, loader(300))
    assert all(torch.equal(a, b) for a, b in zip(watched.parameters(), alone.parameters(), strict=True))
    assert followed.forecast is not None
    assert followed.forecast.step == 300
    assert capfd.readouterr().err.count("Expected the store of runs to be there") == 1


def test_a_store_that_does_not_answer_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    answer, asked = threading.Event(), []

    def slow(*args: Any, **kwargs: Any) -> str:
        asked.append(threading.current_thread().name)
        answer.wait(20.0)
        return "late"

    monkeypatch.setattr(RunStore, "add", slow)
    monkeypatch.setattr(memory, "_PATIENCE", 0.1)
    followed = monitor(tmp_path)
    began = time.monotonic()
    try:
        with pytest.warns(ScalingWarning, match="no answer"):
            fit(followed, steps=300)
    finally:
        answer.set()
    assert time.monotonic() - began < 15.0
    assert followed.history[-1].step == 300
    assert set(asked) == {"lightning_scaling store"}
    assert len(asked) <= 2


def saving(path: Path, at: int) -> Any:
    return watch(on_train_batch_end=lambda self, t, *a: t.save_checkpoint(path) if t.global_step == at else None)


def test_a_run_resumed_in_another_directory_is_remembered_there_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
    monkeypatch.chdir(tmp_path / "here")
    first = monitor("runs")
    fit(first, saving(tmp_path / "mid.ckpt", 150), steps=200)
    (before,) = RunStore("runs").runs()
    monkeypatch.chdir(tmp_path / "there")
    second = monitor("runs")
    trainer(second, max_steps=300).fit(scripted_module(), loader(300), ckpt_path=str(tmp_path / "mid.ckpt"))
    (after,) = RunStore("runs").runs()
    assert (after.id, after.state, after.curve.step) == (before.id, "finished", 300)
    assert after.curve.S[0] == 1.0
    assert len(after.forecasts) == len(second.history)
    assert [run.curve.step for run in RunStore(tmp_path / "here" / "runs")] == [200]


def test_a_run_that_branches_off_one_that_is_over_leaves_it_as_it_is(tmp_path: Path) -> None:
    first, branch, again = (monitor(tmp_path / "runs") for _ in range(3))
    fit(first, saving(tmp_path / "mid.ckpt", 150), steps=300)
    (before,) = RunStore(tmp_path / "runs").runs()
    runner = trainer(branch, max_steps=400)
    runner.fit(scripted_module(lambda step: law(step) + 0.1), loader(400), ckpt_path=str(tmp_path / "mid.ckpt"))
    runs = {run.id: run for run in RunStore(tmp_path / "runs")}
    assert len(runs) == 2
    assert runs.pop(before.id).curve.L.tolist() == before.curve.L.tolist()
    ((name, after),) = runs.items()
    assert (after.state, after.curve.step) == ("finished", 400)
    # One that goes on from where the branch ended is the branch.
    runner.save_checkpoint(tmp_path / "end.ckpt")
    trainer(again, max_steps=500).fit(scripted_module(), loader(500), ckpt_path=str(tmp_path / "end.ckpt"))
    assert RunStore(tmp_path / "runs")[name].curve.step == 500
    assert len(RunStore(tmp_path / "runs")) == 2


def test_a_run_that_goes_on_without_its_store_finds_its_name_again(tmp_path: Path) -> None:
    def breaks(self: Any, runner: Any, *args: Any) -> None:
        if runner.global_step == 160:
            raise RuntimeError("out of memory")

    with pytest.raises(RuntimeError, match="out of memory"):
        fit(monitor(tmp_path / "runs"), saving(tmp_path / "a.ckpt", 150), watch(on_train_batch_start=breaks), steps=300)
    (before,) = RunStore(tmp_path / "runs").runs()
    assert before.state == "running"
    part = trainer(ScalingLawMonitor(verbose=False), saving(tmp_path / "b.ckpt", 200), max_steps=250)
    part.fit(scripted_module(), loader(300), ckpt_path=str(tmp_path / "a.ckpt"))
    last = trainer(monitor(tmp_path / "runs"), max_steps=300)
    last.fit(scripted_module(), loader(300), ckpt_path=str(tmp_path / "b.ckpt"))
    (after,) = RunStore(tmp_path / "runs").runs()
    assert (after.id, after.state, after.curve.step) == (before.id, "finished", 300)


def test_the_state_of_another_run_does_not_lend_its_name(tmp_path: Path) -> None:
    followed = monitor(tmp_path)
    fit(followed, steps=300)
    trainer(followed, max_steps=200).fit(scripted_module(lambda step: 2.0 * law(step)), loader(200))
    assert sorted(run.curve.step for run in RunStore(tmp_path)) == [200, 300]
