"""One of two ranks whose gradient noise is known; started by test_noise_ranks.py, prints one line per scenario."""

from __future__ import annotations

import json
import warnings
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.strategies import DDPStrategy
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook

from lightning_scaling.gradients.norms import BackwardNorms
from lightning_scaling.noise_monitor import GradientNoiseMonitor
from tests.known_noise import Linear, Normalised, known_loader

torch.set_num_threads(1)
warnings.simplefilter("ignore")


def fit(name: str, module: LightningModule, steps: int, source: str | None = "auto", **settings: Any) -> None:
    """Fit under a monitor (None: without one) and report; batches of 4 on each rank."""
    monitor = GradientNoiseMonitor(1, source=source or "auto", window=1000.0, verbose=False)
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        max_epochs=1,
        callbacks=[] if source is None else [monitor],
        **({"strategy": "ddp"} | settings),
    )
    trainer.fit(module, known_loader(2 * steps * settings.get("accumulate_grad_batches", 1)))
    noise, size = monitor.noise_scale, monitor.batch_size
    report = {
        "scenario": name,
        "rank": trainer.global_rank,
        "ended": trainer.global_step,
        "n": noise.n_samples,
        "G_sq": noise.G_squared,
        "trace": noise.trace_Sigma,
        "B": noise.B_simple.mid,
        "per_step": None if size is None else size.per_step,
        "weights": torch.cat([p.detach().ravel() for p in module.parameters()]).tolist(),
    }
    print(json.dumps(report), flush=True)


def main() -> None:
    fit("ranks", Linear(), 240)
    fit("ranks without a monitor", Linear(), 240, None)
    fit("ranks and micro-batches", Linear(), 120, accumulate_grad_batches=2, gradient_clip_val=1e-3)
    compressed = DDPStrategy(ddp_comm_hook=bf16_compress_hook, static_graph=True, gradient_as_bucket_view=True)
    fit("a communication hook of one's own", Linear(), 240, strategy=compressed)
    fit("examples", Normalised(), 120, "examples")

    take = BackwardNorms._take

    def fails_on_rank_1(self: BackwardNorms, gradient: torch.Tensor) -> None:
        if dist.get_rank() == 1 and torch.rand(()) < 0.05:
            self._error = RuntimeError("only here")
        take(self, gradient)

    BackwardNorms._take = fails_on_rank_1  # type: ignore[method-assign]
    fit("one rank fails", Linear(), 240)
    # Lightning leaves the process group to the exit of the interpreter, where gloo's threads may abort the process.
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
