"""The tables of the decisions page, and its bars: pure functions from what was decided to rows of text."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.decisions_cases import CONSTANT, FALLS, GAINS, UNKNOWN
from benchmarks.decisions_pools import Played
from benchmarks.decisions_rules import ADVICE, CONFIDENCES, Decision, name_of
from benchmarks.decisions_strategies import HALVING, HALVING_OURS, MEDIAN, ONCE_OURS, ONCE_PRESENT, OURS
from benchmarks.summaries import finite_mean
from benchmarks.tables import Table
from lightning_scaling import Converged, TargetUnreachable

#: The rule that the bars are set for, and the bars: most false stops, least steps saved.
JUDGED = name_of(TargetUnreachable, 0.95)
MOST_FALSE, LEAST_SAVED = 1.0 / 20.0, 1.0 / 3.0
#: Places of the targets that are missed by 0.05 nats or more, and of those that are made.
_FAR, _MADE = (-2.0, -3.0), (1.0, 2.0, 3.0)


@dataclass(frozen=True)
class Bar:
    """One figure beside what it should be.

    Attributes:
        what: What is counted.
        among: Which runs, and how they are averaged.
        figure: What came out, NaN where there is nothing to count [1].
        bar: What it should be, at most or at least [1].
        most: Whether the bar is an upper one.
    """

    what: str
    among: str
    figure: float
    bar: float
    most: bool

    @property
    def verdict(self) -> str:
        """Whether it is met."""
        if math.isnan(self.figure):
            return "nothing to count"
        met = self.figure <= self.bar if self.most else self.figure >= self.bar
        return "met" if met else "missed"


def false_share(decisions: Iterable[Decision], *, groups: bool = False) -> float:
    """Return the share of false stops among targets that the runs made."""
    return _mean([d for d in decisions if d.place in _MADE], lambda d: d.false, groups)


def saved_share(decisions: Iterable[Decision], *, places: Sequence[float] = _FAR, groups: bool = False) -> float:
    """Return the mean share of the steps saved where the target was missed, by default by 0.05 nats or more."""
    return _mean([d for d in decisions if d.place in places], lambda d: d.saved, groups)


def bars(decisions: Sequence[Decision]) -> list[Bar]:
    """Return the figures of `TargetUnreachable` at 95 % beside their bars, of all runs and where the rate is known."""
    mine = [d for d in decisions if d.rule == JUDGED]
    found = []
    for who, chosen in (("all runs", mine), ("learning rate ahead known", [d for d in mine if d.known])):
        for how, groups in (("pooled", False), ("mean over sources", True)):
            among = f"{who}, {how}"
            found.append(Bar("false stops", among, false_share(chosen, groups=groups), MOST_FALSE, most=True))
            found.append(Bar("steps saved", among, saved_share(chosen, groups=groups), LEAST_SAVED, most=False))
    return found


def bar_table(decisions: Sequence[Decision]) -> Table:
    """Return the bars, met or missed."""
    mine = [d for d in decisions if d.rule == JUDGED]
    where = {CONSTANT: "at a constant rate", FALLS: "where the rate falls", UNKNOWN: "where it is not known"}
    where = {rate: words for rate, words in where.items() if any(d.rate == rate for d in mine)}
    rows = [
        (
            f"{b.what}, {b.among}",
            _percent(b.figure),
            f"{'at most' if b.most else 'at least'} {_percent(b.bar)}",
            b.verdict,
        )
        for b in bars(decisions)
    ]
    note = (
        f"{JUDGED}, as a monitor acts. False stops: among targets above where the run ended. Steps saved: mean over "
        "targets that the run missed by 0.05 nats or more, 0 where it did not stop: "
        f"{'; '.join(f'{_percent(saved_share(d for d in mine if d.rate == r))} {w}' for r, w in where.items())}."
    )
    return Table("Bars", note, ("what", "figure", "bar", ""), tuple(rows))


def rule_table(title: str, decisions: Sequence[Decision]) -> Table:
    """Return what each rule did to targets that were made and missed."""
    mine = [d for d in decisions if d.aim == "target"]
    rows = []
    for rule in _in_order(d.rule for d in mine):
        here = [d for d in mine if d.rule == rule]
        made = [d for d in here if d.place in _MADE]
        far = [d for d in here if d.place in _FAR]
        rows.append(
            (
                rule,
                f"{sum(d.false for d in made)} of {len(made)}",
                _percent(false_share(here)),
                _percent(false_share(here, groups=True)),
                str(len({d.run for d in made if d.false})),
                _percent(_mean(far, lambda d: d.stopped is not None, False)),
                _percent(saved_share(here)),
                _percent(saved_share(here, groups=True)),
                _percent(saved_share(here, places=(-1.0,))),
            )
        )
    header = (
        *("rule", "false stops", "pooled", "over sources", "runs with one", "far misses stopped"),
        *("steps saved, pooled", "over sources", "near misses"),
    )
    note = (
        "False stops among targets that the run would have made; runs with at least one of these. Steps saved among "
        "targets missed by 0.05 nats or more (far), and by 0.02 (near)."
    )
    return Table(title, note, header, tuple(rows))


def place_table(decisions: Sequence[Decision], distances: Sequence[float]) -> Table:
    """Return false stops and steps saved by how far the target lies from where the run ended."""
    mine = [d for d in decisions if d.aim == "target"]
    rows = []
    for rule in _in_order(d.rule for d in mine):
        here = [d for d in mine if d.rule == rule]
        saved = [_percent(saved_share(here, places=(place,))) for place in (-3.0, -2.0, -1.0)]
        false = [_percent(_mean([d for d in here if d.place == p], lambda d: d.false, False)) for p in _MADE]
        rows.append((rule, *saved, *false))
    header = ("rule", *(f"saved, {-d:+g}" for d in distances[::-1]), *(f"false, {d:+g}" for d in distances))
    note = "Target minus end, in nats (for runs that are no language models 1, 2 and 4 % of the fall); pooled."
    return Table("By the distance of the target", note, header, tuple(rows))


def breakdown(decisions: Sequence[Decision], rules: Sequence[str], key: Callable[[Decision], str], name: str) -> Table:
    """Return false stops and steps saved of some rules in each source, or for each kind of schedule."""
    rows = []
    for value in _in_order(key(d) for d in decisions):
        here = [d for d in decisions if key(d) == value and d.aim == "target"]
        cells = []
        for rule in rules:
            mine = [d for d in here if d.rule == rule]
            cells.append(f"{_percent(false_share(mine))} / {_percent(saved_share(mine))}")
        rows.append((value, str(len({d.run for d in here})), str(len({d.run for d in here if d.known})), *cells))
    note = "False stops / steps saved where the target is missed by 0.05 nats or more."
    return Table(f"By {name}", note, (name, "runs", "rate known", *rules), tuple(rows))


def run_table(decisions: Sequence[Decision]) -> Table:
    """Return every run: where the judged rule stopped it for each target, and where it would have by advice alone."""
    rows = []
    for run in _in_order(d.run for d in decisions):
        here = [d for d in decisions if d.run == run and d.aim == "target"]
        cells = []
        for rule in (JUDGED, JUDGED + ADVICE):
            at = {d.place: d for d in here if d.rule == rule}
            cells.append(" ".join(_where(at.get(float(place))) for place in (-3, -2, -1, 1, 2, 3)))
        known = any(d.known for d in here)
        rows.append((run, "yes" if known else "no", *cells))
    note = (
        "Share of the run at the stop, in %, for targets far, middle, near below and near, middle, far above its end; "
        "– not stopped, `*` a false stop, a blank target (·) lies below 0 and is not asked."
    )
    return Table("Every run, at 95 %", note, ("run", "rate known", "as it acts", "advice alone"), tuple(rows))


def false_table(decisions: Sequence[Decision]) -> Table:
    """Return every false stop of the package's rules at 95 %."""
    names = [name_of(rule, 0.95) + how for rule in (TargetUnreachable, Converged) for how in ("", ADVICE)]
    rows = [
        (d.run, d.rule, f"{d.worth:.4g}", f"{100.0 * d.stopped:.0f} %", f"{d.left:.4g}", "yes" if d.known else "no")
        for name in names
        for d in decisions
        if d.rule == name and d.false and d.stopped is not None
    ]
    header = ("run", "rule", "target above the end, or gain", "stopped at", "still fell by", "rate known")
    note = (
        "Every one. A run was to end above its target or to gain no more than it is worth, and did not: in the unit of "
        "the loss. What it still fell by is the mean of 2 % of its steps around the stop less that of its last 2 %, so "
        "it has the noise of both."
    )
    return Table("False stops at 95 %", note, header, tuple(rows))


