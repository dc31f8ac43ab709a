"""Two processes train one model and a rule ends the run: do both of them end at the same step?

    python examples/04_two_processes.py

A linear model is trained in two CPU processes that talk by gloo (DDP). The loss that is forecast is the mean over both;
process 0 does the thinking and the talking. The target is out of reach. A quarter of a minute on two CPU cores.
"""

from __future__ import annotations

import sys

import pytorch_lightning as pl
import torch
from console import keep_quiet
from linear_model import LinearModel

from lightning_scaling import ScalingLawMonitor, TargetUnreachable
from lightning_scaling.ledger import recent_loss

TARGET = 0.08


def main(steps: int) -> None:
    keep_quiet()
    torch.set_num_threads(1)
    pl.seed_everything(0, verbose=False)
    monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=TARGET))
    trainer = pl.Trainer(
        max_steps=steps, callbacks=[monitor], accelerator="cpu", devices=2, strategy="ddp",
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(LinearModel(steps))  # it starts this script once more, as process 1

    if trainer.is_global_zero:
        print(f"\nTarget {TARGET}; the loss came down to {recent_loss(monitor.curve):.3g}.", flush=True)
    print(f"Process {trainer.global_rank} ended at step {trainer.global_step} of {steps}.", flush=True)


if __name__ == "__main__":
    main(steps=200 if "--quick" in sys.argv else 2_000)
