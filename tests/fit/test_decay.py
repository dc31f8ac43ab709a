"""DecayBelief: what is believed of a decay, alone and beside what kin have shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lightning_scaling import LossCurve, LRSchedule
from lightning_scaling.fit.data import FitData, reduce_curve
from lightning_scaling.fit.decay import (
    DecayBelief,
    HiddenDecay,
    arrived,
    expected_decay,
    freedom,
    full_decay,
    spread_of_decay,
)
from lightning_scaling.fit.kin import Kin
from lightning_scaling.fit.prior import DEFAULT_PRIOR

SCHEDULE = LRSchedule.from_array(np.linspace(1.0, 0.0, 4000))
RESPONSES = np.array([0.7, 0.2, 0.1])


def kin(log_gain: tuple[float, float] | None, weight: float = 0.8) -> Kin:
    return Kin(weight, (-0.6, 0.1), (5.0, 0.5), log_gain, None if log_gain is None else RESPONSES)


def belief(other: Kin | None, *, decays: bool = True) -> DecayBelief:
    return DecayBelief.before(DATA, SCHEDULE, DEFAULT_PRIOR, decays=decays, positive=True, kin=other)


def data() -> FitData:
    S = np.arange(1, 2001, dtype=float)
    return reduce_curve(LossCurve(S, 2.0 + 6.0 * S**-0.5), windows_per_e_fold=32, e_folds=4.0, outlier=5.0)


DATA = data()


def test_without_kin_the_median_is_the_expected_decay() -> None:
    alone = belief(None)
    assert not alone.family.any()
    w = np.exp(alone.log_weight[0, 1:])
    middle = np.exp(np.average(np.log(alone.b[0, 1:4]), weights=w[:3]))
    assert expected_decay(DATA, SCHEDULE, DEFAULT_PRIOR, positive=True) == pytest.approx(alone.b[0, 3])
    assert alone.b[0, 1] < middle < alone.b[0, -1]


def test_both_families_have_equal_weight_until_the_grid_gives_them_theirs() -> None:
    both, alone = belief(kin((np.log(0.3), 0.1))), belief(None)
    own, theirs = (np.exp(both.log_weight[:, both.family == k]) for k in (0, 1))
    assert own == pytest.approx(np.exp(alone.log_weight))
    assert own.sum() == pytest.approx(theirs.sum())


def test_the_normals_of_kin_are_where_kin_say_and_answer_as_theirs_did() -> None:
    mean, sd = np.log(0.3), 0.1
    both = belief(kin((mean, sd)))
    theirs = both.family == 1
    shares = arrived(SCHEDULE, DEFAULT_PRIOR)
    # Under each answer the loss ends lower by what kin say, so the slower it is the larger is b.
    for j, share in enumerate(shares):
        b, w = both.b[j, theirs][1:], np.exp(both.log_weight[j, theirs][1:])
        assert np.average(np.log(share * b), weights=w) == pytest.approx(mean, abs=1e-9)
        assert 0.8 * sd < np.sqrt(np.average((np.log(share * b) - mean) ** 2, weights=w)) < 1.6 * sd
    by_response = np.exp(both.log_weight[:, theirs]).sum(axis=1)
    assert by_response / by_response.sum() == pytest.approx(0.9 * RESPONSES + 0.1 / 3)


def test_kin_that_never_decayed_leave_the_prior() -> None:
    both, alone = belief(kin(None)), belief(None)
    for k in (0, 1):
        assert both.b[:, both.family == k] == pytest.approx(alone.b)
        assert both.log_weight[:, both.family == k] == pytest.approx(alone.log_weight)


def test_where_nothing_decays_either_family_has_its_nothing() -> None:
    for other, families in ((None, [0]), (kin((0.0, 0.1)), [0, 1])):
        found = belief(other, decays=False)
        assert found.family.tolist() == families
        assert not found.b.any()
        assert found.sd.max() < 1e-5 * DATA.slope


def test_after_a_fit_each_normal_keeps_its_family() -> None:
    both = belief(kin((np.log(0.3), 0.1)))
    rng = np.random.default_rng(0)
    j, k = rng.integers(0, both.b.shape[0], 200), rng.integers(0, both.b.shape[1], 200)
    w = rng.dirichlet(np.ones(200))
    after = both.after(j, k, both.b[j, k], both.sd[j, k], w)
    assert after.family.tolist() == both.family.tolist()
    seen = np.exp(after.log_weight) > 1e-5
    assert after.b[seen] == pytest.approx(both.b[seen])
    assert np.exp(after.log_weight).sum() == pytest.approx(1.0, abs=1e-3)


def test_a_schedule_that_does_not_end_low_divides_by_no_nothing() -> None:
    rising = LRSchedule.from_array(np.linspace(0.5, 1.0, 4000))
    held = LRSchedule.from_array([1.0] * 3000 + [0.5] * 500 + [1.0] * 500)
    for schedule in (rising, held):
        assert full_decay(0.2, schedule, DEFAULT_PRIOR) == pytest.approx(2.0)


def noisy(scatter: float, *, came_down: float, scale: float = 1.0) -> FitData:
    """Return data of a loss that has come down by a factor, and of which single values scatter by a share of it."""
    S = np.arange(1, 2001, dtype=float)
    law = 1.0 + (came_down - 1.0) * S**-0.5
    L = scale * (law + scatter * np.random.default_rng(0).standard_normal(S.size))
    return reduce_curve(LossCurve(S, L), windows_per_e_fold=32, e_folds=4.0, outlier=5.0)


def test_a_loss_like_that_of_a_language_model_is_bounded_and_one_that_fell_far_or_scatters_is_not() -> None:
    free = {
        (scatter, came_down): freedom(noisy(scatter, came_down=came_down), DEFAULT_PRIOR, positive=True)
        for scatter in (0.03, 0.12, 0.3)
        for came_down in (4.0, 16.0, 60.0)
    }
    assert free[0.03, 4.0] == 0.0
    for scatter, came_down in free:
        assert 0.0 <= free[scatter, came_down] < 1.0
    assert 0.2 < free[0.03, 16.0] < free[0.03, 60.0]
    assert 0.5 < free[0.12, 4.0] < free[0.3, 4.0]
    assert max(free.values()) == free[0.3, 60.0]


def test_how_free_a_loss_is_does_not_depend_on_its_unit_and_needs_one_that_stays_positive() -> None:
    found = [freedom(noisy(0.1, came_down=8.0, scale=k), DEFAULT_PRIOR, positive=True) for k in (1.0, 1000.0, 3e-4)]
    assert found[1:] == pytest.approx(found[:1] * 2)
    assert freedom(noisy(0.1, came_down=8.0), DEFAULT_PRIOR, positive=False) == 0.0


def test_more_and_less_surely_is_expected_of_a_decay_where_nothing_bounds_the_loss() -> None:
    beliefs = []
    for scatter in (0.03, 0.15):
        data = noisy(scatter, came_down=3.0)
        found = DecayBelief.before(data, SCHEDULE, DEFAULT_PRIOR, decays=True, positive=True)
        weight = np.exp(found.log_weight[0, 1:])
        log_b = np.log(found.b[0, 1:] / data.present)
        mean = np.average(log_b, weights=weight)
        beliefs.append((mean, np.sqrt(np.average((log_b - mean) ** 2, weights=weight)), found.b.max() / data.present))
    bounded, free = beliefs
    assert free[0] > bounded[0]
    assert free[1] > 1.5 * bounded[1]
    assert free[2] == pytest.approx(DEFAULT_PRIOR.decay_most)  # however large its tail


def test_a_decay_that_nobody_told_of_is_likelier_where_nothing_bounds_the_loss() -> None:
    hidden = LRSchedule.of_past([1.0, 2000.0], [1.0, 1.0], 8000)
    found = [
        HiddenDecay.of(noisy(scatter, came_down=3.0), hidden, DEFAULT_PRIOR, positive=True) for scatter in (0.03, 0.3)
    ]
    assert all(one is not None for one in found)
    bounded, free = (1.0 - one.weight[0] for one in found if one is not None)
    assert bounded == pytest.approx(DEFAULT_PRIOR.hidden_decay[0])
    assert bounded + 0.1 < free < 0.36


def test_the_slope_holds_a_decay_back_only_where_the_loss_is_bounded() -> None:
    for scatter, held_back in ((0.03, True), (0.3, False)):
        flat, steep = (
            expected_decay(replace(noisy(scatter, came_down=3.0), slope=g), SCHEDULE, DEFAULT_PRIOR, positive=True)
            for g in (1e-3, 1.0)
        )
        assert (flat < 0.1 * steep) == held_back


def test_where_a_loss_can_be_negative_its_way_so_far_takes_the_place_of_a_share_of_it() -> None:
    data = noisy(0.03, came_down=8.0)
    steep = replace(data, slope=1e3)
    found = expected_decay(steep, SCHEDULE, DEFAULT_PRIOR, positive=False)
    assert found == pytest.approx(DEFAULT_PRIOR.signed.share * (data.first - data.present), rel=1e-2)
    lower = replace(steep, first=steep.first - 5.0, present=steep.present - 5.0)
    assert expected_decay(lower, SCHEDULE, DEFAULT_PRIOR, positive=False) == pytest.approx(found)
    risen = replace(steep, first=steep.present - 1.0)
    assert expected_decay(risen, SCHEDULE, DEFAULT_PRIOR, positive=False) > found  # nothing but the slope is left
    assert spread_of_decay(data, DEFAULT_PRIOR, positive=False) > spread_of_decay(data, DEFAULT_PRIOR, positive=True)
