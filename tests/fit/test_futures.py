"""The difference of two futures, against what one posterior says of two steps of one future."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.synthetic import SyntheticRun, constant, wsd
from lightning_scaling import LRSchedule, forecast
from lightning_scaling.fit.futures import difference
from lightning_scaling.fit.posterior import Posterior

T = 8000


def posterior(schedule: LRSchedule, share: float = 0.9) -> Posterior:
    found = forecast(SyntheticRun(schedule).curve(share), horizon=T, lr_schedule=schedule)._posterior
    assert isinstance(found, Posterior)
    return replace(found, surprise=0.0)


@pytest.mark.parametrize("schedule", [wsd(T, warm_up=200, decay_from=0.8), constant(T, warm_up=200)])
def test_under_one_schedule_it_is_the_fall_between_two_steps(schedule: LRSchedule) -> None:
    law = posterior(schedule)
    fall = law.loss([7400.0, 7920.0], combine=[[1.0], [-1.0]])
    found = difference(law, schedule, 7400.0, 7920.0)
    assert found.mean()[0] == pytest.approx(fall.mean()[0], rel=1e-9)
    assert found.sd()[0] >= fall.sd()[0]  # futures that part at once are less alike than one
    back = difference(law, schedule, 7920.0, 7400.0)
    assert back.mean()[0] == pytest.approx(-found.mean()[0], rel=1e-9)


def test_it_is_surer_than_two_forecasts() -> None:
    schedule = wsd(T, warm_up=200, decay_from=0.95)
    law = posterior(schedule, 0.5)
    twice = wsd(2 * T, warm_up=200, decay_from=0.95)
    alone = float(law.loss([7920.0]).sd()[0])
    assert difference(law, twice, 7920.0, 15840.0).sd()[0] < 0.5 * np.hypot(alone, alone)


def test_what_neither_future_shares_is_not_taken_out() -> None:
    falling, held = wsd(T, warm_up=200, decay_from=0.5), constant(T, warm_up=200)
    law = posterior(falling, 0.5)
    found = difference(law, held, 7920.0, 7920.0)
    truth = SyntheticRun(falling)
    decay = float(truth.decay([7920.0])[0])
    assert found.mean()[0] < -0.3 * decay  # of two runs of one length the one that lets its rate fall ends lower
    assert found.sd()[0] > 0.1 * abs(found.mean()[0])
