"""What is believed of the loss that a falling learning rate brings, before a run has shown it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.fit.annealing import Annealing
from lightning_scaling.fit.data import FitData
from lightning_scaling.fit.kin import Kin
from lightning_scaling.fit.prior import Prior
from lightning_scaling.schedule import LRSchedule

__all__ = ["DecayBelief", "HiddenDecay", "arrived", "expected_decay", "freedom", "full_decay", "spread_of_decay"]

FloatArray = NDArray[np.float64]

#: Grid of log b, in standard deviations about its median: far up, because some recipes gain much from their decay.
_STEP = 1.0
_NODES = np.arange(-2.0, 5.01, _STEP)
#: The same of what a run's kin say.
_KIN_NODES = np.arange(-3.0, 3.01, _STEP)
#: Share of the weight of the responses that goes by the run's kin, the rest being equal.
_SHARED = 0.9
#: Standard deviation of b about a node, in distances between nodes: together they make a smooth distribution.
_BLUR = 0.6
#: Weight that every amplitude keeps, whatever a fit says of it.
_LEAST = 1e-6
#: Least share of a full decay that the end of a run is taken to have seen, where a gain is divided by it.
_ARRIVED = 0.1
#: Least share to which the slope's say is taken back, so that nothing is divided by zero.
_FREE = 1e-6
#: Standard deviation of b where a decay brings nothing, in slopes.
_NONE = 1e-6
#: Gauss-Hermite nodes and weights of a normal distribution.
_NORMAL_NODES, _NORMAL_WEIGHTS = np.array([-(3.0**0.5), 0.0, 3.0**0.5]), np.array([1.0, 4.0, 1.0]) / 6.0


def freedom(data: FitData, prior: Prior, *, positive: bool) -> float:
    r"""Return how far a loss is from looking bounded, from 0 to 1: how little keeps a decay from bringing much of it.

    Language models begin at the log of their vocabulary, some 11 nats, and end near the entropy of their text, some 2:
    they come down by a factor of two to six. Single batches scatter by a few hundredths of the loss, and a full decay
    brings some 5 % of it. A loss that has come down by more, or scatters by more, has no such bound near, and
    annealing, which takes out the noise of the weights, brings 10 to 90 %:

    .. math:: 1 - \exp\!\left(-\frac{1}{s}\left[\ln^+ \frac{L_{first}}{f L} + \ln^+ \frac{\sigma}{q L}\right]\right)

    with f, q and s the ``come``, ``scatter`` and ``e_folds`` of ``prior.unbounded``. A loss that can be negative has no
    share to speak of.

    Args:
        data: The windows.
        prior: Scales.
        positive: The loss cannot fall below zero.
    """
    if not positive or not data.present > 0.0 or not data.first > 0.0:
        return 0.0
    come = np.log(data.first / data.present / prior.unbounded.come)
    scatter = np.log(max(data.step_noise / data.present, 1e-9) / prior.unbounded.scatter)
    return float(1.0 - np.exp(-(max(float(come), 0.0) + max(float(scatter), 0.0)) / prior.unbounded.e_folds))


def expected_decay(data: FitData, schedule: LRSchedule, prior: Prior, *, positive: bool) -> float:
    """Return the prior median of b: half the harmonic mean of two sizes, so that the smaller of them counts.

    The one is the slope expected at the end: a flat run gains little whatever its loss, a steep one no more than others
    do. It does not hold back a loss that nothing bounds (see `freedom`). The other is a share of the loss or, where the
    loss can be negative, of the way that it has come.

    Args:
        data: The windows.
        schedule: Learning rate of all steps.
        prior: Scales.
        positive: The loss cannot fall below zero.
    """
    slope = _slope_at_end(data, schedule, prior)
    if positive:
        free = freedom(data, prior, positive=positive)
        return _smaller(slope / max(1.0 - free, _FREE), prior.decay_share * prior.unbounded.share**free * data.present)
    come = prior.signed.share * (data.first - data.present)
    return _smaller(slope, come) if come > 0.0 else slope


def _slope_at_end(data: FitData, schedule: LRSchedule, prior: Prior) -> float:
    """Return what a decay brings as far as the slope tells: that of now, smaller by what is still to come."""
    ahead = float(schedule.summed(schedule.horizon) / max(float(schedule.summed(data.now)), 1e-9))
    return prior.decay * data.slope * float(max(ahead, 1.0) ** -prior.slope_exponent)


def _smaller(one: float, other: float) -> float:
    """Return half the harmonic mean of two sizes: near the smaller of them."""
    return 1.0 / (1.0 / one + 1.0 / other)


def spread_of_decay(data: FitData, prior: Prior, *, positive: bool) -> float:
    """Return the scale of log b of the prior [1]."""
    if not positive:
        return prior.decay_spread + prior.signed.spread
    return prior.decay_spread + prior.unbounded.spread * freedom(data, prior, positive=positive)


def arrived(schedule: LRSchedule, prior: Prior) -> FloatArray:
    """Return the share of a full decay that a run has had at the end of its schedule, under each response, shape (J,).

    Where the rate ends as high as it was, or higher, the share is taken as a tenth: gains are divided by it.
    """
    share: FloatArray = Annealing(schedule, prior.responses).at(np.array([0.99 * schedule.horizon]))[0]
    return np.asarray(np.maximum(share, _ARRIVED), dtype=np.float64)


def full_decay(gain: float, schedule: LRSchedule, prior: Prior) -> FloatArray:
    """Return b under each response, given what the decay brings by the end of the schedule [unit of the loss], (J,)."""
    return gain / arrived(schedule, prior)


def _nodes(
    median: FloatArray,
    spread: float,
    nodes: FloatArray,
    none: float,
    by_response: FloatArray,
    slope: float,
    most: float = np.inf,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return mean, standard deviation and log weight of normals that make up a log-t distribution of b, (J, K) each."""
    b = np.minimum(np.outer(median, np.concatenate(([0.0], np.exp(spread * nodes)))), most)
    sd = np.maximum(_BLUR * _STEP * spread * b, _NONE * slope)
    weights = (1.0 + nodes**2 / 4.0) ** -2.5  # Student's t with 4 degrees of freedom: the run may overrule the prior
    weight = np.log(np.concatenate(([none], (1.0 - none) * weights / weights.sum())))
    return (
        b,
        sd,
        weight + np.log(by_response)[:, None],
    )


