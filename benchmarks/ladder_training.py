"""Training the ladder: every run through the Trainer, with our own callback writing into the store."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks.ladder_recipes import Recipe, Scale
from examples.byte_transformer import ByteTransformer
from examples.stdlib_text import Crops, stdlib_text
from lightning_scaling import RunStore, ScalingLawMonitor
from lightning_scaling.ledger import recent_loss

TASK = "bytes of the standard library"
#: Crops are spread by the golden ratio: as long as they hold no more than this share of the text, none overlap.
MOST_OF_TEXT = 0.44
#: Learning rates that are tried, as multiples of the ones of the scale, and the length of a trial.
TRIED, TRIAL_STEPS = (1 / 6, 1 / 3, 2 / 3, 4 / 3), 150


class Rung(ByteTransformer):
    """The transformer of the examples on a schedule of its recipe, without a log of its own."""

    def __init__(self, recipe: Recipe, depth: int, context: int) -> None:
        super().__init__(recipe.width, depth, context, recipe.steps, recipe.lr)
        self.recipe = recipe

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        return F.cross_entropy(self(x).flatten(0, 1), y.flatten())

    def relative_rate(self, step: int) -> float:
        return self.recipe.relative_rate(step)

    def configure_optimizers(self) -> dict[str, Any]:
        found = super().configure_optimizers()
        for group in found["optimizer"].param_groups:
            group["fused"] = True  # of models this small the optimizer would take a tenth of the time
        return found


def train(
    store: RunStore,
    scale: Scale,
    recipes: Sequence[Recipe],
    say: Callable[[str], None] = print,
    text: Tensor | None = None,
) -> int:
    """Train the runs that the store does not hold as finished, and return how many they were.

    Args:
        store: Where they go.
        scale: Depth and context of the models.
        recipes: The runs.
        say: Takes a line for each run.
        text: What to train on; default: the source of the standard library.

    Raises:
        ValueError: If the text is too short for a run that reads no byte twice.
    """
    text = stdlib_text() if text is None else text
    for recipe in recipes:
        check_length(recipe, scale, len(text))
    done = {run.tags.get("name") for run in store.runs(tags={"task": TASK}, state="finished")}
    todo = [recipe for recipe in recipes if recipe.name not in done]
    for k, recipe in enumerate(todo, start=1):
        monitor = run(recipe, scale, text, store)
        forecast = monitor.history[len(monitor.history) // 2].final_loss.short() if monitor.history else "none"
        say(
            f"{k}/{len(todo)} {recipe.name}: N = {monitor.curve.N:.0f}, lr {recipe.lr:.2g}, "
            f"ended at {recent_loss(monitor.curve):.4f}; forecast half way {forecast}"
        )
    return len(todo)


def run(recipe: Recipe, scale: Scale, text: Tensor, store: RunStore | None) -> ScalingLawMonitor:
    """Train one run and return its monitor."""
    torch.manual_seed(0)
    model = Rung(recipe, scale.depth, scale.context)
    tags: dict[str, str | int | float | bool] = {
        "name": recipe.name,
        "task": TASK,
        "part": recipe.part,
        "schedule": recipe.schedule,
        "width": recipe.width,
        "depth": scale.depth,
        "context": scale.context,
        "peak_lr": recipe.lr,
    }
    monitor = ScalingLawMonitor(store=store, tags=tags, verbose=False)
    batches = torch.utils.data.DataLoader(Crops(text, recipe.batch, scale.context), batch_size=None)
    with _quiet():
        trainer = pl.Trainer(
            max_steps=recipe.steps,
            callbacks=[monitor],
            devices=1,
            logger=False,
            enable_progress_bar=False,
            enable_checkpointing=False,
            enable_model_summary=False,
        )
        trainer.fit(model, batches)
    return monitor


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the Trainer's hints on the machine to itself, for a while."""
    log = logging.getLogger("pytorch_lightning")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*does not have many workers")
            warnings.filterwarnings("ignore", ".*LeafSpec.*deprecated", category=FutureWarning)
            yield
    finally:
        log.setLevel(level)


def check_length(recipe: Recipe, scale: Scale, length: int) -> None:
    """Raise unless a run reads no byte of the text twice."""
    read = recipe.steps * recipe.batch * (scale.context + 1)
    if read > MOST_OF_TEXT * length:
        raise ValueError(
            f"Expected a text of {read / MOST_OF_TEXT:.3g} bytes or more for {recipe.name}, got {length}, so that no "
            "byte is read twice: take fewer steps or smaller batches."
        )


def tune(scale: Scale, say: Callable[[str], None] = print, steps: int = TRIAL_STEPS) -> list[tuple[int, float, float]]:
    """Try learning rates at three widths by short runs at a constant rate; return (width, lr, loss at the end)."""
    text, found = stdlib_text(), []
    for width in (scale.widths[0], scale.scanned, scale.widths[-2]):
        for times in TRIED:
            recipe = Recipe("tune", width, "constant", steps, scale.batch, times * scale.rate(width))
            curve = run(recipe, scale, text, None).curve
            late = curve.S > 0.8 * steps
            loss = float((curve.L * curve.count)[late].sum() / curve.count[late].sum())
            found.append((width, recipe.lr, loss))
            say(f"width {width}: lr {recipe.lr:.2g}, loss {loss:.4f}")
    return found
