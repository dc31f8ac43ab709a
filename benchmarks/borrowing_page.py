"""The page on borrowing: what is said of the figures, a picture, the tables."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from benchmarks.lending import OWN, QUESTIONS, STRANGERS, Pair, Said
from benchmarks.summaries import finite_mean
from benchmarks.tables import Table

#: What issue 5 asks of the mean error, on models that are kept aside.
BARS: Mapping[str, Mapping[float, float]] = {
    QUESTIONS[0].title: {0.0: 0.03, 0.2: 0.012, 0.3: 0.008, 0.5: 0.006},
    QUESTIONS[4].title: {0.2: 0.006},
}

_INTRODUCTION = """\
# What finished runs bring to a forecast

Written by `python -m benchmarks.borrowing --curves DIR --out docs/borrowing.md` from {n_runs} finished runs of
{n_groups} sources with a known planned end. The curves are public logs of other people's runs and are not part of this
repository; `--group NAME --target REGEX --store REGEX` asks the same of a folder of your own runs.

**The task.** At {fractions} % of a run its end (the mean loss over the last 2 %) is forecast twice: *alone*, and *with*
a store of other finished runs. At 0 % the run has not begun: its size, length and learning rates are all that is known,
and there is no forecast without a store. Other prefixes with fewer than 10 points are skipped. Sizes are those that the
source states. A store never holds the run itself, nor one that begins with the very same losses, as a branch of it
does: that would tell a run its own end.

**The figures.** Errors and widths are in the unit of the loss (nats for language models); *inside* is the share of
truths in the 90 % interval. Where the engine gives no number the last value stands in, outside of every interval. Each
run counts once in the mean over a source, and each source once in the mean over sources.

**The bars** beside the figures are those that were set for larger models that are kept aside, which these runs are
not: here the runs of 100M stand in for larger ones, and the constants of the engine were chosen with all of these runs
in sight. A bar that is met here may be missed there.

**The first steps.** The logs of MultiPowerLaw begin after a linear warm-up of 2 160 steps, of which they say nothing
but in words. Everywhere but in the table that says so the first logged rate is taken for the steps before it. At 20 %
of its runs of 24 000 steps the losses that are seen, which four runs of a size share, are those of 2 600 steps: the two
tables differ by as much as an error there is luck.

