"""What do finished runs bring to the forecast of another?

    python -m benchmarks.borrowing --curves DIR                            # prints the tables
    python -m benchmarks.borrowing --curves DIR --out docs/borrowing.md    # and writes the page with its picture
    python -m benchmarks.borrowing --curves DIR --group NAME --target REGEX --store REGEX    # a question of your own

DIR holds finished runs as `benchmarks.curves` reads them. A run is forecast twice, without a store and with one of
other runs, which never holds the run itself nor one that begins with the very same losses. REGEX is searched for in the
names of the runs: ``--target 1B --store '100M|300M'``.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from benchmarks.borrowing_page import cost_table, tables, write_page  # noqa: E402
from benchmarks.curves import load_curves  # noqa: E402
from benchmarks.lending import FRACTIONS, QUESTIONS, STORES, Finished, Question, ask, costs, within  # noqa: E402


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, forecast, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True, help="folder of finished runs")
    parser.add_argument("--out", type=Path, help="markdown page to write; its picture goes to img/ beside it")
    parser.add_argument("--group", help="source of the runs of a question of your own", metavar="NAME")
    parser.add_argument("--target", default="", help="names of the runs to forecast", metavar="REGEX")
    parser.add_argument("--store", default="", help="names of the runs to borrow from", metavar="REGEX")
    parser.add_argument(
        "--warm-up", type=int, default=0, help="linear warm-up that its logs begin after", metavar="STEPS"
    )
    parser.add_argument("--fractions", nargs="+", type=_fraction, default=list(FRACTIONS), metavar="F")
    parser.add_argument("--stores", nargs="*", type=int, default=list(STORES), help="runs in the stores that are timed")
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    options = parser.parse_args(arguments)
    runs = [Finished.of(run) for run in load_curves(options.curves) if run.horizon_known]
    questions: Sequence[Question] = QUESTIONS
    if options.group is not None:
        title = f"{options.group}: '{options.target}' from '{options.store}'"
        questions = [within(options.group, options.target, options.store, title, options.warm_up)]
    pairs = ask(questions, runs, options.fractions, options.jobs)
    if not pairs:
        names = sorted({run.group for run in runs})
        print(f"Nothing to forecast: no run has others to borrow from. Groups here: {names}.", file=sys.stderr)
        return 1
    times = costs(options.stores)
    for table in (*tables(pairs), *([cost_table(times)] if times else [])):
        print(table.markdown())
    if options.out is not None:
        write_page(options.out, pairs, times)
        print(f"Wrote {options.out}")
    return 0


def _fraction(text: str) -> float:
    value = float(text)
    if not 0.0 <= value < 1.0:
        raise argparse.ArgumentTypeError(f"expected a share of the run from 0 to below 1, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
