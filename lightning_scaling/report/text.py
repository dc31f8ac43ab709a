"""Tables in plain text, and what replays and comparisons say in them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from lightning_scaling.ledger import holds
from lightning_scaling.review import BASELINES, Comparison, Look, Outcome, Replay, RuleScore, SpeedUp, Stop
from lightning_scaling.units import thousands

__all__ = ["aligned", "comparison_text", "pool_text", "replay_text"]

_UNKNOWN_RATE = "The learning rate was not known ahead, and on that no rule but 'diverged' stops a run."


def aligned(rows: Sequence[Sequence[str]], left: Sequence[int] = (0,)) -> str:
    """Return rows of cells as lines with aligned columns, flush right but for the columns ``left``.

    Example:
        >>> print(aligned([["run", "loss"], ["a", "2.31"]]))
        run  loss
        a    2.31
    """
    n = max(len(row) for row in rows)
    widths = [max(len(row[i]) for row in rows if i < len(row)) for i in range(n)]
    lines = [
        "  ".join(cell.ljust(widths[i]) if i in left else cell.rjust(widths[i]) for i, cell in enumerate(row))
        for row in rows
    ]
    return "\n".join(line.rstrip() for line in lines)


def replay_text(found: Replay) -> str:
    """Return the tables of one replayed run: forecasts beside baselines, and what each rule would have done."""
    end = "broke: its last losses were not finite" if math.isnan(found.truth) else f"ended at {_number(found.truth)}"
    lines = [f"{found.name}: {thousands(found.horizon)} steps, {end}"]
    rows = [["done", "at step", "forecast", *BASELINES, "inside"]]
    for look in found.looks:
        said = str(look.final_loss) if look.usable else f"none: {look.verdict}"
        simple = [_number(look.baselines[name]) for name in BASELINES]
        rows.append([_percent(look.step / found.horizon), thousands(look.step), said, *simple, _inside(look, found)])
    lines.append(aligned(rows, left=(2,)))
    if errors := found.errors():
        words = ", ".join(f"{name} {error:.2g}" for name, error in errors.items())
        lines.append(f"Mean error where there is a forecast: {words}.")
    lines += ["", aligned([["rule", "stops at", "saves", "outcome"], *map(_stop_row, found.stops)], left=(0, 3))]
    if not found.schedule_known:
        lines.append(f"{_UNKNOWN_RATE} Name the schedule that the run had.")
    return "\n".join(lines)


def pool_text(replays: Sequence[Replay], scores: Sequence[RuleScore]) -> str:
    """Return the tables of several replayed runs: errors at each tenth, and the record of each rule."""
    lines = [f"{len(replays)} runs; mean error of the end, where there is a forecast:"]
    rows = [["done", "runs", "forecast", *BASELINES, "inside"]]
    for tenth in range(1, 10):
        pairs = [
            (one, look)
            for one in replays
            for look in one.looks
            if look.usable and not math.isnan(one.truth) and look.step == math.ceil(tenth * one.horizon / 10.0)
        ]
        if not pairs:
            continue
        ours = [abs(float(look.final_loss.mid) - one.truth) for one, look in pairs]
        others = [[abs(look.baselines[name] - one.truth) for one, look in pairs] for name in BASELINES]
        hits = np.mean([_inside(look, one) == "yes" for one, look in pairs])
        means = [f"{float(np.mean(errors)):.3g}" for errors in (ours, *others)]
        rows.append([f"{tenth}0 %", str(len(pairs)), *means, _percent(float(hits))])
    lines += [aligned(rows, left=()) if len(rows) > 1 else "none of them could be forecast", ""]
    rows = [["rule", "to go on", "wrongly stopped", "to stop", "stopped", "steps of those saved"]]
    rows += [[s.label, str(s.n_go), str(s.n_false), str(s.n_stop), str(s.n_right), _percent(s.saved)] for s in scores]
    lines.append(aligned(rows))
    unknown = sum(not one.schedule_known for one in replays)
    if unknown:
        lines.append(f"In {unknown} of {len(replays)} runs: {_UNKNOWN_RATE}")
    go, false = sum(s.n_go for s in scores), sum(s.n_false for s in scores)
    if go:
        lines.append(f"Wrongly stopped: {false} of {go} ({100.0 * false / go:.1f} %).")
    return "\n".join(lines)


def comparison_text(found: Comparison) -> str:
    """Return the table of a comparison, the run that ends best with the highest probability first."""
    order = np.argsort(found.probability_best)[::-1].tolist()
    rows = [["run", "ends at", "ends best"]]
    rows += [[found.names[i], str(found.final_losses[i]), _chance(found.probability_best[i])] for i in order]
    return "\n".join([aligned(rows, left=(0, 1)), *map(_speed_text, found.speed_ups)])


def _speed_text(up: SpeedUp) -> str:
    if up.factor.mid == 0.0:
        return f"{up.fast} does not surely get to where {up.slow} ends ({up.loss.short()}) by its own end."
    steps = thousands(round(float(up.steps.mid)))
    return f"{up.fast} gets to where {up.slow} ends ({up.loss.short()}) after {steps} steps: {up.factor} times faster."


def _stop_row(stop: Stop) -> list[str]:
    if stop.step is None:
        return [stop.label, "-", "-", stop.outcome.value]
    given = "" if math.isnan(stop.given_up) or stop.outcome is not Outcome.FALSE_STOP else f", {stop.given_up:.2g} lost"
    return [stop.label, thousands(stop.step), _percent(stop.saved), f"{stop.outcome.value}{given}"]


def _inside(look: Look, found: Replay) -> str:
    if not look.usable or math.isnan(found.truth):
        return ""
    return "yes" if holds(look.final_loss, found.truth) else "no"


def _percent(share: float) -> str:
    return "-" if math.isnan(share) else f"{100.0 * share:.0f} %"


def _chance(p: float) -> str:
    return "below 1 %" if p < 0.01 else "above 99 %" if p > 0.99 else f"{100.0 * p:.0f} %"


def _number(x: float) -> str:
    return f"{x:.4g}"
