"""One of two ranks of a run; started by test_ranks.py, prints what it saw as one line of JSON per scenario."""

from __future__ import annotations

import hashlib
import json
import math
import os
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from lightning_scaling import Diverged, LoopMonitor, ScalingLawMonitor, TargetUnreachable, live
from lightning_scaling.guest import GuestMonitor
from lightning_scaling.host.size import model_size
from lightning_scaling.host.steps import StepTracker
from lightning_scaling.recording import transfer
from tests.host.test_size import GPT
from tests.trainers import law, loader

RANK = int(os.environ.get("LOCAL_RANK", "0"))

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


class Learning(Ranked):
    """Learns from noise; on rank 1 its loss breaks, or it raises, or it stops alone, after step 40."""

    def __init__(self, fault: str = "") -> None:
        super().__init__()
        self.fault = fault
        torch.manual_seed(3)
        self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = (self.layer(batch + torch.randn(1, 2)) - 1.0).pow(2).mean() + super().training_step(batch, batch_idx)
        if self.global_rank and self.trainer.global_step >= 40:
            if self.fault == "raises":
                raise RuntimeError("only here")
            self.trainer.should_stop = self.fault == "stops alone"
            if self.fault == "is NaN":
                return loss.detach() * math.nan + loss
        return loss

    def weights(self) -> str:
        return hashlib.sha256(b"".join(p.detach().numpy().tobytes() for p in self.parameters())).hexdigest()


class Logging(Ranked):
    """Each rank logs a validation loss of its own, and one loss per epoch of all; its hooks reduce as well."""

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        self.log("nll", loss, on_step=False, on_epoch=True, sync_dist=True)
        return loss

    def on_train_epoch_end(self) -> None:
        dist.all_reduce(torch.ones(3))  # would meet the reduction of "nll" if one rank looked earlier than the other

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", law(self.trainer.global_step or 1) + 1.0 + self.global_rank)


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


