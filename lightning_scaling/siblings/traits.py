"""Traits: what a finished run has shown of its law."""

from __future__ import annotations

from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.fit.data import compact
from lightning_scaling.fit.decay import spread_of_decay
from lightning_scaling.fit.posterior import Posterior
from lightning_scaling.fit.prior import DEFAULT_PRIOR
from lightning_scaling.fit.record import MIN_POINTS, MIN_WINDOWS, fit
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.siblings.identity import digest

__all__ = ["Traits"]

FloatArray = NDArray[np.float64]

#: A delay shorter than this share of a run is as good as none [1].
_SHORTEST = 1e-4

_known: WeakKeyDictionary[LossCurve, dict[bytes, Traits | None]] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Traits:
    """What a finished run has shown, each as mean and variance.

    Args:
        posterior: Its law, fitted to all of it.
        log_alpha: Log of the exponent alpha_S [1].
        log_delay: Log of what the beginning has cost [log of steps at peak rate].
        responses: Probability of each response to a falling rate, shape (J,).
    """

    posterior: Posterior
    log_alpha: tuple[float, float]
    log_delay: tuple[float, float]
    responses: FloatArray

    @classmethod
    def of(cls, curve: LossCurve, schedule: LRSchedule) -> Traits | None:
        """Fit a finished run, once for each curve in memory and schedule; None where it has no law."""
        known, key = _known.setdefault(curve, {}), digest(curve, schedule)
        if key not in known:
            known[key] = cls._found(curve, schedule)
        return known[key]

    @classmethod
    def _found(cls, curve: LossCurve, schedule: LRSchedule) -> Traits | None:
        if len(curve) < MIN_POINTS:
            return None
        try:
            with np.errstate(all="ignore"):
                p = fit(compact(curve), schedule, DEFAULT_PRIOR).posterior
        except (np.linalg.LinAlgError, ArithmeticError, ValueError):
            return None
        if p.data.S.size < MIN_WINDOWS or not (p.weights.size and np.isfinite(p.weights).all()):
            return None
        z = max(float(schedule.summed(curve.step)), 1e-9)
        return cls(
            posterior=p,
            log_alpha=_moments(p.weights, np.log(p.alpha)),
            log_delay=_of_log(*_moments(p.weights, np.maximum(p.delay, _SHORTEST) * z)),
            responses=np.asarray(
                np.bincount(p.response, p.weights, minlength=len(DEFAULT_PRIOR.responses)), dtype=np.float64
            ),
        )

    def log_gain(self, arrived: FloatArray) -> tuple[float, float] | None:
        """Return the log of what the decay of a schedule would bring this run by its end [log of the unit of the loss].

        How much a decay brings and how soon are known better together than apart: a slow answer to a late decay hides a
        large b. What has come of it by the end of a schedule is much the same under all answers.

        Args:
            arrived: Share of a full decay that the end of the schedule has seen, under each response [1], shape (J,).

        Returns:
            Mean and variance; None where no decay was seen.
        """
        p = self.posterior
        share = arrived[p.response]
        gain, variance = _moments(p.weights, p.b * share, p.b_variance * share**2)
        if not (p.annealing.any and gain > 0.0):
            return None
        found = _of_log(gain, variance)
        # No better known than before the run: what is there is the prior, and not a sibling's word.
        # The tails of a wide prior are cut off, which leaves moments below its scale: between that and the narrow one.
        before = DEFAULT_PRIOR.decay_spread * spread_of_decay(p.data, DEFAULT_PRIOR, positive=p.least == 0.0)
        return found if found[1] <= before else None


def _moments(weights: FloatArray, values: FloatArray, variances: FloatArray | None = None) -> tuple[float, float]:
    mean = float(weights @ values)
    return mean, float(weights @ ((values - mean) ** 2 + (0.0 if variances is None else variances)))


def _of_log(mean: float, variance: float) -> tuple[float, float]:
    """Return mean and variance of the log of a positive number with these moments, as if it were log-normal."""
    spread = float(np.log1p(variance / mean**2))
    return float(np.log(mean)) - 0.5 * spread, spread
