"""One of two ranks of a run; started by test_ranks.py, prints what it saw as one line of JSON per scenario."""

from __future__ import annotations

import json
import sys
import warnings
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

import lightning_scaling.live as live
from lightning_scaling import ScalingLawMonitor, TargetUnreachable
from lightning_scaling.host.steps import StepTracker
from tests.trainers import law, loader

torch.set_num_threads(1)
warnings.simplefilter("ignore")


class Ranked(LightningModule):
    """The mean of the ranks' losses follows the law; each rank's own is off by 1."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        off = 1.0 if self.global_rank else -1.0
        return self.layer(batch).mean() * 0.0 + law(self.trainer.global_step + 1) + off

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class Count(Callback):
    """Counts our collectives, which are the only float64 ones, and the steps after which they were started."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self.original = dist.all_reduce

        def counted(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            if tensor.dtype == torch.float64:
                self.steps.append(trainer.global_step)
            return self.original(tensor, *args, **kwargs)

        dist.all_reduce = counted

    def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
        dist.all_reduce = self.original


def fit(name: str, monitor: ScalingLawMonitor, steps: int, *others: Any, ckpt_path: Path | None = None) -> Any:
    count = Count()
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        logger=False,
        enable_checkpointing=any(isinstance(c, ModelCheckpoint) for c in others),
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[monitor, count, *others],
    )
    trainer.fit(Ranked(), loader(2 * steps), ckpt_path=ckpt_path)
    report = {
        "scenario": name,
        "rank": trainer.global_rank,
        "ended": trainer.global_step,
        "collectives": count.steps,
        "metrics": {key: float(value) for key, value in trainer.callback_metrics.items()},
        "S": monitor.curve.S.tolist(),
        "L": monitor.curve.L.tolist(),
        "forecasts": [r.step for r in monitor.history],
        "stopped_by": None if monitor._session is None else monitor._session.stopped_by,
    }
    print(json.dumps(report), flush=True)
    return trainer


def main(folder: Path) -> None:
    fit("whole", ScalingLawMonitor(verbose=False), 300)

    stop = TargetUnreachable(loss=1.5)
    stopped = fit("stop", ScalingLawMonitor(stop=stop, verbose=False), 1000)
    stopped.save_checkpoint(folder / "stopped.ckpt")
    fit("resume", ScalingLawMonitor(stop=stop, verbose=False), 400, ckpt_path=folder / "stopped.ckpt")

    keep = ModelCheckpoint(folder / "best", monitor="scaling/final_loss", every_n_train_steps=50, save_top_k=2)
    fit("checkpoints", ScalingLawMonitor(verbose=False), 200, keep)

    forecast = live.forecast
    live.forecast = lambda *a, **k: 1 / 0
    fit("engine fails", ScalingLawMonitor(stop=stop, verbose=False), 120)
    live.forecast = forecast

    def breaks_on_rank_1(self: StepTracker, optimizer: Any) -> None:
        if dist.get_rank() == 1:
            raise RuntimeError("only here")

    original, StepTracker.before_optimizer_step = StepTracker.before_optimizer_step, breaks_on_rank_1
    fit("one rank fails", ScalingLawMonitor(stop=stop, verbose=False), 400)
    StepTracker.before_optimizer_step = original


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    # Lightning leaves the process group to the exit of the interpreter, where gloo's threads may abort the process.
    dist.barrier()
    dist.destroy_process_group()
