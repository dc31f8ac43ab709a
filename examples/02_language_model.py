"""How much will the last part of a run bring, in which the learning rate falls, and is it known before?

    python examples/02_language_model.py

trains a byte-level transformer on the source code of Python's standard library. The learning rate is held for 75 % of
the run and then falls to zero (WSD). Before that the run has not shown what a decay brings, so the intervals are wide;
during the decay they close. Under a minute on one CPU core.
"""

from __future__ import annotations

import sys

import pytorch_lightning as pl
import torch
from byte_transformer import ByteTransformer
from console import keep_quiet
from stdlib_text import Crops, stdlib_text

from lightning_scaling import ScalingLawMonitor
from lightning_scaling.ledger import recent_loss

CONTEXT, BATCH_SIZE = 64, 16


class HeldThenDecayed(ByteTransformer):
    """The transformer of the demo, at another learning rate."""

    def relative_rate(self, step: int) -> float:
        warm_up = min((step + 1) / (0.05 * self.steps), 1.0)
        return min(warm_up, max(self.steps - step, 1) / (0.25 * self.steps))


def main(steps: int) -> None:
    keep_quiet()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = HeldThenDecayed(width=48, depth=2, context=CONTEXT, steps=steps)
    batches = torch.utils.data.DataLoader(Crops(stdlib_text(), BATCH_SIZE, CONTEXT), batch_size=None)

    monitor = ScalingLawMonitor()  # it reads the plan of the learning rate off the scheduler
    pl.Trainer(
        max_steps=steps, callbacks=[monitor], accelerator="cpu", logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False,
    ).fit(model, batches)  # fmt: skip

    before = next(record for record in monitor.history if record.step >= 0.7 * steps)
    ended = recent_loss(monitor.curve)
    print(
        f"\nAt step {before.step}, before the decay, the loss was {before.present_loss} "
        f"and its end was forecast at {before.final_loss}.\n"
        f"It ended at {ended:.4g}: {100.0 * (before.final_loss.mid / ended - 1.0):+.1f} % off."
    )


if __name__ == "__main__":
    main(steps=160 if "--quick" in sys.argv else 1_600)
