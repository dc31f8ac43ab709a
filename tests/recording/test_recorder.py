"""CurveRecorder: no waiting while recording, nothing lost, nothing that grows."""

from __future__ import annotations

import gc
import io
import math
import sys
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from lightning_scaling import CurveBuilder, CurveRecorder
from tests.faraway import Device, Far, device, far
from tests.untouchable import Untouchable, untouchable


def built(steps: range, losses: list[float], lr: float | None = None) -> CurveBuilder:
    builder = CurveBuilder()
    builder.extend(steps, losses, [lr] * len(losses))
    return builder


def test_a_plain_loop_in_three_lines() -> None:
    model = torch.nn.Linear(2, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    recorder = CurveRecorder()
    losses = []
    for step in range(1, 501):
        loss = (model(torch.ones(1, 2)) - 3.0).pow(2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        recorder.append(step, loss, lr=optimizer.param_groups[0]["lr"])
    expected = built(range(1, 501), losses, 0.1)
    assert recorder.builder.state_dict() != expected.state_dict()  # the last steps are still on their way
    curve = recorder.curve()
    assert recorder.builder.state_dict() == expected.state_dict()
    assert curve.step == 500
    assert curve.lr == pytest.approx(0.1)


def test_values_are_asked_for_in_a_flush_only(monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = CurveRecorder(buffer=256)
    for step in range(1, 256):
        recorder.append(step, untouchable(1.0 / step), lr=untouchable(0.5))
    with pytest.raises(AssertionError, match="waits"):
        recorder.flush()
    monkeypatch.setattr(Untouchable, "guarded", False)
    recorder.append(256, untouchable(0.25), lr=untouchable(0.5))
    recorder.flush()
    assert recorder.builder.curve().lr == pytest.approx(0.5)


def test_one_transfer_per_flush() -> None:
    with device() as there:
        recorder = CurveRecorder(buffer=100)
        for step in range(1, 1001):
            recorder.append(step, far(1.0), lr=far(0.1))
        assert recorder.flushes == 10
        assert there.copies == [200] * 10


def test_graphs_are_let_go() -> None:
    recorder = CurveRecorder()
    weight = torch.ones(3, requires_grad=True)
    recorder.append(1, (weight * 2).sum())
    assert not recorder._losses[0].requires_grad  # type: ignore[union-attr]
    assert recorder.curve().L.tolist() == [6.0]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32, torch.float64])
def test_dtypes(dtype: torch.dtype) -> None:
    recorder = CurveRecorder()
    for step in range(1, 5):
        recorder.append(step, torch.tensor(1.0 / step, dtype=dtype))
    assert recorder.curve().L.tolist() == [torch.tensor(1.0 / s, dtype=dtype).double().item() for s in range(1, 5)]


def test_mixed_kinds_of_losses() -> None:
    recorder = CurveRecorder()
    losses: list[Any] = [torch.tensor(4.0), 3.0, torch.tensor([2.0]), torch.tensor([1.0, 2.0]), torch.tensor(7), None]
    for step, loss in enumerate(losses, start=1):
        recorder.append(step, loss, lr=torch.tensor(0.1) if step % 2 else None)
    curve = recorder.curve()
    assert curve.L.tolist() == [4.0, 3.0, 2.0, 1.5, 7.0]
    assert curve.S.tolist() == [1, 2, 3, 4, 5]
    assert recorder.lr == pytest.approx(0.1)


def test_non_finite_losses_are_counted() -> None:
    recorder = CurveRecorder()
    for step, loss in enumerate([2.0, math.nan, math.inf, 1.0, math.nan], start=1):
        recorder.append(step, torch.tensor(loss))
    curve = recorder.curve()
    assert (len(curve), curve.step, curve.n_nonfinite) == (2, 5, 1)
    assert recorder.latest == 1.5
    assert recorder.latest_error == pytest.approx(0.5)


def test_memory_is_bounded() -> None:
    recorder = CurveRecorder(buffer=64)

    def held() -> int:
        return sum(sys.getsizeof(x) for x in recorder.builder._columns.values()) + len(recorder._losses)

    loss = torch.tensor(1.0)
    for step in range(1, 100_001):
        recorder.append(step, loss)
        assert len(recorder._losses) <= 64
        if step == 10_000:
            early = held()
    gc.collect()
    assert len(recorder.builder) < 460
    assert held() < 2 * early


def test_state_is_plain_and_goes_on_to_the_bit() -> None:
    whole, first = CurveRecorder(), CurveRecorder()
    for step in range(1, 1001):
        whole.append(step, torch.tensor(3.0 / step), lr=0.1)
        if step <= 613:
            first.append(step, torch.tensor(3.0 / step), lr=0.1)
    file = io.BytesIO()
    torch.save(first.state_dict(), file)
    file.seek(0)
    second = CurveRecorder()
    second.load_state_dict(torch.load(file, weights_only=True))
    for step in range(614, 1001):
        second.append(step, torch.tensor(3.0 / step), lr=0.1)
    assert second.state_dict() == whole.state_dict()
    with pytest.raises(ValueError, match="version"):
        second.load_state_dict({"version": 7})


def test_arguments() -> None:
    for wrong in ({"buffer": 0}, {"buffer": 100_000}, {"note_size": -1}, {"across_ranks": True}):
        with pytest.raises(ValueError, match="Expected"):
            CurveRecorder(**wrong)  # type: ignore[arg-type]


def test_discard_forgets_what_was_not_fetched() -> None:
    recorder = CurveRecorder()
    recorder.append(1, 2.0)
    recorder.discard()
    assert len(recorder.curve()) == 0


def test_a_step_that_does_not_go_on_is_refused_at_once_and_nothing_is_lost() -> None:
    recorder = CurveRecorder()
    with pytest.raises(ValueError, match=r"after 0, got step=0\. Count optimizer steps from 1"):
        recorder.append(0, 1.0)
    for step in (1, 2, 3):
        recorder.append(step, 1.0)
    with pytest.raises(ValueError, match="after 3, got step=3"):
        recorder.append(3, 1.0)
    assert len(recorder.curve()) == 3


def recorded(recorder: CurveRecorder, steps: range) -> None:
    for step in steps:
        recorder.append(step, far(5.0 / step), lr=far(0.1) if step % 2 else 0.1)


def test_a_flush_sends_one_copy_off_and_the_next_takes_it_in() -> None:
    recorder = CurveRecorder(buffer=100)
    with device() as there:
        recorded(recorder, range(1, 100))
        assert (there.copies, recorder.sent) == ([], None)
        recorded(recorder, range(100, 151))
        assert (there.copies, recorder.sent, recorder.step) == ([150], 100, 0)
        there.catch_up()
        recorded(recorder, range(151, 200))
        assert recorder.step == 0  # it has come, and still the step at which it is taken in is the same
        recorded(recorder, range(200, 201))
        assert (there.copies, recorder.sent, recorder.step) == ([150, 150], 200, 100)
        assert (there.waits, recorder.waits) == (0, 0)
        recorder.land()
        assert (recorder.sent, recorder.step) == (None, 200)
        assert (there.waits, recorder.waits) == (1, 1)
    near = CurveRecorder(buffer=100)
    for step in range(1, 201):
        near.append(step, torch.tensor(5.0 / step), lr=torch.tensor(0.1) if step % 2 else 0.1)
    assert recorder.builder.state_dict() == near.builder.state_dict()
    assert (recorder.lr, recorder.latest, recorder.latest_error) == (near.lr, near.latest, near.latest_error)


def test_whoever_asks_for_the_curve_or_the_state_gets_all_and_changes_nothing() -> None:
    asked, left = CurveRecorder(buffer=64), CurveRecorder(buffer=64)
    with device():
        for step in range(1, 301):
            for recorder in (asked, left):
                recorded(recorder, range(step, step + 1))
            if step % 7 == 0:
                assert asked.curve().step == step
                assert asked.state_dict()["builder"]["step"] == asked.step == left.step
        assert asked.step < 300
        assert asked.state_dict() == left.state_dict()
        assert asked.latest == left.latest
        left.flush()
        assert left.builder.curve().L.tolist() == asked.curve().L.tolist()


@pytest.mark.parametrize("at", [1, 63, 64, 70, 128, 200])
def test_a_recorder_that_goes_on_takes_in_what_was_sent_off_where_the_first_one_would(at: int) -> None:
    whole, first = CurveRecorder(buffer=64), CurveRecorder(buffer=64)
    with device():
        recorded(whole, range(1, at + 1))
        recorded(first, range(1, at + 1))
        file = io.BytesIO()
        torch.save(first.state_dict(), file)
        file.seek(0)
        second = CurveRecorder(buffer=64)
        second.load_state_dict(torch.load(file, weights_only=True))
        assert second.sent == whole.sent
        with pytest.raises(ValueError, match=f"after {at}, got step={at}"):
            second.append(at, 1.0)
        for step in range(at + 1, 301):
            recorded(whole, range(step, step + 1))
            recorded(second, range(step, step + 1))
            assert second.sent == whole.sent
            assert second.builder.state_dict() == whole.builder.state_dict()
            assert (second.lr, second.step) == (whole.lr, whole.step)
            assert second.latest == whole.latest or (step < 128 + at and math.isnan(second.latest))
        assert second.state_dict() == whole.state_dict()


def test_gaps_nan_and_discarding_on_a_device() -> None:
    recorder = CurveRecorder(buffer=5)
    with device():
        for step, loss in enumerate([2.0, math.nan, None, math.inf, 1.0, None, 3.0], start=1):
            recorder.append(step, far(loss))
        assert recorder.sent == 5
        curve = recorder.curve()
        assert (curve.S.tolist(), curve.step, curve.n_nonfinite) == ([1, 5, 7], 7, 0)
        recorder.discard()
        assert recorder.sent is None
        assert len(recorder.curve()) == 0
        recorder.append(1, far(2.0))
        recorder.flush()
        assert recorder.curve().L.tolist() == [2.0]


@pytest.mark.parametrize("damage", [{"sent": [[1, 2], [1.0], [None], None]}, {"collected": [[1], [], [], None]}])
def test_a_damaged_state_of_losses_under_way_is_refused(damage: dict[str, Any]) -> None:
    with device():
        recorder = CurveRecorder()
        recorder.append(1, far(2.0))
        state = recorder.state_dict()
    with pytest.raises(ValueError, match="The state is damaged"):
        CurveRecorder().load_state_dict({**state, **damage})


class Ranks:
    """A process group of one rank whose sum is twice what it gives, and which takes its time."""

    def __init__(self, patch: pytest.MonkeyPatch, there: Device) -> None:
        self.reduced = 0
        self.waited = 0
        self.there = there
        for name, value in {"is_initialized": True, "get_rank": 0}.items():
            patch.setattr(dist, name, lambda value=value: value)
        patch.setattr(dist, "all_reduce", self.all_reduce)

    def all_reduce(self, payload: Tensor, async_op: bool) -> Any:
        assert async_op
        assert isinstance(payload, Far)
        self.reduced += 1
        payload.mul_(2.0)
        return self

    def wait(self) -> None:
        self.waited += 1


def test_across_ranks_a_flush_is_one_reduction_and_asks_the_device_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    with device() as there:
        ranks = Ranks(monkeypatch, there)
        recorder = CurveRecorder(buffer=5, across_ranks=True, note_size=1, device="cuda")
        recorder.note = [0.5]
        losses: list[Any] = [far(2.0), None, 3.0, far(torch.tensor([1.0, 2.0])), torch.tensor(7.0)]
        for step, loss in enumerate(losses * 2, start=1):
            recorder.append(step, loss, lr=far(0.1 * step))
        assert (ranks.reduced, ranks.waited) == (2, 1)
        assert sorted(there.copies) == [5, 5, 11]  # the learning rates twice, and what was reduced once
        assert recorder.builder.curve().L.tolist() == [2.0, 3.0, 1.5, 7.0]
        assert recorder.heard == [1.0]
        assert recorder.lr == pytest.approx(0.5)
        assert recorder.sent is None
        recorder.flush()
        assert recorder.step == 10


def test_ranks_go_on_from_the_state_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    with device() as there:
        alone = CurveRecorder(buffer=10)
        recorded(alone, range(1, 16))
        Ranks(monkeypatch, there)
        together = CurveRecorder(across_ranks=True, device="cuda")
        together.load_state_dict(alone.state_dict())
        assert together.step == 15
        assert together.curve().L.tolist() == alone.curve().L.tolist()
