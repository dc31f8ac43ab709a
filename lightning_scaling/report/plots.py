"""Pictures of a run and of where it was forecast to end. Matplotlib, extra ``plot``, is imported inside only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.forecast import Forecast
from lightning_scaling.ledger import recent_loss
from lightning_scaling.schedule import LRSchedule

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_forecast", "plot_schedule"]

FloatArray = NDArray[np.float64]

#: One colour per forecast, oldest first: told apart by every kind of colour vision, and seen on white and on black.
COLOURS = ("#dd8452", "#2a9d8f", "#4c8fd6", "#b565c0", "#a3913a")
#: Losses are drawn in the grey between black and white.
GREY = "0.5"
#: The picture begins at this part of the planned run: two decades of steps, without the first transient.
FIRST_SHARE = 0.01
_BAND_POINTS = 200
#: Room right of the planned end for the intervals there, as a factor on the step axis.
_ROOM = 2.3


def plot_forecast(
    curve: LossCurve,
    forecasts: Sequence[Forecast] = (),
    *,
    ax: Axes | None = None,
    truth: float | None = None,
) -> Axes:
    """Draw the loss of a run against its steps, both logarithmic, and its future as it was forecast at some moments.

    Every window of the curve is a dot at its mean, nothing is smoothed. Every forecast is a band from its moment to the
    planned end, with its interval repeated as a bar beside the end. The loss that the run really ended at is a line.

    Args:
        curve: The run so far.
        forecasts: Forecasts of this run, oldest first; those that know nothing draw nothing.
        ax: Where to draw; default: a new figure.
        truth: Loss that the run ended at [unit of the curve]; default: where the curve reaches the planned end, the
            mean over its last 2 % of steps.

    Returns:
        The axes.

    Raises:
        ValueError: If the curve has no points.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    if not len(curve):
        raise ValueError("Expected a curve with points, got none, so wait for the first steps of the run.")
    axes = _axes(ax)
    known = [f for f in forecasts if np.isfinite(f.loss_at([float(f.step)]).mid).all()]
    horizon = max((f.horizon for f in known if f.horizon is not None), default=None)
    end = horizon or curve.step
    if truth is None and horizon is not None and curve.step >= horizon:
        truth = recent_loss(curve)
    first = max(FIRST_SHARE * end, 1.0)
    if (curve.S < first).all():
        first = float(curve.S[0])
    seen = curve.S >= first
    axes.set_xscale("log")
    axes.set_yscale("log" if curve.L[seen].min() > 0.0 else "linear")
    axes.scatter(curve.S[seen], curve.L[seen], s=7, color=GREY, alpha=0.6, linewidths=0, zorder=2, label="training loss")

    heights = np.linspace(0.93, 0.93 - 0.1 * max(len(known) - 1, 0), max(len(known), 1))
    for k, forecast in enumerate(known):
        colour = COLOURS[k % len(COLOURS)]
        _draw_band(axes, forecast, end, colour)
        _draw_flag(axes, forecast, float(heights[k]), colour)
        if forecast.horizon is not None:
            _draw_end(axes, forecast, end * (_ROOM * 0.55) ** ((k + 1) / (len(known) + 1)), colour)
    axes.set_xlim(first / 1.05, end * (_ROOM if horizon is not None else 1.1))
    axes.set_ylim(*_loss_range(curve.L[seen], known, axes.get_yscale() == "log"))
    if horizon is not None:
        axes.axvline(horizon, color=GREY, lw=0.8, zorder=1)
    if truth is not None and np.isfinite(truth):
        _draw_truth(axes, truth, end)
    _words(axes, curve, known)
    return axes


def plot_schedule(schedule: LRSchedule, *, ax: Axes | None = None) -> Axes:
    """Draw a learning rate, relative to its peak, against the steps on a logarithmic axis.

    Args:
        schedule: The schedule; blocks of steps are drawn as they are held.
        ax: Where to draw; default: a new figure.

    Returns:
        The axes.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.
    """
    axes = _axes(ax)
    # A block holds the steps after its left edge; the first begins with step 1, which the logarithm can show.
    S = np.append(np.maximum(schedule.edges[:-1], 1.0), schedule.edges[-1])
    rates = np.append(schedule.rates, schedule.rates[-1])
    axes.fill_between(S, rates, step="post", color=GREY, alpha=0.25, lw=0)
    axes.step(S, rates, where="post", color=GREY, lw=1.2)
    axes.set_xscale("log")
    axes.set_ylim(0.0, 1.1)
    axes.set_yticks([0.0, 1.0], ["0", "peak"])
    axes.set_ylabel("learning\nrate" if schedule.known else "learning\nrate (held)")
    axes.set_xlabel("optimizer step")
    _tidy(axes)
    return axes


