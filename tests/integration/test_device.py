"""Losses on a device: the forecasts that the host's would give, no step that waits, and nothing lost at a restart."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lightning_scaling import ScalingLawMonitor, TargetUnreachable
from lightning_scaling.host.metrics import LoggedMetric
from lightning_scaling.host.steps import StepTracker
from lightning_scaling.refits import LAG
from tests.faraway import Device, device, far
from tests.test_loop import STEPS, Loop, checkpoint, quiet
from tests.trainers import QUIET, REPEATS_A_BATCH, cosine, fit, loader, scripted_module, trainer, validate, watch
from tests.trainers import validated_module as validated

pytestmark = QUIET

T, REFITS = 160, 10  # a forecast every 32 steps, and before at steps 10, 15, 23


@pytest.fixture
def there() -> Iterator[Device]:
    """A device on which the losses, the learning rates and the logged metrics of all Trainers are."""
    ended, take = StepTracker.batch_end, LoggedMetric.take

    def batch_end(self: StepTracker, *args: Any) -> bool:
        stepped = ended(self, *args)
        self.loss, self.lr = far(self.loss), far(self.lr)
        return stepped

    def taken(self: LoggedMetric, metrics: Any, *args: Any) -> None:
        take(self, {key: far(value) for key, value in metrics.items()}, *args)

    with device() as there, pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepTracker, "batch_end", batch_end)
        patch.setattr(LoggedMetric, "take", taken)
        yield there


def monitor(*args: Any, refits: int = REFITS, **settings: Any) -> ScalingLawMonitor:
    return ScalingLawMonitor(*args, refits=refits, verbose=False, **settings)


def run(followed: ScalingLawMonitor, *others: Any, every: int = 0, **settings: Any) -> Any:
    if every:
        return validate(followed, *others, steps=T, every=every, module=validated(configure=cosine(T)), **settings)
    return fit(followed, *others, steps=T, module=scripted_module(configure=cosine(T)), **settings)


@pytest.mark.parametrize(
    ("name", "every", "refits"),
    [(None, 0, 40), (None, 20, REFITS), ("val_loss", 3, REFITS)],
    ids=["many forecasts", "a metric beside", "a metric at every third step"],
)
def test_a_device_gives_the_forecasts_of_the_host(
    name: str | None, every: int, refits: int, request: pytest.FixtureRequest
) -> None:
    host, followed = monitor(name, refits=refits), monitor(name, refits=refits)
    run(host, every=every)
    request.getfixturevalue("there")
    run(followed, every=every)
    assert not followed._has_warned  # no hook has asked for a value
    assert [str(r) for r in followed.history] == [str(r) for r in host.history]
    ends = [{name: f.final_loss for name, f in known.forecasts.items()} for known in (followed, host)]
    assert ends[0] == ends[1]
    assert followed.summary() == host.summary()
    assert followed.curve.L.tolist() == host.curve.L.tolist()


def test_one_copy_for_each_fetch_and_no_wait_where_the_device_keeps_up(there: Device) -> None:
    followed = monitor()
    catches_up = watch(
        on_train_batch_start=lambda self, t, *a: there.catch_up() if t.global_step % (LAG // 2) == 0 else None
    )
    run(followed, catches_up)
    assert followed._session is not None
    recorder = followed._session.losses.steps.recorder
    assert len(there.copies) <= recorder.flushes
    assert sum(there.copies) == 2 * T  # each loss and each learning rate once
    assert recorder.waits == there.waits == 1  # at the end


@pytest.mark.skipif(REPEATS_A_BATCH, reason="this Lightning does not go on where it was, but a batch before")
@pytest.mark.parametrize("at", [1, 99, 104])  # there is a forecast at step 96
def test_a_resumed_run_forecasts_to_the_bit_what_the_whole_one_does(there: Device, tmp_path: Path, at: int) -> None:
    path = tmp_path / "mid.ckpt"
    keep = watch(on_train_batch_end=lambda self, t, *a: t.save_checkpoint(path) if t.global_step == at else None)
    whole, rest, unsaved = monitor(), monitor(), monitor()
    run(whole, keep)
    run(unsaved)
    trainer(rest, max_steps=T).fit(scripted_module(configure=cosine(T)), loader(T), ckpt_path=path)
    assert 96 in [r.step for r in whole.history]
    assert str(rest.state_dict()) == str(whole.state_dict()) == str(unsaved.state_dict())
    assert rest.summary() == whole.summary()


@pytest.mark.skipif(REPEATS_A_BATCH, reason="this Lightning does not go on where it was, but a batch before")
@pytest.mark.parametrize("at", [41, 45])  # there is a validation at step 40
def test_a_resumed_run_takes_in_the_metric_where_the_whole_one_does(there: Device, tmp_path: Path, at: int) -> None:
    path = tmp_path / "mid.ckpt"
    keep = watch(on_train_batch_end=lambda self, t, *a: t.save_checkpoint(path) if t.global_step == at else None)
    whole, rest = monitor("val_loss"), monitor("val_loss")
    run(whole, keep, every=20)
    run(rest, every=20, ckpt_path=path)
    assert str(rest.state_dict()) == str(whole.state_dict())


def test_asking_changes_nothing(there: Device) -> None:
    asked, left = monitor(), monitor()

    def ask(self: Any, runner: Any, *args: Any) -> None:
        assert asked.curve.step == runner.global_step
        asked.state_dict()
        asked.summary()

    run(asked, watch(on_train_batch_end=ask))
    run(left)
    assert str(asked.state_dict()) == str(left.state_dict())


def test_a_run_is_stopped_a_little_later(request: pytest.FixtureRequest) -> None:
    rule = TargetUnreachable(loss=1.0)
    before = fit(monitor(stop=rule), steps=600).global_step
    request.getfixturevalue("there")
    followed = monitor(stop=rule)
    assert fit(followed, steps=600).global_step == before + LAG
    assert followed.advice is not None
    assert followed.history[-1].step == before


def test_an_error_of_the_script_loses_nothing(there: Device) -> None:
    def breaks(self: Any, runner: Any, *args: Any) -> None:
        if runner.global_step == 99:
            raise RuntimeError("out of memory")

    followed = monitor()
    with pytest.raises(RuntimeError, match="out of memory"):
        run(followed, watch(on_train_batch_start=breaks))
    assert [r.step for r in followed.history[-2:]] == [96, 99]
    assert followed.curve.step == 99


def test_a_plain_loop() -> None:
    at = 53  # there is a forecast at step 50
    host = Loop(quiet())
    host.run()
    with device():
        whole, first, second = (Loop(quiet()) for _ in range(3))
        for loop in (whole, first, second):
            take = loop.monitor.step
            loop.monitor.step = lambda loss, take=take: take(far(loss))  # type: ignore[method-assign, misc]
        whole.run()
        first.run(at)
        state = checkpoint(first)
        second.done = at
        second.optimizer.load_state_dict(state["optimizer"])
        second.scheduler.load_state_dict(state["scheduler"])
        second.monitor.load_state_dict(state["monitor"])
        second.run()
    assert str(whole.monitor.history) == str(host.monitor.history) == str(second.monitor.history)
    assert whole.monitor.history[-1].step == STEPS
    assert str(second.monitor.state_dict()) == str(whole.monitor.state_dict())
    assert not whole.monitor._failed


def test_a_rate_that_is_changed_by_hand_is_planned_with_once_it_has_been_fetched() -> None:
    loop = Loop(quiet())
    with device():
        take = loop.monitor.step
        loop.monitor.step = lambda loss: take(far(loss))  # type: ignore[method-assign]
        loop.run(300)
        loop.scheduler.base_lrs = [0.05]
        loop.optimizer.param_groups[0]["lr"] *= 0.5
        loop.run(600)
    assert loop.monitor._course.distrust == 1
    assert loop.monitor._live.schedule is not None  # the scheduler is ahead of what was fetched, and right all the same
