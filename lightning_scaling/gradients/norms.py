"""Squared gradient norms at two batch sizes, taken while a model trains; no waiting for a device.

Two sources, which cost a norm of the gradient now and then and leave no hook behind in between:

- `BackwardNorms`: the gradient of each backward pass of this rank, before it is added to the others and reduced over
  ranks, against the gradient of the whole step. Needs several ranks or accumulated batches.
- `ExampleNorms`: the gradients that single examples give the weights of normalisation layers, against those weights'
  gradient of the whole step. One rank and one batch suffice. The noise scale of the normalisation layers alone
  predicts that of the whole model well (Gray et al. 2024, arXiv:2411.00999).

Hooks on tensors run inside of ``backward``, where an exception would end the training. Theirs is kept, and raised by
`after_backward`, which the caller guards.
"""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.parameter import Parameter

__all__ = ["BackwardNorms", "ExampleNorms", "NormSample", "NormSource", "squared_norm"]

#: Classes outside of torch that scale a normalised input by a weight: LlamaRMSNorm, Qwen2RMSNorm, T5LayerNorm, …
_NORM_CLASS = re.compile(r"(RMS|Layer)Norm$")


@dataclass(frozen=True)
class NormSample:
    """What one optimizer step tells on this rank.

    Args:
        small_sq: Mean squared norm of the gradients of small batches, a scalar on its device.
        big_sq: Squared norm of the gradient of the whole step, a scalar on its device.
        B_small: Size of the small batches [unit of the batch].
        B_big: Size of the whole step, over ranks and accumulated batches [same unit].
    """

    small_sq: Tensor
    big_sq: Tensor
    B_small: float
    B_big: float


def squared_norm(tensors: Iterable[Tensor | None]) -> Tensor:
    """Return the squared norm of all tensors together, a float32 scalar on the device of the first.

    Raises:
        ValueError: If there is no tensor.

    Example:
        >>> float(squared_norm([torch.tensor([3.0]), None, torch.tensor([4.0])]))
        25.0
    """
    there = [_dense(t) for t in tensors if t is not None]
    if not there:
        raise ValueError("Expected a gradient, got none, so measure after a backward pass.")
    if all(t.dtype == torch.float32 and t.device == there[0].device for t in there):
        norms = list(torch._foreach_norm(there))  # few launches for many tensors
    else:
        norms = [torch.linalg.vector_norm(t, dtype=torch.float32).to(there[0].device) for t in there]
    return torch.stack(norms).square().sum()


