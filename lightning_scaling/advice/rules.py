"""The rules that any run may have: a target, a smallest gain, and a loss that has left its law."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning_scaling.advice.base import Action, Advice, Reason, StopRule, check_number, check_probability
from lightning_scaling.advice.words import advice_on, departed, evidence_of, not_usable, percent, wait
from lightning_scaling.forecast import Forecast
from lightning_scaling.verdict import Verdict

__all__ = ["DECAY_SHOWN", "EARLIEST", "Converged", "Diverged", "TargetUnreachable"]

#: Share of the planned fall of the learning rate from which the run itself shows what it brings; before it a decay may
#: bring this many times what is forecast, and this share of a positive loss.
DECAY_SHOWN, _DECAY_TIMES, _DECAY_SHARE = 0.5, 4.0, 0.2
#: The same where nothing bounds the loss: there the last of the rate may hold up much of what is left.
_UNBOUNDED_SHOWN = 0.9
#: Share of the planned run before which no forecast is ground for a stop: a curve may not have found its law yet.
EARLIEST = 0.2


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
        check_number("loss", self.loss)
        check_probability(self.confidence)

    def judge(self, forecast: Forecast) -> Advice:
        """Return STOP where P(final loss <= target) is below 1 - confidence."""
        early = not_usable(forecast)
        if early is not None:
            return early
        probability = forecast.probability_below(self.loss)
        evidence = evidence_of(forecast) | {"target": self.loss, "probability": probability}
        if forecast.present_loss.high <= self.loss:
            text = f"target {self.loss:g} is reached: go on."
            return advice_on(forecast, Action.CONTINUE, Reason.TARGET_REACHED, text, evidence)
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
        check_number("min_gain", self.min_gain, lowest=0.0)
        check_probability(self.confidence)

    def judge(self, forecast: Forecast) -> Advice:
        """Return STOP where P(remaining gain > min_gain) is below 1 - confidence."""
        early = not_usable(forecast)
        if early is not None:
            return early
        probability = forecast.probability_gain_above(self.min_gain)
        evidence = evidence_of(forecast) | {"min_gain": self.min_gain, "probability": probability}
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
        check_number("sigma", self.sigma, lowest=2.0, unit="sigmas, 6 for example")

    def judge(self, forecast: Forecast) -> Advice:
        """Return STOP where the newest losses are not finite, or departed by ``sigma``."""
        evidence = evidence_of(forecast) | {"departure": forecast.departure, "n_nonfinite": float(forecast.n_nonfinite)}
        if forecast.verdict is Verdict.DIVERGED:
            text = f"the last {forecast.n_nonfinite} losses are NaN or infinite: stop."
            return advice_on(forecast, Action.STOP, Reason.DIVERGED, text, evidence)
        if forecast.verdict in (Verdict.TOO_EARLY, Verdict.NOT_BEGUN) or math.isnan(forecast.departure):
            return wait(forecast)
        text = departed(forecast)
        if forecast.departure >= self.sigma:
            return advice_on(forecast, Action.STOP, Reason.DIVERGED, f"{text}: stop.", evidence)
        return advice_on(forecast, Action.CONTINUE, Reason.ON_COURSE, f"{text}: go on.", evidence)


def _more_by_decay(forecast: Forecast) -> float:
    """Return by how much more than forecast a decay of the learning rate may bring, where the run has not shown it yet.

    Before half of the planned fall of the rate has happened, what it brings is known from other runs only, and recipes
    differ: a rule must hold even if it brings four times what is forecast, and 20 % of a positive loss. Where the rate
    falls in steps, a positive loss may fall with it in proportion; and so may one that nothing bounds, up to the end.
    """
    unshown = forecast.decay_done < DECAY_SHOWN or forecast.decay_sudden > 0.0
    unbounded = forecast.decay_unbounded if forecast.decay_done < _UNBOUNDED_SHOWN else 0.0
    if not unshown and not unbounded:
        return 0.0
    times, least = (_DECAY_TIMES, _DECAY_SHARE) if unshown else (1.0, 0.0)
    share = max(least, forecast.decay_sudden, unbounded) * max(float(forecast.present_loss.mid), 0.0)
    return max(times * forecast.decay_to_come, share) - forecast.decay_to_come


def _decide(
    forecast: Forecast,
    hope: str,
    at_best: float,
    confidence: float,
    reasons: tuple[Reason, Reason],
    evidence: dict[str, float],
) -> Advice:
    """Stop where what is hoped for is less probable than 1 - confidence, even with the best of decays; else go on.

    The evidence says how probable it is then, ``at_best``, beside the ``risk`` that the rule takes.
    """
    chance = f"{hope} has probability {percent(evidence['probability'])}"
    risk = round(1.0 - confidence, 12)
    evidence |= {"at_best": at_best, "risk": risk}
    if at_best <= risk and forecast.horizon is not None and forecast.step < EARLIEST * forecast.horizon:
        text = f"{chance}, but a fifth of the run is not over yet: go on."
        return advice_on(forecast, Action.CONTINUE, Reason.EARLY, text, evidence)
    if at_best <= risk:
        return advice_on(forecast, Action.STOP, reasons[0], f"{chance}: stop.", evidence)
    if evidence["probability"] <= risk:
        text = f"{chance}, but the decay of the learning rate may bring more than usual: go on."
        return advice_on(forecast, Action.CONTINUE, Reason.DECAY_AHEAD, text, evidence)
    return advice_on(forecast, Action.CONTINUE, reasons[1], f"{chance}: go on.", evidence)
