"""Band: what one forecast says of the steps about it, read once so that every loss can be held against it."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.forecast import Forecast
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.verdict import Verdict

__all__ = ["Band"]

FloatArray = NDArray[np.float64]

#: Steps ahead at which a forecast is read; those in its past, and how far back these reach, in shares of the run.
_NODES, _PAST, _BACK = 9, 8, 0.12
#: Rise of the planned rate, as a share of its peak, after which a forecast is not held against the losses.
_RISE = 0.05


@dataclass(frozen=True, eq=False)
class Band:
    """What one forecast says of the steps that follow it.

    Args:
        made: Step of the forecast [steps].
        until: Last step of which it may be held against the losses [steps].
        S: Steps at which it was read, some before it was made [steps], shape (M,).
        mid: Mean of the expected loss, and what the smoothed losses were before it [unit of the loss], shape (M,).
        sd: Its standard deviation, free of what two seeds differ by [same unit], shape (M,).
    """

    made: int
    until: float
    S: FloatArray
    mid: FloatArray
    sd: FloatArray

    @classmethod
    def of(cls, forecast: Forecast, schedule: LRSchedule | None, reach: float) -> Band | None:
        """Read a forecast over the next ``reach`` steps and some before; None where it says nothing of the next."""
        if not forecast.verdict.usable and forecast.verdict is not Verdict.NO_HORIZON:
            return None
        ahead = np.linspace(forecast.step, forecast.step + max(reach, 1.0), _NODES)
        back = min(_BACK * (forecast.horizon or forecast.step), forecast.step - 1.0)
        S = np.concatenate((np.linspace(forecast.step - back, forecast.step, _PAST, endpoint=False), ahead))
        said = forecast.mixture_at(S, smooth=False)
        if said is None:
            return None
        # Moments: quantiles of so many steps would cost as much as the forecast.
        mid, variance, until = said.mean(), said.sd() ** 2, float(S[-1])
        sd = np.sqrt(np.maximum(variance - forecast.seed_noise**2, 1e-4 * variance))
        known = np.isfinite(mid) & np.isfinite(sd)
        if not known[_PAST:].all():
            return None
        S, mid, sd = (x[known] for x in (S, mid, sd))
        if schedule is not None:
            fine = np.linspace(ahead[0], ahead[-1], 8 * _NODES)
            rates = schedule.rate_at(np.maximum(fine, 1.0))
            rises = np.flatnonzero(rates - np.minimum.accumulate(rates) > _RISE)
            until = float(fine[rises[0]]) if rises.size else until
        return cls(forecast.step, until, S, mid, sd)

    @cached_property
    def _nodes(self) -> tuple[list[float], list[float], list[float]]:
        """Steps, means and standard deviations as numbers: of one step, NumPy takes longer to read."""
        return self.S.tolist(), self.mid.tolist(), self.sd.tolist()

    def mid_at(self, step: float) -> float:
        """Return the mean at one step [unit of the loss]."""
        return _between(step, self._nodes[0], self._nodes[1])

    def sd_at(self, step: float) -> float:
        """Return the standard deviation at one step [unit of the loss]."""
        return _between(step, self._nodes[0], self._nodes[2])

    def slope_sd(self, ahead: float) -> float:
        """Return the standard deviation of the slope of the next steps, so many of them [unit of the loss per step]."""
        now, then = self.sd_at(self.made), self.sd_at(self.made + ahead)
        return math.sqrt(max(then * then - now * now, 0.0)) / ahead


def _between(x: float, at: Sequence[float], y: Sequence[float]) -> float:
    """Return what `numpy.interp` does."""
    k = bisect_right(at, x)
    if not 0 < k < len(at):
        return y[min(k, len(at) - 1)]
    return (y[k] - y[k - 1]) / (at[k] - at[k - 1]) * (x - at[k - 1]) + y[k - 1]
