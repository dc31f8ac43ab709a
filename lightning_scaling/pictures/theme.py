"""Light and dark: as settings of matplotlib, and put on single axes without touching them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lightning_scaling.pictures.colours import COLOURS, DARK, LIGHT, Ground

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["dress", "ground", "theme"]

#: Size of words [points] and width of grid lines [points]. A picture 5.6 inches wide stays legible at 420 pixels.
FONT_SIZE, GRID_WIDTH = 10.0, 0.6


def ground(dark: bool) -> Ground:
    """Return what a light or a dark picture is drawn on."""
    return DARK if dark else LIGHT


@contextmanager
def theme(dark: bool = False) -> Iterator[None]:
    """Draw light or dark within a ``with`` block: colours, grid and sizes of words.

    The settings are matplotlib's, which all threads share: use it in the main thread. `run_figure` does without it.

    Args:
        dark: Whether the ground is dark.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed.

    Example:
        >>> import matplotlib
        >>> with theme(dark=True):
        ...     print(matplotlib.rcParams["axes.facecolor"])
        #0d1117
    """
    from matplotlib import rc_context

    settings: Any = _settings(ground(dark))
    with rc_context(settings):
        yield


def dress(axes: Axes, on: Ground) -> None:
    """Put the colours of a ground on axes that have been made under whatever settings; before anything is drawn."""
    axes.set_facecolor(on.face)
    for spine in axes.spines.values():
        spine.set_edgecolor(on.ink)
    axes.tick_params(which="both", color=on.ink, labelcolor=on.ink, labelsize=FONT_SIZE)
    for axis in (axes.xaxis, axes.yaxis):
        axis.label.set(color=on.ink, fontsize=FONT_SIZE)
    axes.set_axisbelow(True)
    axes.grid(visible=True, axis="y", color=on.grid, linewidth=GRID_WIDTH, linestyle="-", alpha=1.0)
    axes.grid(visible=False, axis="x")


def _settings(on: Ground) -> dict[str, Any]:
    from matplotlib.rcsetup import cycler

    inked = ("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color")
    return {
        **dict.fromkeys(inked, on.ink),
        **dict.fromkeys(("figure.facecolor", "axes.facecolor"), on.face),
        "savefig.facecolor": "auto",
        "axes.titlecolor": "auto",
        "xtick.labelcolor": "inherit",
        "ytick.labelcolor": "inherit",
        "axes.prop_cycle": cycler(color=COLOURS),
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "grid.color": on.grid,
        "grid.linewidth": GRID_WIDTH,
        "grid.linestyle": "-",
        "grid.alpha": 1.0,
        "legend.frameon": False,
        "legend.labelcolor": None,
        "font.size": FONT_SIZE,
        "axes.titlesize": FONT_SIZE,
        "axes.labelsize": FONT_SIZE,
        "xtick.labelsize": FONT_SIZE,
        "ytick.labelsize": FONT_SIZE,
        "legend.fontsize": 0.9 * FONT_SIZE,
    }
