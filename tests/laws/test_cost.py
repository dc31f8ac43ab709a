"""Costs of the wrong size and of training too near convergence, and the trade of steps against compute."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling.laws import KAPLAN_TABLE_2, KAPLAN_TABLE_3, S_stop
from lightning_scaling.laws.cost import (
    compute_near_convergence,
    compute_ratio_at_size,
    excess_for_size,
    excess_for_steps,
    size_for_steps_ratio,
    size_near_convergence,
    sizes_for_compute_ratio,
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


@given(exponents, exponents_S, between(1e-2, 1e2))
def test_the_size_that_a_ratio_belongs_to_on_either_side(alpha_N: float, alpha_S: float, ratio: float) -> None:
    constants = {"alpha_N": alpha_N, "alpha_S": alpha_S}
    steps, compute = steps_ratio_at_size(ratio, **constants), compute_ratio_at_size(ratio, **constants)
    smaller, larger = sizes_for_compute_ratio(1.0 + ratio, **constants)
    assert smaller < 1.0 < larger
    if steps < 1e9:
        assert size_for_steps_ratio(steps, **constants) == pytest.approx(ratio, rel=1e-6)
        found = sizes_for_compute_ratio(compute, **constants)[int(ratio > 1.0)]
        assert compute_ratio_at_size(found, **constants) == pytest.approx(compute, rel=1e-9)
        assert found == pytest.approx(ratio, rel=1e-5 if compute > 1.0001 else 0.1)
    assert size_for_steps_ratio(0.99 * (1.0 + alpha_S / alpha_N) ** (-1.0 / alpha_S), **constants) == np.inf


@given(exponents, exponents_S, excesses, excesses)
def test_the_distance_that_a_ratio_belongs_to(alpha_N: float, alpha_S: float, f: float, other: float) -> None:
    sizes = size_near_convergence(f, other, alpha_N=alpha_N)
    assert excess_for_size(sizes, other, alpha_N=alpha_N) == pytest.approx(f, rel=1e-6)
    assert np.isnan(excess_for_size(0.99 * (1.0 + other) ** (-1.0 / alpha_N), other, alpha_N=alpha_N))
    steps = steps_near_convergence(f, other, alpha_S=alpha_S)
    assert excess_for_steps(steps, other, alpha_S=alpha_S) == pytest.approx(f, rel=1e-6)
    assert np.isnan(excess_for_steps(0.99 * (1.0 + 1.0 / other) ** (-1.0 / alpha_S), other, alpha_S=alpha_S))


def test_shapes_that_do_not_go_together() -> None:
    for call in (
        lambda: size_near_convergence([0.1, 0.2], [0.1] * 3, alpha_N=0.1),
        lambda: KAPLAN_TABLE_3.loss([1e6, 1e7], [1.0, 2.0, 3.0]),
        lambda: S_stop([1e6, 1e7], [1e9] * 3, data=KAPLAN_TABLE_2, steps=KAPLAN_TABLE_3),
    ):
        with pytest.raises(ValueError, match=r"^Expected \w+ and \w+ of shapes that .* got \w+ of \(2,\), .*, so"):
            call()


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
        lambda: size_for_steps_ratio(bad, alpha_N=0.1, alpha_S=0.7),
        lambda: sizes_for_compute_ratio(bad, alpha_N=0.1, alpha_S=0.7),
        lambda: sizes_for_compute_ratio(0.9, alpha_N=0.1, alpha_S=0.7),
        lambda: excess_for_size(bad, 0.1, alpha_N=0.1),
        lambda: excess_for_steps(bad, 0.1, alpha_S=0.1),
    ):
        with pytest.raises(ValueError, match=r"^Expected "):
            call()
    for inverse in (batch_for_steps, batch_for_compute, compute_for_steps):
        with pytest.raises(ValueError, match=r"^Expected (steps|compute) > 1, got 1, so"):
            inverse([2.0, 1.0])
