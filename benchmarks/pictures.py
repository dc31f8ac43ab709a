"""The two pictures of the accuracy page. Matplotlib is imported inside: scoring works without it."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.scores import Score
from benchmarks.summaries import mean_over_groups
from benchmarks.tables import Value, families

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def draw_error(scores: Sequence[Score], path: Path, highlight: str) -> None:
    """Draw the error against the fraction seen: one panel per family, one for all groups."""
    from matplotlib.figure import Figure

    names = families(scores)
    figure = Figure(figsize=(3.8 * (len(names) + 1), 4.4), layout="constrained")
    axes = figure.subplots(1, len(names) + 1, squeeze=False)[0]
    for ax, family in zip(axes, names, strict=False):
        _error_lines(ax, [s for s in scores if s.group == family], lambda s: s.error, highlight)
        ax.set(title=family, ylabel="mean error [unit of the loss]", yscale="log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("")
    _error_lines(axes[-1], scores, lambda s: s.normalised_error, highlight)
    axes[-1].axhline(1.0, color="0.6", lw=0.8, zorder=0)
    axes[-1].set(title="all groups, each once", ylabel="mean normalised error", ylim=(0.0, None))
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, fontsize=9, frameon=False)
    figure.savefig(path, dpi=120)


def draw_calibration(scores: Sequence[Score], path: Path, highlight: str) -> None:
    """Draw the share of truths inside an interval against its level, and where the truths fell in the forecasts."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13.0, 4.2), layout="constrained")
    by_fraction, by_method, histogram = figure.subplots(1, 3)
    with_intervals = [s for s in scores if s.has_interval]
    mine = [s for s in with_intervals if s.method == highlight]
    for fraction in sorted({s.fraction for s in mine}):
        _coverage_line(
            by_fraction, [s for s in mine if s.fraction == fraction], f"{100 * fraction:.0f} % of the run seen"
        )
    for method, style in _styles(scores, highlight).items():
        chosen = [s for s in with_intervals if s.method == method]
        if chosen:
            _coverage_line(by_method, chosen, method, **style)
    for ax, title in ((by_fraction, highlight), (by_method, "all methods, all fractions")):
        ax.plot([0, 1], [0, 1], color="0.6", lw=0.8, zorder=0)
        ax.set(title=title, xlabel="level of the interval", ylabel="share of truths inside", xlim=(0, 1), ylim=(0, 1))
        ax.legend(fontsize=8, frameon=False)
    pits = np.array([s.pit for s in mine if s.horizon_known])
    histogram.hist(pits, bins=np.linspace(0.0, 1.0, 11), color="C0", alpha=0.8)
    histogram.axhline(len(pits) / 10, color="0.6", lw=0.8)
    histogram.set(
        title=f"{highlight}: where the truth fell", xlabel="forecast probability of a lower loss", ylabel="forecasts"
    )
    figure.savefig(path, dpi=120)


def _error_lines(ax: Axes, scores: Sequence[Score], value: Value, highlight: str) -> None:
    fractions = sorted({s.fraction for s in scores})
    for method, style in _styles(scores, highlight).items():
        mine = [s for s in scores if s.method == method]
        y = [mean_over_groups([s for s in mine if s.fraction == f], value) for f in fractions]
        ax.plot(fractions, y, "o-", label=method, ms=3, **style)
    ax.set_xlabel("fraction of the run seen")


def _styles(scores: Sequence[Score], highlight: str) -> dict[str, dict[str, Any]]:
    """Return one colour per method, the same in every picture."""
    methods = dict.fromkeys(s.method for s in scores)
    return {m: {"color": f"C{i}", "lw": 2.5 if m == highlight else 1.2} for i, m in enumerate(methods)}


def _coverage_line(ax: Axes, scores: Sequence[Score], label: str, **style: Any) -> None:
    """Plot the share of PITs within level/2 of one half, mean over groups."""
    levels = np.linspace(0.02, 0.98, 49)
    share = [mean_over_groups(scores, partial(_inside, level=float(level))) for level in levels]
    ax.plot(levels, share, label=label, **style)


def _inside(s: Score, level: float) -> float:
    return float(abs(s.pit - 0.5) <= 0.5 * level)
