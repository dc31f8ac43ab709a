"""A device that is not there: tensors that nobody may ask for their values, and copies that take their time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_scaling.gradients import samples
from lightning_scaling.recording import loads, transfer

ASKS = {
    "item", "cpu", "numpy", "tolist", "__float__", "__int__", "__bool__", "__index__", "__array__", "is_nonzero",
    "nonzero", "equal", "__repr__", "__format__",
}  # fmt: skip


class Far(Tensor):
    """A tensor that says that it is on ``cuda``; its values reach the host by copies of a `Device` alone."""

    index = 0
    home: Device | None = None

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return torch.device("cuda", self.index)

    @property
    def is_cpu(self) -> bool:  # type: ignore[override]
        return False

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name, kwargs = getattr(func, "__name__", ""), kwargs or {}
        if name in ASKS or (name == "to" and "cpu" in map(str, (*args[1:], kwargs.get("device")))):
            raise AssertionError(f"{name} waits for the device")
        if name == "to":
            kwargs.pop("device", None)
            args = (args[0], *(x for x in args[1:] if not isinstance(x, torch.device)))
        if name == "copy_" and not isinstance(args[0], Far):
            assert kwargs == {"non_blocking": True}
            assert Far.home is not None
            return Far.home.send(*args)
        found = super().__torch_function__(func, types, args, kwargs)
        if isinstance(found, Far):
            places = {x.index for x in _tensors(args) if isinstance(x, Far)}
            assert len(places) == 1, f"{name} of tensors of several devices"
            (found.index,) = places
        return found


def far(value: Any, index: int = 0) -> Any:
    """Return a tensor on the device, or what it is that is no number."""
    if value is None or isinstance(value, Far):
        return value
    there = torch.as_tensor(value).detach().as_subclass(Far)
    there.index = index
    return there


class Device:
    """Stands in for ``torch.cuda``: copies arrive when somebody waits for the event behind them, or when `catch_up`.

    Args:
        fast: Whether they arrive before anybody can wait.

    Attributes:
        copies: Sizes of the copies to the host.
        waits: How often an event was waited for that had not come.
    """

    def __init__(self, *, fast: bool = False) -> None:
        self.fast = fast
        self.copies: list[int] = []
        self.waits = 0
        self._queue: list[tuple[Tensor, Tensor]] = []

    def send(self, there: Tensor, source: Tensor) -> Tensor:
        there.fill_(-1e9)  # what is in that memory before the copy has come
        self.copies.append(source.numel())
        self._queue.append((there, source.as_subclass(Tensor).clone()))
        return there

    def catch_up(self) -> None:
        for there, source in self._queue:
            there.copy_(source)
        self._queue = []

    def Event(self) -> Any:
        return _Event(self)

    def Stream(self, device: torch.device) -> object:
        return object()

    def stream(self, stream: object) -> Any:
        return nullcontext()

    def current_stream(self, device: torch.device) -> str:
        assert device.type == "cuda"
        return f"the queue of {device}"


class _Event:
    def __init__(self, device: Device) -> None:
        self.device = device
        self.behind: list[tuple[Tensor, Tensor]] | None = None

    def record(self, stream: str) -> None:
        assert stream.startswith("the queue")
        self.behind = list(self.device._queue)
        if self.device.fast:
            self.device.catch_up()

    def query(self) -> bool:
        assert self.behind is not None
        return not any(waiting is sent for waiting in self.device._queue for sent in self.behind)

    def synchronize(self) -> None:
        if not self.query():
            self.device.waits += 1
            self.device.catch_up()


@contextmanager
def device(*, fast: bool = False) -> Iterator[Device]:
    """Have a device."""
    there = Device(fast=fast)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Far, "home", there)
        patch.setattr(transfer, "_queues", lambda device: there if device.type == "cuda" else None)
        near = transfer.upload

        def upload(values: Sequence[float], dtype: torch.dtype, to: torch.device) -> Tensor:
            brought = near(values, dtype, torch.device("cpu"))
            return far(brought, to.index or 0) if to.type == "cuda" else brought

        for module in (loads, samples):
            patch.setattr(module, "upload", upload)
        yield there


def _tensors(args: Any) -> Iterator[Any]:
    for x in args:
        if isinstance(x, Sequence) and not isinstance(x, str):
            yield from _tensors(x)
        elif isinstance(x, Tensor):
            yield x
