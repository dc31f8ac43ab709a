"""advise(): what all rules together make of a forecast."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_scaling.advice.base import Action, Advice, Reason, StopRule
from lightning_scaling.advice.words import advice_on, evidence_of, not_usable
from lightning_scaling.forecast import Forecast

__all__ = ["advise"]


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
    early = not_usable(forecast)
    if early is not None:
        return early
    text = f"the loss still falls by {forecast.remaining_gain.short()}."
    return advice_on(forecast, Action.CONTINUE, Reason.STILL_FALLING, text, evidence_of(forecast))
