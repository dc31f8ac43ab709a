from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from lightning_scaling import Forecast, LossCurve, forecast
from lightning_scaling.pictures import plot_residuals
from lightning_scaling.pictures.axes import new_figure, windows

pytest.importorskip("matplotlib")

HORIZON, NOISE = 8000, 0.03


def run(leaves: float = 0.0, lowered: float = 0.0) -> LossCurve:
    """Return a run that keeps to its law up to step 5 000, and lies above it by ``leaves`` after that."""
    S = np.arange(4.0, HORIZON + 1.0, 4.0)
    noise = np.random.default_rng(1).normal(0.0, NOISE, S.size)
    return LossCurve(S, 2.0 - lowered + 6.0 * S**-0.5 + leaves * (S > 5000) + noise)


def at_half(curve: LossCurve) -> Forecast:
    return forecast(curve.until(HORIZON / 2), horizon=HORIZON)


def draw(curve: LossCurve, prediction: Forecast) -> Any:
    return plot_residuals(curve, prediction, ax=new_figure(5.0, 2.0).subplots())


def dots(ax: Any) -> np.ndarray:
    found = [np.asarray(c.get_offsets()) for c in ax.collections if c.get_label().startswith("windows")]
    joined = np.concatenate(found)
    return joined[np.argsort(joined[:, 0])]


def test_there_is_a_dot_for_each_window_at_its_distance_from_the_law_in_sigmas() -> None:
    curve = run()
    prediction = at_half(curve)
    seen, drawn = windows(curve, HORIZON, 16), dots(ax := draw(curve, prediction))
    assert seen is not None
    np.testing.assert_array_equal(drawn[:, 0], seen.S)
    off = (seen.y - prediction.law_at(seen.S).mid) / np.sqrt(seen.variance)
    inside = np.abs(off) < ax.get_ylim()[1]
    np.testing.assert_allclose(drawn[inside, 1], off[inside])
    assert ax.get_ylim()[0] == -ax.get_ylim()[1]


def test_a_run_that_keeps_to_its_law_lies_in_the_band_and_one_that_leaves_it_does_not() -> None:
    off = {}
    for leaves in (0.0, 0.05):
        curve = run(leaves)
        drawn = dots(draw(curve, at_half(curve)))
        near = (drawn[:, 0] > 1500) & (drawn[:, 0] < 4000)
        assert np.mean(np.abs(drawn[near, 1]) < 2.0) > 0.8
        off[leaves] = drawn[drawn[:, 0] > 5500, 1]
    assert np.mean(np.abs(off[0.0]) < 2.0) > 0.7
    assert np.all(off[0.05] > 4.0)


def test_the_unit_is_the_noise_of_a_window_mean() -> None:
    curve = run()
    seen = windows(curve, HORIZON, 16)
    assert seen is not None
    held = np.diff(np.append(np.searchsorted(curve.S, seen.S), len(curve)))
    late = slice(-20, -2)
    assert np.sqrt(seen.variance[late] * held[late]) == pytest.approx(NOISE, rel=0.25)


def test_the_interval_of_the_forecast_is_drawn_from_its_moment_on_in_the_same_unit() -> None:
    curve = run()
    prediction = at_half(curve)
    ax = draw(curve, prediction)
    [band] = [c for c in ax.collections if c.get_label() == "90 % interval of the forecast"]
    x, y = band.get_paths()[0].vertices.T
    assert x.min() == prediction.step
    last = windows(curve, HORIZON, 16)
    assert last is not None
    assert x.max() == pytest.approx(last.S[-1])
    loss, law = prediction.loss_at(x.max()), float(prediction.law_at(x.max()).mid)
    sigma = (float(loss.high) - float(loss.low)) / (y[x == x.max()].max() - y[x == x.max()].min())
    assert y[x == x.max()].max() == pytest.approx((float(loss.high) - law) / sigma)
    assert sigma == pytest.approx(np.sqrt(np.median(last.variance[-6:])), rel=0.3)


def test_where_there_is_no_law_there_is_a_note() -> None:
    curve = LossCurve([1, 2, 3], [3.0, 2.5, 2.2])
    for short in (curve, curve.until(1)):
        ax = draw(short, forecast(short, horizon=100))
        assert [text.get_text() for text in ax.texts] == ["no law to hold the run against yet"]
        assert not ax.collections
        ax.figure.savefig("/dev/null", format="png")


def test_losses_below_zero_an_open_end_and_no_noise_are_drawn() -> None:
    S = np.arange(1.0, 400.0)
    for curve, horizon in (
        (run(lowered=4.0), HORIZON),
        (run(), None),
        (LossCurve(S, 2.0 + S**-0.5), 1000),
        (LossCurve(S, np.full(S.size, 2.0)), 1000),
    ):
        ax = draw(curve, forecast(curve, horizon=horizon))
        assert np.isfinite(dots(ax)).all()
        ax.figure.savefig("/dev/null", format="png")


def test_an_empty_curve_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expected a curve with points, got none"):
        draw(LossCurve([], []), at_half(run()))
