"""CurveRecorder: no waiting while recording, nothing lost, nothing that grows."""

from __future__ import annotations

import gc
import io
import math
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_scaling import CurveBuilder, CurveRecorder


class Untouchable(Tensor):
    """A tensor that complains when its value is asked for."""

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if Untouchable.guarded and getattr(func, "__name__", "") in {
            "item", "cpu", "numpy", "tolist", "__float__", "__bool__", "__int__", "__array__", "to",
        }:  # fmt: skip
            raise AssertionError(f"{func.__name__} waits for the device")
        return super().__torch_function__(func, types, args, kwargs or {})

    guarded = True


def untouchable(value: float) -> Tensor:
    return torch.tensor(value).as_subclass(Untouchable)


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


def test_one_transfer_per_flush(monkeypatch: pytest.MonkeyPatch) -> None:
    transfers = []
    original = Tensor.tolist
    monkeypatch.setattr(Tensor, "tolist", lambda self: transfers.append(1) or original(self))
    recorder = CurveRecorder(buffer=100)
    for step in range(1, 1001):
        recorder.append(step, torch.tensor(1.0), lr=torch.tensor(0.1))
    assert len(transfers) == recorder.flushes == 10


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
