"""The end of a run by what its kin fell by."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lightning_scaling import LossCurve, LRSchedule
from lightning_scaling.siblings.borrow import Borrowed, borrow
from lightning_scaling.siblings.drop import end_by_drop
from tests.siblings.planted import Planted, T, rates, run


def lent(own: Planted, share: float, store: list[Planted]) -> Borrowed:
    assert own.lr_schedule is not None
    borrowed = borrow(own.at(share), own.lr_schedule, store)
    assert borrowed is not None
    return borrowed


@pytest.mark.parametrize("kind", ["cosine", "wsd"])
def test_runs_of_one_kind_fall_alike(rng: np.random.Generator, kind: str) -> None:
    own, store = run(rng, 1e7, kind, scatter=0.0), [run(rng, 1e7, kind, scatter=0.0) for _ in range(4)]
    found = end_by_drop(lent(own, 0.4, store), own.at(0.4))
    assert found == pytest.approx(own.end, abs=0.03)


def test_a_drift_with_the_size_is_followed(rng: np.random.Generator) -> None:
    """Larger models fall by more, and the next larger one by more again."""

    def larger(N: float) -> Planted:
        one = run(rng, N, scatter=0.0, noise=0.002)
        fall = (one.curve.S / 100.0) ** -0.5 * 0.5 * ((N / 1e7) ** 0.15 - 1.0)
        end = one.end + float(0.1 * 0.5 * ((N / 1e7) ** 0.15 - 1.0))
        return Planted(LossCurve(one.curve.S, one.curve.L + fall, N=N), T, one.lr_schedule, end)

    own, store = larger(9e7), [larger(N) for N in (1e7, 1e7, 3e7, 3e7)]
    found = end_by_drop(lent(own, 0.3, store), own.at(0.3))
    assert found == pytest.approx(own.end, abs=0.05)


def test_nothing_is_said_where_nothing_falls_or_nothing_was_logged_of_late(rng: np.random.Generator) -> None:
    own, store = run(rng, 1e7), [run(rng, 1e7) for _ in range(3)]
    borrowed = lent(own, 0.4, store)
    early = own.at(0.1)
    gap = LossCurve(early.S, early.L, N=1e7, step=4000)
    assert end_by_drop(borrowed, gap) is None
    rising = Borrowed(LRSchedule.from_array(rates("cosine")[::-1]), borrowed.kin, borrowed.relatives, borrowed.traits)
    end = end_by_drop(rising, own.at(0.4))
    assert end is None or np.isfinite(end)


def test_runs_that_never_lowered_their_rate_are_given_the_decay_of_the_others(rng: np.random.Generator) -> None:
    # Half of the kin were held at their peak: what this run falls by at its end is not in their losses.
    own = run(rng, 1e7, "wsd", scatter=0.0, noise=0.002)
    decayed = [run(rng, 1e7, "wsd", scatter=0.0, noise=0.002) for _ in range(2)]
    held = [run(rng, 1e7, "constant", scatter=0.0, noise=0.002) for _ in range(4)]
    for known in (held, [replace(one, lr_schedule=LRSchedule.constant(T)) for one in held]):
        found = end_by_drop(lent(own, 0.6, [*decayed, *known]), own.at(0.6))
        assert found == pytest.approx(own.end, abs=0.01)
