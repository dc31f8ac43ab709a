"""LoopMonitor: one object and one call per step, in the loops that people write."""

from __future__ import annotations

import io
import itertools
import math
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.optim import lr_scheduler as schedulers

from lightning_scaling import (
    ComputeEfficient,
    Converged,
    Diverged,
    LoopMonitor,
    Reason,
    RunStore,
    ScalingLawMonitor,
    ScalingWarning,
    StoreError,
    TargetUnreachable,
    Verdict,
    live,
)
from tests.trainers import QUIET, apart, cosine, fit, law, scripted_module, watch

STEPS = 1000


class Loop:
    """A training loop with a scripted loss: optimizer, scheduler, and a monitor that is called once per step."""

    def __init__(
        self, monitor: Callable[[Any], LoopMonitor], *, steps: int = STEPS, every: int = 1, noise: float = 0.02
    ) -> None:
        self.optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        self.scheduler = schedulers.CosineAnnealingLR(self.optimizer, steps)
        self.every = every  # optimizer steps per step of the scheduler
        rng = np.random.default_rng(0)
        self.losses = [law(s) + noise * x for s, x in enumerate(rng.standard_normal(steps), start=1)]
        self.monitor = monitor(self.scheduler)
        self.done = 0

    def run(self, until: int | None = None) -> int:
        """Train up to a step; return the last one, which comes earlier where the monitor says stop."""
        for loss in self.losses[self.done : until]:
            self.done += 1
            self.optimizer.step()
            if self.done % self.every == 0:
                self.scheduler.step()
            if self.monitor.step(torch.tensor(loss, dtype=torch.float64)):
                break
        return self.done


def quiet(*rules: Any, **settings: Any) -> Callable[[Any], LoopMonitor]:
    return lambda scheduler: LoopMonitor(STEPS, scheduler, stop=rules, tell=None, **settings)


def test_a_run_from_start_to_end() -> None:
    said: list[str] = []
    loop = Loop(lambda scheduler: LoopMonitor(STEPS, scheduler, tell=said.append))
    assert loop.monitor.reading is None
    assert math.isnan(loop.monitor.values["final_loss"])
    assert loop.run() == STEPS
    monitor = loop.monitor
    assert said[0] == "LoopMonitor: 1 000 steps (as given), cosine decay to 0 %."
    assert all(text.startswith("Step ") for text in said[1:])
    assert 3 <= len(said) <= 6  # the first forecast and each quarter of the run
    half = next(r for r in monitor.history if r.step >= STEPS / 2)
    assert half.final_loss.low < law(STEPS) < half.final_loss.high
    assert monitor.history[-1].step == STEPS
    assert len(monitor.history) == 24  # every twentieth of the run, and four times in the first of them
    assert monitor.forecast is not None
    assert monitor.reading == monitor.forecast.final_loss.short()
    assert monitor.values["final_loss"] == monitor.forecast.final_loss.mid
    assert "100 %    1 000  ended at 2.1" in monitor.summary()
    assert monitor.curve.lr is not None


@pytest.mark.filterwarnings(*[mark.args[0] for mark in QUIET])
def test_it_says_what_the_callback_says() -> None:
    """The same losses in a Trainer and in a loop: the same forecasts, to the bit."""
    losses: list[float] = []
    keep = watch(on_train_batch_end=lambda self, t, m, outputs, batch, i: losses.append(float(outputs["loss"])))
    callback = ScalingLawMonitor(verbose=False)
    fit(callback, keep, steps=400, module=scripted_module(configure=cosine(400)))

    optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    scheduler = schedulers.LambdaLR(optimizer, lambda s: 0.5 * (1.0 + math.cos(math.pi * s / 400)))
    monitor = LoopMonitor(400, scheduler, tell=None)
    for loss in losses:
        lr = optimizer.param_groups[0]["lr"]
        optimizer.step()
        scheduler.step()
        monitor.step(torch.tensor(loss, dtype=torch.float64), lr)
    assert str(monitor.history) == str(callback.history)


def test_it_stops_when_the_target_is_out_of_reach_and_not_before_a_fifth() -> None:
    loop = Loop(quiet(TargetUnreachable(loss=1.0)))
    assert STEPS / 5 <= loop.run() < STEPS / 2
    assert f"The run ended at step {loop.done} of 1 000" in loop.monitor.summary()
    reachable = Loop(quiet(TargetUnreachable(loss=2.5), Converged(min_gain=1e-6)))
    assert reachable.run() == STEPS


