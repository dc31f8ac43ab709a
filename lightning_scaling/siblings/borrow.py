"""borrow(): what related runs say of this one before it has shown it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.finished import FinishedRun
from lightning_scaling.fit.annealing import Annealing
from lightning_scaling.fit.kin import Kin
from lightning_scaling.fit.prior import DEFAULT_PRIOR
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.siblings.relevance import Relative, relatives, schedule_distance
from lightning_scaling.siblings.traits import Traits
from lightning_scaling.siblings.trend import Outlook, Scatter, trend

__all__ = ["Borrowed", "borrow"]

FloatArray = NDArray[np.float64]

#: Run-to-run scatter of log alpha, log delay and log b, and how they drift with the logs of size and length. A larger
#: model gains more from its decay as a rule.
_ALPHA = Scatter(DEFAULT_PRIOR.log_alpha, (0.0, 0.03), (0.0, 0.04), 0.05)
_DELAY = Scatter((0.0, 2.0), (0.0, 0.15), (0.0, 0.15), 0.25)
_DECAY = Scatter((0.0, 1.0), (0.05, 0.08), (0.0, 0.08), 0.1)
#: Distance of schedules (root mean square, relative to the peak) at which a run counts for .6 of one with our own.
_SCHEDULES = 0.12
#: Weight that the runs with a decay must have together for theirs to be borrowed.
_ENOUGH = 0.3
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
    """

    schedule: LRSchedule
    kin: Kin
    relatives: Sequence[Relative]
    traits: Sequence[Traits]


def borrow(curve: LossCurve, schedule: LRSchedule, runs: Iterable[FinishedRun]) -> Borrowed | None:
    """Return what finished runs lend to the forecast of a run; None where none of them is kin to it.

    Args:
        curve: The run so far; it may be empty.
        schedule: Learning rate of all its steps.
        runs: Other runs, such as those of a `RunStore`.
    """
    found = [(one, Traits.of(one.curve, one.schedule)) for one in relatives(curve, schedule, runs)]
    pairs = [(one, traits) for one, traits in found if traits is not None]
    if not pairs:
        return None
    kin, traits = [one for one, _ in pairs], [shown for _, shown in pairs]
    return Borrowed(schedule, _kin(schedule, kin, traits), kin, traits)


def _kin(schedule: LRSchedule, kin: Sequence[Relative], traits: Sequence[Traits]) -> Kin:
    weights = np.array([one.weight for one in kin])
    alpha = _outlook([t.log_alpha for t in traits], weights, kin, _ALPHA)
    delays = [t.log_delay for t in traits]
    delay = _outlook(delays, weights, kin, _about(_DELAY, delays, weights))
    n = float(weights.sum())
    log_b = responses = None
    falling = [i for i, t in enumerate(traits) if t.log_b is not None]
    if falling and Annealing(schedule, DEFAULT_PRIOR.responses).any:
        near = np.array([schedule_distance(schedule, kin[i].schedule) for i in falling])
        by_schedule = np.maximum(np.exp(-0.5 * (near / _SCHEDULES) ** 2), 1e-3) * weights[falling]
        if by_schedule.sum() >= _ENOUGH:
            shown = [traits[i].log_b or (0.0, 0.0) for i in falling]
            decay = _outlook(shown, by_schedule, [kin[i] for i in falling], _about(_DECAY, shown, by_schedule))
            log_b = decay.mean, decay.sd
            responses = by_schedule @ np.array([traits[i].responses for i in falling]) / by_schedule.sum()
    return Kin(_KIN * n**2 / (n**2 + _HALF**2), (alpha.mean, alpha.sd), (delay.mean, delay.sd), log_b, responses)


def _outlook(
    shown: Sequence[tuple[float, float]], weights: FloatArray, kin: Sequence[Relative], prior: Scatter
) -> Outlook:
    values, variances = np.array(shown).T
    log_N, log_T = np.array([(one.log_N, one.log_T) for one in kin]).T
    return trend(values, variances, weights, log_N, log_T, prior)


def _about(prior: Scatter, shown: Sequence[tuple[float, float]], weights: FloatArray) -> Scatter:
    """Return a prior about the mean of what was shown: its middle has the unit of the run and no value of its own."""
    middle = float(np.average([value for value, _ in shown], weights=weights))
    return Scatter((middle, prior.middle[1]), prior.per_log_N, prior.per_log_T, prior.spread)
