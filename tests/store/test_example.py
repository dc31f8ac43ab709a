"""The store that ships: it is whole, small, and good for what it is shown with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lightning_scaling import LossCurve, RunStore, forecast
from lightning_scaling.store.example import example_store


@pytest.fixture(scope="module")
def store() -> RunStore:
    return example_store()


def test_every_file_is_a_finished_run_of_our_own(store: RunStore) -> None:
    files = list(Path(store.url).iterdir())
    runs = store.runs()
    assert len(runs) == len(files) >= 20
    assert sum(file.stat().st_size for file in files) < 1_000_000
    for run in runs:
        assert run.state == "finished"
        assert run.curve.step == run.horizon
        assert run.lr_schedule is not None
        assert run.final_loss is not None
        assert 1.2 < run.final_loss < 2.3
        assert len(run.forecasts) > 5


def test_it_holds_a_ladder_schedules_lengths_and_batches(store: RunStore) -> None:
    sizes = {run.N for run in store.runs(tags={"part": "ladder", "schedule": "constant"})}
    assert len(sizes) >= 6
    assert max(sizes) / min(sizes) > 90
    assert {run.tags["schedule"] for run in store} == {"constant", "cosine", "wsd", "linear"}
    assert len({run.horizon for run in store.runs(tags={"part": "length"})}) >= 2
    assert len({run.batch for run in store.runs(tags={"schedule": "constant"})}) >= 5
    ends = {run.N: run.final_loss for run in store.runs(tags={"part": "ladder", "schedule": "cosine"})}
    assert list(np.diff([ends[N] for N in sorted(ends)]) < 0.0) == [True] * (len(ends) - 1)


def test_its_largest_run_is_forecast_before_it_begins_from_the_smaller_ones(store: RunStore) -> None:
    largest = max(store.runs(tags={"part": "ladder", "schedule": "cosine"}), key=lambda run: run.N or 0.0)
    smaller = [run for run in store if (run.N or 0.0) < (largest.N or 0.0)]
    begun = LossCurve(S=[], L=[], N=largest.N)
    told = forecast(begun, horizon=largest.horizon, lr_schedule=largest.lr_schedule, store=smaller)
    assert told.verdict.usable
    assert told.final_loss.low <= largest.final_loss <= told.final_loss.high
    assert told.final_loss.high - told.final_loss.low < 0.3