def test_without_a_known_rate_ahead_it_does_not_stop() -> None:
    loop = Loop(lambda scheduler: LoopMonitor(STEPS, stop=TargetUnreachable(loss=1.0), tell=None))
    assert loop.run() == STEPS
    assert loop.monitor.advice is not None
    assert not loop.monitor._live.schedule


def test_without_a_horizon_there_is_a_converged_loss() -> None:
    loop = Loop(lambda scheduler: LoopMonitor(tell=None))
    loop.run()
    assert loop.monitor.forecast is not None
    assert loop.monitor.forecast.verdict is Verdict.NO_HORIZON
    assert 1.5 < loop.monitor.values["converged_loss"] < 2.2


def test_nan_stops_soon() -> None:
    loop = Loop(lambda scheduler: LoopMonitor(STEPS, stop=Diverged(), tell=None))
    loop.losses[400:] = [math.nan] * (STEPS - 400)
    assert 403 <= loop.run() <= 400 + 60


def test_rates_may_be_given_as_numbers() -> None:
    rates = 0.1 * 0.5 * (1.0 + np.cos(np.pi * np.arange(STEPS) / STEPS))
    one = Loop(lambda scheduler: LoopMonitor(lr_schedule=rates, tell=None))
    other = Loop(quiet())
    for loop in (one, other):
        loop.run()
    for a, b in zip(one.monitor.history, other.monitor.history, strict=True):
        assert a.final_loss.mid == pytest.approx(b.final_loss.mid, rel=1e-6, nan_ok=True)


def test_a_scheduler_that_is_stepped_by_epochs_is_found_out() -> None:
    said: list[str] = []
    loop = Loop(
        lambda scheduler: LoopMonitor(STEPS, scheduler, stop=TargetUnreachable(loss=1.0), tell=said.append), every=100
    )
    assert loop.run() == STEPS
    assert any("the learning rate left its schedule" in text for text in said)
    assert loop.monitor._live.schedule is None
    assert "stepped once per optimizer step" in str(loop.monitor._course.plan)


def test_groups_on_different_schedules_leave_the_rate_ahead_unknown_and_no_rule_acts() -> None:
    loop = Loop(quiet(TargetUnreachable(loss=1.0)))
    loop.optimizer, loop.scheduler = apart([torch.zeros(1), torch.zeros(1)], STEPS)
    loop.monitor = quiet(TargetUnreachable(loss=1.0))(loop.scheduler)
    assert loop.run() == STEPS
    assert "parameter groups are on different schedules: not known" in str(loop.monitor._course.plan)


def test_a_rate_that_is_changed_by_hand_is_found_out() -> None:
    loop = Loop(quiet())
    loop.run(300)
    loop.scheduler.base_lrs = [0.05]
    loop.optimizer.param_groups[0]["lr"] *= 0.5  # its replay goes on from there
    loop.run(600)
    schedule = loop.monitor._live.schedule
    assert schedule is not None
    past, ahead = schedule.rate_at([200]), schedule.rate_at([800])
    assert ahead / past == pytest.approx(0.5 * (1 + math.cos(math.pi * 0.8)) / (1 + math.cos(math.pi * 0.2)), rel=0.05)
    loop.optimizer.param_groups[0]["lr"] = 1.0
    loop.scheduler.step = lambda: None  # type: ignore[method-assign]
    loop.run(900)
    assert loop.monitor._live.schedule is None


class Guarded(Tensor):
    """A tensor that complains when its value is asked for, unless it is told not to."""

    guarded = True

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        asks = {"item", "cpu", "numpy", "tolist", "__float__", "__bool__", "__int__", "__array__", "to"}
        if cls.guarded and getattr(func, "__name__", "") in asks:
            raise AssertionError(f"{func.__name__} waits for the device")
        return super().__torch_function__(func, types, args, kwargs or {})


