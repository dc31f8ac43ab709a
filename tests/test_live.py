"""LiveForecast: the plan it keeps, what alarms it, what it lets act, and what it remembers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_scaling import (
    Action,
    Advice,
    Converged,
    CurveBuilder,
    Diverged,
    Forecast,
    LossCurve,
    Overfitting,
    Reason,
    StopRule,
    TargetUnreachable,
    Verdict,
    advise,
)
from lightning_scaling.live import METRICS, LiveForecast

RATES = 3e-4 * 0.5 * (1.0 + np.cos(np.pi * np.arange(2000) / 2000))


def curve(n: int, *, floor: float = 2.0, horizon: int = 2000) -> LossCurve:
    rng = np.random.default_rng(1)
    steps = np.arange(1, n + 1)
    builder = CurveBuilder()
    builder.extend(
        steps.tolist(), (floor + 4.0 * steps**-0.5 + 0.01 * rng.standard_normal(n)).tolist(), RATES[:n].tolist()
    )
    return builder.curve()


def started(*rules: object, n: int = 1000) -> LiveForecast:
    live = LiveForecast(rules)  # type: ignore[arg-type]
    live.plan(2000, RATES)
    live.refit(curve(n - 250))  # a stop has to stand at a second look before it acts
    live.refit(curve(n))
    return live


def test_numbers_and_reading_before_and_after_the_first_forecast() -> None:
    live = LiveForecast()
    assert live.reading() is None
    assert all(math.isnan(x) for x in live.values())
    live.plan(2000, RATES)
    live.refit(curve(1000))
    assert live.forecast is not None
    final = live.forecast.final_loss
    assert live.reading() == final.short()
    found = dict(zip(METRICS, live.values(), strict=True))
    assert (found["final_loss_low"], found["final_loss"], found["final_loss_high"]) == (
        final.low,
        final.mid,
        final.high,
    )
    assert found["remaining_gain"] == live.forecast.remaining_gain.mid


def test_advice_is_reported_when_it_changes_only() -> None:
    live = LiveForecast([TargetUnreachable(loss=1.0)])
    live.plan(2000, RATES)
    assert not live.refit(curve(5))  # "no forecast yet" goes without saying
    changes = [live.refit(curve(n)) for n in (600, 630, 640, 900)]
    assert changes == [True, False, True, False]  # stop; and after a while, done
    assert live.wants_stop


def test_a_stop_acts_once_it_has_stood_for_a_while() -> None:
    live = LiveForecast([TargetUnreachable(loss=1.0)])
    live.plan(2000, RATES)
    acts, changes = [], []
    for n in (600, 630, 639, 640):
        changes.append(live.refit(curve(n)))
        assert live.next_step == (640 if n < 640 else 700)  # sooner than the next look of every run
        assert live.advice is not None
        assert live.advice.action is Action.STOP
        acts.append(live.wants_stop)
        said = "being stopped" if n == 640 else "if this still stands at step 640."
        assert live.sentence.startswith(live.advice.sentence)
        assert said in live.sentence
    assert acts == [False, False, False, True]
    assert changes == [True, False, False, True]  # said once when it is wished for, once when it is done
    second = LiveForecast([TargetUnreachable(loss=1.0)])
    second.load_state_dict(live.state_dict())
    second.plan(2000, RATES, step=640)
    second.refit(curve(650))
    assert second.wants_stop  # a resumed run remembers since when


def test_without_a_known_schedule_a_stop_advises_only() -> None:
    live = LiveForecast([TargetUnreachable(loss=1.0)])
    live.plan(2000, None)
    for n in (600, 800, 1000):
        live.refit(curve(n))
    assert live.advice is not None
    assert live.advice.action is Action.STOP
    assert not live.wants_stop
    assert live.sentence.endswith("This is advice only.")


def test_a_broken_run_is_stopped_at_once() -> None:
    live = LiveForecast([Diverged()])
    live.plan(2000, None)
    builder = CurveBuilder()
    builder.extend(range(1, 201), [2.0 + s**-0.5 for s in range(1, 191)] + [math.nan] * 10)
    live.refit(builder.curve())
    assert live.wants_stop


def test_a_departure_has_to_be_there_twice() -> None:
    def jumped(n: int) -> LossCurve:
        builder = CurveBuilder()
        loss = [2.0 + 4.0 * s**-0.5 + (3.0 if s > 1500 else 0.0) for s in range(1, n + 1)]
        builder.extend(range(1, n + 1), loss)
        return builder.curve()

    live = LiveForecast([Diverged()])
    live.plan(4000, np.full(4000, 1e-3))
    acts = []
    for n in (1400, 1700, 1750):
        live.refit(jumped(n))
        acts.append(live.wants_stop)
    assert acts == [False, False, True]
    assert live.acts_on is Reason.DIVERGED


def test_overruled_reason_advises_only() -> None:
    unreachable, converged = TargetUnreachable(loss=1.0), Converged(min_gain=10.0)
    live = started(unreachable)
    assert live.wants_stop
    live.overrule("TARGET_UNREACHABLE")
    live.refit(curve(1200))
    assert not live.wants_stop
    assert live.advice is not None
    assert live.advice.action is Action.STOP
    both = LiveForecast([unreachable, converged])
    both.overrule("TARGET_UNREACHABLE")
    both.plan(2000, RATES)
    both.refit(curve(1000))
    both.refit(curve(1200))
    assert both.wants_stop  # the other rule still may


def test_rates_are_held_against_the_plan() -> None:
    live = LiveForecast()
    assert live.keeps_promise(5, 123.0)  # no plan, no promise
    live.plan(2000, RATES)
    assert all(live.keeps_promise(step, RATES[step - 1]) for step in range(1, 2001))
    assert not live.keeps_promise(1000, RATES[0])
    assert not live.keeps_promise(1, 0.5 * RATES[0])
    assert live.keeps_promise(5000, 1.0)  # beyond the plan nothing is promised


def test_alarms() -> None:
    live = started()
    assert live.forecast is not None
    now = float(live.forecast.present_loss.mid)
    assert not live.is_alarmed(0, now, 0.001)
    assert not live.is_alarmed(0, now + 1.0, math.inf)  # one loss alone is no news
    assert not live.is_alarmed(0, math.nan, 0.001)
    assert not live.is_alarmed(1, math.nan, math.inf)  # mixed precision skips a step now and then
    assert live.is_alarmed(3, math.nan, math.inf)
    assert live.is_alarmed(0, now + 1.0, 0.001)
    assert sum(live.is_alarmed(0, now + 1.0, 0.001) for _ in range(1000)) <= 40
    assert LiveForecast().is_alarmed(3, math.nan, math.inf)  # broken at once, or right after a resume
    assert not LiveForecast().is_alarmed(0, now, 0.001)


def test_past_its_planned_end_a_run_has_no_final_loss_but_a_forecast() -> None:
    live = LiveForecast()
    live.plan(500, RATES[:500])
    live.refit(curve(800))
    assert live.forecast is not None
    assert live.forecast.horizon is None
    assert math.isfinite(live.forecast.converged_loss.mid)
    assert live.next_step > 800


def test_state_goes_on_to_the_bit() -> None:
    first = started(TargetUnreachable(loss=1.0))
    second = LiveForecast([TargetUnreachable(loss=1.0)])
    second.load_state_dict(first.state_dict())
    assert second.advice == first.advice
    assert second.advice is not None
    assert second.advice.reason is Reason.TARGET_UNREACHABLE
    # A resumed run has seen the past rates in blocks only; the plan it had before is as good and is kept.
    assert second.schedule is not None
    blurred = np.concatenate([second.schedule.rate_at(np.arange(1, 1001)) * second.peak, RATES[1000:]])
    second.plan(2000, blurred, step=1000)
    for live in (first, second):
        live.refit(curve(1100))
    assert second.state_dict() == first.state_dict()
    # Another plan is taken over.
    second.plan(2000, RATES[::-1].copy(), step=1100)
    assert second.keeps_promise(2000, RATES[0])
    with pytest.raises(ValueError, match="version"):
        second.load_state_dict({"version": 0})


def test_closing_words() -> None:
    live = started(TargetUnreachable(loss=1.0))
    stopped = live.summary(curve(1000))
    assert "step 1 000 of 2 000" in stopped
    assert "(50 % of its steps saved, target unreachable)" in stopped
    live.refit(curve(2000))
    assert "what happened" in live.summary(curve(2000))


def test_closing_words_of_a_loss_that_is_not_known_at_every_step() -> None:
    live = LiveForecast(loss="val_loss")
    live.plan(2000, RATES)
    live.refit(curve(1800))
    assert "what happened" not in live.summary(curve(1900), 2000)  # a value from step 1 900 is not the end
    ended = live.summary(curve(1970), 2000)
    assert ended.startswith("Forecasts of val_loss at step 2 000, and what happened")
    stopped = live.summary(curve(1500), 1600)
    assert stopped.startswith("The run ended at step 1 600 of 2 000 (20 % of its steps saved); val_loss was 2.")


def test_a_plan_is_adopted() -> None:
    first, second = LiveForecast(), LiveForecast()
    first.plan(2000, RATES)
    second.refit(curve(300))
    second.adopt(first)
    assert (second.horizon, second.schedule, second.peak) == (2000, first.schedule, first.peak)
    assert second.next_step == 400
    second.refit(curve(1000))
    first.refit(curve(1000))
    assert second.values() == first.values()


def test_a_run_that_broke_has_no_end_to_be_held_against() -> None:
    live = started()
    builder = CurveBuilder()
    builder.extend(range(1, 2001), [2.0 + s**-0.5 for s in range(1, 1501)] + [math.nan] * 500)
    live.refit(builder.curve())
    assert all(math.isnan(x) for x in live.values())
    words = live.summary(builder.curve())
    assert words.startswith("The last 500 losses were NaN or infinite")
    assert "held the loss" not in words


def test_what_is_not_usable_is_not_logged() -> None:
    live = LiveForecast()
    live.plan(2000, RATES)
    live.refit(curve(30))  # 1.5 % of the run
    assert live.forecast is not None
    assert live.forecast.verdict is Verdict.TOO_EARLY
    assert all(math.isnan(x) for x in live.values())
    assert live.reading() is None


def test_no_rule_says_stop_in_the_first_fifth_and_none_acts_at_the_very_end() -> None:
    live = LiveForecast([TargetUnreachable(loss=1.0)])
    live.plan(2000, RATES)
    for n in (150, 250, 390):
        live.refit(curve(n))
        assert live.advice is not None
        assert (live.advice.action, live.advice.reason) == (Action.CONTINUE, Reason.EARLY)
        assert live.sentence.endswith("but a fifth of the run is not over yet: go on.")
    live.refit(curve(400))
    assert live.sentence.endswith("if this still stands at step 440.")
    live.refit(curve(440))
    assert live.wants_stop


def test_a_rule_without_a_fifth_of_its_own_acts_after_it_all_the_same() -> None:
    class Always(StopRule):
        def judge(self, forecast: Forecast) -> Advice:
            return Advice(Action.STOP, Reason.CONVERGED, "stop.")

    live = LiveForecast([Always()])
    live.plan(2000, RATES)
    for n in (150, 250, 399):
        live.refit(curve(n))
        assert live.sentence.endswith("if this still stands at step 400.")
    live.refit(curve(400))
    assert live.wants_stop
    late = LiveForecast([TargetUnreachable(loss=1.0)])
    late.plan(2000, RATES)
    late.refit(curve(1970))
    assert "ends by itself" in late.sentence
    late.refit(curve(2000))
    assert not late.wants_stop


def test_the_advice_is_said_again_at_each_quarter() -> None:
    live = LiveForecast()
    live.plan(2000, RATES)
    news = [n for n in range(200, 2001, 100) if live.refit(curve(n))]
    assert news == [200, 500, 1000, 1500]


def test_advice_is_that_of_advise() -> None:
    live = started(TargetUnreachable(loss=1.0), Converged(min_gain=1e-9))
    assert live.forecast is not None
    assert live.advice == advise(live.forecast, [TargetUnreachable(loss=1.0), Converged(min_gain=1e-9)])


def spiked(size: float, at: int, over: int = 1, n: int = 4000) -> tuple[np.ndarray, np.ndarray, float]:
    """Return steps, losses with a spike that recovers over so many steps, and where the run ends without it."""
    S = np.arange(1, n + 1)
    law = 2.0 + 6.0 * S**-0.4
    after = np.where(S >= at, np.exp(-(S - at) / over) if over > 1 else S == at, 0.0)
    return S, law + 0.05 * np.random.default_rng(at).standard_normal(n) + size * after, float(law[-80:].mean())


@pytest.mark.parametrize("at", [1437, 1899, 2764])
def test_a_single_huge_step_neither_moves_the_forecast_nor_stops_a_run(at: int) -> None:
    S, L, end = spiked(30.0, at)
    live = LiveForecast([TargetUnreachable(end + 0.05)])
    live.plan(4000, np.ones(4000))
    builder, step = CurveBuilder(), 0
    for now in (at - 1, at, at + 2, at + 20, at + 80, at + 160):
        builder.extend(S[step:now].tolist(), L[step:now].tolist())
        step = now
        live.refit(builder.curve())
        assert live.forecast is not None
        assert live.advice is not None
        assert live.advice.action is not Action.STOP
        assert abs(float(live.forecast.final_loss.mid) - end) < 0.05


def test_an_overfitting_run_is_stopped_at_the_second_look_that_says_so() -> None:
    S = np.arange(1, 2001)
    L = 2.0 + 4.0 * S**-0.5 + 0.5 * (np.maximum(S - 600, 0) / 1000.0) ** 1.5
    L = L + 0.01 * np.random.default_rng(1).standard_normal(S.size)
    live = LiveForecast([Overfitting()])
    live.plan(2000, np.ones(2000))
    said = []
    while not live.wants_stop and live.next_step < 2000:
        live.refit(LossCurve(S, L).until(live.next_step))
        assert live.advice is not None
        said.append(live.advice.action is Action.STOP)
    assert live.wants_stop
    assert live.acts_on is Reason.OVERFITTING
    assert said[-2:] == [True, True]
    assert sum(said) <= 3


def test_after_a_law_has_failed_a_stop_stands_for_longer() -> None:
    S, L, end = spiked(1.0, 2000, over=160)
    live = LiveForecast([TargetUnreachable(end + 0.02)])
    live.plan(4000, np.ones(4000))
    builder, failed, said = CurveBuilder(), 0, 0
    while not live.wants_stop and live.next_step < 4000:
        now = live.next_step
        builder.extend(S[builder.step : now].tolist(), L[builder.step : now].tolist())
        live.refit(builder.curve())
        assert live.forecast is not None
        failed = now if live.forecast.verdict is Verdict.LAW_REJECTED else failed
        said += "if this still stands at step" in live.sentence
    assert failed
    assert said
    assert not live.wants_stop or builder.step >= failed + 600