class NormSource(ABC):
    """Takes squared gradient norms in the optimizer steps it is told to.

    A step is ``start``, then for each of its batches ``before_forward``, ``before_backward`` and ``after_backward``,
    and ``finish`` when the gradient is complete, not yet clipped and no longer scaled. `stop` ends it anyhow.
    """

    def __init__(self) -> None:
        self._small: list[Tensor] = []
        self._sizes: list[float] = []
        self._handles: list[Any] = []
        self._error: Exception | None = None
        self._parameters: Sequence[Parameter] = ()
        self._n = 0

    def start(self, module: nn.Module, parameters: Sequence[Parameter]) -> None:
        """Begin a step.

        Args:
            module: The model.
            parameters: The parameters that the optimizer trains.
        """
        self.stop()
        self._small, self._sizes, self._error = [], [], None
        self._parameters = parameters

    def before_forward(self, n: int) -> None:
        """Get ready for the forward pass of ``n`` examples."""
        self._n = n

    @abstractmethod
    def before_backward(self) -> None:
        """Get ready for a backward pass."""

    @abstractmethod
    def after_backward(self, size: float, scale: Tensor | float) -> None:
        """Take the norms of a backward pass.

        Args:
            size: Size of its batch [unit of the batch].
            scale: What its loss was multiplied by.

        Raises:
            Exception: What went wrong in the hooks.
        """

    @abstractmethod
    def finish(self, *, accumulate: int, ranks: int, scale: Tensor | float = 1.0) -> NormSample | None:
        """End the step and return what it tells, None if nothing.

        Args:
            accumulate: By how many the loss of each batch was divided.
            ranks: Ranks whose gradients the step is the mean of.
            scale: What the gradient of the step still is multiplied by.
        """

    def stop(self) -> None:
        """Remove all hooks and forget the step."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _raise(self) -> None:
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _sample(
        self, measured: Iterable[Parameter], B_small: float, accumulate: int, ranks: int, scale: Tensor | float
    ) -> NormSample | None:
        """Put small and big side by side; both in the unit of the mean loss of a batch."""
        n = len(self._small)
        # A step is the plain mean of its batches, whatever their sizes: it is as noisy as n batches of the harmonic
        # mean of the sizes.
        B_big = ranks * n * n / sum(1.0 / size for size in self._sizes) if n else 0.0
        if B_small >= B_big * (1.0 - 1e-9):
            return None
        gradients = [p.grad for p in measured if p.grad is not None]
        if not gradients:
            return None
        small_sq = torch.stack(self._small).mean() * accumulate**2
        # A step that the end of an epoch cuts short is divided by `accumulate` all the same.
        big_sq = squared_norm(gradients) * (accumulate / n) ** 2 / torch.as_tensor(scale) ** 2
        return NormSample(small_sq, big_sq, B_small, B_big)


class BackwardNorms(NormSource):
    """The gradient of each backward pass of this rank against that of the whole step.

    Hooks see a parameter's gradient when it is computed, before it is accumulated and before
    ``DistributedDataParallel`` reduces it, so this works with any communication hook and needs no copy of a gradient.

    Example:
        >>> model, source = nn.Linear(3, 1), BackwardNorms()
        >>> source.start(model, list(model.parameters()))
        >>> for x in torch.eye(3)[:2]:
        ...     source.before_backward()
        ...     (model(x).sum() / 2).backward()
        ...     source.after_backward(1, 1.0)
        >>> sample = source.finish(accumulate=2, ranks=1)
        >>> float(sample.small_sq), float(sample.big_sq), sample.B_small, sample.B_big
        (2.0, 1.5, 1.0, 2.0)
    """

    def __init__(self) -> None:
        super().__init__()
        self._norms: list[Tensor] = []

    def before_backward(self) -> None:
        """Hook into the gradients to come."""
        self.stop()
        self._norms = []
        trained = [p for p in self._parameters if p.requires_grad]  # some may have been frozen since
        self._handles = [p.register_hook(self._take) for p in trained]  # type: ignore[no-untyped-call]

    def after_backward(self, size: float, scale: Tensor | float) -> None:
        """Take the squared norm of this pass's gradient."""
        self.stop()
        self._raise()
        norms, self._norms = self._norms, []
        if norms:
            total = torch.stack([x.to(norms[0].device) for x in norms]).square().sum()
            self._small.append(total / torch.as_tensor(scale) ** 2)
            self._sizes.append(size)

    def finish(self, *, accumulate: int, ranks: int, scale: Tensor | float = 1.0) -> NormSample | None:
        """Return the mean over the passes beside the whole step."""
        self.stop()
        n = len(self._small)
        B_small = n / sum(1.0 / size for size in self._sizes) if n else 0.0
        return self._sample(self._parameters, B_small, accumulate, ranks, scale)

    def _take(self, gradient: Tensor) -> None:
        try:
            self._norms.append(torch.linalg.vector_norm(_dense(gradient.detach()), dtype=torch.float32))
        except Exception as error:
            self._error = error


