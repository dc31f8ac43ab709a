"""Kin: what finished runs of its kind say of a run before it has shown it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Kin"]


@dataclass(frozen=True, eq=False)
class Kin:
    """What related runs say of the parameters of this one's law: a second prior beside that for runs of all kinds.

    Args:
        weight: Prior probability that the run is one of them [1].
        log_alpha: Mean and standard deviation of log alpha_S [1].
        log_delay: The same of the log of what the beginning of a run costs [log of steps at peak rate].
        log_gain: The same of the log of what the decay of this run's schedule brings by its end [log of the unit of
            the loss]; None where none decayed.
        responses: Probability of each response to a falling rate, shape (J,).
    """

    weight: float
    log_alpha: tuple[float, float]
    log_delay: tuple[float, float]
    log_gain: tuple[float, float] | None
    responses: NDArray[np.float64] | None
