from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_scaling import Forecast, LossCurve, LRSchedule, forecast
from lightning_scaling.ledger import ForecastRecord
from lightning_scaling.pictures import figure_bytes, run_figure, save_picture, theme
from lightning_scaling.pictures.colours import COLOURS, DARK, GREY, LIGHT, contrast

mpl = pytest.importorskip("matplotlib")

HORIZON = 2000
SCHEDULE = LRSchedule.from_array(0.55 + 0.45 * np.cos(np.linspace(0.0, np.pi, HORIZON)))


@pytest.fixture(scope="module")
def curve() -> LossCurve:
    S = np.arange(5.0, HORIZON + 1.0, 5.0)
    return LossCurve(S, 2.0 + 8.0 * S**-0.5 + np.random.default_rng(0).normal(0.0, 0.02, S.size))


@pytest.fixture(scope="module")
def forecasts(curve: LossCurve) -> list[Forecast]:
    return [forecast(curve.until(s * HORIZON), horizon=HORIZON, lr_schedule=SCHEDULE) for s in (0.2, 0.5)]


@pytest.fixture(scope="module")
def parts(forecasts: list[Forecast]) -> dict[str, Any]:
    return {"schedule": SCHEDULE, "records": [ForecastRecord.of(f) for f in forecasts], "stop": 1500}


def labels(figure: Any) -> list[str]:
    return [ax.get_ylabel() for ax in figure.axes]


def test_panels_are_those_with_data_and_share_the_steps(
    curve: LossCurve, forecasts: list[Forecast], parts: dict[str, Any]
) -> None:
    figure = run_figure(curve, forecasts, **parts)
    assert labels(figure) == ["training loss", "off the law [σ]", "forecast of the end", ""]
    assert len({ax.get_xlim() for ax in figure.axes}) == 1
    assert [ax.get_xlabel() for ax in figure.axes] == ["", "", "", "optimizer step"]
    for ax in figure.axes:
        assert [float(line.get_xdata()[0]) for line in ax.lines if line.get_label() == "stop"] == [1500]
    assert labels(run_figure(curve)) == ["training loss"]
    assert labels(run_figure(curve, forecasts, residuals=False)) == ["training loss"]
    assert labels(run_figure(curve, schedule=SCHEDULE)) == ["training loss", ""]
    assert labels(run_figure(curve, records=parts["records"])) == ["training loss", "forecast of the end"]


def test_the_end_is_one_number_in_all_panels(curve: LossCurve, forecasts: list[Forecast], parts: Any) -> None:
    figure = run_figure(curve.until(1200), forecasts, records=parts["records"], truth=2.21)
    top, _, record = figure.axes
    assert "ended at\n2.21" in [text.get_text() for text in top.texts]
    assert [line.get_ydata()[0] for line in record.lines if str(line.get_label()).startswith("ended")] == [2.21]


def test_the_strip_of_residuals_is_of_the_newest_forecast(curve: LossCurve, forecasts: list[Forecast]) -> None:
    early = forecast(curve.until(10), horizon=HORIZON)
    _, strip = run_figure(curve, [*forecasts, early]).axes
    [moment] = [line for line in strip.lines if np.ptp(line.get_xdata()) == 0.0]
    assert moment.get_xdata()[0] == forecasts[-1].step
    assert moment.get_color() == COLOURS[1]
    assert labels(run_figure(curve, [early])) == ["training loss"]


@pytest.mark.parametrize(("dark", "settings_are_dark"), [(False, True), (True, False)])
def test_colours_stand_out_whatever_the_settings_are(
    curve: LossCurve, forecasts: list[Forecast], parts: dict[str, Any], dark: bool, settings_are_dark: bool
) -> None:
    with theme(settings_are_dark):
        figure = run_figure(curve, forecasts, **parts, dark=dark)
        content = figure_bytes(figure)
    face = (DARK if dark else LIGHT).face
    assert {contrast(x.get_facecolor()[:3], face) for x in (figure, *figure.axes)} == {1.0}
    words = [text for text in figure.findobj(mpl.text.Text) if text.get_text().strip()]
    assert len(words) > 30
    assert min(contrast(text.get_color(), face) for text in words) >= 3.0
    lines = [line for ax in figure.axes for line in ax.lines]
    assert min(contrast(line.get_color(), face) for line in lines) >= 3.0
    for ax in figure.axes:
        assert contrast(ax.spines["bottom"].get_edgecolor(), face) >= 3.0
    corner = mpl.image.imread(_stream(content))[0, 0, :3]
    assert contrast(corner, face) == pytest.approx(1.0, abs=0.01)


