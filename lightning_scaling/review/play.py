"""replay(): what would have been forecast and advised of a run that is over, and what each rule would have done."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

import numpy as np

from lightning_scaling.advice import Converged, Diverged, StopRule, TargetUnreachable, advise
from lightning_scaling.curve import LossCurve
from lightning_scaling.forecast import Forecast, forecast
from lightning_scaling.forecast.judge import BROKEN_AFTER
from lightning_scaling.interval import Interval
from lightning_scaling.ledger import recent_loss
from lightning_scaling.live import LiveForecast
from lightning_scaling.refits import next_refit
from lightning_scaling.review.baselines import BASELINES
from lightning_scaling.review.ending import ended
from lightning_scaling.schedule import LRSchedule

__all__ = ["Look", "Outcome", "Replay", "RuleScore", "Stop", "default_rules", "replay", "scores"]

#: Targets of the default rules: this share of the run's fall below and above where it ended.
_OFFSETS = (-0.1, -0.05, -0.02, 0.02, 0.05, 0.1)
#: Smallest gain of the default rule, as a share of the same fall.
_GAIN = 0.01
#: Part of a run before which its fall is not counted: the first transient.
_TRANSIENT = 0.01


class Outcome(Enum):
    """What came of a rule."""

    RIGHT_STOP = "right to stop"
    FALSE_STOP = "wrong to stop"
    RIGHT_GO = "right to go on"
    MISSED = "stop missed"


@dataclass(frozen=True)
class Look:
    """What was known at a moment of the run.

    Args:
        step: The moment [steps].
        final_loss: Forecast of the end.
        verdict: What it was worth.
        usable: Whether it could be acted upon.
        advice: What was advised without rules, in words.
        baselines: What simpler methods said, by their names.
    """

    step: int
    final_loss: Interval
    verdict: str
    usable: bool
    advice: str
    baselines: Mapping[str, float]


@dataclass(frozen=True)
class Stop:
    """What one rule would have done.

    Args:
        label: The rule in words.
        rule: The rule.
        step: Step of the stop; None: it did not stop the run.
        outcome: Whether that was right.
        saved: Share of the steps that the stop would have saved [1].
        given_up: Fall of the loss from the stop to the end [unit of the loss], NaN without a stop.
    """

    label: str
    rule: StopRule
    step: int | None
    outcome: Outcome
    saved: float
    given_up: float


@dataclass(frozen=True)
class Replay:
    """A finished run, looked at as it went.

    Args:
        name: What the run is called.
        horizon: Its last step [steps].
        truth: Mean loss over its last 2 %, NaN where it broke [unit of the loss].
        error: Standard error of that [same unit].
        looks: One at each tenth of the run.
        stops: What each rule would have done.
        schedule_known: Whether the learning rate was known ahead; without it no rule but `Diverged` acts.
        forecasts: Forecasts at some moments, for a picture.
    """

    name: str
    horizon: int
    truth: float
    error: float
    looks: tuple[Look, ...]
    stops: tuple[Stop, ...]
    schedule_known: bool = True
    forecasts: tuple[Forecast, ...] = field(default=(), repr=False)

    def errors(self) -> dict[str, float]:
        """Return the mean absolute error at the looks with a usable forecast, of it and of each baseline."""
        usable = [look for look in self.looks if look.usable]
        if not usable or math.isnan(self.truth):
            return {}
        found = {"forecast": [abs(float(look.final_loss.mid) - self.truth) for look in usable]}
        found |= {name: [abs(look.baselines[name] - self.truth) for look in usable] for name in BASELINES}
        return {name: float(np.mean(values)) for name, values in found.items()}


@dataclass(frozen=True)
class RuleScore:
    """What one rule would have done to several runs.

    Args:
        label: The rule in words.
        n_runs: Runs it was asked about.
        n_go: Runs that it should have let go on.
        n_false: Those of them that it would have stopped.
        n_stop: Runs that it should have stopped.
        n_right: Those of them that it would have stopped.
        saved: Share of the steps of the runs that it should have stopped that it would have saved [1].
    """

    label: str
    n_runs: int
    n_go: int
    n_false: int
    n_stop: int
    n_right: int
    saved: float


def default_rules(curve: LossCurve) -> dict[str, StopRule]:
    """Return the rules that a run is tried with where none are given, by their words.

    Targets lie 2, 5 and 10 % of the fall of the loss below and above where the run ended, so the run misses three of
    them and makes three; its fall is counted from 1 % of its steps on. A run that broke has no end to aim at.
    """
    truth = recent_loss(curve)
    early = curve.L[curve.S >= max(_TRANSIENT * curve.step, float(curve.S[0]))]
    fall = float(early[: max(3, early.size // 100)].mean()) - truth
    rules: dict[str, StopRule] = {}
    if fall > 0.0 and curve.n_nonfinite < BROKEN_AFTER:
        for offset in _OFFSETS:
            side = "below" if offset < 0.0 else "above"
            label = f"target {100.0 * abs(offset):g} % of the fall {side} its end"
            rules[label] = TargetUnreachable(loss=truth + offset * fall)
        rules[f"gain below {100.0 * _GAIN:g} % of the fall"] = Converged(min_gain=_GAIN * fall)
    return rules | {"diverged": Diverged()}


def replay(
    curve: LossCurve,
    *,
    name: str = "run",
    schedule: LRSchedule | None = None,
    rules: Mapping[str, StopRule] | None = None,
    level: float = 0.9,
    refits: int = 40,
    pictured: Sequence[float] = (0.1, 0.3, 0.5),
) -> Replay:
    """Go through a finished run as a monitor would have, and hold what it would have said against what happened.

    Args:
        curve: The whole run; its last step is taken for the planned end.
        name: What the run is called.
        schedule: Learning rates of all steps, as they were planned; None: they were not known ahead.
        rules: Stop rules by their words; default: `default_rules`.
        level: Probability of the intervals.
        refits: Moments at which the run is looked at.
        pictured: Shares of the run whose forecasts are kept.

    Raises:
        ValueError: If the curve has fewer than two points, or the schedule another length than the run.

    Example:
        >>> S = np.arange(1, 2001)
        >>> noise = 0.02 * np.random.default_rng(0).standard_normal(2000)
        >>> rates = LRSchedule.from_array(np.ones(2000))
        >>> found = replay(LossCurve(S=S, L=2.0 + 6.0 * S**-0.5 + noise), schedule=rates)
        >>> len(found.looks), sorted({stop.outcome.value for stop in found.stops if "above" in stop.label})
        (9, ['right to go on'])
    """
    if len(curve) < 2:
        raise ValueError(f"Expected a run with at least two losses, got {len(curve)}, so give the log of a whole run.")
    horizon = curve.step
    rules = default_rules(curve) if rules is None else rules
    broken = curve.n_nonfinite >= BROKEN_AFTER
    truth = math.nan if broken else recent_loss(curve)
    lives = {label: _live(rule, horizon, schedule, level, refits) for label, rule in rules.items()}
    stopped: dict[str, Forecast] = {}
    looks: list[Look] = []
    kept: list[Forecast] = []
    tenths = [math.ceil(k * horizon / 10.0) for k in range(1, 10)]
    moments = [math.ceil(share * horizon) for share in pictured]
    planned = _moments(horizon, refits, (*tenths, *moments))
    for step in _steps(planned, lives.values(), horizon):
        seen = _seen(curve, step)
        if not len(seen):
            continue
        found = forecast(seen, horizon=horizon, lr_schedule=schedule, level=level)
        for label, live in lives.items():
            due = step in planned or step >= live.next_step
            if due and label not in stopped and live.last_step <= found.step:
                live.take(found)
                if live.wants_stop:
                    stopped[label] = found
        if step in tenths:
            looks.append(_look(step, found, seen, horizon))
        if step in moments and found.verdict.usable:
            kept.append(found)
    stops = tuple(_stop(label, rules[label], stopped.get(label), horizon, truth) for label in rules)
    known = schedule is not None and schedule.known
    error = float(ended(curve).sds[0, 0])
    return Replay(name, horizon, truth, error, tuple(looks), stops, known, tuple(kept))


def scores(replays: Iterable[Replay]) -> list[RuleScore]:
    """Return what each rule would have done to all the runs, in the order of the first run's rules."""
    found: dict[str, list[Stop]] = {}
    for one in replays:
        for stop in one.stops:
            found.setdefault(stop.label, []).append(stop)
    rows = []
    for label, stops in found.items():
        go = [s for s in stops if s.outcome in (Outcome.FALSE_STOP, Outcome.RIGHT_GO)]
        end = [s for s in stops if s.outcome in (Outcome.RIGHT_STOP, Outcome.MISSED)]
        n_false = sum(s.outcome is Outcome.FALSE_STOP for s in go)
        n_right = sum(s.outcome is Outcome.RIGHT_STOP for s in end)
        saved = float(np.mean([s.saved for s in end])) if end else math.nan
        rows.append(RuleScore(label, len(stops), len(go), n_false, len(end), n_right, saved))
    return rows


