"""Units: everything inside is tokens, optimizer steps, FLOP and nats/token; these are the few conversions."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

PF_DAY = 8.64e19
"""FLOP of one day at 1e15 FLOP/s, Kaplan et al. 2020, arXiv:2001.08361, Sec. 1.3."""

FLOP_PER_PARAMETER_TOKEN = 6.0
"""Training FLOP per parameter and token: 2 in the forward pass, 4 in the backward pass (same paper, Sec. 2.1)."""


def training_compute(N: ArrayLike, B: ArrayLike, S: ArrayLike) -> NDArray[np.float64]:
    r"""Return the compute of a training run.

    .. math:: C = 6 N B S

    Good where ``d_model`` is much larger than ``n_ctx / 12``: the cost of attention over the context is left out.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Sec. 2.1.

    Args:
        N: Non-embedding parameters [1], shape (...).
        B: Batch size [tokens/step], broadcastable to (...).
        S: Optimizer steps [steps], broadcastable to (...).

    Returns:
        C [FLOP], shape (...).

    Raises:
        ValueError: If the shapes cannot be broadcast.

    Example:
        >>> C = training_compute(1.5e9, 2**19, 250_000)
        >>> round(float(to_pf_days(C)), 4)
        13.6533
    """
    return (
        FLOP_PER_PARAMETER_TOKEN
        * np.asarray(N, dtype=np.float64)
        * np.asarray(B, dtype=np.float64)
        * np.asarray(S, dtype=np.float64)
    )


def to_pf_days(C: ArrayLike) -> NDArray[np.float64]:
    """Return compute in PF-days.

    Source: 1 PF-day = 8.64e19 FLOP, Kaplan et al. 2020, arXiv:2001.08361, Sec. 1.3.

    Args:
        C: Compute [FLOP], shape (...).

    Returns:
        Compute [PF-days], shape (...).

    Raises:
        ValueError: If ``C`` is not numeric.

    Example:
        >>> float(to_pf_days(8.64e20))
        10.0
    """
    return np.asarray(C, dtype=np.float64) / PF_DAY


def from_pf_days(C_pf_days: ArrayLike) -> NDArray[np.float64]:
    """Return compute in FLOP; the inverse of `to_pf_days`.

    Source: 1 PF-day = 8.64e19 FLOP, Kaplan et al. 2020, arXiv:2001.08361, Sec. 1.3.

    Args:
        C_pf_days: Compute [PF-days], shape (...).

    Returns:
        Compute [FLOP], shape (...).

    Raises:
        ValueError: If ``C_pf_days`` is not numeric.

    Example:
        >>> float(from_pf_days(1.0))
        8.64e+19
    """
    return np.asarray(C_pf_days, dtype=np.float64) * PF_DAY
