"""Forecasts with a store of finished runs: what kin are worth, that strangers are worth nothing, and attacks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lightning_scaling import Forecast, Interval, LossCurve, LRSchedule, Verdict, forecast
from lightning_scaling.siblings.borrow import borrow
from tests.siblings.planted import Planted, T, family, rates, run


def said(own: Planted, share: float, store: list[Planted] | None, level: float = 0.9) -> Forecast:
    curve = own.at(share) if share else own.unbegun
    return forecast(curve, horizon=own.horizon, lr_schedule=own.lr_schedule, store=store, level=level)


def width(interval: Interval) -> float:
    return float(interval.high - interval.low)


def numbers(f: Forecast) -> list[float]:
    found = (f.final_loss, f.present_loss, f.converged_loss, f.remaining_gain, f.alpha_S)
    return [float(x) for i in found for x in (i.low, i.mid, i.high)]


def scaled(one: Planted, unit: float) -> Planted:
    return replace(one, curve=LossCurve(one.curve.S, unit * one.curve.L, N=one.curve.N), end=unit * one.end)


def test_a_planted_family_narrows_and_covers() -> None:
    # Four families, in each a store of six runs and three larger ones to forecast.
    inside, widths, errors = [], [], []
    for seed in range(4):
        rng = np.random.default_rng(seed)
        store = family(rng, alpha=float(rng.uniform(0.4, 0.65)), noise=0.003)
        for own in (run(rng, 3e7, noise=0.003), run(rng, 3e7, "wsd", noise=0.003), run(rng, 6e7, noise=0.003)):
            begun, alone, helped = (said(own, x, s).final_loss for x, s in ((0.0, store), (0.2, None), (0.2, store)))
            inside += [i.low <= own.end <= i.high for i in (begun, helped)]
            widths.append((width(helped), width(alone)))
            errors.append((abs(helped.mid - own.end), abs(alone.mid - own.end)))
    assert np.mean(inside) >= 0.9 - 2.0 * np.sqrt(0.09 / len(inside))
    for with_store, without in (np.mean(widths, axis=0), np.mean(errors, axis=0)):
        assert with_store < 0.85 * without


def test_strangers_change_nothing_and_hide_no_kin(rng: np.random.Generator) -> None:
    own, kin = run(rng, 3e7), family(rng)
    strangers = [run(rng, 3e7, level=9.0), run(rng, 3e7, shift=-30.0), *(scaled(one, 40.0) for one in kin[:2])]
    alone, beside = said(own, 0.3, None), said(own, 0.3, strangers)
    assert beside.n_siblings == 0
    assert numbers(beside) == numbers(alone)
    assert numbers(said(own, 0.3, [*strangers, *kin])) == numbers(said(own, 0.3, kin))


def test_kin_whose_law_differs_hurt_little(rng: np.random.Generator) -> None:
    # So alike in their first tenth that they count, but each with a decay and an exponent of its own.
    own = run(rng, 1e7)
    odd = [run(rng, 1e7, alpha=alpha, scatter=0.3) for alpha in (0.3, 0.4, 0.6, 0.8)]
    alone, helped = said(own, 0.3, None).final_loss, said(own, 0.3, odd).final_loss
    assert helped.low <= own.end <= helped.high
    assert abs(helped.mid - own.end) < abs(alone.mid - own.end) + 0.25 * width(alone)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_the_unit_of_all_losses_changes_nothing_but_the_unit(rng: np.random.Generator, share: float) -> None:
    own, store = run(rng, 3e7), family(rng, (3e6, 1e7))
    one = said(own, share, store).final_loss
    other = said(scaled(own, 1e3), share, [scaled(r, 1e3) for r in store]).final_loss
    assert (other.low, other.mid, other.high) == pytest.approx((1e3 * one.low, 1e3 * one.mid, 1e3 * one.high), rel=1e-5)


@pytest.mark.parametrize("share", [0.0, 0.3])
def test_neither_order_nor_what_was_forecast_before_matters(rng: np.random.Generator, share: float) -> None:
    own, store = run(rng, 3e7), family(rng)
    first = numbers(said(own, share, store))
    for other in (0.1, 0.6):
        said(own, other, store[2:])
        said(store[0], other, [*store[1:], own])
    assert numbers(said(own, share, store)) == pytest.approx(first, rel=0, abs=0, nan_ok=True)
    # Read anew and in another order, with nothing kept from before.
    copies = [replace(one, curve=LossCurve(one.curve.S, one.curve.L, N=one.curve.N)) for one in reversed(store)]
    assert numbers(said(own, share, copies)) == pytest.approx(first, rel=0, abs=0, nan_ok=True)


def test_a_store_is_asked_for_its_runs_and_may_be_any_iterable(rng: np.random.Generator) -> None:
    own, runs = run(rng, 3e7), family(rng, (3e6, 1e7))

    class Store:
        def runs(self) -> list[Planted]:
            return runs

    expected = numbers(said(own, 0.3, runs))
    for store in (Store(), iter(runs), tuple(runs)):
        f = forecast(own.at(0.3), horizon=T, lr_schedule=own.lr_schedule, store=store)
        assert numbers(f) == expected
        assert f.n_siblings == 4
        assert "Borrowed from 4 finished runs" in str(f)


def test_the_run_itself_tells_nothing_of_its_own_end(rng: np.random.Generator) -> None:
    own = run(rng, 3e7)
    # A curve that is long is fitted in windows; it is known as itself all the same.
    S = np.arange(2000, 12_001, dtype=float)
    long = Planted(LossCurve(S, 2.0 + 6.0 * S**-0.5 + 0.05 * rng.standard_normal(S.size), N=1e7), 12_000, None, 2.05)
    for one in (own, long):
        assert said(one, 0.7, [one]).n_siblings == 0
        assert numbers(said(one, 0.7, [one])) == numbers(said(one, 0.7, None))


def test_a_decay_is_borrowed_from_those_that_had_one(rng: np.random.Generator) -> None:
    own = run(rng, 1e7, "wsd", scatter=0.0)
    decayed = [run(rng, N, "wsd", scatter=0.02) for N in (3e6, 1e7, 1e7)]
    held = [run(rng, N, "constant", scatter=0.02) for N in (3e6, 1e7, 1e7)]
    for store, known in ((decayed, True), (held, False)):
        borrowed = borrow(own.at(0.5), own.lr_schedule, store)  # type: ignore[arg-type]
        assert borrowed is not None
        assert (borrowed.kin.log_gain is not None) is known
        if borrowed.kin.log_gain is not None:
            mean, sd = borrowed.kin.log_gain
            fallen = 1.0 - float(own.lr_schedule.rate_at(np.array([0.99 * T]))[0])  # type: ignore[union-attr]
            assert abs(mean - np.log(0.1 * fallen)) < 2.0 * sd < 1.0
    alone, helped = said(own, 0.5, None).final_loss, said(own, 0.5, decayed).final_loss
    assert width(helped) < 0.6 * width(alone)
    assert helped.low <= own.end <= helped.high


@pytest.mark.parametrize("store", [[], [replace(run(np.random.default_rng(0)), curve=LossCurve([1, 2, 3], [3, 2, 1]))]])
def test_an_empty_store_and_garbage_are_no_store(rng: np.random.Generator, store: list[Planted]) -> None:
    own = run(rng)
    assert numbers(said(own, 0.3, store)) == numbers(said(own, 0.3, None))
    assert said(own, 0.0, store).verdict is Verdict.NOT_BEGUN


def test_one_run_is_a_store(rng: np.random.Generator) -> None:
    own, store = run(rng, 2e7), [run(rng, 1e7)]
    for share in (0.0, 0.3):
        f = said(own, share, store)
        assert f.n_siblings == 1
        assert f.final_loss.low <= own.end <= f.final_loss.high


def test_losses_of_either_sign_and_runs_without_a_size(rng: np.random.Generator) -> None:
    for constants in ({"shift": -2.3}, {}):
        own = run(rng, None, **constants)  # type: ignore[arg-type]
        store = [run(rng, None, kind, **constants) for kind in ("cosine", "wsd", "cosine")]  # type: ignore[arg-type]
        assert (own.end < 0.0) == bool(constants)
        for share in (0.0, 0.4):
            f = said(own, share, store)
            assert f.n_siblings == 3
            assert f.final_loss.low <= own.end <= f.final_loss.high


S = np.arange(1, 401, dtype=float)
LAW = 2.0 + 6.0 * S**-0.5
ATTACKS = {
    "constant": np.full(400, 2.0),
    "zero": np.zeros(400),
    "rising": S * 1e-3,
    "negative": -3.0 - np.log(S),
    "tiny": 1e-200 * LAW,
    "huge": 1e148 * LAW,
    "spikes": LAW + np.where(S % 97 == 0, 300.0, 0.0),
    "step down": np.where(S < 200, 5.0, 1.0),
    "alternating": LAW + np.where(S % 2 == 0, 1.0, -1.0),
    "denormal": np.full(400, 5e-324),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_end_in_ordered_finite_intervals_or_a_verdict(rng: np.random.Generator, name: str) -> None:
    schedule = LRSchedule.from_array(rates("cosine", 400))
    store = [
        Planted(LossCurve(S, ATTACKS[name] * (1.0 + 1e-4 * rng.standard_normal(400)), N=N), 400, schedule, 0.0)
        for N in (1e6, 4e6)
    ]
    for L in (ATTACKS[name], LAW):
        for n in (0, 3, 40, 400):
            f = forecast(LossCurve(S[:n], L[:n], N=2e6), horizon=400, lr_schedule=schedule, store=store)
            if f.verdict.usable:
                ends = [f.final_loss.low, f.final_loss.mid, f.final_loss.high]
                assert np.isfinite(ends).all()
                assert ends == sorted(ends)
            assert np.shape(f.loss_at([0.0, 10.0, 400.0, 4000.0]).mid) == (4,)
            assert str(f)