def test_no_step_waits_but_those_that_fetch(monkeypatch: pytest.MonkeyPatch) -> None:
    monitor = LoopMonitor(100_000, tell=None)
    fetched = []
    fetch = monitor._fetch

    def allowed() -> None:
        monkeypatch.setattr(Guarded, "guarded", False)
        fetch()
        monkeypatch.setattr(Guarded, "guarded", True)
        fetched.append(monitor._step)

    monkeypatch.setattr(monitor, "_fetch", allowed)
    for step in range(1, 5001):
        monitor.step(torch.tensor(law(step)).as_subclass(Guarded), torch.tensor(0.1).as_subclass(Guarded))
    assert monitor.history  # nothing has failed
    assert monitor.history[-1].step == 5000
    assert len(fetched) < 5000 / 256 + 40


@pytest.mark.parametrize("accumulate", [1, 4])
def test_gradient_accumulation_into_one_tensor(accumulate: int) -> None:
    """The sum of the batches' losses in one buffer that is set to zero again: what is kept is a copy."""
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    monitor = LoopMonitor(50, tell=None)
    total, expected, kept = torch.zeros(()), [], []
    for batch in range(50 * accumulate):
        loss = (model(torch.full((1, 2), 1.0 + batch % 3)) - 3.0).pow(2).mean() / accumulate
        loss.backward()
        total += loss.detach()
        kept.append(loss)
        if (batch + 1) % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
            assert monitor.step(total, optimizer.param_groups[0]["lr"]) is False
            expected.append(float(total))
            total.zero_()
    assert monitor.curve.S.tolist() == list(range(1, 51))
    assert monitor.curve.L.tolist() == pytest.approx(expected)
    assert not any(isinstance(x, Tensor) and x.requires_grad for x in monitor._recorder._losses)


def test_steps_may_be_numbered_by_the_loop() -> None:
    monitor = LoopMonitor(STEPS, tell=None)
    for step in range(501, 601):
        monitor.step(law(step), at=step)
    assert monitor.curve.S[0] > 501
    assert monitor.curve.step == 600


