"""A model is tuned on few texts, over and over: when does its held-out loss turn, and where is the best checkpoint?

    python examples/03_fine_tuning.py

A byte-level transformer first learns from the source code of Python's standard library, then from a little English: the
built-in help texts of Python. That is soon known by heart. `Overfitting` watches the loss on help texts that were kept
aside, stops the run once it has turned beyond doubt, and names the best step. Under a minute on one CPU core.
"""

from __future__ import annotations

import sys
from pydoc_data.topics import topics

import pytorch_lightning as pl
import torch
from byte_transformer import ByteTransformer
from console import keep_quiet
from stdlib_text import Crops, stdlib_text
from torch import Tensor
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset

from lightning_scaling import Overfitting, ScalingLawMonitor

CONTEXT, BATCH_SIZE, TUNED_ON = 64, 16, 15_000  # the last in bytes


class Tuned(ByteTransformer):
    """The transformer of the demo at a constant learning rate, with a loss on text that was kept aside."""

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", F.cross_entropy(self(x).flatten(0, 1), y.flatten()))

    def relative_rate(self, step: int) -> float:
        return 0.25


def english() -> tuple[Tensor, Tensor]:
    """Return the help texts cut into crops, shape (n, 65): a few to tune on, and others to be judged by."""
    text = torch.frombuffer(bytearray("\n".join(topics[name] for name in sorted(topics)).encode()), dtype=torch.uint8)
    crops = text[: len(text) // (CONTEXT + 1) * (CONTEXT + 1)].view(-1, CONTEXT + 1).long()
    crops = crops[torch.randperm(len(crops))]
    few = TUNED_ON // (CONTEXT + 1)
    return crops[:few], crops[few : few + 128]


def trainer(steps: int, *callbacks: pl.Callback) -> pl.Trainer:
    return pl.Trainer(
        max_steps=steps, callbacks=[*callbacks], val_check_interval=steps // 60, check_val_every_n_epoch=None,
        accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, num_sanity_val_steps=0,
    )  # fmt: skip


def main(steps: int) -> None:
    keep_quiet()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    shape = {"width": 48, "depth": 2, "context": CONTEXT, "steps": steps}
    base, model = ByteTransformer(**shape), Tuned(**shape)
    trainer(steps // 3).fit(base, DataLoader(Crops(stdlib_text(), BATCH_SIZE, CONTEXT), batch_size=None))

    model.load_state_dict(base.state_dict())
    few, others = (TensorDataset(crops[:, :-1], crops[:, 1:]) for crops in english())
    monitor = ScalingLawMonitor("val_loss", stop=Overfitting())
    trainer(steps, monitor).fit(model, DataLoader(few, BATCH_SIZE, shuffle=True), DataLoader(others, batch_size=128))
    print(f"\n{monitor.curve.step} of {steps} steps were made. The last word: {monitor.advice}")


if __name__ == "__main__":
    main(steps=120 if "--quick" in sys.argv else 1_000)
