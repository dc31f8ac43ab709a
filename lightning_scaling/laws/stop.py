"""Where data run out: the earliest step at which a run on a finite data set should stop."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.laws._check import check_shapes, positive, power, solve
from lightning_scaling.laws.data import KaplanND
from lightning_scaling.laws.steps import KaplanNS


def S_stop(N: ArrayLike, D: ArrayLike, *, data: KaplanND, steps: KaplanNS) -> NDArray[np.float64]:
    r"""Return a lower bound of the step at which the test loss turns.

    .. math:: S_{stop}(N, D) \gtrsim S_c \, [L(N, D) - L(N, \infty)]^{-1/\alpha_S}

    It is the step at which a run on endless data has come as close to its limit as finite data let it come. In units of
    S_min: at batch B multiply by 1 + B_crit(L) / B, with `S_at_batch`. `D_stop` and `L_stop` are its inverses.

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
    check_shapes(N=N, D=D)
    return solve(data.converged(N) * data.overfitting(N, D), steps.S_c, steps.alpha_S)


def D_stop(N: ArrayLike, S: ArrayLike, *, data: KaplanND, steps: KaplanNS) -> NDArray[np.float64]:
    r"""Return the tokens of the training set that last to a step; the inverse of `S_stop` in D.

    .. math:: L(N, D) = L(N, \infty) + (S_c / S)^{\alpha_S}

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 5.7, solved for D by Eq. 4.3.

    Args:
        N: Non-embedding parameters [1], shape (...).
        S: Step at which the test loss may turn at the earliest [steps at B >> B_crit], broadcastable to (...).
        data: L(N, D).
        steps: L(N, S_min), of which S_c and alpha_S count.

    Returns:
        D [tokens], shape (...); with fewer the loss may turn before.

    Raises:
        ValueError: If any ``N <= 0`` or ``S <= 0``.

    Example:
        >>> from lightning_scaling.laws import KAPLAN_TABLE_2, KAPLAN_TABLE_3
        >>> print(f"{D_stop(1e8, 18114.4, data=KAPLAN_TABLE_2, steps=KAPLAN_TABLE_3):.4g}")
        1e+09
    """
    check_shapes(N=N, S=S)
    return data.tokens_needed(N, _gap(S, steps) / data.converged(N))


def L_stop(N: ArrayLike, S: ArrayLike, *, data: KaplanND, steps: KaplanNS) -> NDArray[np.float64]:
    r"""Return the converged loss on a data set that lasts to a step; the inverse of `S_stop` in L(N, D).

    .. math:: L(N, D) = L(N, \infty) + (S_c / S)^{\alpha_S}

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 5.7, solved for the loss.

    Args:
        N: Non-embedding parameters [1], shape (...).
        S: Step at which the test loss may turn at the earliest [steps at B >> B_crit], broadcastable to (...).
        data: L(N, D), of which the limit for endless data counts.
        steps: L(N, S_min), of which S_c and alpha_S count.

    Returns:
        L(N, D) [nats/token], shape (...); falls with S to L(N, inf).

    Raises:
        ValueError: If any ``N <= 0`` or ``S <= 0``.

    Example:
        >>> from lightning_scaling.laws import KAPLAN_TABLE_2, KAPLAN_TABLE_3
        >>> limits = L_stop(1e8, 18114.4, data=KAPLAN_TABLE_2, steps=KAPLAN_TABLE_3), KAPLAN_TABLE_2.loss(1e8, 1e9)
        >>> [round(float(limit), 4) for limit in limits]
        [2.9567, 2.9567]
    """
    check_shapes(N=N, S=S)
    return data.converged(N) + _gap(S, steps)


def _gap(S: ArrayLike, steps: KaplanNS) -> NDArray[np.float64]:
    """Return how far above its limit a run on endless data is at a step."""
    return np.asarray(power(steps.S_c / positive("S", S), steps.alpha_S))[()]
