"""Replays of runs whose law, and so whose end, is known."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from lightning_scaling.advice import Converged, Diverged, TargetUnreachable
from lightning_scaling.curve import LossCurve
from lightning_scaling.forecast import forecast
from lightning_scaling.live import LiveForecast
from lightning_scaling.report.text import pool_text, replay_text
from lightning_scaling.review import Outcome, default_rules, replay, scores
from lightning_scaling.schedule import LRSchedule

T = 3000
CONSTANT = LRSchedule.from_array(np.ones(T))


@pytest.fixture
def run(make_curve: Callable[..., tuple[np.ndarray, np.ndarray]]) -> LossCurve:
    """A run that ends at 2 + 8/sqrt(3000) = 2.146."""
    return LossCurve(*make_curve(T))


def test_targets_beyond_reach_are_stopped_and_those_in_reach_are_not(run: LossCurve) -> None:
    rules = {"far": TargetUnreachable(2.0), "near": TargetUnreachable(2.2), "worth": Converged(1e-4)}
    found = replay(run, schedule=CONSTANT, rules=rules)
    far, near, worth = found.stops
    assert far.outcome is Outcome.RIGHT_STOP
    assert far.step is not None
    assert far.saved == pytest.approx(1.0 - far.step / T)
    assert far.saved > 0.3
    assert near.outcome is Outcome.RIGHT_GO
    assert near.step is None
    assert worth.outcome is Outcome.RIGHT_GO
    assert found.truth == pytest.approx(2.0 + 8.0 / math.sqrt(0.99 * T), abs=0.01)


def test_it_stops_where_a_monitor_would_have(run: LossCurve) -> None:
    rule = TargetUnreachable(2.0)
    live = LiveForecast([rule])
    live.plan(T, np.ones(T))
    while not live.wants_stop:
        step = live.next_step
        live.refit(run.until(step))
    stop = replay(run, schedule=CONSTANT, rules={"far": rule}).stops[0]
    assert stop.step == step


def test_looks_are_what_was_known_then(run: LossCurve) -> None:
    found = replay(run, schedule=CONSTANT)
    assert [look.step for look in found.looks] == [300 * k for k in range(1, 10)]
    then = forecast(run.until(1500), horizon=T, lr_schedule=CONSTANT)
    assert found.looks[4].final_loss == then.final_loss
    assert found.looks[4].baselines["last value"] > found.truth
    errors = found.errors()
    assert errors["forecast"] < 0.5 * errors["last value"]
    assert [f.step for f in found.forecasts] == [300, 900, 1500]


def test_a_run_that_broke(run: LossCurve) -> None:
    broken = LossCurve(S=run.S, L=run.L, step=T + 500, n_nonfinite=500)
    schedule = LRSchedule.from_array(np.ones(T + 500))
    found = replay(broken, schedule=schedule, rules={"near": TargetUnreachable(2.5), "diverged": Diverged()})
    assert math.isnan(found.truth)
    near, diverged = found.stops
    assert near.outcome is Outcome.MISSED
    assert diverged.outcome is Outcome.RIGHT_STOP
    assert diverged.step is not None
    assert T < diverged.step < T + 200
    assert found.errors() == {}
    assert "broke" in replay_text(found)


def test_without_a_schedule_no_rule_acts_and_it_says_so(run: LossCurve) -> None:
    found = replay(run, rules={"far": TargetUnreachable(2.0)})
    assert found.stops[0].outcome is Outcome.MISSED
    assert "The learning rate was not known ahead" in replay_text(found)


def test_a_false_stop_is_counted(run: LossCurve) -> None:
    L = run.L.copy()
    L[2000:] -= 0.5  # what nobody could know
    found = replay(LossCurve(S=run.S, L=L), schedule=CONSTANT, rules={"far": TargetUnreachable(2.0)})
    stop = found.stops[0]
    assert stop.outcome is Outcome.FALSE_STOP
    assert stop.given_up > 0.4
    (row,) = scores([found, replay(run, schedule=CONSTANT, rules={"far": TargetUnreachable(2.0)})])
    assert (row.n_runs, row.n_go, row.n_false, row.n_stop, row.n_right) == (2, 1, 1, 1, 1)
    text = pool_text([found, found], [row])
    assert "Wrongly stopped: 1 of 1 (100.0 %)." in text


def test_default_rules_lie_around_the_end(run: LossCurve) -> None:
    rules = default_rules(run)
    targets = [rule.loss for rule in rules.values() if isinstance(rule, TargetUnreachable)]
    fall = float(run.L[30:60].mean()) - 2.146
    assert np.array(targets) - 2.146 == pytest.approx(fall * np.array([-0.1, -0.05, -0.02, 0.02, 0.05, 0.1]), abs=0.02)
    assert list(default_rules(LossCurve(S=[1, 2, 3], L=[1.0, 2.0, 3.0]))) == ["diverged"]


def test_too_short() -> None:
    with pytest.raises(ValueError, match="Expected a run with at least two losses, got 1"):
        replay(LossCurve(S=[1], L=[2.0]))
