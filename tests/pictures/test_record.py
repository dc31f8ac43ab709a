from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lightning_scaling.interval import Interval
from lightning_scaling.ledger import ForecastRecord
from lightning_scaling.pictures import plot_record
from lightning_scaling.pictures.axes import new_figure
from lightning_scaling.verdict import Verdict

pytest.importorskip("matplotlib")

NAN = Interval(np.nan, np.nan, np.nan, 0.9)


def record(step: int, mid: float, half: float, verdict: Verdict = Verdict.OK, horizon: int | None = 1000) -> Any:
    loss = NAN if np.isnan(mid) else Interval(mid - half, mid, mid + half, 0.9)
    return ForecastRecord(step, horizon, verdict, loss, NAN, NAN, NAN, NAN)


def draw(records: Sequence[ForecastRecord], **how: Any) -> Any:
    return plot_record(records, ax=new_figure(5.0, 3.0).subplots(), **how)


def dots(ax: Any, label: str) -> np.ndarray:
    found = [c for c in ax.collections if c.get_label() == label]
    return np.concatenate([np.asarray(c.get_offsets()) for c in found]) if found else np.empty((0, 2))


def bars(ax: Any) -> list[tuple[float, float, float]]:
    lines = [segment for c in ax.collections if hasattr(c, "get_segments") for segment in c.get_segments()]
    return sorted((float(s[0, 0]), float(s[0, 1]), float(s[1, 1])) for s in lines)


GOOD, GREY = "forecast, 90 % interval", "not to be relied on"


def test_every_forecast_is_a_dot_on_its_interval_at_its_step() -> None:
    records = [record(100, 2.0, 0.3), record(300, 1.9, 0.2), record(900, 1.85, 0.05)]
    ax = draw(records, truth=1.84, stop=400)
    np.testing.assert_array_equal(dots(ax, GOOD), [[r.step, r.final_loss.mid] for r in records])
    assert bars(ax) == [(r.step, r.final_loss.low, r.final_loss.high) for r in records]
    assert ax.get_xscale() == "log"
    low, high = ax.get_ylim()
    assert low < 1.7
    assert high > 2.3
    [line] = [line for line in ax.lines if line.get_label() == "ended at 1.84"]
    assert set(line.get_ydata()) == {1.84}
    [stop] = [line for line in ax.lines if line.get_label() == "stop"]
    assert set(stop.get_xdata()) == {400}
    assert "stop at 400" in [text.get_text() for text in ax.texts]
    assert [text.get_text() for text in ax.get_legend().get_texts()] == [GOOD, "ended at 1.84"]


def test_what_cannot_be_relied_on_is_hollow_and_what_is_not_known_is_said() -> None:
    records = [
        record(10, np.nan, 0.0, Verdict.TOO_EARLY),
        record(20, 5.0, 1.0, Verdict.TOO_EARLY),
        record(100, 2.5, 0.3, horizon=2000),
        record(500, 2.0, 0.2),
    ]
    ax = draw(records)
    assert dots(ax, GOOD).tolist() == [[500, 2.0]]
    assert dots(ax, GREY).tolist() == [[20, 5.0], [100, 2.5]]
    assert [text.get_text() for text in ax.texts] == ["1 of 4 forecasts knew nothing of the end yet"]
    hollow = next(c for c in ax.collections if c.get_label() == GREY)
    assert hollow.get_facecolor()[0] == pytest.approx(ax.get_facecolor())
    assert ax.get_ylim()[1] < 4.0  # what cannot be relied on does not squeeze the rest
    ax.figure.savefig("/dev/null", format="png")


@pytest.mark.parametrize("horizon", [1000, None])
def test_records_that_know_nothing_are_a_note(horizon: int | None) -> None:
    ax = draw([record(step, np.nan, 0.0, Verdict.NO_HORIZON, horizon) for step in (10, 100)])
    assert [text.get_text() for text in ax.texts] == ["2 of 2 forecasts knew nothing of the end yet"]
    assert not ax.collections
    ax.figure.savefig("/dev/null", format="png")


def test_negative_and_equal_losses_are_drawn() -> None:
    for records in ([record(100, -2.0, 0.3), record(200, -2.2, 0.1)], [record(100, 0.0, 0.0)]):
        ax = draw(records)
        low, high = ax.get_ylim()
        assert low < min(r.final_loss.mid for r in records) <= max(r.final_loss.mid for r in records) < high
        ax.figure.savefig("/dev/null", format="png")


def test_a_bar_out_of_all_proportion_does_not_squeeze_the_rest() -> None:
    records = [record(10, 2.0, 50.0), *(record(step, 2.0, 0.1) for step in (100, 200, 300))]
    low, high = draw(records).get_ylim()
    assert 1.5 < low < 1.9
    assert 2.1 < high < 2.5


def test_no_records_are_an_error() -> None:
    with pytest.raises(ValueError, match="Expected one forecast or more, got none"):
        draw([])
    with pytest.raises(ValueError, match="Expected stop to be a step"):
        draw([record(1, 2.0, 0.1)], stop=np.nan)
