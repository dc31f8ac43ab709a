"""Where will the loss of this run end, and is it worth going on?

    python examples/quickstart.py

trains a small byte-level transformer on the source code of Python's own standard library: real text, no download. While
it trains, `ScalingLawMonitor` says where the loss will end. Then a far smaller model is asked to get there too; the
monitor finds out early that it will not, and stops it. One to two minutes on one CPU core.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from byte_transformer import ByteTransformer
from console import Lines, keep_quiet
from stdlib_text import Crops, stdlib_text

from lightning_scaling import Forecast, LRSchedule, ScalingLawMonitor, TargetUnreachable
from lightning_scaling.ledger import recent_loss

CONTEXT, BATCH_SIZE = 64, 32
MOMENTS = (0.1, 0.3, 0.5)  # parts of the run after which the picture shows the forecast


def main(steps: int, picture: Path) -> None:
    started = time.perf_counter()
    keep_quiet()
    torch.set_num_threads(1)  # enough for models as small as these; more threads get in each other's way
    text = stdlib_text()
    batches = torch.utils.data.DataLoader(Crops(text, BATCH_SIZE, CONTEXT), batch_size=None)

    print(f"\n1. Train on {len(text) / 1e6:.1f} MB of source code, and say where the loss will end.\n")
    torch.manual_seed(0)
    model = ByteTransformer(width=48, depth=2, context=CONTEXT, steps=steps)
    monitor = ScalingLawMonitor()
    moments = Moments(monitor)
    trainer(steps, monitor, moments).fit(model, batches)

    ended = recent_loss(monitor.curve)
    half = next(record.final_loss for record in monitor.history if record.step >= steps / 2)
    inside = "inside" if half.low <= ended <= half.high else "outside"
    print(
        f"\nAt half of the run: forecast {half}, ended at {ended:.4g}: "
        f"error {100 * (half.mid / ended - 1):+.1f} %, {inside} its interval."
    )
    draw(monitor, moments.forecasts, LRSchedule.from_array([model.relative_rate(s) for s in range(steps)]), picture)

    target = round(ended, 3)
    print(f"\n2. Could a far smaller model end at {target} as well? Train it until that is known.\n")
    torch.manual_seed(0)
    small = ByteTransformer(width=16, depth=1, context=CONTEXT, steps=steps)
    judge = ScalingLawMonitor(stop=TargetUnreachable(loss=target))
    trainer(steps, judge).fit(small, batches)

    saved = steps - judge.curve.step
    if saved:
        print(f"\nStopped at step {judge.curve.step} of {steps}: {saved} steps ({100 * saved / steps:.0f} %) saved.")
    else:
        print("\nNot stopped: the target stayed within reach to the end.")
    print(f"All this took {time.perf_counter() - started:.0f} s.")


def trainer(steps: int, *callbacks: pl.Callback) -> pl.Trainer:
    terminal = sys.stdout.isatty()
    return pl.Trainer(
        max_steps=steps,
        callbacks=[*callbacks, *([] if terminal else [Lines()])],
        devices=1,
        logger=False,
        enable_progress_bar=terminal,
        enable_checkpointing=False,
        enable_model_summary=False,
    )


class Moments(pl.Callback):
    """Keeps the forecast as it stood at some moments."""

    def __init__(self, monitor: ScalingLawMonitor) -> None:
        self.monitor = monitor
        self.forecasts: list[Forecast] = []

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        due = trainer.global_step in [round(part * trainer.max_steps) for part in MOMENTS]
        if due and self.monitor.forecast is not None:
            self.forecasts.append(self.monitor.forecast)


def draw(monitor: ScalingLawMonitor, forecasts: list[Forecast], schedule: LRSchedule, path: Path) -> None:
    try:
        from matplotlib.figure import Figure
    except ModuleNotFoundError:
        print("No picture: matplotlib is not installed (pip install 'lightning-scaling[plot]').")
        return
    from lightning_scaling.pictures import plot_forecast, plot_schedule

    figure = Figure(figsize=(5.8, 4.5), layout="constrained")
    top, strip = figure.subplots(2, 1, sharex=True, height_ratios=[5, 1])
    plot_forecast(monitor.curve, forecasts, ax=top)
    plot_schedule(schedule, ax=strip)
    top.set_xlabel("")
    figure.savefig(path, dpi=160)
    print(f"Picture: {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2500, help="optimizer steps of a whole run (default: 2500)")
    parser.add_argument("--picture", type=Path, default=Path("quickstart.png"), help="where to draw the picture")
    arguments = parser.parse_args()
    if arguments.steps < 100:
        parser.error(f"Expected --steps of at least 100, got {arguments.steps}: a forecast needs a curve.")
    main(**vars(arguments))
