"""Traits: what a finished run has shown, against what was planted in it."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling import LossCurve, LRSchedule
from lightning_scaling.fit.decay import arrived
from lightning_scaling.fit.prior import DEFAULT_PRIOR
from lightning_scaling.siblings.traits import Traits
from tests.siblings.planted import T, rates, run


def shown(curve: LossCurve, schedule: LRSchedule | None) -> Traits:
    assert schedule is not None
    traits = Traits.of(curve, schedule)
    assert traits is not None
    return traits


def test_the_planted_exponent_and_decay_lie_within_what_is_stated(rng: np.random.Generator) -> None:
    off = []
    for _ in range(8):
        alpha = float(rng.uniform(0.4, 0.7))
        planted = run(rng, scatter=0.0, alpha=alpha)
        traits = shown(planted.curve, planted.lr_schedule)
        log_b = traits.log_gain(np.ones(3))
        assert log_b is not None
        off += [(np.log(x) - mean) / variance**0.5 for x, (mean, variance) in ((alpha, traits.log_alpha), (0.1, log_b))]
        assert traits.responses.sum() == pytest.approx(1.0)
    assert np.mean(np.abs(off) < 1.645) >= 0.75


def test_a_rate_that_never_falls_shows_no_decay(rng: np.random.Generator) -> None:
    planted = run(rng, kind="constant")
    assert shown(planted.curve, planted.lr_schedule).log_gain(np.ones(3)) is None


def test_the_unit_of_the_loss_is_that_of_b_alone(rng: np.random.Generator) -> None:
    planted = run(rng)
    one = shown(planted.curve, planted.lr_schedule)
    other = shown(LossCurve(planted.curve.S, 1000.0 * planted.curve.L), planted.lr_schedule)
    assert (*other.log_alpha, *other.log_delay) == pytest.approx((*one.log_alpha, *one.log_delay), rel=1e-5)
    gain, other_gain = one.log_gain(np.ones(3)), other.log_gain(np.ones(3))
    assert gain is not None
    assert other_gain is not None
    assert other_gain[0] - gain[0] == pytest.approx(np.log(1000.0), abs=1e-5)


def test_one_curve_under_two_schedules_is_two_runs(rng: np.random.Generator) -> None:
    # What is kept with a curve is kept for its schedule: that of a first call says nothing to a second.
    curve = run(rng).curve
    falling, held = LRSchedule.from_array(rates("cosine")), LRSchedule.from_array(rates("constant"))
    assert shown(curve, falling).log_gain(np.ones(3)) is not None
    assert shown(curve, held).log_gain(np.ones(3)) is None
    assert shown(curve, falling) is shown(curve, falling)


def test_what_a_decay_would_bring_elsewhere_is_what_was_planted(rng: np.random.Generator) -> None:
    # Whatever the form of the decay that was seen, and however soon the loss is taken to answer it.
    schedule = LRSchedule.from_array(rates("wsd"))
    share, gain = arrived(schedule, DEFAULT_PRIOR), 0.1 * float(1.0 - schedule.rate_at(np.array([0.99 * T]))[0])
    for kind in ("cosine", "wsd"):
        off = []
        for _ in range(3):
            planted = run(rng, kind=kind, scatter=0.0, noise=0.002)
            found = shown(planted.curve, planted.lr_schedule).log_gain(share)
            assert found is not None
            off.append((found[0] - np.log(gain)) / np.sqrt(found[1]))
        assert np.abs(off).max() < 2.5


@pytest.mark.parametrize("L", [[3.0, 2.0, 1.0], [2.0] * 5, []])
def test_hardly_a_curve_has_no_law(L: list[float]) -> None:
    assert Traits.of(LossCurve(np.arange(1, len(L) + 1), L), LRSchedule.constant(100)) is None
