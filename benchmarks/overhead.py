"""What does the monitor cost? Time per step, refits, memory, bytes in a checkpoint.

    python benchmarks/overhead.py                               # prints the tables
    python benchmarks/overhead.py --out docs/performance.md     # and writes the page
    python benchmarks/overhead.py --quick                       # whether it runs; the figures mean nothing

It takes some minutes on two cores; other work on the machine shows in the spread. What a GPU sees of it is measured by
``benchmarks/gpu_overhead.py``.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

if not __package__:
    # Run as a file: the repository is one folder up.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# One thread, as in `accuracy.py`; set before NumPy loads.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from benchmarks.footprint import VALIDATIONS, Held, Refits, measure_memory, measure_refits  # noqa: E402
from benchmarks.tables import Table  # noqa: E402
from benchmarks.turns import (  # noqa: E402
    ALONE,
    EMPTY,
    LOG,
    OURS,
    QUICK,
    SHORT,
    TOGETHER,
    Difference,
    Times,
    measure,
    measure_ranks,
)

#: The bars: per step above an empty callback, 25 µs on a machine where one self.log costs 300, so as a share of that;
#: the same across ranks; refits as a share of the wall time; bytes in a checkpoint; bytes by which memory may differ
#: between the first mark and the last.
STEP_SHARE, LOG_SHARE, REFIT_SHARE, STATE, GROWTH = 25.0 / 300.0, 0.1, 0.002, 256 * 1024, 2 * 1024**2
#: Length of a step by which the share of the refits is judged [s], and of the run [steps].
STEP_S, RUN = 0.05, 10_000

_SHORT = f"a run of {SHORT.planned:,} steps".replace(",", " ")

_LENGTHS = (300, 1_000, 3_000, 5_000, RUN, 100_000)
_MARKS = (10_000, 100_000, 1_000_000, 10_000_000)

_PAGE = """\
# What the monitor costs

Written by `python benchmarks/overhead.py --out docs/performance.md`, on a machine with {machine}.

