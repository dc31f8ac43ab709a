"""Which finished runs are kin to a run, and how closely."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.finished import FinishedRun
from lightning_scaling.fit.data import FitData, reduce_curve
from lightning_scaling.fit.prior import DEFAULT_PRIOR
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.siblings.identity import digest, same_run

__all__ = ["Relative", "kinds", "relatives", "schedule_distance", "schedules_alike"]

FloatArray = NDArray[np.float64]

#: Most runs that are borrowed from, and the least weight of one.
MOST, LEAST = 24, 0.02
#: Fewest points of a run that is borrowed from, and of one that is compared by its losses.
MIN_POINTS, MIN_SEEN = 20, 8
#: Log ratio of sizes and of lengths at which a run counts for .6 of one of equal size and length.
_SIZES, _LENGTHS = 2.5, 1.5
#: Weight of a run whose size, or ours, is not known.
_NO_SIZE = 0.5
#: Log ratio of losses, after L(N) has been allowed for, at which the weight falls to .6; how much that widens with the
#: log ratio of the sizes; and d log L/d log N (Kaplan et al. 2020, Table 2).
_LEVEL, _LEVEL_PER_SIZE, _LEVEL_BY_SIZE = 0.1, 0.05, -0.076
#: The same for the difference of losses of either sign, in units of the fall.
_LEVEL_IN_FALLS = 1.0
#: The same for the log ratio of the falls, and for what an affine map of one curve leaves of the other, as a share of
#: its fall.
_FALL, _LEFT = 0.2, 0.015
#: Noise of a window, as a share of the fall, at which a curve tells so little of its kind that it counts for .7.
_TELLING = 0.03
#: Windows per e-fold and e-folds of steps in which two curves are compared, and how many windows that takes.
_PER_E_FOLD, _E_FOLDS, _WINDOWS = 10, 3.0, 6
_OUTLIER = DEFAULT_PRIOR.outlier
#: Kinds of runs that a store is sorted into at most, and the least share of one.
_KINDS, _RARE = 4, 0.05
#: Points of the relative time at which schedules are compared.
_TIMES = np.linspace(0.02, 1.0, 100)


@dataclass(frozen=True, eq=False)
class Relative:
    """A finished run beside the one that is forecast.

    Args:
        curve: Its losses.
        schedule: Learning rate of all its steps.
        weight: How closely related it is, from `LEAST` to 1.
        log_N: Log of its size as a multiple of ours, 0 where one is not known [1].
        log_T: The same of its length [1].
    """

    curve: LossCurve
    schedule: LRSchedule
    weight: float
    log_N: float
    log_T: float

    @property
    def horizon(self) -> int:
        """Its planned end [steps]; so a relative can itself be asked as a run."""
        return self.schedule.horizon

    @property
    def lr_schedule(self) -> LRSchedule:
        """Learning rate of all its steps."""
        return self.schedule


def relatives(curve: LossCurve, schedule: LRSchedule, runs: Iterable[FinishedRun]) -> list[Relative]:
    """Return the runs that the forecast of a run may borrow from, closest first: the most common of their `kinds`."""
    found = kinds(curve, schedule, runs)
    return found[0][1] if found else []


def kinds(curve: LossCurve, schedule: LRSchedule, runs: Iterable[FinishedRun]) -> list[tuple[float, list[Relative]]]:
    """Return the kinds of runs that the forecast of a run may borrow from, each with its probability.

    Once there are losses, they tell what is kin, and there is one kind or none. Before, the runs of a store may be of
    several tasks, and this run of any of them: the level of their losses tells them apart, and how common they are how
    probable each is.

    Runs count by the ratios of sizes and lengths and, once there are losses, by how level and fall at the same step
    compare. A run that is not finished, measures in another unit or is this very run, which must not be told its own
    end, is left out.

    Args:
        curve: The run so far; it may be empty.
        schedule: Learning rate of all its steps.
        runs: Other runs.
    """
    seen = _windows(curve) if len(curve) >= MIN_SEEN else None
    near = [one for run in runs if (one := _by_size_and_length(curve, schedule, run)) is not None]
    if seen is None:
        return _by_scale([one for one in near if not same_run(curve, one.curve)])
    found: list[Relative] = []
    least = LEAST
    # Losses take from a weight and never add to it, so those near by size and length come first, and most none at all.
    for one in _in_order(near):
        if one.weight < least:
            break
        weight = one.weight * _likeness(curve, seen, one.curve, one.log_N)
        if weight >= least and not same_run(curve, one.curve):
            found = _closest([*found, replace(one, weight=float(weight))])
            least = found[-1].weight if len(found) == MOST else LEAST
    return [(1.0, found)] if found else []


def _by_size_and_length(curve: LossCurve, schedule: LRSchedule, run: FinishedRun) -> Relative | None:
    """Return a run weighed by size and length alone; None where it cannot be borrowed from."""
    other = run.curve
    if len(other) < MIN_POINTS or not _finished(run) or not _one_unit(curve, other):
        return None
    rates = run.lr_schedule or LRSchedule.of_past(other.S, other.lr, other.step)
    both_sized = curve.N is not None and other.N is not None
    log_N = float(np.log(other.N / curve.N)) if both_sized else 0.0  # type: ignore[operator]
    log_T = float(np.log(rates.horizon / schedule.horizon))
    weight = np.exp(-0.5 * ((log_N / _SIZES) ** 2 + (log_T / _LENGTHS) ** 2)) * (1.0 if both_sized else _NO_SIZE)
    return Relative(other, rates, float(weight), log_N, log_T) if weight >= LEAST else None


def _in_order(found: list[Relative]) -> list[Relative]:
    """Return runs, the closest first, and equally close ones in an order that is their own and not that of a store."""
    return sorted(found, key=lambda one: (-one.weight, digest(one.curve, one.schedule)))


def _closest(found: list[Relative]) -> list[Relative]:
    return _in_order(found)[:MOST]


def schedule_distance(one: LRSchedule, other: LRSchedule) -> float:
    """Return the root mean square difference of two schedules in relative time, each relative to its peak [1]."""
    rates = (s.rate_at(_TIMES * s.horizon) for s in (one, other))
    return float(np.sqrt(np.mean(np.subtract(*rates) ** 2)))


def schedules_alike(schedules: Sequence[LRSchedule], distance: float) -> FloatArray:
    """Return how alike each two of some schedules are [1], .6 at a distance, shape (n, n)."""
    rates = np.array([s.rate_at(_TIMES * s.horizon) for s in schedules])
    square = np.mean((rates[:, None] - rates[None]) ** 2, axis=2)
    return np.asarray(np.exp(-0.5 * square / distance**2))


def _windows(curve: LossCurve) -> FitData:
    return reduce_curve(curve, windows_per_e_fold=_PER_E_FOLD, e_folds=_E_FOLDS, outlier=_OUTLIER)


def _likeness(curve: LossCurve, ours: FitData, other: LossCurve, log_N: float) -> float:
    """Return how alike two curves are over the steps that both have seen [1].

    Curves of one kind are an affine map of each other, L = c + k L', with k near 1: the same bends at the same steps.
    """
    part = other if other.step <= curve.step else other.until(curve.step)
    if len(part) < _WINDOWS:
        return 0.0
    theirs = _windows(part)
    inside = (ours.S >= theirs.S[0]) & (ours.S <= theirs.S[-1])
    if inside.sum() < _WINDOWS:
        return 0.0
    x, there = np.log(ours.S[inside]), np.log(theirs.S)
    y, y_there = ours.y[inside], np.interp(x, there, theirs.y)
    noise = float(np.mean(ours.variance[inside] + np.interp(x, there, theirs.variance)))
    k = float(np.cov(y, y_there)[0, 1] / max(float(np.var(y_there, ddof=1)), 1e-300))
    fall = float(np.ptp(y))
    if k <= 0.0 or fall <= 0.0:
        return 0.0
    left = y - y.mean() - k * (y_there - y_there.mean())
    rest = max(float(np.mean(left**2)) - noise, 0.0) / fall**2
    off = (np.log(k) / _FALL) ** 2 + rest / _LEFT**2
    if min(curve.L.min(), other.L.min()) > 0.0:
        level = float(np.log(y[-1] / y_there[-1])) + _LEVEL_BY_SIZE * log_N
        off += (level / (_LEVEL + _LEVEL_PER_SIZE * abs(log_N))) ** 2
    else:
        off += (float(y[-1] - y_there[-1]) / (_LEVEL_IN_FALLS * fall)) ** 2
    # Noise that hides the bends of a curve hides as well that they are not ours.
    return float(np.exp(-0.5 * off) / np.sqrt(1.0 + noise / (_TELLING * fall) ** 2))


def _mean_about(curve: LossCurve, step: float) -> float:
    """Return the mean loss of the last tenth of the steps up to one, or the nearest loss where none was logged."""
    near = (curve.S > 0.9 * step) & (curve.S <= step)
    if not near.any():
        return float(np.interp(step, curve.S, curve.L))
    return float(np.average(curve.L[near], weights=curve.count[near]))


def _by_scale(found: list[Relative]) -> list[tuple[float, list[Relative]]]:
    """Return runs in kinds by the level of their losses, the most common first, each with its share of them all."""
    sorted_out: list[tuple[float, list[Relative]]] = []
    left = found
    while left and len(sorted_out) < _KINDS:
        kind = _of_one_scale(left)
        curves = {id(one.curve) for one in kind}
        share = sum(one.weight for one in left if id(one.curve) in curves) / sum(one.weight for one in found)
        left = [one for one in left if id(one.curve) not in curves]
        if share >= _RARE:
            sorted_out.append((share, _closest(kind)))
    total = sum(share for share, _ in sorted_out)
    return sorted([(share / total, kind) for share, kind in sorted_out], key=lambda one: -one[0])


def _of_one_scale(found: list[Relative]) -> list[Relative]:
    """Weigh runs by how near their last losses are to the middle one: before a run begins nothing else tells tasks."""
    positive = [one for one in found if one.curve.L.min() > 0.0]
    signed = [one for one in found if one.curve.L.min() <= 0.0]
    # Losses of either sign, such as log-densities, are not of one task with losses above zero: the more common stay.
    if sum(one.weight for one in signed) >= sum(one.weight for one in positive):
        return signed
    found = positive
    levels = np.array([np.log(_mean_about(one.curve, float(one.curve.step))) for one in found])
    order, weights = np.argsort(levels), np.array([one.weight for one in found])
    middle = levels[order][np.searchsorted(np.cumsum(weights[order]), 0.5 * weights.sum())]
    widths = np.array([2.0 * _LEVEL + _LEVEL_PER_SIZE * abs(one.log_N) for one in found])
    likeness = np.exp(-0.5 * ((levels - middle) / widths) ** 2)
    weighed = [replace(one, weight=one.weight * float(like)) for one, like in zip(found, likeness, strict=True)]
    return [one for one in weighed if one.weight >= LEAST]


def _finished(run: FinishedRun) -> bool:
    return run.horizon is not None and run.curve.step >= 0.98 * run.horizon and run.curve.n_nonfinite == 0


def _one_unit(one: LossCurve, other: LossCurve) -> bool:
    return not one.unit or not other.unit or one.unit == other.unit
