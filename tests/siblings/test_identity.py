"""Which curves are one and the same."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling import CurveBuilder, LossCurve, LRSchedule
from lightning_scaling.fit.data import compact
from lightning_scaling.siblings.identity import digest, same_run


def raw(rng: np.random.Generator, n: int = 8000, first: int = 1) -> LossCurve:
    S = np.arange(first, first + n, dtype=float)
    return LossCurve(S, 2.0 + 6.0 * S**-0.5 + 0.05 * rng.standard_normal(n))


def windowed(curve: LossCurve) -> LossCurve:
    builder = CurveBuilder()
    builder.extend(curve.S.astype(int).tolist(), curve.L.tolist())
    return builder.curve()


@pytest.mark.parametrize("first", [1, 3000])
def test_a_run_is_itself_in_full_in_part_and_in_windows(rng: np.random.Generator, first: int) -> None:
    curve = raw(rng, first=first)
    others = [curve, curve.until(first + 500), windowed(curve), windowed(curve.until(first + 1003)), compact(curve)]
    assert len(compact(curve)) < len(curve)
    for other in others:
        assert same_run(curve, other)
        assert same_run(other, curve)
    assert same_run(windowed(curve), windowed(curve.until(first + 777)))


@pytest.mark.parametrize("first", [1, 3000])
def test_another_seed_another_start_and_nothing_are_not_it(rng: np.random.Generator, first: int) -> None:
    curve, other = raw(rng, first=first), raw(rng, first=first)
    late = LossCurve(curve.S[1:], curve.L[1:])
    for one in (other, windowed(other), compact(other), late, LossCurve([], []), LossCurve(curve.S[:1], curve.L[:1])):
        assert not same_run(curve, one)
        assert not same_run(one, windowed(curve))


def test_a_digest_is_of_the_content(rng: np.random.Generator) -> None:
    curve, schedule = raw(rng, 100), LRSchedule.constant(100)
    again = LossCurve(curve.S, curve.L)
    assert digest(curve, schedule) == digest(again, LRSchedule.constant(100))
    different = [
        (LossCurve(curve.S, curve.L + 1e-12), schedule),
        (LossCurve(curve.S, curve.L, N=1e6), schedule),
        (curve, LRSchedule.constant(101)),
        (curve, LRSchedule.from_array(np.linspace(1, 0.1, 100))),
    ]
    assert len({digest(*pair) for pair in [(curve, schedule), *different]}) == 5