{tables}"""


@dataclass(frozen=True)
class Measured:
    """All that was measured; refits and memory in the order of the length of the run."""

    alone: Times
    short: Times
    together: Times
    refits: Sequence[Refits]
    memory: Sequence[Held]


def measure_all(*, quick: bool = False) -> Measured:
    """Measure everything, one after the other."""
    lengths, marks, validated = ((RUN,), (500, 2_000), 300) if quick else (_LENGTHS, _MARKS, RUN)
    measure_refits(100)  # the first fits of a process are slow
    plain = [measure_refits(steps) for steps in lengths]
    return Measured(
        measure(QUICK if quick else ALONE),
        measure(QUICK if quick else SHORT),
        measure_ranks(QUICK if quick else TOGETHER),
        [*plain, measure_refits(validated, validations=VALIDATIONS)],
        measure_memory(marks),
    )


def tables(found: Measured) -> list[Table]:
    """Return the tables of the page, that of the bars first."""
    return [
        bar_table(found),
        step_table(found.alone, "Microseconds per optimizer step, one process", LOG),
        step_table(found.short, f"The same in {_SHORT}", LOG),
        step_table(found.together, "Microseconds per optimizer step, two gloo ranks", f"{LOG}(sync_dist=True)"),
        refit_table(found.refits),
        memory_table(found.memory),
    ]


def bar_table(found: Measured) -> Table:
    """Return what was aimed at beside what was measured."""
    every = (found.alone, found.short, found.together)
    alone, short, together = (times.above(OURS) for times in every)
    log_alone, log_short, log_together = (times.above(LOG) for times in every)
    [refits] = [r for r in found.refits if r.steps == RUN and not r.validations]
    share, state = refits.share(STEP_S), max(held.state for held in found.memory)
    first, last = found.memory[0], found.memory[-1]
    growth = last.held - first.held
    rows = (
        (
            "per step above an empty callback, one process, beside self.log: 25 µs where that costs 300",
            "a twelfth",
            f"{_error(alone)} µs of {log_alone.value:.0f} µs",
            found.alone.above_share(OURS, STEP_SHARE, LOG).verdict(0.0),
        ),
        (
            f"the same in {_SHORT}, whose losses are fetched at every hundredth of it",
            "a twelfth",
            f"{_error(short)} µs of {log_short.value:.0f} µs",
            found.short.above_share(OURS, STEP_SHARE, LOG).verdict(0.0),
        ),
        (
            "the same, two gloo ranks, beside self.log(sync_dist=True)",
            "a tenth",
            f"{_error(together)} µs of {log_together.value:.0f} µs",
            found.together.above_share(OURS, LOG_SHARE, LOG).verdict(0.0),
        ),
        (
            f"refits, run of {_count(RUN)} steps of {1e3 * STEP_S:.0f} ms",
            f"{100 * REFIT_SHARE:.1f} %",
            f"{100 * share:.3f} %",
            _met(share, REFIT_SHARE),
        ),
        ("state in a checkpoint", f"{STATE / 1024:.0f} KiB", f"{state / 1024:.0f} KiB", _met(state, STATE)),
        (
            f"memory held at step {_count(last.step)} above that at step {_count(first.step)}",
            f"{GROWTH / 1024:.0f} KiB",
            f"{growth / 1024:+.0f} KiB",
            _met(growth, GROWTH),
        ),
    )
    note = (
        "At most this, and what was measured, times with their standard errors. Less than two of them from the bar is "
        "not settled: measure again, on a machine with nothing else to do."
    )
    return Table("The bars", note, ("what", "bar", "measured", ""), rows)


def _met(value: float, bar: float) -> str:
    return "met" if value <= bar else "missed"


def _error(x: Difference) -> str:
    return f"{x.value:.1f} ± {x.error:.1f}"


def step_table(times: Times, title: str, log: str) -> Table:
    """Return the time of a step of each variant, and how far it is above an empty callback."""
    rows = []
    for name in times.wall:
        above = [f"{x.value:+.1f} ± {x.error:.1f}" for x in (times.above(name), times.above(name, busy=True))]
        rows.append((log if name == LOG else name, f"{times.step(name):.0f}", *(["–"] * 2 if name == EMPTY else above)))
    rounds, places = times.wall[EMPTY].shape
    note = (
        f"All take turns in random order, in {rounds} rounds of {places} steps each, which all do the same things at "
        "the same places: ours fetches its losses, loggers write now and then. The time of a step is the mean over the "
        "places of the median over the rounds, of differences within a round where two are compared, the error that of "
        "a bootstrap over rounds. The refits of ours are counted below. The processor time is that of the thread that "
        "trains: no waiting, be it for other ranks or other programs."
    )
    header = ("variant", "step [µs]", "above an empty callback [µs]", "processor time [µs]")
    return Table(title, note, header, tuple(rows))


def refit_table(found: Sequence[Refits]) -> Table:
    """Return what the refits of whole runs take, with the other ways to go on that are compared at their quarters."""
    rows = []
    for r in found:
        total = sum(r.seconds)
        cells = (f"{len(r.seconds)}", f"{total:.2f}", f"{1e3 * total / len(r.seconds):.1f}")
        rows.append((_count(r.steps), f"{r.validations or '–'}", *cells, f"{100 * r.share(STEP_S):.3f} %"))
    enough = [r.steps for r in found if not r.validations and r.share(STEP_S) <= REFIT_SHARE]
    most = max(sum(r.seconds) for r in found if not r.validations)
    few = f"Within {100 * REFIT_SHARE:.1f} % from {_count(min(enough))} steps on" if enough else ""
    within = f"{few}, for the training loss alone. " if few else ""
    note = (
        "Processor time of all refits of a run with the default of at most 40, and of the other ways to go on that "
        f"are compared at its quarters, as a share of its wall time at {1e3 * STEP_S:.0f} ms per step. {within}"
        f"No run pays more than {most:.2f} s in all for the training loss; "
        "with validations the validation loss is forecast as well."
    )
    header = ("steps", "validations", "refits", "all [s]", "one [ms]", f"share at {1e3 * STEP_S:.0f} ms")
    return Table("Refits", note, header, tuple(rows))


def memory_table(found: Sequence[Held]) -> Table:
    """Return what is held along one run."""
    rows = tuple(
        (_count(h.step), f"{h.held / 1024:.0f}", f"{h.state / 1024:.0f}", f"{h.resident / 1024**2:.0f}") for h in found
    )
    note = (
        f"One run of {_count(found[-1].step)} steps with {VALIDATIONS} validations. Held: all objects that can be "
        "reached from the training loss and the validation loss, their newest forecasts included. The whole process "
        "holds Python, torch and NumPy as well."
    )
    return Table("Memory", note, ("step", "held [KiB]", "in a checkpoint [KiB]", "whole process [MiB]"), rows)


def machine() -> str:
    """Return what the figures depend on, in words."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning", "numpy", "scipy"))
    load = f"; load average at the start {os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else ""
    return f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, {packages}{load}"


def _count(n: int) -> str:
    return f"{n:,}".replace(",", " ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="markdown page to write")
    parser.add_argument("--quick", action="store_true", help="a few steps of each, to see that it runs")
    options = parser.parse_args(arguments)
    where = machine()
    text = "\n".join(table.markdown() for table in tables(measure_all(quick=options.quick)))
    print(f"{where}\n\n{text}")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(_PAGE.format(machine=where, tables=text), encoding="utf-8")
        print(f"Wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
