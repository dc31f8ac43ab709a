from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from lightning_scaling import CurveBuilder, Forecast, LossCurve, LRSchedule, forecast
from lightning_scaling.ledger import recent_loss
from lightning_scaling.pictures import plot_forecast, plot_schedule

plt = pytest.importorskip("matplotlib.pyplot")

HORIZON = 4000
RATES = 0.55 + 0.45 * np.cos(np.linspace(0.0, np.pi, HORIZON))
SCHEDULE = LRSchedule.from_array(RATES)


@pytest.fixture(autouse=True)
def _agg() -> Iterator[None]:
    plt.switch_backend("Agg")
    yield
    plt.close("all")


@pytest.fixture
def curve(make_curve: Callable[..., Any]) -> LossCurve:
    """A finished run, in windows."""
    S, L = make_curve(HORIZON)
    builder = CurveBuilder()
    builder.extend(S.astype(int), L)
    return builder.curve(unit="nats/byte")


def forecast_at(curve: LossCurve, share: float) -> Forecast:
    return forecast(curve.until(share * HORIZON), horizon=HORIZON, lr_schedule=SCHEDULE)


def dots(ax: Any) -> np.ndarray:
    [found] = [c for c in ax.collections if c.get_label() == "training loss"]
    return np.asarray(found.get_offsets())


def bands(ax: Any) -> list[Any]:
    return [c for c in ax.collections if c.get_label() != "training loss"]


def lines_across(ax: Any) -> list[float]:
    return [float(line.get_ydata()[0]) for line in ax.lines if line.get_label() == "the end"]


def test_the_dots_are_the_windows_as_they_are(curve: LossCurve) -> None:
    ax = plot_forecast(curve)
    drawn = curve.S >= 0.01 * HORIZON
    assert 0 < drawn.sum() < len(curve)
    np.testing.assert_array_equal(dots(ax), np.column_stack([curve.S, curve.L])[drawn])
    assert ax.get_xscale() == ax.get_yscale() == "log"
    assert ax.get_ylabel() == "training loss [nats/byte]"


def test_a_band_is_the_forecast_from_its_moment_to_the_planned_end(curve: LossCurve) -> None:
    forecasts = [forecast_at(curve, 0.1), forecast_at(curve, 0.5)]
    found = bands(plot_forecast(curve, forecasts))
    assert len(found) == 2
    for band, f in zip(found, forecasts, strict=True):
        x, y = band.get_paths()[0].vertices.T
        assert (x.min(), x.max()) == (f.step, HORIZON)
        for step in np.unique(x)[::20]:
            expected = f.loss_at([step])
            assert y[x == step].min() == pytest.approx(float(expected.low[0]), rel=1e-12)
            assert y[x == step].max() == pytest.approx(float(expected.high[0]), rel=1e-12)


def test_the_intervals_at_the_end_stand_beside_it_and_within_the_picture(curve: LossCurve) -> None:
    forecasts = [forecast_at(curve, share) for share in (0.1, 0.3, 0.5)]
    ax = plot_forecast(curve, forecasts)
    bars = [line for line in ax.lines if len(line.get_xdata()) == 2 and np.ptp(line.get_xdata()) == 0.0]
    assert [tuple(bar.get_ydata()) for bar in bars] == [(f.final_loss.low, f.final_loss.high) for f in forecasts]
    places = [float(bar.get_xdata()[0]) for bar in bars]
    assert HORIZON < places[0] < places[1] < places[2] < ax.get_xlim()[1]
    for f, text in zip(forecasts, ax.texts, strict=False):
        assert text.get_text().strip().endswith(f.final_loss.short())
    assert [t.get_text().split(":")[0].strip() for t in ax.texts[:3]] == ["forecast at 10 %", "at 30 %", "at 50 %"]


def test_the_real_end_is_marked_once_it_is_there(curve: LossCurve) -> None:
    early = forecast_at(curve, 0.3)
    assert lines_across(plot_forecast(curve, [early])) == [recent_loss(curve)]
    assert lines_across(plot_forecast(curve.until(0.6 * HORIZON), [early])) == []
    assert lines_across(plot_forecast(curve.until(0.6 * HORIZON), [early], truth=2.25)) == [2.25]


