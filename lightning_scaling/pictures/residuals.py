"""plot_residuals(): how far the losses of a run lie off its law, in units of their noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.forecast import Forecast
from lightning_scaling.pictures.axes import (
    axes_or_new,
    face_of,
    first_step,
    ink_of,
    limit_steps,
    note,
    step_axis,
    windows,
)
from lightning_scaling.pictures.colours import COLOURS, GREY, tint

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_residuals"]

FloatArray = NDArray[np.float64]

#: Windows in each factor e of steps.
_WINDOWS = 16
#: Sigmas within which nineteen windows of twenty lie on their law.
_BAND = 2.0
#: Sigmas that the axis reaches to, at least and at most.
_REACH = (4.0, 12.0)
_LINE_POINTS = 80
#: Noise that a run is taken to have at the least, as a share of its loss: one that was computed has none.
_LEAST_NOISE = 1e-9
#: Share of its colour in the band of the law before the forecast [1].
_FAINT = 0.18


def plot_residuals(curve: LossCurve, forecast: Forecast, *, ax: Axes | None = None, colour: str = COLOURS[0]) -> Axes:
    r"""Draw how far a run lies off its law, in sigmas of the noise of its windows.

    .. math:: r = (\bar{L} - L_{law}(S)) / \sigma

    with the mean loss of a window, `Forecast.law_at` in its middle, and the standard error of the mean from the noise
    that was measured. The grey band reaches from -2 to +2: there lie nineteen of twenty windows of a run that keeps to
    its law. In these units a faint band says how well the law is known before the forecast, and a stronger one from its
    moment on is the interval of the forecast. Windows off the axis are triangles at its edge.

    The law forgets the past on purpose, so the first steps of a run often lie far off it: where the faint band is wide,
    that says nothing. And it is fitted to the newest losses above all: whether a run has just left its law is seen by a
    forecast that was made before.

    Args:
        curve: The run, up to the forecast or beyond.
        forecast: The forecast whose law is held against it.
        ax: Where to draw; default: a new figure.
        colour: Colour of the forecast.

    Returns:
        The axes; with nothing but a note where the forecast has no law or the curve too few points.

    Raises:
        ValueError: If the curve has no points.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    if not len(curve):
        raise ValueError("Expected a curve with points, got none, so wait for the first steps of the run.")
    axes = axes_or_new(ax)
    end = float(max(forecast.horizon or 0, curve.step))
    axes.set(xscale="log", xlabel="optimizer step", ylabel="off the law [σ]")
    limit_steps(axes, first_step(curve, end) / 1.05, 1.1 * end)
    seen = windows(curve, end, _WINDOWS)
    law = None if seen is None else np.asarray(forecast.law_at(seen.S).mid)
    if seen is None or law is None or not np.isfinite(law).any():
        axes.set(ylim=(-_REACH[0], _REACH[0]), yticks=[-_BAND, 0.0, _BAND])
        note(axes, "no law to hold the run against yet", 0.5, 0.5, ha="center", va="center")
        step_axis(axes, end)
        return axes
    sigma = np.maximum(np.sqrt(seen.variance), _LEAST_NOISE * max(float(np.abs(seen.y).max()), 1e-290))
    off = (seen.y - law) / sigma
    reach = _reach(off[seen.S > 0.1 * forecast.step])
    axes.set_yticks(np.arange(-12.0, 13.0, 2.0 if reach < 7.0 else 4.0), minor=False)
    axes.set_ylim(-reach, reach)
    whole, grey = [axes.get_xlim()[0], end], tint(GREY, face_of(axes), 0.22)
    axes.fill_between(whole, -_BAND, _BAND, color=grey, lw=0, zorder=1.0, label="±2 σ")
    for level, style in ((-_BAND, ":"), (0.0, "-"), (_BAND, ":")):
        axes.plot(whole, [level, level], color=GREY, lw=0.8, ls=style, zorder=1.8)
    _draw_intervals(axes, forecast, seen.S, sigma, end, colour)
    for where, mark, size in (
        (np.abs(off) <= reach, "o", 8.0),
        (off > reach, "^", 20.0),
        (off < -reach, "v", 20.0),
    ):
        y = np.clip(off[where], -0.93 * reach, 0.93 * reach) if mark != "o" else off[where]
        label = "windows" if mark == "o" else "windows off the axis"
        axes.scatter(seen.S[where], y, s=size, marker=mark, color=ink_of(axes), alpha=0.75, lw=0, zorder=3, label=label)
    step_axis(axes, end)
    return axes


def _reach(off: FloatArray) -> float:
    """Return the sigmas that the axis should reach to: those of all but the fiftieth window furthest off."""
    known = np.abs(off[np.isfinite(off)])
    return float(np.clip(1.2 * np.quantile(known, 0.98), *_REACH)) if known.size else _REACH[0]


def _draw_intervals(axes: Axes, forecast: Forecast, S: FloatArray, sigma: FloatArray, end: float, colour: str) -> None:
    """Draw how well the law is known before the forecast, and the forecast's interval after it.

    Both are in units of the noise that windows have there, or would have.
    """
    last, now = min(float(S[-1]), end), float(max(forecast.step, 1))
    # Windows hold a step more or less than their neighbours: their noise jumps about a line.
    slope, at = np.polyfit(np.log(S), np.log(sigma), 1) if S.size > 2 else (0.0, np.log(sigma[-1]))
    named = f"{100.0 * forecast.level:g} % interval of the"
    before, after = tint(colour, face_of(axes), _FAINT), tint(colour, face_of(axes))
    for first, to, read, paint, name in (
        (float(S[0]), min(now, last), forecast.law_at, before, "law"),
        (now, last, forecast.loss_at, after, "forecast"),
    ):
        if to <= first:
            continue
        steps = np.clip(np.geomspace(first, to, _LINE_POINTS), first, to)
        noise, said, law = np.exp(at + slope * np.log(steps)), read(steps), np.asarray(forecast.law_at(steps).mid)
        low, high = ((np.asarray(x) - law) / noise for x in (said.low, said.high))
        axes.fill_between(steps, low, high, color=paint, lw=0, zorder=1.4, label=f"{named} {name}")
    if now < end:
        axes.axvline(now, color=colour, lw=1.2, zorder=2.5)
