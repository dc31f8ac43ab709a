"""Draw how forecasts work, for docs/how_forecasts_work.md, and print the numbers in the pictures.

    python -m benchmarks.explain --out docs/img

The runs are made by the law itself with a fixed seed, so every term of them is known and no data are needed. What is
said of them is said by the engine: forecasts before and during a decay of the learning rate, and what a run's own
record makes of the width of its forecast.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.explain_pictures import draw_decay, draw_law, draw_record
from benchmarks.looks import Decay, Record
from benchmarks.synthetic import SyntheticRun, constant, cosine, wsd
from benchmarks.tables import Table

LAW_PICTURE, DECAY_PICTURE, RECORD_PICTURE = "law.png", "decay.png", "record.png"

_HORIZON, _WARM_UP = 20_000, 400
_DECAY_FROM = 0.6
#: One look before the decay, one shortly after its beginning, one with most of it done.
_SHARES = (0.3, 0.65, 0.85)
#: The present of the runs that are judged by their record.
_NOW = 0.5


def anatomy() -> SyntheticRun:
    """Return a run with a long warm-up, a dear beginning and a decay that brings much: terms that can be seen."""
    schedule = wsd(_HORIZON, warm_up=600, decay_from=0.7)
    return SyntheticRun(schedule, E=2.1, A=0.45, delay=300.0, b=0.4, first=10.0, noise=0.06)


def decays() -> list[Decay]:
    """Return two runs with decays, each forecast at three moments."""
    schedules = {
        f"Decay from {100 * _DECAY_FROM:.0f} % on": wsd(_HORIZON, warm_up=_WARM_UP, decay_from=_DECAY_FROM),
        "Cosine": cosine(_HORIZON, warm_up=_WARM_UP),
    }
    return [Decay.of(name, SyntheticRun(schedule), _SHARES) for name, schedule in schedules.items()]


def records() -> list[Record]:
    """Return two runs of one law and one noise, of which the second rises shortly before the present."""
    schedule = constant(_HORIZON, warm_up=_WARM_UP)
    runs = {
        "Keeps to the law": SyntheticRun(schedule),
        "Leaves the law": SyntheticRun(schedule, leaves=(0.72 * _NOW, 0.8 * _NOW, 0.1)),
    }
    return [Record.of(name, run, _NOW) for name, run in runs.items()]


def decay_table(looks: Sequence[Decay]) -> Table:
    """Return the width of every forecast of runs with a decay, and whether it held."""
    rows = [
        (
            look.name,
            f"{100 * f.step / look.run.horizon:.0f} %",
            f"{100 * f.decay_done:.0f} %",
            str(f.final_loss),
            f"{2.0 * float(f.final_loss.half_width):.3f}",
            f"{look.run.end:.3f}",
        )
        for look in looks
        for f in look.forecasts
    ]
    header = ("run", "seen", "decay done", "forecast of the end", "width", "ended at")
    return Table("Before and during a decay [nats]", "", header, tuple(rows))


def record_table(looks: Sequence[Record]) -> Table:
    """Return what the record of runs says, the scale that follows, and the width of the forecast."""
    rows = [
        (
            look.name,
            " ".join(f"{x:+.1f}" for x in look.fit.surprises),
            f"{look.fit.scale:.2f}",
            str(look.forecast.final_loss),
            f"{2.0 * float(look.forecast.final_loss.half_width):.3f}",
            f"{look.run.end:.3f}",
        )
        for look in looks
    ]
    header = ("run", "off by [sigmas]", "scale", "forecast of the end", "width", "ended at")
    return Table("The run's own record [nats]", "", header, tuple(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Look, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder for the three pictures")
    out: Path = parser.parse_args(arguments).out
    out.mkdir(parents=True, exist_ok=True)
    with_decay, with_record = decays(), records()
    draw_law(anatomy(), out / LAW_PICTURE)
    draw_decay(with_decay, out / DECAY_PICTURE)
    draw_record(with_record, out / RECORD_PICTURE)
    for table in (decay_table(with_decay), record_table(with_record)):
        print(table.markdown())
    print(f"Wrote {', '.join(str(out / name) for name in (LAW_PICTURE, DECAY_PICTURE, RECORD_PICTURE))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
