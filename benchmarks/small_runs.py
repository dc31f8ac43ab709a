"""Train small runs of many kinds, so that anyone can score forecasts on curves that none of our constants has seen.

python -m benchmarks.small_runs --out DIR [--seed 0] [--only NAME ...]    # about an hour on one core
python benchmarks/accuracy.py --curves DIR                                # the forecasts of them

Ten tasks (language, fine-tuning, images, contrastive learning, denoising, regression with and without noise,
recommendation, densities, sorting), each by four or five pairs of optimizer and schedule: see
`benchmarks.small_runs_tasks` and `benchmarks.small_runs_recipes`. Runs that are in DIR already are not trained again.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import sys
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from time import perf_counter
from typing import Any
from zlib import crc32

import torch

from benchmarks.curves import ABOUT
from benchmarks.small_runs_recipes import RECIPES, Recipe, optimizers_of
from benchmarks.small_runs_tasks import TASKS, Task

_ABOUT = """\
The runs were trained for
this page by `python -m benchmarks.small_runs --out DIR --seed {seed}` on one processor core, minutes each at most:
small models, raw losses of single steps, ten tasks by twelve ways to train. Here a source is a task. They show how
things stand outside language models where the schedule is known. Not all of them were unseen: in November 2026 the
engine was mended with runs of eight of the tasks in sight (all but language and contrastive learning)."""

#: Longest gradient; longer ones are cut to it.
_LONGEST = 1.0


def train(task: Task, recipe: Recipe, seed: int, steps: int | None = None) -> list[tuple[int, float, float]]:
    """Train one run and return (step, loss, learning rate) of each of its steps.

    Args:
        task: What is learnt.
        recipe: How.
        seed: Seed of the model and its batches.
        steps: Length [steps]; default: the task's.
    """
    seed = crc32(f"{task.name} {recipe.name} {seed}".encode())  # no two runs see the same batches
    torch.manual_seed(seed)
    model, losses = task.make(seed)
    optimizers, steps = optimizers_of(recipe, model, task.lr), steps or task.steps
    peaks = [group["lr"] for optimizer in optimizers for group in optimizer.param_groups]
    rows = []
    for step, loss in enumerate(islice(losses, steps), start=1):
        rate = recipe.relative_rate(step, steps)
        groups = [group for optimizer in optimizers for group in optimizer.param_groups]
        for group, peak in zip(groups, peaks, strict=True):
            group["lr"] = rate * peak
        for optimizer in optimizers:
            optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), _LONGEST)
        for optimizer in optimizers:
            optimizer.step()
        rows.append((step, loss.item(), rate * peaks[0]))
    return rows


def write(folder: Path, name: str, rows: Sequence[tuple[int, float, float]]) -> None:
    """Write the curve of a run, whole or not at all."""
    torn = folder / f"{name}.part"
    with torn.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(("step", "loss", "lr"))
        writer.writerows((step, f"{loss:.7g}", f"{lr:.7g}") for step, loss, lr in rows)
    os.replace(torn, folder / f"{name}.csv")


def entries(folder: Path) -> list[dict[str, Any]]:
    """Return what the index says of the runs that the folder holds."""
    return [
        {
            "id": file.stem,
            "group": task.name,
            "domain": task.domain,
            "schedule": RECIPES[recipe].schedule,
            "noise": "raw step",
            "horizon_known": True,
        }
        for task in TASKS.values()
        for recipe in task.recipes
        for file in sorted(folder.glob(f"{task.name}_{recipe}_s*.csv"))
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder of the curves")
    parser.add_argument("--seed", type=int, default=0, help="seed of the models and their batches (default: 0)")
    parser.add_argument("--only", nargs="+", choices=tuple(TASKS), default=tuple(TASKS), help="tasks (default: all)")
    parser.add_argument("--steps", type=int, help="length of each run [steps] (default: each task's own)")
    chosen = parser.parse_args(arguments)
    chosen.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)  # enough for models as small as these
    for task in (TASKS[name] for name in chosen.only):
        for recipe in (RECIPES[name] for name in task.recipes):
            name = f"{task.name}_{recipe.name}_s{chosen.seed}"
            if (chosen.out / f"{name}.csv").is_file():
                continue
            began = perf_counter()
            rows = train(task, recipe, chosen.seed, chosen.steps)
            write(chosen.out, name, rows)
            losses = [loss for _, loss, _ in rows]
            last = losses[-max(len(losses) // 50, 1) :]
            print(f"{name}: {losses[0]:.4g} to {sum(last) / len(last):.4g}, {perf_counter() - began:.0f} s", flush=True)
    (chosen.out / ABOUT).write_text(_ABOUT.format(seed=chosen.seed), encoding="utf-8")
    (chosen.out / "index.json").write_text(json.dumps(entries(chosen.out), indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
