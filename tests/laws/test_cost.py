"""Costs of the wrong size and of training too near convergence, and the trade of steps against compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling.laws.cost import (
    compute_near_convergence,
    compute_ratio_at_size,
    size_near_convergence,
    steps_near_convergence,
    steps_ratio_at_size,
)
from lightning_scaling.laws.trade import (
    batch_for_compute,
    batch_for_steps,
    compute_for_steps,
    compute_ratio,
    steps_ratio,
)
from tests.laws.draws import between, excesses, exponents, factors

exponents_S = st.floats(0.2, 1.5)


@given(exponents, exponents_S, between(1e-3, 1e3), factors)
def test_a_larger_model_needs_fewer_steps_and_the_best_size_the_least_compute(
    alpha_N: float, alpha_S: float, ratio: float, factor: float
) -> None:
    constants = {"alpha_N": alpha_N, "alpha_S": alpha_S}
    assert steps_ratio_at_size(ratio * factor, **constants) <= steps_ratio_at_size(ratio, **constants)
    assert compute_ratio_at_size(ratio, **constants) >= 1.0 - 1e-12
    assert compute_ratio_at_size(1.0, **constants) == 1.0
    # Below this size the model does not reach the loss at all.
    least = (1.0 + alpha_N / alpha_S) ** (-1.0 / alpha_N)
    assert steps_ratio_at_size(0.999 * least, **constants) == np.inf
    assert np.isfinite(steps_ratio_at_size(1.001 * least, **constants))
    # An endless model still needs steps.
    assert steps_ratio_at_size(np.inf, **constants) == pytest.approx((1.0 + alpha_S / alpha_N) ** (-1.0 / alpha_S))


@given(exponents, exponents_S, excesses, excesses, factors)
def test_training_nearer_to_convergence(alpha_N: float, alpha_S: float, f: float, other: float, factor: float) -> None:
    there = compute_near_convergence(f, other, alpha_N=alpha_N, alpha_S=alpha_S)
    back = compute_near_convergence(other, f, alpha_N=alpha_N, alpha_S=alpha_S)
    assert there * back == pytest.approx(1.0, rel=1e-10)
    # The model that stays further from its limit is larger, and takes fewer steps.
    assert size_near_convergence(f * factor, f, alpha_N=alpha_N) > 1.0
    assert steps_near_convergence(f * factor, f, alpha_S=alpha_S) < 1.0
    # No distance is cheaper than alpha_N / alpha_S.
    best = alpha_N / alpha_S
    assert compute_near_convergence(f, best, alpha_N=alpha_N, alpha_S=alpha_S) >= 1.0 - 1e-12


@given(between(1e-6, 1e6), factors)
def test_steps_against_compute(ratio: float, factor: float) -> None:
    S, E = steps_ratio(ratio), compute_ratio(ratio)
    assert 1.0 / S + 1.0 / E == pytest.approx(1.0, rel=1e-12)  # Eq. 5.1 without its cancellation
    assert batch_for_steps(S) == pytest.approx(ratio, rel=1e-9)
    assert batch_for_compute(E) == pytest.approx(ratio, rel=1e-9)
    assert compute_for_steps(S) == pytest.approx(E, rel=1e-9)
    assert compute_for_steps(compute_for_steps(S)) == pytest.approx(S, rel=1e-9)
    assert steps_ratio(ratio * factor) < S
    assert compute_ratio(ratio * factor) > E
    assert steps_ratio(np.inf) == 1.0


@pytest.mark.parametrize("bad", [0.0, -1.0, float("nan")])
def test_bad_input(bad: Any) -> None:
    for call in (
        lambda: steps_ratio(bad),
        lambda: compute_ratio(bad),
        lambda: compute_ratio_at_size(bad, alpha_N=0.1, alpha_S=0.7),
        lambda: compute_ratio_at_size(1.0, alpha_N=bad, alpha_S=0.7),
        lambda: steps_ratio_at_size(1.0, alpha_N=0.1, alpha_S=bad),
        lambda: size_near_convergence(bad, 0.1, alpha_N=0.1),
        lambda: steps_near_convergence(0.1, bad, alpha_S=0.1),
    ):
        with pytest.raises(ValueError, match=r"^Expected "):
            call()
    for inverse in (batch_for_steps, batch_for_compute, compute_for_steps):
        with pytest.raises(ValueError, match=r"^Expected (steps|compute) > 1, got 1, so"):
            inverse([2.0, 1.0])
