"""Closing numbers of a run: the same as its closing words, and nothing where nothing is known."""

from __future__ import annotations

import functools
import math
import re

import numpy as np
import pytest

from lightning_scaling import LossCurve, TargetUnreachable
from lightning_scaling.live import LiveForecast
from lightning_scaling.outcome import outcome

T = 1000


@functools.cache
def followed(until: int, *rules: TargetUnreachable, horizon: int | None = T) -> LiveForecast:
    """Return the forecasts of a run up to a step, and what it has ended with."""
    live = LiveForecast(rules)
    live.plan(horizon, None if horizon is None else np.ones(horizon))
    for step in range(100, until + 1, 100):
        live.refit(curve(step))
    return live


def curve(until: int, broken: int = 0) -> LossCurve:
    S = np.arange(1.0, until + 1)
    noise = 0.01 * np.random.default_rng(0).standard_normal(until)
    return LossCurve(S=S, L=2.0 + 6.0 * S**-0.5 + noise, step=until + broken, n_nonfinite=broken)


def test_a_run_that_reached_its_end_is_told_as_in_its_table() -> None:
    live, run = followed(T), curve(T)
    found, words = outcome(live, run), live.summary(run)
    assert set(found) == {
        "ended_at", "steps_saved", "intervals", "intervals_held",
        "at_half/final_loss", "at_half/final_loss_low", "at_half/final_loss_high", "at_half/off",
    }  # fmt: skip
    assert f"ended at {found['ended_at']:.4g}" in words
    assert f"{found['intervals_held']:.0f} of {found['intervals']:.0f} forecasts held" in words
    half = next(r for r in live.ledger.records if r.step == T // 2).final_loss
    assert found["at_half/final_loss"] == half.mid
    assert found["at_half/off"] == half.mid - found["ended_at"]
    off = re.escape(f"{found['at_half/off']:+.2g}")
    assert re.search(rf" 50 % .* {off} ", words)
    assert found["steps_saved"] == 0


def test_a_run_that_a_rule_has_stopped_tells_the_steps_it_saved() -> None:
    live = followed(600, TargetUnreachable(loss=1.0))
    assert live.wants_stop
    found = outcome(live, curve(600))
    assert found["steps_saved"] == 400
    assert found["ended_at"] == pytest.approx(2.0 + 6.0 * 600**-0.5, abs=0.02)
    assert not {"at_half/off", "intervals"} & set(found)  # nobody knows what it would have ended at


def test_a_run_that_was_cut_off_has_saved_nothing() -> None:
    found = outcome(followed(600), curve(600))
    assert "steps_saved" not in found
    assert found["at_half/final_loss_low"] < found["at_half/final_loss"] < found["at_half/final_loss_high"]


def test_what_is_not_known_is_left_out() -> None:
    assert outcome(LiveForecast(), LossCurve([], [])) == {}
    assert set(outcome(followed(600, horizon=None), curve(600))) == {"ended_at"}
    assert "ended_at" not in outcome(followed(600), curve(600, broken=5))
    assert "intervals" not in outcome(followed(T), curve(T, broken=5), T)
    seldom = outcome(followed(900), curve(900), T)  # the last value is from long before the end
    assert "at_half/off" not in seldom
    assert all(math.isfinite(x) for x in seldom.values())
