"""Size, compute and learning rate from the shape of a transformer."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling.laws.shape import (
    forward_flop,
    learning_rate,
    parameters,
    tokens_for,
    training_flop,
    width,
    with_embeddings,
)
from lightning_scaling.units import DAY_S, PF_DAY
from tests.laws.draws import batches, sizes, steps

layers = st.integers(1, 200)
widths = st.integers(16, 20_000)


@given(layers, widths)
def test_width_inverts_parameters(n_layer: int, d_model: int) -> None:
    assert width(parameters(n_layer, d_model), n_layer) == pytest.approx(d_model, rel=1e-12)
    assert parameters(n_layer, d_model, d_attn=d_model, d_ff=4 * d_model) == parameters(n_layer, d_model)
    assert parameters(n_layer, d_model, d_ff=8 * d_model) == 20 * n_layer * d_model**2


@given(layers, widths, st.integers(1, 100_000))
def test_training_takes_three_forward_passes_but_for_the_attention(n_layer: int, d_model: int, n_ctx: int) -> None:
    N = parameters(n_layer, d_model)
    forward = forward_flop(N, n_layer, n_ctx, d_model)
    assert forward > 2.0 * N
    if n_ctx < 12 * d_model:  # where the paper leaves the second term out
        assert 3.0 * forward < 2.0 * training_flop(N, 1.0, 1.0)


@given(sizes, batches, steps)
def test_compute_gives_the_tokens_back(N: float, B: float, S: float) -> None:
    assert tokens_for(training_flop(N, B, S), N) == pytest.approx(B * S, rel=1e-12)


@given(sizes)
def test_embeddings_add_and_matter_less_and_less(N: float) -> None:
    assert with_embeddings(N) > N
    assert with_embeddings(8.0 * N) / (8.0 * N) < with_embeddings(N) / N


def test_learning_rate_falls_and_ends() -> None:
    rates = learning_rate(np.geomspace(1e3, 1e10, 50))
    assert np.all(np.diff(rates) < 0.0)
    with pytest.raises(ValueError, match=r"^Expected N below 1.2e\+10, got 2e\+10, so tune"):
        learning_rate([1e9, 2e10])


def test_units() -> None:
    assert PF_DAY == 8.64e19
    assert DAY_S == 24 * 60 * 60


def test_bad_shapes() -> None:
    with pytest.raises(ValueError, match="Expected d_model > 0"):
        parameters(12, 0)
    with pytest.raises(ValueError, match="Expected d_ff > 0"):
        parameters(12, 768, d_ff=-1)
    with pytest.raises(ValueError, match=r"Expected n_layer > 0, got n_layer=nan, so pass the number of layers"):
        width(1e9, float("nan"))
