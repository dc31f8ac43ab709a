"""Fetching: the same losses are looked at however fast a device is, and a run that goes on keeps to its steps."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_scaling.live import LiveForecast
from lightning_scaling.recording.fetching import Fetching
from lightning_scaling.recording.recorder import CurveRecorder
from lightning_scaling.refits import LAG, next_refit
from tests.faraway import device, far


class Run:
    """A run whose looks are kept: what was known at each, and where it was."""

    def __init__(self, horizon: int | None, refits: int, *, on_device: bool, last: int | None = None) -> None:
        self.horizon, self.refits, self.on_device = horizon, refits, on_device
        self.recorder, self.live = CurveRecorder(buffer=1024), LiveForecast(refits=refits)
        self.live.plan(horizon, None)
        self.fetching = Fetching(self.recorder, self.live, across_ranks=False, last=last)
        self.fetching.plan(0)
        self.step = 0
        self.known: list[tuple[int, float]] = []
        self.at: list[int] = []

    def look(self) -> None:
        self.known.append((self.recorder.step, self.recorder.latest))
        self.at.append(self.step)
        if self.recorder.step >= self.live.next_step:
            self.live.next_step = next_refit(self.recorder.step, self.horizon, self.refits)

    def go(self, until: int) -> None:
        for step in range(self.step + 1, until + 1):
            self.step = step
            loss = torch.tensor(1.0 / step)
            self.recorder.append(step, far(loss) if self.on_device else loss)
            if step >= self.fetching.due:
                self.fetching.turn(step, self.look)

    def gone_on(self) -> Run:
        other = Run(self.horizon, self.refits, on_device=self.on_device)
        other.recorder.load_state_dict(self.recorder.state_dict())
        other.step, other.live.next_step = self.step, self.live.next_step
        other.fetching.plan(self.step)
        return other


HORIZONS = st.one_of(st.none(), st.integers(12, 1500))


@settings(max_examples=40, deadline=None)
@given(horizon=HORIZONS, refits=st.sampled_from([4, 12, 40, 400]), fast=st.booleans())
def test_a_device_is_looked_at_a_little_later_and_sees_the_same(horizon: int | None, refits: int, fast: bool) -> None:
    steps = (horizon or 1000) + 30
    near, there = Run(horizon, refits, on_device=False), Run(horizon, refits, on_device=True)
    near.go(steps)
    with device(fast=fast):
        there.go(steps)
        there.fetching.land(there.look)
    assert there.known == near.known
    late = [b - a for a, b in zip(near.at, there.at, strict=True)]
    assert all(0 < x <= LAG for x in late[:-1])
    assert near.at == [step for step, _ in near.known]


@settings(max_examples=30, deadline=None)
@given(horizon=HORIZONS, refits=st.sampled_from([4, 40, 400]), share=st.floats(0.0, 1.0))
def test_a_run_that_goes_on_looks_where_the_whole_one_does(horizon: int | None, refits: int, share: float) -> None:
    steps = horizon or 900
    with device():
        whole, first = Run(horizon, refits, on_device=True), Run(horizon, refits, on_device=True)
        whole.go(steps)
        first.go(int(share * steps))
        second = first.gone_on()
        second.go(steps)
    assert first.known + second.known == whole.known
    assert first.at + second.at == whole.at


def test_no_wait_where_a_device_keeps_up_by_a_few_steps() -> None:
    run = Run(2000, 40, on_device=True)
    with device() as there:
        for step in range(1, 2001):
            run.go(step)
            if step % (LAG // 2) == 0:
                there.catch_up()
    assert (there.waits, run.recorder.waits) == (0, 0)


@pytest.mark.parametrize("on_device", [True, False])
def test_the_last_fetch_can_be_waited_for(on_device: bool) -> None:
    run = Run(None, 40, on_device=on_device, last=100)
    with device():
        run.go(99)
        assert run.fetching.due <= 100
        run.step = 100
        run.recorder.append(100, far(0.5) if on_device else 0.5)
        run.fetching.turn(100, run.look, wait=True)
    assert run.known[-1][0] == 100
    assert run.recorder.sent is None
