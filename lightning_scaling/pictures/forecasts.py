"""Pictures of a run and of where it was forecast to end. Matplotlib, extra ``plot``, is imported inside only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.forecast import Forecast
from lightning_scaling.ledger import recent_loss
from lightning_scaling.pictures.axes import (
    axes_or_new,
    check_stop,
    face_of,
    first_step,
    ink_of,
    loss_axis,
    mark_stop,
    step_axis,
    thousands,
)
from lightning_scaling.pictures.colours import COLOURS, GREY, tint
from lightning_scaling.schedule import LRSchedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_forecast", "plot_schedule", "tells"]

FloatArray = NDArray[np.float64]

#: Points of a band that spans the picture, and fewest of a shorter one, which has as many as it is wide.
_BAND_POINTS, _LEAST_BAND_POINTS = 120, 12
#: Room to the right of the planned end for the intervals there, as a factor on the axis of steps.
_ROOM = 1.9
#: Words stand to the right of a flag up to this part of the picture: to the left they cross the lines of earlier ones.
#: A flag at three quarters of a run stands at 0.83.
_RIGHTMOST = 0.85


def plot_forecast(
    curve: LossCurve,
    forecasts: Sequence[Forecast] = (),
    *,
    ax: Axes | None = None,
    truth: float | None = None,
    stop: float | None = None,
) -> Axes:
    """Draw the loss of a run against its steps, both logarithmic, and what was forecast of it at some moments.

    Every window of the curve is a dot at its mean; nothing is smoothed. Every forecast is a band from its moment to the
    planned end, and beside the end its interval once more, as a bar. The loss the run ended at is a line across them.

    Args:
        curve: The run so far.
        forecasts: Forecasts of this run, oldest first; one that knows nothing yet draws nothing.
        ax: Where to draw; default: a new figure.
        truth: Loss that the run ended at [unit of the curve]; default: the mean over the last 2 % of its steps, if the
            curve reaches the planned end.
        stop: Step at which a rule stopped the run or would have stopped it, drawn as a line [steps].

    Returns:
        The axes.

    Raises:
        ValueError: If the curve has no points, or ``stop`` is no step.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    if not len(curve):
        raise ValueError("Expected a curve with points, got none, so wait for the first steps of the run.")
    check_stop(stop)
    axes = axes_or_new(ax)
    known = [f for f in forecasts if tells(f)]
    horizon = max((f.horizon for f in known if f.horizon is not None), default=None)
    end = float(curve.step if horizon is None else max(horizon, curve.step))
    if truth is None and horizon is not None and curve.step >= horizon:
        truth = recent_loss(curve)

    first = first_step(curve, end)
    if stop is not None:
        first, end = min(first, stop), max(end, stop)
    room = _ROOM if horizon is not None or truth is not None else 1.1
    S, L = curve.S[curve.S >= first], curve.L[curve.S >= first]
    logarithmic = bool(L.min() > 0.0)
    axes.set(xscale="log", yscale="log" if logarithmic else "linear")
    axes.set_xlim(first / 1.05, end * room)
    axes.set_ylim(_loss_range(L, known, logarithmic))
    axes.scatter(S, L, s=7, color=GREY, alpha=0.6, linewidths=0, zorder=2, label="training loss")
    for k, forecast in enumerate(known):
        colour = COLOURS[k % len(COLOURS)]
        since = max(float(forecast.step), first)
        _draw_flag(axes, forecast, since, _draw_band(axes, forecast, since, end, colour), k, colour)
        if forecast.horizon is not None:
            _draw_bar(axes, forecast, end * _ROOM ** ((k + 0.8) / (len(known) + 0.3)), colour)
    if truth is not None and math.isfinite(truth):
        _draw_truth(axes, truth, end)
    if stop is not None:
        mark_stop(axes, stop)

    axes.set(xlabel="optimizer step", ylabel=f"training loss [{curve.unit}]" if curve.unit else "training loss")
    if known:
        words = f"Forecasts of the loss to come, with {100.0 * known[-1].level:g} % intervals"
        axes.set_title(words, loc="left", color=ink_of(axes))
    step_axis(axes, end)
    if logarithmic:
        loss_axis(axes)
    return axes


