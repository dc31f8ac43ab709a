"""Squared gradient norms against gradients computed one by one; hooks that leave nothing behind."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from lightning_scaling.gradients.norms import BackwardNorms, ExampleNorms, NormSample, NormSource, squared_norm


class LlamaRMSNorm(nn.Module):
    """As other libraries have it."""

    def __init__(self, d: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


class GemmaRMSNorm(LlamaRMSNorm):
    """Counts its weight from 1."""

    def forward(self, x: Tensor) -> Tensor:
        return (1.0 + self.weight) * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6)


def torch_rms(d: int) -> nn.Module:
    return nn.RMSNorm(d) if hasattr(nn, "RMSNorm") else LlamaRMSNorm(d)


class Net(nn.Module):
    """Examples of positions; one layer is used twice."""

    def __init__(self, norm: Callable[[int], nn.Module] = nn.LayerNorm, *, remake: bool | None = None) -> None:
        super().__init__()
        self.first, self.norm, self.last = nn.Linear(3, 6), norm(6), nn.Linear(6, 2)
        self.remake = remake  # activation checkpointing: reentrant, not reentrant, none
        for layer in self.modules():
            if hasattr(layer, "weight"):
                nn.init.normal_(layer.weight)

    def forward(self, x: Tensor) -> Tensor:
        def body(x: Tensor) -> Tensor:
            return self.last(self.norm(torch.tanh(self.norm(self.first(x)))))

        return body(x) if self.remake is None else checkpoint(body, x, use_reentrant=self.remake)


def losses(net: nn.Module, x: Tensor) -> Tensor:
    """The loss of each example."""
    return net(x).pow(2).mean(dim=(1, 2))


def step(source: NormSource, net: nn.Module, batches: list[Tensor], *, ranks: int = 1) -> NormSample | None:
    """Accumulate the batches as Lightning does, measured."""
    parameters = list(net.parameters())
    net.zero_grad()
    source.start(net, parameters)
    for x in batches:
        source.before_forward(len(x))
        loss = losses(net, x).mean() / len(batches)
        source.before_backward()
        loss.backward()
        source.after_backward(len(x), 1.0)
    return source.finish(accumulate=len(batches), ranks=ranks)


def gradients(net: nn.Module, x: Tensor, of: list[nn.Parameter]) -> list[Tensor]:
    return list(torch.autograd.grad(losses(net, x).mean(), of))


def test_each_backward_pass_against_the_whole_step() -> None:
    torch.manual_seed(0)
    net, x = Net(), torch.randn(12, 5, 3)
    sample = step(BackwardNorms(), net, list(x.split(4)))
    assert sample is not None
    everything = list(net.parameters())
    each = [float(squared_norm(gradients(net, part, everything))) for part in x.split(4)]
    assert float(sample.small_sq) == pytest.approx(sum(each) / 3, rel=1e-5)
    assert float(sample.big_sq) == pytest.approx(float(squared_norm(gradients(net, x, everything))), rel=1e-5)
    assert (sample.B_small, sample.B_big) == (4.0, 12.0)


@pytest.mark.parametrize("norm", [nn.LayerNorm, torch_rms, LlamaRMSNorm, GemmaRMSNorm])
@pytest.mark.parametrize("remake", [None, True, False])
def test_each_example_against_the_whole_step(norm: Callable[[int], nn.Module], remake: bool | None) -> None:
    torch.manual_seed(0)
    net, x = Net(norm, remake=remake), torch.randn(8, 5, 3, requires_grad=True)
    sample = step(ExampleNorms(), net, list(x.split(4)))
    assert sample is not None
    net.remake = None
    own = list(net.norm.parameters())
    each = [float(squared_norm(gradients(net, x[i : i + 1], own))) for i in range(8)]
    assert float(sample.small_sq) == pytest.approx(sum(each) / 8, rel=1e-5)
    assert float(sample.big_sq) == pytest.approx(float(squared_norm(gradients(net, x, own))), rel=1e-5)
    assert (sample.B_small, sample.B_big) == (1.0, 8.0)


def test_examples_in_the_second_dimension() -> None:
    torch.manual_seed(0)

    class Turned(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.transpose(0, 1)).transpose(0, 1)

    net, x = Turned(), torch.randn(8, 5, 3)
    sample = step(ExampleNorms(), net, [x])
    assert sample is not None
    each = [float(squared_norm(gradients(net, x[i : i + 1], list(net.norm.parameters())))) for i in range(8)]
    assert float(sample.small_sq) == pytest.approx(sum(each) / 8, rel=1e-5)


def test_positions_that_are_flattened_away_are_not_measured() -> None:
    class Flat(Net):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward(x.flatten(0, 1)).unflatten(0, x.shape[:2])

    assert step(ExampleNorms(), Flat(), [torch.randn(8, 5, 3)]) is None


def test_batches_of_different_sizes_count_with_their_harmonic_mean() -> None:
    """The step is the plain mean of its batches: as noisy as 2 batches of 2 / (1/2 + 1/6) = 3."""
    sample = step(BackwardNorms(), Net(), [torch.randn(2, 5, 3), torch.randn(6, 5, 3)], ranks=4)
    assert sample is not None
    assert (sample.B_small, sample.B_big) == pytest.approx((3.0, 24.0))


def test_one_batch_is_its_own_step() -> None:
    assert step(BackwardNorms(), Net(), [torch.randn(8, 5, 3)]) is None
    assert step(ExampleNorms(), Net(), [torch.randn(1, 5, 3)]) is None
    assert step(ExampleNorms(), nn.Sequential(nn.Linear(3, 3)), [torch.randn(8, 5, 3)]) is None


def test_a_step_that_an_epoch_cuts_short_and_a_scaled_loss_give_the_same() -> None:
    torch.manual_seed(0)
    net, x = Net(), torch.randn(8, 5, 3)
    for make in (BackwardNorms, ExampleNorms):
        plain = step(make(), net, list(x.split(4)))
        source, scale = make(), torch.tensor(1024.0)
        net.zero_grad()
        source.start(net, list(net.parameters()))
        for part in x.split(4):
            source.before_forward(4)
            loss = losses(net, part).mean() / 5.0 * scale  # two batches of five
            source.before_backward()
            loss.backward()
            source.after_backward(4, scale)
        scaled = source.finish(accumulate=5, ranks=1, scale=scale)
        assert plain is not None
        assert scaled is not None
        assert float(scaled.small_sq) == pytest.approx(float(plain.small_sq), rel=1e-5)
        assert float(scaled.big_sq) == pytest.approx(float(plain.big_sq), rel=1e-5)


def test_tied_sparse_and_unused_parameters() -> None:
    torch.manual_seed(0)

    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Embedding(7, 4)
            self.sparse = nn.Embedding(7, 4, sparse=True)
            self.unused = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return (self.table(x) * self.sparse(x)) @ self.table.weight.T

    net, x = Tied(), torch.randint(7, (8, 5))
    sample = step(BackwardNorms(), net, list(x.split(4)))
    used = [net.table.weight, net.sparse.weight]
    each = [float(squared_norm(gradients(net, part, used))) for part in x.split(4)]
    assert sample is not None
    assert float(sample.small_sq) == pytest.approx(sum(each) / 2, rel=1e-5)
    assert float(sample.big_sq) == pytest.approx(float(squared_norm(gradients(net, x, used))), rel=1e-5)


def test_half_precision_gradients_keep_their_digits() -> None:
    tensors = [torch.full((1000,), 300.0, dtype=torch.float16), torch.tensor([1.0])]
    assert float(squared_norm(tensors)) == pytest.approx(9e7 + 1.0)
    with pytest.raises(ValueError, match="got none"):
        squared_norm([None])


@pytest.mark.parametrize("make", [BackwardNorms, ExampleNorms])
def test_nothing_is_left_hooked_and_gradients_are_untouched(make: type[NormSource]) -> None:
    torch.manual_seed(0)
    net, x = Net(), torch.randn(8, 5, 3)
    losses(net, x).mean().backward()
    expected = [p.grad.clone() for p in net.parameters() if p.grad is not None]
    source = make()
    step(source, net, [x])
    assert all(torch.equal(p.grad, e) for p, e in zip(net.parameters(), expected, strict=True) if p.grad is not None)
    assert not any(p._backward_hooks for p in net.parameters())
    assert not any(layer._forward_hooks for layer in net.modules())
    source.start(net, list(net.parameters()))
    source.before_forward(8)
    source.before_backward()
    source.stop()
    assert not any(p._backward_hooks for p in net.parameters())
    assert not any(layer._forward_hooks for layer in net.modules())


@pytest.mark.parametrize("make", [BackwardNorms, ExampleNorms])
def test_what_fails_inside_of_backward_is_raised_after_it(
    make: type[NormSource], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("only here")

    monkeypatch.setattr(torch.linalg, "vector_norm", fails)
    monkeypatch.setattr(ExampleNorms, "_add", fails)
    net, source = Net(), make()
    source.start(net, list(net.parameters()))
    source.before_forward(8)
    loss = losses(net, torch.randn(8, 5, 3)).mean()
    source.before_backward()
    loss.backward()
    assert net.last.weight.grad is not None
    with pytest.raises(RuntimeError, match="only here"):
        source.after_backward(8, 1.0)
