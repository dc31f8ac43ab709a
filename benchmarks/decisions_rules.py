"""What the package's stop rules would have done to a finished run, as a monitor acts on them and by advice alone."""

from __future__ import annotations

import math
from dataclasses import dataclass

from benchmarks.decisions_cases import GAINS, UNKNOWN, Case
from lightning_scaling import Action, Advice, Converged, Diverged, Forecast, LossCurve, StopRule, TargetUnreachable
from lightning_scaling.review import replay

#: Confidences that are tried.
CONFIDENCES = (0.8, 0.9, 0.95, 0.99)
#: How the first look at which a rule says stop is called, whether or not a monitor acts on it.
ADVICE = ", advice alone"


@dataclass(frozen=True)
class Decision:
    """What one rule did to one run.

    Attributes:
        run: Name of the run.
        group: Its source.
        rate: What was known of its learning rate ahead: ``"constant"``, ``"falls"`` or ``"not known"``.
        rule: The rule in words.
        aim: What it was asked: ``"target"``, ``"gain"`` or ``"diverged"``.
        place: Of a target, -3 to -1 for those the run missed and 1 to 3 for those it made; of a gain, its share of the
            fall of the loss; else 0.
        stopped: Share of the run at which it stopped it, None if it did not.
        false: Whether it should not have.
        left: By how much the loss still fell after the stop, NaN without one [unit of the loss].
        worth: What the stop was about: distance of the target from the end, or smallest gain [unit of the loss].
    """

    run: str
    group: str
    rate: str
    rule: str
    aim: str
    place: float
    stopped: float | None
    false: bool
    left: float
    worth: float

    @property
    def known(self) -> bool:
        """Whether the learning rate ahead was known."""
        return self.rate != UNKNOWN

    @property
    def saved(self) -> float:
        """Share of the run's steps that were not run [1]."""
        return 0.0 if self.stopped is None else 1.0 - self.stopped


class Heard(StopRule):
    """A rule that remembers the first look at which it said stop; each forecast is judged once.

    Attributes:
        first: Step of that look, None if it never did.
    """

    def __init__(self, rule: StopRule) -> None:
        self._rule = rule
        self._last: tuple[Forecast, Advice] | None = None
        self.first: int | None = None

    def judge(self, forecast: Forecast) -> Advice:
        """Return what the rule says."""
        if self._last is None or self._last[0] is not forecast:
            advice = self._rule.judge(forecast)
            self._last = forecast, advice
            if advice.action is Action.STOP and self.first is None:
                self.first = forecast.step
        return self._last[1]


def name_of(rule: type[StopRule], confidence: float) -> str:
    """Return what a table calls a rule.

    Example:
        >>> name_of(TargetUnreachable, 0.95)
        'TargetUnreachable, 95 %'
    """
    return f"{rule.__name__}, {100.0 * confidence:.0f} %"


def by_rules(case: Case, confidences: tuple[float, ...] = CONFIDENCES) -> list[Decision]:
    """Try all rules on a run; every look at it is forecast once, however many there are.

    Args:
        case: The run.
        confidences: Confidences of `TargetUnreachable` and `Converged`.

    Returns:
        What a monitor would have done by each rule, then the same by the first look at which each says stop.
    """
    asked: dict[str, tuple[str, str, float, Heard]] = {}
    for confidence in confidences:
        for k, target in case.targets.items():
            name = name_of(TargetUnreachable, confidence)
            heard = Heard(TargetUnreachable(loss=target, confidence=confidence))
            asked[f"{name}, {k}"] = name, "target", float(k), heard
        for share in GAINS:
            name = name_of(Converged, confidence)
            heard = Heard(Converged(min_gain=share * case.fall, confidence=confidence))
            asked[f"{name}, {share}"] = name, "gain", share, heard
    asked["Diverged"] = "Diverged", "diverged", 0.0, Heard(Diverged())
    run = case.run
    rules = {label: heard for label, (_, _, _, heard) in asked.items()}
    found = replay(LossCurve(run.S, run.L, N=run.N), name=run.id, schedule=case.schedule, rules=rules, pictured=())
    steps = {stop.label: stop.step for stop in found.stops}
    acted, advised = [], []
    for label, (name, aim, place, heard) in asked.items():
        acted.append(decision(case, name, aim, place, _share(steps[label], run.T)))
        advised.append(decision(case, name + ADVICE, aim, place, _share(heard.first, run.T)))
    return [*acted, *advised]


def decision(case: Case, rule: str, aim: str, place: float, stopped: float | None, *, made: bool = False) -> Decision:
    """Judge a stop by what happened.

    Args:
        case: The run.
        rule: The rule in words.
        aim: ``"target"``, ``"gain"`` or ``"diverged"``.
        place: Which target or gain.
        stopped: Share of the run at which it was stopped, None if it was not.
        made: Whether the target had been made by then: such a stop is early, not false.
    """
    left = math.nan if stopped is None else case.around(stopped) - case.run.truth
    if aim == "target":
        worth = case.targets[int(place)] - case.run.truth
        false = stopped is not None and place > 0 and not made
    elif aim == "gain":
        worth = place * case.fall
        false = stopped is not None and left > worth
    else:
        worth, false = 0.0, stopped is not None
    run = case.run
    return Decision(run.id, run.group, case.rate, rule, aim, place, stopped, false, left, worth)


def _share(step: int | None, horizon: int) -> float | None:
    return None if step is None else step / horizon
