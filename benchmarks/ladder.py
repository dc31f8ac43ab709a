"""Train a ladder of models through our own callback and store, and read the laws off the store again.

python -m benchmarks.ladder tune                                             # learning rates, by short trials
python -m benchmarks.ladder train --store DIR [--scale cpu|gpu]              # trains what DIR does not hold yet
python -m benchmarks.ladder forecast --store DIR                             # its forecasts, by the engine of today
python -m benchmarks.ladder report --store DIR [--out docs/ladder.md]        # tables and pictures
python -m benchmarks.ladder thin --store DIR --out DIR                       # as it ships with the package
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.ladder_recipes import SCALES, recipes
from lightning_scaling import RunStore


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", choices=("tune", "train", "forecast", "report", "thin"))
    parser.add_argument("--store", help="folder or URL of the store")
    parser.add_argument("--scale", choices=tuple(SCALES), default="cpu", help="how large the ladder is (default: cpu)")
    parser.add_argument("--out", type=Path, help="page to write, its pictures in img/ beside it; or folder")
    chosen = parser.parse_args(arguments)
    if chosen.work != "tune" and chosen.store is None:
        parser.error(f"Expected --store with {chosen.work}, got none: name the folder of the runs.")
    if chosen.work == "report":
        from benchmarks.ladder_page import report

        print(report(RunStore(chosen.store), chosen.out))
        return 0
    if chosen.work == "forecast":
        from benchmarks.ladder_forecasts import foretell

        print(f"{foretell(RunStore(chosen.store))} runs forecast anew in {chosen.store}")
        return 0
    if chosen.work == "thin":
        from benchmarks.ladder_thinning import thin_store

        if chosen.out is None:
            parser.error("Expected --out with thin, got none: name the folder of the small store.")
        print(f"{thin_store(chosen.store, chosen.out)} bytes in {chosen.out}")
        return 0
    import torch

    from benchmarks.ladder_training import train, tune

    torch.set_num_threads(1)  # enough for models as small as these; more threads get in each other's way
    scale = SCALES[chosen.scale]
    if chosen.work == "tune":
        tune(scale)
    else:
        n = train(RunStore(chosen.store), scale, recipes(scale))
        print(f"Trained {n} runs.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
