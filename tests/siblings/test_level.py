"""How far a forecast goes by the levels of its kin: as far as levels have proved better than laws, and no further."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling.siblings.level import weigh_levels


def ahead(errors: float, levels: float, *, ratio: float = 1.0, ratios: float = 1.0, n: int = 10) -> float:
    rng, ones = np.random.default_rng(0), np.ones(n)
    noise = rng.standard_normal((2, n))
    law = errors * noise[0]
    return weigh_levels(ones, law, law + levels * noise[1], ratios * ones, ratio)[1]


def test_the_better_of_the_two_has_its_way() -> None:
    found = [ahead(1.0, level) for level in (0.03, 0.3, 1.0, 3.0, 10.0)]
    assert found == sorted(found, reverse=True)
    assert found[0] > 0.85
    assert found[-1] < 0.05
    assert 0.2 < found[2] < 0.8


@pytest.mark.parametrize("scale", [1e-3, 1e3])
def test_only_ratios_count(scale: float) -> None:
    """How wide the intervals are that errors are measured by is no matter, as long as levels need no extrapolation."""
    assert ahead(scale, 0.5 * scale) == pytest.approx(ahead(1.0, 0.5), rel=1e-6)


def test_a_level_less_sure_than_those_seen_counts_for_less() -> None:
    found = [ahead(0.3, 0.05, ratio=ratio) for ratio in (0.5, 1.0, 2.0, 4.0, 1e6)]
    assert found == sorted(found, reverse=True)
    assert found[1] > 0.8
    assert found[3] < 0.1
    assert found[4] < 1e-9


def test_one_bad_error_does_not_decide() -> None:
    ones = np.ones(10)
    law, level = 0.1 * ones, 0.5 * ones
    torn = law.copy()
    torn[0] = 3.0
    for errors in (law, torn):
        assert weigh_levels(ones, errors, errors + level, ones, 1.0)[1] < 0.3


def test_without_runs_that_are_over_the_law_stands_alone() -> None:
    none = np.zeros(0)
    by, this = weigh_levels(none, none, none, none, 1.0)
    assert (by.size, this) == (0, 0.0)


def test_laws_without_any_error_are_kept() -> None:
    ones = np.ones(5)
    assert weigh_levels(ones, 0.0 * ones, ones, ones, 1.0)[1] < 0.5
