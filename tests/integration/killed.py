"""Runs that are killed with SIGKILL again and again and resumed each time; started by test_killed.py.

This process imports everything once and forks a child for each life of a run. A child kills itself at the step and in
the hook that it is told, which is as sudden as a kill from outside; the next one resumes from the newest checkpoint
that is there. What is known at the end is written to ``<folder>/<run>.json``, beside that of a run never killed.
"""

from __future__ import annotations

import json
import math
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.utils.data import DataLoader

from lightning_scaling import Diverged, LossCurve, RunStore, ScalingLawMonitor, TargetUnreachable
from tests.trainers import Unsized, cosine, law, loader, scripted_module, trainer, validated_module, watch

SEED, KILLS = 4, 50
T, REFITS = 180, 16
HOOKS = ("on_train_batch_start", "on_before_optimizer_step", "on_train_batch_end", "on_save_checkpoint")


@dataclass(frozen=True)
class Run:
    """A run that can be made anew at any time: its module, data, monitor and Trainer."""

    module: Callable[[], Any]
    settings: dict[str, Any]
    data: Callable[[], Any] = lambda: loader(T)
    monitor: Callable[[], ScalingLawMonitor] = lambda: ScalingLawMonitor(refits=REFITS, verbose=False)
    validated: bool = False
    steps: int = T
    siblings: int = 0  # in a store that the monitor borrows from, and writes to
    every: dict[str, int] = field(default_factory=lambda: {"every_n_train_steps": 7})


