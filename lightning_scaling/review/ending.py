"""Ending: where a run that is over has ended, and how surely its noise lets that be read."""

from __future__ import annotations

import math

import numpy as np

from lightning_scaling.curve import LossCurve
from lightning_scaling.fit.mixture import GaussianMixture
from lightning_scaling.ledger import LAST_PART, recent_loss

__all__ = ["ended"]


def ended(curve: LossCurve) -> GaussianMixture:
    """Return where a run that is over has ended: the mean of its last 2 % with the standard error of that mean.

    The noise of single losses is taken from the differences of neighbours, which leaves the trend out.

    Args:
        curve: The whole run.

    Raises:
        ValueError: If the curve has no points.

    Example:
        >>> S = np.arange(1, 1001)
        >>> end = ended(LossCurve(S=S, L=2.0 + 0.1 * (S % 2)))
        >>> round(float(end.means[0, 0]), 3), 0.01 < float(end.sds[0, 0]) < 0.02
        (2.05, True)
    """
    if not len(curve):
        raise ValueError("Expected a curve with points, got none, so give the log of a whole run.")
    last = curve.S > (1.0 - LAST_PART) * curve.step
    mean, n = recent_loss(curve), int(last.sum())
    if n < 8:  # too few to tell their scatter: take it from differences further back
        late = curve.L[-min(40, len(curve)) :]
        sd = float(np.std(np.diff(late))) / math.sqrt(2.0) if late.size > 2 else 0.0
    else:
        sd = float(np.std(np.diff(curve.L[last]))) / math.sqrt(2.0)
    sd = max(sd / math.sqrt(max(n, 1)), 1e-9 * max(abs(mean), 1e-9))
    return GaussianMixture(np.ones(1), np.array([[mean]]), np.array([[sd]]))