class ExampleNorms(NormSource):
    r"""The gradients that single examples give normalisation layers, against those layers' gradient of the whole step.

    For ``y = weight * z + bias`` with z the normalised input, the gradients of example i are sums over its positions:

    .. math:: \nabla_{weight} = \sum_t \frac{\partial \ell}{\partial y_{it}} z_{it}, \qquad
        \nabla_{bias} = \sum_t \frac{\partial \ell}{\partial y_{it}}

    Taken are ``LayerNorm``, ``RMSNorm``, and modules of other libraries whose class is called so; the first dimension
    of their inputs, or else the second, must be that of the examples. The loss of a batch must be the mean over its
    examples, each of which counts the same.

    Source: Gray et al. 2024, arXiv:2411.00999.
    """

    def __init__(self) -> None:
        super().__init__()
        self._layers: list[tuple[nn.Module, list[Parameter]]] = []
        self._found: dict[Parameter, Tensor] = {}  # gradients of the examples of a batch, shape (n, size)
        self._measured: frozenset[Parameter] | None = None

    @staticmethod
    def sees(module: nn.Module) -> bool:
        """Return whether a model has layers to look at."""
        return bool(_norm_layers(module))

    def start(self, module: nn.Module, parameters: Sequence[Parameter]) -> None:
        """Begin a step: find the layers."""
        super().start(module, parameters)
        trained = set(parameters)
        found = [(layer, [p for p in own if p in trained]) for layer, own in _norm_layers(module)]
        self._layers = [(layer, own) for layer, own in found if own]
        self._measured = None

    def before_forward(self, n: int) -> None:
        """Hook into the layers for a batch of ``n`` examples."""
        super().before_forward(n)
        self.stop()
        self._found = {}
        self._handles = [layer.register_forward_hook(self._passed) for layer, _ in self._layers]

    def before_backward(self) -> None:
        """Do nothing: the outputs of the layers are hooked into already."""

    def after_backward(self, size: float, scale: Tensor | float) -> None:
        """Take the squared norms of this batch's examples."""
        self.stop()
        self._raise()
        found, self._found = self._found, {}
        if self._measured is None:
            self._measured = frozenset(found)
        if not found or self._measured != found.keys():  # a layer was skipped: batches do not compare
            self._measured = frozenset()
            return
        # In a mean over n examples each counts 1/n, so its own gradient is n times what was found: n² in the square, of
        # which the mean is taken.
        self._small.append(squared_norm(found.values()) * self._n / torch.as_tensor(scale) ** 2)
        self._sizes.append(size)

    def finish(self, *, accumulate: int, ranks: int, scale: Tensor | float = 1.0) -> NormSample | None:
        """Return the mean over the examples beside the whole step; the size of an example is 1 / n of a batch."""
        self.stop()
        if not self._measured:
            return None
        measured = [p for p in self._parameters if p in self._measured]
        return self._sample(measured, self._sizes[-1] / self._n, accumulate, ranks, scale)

    def _passed(self, layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        """Follow a layer's output back; what it was computed from is kept by autograd anyway."""
        try:
            if isinstance(output, Tensor) and output.requires_grad and inputs and isinstance(inputs[0], Tensor):
                output.register_hook(partial(self._take, layer, inputs[0].detach()))  # type: ignore[no-untyped-call]
        except Exception as error:
            self._error = error

    def _take(self, layer: nn.Module, x: Tensor, gradient: Tensor) -> None:
        try:
            with torch.no_grad():
                self._add(layer, x, gradient.detach())
        except Exception as error:
            self._error = error

    def _add(self, layer: nn.Module, x: Tensor, gradient: Tensor) -> None:
        own = next(own for found, own in self._layers if found is layer)
        dim = next((d for d in range(min(2, x.dim() - 1)) if x.shape[d] == self._n), None)
        if dim is None:
            return
        for name, p in layer.named_parameters(recurse=False):
            if not any(p is q for q in own):
                continue
            each = gradient.float() * _normalised(layer, x) if name == "weight" else gradient.float()
            each = each.movedim(dim, 0)
            each = each.reshape(self._n, -1, p.numel()).sum(dim=1)
            self._found[p] = self._found[p] + each if p in self._found else each


def _norm_layers(module: nn.Module) -> list[tuple[nn.Module, list[Parameter]]]:
    """Return the layers that scale a normalised input by a weight, with their parameters."""
    found = []
    for layer in module.modules():
        own = dict(layer.named_parameters(recurse=False))
        if _NORM_CLASS.search(type(layer).__name__) and "weight" in own and own.keys() <= {"weight", "bias"}:
            found.append((layer, list(own.values())))
    return found


def _normalised(layer: nn.Module, x: Tensor) -> Tensor:
    """Return what a layer multiplies with its weight, in float32."""
    if type(layer) is nn.LayerNorm:
        return functional.layer_norm(x.float(), layer.normalized_shape, eps=layer.eps)
    # Whatever else it does, it is affine in its weight; some count the weight from 1. A copy is called past its hooks.
    twin, ends = copy.copy(layer), []
    for share in (1.0, 0.0):
        weight = torch.full_like(layer.get_parameter("weight"), share, dtype=torch.float32)
        twin._parameters = {**layer._parameters, "weight": Parameter(weight, requires_grad=False)}
        ends.append(twin.forward(x.float()).float())
    return torch.sub(*ends)


def _dense(tensor: Tensor) -> Tensor:
    return tensor.coalesce().values() if tensor.is_sparse else tensor
