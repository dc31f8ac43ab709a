"""How the small runs are trained: ten pairs of an optimizer and a schedule, as people pair them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import nn

Rate = Callable[[float], float]


def _constant(x: float) -> float:
    return 1.0


def _cosine(x: float) -> float:
    return 0.5 * (1.0 + math.cos(math.pi * x))


def _cosine_to_a_tenth(x: float) -> float:
    return 0.1 + 0.9 * _cosine(x)


def _linear(x: float) -> float:
    return 1.0 - x


def _steps(x: float) -> float:
    return 1.0 if x < 0.5 else 0.1 if x < 0.75 else 0.01


def _wsd(x: float) -> float:
    return min(1.0, (1.0 - x) / 0.2)


def _wsd_root(x: float) -> float:
    return 1.0 if x < 0.7 else 1.0 - math.sqrt((x - 0.7) / 0.3)


def _exponential(x: float) -> float:
    return math.exp(-4.0 * x)


def _one_cycle(x: float) -> float:
    return 0.04 + 0.96 * (0.5 * (1.0 - math.cos(math.pi * x / 0.3)) if x < 0.3 else _cosine((x - 0.3) / 0.7))


def _restarts(x: float) -> float:
    return _cosine(3.0 * x if x < 1.0 / 3.0 else 1.5 * (x - 1.0 / 3.0))  # a third of the run, then two


def _inverse_root(x: float) -> float:
    return (1.0 + 20.0 * x) ** -0.5


@dataclass(frozen=True)
class Recipe:
    """One way to train.

    Args:
        name: Name, by which its runs are called.
        schedule: Name of the schedule, as the curves' index has it.
        rate: Learning rate, in parts of its peak, by the share of the steps after the warm-up.
        warm_up: Share of the run with a rising rate.
        optimizer: ``adamw``, ``adam``, ``sgd``, ``rmsprop``, ``adagrad`` or ``muon``.
        times: Peak learning rate, as a multiple of the task's for this optimizer.
    """

    name: str
    schedule: str
    rate: Rate
    warm_up: float
    optimizer: str
    times: float = 1.0

    def relative_rate(self, step: int, steps: int) -> float:
        """Return the learning rate of a step (counted from 1), in parts of its peak."""
        warm_up = self.warm_up * steps
        if step <= warm_up:
            return step / warm_up
        return max(self.rate(min((step - warm_up) / (steps - warm_up), 1.0)), 0.0)


RECIPES: Mapping[str, Recipe] = {
    recipe.name: recipe
    for recipe in (
        Recipe("adamw-cosine", "cosine", _cosine, 0.05, "adamw"),
        Recipe("adamw-constant", "constant", _constant, 0.02, "adamw", 0.6),
        Recipe("sgd-steps", "step", _steps, 0.0, "sgd"),
        Recipe("adamw-wsd", "wsd", _wsd, 0.02, "adamw"),
        Recipe("muon-wsd", "wsd", _wsd_root, 0.0, "muon"),
        Recipe("adam-linear", "linear", _linear, 0.1, "adam"),
        Recipe("rmsprop-exponential", "exponential", _exponential, 0.0, "rmsprop"),
        Recipe("sgd-one-cycle", "one cycle", _one_cycle, 0.0, "sgd", 2.0),
        Recipe("adam-restarts", "restarts", _restarts, 0.0, "adam"),
        Recipe("adagrad-inverse-root", "inverse root", _inverse_root, 0.03, "adagrad"),
        Recipe("sgd-cosine", "cosine to a tenth", _cosine_to_a_tenth, 0.03, "sgd"),
        Recipe("adam-constant", "constant", _constant, 0.0, "adam", 0.3),
    )
}

#: Peak learning rates of the optimizers, for a task whose own factor is 1.
_RATES = {"adamw": 3e-3, "adam": 3e-3, "sgd": 0.1, "rmsprop": 1e-3, "adagrad": 0.03, "muon": 0.01}


def optimizers_of(recipe: Recipe, model: nn.Module, factor: float) -> list[torch.optim.Optimizer]:
    """Return the optimizers of a recipe: two for Muon, which is for matrices only and leaves the rest to AdamW."""
    weights = [p for p in model.parameters() if p.requires_grad]
    lr = factor * recipe.times * _RATES[recipe.optimizer]
    if recipe.optimizer == "adamw":
        return [torch.optim.AdamW(weights, lr=lr, betas=(0.9, 0.95), weight_decay=0.1)]
    if recipe.optimizer == "adam":
        return [torch.optim.Adam(weights, lr=lr)]
    if recipe.optimizer == "sgd":
        return [torch.optim.SGD(weights, lr=lr, momentum=0.9, nesterov=True, weight_decay=1e-4)]
    if recipe.optimizer == "rmsprop":
        return [torch.optim.RMSprop(weights, lr=lr, alpha=0.95)]
    if recipe.optimizer == "adagrad":
        return [torch.optim.Adagrad(weights, lr=lr)]
    matrices = {id(m.weight) for m in model.modules() if isinstance(m, nn.Linear)}
    rest = torch.optim.AdamW([p for p in weights if id(p) not in matrices], lr=factor * _RATES["adamw"])
    return [torch.optim.Muon([p for p in weights if id(p) in matrices], lr=lr), rest]
