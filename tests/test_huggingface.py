"""ScalingLawCallback in a real Trainer of transformers, with a loss that follows a script."""

from __future__ import annotations

import importlib
import json
import math
import os
import socket
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lightning_scaling import (
    ComputeEfficient,
    Converged,
    Diverged,
    Reason,
    RunStore,
    ScalingWarning,
    TargetUnreachable,
    live,
)
from tests.trainers import apart, law

transformers = pytest.importorskip("transformers")
pytest.importorskip("accelerate")

from lightning_scaling.huggingface import ScalingLawCallback  # noqa: E402

STEPS = 400

pytestmark = [
    pytest.mark.filterwarnings("ignore:'pin_memory' argument is set as true but no accelerator is found"),
    # transformers and torch disagree on names from release to release
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
]


class Scripted(torch.nn.Module):
    """Its loss at the k-th call of forward is that of optimizer step k / accumulate, plus noise."""

    def __init__(self, *, accumulate: int = 1, floor: float = 2.0, broken_from: float = math.inf) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)
        self.register_buffer("calls", torch.zeros((), dtype=torch.long))  # comes back with a checkpoint
        self.accumulate, self.floor, self.broken_from = accumulate, floor, broken_from

    def forward(self, x: torch.Tensor, labels: Any = None) -> dict[str, torch.Tensor]:
        self.calls += self.training
        call = int(self.calls)
        step = max(math.ceil(call / self.accumulate), 1)
        noise = float(torch.randn((), generator=torch.Generator().manual_seed(call)))
        loss = math.nan if step >= self.broken_from else law(step) - 2.0 + self.floor + 0.02 * noise
        return {"loss": self.layer(x).mean() * 0.0 + loss}


class Zeros(torch.utils.data.Dataset[Any]):
    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, i: int) -> Any:
        return {"x": torch.zeros(2), "labels": torch.zeros(1)}


def train(
    folder: Path,
    *callbacks: Any,
    model: Any = None,
    resume: str | None = None,
    n: int = 10_000,
    optimizers: Any = None,
    **settings: Any,
) -> Any:
    """Train and return the Trainer."""
    model = model or Scripted()
    chosen = {
        "output_dir": str(folder),
        "max_steps": STEPS,
        "logging_steps": 2,
        "per_device_train_batch_size": 1,
        "learning_rate": 0.1,
        "lr_scheduler_type": "cosine",
        "warmup_steps": 10,
        "report_to": [],
        "use_cpu": True,
        "save_strategy": "no",
        "disable_tqdm": True,
    } | settings
    trainer = transformers.Trainer(
        model=model,
        args=transformers.TrainingArguments(**chosen),
        train_dataset=Zeros(n),
        eval_dataset=Zeros(1),
        callbacks=list(callbacks),
        optimizers=(None, None) if optimizers is None else optimizers(model),
    )
    trainer.train(resume_from_checkpoint=resume)
    return trainer


