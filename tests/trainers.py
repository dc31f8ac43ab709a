"""Small Trainers and modules for tests: a module whose loss follows a script, and quiet Trainers of both packages."""

from __future__ import annotations

import csv
import importlib
import inspect
import math
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from torch.utils.data import DataLoader, IterableDataset

torch.set_num_threads(1)

PACKAGES = ("lightning.pytorch", "pytorch_lightning")

#: Before 2.5, Lightning does the batch again after which a checkpoint was written inside an epoch.
REPEATS_A_BATCH = tuple(map(int, version("pytorch-lightning").split(".")[:2])) < (2, 5)
IN_AN_EPOCH = pytest.mark.skipif(
    REPEATS_A_BATCH, reason="this Lightning does not go on where it was, but a batch before"
)
#: Before that, too, its checkpoints hold objects of classes of its own.
PLAIN_CHECKPOINTS = not REPEATS_A_BATCH

#: The oldest ones keep a Trainer stopped when it fits again.
STOP_IS_FORGOTTEN = pytest.mark.skipif(
    "should_stop = False" not in inspect.getsource(Trainer.fit),
    reason="this Lightning keeps a Trainer stopped when it fits again",
)

#: What Lightning itself warns of in such small fits.
QUIET = [
    # A hint on speed: https://github.com/Lightning-AI/pytorch-lightning/pull/1378
    pytest.mark.filterwarnings("ignore:.*does not have many workers.*"),
    # https://github.com/Lightning-AI/pytorch-lightning/issues/21326
    pytest.mark.filterwarnings("ignore:.*isinstance.treespec, LeafSpec.*:FutureWarning"),
    # A hint on what the tests do on purpose: resume inside an epoch.
    pytest.mark.filterwarnings("ignore:.*ended before the epoch ended.*"),
]


def law(step: int) -> float:
    """The scripted loss: E + A S^-alpha."""
    return 2.0 + 6.0 * step**-0.5


def scripted_module(
    loss: Callable[[int], float] = law,
    *,
    noise: float = 0.02,
    package: str = "lightning.pytorch",
    configure: Callable[[Any], Any] | None = None,
    base: type | None = None,
) -> Any:
    """Return a module whose training loss at optimizer step s is loss(s) plus noise that depends on the batch only."""
    parent = base or importlib.import_module(package).LightningModule

    class Scripted(parent):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            step = self.trainer.global_step + 1
            draw = float(torch.randn((), generator=torch.Generator().manual_seed(1000 * step + batch_idx % 7)))
            return self.layer(batch).mean() * 0.0 + (loss(step) + noise * draw)

        def configure_optimizers(self) -> Any:
            if configure is not None:
                return configure(self)
            return torch.optim.SGD(self.parameters(), lr=0.1)

    return Scripted()


def validated_module(
    val_loss: Callable[[int], float] = lambda step: law(step) + 1.0,
    *,
    key: str = "val_loss",
    package: str = "lightning.pytorch",
    **script: Any,
) -> Any:
    """Return a scripted module that logs val_loss(s) in validation, and nonsense where no step has been done."""
    parent = type(scripted_module(package=package, **script))

    class Validated(parent):  # type: ignore[misc, valid-type]
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            step = self.trainer.global_step
            self.log(key, torch.tensor(val_loss(step) if step else 1e3))

    return Validated()


def loader(batches: int, *, batch_size: int = 1) -> DataLoader[Any]:
    """Return a loader of so many batches of zeros."""
    return DataLoader(torch.zeros(batches * batch_size, 2), batch_size=batch_size)  # type: ignore[arg-type]


class Unsized(IterableDataset[torch.Tensor]):
    """Samples without a length."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __iter__(self) -> Any:
        return iter(torch.zeros(self.n, 2))


def trainer(*callbacks: Any, package: str = "lightning.pytorch", **settings: Any) -> Any:
    """Return a quiet Trainer on one CPU process."""
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
    }
    return importlib.import_module(package).Trainer(callbacks=list(callbacks), **(quiet | settings))


T = 400


def fit(
    monitor: Any, *others: Any, steps: int = T, module: Any = None, batches: int | None = None, **settings: Any
) -> Any:
    """Fit a scripted module for so many steps under a monitor; return the Trainer."""
    runner = trainer(monitor, *others, max_steps=steps, **settings)
    runner.fit(module or scripted_module(), loader(batches or steps))
    return runner


def validate(
    monitor: Any,
    *others: Any,
    steps: int = T,
    every: int = 10,
    batches: int | None = None,
    module: Any = None,
    ckpt_path: Path | None = None,
    **settings: Any,
) -> Any:
    """Fit a module for so many steps with a validation every so many batches; return the Trainer."""
    runner = trainer(monitor, *others, **{"max_steps": steps, "val_check_interval": every} | settings)
    runner.fit(module or validated_module(), loader(batches or steps), loader(1), ckpt_path=ckpt_path)
    return runner


def watch(package: str = "lightning.pytorch", **hooks: Any) -> Any:
    """Return a callback with the given hooks."""
    return type("Watch", (importlib.import_module(package).Callback,), hooks)()


def cosine(horizon: int, warmup: int = 0) -> Callable[[Any], Any]:
    """Return a configure_optimizers with a cosine schedule stepped at every optimizer step."""

    def factor(step: int) -> float:
        if step < warmup:
            return (step + 1) / warmup
        return 0.5 * (1.0 + math.cos(math.pi * (step - warmup) / max(horizon - warmup, 1)))

    def configure(module: Any) -> Any:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    return configure


def apart(parameters: list[Any], steps: int) -> Any:
    """Return (optimizer, scheduler): the first group's rate stays, the second's goes to 0 over the last 15 %."""
    first, *rest = parameters
    optimizer = torch.optim.SGD([{"params": [first], "lr": 0.01}, {"params": rest, "lr": 0.1}])
    factors = [lambda step: 1.0, lambda step: min(1.0, max(steps - step, 0) / (0.15 * steps))]
    return optimizer, torch.optim.lr_scheduler.LambdaLR(optimizer, factors)


def read_csv(path: Path) -> list[dict[str, str]]:
    """Return the rows of a file that CSVLogger has written."""
    return list(csv.DictReader(path.read_text().splitlines()))
