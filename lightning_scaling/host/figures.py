"""Figures: pictures of a run for its loggers, drawn in a thread beside the training loop."""

from __future__ import annotations

import importlib.util
import threading
from io import BytesIO
from typing import TYPE_CHECKING

import numpy as np

from lightning_scaling.curve import LossCurve
from lightning_scaling.errors import say_warning
from lightning_scaling.forecast import Forecast
from lightning_scaling.host.loggers import Picture
from lightning_scaling.live import LiveForecast
from lightning_scaling.pictures import run_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

#: Earlier forecasts that stay in the picture beside the newest.
_EARLIER = 3
#: Dots per inch: large enough to be read in a dashboard, small enough to be drawn in a quarter of a second.
_DPI = 140.0
#: How hard the file is packed, of 9: a tenth larger than the usual 6, in two thirds of the time.
_PACKED = 3
#: Longest that the end of a run waits for its picture, in seconds.
_PATIENCE = 10.0


class Figures:
    """Draws a run at each quarter and at its end; where the end is not known, each time its steps have doubled.

    A drawing is started from what does not change any more and taken when it is done, both between two steps of the
    run. Nothing waits for one but the end of the run: what is due while the last one is still being drawn is left out.
    A drawing that fails is warned of, and is the last one.

    Args:
        label: What the loss is called.
    """

    def __init__(self, label: str) -> None:
        self._label = label
        self._forecasts: list[Forecast] = []
        self._drawn_at = 0
        self._drawing: threading.Thread | None = None
        self._done: Picture | None = None
        self._error: BaseException | None = None
        self._has_failed = False

    def follow(self, live: LiveForecast, curve: LossCurve) -> None:
        """Start a drawing if one is due and none is under way."""
        found = live.forecast
        due = live.at_quarter if live.horizon is not None else curve.step >= 2 * self._drawn_at
        if due and found is not None and found.verdict.usable and len(curve):
            self._forecasts = [*self._forecasts[-_EARLIER:], found]
            self._start(live, curve)

    def last(self, live: LiveForecast, curve: LossCurve) -> Picture | None:
        """Draw the run as it has ended, and wait for that for a while; None if there is nothing to be had."""
        found, ended = live.forecast, live.horizon is not None and curve.step >= live.horizon
        is_new = all(found is not shown for shown in self._forecasts)
        if self._drawing is not None:
            self._drawing.join(_PATIENCE)
        if found is not None and found.verdict.usable and is_new and not ended:
            self._forecasts = [*self._forecasts[-_EARLIER:], found]
        if not len(curve) or not self._start(live, curve, stop=None if ended or not live.wants_stop else curve.step):
            return None
        assert self._drawing is not None
        self._drawing.join(_PATIENCE)
        if self._drawing.is_alive():
            self._error = TimeoutError(f"none within {_PATIENCE:.0f} s")
        return self.take()

    def take(self) -> Picture | None:
        """Return a picture that has been finished since the last call, None where there is none."""
        done, self._done = self._done, None
        if self._error is not None and not self._has_failed:
            self._has_failed = True
            say_warning(
                f"Expected to draw figures of the run, got {type(self._error).__name__}: {self._error}, so there are "
                "no more of them; training is not affected."
            )
        return done

    def _start(self, live: LiveForecast, curve: LossCurve, stop: int | None = None) -> bool:
        if self._error is not None or (self._drawing is not None and self._drawing.is_alive()):
            return False
        self._drawn_at = curve.step
        forecasts, schedule, records = tuple(self._forecasts), live.schedule, live.ledger.records

        def work() -> None:
            try:
                figure = run_figure(curve, forecasts, schedule=schedule, records=records, stop=stop, residuals=False)
                figure.axes[0].set_ylabel(self._label)
                self._done = _picture(figure, curve.step)
            except BaseException as error:  # nobody else would hear of it
                self._error = error

        # A daemon: a drawing must not keep the program from ending.
        self._drawing = threading.Thread(target=work, name="lightning_scaling figure", daemon=True)
        self._drawing.start()
        return True


def can_draw() -> bool:
    """Return whether there is matplotlib; if not, warn."""
    try:
        is_there = importlib.util.find_spec("matplotlib") is not None
    except (ImportError, ValueError):  # a hook that hides it, a stand-in without a spec
        is_there = False
    if is_there:
        return True
    say_warning(
        "Expected matplotlib for figures=True, got no such module, so there are none; pip install "
        "'lightning-scaling[plot]'."
    )
    return False


def _picture(figure: Figure, step: int) -> Picture:
    """Return a figure as a picture; ``savefig`` would lay it out and draw it twice."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.image import imsave

    figure.set_dpi(_DPI)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()  # type: ignore[no-untyped-call]
    pixels, file = np.asarray(canvas.buffer_rgba()), BytesIO()  # type: ignore[no-untyped-call]
    imsave(file, pixels, format="png", dpi=_DPI, pil_kwargs={"compress_level": _PACKED})
    return Picture(file.getvalue(), pixels[..., :3].copy(), step)
