"""Write the decisions page: words, picture, tables, and at its end every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from textwrap import fill

from benchmarks.curves import RunCurve
from benchmarks.decisions_cases import NATS, Case, is_language_model
from benchmarks.decisions_pictures import draw
from benchmarks.decisions_pools import OTHER, SAME, Played
from benchmarks.decisions_rivals import LAST_AT_HALF, PATIENCE, POWER_AT_HALF, early_stopping
from benchmarks.decisions_rules import ADVICE, Decision
from benchmarks.decisions_tables import (
    JUDGED,
    alarms,
    bar_table,
    breakdown,
    duels,
    each_pool_table,
    false_table,
    gain_table,
    place_table,
    pool_table,
    rule_table,
    run_table,
)
from benchmarks.tables import Table

_INTRODUCTION = """\
# How good the decisions are

Written by `python benchmarks/decisions.py --curves DIR --out docs/{page}` from {n_runs} finished training runs of
{n_groups} sources with a known planned end, {n_language} of them language models. {about}

For your own: put one `<name>.csv` with the columns `step,loss` and,
if you have it, `lr` per finished run in a folder (with an `index.json` as `benchmarks/curves.py` describes it, or
without) and give that as DIR; targets are in nats where the index names a domain such as `LM pretraining`.
`lightning-scaling replay` tries rules on single logs of other formats ([command line](command_line.md)).

A forecast that is right to .01 nats is no use where the decision taken on it is wrong. So this page counts decisions:
runs that were stopped though they would have made it, steps saved on those that would not, and best runs killed.

**Steps, not hours.** The logs have no clock, so what is saved is counted in steps. Where a step takes the same time
throughout a run, that is its share of the hours too.

**Stop rules.** For each run there are six targets, {below} nats below and above where it ended (the mean
over its last 2 %): it missed three and made three. Where the index does not say that a language model was trained, they
lie 1, 2 and 4 % of the fall of the loss away instead, the fall being the first loss after 1 % of the steps less the
end; a target below 0 of a loss that is positive is not asked. Each rule goes through the run as a monitor would, with
`replay`: one forecast per look, which all rules share, and a second look soon after a stop is said.
*Advice alone* is the first look at which the rule says stop, whether or not a monitor would act on it.

**What was known** at each look: the losses so far, the planned length, and the learning rate of all steps where it was
logged ({n_logged} runs). Where it was not but the index calls the schedule constant, a constant one was handed in, as a
Trainer would have known it ({n_assumed} runs{assumed}). The other {n_unknown} runs{unknown} have schedules that nobody
can read off the log: there no rule acts, which counts as never stopped; the tables give the figures with and without
them. **What was not known:** other runs, other recipes, validation losses, the rest of the run.

**Simple rules** beside them: {simple}; a power law by least squares that lies above the target at 50 %, or at two
looks running, 5 % of the run apart, from a fifth of it on; and EarlyStopping with a patience of {patience} of the run
without a new best of the smoothed loss (mean over 2 % of the steps, `min_delta` 0). That one knows no target; it is not
charged with a false stop where it had made the target by then.

**Read with care.** The constants of the rules (the second look, the fifth of the run, what they allow for a decay) and
of the engine were chosen with the public runs that this project has in sight; the simple rules have no constants to
choose. Three targets of one run are not three runs, and runs of one source are no independent draws: hence the columns
"over sources", in which each of the {n_groups} counts once. No false stop among so few does not say that they are below
one in a hundred. A target 0.02 nats from the end lies within the noise of some ends.
"""

_POOLS = """\
## Picking the best run early

A pool is at least four runs of one source, run side by side. In those *{same}* all runs have the same length to 1 %. In
those *{other}* every run is at the same share of its own plan; a longer run then has the better end almost for
sure, and sources may hold runs on other data. Models of different sizes stay in one pool unless every size has four
runs. From each pool up to {n_parts} random parts of 4 to 8 runs were drawn with a fixed seed, so that the figures are
not those of one draw; parts of one pool share runs. Each run is forecast by itself, with no store, and the forecasts
are taken to err independently of each other. A step counts the same in a large model and in a small one.

Ours kills a run with a probability below 5 % to end best of those left, at 10, 20, 30, 50 and 70 %; a run without a
usable forecast is let go on. Where a strategy is to keep the better half by forecast and one run has no usable one, it
goes by the present loss, the mean over the last 2 % of the run's steps. The median rule kills, at the same five shares,
where the best smoothed loss so far lies above the median of the running averages of all, as it was published.
"""

_CANNOT = """\
## What this page cannot show

- **Runs that broke.** Logs of runs that broke are seldom published, and losses that are not finite are left out on
  reading. What `Diverged` does to them is in its tests.
- **Targets that people set.** Here they lie evenly on both sides of the end. Somebody who asks for the unreachable
  saves more; somebody who asks for what is easily reached is never stopped.
- **What a false stop costs.** It can be resumed from a checkpoint if somebody looks, and is a run lost if nobody does.
- **Other tasks.** {n_language} of the {n_runs} runs are language models. Few curves here have plateaus.
- **A search over hyper-parameters.** Pools are what the sources happen to hold: runs that differ by schedule, size,
  recipe or seed.
