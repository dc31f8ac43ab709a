"""A plan on paper."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from lightning_scaling.planner.answer import Answer, Trade
from lightning_scaling.planner.spread import Spread, number, whole
from lightning_scaling.units import DAY_S, PF_DAY

if TYPE_CHECKING:
    from lightning_scaling.planner.ask import Plan

_WIDTH = 100
_NONE = "-"


def of(plan: Plan) -> str:
    """Return the plan as text."""
    parts = [_question(plan), _source(plan), *_answers(plan), *_trade(plan), "Keep in mind:"]
    parts[-1] += "".join("\n" + _wrapped(note, "- ") for note in plan.notes)
    return "\n\n".join(parts)


def _wrapped(line: str, first: str = "") -> str:
    return textwrap.fill(line, _WIDTH, initial_indent=first, subsequent_indent=" " * len(first))


def _question(plan: Plan) -> str:
    if plan.L is not None:
        asked = f"a loss of {plan.L:g} nats/token"
    else:
        asked = _compute(plan.C or 0.0)
        if plan.flop_per_s is not None:
            asked += f", {_duration((plan.C or 0.0) / plan.flop_per_s)} at {number(plan.flop_per_s)} FLOP/s"
    if plan.data is not None:
        asked += f", with {number(plan.data)} tokens of data"
    batch = plan.B if plan.B is not None else plan.laws.batch
    if batch is not None:
        return f"Plan for {asked}, at {whole(float(batch))} tokens per step"
    if plan.batch_ratio is None:
        return f"Plan for {asked}"  # by laws that know no batch
    times = "" if plan.batch_ratio == 1.0 else f"{number(plan.batch_ratio, 6)} times "
    return f"Plan for {asked}, at {times}the critical batch size"


def _source(plan: Plan) -> str:
    laws = plan.laws
    if not laws.published:
        return _wrapped(f"Constants: {laws.source}.")
    return _wrapped(
        f"THE CONSTANTS ARE THE PAPERS', NOT YOURS: {laws.source}. Other data, tokens or architecture move every "
        "number below; only the shape of the laws can be hoped to carry over. Fit your own runs before you rely on one."
    )


def _answers(plan: Plan) -> list[str]:
    columns = [("Kaplan", plan.kaplan), ("Hoffmann, refitted" if plan.laws.published else "Hoffmann", plan.hoffmann)]
    shown: list[tuple[str, Answer]] = [(name, answer) for name, answer in columns if answer is not None]
    if not shown:
        return []
    rows: list[list[str]] = [["", *(name for name, _ in shown)]]
    for label, field in (
        ("model size N [parameters]", "N"),
        ("tokens D", "D"),
        ("steps S", "S"),
        ("batch B [tokens]", "B"),
        *([("B / B_crit", "ratio")] if plan.B is not None else []),
        ("tokens per parameter", "tokens_per_parameter"),
        ("loss [nats/token]", "L"),
        ("compute C [FLOP]", "C"),
        ("wall time", "time_s"),
        ("data needed [tokens]", "data_needed"),
        ("passes over the data", "passes"),
        ("overfitting, converged", "overfitting"),
    ):
        values: list[Spread | None] = [getattr(answer, field) for _, answer in shown]
        if all(value is None for value in values):
            continue
        given = field == "B" and (plan.B is not None or plan.laws.batch is not None)
        shown_as = [whole(value.mid) if given and value is not None else _spread(value, field) for value in values]
        rows.append([label, *shown_as])
    rows.append(["beyond what was explored", *(_beyond(answer) for _, answer in shown)])
    return [_table(rows), _wrapped(_ranges(plan))]


def _ranges(plan: Plan) -> str:
    level = plan.laws.level
    if level is not None:
        return f"In brackets: {100.0 * level:g} % intervals over the draws of the fit."
    sets = max(len(plan.laws.kaplan), len(plan.laws.hoffmann))
    if sets == 1:
        return "One set of constants without errors: no range is known."
    if not plan.laws.published:
        return "In brackets: the smallest and the largest over the sets of constants; no probability."
    return (
        "In brackets: the smallest and the largest over the published sets of constants. Kaplan gives no errors and "
        "the refit of Hoffmann no covariance, so these are no probabilities, and the truth may lie outside."
    )


def _trade(plan: Plan) -> list[str]:
    if not plan.trade:
        return []
    head = ["B / B_crit", "batch [tokens]", "steps", "compute [FLOP]"]
    timed = plan.flop_per_s is not None
    rows = [head + (["wall time"] if timed else [])]
    rows += [_trade_row(row) for row in plan.trade]
    title = "Time against compute, for Kaplan's model and loss; steps are time where devices are added with the batch:"
    return [_wrapped(title) + "\n" + _table(rows)]


def _trade_row(row: Trade) -> list[str]:
    cells = [number(row.ratio, 3), number(row.B), number(row.S), number(row.C)]
    return cells + ([] if row.time_s is None else [_duration(row.time_s)])


def _table(rows: list[list[str]]) -> str:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "-" * max(len(line) for line in lines), *lines[1:]])


def _spread(value: Spread | None, field: str) -> str:
    if value is None:
        return _NONE
    written = {"time_s": _duration, "overfitting": _percent}.get(field)
    return str(value) if written is None else value.text(written)


def _beyond(answer: Answer) -> str:
    if answer.N_beyond is None or answer.D_beyond is None:
        return "not known"
    words = [
        f"{name} {number(10.0 ** abs(decades))} times {'above' if decades > 0.0 else 'below'}"
        for name, decades in (("N", answer.N_beyond), ("D", answer.D_beyond))
        if decades
    ]
    return ", ".join(words) or "inside"


def _compute(C: float) -> str:
    return f"C = {number(C, 3)} FLOP ({number(C / PF_DAY, 3)} PF-days)"


def _percent(share: float, digits: int = 2) -> str:
    return f"{number(100.0 * share, digits)} %"


def _duration(seconds: float, digits: int = 2) -> str:
    for unit, size in (("days", DAY_S), ("h", 3600.0), ("min", 60.0)):
        if seconds >= 2.0 * size:
            return f"{number(seconds / size, digits)} {unit}"
    return f"{number(seconds, digits)} s"
