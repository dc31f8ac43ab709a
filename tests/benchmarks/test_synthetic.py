"""Runs made by the law: every term is what its name says, and the engine's own objects agree."""

import numpy as np
import pytest

from benchmarks.synthetic import SyntheticRun, constant, cosine, wsd

HORIZON, WARM_UP = 4000, 100
S = np.arange(1, HORIZON + 1)


def test_schedules_warm_up_hold_their_peak_and_end_at_nothing():
    for schedule, held in (
        (wsd(HORIZON, warm_up=WARM_UP, decay_from=0.5), 2000),
        (cosine(HORIZON, warm_up=WARM_UP), WARM_UP),
        (constant(HORIZON, warm_up=WARM_UP), HORIZON),
    ):
        assert schedule.horizon == HORIZON
        assert schedule.rate_at(WARM_UP / 2) == pytest.approx(0.5, abs=0.03)
        np.testing.assert_allclose(schedule.rate_at(np.arange(WARM_UP + 2, held + 1, 50)), 1.0, rtol=1e-3)
        assert schedule.rate_at(HORIZON) == pytest.approx(float(held == HORIZON), abs=2e-3)
        assert np.all(np.diff(schedule.rate_at(S[held + 10 :])) <= 0.0)


def test_the_loss_is_the_law_power_law_rate_less_what_the_decay_brings():
    run = SyntheticRun(wsd(HORIZON, warm_up=WARM_UP, decay_from=0.5), delay=60.0, first=np.inf)
    np.testing.assert_allclose(run.expected(S), run.power_law(S) - run.decay(S), rtol=1e-12)
    assert run.decay([2000.0])[0] == pytest.approx(0.0, abs=1e-3)
    assert 0.5 * run.b < run.decay([HORIZON])[0] < run.b
    assert run.power_law([HORIZON])[0] == pytest.approx(run.E + run.A)
    assert run.power_law([1e9])[0] == pytest.approx(run.E, abs=1e-2)


def test_a_delay_costs_what_as_many_steps_power_law_rate_would_have_brought():
    run = SyntheticRun(constant(HORIZON, warm_up=WARM_UP), delay=60.0)
    np.testing.assert_allclose(run.power_law(S[500:] + 60.0), run.power_law(S[500:], delay=0.0), rtol=1e-9)


def test_a_run_begins_at_its_first_loss_and_leaves_the_law_for_good():
    schedule = constant(HORIZON, warm_up=WARM_UP)
    kept, left = (SyntheticRun(schedule, leaves=(0.4, 0.5, rise)) for rise in (0.0, 0.2))
    assert kept.expected([1.0])[0] == pytest.approx(kept.first, rel=1e-2)
    off = left.expected(S) - kept.expected(S)
    np.testing.assert_allclose(off[: int(0.4 * HORIZON)], 0.0, atol=1e-12)
    np.testing.assert_allclose(off[int(0.5 * HORIZON) :], 0.2, rtol=1e-9)


def test_the_log_is_that_of_the_steps_seen_and_the_same_every_time():
    run, again, other = (SyntheticRun(constant(HORIZON, warm_up=WARM_UP), seed=seed) for seed in (0, 0, 1))
    half = run.curve(0.5)
    assert (half.step, int(half.count.sum())) == (2000, 2000)
    assert np.average(half.L, weights=half.count) == pytest.approx(run.losses[:2000].mean())
    np.testing.assert_array_equal(again.losses, run.losses)
    assert np.std(run.losses - run.expected(S)) == pytest.approx(run.noise, rel=0.05)
    assert not np.allclose(other.losses, run.losses)
