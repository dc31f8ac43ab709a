"""Where will the loss of a plain PyTorch loop end, and when is it known that it misses its target?

    python examples/07_plain_pytorch.py

trains a small recurrent network on the bytes of Python's standard library, without a Trainer: `LoopMonitor` is made
once, called once per optimizer step, and asked for its table at the end. Half a minute on one CPU core.
"""

from __future__ import annotations

import sys

import torch
from stdlib_text import Crops, stdlib_text
from torch import Tensor, nn

from lightning_scaling import LoopMonitor, TargetUnreachable

CONTEXT, BATCH_SIZE, WIDTH = 32, 32, 64


class Recurrent(nn.Module):
    """Predicts the next byte."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(256, WIDTH), nn.Linear(WIDTH, 256)
        self.cell = nn.GRU(WIDTH, WIDTH, batch_first=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cell(self.embedding(x))[0])


def main(steps: int, target: float) -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Recurrent()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1e-2, total_steps=steps, pct_start=0.05)
    batches = iter(Crops(stdlib_text(), BATCH_SIZE, CONTEXT))

    monitor = LoopMonitor(horizon=steps, lr_schedule=scheduler, stop=TargetUnreachable(loss=target))
    for step in range(1, steps + 1):
        x, y = next(batches)
        loss = nn.functional.cross_entropy(model(x).flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        scheduler.step()
        if monitor.step(loss):  # waits for no device
            break
        if step % (steps // 10) == 0:
            print(f"step {step:5} of {steps}  loss {loss.item():.3f}  end {monitor.reading}")
    print(f"\n{monitor.summary()}")


if __name__ == "__main__":
    main(steps=200 if "--quick" in sys.argv else 2_000, target=1.4)