def test_a_run_from_start_to_end(tmp_path: Path) -> None:
    said: list[str] = []
    monitor = ScalingLawCallback(tell=said.append)
    seen: list[dict[str, float]] = []
    later = type("Later", (transformers.TrainerCallback,), {"on_log": lambda *a, logs, **k: seen.append(dict(logs))})
    trainer = train(tmp_path, monitor, later())
    assert trainer.state.global_step == STEPS
    assert said[0] == (
        "ScalingLawCallback: N = 3 non-embedding parameters, 400 steps (max_steps), "
        "cosine decay to 0 % after 11 warm-up steps."
    )
    assert "Forecasts of the loss at step 400, and what happened" in said[-1]
    assert "100 %      400  ended at 2.3" in said[-1]
    half = next(r for r in monitor.history if r.step >= STEPS / 2)
    assert half.final_loss.low < law(STEPS) < half.final_loss.high
    assert monitor.reading == monitor.history[-1].final_loss.short()
    assert monitor.curve.S.tolist() == [2 * k - 0.5 for k in range(1, STEPS // 2 + 1)]
    assert monitor.curve.L[99] == pytest.approx(law(199), abs=0.06)
    given = [logs["scaling/final_loss"] for logs in seen if "scaling/final_loss" in logs]
    assert given == [r.final_loss.mid for r in monitor.history if r.verdict.usable]


def test_a_rule_that_advises_is_told_of_and_stops_nothing(tmp_path: Path) -> None:
    said: list[str] = []
    monitor = ScalingLawCallback(advise=ComputeEfficient(alpha_N=0.5), tell=said.append)
    assert train(tmp_path, monitor, lr_scheduler_type="constant", warmup_steps=0).state.global_step == STEPS
    assert monitor.advice is not None
    assert monitor.advice.reason is Reason.COMPUTE_EFFICIENT
    assert any(words.endswith("a larger model is the better use of compute from here on.") for words in said)


def test_groups_on_different_schedules_leave_the_rate_ahead_unknown_and_no_rule_acts(tmp_path: Path) -> None:
    said: list[str] = []
    monitor = ScalingLawCallback(TargetUnreachable(loss=1.0), tell=said.append)
    trainer = train(tmp_path, monitor, optimizers=lambda model: apart(list(model.parameters()), STEPS))
    assert trainer.state.global_step == STEPS
    assert "parameter groups are on different schedules: not known" in said[0]


def test_it_stops_when_the_target_is_out_of_reach_and_the_resumed_run_goes_on(tmp_path: Path) -> None:
    rule = TargetUnreachable(loss=1.0)
    first = ScalingLawCallback(rule, tell=None)
    stopped = train(tmp_path, first, save_strategy="steps", save_steps=2)
    step = stopped.state.global_step
    assert STEPS / 5 <= step < STEPS / 2
    monitor = ScalingLawCallback(rule, tell=None)
    resumed = train(tmp_path, monitor, resume=str(tmp_path / f"checkpoint-{step}"))
    assert resumed.state.global_step == STEPS
    assert monitor.advice is not None
    assert monitor.advice.action.name == "STOP"
    # Resumed from before the stop it is stopped again, unless by the callback that stopped it.
    before = str(tmp_path / f"checkpoint-{step - 2}")
    assert train(tmp_path, ScalingLawCallback(rule, tell=None), resume=before).state.global_step == step
    assert train(tmp_path, first, resume=before).state.global_step == STEPS
    assert train(tmp_path, first).state.global_step == step  # another run


def test_a_run_is_remembered_and_the_next_one_borrows(tmp_path: Path) -> None:
    said: list[str] = []
    first = ScalingLawCallback(tell=None, store=tmp_path / "runs", tags={"task": "script"})
    train(tmp_path, first, max_steps=200)
    (stored,) = RunStore(tmp_path / "runs").runs()
    assert (stored.state, stored.horizon, dict(stored.tags)) == (
        "finished", 200, {"task": "script", "loss": "train_loss"},
    )  # fmt: skip
    assert len(stored.forecasts) == len(first.history)
    second = ScalingLawCallback(tell=said.append, store=RunStore(tmp_path / "runs"))
    train(tmp_path, second, model=Scripted(floor=2.1), save_strategy="steps", save_steps=200)
    assert second.forecast is not None
    assert second.forecast.n_siblings == 1
    assert said[1].startswith("ScalingLawCallback: 1 finished run in the store: from 1 of them")
    # Resumed before its end, it is another run; resumed at its end, the same.
    for resumed, steps, runs in (("200", STEPS, 3), ("400", STEPS + 40, 3)):
        path = str(tmp_path / f"checkpoint-{resumed}")
        monitor = ScalingLawCallback(tell=None, store=tmp_path / "runs")
        train(tmp_path, monitor, model=Scripted(floor=2.1), resume=path, max_steps=steps)
        assert len(RunStore(tmp_path / "runs")) == runs
    assert sorted(run.curve.step for run in RunStore(tmp_path / "runs")) == [200, STEPS, STEPS + 40]


def test_a_killed_run_is_found_again_in_the_store(tmp_path: Path) -> None:
    def breaks(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == 130:
            raise RuntimeError("out of memory")

    breaker = type("Breaks", (transformers.TrainerCallback,), {"on_step_end": breaks})()
    saves = {"max_steps": 200, "save_strategy": "steps", "save_steps": 100}
    with pytest.raises(RuntimeError, match="out of memory"):
        train(tmp_path, ScalingLawCallback(tell=None, store=tmp_path / "runs"), breaker, **saves)
    monitor = ScalingLawCallback(tell=None, store=tmp_path / "runs")
    train(tmp_path, monitor, resume=str(tmp_path / "checkpoint-100"), **saves)
    assert [(run.state, run.curve.step) for run in RunStore(tmp_path / "runs")] == [("finished", 200)]


def test_a_rule_that_a_run_gets_on_resuming_looks_at_all_that_was_logged(tmp_path: Path) -> None:
    train(tmp_path, ScalingLawCallback(tell=None), save_strategy="steps", save_steps=200)
    monitor = ScalingLawCallback(TargetUnreachable(loss=1.0), tell=None)
    resumed = train(tmp_path, monitor, resume=str(tmp_path / "checkpoint-200"))
    assert 200 < resumed.state.global_step <= 200 + STEPS / 20 + 2  # the next look; it has stood for long


def test_a_reachable_target_and_advice_alone_stop_nothing(tmp_path: Path) -> None:
    for rules in ((), [TargetUnreachable(loss=3.0), Converged(min_gain=1e-9)]):
        assert train(tmp_path, ScalingLawCallback(rules, tell=None), max_steps=120).state.global_step == 120


@pytest.mark.parametrize("at", [60, 250])
def test_a_resumed_run_knows_what_it_knew(tmp_path: Path, at: int) -> None:
    whole, first, second = (ScalingLawCallback(tell=None) for _ in range(3))
    train(tmp_path / "a", whole)

    def leave(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = state.global_step >= at

    leaver = type("Leaver", (transformers.TrainerCallback,), {"on_step_end": leave})()
    train(tmp_path / "b", first, leaver, save_strategy="steps", save_steps=at)
    train(tmp_path / "b", second, resume=str(tmp_path / "b" / f"checkpoint-{at}"))
    assert second.curve.S.tolist() == whole.curve.S.tolist()
    assert second.curve.L.tolist() == pytest.approx(whole.curve.L.tolist(), abs=1e-3)
    assert [r.step for r in second.history] == [r.step for r in whole.history]
    for a, b in zip(second.history, whole.history, strict=True):
        assert a.verdict is b.verdict
        assert a.final_loss.mid == pytest.approx(b.final_loss.mid, rel=1e-3, nan_ok=True)


@pytest.mark.parametrize("accumulate", [1, 3])
def test_gradient_accumulation_and_epochs(tmp_path: Path, accumulate: int) -> None:
    monitor = ScalingLawCallback(tell=None)
    trainer = train(
        tmp_path, monitor, model=Scripted(accumulate=accumulate), gradient_accumulation_steps=accumulate,
        max_steps=-1, num_train_epochs=4, n=30 * accumulate, logging_first_step=True,
    )  # fmt: skip
    assert trainer.state.global_step == 120
    assert monitor.forecast is not None
    assert monitor.forecast.horizon == 120
    assert monitor.curve.epoch_ends == (30, 60, 90, 120)
    assert monitor.curve.S[:3].tolist() == [1.0, 2.0, 3.5]
    assert monitor.curve.L[30] == pytest.approx(law(62), abs=0.06)


def test_losses_of_evaluations(tmp_path: Path) -> None:
    monitor = ScalingLawCallback(metric="eval_loss", tell=None)
    train(tmp_path, monitor, eval_strategy="steps", eval_steps=5, max_steps=200)
    assert monitor.curve.S.tolist() == list(range(5, 201, 5))
    assert monitor.curve.count.tolist() == [1.0] * 40
    assert monitor.forecast is not None
    assert monitor.forecast.verdict.usable


def test_a_broken_run_is_stopped(tmp_path: Path) -> None:
    model = Scripted(broken_from=200)
    trainer = train(tmp_path, ScalingLawCallback(Diverged(), tell=None), model=model, logging_nan_inf_filter=False)
    assert 200 < trainer.state.global_step <= 210


def test_few_logs_are_said(tmp_path: Path) -> None:
    said: list[str] = []
    train(tmp_path, ScalingLawCallback(tell=said.append), max_steps=40, logging_steps=10)
    assert said[1].startswith("The loss is logged 4 times in the run")


def test_a_schedule_that_is_not_known_is_said_and_nothing_is_stopped(tmp_path: Path) -> None:
    said: list[str] = []
    monitor = ScalingLawCallback(TargetUnreachable(loss=1.0), tell=said.append)
    settings = {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_strategy": "steps", "eval_steps": 50}
    trainer = train(tmp_path, monitor, warmup_steps=0, max_steps=200, metric_for_best_model="eval_loss", **settings)
    assert "ReduceLROnPlateau waits" in said[0]
    assert trainer.state.global_step == 200
    assert monitor.advice is not None
    assert monitor.advice.action.name == "STOP"


def test_a_rate_that_leaves_its_schedule_is_found_out(tmp_path: Path) -> None:
    def change(self: Any, args: Any, state: Any, control: Any, lr_scheduler: Any = None, **k: Any) -> None:
        if state.global_step in (100, 200):
            lr_scheduler.base_lrs = [0.3 * rate for rate in lr_scheduler.base_lrs]

    said: list[str] = []
    monitor = ScalingLawCallback(tell=said.append)
    train(tmp_path, type("Change", (transformers.TrainerCallback,), {"on_step_end": change})(), monitor)
    assert sum("the learning rate left its schedule" in text for text in said) == 2
    assert monitor.forecast is not None
    assert not monitor.forecast.schedule_known


def test_a_failure_is_warned_of_once_and_training_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "forecast", lambda *a, **k: 1 / 0)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        trainer = train(tmp_path, ScalingLawCallback(TargetUnreachable(loss=1.0), tell=None), max_steps=100)
    assert trainer.state.global_step == 100
    assert [w.category for w in warned if "ScalingLawCallback is quiet" in str(w.message)] == [ScalingWarning]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({"stop": "now"}, TypeError), ({"metric": "accuracy"}, ValueError), ({"level": 90}, ValueError)],
)
def test_wrong_arguments_say_what_was_expected(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"Expected .*got"):
        ScalingLawCallback(**arguments)


def test_without_transformers_the_message_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "lightning_scaling.huggingface")
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'lightning-scaling\[hf\]'"):
        importlib.import_module("lightning_scaling.huggingface")


TWO_RANKS = """
import json, os, sys
from pathlib import Path
import torch.distributed as dist
from lightning_scaling import TargetUnreachable
from lightning_scaling.huggingface import ScalingLawCallback
from tests.test_huggingface import Scripted, train
rank, ended = int(os.environ["RANK"]), {}
for name in ("rank 0", "rank 1"):  # the one that has a target out of reach
    target = 1.0 if name == f"rank {rank}" else 9.0
    monitor = ScalingLawCallback(TargetUnreachable(loss=target), tell=None)
    model = Scripted(floor=2.0 + (1.0 if rank else -1.0))
    ended[name] = train(Path(sys.argv[1]), monitor, model=model, ddp_backend="gloo").state.global_step
    curve = monitor.curve
print(json.dumps([ended, curve.L.tolist()]), flush=True)
dist.barrier()
dist.destroy_process_group()
"""


def test_two_ranks_end_together_as_rank_0_decides(tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free.getsockname()[1]), "WORLD_SIZE": "2"}
    root = Path(__file__).parents[1]
    where |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": f"{root}{os.pathsep}{os.environ.get('PYTHONPATH', '')}"}
    ranks = [
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", TWO_RANKS, str(tmp_path)], cwd=root, text=True,
            env=os.environ | where | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        ) for rank in (0, 1)
    ]  # fmt: skip
    try:
        found = []
        for process in ranks:
            out, err = process.communicate(timeout=150)
            assert process.returncode == 0, err[-3000:]
            found.append(json.loads(next(line for line in out.splitlines() if line.startswith("[{"))))
    finally:
        for process in ranks:
            process.kill()
            process.communicate()
    (ended, losses), other = found
    assert [ended, losses] == other
    assert ended["rank 0"] < STEPS / 2
    assert ended["rank 1"] == STEPS
    assert np.mean(losses) == pytest.approx(np.mean([law(s) for s in range(1, STEPS + 1)]), abs=0.02)