**Strangers.** Runs of other sources that look alike (language models of like size and loss) do count as kin, since
nothing in their losses tells them apart; and before a run begins nothing at all tells what is kin but size, length and
the company in the store. A forecast at 0 % from a store of other tasks is worth nothing, as its coverage shows.
"""


def tables(pairs: Sequence[Pair]) -> list[Table]:
    """Return the tables of all questions that have an answer."""
    titles = [title for title in dict.fromkeys(pair.question for pair in pairs) if title not in (OWN, STRANGERS)]
    found = [question_table(title, [pair for pair in pairs if pair.question == title]) for title in titles]
    for title, note in (
        (OWN, "Mean error alone → with a store of all other runs of the source."),
        (STRANGERS, "Mean error alone → with a store that holds no run of the source: it should change nothing."),
    ):
        mine = [pair for pair in pairs if pair.question == title]
        if mine:
            found += [source_table(title, note, mine), effect_table(title, mine)]
    own = [pair for pair in pairs if pair.question == OWN]
    return [*found, run_table(own)] if own else found


def question_table(title: str, pairs: Sequence[Pair]) -> Table:
    """Return error, coverage and width at each fraction, alone and with the store."""
    bars = BARS.get(title, {})
    rows = []
    for f in _fractions(pairs):
        here = [pair for pair in pairs if pair.fraction == f]
        cells = [_both(here, value, spec) for value, spec in ((_error, ".4f"), (_inside, ".0%"), (_width, ".3f"))]
        narrower = _number(_mean(here, _width, "helped") / _mean(here, _width, "alone"), ".2f")
        bar = [f"{bars[f]:.3f}" if f in bars else "–"] if bars else []
        siblings = f"{np.mean([pair.helped.n_siblings for pair in here]):.1f}"
        rows.append((f"{100 * f:.0f} %", str(len(here)), siblings, cells[0], *bar, cells[1], cells[2], narrower))
    header = ("seen", "runs", "borrowed from", "error", *(["bar"] if bars else []), "inside", "width", "width ratio")
    return Table(title, "Each cell: alone → with the store.", header, tuple(rows))


def source_table(title: str, note: str, pairs: Sequence[Pair]) -> Table:
    """Return the mean error of each source at each fraction, alone and with the store."""
    fractions = _fractions(pairs)
    rows = []
    for group in dict.fromkeys(pair.group for pair in pairs):
        mine = [pair for pair in pairs if pair.group == group]
        cells = [_both([pair for pair in mine if pair.fraction == f], _error, ".3g") for f in fractions]
        rows.append((group, str(len({pair.run for pair in mine})), *cells))
    header = ("source", "runs", *(f"{100 * f:.0f} %" for f in fractions))
    return Table(title, note, header, tuple(rows))


def effect_table(title: str, pairs: Sequence[Pair]) -> Table:
    """Return by how much a store moves and narrows forecasts, each source counting once."""
    rows = []
    for f in _fractions(pairs):
        here = [pair for pair in pairs if pair.fraction == f]
        groups = [[p for p in here if p.group == group] for group in dict.fromkeys(p.group for p in here)]
        ratio = [_mean(g, _error, "helped") / _mean(g, _error, "alone") for g in groups]
        inside = [finite_mean(_mean(g, _inside, which) for g in groups) for which in ("alone", "helped")]
        width = [_mean(g, _width, "helped") / _mean(g, _width, "alone") for g in groups]
        moved = [abs(p.helped.mid - p.alone.mid) / (0.5 * (p.alone.high - p.alone.low)) for p in here]
        borrowed = sum(p.helped.n_siblings > 0 for p in here)
        rows.append(
            (
                f"{100 * f:.0f} %",
                str(len(here)),
                str(borrowed),
                _number(_geometric_mean(ratio), ".2f"),
                f"{_number(inside[0], '.0%')} → {_number(inside[1], '.0%')}",
                _number(_geometric_mean(width), ".2f"),
                _number(max((m for m in moved if math.isfinite(m)), default=math.nan), ".2f"),
            )
        )
    header = ("seen", "forecasts", "that borrow", "error ratio", "inside", "width ratio", "farthest move")
    note = (
        "Ratios are with / alone, geometric means over sources; the farthest move of a median is in half-widths of the "
        "interval alone. A forecast that finds no kin in the store is the one without a store."
    )
    return Table(f"{title}: in sum", note, header, tuple(rows))


def run_table(pairs: Sequence[Pair]) -> Table:
    """Return every run: the signed error at each fraction, alone and with the store."""
    fractions = _fractions(pairs)
    rows = []
    for run in dict.fromkeys(pair.run for pair in pairs):
        at = {pair.fraction: pair for pair in pairs if pair.run == run}
        cells = [
            f"{_signed(at[f].alone, at[f].truth)} → {_signed(at[f].helped, at[f].truth)}" if f in at else "–"
            for f in fractions
        ]
        rows.append((run, *cells))
    note = "Forecast minus truth, alone → with the store of its source; `*` truth outside the 90 % interval."
    return Table("Every run", note, ("run", *(f"{100 * f:.0f} %" for f in fractions)), tuple(rows))


def cost_table(times: Sequence[tuple[int, int, float, float, float]]) -> Table:
    """Return seconds per forecast against the runs in the store."""
    rows = [(str(n), str(kin), *(f"{s:.2f}" for s in seconds)) for n, kin, *seconds in times]
    header = ("runs in the store", "borrowed from", "alone [s]", "first [s]", "a later one [s]")
    note = (
        "One core, runs of 500 points made by the law, forecast at 30 % and once more at 31 %. The first forecast fits "
        "the runs it borrows from, a later one reads those off; both forecast the closest ones again. The only table "
        "that changes from run to run."
    )
    return Table("Time", note, header, tuple(rows))


def write_page(path: Path, pairs: Sequence[Pair], times: Sequence[tuple[int, int, float, float, float]]) -> None:
    """Write the page and its picture.

    Args:
        path: Markdown file; the picture goes to ``img/`` beside it.
        pairs: All forecasts.
        times: What `lending.costs` measured, empty for none.
    """
    pictures = path.parent / "img"
    pictures.mkdir(parents=True, exist_ok=True)
    name = f"{path.stem}_error.png"
    draw(pairs, pictures / name)
    introduction = _INTRODUCTION.format(
        n_runs=len({pair.run for pair in pairs}),
        n_groups=len({pair.group for pair in pairs}),
        fractions=", ".join(f"{100 * f:.0f}" for f in _fractions(pairs)),
    )
    found = [*tables(pairs), *([cost_table(times)] if times else [])]
    picture = f"![Mean error against the fraction of the run seen, alone and with a store](img/{name})\n"
    path.write_text("\n".join([introduction, picture, *map(Table.markdown, found)]), encoding="utf-8")


def draw(pairs: Sequence[Pair], path: Path) -> None:
    """Draw the mean error of each question against the fraction seen, alone and with the store."""
    from matplotlib.figure import Figure

    titles = [title for title in dict.fromkeys(p.question for p in pairs) if title not in (OWN, STRANGERS)][:5]
    figure = Figure(figsize=(3.4 * max(len(titles), 1), 3.8), layout="constrained")
    for ax, title in zip(figure.subplots(1, max(len(titles), 1), squeeze=False)[0], titles, strict=False):
        mine = [pair for pair in pairs if pair.question == title]
        fractions = _fractions(mine)
        for which, label, colour in (("alone", "alone", "C1"), ("helped", "with a store", "C0")):
            y = [_mean([p for p in mine if p.fraction == f], _error, which) for f in fractions]
            ax.plot(fractions, y, "o-", ms=3, color=colour, label=label)
        bars = BARS.get(title, {})
        ax.plot(list(bars), list(bars.values()), "k_", ms=14, label="bar" if bars else None)
        ax.set(title=title.replace(": ", "\n"), xlabel="fraction of the run seen", yscale="log")
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter("")
        ax.legend(fontsize=8, frameon=False)
    if titles:
        figure.axes[0].set_ylabel("mean error [unit of the loss]")
    figure.savefig(path, dpi=120)


def _error(said: Said, truth: float) -> float:
    return abs(said.mid - truth)


def _inside(said: Said, truth: float) -> float:
    return float(said.low <= truth <= said.high) if math.isfinite(said.mid) else math.nan


def _width(said: Said, truth: float) -> float:
    return said.high - said.low


def _mean(pairs: Sequence[Pair], value: Callable[[Said, float], float], which: str) -> float:
    return finite_mean(value(getattr(pair, which), pair.truth) for pair in pairs)


def _both(pairs: Sequence[Pair], value: Callable[[Said, float], float], spec: str) -> str:
    alone, helped = (_number(_mean(pairs, value, which), spec) for which in ("alone", "helped"))
    return f"{alone} → {helped}"


def _signed(said: Said, truth: float) -> str:
    if not math.isfinite(said.mid):
        return "–"
    return f"{said.mid - truth:+.3g}" + ("" if said.low <= truth <= said.high else "*")


def _geometric_mean(values: Sequence[float]) -> float:
    kept = [math.log(value) for value in values if math.isfinite(value) and value > 0.0]
    return math.exp(finite_mean(kept)) if kept else math.nan


def _number(value: float, spec: str) -> str:
    return format(value, spec) if math.isfinite(value) else "–"


def _fractions(pairs: Sequence[Pair]) -> list[float]:
    return sorted({pair.fraction for pair in pairs})
