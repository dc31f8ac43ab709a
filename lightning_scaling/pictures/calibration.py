"""plot_calibration(): how often intervals held what they were to hold, against how often they should have."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import betaincinv, ndtri

from lightning_scaling.ledger import ForecastLedger, ForecastRecord
from lightning_scaling.pictures.axes import axes_or_new, explain, face_of, note
from lightning_scaling.pictures.colours import COLOURS, GREY
from lightning_scaling.store.run import StoredRun
from lightning_scaling.track_record import errors_in_sigmas

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_calibration"]

#: Levels that are read off an interval of another level, besides its own.
_LEVELS = (0.5, 0.8, 0.9, 0.95)
#: Probability of the bars.
_BARS = 0.9


@dataclass(frozen=True)
class _Score:
    """The forecasts of one finished run: level and error in sigmas of each, or what share of one level held."""

    errors: tuple[tuple[float, float], ...] = ()
    n: int = 0
    held: int = 0
    level: float = math.nan

    @property
    def n_forecasts(self) -> int:
        return len(self.errors) or self.n

    def share(self, level: float) -> float:
        """Return the share of the intervals of a level that held [1]; NaN where that is not known."""
        if self.errors:
            return float(np.mean([abs(z) <= float(ndtri(0.5 + 0.5 * level)) for _, z in self.errors]))
        return self.held / self.n if self.level == level else math.nan


def plot_calibration(
    records_or_scores: Iterable[StoredRun | tuple[Sequence[ForecastRecord], float] | Mapping[str, Any]],
    *,
    ax: Axes | None = None,
) -> Axes:
    """Draw the share of intervals that held the end of their run against the share that should have.

    Filled dots are intervals as they were told. Hollow ones are of other levels, as if each side of a told interval
    were normal. Of each tenth of a run the newest forecast counts, if it could be used and spoke of the end that the
    run had; forecasts of one run are not independent, so each run counts once, with the share of its own. Bars are 90 %
    intervals of the true share, from the binomial distribution of as many trials as there are runs.

    Args:
        records_or_scores: One entry per finished run: a `StoredRun`; or its forecasts and the loss it ended at, as a
            pair; or what `track_record.score` returns, which knows of the told level alone.
        ax: Where to draw; default: a new figure.

    Returns:
        The axes.

    Raises:
        TypeError: If an entry is none of these.
        ValueError: If no forecast of any run can be held against its end.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    scores = [score for score in map(_score, records_or_scores) if score is not None and score.n_forecasts]
    if not scores:
        raise ValueError(
            "Expected finished runs with usable forecasts of their end, got none, so give runs that a monitor with a "
            "store has followed to their planned end."
        )
    axes = axes_or_new(ax)
    axes.plot([0.0, 1.0], [0.0, 1.0], color=GREY, lw=1.0, zorder=1.5)
    told = {level for score in scores for level in ([z[0] for z in score.errors] or [score.level])}
    drawn: set[bool] = set()
    more = set(_LEVELS) - told if any(score.errors for score in scores) else set()
    for level in [*sorted(told), *sorted(more)]:
        shares = [share for score in scores if math.isfinite(share := score.share(level))]
        low, mid, high = _binomial(float(np.mean(shares)), len(shares))
        own = level in told
        words = "as told" if own else "other levels, read off these"
        axes.plot([level, level], [low, high], color=COLOURS[2], lw=1.6, alpha=0.8, zorder=2)
        axes.scatter(
            [level],
            [mid],
            s=46,
            facecolors=COLOURS[2] if own else face_of(axes),
            edgecolors=COLOURS[2],
            linewidths=1.4,
            zorder=3,
            label=None if own in drawn else words,
        )
        drawn.add(own)
    axes.set(xlim=(0.0, 1.0), ylim=(0.0, 1.03), xlabel="level of the interval", ylabel="share that held the end")
    axes.set_aspect("equal", adjustable="box")
    axes.spines[["top", "right"]].set_visible(False)
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([0.0, 0.25, 0.5, 0.75, 1.0], ["0", "25 %", "50 %", "75 %", "100 %"])
    n_runs, n = len(scores), sum(score.n_forecasts for score in scores)
    counts = f"{n_runs} run{'s' * (n_runs != 1)}, {n} forecast{'s' * (n != 1)}\n"
    counts += f"bars: {100.0 * _BARS:g} %, binomial,\nof {n_runs} trial{'s' * (n_runs != 1)}"
    note(axes, counts, 0.04, 0.98)
    explain(axes, "lower right")
    return axes


def _score(entry: Any) -> _Score | None:
    if isinstance(entry, StoredRun):
        if entry.final_loss is None:
            return None
        return _Score(tuple(errors_in_sigmas(entry.forecasts, entry.final_loss)))
    if isinstance(entry, Mapping) and {"n", "held", "level"} <= set(entry):
        return _Score(n=int(entry["n"]), held=int(entry["held"]), level=float(entry["level"]))
    if isinstance(entry, tuple) and len(entry) == 2 and not isinstance(entry[1], ForecastRecord):
        records, truth = entry
        ledger = ForecastLedger()
        for record in records:
            ledger.append(record)
        return _Score(tuple(errors_in_sigmas(ledger, float(truth)))) if math.isfinite(truth) else None
    raise TypeError(
        f"Expected stored runs, pairs of forecast records and a final loss, or scores, got {type(entry).__name__}, so "
        "give one such entry per finished run."
    )


def _binomial(share: float, n: int) -> tuple[float, float, float]:
    """Return a share with its interval, after Jeffreys: the posterior of a share under the prior Beta(1/2, 1/2)."""
    tail, k = 0.5 * (1.0 - _BARS), share * n
    low, high = (float(betaincinv(k + 0.5, n - k + 0.5, q)) for q in (tail, 1.0 - tail))
    return (0.0 if k == 0 else min(low, share)), share, (1.0 if k == n else max(high, share))
