"""How good are the decisions: what is stopped, what is spared, and which run of a pool is left in the end?

    python benchmarks/decisions.py --curves DIR                             # prints the bars and the tables
    python benchmarks/decisions.py --curves DIR --out docs/decisions.md     # and writes the page with its picture

DIR holds ``<id>.csv`` files (``step,loss[,lr]``), your own finished runs for example, with or without an ``index.json``
(see `benchmarks.curves`). Each look at a run is forecast once, however many rules are tried. The same input gives the
same page.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

if not __package__:
    # Run as a file: the repository is one folder up.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from benchmarks.curves import RunCurve, about, load_curves  # noqa: E402
from benchmarks.decisions_cases import Case  # noqa: E402
from benchmarks.decisions_page import Findings, left_out, pool_tables, stop_tables, write_page  # noqa: E402
from benchmarks.decisions_pools import PARTS, play, pools_of  # noqa: E402
from benchmarks.decisions_rivals import by_rivals  # noqa: E402
from benchmarks.decisions_rules import by_rules  # noqa: E402
from benchmarks.decisions_tables import alarms, bars, duels  # noqa: E402


def decide(curves: Sequence[RunCurve], n_parts: int = PARTS) -> Findings:
    """Try all rules on every run with a known planned end, and all strategies on every pool of them.

    Args:
        curves: Finished runs.
        n_parts: Random parts of each pool.
    """
    cases = [case for run in curves if run.horizon_known and (case := Case.of(run)) is not None]
    decisions = [d for case in cases for d in (*by_rules(case), *by_rivals(case))]
    return Findings(curves, cases, decisions, play(pools_of(cases), n_parts))


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, decide, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True, help="folder of finished runs")
    parser.add_argument("--out", type=Path, help="markdown page to write; its picture goes to img/ beside it")
    parser.add_argument("--parts", type=int, default=PARTS, help="random parts of each pool")
    options = parser.parse_args(arguments)
    found = decide(load_curves(options.curves), options.parts)
    if not found.cases:
        print("No run has a known planned end and a loss that fell: nothing to decide.", file=sys.stderr)
        return 1
    for text in (*left_out(found), *(table.markdown() for table in stop_tables(found)), alarms(found.decisions)):
        print(text)
    for text in (*duels(found.played), *(table.markdown() for table in pool_tables(found))):
        print(text)
    for bar in bars(found.decisions):
        side = "at most" if bar.most else "at least"
        print(f"{bar.verdict}: {bar.what} {100.0 * bar.figure:.1f} %, {side} {100.0 * bar.bar:.1f} % ({bar.among})")
    if options.out is not None:
        write_page(options.out, found, options.parts, about(options.curves))
        print(f"Wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