def _axes(ax: Axes | None) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    new: Axes = plt.subplots(figsize=(6.0, 4.0), layout="constrained")[1]
    return new


def _draw_band(axes: Axes, forecast: Forecast, end: float, colour: str) -> None:
    last = float(forecast.horizon if forecast.horizon is not None else max(end, forecast.step))
    S = np.geomspace(max(forecast.step, 1), last, _BAND_POINTS)
    S[-1] = last
    loss = forecast.loss_at(S)
    axes.fill_between(S, loss.low, loss.high, color=colour, alpha=0.3, lw=0, zorder=1.5, label=_share(forecast))
    axes.plot(S, loss.mid, color=colour, lw=1.6, zorder=3)


def _draw_flag(axes: Axes, forecast: Forecast, height: float, colour: str) -> None:
    """Raise a flag over the moment of a forecast that says what it said."""
    said = forecast.final_loss.short() if forecast.horizon is not None else "no planned end"
    axes.annotate(
        f" {_share(forecast)}: {said}",
        xy=(forecast.step, float(forecast.present_loss.mid)),
        xytext=(forecast.step, height),
        textcoords=axes.get_xaxis_transform(),
        va="top",
        ha="left",
        color=colour,
        fontweight="bold",
        arrowprops={"arrowstyle": "-", "color": colour, "lw": 1.0, "shrinkA": 0.0, "shrinkB": 0.0, "relpos": (0.0, 1.0)},
        zorder=4,
    )


def _draw_end(axes: Axes, forecast: Forecast, x: float, colour: str) -> None:
    loss = forecast.final_loss
    low, mid, high = float(loss.low), float(loss.mid), float(loss.high)
    bar = axes.errorbar(
        x, mid, [[mid - low], [high - mid]], fmt="o", ms=4, color=colour, lw=2.0, capsize=0, zorder=4
    )
    bar.set_label(f"end, forecast {_share(forecast)}")


def _draw_truth(axes: Axes, truth: float, end: float) -> None:
    from matplotlib import rcParams

    colour = rcParams["text.color"]
    axes.plot([end, end * _ROOM], [truth, truth], color=colour, lw=1.2, zorder=3.5, label="actual end")
    axes.plot([end], [truth], marker="D", ms=5, color=colour, zorder=5)
    axes.annotate(
        f"ended at {truth:.4g}",
        xy=(end * _ROOM, truth),
        xytext=(-2, -5),
        textcoords="offset points",
        va="top",
        ha="right",
        color=colour,
    )


def _words(axes: Axes, curve: LossCurve, known: Sequence[Forecast]) -> None:
    axes.set_xlabel("optimizer step")
    axes.set_ylabel(f"training loss [{curve.unit}]")
    if known:
        axes.set_title(f"Forecasts of the loss to come, with {100.0 * known[-1].level:g} % intervals", loc="left")
    _tidy(axes)


def _tidy(axes: Axes) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.spines[["top", "right"]].set_visible(False)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}".replace(",", " ") if x >= 1 else f"{x:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if axes.get_yscale() == "log":
        low, high = axes.get_ylim()
        # Losses span less than a decade: label every tick that a person would, few enough to be read.
        subs: Any = np.arange(1.0, 10.0, 0.5) if high / low < 4.0 else (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0)
        axes.yaxis.set_major_locator(LogLocator(subs=subs, numticks=20))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter(NullFormatter())


def _loss_range(L: FloatArray, known: Sequence[Forecast], logarithmic: bool) -> tuple[float, float]:
    """Return limits that hold the losses, and the forecasts unless they are out of all proportion."""
    low, high = float(L.min()), float(L.max())
    room = np.log(high / low) if logarithmic else high - low
    ends = [float(f.final_loss.low) for f in known if f.horizon is not None]
    if logarithmic:
        lowest = min([low, *(max(x, low * np.exp(-0.5 * room)) for x in ends)])
        return lowest * np.exp(-0.06 * room - 0.01), high * np.exp(0.06 * room + 0.01)
    lowest = min([low, *(max(x, low - 0.5 * room) for x in ends)])
    return lowest - 0.06 * room - 1e-9, high + 0.06 * room + 1e-9


def _share(forecast: Forecast) -> str:
    """Return the moment of a forecast in words."""
    if forecast.horizon is None:
        return f"at step {forecast.step:,}".replace(",", " ")
    return f"at {100.0 * forecast.step / forecast.horizon:.2g} %"