def gain_table(decisions: Sequence[Decision]) -> Table:
    """Return what each rule did that asks what is still to be gained."""
    mine = [d for d in decisions if d.aim == "gain"]
    rows = []
    for rule in _in_order(d.rule for d in mine):
        cells = []
        for gain in GAINS:
            here = [d for d in mine if d.rule == rule and d.place == gain]
            stopped = sum(d.stopped is not None for d in here)
            cells += [
                f"{stopped}",
                f"{sum(d.false for d in here)}",
                _percent(_mean(here, lambda d: d.saved, False)),
                _percent(_mean(here, lambda d: d.saved, True)),
            ]
        rows.append((rule, *cells))
    header = (
        "rule",
        *(f"{100.0 * g:.0f} %: {what}" for g in GAINS for what in ("stops", "false", "saved", "over sources")),
    )
    n_runs = len({d.run for d in mine})
    note = (
        f"Of {n_runs} runs, for a smallest gain of 1, 2 and 5 % of the fall of the loss: how many were stopped, in how "
        "many the loss still fell by more, and the mean share of the steps saved, false stops counted in."
    )
    return Table("`Converged`", note, header, tuple(rows))


def alarms(decisions: Sequence[Decision]) -> str:
    """Return in words how often `Diverged` stopped runs, none of which broke."""
    mine = [d for d in decisions if d.aim == "diverged" and not d.rule.endswith(ADVICE)]
    said = [d for d in decisions if d.aim == "diverged" and d.rule.endswith(ADVICE) and d.stopped is not None]
    stopped = [d.run for d in mine if d.stopped is not None]
    advice = f", and advised it at one look in {len(said)} ({', '.join(d.run for d in said)})" if said else ""
    names = f" ({', '.join(stopped)})" if stopped else ""
    return f"`Diverged` stopped {len(stopped)} of {len(mine)} runs that went to their end{names}{advice}.\n"


