"""plot_residuals(): how far the losses of a run lie off its law, in units of their noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.fit.prior import DEFAULT_PRIOR
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

#: Sigmas within which nineteen windows of twenty lie on their law.
_BAND = 2.0
#: Sigmas that the axis reaches to, at least and at most.
_REACH = (4.0, 12.0)
_LINE_POINTS = 200


def plot_residuals(curve: LossCurve, forecast: Forecast, *, ax: Axes | None = None) -> Axes:
    r"""Draw how far a run lies off its law, in sigmas of the noise of its windows.

    .. math:: r = (\bar{L} - L_{law}(S)) / \sigma

    with the mean loss of a window, `Forecast.law_at` in its middle, and the standard error of the mean from the noise
    that was measured. The grey band reaches from -2 to +2: there lie nineteen of twenty windows of a run that keeps to
    its law. From the moment of the forecast on, its own interval is drawn in these units too: it is wider than the
    noise, for the law is not known exactly. Windows off the axis are triangles at its edge.

    The law forgets the past on purpose, so the first steps of a run often lie far off it.

    Args:
        curve: The run, up to the forecast or beyond.
        forecast: The forecast whose law is held against it.
        ax: Where to draw; default: a new figure.

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
    seen = windows(curve, end, DEFAULT_PRIOR.windows_per_e_fold)
    law = None if seen is None else np.asarray(forecast.law_at(seen.S).mid)
    if seen is None or law is None or not np.isfinite(law).any():
        axes.set(ylim=(-_REACH[0], _REACH[0]), yticks=[-_BAND, 0.0, _BAND])
        note(axes, "no law to hold the run against yet", 0.5, 0.5, ha="center", va="center")
        step_axis(axes, end)
        return axes
    sigma = np.sqrt(np.maximum(seen.variance, np.finfo(float).tiny))
    off = (seen.y - law) / sigma
    reach = _reach(off[seen.S > 0.1 * forecast.step])
    axes.set_ylim(-reach, reach)
    axes.axhspan(-_BAND, _BAND, color=tint(GREY, face_of(axes), 0.22), lw=0, zorder=1.0, label="±2 σ")
    axes.axhline(0.0, color=GREY, lw=0.8, zorder=1.8)
    _draw_interval(axes, forecast, seen.S, sigma, end)
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


def _draw_interval(axes: Axes, forecast: Forecast, S: FloatArray, sigma: FloatArray, end: float) -> None:
    """Draw the interval of the forecast about the law, in the noise that windows have, or would have, there."""
    last = min(float(S[-1]), end)
    if forecast.step < 1 or last <= forecast.step:
        return
    steps = np.geomspace(forecast.step, last, _LINE_POINTS)
    steps[-1] = last
    noise = np.exp(np.interp(np.log(steps), np.log(S), np.log(sigma)))
    loss, law = forecast.loss_at(steps), np.asarray(forecast.law_at(steps).mid)
    colour = COLOURS[0]
    low, high = ((np.asarray(x) - law) / noise for x in (loss.low, loss.high))
    label = f"{100.0 * forecast.level:g} % interval of the forecast"
    axes.fill_between(steps, low, high, color=tint(colour, face_of(axes)), lw=0, zorder=1.4, label=label)
    axes.axvline(forecast.step, color=colour, lw=1.2, zorder=2.5)
