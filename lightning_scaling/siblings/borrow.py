"""borrow(): what related runs say of this one, and what forecasts of runs like it were worth."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.fit.annealing import Annealing
from lightning_scaling.fit.data import compact
from lightning_scaling.fit.kin import Kin
from lightning_scaling.fit.prior import DEFAULT_PRIOR
from lightning_scaling.fit.record import MIN_POINTS, fit
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.siblings.identity import digest
from lightning_scaling.siblings.relevance import LEAST, FinishedRun, Relative, relatives, schedule_distance
from lightning_scaling.siblings.traits import Traits
from lightning_scaling.siblings.trend import Outlook, Scatter, trend

__all__ = ["Borrowed", "Calibration", "borrow"]

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
#: Shares of a run from which runs that are over are forecast again.
_SHARES = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
#: Runs that are forecast again at most; runs that the engine's own width, and its being unbiased, count for.
_AGAIN, _WORTH, _UNBIASED = 12, 3.0, 3.0
#: Limits of the factor on the width.
_LEAST, _MOST = 0.4, 2.5
#: Distance of schedules at which a forecast made again counts for .6: errors of a decay say nothing of a constant rate.
_LIKE = 0.3
#: An error beyond this many sigmas counts as this many.
_CLIP = 4.0
#: Log ratio of sizes from which they are different ones.
_OTHER_SIZE = 0.2

_again: WeakKeyDictionary[LossCurve, dict[tuple[float, bytes], float | None]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Calibration:
    """What forecasts like this one were worth.

    Args:
        shift: By how many sigmas runs ended above their forecast [1].
        factor: By what the width of an interval should be multiplied [1].
        n_runs: Runs that were forecast again.
    """

    shift: float
    factor: float
    n_runs: int


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

    def calibration(self, share: float) -> Calibration:
        r"""Return what forecasts at this share of a run were worth for the relatives.

        Each of the closest ones is forecast again at the same share of it, with all the others as its kin. With z_r
        its error in sigmas and w_r its weight, n runs in all,

        .. math:: m = \frac{\sum_r w_r z_r}{\mu + \sum_r w_r}, \qquad
                  f^2 = \frac{\nu + \mu m^2 + \sum_r w_r (z_r - m)^2}{\nu + \sum_r w_r}

        are the shift of a forecast, in sigmas, and the factor on its width. Where this run is of a size that none of
        them has, a relative is forecast without those of its own size, for that is as hard.

        Args:
            share: Share of the run that has been seen [1].
        """
        nearest = float(_SHARES[np.abs(np.log(_SHARES / max(share, 1e-3))).argmin()])
        likeness = [
            one.weight * float(np.exp(-0.5 * (schedule_distance(self.schedule, one.schedule) / _LIKE) ** 2))
            for one in self.relatives
        ]
        chosen = [int(i) for i in np.argsort(likeness)[::-1][:_AGAIN] if likeness[i] > LEAST]
        found = [(likeness[i], self._error(i, nearest)) for i in chosen]
        w, z = np.array([(weight, error) for weight, error in found if error is not None]).reshape(-1, 2).T
        z, n = np.clip(z, -_CLIP, _CLIP), float(w.sum())
        shift = float(w @ z) / (_UNBIASED + n)
        square = (_WORTH + _UNBIASED * shift**2 + w @ (z - shift) ** 2) / (_WORTH + n)
        return Calibration(shift, float(np.clip(np.sqrt(square), _LEAST, _MOST)), len(z))

    def _error(self, i: int, share: float) -> float | None:
        """Return by how many sigmas the end of a relative was off its forecast at a share of it; None without one."""
        one = self.relatives[i]
        sizes = np.array([r.log_N for r in self.relatives])
        others = np.arange(sizes.size) != i
        other_sizes = np.abs(sizes - sizes[i]) > _OTHER_SIZE
        if np.abs(sizes).min() > _OTHER_SIZE and other_sizes.any():
            others &= other_sizes
        chosen = sorted((digest(r.curve, r.schedule), j) for j, r in enumerate(self.relatives) if others[j])
        # What is kept depends on nothing but the runs: a forecast is the same whatever was forecast before it.
        names = b"".join((digest(one.curve, one.schedule), *(name for name, _ in chosen)))
        key = share, hashlib.blake2b(names, digest_size=16).digest()
        known = _again.setdefault(one.curve, {})
        if key not in known:
            known[key] = _forecast_again(one, share, [self.relatives[j] for _, j in chosen])
        return known[key]


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


def _forecast_again(one: Relative, share: float, others: list[Relative]) -> float | None:
    """Forecast a run that is over from a share of it, and return by how many sigmas it ended above that."""
    T = float(one.schedule.horizon)
    part, late = compact(one.curve.until(share * T)), one.curve.S > 0.98 * T
    if len(part) < MIN_POINTS or not late.any():
        return None
    borrowed = borrow(part, one.schedule, others)
    if borrowed is None:
        return None
    try:
        with np.errstate(all="ignore"):
            guess = fit(part, one.schedule, DEFAULT_PRIOR, borrowed.kin).posterior.loss([0.99 * T])
    except (np.linalg.LinAlgError, ArithmeticError, ValueError):
        return None
    truth = float(np.average(one.curve.L[late], weights=one.curve.count[late]))
    error = (truth - float(guess.quantiles([0.5])[0, 0])) / float(guess.sd()[0])
    return error if np.isfinite(error) else None


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