def checkpoint(loop: Loop) -> Any:
    file = io.BytesIO()
    parts = {"monitor": loop.monitor, "optimizer": loop.optimizer, "scheduler": loop.scheduler}
    torch.save({name: part.state_dict() for name, part in parts.items()}, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize(
    ("order", "at"),
    [("scheduler first", 317), ("monitor first", 317), ("made after both", 317), ("made after both", 5)],
)
def test_a_resumed_run_forecasts_to_the_bit_what_it_would_have_forecast(order: str, at: int) -> None:
    whole, first = Loop(quiet()), Loop(quiet())
    whole.run()
    first.run(at)
    state = checkpoint(first)
    second = Loop(quiet())
    second.done = at
    if order == "monitor first":
        second.monitor.load_state_dict(state["monitor"])
    second.optimizer.load_state_dict(state["optimizer"])
    second.scheduler.load_state_dict(state["scheduler"])
    if order == "made after both":
        second.monitor = quiet()(second.scheduler)
    if order != "monitor first":
        second.monitor.load_state_dict(state["monitor"])
    second.run()
    assert str(second.monitor.history[-10:]) == str(whole.monitor.history[-10:])
    assert second.monitor.curve.L.tolist() == whole.monitor.curve.L.tolist()


def test_a_resumed_run_does_not_trust_again_what_was_found_out() -> None:
    first = Loop(quiet(), every=50)
    first.run(600)
    assert first.monitor._live.schedule is None
    state = checkpoint(first)
    second = Loop(quiet(), every=50)
    second.done = 600
    second.optimizer.load_state_dict(state["optimizer"])
    second.scheduler.load_state_dict(state["scheduler"])
    second.monitor.load_state_dict(state["monitor"])
    assert second.monitor._live.schedule is None
    assert second.monitor._live.horizon == STEPS


def test_a_stopped_run_that_is_resumed_goes_on() -> None:
    first = Loop(quiet(TargetUnreachable(loss=1.0)))
    stopped = first.run()
    second = Loop(quiet(TargetUnreachable(loss=1.0)))
    second.done = stopped
    second.monitor.load_state_dict(first.monitor.state_dict())
    assert stopped < second.run() == STEPS


def test_the_monitor_that_said_stop_goes_on_from_a_state_of_before_the_stop() -> None:
    loop, other = Loop(quiet(TargetUnreachable(loss=1.0))), Loop(quiet(TargetUnreachable(loss=1.0)), noise=0.03)
    loop.run(150)
    saved = checkpoint(loop)
    stopped = loop.run()
    assert 150 < stopped < STEPS
    other.run(150)
    foreign, elsewhere = checkpoint(other), Loop(quiet(TargetUnreachable(loss=1.0)))
    for one, state, end in ((elsewhere, saved, stopped), (loop, saved, STEPS), (loop, foreign, stopped)):
        one.done = 150
        for name in ("optimizer", "scheduler", "monitor"):
            getattr(one, name).load_state_dict(state[name])
        assert one.monitor.curve.step == 150
        assert one.run() == end


def test_a_run_is_remembered_and_the_next_one_borrows(tmp_path: Path) -> None:
    said: list[str] = []
    first = Loop(quiet(store=tmp_path, tags={"task": "script"}))
    first.run()
    (stored,) = RunStore(tmp_path).runs()
    assert (stored.state, stored.horizon, stored.curve.step) == ("finished", STEPS, STEPS)
    assert dict(stored.tags) == {"task": "script", "loss": "train_loss"}
    assert len(stored.forecasts) == len(first.monitor.history)
    second = Loop(lambda scheduler: LoopMonitor(STEPS, scheduler, store=RunStore(tmp_path), tell=said.append))
    second.losses = [1.03 * loss for loss in second.losses]
    second.run(500)
    assert second.monitor.forecast is not None
    assert second.monitor.forecast.n_siblings == 1
    assert said[1].startswith("LoopMonitor: 1 finished run in the store: from 1 of them this one should end at")
    # Killed and resumed it is one and the same run, which forecasts what it would have without that.
    state = checkpoint(second)
    third = Loop(quiet(store=tmp_path))
    third.losses, third.done = second.losses, 500
    third.optimizer.load_state_dict(state["optimizer"])
    third.scheduler.load_state_dict(state["scheduler"])
    third.monitor.load_state_dict(state["monitor"])
    third.run()  # before the other has ended, and is one of the runs that are there
    second.run()
    assert str(third.monitor.history) == str(second.monitor.history)
    assert [run.state for run in RunStore(tmp_path)] == ["finished", "finished"]


def test_a_stopped_run_and_one_without_a_horizon_are_over_as_well(tmp_path: Path) -> None:
    stopped = Loop(quiet(TargetUnreachable(loss=1.0), store=tmp_path / "a"))
    assert stopped.run() < STEPS
    assert [(run.state, run.curve.step) for run in RunStore(tmp_path / "a")] == [("stopped", stopped.done)]
    endless = Loop(lambda scheduler: LoopMonitor(tell=None, store=str(tmp_path / "b")))
    endless.run(300)
    endless.monitor.close()
    assert [(run.state, run.curve.step) for run in RunStore(tmp_path / "b")] == [("finished", 300)]
    assert endless.monitor.history[-1].step == 300
    early = Loop(quiet(store=tmp_path / "c"))
    early.run(300)
    early.monitor.close()
    assert [(run.state, run.curve.step) for run in RunStore(tmp_path / "c")] == [("stopped", 300)]
    Loop(quiet()).monitor.close()  # of nothing, it is nothing


def test_a_store_that_fails_is_warned_of_once_and_the_loop_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def full(*args: Any, **kwargs: Any) -> str:
        raise StoreError("Expected space, got none.")

    monkeypatch.setattr(RunStore, "add", full)
    loop = Loop(quiet(store=tmp_path))
    assert loop.run() == STEPS
    assert loop.monitor.history[-1].step == STEPS
    assert capfd.readouterr().err.count("Expected the store of runs to be there") == 1


def test_a_state_of_another_version_is_refused() -> None:
    with pytest.raises(ValueError, match="Expected a LoopMonitor state of version 1, got 7"):
        LoopMonitor(tell=None).load_state_dict({"version": 7})


@pytest.mark.parametrize("state", [[1], "hello", 7, {"version": 1}, "damaged"])
def test_a_state_that_is_none_is_refused_and_changes_nothing(state: Any) -> None:
    whole, other = LoopMonitor(100, tell=None), LoopMonitor(100, tell=None)
    for step in range(1, 51):
        whole.step(law(step))
    if state == "damaged":
        state = whole.state_dict() | {"recorder": None}
    with pytest.raises(ValueError, match=r"Expected a (readable )?LoopMonitor state"):
        other.load_state_dict(state)
    other.step(law(1))
    assert other.curve.S.tolist() == [1]
    assert not other.history


@pytest.mark.parametrize("broken", ["forecast", "loss", "tell", "numbering"])
def test_a_failure_is_warned_of_once_and_the_loop_goes_on(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    losses: Iterator[Any] = (torch.tensor(law(s)) for s in itertools.count(1))
    tell = None
    steps = itertools.count(1)
    if broken == "forecast":
        monkeypatch.setattr(live, "forecast", lambda *a, **k: 1 / 0)
    if broken == "loss":
        losses = itertools.repeat("low")
    if broken == "tell":
        tell = lambda text: 1 / 0  # noqa: E731
    if broken == "numbering":
        steps = itertools.cycle(range(10))
    monitor = LoopMonitor(500, stop=TargetUnreachable(loss=1.0), tell=tell)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        answers = [monitor.step(next(losses), at=next(steps)) for _ in range(500)]
    assert not any(answers)
    assert [w.category for w in warned] == [ScalingWarning]
    assert "LoopMonitor is quiet from here on" in str(warned[0].message)
    saved = monitor.state_dict()
    assert saved == {}
    monitor.load_state_dict(saved)
    assert "forecast" in monitor.summary().lower()


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"horizon": 0}, ValueError),
        ({"horizon": 10.5}, TypeError),
        ({"horizon": 3, "lr_schedule": [1.0]}, ValueError),
        ({"horizon": 3, "lr_schedule": object()}, TypeError),
        ({"stop": "now"}, TypeError),
        ({"level": 90}, ValueError),
        ({"refits": 3}, ValueError),
        ({"tags": {"task": ["text"]}}, TypeError),
    ],
)
def test_wrong_arguments_say_what_was_expected(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"Expected .*got"):
        LoopMonitor(**arguments)


