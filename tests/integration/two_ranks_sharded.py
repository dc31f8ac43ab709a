"""One of two ranks that hold a model in parts; started by test_sharded.py, prints what it saw as JSON, line by line."""

from __future__ import annotations

import json
import os
import sys
import warnings
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from torch.utils.data import DataLoader

from lightning_scaling import LoopMonitor, ScalingLawMonitor
from lightning_scaling.host.size import model_size
from tests.host.test_size import GPT, T, V

STEPS, CUT, ACCUMULATED, BATCH = 24, 12, 2, 2

torch.set_num_threads(1)
warnings.simplefilter("ignore")


class LanguageModel(GPT):
    """Attends to all that was before alike."""

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        x = self.wte(tokens) + self.wpe[: tokens.shape[1]]
        for block in self.blocks:
            values = block["qkv"](block["norm1"](x)).chunk(3, -1)[2]
            x = x + block["out"](values.cumsum(1) / T)
            x = x + block["down"](block["up"](block["norm2"](x)).relu())
        return nn.functional.cross_entropy(self.head(self.norm(x))[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())


class Sharded(LightningModule):
    """Trains it, in parts of one kind; keeps the mean over the ranks of each loss."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how
        self.model: Any = None
        self.seen: list[float] = []

    def configure_model(self) -> None:
        if self.model is not None:
            return
        torch.manual_seed(0)
        self.model = LanguageModel(tied=True)
        if self.how == "FSDP2":
            from torch.distributed.fsdp import fully_shard

            fully_shard(self.model, mesh=self.device_mesh["data_parallel"])
        elif self.how == "tensor parallel":
            from torch.distributed.tensor.parallel import ColwiseParallel, RowwiseParallel, parallelize_module

            for block in self.model.blocks:
                layers = {"up": ColwiseParallel(), "down": RowwiseParallel()}
                parallelize_module(block, self.device_mesh["tensor_parallel"], layers)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self.model(batch)
        self.seen.append(mean_over_ranks(loss))
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=1e-3)
        scheduler = LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def factor(step: int) -> float:
    """Return the learning rate after so many steps, in parts of the peak: warm-up, and linear decay."""
    return min((step + 1) / 5, 1.0) * (1.0 - step / STEPS)


def mean_over_ranks(loss: torch.Tensor) -> float:
    total = loss.detach().double().clone()
    dist.all_reduce(total)
    return float(total) / dist.get_world_size()


def held(parameter: Any) -> int:
    """Return how much of a parameter is this rank's part."""
    part = parameter.ds_tensor if hasattr(parameter, "ds_tensor") else parameter
    return int((part.to_local() if hasattr(part, "to_local") else part).numel())


def strategy(how: str) -> Any:
    """Return a strategy for the CPU, also where Lightning has it for GPUs alone."""
    if how == "ZeRO-3":
        from lightning.pytorch.strategies import DeepSpeedStrategy, ParallelStrategy

        class OnCPU(DeepSpeedStrategy):
            root_device = torch.device("cpu", 0)

            def setup_environment(self) -> None:
                self.setup_distributed()
                ParallelStrategy.setup_environment(self)

            def setup_distributed(self) -> None:
                self.set_world_ranks()
                self._init_deepspeed_distributed()

        return OnCPU(stage=3, process_group_backend="gloo")
    from lightning.pytorch.strategies import ModelParallelStrategy

    data, tensor = (2, 1) if how == "FSDP2" else (1, 2)
    return ModelParallelStrategy(data_parallel_size=data, tensor_parallel_size=tensor)


def fit(how: str, steps: int, path: Path | None = None) -> tuple[Any, dict[str, Any]]:
    monitor, module = ScalingLawMonitor(verbose=False), Sharded(how)
    trainer = Trainer(
        max_steps=steps,
        accumulate_grad_batches=ACCUMULATED,
        accelerator="cpu",
        devices=2,
        strategy=strategy(how),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[monitor],
    )
    tokens = torch.randint(0, V, (2 * BATCH * ACCUMULATED * STEPS, T), generator=torch.Generator().manual_seed(1))
    trainer.fit(module, DataLoader(tokens, batch_size=BATCH), ckpt_path=path)  # type: ignore[arg-type]
    assert monitor._session is not None
    plan, curve = monitor._session.course.plan, monitor.curve
    return trainer, {
        "how": how,
        "ended": trainer.global_step,
        "held": sum(held(p) for p in trainer.model.parameters()),
        "size": asdict(model_size(trainer.model)),  # type: ignore[arg-type]
        "whole": asdict(model_size(LanguageModel(tied=True))),  # type: ignore[arg-type]
        "N": curve.N,
        "tokens": None if curve.B is None else curve.B.tolist(),
        "plan": plan.words,
        "lr": None if curve.lr is None else curve.lr.tolist(),
        "S": curve.S.tolist(),
        "L": curve.L.tolist(),
        "seen": module.seen,
        "forecasts": [r.step for r in monitor.history],
    }


def main(folder: Path, ways: list[str]) -> None:
    for how in ways:
        trainer, cut = fit(how, CUT)
        trainer.save_checkpoint(folder / how)
        _, whole = fit(how, STEPS, folder / how)
        for name, report in (("cut", cut), ("whole", whole)):
            print(json.dumps({"scenario": f"{how}, {name}", "rank": dist.get_rank(), **report}), flush=True)


def loop() -> None:
    """An engine of DeepSpeed in a plain loop."""
    import deepspeed

    settings = {
        "train_micro_batch_size_per_gpu": BATCH,
        "optimizer": {"type": "Adam", "params": {"lr": 1e-3, "torch_adam": True}},
        "zero_optimization": {"stage": 3},
    }
    torch.manual_seed(0)
    with deepspeed.zero.Init(config_dict_or_path=settings):
        model = LanguageModel(tied=False)
    engine, *_ = deepspeed.initialize(model=model, config=settings, model_parameters=model.parameters())
    report: dict[str, Any] = {"scenario": "ZeRO-3, loop", "rank": dist.get_rank()}
    report |= {name: sum(map(count, engine.parameters())) for name, count in (("held", held), ("numel", torch.numel))}
    report |= {"size": asdict(model_size(engine)), "whole": asdict(model_size(LanguageModel(tied=False)))}
    monitor = LoopMonitor(STEPS, [1e-3] * STEPS, tell=None, across_ranks=True)
    draw, seen = torch.Generator().manual_seed(dist.get_rank()), []
    for _ in range(STEPS):
        loss = engine(torch.randint(0, V, (BATCH, T), generator=draw))
        engine.backward(loss)
        engine.step()
        seen.append(mean_over_ranks(loss))
        monitor.step(loss)
    print(json.dumps(report | {"seen": seen, "L": monitor.curve.L.tolist()}), flush=True)


if __name__ == "__main__":
    os.environ["DS_ACCELERATOR"] = "cpu"
    main(Path(sys.argv[1]), sys.argv[2:])
    if "ZeRO-3" in sys.argv[2:]:
        loop()
    dist.barrier()
    dist.destroy_process_group()
