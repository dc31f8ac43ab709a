"""Time against compute: what a batch size costs in each, for the same loss.

Everything here is in units of the critical batch and of the least steps and tokens, so it holds for every loss, and for
a critical batch from whatever source: a law (`CriticalBatch`), a scan of batch sizes, or the gradient noise scale. The
derivation takes plain gradient descent and a Hessian like the identity (McCandlish et al. 2018, arXiv:1812.06162); with
Adam it is a rule of thumb. Merrill et al. 2025, arXiv:2505.23971, find the noise scale orders of magnitude below the
critical batch that branched runs show.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.laws._check import positive


def steps_ratio(ratio: ArrayLike) -> NDArray[np.float64]:
    r"""Return the steps at a batch size over the least steps.

    .. math:: S / S_{min} = 1 + B_{crit} / B

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eqs. 5.1 and 5.2; McCandlish et al. 2018, arXiv:1812.06162. One over
    the result is the share of the best possible progress that one step makes.

    Args:
        ratio: B / B_crit [1], shape (...).

    Returns:
        S / S_min [1], shape (...); 2 at the critical batch, 1 far above it.

    Raises:
        ValueError: If any ``ratio <= 0``.

    Example:
        >>> steps_ratio([0.25, 1.0, 4.0]).tolist()
        [5.0, 2.0, 1.25]
    """
    return 1.0 + 1.0 / positive("ratio", ratio)


def compute_ratio(ratio: ArrayLike) -> NDArray[np.float64]:
    r"""Return the tokens (and compute) at a batch size over the least.

    .. math:: E / E_{min} = C / C_{min} = 1 + B / B_{crit}

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eqs. 5.1, 5.2 and 5.5.

    Args:
        ratio: B / B_crit [1], shape (...).

    Returns:
        E / E_min [1], shape (...); 2 at the critical batch, 1 far below it.

    Raises:
        ValueError: If any ``ratio <= 0``.

    Example:
        >>> compute_ratio([0.25, 1.0, 4.0]).tolist()
        [1.25, 2.0, 5.0]
    """
    return 1.0 + positive("ratio", ratio)


def batch_for_steps(steps: ArrayLike) -> NDArray[np.float64]:
    r"""Return the batch that takes so many times the least steps; the inverse of `steps_ratio`.

    .. math:: B / B_{crit} = (S / S_{min} - 1)^{-1}

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 5.1.

    Args:
        steps: S / S_min [1], shape (...).

    Returns:
        B / B_crit [1], shape (...).

    Raises:
        ValueError: If any ``steps <= 1``: no batch takes fewer steps than the least.

    Example:
        >>> float(batch_for_steps(1.25))
        4.0
    """
    return 1.0 / _above_one("steps", steps)


def batch_for_compute(compute: ArrayLike) -> NDArray[np.float64]:
    r"""Return the batch that takes so many times the least compute; the inverse of `compute_ratio`.

    .. math:: B / B_{crit} = C / C_{min} - 1

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 5.5.

    Args:
        compute: C / C_min [1], shape (...).

    Returns:
        B / B_crit [1], shape (...).

    Raises:
        ValueError: If any ``compute <= 1``: no batch takes less compute than the least.

    Example:
        >>> float(batch_for_compute(1.25))
        0.25
    """
    return _above_one("compute", compute)


def compute_for_steps(steps: ArrayLike) -> NDArray[np.float64]:
    r"""Return what fewer steps cost in compute; its own inverse.

    .. math:: (S / S_{min} - 1)(E / E_{min} - 1) = 1

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 5.1.

    Args:
        steps: S / S_min [1] (or E / E_min, for the steps that it takes), shape (...).

    Returns:
        E / E_min = C / C_min [1], shape (...).

    Raises:
        ValueError: If any ``steps <= 1``: no batch takes fewer steps than the least.

    Example:
        >>> float(compute_for_steps(1.25))  # a quarter more steps than the least: five times the least compute
        5.0
    """
    return 1.0 + 1.0 / _above_one("steps", steps)


def _above_one(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """Return value - 1, all above zero."""
    more = positive("ratio", value) - 1.0
    if not np.all(more > 0.0):
        raise ValueError(
            f"Expected {name} > 1, got {np.min(more) + 1.0:.12g}, so ask for more than the least that any batch takes."
        )
    return more
