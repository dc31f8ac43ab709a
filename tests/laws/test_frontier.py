"""The compute-efficient frontier: the closed form is the minimum that a search finds; the measured one adds up."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.optimize import minimize_scalar

from lightning_scaling.laws import (
    KAPLAN_APPENDIX_B,
    KAPLAN_TABLE_5_D,
    KAPLAN_TABLE_6,
    EmpiricalFrontier,
    Frontier,
    KaplanC,
    KaplanD,
    S_min,
    Trend,
)
from lightning_scaling.laws.cost import compute_ratio_at_size, steps_ratio_at_size
from lightning_scaling.laws.shape import training_flop
from tests.laws.draws import between, computes, criticals, factors, laws_NS, losses, sizes

frontiers = st.builds(Frontier, law=laws_NS, critical=criticals)


class TestFrontier:
    @given(frontiers, computes)
    def test_no_size_does_better_than_the_best(self, frontier: Frontier, C: float) -> None:
        best = float(np.log(frontier.N(C)))

        def loss(log_N: float) -> float:
            return float(np.log(frontier.loss_at_size(np.exp(log_N), C)))

        found = minimize_scalar(loss, bounds=(best - 3.0, best + 2.0), method="bounded", options={"xatol": 1e-8})
        assert found.x == pytest.approx(best, abs=1e-3)  # the bottom is flat
        assert np.exp(found.fun) == pytest.approx(frontier.loss(C), rel=1e-9)
        assert frontier.loss_at_size(frontier.N(C), C) == pytest.approx(frontier.loss(C), rel=1e-10)

    @given(frontiers, computes)
    def test_the_parts_add_up(self, frontier: Frontier, C: float) -> None:
        N, B, S = frontier.N(C), frontier.B(C), frontier.S_min(C)
        assert training_flop(N, B, S) == pytest.approx(C, rel=1e-9)
        assert frontier.law.loss(N, S) == pytest.approx(frontier.loss(C), rel=1e-10)
        assert frontier.loss(C) / frontier.law.converged(N) == pytest.approx(1.0 + frontier.excess, rel=1e-10)

    @given(frontiers, computes)
    def test_a_run_at_the_critical_batch_spends_twice_the_least(self, frontier: Frontier, C: float) -> None:
        """C and S of Appendix B are C_min and S_min: at B_crit a run takes 2 S_min steps and 2 C_min of compute."""
        N, B, S = frontier.N(C), frontier.B(C), 2.0 * frontier.S_min(C)
        loss = frontier.law.loss_at_batch(N, S, B, frontier.critical)
        assert loss == pytest.approx(frontier.loss(C), rel=1e-9)
        assert S_min(S, B, loss, B_star=frontier.critical.B_star, alpha_B=frontier.critical.alpha_B) == pytest.approx(
            S / 2.0, rel=1e-7
        )
        assert training_flop(N, B, S) == pytest.approx(2.0 * C, rel=1e-9)

    @given(frontiers, computes, factors)
    def test_everything_grows_with_compute_but_the_loss(self, frontier: Frontier, C: float, factor: float) -> None:
        assert frontier.loss(C * factor) < frontier.loss(C)
        for quantity in (frontier.N, frontier.B, frontier.S_min):
            assert quantity(C * factor) > quantity(C)

    @given(frontiers, losses, sizes)
    def test_inverses(self, frontier: Frontier, L: float, N: float) -> None:
        assert frontier.loss(frontier.compute(L)) == pytest.approx(L, rel=1e-10)
        assert frontier.N(frontier.compute_for_size(N)) == pytest.approx(N, rel=1e-8)

    @given(frontiers, computes, between(0.05, 100.0))
    def test_compute_at_size_inverts_loss_at_size_and_is_the_ratio_of_eq_B16(
        self, frontier: Frontier, C: float, ratio: float
    ) -> None:
        N = frontier.N(C) * ratio
        L = frontier.loss_at_size(N, C)
        gap = float(L / frontier.law.converged(N)) - 1.0
        if gap > 1e-4:
            assert frontier.compute_at_size(N, L) == pytest.approx(C, rel=1e-10 / gap)
        exponents = {"alpha_N": frontier.law.alpha_N, "alpha_S": frontier.law.alpha_S}
        costs = frontier.compute_at_size(N, frontier.loss(C)) / C
        if np.isfinite(costs) and costs < 1e6:
            assert costs == pytest.approx(compute_ratio_at_size(ratio, **exponents), rel=1e-6)
            assert costs >= 1.0 - 1e-9
            steps = frontier.law.steps(N, frontier.loss(C)) / frontier.S_min(C)
            assert steps == pytest.approx(steps_ratio_at_size(ratio, **exponents), rel=1e-6)

    def test_arrays_broadcast(self) -> None:
        got = KAPLAN_APPENDIX_B.loss_at_size(np.array([[1e6], [1e9]]), np.array([1e18, 1e20, 1e22]))
        assert got.shape == (2, 3)
        assert got[1, 2] == pytest.approx(float(KAPLAN_APPENDIX_B.loss_at_size(1e9, 1e22)), rel=1e-13)

    def test_bad_input(self) -> None:
        for call in (KAPLAN_APPENDIX_B.loss, KAPLAN_APPENDIX_B.N, KAPLAN_APPENDIX_B.S_min, KAPLAN_APPENDIX_B.B):
            with pytest.raises(ValueError, match="Expected C_min > 0"):
                call([1.0, float("nan")])
        with pytest.raises(ValueError, match="Expected N to be finite"):
            KAPLAN_APPENDIX_B.loss_at_size(np.inf, 1e20)
        with pytest.raises(ValueError, match="Expected C_min > 0"):
            KAPLAN_APPENDIX_B.loss_at_size(1e9, 0.0)


class TestEmpiricalFrontier:
    @given(computes, factors)
    def test_trends_are_inverted_and_grow(self, C: float, factor: float) -> None:
        for trend in (KAPLAN_TABLE_6.N, KAPLAN_TABLE_6.B, KAPLAN_TABLE_6.S_min, KAPLAN_TABLE_6.D):
            assert trend.inverse(trend(C)) == pytest.approx(C, rel=1e-10)
            assert trend(C * factor) > trend(C)
        assert KAPLAN_TABLE_6.compute(KAPLAN_TABLE_6.loss(C)) == pytest.approx(C, rel=1e-10)

    @given(computes)
    def test_its_parts_nearly_add_up(self, C: float) -> None:
        N, B, S = KAPLAN_TABLE_6.N(C), KAPLAN_TABLE_6.B(C), KAPLAN_TABLE_6.S_min(C)
        assert training_flop(N, B, S) == pytest.approx(0.975 * C, rel=1e-9)

    @given(between(1e17, 1e21))
    def test_theory_and_measurement_agree_within_a_factor_of_three(self, C: float) -> None:
        """From a thousandth of a PF-day to ten, all that the paper explored."""
        theory, measured = KAPLAN_APPENDIX_B, KAPLAN_TABLE_6
        for name in ("N", "B", "S_min"):
            ratio = getattr(theory, name)(C) / getattr(measured, name)(C)
            assert 1.0 / 3.0 < ratio < 3.0
        assert theory.loss(C) == pytest.approx(measured.loss(C), rel=0.04)

    def test_beyond_the_breakdown_data_allow_less_than_compute_promises(self) -> None:
        C = KAPLAN_TABLE_6.breakdown(KAPLAN_TABLE_5_D)

        def excess(C: float) -> Any:
            return KAPLAN_TABLE_5_D.loss(KAPLAN_TABLE_6.D(C)) - KAPLAN_TABLE_6.loss(C)

        assert excess(0.5 * C) < 0.0 < excess(2.0 * C)
        assert excess(C) == pytest.approx(0.0, abs=1e-12)

    def test_laws_that_never_contradict_each_other(self) -> None:
        tame = EmpiricalFrontier(*(Trend(1.0, 0.5),) * 4, in_compute=KaplanC(0.01, 1e28))
        with pytest.raises(ValueError, match="never contradict"):
            tame.breakdown(KaplanD(0.1, 1e13))

    def test_printing(self) -> None:
        assert str(KAPLAN_TABLE_6).startswith("x = C_min: N = 1.3e+09 (x / 8.64e+19)^0.73, B = ")
        assert "frontier L(C) = (1.391e+28 FLOP / C)^0.05245" in str(KAPLAN_APPENDIX_B)
        assert str(Trend(5e3, 0.74)) == "5000 x^0.74"