@dataclass(frozen=True, eq=False)
class DecayBelief:
    """What is believed of the loss that a full decay brings, before (or after) a fit: a mixture of normals.

    Args:
        b: Means of the amplitude [unit of the loss], under each of J responses, shape (J, K).
        sd: Standard deviations about them [same unit], shape (J, K).
        log_weight: Log weight of each, shape (J, K).
        family: 0 for those of the prior for runs of all kinds, 1 for those of the run's kin, shape (K,).
    """

    b: FloatArray
    sd: FloatArray
    log_weight: FloatArray
    family: NDArray[np.intp]

    @classmethod
    def before(
        cls,
        data: FitData,
        schedule: LRSchedule,
        prior: Prior,
        *,
        decays: bool,
        positive: bool,
        kin: Kin | None = None,
    ) -> DecayBelief:
        """Return the prior; where the rate never changes after its warm-up (``decays`` is False) there is none."""
        if not decays:
            K = 1 if kin is None else 2
            return cls(np.zeros((1, K)), np.full((1, K), _NONE * data.slope), np.zeros((1, K)), np.arange(K))
        median = expected_decay(data, schedule, prior, positive=positive)
        J = len(prior.responses)
        spread = spread_of_decay(data, prior, positive=positive)
        most = prior.decay_most * data.present if positive else np.inf
        own = _nodes(np.full(J, median), spread, _NODES, prior.decay_none, np.full(J, 1.0), data.slope, most)
        if kin is None:
            return cls(*own, np.zeros(own[0].shape[1], dtype=np.intp))
        if kin.log_gain is None or kin.responses is None:
            theirs = own
        else:
            shares = _SHARED * np.asarray(kin.responses) + (1.0 - _SHARED) / J
            b = full_decay(float(np.exp(kin.log_gain[0])), schedule, prior)
            theirs = _nodes(b, kin.log_gain[1], _KIN_NODES, prior.decay_none, J * shares, data.slope)
        family = np.repeat([0, 1], [own[0].shape[1], theirs[0].shape[1]])
        b, sd, log_weight = (np.concatenate(pair, axis=1) for pair in zip(own, theirs, strict=True))
        return cls(b, sd, log_weight, family)

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
        return DecayBelief(mean, sd, np.log(share + _LEAST), self.family)


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
        horizon = float(schedule.horizon)
        if schedule.known or horizon <= data.now or prior.hidden_decay[0] == 0.0:
            return None
        free, more = freedom(data, prior, positive=positive), prior.unbounded
        probability = prior.hidden_decay[0] + free * more.hidden_chance
        spread = prior.hidden_decay[1] + free * more.hidden_spread
        left = (1.0 - data.now / horizon) * float(schedule.rate_at(data.now))
        if positive:
            # A rate that nobody speaks of may stay as it is: what the slope says holds here, bounded or not.
            share = prior.decay_share * more.hidden_share**free * data.present
            fall = left * _smaller(_slope_at_end(data, schedule, prior), share)
        else:
            fall = left * expected_decay(data, schedule, prior, positive=positive)
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
