"""The forecasts of a store made anew by the engine of today, as the monitors of its runs would have made them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lightning_scaling import RunStore
from lightning_scaling.ledger import recent_loss
from lightning_scaling.live import LiveForecast
from lightning_scaling.store import StoredRun
from lightning_scaling.track_record import KEY, score


def foretell(store: RunStore) -> int:
    """Forecast every finished run of a store again and write what comes of it; return how many there are.

    Each has the runs that began before it to borrow from, with their new records.
    """
    n = 0
    for id in [run.id for run in sorted(store.runs(state="finished"), key=lambda run: run.started)]:
        run = store[id]
        if run.horizon is None:
            continue
        kin = [other for other in store.runs(state="finished") if other.started < run.started]
        live = follow(run, kin)
        found = score(live.ledger, recent_loss(run.curve))
        store.add(
            run.curve,
            horizon=run.horizon,
            lr_schedule=run.lr_schedule,
            finished=True,
            forecasts=live.ledger,
            derived={} if found is None else {KEY: found},
            id=id,
        )
        n += 1
    return n


def follow(run: StoredRun, kin: Sequence[StoredRun]) -> LiveForecast:
    """Go through a run as its monitor did, and return its forecasts."""
    assert run.horizon is not None
    live = LiveForecast()
    live.siblings = kin
    rates = None if run.lr_schedule is None else run.lr_schedule.rate_at(np.arange(1, run.horizon + 1))
    live.plan(run.horizon, rates, step=0)
    while (step := live.next_step) < run.horizon:
        live.refit(replace(run.curve.until(step), step=step))  # the last window may end before it
    live.refit(run.curve)
    return live
