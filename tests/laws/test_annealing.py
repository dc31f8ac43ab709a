"""Laws that know the learning rate, and the convex bound of a schedule."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling.laws import MULTI_POWER_100M, MultiPowerLaw, TissueLaw
from lightning_scaling.laws.convex import best_rate, bound_terms

TISSUE = TissueLaw(L_0=3.0, A=0.5, alpha=0.5, annealing=0.3, decay=0.99)
WARM = np.append(np.linspace(1e-6, 3e-4, 100), np.full(900, 3e-4))
schedules = st.lists(st.floats(0.01, 1.0), min_size=2, max_size=30).map(np.array)


@given(schedules, st.floats(0.1, 0.999))
def test_tissue_areas_are_the_double_sum(rates: np.ndarray, decay: float) -> None:
    S1, S2 = TissueLaw(3.0, 0.5, 0.5, 0.3, decay).areas(rates)
    drops = np.append(0.0, -np.diff(rates))
    expected = sum(drops[k] * decay ** (i - k) for i in range(rates.size) for k in range(i + 1))
    assert S1[-1] == pytest.approx(rates.sum())
    assert S2[-1] == pytest.approx(expected, abs=1e-9)


def test_a_constant_rate_is_a_power_law_and_a_decay_brings_the_loss_down() -> None:
    constant = np.full(2000, 3e-4)
    t = np.arange(1, 2001)
    assert TISSUE.loss(constant) == pytest.approx(3.0 + 0.5 * (3e-4 * t) ** -0.5, rel=1e-12)
    law = MULTI_POWER_100M
    assert law.loss(constant, t) == pytest.approx(law.L_0 + law.A * (3e-4 * t) ** -law.alpha, rel=1e-12)
    decayed = np.append(constant[:1500], np.linspace(3e-4, 3e-5, 500))
    plain = TISSUE.L_0 + TISSUE.A * TISSUE.areas(decayed)[0] ** -TISSUE.alpha
    assert np.all(TISSUE.loss(decayed)[1502:] < plain[1502:])
    assert law.loss(decayed, 2000) < law.loss(constant, 2000)


def test_the_unit_of_the_rate_changes_no_loss() -> None:
    decayed = np.append(WARM, np.linspace(3e-4, 0.0, 200))
    u, law = 1e3, MULTI_POWER_100M
    tissue = TissueLaw(TISSUE.L_0, TISSUE.A * u**TISSUE.alpha, TISSUE.alpha, TISSUE.annealing / u, TISSUE.decay)
    assert tissue.loss(decayed * u) == pytest.approx(TISSUE.loss(decayed), rel=1e-12)
    other = MultiPowerLaw(
        law.L_0,
        law.A * u**law.alpha,
        law.alpha,
        law.annealing / u,
        law.scale * u ** (law.gamma - 1.0),
        law.beta,
        law.gamma,
    )
    steps = [200, 1000, 1100, 1200]
    assert other.loss(decayed * u, steps) == pytest.approx(law.loss(decayed, steps), rel=1e-12)


def test_a_rate_of_zero_is_the_limit_of_small_ones() -> None:
    law = MULTI_POWER_100M
    nearly, quite = (np.append(WARM, np.full(50, end)) for end in (1e-300, 0.0))
    assert np.isfinite(law.loss(quite, [1050])).all()
    # G of the drop to almost nothing tends to 1 as the rate does: eta^-gamma outgrows the sum of the rates after it
    # only if there are any, so the step before is compared.
    assert law.loss(quite, 1000) == law.loss(nearly, 1000)


@pytest.mark.parametrize("bad", [[], [[1.0]], [1.0, -1.0], [1.0, float("nan")], [0.0, 1.0]])
def test_rates_must_be_rates(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"^Expected rates to be a list of finite numbers"):
        TISSUE.loss(bad)


def test_steps_must_be_within_the_rates() -> None:
    for S in (0, 1001, 1.5):
        with pytest.raises(ValueError, match=r"^Expected S from 1 to 1000, the number of rates, got"):
            MULTI_POWER_100M.loss(WARM, S)
    with pytest.raises(ValueError, match=r"^Expected a rate above 0 up to the first step"):
        MULTI_POWER_100M.loss([0.0, 1e-4], 1)
    with pytest.raises(ValueError, match=r"^Expected TissueLaw.decay below 1, got 1.0"):
        TissueLaw(3.0, 0.5, 0.5, 0.3, 1.0)


@given(schedules, st.floats(0.01, 100.0))
def test_the_best_rate_makes_the_bound_least(rates: np.ndarray, factor: float) -> None:
    rate, bound = best_rate(rates)
    assert sum(bound_terms(rates * rate)) == pytest.approx(bound, rel=1e-9)
    assert sum(bound_terms(rates * rate * factor)) >= bound * (1.0 - 1e-9)


def test_a_cooldown_is_worth_it() -> None:
    constant, linear = np.ones(400), (400 - np.arange(400)) / 400
    assert best_rate(linear)[1] < best_rate(constant)[1]
    assert best_rate(constant, distance=2.0)[1] == pytest.approx(2.0 * best_rate(constant)[1])
    with pytest.raises(ValueError, match=r"^Expected rates > 0"):
        best_rate([1.0, 0.0])
