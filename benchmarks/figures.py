"""What do the live figures of `ScalingLawMonitor(figures=True)` cost?

    python benchmarks/figures.py                             # prints the table
    python benchmarks/figures.py --out docs/figures_cost.md  # and writes the page
    python benchmarks/figures.py --pictures DIR              # and writes the pictures there, to be looked at

With `--steps 4000` the third of them is docs/img/loggers.png. A run of 10 000 steps is followed as a Trainer has it,
with figures and without, in turns. Counted is the processor time of all threads: a drawing waits for nothing and
nothing waits for it, but it takes a core from somebody.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
if not __package__:
    # Run as a file: the repository is one folder up.
    sys.path.insert(0, str(_ROOT))

from benchmarks.footprint import Watched  # noqa: E402
from benchmarks.footprint import _blocks as blocks  # noqa: E402
from benchmarks.overhead import RUN, STEP_S, _count, machine  # noqa: E402
from benchmarks.tables import Table  # noqa: E402
from lightning_scaling.host.figures import Figures  # noqa: E402
from lightning_scaling.host.loggers import Picture  # noqa: E402

#: The bar: figures as a share of the wall time of a run.
SHARE = 0.002

_PAGE = """\
# What live figures cost

Written by `python benchmarks/figures.py --out docs/figures_cost.md`, on a machine with {machine}.

{table}"""


@dataclass(frozen=True)
class Drawn:
    """A run that was followed with figures, or without any.

    Args:
        busy: Processor time of the whole, in all threads [s].
        pictures: The figures.
    """

    busy: float
    pictures: Sequence[Picture]


def follow(steps: int, *, figures: bool) -> Drawn:
    """Follow a run to its end, drawing it where it is due."""
    began, watched, pictures = time.process_time(), Watched(steps), []
    main, drawing = watched.losses.main, Figures("training loss")
    looks = 0
    for first, block in blocks(steps, range(steps // 100, steps, steps // 100)):
        watched.feed(first, block)
        if figures and len(main.live.ledger) > looks:
            looks = len(main.live.ledger)
            pictures.append(drawing.take())
            drawing.follow(main.live, main.curve(None))
            if drawing._drawing is not None:
                drawing._drawing.join()  # a step takes far longer than here, so that none is left out
    if figures:
        pictures += [drawing.take(), drawing.last(main.live, main.curve(None))]
    return Drawn(time.process_time() - began, [picture for picture in pictures if picture is not None])


def measure(steps: int = RUN, rounds: int = 5) -> list[tuple[Drawn, Drawn]]:
    """Return runs without and with figures, of each round one; in the first matplotlib is loaded."""
    return [(follow(steps, figures=False), follow(steps, figures=True)) for _ in range(rounds)]


def table(found: Sequence[tuple[Drawn, Drawn]], steps: int = RUN) -> Table:
    """Return the cost of a figure, of the first one, and of all of a run beside the bar."""
    first, *later = [drawn.busy - plain.busy for plain, drawn in found]
    n = len(found[0][1].pictures)
    one = statistics.median(later or [first]) / max(n, 1)
    share = first / (steps * STEP_S + first)
    rows = (
        ("figures in a run", "–", f"{n}", ""),
        ("processor time of one [ms]", "–", f"{1e3 * one:.0f}", ""),
        ("all of a run, matplotlib loaded before [ms]", "–", f"{1e3 * one * n:.0f}", ""),
        ("all of a run, the loading of matplotlib included [ms]", "–", f"{1e3 * first:.0f}", ""),
        (
            f"share of {_count(steps)} steps of {1e3 * STEP_S:.0f} ms, the loading included",
            f"{100 * SHARE:.1f} %",
            f"{100 * share:.2f} %",
            "met" if share <= SHARE else "missed",
        ),
    )
    note = (
        "`ScalingLawMonitor(figures=True)` draws a run at each quarter and at its end, in a thread beside the training "
        f"loop. A run of {_count(steps)} steps is followed as a Trainer has it, with figures and without, in turns, "
        f"{len(found)} times each. What is told is the processor time that figures add, of all threads: of one figure "
        "the median over the runs after the first, in which matplotlib is loaded."
    )
    return Table("Processor time of figures", note, ("what", "bar", "measured", ""), rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="markdown page to write")
    parser.add_argument("--pictures", type=Path, help="folder for the pictures")
    parser.add_argument("--steps", type=int, default=RUN, help=f"steps of the run (default {RUN})")
    parser.add_argument("--rounds", type=int, default=5, help="runs with figures, and without (default 5)")
    options = parser.parse_args(arguments)
    where = machine()
    follow(300, figures=False)  # the first fits of a process are slow
    found = measure(options.steps, options.rounds)
    text = table(found, options.steps).markdown()
    print(f"{where}\n\n{text}")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(_PAGE.format(machine=where, table=text), encoding="utf-8")
        print(f"Wrote {options.out}")
    if options.pictures is not None:
        options.pictures.mkdir(parents=True, exist_ok=True)
        for picture in found[-1][1].pictures:
            (options.pictures / f"step_{picture.step}.png").write_bytes(picture.png)
        print(f"Wrote {options.pictures}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
