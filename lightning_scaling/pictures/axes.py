"""What the pictures share: where to draw, the axes of steps and losses, and words for numbers."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from lightning_scaling.curve import LossCurve
from lightning_scaling.fit.data import FitData, compact, reduce_curve
from lightning_scaling.pictures.colours import Colour

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = [
    "axes_or_new",
    "check_stop",
    "explain",
    "face_of",
    "first_step",
    "ink_of",
    "limit_steps",
    "loss_axis",
    "mark_stop",
    "new_figure",
    "note",
    "of_size",
    "step_axis",
    "thousands",
    "windows",
]

#: The picture begins at this part of the planned run: two decades of steps, without the first transient.
FIRST_SHARE = 0.01
#: Inches of a picture by itself. Words of ten points stay legible when it is shown 420 pixels wide.
SIZE = (5.6, 3.7)
#: Points that carry the noise of a run; fewer tell none.
_LEAST_POINTS = 3
#: Sigmas off its neighbours at which a window would lose its say: here none does.
_ANY = 1e9
#: Label of the line at a stop.
STOP = "stop"


def new_figure(width: float, height: float, *, face: str | None = None, dpi: float | None = None) -> Figure:
    """Return a figure that pyplot knows nothing of [inches].

    Raises:
        ImportError: If matplotlib is not installed (a ModuleNotFoundError) or cannot be imported.
    """
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "Expected matplotlib for a picture, got no such module, so pip install 'lightning-scaling[plot]'.",
            name="matplotlib",
        ) from error
    except ImportError as error:
        raise ImportError(
            f"Expected matplotlib for a picture, got {error}, so install it again: pip install "
            "'lightning-scaling[plot]'.",
            name="matplotlib",
        ) from error
    return Figure(figsize=(width, height), layout="constrained", facecolor=face, dpi=dpi)


def axes_or_new(ax: Axes | None) -> Axes:
    """Return the axes, or those of a new figure of pyplot."""
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=SIZE, layout="constrained")[1]


def ink_of(axes: Axes) -> str:
    """Return the colour of words on these axes, which need not be that of the settings now."""
    return str(axes.xaxis.label.get_color())


def face_of(axes: Axes) -> Colour:
    """Return the colour of the ground of these axes, as red, green, blue and opacity."""
    from matplotlib.colors import to_rgba

    return to_rgba(axes.get_facecolor())


def windows(curve: LossCurve, end: float, per_e_fold: int) -> FitData | None:
    """Return mean losses in windows of equal width in log step, from a hundredth of the picture on, with their noise.

    Args:
        curve: A curve.
        end: Last step of the picture [steps].
        per_e_fold: Windows in each factor e of steps.

    Returns:
        The windows; None where there are too few points to tell the noise.
    """
    if len(curve) < _LEAST_POINTS:
        return None
    now = max(float(curve.step), float(curve.S[-1]), 1.0)
    e_folds = math.log(now / first_step(curve, end)) + 1e-9
    return reduce_curve(compact(curve), windows_per_e_fold=per_e_fold, e_folds=e_folds, outlier=_ANY)


def first_step(curve: LossCurve, end: float) -> float:
    """Return the step at which a picture of this curve begins [steps]."""
    return min(max(FIRST_SHARE * end, 1.0, float(curve.S[0])), float(curve.S[-1]))


def limit_steps(axes: Axes, first: float, last: float) -> None:
    """Set the range of steps, unless somebody has set it, as a picture above that shares it has."""
    if axes.get_autoscalex_on():
        axes.set_xlim(first, last)


def step_axis(axes: Axes, end: float) -> None:
    """Let the axis of steps end where the steps do."""
    from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

    axes.spines[["top", "right"]].set_visible(False)
    first, last = axes.get_xlim()
    end = min(end, last)
    axes.spines["bottom"].set_bounds(first, end)
    if end > 1e4 * first:
        subs: tuple[float, ...] = (1.0,)
    else:
        subs = (1.0, 2.0, 5.0) if end < 1e4 else (1.0, 3.0)  # long numbers need room
    ticks = LogLocator(subs=subs, numticks=30).tick_values(first, end)
    axes.xaxis.set_major_locator(FixedLocator([float(t) for t in ticks if first <= t <= end]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: thousands(x)))


def loss_axis(axes: Axes) -> None:
    """Label the ticks that a person would: losses seldom span a decade."""
    from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator

    low, high = axes.get_ylim()
    axes.yaxis.set_major_locator(
        MaxNLocator(8, steps=[1, 2, 2.5, 5, 10])
        if high < 5.0 * low
        else LogLocator(subs=(1.0, 1.5, 2.0, 3.0, 5.0, 7.0))
    )
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter("{x:.4g}")


def mark_stop(axes: Axes, stop: float, *, words: bool = True) -> None:
    """Draw a line at the step at which a run was or would have been stopped, with its step in words at the foot."""
    ink = ink_of(axes)
    axes.axvline(stop, color=ink, lw=1.2, ls=(0, (4, 2)), zorder=3.8, label=STOP)
    if not words:
        return
    first, last = axes.get_xlim()
    rightwards = math.log(stop / first) < 0.4 * math.log(last / first)
    axes.annotate(
        f"stop at {thousands(stop)}",
        xy=(stop, 0.03),
        xycoords=axes.get_xaxis_transform(),
        xytext=(4 if rightwards else -4, 0),
        textcoords="offset points",
        ha="left" if rightwards else "right",
        va="bottom",
        color=ink,
        zorder=5,
    )


def check_stop(stop: float | None) -> None:
    """Refuse a stop that is no step.

    Raises:
        ValueError: If it is not a finite number >= 1.
    """
    if stop is not None and not 1.0 <= stop < math.inf:
        raise ValueError(f"Expected stop to be a step >= 1, got {stop!r}, so pass None where no rule stopped the run.")


def explain(axes: Axes, loc: str, *, title: str | None = None, **how: Any) -> None:
    """Put a legend on the axes, over what lies behind it; lines at a stop have words of their own."""
    handles, labels = axes.get_legend_handles_labels()
    told = [(handle, label) for handle, label in zip(handles, labels, strict=True) if label != STOP]
    if not told:
        return
    style: dict[str, Any] = {
        "loc": loc,
        "title": title,
        "labelcolor": ink_of(axes),
        "fontsize": "small",
        "frameon": True,
        "facecolor": axes.get_facecolor(),
        "edgecolor": "none",
        "framealpha": 0.8,
        "borderpad": 0.1,
        "borderaxespad": 0.2,
        "handletextpad": 0.5,
    }
    legend = axes.legend([handle for handle, _ in told], [label for _, label in told], **(style | how))
    legend.set_zorder(6)
    legend.get_title().set_color(ink_of(axes))


def note(axes: Axes, words: str, x: float, y: float, **how: Any) -> None:
    """Write a note at a place of the axes, each from 0 to 1."""
    from matplotlib import rcParams

    style: dict[str, Any] = {
        "ha": "left",
        "va": "top",
        "color": ink_of(axes),
        "fontsize": 0.9 * float(rcParams["font.size"]),
    } | how
    axes.text(x, y, words, transform=axes.transAxes, **(style | how))


def of_size(N: float) -> str:
    """Return a number of parameters as a person says it."""
    power = min(max(int(math.log10(max(N, 1.0))) // 3, 0), 4)
    return f"{N / 1e3**power:.3g}{(' ' + ' kMGT'[power]) if power else ''}".replace("G", "B")


def thousands(n: float) -> str:
    """Return a number of steps with gaps between thousands."""
    return f"{n:,.0f}".replace(",", " ") if n >= 1.0 else f"{n:g}"
