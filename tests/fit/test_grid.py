"""Grid: the second family of points beside the prior for runs of all kinds."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling.fit.grid import Grid
from lightning_scaling.fit.kin import Kin
from lightning_scaling.fit.prior import DEFAULT_PRIOR

KIN = Kin(0.8, (np.log(0.4), 0.05), (np.log(500.0), 0.3), None, None)


def test_without_kin_it_is_the_grid_of_the_prior() -> None:
    grid = Grid.of(DEFAULT_PRIOR, None, 1e4)
    assert set(grid.alpha) == set(DEFAULT_PRIOR.alphas)
    assert set(grid.delay) == {*DEFAULT_PRIOR.delays, *(-x for x in DEFAULT_PRIOR.head_starts)}
    assert len(set(zip(grid.alpha, grid.delay, strict=True))) == grid.alpha.size
    assert not grid.family.any()
    middle = grid.alpha[grid.log_weight.argmax()]
    assert abs(np.log(middle) - DEFAULT_PRIOR.log_alpha[0]) < 0.1


def test_each_family_has_the_weight_that_kin_are_given() -> None:
    grid, alone = (Grid.of(DEFAULT_PRIOR, kin, 1e4) for kin in (KIN, None))
    share = np.bincount(grid.family, np.exp(grid.log_weight))
    assert share == pytest.approx([0.2, 0.8])
    own = grid.family == 0
    assert grid.alpha[own].tolist() == alone.alpha.tolist()
    # Among themselves the points of the prior keep their odds.
    assert np.ptp(grid.log_weight[own] - alone.log_weight) < 1e-9


def test_the_points_of_kin_have_the_mean_and_spread_that_kin_state() -> None:
    grid = Grid.of(DEFAULT_PRIOR, KIN, 1e4)
    theirs = grid.family == 1
    w = np.exp(grid.log_weight[theirs])
    for values, (mean, sd) in ((grid.alpha[theirs], KIN.log_alpha), (1e4 * grid.delay[theirs], KIN.log_delay)):
        found = np.average(np.log(values), weights=w)
        assert found == pytest.approx(mean, abs=1e-9)
        spread = np.sqrt(np.average((np.log(values) - mean) ** 2, weights=w))
        assert 0.8 * sd < spread < 1.3 * sd


def test_a_delay_never_reaches_the_present() -> None:
    assert Grid.of(DEFAULT_PRIOR, KIN, 50.0).delay.max() <= 0.7


def test_a_head_start_is_rare_and_steepens_the_law() -> None:
    grid = Grid.of(DEFAULT_PRIOR, None, 1e4)
    weight, ahead = np.exp(grid.log_weight), grid.delay < 0.0
    expected = DEFAULT_PRIOR.head_start * len(DEFAULT_PRIOR.head_starts) / len(DEFAULT_PRIOR.delays)
    assert weight[ahead].sum() / weight[~ahead].sum() == pytest.approx(expected, rel=0.3)
    # The law's slope in its own time, by differences, over that in the run's.
    phi = grid.power_laws(np.array([1e4 * (1.0 - 1e-5), 1e4 * (1.0 + 1e-5)]), 1e4)
    slope = -(phi[1] - phi[0]) / 2e-5
    assert (grid.alpha / slope)[ahead] == pytest.approx(grid.stretch[ahead], rel=1e-4)
    assert (grid.stretch[~ahead] == 1.0).all()