def _seen(curve: LossCurve, step: int) -> LossCurve:
    """Return what was known at a step, also of losses that were not finite any more."""
    seen, last = curve.until(step), float(curve.S[-1])
    if not curve.n_nonfinite or step <= last:
        return seen
    n = math.ceil(curve.n_nonfinite * (step - last) / (curve.step - last))
    return LossCurve(S=seen.S, L=seen.L, count=seen.count, spread=seen.spread, N=seen.N, step=step, n_nonfinite=n)


def _moments(horizon: int, refits: int, also: Sequence[int]) -> list[int]:
    steps, step = set(also), 0
    while (step := next_refit(step, horizon, refits)) < horizon:
        steps.add(step)
    return sorted(s for s in steps if 0 < s < horizon)


def _steps(planned: Sequence[int], lives: Collection[LiveForecast], horizon: int) -> Iterator[int]:
    """Yield the steps at which the run is looked at: a rule that has said stop asks for a look of its own."""
    step = 0
    while step := min((s for s in (*planned, *(live.next_step for live in lives)) if s > step), default=0):
        if step < horizon:
            yield step


def _live(rule: StopRule, horizon: int, schedule: LRSchedule | None, level: float, refits: int) -> LiveForecast:
    live = LiveForecast([rule], level=level, refits=refits)
    live.horizon, live.schedule = horizon, schedule
    return live


def _look(step: int, found: Forecast, seen: LossCurve, horizon: int) -> Look:
    simple = {name: method(seen, horizon) for name, method in BASELINES.items()}
    return Look(step, found.final_loss, str(found.verdict), found.verdict.usable, advise(found).sentence, simple)


def _stop(label: str, rule: StopRule, at: Forecast | None, horizon: int, truth: float) -> Stop:
    """Judge a rule by what happened: a run that broke should have been stopped by any."""
    given_up = math.nan if at is None else float(at.present_loss.mid) - truth
    if math.isnan(truth):
        due = True
    elif isinstance(rule, TargetUnreachable):
        due = truth > rule.loss
    elif isinstance(rule, Converged):
        due = at is not None and given_up <= rule.min_gain
    else:
        due = at is not None and given_up <= 0.0
    if at is None:
        return Stop(label, rule, None, Outcome.MISSED if due else Outcome.RIGHT_GO, 0.0, given_up)
    outcome = Outcome.RIGHT_STOP if due else Outcome.FALSE_STOP
    return Stop(label, rule, at.step, outcome, 1.0 - at.step / horizon, given_up)
