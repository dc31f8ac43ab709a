"""borrow(): what related runs say of this one before it has shown it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.finished import FinishedRun
from lightning_scaling.fit.annealing import Annealing
from lightning_scaling.fit.decay import arrived, expected_decay, full_decay, spread_of_decay
from lightning_scaling.fit.kin import Kin
from lightning_scaling.fit.prior import DEFAULT_PRIOR
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.siblings.relevance import Relative, kinds, schedules_alike
from lightning_scaling.siblings.traits import Traits
from lightning_scaling.siblings.trend import Outlook, Scatter, trend

__all__ = ["Borrowed", "borrow"]

FloatArray = NDArray[np.float64]

#: Run-to-run scatter of log alpha, log delay and the log of what a decay brings, and how they drift with the logs of
#: size and length. A larger model gains more from its decay as a rule: by N^0.13 in Luo et al. 2025, arXiv:2503.12811
#: (B of their law at 25M and 100M), by N^0.04 to N^0.2 in the ladder of small models that comes with the package.
_ALPHA = Scatter(DEFAULT_PRIOR.log_alpha, (0.0, 0.03), (0.0, 0.04), 0.05)
_DELAY = Scatter((0.0, 2.0), (0.0, 0.15), (0.0, 0.15), 0.25)
_DECAY = Scatter((0.0, 1.0), (0.1, 0.08), (0.0, 0.08), 0.06, by_kind=0.1)
#: Distance of schedules (root mean square, relative to the peak) at which what they bring has a correlation of .6, and
#: the least weight that its schedule leaves a run.
_SCHEDULES, _LEAST = 0.2, 1e-3
#: Weight that the runs with a decay must have together for theirs to be borrowed.
_ENOUGH = 0.3
#: Share of a full decay below which a rate was held: the last of a warm-up is a change of it too.
_HELD = 0.05
#: Prior probability that a run is like its kin where there are many of them, and how many are half of many.
_KIN, _HALF = 0.9, 1.0


@dataclass(frozen=True, eq=False)
class Borrowed:
    """What other runs lend to a forecast.

    Args:
        schedule: Learning rate of all steps of the run that borrows.
        kin: What they say of the parameters of the law.
        relatives: The runs that it was taken from, the closest first.
        traits: What each of them has shown.
        probability: That this run is of their kind, before its losses tell [1].
        others: What runs of other kinds lend, where it may be of one of those.
    """

    schedule: LRSchedule
    kin: Kin
    relatives: Sequence[Relative]
    traits: Sequence[Traits]
    probability: float = 1.0
    others: tuple[Borrowed, ...] = ()

    @property
    def n_runs(self) -> int:
        """Runs that it borrows from, of all kinds."""
        return len(self.relatives) + sum(len(other.relatives) for other in self.others)

    def carried(self, i: int, steps: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and variance of what the law of a relative says of the loss under the schedule of this run.

        Args:
            i: Which of the relatives.
            steps: Steps [steps], shape (P,).
        """
        posterior, prior = self.traits[i].posterior, DEFAULT_PRIOR
        mean, variance = posterior.elsewhere(self.schedule, steps)
        annealing, end = Annealing(self.schedule, prior.responses), float(posterior.schedule.horizon)
        if not annealing.any or np.abs(posterior.annealing.at(np.array([end]))).max() >= _HELD:
            return mean, variance
        # It never lowered its rate: what that brings is known from the others, or from runs of all kinds.
        a = annealing.at(steps)
        share = a[:, posterior.response].T
        own = posterior.b[:, None] * share
        expected = posterior.weights @ own
        unsure = posterior.weights @ ((own - expected) ** 2 + posterior.b_variance[:, None] * share**2)
        if self.kin.log_gain is None:
            data, positive = posterior.data, bool(posterior.data.y.min() > 0.0)
            gain = a.mean(axis=1) * expected_decay(data, self.schedule, prior, positive=positive)
            spread = spread_of_decay(data, prior, positive=positive)
        else:
            gain = a @ full_decay(float(np.exp(self.kin.log_gain[0])), self.schedule, prior) / a.shape[1]
            spread = self.kin.log_gain[1]
        return mean + expected - gain, np.maximum(variance - unsure, 0.0) + (spread * gain) ** 2


def borrow(curve: LossCurve, schedule: LRSchedule, runs: Iterable[FinishedRun]) -> Borrowed | None:
    """Return what finished runs lend to the forecast of a run; None where none of them is kin to it.

    Args:
        curve: The run so far; it may be empty.
        schedule: Learning rate of all its steps.
        runs: Other runs, such as those of a `RunStore`.
    """
    lent = [_lent(schedule, probability, kind) for probability, kind in kinds(curve, schedule, runs)]
    known = [one for one in lent if one is not None]
    return replace(known[0], others=tuple(known[1:])) if known else None


def _lent(schedule: LRSchedule, probability: float, kind: Sequence[Relative]) -> Borrowed | None:
    """Return what runs of one kind lend; None where none of them has a law."""
    found = [(one, Traits.of(one.curve, one.schedule)) for one in kind]
    pairs = [(one, traits) for one, traits in found if traits is not None]
    if not pairs:
        return None
    kin, traits = [one for one, _ in pairs], [shown for _, shown in pairs]
    return Borrowed(schedule, _kin(schedule, kin, traits), kin, traits, probability)


def _kin(schedule: LRSchedule, kin: Sequence[Relative], traits: Sequence[Traits]) -> Kin:
    weights = np.array([one.weight for one in kin])
    alpha = _outlook([t.log_alpha for t in traits], weights, kin, _ALPHA)
    delays = [t.log_delay for t in traits]
    delay = _outlook(delays, weights, kin, _about(_DELAY, delays, weights))
    n = float(weights.sum())
    log_gain = responses = None
    share = arrived(schedule, DEFAULT_PRIOR)
    gains = [(i, found) for i, t in enumerate(traits) if (found := t.log_gain(share)) is not None]
    decayed, shown = [kin[i] for i, _ in gains], [found for _, found in gains]
    counts = np.array([one.weight for one in decayed])
    if counts.sum() >= _ENOUGH and Annealing(schedule, DEFAULT_PRIOR.responses).any:
        alike = schedules_alike([*(one.schedule for one in decayed), schedule], _SCHEDULES)
        near = np.maximum(alike[-1, :-1], _LEAST) * counts
        decay = _outlook(shown, counts, decayed, _about(_DECAY, shown, near), alike)
        log_gain = decay.mean, decay.sd
        responses = near @ np.array([traits[i].responses for i, _ in gains]) / near.sum()
    return Kin(_KIN * n**2 / (n**2 + _HALF**2), (alpha.mean, alpha.sd), (delay.mean, delay.sd), log_gain, responses)


def _outlook(
    shown: Sequence[tuple[float, float]],
    weights: FloatArray,
    kin: Sequence[Relative],
    prior: Scatter,
    alike: FloatArray | None = None,
) -> Outlook:
    values, variances = np.array(shown).T
    log_N, log_T = np.array([(one.log_N, one.log_T) for one in kin]).T
    return trend(values, variances, weights, log_N, log_T, prior, alike)


def _about(prior: Scatter, shown: Sequence[tuple[float, float]], weights: FloatArray) -> Scatter:
    """Return a prior about the mean of what was shown: its middle has the unit of the run and no value of its own."""
    middle = float(np.average([value for value, _ in shown], weights=weights))
    return replace(prior, middle=(middle, prior.middle[1]))
