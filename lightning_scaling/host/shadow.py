"""Copies that a replay may turn and write to while the real run goes on untouched."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import nn


class ShadowOptimizer(torch.optim.Optimizer):
    """An optimizer without parameters that carries the settings of a real one for schedulers to turn."""

    def __init__(self, real: Any) -> None:  # no super().__init__(): it would want parameters
        # A wrapper of another library, such as that of DeepSpeed, need not have any.
        self.defaults = dict(getattr(real, "defaults", {}))
        self.state = {}  # type: ignore[assignment]
        self.param_groups = [
            {key: _plain(value) for key, value in group.items() if key != "params"} | {"params": []}
            for group in real.param_groups
        ]
        self._opt_called = True

        def step(closure: object = None) -> None:
            return None

        step._wrapped_by_lr_sched = True  # type: ignore[attr-defined]
        self.step = step  # type: ignore[method-assign, assignment]


def shadow_modules(root: nn.Module) -> dict[int, Any]:
    """Return id of module -> copy of it with attributes of its own, for root and all modules below it.

    A ``lr_lambda`` that is bound to a module may write to it; such a write goes to the copy. Weights are shared, not
    copied.
    """
    shadows: dict[int, Any] = {}
    for module in root.modules():
        shadow = object.__new__(type(module))
        shadow.__dict__.update(module.__dict__)
        shadows[id(module)] = shadow
    for module in root.modules():
        shadow = shadows[id(module)]
        for name in ("_parameters", "_buffers"):
            shadow.__dict__[name] = dict(module.__dict__[name])
        shadow.__dict__["_modules"] = {k: shadows.get(id(m), m) for k, m in module.__dict__["_modules"].items()}
    return shadows


@contextmanager
def random_states_kept() -> Iterator[None]:
    """Leave the random generators of torch (CPU), NumPy and Python as they were; they are the user's."""
    states = torch.get_rng_state(), np.random.get_state(), random.getstate()  # noqa: NPY002
    try:
        yield
    finally:
        torch.set_rng_state(states[0])
        np.random.set_state(states[1])  # noqa: NPY002
        random.setstate(states[2])


def _plain(value: Any) -> Any:
    return value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else copy.copy(value)
