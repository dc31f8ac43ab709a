"""LiveForecast: a run's forecast, advice and record, renewed as it goes on; it knows neither torch nor a Trainer."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.advice import EARLIEST, Action, Advice, Reason, StopRule, advise
from lightning_scaling.alarm import Alarm, Departure
from lightning_scaling.curve import LossCurve
from lightning_scaling.finished import FinishedRun
from lightning_scaling.forecast import Forecast, forecast
from lightning_scaling.forecast.judge import BROKEN_AFTER
from lightning_scaling.ledger import LAST_PART, ForecastLedger, ForecastRecord, recent_error, recent_loss
from lightning_scaling.refits import next_refit
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.units import thousands
from lightning_scaling.verdict import Verdict

FloatArray = NDArray[np.float64]

#: How far the rate in use may lie from the one that was promised, in parts of the peak.
_RATE_TOLERANCE = 0.02

#: A stop must stand for this share of the planned run before it acts; then it is looked at again. Where a law failed,
#: so much of the run must lie in between: what threw the loss off may pass, as a spike does that takes long.
_STANDING, _RECOVERY = 0.02, 0.15
#: Verdicts under which no law holds, nor any rule that goes by one.
_LAWLESS = (Verdict.LAW_REJECTED, Verdict.ACCELERATING)
#: Shares of the planned run at which the advice is said again even if it has not changed.
_MILESTONES = (0.25, 0.5, 0.75)

METRICS = (
    "final_loss",
    "final_loss_low",
    "final_loss_high",
    "converged_loss",
    "converged_loss_low",
    "converged_loss_high",
    "remaining_gain",
    "alpha_S",
    "loss",
)


class LiveForecast:
    """What is known about a run at this moment: its plan, its newest forecast and advice, and all earlier ones.

    Args:
        rules: When to stop; none: advise only.
        advisers: Rules that are told of and never stop the run.
        level: Probability that an interval holds its number [1].
        refits: Most refits over the whole run, as planned.
        loss: What the loss is called in the closing words.

    Attributes:
        siblings: Finished runs that forecasts borrow from.
        horizon: Planned end [steps], None where it is not known.
        schedule: Learning rates up to it, relative to their peak, None where they are not known.
        peak: Highest learning rate of the schedule [unit of the optimizer].
        forecast: The newest forecast, None before the first.
        advice: The newest advice, None before the first.
        sentence: The newest advice in words, and whether it is acted upon.
        ledger: All forecasts so far.
        wants_stop: Whether a rule that may act says stop.
        acts_on: The reason of that rule.
        alarm: Tells when the losses leave their forecast.
        at_quarter: Whether the newest forecast is the first after a quarter of the run.
        held_by: What a stop waits for, such as ``"min_steps = 700"``; nothing where it may act.
    """

    def __init__(
        self,
        rules: Sequence[StopRule] = (),
        *,
        advisers: Sequence[StopRule] = (),
        level: float = 0.9,
        refits: int = 40,
        loss: str = "the loss",
    ) -> None:
        self._rules, self._advisers = tuple(rules), tuple(advisers)
        self._level = level
        self._refits = refits
        self._loss = loss
        self.siblings: Sequence[FinishedRun] = ()
        self.horizon: int | None = None
        self.schedule: LRSchedule | None = None
        self.peak = 1.0
        self.forecast: Forecast | None = None
        self.advice: Advice | None = None
        self.sentence = ""
        self.ledger = ForecastLedger()
        self.alarm = Alarm()
        self.wants_stop = False
        self.next_step = next_refit(0, None, refits)
        self._overruled: set[str] = set()
        self._alarms = 0
        self._stop_since: int | None = None
        self._departures = 0
        self.acts_on: Reason | None = None
        self._passed = 0
        self.at_quarter = False
        self.held_by = ""
        self._acting: Advice | None = None  # that of the rule that acts, or did last
        self._said = (Action.WAIT, Reason.NO_FORECAST, False)  # goes without saying

    def plan(self, horizon: int | None, rates: FloatArray | None, *, step: int = 0) -> None:
        """Set the planned end and the learning rates of steps 1..horizon (None: not known).

        A schedule that says what is known already is kept as it is, so that a resumed run forecasts to the bit what it
        would have forecast without the interruption.
        """
        if rates is None or horizon is None or not rates.size or rates.max() <= 0.0:
            if self.schedule is not None:
                self.alarm.disarm()
            self.schedule, self.peak = None, 1.0
        else:
            schedule, peak = LRSchedule.from_array(rates), float(rates.max())
            if self.schedule is None or not self._agrees(schedule, peak):
                if not self._goes_on(schedule, peak, step):
                    self.alarm.disarm()
                self.schedule, self.peak = schedule, peak
        self.horizon = self.alarm.horizon = horizon
        # From the last forecast on: one that was due when the run was cut off is due still.
        self.next_step = self._look_after(self.last_step or step)

    def adopt(self, other: LiveForecast) -> None:
        """Take over the plan of another loss of the same run."""
        self.horizon, self.schedule, self.peak = other.horizon, other.schedule, other.peak
        self.alarm.horizon = other.horizon
        self.next_step = self._look_after(self.last_step)

    def due_after(self, step: int) -> int:
        """Return where the first refit after a step is due, if one that is due by then has been done [steps]."""
        return self.next_step if self.next_step > step else self._look_after(step)

    @property
    def last_step(self) -> int:
        """The step of the newest forecast, 0 before the first."""
        return self.ledger.records[-1].step if len(self.ledger) else 0

    def keeps_promise(self, step: int, lr: float) -> bool:
        """Return whether the rate in use at a step is, near enough, the planned one; True where there is no plan."""
        if self.schedule is None or not 1 <= step <= self.schedule.horizon:
            return True
        width = max(self.schedule.horizon // 256, 1)  # blocks of the schedule hold means: look to both sides
        ends = [max(step - width, 1), step, min(step + width, self.schedule.horizon)]
        near: list[float] = self.schedule.rate_at(ends).tolist()
        return (min(near) - _RATE_TOLERANCE) * self.peak <= lr <= (max(near) + _RATE_TOLERANCE) * self.peak

    def refit(self, curve: LossCurve) -> bool:
        """Forecast from the run so far; return whether there is news: other advice, or a quarter of the run is over.

        After it `forecast`, `advice`, `wants_stop` and `ledger` are up to date.
        """
        horizon = self.horizon if self.horizon is not None and curve.step <= self.horizon else None
        schedule = self.schedule if horizon is not None else None
        return self.take(
            forecast(curve, horizon=horizon, lr_schedule=schedule, level=self._level, store=self.siblings or None)
        )

    def watch(self, steps: Sequence[int], losses: Sequence[float | None], now: float = math.nan) -> None:
        """Hold losses, in the order of their steps, against what was forecast of them.

        Args:
            steps: Optimizer steps [steps].
            losses: Their losses, None where there was none [unit of the losses].
            now: The time [s], NaN where it is not known.
        """
        self.alarm.take(steps, losses, now)

    @property
    def departure(self) -> Departure | None:
        """The newest departure of the losses from their forecast, None where there was none."""
        return self.alarm.found[-1] if self.alarm.found else None

    def take(self, found: Forecast) -> bool:
        """Take a forecast that was made elsewhere for this run; return whether there is news, as `refit` does."""
        self.forecast = found
        self.ledger.append(ForecastRecord.of(self.forecast))
        held = self.schedule if found.horizon is not None else None
        self.alarm.arm(found, held, next_refit(found.step, self.horizon, self._refits) - found.step)
        self.advice = advise(self.forecast, self._rules, self._advisers)
        stops = [a for a in (rule.judge(found) for rule in self._rules) if a.action is Action.STOP]
        binding = [a for a in stops if a.reason.name not in self._overruled]
        self.wants_stop = self._may_act(found.step, binding)
        if self.wants_stop and self._acting is not None:
            self.advice = self._acting
        elif binding:
            self.advice = binding[0]
        self.next_step = self._look_after(found.step)
        self.sentence = self._spoken()
        said = (self.advice.action, self.advice.reason, self.wants_stop)
        passed = 0 if not self.horizon else sum(found.step >= share * self.horizon for share in _MILESTONES)
        self.at_quarter = passed > self._passed and self.forecast.verdict.usable
        changed = said != self._said or self.at_quarter
        self._said, self._passed = said, passed
        return changed

    def _may_act(self, step: int, binding: Sequence[Advice]) -> bool:
        """Return whether one of the rules that say stop, none of them overruled, may act now.

        A broken run is stopped at once. Any other stop must stand at a second look, because a rule that looks many
        times at 95 % would fire far more often than 5 % of the times, and later where a law has failed before; it must
        not come in the first fifth, where a curve may not have found its law yet; and it must rest on a schedule that
        is known: a decay that nobody announced may still pay.
        """
        assert self.forecast is not None
        if self.horizon is not None and step >= self.horizon:
            return False  # it ends by itself
        reasons = {a.reason for a in binding}
        lasting = bool(reasons - {Reason.DIVERGED}) and self.forecast.schedule_known
        if not lasting:
            self._stop_since = None
        elif self._stop_since is None:
            self._stop_since = step
        if Reason.DIVERGED in reasons:
            # A departure may be a spike: it has to be there at two looks. NaN does not go away.
            self._departures += 1
            if self.forecast.verdict is Verdict.DIVERGED or self._departures > 1:
                self._acting = next(a for a in binding if a.reason is Reason.DIVERGED)
                self.acts_on = Reason.DIVERGED
                return True
        else:
            self._departures = 0
        if self._stop_since is None or self.horizon is None or step < self._acts_at(self.horizon):
            return False
        self._acting = next(a for a in binding if a.reason is not Reason.DIVERGED)
        self.acts_on = self._acting.reason
        return True

    def _look_after(self, step: int) -> int:
        """Return when to forecast next: when it is time, or sooner where a stop waits for its second look."""
        following = next_refit(step, self.horizon, self._refits)
        if self._stop_since is None or self.horizon is None:
            return following
        acts_at = self._acts_at(self.horizon)
        return min(following, acts_at) if acts_at > step else following

    def _acts_at(self, horizon: int) -> int:
        """Return the step from which a stop that still stands acts."""
        assert self._stop_since is not None
        lawless = max((r.step for r in self.ledger.records if r.verdict in _LAWLESS), default=None)
        recovered = 0 if lawless is None else lawless + math.ceil(_RECOVERY * horizon)
        return max(self._stop_since + math.ceil(_STANDING * horizon), math.ceil(EARLIEST * horizon), recovered)

    def _spoken(self) -> str:
        """Return the sentence of the advice; of a stop, also what comes of it."""
        assert self.advice is not None
        if self.advice.action is not Action.STOP:
            return self.advice.sentence
        if self.wants_stop and self.held_by:
            return f"{self.advice.sentence} The stop waits for {self.held_by}."
        if self.wants_stop:
            return f"{self.advice.sentence} The run is being stopped."
        if self._stop_since is None:
            return f"{self.advice.sentence} This is advice only."
        assert self.horizon is not None
        assert self.forecast is not None
        if max(acts_at := self._acts_at(self.horizon), self.forecast.step) >= self.horizon:
            return f"{self.advice.sentence} The run ends by itself before that is certain enough."
        until = thousands(acts_at)
        return f"{self.advice.sentence} The run is stopped if this still stands at step {until}."

    def is_alarmed(self, n_nonfinite: int, latest: float, error: float) -> bool:
        """Return whether the newest losses are worth a refit before its time: broken, or far above their band.

        There are at most as many alarms in a run as planned refits.

        Args:
            n_nonfinite: Steps without a finite loss since the last finite one.
            latest: Mean of the newest finite losses [unit of the losses], NaN where there are none.
            error: Its standard error [same unit].
        """
        known = self.ledger.records[-1] if len(self.ledger) else None  # a resumed run remembers it
        if n_nonfinite:
            return n_nonfinite >= BROKEN_AFTER and (known is None or known.verdict is not Verdict.DIVERGED)
        if known is None or self._alarms >= self._refits:
            return False
        high, mid = float(known.present_loss.high), float(known.present_loss.mid)
        alarmed = latest - mid > 6.0 * error + 10.0 * max(high - mid, 1e-3 * abs(mid))  # False with NaN
        self._alarms += alarmed
        return alarmed

    def overrule(self, reason: str) -> None:
        """Let a reason to stop advise only from now on: a run that it has stopped was resumed on purpose."""
        self._overruled.add(reason)
        self.wants_stop = False  # until the next look

    def stopped(self) -> str:
        """Note that the run is stopped now, for the reason `acts_on`; return the sentence that says so."""
        if self._acting is not None:  # what was found after the wish to stop was sent to other ranks changes nothing
            self.advice, self.wants_stop = self._acting, True
        self.held_by = ""
        self.sentence = f"{'' if self.advice is None else self.advice.sentence} The run is being stopped.".strip()
        return self.sentence

    def reading(self) -> str | None:
        """Return the short live reading, for example ``"1.873±0.021"``; None before there is something to say."""
        if not len(self.ledger) or not self.ledger.records[-1].verdict.usable:
            return None
        loss = self.ledger.records[-1].final_loss
        return loss.short() if math.isfinite(float(loss.mid)) else None

    def values(self) -> list[float]:
        """Return the numbers of `METRICS`, NaN where they are not known."""
        if not len(self.ledger):
            return [math.nan] * len(METRICS)
        f = self.ledger.records[-1]
        final, converged = f.final_loss, f.converged_loss
        ahead = [final.mid, final.low, final.high]
        law = [converged.mid, converged.low, converged.high]
        if not f.verdict.usable:
            ahead = [math.nan] * 3
            if f.verdict is not Verdict.NO_HORIZON:
                return [math.nan] * len(METRICS)
        gain = f.remaining_gain.mid if f.verdict.usable else math.nan
        return [float(x) for x in (*ahead, *law, gain, f.alpha_S.mid, f.present_loss.mid)]

    def summary(self, curve: LossCurve, step: int | None = None) -> str:
        """Return the closing words: what was forecast on the way beside what happened.

        Args:
            curve: The run so far.
            step: Step that the run has reached, where the loss is not known at every step; default: the curve's.
        """
        step = curve.step if step is None else step
        if curve.n_nonfinite:
            broke = f"The last {curve.n_nonfinite:,} losses were NaN or infinite: the run has no final loss."
            return f"{broke.replace(',', ' ')}\n{self.ledger.table(of=self._loss)}"
        if self.horizon is None or step >= self.horizon:
            # A value from before the last part of a run is not its end.
            known = self.horizon is None or curve.step >= (1.0 - LAST_PART) * self.horizon
            return self.ledger.table(recent_loss(curve) if known else None, recent_error(curve), of=self._loss)
        where = f"The run ended at step {thousands(step)} of {thousands(self.horizon)}"
        why = f", {self.acts_on.value}" if self.wants_stop and self.acts_on is not None else ""
        saved = f"{1.0 - step / self.horizon:.0%}".replace("%", " %")
        loss = f"{self._loss} was {recent_loss(curve):.4g} over its last steps"
        return f"{where} ({saved} of its steps saved{why}); {loss}.\n{self.ledger.table(of=self._loss)}"

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists."""
        advice = self.advice
        return {
            "version": 1,
            "horizon": self.horizon,
            "schedule": None
            if self.schedule is None
            else [self.schedule.edges.tolist(), self.schedule.rates.tolist(), self.peak],
            "ledger": self.ledger.state_dict(),
            "advice": None
            if advice is None
            else [
                advice.action.name,
                advice.reason.name,
                advice.sentence,
                {k: float(v) for k, v in advice.evidence.items()},
            ],
            "overruled": sorted(self._overruled),
            "alarms": self._alarms,
            "stop_since": self._stop_since,
            "departures": self._departures,
            "acts_on": self.acts_on.name if self.wants_stop and self.acts_on is not None else None,
            "passed": self._passed,
            "alarm": self.alarm.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`; the next `plan` decides whether its schedule still holds.

        Raises:
            ValueError: If the state is of another version.
        """
        if state.get("version") != 1:
            raise ValueError(
                f"Expected a LiveForecast state of version 1, got {state.get('version')!r}, so start anew."
            )
        self.horizon = state["horizon"]
        if state["schedule"] is not None:
            edges, rates, peak = state["schedule"]
            self.schedule, self.peak = LRSchedule(np.array(edges), np.array(rates)), float(peak)
        self.ledger = ForecastLedger.from_state(state["ledger"])
        if state["advice"] is not None:
            action, reason, sentence, evidence = state["advice"]
            self.advice = Advice(Action[action], Reason[reason], sentence, dict(evidence))
            self.acts_on = None if state.get("acts_on") is None else Reason[state["acts_on"]]
            self.wants_stop = self.acts_on is not None
            self._acting = self.advice if self.wants_stop else None
            self._said = (self.advice.action, self.advice.reason, self.wants_stop)
        self._overruled = set(state["overruled"])
        self._alarms = int(state["alarms"])
        self._stop_since = state["stop_since"]
        self._departures = int(state["departures"])
        self._passed = int(state["passed"])
        self.alarm = _recalled(state.get("alarm"))
        self.alarm.horizon = self.horizon

    def _agrees(self, schedule: LRSchedule, peak: float) -> bool:
        old = self.schedule
        if old is None or old.horizon != schedule.horizon or not math.isclose(peak, self.peak, rel_tol=1e-3):
            return False
        return bool(np.allclose(old.summed(schedule.edges), schedule.summed(schedule.edges), rtol=2e-3, atol=1e-3))

    def _goes_on(self, schedule: LRSchedule, peak: float, step: int) -> bool:
        """Return whether another schedule holds, for the steps that come next, what the one before has promised."""
        old = self.schedule
        if old is None:
            return False
        near = np.maximum(step + np.array([0.0, 0.025, 0.05]) * old.horizon, 1.0)
        return bool(np.abs(old.rate_at(near) * self.peak - schedule.rate_at(near) * peak).max() <= 0.05 * self.peak)


def _recalled(state: Mapping[str, Any] | None) -> Alarm:
    """Return the alarm of a state; one that begins anew where an earlier version has kept too little of it, or none."""
    alarm = Alarm()
    try:
        alarm.load_state_dict(state or {})
    except (KeyError, TypeError, ValueError, IndexError):
        return Alarm()
    return alarm