def fit(
    name: str,
    monitor: ScalingLawMonitor | None,
    steps: int,
    *others: Any,
    ckpt_path: Path | None = None,
    module: LightningModule | None = None,
    batches: int | None = None,
    only_rank_0: bool = False,
    **settings: Any,
) -> Any:
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
        callbacks=[*([] if not monitor or (only_rank_0 and RANK) else [monitor]), count, *others],
        **settings,
    )
    module = module or Ranked()
    validation = loader(2) if isinstance(module, Logging) else None
    error = ""
    try:
        trainer.fit(module, loader(2 * (batches or steps)), validation, ckpt_path=ckpt_path)
    except RuntimeError as raised:
        error = str(raised)
    known = monitor or ScalingLawMonitor()
    report = {
        "scenario": name,
        "rank": trainer.global_rank,
        "ended": trainer.global_step,
        "collectives": count.steps,
        "metrics": {key: float(value) for key, value in trainer.callback_metrics.items()},
        "S": known.curve.S.tolist(),
        "L": known.curve.L.tolist(),
        "N": known.curve.N,
        "forecasts": [r.step for r in known.history],
        "seen": {name: f.final_loss.mid for name, f in known.forecasts.items()},
        "stopped_by": None if known._session is None else known._session.stopped_by,
        "error": error,
        "weights": module.weights() if isinstance(module, Learning) else "",
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

    with_validation: dict[str, Any] = {"module": Logging(), "val_check_interval": 20}
    fit("found", ScalingLawMonitor(verbose=False), 300, **with_validation)
    high = TargetUnreachable(loss=2.8)
    stopped = fit("metric", ScalingLawMonitor("val_loss", high, verbose=False), 1000, **with_validation)
    stopped.save_checkpoint(folder / "metric.ckpt")
    again = ScalingLawMonitor("val_loss", high, verbose=False)
    fit("metric resumed", again, 500, ckpt_path=folder / "metric.ckpt", **with_validation)
    epochs: dict[str, Any] = {"module": Logging(), "batches": 20}
    fit("epoch metric", ScalingLawMonitor("nll", verbose=False), 400, **epochs)
    fit("beside", ScalingLawMonitor(verbose=False), 80, module=Learning())
    fit("without", None, 80, module=Learning())
    fit("one rank is NaN", ScalingLawMonitor(stop=Diverged(), verbose=False), 300, module=Learning("is NaN"))
    fit("guests", GuestMonitor(verbose=False), 200)
    fit("guest of rank 0", GuestMonitor(verbose=False), 200, only_rank_0=True)

    forecast = live.forecast
    live.forecast = lambda *a, **k: 1 / 0
    fit("engine fails", ScalingLawMonitor(stop=stop, verbose=False), 120)
    live.forecast = forecast

    stack = transfer.stack

    def cannot_fetch_on_rank_1(*args: Any) -> Any:
        if dist.get_rank() == 1:
            raise RuntimeError("only here")
        return stack(*args)

    transfer.stack = cannot_fetch_on_rank_1
    # What is left is the loss of rank 0, which is lower by 1.
    fit("one rank cannot fetch", ScalingLawMonitor(stop=TargetUnreachable(loss=0.5), verbose=False), 400)
    transfer.stack = stack

    take = StepTracker._take

    def cannot_take_on_rank_1(self: StepTracker, *args: Any) -> None:
        if dist.get_rank() == 1 and self.step % 3 == 0:
            raise RuntimeError("only here")
        take(self, *args)

    StepTracker._take = cannot_take_on_rank_1
    fit("one rank has no loss", ScalingLawMonitor(stop=stop, verbose=False), 400)
    StepTracker._take = take

    def breaks_on_rank_1(self: StepTracker, optimizer: Any) -> None:
        if dist.get_rank() == 1:
            raise RuntimeError("only here")

    original, StepTracker.before_optimizer_step = StepTracker.before_optimizer_step, breaks_on_rank_1
    fit("one rank fails", ScalingLawMonitor(stop=stop, verbose=False), 400)
    fit("one rank fails beside a metric", ScalingLawMonitor("nll", stop, verbose=False), 400, **epochs)
    StepTracker.before_optimizer_step = original


def apart() -> None:
    """One rank leaves the run; what is left of the process group is given up each time."""
    for port, (fault, monitor) in zip(
        os.environ["SPARE_PORTS"].split(),
        ((f, m) for f in ("raises", "stops alone") for m in (True, False)),
        strict=True,
    ):
        dist.destroy_process_group()
        os.environ["MASTER_PORT"] = port
        name = f"one rank {fault}" + ("" if monitor else ", without")
        fit(name, ScalingLawMonitor(verbose=False) if monitor else None, 200, module=Learning(fault))


def sizes() -> None:
    """Count a model that is sharded over the ranks in each of the ways of FSDP."""
    counted = []
    for tied in (True, False):
        for keep in (True, False):
            policy = ModuleWrapPolicy({torch.nn.ModuleDict})
            wrapped = FullyShardedDataParallel(
                GPT(tied=tied), use_orig_params=keep, device_id=torch.device("cpu"), auto_wrap_policy=policy
            )
            counted.append(
                (f"FSDP1, tied={tied}, use_orig_params={keep}", model_size(wrapped), model_size(GPT(tied=tied)))
            )
        model = GPT(tied=tied)
        fully_shard(model, mesh=init_device_mesh("cpu", (2,)))
        assert sum(p.to_local().numel() for p in model.parameters()) < model_size(model).total
        counted.append((f"FSDP2, tied={tied}", model_size(model), model_size(GPT(tied=tied))))
    found = {how: [asdict(sharded), asdict(whole)] for how, sharded, whole in counted}
    print(
        json.dumps({"scenario": "sizes", "rank": dist.get_rank(), "ended": 0, "collectives": [], "found": found}),
        flush=True,
    )


class Unreadable(torch.Tensor):
    """A loss that cannot be taken."""

    def detach(self) -> Any:
        raise RuntimeError("only here")


def loops() -> None:
    """Plain loops on both ranks, each with a loss that is off by 1."""
    rank = dist.get_rank()
    for name, rules in (("loop stops", TargetUnreachable(loss=1.5)), ("loop ends", ()), ("loop fails", ())):
        monitor = LoopMonitor(600, [0.1] * 600, stop=rules, tell=None, across_ranks=True)
        ended = 0
        for step in range(1, 601):
            ended = step
            loss = torch.tensor(law(step) + (1.0 if rank else -1.0))
            if name == "loop fails" and rank and step > 300:
                loss = loss.as_subclass(Unreadable)
            if monitor.step(loss):
                break
        report = {"scenario": name, "rank": rank, "ended": ended, "collectives": [], "step": monitor.curve.step}
        report |= {"L": monitor.curve.L.tolist(), "forecasts": [r.step for r in monitor.history]}
        print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
    sizes()
    loops()
    # Lightning leaves the process group to the exit of the interpreter, where gloo's threads may abort the process.
    dist.barrier()
    apart()
    dist.destroy_process_group()
