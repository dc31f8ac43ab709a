"""N is counted as scaling laws count it, on models of known size."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from lightning_scaling.host.size import ModelSize, describe_size, model_size

V, C, T, BLOCKS = 1000, 64, 32, 2
#: 12 C^2 weights, 13 C of biases and norms per block, and the last norm.
BODY = BLOCKS * (12 * C * C + 13 * C) + 2 * C


class GPT(nn.Module):
    """A GPT-2 in miniature with learned positions that are a bare parameter."""

    def __init__(self, *, tied: bool) -> None:
        super().__init__()
        self.wte = nn.Embedding(V, C)
        self.wpe = nn.Parameter(torch.zeros(T, C))
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "norm1": nn.LayerNorm(C),
                    "qkv": nn.Linear(C, 3 * C),
                    "out": nn.Linear(C, C),
                    "norm2": nn.LayerNorm(C),
                    "up": nn.Linear(C, 4 * C),
                    "down": nn.Linear(4 * C, C),
                }
            )
            for _ in range(BLOCKS)
        )
        self.norm = nn.LayerNorm(C)
        self.head = nn.Linear(C, V, bias=False)
        if tied:
            self.head.weight = self.wte.weight


@pytest.mark.parametrize("tied", [True, False])
def test_gpt(tied: bool) -> None:
    model = GPT(tied=tied)
    size = model_size(model)
    assert size == ModelSize(non_embedding=BODY, embedding=V * C, positional=T * C, head=0 if tied else V * C)
    assert size.total == sum(p.numel() for p in model.parameters())


def test_order_of_registration_does_not_matter_to_a_tied_head() -> None:
    model = nn.Module()
    model.head = nn.Linear(C, V, bias=False)
    model.wte = nn.Embedding(V, C)
    model.head.weight = model.wte.weight
    assert model_size(model) == ModelSize(non_embedding=0, embedding=V * C, positional=0, head=0)


def test_frozen_and_meta_parameters_count_and_buffers_do_not() -> None:
    frozen = nn.BatchNorm1d(8).requires_grad_(False)  # two parameters of 8, and buffers
    assert model_size(frozen) == ModelSize(16, 0, 0, 0)
    with torch.device("meta"):
        assert model_size(nn.Linear(8, 8)) == ModelSize(72, 0, 0, 0)


def test_lazy_modules_are_unknown_until_they_have_seen_a_batch() -> None:
    model = nn.Sequential(nn.LazyLinear(4), nn.Linear(4, 2))
    assert model_size(model) is None
    model(torch.zeros(1, 3))
    assert model_size(model) == ModelSize(16 + 10, 0, 0, 0)


def test_positions_by_name() -> None:
    model = nn.Module()
    model.pos_embed = nn.Parameter(torch.zeros(5))
    model.composed = nn.Parameter(torch.zeros(7))  # "pos" inside a word is no position
    model.relative_position_bias = nn.Parameter(torch.zeros(11))
    assert model_size(model) == ModelSize(7, 0, 16, 0)


def test_sharded_parameters_count_in_full() -> None:
    zero3 = nn.Linear(2, 3, bias=False)
    zero3.weight.ds_numel = 600
    assert model_size(zero3) == ModelSize(600, 0, 0, 0)

    # What FSDP1 leaves: modules that hold this rank's shard, and a handle on the whole.
    embedding, layer = nn.Embedding(10, 4), nn.Linear(1, 2, bias=False)
    info: Any = lambda module: SimpleNamespace(module=module, param_name="weight")  # noqa: E731
    wrapper = nn.Sequential(embedding, layer)
    wrapper._handle = SimpleNamespace(
        flat_param=SimpleNamespace(
            _param_infos=[info(embedding), info(layer)], _numels=[4000, 500], _shared_param_infos=[]
        )
    )
    assert model_size(wrapper) == ModelSize(500, 4000, 0, 0)


def test_words() -> None:
    assert describe_size(ModelSize(10_630_000, 1, 1, 1)) == "N = 10.6 M non-embedding parameters"
    assert describe_size(ModelSize(72, 0, 0, 0)) == "N = 72 non-embedding parameters"
    assert "not known" in describe_size(None)


def test_a_feed_forward_layer_of_the_shape_of_the_head_is_no_head() -> None:
    class Bytes(nn.Module):
        def __init__(self, tied: bool) -> None:
            super().__init__()
            self.embedding = nn.Embedding(256, 64)
            self.blocks = nn.ModuleList([nn.Sequential(nn.Linear(64, 256), nn.Linear(256, 64)) for _ in range(3)])
            self.head = nn.Linear(64, 256, bias=False)
            if tied:
                self.head.weight = self.embedding.weight

    block = 64 * 256 + 256 + 256 * 64 + 64
    untied, tied = model_size(Bytes(False)), model_size(Bytes(True))
    assert untied is not None
    assert tied is not None
    assert (untied.non_embedding, untied.head, untied.embedding) == (3 * block, 64 * 256, 256 * 64)
    assert (tied.non_embedding, tied.head, tied.embedding) == (3 * block, 0, 256 * 64)
