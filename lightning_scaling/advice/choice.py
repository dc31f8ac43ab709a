"""advise(): what all rules together make of a forecast."""

from __future__ import annotations

from collections.abc import Sequence

from lightning_scaling.advice.base import Action, Advice, Reason, StopRule
from lightning_scaling.advice.words import advice_on, evidence_of, not_usable, opening
from lightning_scaling.forecast import Forecast

__all__ = ["advise"]


#: How the sentence of a rule that says stop ends.
_STOP = ": stop."


def advise(forecast: Forecast, rules: Sequence[StopRule] = (), advisers: Sequence[StopRule] = ()) -> Advice:
    """Ask every rule; any STOP wins, then any CONTINUE, in the order of the rules.

    Args:
        forecast: The forecast to judge.
        rules: Stop rules; without any, the advice is to go on, with what that should bring.
        advisers: Rules that are heard after these and never say stop: where one would, what it has found is added to
            the sentence, and is the reason of the advice.

    Returns:
        One advice.
    """
    opinions = [rule.judge(forecast) for rule in rules]
    heard = [rule.judge(forecast) for rule in advisers]
    found = [opinion for opinion in heard if opinion.action is Action.STOP]
    if found and all(opinion.action is not Action.STOP for opinion in opinions):
        return _advice_only(forecast, advise(forecast, rules) if rules else None, found)
    for action in (Action.STOP, Action.CONTINUE, Action.WAIT):
        for opinion in (*opinions, *(one for one in heard if one not in found)):
            if opinion.action is action:
                return opinion
    early = not_usable(forecast)
    if early is not None:
        return early
    text = f"the loss still falls by {forecast.remaining_gain.short()}."
    return advice_on(forecast, Action.CONTINUE, Reason.STILL_FALLING, text, evidence_of(forecast))


def _advice_only(forecast: Forecast, first: Advice | None, found: Sequence[Advice]) -> Advice:
    """Return what rules have found that would stop the run, after what the rules that may stop it say, as advice."""
    said = [one.sentence.removesuffix(_STOP) + "." * one.sentence.endswith(_STOP) for one in found]
    spoken, *more = said if first is None else [first.sentence, *said]
    bare = [one.removeprefix(opening(forecast)) for one in more]
    sentence = " ".join([spoken, *(f"{one[:1].upper()}{one[1:]}" for one in bare)])
    return Advice(Action.CONTINUE, found[0].reason, sentence, found[0].evidence)
