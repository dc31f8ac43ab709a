"""What is believed of the loss that a falling learning rate brings, before a run has shown it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.fit.data import FitData
from lightning_scaling.fit.prior import Prior
from lightning_scaling.schedule import LRSchedule

__all__ = ["DecayBelief", "HiddenDecay"]

FloatArray = NDArray[np.float64]

#: Grid of log b, in standard deviations about its median: far up, because some recipes gain much from their decay.
_STEP = 1.0
_NODES = np.arange(-2.0, 5.01, _STEP)
#: Its weights: Student's t with 4 degrees of freedom, so that the run may overrule the prior.
_WEIGHTS = (1.0 + _NODES**2 / 4.0) ** -2.5
#: Standard deviation of b about a node, in distances between nodes: together they make a smooth distribution.
_BLUR = 0.6
#: Weight that every amplitude keeps, whatever a fit says of it.
_LEAST = 1e-6
#: Standard deviation of b where a decay brings nothing, in slopes.
_NONE = 1e-6
#: Gauss-Hermite nodes and weights of a normal distribution.
_NORMAL_NODES, _NORMAL_WEIGHTS = np.array([-(3.0**0.5), 0.0, 3.0**0.5]), np.array([1.0, 4.0, 1.0]) / 6.0


def _median(data: FitData, schedule: LRSchedule, prior: Prior, *, positive: bool) -> float:
    """Return the prior median of b: from the slope expected at the end and, for positive losses, from the loss."""
    ahead = float(schedule.summed(schedule.horizon) / max(float(schedule.summed(data.now)), 1e-9))
    scale = prior.decay * data.slope * float(max(ahead, 1.0) ** -prior.slope_exponent)
    if positive:
        # Whichever is smaller, smoothly: a flat run gains little whatever its loss, a steep one no more than others do.
        scale = 1.0 / (1.0 / scale + 1.0 / (prior.decay_share * data.present))
    return scale


@dataclass(frozen=True, eq=False)
class DecayBelief:
    """What is believed of the loss that a full decay brings, before (or after) a fit: a mixture of normals.

    Args:
        b: Means of the amplitude [unit of the loss], under each of J responses, shape (J, K).
        sd: Standard deviations about them [same unit], shape (J, K).
        log_weight: Log weight of each, shape (J, K).
    """

    b: FloatArray
    sd: FloatArray
    log_weight: FloatArray

    @classmethod
    def before(cls, data: FitData, schedule: LRSchedule, prior: Prior, *, decays: bool, positive: bool) -> DecayBelief:
        """Return the prior; where the rate never changes after its warm-up (``decays`` is False) there is none."""
        if not decays:
            return cls(np.zeros((1, 1)), np.full((1, 1), _NONE * data.slope), np.zeros((1, 1)))
        median = _median(data, schedule, prior, positive=positive)
        b = np.concatenate(([0.0], median * np.exp(prior.decay_spread * _NODES)))
        sd = np.maximum(_BLUR * _STEP * prior.decay_spread * b, _NONE * data.slope)
        shares = (1.0 - prior.decay_none) * _WEIGHTS / _WEIGHTS.sum()
        weight = np.log(np.concatenate(([prior.decay_none], shares)))
        b, sd, weight = (np.broadcast_to(x, (len(prior.responses), b.size)) for x in (b, sd, weight))
        return cls(b, sd, weight)

    def after(
        self, response: NDArray[np.intp], node: NDArray[np.intp], b: FloatArray, sd: FloatArray, weight: FloatArray
    ) -> DecayBelief:
        """Return what a fit has left of each of these normals: its share, and the moments of b in it.

        Args:
            response: Index of the response of each of a fit's laws, shape (N,).
            node: Index of the normal that it began from, shape (N,).
            b: Its amplitude [unit of the loss], shape (N,).
            sd: The standard deviation of that [same unit], shape (N,).
            weight: Its weight, shape (N,).
        """
        share, first, second = (np.zeros(self.b.shape) for _ in range(3))
        for into, what in ((share, weight), (first, weight * b), (second, weight * (b**2 + sd**2))):
            np.add.at(into, (response, node), what)
        seen = share > 0.0
        mean = np.where(seen, first / np.where(seen, share, 1.0), self.b)
        variance = np.where(seen, second / np.where(seen, share, 1.0) - mean**2, 0.0)
        sd = np.where(seen, np.sqrt(np.maximum(variance, self.sd.min() ** 2)), self.sd)
        return DecayBelief(mean, sd, np.log(share + _LEAST))


@dataclass(frozen=True, eq=False)
class HiddenDecay:
    r"""The chance that a run of which nobody told the schedule will yet lower its rate.

    Most runs do. Where the learning rate ahead is not known the forecast is the one at the present rate, but with the
    probability of the prior the loss ends lower, by what a decay brings times the share of the run that is left and the
    share of the peak rate that is still in use.

    Args:
        fall: By how much lower it may end [unit of the loss], shape (K,).
        weight: Probability of each, shape (K,), summing to 1.
        now: The present step [steps].
        horizon: Planned end [steps].
    """

    fall: FloatArray
    weight: FloatArray
    now: float
    horizon: float

    @classmethod
    def of(cls, data: FitData, schedule: LRSchedule, prior: Prior, *, positive: bool) -> HiddenDecay | None:
        """Return the belief, None where the schedule is known or nothing of the run is left."""
        probability, spread = prior.hidden_decay
        horizon = float(schedule.horizon)
        if schedule.known or horizon <= data.now or probability == 0.0:
            return None
        left = (1.0 - data.now / horizon) * float(schedule.rate_at(data.now))
        fall = left * _median(data, schedule, prior, positive=positive)
        return cls(
            np.concatenate(([0.0], fall * np.exp(spread * _NORMAL_NODES))),
            np.concatenate(([1.0 - probability], probability * _NORMAL_WEIGHTS)),
            data.now,
            horizon,
        )

    def above(self, S: FloatArray) -> FloatArray:
        """Return how far above its law the loss may lie at steps S [unit of the loss], below 0 here, shape (K, P)."""
        share = np.clip((S - self.now) / (self.horizon - self.now), 0.0, 1.0)
        return -np.outer(self.fall, share)
