"""Tokens or samples per optimizer step, read off one batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from lightning_scaling.units import thousands

#: Keys under which a batch of text keeps the tokens of its inputs.
_TOKEN_KEYS = ("input_ids", "tokens", "token_ids", "input_tokens", "inputs")


@dataclass(frozen=True)
class BatchSize:
    """What one optimizer step sees, over all ranks and accumulated batches.

    Args:
        per_step: Tokens or samples per optimizer step.
        unit: Which of the two.
    """

    per_step: int
    unit: Literal["tokens", "samples"]

    def __str__(self) -> str:
        unit = self.unit if self.per_step != 1 else self.unit.removesuffix("s")
        return f"{thousands(self.per_step)} {unit} per step"


def batch_size(batch: Any, *, accumulate: int = 1, ranks: int = 1) -> BatchSize | None:
    """Read the size of an optimizer step off one of its batches; no value of a tensor is looked at.

    Args:
        batch: What the data loader yields: a tensor, or tensors in a mapping, a sequence or a dataclass.
        accumulate: Batches per optimizer step.
        ranks: Ranks that see different data.

    Returns:
        Tokens where the inputs are whole numbers of shape (batch, time), samples where they are anything else with a
        first dimension, None where the batch holds no tensor.

    Example:
        >>> print(batch_size(torch.zeros(8, 128, dtype=torch.long), accumulate=2, ranks=4))
        8 192 tokens per step
        >>> print(batch_size((torch.zeros(32, 3, 8, 8), torch.zeros(32, dtype=torch.long))))
        32 samples per step
    """
    inputs = _inputs(batch)
    if inputs is None:
        return None
    scale = accumulate * ranks
    if inputs.dtype in (torch.int64, torch.int32, torch.int16) and inputs.dim() == 2:
        return BatchSize(inputs.numel() * scale, "tokens")
    return BatchSize(inputs.shape[0] * scale, "samples")


def count_examples(batch: Any) -> int | None:
    """Return how many examples a batch holds, the first dimension of its inputs; None where it holds no tensor.

    Example:
        >>> count_examples({"input_ids": torch.zeros(8, 128, dtype=torch.long)})
        8
    """
    inputs = _inputs(batch)
    return None if inputs is None else int(inputs.shape[0])


def step_size(trainer: Any, pl_module: Any, batch: Any) -> BatchSize | None:
    """Return the size of an optimizer step of a Trainer, of which a batch is one, None where it is not known."""
    accumulate = trainer.accumulate_grad_batches if pl_module.automatic_optimization else 1
    return batch_size(batch, accumulate=accumulate, ranks=data_ranks(trainer))


def data_ranks(trainer: Any) -> int:
    """Return the number of ranks that see different data; tensor-parallel ranks share theirs."""
    sampler = getattr(trainer.strategy, "distributed_sampler_kwargs", None)
    if isinstance(sampler, Mapping) and "num_replicas" in sampler:
        return int(sampler["num_replicas"])
    return int(trainer.world_size)


def _inputs(batch: Any) -> Tensor | None:
    """Return the tensor that holds the inputs: under a well-known key, or else the first with a dimension."""
    if isinstance(batch, Mapping):
        for key in _TOKEN_KEYS:
            if isinstance(value := batch.get(key), Tensor) and value.dim():
                return value
    return next((t for t in _tensors(batch) if t.dim()), None)


def _tensors(batch: Any, depth: int = 0) -> Iterator[Tensor]:
    if isinstance(batch, Tensor):
        yield batch
    elif depth < 8 and not isinstance(batch, (str, bytes)):
        children: Any = ()
        if isinstance(batch, Mapping):
            children = batch.values()
        elif isinstance(batch, Sequence):
            children = batch
        elif is_dataclass(batch) and not isinstance(batch, type):
            children = (getattr(batch, field.name) for field in fields(batch))
        for child in children:
            yield from _tensors(child, depth + 1)
