"""The tables of the accuracy page: pure functions from scores to rows of text."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from benchmarks.baselines import LAST_VALUE
from benchmarks.scores import INTERVAL_LEVELS, Score
from benchmarks.summaries import finite_mean, mean_over_groups, median_over_groups, worse_than_last_value

FAMILY_SIZE = 10

Value = Callable[[Score], float]
Summary = Callable[[Sequence[Score]], str]


@dataclass(frozen=True)
class Table:
    """A titled table of text cells, the first column left-aligned."""

    title: str
    note: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]

    def markdown(self) -> str:
        """Return the table as GitHub markdown that also reads well as plain text."""
        cells = [self.header, *self.rows]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.header))]

        def line(row: Sequence[str]) -> str:
            first, *rest = row
            padded = [first.ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(rest, widths[1:], strict=True))]
            return f"| {' | '.join(padded)} |"

        rule = "|" + "|".join([f":{'-' * (widths[0] + 1)}", *(f"{'-' * (w + 1)}:" for w in widths[1:])]) + "|"
        note = f"{self.note}\n\n" if self.note else ""
        return f"### {self.title}\n\n{note}" + "\n".join([line(self.header), rule, *map(line, self.rows)]) + "\n"


def families(scores: Sequence[Score]) -> list[str]:
    """Return the groups with at least 10 curves of known horizon, or the largest group if there is none."""
    curves: dict[str, set[str]] = {}
    for s in scores:
        if s.horizon_known:
            curves.setdefault(s.group, set()).add(s.curve)
    ranked = sorted(curves, key=lambda group: -len(curves[group]))
    return [group for group in ranked if len(curves[group]) >= FAMILY_SIZE] or ranked[:1]


def method_tables(scores: Sequence[Score]) -> list[Table]:
    """Return the tables that compare methods; a cell holds the values at all fractions, in order."""
    rivals = "A method without intervals is scored as a point."
    of_families: tuple[tuple[str, str, Value, str], ...] = (
        ("Mean error", "Size of forecast median − truth.", lambda s: s.error, ".4f"),
        ("Bias", "Forecast median − truth: above zero is too high.", lambda s: s.bias, "+.4f"),
        ("Mean CRPS", rivals, lambda s: s.crps, ".4f"),
        ("Mean width of the 90 % interval", "", lambda s: s.width(0.9), ".3f"),
        ("Mean interval score, 90 %", "Width + 20 × the distance of the truth outside.", _interval_score, ".3f"),
    )
    names = families(scores)
    columns = {name: [s for s in scores if s.group == name] for name in names}
    tables = []
    for title, note, value, spec in of_families:
        summary = partial(_mean, value=value, spec=spec)
        tables.append(
            _comparison(scores, f"{title} [unit of the loss]", note, {n: (columns[n], summary) for n in names})
        )
    everything: dict[str, Summary] = {
        "error, mean": partial(_mean, value=_error, spec=".2f"),
        "error, median": _median_error,
        "CRPS, mean": partial(_mean, value=_crps, spec=".2f"),
    }
    coverage: dict[str, Summary] = {
        f"inside {100 * level:.0f} %": partial(_mean, value=partial(Score.covers, level=level), spec=".0%")
        for level in INTERVAL_LEVELS
    }
    coverage["width of 90 %"] = partial(_mean, value=partial(Score.normalised_width, level=0.9), spec=".2f")
    n_groups = len({s.group for s in scores if s.horizon_known})
    unit = "in units of the last value's miss (1: no better than looking at the curve), cut at 5"
    error_note = f"Errors and CRPS {unit}. Worse: groups whose mean error is above that of the last value."
    all_errors = _comparison(
        scores, f"All {n_groups} groups, each counting once", error_note, _same(scores, everything)
    )
    tables += [
        _with_column(all_errors, f"worse, of {n_groups}", _worse_cells(scores)),
        _comparison(
            scores,
            f"All {n_groups} groups: share of truths inside the intervals",
            f"Mean over groups; the width {unit}.",
            _same(scores, coverage),
        ),
        time_table(scores),
    ]
    return tables


def time_table(scores: Sequence[Score]) -> Table:
    """Return seconds per forecast beside the length of the history it was made from."""
    rows = []
    for method in _methods(scores):
        mine = [s for s in scores if s.method == method]
        ms = np.array([1e3 * s.seconds for s in mine])
        rows.append(
            (
                method,
                f"{np.median(ms):.2f}",
                f"{np.quantile(ms, 0.99):.2f}",
                f"{np.median([s.n_points for s in mine]):.0f}",
                f"{max(s.n_points for s in mine)}",
                f"{len(mine)}",
                f"{sum(s.failed for s in mine)}",
                f"{sum(not s.has_interval for s in mine)}",
            )
        )
    header = (
        "method",
        "median ms",
        "99 % ms",
        "points, median",
        "points, most",
        "forecasts",
        "fell back",
        "no interval",
    )
    note = "Measured on one core; the only table that changes from run to run. Fell back: the last value stands in."
    return Table("Time per forecast, and failures", note, header, tuple(rows))


def breakdown(scores: Sequence[Score], method: str, key: Callable[[Score], str], name: str) -> Table:
    """Return one method's normalised error and 90 % coverage for each source, schedule or domain."""
    mine = [s for s in scores if s.method == method]
    fractions = _fractions(mine)
    rows = []
    for value in dict.fromkeys((key(s), s.horizon_known) for s in mine):
        label, known = value
        here = [s for s in mine if (key(s), s.horizon_known) == value]
        cells = []
        for f in fractions:
            at = [s for s in here if s.fraction == f]
            error, cover = finite_mean(s.normalised_error for s in at), finite_mean(s.covers(0.9) for s in at)
            cells.append(f"{error:.2f} / {_format(cover, '.0%')}" if at else "–")
        n_curves = len({s.curve for s in here})
        rows.append((label if known else f"{label} (horizon unknown)", str(n_curves), *cells))
    note = "Mean normalised error / share of truths inside the 90 % interval, every curve counting once."
    return Table(f"{method} by {name}", note, _header(name, ["curves", *fractions]), tuple(rows))