def pool_table(title: str, played: Sequence[Played]) -> Table:
    """Return what each strategy made of the pools of one kind, each pool with its parts counting once."""
    rows = []
    for strategy in _in_order(p.strategy for p in played):
        mine = [p for p in played if p.strategy == strategy]
        lost, regret, saved = pool_means(mine)
        worst = max(p.outcome.regret for p in mine)
        rows.append((strategy, _percent(lost), f"{regret:.3g}", f"{worst:.3g}", _percent(saved)))
    n_pools, n_parts = len({p.pool for p in played}), len(played) // max(len({p.strategy for p in played}), 1)
    note = (
        f"{n_pools} pools, with their parts {n_parts}; each pool with its parts counts once. Best killed: no run is "
        "left that ends within 0.005 nats of the best (for runs that are no language models 0.25 % of the fall). "
        "Regret: loss taken home minus that of the best run, mean and worst [unit of the loss]."
    )
    header = ("strategy", "best killed", "regret", "worst regret", "steps saved")
    return Table(title, note, header, tuple(rows))


def each_pool_table(played: Sequence[Played]) -> Table:
    """Return what the main strategies made of each pool and its parts."""
    chosen = {
        "ours, below 5 %": OURS,
        "ours, better half": HALVING_OURS,
        "successive halving": HALVING,
        "median rule": MEDIAN,
    }
    rows = []
    for pool in _in_order(p.pool + p.kind for p in played):
        mine = [p for p in played if p.pool + p.kind == pool]
        cells = []
        for strategy in chosen.values():
            lost, regret, saved = pool_means([p for p in mine if p.strategy == strategy])
            cells.append(f"{_percent(lost)} / {regret:.3g} / {_percent(saved)}")
        n_parts = sum(p.strategy == OURS for p in mine)
        rows.append((f"{mine[0].pool}, {mine[0].kind}", str(max(p.n_runs for p in mine)), str(n_parts), *cells))
    note = "Best killed / regret / steps saved, mean over the pool and its parts."
    return Table("By pool", note, ("pool", "runs", "with parts", *chosen), tuple(rows))


