"""The loss that appears on both sides of its law, because the critical batch depends on it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_MAX_ITERATIONS = 100


def solve_log_loss(
    log_E: Array, log_term: Callable[[Array], tuple[Array, Array]], start: Array, magnitude: Array
) -> Array:
    """Return x = log L with L = E + exp(s(x)), where s is convex and falls in x.

    h(x) = x - log(E + exp(s(x))) is then concave and rises with a slope of at least 1. From the left of its root
    Newton's method therefore climbs monotonically to it, with no bracket to keep.

    Args:
        log_E: Logarithm of the loss that stays, shape (...).
        log_term: Returns s(x) and its slope.
        start: Logarithm of a loss that is not above the root, shape (...).
        magnitude: Sum of the absolute values that s is summed from, which its rounding grows with, shape (...).

    Example:
        >>> x = solve_log_loss(np.zeros(1), lambda x: (-x, -np.ones_like(x)), np.zeros(1), np.zeros(1))  # L = 1 + 1/L
        >>> np.exp(x).round(6).tolist()
        [1.618034]
    """
    x = start
    for _ in range(_MAX_ITERATIONS):
        s, slope = log_term(x)
        log_loss = np.logaddexp(log_E, s)
        step = (log_loss - x) / (1.0 - slope * np.exp(s - log_loss))
        x = x + step
        rounding = 4.0 + np.abs(x) * (1.0 + np.abs(slope)) + magnitude
        if np.all(np.abs(step) <= np.finfo(np.float64).eps * rounding):
            return x
    raise AssertionError(f"Newton's method did not settle in {_MAX_ITERATIONS} iterations from {start}.")
