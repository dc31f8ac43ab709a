"""The pictures of a report, each drawn for a light page and for a dark one."""

from __future__ import annotations

import base64
import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from lightning_scaling.pictures import (
    figure_bytes,
    plot_calibration,
    plot_frontier,
    plot_sizes,
    run_figure,
    theme,
)
from lightning_scaling.pictures.axes import new_figure
from lightning_scaling.report.markup import Markup, tag
from lightning_scaling.report.run_story import RunStory
from lightning_scaling.report.store_story import JUDGED, StoreStory
from lightning_scaling.verdict import Verdict

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["calibration_picture", "has_pictures", "run_picture", "size_pictures"]

#: Width and height of the pictures of a store [inches].
_SIZE = 6.4, 4.2


def has_pictures() -> bool:
    """Return whether matplotlib is there to draw with, and works."""
    try:
        new_figure(1.0, 1.0)
    except ImportError:
        return False
    return True


def run_picture(story: RunStory) -> Markup | None:
    """Return the picture of a run: its losses and forecasts, what the law leaves, its record and its learning rate.

    None where there is nothing to draw.
    """
    run = story.run
    over = story.state == "finished"
    records = [r for r in story.ledger.records if r.verdict is not Verdict.DIVERGED]
    told = sum(r.verdict.usable for r in records)

    def draw(dark: bool) -> Figure:
        return run_figure(
            run.curve,
            story.pictured,
            schedule=run.schedule,
            records=records if told > 1 else (),
            truth=story.truth if over and math.isfinite(story.truth) else None,
            stop=float(run.curve.step) if story.state == "stopped" else None,
            dark=dark,
        )

    if not len(run.curve):
        return None
    return _figure(draw, _run_in_words(story), _CAPTION.format(100.0 * story.forecast.level))


def calibration_picture(story: StoreStory) -> Markup | None:
    """Return the picture of how often intervals held; None where no forecast can be held against an end."""
    runs = story.finished[-JUDGED:]
    caption = "Where dots lie below the line, intervals held less often than they should have."
    alt = f"Share of intervals that held against the share that should have: {story.record}."
    return _unless_refused(lambda ax: plot_calibration(runs, ax=ax), alt, caption, size=(4.4, 4.4), class_="small")


def size_pictures(story: StoreStory) -> Iterator[Markup]:
    """Yield the pictures of the runs that differ in size alone: against steps, and against compute."""
    family = story.family
    if family is None:
        return
    joint = story.joint if story.joint is not None and not story.joint.reason else None
    sizes = ", ".join(f"{run.N:.3g}" for run in family.runs)
    law = "" if joint is None else " Lines are the law."
    found = _unless_refused(
        lambda ax: plot_sizes(family.runs, joint=joint, ax=ax),
        f"Loss against steps of models of {sizes} parameters.",
        f"Loss against steps, one colour per size N. Dots are means of windows of steps.{law}",
    )
    if found is not None:
        yield found
    found = _unless_refused(
        lambda ax: plot_frontier(family.runs, joint=joint, ax=ax),
        f"Loss against compute of models of {sizes} parameters, with the lowest loss at each compute.",
        "Loss against compute 6 N B S; the stairs are the lowest loss that any of these runs has at that compute or "
        f"less.{'' if joint is None else ' The band is the frontier of the law.'}",
    )
    if found is not None:
        yield found


_CAPTION = (
    "Dots are measured losses, means of windows of steps; nothing is smoothed. Bands are forecasts made from what the "
    "run had shown by then, up to the planned end, with {:g} % intervals. Below, as far as they are known: how far the "
    "losses lie off the law of the newest band, the forecasts of the end as they were told, and the learning rate."
)


def _run_in_words(story: RunStory) -> str:
    curve = story.run.curve
    first, last = (f"{curve.L[k]:.4g} at step {curve.S[k]:.0f}" for k in (0, -1))
    said = "".join(
        f" At step {f.step} it was forecast to end at {f.final_loss}." for f in story.pictured if f.horizon is not None
    )
    end = f" It ended at {story.truth:.4g}." if story.state == "finished" and math.isfinite(story.truth) else ""
    return f"Loss against optimizer steps, from {first} to {last}.{said}{end}"


def _unless_refused(
    plot: Callable[[Axes], Axes],
    alt: str,
    caption: str,
    *,
    size: tuple[float, float] = _SIZE,
    class_: str | None = None,
) -> Markup | None:
    """Return a picture of single axes; None where there is nothing to draw."""

    def draw(dark: bool) -> Figure:
        with theme(dark):
            drawn = new_figure(*size)
            plot(drawn.subplots())
        return drawn

    try:
        return _figure(draw, alt, caption, class_)
    except ValueError:
        return None


def _figure(draw: Callable[[bool], Figure], alt: str, caption: str, class_: str | None = None) -> Markup:
    """Return a picture in both colours, of which the page shows the one that suits it."""
    shown = [
        tag("img", src=_address(draw(dark)), alt=alt, class_="dark" if dark else "light") for dark in (False, True)
    ]
    return tag("figure", shown, tag("figcaption", caption), class_=class_)


def _address(drawn: Figure) -> str:
    """Return a picture as a data URI."""
    return f"data:image/svg+xml;base64,{base64.b64encode(figure_bytes(drawn, 'svg')).decode()}"
