"""ForecastLedger: records in, a table and plain numbers out."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch

from lightning_scaling import CurveBuilder, Interval, LossCurve, Verdict
from lightning_scaling.ledger import ForecastLedger, ForecastRecord, recent_error, recent_loss

NAN = float("nan")


def record(
    step: int, mid: float, half: float = 0.1, *, horizon: int | None = 1000, verdict: Verdict = Verdict.OK
) -> ForecastRecord:
    loss = Interval(mid - half, mid, mid + half, 0.9)
    other = Interval(0.5, 1.0, math.inf, 0.9)
    return ForecastRecord(step, horizon, verdict, loss, other, other, other, other)


def filled() -> ForecastLedger:
    ledger = ForecastLedger()
    ledger.append(record(20, NAN, NAN, verdict=Verdict.TOO_EARLY))
    ledger.append(record(100, NAN, NAN, verdict=Verdict.TOO_EARLY))
    ledger.append(record(200, 2.6, 0.5))
    ledger.append(record(450, 2.31))
    ledger.append(record(500, 2.12))
    ledger.append(record(900, 2.004, 0.01))
    return ledger


def test_table_of_a_run_that_came_to_its_end() -> None:
    assert filled().table(2.0).splitlines() == [
        "Forecasts of the loss at step 1 000, and what happened",
        " done  at step  forecast                         off  inside",
        " 10 %      100  none: too early",
        " 20 %      200  2.6 (2.1 to 3.1, 90 %)          +0.6  no",
        " 50 %      500  2.12 (2.02 to 2.22, 90 %)      +0.12  no",
        " 90 %      900  2.004 (1.994 to 2.014, 90 %)  +0.004  yes",
        "100 %    1 000  ended at 2",
        "1 of 3 forecasts held the loss inside its interval.",
    ]


def test_table_of_a_run_that_was_stopped_says_nothing_of_the_end() -> None:
    table = filled().table()
    assert table.splitlines()[0] == "Forecasts of the loss at step 1 000"
    assert "inside" not in table
    assert "100 %" not in table


def test_what_is_not_usable_is_neither_shown_nor_counted() -> None:
    ledger = ForecastLedger()
    ledger.append(record(100, 2.0, verdict=Verdict.TOO_EARLY))
    ledger.append(record(500, 2.0))
    ledger.append(record(900, 2.0, verdict=Verdict.DIVERGED))
    table = ledger.table(2.0)
    assert "none: too early" in table
    assert "none: diverged" in table
    assert "1 of 1 forecasts" in table


def test_table_where_there_is_nothing_to_show() -> None:
    ledger = ForecastLedger()
    assert "not known" in ledger.table(2.0)
    ledger.append(record(5, 2.0, horizon=None))
    assert "not known" in ledger.table(2.0)


def test_forecast_for_another_end_says_so_and_does_not_count() -> None:
    ledger = ForecastLedger()
    ledger.append(record(300, 2.5, horizon=500))
    ledger.append(record(600, 2.0, horizon=1000))
    table = ledger.table(2.0)
    assert "2.50 (2.40 to 2.60, 90 %) for an end at step 500" in table
    assert "1 of 1 forecasts" in table


def test_each_tenth_shows_its_newest_forecast() -> None:
    assert [(tenth, r.step) for tenth, r in filled().at_tenths()] == [(1, 100), (2, 200), (5, 500), (9, 900)]


def test_same_step_replaces_and_older_step_is_refused() -> None:
    ledger = filled()
    ledger.append(record(900, 3.0))
    assert len(ledger) == 6
    assert ledger.records[-1].final_loss.mid == 3.0
    with pytest.raises(ValueError, match="new ledger"):
        ledger.append(record(899, 3.0))


def test_state_is_plain_and_comes_back_equal() -> None:
    ledger = filled()
    file = io.BytesIO()
    torch.save(ledger.state_dict(), file)
    file.seek(0)
    again = ForecastLedger.from_state(torch.load(file, weights_only=True))
    assert again.records == ledger.records
    assert again.table(2.0) == ledger.table(2.0)
    with pytest.raises(ValueError, match="version"):
        ForecastLedger.from_state({"version": 99})


def test_size_is_bounded() -> None:
    ledger = ForecastLedger()
    for step in range(1, 5001):
        ledger.append(record(step, 2.0, horizon=None))
    assert len(ledger) <= 512
    assert ledger.records[-1].step == 5000
    assert ledger.records[0].step == 1


def test_recent_loss_is_the_mean_of_the_last_two_percent() -> None:
    curve = LossCurve(S=[500, 970, 985, 995], L=[9.0, 8.0, 1.0, 2.0], count=[1, 1, 1, 3], step=1000)
    assert recent_loss(curve) == pytest.approx((1.0 + 3 * 2.0) / 4)
    assert recent_loss(LossCurve(S=[1, 10], L=[3.0, 2.0], step=500)) == 2.0
    assert math.isnan(recent_loss(LossCurve([], [])))


def test_the_noise_of_what_happened_is_told_and_left_to_the_intervals() -> None:
    ledger = ForecastLedger()
    loss = Interval(1.84, 1.86, 1.88, 0.9)
    ledger.append(ForecastRecord(500, 1000, Verdict.OK, loss, loss, loss, loss, loss))
    assert "0 of 1 forecasts" in ledger.table(1.89)
    noisy = ledger.table(1.89, error=0.02)
    assert "0 of 1 forecasts" in noisy
    assert "1.890±0.020 with its standard error; the intervals allow for that" in noisy
    assert "1 of 1 forecasts" in ledger.table(1.875, error=0.02)


def test_recent_error_is_that_of_a_mean() -> None:
    rng = np.random.default_rng(0)
    builder = CurveBuilder()
    builder.extend(range(1, 50_001), (2.0 + 0.1 * rng.standard_normal(50_000)).tolist())
    curve = builder.curve()
    n = curve.count[curve.S > 49_000].sum()
    assert recent_error(curve) == pytest.approx(0.1 / np.sqrt(n), rel=0.1)
    assert recent_error(LossCurve(S=[1, 2], L=[2.0, 1.0])) == 0.0  # nothing is known of single steps
    assert recent_error(LossCurve(S=[1, 2], L=[2.0, 1.0], spread=[0.1, 0.1])) == 0.0  # a spread of single steps
    assert recent_error(LossCurve(S=[], L=[])) == 0.0
