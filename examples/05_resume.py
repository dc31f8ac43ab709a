"""A run is cut off and resumed from its checkpoint: are its forecasts those of a run that was never cut off?

    python examples/05_resume.py

A linear model is trained twice: once from start to end, and once with an error at 60 % of the run, after which a new
Trainer with a new monitor goes on from the checkpoint of the middle. What the monitor knew is in the checkpoint. A
quarter of a minute on one CPU core.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import pytorch_lightning as pl
import torch
from console import keep_quiet
from linear_model import LinearModel

from lightning_scaling import ScalingLawMonitor


class CutOff(pl.Callback):
    """Saves a checkpoint in the middle of the run and ends it with an error some time later."""

    def __init__(self, checkpoint: Path) -> None:
        self.checkpoint = checkpoint

    def on_train_batch_end(self, trainer: pl.Trainer, *_: object) -> None:
        if trainer.global_step == trainer.max_steps // 2:
            trainer.save_checkpoint(self.checkpoint)
        if trainer.global_step == 3 * trainer.max_steps // 5:
            raise RuntimeError("The machine was taken away.")


def run(steps: int, *others: pl.Callback, ckpt_path: Path | None = None) -> ScalingLawMonitor:
    pl.seed_everything(0, verbose=False)
    monitor = ScalingLawMonitor(verbose=False)
    trainer = pl.Trainer(
        max_steps=steps, callbacks=[monitor, *others], accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(LinearModel(steps), ckpt_path=ckpt_path)
    return monitor


def main(steps: int) -> None:
    keep_quiet()
    torch.set_num_threads(1)
    whole = run(steps)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder, "middle.ckpt")
        try:
            run(steps, CutOff(checkpoint))
        except RuntimeError as error:
            print(f"{error} On from the middle.\n")
        resumed = run(steps, ckpt_path=checkpoint)

    print(resumed.summary())
    before, after = ([(r.step, r.final_loss) for r in monitor.history] for monitor in (whole, resumed))
    same = sum(forecast in before for forecast in after)
    print(f"\n{same} of {len(after)} forecasts are, to the last digit, those of the run that was never cut off.")


if __name__ == "__main__":
    main(steps=200 if "--quick" in sys.argv else 2_000)
