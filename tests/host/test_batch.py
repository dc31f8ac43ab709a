"""The size of an optimizer step is read off its first batch."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_scaling.host.batch import BatchSize, batch_size, data_ranks

TOKENS = torch.zeros(4, 16, dtype=torch.long)
IMAGES = torch.zeros(4, 3, 8, 8)
LABELS = torch.zeros(4, dtype=torch.long)


@dataclass
class Graph:
    name: str
    x: Tensor


@pytest.mark.parametrize(
    ("batch", "expected"),
    [
        (TOKENS, BatchSize(64, "tokens")),
        ((TOKENS, TOKENS), BatchSize(64, "tokens")),
        ({"labels": LABELS, "input_ids": TOKENS.int()}, BatchSize(64, "tokens")),
        ({"attention_mask": IMAGES, "text": {"tokens": TOKENS}}, BatchSize(4, "samples")),
        (IMAGES, BatchSize(4, "samples")),
        ([IMAGES, LABELS], BatchSize(4, "samples")),
        ((LABELS, IMAGES), BatchSize(4, "samples")),
        (Graph("g", torch.zeros(9, 2)), BatchSize(9, "samples")),
        ([torch.tensor(1.0), IMAGES], BatchSize(4, "samples")),
        (None, None),
        ("text", None),
        ({"ids": [1, 2, 3]}, None),
    ],
)
def test_what_a_batch_holds(batch: Any, expected: BatchSize | None) -> None:
    assert batch_size(batch) == expected


def test_ranks_and_accumulation_multiply() -> None:
    assert batch_size(TOKENS, accumulate=3, ranks=2) == BatchSize(384, "tokens")
    assert str(batch_size(IMAGES, accumulate=1000)) == "4 000 samples per step"
    assert str(BatchSize(1, "samples")) == "1 sample per step"


def test_tensor_parallel_ranks_share_their_data() -> None:
    strategy = SimpleNamespace(distributed_sampler_kwargs={"num_replicas": 2, "rank": 0})
    assert data_ranks(SimpleNamespace(strategy=strategy, world_size=8)) == 2
    assert data_ranks(SimpleNamespace(strategy=SimpleNamespace(), world_size=8)) == 8


def test_no_value_is_looked_at() -> None:
    with torch.device("meta"):
        assert batch_size(torch.zeros(2, 3, dtype=torch.long)) == BatchSize(6, "tokens")
