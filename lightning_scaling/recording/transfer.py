"""Numbers on their way from a device to the host, while the device goes on with what it has to do."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

__all__ = ["Fetch", "Transfer", "aside", "stack", "upload"]

#: Fewest numbers of page-locked memory that are asked for: blocks of one size are used again and again.
_ROOM = 512


class Transfer:
    """A vector on its way to the host from the moment on that this is made; `values` waits until it is there.

    A device with a queue of its own copies it into page-locked memory once it has done what is in the queue, and an
    event behind the copy tells that it has; a wait for the event waits for nothing that was queued later. In the host's
    own memory a vector is there at once. From a device without queue or events it is fetched when it is asked for.

    Args:
        vector: What is to be brought, shape (n,).
    """

    def __init__(self, vector: Tensor) -> None:
        self._vector = self._there = vector
        self._event: Any = None
        device, queues = vector.device, _queues(vector.device)
        if queues is not None:
            self._there = _page_locked(len(vector), vector.dtype)
            self._there.copy_(vector, non_blocking=True)
            self._event = queues.Event()
            self._event.record(queues.current_stream(device))

    def is_done(self) -> bool:
        """Return whether `values` would wait for nothing."""
        return self._vector.device.type == "cpu" if self._event is None else bool(self._event.query())

    def values(self) -> list[float]:
        """Return the numbers, after a wait where they are not there yet."""
        if self._event is not None:
            self._event.synchronize()
        values: list[float] = self._there.tolist()
        return values


class Fetch:
    """Numbers of which some lie on devices, on their way to the host: one stacked transfer for each device.

    Args:
        numbers: Tensors, which count with the mean of their elements, numbers, and None, which stays None.

    Attributes:
        is_remote: Whether some lay on a device, so that whoever asks at once waits for it.

    Example:
        >>> Fetch([torch.tensor(2.0), 0.5, None, torch.tensor([1.0, 2.0])]).numbers()
        [2.0, 0.5, None, 1.5]
    """

    def __init__(self, numbers: Sequence[Tensor | float | None]) -> None:
        self._numbers: list[float | None] = []
        far: dict[torch.device, list[int]] = {}
        for i, x in enumerate(numbers):
            if not isinstance(x, Tensor):
                self._numbers.append(None if x is None else float(x))
            elif x.is_cpu:
                self._numbers.append(_number(x))
            else:
                far.setdefault(x.device, []).append(i)
                self._numbers.append(None)
        self.is_remote = bool(far)
        tensors: list[Any] = list(numbers)
        self._transfers = [(where, Transfer(stack([tensors[i] for i in where]))) for where in far.values()]

    def is_done(self) -> bool:
        """Return whether `numbers` would wait for nothing."""
        return all(transfer.is_done() for _, transfer in self._transfers)

    def numbers(self) -> list[float | None]:
        """Return them all in the order in which they were given, after a wait where some are not there yet."""
        for where, transfer in self._transfers:
            for i, value in zip(where, transfer.values(), strict=True):
                self._numbers[i] = value
        self._transfers = []
        return self._numbers


def _number(tensor: Tensor) -> float:
    """Return the mean of a tensor in the host's memory; asking for each is quicker than stacking them."""
    return float(tensor.item() if tensor.numel() == 1 else tensor.detach().to(dtype=torch.float64).mean())


def stack(tensors: Sequence[Tensor]) -> Tensor:
    """Return the means of tensors of one device as one vector on it, in float64 where it has that."""
    wide = torch.float32 if tensors[0].device.type == "mps" else torch.float64
    try:
        stacked = torch.stack(list(tensors)).to(dtype=wide)
    except RuntimeError:  # of different shapes
        return torch.stack([x.detach().to(dtype=wide).mean() for x in tensors])
    return stacked if stacked.dim() == 1 else stacked.flatten(1).mean(1)


def upload(values: Sequence[float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return numbers of the host as a vector on a device, without waiting for it."""
    if device.type == "cpu":
        return torch.tensor(values, dtype=dtype)
    there = _page_locked(len(values), dtype)
    there.copy_(torch.tensor(values, dtype=dtype))
    return there.to(device, non_blocking=True)


def aside(device: torch.device) -> AbstractContextManager[Any]:
    """Return a context in which a device works in a queue beside the one in use, and waits only for what it is told."""
    queues = _queues(device)
    return nullcontext() if queues is None else queues.stream(queues.Stream(device))


def _queues(device: torch.device) -> Any:
    """Return the module of torch that knows the queues and events of a device, None where there are none to wait for.

    CUDA and ROCm have them, and XPU; MPS has events, but only one queue.
    """
    module = None if device.type == "cpu" else getattr(torch, device.type, None)
    return module if hasattr(module, "Event") and hasattr(module, "current_stream") else None


def _page_locked(n: int, dtype: torch.dtype) -> Tensor:
    """Return memory that a device reads and writes by itself; ordinary memory where there is no other."""
    try:
        return torch.empty(max(n, _ROOM), dtype=dtype, pin_memory=True)[:n]
    except (
        RuntimeError
    ):  # older torch has it for CUDA only; a copy then keeps the host waiting, and is right all the same
        return torch.empty(n, dtype=dtype)
