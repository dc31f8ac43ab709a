"""What advice is made of: an action, a reason, and the rule that gives them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from enum import Enum
from numbers import Real
from typing import Any

from lightning_scaling.forecast import Forecast

__all__ = ["Action", "Advice", "Reason", "StopRule", "check_number", "check_probability"]


class Action(Enum):
    """What to do now."""

    WAIT = "wait"
    CONTINUE = "continue"
    STOP = "stop"


class Reason(Enum):
    """Why. The value is what logs and checkpoints hold."""

    NO_FORECAST = "no forecast yet"
    LAW_REJECTED = "law rejected"
    ACCELERATING = "accelerating"
    FLAT = "flat"
    RISING = "rising"
    BORROWED = "borrowed"
    DECAY_AHEAD = "decay ahead"
    EARLY = "early in the run"
    STILL_FALLING = "still falling"
    TARGET_IN_REACH = "target in reach"
    TARGET_REACHED = "target reached"
    TARGET_UNREACHABLE = "target unreachable"
    GAIN_WORTH_IT = "gain worth it"
    CONVERGED = "converged"
    ON_COURSE = "on course"
    DIVERGED = "diverged"
    COMPUTE_EFFICIENT = "compute efficient"
    NOT_IDENTIFIED = "converged loss not identified"
    NOT_APPLICABLE = "not applicable"
    OVERFITTING = "overfitting"
    DATA_SPENT = "data spent"


@dataclass(frozen=True)
class Advice:
    """What to do, why, and the numbers it rests on.

    Args:
        action: What to do now.
        reason: Why, for a program.
        sentence: Why, for a person.
        evidence: The numbers that it rests on; losses in the unit of the curve.
    """

    action: Action
    reason: Reason
    sentence: str
    evidence: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        """Return the sentence."""
        return self.sentence


class StopRule(ABC):
    """A rule that may end a run: judges a forecast, holds no state."""

    @abstractmethod
    def judge(self, forecast: Forecast) -> Advice:
        """Return what the rule makes of a forecast."""


def check_probability(confidence: float) -> None:
    """Raise unless a confidence is a probability from 0.5 to below 1."""
    if not 0.5 <= confidence < 1.0:
        raise ValueError(
            f"Expected confidence from 0.5 to below 1, got {confidence!r}. For stops that are right 19 times in 20 "
            "give 0.95."
        )


def check_number(name: str, value: Any, *, lowest: float = -math.inf, unit: str = "the unit of the loss") -> None:
    """Raise unless an argument of a rule is one finite number, not below a bound."""
    if isinstance(value, bool) or not isinstance(value, Real):  # LightningCLI and users hand over anything
        raise TypeError(f"Expected {name} to be a number, got {value!r}. Give it in {unit}.")
    if not math.isfinite(value) or value < lowest:
        bound = "" if lowest == -math.inf else f" >= {lowest:g}"
        raise ValueError(f"Expected {name} to be a finite number{bound}, got {value!r}. Give it in {unit}.")