"""


@dataclass(frozen=True, eq=False)
class Findings:
    """All there is to show.

    Attributes:
        curves: The runs that were read, with and without a known planned end.
        cases: The runs that were asked about.
        decisions: What each rule did.
        played: What each strategy did; empty where no four runs are comparable.
    """

    curves: Sequence[RunCurve]
    cases: Sequence[Case]
    decisions: Sequence[Decision]
    played: Sequence[Played]


def stop_tables(found: Findings) -> list[Table]:
    """Return the tables of the stop rules but for the long ones."""
    decisions = found.decisions
    known = [d for d in decisions if d.known]
    n_all, n_known = (len({d.run for d in chosen}) for chosen in (decisions, known))
    chosen = [JUDGED, JUDGED + ADVICE, POWER_AT_HALF, early_stopping(PATIENCE[-1])]
    tables = [bar_table(decisions), rule_table(f"Targets: all {n_all} runs", decisions)]
    if 0 < n_known < n_all:
        tables.append(rule_table(f"Targets: the {n_known} runs whose learning rate ahead is known", known))
    by_source = breakdown(decisions, chosen, lambda d: d.group, "source")
    by_rate = breakdown(decisions, chosen, lambda d: d.rate, "learning rate ahead")
    return [*tables, place_table(decisions, NATS), by_source, by_rate, gain_table(decisions)]


def pool_tables(found: Findings) -> list[Table]:
    """Return the tables of the pools, none where there are none."""
    kinds = {kind: [p for p in found.played if p.kind == kind] for kind in (SAME, OTHER)}
    tables = [pool_table(f"Pools {kind}", played) for kind, played in kinds.items() if played]
    return [*tables, each_pool_table(found.played)] if tables else []


def write_page(path: Path, found: Findings, n_parts: int, about: str = "") -> None:
    """Write the page and its picture.

    Args:
        path: Markdown file; the picture goes to ``img/`` beside it.
        found: What to show.
        n_parts: Random parts of each pool.
        about: Where the curves are from.
    """
    pictures = path.parent / "img"
    pictures.mkdir(parents=True, exist_ok=True)
    name = f"{path.stem}_trade.png"
    draw(found.decisions, found.played, pictures / name)
    picture = f"![False stops against steps saved, and best runs killed against steps saved, by rule](img/{name})\n"
    pools = pool_tables(found)
    words = {"n_runs": len(found.cases), "n_language": sum(is_language_model(case.run) for case in found.cases)}
    parts = [
        _introduction(found, words, path.name, about),
        *left_out(found),
        picture,
        "## Stop rules\n",
        *map(Table.markdown, stop_tables(found)),
        alarms(found.decisions),
        *([_filled(_POOLS.format(same=SAME, other=OTHER, n_parts=n_parts))] if pools else []),
        *(duels(found.played) if pools else []),
        *map(Table.markdown, pools),
        _CANNOT.format(**words),
        "## In detail\n",
        *(table.markdown() for table in (false_table(found.decisions), run_table(found.decisions))),
    ]
    path.write_text("\n".join(parts), encoding="utf-8")


def left_out(found: Findings) -> list[str]:
    """Name the runs that were not asked about, so that none goes missing unseen."""
    asked = {case.run.id for case in found.cases}
    fallen = [run.id for run in found.curves if run.horizon_known and run.id not in asked]
    n_open = sum(not run.horizon_known for run in found.curves)
    lines = [f"{n_open} further runs have no known planned end and were not asked about.\n"] if n_open else []
    return [*lines, *([f"Left out, as their loss did not fall: {', '.join(fallen)}.\n"] if fallen else [])]


def _introduction(found: Findings, words: Mapping[str, int], page: str, about: str) -> str:
    cases = found.cases
    assumed = [case.run for case in cases if case.assumed]
    unknown = [case.run for case in cases if case.schedule is None]
    text = _INTRODUCTION.format(
        page=page,
        about=about,
        **words,
        n_groups=len({case.run.group for case in cases}),
        below=", ".join(f"{d:.2f}" for d in NATS[:-1]) + f" and {NATS[-1]:.2f}",
        n_logged=len(cases) - len(assumed) - len(unknown),
        n_assumed=len(assumed),
        assumed=f", of {_sources(assumed)}" if assumed else "",
        n_unknown=len(unknown),
        unknown=f" ({_sources(unknown)})" if unknown else "",
        simple=LAST_AT_HALF,
        patience=" and ".join(f"{100.0 * p:.0f} %" for p in PATIENCE),
    )
    return _filled(text)


def _filled(text: str) -> str:
    """Return paragraphs in lines of at most 120 characters, as numbers and names have changed their lengths."""
    parts = text.split("\n\n")
    return "\n\n".join(fill(part, 120, break_long_words=False, break_on_hyphens=False) for part in parts) + "\n"


def _sources(runs: Sequence[RunCurve]) -> str:
    return ", ".join(dict.fromkeys(run.group for run in runs))
