"""How long does `lightning-scaling forecast` take on a log of a million rows, the whole process?

    python benchmarks/command_line.py                                    # prints the table
    python benchmarks/command_line.py --out docs/command_line_speed.md   # and writes the page
    python benchmarks/command_line.py --rows 2000 --rounds 1             # whether it runs; the figures mean nothing

It writes the logs into a folder of its own, some 600 MB for a million rows, and takes some minutes.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]
if not __package__:
    # Run as a file: the repository is one folder up.
    sys.path.insert(0, str(_ROOT))

import numpy as np  # noqa: E402

from benchmarks.overhead import machine  # noqa: E402
from benchmarks.tables import Table  # noqa: E402

#: The bars: a CSV of a million rows, and the help, in seconds in all.
BAR, HELP_BAR = 2.0, 0.5
ROWS, ROUNDS = 1_000_000, 7
HELP = "--help"

_PAGE = """\
# How fast the command line is

Written by `python benchmarks/command_line.py --out docs/command_line_speed.md`, on a machine with {machine}.

{table}"""

#: Step, loss and learning rate of a row, as text with all their digits.
Row = tuple[str, str, str]


def run(rows: int) -> Iterator[Row]:
    """Yield the rows of a run that is half over, each with 17 digits of its loss and its learning rate."""
    S = np.arange(1.0, rows + 1.0)
    L = 2.0 + 6.0 * S**-0.3 * np.exp(0.02 * np.random.default_rng(0).standard_normal(rows))
    rates = 1.5e-4 * (1.0 + np.cos(0.5 * np.pi * S / rows))
    for step, loss, rate in zip(S.tolist(), L.tolist(), rates.tolist(), strict=True):
        yield f"{step:.0f}", repr(loss), repr(rate)


def _joined(delimiter: str, rows: Iterable[Row]) -> Iterator[str]:
    yield delimiter.join(("step", "loss", "lr"))
    yield from map(delimiter.join, rows)


def _short(rows: Iterable[Row]) -> Iterator[str]:
    yield "step,loss"
    yield from (f"{step},{float(loss):.6f}" for step, loss, _ in rows)


def _csv_logger(rows: Iterable[Row]) -> Iterator[str]:
    """Lightning's CSVLogger: what is logged apart has a row of its own, with holes where the rest would be."""
    yield "epoch,lr-AdamW,step,train_loss,val_loss"
    for step, loss, rate in rows:
        n = int(step) - 1
        if n % 5 == 4:
            yield f",{rate},{n},,"
        elif n % 1000 == 500:
            yield f"{n // 1000},,{n},,{loss}"
        else:
            yield f"{n // 1000},,{n},{loss},"


def _with_nan(rows: Iterable[Row]) -> Iterator[str]:
    yield "step,loss,lr"
    yield from (f"{step},{'nan' if int(step) % 3 == 0 else loss},{rate}" for step, loss, rate in rows)


def _quoted(rows: Iterable[Row]) -> Iterator[str]:
    yield '"step","note","loss","lr"'
    yield from (f'"{step}","a, b","{loss}","{rate}"' for step, loss, rate in rows)


def _many_losses(rows: Iterable[Row]) -> Iterator[str]:
    yield "step,train_loss,val_loss,loss_a,loss_b,lr,grad_norm,tokens,time,memory,accuracy,scale"
    yield from (f"{s},{y},{y},{y},{y},{r},{y},{s}000,{s}.5,{y},0.5,65536.0" for s, y, r in rows)


def _json_lines(rows: Iterable[Row]) -> Iterator[str]:
    yield from (f'{{"step": {step}, "loss": {loss}, "lr": {rate}}}' for step, loss, rate in rows)


#: What is written, by its description: a suffix, its lines, and whether the bar is for it.
KINDS: Mapping[str, tuple[str, Callable[[Iterable[Row]], Iterator[str]], bool]] = {
    "CSV: steps, losses of 6 decimals": (".csv", _short, True),
    "CSV: steps, losses and rates of 17 digits": (".csv", lambda rows: _joined(",", rows), True),
    "CSVLogger: rates and validations in rows of their own": (".csv", _csv_logger, True),
    "CSV: every third loss is NaN": (".csv", _with_nan, True),
    "CSV: quoted cells, commas in some": (".csv", _quoted, True),
    "CSV: 12 columns": (".csv", _many_losses, True),
    "tabs": (".tsv", lambda rows: _joined("\t", rows), True),
    "semicolons, decimal commas": (".csv", lambda rows: (x.replace(".", ",") for x in _joined(";", rows)), True),
    "blanks": (".txt", lambda rows: _joined(" ", rows), True),
    "JSON lines": (".jsonl", _json_lines, False),
}


