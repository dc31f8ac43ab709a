"""Advice: stop rules as pure functions of a Forecast. No Trainer, no clock."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from numbers import Real
from typing import Any

from lightning_scaling.forecast import Forecast
from lightning_scaling.judge import REJECTED
from lightning_scaling.verdict import Verdict

__all__ = ["Action", "Advice", "Converged", "Diverged", "Reason", "StopRule", "TargetUnreachable", "advise"]


#: A flat loss is left alone up to this share of the run: many runs fall again after a plateau.
_PATIENCE = 0.5


#: Share of the planned fall of the learning rate from which the run itself shows what it brings; before it a decay may
#: bring this many times what is forecast, and this share of a positive loss.
_DECAY_SHOWN, _DECAY_TIMES, _DECAY_SHARE = 0.5, 4.0, 0.2


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
    STILL_FALLING = "still falling"
    TARGET_IN_REACH = "target in reach"
    TARGET_REACHED = "target reached"
    TARGET_UNREACHABLE = "target unreachable"
    GAIN_WORTH_IT = "gain worth it"
    CONVERGED = "converged"
    ON_COURSE = "on course"
    DIVERGED = "diverged"


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


def _check_probability(confidence: float) -> None:
    if not 0.5 <= confidence < 1.0:
        raise ValueError(
            f"Expected confidence from 0.5 to below 1, got {confidence!r}. For stops that are right 19 times in 20 "
            "give 0.95."
        )


def _check_number(name: str, value: Any, *, lowest: float = -math.inf, unit: str = "the unit of the loss") -> None:
    if isinstance(value, bool) or not isinstance(value, Real):  # LightningCLI and users hand over anything
        raise TypeError(f"Expected {name} to be a number, got {value!r}. Give it in {unit}.")
    if not math.isfinite(value) or value < lowest:
        bound = "" if lowest == -math.inf else f" >= {lowest:g}"
        raise ValueError(f"Expected {name} to be a finite number{bound}, got {value!r}. Give it in {unit}.")


@dataclass(frozen=True)
class TargetUnreachable(StopRule):
    """Stop when the run will not end at or below a target loss, with a stated confidence.

    The forecast counts in the learning-rate decay that is still scheduled. Before half of it has happened the run does
    not show what it brings, so the rule allows for far more than is forecast.

    Args:
        loss: The target: the largest loss worth ending at [unit of the loss].
        confidence: Stop only if P(final loss > target) is at least this [1].

    Raises:
        ValueError: If the target is not finite or the confidence is not in [0.5, 1).

    Example:
        >>> TargetUnreachable(loss=1.9).confidence
        0.95
    """

    loss: float
    confidence: float = 0.95

    def __post_init__(self) -> None:
        _check_number("loss", self.loss)
        _check_probability(self.confidence)

    def judge(self, forecast: Forecast) -> Advice:
        """Return STOP where P(final loss <= target) is below 1 - confidence."""
        early = _not_usable(forecast)
        if early is not None:
            return early
        probability = forecast.probability_below(self.loss)
        evidence = _evidence(forecast) | {"target": self.loss, "probability": probability}
        if forecast.present_loss.high <= self.loss:
            text = f"target {self.loss:g} is reached: go on."
            return _advice(forecast, Action.CONTINUE, Reason.TARGET_REACHED, text, evidence)
        at_best = forecast.probability_below(self.loss + _more_by_decay(forecast))
        reasons = Reason.TARGET_UNREACHABLE, Reason.TARGET_IN_REACH
        return _decide(forecast, f"target {self.loss:g}", at_best, self.confidence, reasons, evidence)


@dataclass(frozen=True)
class Converged(StopRule):
    """Stop when what is still to be gained up to the planned end is less than it is worth.

    Args:
        min_gain: The smallest fall of the loss worth training on for [unit of the loss].
        confidence: Stop only if P(gain < min_gain) is at least this [1].

    Raises:
        ValueError: If the gain is not a finite number >= 0 or the confidence is not in [0.5, 1).
    """

    min_gain: float
    confidence: float = 0.95

    def __post_init__(self) -> None:
        _check_number("min_gain", self.min_gain, lowest=0.0)
        _check_probability(self.confidence)

    def judge(self, forecast: Forecast) -> Advice:
        """Return STOP where P(remaining gain > min_gain) is below 1 - confidence."""
        early = _not_usable(forecast)
        if early is not None:
            return early
        probability = forecast.probability_gain_above(self.min_gain)
        evidence = _evidence(forecast) | {"min_gain": self.min_gain, "probability": probability}
        at_best = forecast.probability_gain_above(self.min_gain - _more_by_decay(forecast))
        reasons = Reason.CONVERGED, Reason.GAIN_WORTH_IT
        return _decide(forecast, f"a gain above {self.min_gain:g}", at_best, self.confidence, reasons, evidence)


@dataclass(frozen=True)
class Diverged(StopRule):
    """Stop when the loss is NaN or infinite for good, or has left its own forecast upwards and stays there.

    Args:
        sigma: Sigmas above the run's own earlier forecast that count as broken [1].

    Raises:
        ValueError: If sigma is below 2: noise alone would stop the run.
    """

    sigma: float = 6.0

    def __post_init__(self) -> None:
        _check_number("sigma", self.sigma, lowest=2.0, unit="sigmas, 6 for example")

    def judge(self, forecast: Forecast) -> Advice:
        """Return STOP where the newest losses are not finite, or departed by ``sigma``."""
        evidence = _evidence(forecast) | {"departure": forecast.departure, "n_nonfinite": float(forecast.n_nonfinite)}
        if forecast.verdict is Verdict.DIVERGED:
            text = f"the last {forecast.n_nonfinite} losses are NaN or infinite: stop."
            return _advice(forecast, Action.STOP, Reason.DIVERGED, text, evidence)
        if forecast.verdict is Verdict.TOO_EARLY or math.isnan(forecast.departure):
            return _wait(forecast)
        text = _departed(forecast)
        if forecast.departure >= self.sigma:
            return _advice(forecast, Action.STOP, Reason.DIVERGED, f"{text}: stop.", evidence)
        return _advice(forecast, Action.CONTINUE, Reason.ON_COURSE, f"{text}: go on.", evidence)


def advise(forecast: Forecast, rules: Sequence[StopRule] = ()) -> Advice:
    """Ask every rule; any STOP wins, then any CONTINUE, in the order of the rules.

    Args:
        forecast: The forecast to judge.
        rules: Stop rules; without any, the advice is to go on, with what that should bring.

    Returns:
        One advice.
    """
    opinions = [rule.judge(forecast) for rule in rules]
    for action in (Action.STOP, Action.CONTINUE, Action.WAIT):
        for opinion in opinions:
            if opinion.action is action:
                return opinion
    early = _not_usable(forecast)
    if early is not None:
        return early
    text = f"the loss still falls by {forecast.remaining_gain.short()}."
    return _advice(forecast, Action.CONTINUE, Reason.STILL_FALLING, text, _evidence(forecast))


def _not_usable(forecast: Forecast) -> Advice | None:
    """Return the advice of every rule where there is no forecast of the final loss to judge, else None."""
    if not forecast.verdict.usable or math.isnan(float(forecast.final_loss.mid)):
        return _wait(forecast)
    if forecast.verdict is Verdict.BORROWED:
        return _advice(
            forecast, Action.WAIT, Reason.BORROWED, "other runs say so, this one does not yet.", _evidence(forecast)
        )
    if forecast.verdict is Verdict.RISING:
        text = f"the loss rises since step {forecast.rises_since:,}; its lowest lies behind.".replace(",", " ")
        return Advice(Action.WAIT, Reason.RISING, f"{_where(forecast)}: {text}", _evidence(forecast))
    if forecast.verdict is Verdict.ACCELERATING:
        text = "the loss falls faster and faster, which no power law does: no rule acts on this."
        return Advice(Action.WAIT, Reason.ACCELERATING, f"{_where(forecast)}: {text}", _evidence(forecast))
    # Whatever else the verdict tells of: a law that has just failed is no ground to act on.
    if forecast.verdict is Verdict.LAW_REJECTED or abs(forecast.departure) > REJECTED:
        text = f"{_departed(forecast)}, which no law of steps explains: no rule acts on this."
        return Advice(Action.WAIT, Reason.LAW_REJECTED, f"{_where(forecast)}: {text}", _evidence(forecast))
    if forecast.verdict is Verdict.FLAT and forecast.horizon and forecast.step < _PATIENCE * forecast.horizon:
        text = f"the loss is flat at {forecast.present_loss}; a fall may follow, so no rule acts on this yet."
        return Advice(Action.WAIT, Reason.FLAT, f"{_where(forecast)}: {text}", _evidence(forecast))
    return None


def _departed(forecast: Forecast) -> str:
    return f"the newest losses lie {forecast.departure:+.1f} sigma off what the run itself forecast earlier"


def _more_by_decay(forecast: Forecast) -> float:
    """Return by how much more than forecast a decay of the learning rate may bring, where the run has not shown it yet.

    Before half of the planned fall of the rate has happened, what it brings is known from other runs only, and recipes
    differ: a rule must hold even if it brings four times what is forecast, and 20 % of a positive loss.
    """
    if forecast.decay_done >= _DECAY_SHOWN:
        return 0.0
    share = _DECAY_SHARE * max(float(forecast.present_loss.mid), 0.0)
    return max(_DECAY_TIMES * forecast.decay_to_come, share) - forecast.decay_to_come


def _decide(
    forecast: Forecast,
    hope: str,
    at_best: float,
    confidence: float,
    reasons: tuple[Reason, Reason],
    evidence: dict[str, float],
) -> Advice:
    """Stop where what is hoped for is less probable than 1 - confidence, even with the best of decays; else go on."""
    chance = f"{hope} has probability {_percent(evidence['probability'])}"
    if at_best <= 1.0 - confidence:
        return _advice(forecast, Action.STOP, reasons[0], f"{chance}: stop.", evidence)
    if evidence["probability"] <= 1.0 - confidence:
        text = f"{chance}, but the decay of the learning rate may bring more than usual: go on."
        return _advice(forecast, Action.CONTINUE, Reason.DECAY_AHEAD, text, evidence)
    return _advice(forecast, Action.CONTINUE, reasons[1], f"{chance}: go on.", evidence)


def _wait(forecast: Forecast) -> Advice:
    text = f"no forecast of the final loss. {forecast.verdict.why} {forecast.verdict.what_to_do}"
    if forecast.verdict is Verdict.DIVERGED:
        text = f"the last {forecast.n_nonfinite} losses are NaN or infinite. {forecast.verdict.what_to_do}"
    if forecast.verdict is Verdict.NO_HORIZON:
        text += f" Converged loss: {forecast.converged_loss}."
    return Advice(Action.WAIT, Reason.NO_FORECAST, f"{_where(forecast)}: {text}", _evidence(forecast))


def _advice(forecast: Forecast, action: Action, reason: Reason, text: str, evidence: dict[str, float]) -> Advice:
    landing = ""
    if forecast.verdict.usable and not math.isnan(float(forecast.final_loss.mid)):
        held = "" if forecast.schedule_known else " if the learning rate stays as it is"
        landing = f"the run should end at {forecast.final_loss}{held}; "
    return Advice(action, reason, f"{_where(forecast)}: {landing}{text}", evidence)


def _where(forecast: Forecast) -> str:
    of = "" if forecast.horizon is None else f" of {forecast.horizon:,}"
    return f"Step {forecast.step:,}{of}".replace(",", " ")


def _evidence(forecast: Forecast) -> dict[str, float]:
    final = forecast.final_loss
    return {
        "step": float(forecast.step),
        "horizon": float("nan") if forecast.horizon is None else float(forecast.horizon),
        "final_loss_low": float(final.low),
        "final_loss": float(final.mid),
        "final_loss_high": float(final.high),
        "level": forecast.level,
    }


def _percent(probability: float) -> str:
    """Return a probability in words that do not claim more than a forecast can: never 0 or 100 %."""
    if probability < 0.001:
        return "below 0.1 %"
    if probability > 0.999:
        return "above 99.9 %"
    return f"{100.0 * probability:.1f} %" if probability < 0.1 or probability > 0.9 else f"{100.0 * probability:.0f} %"
