"""The pictures of a report, each drawn for a light page and for a dark one. Matplotlib is imported inside only."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from typing import TYPE_CHECKING

from lightning_scaling.fit.data import compact
from lightning_scaling.report.markup import Markup, tag
from lightning_scaling.report.run_story import RunStory

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["figure", "has_pictures", "run_figure_of"]


def has_pictures() -> bool:
    """Return whether matplotlib is there to draw with."""
    try:
        import matplotlib  # noqa: F401
    except ModuleNotFoundError:
        return False
    return True


def figure(draw: Callable[[bool], Figure], alt: str, caption: str) -> Markup:
    """Return a picture in both colours, of which the page shows the one that suits it.

    Args:
        draw: Draws it; True for a dark page.
        alt: What it shows, for those who do not see it.
        caption: What stands below it.
    """
    shown = [
        tag("img", src=_address(draw(dark)), alt=alt, class_="dark" if dark else "light") for dark in (False, True)
    ]
    box = tag("div", shown, class_="scroll", tabindex=0, role="region", aria_label="picture")
    return tag("figure", box, tag("figcaption", caption))


def run_figure_of(story: RunStory) -> Callable[[bool], Figure]:
    """Return what draws a run: its losses, its forecasts and its learning rate."""
    from matplotlib.figure import Figure

    from lightning_scaling.report.plots import plot_forecast, plot_schedule

    def draw(dark: bool) -> Figure:
        whole = Figure(figsize=(8.0, 5.6), layout="constrained")
        above, below = whole.subplots(2, 1, sharex=True, height_ratios=[5.0, 1.0])
        plot_forecast(compact(story.run.curve), story.pictured, ax=above)
        if story.run.schedule is not None:
            plot_schedule(story.run.schedule, ax=below)
        return whole

    return draw


def _address(drawn: Figure) -> str:
    """Return a picture as a data URI."""
    data = io.BytesIO()
    drawn.savefig(data, format="svg", metadata={"Date": None})
    return f"data:image/svg+xml;base64,{base64.b64encode(data.getvalue()).decode()}"
