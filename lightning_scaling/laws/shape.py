"""From the shape of a transformer to its size and its compute, and back.

At equal N the shape hardly matters: aspect ratios 40-fold apart cost less than 3 % of the loss (Kaplan et al. 2020,
arXiv:2001.08361, Fig. 5), so the laws ask for N alone. Functions of N alone take parameters outside the embeddings.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.laws._check import check_shapes, positive


def parameters(
    n_layer: ArrayLike, d_model: ArrayLike, *, d_attn: ArrayLike | None = None, d_ff: ArrayLike | None = None
) -> NDArray[np.float64]:
    r"""Return the non-embedding parameters of a transformer, without biases and normalisation.

    .. math:: N = 2 \, d_{model} \, n_{layer} (2 \, d_{attn} + d_{ff}) = 12 \, n_{layer} \, d_{model}^2

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 2.1.

    Args:
        n_layer: Layers [1], shape (...).
        d_model: Width [1], broadcastable to (...).
        d_attn: Width of the attention [1]; None means d_model.
        d_ff: Width of the feed-forward layer [1]; None means 4 d_model.

    Returns:
        N [non-embedding parameters], shape (...).

    Raises:
        ValueError: If any of the arguments is not positive.

    Example:
        >>> print(f"{parameters(12, 768):.0f}")
        84934656
    """
    check_shapes(n_layer=n_layer, d_model=d_model, d_attn=d_attn, d_ff=d_ff)
    d_model = positive("d_model", d_model)
    attention = d_model if d_attn is None else positive("d_attn", d_attn)
    feed_forward = 4.0 * d_model if d_ff is None else positive("d_ff", d_ff)
    return 2.0 * d_model * positive("n_layer", n_layer) * (2.0 * attention + feed_forward)


def width(N: ArrayLike, n_layer: ArrayLike) -> NDArray[np.float64]:
    r"""Return the width at which a transformer of the usual shape has N parameters; the inverse of `parameters`.

    .. math:: d_{model} = \sqrt{N / (12 \, n_{layer})}

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 2.1, solved for d_model.

    Args:
        N: Non-embedding parameters [1], shape (...).
        n_layer: Layers [1], broadcastable to (...).

    Returns:
        d_model [1], shape (...).

    Raises:
        ValueError: If any ``N <= 0`` or ``n_layer <= 0``.

    Example:
        >>> float(width(84934656, 12))
        768.0
    """
    check_shapes(N=N, n_layer=n_layer)
    return np.sqrt(positive("N", N) / (12.0 * positive("n_layer", n_layer)))


def forward_flop(N: ArrayLike, n_layer: ArrayLike, n_ctx: ArrayLike, d_model: ArrayLike) -> NDArray[np.float64]:
    r"""Return the compute of a forward pass.

    .. math:: C_{forward} = 2 N + 2 \, n_{layer} \, n_{ctx} \, d_{model}

    The second term, of the attention, is left out of 6 N B S. It counts where n_ctx is above about 12 d_model.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 2.2. A multiply-add counts as two.

    Args:
        N: Non-embedding parameters [1], shape (...).
        n_layer: Layers [1], broadcastable to (...).
        n_ctx: Context [tokens], broadcastable to (...).
        d_model: Width [1], broadcastable to (...).

    Returns:
        Compute of a token [FLOP], shape (...).

    Raises:
        ValueError: If any of the arguments is not positive.

    Example:
        >>> print(f"{forward_flop(parameters(48, 1600), 48, 1024, 1600):.0f}")
        3106406400
    """
    check_shapes(N=N, n_layer=n_layer, n_ctx=n_ctx, d_model=d_model)
    attention = positive("n_layer", n_layer) * positive("n_ctx", n_ctx) * positive("d_model", d_model)
    return 2.0 * (positive("N", N) + attention)


def training_flop(N: ArrayLike, B: ArrayLike, S: ArrayLike) -> NDArray[np.float64]:
    r"""Return the compute of a training run.

    .. math:: C = 6 \, N \, B \, S

    Source: Kaplan et al. 2020, arXiv:2001.08361, Sec. 2.1. Attention over the context, embeddings and the output layer
    are left out; Porian et al. 2024, arXiv:2406.19146, find that the output layer alone moves the best N(C) of small
    models a long way.

    Args:
        N: Non-embedding parameters [1], shape (...).
        B: Batch size [tokens/step], broadcastable to (...).
        S: Optimizer steps [steps], broadcastable to (...).

    Returns:
        C [FLOP], shape (...).

    Raises:
        ValueError: If any of the arguments is not positive.

    Example:
        >>> print(f"{training_flop(1.5e9, 2**19, 250_000) / 8.64e19:.6g} PF-days")
        13.6533 PF-days
    """
    check_shapes(N=N, B=B, S=S)
    return 6.0 * positive("N", N) * positive("B", B) * positive("S", S)


def tokens_for(C: ArrayLike, N: ArrayLike) -> NDArray[np.float64]:
    r"""Return the tokens that an amount of compute trains a model on; the inverse of `training_flop` in B S.

    .. math:: D = C / (6 N)

    Source: Kaplan et al. 2020, arXiv:2001.08361, Sec. 2.1.

    Args:
        C: Compute [FLOP], shape (...).
        N: Non-embedding parameters [1], broadcastable to (...).

    Returns:
        D = B S [tokens], shape (...).

    Raises:
        ValueError: If any ``C <= 0`` or ``N <= 0``.

    Example:
        >>> print(f"{tokens_for(6e20, 1e9):.6g}")
        1e+11
    """
    check_shapes(C=C, N=N)
    return positive("C", C) / (6.0 * positive("N", N))


def learning_rate(N: ArrayLike) -> NDArray[np.float64]:
    r"""Return the paper's peak learning rate for Adam.

    .. math:: LR(N) = 0.003239 - 0.0001395 \ln N

    A rule of thumb for that architecture and batch; it reaches zero at N = 1.2e10, and the paper itself trusts it up to
    1e10. The base of the logarithm is not printed; natural is the one that breaks down there. Porian et
    al. 2024, arXiv:2406.19146, tuned the rate and the batch of each size, and found 3.7 N^-0.36.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. D.1.

    Args:
        N: Non-embedding parameters [1], shape (...).

    Returns:
        Learning rate [1], shape (...).

    Raises:
        ValueError: If any ``N`` is not positive or so large that the rate is not.

    Example:
        >>> round(float(learning_rate(1e8)), 9)
        0.000669315
    """
    rate = 0.003239 - 0.0001395 * np.log(positive("N", N))
    if np.any(rate <= 0.0):
        raise ValueError(
            f"Expected N below {math.exp(0.003239 / 0.0001395):.2g}, got {np.max(N):.3g}, so tune the learning rate "
            "of a model of this size; the rule does not reach so far."
        )
    return rate


def with_embeddings(N: ArrayLike) -> NDArray[np.float64]:
    r"""Return about how many parameters the paper's models have with their embeddings.

    .. math:: N_{total} = N + 47491 \, N^{1/3}

    Source: Pearce & Song 2024, arXiv:2406.12907: a fit to the models of Kaplan et al. 2020, vocabulary of 50257.

    Args:
        N: Non-embedding parameters [1], shape (...).

    Returns:
        N_total [parameters], shape (...), the N of Hoffmann et al. 2022.

    Raises:
        ValueError: If any ``N <= 0``.

    Example:
        >>> print(f"{with_embeddings(1e9):.4g}")
        1.047e+09
    """
    return positive("N", N) + 47491.0 * np.cbrt(N)