def plot_schedule(schedule: LRSchedule, *, ax: Axes | None = None) -> Axes:
    """Draw a learning rate, relative to its peak, against the steps on a logarithmic axis.

    Meant as a strip under `plot_forecast`, with ``sharex=True``.

    Args:
        schedule: The schedule, drawn in the blocks in which it is held.
        ax: Where to draw; default: a new figure.

    Returns:
        The axes.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    axes = axes_or_new(ax)
    # The block (0, e] begins with step 1, which a logarithmic axis can show.
    S = np.append(np.maximum(schedule.edges[:-1], min(1.0, schedule.edges[1] / 2.0)), schedule.edges[-1])
    rates = np.append(schedule.rates, schedule.rates[-1])
    axes.fill_between(S, rates, step="post", color=GREY, alpha=0.25, lw=0)
    axes.step(S, rates, where="post", color=GREY, lw=1.2)
    axes.set(xscale="log", xlabel="optimizer step", ylim=(0.0, 1.1))
    axes.set_yticks([0.0, 1.0], ["0", "peak"])
    words = "learning rate" if schedule.known else "learning rate, as far as known"
    ground = {"facecolor": tint(GREY, face_of(axes), 0.25), "edgecolor": "none", "pad": 1.0}
    axes.text(0.5, 0.35, words, transform=axes.transAxes, ha="center", va="center", color=ink_of(axes), bbox=ground)
    step_axis(axes, float(schedule.horizon))
    return axes


def tells(forecast: Forecast) -> bool:
    """Return whether a forecast has anything to draw."""
    return not (math.isnan(float(forecast.present_loss.mid)) and math.isnan(float(forecast.final_loss.mid)))


def _draw_band(axes: Axes, forecast: Forecast, since: float, end: float, colour: str) -> float:
    """Draw a forecast and return the loss it begins with: to ask it for its losses is half of the work."""
    last = max(end if forecast.horizon is None else float(forecast.horizon), since)
    left, right = axes.get_xlim()
    width = math.log(last / since) / math.log(right / left)
    S = np.geomspace(since, last, max(math.ceil(_BAND_POINTS * min(width, 1.0)), _LEAST_BAND_POINTS))
    S[0], S[-1] = since, last
    loss = forecast.loss_at(S)
    paint = tint(colour, face_of(axes))
    axes.fill_between(S, loss.low, loss.high, color=paint, lw=0, zorder=1.5, label=_moment(forecast))
    axes.plot(S, loss.mid, color=colour, lw=1.6, zorder=3)
    return float(np.asarray(loss.mid)[0])


def _draw_flag(axes: Axes, forecast: Forecast, since: float, loss: float, k: int, colour: str) -> None:
    """Raise a flag over the moment of a forecast that says what it said; the later, the lower, so that none cross."""
    said = "no planned end" if forecast.horizon is None else forecast.final_loss.short()
    first, last = axes.get_xlim()
    leftwards = math.log(since / first) > _RIGHTMOST * math.log(last / first)
    axes.annotate(
        f" {'' if k else 'forecast '}{_moment(forecast)}: {said} ",
        xy=(since, loss),
        xytext=(since, 0.94 - 0.1 * (k % 6)),
        textcoords=axes.get_xaxis_transform(),
        ha="right" if leftwards else "left",
        va="top",
        color=colour,
        fontweight="bold",
        bbox={"facecolor": axes.get_facecolor(), "edgecolor": "none", "pad": 0.5, "alpha": 0.8},
        arrowprops={
            "arrowstyle": "-",
            "color": colour,
            "shrinkA": 0.0,
            "shrinkB": 0.0,
            "relpos": (float(leftwards), 1.0),
        },
        zorder=4,
    )


def _draw_bar(axes: Axes, forecast: Forecast, x: float, colour: str) -> None:
    low, mid, high = (float(v) for v in (forecast.final_loss.low, forecast.final_loss.mid, forecast.final_loss.high))
    axes.plot([x, x], [low, high], color=colour, lw=2.2, solid_capstyle="butt", zorder=4)
    axes.plot([x], [mid], marker="o", ms=5, color=colour, zorder=4)


def _draw_truth(axes: Axes, truth: float, end: float) -> None:
    colour = ink_of(axes)
    axes.plot([end, end * _ROOM], [truth, truth], color=colour, lw=1.2, zorder=3.5, label="the end")
    axes.plot([end], [truth], marker="D", ms=5, color=colour, zorder=5)
    axes.annotate(
        f"ended at\n{truth:.4g}",
        xy=(1.0, truth),
        xycoords=axes.get_yaxis_transform(),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        color=colour,
        annotation_clip=False,
    )


def _loss_range(L: FloatArray, known: Sequence[Forecast], logarithmic: bool) -> tuple[float, float]:
    """Return limits that hold the losses, and the forecast ends unless they are out of all proportion."""
    to, back = (math.log, math.exp) if logarithmic else (float, float)
    low, high = to(L.min()), to(L.max())
    height = max(high - low, 0.01 if logarithmic else 1e-6)
    ends = [float(f.final_loss.low) for f in known if f.horizon is not None]
    lows = [to(x) if x > 0.0 or not logarithmic else -math.inf for x in ends]
    lowest = max(min([low, *lows]), low - height)
    return back(lowest - 0.06 * height), back(high + 0.06 * height)


def _moment(forecast: Forecast) -> str:
    if forecast.horizon is None:
        return f"at step {thousands(forecast.step)}"
    return f"at {100.0 * forecast.step / forecast.horizon:.0f} %"
