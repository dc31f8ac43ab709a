"""One picture of a run: its losses and forecasts, the law's residuals, its record and its learning rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from lightning_scaling.curve import LossCurve
from lightning_scaling.fit.data import compact
from lightning_scaling.forecast import Forecast
from lightning_scaling.ledger import ForecastRecord, recent_loss
from lightning_scaling.pictures.axes import mark_stop, new_figure
from lightning_scaling.pictures.forecasts import plot_forecast, plot_schedule
from lightning_scaling.pictures.record import plot_record
from lightning_scaling.pictures.residuals import plot_residuals
from lightning_scaling.pictures.theme import dress, ground
from lightning_scaling.schedule import LRSchedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["figure_bytes", "run_figure", "save_picture"]

#: Width [inches], and heights of the panels [inches].
_WIDTH, _COURSE, _RESIDUALS, _RECORD, _SCHEDULE = 5.6, 3.4, 1.2, 1.5, 0.7
_DPI = 200.0
FORMATS = ("png", "svg")


def run_figure(
    curve: LossCurve,
    forecasts: Sequence[Forecast] = (),
    *,
    schedule: LRSchedule | None = None,
    records: Sequence[ForecastRecord] = (),
    truth: float | None = None,
    stop: float | None = None,
    dark: bool = False,
    residuals: bool = True,
) -> Figure:
    """Draw a run and what was forecast of it in panels that share the axis of steps.

    From the top: the losses with their forecasts; how far the losses lie off the law of the newest forecast; all
    forecasts of the end as they were made; the learning rate. A panel without data is left out. The figure is drawn
    without pyplot and its colours do not depend on settings, so that it can be made in any thread.

    Args:
        curve: The run.
        forecasts: Forecasts of it, oldest first.
        schedule: Its learning rates; None: no panel.
        records: All forecasts of its end, as `ForecastLedger.records` has them; empty: no panel.
        truth: Loss that the run ended at [unit of the curve]; default: the mean over the last 2 % of its steps, if the
            curve reaches the planned end.
        stop: Step at which a rule stopped the run or would have stopped it, drawn as a line [steps].
        dark: Whether the ground is dark.
        residuals: Whether to draw the losses against the law of the newest forecast.

    Returns:
        The figure, for `figure_bytes`, for ``savefig``, or for a logger.

    Raises:
        ValueError: If the curve has no points, or ``stop`` is no step.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    if not len(curve):
        raise ValueError("Expected a curve with points, got none, so wait for the first steps of the run.")
    short, end = compact(curve), _end(forecasts, records, schedule)
    if truth is None and end is not None and curve.step >= end:
        truth = recent_loss(curve)
    panels: list[tuple[float, Callable[[Axes], object]]] = [
        (_COURSE, lambda ax: plot_forecast(short, forecasts, ax=ax, truth=truth, stop=stop))
    ]
    law = next((f for f in reversed(forecasts) if math.isfinite(float(f.law_at(max(f.step, 1)).mid))), None)
    if residuals and law is not None:
        panels.append((_RESIDUALS, lambda ax: plot_residuals(short, law, ax=ax)))
    if len(records):
        panels.append((_RECORD, lambda ax: plot_record(records, ax=ax, truth=truth)))
    if schedule is not None:
        panels.append((_SCHEDULE, lambda ax: plot_schedule(schedule, ax=ax)))

    on, heights = ground(dark), [height for height, _ in panels]
    figure = new_figure(_WIDTH, sum(heights) + 0.6, face=on.face, dpi=_DPI)
    column = figure.subplots(len(panels), 1, sharex=True, height_ratios=heights, squeeze=False)[:, 0]
    for k, (ax, (_, draw)) in enumerate(zip(column, panels, strict=True)):
        dress(ax, on)
        draw(ax)
        if stop is not None and k:
            mark_stop(ax, stop, words=False)
        ax.set_xlabel("optimizer step" if k + 1 == len(panels) else "")
    figure.align_ylabels(column)
    return figure


def save_picture(
    path: str | Path,
    curve: LossCurve,
    forecasts: Sequence[Forecast] = (),
    schedule: LRSchedule | None = None,
    *,
    dark: bool = False,
    records: Sequence[ForecastRecord] = (),
    truth: float | None = None,
    stop: float | None = None,
    residuals: bool = True,
) -> None:
    """Draw a run and what was forecast of it, and write the picture to a file.

    Args:
        path: Where to; the ending of the name decides on the format, for example ``.png`` or ``.svg``.
        curve: The run.
        forecasts: Forecasts of it, oldest first.
        schedule: Its learning rates, drawn in a strip below; None: no strip.
        dark: Whether the ground is dark.
        records: All forecasts of its end, drawn in a panel; empty: no panel.
        truth: Loss that the run ended at, as in `run_figure` [unit of the curve].
        stop: Step at which a rule stopped the run or would have stopped it, drawn as a line [steps].
        residuals: Whether to draw the losses against the law of the newest forecast.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        ValueError: If the curve has no points, ``stop`` is no step, or the format is not known.
    """
    figure = run_figure(
        curve,
        forecasts,
        schedule=schedule,
        records=records,
        truth=truth,
        stop=stop,
        dark=dark,
        residuals=residuals,
    )
    figure.savefig(path, facecolor=figure.get_facecolor())


def figure_bytes(figure: Figure, format: str = "png") -> bytes:
    """Return a figure as the content of a file.

    Args:
        figure: The figure, of `run_figure` or any other.
        format: ``png`` or ``svg``.

    Raises:
        ValueError: If the format is another.
    """
    if format not in FORMATS:
        raise ValueError(f"Expected format to be one of {', '.join(FORMATS)}, got {format!r}, so choose one of these.")
    buffer = BytesIO()
    # Without a date and the version of the writer, a picture drawn again is the same file.
    metadata = {"Software": None} if format == "png" else {"Date": None, "Creator": None}
    figure.savefig(buffer, format=format, facecolor=figure.get_facecolor(), metadata=metadata)
    return buffer.getvalue()


def _end(forecasts: Sequence[Forecast], records: Sequence[ForecastRecord], schedule: LRSchedule | None) -> int | None:
    """Return the planned end as far as anything says it [steps]."""
    horizons = [*(f.horizon for f in forecasts), *(r.horizon for r in records)]
    told = [horizon for horizon in horizons if horizon is not None]
    if told:
        return max(told)
    return schedule.horizon if schedule is not None and schedule.known else None