def test_without_a_forecast_there_is_the_curve_alone(curve: LossCurve) -> None:
    start = curve.until(6)
    unknown = forecast(start, horizon=HORIZON, lr_schedule=SCHEDULE)
    assert np.isnan(unknown.present_loss.mid)
    for forecasts in ([], [unknown]):
        ax = plot_forecast(start, forecasts)
        assert len(dots(ax)) == len(start)
        assert not bands(ax)
        assert not ax.lines
        assert not ax.texts
        ax.figure.canvas.draw()


def test_without_a_planned_end_the_band_goes_as_far_as_the_curve(curve: LossCurve) -> None:
    open_ended = forecast(curve.until(1000), horizon=None)
    ax = plot_forecast(curve, [open_ended])
    [band] = bands(ax)
    assert band.get_paths()[0].vertices[:, 0].max() == curve.step
    assert ax.texts[0].get_text().strip().endswith(f"at step {open_ended.step}: no planned end")


def test_losses_below_zero_have_a_linear_axis(curve: LossCurve) -> None:
    lowered = LossCurve(S=curve.S, L=curve.L - 2.2, count=curve.count)
    ax = plot_forecast(lowered, [forecast_at(lowered, 0.5)])
    assert (ax.get_xscale(), ax.get_yscale()) == ("log", "linear")
    assert ax.get_ylim()[0] < lowered.L.min()
    ax.figure.canvas.draw()


@pytest.mark.parametrize("L", [[2.0], [2.0] * 40])
def test_a_curve_without_height_is_drawn(L: list[float]) -> None:
    ax = plot_forecast(LossCurve(S=np.arange(1, len(L) + 1), L=L))
    low, high = ax.get_ylim()
    assert low < 2.0 < high
    ax.figure.canvas.draw()


def test_a_forecast_out_of_all_proportion_does_not_squeeze_the_curve(curve: LossCurve) -> None:
    wild = forecast(curve.until(40), horizon=HORIZON, lr_schedule=SCHEDULE)
    low, high = plot_forecast(curve.until(40), [wild]).get_ylim()
    drawn = curve.L[(curve.S >= 40) & (curve.S <= 40)]
    assert wild.final_loss.half_width > 10.0 * np.ptp(drawn)
    assert np.log(high / low) < 3.0


def test_an_empty_curve_is_an_error() -> None:
    with pytest.raises(ValueError, match="Expected a curve with points, got none"):
        plot_forecast(LossCurve(S=[], L=[]))


def test_it_draws_where_it_is_told_in_the_colours_of_the_style(curve: LossCurve) -> None:
    with plt.style.context("dark_background"):
        ax = plt.subplots()[1]
        assert plot_forecast(curve, [forecast_at(curve, 0.5)], ax=ax) is ax
        assert ax.texts[-1].get_text() == f"ended at\n{recent_loss(curve):.4g}"
        assert ax.texts[-1].get_color() == "white"


def test_the_schedule_is_drawn_as_it_is() -> None:
    ax = plot_schedule(SCHEDULE)
    x, y = (np.asarray(v) for v in ax.lines[0].get_data())
    assert ax.get_xscale() == "log"
    assert 0.0 < x[0] <= 1.0
    assert x[-1] == HORIZON
    steps = np.array([1, 77, 1000, 3999])
    drawn = y[np.searchsorted(x, steps, side="left").clip(1) - 1]  # a block begins after its left edge
    np.testing.assert_allclose(drawn, SCHEDULE.rate_at(steps), rtol=1e-12)
    assert [t.get_text() for t in ax.texts] == ["learning rate"]


def test_a_schedule_that_nobody_gave_says_so() -> None:
    assert [t.get_text() for t in plot_schedule(LRSchedule.constant(500)).texts] == ["learning rate, as far as known"]


def test_the_two_share_an_axis_of_steps(curve: LossCurve, tmp_path: Any) -> None:
    figure, (top, strip) = plt.subplots(2, 1, sharex=True)
    plot_forecast(curve, [forecast_at(curve, 0.5)], ax=top)
    limits = top.get_xlim()
    plot_schedule(SCHEDULE, ax=strip)
    assert strip.get_xlim() == top.get_xlim() == limits
    assert max(strip.get_xticks()) <= HORIZON
    figure.savefig(tmp_path / "both.png")
    assert (tmp_path / "both.png").stat().st_size > 10_000
