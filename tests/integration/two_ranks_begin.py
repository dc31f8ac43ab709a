"""One of two ranks of a run whose monitor fails on one of them; prints a line of JSON per scenario."""

from __future__ import annotations

import json
import os
import warnings
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer

from lightning_scaling import ScalingLawMonitor, TargetUnreachable
from lightning_scaling.host import session
from lightning_scaling.host.steps import StepTracker
from tests.trainers import law, loader

RANK = int(os.environ.get("LOCAL_RANK", "0"))

torch.set_num_threads(1)


class Ranked(LightningModule):
    """Each rank's loss follows the law."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch).mean() * 0.0 + law(self.trainer.global_step + 1)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(name: str, steps: int) -> None:
    monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=1.5), verbose=False)
    runner = Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[monitor],
    )
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        runner.fit(Ranked(), loader(2 * steps))
    told = [str(w.message) for w in seen if "ScalingLawMonitor is quiet" in str(w.message)]
    report = {"scenario": name, "rank": RANK, "ended": runner.global_step, "told": told}
    print(json.dumps(report | {"forecasts": len(monitor.history)}), flush=True)


def fails(*args: Any, **settings: Any) -> Any:
    raise RuntimeError("only here")


def main() -> None:
    for rank in (0, 1):
        with patch.object(session, "Teller", fails if rank == RANK else session.Teller):
            fit(f"begin {rank}", 60)
    with patch.object(StepTracker, "batch_end", fails if RANK == 1 else StepTracker.batch_end):
        fit("batch 1", 300)
    with patch.object(StepTracker, "batch_end", fails if RANK == 0 else StepTracker.batch_end):
        fit("batch 0", 60)

    start = StepTracker.start

    def later(self: StepTracker, *args: Any) -> None:
        start(self, *args)
        self.step += RANK

    with patch.object(StepTracker, "start", later):
        fit("apart", 60)


if __name__ == "__main__":
    main()
    dist.barrier()
    dist.destroy_process_group()
