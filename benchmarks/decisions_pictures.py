"""The picture of the decisions page. Matplotlib is imported inside: counting works without it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.decisions_pools import OTHER, SAME, Played
from benchmarks.decisions_rivals import LAST_AT_HALF, PATIENCE, POWER_AT_HALF, POWER_TWICE, early_stopping
from benchmarks.decisions_rules import ADVICE, CONFIDENCES, Decision
from benchmarks.decisions_strategies import (
    BLIND,
    HALVING,
    HALVING_OURS,
    MEDIAN,
    MEDIAN_AVERAGES,
    ONCE_OURS,
    ONCE_PRESENT,
    OURS,
)
from benchmarks.decisions_tables import (
    LEAST_SAVED,
    MOST_FALSE,
    curve_points,
    false_share,
    pool_means,
    saved_share,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_RIVALS = {
    LAST_AT_HALF: "last value at 50 %",
    POWER_AT_HALF: "power law at 50 %",
    POWER_TWICE: "power law, two looks",
    **{early_stopping(p): f"EarlyStopping, {100.0 * p:.0f} %" for p in PATIENCE},
}
_STRATEGIES = {
    OURS: "ours: below 5 % killed",
    HALVING_OURS: "ours: better half",
    ONCE_OURS: "ours: best at 30 %",
    HALVING: "successive halving",
    ONCE_PRESENT: "best loss at 30 %",
    MEDIAN: "median rule",
    MEDIAN_AVERAGES: "median rule, averages",
    **{early_stopping(p): f"EarlyStopping, {100.0 * p:.0f} %" for p in PATIENCE},
    BLIND: "picked blindly",
}
_MARKERS = "o^sDvPX*h<>"


def draw(decisions: Sequence[Decision], played: Sequence[Played], path: Path) -> None:
    """Draw false stops against steps saved, and for each kind of pool the same of best runs that were killed."""
    from matplotlib.figure import Figure

    kinds = [kind for kind in (SAME, OTHER) if any(p.kind == kind for p in played)]
    figure = Figure(figsize=(5.2 * (1 + len(kinds)), 4.8), layout="constrained")
    axes = figure.subplots(1, 1 + len(kinds), squeeze=False)[0]
    _draw_rules(axes[0], decisions)
    for ax, kind in zip(axes[1:], kinds, strict=True):
        _draw_pools(ax, [p for p in played if p.kind == kind])
        ax.set(title=f"pools {kind}")
    if kinds:
        axes[1].legend(fontsize=8, frameon=False, loc="lower right")
    figure.savefig(path, dpi=120)


def _draw_rules(ax: Axes, decisions: Sequence[Decision]) -> None:
    curves = (("", "as a monitor acts", "C0", (6, -4)), (ADVICE, "advice alone", "C1", (5, 4)))
    for suffix, label, colour, place in curves:
        points = curve_points(decisions, suffix)
        ax.plot(*zip(*[(100 * x, 100 * y) for x, y in points], strict=True), "o-", color=colour, label=label, ms=5)
        for i in (0, -1):  # those in between would overlap
            x, y = points[i]
            ax.annotate(
                f"{100 * CONFIDENCES[i]:.0f} %", (100 * x, 100 * y), place, textcoords="offset points", fontsize=7
            )
    for i, (rule, label) in enumerate(_RIVALS.items()):
        mine = [d for d in decisions if d.rule == rule]
        x, y = 100 * false_share(mine), 100 * saved_share(mine)
        ax.plot(x, y, _MARKERS[i + 1], color=f"C{i + 2}", ms=7, label=label)
    ax.axvline(100 * MOST_FALSE, color="0.6", lw=0.8, zorder=0)
    ax.axhline(100 * LEAST_SAVED, color="0.6", lw=0.8, zorder=0)
    ax.set(
        title="TargetUnreachable by confidence, and simple rules",
        xlabel="runs stopped that would have made it [%]",
        ylabel="steps saved of runs that miss by 0.05 [%]",
        ylim=(0.0, None),
    )
    ax.legend(fontsize=8, frameon=False, loc="lower right")


def _draw_pools(ax: Axes, played: Sequence[Played]) -> None:
    for i, (strategy, label) in enumerate(_STRATEGIES.items()):
        lost, _, saved = pool_means([p for p in played if p.strategy == strategy])
        ours = label.startswith("ours")
        ax.plot(
            100 * lost,
            100 * saved,
            _MARKERS[i],
            color=f"C{i}",
            ms=10 if ours else 7,
            mec="k" if ours else None,
            label=label,
        )
    ax.set(xlabel="best run killed [%]", ylabel="steps saved [%]", xlim=(-4.0, 104.0), ylim=(-4.0, 104.0))
