"""Long curves come to windows, and no mean is lost on the way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lightning_scaling import CurveBuilder, LossCurve
from lightning_scaling.ledger import recent_loss
from lightning_scaling.store.thinning import LONG, thin


def test_a_long_log_comes_to_the_windows_of_a_live_run(make_curve: Callable[..., Any]) -> None:
    S, L = make_curve(20_000)
    lr, B = 3e-4 * (1.0 - S / 40_000), np.where(S < 1000, 256.0, 512.0)
    builder = CurveBuilder()
    builder.extend(S.astype(int).tolist(), L.tolist(), lr.tolist(), B.tolist())
    live, short = builder.curve(N=1e6), thin(LossCurve(S=S, L=L, lr=lr, B=B, N=1e6))
    assert len(short) == len(live) <= LONG
    assert (short.N, short.step) == (live.N, live.step)
    for name in ("S", "L", "lr", "B", "count", "spread"):
        np.testing.assert_allclose(getattr(short, name), getattr(live, name), rtol=1e-9, err_msg=name)


def test_means_are_kept_whatever_the_points_stand_for(rng: np.random.Generator) -> None:
    n = 5000
    count = rng.integers(1, 20, n).astype(float)
    S = np.cumsum(count) - 0.5 * (count - 1.0)
    L = 2.0 + rng.standard_normal(n)
    curve = LossCurve(S=S, L=L, count=count, spread=np.where(count > 1, 0.3, np.nan), n_nonfinite=3, unit="nats")
    short = thin(curve)
    assert len(short) < LONG
    for values, means in ((L, short.L), (S, short.S)):
        assert np.average(means, weights=short.count) == pytest.approx(np.average(values, weights=count), rel=1e-12)
    assert short.count.sum() == count.sum()
    assert (short.n_nonfinite, short.unit, short.step) == (3, "nats", curve.step)
    # The squares about the mean of all steps are those within the windows and those between them.
    total = ((count - 1) * np.where(count > 1, 0.09, 0.0)).sum() + (
        count * (L - np.average(L, weights=count)) ** 2
    ).sum()
    within = np.where(short.count > 1, (short.count - 1) * short.spread**2, 0.0).sum()
    between = (short.count * (short.L - np.average(L, weights=count)) ** 2).sum()
    assert within + between == pytest.approx(total, rel=1e-9)
    assert recent_loss(short) == pytest.approx(recent_loss(curve), abs=0.1)


def test_a_spread_that_a_point_does_not_know_its_window_does_not_know() -> None:
    S = np.arange(1.0, 2001.0)
    curve = LossCurve(S=S, L=np.ones(2000), count=np.full(2000, 4.0), spread=np.where(S == 1500, np.nan, 0.1))
    unknown = np.isnan(thin(curve).spread)
    assert unknown.sum() == 1


def test_a_short_curve_is_kept_as_it_is() -> None:
    curve = LossCurve(S=np.arange(1, LONG + 1), L=np.ones(LONG))
    assert thin(curve) is curve
    assert len(thin(LossCurve([], []))) == 0


def test_ends_of_epochs_are_bounded() -> None:
    ends = range(1, 100_000)
    short = thin(LossCurve(S=[1, 2], L=[3.0, 2.0], step=100_000, epoch_ends=ends))
    assert short.epoch_ends == tuple(range(1, 257))
    assert np.isnan(short.spread).all()


def test_windows_of_a_very_long_run_are_not_merged_again() -> None:
    S = np.unique(np.round(np.geomspace(1, 1e9, 2000)))
    once = thin(LossCurve(S=S, L=np.ones(S.size)))
    assert len(once) < 1000
    assert len(thin(once)) > 0.9 * len(once)
