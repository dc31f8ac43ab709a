"""The power-law term of the law, normalised at the present."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["effective_time", "log_time", "power_basis", "power_of"]

FloatArray = NDArray[np.float64]

#: The power law is not followed above this multiple of its present value: what lies there is the transient.
_CEILING = 1e6


def effective_time(z: FloatArray, delay: FloatArray) -> FloatArray:
    r"""Return the time that counts for the law, :math:`\zeta`: what the beginning of a run has cost is taken off.

    .. math:: \zeta = \frac{z^2}{4\delta} \text{ up to } z = 2\delta, \qquad \zeta = z - \delta \text{ beyond}

    which is what a linear warm-up of length :math:`2\delta` does to the summed rate. Runs fall behind at their start
    for other reasons too (the optimizer's averages, the statistics of the output), and a law without it takes that for
    a larger exponent. With it, language models at a constant rate follow one power law from their first logs on, with
    exponents of .42 to .60 in the two families that ``benchmarks/burn_in.py`` fits.

    A run that goes on from a trained model, or whose law sets in late, had a head start instead: with delta below zero
    :math:`\zeta = z + |\delta|` throughout, and the loss falls faster and faster in log steps until z is beyond it.

    Args:
        z: Summed learning rate relative to its peak [steps, or any unit of time], of any shape.
        delay: delta [the same unit], below zero for a head start; broadcasts with z.

    Example:
        >>> effective_time(np.array([5.0, 20.0, 100.0]), np.array([10.0])).tolist()
        [0.625, 10.0, 90.0]
        >>> effective_time(np.array([5.0, 20.0, 100.0]), np.array([-10.0])).tolist()
        [15.0, 30.0, 110.0]
    """
    d = np.maximum(delay, 1e-12)
    return np.asarray(np.where(z < 2.0 * d, z * z / (4.0 * d), z - delay))


def power_basis(z: FloatArray, z_now: float, alpha: FloatArray, delay: FloatArray) -> FloatArray:
    r"""Return :math:`\phi = (\zeta/\zeta_{now})^{-\alpha}`, the loss above its limit as a multiple of today's.

    With z the summed learning rate this is Kaplan's :math:`(S_c/S)^{\alpha_S}` up to a factor (arXiv:2001.08361,
    Eq. 1.6 at fixed N), in the time of `effective_time`; at a constant rate z is the step.

    Args:
        z: Summed learning rate at the points, relative to its peak [steps], shape (P,).
        z_now: The same at the present [steps].
        alpha: Exponents alpha_S [1], shape (I,).
        delay: What the beginning has cost, as a share of the present: delta / z_now [1], shape (I,); below zero for a
            head start.

    Returns:
        phi [1], shape (P, I); 1 at the present.

    Example:
        >>> power_basis(np.array([25.0, 100.0, 400.0]), 100.0, np.array([0.5]), np.zeros(1)).ravel().tolist()
        [2.0, 1.0, 0.5]
    """
    return power_of(log_time(z, z_now, delay), alpha)


def log_time(z: FloatArray, z_now: float, delay: FloatArray) -> FloatArray:
    r"""Return :math:`\ln(\zeta/\zeta_{now})`, shape (P, I), of summed rates z (P,) with delays (I,) as above."""
    x = np.maximum(z / z_now, 1e-9)[:, None]
    return np.log(np.maximum(effective_time(x, delay) / effective_time(np.ones(1), delay), 1e-30))


def power_of(log_time: FloatArray, alpha: FloatArray) -> FloatArray:
    """Return phi at the log of a time relative to the present, with exponents that broadcast with it."""
    with np.errstate(over="ignore"):
        return np.asarray(np.minimum(np.exp(-alpha * log_time), _CEILING))