def curve_table(scores: Sequence[Score], method: str) -> Table:
    """Return every curve: the truth and the signed error at each fraction, with a mark outside the 90 % interval."""
    mine = [s for s in scores if s.method == method]
    fractions = _fractions(mine)
    rows = []
    for curve in dict.fromkeys(s.curve for s in mine):
        at = {s.fraction: s for s in mine if s.curve == curve}
        any_score = next(iter(at.values()))
        cells = [_signed(at[f]) if f in at else "–" for f in fractions]
        name = curve if any_score.horizon_known else f"{curve} (horizon unknown)"
        rows.append((name, f"{any_score.T}", f"{any_score.truth:.4g}", *cells))
    note = "Forecast minus truth; `*` truth outside the 90 % interval, `?` no forecast (last value), – under 10 points."
    return Table(f"{method}, every curve", note, _header("curve", ["steps", "truth", *fractions]), tuple(rows))


def _signed(s: Score) -> str:
    return f"{s.bias:+.3g}" + ("?" if s.failed else "*" if s.covers(0.9) == 0.0 else "")


def _error(s: Score) -> float:
    return s.normalised_error


def _crps(s: Score) -> float:
    return s.normalised_crps


def _interval_score(s: Score) -> float:
    return s.interval_score(0.9)


def _mean(scores: Sequence[Score], value: Value, spec: str) -> str:
    return _format(mean_over_groups(scores, value), spec)


def _median_error(scores: Sequence[Score]) -> str:
    return _format(median_over_groups(scores, _error), ".2f")


def _same(scores: Sequence[Score], summaries: Mapping[str, Summary]) -> dict[str, tuple[Sequence[Score], Summary]]:
    return {name: (scores, summary) for name, summary in summaries.items()}


def _comparison(
    scores: Sequence[Score], title: str, note: str, columns: Mapping[str, tuple[Sequence[Score], Summary]]
) -> Table:
    """Return a table of methods against columns; a method that never has a value is left out."""
    fractions = _fractions(scores)
    rows = []
    for method in _methods(scores):
        cells = []
        for chosen, summary in columns.values():
            at = [[s for s in chosen if s.method == method and s.fraction == f] for f in fractions]
            cells.append(" ".join(map(summary, at)))
        if any(set(cell) - {"–", " "} for cell in cells):
            rows.append((method, *cells))
    when = " / ".join(f"{100 * f:.0f}" for f in fractions)
    return Table(f"{title}, at {when} % of the run", note, ("method", *columns), tuple(rows))


def _worse_cells(scores: Sequence[Score]) -> dict[str, str]:
    """Return for each method how many groups it leaves worse off than the last value, at each fraction."""
    reference = [s for s in scores if s.method == LAST_VALUE]
    cells = {}
    for method in _methods(scores):
        mine = [s for s in scores if s.method == method]
        counts = [
            worse_than_last_value([s for s in mine if s.fraction == f], [s for s in reference if s.fraction == f])
            for f in _fractions(scores)
        ]
        cells[method] = " ".join(str(worse) for worse, _ in counts)
    return cells


def _with_column(table: Table, name: str, cells: Mapping[str, str]) -> Table:
    rows = tuple((*row, cells[row[0]]) for row in table.rows)
    return replace(table, header=(*table.header, name), rows=rows)


def _format(value: float, spec: str) -> str:
    return format(value, spec) if math.isfinite(value) else "–"


def _header(first: str, columns: Sequence[float | str]) -> tuple[str, ...]:
    return (first, *(c if isinstance(c, str) else f"{100 * c:.0f} %" for c in columns))


def _fractions(scores: Sequence[Score]) -> list[float]:
    return sorted({s.fraction for s in scores})


def _methods(scores: Sequence[Score]) -> list[str]:
    return list(dict.fromkeys(s.method for s in scores))
