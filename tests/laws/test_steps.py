"""The laws of steps and batch size against their own inverses and an independent solver."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import brentq

from lightning_scaling.laws import (
    KAPLAN_FIGURE_10,
    KAPLAN_TABLE_3,
    KAPLAN_TEXT,
    C_at_batch,
    C_min,
    CriticalBatch,
    KaplanNS,
    S_at_batch,
    S_min,
)
from tests.laws.draws import batches, between, criticals, laws_NS, losses, sizes, steps


def of(critical: CriticalBatch) -> dict[str, float]:
    return {"B_star": critical.B_star, "alpha_B": critical.alpha_B}


class TestCriticalBatch:
    @given(criticals, losses)
    def test_loss_inverts_B_crit(self, critical: CriticalBatch, L: float) -> None:
        assert critical.loss(critical.B_crit(L)) == pytest.approx(L, rel=1e-12)

    @given(criticals, losses, st.floats(1.01, 100.0))
    def test_B_crit_falls_in_the_loss(self, critical: CriticalBatch, L: float, factor: float) -> None:
        assert critical.B_crit(L * factor) < critical.B_crit(L)
        assert critical.B_crit(np.inf) == 0.0

    @given(criticals, steps, batches, losses)
    def test_steps_and_compute_come_back(self, critical: CriticalBatch, S: float, B: float, L: float) -> None:
        assert S_at_batch(S_min(S, B, L, **of(critical)), B, L, **of(critical)) == pytest.approx(S, rel=1e-12)
        assert C_at_batch(C_min(S, B, L, **of(critical)), B, L, **of(critical)) == pytest.approx(S, rel=1e-12)
        assert S_min(S, np.inf, L, **of(critical)) == S

    @given(criticals, steps, losses)
    def test_at_the_critical_batch_steps_and_compute_are_twice_their_minimum(
        self, critical: CriticalBatch, S: float, L: float
    ) -> None:
        B = critical.B_crit(L)
        assert S == pytest.approx(2.0 * S_min(S, B, L, **of(critical)), rel=1e-12)
        assert S == pytest.approx(2.0 * C_min(S, B, L, **of(critical)), rel=1e-12)

    @given(criticals, steps, batches, losses)
    def test_steps_and_tokens_trade_off_on_a_hyperbola(
        self, critical: CriticalBatch, S: float, B: float, L: float
    ) -> None:
        """Kaplan et al. 2020, Eq. 5.1: (S/S_min - 1)(E/E_min - 1) = 1, with E/E_min = C/C_min."""
        S_ratio, E_ratio = S / S_min(S, B, L, **of(critical)), S / C_min(S, B, L, **of(critical))
        assert S_ratio >= 1.0
        assert E_ratio >= 1.0
        assert 1.0 / S_ratio + 1.0 / E_ratio == pytest.approx(1.0, rel=1e-12)  # Eq. 5.1 without its cancellation


class TestKaplanNS:
    @given(laws_NS, sizes, steps, st.floats(1.01, 100.0))
    def test_loss_falls_in_N_and_S_towards_the_converged_loss(
        self, law: KaplanNS, N: float, S: float, factor: float
    ) -> None:
        assert law.loss(N * factor, S) < law.loss(N, S)
        assert law.loss(N, S * factor) <= law.loss(N, S)  # equal once the gap is below the last digit
        assert law.loss(np.inf, S * factor) < law.loss(np.inf, S)
        assert law.loss(N, np.inf) == law.converged(N)

    @given(laws_NS, sizes, steps)
    def test_a_single_run_is_a_power_law_above_E(self, law: KaplanNS, N: float, S: float) -> None:
        assert law.loss(N, S) == pytest.approx(law.converged(N) + (law.S_c / S) ** law.alpha_S, rel=1e-12)

    @given(laws_NS, sizes, between(1e-6, 1e3))
    def test_steps_inverts_loss(self, law: KaplanNS, N: float, gap: float) -> None:
        L = law.converged(N) + gap
        # The gap above the converged loss is all that L knows about S; it keeps eps * L / gap of its digits.
        lost = 4.0 * np.finfo(float).eps * L / gap
        assert law.loss(N, law.steps(N, L)) == pytest.approx(L, rel=1e-12)
        assert law.steps(N, law.loss(N, law.steps(N, L))) == pytest.approx(
            law.steps(N, L), rel=1e-12 + 2.0 * lost / law.alpha_S
        )

    @given(laws_NS, sizes, steps)
    def test_size_inverts_loss(self, law: KaplanNS, N: float, S: float) -> None:
        L = law.loss(N, S)
        E = law.converged(N)
        lost = 1e-15 * L / E  # a step term far above E leaves few digits of it in L
        assert law.size(S, L) == pytest.approx(N, rel=1e-12 + 20.0 * lost / law.alpha_N, abs=0) or lost > 1e-3
        assert law.size(S, (law.S_c / S) ** law.alpha_S) == np.inf

    @given(laws_NS, criticals, sizes, between(0.01, 10.0), batches)
    def test_tokens_are_steps_times_batch_and_a_larger_model_needs_fewer(
        self, law: KaplanNS, critical: CriticalBatch, N: float, gap: float, B: float
    ) -> None:
        L = law.converged(N) + gap
        tokens = law.tokens_at_batch(N, L, B, critical)
        assert tokens == pytest.approx(B * law.steps_at_batch(N, L, B, critical), rel=1e-12)
        assert law.tokens_at_batch(10.0 * N, L, B, critical) < tokens < law.tokens_at_batch(N, L, 2.0 * B, critical)

    def test_a_loss_that_is_not_above_the_converged_one_takes_for_ever(self) -> None:
        E = float(KAPLAN_TABLE_3.converged(1e8))
        got = KAPLAN_TABLE_3.steps(1e8, [E, 0.5 * E, 1.001 * E])
        assert got[0] == np.inf
        assert got[1] == np.inf
        assert np.isfinite(got[2])
        assert KAPLAN_TABLE_3.steps_at_batch(1e8, 0.5 * E, 2**19, KAPLAN_TEXT) == np.inf


class TestLossAtBatch:
    @given(laws_NS, criticals, sizes, steps, batches)
    def test_solves_the_implicit_equation_as_a_bracketing_solver_does(
        self, law: KaplanNS, critical: CriticalBatch, N: float, S: float, B: float
    ) -> None:
        def excess(L: float) -> float:
            return float(np.log(L / law.loss(N, S_min(S, B, L, **of(critical)))))

        # At the loss of B = infinity B_crit is largest, so the loss it gives is an upper bound.
        low = float(law.loss(N, S))
        high = float(law.loss(N, S_min(S, B, low, **of(critical))))
        expected = brentq(excess, low * (1.0 - 1e-9), high * (1.0 + 1e-9), xtol=1e-14 * low, rtol=1e-14)
        assert law.loss_at_batch(N, S, B, critical) == pytest.approx(expected, rel=1e-12)

    @given(laws_NS, criticals, sizes, steps, batches, st.floats(1.5, 100.0))
    def test_falls_in_N_S_and_B_and_stays_above_the_loss_of_an_endless_batch(
        self, law: KaplanNS, critical: CriticalBatch, N: float, S: float, B: float, factor: float
    ) -> None:
        L = law.loss_at_batch(N, S, B, critical)
        above = 1.0 + 1e-12
        assert law.loss_at_batch(N * factor, S, B, critical) <= L * above
        assert law.loss_at_batch(N, S * factor, B, critical) <= L * above
        assert law.loss_at_batch(N, S, B * factor, critical) <= L * above
        assert law.loss(N, S) <= L * above
        assert law.loss_at_batch(N, S, np.inf, critical) == pytest.approx(law.loss(N, S), rel=1e-12)
        assert law.loss_at_batch(N, np.inf, B, critical) == pytest.approx(law.converged(N), rel=1e-12)

    @given(laws_NS, criticals, sizes, steps, batches)
    def test_steps_at_batch_inverts_it(
        self, law: KaplanNS, critical: CriticalBatch, N: float, S: float, B: float
    ) -> None:
        L = float(law.loss_at_batch(N, S, B, critical))
        gap = L - float(law.converged(N))
        if gap < 1e-6 * L:  # L has lost the digits that tell S
            return
        again = law.steps_at_batch(N, L, B, critical)
        assert again == pytest.approx(S, rel=1e-11 + 1e-13 * L / gap * (1.0 / law.alpha_S + 1.0 / critical.alpha_B))

    @given(sizes, steps, batches, between(1e-3, 1e3))
    def test_the_unit_of_tokens_changes_no_loss(self, N: float, S: float, B: float, tokens: float) -> None:
        """Batches counted in characters or sequences instead of tokens: B and B_star scale, the loss does not."""
        other = CriticalBatch(KAPLAN_TEXT.B_star * tokens, KAPLAN_TEXT.alpha_B)
        assert KAPLAN_TABLE_3.loss_at_batch(N, S, B * tokens, other) == pytest.approx(
            KAPLAN_TABLE_3.loss_at_batch(N, S, B, KAPLAN_TEXT), rel=1e-12
        )

    def test_arrays_broadcast_and_match_their_scalars(self) -> None:
        N, S, B = np.array([[1e6], [1e9]]), np.array([1.0, 1e5, 1e12]), 2.0**19
        got = KAPLAN_TABLE_3.loss_at_batch(N, S, B, KAPLAN_TEXT)
        assert got.shape == (2, 3)
        for i in range(2):
            for j in range(3):
                alone = KAPLAN_TABLE_3.loss_at_batch(N[i, 0], S[j], B, KAPLAN_TEXT)
                assert got[i, j] == pytest.approx(float(alone), rel=1e-13)

    def test_no_finite_loss_where_nothing_limits_it(self) -> None:
        with pytest.raises(ValueError, match="Expected N or S to be finite"):
            KAPLAN_TABLE_3.loss_at_batch(np.inf, np.inf, 2**19, KAPLAN_TEXT)


class TestBadInput:
    @pytest.mark.parametrize("bad", [0.0, -1.0, float("nan"), [1.0, -2.0]])
    def test_arguments_must_be_positive(self, bad: float | list[float]) -> None:
        for call, name in (
            (lambda: KAPLAN_TEXT.B_crit(bad), "L"),
            (lambda: KAPLAN_TEXT.loss(bad), "B_crit"),
            (lambda: S_min(bad, 2**19, 3.0, B_star=2e8, alpha_B=0.21), "S"),
            (lambda: S_min(100, bad, 3.0, B_star=2e8, alpha_B=0.21), "B"),
            (lambda: S_min(100, 2**19, bad, B_star=2e8, alpha_B=0.21), "L"),
            (lambda: C_min(bad, 2**19, 3.0, B_star=2e8, alpha_B=0.21), "C"),
            (lambda: KAPLAN_TABLE_3.loss(bad, 100), "N"),
            (lambda: KAPLAN_TABLE_3.loss(1e8, bad), "S_min"),
            (lambda: KAPLAN_TABLE_3.converged(bad), "N"),
            (lambda: KAPLAN_TABLE_3.steps(1e8, bad), "L"),
            (lambda: KAPLAN_TABLE_3.loss_at_batch(1e8, bad, 2**19, KAPLAN_TEXT), "S"),
            (lambda: KAPLAN_TABLE_3.loss_at_batch(1e8, 100, bad, KAPLAN_TEXT), "B"),
            (lambda: KAPLAN_TABLE_3.steps_at_batch(1e8, 3.0, bad, KAPLAN_TEXT), "B"),
        ):
            with pytest.raises(ValueError, match=f"^Expected {name} > 0, got {name}"):
                call()

    def test_the_message_names_the_entry_and_the_way_out(self) -> None:
        with pytest.raises(ValueError, match=r"got L\[2\]=-0.5, so pass a loss in nats/token"):
            KAPLAN_TEXT.B_crit([3.0, 2.0, -0.5])

    def test_arguments_must_be_numbers(self) -> None:
        with pytest.raises(TypeError, match=r"^Expected N to be a number .* got 'GPT-2', so pass the number of"):
            KAPLAN_TABLE_3.converged("GPT-2")

    @pytest.mark.parametrize("bad", [0.0, -0.1, float("nan"), float("inf"), "0.21"])
    def test_constants_must_be_positive_and_finite(self, bad: Any) -> None:
        with pytest.raises(ValueError, match=r"^Expected CriticalBatch.alpha_B to be positive and finite, got"):
            CriticalBatch(2e8, bad)
        with pytest.raises(ValueError, match=r"^Expected KaplanNS.S_c to be positive and finite, got"):
            KaplanNS(0.077, 0.76, 6.5e13, bad)


def test_a_law_prints_as_its_formula() -> None:
    assert str(KAPLAN_TABLE_3) == "L(N, S_min) = (6.5e+13 / N)^0.077 + (2100 / S_min)^0.76"
    assert str(KAPLAN_FIGURE_10) == "B_crit(L) = 2.1e+08 tokens / L^4.8"
