"""The record of past forecasts: counted right, and intervals widened where they proved too narrow."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from lightning_scaling import Interval, LossCurve, RunStore, Verdict, forecast
from lightning_scaling.ledger import ForecastLedger, ForecastRecord
from lightning_scaling.track_record import KEY, TrackRecord, score


def ledger(errors: dict[int, float], *, sigma: float = 0.1, truth: float = 2.0) -> ForecastLedger:
    """Forecasts at some steps of 1000, off by so many sigmas."""
    kept = ForecastLedger()
    for step, error in errors.items():
        mid = truth - error * sigma
        loss = Interval(mid - 1.6449 * sigma, mid, mid + 1.6449 * sigma, 0.9)
        kept.append(ForecastRecord(step, 1000, Verdict.OK, loss, loss, loss, loss, loss))
    return kept


@dataclass(frozen=True)
class Run:
    derived: dict[str, Any] = field(default_factory=dict)
    state: str = "finished"


def runs(errors: list[dict[int, float]]) -> list[Run]:
    return [Run({KEY: score(ledger(one), 2.0)}) for one in errors]


def test_a_score_counts_one_forecast_of_each_tenth() -> None:
    found = score(ledger({100: 1.0, 150: 0.0, 180: 3.0, 500: -1.0}), 2.0)
    assert found is not None
    assert (found["n"], found["held"], found["level"]) == (3, 2, 0.9)  # 100, 180 and 500; 150 is not the newest
    assert found["square"] == pytest.approx((1.0 + 9.0 + 1.0) / 3.0, rel=1e-3)


def test_no_forecast_no_score() -> None:
    assert score(ForecastLedger(), 2.0) is None
    assert str(TrackRecord.of([])) == "no forecast of yours has been held against its end yet"
    assert TrackRecord.of([Run()]).factor == 1.0


@pytest.mark.parametrize("damaged", [{}, {"version": 2}, {"version": 1, "n": "x"}, 3, None])
def test_a_score_that_cannot_be_read_is_left_out(damaged: Any) -> None:
    assert TrackRecord.of([Run({KEY: damaged}), *runs([{500: 0.0}])]).n_runs == 1


def test_only_finished_runs_count() -> None:
    one = runs([{500: 0.0}])[0]
    assert TrackRecord.of([Run(one.derived, state="running")]).n == 0


def test_right_intervals_stay_and_narrow_ones_are_widened(rng: np.random.Generator) -> None:
    right = runs([{500: z} for z in rng.normal(size=200)])
    narrow = runs([{500: z} for z in rng.normal(size=200) * 2.0])
    wide = runs([{500: z} for z in rng.normal(size=200) * 0.3])
    assert TrackRecord.of(right).factor == pytest.approx(1.0, abs=0.12)
    assert TrackRecord.of(narrow).factor == pytest.approx(2.0, abs=0.25)
    assert TrackRecord.of(wide).factor == 1.0
    few = TrackRecord.of(narrow[:2])
    assert 1.0 <= few.factor < 2.0


def test_a_store_whose_forecasts_were_too_narrow_widens_the_next_one() -> None:
    S = np.arange(10.0, 2001.0, 10.0)
    curve = LossCurve(S, 2.0 + 6.0 / np.sqrt(S))
    store = RunStore("memory://track/record")
    plain = forecast(curve, horizon=10_000, store=store).final_loss
    for k in range(8):
        other = LossCurve(S, 700.0 + 20.0 * np.exp(-S / 300.0) + k)  # another task: nothing is borrowed from it
        store.add(other, horizon=2000, derived={KEY: score(ledger({200: 3.0, 500: -3.0}), 2.0)})
    widened = forecast(curve, horizon=10_000, store=store)
    assert widened.n_siblings == 0
    assert float(widened.final_loss.mid) == pytest.approx(float(plain.mid), abs=1e-3)
    ratio = float(widened.final_loss.high - widened.final_loss.low) / float(plain.high - plain.low)
    assert ratio == pytest.approx(TrackRecord.of(store.runs()).factor, rel=0.05)
    assert ratio > 1.5
