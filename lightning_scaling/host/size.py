"""The size of a model as scaling laws count it: parameters outside the embeddings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.nn.parameter import UninitializedParameter

#: Names of learned positions that are bare parameters, such as ``pos_embed``, ``wpe`` or ``blocks.0.position_bias``.
_POSITIONAL = re.compile(r"(^|[._])(pos|wpe|position)\w*$")

_TABLES = (nn.Embedding, nn.EmbeddingBag)


@dataclass(frozen=True)
class ModelSize:
    """Parameters of a model by what scaling laws do with them; the five parts are disjoint and sum to ``total``.

    Args:
        non_embedding: N of Kaplan et al. 2020, arXiv:2001.08361, Sec. 2.1: everything but the parts below.
        embedding: Weights of embedding modules, a head that is tied to one of them included.
        positional: Learned positions that are bare parameters.
        head: Weight and bias of an output layer onto a vocabulary that is not tied to its embedding.
    """

    non_embedding: int
    embedding: int
    positional: int
    head: int

    @property
    def total(self) -> int:
        """All parameters, each shared one counted once."""
        return self.non_embedding + self.embedding + self.positional + self.head


def model_size(module: nn.Module) -> ModelSize | None:
    """Count the parameters of a model; frozen ones count too.

    Sharded parameters count in full: DTensor (FSDP2, tensor parallel) reports its global size by itself, DeepSpeed
    ZeRO-3 leaves it in ``ds_numel``, and the flat parameters of FSDP1 are taken apart.

    Args:
        module: The model, possibly wrapped by a strategy.

    Returns:
        The size, or None while a lazy module waits for its first batch.

    Example:
        >>> size = model_size(nn.Sequential(nn.Embedding(100, 8), nn.Linear(8, 8), nn.Linear(8, 100)))
        >>> size.embedding, size.non_embedding, size.head, size.total
        (800, 72, 900, 1772)
    """
    modules = list(module.modules())
    head = _output_layer(modules)
    parts = {"non_embedding": 0, "embedding": 0, "positional": 0, "head": 0}
    seen: set[int] = set()
    # Embeddings first: a weight that is shared with one belongs to it.
    for owner, name, identity, numel in sorted(_parameters(modules), key=_embeddings_first):
        if numel is None:
            return None
        if identity in seen:
            continue
        seen.add(identity)
        if isinstance(owner, _TABLES):
            parts["embedding"] += numel
        elif owner is head:
            parts["head"] += numel
        elif _POSITIONAL.search(name):
            parts["positional"] += numel
        else:
            parts["non_embedding"] += numel
    return ModelSize(**parts)


def _output_layer(modules: list[nn.Module]) -> nn.Module | None:
    """Return the last linear layer from the width of an embedding onto its vocabulary.

    Layers inside the blocks can have the same shape, a feed-forward layer of 4 x 64 in a model of bytes for one; the
    output layer is the one that is defined last. A head that is tied to its embedding is found as well: its weight is
    counted there.
    """
    shapes = {(m.embedding_dim, m.num_embeddings) for m in modules if isinstance(m, _TABLES)}
    linear = [m for m in modules if isinstance(m, nn.Linear) and (m.in_features, m.out_features) in shapes]
    return linear[-1] if linear else None


def _parameters(modules: list[nn.Module]) -> Iterator[tuple[nn.Module, str, int, int | None]]:
    """Yield (module, name in it, identity, size) of every parameter, shared ones more than once; size None if lazy."""
    flat: set[tuple[int, str]] = set()
    wholes: set[int] = set()
    for wrapper in modules:  # FSDP1: the modules hold views of this rank's shard, the flat parameter knows them all
        handle: Any = getattr(wrapper, "_handle", None)
        if handle is None or not hasattr(handle, "flat_param"):
            continue
        for info, numel in zip(handle.flat_param._param_infos, handle.flat_param._numels, strict=False):
            flat.add((id(info.module), info.param_name))
            yield info.module, info.param_name, hash((id(info.module), info.param_name)), int(numel)
        flat.update((id(info.module), info.param_name) for info in handle.flat_param._shared_param_infos)
        wholes.add(id(handle.flat_param))
    for owner in modules:
        for name, parameter in owner.named_parameters(recurse=False):
            if (id(owner), name) in flat or id(parameter) in wholes:
                continue
            lazy = isinstance(parameter, UninitializedParameter)
            yield owner, name, id(parameter), None if lazy else int(getattr(parameter, "ds_numel", parameter.numel()))


def _embeddings_first(found: tuple[nn.Module, str, int, int | None]) -> bool:
    return not isinstance(found[0], _TABLES)  # False sorts before True


def describe_size(size: ModelSize | None) -> str:
    """Return the size in words, for example ``"N = 10.6 M non-embedding parameters"``."""
    if size is None:
        return "N not known (lazy modules)"
    return f"N = {_short(size.non_embedding)} non-embedding parameters"


def _short(n: int) -> str:
    for scale, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if n >= scale:
            return f"{n / scale:.3g} {letter}"
    return f"{n}"
