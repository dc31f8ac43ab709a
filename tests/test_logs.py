"""LogCurve: window means in the middle of their windows."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lightning_scaling import forecast
from lightning_scaling.logs import LogCurve
from tests.trainers import law


def test_a_log_of_means_is_the_curve_it_was_made_from() -> None:
    log = LogCurve()
    steps = np.arange(1, 2001)
    losses = np.array([law(int(s)) for s in steps])
    for end in range(10, 2001, 10):
        log.append(end, float(losses[end - 10 : end].mean()), lr=0.1)
    curve = log.curve()
    assert curve.S.tolist() == [steps[end - 10 : end].mean() for end in range(10, 2001, 10)]
    assert np.average(curve.L, weights=curve.count) == pytest.approx(losses.mean())
    assert curve.lr is not None
    assert forecast(curve, horizon=8000, lr_schedule=np.ones(8000)).final_loss.mid == pytest.approx(law(7900), rel=0.01)


def test_windows_may_differ_in_width_and_single_steps_have_none() -> None:
    means, singles = LogCurve(), LogCurve(averaged=False)
    for log in (means, singles):
        for step in (1, 10, 14):
            log.append(step, 2.0)
    assert (means.curve().S.tolist(), means.curve().count.tolist()) == ([1.0, 6.0, 12.5], [1.0, 9.0, 4.0])
    assert (singles.curve().S.tolist(), singles.curve().count.tolist()) == ([1.0, 10.0, 14.0], [1.0, 1.0, 1.0])


def test_what_is_not_finite_is_counted_in_steps() -> None:
    log = LogCurve()
    for step, loss in ((10, 2.0), (20, math.nan), (30, math.inf)):
        log.append(step, loss)
    assert log.curve().n_nonfinite == 20
    log.append(40, 1.0)
    assert (log.curve().n_nonfinite, len(log.curve()), log.curve().step) == (0, 2, 40)


def test_entries_that_come_again_are_left_out() -> None:
    log = LogCurve()
    for step, loss in ((10, 2.0), (20, 1.0), (10, 9.0), (20, 9.0), (30, 0.5)):
        log.append(step, loss)
    assert log.curve().L.tolist() == [2.0, 1.0, 0.5]


def test_nothing_yet() -> None:
    assert len(LogCurve().curve()) == 0
    empty = LogCurve().curve(step=7, epoch_ends=[5, 10])
    assert (empty.step, empty.epoch_ends) == (7, (5,))


def test_rates_must_be_known_everywhere() -> None:
    log = LogCurve()
    log.append(10, 2.0, lr=0.1)
    assert log.curve().lr is not None
    log.append(20, 2.0)
    assert log.curve().lr is None
