"""GaussianMixture against scipy."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import norm

from lightning_scaling.fit.mixture import GaussianMixture


def make(rng: np.random.Generator, C: int, P: int) -> GaussianMixture:
    weights = rng.dirichlet(np.ones(C))
    return GaussianMixture(weights, rng.normal(size=(C, P)), np.exp(rng.normal(-1.0, 1.0, size=(C, P))))


def test_one_normal_has_its_own_quantiles() -> None:
    mixture = GaussianMixture(np.ones(1), np.array([[2.0]]), np.array([[0.5]]))
    p = [0.05, 0.5, 0.95]
    assert mixture.quantiles(p)[:, 0] == pytest.approx(norm(2.0, 0.5).ppf(p), abs=1e-7)
    assert (mixture.mean()[0], mixture.sd()[0]) == pytest.approx((2.0, 0.5))


@pytest.mark.parametrize("C", [3, 150, 4000])
def test_quantiles_invert_the_cdf(rng: np.random.Generator, C: int) -> None:
    mixture = make(rng, C, 4)
    p = np.array([0.05, 0.25, 0.5, 0.9])
    for probability, row in zip(p, mixture.quantiles(p), strict=True):
        assert mixture.cdf(row) == pytest.approx(np.full(4, probability), abs=1e-3 if C > 240 else 1e-6)


def test_gathering_keeps_the_moments(rng: np.random.Generator) -> None:
    mixture = make(rng, 5000, 3)
    weights, means, sds = mixture._gathered()
    weights, means, sds = weights.T, means.T, sds.T
    mean = (weights * means).sum(axis=0)
    assert means.shape[0] <= 240
    assert weights.sum(axis=0) == pytest.approx(np.ones(3))
    assert mean == pytest.approx(mixture.mean())
    assert np.sqrt((weights * (sds**2 + (means - mean) ** 2)).sum(axis=0)) == pytest.approx(mixture.sd(), rel=1e-6)


def test_a_lower_bound_cuts_off_what_lies_below_it() -> None:
    mixture = GaussianMixture(np.ones(1), np.array([[0.5, -0.5, -5.0]]), np.array([[0.5, 0.5, 0.5]]), least=0.0)
    low, mid, high = mixture.quantiles([0.001, 0.5, 0.999])[:, 0]
    assert 0.0 < low < mid < high
    assert mixture.cdf(0.0)[0] == 0.0
    assert mixture.cdf(mid)[0] == pytest.approx(0.5, abs=1e-6)
    cut = norm(0.5, 0.5)
    assert mid == pytest.approx(cut.ppf(cut.cdf(0) + 0.5 * cut.sf(0)), abs=1e-6)
    # Of the second little is left, and of the third next to nothing: there the bound is belied and not used.
    left = norm(-0.5, 0.5)
    assert mixture.quantiles([0.5])[0, 1] == pytest.approx(left.isf(0.5 * left.sf(0.0)), abs=1e-6)
    assert mixture.quantiles([0.5])[0, 2] == pytest.approx(-5.0, abs=1e-6)
