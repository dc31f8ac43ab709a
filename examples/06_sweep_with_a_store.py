"""Five runs of a sweep are over: how well is the sixth known before it begins, and after a tenth of it?

    python examples/06_sweep_with_a_store.py

trains models of growing width to name the byte that follows sixteen others, in the source code of Python's standard
library. Each monitor puts its run into one store. The last run, larger than all others, is forecast with that store and
without it. Half a minute on one CPU core.
"""

from __future__ import annotations

import sys
import tempfile

import pytorch_lightning as pl
import torch
from console import keep_quiet
from stdlib_text import Crops, stdlib_text
from torch import Tensor, nn

from lightning_scaling import LossCurve, RunStore, ScalingLawMonitor, forecast
from lightning_scaling.ledger import recent_loss

CONTEXT, BATCH_SIZE = 16, 64
WIDTHS = (4, 6, 9, 14, 20, 40)  # the last one is the question


class NextByte(pl.LightningModule):
    def __init__(self, width: int, steps: int) -> None:
        super().__init__()
        self.rate, self.steps = 0.02 * width**-0.5, steps
        self.read = nn.Sequential(nn.Embedding(256, width), nn.Flatten(), nn.Linear(CONTEXT * width, 4 * width))
        self.say = nn.Sequential(nn.GELU(), nn.Linear(4 * width, width), nn.Linear(width, 256))

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return nn.functional.cross_entropy(self.say(self.read(x)), y[:, -1])

    def configure_optimizers(self) -> dict[str, object]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=self.rate)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.rate, total_steps=self.steps, pct_start=0.1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main(steps: int) -> None:
    keep_quiet()
    torch.set_num_threads(1)
    batches = torch.utils.data.DataLoader(Crops(stdlib_text(), BATCH_SIZE, CONTEXT), batch_size=None)
    with tempfile.TemporaryDirectory() as folder:
        store = RunStore(folder)
        for width in WIDTHS:
            kin = store.runs()  # what is known when this run begins
            pl.seed_everything(0, verbose=False)
            monitor = ScalingLawMonitor(store=store, tags={"width": width}, verbose=False)
            pl.Trainer(
                max_steps=steps, callbacks=[monitor], accelerator="cpu", logger=False, enable_checkpointing=False,
                enable_progress_bar=False, enable_model_summary=False,
            ).fit(NextByte(width, steps), batches)  # fmt: skip
            run = store.runs()[-1]
            print(f"width {width:2}, N = {run.N:7,.0f}: ended at {run.final_loss:.3f}")

    print(f"\nThe last run, which ended at {recent_loss(run.curve):.3f}, as it was forecast\n")
    for share in (0.0, 0.1, 0.3):
        seen = run.curve.until(share * steps) if share else LossCurve(S=[], L=[], N=run.N)
        for name, runs in (("alone", None), ("with the store", kin)):
            found = forecast(seen, horizon=steps, lr_schedule=run.lr_schedule, store=runs)
            print(f"after {share:4.0%} {name:14}  {found.final_loss}  ({found.verdict})")


if __name__ == "__main__":
    main(steps=100 if "--quick" in sys.argv else 1_000)
