"""Traits: what a finished run has shown, against what was planted in it."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling import LossCurve, LRSchedule
from lightning_scaling.siblings.traits import Traits
from tests.siblings.planted import rates, run


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
        assert traits.log_b is not None
        off += [
            (np.log(x) - mean) / variance**0.5
            for x, (mean, variance) in ((alpha, traits.log_alpha), (0.1, traits.log_b))
        ]
        assert traits.responses.sum() == pytest.approx(1.0)
    assert np.mean(np.abs(off) < 1.645) >= 0.75


def test_a_rate_that_never_falls_shows_no_decay(rng: np.random.Generator) -> None:
    planted = run(rng, kind="constant")
    assert shown(planted.curve, planted.lr_schedule).log_b is None


def test_the_unit_of_the_loss_is_that_of_b_alone(rng: np.random.Generator) -> None:
    planted = run(rng)
    one = shown(planted.curve, planted.lr_schedule)
    other = shown(LossCurve(planted.curve.S, 1000.0 * planted.curve.L), planted.lr_schedule)
    assert (*other.log_alpha, *other.log_delay) == pytest.approx((*one.log_alpha, *one.log_delay), rel=1e-5)
    assert one.log_b is not None
    assert other.log_b is not None
    assert other.log_b[0] - one.log_b[0] == pytest.approx(np.log(1000.0), abs=1e-5)


def test_one_curve_under_two_schedules_is_two_runs(rng: np.random.Generator) -> None:
    # What is kept with a curve is kept for its schedule: that of a first call says nothing to a second.
    curve = run(rng).curve
    falling, held = LRSchedule.from_array(rates("cosine")), LRSchedule.from_array(rates("constant"))
    assert shown(curve, falling).log_b is not None
    assert shown(curve, held).log_b is None
    assert shown(curve, falling) is shown(curve, falling)


@pytest.mark.parametrize("L", [[3.0, 2.0, 1.0], [2.0] * 5, []])
def test_hardly_a_curve_has_no_law(L: list[float]) -> None:
    assert Traits.of(LossCurve(np.arange(1, len(L) + 1), L), LRSchedule.constant(100)) is None
