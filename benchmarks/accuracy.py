"""How good are the forecasts on finished runs, beside what others would have said?

    python benchmarks/accuracy.py --curves DIR                      # all methods; prints the tables
    python benchmarks/accuracy.py --curves DIR --out docs/accuracy.md   # and writes the page with its pictures
    python benchmarks/accuracy.py --curves DIR --held-out           # the same of held-out losses

DIR holds ``<id>.csv`` files (``step,loss[,lr]``), your own finished runs for example, with or without an ``index.json``
(see `benchmarks.curves`); an ``about.md`` there tells the page where they are from. The same input gives the same page,
but for the measured times.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from time import perf_counter

if not __package__:
    # Run as a file: the repository is one folder up.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
# Times are for one core, and BLAS threads only get in each other's way on systems this small; set before NumPy loads.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

from benchmarks import lc_pfn  # noqa: E402
from benchmarks.baselines import LAST_VALUE, METHODS, Method  # noqa: E402
from benchmarks.curves import FRACTIONS, RunCurve, Task, about, load_curves, make_tasks  # noqa: E402
from benchmarks.ours import NAME, ours  # noqa: E402
from benchmarks.page import write_page  # noqa: E402
from benchmarks.scores import Score, score  # noqa: E402
from benchmarks.tables import method_tables  # noqa: E402

ALL_METHODS: Mapping[str, Method] = {NAME: ours, **METHODS}

_HELD_OUT = (
    "**Held-out losses.** On this page (written with `--held-out`) the losses are those of evaluations on held-out "
    "data, where the runs logged them; the learning rates are those of the runs."
)

_WARM: set[str] = set()


def evaluate(
    curves: Sequence[RunCurve],
    methods: Sequence[str],
    fractions: Sequence[float],
    jobs: int = 1,
    others: Mapping[str, Method] | None = None,
) -> list[Score]:
    """Score methods on every curve at every fraction, in the order methods, curves, fractions.

    Args:
        curves: Finished runs.
        methods: Names out of `ALL_METHODS` and others.
        fractions: Shares of the run that are seen, in (0, 1).
        jobs: Processes; with more than one the times are those of a busy machine.
        others: Methods that need more than this repository.
    """
    known = {**ALL_METHODS, **(others or {})}
    work = partial(_scores_of_curve, methods={name: known[name] for name in methods}, fractions=fractions)
    if jobs == 1:
        nested = [work(curve) for curve in curves]
    else:
        # Fresh processes rather than forks: a fork of a process with threads (torch's, in a test run) can deadlock.
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            nested = list(pool.map(work, curves))
    place = {name: i for i, name in enumerate(methods)}
    return sorted((s for scores in nested for s in scores), key=lambda s: place[s.method])


def _scores_of_curve(curve: RunCurve, methods: Mapping[str, Method], fractions: Sequence[float]) -> list[Score]:
    tasks = make_tasks([curve], fractions)
    return [_timed(task, name, method) for name, method in methods.items() for task in tasks]


def _timed(task: Task, name: str, method: Method) -> Score:
    if name not in _WARM:
        # The first call of a process imports and fills caches; that is not the cost of a forecast.
        method(task)
        _WARM.add(name)
    start = perf_counter()
    prediction = method(task)
    return score(task, name, prediction, perf_counter() - start)


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, score, print, write."""
    parser = _parser()
    options = parser.parse_args(arguments)
    others: dict[str, Method] = {}
    notes = []
    chosen = options.methods or [*ALL_METHODS, *([lc_pfn.NAME] if options.lc_pfn else [])]
    if lc_pfn.NAME in chosen:
        if options.lc_pfn is None:
            parser.error(f"Expected --lc-pfn WEIGHTS for {lc_pfn.NAME}, got none. See benchmarks/lc_pfn.py.")
        try:
            notes.append(lc_pfn.describe(options.lc_pfn))
        except (FileNotFoundError, ModuleNotFoundError) as error:
            parser.error(str(error))
        others[lc_pfn.NAME] = partial(lc_pfn.predict, weights=options.lc_pfn)
    methods = list(dict.fromkeys([*chosen, LAST_VALUE]))
    curves = load_curves(options.curves, held_out=options.held_out)
    scores = evaluate(curves, methods, options.fractions, options.jobs, others)
    if not any(s.horizon_known for s in scores):
        print("No curve has a known horizon and 10 points before a cut: nothing to score.", file=sys.stderr)
        return 1
    for text in (*notes, *(table.markdown() for table in method_tables(scores))):
        print(text)
    if options.out is not None:
        if options.held_out:
            notes.insert(0, _HELD_OUT)
        write_page(options.out, curves, scores, highlight=methods[0], notes=notes, about=about(options.curves))
        print(f"Wrote {options.out}")
    if options.scores is not None:
        options.scores.write_text(json.dumps([asdict(s) for s in scores], indent=0) + "\n", encoding="utf-8")
        print(f"Wrote {options.scores}")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True, help="folder of finished runs")
    parser.add_argument("--out", type=Path, help="markdown page to write; its pictures go to img/ beside it")
    parser.add_argument("--held-out", action="store_true", help="score the held-out losses, <id>.val.csv, instead")
    parser.add_argument("--scores", type=Path, help="JSON file for every single score")
    names = [*ALL_METHODS, lc_pfn.NAME]
    parser.add_argument("--methods", nargs="+", choices=names, help="default: all there are", metavar="METHOD")
    parser.add_argument("--lc-pfn", type=Path, help=f"weights for {lc_pfn.NAME}, see lc_pfn.py", metavar="WEIGHTS")
    parser.add_argument("--fractions", nargs="+", type=_fraction, default=list(FRACTIONS), metavar="F")
    parser.add_argument("--jobs", type=int, default=1, help="processes (times are honest only with 1)")
    return parser


def _fraction(text: str) -> float:
    value = float(text)
    if not 0.0 < value < 1.0:
        raise argparse.ArgumentTypeError(f"expected a share of the run between 0 and 1, got {text}")
    return value


if __name__ == "__main__":
    sys.exit(main())
