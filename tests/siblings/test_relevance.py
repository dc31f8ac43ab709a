"""Which runs are kin: likeness earns a weight, and whatever is not kin is left out."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from lightning_scaling import LossCurve, LRSchedule
from lightning_scaling.siblings.relevance import LEAST, MOST, relatives, schedule_distance
from tests.siblings.planted import Planted, T, rates, run

SCHEDULE = LRSchedule.from_array(rates("cosine"))


def weights(curve: LossCurve, runs: list[Planted]) -> list[float]:
    """Return the weight of each run, 0 for those left out."""
    found = {id(one.curve): one.weight for one in relatives(curve, SCHEDULE, runs)}
    return [found.get(id(one.curve), 0.0) for one in runs]


def changed(one: Planted, L: np.ndarray | None = None, **fields: object) -> Planted:
    c = one.curve
    values: dict[str, object] = {"N": c.N, "unit": c.unit, **fields}
    return replace(one, curve=LossCurve(c.S, c.L if L is None else L, **values))  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.1, 0.3, 0.8])
def test_a_run_of_the_same_kind_counts_and_strangers_are_left_out(rng: np.random.Generator, share: float) -> None:
    own, kin = run(rng), run(rng)
    c = kin.curve
    strangers = [
        changed(kin, 10.0 * c.L),  # another scale
        changed(kin, c.L + 3.0),  # another level
        changed(kin, c.L.mean() + 0.2 * (c.L - c.L.mean())),  # falls far less
        changed(kin, c.L[::-1].copy()),  # rises
        changed(kin, np.full(c.L.size, 2.0)),
        changed(kin, 2.0 + 2.0 / (1.0 + np.exp((np.log(c.S) - np.log(0.5 * share * T)) / 0.2))),  # a sudden fall
        changed(kin, -c.L),
    ]
    like, *unlike = weights(own.at(share), [kin, *strangers])
    assert like > 0.3
    assert unlike == [0.0] * len(strangers)


def test_what_cannot_be_borrowed_from_is_left_out(rng: np.random.Generator) -> None:
    own, kin = run(rng, name="nats"), run(rng, name="nats")
    few = kin.curve.S.size - 3
    unusable = [
        own,
        replace(kin, curve=kin.at(0.9)),  # not finished
        replace(kin, horizon=None),
        changed(kin, unit="bits"),
        changed(kin, n_nonfinite=3),
        replace(kin, curve=LossCurve(kin.curve.S[few:], kin.curve.L[few:])),
        replace(kin, curve=LossCurve([], []), horizon=0),
        replace(kin, curve=kin.at(0.001), horizon=None),
    ]
    assert weights(own.at(0.5), unusable) == [0.0] * len(unusable)  # type: ignore[arg-type]
    assert weights(own.at(0.5), [changed(kin, unit="")])[0] > 0.3  # a unit that was not noted is no other unit


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_nearer_in_size_and_length_counts_more(rng: np.random.Generator, share: float) -> None:
    own = run(rng, 1e7, scatter=0.0)
    curve = own.at(share) if share else own.unbegun
    by_size = weights(curve, [run(rng, N, scatter=0.0) for N in (1e7, 2e6, 1e5, 1e2)])
    assert by_size[0] > by_size[1] > by_size[2] > 0.0
    assert by_size[3] == 0.0
    by_length = weights(curve, [run(rng, 1e7, scatter=0.0, horizon=k * T) for k in (1, 3, 100)])
    assert by_length[0] > by_length[1] > 0.0 == by_length[2]
    known, unknown = weights(curve, [run(rng, 1e7, scatter=0.0), run(rng, None, scatter=0.0)])
    assert known > unknown > 0.0


def test_without_sizes_losses_decide(rng: np.random.Generator) -> None:
    own, kin, stranger = run(rng, None), run(rng, None), run(rng, None, level=6.0)
    like, unlike = weights(own.at(0.3), [kin, stranger])
    assert like > 0.2
    assert unlike == 0.0


def test_before_a_run_begins_the_one_of_another_scale_is_told_by_the_others(rng: np.random.Generator) -> None:
    own, kin = run(rng), [run(rng) for _ in range(4)]
    strangers = [run(rng, level=50.0), run(rng, shift=-8.0)]
    found = weights(own.unbegun, [*kin, *strangers])
    assert min(found[:4]) > 0.5
    assert found[4:] == [0.0, 0.0]


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_closest_of_many_are_taken_whatever_their_order(rng: np.random.Generator, share: float) -> None:
    own = run(rng)
    curve = own.at(share) if share else own.unbegun
    many = [run(rng, N) for N in np.exp(rng.normal(np.log(1e7), 2.0, 30))] + [run(rng) for _ in range(10)]
    found = relatives(curve, SCHEDULE, many)
    assert len(found) == MOST
    assert all(a.weight >= b.weight for a, b in itertools.pairwise(found))
    every = sorted((w for one in many for w in weights(curve, [one]) if w >= LEAST), reverse=True)
    if share:  # before a run begins weights are by the company
        assert [one.weight for one in found] == every[:MOST]
    again = relatives(curve, SCHEDULE, [many[i] for i in rng.permutation(len(many))])
    assert [id(one.curve) for one in again] == [id(one.curve) for one in found]
    assert [one.weight for one in again] == pytest.approx([one.weight for one in found], rel=1e-12)


def test_of_many_that_are_equally_close_the_same_ones_are_taken(rng: np.random.Generator) -> None:
    # Of losses of either sign nothing is known before a run begins, so that all of these have one weight.
    own, many = run(rng, shift=-3.0), [run(rng, shift=-3.0) for _ in range(MOST + 6)]
    one, other = (relatives(own.unbegun, SCHEDULE, runs) for runs in (many, many[::-1]))
    assert len({x.weight for x in one}) == 1
    assert [id(x.curve) for x in one] == [id(x.curve) for x in other]


def test_the_distance_of_schedules_is_a_distance() -> None:
    a, b, c = (LRSchedule.from_array(rates(kind)) for kind in ("cosine", "wsd", "constant"))
    assert schedule_distance(a, a) == 0.0
    assert schedule_distance(a, b) == pytest.approx(schedule_distance(b, a))
    assert schedule_distance(a, c) <= schedule_distance(a, b) + schedule_distance(b, c)
    # Neither the length nor the unit of the rate matters.
    longer = LRSchedule.from_array(3e-4 * rates("cosine", 3 * T))
    assert schedule_distance(a, longer) < 0.02
