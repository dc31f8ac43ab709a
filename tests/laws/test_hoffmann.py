"""The law with an irreducible loss: limits, inverses, and an optimum that a search confirms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from scipy.optimize import minimize_scalar

from lightning_scaling.laws import BESIROGLU, HOFFMANN_PRINTED, HoffmannND
from tests.laws.draws import between, computes, factors, hoffmanns, sizes, tokens


@given(hoffmanns, sizes, tokens, factors)
def test_loss_falls_to_E(law: HoffmannND, N: float, D: float, factor: float) -> None:
    assert law.loss(N * factor, D) < law.loss(N, D)
    assert law.loss(N, D * factor) < law.loss(N, D)
    assert law.loss(np.inf, np.inf) == law.E


@given(hoffmanns, sizes, tokens)
def test_tokens_and_size_invert_the_loss(law: HoffmannND, N: float, D: float) -> None:
    L = law.loss(N, D)
    N_term, D_term = law.loss(N, np.inf) - law.E, law.loss(np.inf, D) - law.E
    if D_term > 1e-6 * L:  # else L hardly knows D
        assert law.tokens(N, L) == pytest.approx(D, rel=1e-14 * L / D_term / law.alpha_D + 1e-10)
    if N_term > 1e-6 * L:
        assert law.size(D, L) == pytest.approx(N, rel=1e-14 * L / N_term / law.alpha_N + 1e-10)
    assert law.tokens(N, 0.999 * law.loss(N, np.inf)) == np.inf
    assert law.size(D, 0.999 * law.loss(np.inf, D)) == np.inf


@given(hoffmanns, computes, factors)
def test_the_optimum(law: HoffmannND, C: float, factor: float) -> None:
    assert 6.0 * law.N_opt(C) * law.D_opt(C) == pytest.approx(C, rel=1e-10)
    assert law.N_opt(C * factor) > law.N_opt(C)
    assert law.D_opt(C * factor) > law.D_opt(C)
    assert law.N_opt(C * factor) == pytest.approx(law.N_opt(C) * factor**law.exponent, rel=1e-10)
    best = float(np.log(law.N_opt(C)))
    found = minimize_scalar(
        lambda x: float(law.loss(np.exp(x), C / 6.0 / np.exp(x))) - law.E, bounds=(best - 5.0, best + 5.0)
    )
    assert found.x == pytest.approx(best, abs=1e-2)
    assert law.loss_opt(C) <= (found.fun + law.E) * (1.0 + 1e-12)


@given(hoffmanns, computes)
def test_compute_inverts_loss_opt(law: HoffmannND, C: float) -> None:
    L = law.loss_opt(C)
    gap = float(L) - law.E
    if gap > 1e-6 * float(L):
        assert law.compute(L) == pytest.approx(C, rel=1e-9 + 1e-13 * float(L) / gap)
    assert law.compute(0.9 * law.E if law.E else 1e-300) == np.inf


@given(hoffmanns, sizes, tokens, between(1e-3, 1e3))
def test_the_unit_of_tokens_changes_no_loss(law: HoffmannND, N: float, D: float, unit: float) -> None:
    other = HoffmannND(law.E, law.A_N, law.A_D * unit**law.alpha_D, law.alpha_N, law.alpha_D)
    assert other.loss(N, D * unit) == pytest.approx(law.loss(N, D), rel=1e-12)


@pytest.mark.parametrize("bad", [-0.1, float("nan"), float("inf"), "1.69"])
def test_constants(bad: Any) -> None:
    with pytest.raises(ValueError, match=r"^Expected HoffmannND.E to be not negative and finite, got"):
        HoffmannND(bad, 406.4, 410.7, 0.34, 0.28)
    with pytest.raises(ValueError, match=r"^Expected HoffmannND.A_N to be positive and finite, got 0"):
        HoffmannND(1.69, 0.0, 410.7, 0.34, 0.28)


def test_bad_arguments_and_printing() -> None:
    for call in (BESIROGLU.N_opt, BESIROGLU.D_opt, BESIROGLU.loss_opt, BESIROGLU.compute):
        with pytest.raises(ValueError, match=r"^Expected [CL] > 0"):
            call(-1.0)
    assert str(HOFFMANN_PRINTED) == "L(N, D) = 1.69 + 406.4 / N^0.34 + 410.7 / D^0.28 (N with embeddings)"
