"""plot_record(): the forecasts that a run was given of its end, as they were made."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.ledger import ForecastRecord
from lightning_scaling.pictures.axes import (
    axes_or_new,
    check_stop,
    ink_of,
    limit_steps,
    mark_stop,
    note,
    step_axis,
)
from lightning_scaling.pictures.colours import COLOURS, GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_record"]

FloatArray = NDArray[np.float64]

#: Records from which bars become thin, so that they stay apart.
_MANY = 40
#: The axis of losses reaches beyond the medians by so many median half widths of the intervals.
_ROOM = 2.5


def plot_record(
    records: Sequence[ForecastRecord],
    *,
    ax: Axes | None = None,
    truth: float | None = None,
    stop: float | None = None,
) -> Axes:
    """Draw what was forecast of the end of a run against the step at which it was forecast.

    Each forecast is a dot at its median, on a bar that is its interval. Forecasts that nothing should be decided on, or
    that spoke of another planned end than the last one, are hollow and grey. Those that knew nothing are counted in a
    note. Bars that are out of all proportion reach off the axis.

    Args:
        records: Forecasts of one run, oldest first, as `ForecastLedger.records` has them.
        ax: Where to draw; default: a new figure.
        truth: Loss that the run ended at [unit of the losses], drawn as a line.
        stop: Step at which a rule stopped the run or would have stopped it, drawn as a line [steps].

    Returns:
        The axes.

    Raises:
        ValueError: If there are no records, or ``stop`` is no step.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    if not len(records):
        raise ValueError("Expected one forecast or more, got none, so wait for the first forecast of the run.")
    check_stop(stop)
    axes = axes_or_new(ax)
    horizon = next((r.horizon for r in reversed(records) if r.horizon is not None), None)
    steps = np.maximum([float(r.step) for r in records], 1.0)
    low, mid, high = (np.array([float(getattr(r.final_loss, x)) for r in records]) for x in ("low", "mid", "high"))
    known = np.isfinite(mid)
    counts = known & np.array([r.verdict.usable and r.horizon == horizon for r in records])
    end = max(float(horizon or 0), float(steps.max()), stop or 0.0)

    axes.set(xscale="log", xlabel="optimizer step at which it was forecast", ylabel="forecast of the end")
    limit_steps(axes, min(float(steps.min()), stop or math.inf) / 1.1, 1.1 * end)
    _draw(axes, steps, low, mid, high, known & ~counts, usable=False)
    _draw(axes, steps, low, mid, high, counts, usable=True, label=_level(records))
    told = truth is not None and math.isfinite(truth)
    if truth is not None and told:
        axes.axhline(truth, color=ink_of(axes), lw=1.2, zorder=2.8, label=f"ended at {truth:.4g}")
    shown = counts if counts.any() else known
    if shown.any() or (truth is not None and told):
        axes.set_ylim(*_loss_range(low[shown], mid[shown], high[shown], truth if told else None))
    if stop is not None:
        mark_stop(axes, stop)
    if known.any() or told:
        axes.legend(loc="upper right", labelcolor=ink_of(axes), fontsize="small", frameon=False, borderaxespad=0.2)
    if not known.all():
        silent = f"{int((~known).sum())} of {len(records)} forecasts knew nothing of the end yet"
        place = (0.02, 0.03, "left", "bottom") if known.any() else (0.5, 0.5, "center", "center")
        note(axes, silent, place[0], place[1], ha=place[2], va=place[3])
    step_axis(axes, end)
    axes.yaxis.set_major_formatter("{x:.4g}")
    return axes


def _draw(
    axes: Axes,
    steps: FloatArray,
    low: FloatArray,
    mid: FloatArray,
    high: FloatArray,
    chosen: NDArray[np.bool_],
    *,
    usable: bool,
    label: str = "not to be relied on",
) -> None:
    if not chosen.any():
        return
    colour, many = COLOURS[2] if usable else GREY, steps.size > _MANY
    bounded = chosen & np.isfinite(low) & np.isfinite(high)
    axes.vlines(steps[bounded], low[bounded], high[bounded], color=colour, lw=1.0 if many else 2.0, alpha=0.8, zorder=3)
    axes.scatter(
        steps[chosen],
        mid[chosen],
        s=12 if many else 22,
        facecolors=colour if usable else axes.get_facecolor(),
        edgecolors=colour,
        linewidths=1.0,
        zorder=3.5,
        label=label,
    )


def _level(records: Sequence[ForecastRecord]) -> str:
    return f"forecast, {100.0 * records[-1].final_loss.level:g} % interval"


def _loss_range(low: FloatArray, mid: FloatArray, high: FloatArray, truth: float | None) -> tuple[float, float]:
    """Return limits that hold every median and the truth, and intervals unless they are out of all proportion."""
    known = np.isfinite(low) & np.isfinite(high)
    half = float(np.median(high[known] - low[known])) / 2.0 if known.any() else 0.0
    at = np.append(mid, [] if truth is None else truth)
    lowest, highest = float(at.min()) - _ROOM * half, float(at.max()) + _ROOM * half
    if known.any():
        lowest = max(lowest, min(float(low[known].min()), float(at.min())))
        highest = min(highest, max(float(high[known].max()), float(at.max())))
    spare = max(0.08 * (highest - lowest), 1e-3 * max(abs(highest), 1e-9))
    return lowest - spare, highest + spare
