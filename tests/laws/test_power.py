"""The laws of one variable: monotone, inverted, and blind to the unit of their variable."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from lightning_scaling.laws import (
    KAPLAN_TABLE_5_C,
    KAPLAN_TABLE_5_D,
    KAPLAN_TABLE_5_N,
    KaplanC,
    KaplanD,
    KaplanN,
)
from tests.laws.draws import between, computes, factors, laws_C, laws_D, laws_N, losses, sizes, tokens


@given(laws_N, laws_D, laws_C, sizes, tokens, computes, factors)
def test_loss_falls_to_zero(
    law_N: KaplanN, law_D: KaplanD, law_C: KaplanC, N: float, D: float, C: float, factor: float
) -> None:
    for law, x in ((law_N, N), (law_D, D), (law_C, C)):
        assert law.loss(x * factor) < law.loss(x)
        assert law.loss(np.inf) == 0.0


@given(laws_N, laws_D, laws_C, losses)
def test_each_has_its_inverse(law_N: KaplanN, law_D: KaplanD, law_C: KaplanC, L: float) -> None:
    assert law_N.loss(law_N.size(L)) == pytest.approx(L, rel=1e-12)
    assert law_D.loss(law_D.tokens(L)) == pytest.approx(L, rel=1e-12)
    assert law_C.loss(law_C.compute(L)) == pytest.approx(L, rel=1e-12)


@given(laws_N, laws_D, laws_C, sizes, tokens, computes, between(1e-3, 1e3))
def test_units_change_no_loss(
    law_N: KaplanN, law_D: KaplanD, law_C: KaplanC, N: float, D: float, C: float, unit: float
) -> None:
    assert KaplanN(law_N.alpha_N, law_N.N_c * unit).loss(N * unit) == pytest.approx(law_N.loss(N), rel=1e-12)
    assert KaplanD(law_D.alpha_D, law_D.D_c * unit).loss(D * unit) == pytest.approx(law_D.loss(D), rel=1e-12)
    assert KaplanC(law_C.alpha_C, law_C.C_c * unit).loss(C * unit) == pytest.approx(law_C.loss(C), rel=1e-12)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), [1.0, -2.0], "much"])
def test_arguments_must_be_positive_numbers(bad: Any) -> None:
    for call, name in (
        (KAPLAN_TABLE_5_N.loss, "N"),
        (KAPLAN_TABLE_5_N.size, "L"),
        (KAPLAN_TABLE_5_D.loss, "D"),
        (KAPLAN_TABLE_5_D.tokens, "L"),
        (KAPLAN_TABLE_5_C.loss, "C"),
        (KAPLAN_TABLE_5_C.compute, "L"),
    ):
        with pytest.raises((ValueError, TypeError), match=f"^Expected {name} "):
            call(bad)


def test_a_law_prints_as_its_formula() -> None:
    assert str(KAPLAN_TABLE_5_N) == "L(N) = (8.8e+13 / N)^0.076"
    assert str(KAPLAN_TABLE_5_D) == "L(D) = (5.4e+13 tokens / D)^0.095"
    assert str(KAPLAN_TABLE_5_C) == "L(C) = (1.382e+27 FLOP / C)^0.057"


def test_an_inverse_beyond_all_floats_is_infinite() -> None:
    assert KAPLAN_TABLE_5_N.size(1e-200) == np.inf
    assert KAPLAN_TABLE_5_C.compute([1e-200, 2.0])[0] == np.inf