def write(kind: str, folder: Path, rows: int) -> Path:
    """Write a log of a kind and return where it is."""
    suffix, lines, _ = KINDS[kind]
    path = folder / f"{list(KINDS).index(kind)}{suffix}"
    with path.open("w", encoding="utf-8", newline="\n") as stream:
        stream.writelines(f"{line}\n" for line in lines(run(rows)))
    return path


@dataclass(frozen=True)
class Taken:
    """What a process took.

    Args:
        wall: From its start to its end [s].
        busy: Processor time, its own and the system's for it [s].
    """

    wall: float
    busy: float


def taken(arguments: Sequence[str], bytecode: Path) -> Taken:
    """Run the command line in a fresh process.

    Args:
        arguments: What follows the name of the program.
        bytecode: Folder of compiled modules, as an installed package has them beside its own; made where it is empty.

    Raises:
        RuntimeError: If the command fails.
    """
    compiled = {"PYTHONPYCACHEPREFIX": str(bytecode)}
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"} | compiled
    started = time.perf_counter()
    with tempfile.TemporaryFile() as said:
        command = [sys.executable, "-m", "lightning_scaling", *arguments]
        process = subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=said, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(process.pid, 0)
        wall, process.returncode = time.perf_counter() - started, os.waitstatus_to_exitcode(status)
        if process.returncode:
            said.seek(0)
            raise RuntimeError(f"{' '.join(arguments)} ended with {process.returncode}: {said.read().decode()}")
    return Taken(wall, used.ru_utime + used.ru_stime)


def measure(folder: Path, rows: int, rounds: int, kinds: Sequence[str] = tuple(KINDS)) -> dict[str, list[Taken]]:
    """Return what each kind and the help took, in rounds in which all take their turns in random order."""
    horizon = ["--horizon", str(2 * rows)]
    commands = {HELP: ["--help"]} | {k: ["forecast", str(write(k, folder, rows)), *horizon] for k in kinds}
    found: dict[str, list[Taken]] = {name: [] for name in commands}
    bytecode = folder / "bytecode"
    for name in list(commands)[:2]:
        taken(commands[name], bytecode)  # the first of all compiles the modules
    order = random.Random(0)
    for _ in range(rounds):
        for name in order.sample(list(commands), len(commands)):
            found[name].append(taken(commands[name], bytecode))
    return found


def table(found: Mapping[str, Sequence[Taken]], sizes: Mapping[str, int], rows: int) -> Table:
    """Return the table of the page: of each kind the median, and beside the bar the word for it."""
    lines = []
    for name, times in found.items():
        wall, busy = (float(np.median([getattr(t, what) for t in times])) for what in ("wall", "busy"))
        bar = HELP_BAR if name == HELP else BAR if KINDS[name][2] else None
        word = "–" if bar is None else "met" if wall < bar else "missed"
        size = f"{sizes[name] / 1e6:.0f}" if name in sizes else "–"
        least = min(t.busy for t in times)
        lines.append(
            (name, size, f"{wall:.2f}", f"{busy:.2f}", f"{least:.2f}", "–" if bar is None else f"{bar:.1f}", word)
        )
    rounds = max(map(len, found.values()))
    note = (
        f"`lightning-scaling forecast LOG --horizon {_count(2 * rows)}` on logs of {_count(rows)} rows, from the start "
        f"of Python to its end: the median over {rounds} rounds in which all kinds take turns in random order. All "
        "modules are compiled to bytecode before, as those of an installed package are. The processor time leaves out "
        "the waiting for other programs; least is the best of the rounds. The files are in the memory of the system, "
        "as a log that was just written is."
    )
    header = ("log", "MB", "wall [s]", "processor [s]", "least [s]", "bar [s]", "")
    return Table("Seconds from start to end", note, header, tuple(lines))


def _count(n: int) -> str:
    return f"{n:,}".replace(",", " ")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="markdown page to write")
    parser.add_argument("--rows", type=int, default=ROWS, help=f"rows of the logs (default {ROWS})")
    parser.add_argument("--rounds", type=int, default=ROUNDS, help=f"turns of each kind (default {ROUNDS})")
    options = parser.parse_args(arguments)
    where = machine()
    with tempfile.TemporaryDirectory() as folder:
        found = measure(Path(folder), options.rows, options.rounds)
        files = {kind: next(Path(folder).glob(f"{i}.*")) for i, kind in enumerate(KINDS)}
        text = table(found, {kind: path.stat().st_size for kind, path in files.items()}, options.rows).markdown()
    print(f"{where}\n\n{text}")
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(_PAGE.format(machine=where, table=text), encoding="utf-8")
        print(f"Wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