def _stream(content: bytes) -> Any:
    from io import BytesIO

    return BytesIO(content)


@pytest.mark.parametrize("on", [LIGHT, DARK])
def test_the_palette_stands_out_from_its_ground(on: Any) -> None:
    for colour in (*COLOURS, GREY, on.ink):
        assert contrast(colour, on.face) >= 3.0
    assert contrast(on.grid, on.face) < 1.6
    assert contrast("black", "white") == pytest.approx(21.0)


def test_it_is_drawn_in_threads_without_pyplot(
    curve: LossCurve, forecasts: list[Forecast], parts: dict[str, Any]
) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.close("all")
    before = dict(mpl.rcParams)

    def draw(dark: bool) -> bytes:
        assert threading.current_thread() is not threading.main_thread()
        return figure_bytes(run_figure(curve, forecasts, **parts, dark=dark))

    with ThreadPoolExecutor(2) as pool:
        light, dark = pool.map(draw, [False, True])
    assert light != dark == figure_bytes(run_figure(curve, forecasts, **parts, dark=True))
    assert plt.get_fignums() == []
    assert dict(mpl.rcParams) == before


def test_bytes_are_png_or_svg(curve: LossCurve) -> None:
    figure = run_figure(curve)
    assert figure_bytes(figure).startswith(b"\x89PNG")
    assert b"<svg" in figure_bytes(figure, "svg")[:1000]
    with pytest.raises(ValueError, match="Expected format to be one of png, svg, got 'gif'"):
        figure_bytes(figure, "gif")


def test_a_picture_is_written(
    tmp_path: Path, curve: LossCurve, forecasts: list[Forecast], parts: dict[str, Any]
) -> None:
    save_picture(tmp_path / "a.png", curve, forecasts, SCHEDULE, dark=True, records=parts["records"])
    image = mpl.image.imread(tmp_path / "a.png")
    assert image.shape[1] == 1120
    assert contrast(image[0, 0, :3], DARK.face) == pytest.approx(1.0, abs=0.01)
    with pytest.raises(ValueError, match="not supported"):
        save_picture(tmp_path / "a.nothing", curve)


def test_what_is_hard_to_draw(curve: LossCurve) -> None:
    with pytest.raises(ValueError, match="Expected a curve with points, got none"):
        run_figure(LossCurve([], []))
    unknown = [ForecastRecord.of(forecast(curve.until(10), horizon=HORIZON))]
    lowered = LossCurve(curve.S, curve.L - 2.5)
    for figure in (
        run_figure(LossCurve([3], [2.0]), schedule=SCHEDULE),
        run_figure(curve.until(10), records=unknown),
        run_figure(lowered, [forecast(lowered, horizon=None)]),
    ):
        assert len(figure_bytes(figure)) > 5_000
    assert run_figure(lowered).axes[0].get_yscale() == "linear"


def test_the_planned_end_is_in_the_picture_whoever_knows_it(curve: LossCurve, parts: dict[str, Any]) -> None:
    start = curve.until(100)
    for more in ({"schedule": SCHEDULE}, {"records": parts["records"]}):
        figure = run_figure(start, **more)
        for ax in figure.axes:
            assert ax.get_xlim()[1] > HORIZON
            assert max(ax.get_xticks()) == HORIZON
    assert run_figure(start).axes[0].get_xlim()[1] < 200


def test_a_theme_ends_with_its_block() -> None:
    before = dict(mpl.rcParams)
    with theme(dark=True):
        assert mpl.rcParams["figure.facecolor"] == DARK.face
        assert contrast(mpl.rcParams["text.color"], DARK.face) > 7.0
    assert dict(mpl.rcParams) == before
