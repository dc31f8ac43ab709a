"""Stretch: large falls of a positive loss are less sure, small ones stay as they are."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling.fit.mixture import GaussianMixture
from lightning_scaling.fit.stretch import Stretch

P = np.array([0.02, 0.05, 0.25, 0.5, 0.75, 0.95, 0.98])


def about(middle: float, sd: float, now: float = 4.0, kind: float = 1.0) -> GaussianMixture:
    """Return what is said of a loss that is 4 now, or of its change."""
    means, least = np.array([[middle]]), 0.0 if kind > 0.0 else -now
    return GaussianMixture(np.ones(1), means, np.array([[sd]]), least, Stretch(now, 1.0, np.array([kind])))


def without(mixture: GaussianMixture) -> GaussianMixture:
    return GaussianMixture(mixture.weights, mixture.means, mixture.sds, mixture.least)


@pytest.mark.parametrize("middle", [0.3, 1.5, 3.0, 3.9, 4.0, 5.0])
def test_quantiles_rise_and_invert_the_cdf(middle: float) -> None:
    mixture = about(middle, 0.4)
    x = mixture.quantiles(P)[:, 0]
    assert np.all(np.diff(x) > 0.0)
    assert np.all(x > 0.0)
    assert [float(mixture.cdf(one)[0]) for one in x] == pytest.approx(P, abs=1e-4)


def test_the_median_stays_and_a_large_fall_is_less_sure() -> None:
    before, after = (m.quantiles(P)[:, 0] for m in (without(about(1.0, 0.3)), about(1.0, 0.3)))
    assert after[3] == pytest.approx(before[3])
    assert np.all(after[:3] < before[:3])
    assert np.all(after[4:] > before[4:])
    assert after.max() < 4.0


def test_a_small_fall_and_a_rise_are_left_as_they_are() -> None:
    for middle, sd in ((3.9, 0.03), (4.3, 0.2)):
        before, after = (m.quantiles(P)[:, 0] for m in (without(about(middle, sd)), about(middle, sd)))
        assert after == pytest.approx(before, abs=2e-3 * sd)


def test_a_change_is_the_loss_less_the_present_one() -> None:
    loss, change = about(1.0, 0.3), about(-3.0, 0.3, kind=-1.0)
    assert change.quantiles(P) + 4.0 == pytest.approx(loss.quantiles(P), abs=1e-6)
    assert change.cdf(-3.5) == pytest.approx(loss.cdf(0.5), abs=1e-6)


def test_only_what_is_to_come_is_stretched() -> None:
    stretch = Stretch(4.0, 1.0, np.array([0.0, 1.0]))
    x = np.array([[0.5, 0.5]])
    bent = stretch.apply(x, np.array([1.0, 1.0]))
    assert bent[0, 0] == 0.5
    assert bent[0, 1] < 0.5
    assert stretch.undo(bent, np.array([1.0, 1.0])) == pytest.approx(x)


def test_no_loss_left_and_losses_far_off_are_no_trouble() -> None:
    mixture = about(0.2, 0.3)
    assert mixture.quantiles([1e-9])[0, 0] >= 0.0
    assert mixture.cdf(0.0)[0] == 0.0
    assert mixture.cdf(-1.0)[0] == 0.0
    assert mixture.cdf(1e9)[0] == 1.0
    # Six decades are as far as it goes.
    assert Stretch(1.0, 1.0, np.ones(1)).apply(np.array([[1e-5]]), np.array([0.1]))[0, 0] == pytest.approx(1e-6)
    assert Stretch(1.0, 1.0, np.ones(1)).apply(np.array([[1e-9]]), np.array([0.1]))[0, 0] == pytest.approx(1e-9)


@pytest.mark.parametrize("unit", [1e-6, 1e6])
def test_it_knows_no_unit(unit: float) -> None:
    x, median = np.array([[0.2], [1.0], [3.0]]), np.array([1.0])
    one, other = Stretch(4.0, 1.0, np.ones(1)), Stretch(4.0 * unit, 1.0, np.ones(1))
    assert other.apply(unit * x, unit * median) == pytest.approx(unit * one.apply(x, median))
