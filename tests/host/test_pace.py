"""Where max_time will end a run, by a clock that the tests turn."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from lightning_scaling import ScalingLawMonitor
from lightning_scaling.host.pace import TOLERANCE, Pace, time_is_up, time_limit
from tests.trainers import (
    IN_AN_EPOCH,
    QUIET,
    loader,
    scripted_module,
    trainer,
    watch,
)

pytestmark = QUIET


class Clock:
    """A Timer whose seconds are a function of the step."""

    def __init__(self, limit: float | None) -> None:
        self.limit, self.now = limit, 0.0

    def time_elapsed(self) -> float:
        return self.now

    def time_remaining(self) -> float | None:
        return None if self.limit is None else self.limit - self.now


def estimates(limit: float, seconds: Any, *looks: int) -> list[int | None]:
    clock, pace, found = Clock(limit), Pace(), []
    for step in looks:
        clock.now = seconds(step)
        found.append(pace.end(SimpleNamespace(callbacks=[object(), clock]), step))
    return found


def test_the_first_look_tells_nothing_and_the_second_does() -> None:
    assert estimates(100.0, lambda s: 0.1 * s, 10, 13, 500, 1000) == [None, 1000, 1000, 1000]


def test_a_slow_start_is_forgotten() -> None:
    assert estimates(130.0, lambda s: 30.0 + 0.1 * s, 10, 13, 100) == [None, 1000, 1000]


def test_the_pace_is_that_of_the_newer_half() -> None:
    def slows_down(step: int) -> float:
        return 0.1 * step if step <= 200 else 20.0 + 0.2 * (step - 200)

    *_, first, last = estimates(100.0, slows_down, 10, 50, 100, 200, 400)
    assert first == 1000
    assert last == 600  # of 400 steps in 60 s the newer 200 took 40, and 40 are left


def test_past_its_time_a_run_ends_now_and_a_clock_that_stands_tells_nothing() -> None:
    assert estimates(10.0, lambda s: 0.1 * s, 50, 120) == [None, 120]
    assert estimates(10.0, lambda s: 1.0, 50, 120) == [None, None]


def test_without_a_limit_there_is_no_end() -> None:
    unlimited = SimpleNamespace(callbacks=[Clock(None)])
    assert time_limit(unlimited) is None
    assert not time_is_up(unlimited)
    assert Pace().end(unlimited, 10) is None
    assert time_limit(SimpleNamespace(callbacks=[object()])) is None


def clocked(limit: float) -> Any:
    """Return a callback that is a Timer by its methods and ends the run when the time is up; a step takes 0.1 s."""

    def elapsed(self: Any) -> float:
        return 3.0 + 0.1 * self.steps

    def ended(self: Any, runner: Any, *args: Any) -> None:
        self.steps = runner.global_step
        runner.should_stop = runner.should_stop or elapsed(self) >= limit

    return watch(
        steps=0, time_elapsed=elapsed, time_remaining=lambda self: limit - elapsed(self), on_train_batch_end=ended
    )


@pytest.mark.parametrize(("settings", "end"), [({"max_epochs": -1}, 370), ({"max_steps": 300}, 300)])
@pytest.mark.parametrize("first", ["clock", "monitor"])
def test_a_run_that_its_time_ends(
    settings: dict[str, int], end: int, first: str, caplog: pytest.LogCaptureFixture
) -> None:
    monitor = ScalingLawMonitor()
    order = (clocked(39.95), monitor) if first == "clock" else (monitor, clocked(39.95))
    runner = trainer(*order, **settings)
    with caplog.at_level("INFO"):
        runner.fit(scripted_module(), loader(100))
    assert runner.global_step == end
    known = [r.horizon for r in monitor.history if r.step > 20]
    assert all(abs(horizon - end) <= TOLERANCE * end for horizon in known)
    assert f"at step {end}, and what happened" in monitor.summary()
    said = [r.getMessage() for r in caplog.records]
    timed = [words for words in said if "estimated from the pace so far" in words]
    if "max_steps" in settings:
        assert timed == []
        assert any("300 steps (max_steps; max_time may end it earlier)" in words for words in said)
    else:
        assert len(timed) == 1
        assert any("planned end not known (max_time: it is estimated once" in words for words in said)


@IN_AN_EPOCH
def test_a_resumed_run_keeps_its_estimate(tmp_path: Any) -> None:
    first, second = ScalingLawMonitor(verbose=False), ScalingLawMonitor(verbose=False)
    save = watch(
        on_train_batch_end=lambda self, t, *a: t.save_checkpoint(tmp_path / "a.ckpt") if t.global_step == 151 else None
    )
    trainer(clocked(39.95), first, save, max_epochs=-1).fit(scripted_module(), loader(100))
    resumed = trainer(clocked(39.95), second, max_epochs=-1)
    resumed.fit(scripted_module(), loader(100), ckpt_path=tmp_path / "a.ckpt")
    assert second.history == first.history
