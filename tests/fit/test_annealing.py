"""The annealing term: nothing without a decay, everything after one."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling import LRSchedule
from lightning_scaling.fit.annealing import Annealing, Response, first_peak

RESPONSES = (Response(0.0, 1.0), Response(0.0, 0.5), Response(0.01, 0.6))


def at(rates: object, S: object) -> np.ndarray:
    return Annealing(LRSchedule.from_array(rates), RESPONSES).at(np.asarray(S, dtype=float))  # type: ignore[arg-type]


def test_nothing_at_a_constant_rate_nor_in_the_warm_up() -> None:
    warm = np.minimum(np.arange(1, 1001) / 100, 1.0)
    assert not at(np.ones(100), [1, 50, 100]).any()
    assert at(warm, [10, 50, 99, 500, 1000]) == pytest.approx(np.zeros((5, 3)), abs=0.03)
    assert first_peak(LRSchedule.from_array(warm)) == pytest.approx(98, abs=2)


def test_a_step_is_followed_at_once_or_with_the_power_kernel() -> None:
    rates = np.concatenate((np.ones(500), np.full(500, 0.25)))
    a = at(rates, [400, 502, 900])
    assert a[0] == pytest.approx([0, 0, 0])
    assert a[2, :2] == pytest.approx([0.75, 1 - 0.25**0.5])
    # Multi-Power kernel by hand: 400 steps at rate 1/4 after the fall, scaled by 0.25^-1/2 and 0.01 of the summed rate.
    x = (900 - 500) * 0.25 / np.sqrt(0.25) / (0.01 * rates.sum())
    assert a[2, 2] == pytest.approx(0.75 * (1 - (1 + x) ** -0.6), rel=0.02)
    assert 0 <= a[1, 2] < a[2, 2]


def test_a_rate_that_rises_again_takes_back_what_its_fall_gave() -> None:
    rates = np.concatenate((np.ones(500), np.full(500, 0.2), np.ones(1000)))
    a = at(rates, [990, 1990])
    assert a[1] == pytest.approx([0, 0, 0], abs=0.05)
    assert (a[0] > 0.3).all()


def test_it_grows_along_a_decay() -> None:
    n = 2000
    a = at(0.5 * (1 + np.cos(np.pi * np.arange(n) / n)), np.linspace(50, n, 40))
    assert (np.diff(a, axis=0) > -1e-3).all()
    assert a[-1, 0] == pytest.approx(1.0, abs=1e-3)