def test_a_scheduler_needs_a_horizon() -> None:
    with pytest.raises(ValueError, match="Expected a horizon beside a scheduler"):
        Loop(lambda scheduler: LoopMonitor(None, scheduler))


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (schedulers.ReduceLROnPlateau, "ReduceLROnPlateau waits"),
        (lambda o: schedulers.LambdaLR(o, lambda s: 0.0), "it is 0"),
        (lambda o: schedulers.OneCycleLR(o, 0.1, total_steps=50), "cannot be replayed"),
    ],
)
def test_a_schedule_that_cannot_be_known_is_said(make: Any, why: str) -> None:
    said: list[str] = []
    scheduler = make(torch.optim.SGD([torch.zeros(1)], lr=0.1))
    LoopMonitor(100, scheduler, tell=said.append).step(1.0)
    assert said[0].startswith("LoopMonitor: 100 steps (as given), learning rate ahead not known (")
    assert why in said[0]


def test_half_precision_is_warned_of() -> None:
    with pytest.warns(ScalingWarning, match=r"got torch\.bfloat16"):
        LoopMonitor(100, tell=None).step(torch.tensor(1.0, dtype=torch.bfloat16))


def test_rules_in_one_of_several_ranks_must_say_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "get_rank", lambda: 1)
    with pytest.raises(ValueError, match="Expected across_ranks to be given where a rule may stop one of 2 ranks"):
        LoopMonitor(stop=Diverged())
    said: list[str] = []
    LoopMonitor(tell=said.append).step(1.0)
    LoopMonitor(stop=Diverged(), across_ranks=False, tell=said.append).step(1.0)
    assert said == []  # rank 0 speaks


def test_a_rule_that_advises_is_told_of_and_stops_nothing() -> None:
    said: list[str] = []
    loop = Loop(lambda scheduler: LoopMonitor(STEPS, scheduler, advise=ComputeEfficient(alpha_N=0.3), tell=said.append))
    assert loop.run() == STEPS
    assert loop.monitor.advice is not None
    assert loop.monitor.advice.reason is Reason.COMPUTE_EFFICIENT
    assert any(words.endswith("a larger model is the better use of compute from here on.") for words in said)
    assert "stop" not in " ".join(said)