def duels(played: Sequence[Played]) -> list[str]:
    """Return in words where forecasts chose better than present losses and where worse, at equal cost; none: empty."""
    pairs = (("The better half", HALVING_OURS, HALVING), ("The best at 30 %", ONCE_OURS, ONCE_PRESENT))
    lines = []
    for what, ours, theirs in pairs:
        at = {p: [q for q in played if (q.pool, q.kind) == p] for p in _in_order((q.pool, q.kind) for q in played)}
        gap = {
            f"{pool} ({kind})": pool_means([p for p in mine if p.strategy == ours])[1]
            - pool_means([p for p in mine if p.strategy == theirs])[1]
            for (pool, kind), mine in at.items()
        }
        worse = [f"{pool}, by {by:.3g}" for pool, by in gap.items() if by > 1e-9]
        better = sum(by < -1e-9 for by in gap.values())
        named = f": {'; '.join(worse)}" if worse else ""
        lines.append(
            f"{what} by forecast instead of by present loss, at equal cost: less regret in {better} of {len(gap)} "
            f"pools, the same in {len(gap) - better - len(worse)}, more in {len(worse)}{named}.\n"
        )
    return lines if played else []


def pool_means(played: Sequence[Played]) -> tuple[float, float, float]:
    """Return how often the best was killed, the regret, and the steps saved; each pool with its parts counts once."""
    pools = _in_order(p.pool for p in played)
    outcomes = [[p.outcome for p in played if p.pool == pool] for pool in pools]
    lost = finite_mean(finite_mean(o.lost for o in part) for part in outcomes)
    regret = finite_mean(finite_mean(o.regret for o in part) for part in outcomes)
    saved = finite_mean(finite_mean(o.saved for o in part) for part in outcomes)
    return lost, regret, saved


def curve_points(decisions: Sequence[Decision], suffix: str = "") -> list[tuple[float, float]]:
    """Return (false stops, steps saved) of `TargetUnreachable` at each confidence, pooled, for the picture."""
    found = []
    for confidence in CONFIDENCES:
        mine = [d for d in decisions if d.rule == name_of(TargetUnreachable, confidence) + suffix]
        found.append((false_share(mine), saved_share(mine)))
    return found


def _mean(decisions: Sequence[Decision], value: Callable[[Decision], float], groups: bool) -> float:
    """Return the mean of a value over decisions, or over sources of their means; NaN of none."""
    if not groups:
        return finite_mean(float(value(d)) for d in decisions)
    names = _in_order(d.group for d in decisions)
    return finite_mean(finite_mean(float(value(d)) for d in decisions if d.group == name) for name in names)


def _where(found: Decision | None) -> str:
    if found is None:
        return "·"
    return "–" if found.stopped is None else f"{100.0 * found.stopped:.0f}{'*' * found.false}"


def _percent(value: float) -> str:
    return "–" if math.isnan(value) else f"{100.0 * value:.1f} %"


def _in_order(values: Iterable[Any]) -> list[Any]:
    return list(dict.fromkeys(values))
