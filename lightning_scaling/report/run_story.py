"""Everything that the report of one run says: forecasts at each tenth, advice, and other ways to go on."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from lightning_scaling.advice import Advice, Diverged, StopRule, advise
from lightning_scaling.alternatives import Alternative, Price, decay_now, longer
from lightning_scaling.curve import LossCurve
from lightning_scaling.finished import FinishedRun
from lightning_scaling.forecast import Forecast, Store, forecast
from lightning_scaling.forecast.judge import BROKEN_AFTER, SMALL_FALL
from lightning_scaling.ledger import ForecastLedger, ForecastRecord, recent_error, recent_loss
from lightning_scaling.report.run_source import RunSource
from lightning_scaling.review import Stop, ended, replay
from lightning_scaling.schedule import LRSchedule

__all__ = ["RunStory", "tell"]

#: Shares of a run that is over whose forecasts are drawn; of one that goes on, of the steps that it has done.
_OVER, _UNDER_WAY = (0.1, 0.3, 0.5), (0.5, 1.0)
#: Fewest losses of a run that is replayed.
_REPLAYED = 20


@dataclass(frozen=True, eq=False)
class RunStory:
    """A run with what was computed of it.

    Attributes:
        run: What was given.
        state: ``finished``, ``stopped`` before its end, ``broken`` where its last losses are not finite, ``running``.
        forecast: The newest forecast; of a run that is over, from the whole of it.
        pictured: Forecasts that are drawn, oldest first.
        ledger: The forecasts made on the way.
        remade: Whether these were made for the report, from what the run had shown by then.
        truth: Mean loss over the last 2 % [unit of the curve], NaN where the run has no end.
        error: Its standard error from the noise of single steps [same unit].
        advice: What all rules together advise now.
        opinions: What each rule says now, by its words.
        stops: What each rule would have done, of a run that is over.
        alternatives: Other ways to go on, of one that is not.
    """

    run: RunSource
    state: str
    forecast: Forecast
    pictured: tuple[Forecast, ...]
    ledger: ForecastLedger
    remade: bool
    truth: float
    error: float
    advice: Advice
    opinions: tuple[tuple[str, Advice], ...] = ()
    stops: tuple[Stop, ...] = ()
    alternatives: tuple[Alternative, ...] = field(default=())


def tell(
    run: RunSource,
    *,
    rules: Mapping[str, StopRule] | None = None,
    price: Price | None = None,
    level: float = 0.9,
    store: Store | Iterable[FinishedRun] | None = None,
) -> RunStory:
    """Compute what a report of a run says.

    Args:
        run: The run.
        rules: Stop rules by their words; of a run that is over, default: those of `replay`.
        price: What a step costs.
        level: Probability of the intervals.
        store: Finished runs to borrow from, as in `forecast`.
    """
    curve, horizon = run.curve, run.horizon
    kin = None if store is None else list(store.runs() if hasattr(store, "runs") else store)
    state = _state(run)
    looks = _Looks(run, level, kin)
    newest = looks.now()
    ledger, remade = run.ledger, False
    if ledger is None or not len(ledger):
        ledger, remade = _remade(run, looks), True
    over = state == "finished"
    truth, error = _end(run) if over else (math.nan, 0.0)
    asked = dict(rules or {})
    judged = {**asked, "diverged": Diverged()}
    stops: tuple[Stop, ...] = ()
    if over and len(curve) >= _REPLAYED and horizon == curve.step:
        stops = replay(curve, schedule=run.schedule, rules=judged if asked else None, level=level, pictured=()).stops
    return RunStory(
        run=run,
        state=state,
        forecast=newest,
        pictured=_pictured(run, looks, over=over),
        ledger=ledger,
        remade=remade,
        truth=truth,
        error=error,
        advice=advise(newest, list((judged if state == "broken" else asked).values())),
        opinions=() if over else tuple((words, rule.judge(newest)) for words, rule in judged.items()),
        stops=stops,
        alternatives=() if state != "running" else _alternatives(run, newest, price, kin),
    )


def _state(run: RunSource) -> str:
    if run.curve.n_nonfinite >= BROKEN_AFTER:
        return "broken"
    if run.over or (run.over is None and run.horizon is not None and run.curve.step >= run.horizon):
        return "finished"
    return "stopped" if run.stopped else "running"


def _end(run: RunSource) -> tuple[float, float]:
    """Return where a run that is over has ended, and the standard error of that."""
    if run.truth is not None:
        return run.truth, run.error
    if not len(run.curve):
        return math.nan, 0.0
    return recent_loss(run.curve), recent_error(run.curve) or float(ended(run.curve).sds[0, 0])


def _remade(run: RunSource, looks: _Looks) -> ForecastLedger:
    """Return what would have been forecast at each tenth of the run so far, and now where it is not over."""
    ledger, curve, horizon = ForecastLedger(), run.curve, run.horizon
    if horizon is None or not len(curve):
        return ledger
    steps = {math.ceil(k * horizon / 10.0) for k in range(1, 10)} | {curve.step}
    # Of a run that broke, what comes after its last finite loss is what `forecast` says of it now.
    for step in sorted(s for s in steps if s < horizon and (s <= float(curve.S[-1]) or s == curve.step)):
        made = looks.at(step)
        if made is not None and (not len(ledger) or made.step >= ledger.records[-1].step):
            ledger.append(ForecastRecord.of(made))
    return ledger


class _Looks:
    """Forecasts of a run from what it had shown at some steps, each made once."""

    def __init__(self, run: RunSource, level: float, kin: list[FinishedRun] | None) -> None:
        self._run, self._level, self._kin = run, level, kin
        self._made: dict[int, Forecast | None] = {}

    def now(self) -> Forecast:
        found = self._forecast(self._run.curve)
        self._made[self._run.curve.step] = found
        return found

    def at(self, step: int) -> Forecast | None:
        """Return the forecast from the losses up to a step; None where there are none."""
        if step not in self._made:
            seen = self._run.curve.until(step)
            self._made[step] = self._forecast(seen) if len(seen) else None
        return self._made[step]

    def _forecast(self, curve: LossCurve) -> Forecast:
        return forecast(
            curve, horizon=self._run.horizon, lr_schedule=self._run.schedule, level=self._level, store=self._kin
        )


def _pictured(run: RunSource, looks: _Looks, *, over: bool) -> tuple[Forecast, ...]:
    """Return the forecasts to be drawn: of a run that is over early ones, else one from its middle and the newest."""
    steps = [math.ceil(share * run.curve.step) for share in (_OVER if over else _UNDER_WAY)]
    found = [looks.at(step) for step in dict.fromkeys(steps) if 0 < step]
    return tuple(f for f in found if f is not None and f.verdict.usable)


def _alternatives(
    run: RunSource, planned: Forecast, price: Price | None, kin: list[FinishedRun] | None
) -> tuple[Alternative, ...]:
    """Return what a decay now and twice the steps would bring; nothing where the plan or the forecast is not there."""
    horizon, schedule, curve = run.horizon, run.schedule, run.curve
    if horizon is None or schedule is None or not planned.verdict.usable or curve.step >= horizon or not len(curve):
        return ()
    found = []
    if _held(schedule, curve.step):
        found.append(decay_now(curve, horizon, schedule, price=price, level=planned.level, store=kin, planned=planned))
    found.append(longer(curve, horizon, schedule, price=price, level=planned.level, store=kin, planned=planned))
    return tuple(one for one in found if one.usable)


def _held(schedule: LRSchedule, step: int) -> bool:
    """Return whether the rate is at its peak: of a constant schedule, or before the decay of WSD."""
    rates = schedule.rate_at(np.array([float(step)]))
    return float(rates[0]) >= (1.0 - SMALL_FALL) * float(schedule.rates.max())
