"""Unbegun: the end of a run that has not begun, from planted families."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lightning_scaling import Forecast, LossCurve, LRSchedule, Verdict, advise, forecast
from lightning_scaling.advice import Action, Converged, TargetUnreachable
from tests.siblings.planted import Planted, T, family, rates, run


def said(own: Planted, store: list[Planted], level: float = 0.9) -> Forecast:
    return forecast(own.unbegun, horizon=own.horizon, lr_schedule=own.lr_schedule, store=store, level=level)


def test_intervals_hold_the_end_at_their_level_for_larger_and_smaller_models() -> None:
    inside, off = [], []
    for seed in range(8):
        rng = np.random.default_rng(seed)
        store = family(rng, noise=0.003)
        for N in (3e5, 3e6, 4e7):
            own = run(rng, N, noise=0.003)
            end = said(own, store).final_loss
            inside.append(end.low <= own.end <= end.high)
            off.append(abs(end.mid - own.end) / own.end)
    assert np.mean(inside) >= 0.9 - 2.0 * np.sqrt(0.09 / len(inside))
    assert np.mean(off) < 0.03


def test_more_sizes_make_it_surer(rng: np.random.Generator) -> None:
    own, store = run(rng, 3e7), family(rng, (1e6, 3e6, 1e7))
    few, many = said(own, store[-1:]).final_loss, said(own, store).final_loss
    assert many.half_width < few.half_width
    near, far = (said(run(rng, N), store).final_loss.half_width for N in (2e7, 2e8))
    assert near < far


def test_the_law_is_carried_to_another_length_and_schedule(rng: np.random.Generator) -> None:
    store = family(rng, (3e6, 1e7), noise=0.003)
    longer = run(rng, 1e7, horizon=2 * T, noise=0.003)
    held = run(rng, 1e7, "constant", noise=0.003)
    ends = []
    for own in (longer, held, run(rng, 1e7, noise=0.003)):
        f = said(own, store)
        ends.append((own.end, f.final_loss.mid))
        assert f.final_loss.low <= own.end <= f.final_loss.high
    # Twice the length brings far more than runs of one kind differ by.
    truths, mids = np.transpose(ends)
    assert truths[0] < truths[1:].min() - 0.05
    assert mids[0] < mids[1:].min() - 0.05


def test_siblings_that_never_decayed_leave_room_for_a_decay(rng: np.random.Generator) -> None:
    store = [replace(run(rng, N, "constant", noise=0.003), lr_schedule=None) for N in (3e6, 1e7, 1e7)]
    own, held = (run(rng, 1e7, kind, noise=0.003) for kind in ("cosine", "constant"))
    decayed, stays = said(own, store).final_loss, said(held, store).final_loss
    assert decayed.half_width > 2.0 * stays.half_width
    assert decayed.mid == pytest.approx(own.end, abs=0.05)  # without the decay that others know of, 0.09 too high
    assert decayed.low <= own.end <= decayed.high
    assert stays.low <= held.end <= stays.high


def test_everything_can_be_asked_of_it(rng: np.random.Generator) -> None:
    f = said(run(rng, 3e7), family(rng), level=0.8)
    assert f.verdict is Verdict.BORROWED
    assert f.verdict.usable
    assert (f.step, f.horizon, f.n_siblings) == (0, T, 6)
    assert f.probability_below(f.final_loss.low) == pytest.approx(0.1, abs=0.01)
    assert f.probability_below(f.final_loss.mid) == pytest.approx(0.5, abs=0.01)
    for i in (f.present_loss, f.remaining_gain, f.converged_loss):
        assert np.isnan(i.mid)
    assert np.isnan(f.probability_gain_above(0.1))
    assert 0.3 < f.alpha_S.low < f.alpha_S.mid < f.alpha_S.high < 0.8
    ahead = f.loss_at([100, 1000, T // 2, T])
    assert (np.diff(ahead.mid) < 0.0).all()
    crossing = f.steps_to(float(ahead.mid[2]))
    assert crossing.low < crossing.mid < crossing.high
    assert crossing.mid == pytest.approx(T / 2, rel=0.05)
    assert "borrowed" in str(f)
    # What is said of a step does not depend on what else is asked, however far it lies.
    far = f.loss_at([0.0, 1.0, 1000.0, 1e9])
    assert np.isfinite(far.mid).all()
    assert far.mid[2] == pytest.approx(ahead.mid[1], rel=1e-12)
    assert far.low.min() >= 0.0


def test_no_rule_acts_on_what_other_runs_say(rng: np.random.Generator) -> None:
    f = said(run(rng, 3e7), family(rng))
    for rule in (TargetUnreachable(loss=0.1), Converged(min_gain=1.0)):
        assert advise(f, [rule]).action is Action.WAIT


def test_a_run_in_its_warm_up_is_told_by_its_kin(rng: np.random.Generator) -> None:
    own, store = run(rng, 3e7), family(rng)
    f = forecast(own.at(0.015), horizon=T, lr_schedule=own.lr_schedule, store=store)
    assert len(own.at(0.015)) > 10
    assert f.verdict is Verdict.BORROWED
    assert f.final_loss.low <= own.end <= f.final_loss.high
    assert np.isnan(f.loss_at([1.0]).mid).all()


def test_without_an_end_or_kin_nothing_is_said(rng: np.random.Generator) -> None:
    store = family(rng, (1e7,))
    nothing = LossCurve([], [], N=1e7)
    assert forecast(nothing, horizon=None, store=store).verdict is Verdict.NOT_BEGUN
    assert forecast(nothing, horizon=T, store=[]).verdict is Verdict.NOT_BEGUN
    assert forecast(LossCurve([], [], N=1e15), horizon=T, store=store).verdict is Verdict.NOT_BEGUN
    broken = LossCurve([], [], N=1e7, step=5, n_nonfinite=5)
    assert forecast(broken, horizon=T, store=store).verdict is Verdict.DIVERGED


def test_losses_of_either_sign(rng: np.random.Generator) -> None:
    store = family(rng, (3e6, 1e7), shift=-2.2)
    own = run(rng, 2e7, shift=-2.2)
    f = forecast(own.unbegun, horizon=T, lr_schedule=LRSchedule.from_array(rates("cosine")), store=store)
    assert own.end < 0.0
    assert f.final_loss.low <= own.end <= f.final_loss.high
    assert np.isfinite(f.loss_at([10.0, float(T), 100.0 * T]).mid).all()


@pytest.mark.parametrize("other", [{"unit": 0.05}, {"shift": -30.0}])
def test_a_store_of_two_tasks_leaves_room_for_both(rng: np.random.Generator, other: dict[str, float]) -> None:
    ours, theirs = family(rng), family(rng, **other)
    own = run(rng, 1e7)
    for store, sure in ((ours, True), (ours + theirs, False), ([*theirs, *family(rng, **other), *ours], False)):
        f = said(own, store)
        end = float(theirs[0].end)
        assert f.final_loss.low <= own.end <= f.final_loss.high
        assert (f.final_loss.low - 0.2 < end < f.final_loss.high + 0.2) is not sure
        assert f.n_siblings == len(store)
    # Once there are losses, they tell which of the two it is.
    begun = forecast(own.at(0.3), horizon=T, lr_schedule=own.lr_schedule, store=ours + theirs)
    assert begun.n_siblings == len(ours)
    assert float(begun.final_loss.high) - float(begun.final_loss.low) < 0.3


def test_a_single_odd_run_is_no_kind(rng: np.random.Generator) -> None:
    store = [one for _ in range(4) for one in family(rng)]
    f = said(run(rng, 1e7), [*store, run(rng, 1e7, unit=0.05)])
    assert f.n_siblings == len(store)
    assert float(f.final_loss.low) > 1.0
