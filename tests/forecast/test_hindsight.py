"""Hindsight: the past as it was."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling import LossCurve
from lightning_scaling.forecast.hindsight import Hindsight


def test_it_follows_the_curve_and_knows_its_error(rng: np.random.Generator) -> None:
    S = np.arange(1, 20_001, dtype=float)
    truth = 2.0 + 6.0 * S**-0.5
    past = Hindsight.of(LossCurve(S, truth + 0.3 * rng.standard_normal(S.size)))
    at = np.geomspace(200, 19_000, 80)
    for smooth in (False, True):
        mean, sd = past.at(at, smooth=smooth)
        pulls = (mean - (2.0 + 6.0 * at**-0.5)) / sd
        assert 0.5 < pulls.std() < 1.6
    plain, averaged = (past.at(at, smooth=smooth)[1].mean() for smooth in (False, True))
    assert averaged == pytest.approx(plain / np.sqrt(11), rel=0.3)
