"""One run that is written in every format and must come back the same from each."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Logged every 50th step of 2 000, as Lightning does.
STEPS = np.arange(50.0, 2001.0, 50.0)


def losses(S: Array = STEPS, seed: int = 0) -> Array:
    """Return noisy losses of a power law, to six digits."""
    noise = 0.02 * np.random.default_rng(seed).standard_normal(S.size)
    return np.asarray(np.round(2.0 + 6.0 * S**-0.5 + noise, 6))


def rates(S: Array = STEPS, T: float = 2000.0) -> Array:
    """Return the learning rates of a cosine, to six digits."""
    return np.asarray(np.round(1e-3 * 0.5 * (1.0 + np.cos(np.pi * S / T)), 9))
