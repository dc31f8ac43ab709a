"""The power-law term of the law, normalised at the present."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["power_basis"]

FloatArray = NDArray[np.float64]

#: The power law is not followed above this multiple of its present value: what lies there is the transient.
_CEILING = 1e6


def power_basis(z: FloatArray, z_now: float, alpha: FloatArray) -> FloatArray:
    r"""Return :math:`\phi = (z/z_{now})^{-\alpha}`, the loss above its limit as a multiple of today's.

    With z the summed learning rate this is Kaplan's :math:`(S_c/S)^{\alpha_S}` up to a factor (arXiv:2001.08361,
    Eq. 1.6 at fixed N); at a constant rate z is the step.

    Args:
        z: Summed learning rate at the points, relative to its peak [steps], shape (P,).
        z_now: The same at the present [steps].
        alpha: Exponents alpha_S [1], shape (I,).

    Returns:
        phi [1], shape (P, I); 1 at the present.

    Example:
        >>> power_basis(np.array([25.0, 100.0, 400.0]), 100.0, np.array([0.5])).ravel().tolist()
        [2.0, 1.0, 0.5]
    """
    ratio = np.maximum(z / z_now, 1e-9)[:, None]
    with np.errstate(over="ignore"):
        return np.asarray(np.minimum(ratio**-alpha, _CEILING))