def stairs(step: int) -> float:
    return law(step) - 0.4 * ((step - 1) // (T // 6))


def troubled(step: int) -> float:
    if 40 <= step < 55:
        return float("nan")
    return law(step) * (100.0 if step in (80, 81, 82, 130) else 1.0)


def out_of_reach() -> ScalingLawMonitor:
    return ScalingLawMonitor(stop=[TargetUnreachable(loss=1.0), Diverged()], refits=REFITS, verbose=False)


def shifted(step: int) -> float:
    return law(step) + (1.0 if step >= 90 else 0.0) + (4.0 if step >= 150 else 0.0)


def by_hand() -> Any:
    """Return a module that sets the learning rate itself, otherwise than its scheduler does."""
    parent = type(scripted_module(configure=cosine(T)))

    class ByHand(parent):  # type: ignore[misc, valid-type]
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
            rate = 0.1 * (1.0 + 0.5 * math.sin(self.trainer.global_step / 7.0))
            self.trainer.optimizers[0].param_groups[0]["lr"] = rate

    return ByHand()


def two_optimizers() -> Any:
    """Return a module in manual optimization that steps two optimizers per batch, and its scheduler with them."""
    parent = type(scripted_module())

    class Two(parent):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            for optimizer in self.optimizers():
                optimizer.zero_grad()
            self.manual_backward(loss)
            for optimizer in self.optimizers():
                optimizer.step()
            for scheduler in self.lr_schedulers():
                scheduler.step()
            return loss

        def configure_optimizers(self) -> Any:
            pairs = [torch.optim.SGD([parameter], lr=0.1) for parameter in self.parameters()]
            return pairs, [torch.optim.lr_scheduler.CosineAnnealingLR(pair, T // 2) for pair in pairs]

    return Two()


RUNS = {
    "one epoch": Run(lambda: scripted_module(configure=cosine(T, warmup=20)), {"max_steps": T}),
    "six epochs": Run(lambda: scripted_module(stairs), {"max_epochs": 6}, lambda: loader(T // 6)),
    "data without a length": Run(
        scripted_module,
        {"max_epochs": 6, "accumulate_grad_batches": 2},
        lambda: DataLoader(Unsized(T // 3), batch_size=1),
        every={"every_n_epochs": 1},
    ),
    # No checkpoint falls on the step of a validation: resumed from one, Lightning leaves that validation out.
    "validation loss": Run(
        lambda: validated_module(configure=cosine(T)),
        {"max_steps": T, "val_check_interval": 10},
        monitor=lambda: ScalingLawMonitor("val_loss", stop=Diverged(), refits=REFITS, verbose=False),
        validated=True,
        every={"every_n_train_steps": 19},
    ),
    "spikes and NaN": Run(lambda: scripted_module(troubled), {"max_steps": T}),
    "borrowing": Run(lambda: scripted_module(configure=cosine(T)), {"max_steps": T}, siblings=3),
    "stopped late": Run(
        scripted_module, {"max_steps": 2 * T, "min_steps": 153}, lambda: loader(100), out_of_reach, steps=153
    ),
    "level shift": Run(
        lambda: scripted_module(shifted),
        {"max_steps": T, "min_steps": T},
        monitor=lambda: ScalingLawMonitor(stop=Diverged(sigma=3), refits=REFITS, verbose=False),
    ),
    "rate by hand": Run(by_hand, {"max_steps": T}),
    "two optimizers": Run(two_optimizers, {"max_steps": T}, lambda: loader(T)),
}


def killer(at: int, hook: str) -> Any:
    """Return a callback that kills its process in the first call of a hook during step ``at`` or after it."""

    def kill(self: Any, runner: Any, *args: Any) -> None:
        if runner.global_step + (hook in HOOKS[:2]) >= at:
            os.kill(os.getpid(), signal.SIGKILL)

    return watch(**{hook: kill})


def live(run: Run, folder: Path, *others: Any) -> tuple[Any, ScalingLawMonitor]:
    """Train from the newest checkpoint that is there, or from the start, to the end."""
    monitor, keep = run.monitor(), ModelCheckpoint(folder, **run.every)  # type: ignore[arg-type]
    if run.siblings:
        monitor = ScalingLawMonitor(refits=REFITS, verbose=False, store=str(folder / "store"))
    saved = sorted(folder.glob("*.ckpt"), key=lambda path: path.stat().st_mtime_ns)
    order = [others, (monitor,)] if random.random() < 0.5 else [(monitor,), others]
    runner = trainer(*order[0], *order[1], keep, enable_checkpointing=True, **run.settings)
    runner.fit(run.module(), run.data(), loader(1) if run.validated else None, ckpt_path=saved[-1] if saved else None)
    return runner, monitor


def remember(folder: Path, siblings: int) -> None:
    """Fill a store with finished runs."""
    rates = [0.05 * (1.0 + math.cos(math.pi * step / T)) for step in range(T)]
    for k in range(siblings):
        curve = LossCurve(range(1, T + 1), [(1.0 + 0.03 * (k + 1)) * law(step) for step in range(1, T + 1)])
        RunStore(folder / "store").add(curve, horizon=T, lr_schedule=rates, tags={"loss": "train_loss"}, id=f"kin-{k}")


def in_a_child(work: Callable[[], None]) -> int:
    """Run something in a forked process; return its exit status, -9 if it was killed."""
    child = os.fork()
    if not child:
        try:
            work()
            os._exit(0)
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dice = random.Random(SEED)
    for number, (name, run) in enumerate(RUNS.items()):
        ends: dict[str, Any] = {}
        for how, kills in (("whole", 0), ("killed", len(range(number, KILLS, len(RUNS))))):
            place = folder / name / how
            place.mkdir(parents=True)
            remember(place, run.siblings)

            def end(place: Path = place, run: Run = run) -> None:
                runner, monitor = live(run, place)
                known = {"ended": runner.global_step, "state": monitor.state_dict(), "summary": monitor.summary()}
                known["borrowed from"] = 0 if monitor.forecast is None else monitor.forecast.n_siblings
                (place / "known.json").write_text(json.dumps(known))

            statuses = []
            for at in sorted(dice.sample(range(1, run.steps - 8), kills)):
                death = killer(at, dice.choice(HOOKS))
                random.seed(dice.random())
                statuses.append(in_a_child(lambda d=death, p=place, r=run: live(r, p, d)))  # type: ignore[misc]
            statuses.append(in_a_child(end))
            ends[how] = {"statuses": statuses, **json.loads((place / "known.json").read_text())}
        (folder / f"{name}.json").write_text(json.dumps(ends))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
