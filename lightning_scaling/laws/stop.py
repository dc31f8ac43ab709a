"""Where data run out: the earliest step at which a run on a finite data set should stop."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.laws._check import solve
from lightning_scaling.laws.data import KaplanND
from lightning_scaling.laws.steps import KaplanNS


def S_stop(N: ArrayLike, D: ArrayLike, *, data: KaplanND, steps: KaplanNS) -> NDArray[np.float64]:
    r"""Return a lower bound of the step at which the test loss turns.

    .. math:: S_{stop}(N, D) \gtrsim S_c \, [L(N, D) - L(N, \infty)]^{-1/\alpha_S}

    It is the step at which a run on endless data has come as close to its limit as finite data let it come. In units of
    S_min: at batch B multiply by 1 + B_crit(L) / B, with `S_at_batch`.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 5.7.

    Args:
        N: Non-embedding parameters [1], shape (...).
        D: Tokens of the training set [tokens], broadcastable to (...).
        data: L(N, D), which gives the gap.
        steps: L(N, S_min), of which S_c and alpha_S count.

    Returns:
        S_stop [steps at B >> B_crit], shape (...); grows with D, infinite for endless data.

    Raises:
        ValueError: If any ``N <= 0`` or ``D <= 0``.

    Example:
        >>> from lightning_scaling.laws import KAPLAN_TABLE_2, KAPLAN_TABLE_3
        >>> round(float(S_stop(1e8, 1e9, data=KAPLAN_TABLE_2, steps=KAPLAN_TABLE_3)), 1)
        18114.4
    """
    return solve(data.converged(N) * data.overfitting(N, D), steps.S_c, steps.alpha_S)
