"""Tensors that complain when their value is asked for: what waits for a device is found on any machine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


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
