"""The adapter scores what a user is shown."""

import math

import numpy as np
import pytest

from benchmarks import ours as adapter
from benchmarks.curves import RunCurve, make_tasks
from benchmarks.predictions import PROBABILITIES
from lightning_scaling import LossCurve, forecast


@pytest.fixture
def task(make_curve):
    S, L = make_curve(3000)
    (one,) = make_tasks([RunCurve("r", "g", S, L)], [0.5])
    return one


def test_the_intervals_scored_are_those_a_user_sees(task):
    prediction = adapter.ours(task)
    for level in (0.5, 0.8, 0.9):
        shown = forecast(LossCurve(task.S, task.L), horizon=task.T, level=level).final_loss
        assert prediction.interval(level) == pytest.approx((float(shown.low), float(shown.high)))
        assert prediction.mid == pytest.approx(float(shown.mid))


def test_the_distribution_is_the_packages_own(task):
    prediction = adapter.ours(task)
    result = forecast(LossCurve(task.S, task.L), horizon=task.T)
    below = [result.probability_below(q) for q in prediction.quantiles]
    np.testing.assert_allclose(below, PROBABILITIES, atol=0.005)
    assert prediction.seconds > 0.0
    assert prediction.verdict == result.verdict.name


def test_a_refusal_is_scored_as_the_last_value_and_counted(task, monkeypatch):
    silent = forecast(LossCurve(task.S[:2], task.L[:2]), horizon=task.T)
    assert math.isnan(float(silent.final_loss.mid))
    monkeypatch.setattr(adapter, "forecast", lambda *args, **kwargs: silent)
    prediction = adapter.ours(task)
    assert prediction.failed
    assert prediction.mid == task.last_value
    assert prediction.quantiles is None
