"""Write the accuracy page: words, pictures, tables, and at its end every curve."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.curves import RunCurve
from benchmarks.pictures import draw_calibration, draw_error
from benchmarks.scores import Score
from benchmarks.tables import Table, breakdown, curve_table, method_tables

_INTRODUCTION = """\
# How accurate the forecasts are

Written by `python benchmarks/accuracy.py --curves DIR --out {page}` from {n_curves} finished training runs of
{n_groups} sources ({n_unknown} runs without a known planned end: listed, not averaged). The command
scores a folder of your own runs the same way. {about}

**The task.** At {fractions} % of a run a method sees the losses logged so far, the length of the run and, where it
was logged, the learning rate of all its steps. It forecasts the mean loss over the last 2 % of the run. Prefixes with
fewer than 10 points are skipped. Where a log starts late, earlier steps take the first logged rate; a sparse log of the
rate is interpolated linearly.

**The figures.** Errors are in the unit of the loss (nats for language models). A normalised error is divided by
max(|last value − truth|, 0.02 · |first loss − truth|) and cut at 5. Averages over groups take the mean in each source
first, since runs of one source are not independent. The truth is a mean of noisy losses: its own noise, about 0.01 nats
where single steps are logged, is charged to every method.

**The methods.** `last-value`: mean of the last 5 % of the points. `best-so-far`: lowest loss logged. `log-law`:
a − b log S. `power-law`: E + A S^−α by least squares. `tissue`, `multi-power`: the two published schedule-aware laws
fitted to the prefix by the authors' Huber loss, with the drop that a full decay brings kept below the distance come so
far (left free, it is not identified early in a decay). `curve-ensemble`: six families of curves by least squares, mixed
by BIC: in the manner of Domhan et al. 2015, but without their MCMC. All fits see the prefix in at most 150 log-spaced
windows weighted by their points; their intervals are the textbook standard error of the expected loss.
"""


def write_page(
    path: Path,
    curves: Sequence[RunCurve],
    scores: Sequence[Score],
    highlight: str,
    notes: Sequence[str] = (),
    about: str = "",
) -> None:
    """Write the page and its pictures.

    Args:
        path: Markdown file; pictures go to ``img/`` beside it.
        curves: The runs that were read, scored or not.
        scores: All scores.
        highlight: The method of which every curve is listed.
        notes: What must be said of methods that are not part of this repository.
        about: Where the curves are from.
    """
    pictures = path.parent / "img"
    pictures.mkdir(parents=True, exist_ok=True)
    error, calibration = (f"{path.stem}_{what}.png" for what in ("error", "calibration"))
    draw_error(scores, pictures / error, highlight)
    draw_calibration(scores, pictures / calibration, highlight)
    details = [
        breakdown(scores, highlight, lambda s: s.group, "source"),
        breakdown(scores, highlight, lambda s: s.schedule, "schedule"),
        breakdown(scores, highlight, lambda s: s.domain, "domain"),
        curve_table(scores, highlight),
    ]
    parts = [
        _introduction(path, curves, scores, about),
        *(f"{note}\n" for note in notes),
        f"![Mean error against the fraction of the run seen, by method](img/{error})\n",
        f"![Share of truths inside an interval against its level](img/{calibration})\n",
        "## All methods\n",
        *map(Table.markdown, method_tables(scores)),
        f"## {highlight} in detail\n",
        *map(Table.markdown, details),
        *_left_out(curves, scores),
    ]
    path.write_text("\n".join(parts), encoding="utf-8")


def _introduction(path: Path, curves: Sequence[RunCurve], scores: Sequence[Score], about: str) -> str:
    return _INTRODUCTION.format(
        page=f"docs/{path.name}",
        about=about,
        n_curves=len(curves),
        n_groups=len({c.group for c in curves}),
        n_unknown=sum(not c.horizon_known for c in curves),
        fractions=", ".join(f"{100 * f:.0f}" for f in sorted({s.fraction for s in scores})),
    )


def _left_out(curves: Sequence[RunCurve], scores: Sequence[Score]) -> list[str]:
    """Name the curves too short for any fraction, so that none goes missing unseen."""
    scored = {s.curve for s in scores}
    missing = [c.id for c in curves if c.id not in scored]
    return [f"Too few points before every cut: {', '.join(missing)}.\n"] if missing else []
