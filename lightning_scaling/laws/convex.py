"""What convex theory says of a learning-rate schedule: the bound on its last step, and the rate that makes it least."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.laws._check import check_shapes, positive


def bound_terms(rates: ArrayLike, *, distance: float = 1.0, norms: ArrayLike = 1.0) -> tuple[float, float, float]:
    r"""Return the three parts of the bound on the suboptimality of the last step.

    .. math:: t_1 = \frac{D^2}{2 \sum_t \eta_t}, \quad t_2 = \frac{\sum_t \eta_t^2 G_t^2}{2 \sum_t \eta_t}, \quad
        t_3 = \frac12 \sum_{k=1}^{T-1} \frac{\eta_k}{\sum_{t=k+1}^T \eta_t} \frac{1}{\sum_{t=k}^T \eta_t}
        \sum_{t=k}^T \eta_t^2 G_t^2

    Source: Schaipp et al. 2025, arXiv:2501.18965, Thm. 1. It shows the sudden fall of the loss in a cooldown.

    Args:
        rates: Learning rate of each step, all above zero [1], shape (T,).
        distance: Distance D from the start to the optimum.
        norms: Expected gradient norm of each step, broadcastable to (T,).

    Returns:
        The terms t1, t2 and t3.

    Raises:
        ValueError: If a rate, the distance or a norm is not positive.

    Example:
        >>> [round(term, 5) for term in bound_terms(np.ones(400))]
        [0.00125, 0.5, 3.28371]
    """
    check_shapes(rates=rates, norms=norms)
    eta = np.atleast_1d(positive("rates", rates))
    power: NDArray[np.float64] = eta**2 * np.broadcast_to(positive("norms", norms), eta.shape) ** 2
    rest = np.cumsum(eta[::-1])[::-1]  # sum from k to T
    rest_power = np.cumsum(power[::-1])[::-1]
    t1 = float(positive("distance", distance)) ** 2 / (2.0 * rest[0])
    t2 = rest_power[0] / (2.0 * rest[0])
    t3 = 0.5 * np.sum(eta[:-1] / rest[1:] * rest_power[:-1] / rest[:-1])
    return float(t1), float(t2), float(t3)


def best_rate(rates: ArrayLike, *, distance: float = 1.0, norms: ArrayLike = 1.0) -> tuple[float, float]:
    r"""Return the factor on a schedule that makes the bound least, and the bound that it gives.

    .. math:: \gamma = \sqrt{t_1 / (t_2 + t_3)}, \qquad \Omega = 2 \sqrt{t_1 (t_2 + t_3)}

    Source: Schaipp et al. 2025, arXiv:2501.18965.

    Args:
        rates: Learning rate of each step, all above zero [1], shape (T,).
        distance: Distance D from the start to the optimum.
        norms: Expected gradient norm of each step, broadcastable to (T,).

    Returns:
        The factor and the bound.

    Raises:
        ValueError: If a rate, the distance or a norm is not positive.

    Example:
        >>> rate, bound = best_rate((400 - np.arange(400)) / 400)  # linear to zero
        >>> round(rate, 7), round(bound, 6)
        (0.0495631, 0.10063)
    """
    check_shapes(rates=rates, norms=norms)
    t1, t2, t3 = bound_terms(rates, distance=distance, norms=norms)
    return math.sqrt(t1 / (t2 + t3)), 2.0 * math.sqrt(t1 * (t2 + t3))
