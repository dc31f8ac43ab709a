"""What does it cost to measure the gradient noise scale?

    python -m benchmarks.noise_overhead [--rounds 8] [--width 128] [--accelerator cpu]

One run of a small transformer on random tokens, two batches per step, in blocks of 320 steps. In each block one
variant of `GradientNoiseMonitor` is among the callbacks, or none; the order is shuffled in each round, and every round
holds two blocks without a monitor. A block's cost is its time per step less the mean of those two of its round, so what
slows the machine for longer than a round cancels. The second row is the difference of those two, whose truth is 0. CPU
time is that of all threads of the process, which other processes disturb less than wall time.
"""

from __future__ import annotations

import argparse
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from benchmarks.tables import Table
from lightning_scaling.noise_monitor import GradientNoiseMonitor

#: Steps of a block: 16 samples and one fetch of them at one sample in 20 steps.
BLOCK = 320
WITHOUT, AGAIN = "none", "none, again"
_LENGTH, _WORDS = 64, 256


class Transformer(LightningModule):
    """A small language model with normalisation layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(_WORDS, width)
        layer = nn.TransformerEncoderLayer(
            width, max(width // 32, 1), 4 * width, 0.0, batch_first=True, norm_first=True
        )
        self.body = nn.TransformerEncoder(layer, 4, nn.LayerNorm(width), enable_nested_tensor=False)
        self.head = nn.Linear(width, _WORDS)

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        logits = self.head(self.body(self.words(batch[:, :-1])))
        return nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())

    def configure_optimizers(self) -> Any:
        return torch.optim.AdamW(self.parameters(), lr=1e-3)


class Blocks(Callback):
    """Swaps the monitor among a Trainer's callbacks at the end of each block, and times the blocks."""

    def __init__(self, variants: Mapping[str, Callback | None], rounds: int, block: int) -> None:
        rng = np.random.default_rng(0)
        self.order = [str(name) for _ in range(rounds + 1) for name in rng.permutation(list(variants))]
        self.variants, self.block = variants, block
        self.times: list[tuple[float, float]] = []  # wall and CPU time per step of each block [s]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._swap(trainer)

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        done, rest = divmod(trainer.global_step, self.block)
        if rest or done == len(self.times):
            return
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        wall, cpu = time.perf_counter() - self._wall, time.process_time() - self._cpu
        self.times.append((wall / self.block, cpu / self.block))
        if done < len(self.order):
            self._swap(trainer)

    def _swap(self, trainer: Any) -> None:
        # The monitor comes first, so that the fetch at the end of its block is still its own.
        monitor = self.variants[self.order[len(self.times)]]
        others = [c for c in trainer.callbacks if c not in self.variants.values() and c is not self]
        trainer.callbacks = [*([] if monitor is None else [monitor]), *others, self]
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def costs(self) -> dict[str, NDArray[np.float64]]:
        """Return per variant, shape (rounds, 2): time per step [s] less the baseline's; under "none" the baseline."""
        each = len(self.variants)
        rounds = range(1, len(self.times) // each)  # the first warms up
        found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in self.variants}
        for r in rounds:
            here = {self.order[i]: np.array(self.times[i]) for i in range(r * each, (r + 1) * each)}
            baseline = 0.5 * (here[WITHOUT] + here[AGAIN])
            for name, cost in here.items():
                found[name].append(baseline if name == WITHOUT else cost - baseline)
            found[AGAIN][-1] = here[AGAIN] - here[WITHOUT]
        return {name: np.array(costs) for name, costs in found.items()}


def monitors(every: Sequence[int]) -> dict[str, Callback | None]:
    """Return the variants by their names."""
    found: dict[str, Callback | None] = {WITHOUT: None, AGAIN: None}
    for source in ("batches", "examples"):
        for n in every:
            name = f"{source}, every {n}"
            found[name] = GradientNoiseMonitor(n, source=source, name=name, verbose=False)
    return found


def measure(
    variants: Mapping[str, Callback | None],
    *,
    rounds: int,
    width: int,
    batch: int = 8,
    block: int = BLOCK,
    accelerator: str = "cpu",
) -> dict[str, NDArray[np.float64]]:
    """Run all blocks, one round more than asked for, whose first warms up."""
    torch.manual_seed(0)
    blocks = Blocks(variants, rounds, block)
    trainer = Trainer(
        accelerator=accelerator,
        devices=1,
        max_steps=len(blocks.order) * block,
        accumulate_grad_batches=2,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[*(m for m in variants.values() if m is not None), blocks],
    )
    data = torch.randint(_WORDS, (64 * batch, _LENGTH + 1))
    trainer.fit(Transformer(width), DataLoader(data, batch_size=batch))  # type: ignore[arg-type]
    return blocks.costs()


def cost_table(costs: Mapping[str, NDArray[np.float64]], width: int) -> Table:
    """Return the medians over rounds with their standard errors."""
    base = np.median(costs[WITHOUT], axis=0)
    rows = []
    for name, values in costs.items():
        # The standard error of a median is 1.25 times that of the mean, for a normal distribution.
        error = 1.25 * values.std(axis=0, ddof=1) / np.sqrt(len(values))
        cells = []
        for k in (0, 1):
            mid = float(np.median(values[:, k]))
            cells += [
                f"{1e6 * mid:.0f} ± {1e6 * error[k]:.0f}",
                "" if name == WITHOUT else f"{100 * mid / base[k]:+.1f} %",
            ]
        rows.append((name, *cells))
    header = ("monitor", "wall time [µs/step]", "share", "CPU time [µs/step]", "share")
    rounds = len(costs[WITHOUT])
    note = f"Width {width}, 4 layers, {rounds} rounds. First row: a step without a monitor; below: what is added to it."
    return Table("Cost of measuring the noise scale", note, header, tuple(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=8, help="rounds that count, at least 2")
    parser.add_argument("--width", type=int, default=128, help="width of the model")
    parser.add_argument("--batch", type=int, default=8, help="sequences of 64 tokens per batch")
    parser.add_argument("--every", type=int, nargs="+", default=[1, 20], help="steps between two samples")
    parser.add_argument("--block", type=int, default=BLOCK, help="steps of a block")
    parser.add_argument("--accelerator", default="cpu", help="accelerator of the Trainer")
    options = parser.parse_args(arguments)
    if options.rounds < 2:
        parser.error(f"Expected 2 rounds or more, got {options.rounds}.")
    warnings.simplefilter("ignore")
    costs = measure(
        monitors(options.every),
        rounds=options.rounds,
        width=options.width,
        batch=options.batch,
        block=options.block,
        accelerator=options.accelerator,
    )
    print(cost_table(costs, options.width).markdown())
    return 0


if __name__ == "__main__":
    sys.exit(main())
