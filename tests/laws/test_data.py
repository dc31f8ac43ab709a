"""L(N, D): its limits are L(N) and L(D), overfitting is one thing in two equations, and data needed keep their word."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given

from lightning_scaling.laws import (
    KAPLAN_EQ_4_4,
    KAPLAN_TABLE_2,
    KAPLAN_TABLE_3,
    D_stop,
    KaplanD,
    KaplanN,
    KaplanND,
    L_stop,
    S_stop,
)
from tests.laws.draws import between, excesses, factors, laws_ND, sizes, tokens


@given(laws_ND, sizes, tokens, factors)
def test_loss_falls_in_N_and_D(law: KaplanND, N: float, D: float, factor: float) -> None:
    assert law.loss(N * factor, D) <= law.loss(N, D)  # equal once the other term is all there is
    assert law.loss(N, D * factor) <= law.loss(N, D)
    assert law.loss(N * factor, D * factor) < law.loss(N, D)


@given(laws_ND, sizes, tokens)
def test_the_limits_are_the_laws_of_one_variable(law: KaplanND, N: float, D: float) -> None:
    assert law.loss(N, np.inf) == pytest.approx(KaplanN(law.alpha_N, law.N_c).loss(N), rel=1e-11)
    assert law.loss(np.inf, D) == pytest.approx(KaplanD(law.alpha_D, law.D_c).loss(D), rel=1e-11)
    assert law.loss(N, D) >= max(law.loss(N, np.inf), law.loss(np.inf, D)) * (1.0 - 1e-12)


@given(laws_ND, sizes, tokens)
def test_the_printed_form(law: KaplanND, N: float, D: float) -> None:
    printed = ((law.N_c / N) ** (law.alpha_N / law.alpha_D) + law.D_c / D) ** law.alpha_D
    assert law.loss(N, D) == pytest.approx(printed, rel=1e-11)


@given(laws_ND, sizes, tokens)
def test_both_equations_of_overfitting_agree(law: KaplanND, N: float, D: float) -> None:
    """Eq. 4.2 is Eq. 4.3."""
    ratio = law.loss(N, D) / law.loss(N, np.inf)
    assert law.overfitting(N, D) == pytest.approx(ratio - 1.0, rel=1e-9, abs=1e-11)
    assert law.overfitting(N, np.inf) == 0.0


@given(laws_ND, sizes, tokens, factors)
def test_overfitting_grows_with_the_model_and_falls_with_the_data(
    law: KaplanND, N: float, D: float, factor: float
) -> None:
    assert law.overfitting(N * factor, D) >= law.overfitting(N, D)
    assert law.overfitting(N, D * factor) < law.overfitting(N, D)


@given(laws_ND, sizes, tokens, excesses)
def test_the_data_needed_and_the_size_supported_meet_the_tolerance(
    law: KaplanND, N: float, D: float, excess: float
) -> None:
    assert law.overfitting(N, law.tokens_needed(N, excess)) == pytest.approx(excess, rel=1e-10)
    assert law.overfitting(law.size_supported(D, excess), D) == pytest.approx(excess, rel=1e-10)
    assert law.size_supported(law.tokens_needed(N, excess), excess) == pytest.approx(N, rel=1e-9)


@given(laws_ND, sizes, tokens)
def test_tokens_and_size_invert_the_loss(law: KaplanND, N: float, D: float) -> None:
    L = law.loss(N, D)
    over_N, over_D = float(L / law.loss(N, np.inf)) - 1.0, float(L / law.loss(np.inf, D)) - 1.0
    if over_N > 1e-4:  # else L hardly knows D
        assert law.tokens(N, L) == pytest.approx(D, rel=1e-9 / law.alpha_D)
    if over_D > 1e-4:
        assert law.size(D, L) == pytest.approx(N, rel=1e-9 / law.alpha_N)
    assert law.tokens(N, 0.9 * law.loss(N, np.inf)) == np.inf
    assert law.size(D, 0.9 * law.loss(np.inf, D)) == np.inf


@given(laws_ND, sizes, tokens, between(1e-3, 1e3))
def test_the_unit_of_tokens_changes_no_loss(law: KaplanND, N: float, D: float, unit: float) -> None:
    other = KaplanND(law.alpha_N, law.alpha_D, law.N_c, law.D_c * unit)
    assert other.loss(N, D * unit) == pytest.approx(law.loss(N, D), rel=1e-12)
    assert other.tokens_needed(N) == pytest.approx(unit * law.tokens_needed(N), rel=1e-12)


@given(sizes)
def test_the_printed_rule_is_the_exact_one_within_rounding(N: float) -> None:
    assert KAPLAN_EQ_4_4(N) == pytest.approx(KAPLAN_TABLE_2.tokens_needed(N), rel=0.12)


@given(sizes, tokens, factors)
def test_S_stop_grows_with_the_data(N: float, D: float, factor: float) -> None:
    constants = {"data": KAPLAN_TABLE_2, "steps": KAPLAN_TABLE_3}
    assert S_stop(N, D * factor, **constants) > S_stop(N, D, **constants)
    assert S_stop(N, np.inf, **constants) == np.inf
    # What endless data would give at S_stop lies as far above the limit as finite data let the run come.
    gap = KAPLAN_TABLE_2.loss(N, D) - KAPLAN_TABLE_2.converged(N)
    above = KAPLAN_TABLE_3.loss(N, S_stop(N, D, **constants)) - KAPLAN_TABLE_3.converged(N)
    assert above == pytest.approx(gap, rel=1e-6, abs=1e-11)


@given(sizes, tokens, factors)
def test_the_inverses_of_S_stop(N: float, D: float, factor: float) -> None:
    constants = {"data": KAPLAN_TABLE_2, "steps": KAPLAN_TABLE_3}
    S = S_stop(N, D, **constants)
    assert D_stop(N, S, **constants) == pytest.approx(D, rel=1e-6)
    assert L_stop(N, S, **constants) == pytest.approx(KAPLAN_TABLE_2.loss(N, D), rel=1e-9)
    assert D_stop(N, factor * S, **constants) > D_stop(N, S, **constants)
    assert L_stop(N, np.inf, **constants) == KAPLAN_TABLE_2.converged(N)


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), [1.0, -2.0]])
def test_arguments_must_be_positive(bad: Any) -> None:
    for call, name in (
        (lambda: KAPLAN_TABLE_2.loss(bad, 1e9), "N"),
        (lambda: KAPLAN_TABLE_2.loss(1e9, bad), "D"),
        (lambda: KAPLAN_TABLE_2.tokens(1e9, bad), "L"),
        (lambda: KAPLAN_TABLE_2.size(bad, 2.0), "D"),
        (lambda: KAPLAN_TABLE_2.tokens_needed(1e9, bad), "excess"),
        (lambda: KAPLAN_TABLE_2.size_supported(1e9, bad), "excess"),
        (lambda: KAPLAN_EQ_4_4(bad), "x"),
    ):
        with pytest.raises(ValueError, match=f"^Expected {name} > 0, got {name}"):
            call()


def test_endless_model_and_data_leave_nothing_to_compare() -> None:
    with pytest.raises(ValueError, match="Expected N or D to be finite"):
        KAPLAN_TABLE_2.overfitting(np.inf, np.inf)
    assert KAPLAN_TABLE_2.loss(np.inf, np.inf) == 0.0
    assert KAPLAN_TABLE_2.tokens_needed(np.inf) == np.inf
    assert str(KAPLAN_TABLE_2) == "L(N, D) = ((6.4e+13 / N)^(0.076/0.103) + 1.8e+13 tokens / D)^0.103"
