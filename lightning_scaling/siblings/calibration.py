"""calibrate(): what forecasts like this one were worth for the relatives of a run, which are over."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from weakref import WeakKeyDictionary

import numpy as np

from lightning_scaling.curve import LossCurve
from lightning_scaling.fit.data import compact
from lightning_scaling.fit.posterior import Posterior
from lightning_scaling.fit.prior import DEFAULT_PRIOR
from lightning_scaling.fit.record import MIN_POINTS, fit
from lightning_scaling.siblings.borrow import Borrowed, borrow
from lightning_scaling.siblings.drop import end_by_drop
from lightning_scaling.siblings.identity import digest
from lightning_scaling.siblings.level import end_by_level, weigh_levels
from lightning_scaling.siblings.relevance import LEAST, Relative, schedule_distance

__all__ = ["Calibration", "calibrate"]

#: Shares of a run from which runs that are over are forecast again.
_SHARES = np.array([0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9])
#: Runs that are forecast again at most; runs that the engine's own width, and its being unbiased, count for.
_AGAIN, _WORTH, _UNBIASED = 12, 0.7, 3.0
#: What counts against the drops of the kin, in the unit of the sum that speaks for them: runs times square sigmas.
_DROPLESS = 3.0
#: Limits of the factor on the width.
_LEAST, _MOST = 0.3, 2.5
#: Distance of schedules at which a forecast made again counts for .6: errors of a decay say nothing of a constant rate.
_LIKE = 0.3
#: An error beyond this many sigmas counts as this many; the same for a level.
_CLIP, _FAR = 4.0, 10.0
#: Weight of relatives at which a run is half one of them when it comes to levels.
_ALIKE = 0.4
#: Standard deviation of a level that is not known, in sigmas.
_UNSURE = 1e6
#: Log ratio of sizes from which they are different ones.
_OTHER_SIZE = 0.2

#: Error, drop and level of a run that was forecast again, in sigmas, and the sd of its level, in sigmas too.
_Again = tuple[float, float, float, float]

_again: WeakKeyDictionary[LossCurve, dict[tuple[float, bytes], _Again | None]] = WeakKeyDictionary()


@dataclass(frozen=True)
class Calibration:
    """What forecasts like this one were worth.

    Args:
        shift: By how many sigmas a forecast is to be raised [1].
        factor: By what the width of an interval should be multiplied [1].
        drop: How far the forecast goes by the drops of the kin, from 0 to 1 [1]; part of the shift.
        level: How far from there it goes by their levels, from 0 to 1 [1]; part of the shift.
        n_runs: Runs that were forecast again.
    """

    shift: float
    factor: float
    drop: float
    level: float
    n_runs: int


def calibrate(borrowed: Borrowed, curve: LossCurve, posterior: Posterior) -> Calibration:
    r"""Return what forecasts at this share of a run were worth for its relatives.

    Each of the closest ones is forecast again at the same share of it, with all the others as its kin. With r_r its
    error in sigmas, d_r and l_r by how many sigmas the drops (`end_by_drop`) and the levels (`end_by_level`) of its kin
    lie above its forecast, w_r its weight, and n runs in all,

    .. math:: \kappa = \frac{\sum_r w_r r_r d_r}{k + \sum_r w_r d_r^2} \in [0, 1], \qquad
              z_r = (1 - \lambda_r) (r_r - \kappa d_r) + \lambda_r (r_r - l_r), \qquad
              m = \frac{\sum_r w_r z_r}{\mu + n}, \qquad
              f^2 = \frac{\nu + \mu m^2 + \sum_r w_r (z_r - m)^2}{\nu + n}

    with lambda from `weigh_levels`, for this run times how alike its relatives are to it: what they are to each other
    does not say so. A forecast is raised by m + (1 - lambda) kappa d + lambda l sigmas, and its width
    multiplied by f: where copying the drops of the kin has served them better than the law, it serves this run, where
    their levels have, those do, and where neither has it is left alone. Where this run is of a size that none of them
    has, a relative is forecast without those of its own size, for that is as hard.

    Args:
        borrowed: What the kin of the run lend.
        curve: The run so far.
        posterior: Its law, fitted with what they lend.
    """
    share = curve.step / borrowed.schedule.horizon
    nearest = float(_SHARES[np.abs(np.log(_SHARES / max(share, 1e-3))).argmin()])
    likeness = [
        one.weight * float(np.exp(-0.5 * (schedule_distance(borrowed.schedule, one.schedule) / _LIKE) ** 2))
        for one in borrowed.relatives
    ]
    chosen = [int(i) for i in np.argsort(likeness)[::-1][:_AGAIN] if likeness[i] > LEAST]
    found = [(likeness[i], _forecast_again(borrowed, i, nearest)) for i in chosen]
    known = [(w, *again) for w, again in found if again is not None]
    w, r, d, levels, sds = np.array(known).reshape(-1, 5).T
    r, d, n = np.clip(r, -_CLIP, _CLIP), np.clip(d, -_CLIP, _CLIP), float(w.sum())
    drop = float(np.clip(w @ (r * d) / (_DROPLESS + w @ d**2), 0.0, 1.0))
    median, sd = _end(posterior, float(borrowed.schedule.horizon))
    here = drop * float(np.clip(_dropped(borrowed, curve, median, sd), -_CLIP, _CLIP))
    level, level_sd = _level(borrowed, median, sd)
    z, off = r - drop * d, np.clip(levels, -_FAR, _FAR) - drop * d
    behind, ahead = weigh_levels(w, z, off, sds, level_sd)
    ahead *= _closeness(borrowed)
    z = z - behind * off
    shift = float(w @ z) / (_UNBIASED + n)
    square = (_WORTH + _UNBIASED * shift**2 + w @ (z - shift) ** 2) / (_WORTH + n)
    shift += here + ahead * (float(np.clip(level, -_FAR, _FAR)) - here)
    return Calibration(shift, float(np.clip(np.sqrt(square), _LEAST, _MOST)), drop, ahead, len(z))


def _end(posterior: Posterior, T: float) -> tuple[float, float]:
    """Return median and standard deviation of the loss at the end of a run."""
    guess = posterior.loss([0.99 * T])
    return float(guess.quantiles([0.5])[0, 0]), float(guess.sigma()[0])


def _dropped(borrowed: Borrowed, curve: LossCurve, median: float, sd: float) -> float:
    """Return by how many sigmas the drops of the kin put the end of a run above its forecast; 0 where they cannot."""
    end = end_by_drop(borrowed, curve)
    return 0.0 if end is None else (end - median) / sd


def _closeness(borrowed: Borrowed) -> float:
    """Return how far what holds among the relatives holds for this run: hardly, where it is not like them."""
    weights = np.array([one.weight for one in borrowed.relatives])
    like = float(weights @ weights / weights.sum()) ** 4
    return like / (like + _ALIKE**4)


def _level(borrowed: Borrowed, median: float, sd: float) -> tuple[float, float]:
    """Return by how many sigmas the levels of the kin put the end of a run above its forecast, and how well so."""
    found = end_by_level(borrowed)
    return (0.0, _UNSURE) if found is None else ((found[0] - median) / sd, found[1] / sd)


def _forecast_again(borrowed: Borrowed, i: int, share: float) -> _Again | None:
    """Forecast a relative again at a share of it; return its error and the drops of its kin, in sigmas."""
    one, kin = borrowed.relatives[i], borrowed.relatives
    sizes = np.array([r.log_N for r in kin])
    others = np.arange(sizes.size) != i
    other_sizes = np.abs(sizes - sizes[i]) > _OTHER_SIZE
    if np.abs(sizes).min() > _OTHER_SIZE and other_sizes.any():
        others &= other_sizes
    chosen = sorted((digest(r.curve, r.schedule), j) for j, r in enumerate(kin) if others[j])
    # What is kept depends on nothing but the runs: a forecast is the same whatever was forecast before it.
    names = b"".join((digest(one.curve, one.schedule), *(name for name, _ in chosen)))
    key = share, hashlib.blake2b(names, digest_size=16).digest()
    known = _again.setdefault(one.curve, {})
    if key not in known:
        known[key] = _worth(one, share, [kin[j] for _, j in chosen])
    return known[key]


def _worth(one: Relative, share: float, others: list[Relative]) -> _Again | None:
    T = float(one.schedule.horizon)
    part, late = compact(one.curve.until(share * T)), one.curve.S > 0.98 * T
    if len(part) < MIN_POINTS or not late.any():
        return None
    lent = borrow(part, one.schedule, others)
    if lent is None:
        return None
    try:
        with np.errstate(all="ignore"):
            median, sd = _end(fit(part, one.schedule, DEFAULT_PRIOR, lent.kin).posterior, T)
    except (np.linalg.LinAlgError, ArithmeticError, ValueError):
        return None
    truth = float(np.average(one.curve.L[late], weights=one.curve.count[late]))
    found = (truth - median) / sd, _dropped(lent, part, median, sd), *_level(lent, median, sd)
    return found if np.isfinite(found).all() else None
