"""Pictures written to files: a run with its forecasts over its schedule. Matplotlib is imported inside only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lightning_scaling.curve import LossCurve
from lightning_scaling.fit.data import compact
from lightning_scaling.forecast import Forecast
from lightning_scaling.report.plots import plot_forecast, plot_schedule
from lightning_scaling.schedule import LRSchedule

__all__ = ["save_picture"]


def save_picture(
    path: str | Path, curve: LossCurve, forecasts: Sequence[Forecast] = (), schedule: LRSchedule | None = None
) -> None:
    """Draw a run, what was forecast of it and its learning rate, and write the picture to a file.

    Args:
        path: Where to; the ending of the name decides on the format, for example ``.png`` or ``.svg``.
        curve: The run.
        forecasts: Forecasts of it, oldest first.
        schedule: Its learning rates, drawn in a strip below; None: no strip.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
        ValueError: If the format is not known.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Expected matplotlib for a picture, got no such module, so pip install 'lightning-scaling[plot]'.",
            name="matplotlib",
        ) from error
    figure = Figure(figsize=(8.0, 5.0 if schedule is None else 5.6), layout="constrained")
    short = compact(curve)
    if schedule is None:
        plot_forecast(short, forecasts, ax=figure.subplots())
    else:
        above, below = figure.subplots(2, 1, sharex=True, height_ratios=[5.0, 1.0])
        plot_forecast(short, forecasts, ax=above)
        plot_schedule(schedule, ax=below)
        above.set_xlabel("")
    figure.savefig(path, dpi=160)
