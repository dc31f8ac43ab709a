"""Which columns of a log are the step, the loss and the learning rate: by their names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["SAMPLES", "Wanted", "choose", "normal"]

#: Names of the step, the best first. W&B counts its own calls as ``_step``: the trainer's count is better.
_STEP = (
    *("trainer_global_step", "train_global_step", "global_step", "globalstep", "optimizer_step", "num_updates"),
    *("step", "steps", "iteration", "iterations", "iter", "iters", "itr", "it", "update", "updates", "num_steps"),
    *("n_iter", "train_step", "train_steps", "training_step", "batch", "batch_idx", "epoch"),
)
_RATE = ("lr", "learning_rate", "train_lr", "train_learning_rate", "optimizer_lr", "optim_lr", "learning_rate_0")
_SIZE = ("n_params", "num_params", "n_parameters", "num_parameters", "model_params", "non_embedding_params", "params")
_BATCH = ("batch_size", "global_batch_size", "train_batch_size", "tokens_per_step", "tokens_per_batch", "batch_tokens")
#: Those that count samples: what the store writes of such a run.
SAMPLES = ("samples_per_step",)
#: Words of a loss that is not of the training data, that is averaged, or that is a part of the loss.
_HELD_OUT = {"val", "valid", "validation", "eval", "evaluation", "test", "dev", "heldout"}
_AVERAGED = {"epoch", "ema", "avg", "average", "running", "smooth", "smoothed", "mean", "rolling"}
_PART = {"aux", "auxiliary", "kl", "reg", "regularization", "z", "zloss", "balance", "balancing", "router", "mtp"}
_LOSSES = {"loss", "losses", "trainloss", "nll", "xent", "cross", "crossentropy", "bce", "mse", "perplexity", "ppl"}
_NOT_LOSSES = {"scale", "weight", "scaler", "time", "best", "min", "max", "std", "delta", "count"}


@dataclass(frozen=True)
class Wanted:
    """Columns that the user names; None: found by name.

    Args:
        step: Name of the column of steps; ``"row"`` counts the rows.
        loss: Name of the column of losses.
        lr: Name of the column of learning rates; ``"none"`` leaves them out.
        run: Name, or part of the name, of the run where a file holds several.
        N: Parameters of the model, where the file does not tell.
    """

    step: str | None = None
    loss: str | None = None
    lr: str | None = None
    run: str | None = None
    N: float | None = None


def normal(name: str) -> str:
    """Return a name in lower case with underscores, so that ``trainer/global_step`` and ``GlobalStep`` compare.

    Example:
        >>> normal("train/Loss"), normal("lr-AdamW"), normal("learningRate"), normal("_step")
        ('train_loss', 'lr_adam_w', 'learning_rate', 'step')
    """
    spaced = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name)
    return re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")


def choose(names: Sequence[str], wanted: Wanted, where: str) -> tuple[dict[str, str], list[str]]:
    """Return which column is taken for each role, and sentences on what could as well have been taken.

    Args:
        names: Names of the columns.
        wanted: What the user names.
        where: The file, for the message.

    Raises:
        ValueError: If a named column is not there, or there is no column of losses.

    Example:
        >>> choose(["epoch", "lr-Adam", "step", "train_loss_epoch", "train_loss_step", "val_loss"], Wanted(), "x")[0]
        {'step': 'step', 'loss': 'train_loss_step', 'lr': 'lr-Adam', 'epoch': 'epoch'}
    """
    notes: list[str] = []
    found: dict[str, str] = {}
    steps = [n for n in names if normal(n) in _STEP]
    if wanted.step is None and steps:
        found["step"] = min(steps, key=lambda n: _STEP.index(normal(n)))
    elif wanted.step not in (None, "row"):
        found["step"] = _named(wanted.step or "", names, where)
    losses = sorted((n for n in names if _is_loss(n)), key=_loss_rank)
    if wanted.loss is not None:
        found["loss"] = _named(wanted.loss, names, where)
    elif losses:
        found["loss"] = losses[0]
        if _loss_rank(losses[0])[0]:
            notes.append(f"No training loss was found, so '{losses[0]}' is forecast.")
        rivals = [n for n in losses[1:] if _loss_rank(n)[:3] == _loss_rank(losses[0])[:3]]
        if rivals:
            notes.append(f"Other losses are there too: {_listed(rivals)}. Name one with the loss column.")
    else:
        raise ValueError(
            f"Expected a column of losses in {where}, got {_listed(names)}, so name the one to take (loss column)."
        )
    if wanted.lr is None:
        rates = [n for n in names if normal(n) in _RATE or normal(n).startswith(("lr_", "learning_rate_"))]
        rates += [n for n in names if n not in rates and _is_rate(n)]
        if rates:
            found["lr"] = min(rates, key=lambda n: (normal(n) not in _RATE, rates.index(n)))
            if len(rates) > 1:
                notes.append(f"Of {len(rates)} learning rates '{found['lr']}' is taken.")
    elif wanted.lr != "none":
        found["lr"] = _named(wanted.lr, names, where)
    for role, known in (("epoch", ("epoch", "train_epoch")), ("N", _SIZE), ("B", (*_BATCH, *SAMPLES))):
        match = next((n for n in names if normal(n) in known), None)
        if match is not None and match not in found.values():
            found[role] = match
    return found, notes


def _named(name: str, names: Sequence[str], where: str) -> str:
    """Return a column by its name, or by one that differs only in case and punctuation."""
    matches = [n for n in names if n == name] or [n for n in names if normal(n) == normal(name)]
    if not matches:
        raise ValueError(f"Expected a column '{name}' in {where}, got {_listed(names)}, so name one of these.")
    return matches[0]


def _words(name: str) -> set[str]:
    return set(normal(name).split("_"))


def _is_loss(name: str) -> bool:
    words = _words(name)
    return bool(words & _LOSSES) and not words & _NOT_LOSSES and not name.endswith(("__MIN", "__MAX"))


def _loss_rank(name: str) -> tuple[bool, bool, bool, bool, int]:
    """Return what puts a loss behind others: held out, a part, an average, not called training loss, a long name."""
    words = _words(name)
    plain = bool(words & {"loss", "trainloss"})
    training = bool(words & {"train", "training", "trainloss"}) or normal(name) == "loss"
    return bool(words & _HELD_OUT), bool(words & _PART) or not plain, bool(words & _AVERAGED), not training, len(name)


def _is_rate(name: str) -> bool:
    text = f"_{normal(name)}_"
    return ("_lr_" in text or "_learning_rate_" in text) and not name.endswith(("__MIN", "__MAX"))


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(f"'{n}'" for n in names[:12])
    return f"{shown}, … ({len(names)} in all)" if len(names) > 12 else shown or "no columns"
