"""The run's own record: how far its earlier forecasts of the present turned out to be off."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.fit.annealing import Annealing
from lightning_scaling.fit.data import FitData, reduce_curve
from lightning_scaling.fit.decay import DecayBelief, HiddenDecay
from lightning_scaling.fit.kin import Kin
from lightning_scaling.fit.posterior import Posterior
from lightning_scaling.fit.prior import Prior
from lightning_scaling.fit.rise import Rise
from lightning_scaling.fit.solve import solve
from lightning_scaling.schedule import LRSchedule

__all__ = ["Fit", "fit", "middling"]

#: The present is forecast again from these shares of it.
ORIGINS = (0.4, 0.7)
#: The record speaks of the mean loss since this share of the present.
RECENT = 0.95
#: Fewest points from which the present is forecast again.
MIN_POINTS = 8
#: Share of a decay from which the present has something to teach of it.
BEGUN = 0.01
#: Losses below this are taken for zero.
_SMALLEST = 1e-290
#: Fewest windows that carry a law.
MIN_WINDOWS = 10
#: A surprise beyond this many sigmas counts as this many.
CLIP = 6.0
#: The same where it may go on.
LASTING = 3.0


@dataclass(frozen=True, eq=False)
class Fit:
    """The posterior of a run and the record that set its width.

    Args:
        posterior: The law.
        surprises: (now - forecast of now)/sigma of the earlier forecasts, oldest first; positive: worse than forecast.
        scale: Factor on the misfit sizes that the record asks for [1].
    """

    posterior: Posterior
    surprises: tuple[float, ...]
    scale: float


def fit(curve: LossCurve, schedule: LRSchedule, prior: Prior, kin: Kin | None = None) -> Fit:
    r"""Fit the law, with a misfit as large as the run's own earlier forecasts prove to be needed.

    A model that is wrong judges itself kindly: intervals from its own likelihood are too narrow or too wide as it
    happens. So the present is forecast from earlier shares of the run, and the misfit is scaled by

    .. math:: s^2 = \frac{\nu s_0^2 + \sum_k r_k^2}{\nu + n}

    with r_k the standardised surprises and (nu, s_0) a prior of how large they are in runs of all kinds.

    Args:
        curve: The run so far, at least ``MIN_POINTS`` points.
        schedule: The learning rate of all its steps.
        prior: Grids and scales.
        kin: What related runs say, None where there are none.

    Returns:
        Posterior, surprises and scale.
    """
    positive = bool(curve.L.min() > _SMALLEST)
    annealing = Annealing(schedule, prior.responses)
    data = _reduce(curve, prior)
    belief = DecayBelief.before(data, schedule, prior, decays=annealing.any, positive=positive, kin=kin)
    solved = partial(solve, annealing=annealing, positive=positive, kin=kin)
    surprises = _surprises(curve, data, solved, belief, prior)
    scale = _scale(surprises, prior)
    scaled = replace(prior, misfits=tuple(scale * size for size in prior.misfits))
    rise = Rise.of(data, schedule)
    posterior = solved(data if rise is None else rise.without(data), decay=belief, prior=scaled)
    beyond = rise or HiddenDecay.of(data, schedule, prior, positive=positive)
    newest = float(np.clip(surprises[-1], -LASTING, LASTING)) if surprises and rise is None else 0.0
    return Fit(replace(posterior, surprise=newest, beyond=beyond), surprises, scale)


def _surprises(
    curve: LossCurve, data: FitData, solved: partial[Posterior], belief: DecayBelief, prior: Prior
) -> tuple[float, ...]:
    """Forecast the present from earlier shares of it, and return by how many sigmas it came out above, oldest first."""
    annealing: Annealing = solved.keywords["annealing"]
    now = float(max(curve.step, curve.S[-1]))
    recent = curve.S >= RECENT * now
    if not recent.any():
        recent[-1] = True
    weight = curve.count[recent]
    actual, at = (float(np.average(x[recent], weights=weight)) for x in (curve.L, curve.S))
    error = _standard_error(curve, recent)
    middle = middling(prior)
    # What the present has taught of the decay is no surprise about the law, so the earlier forecasts are given it.
    known = belief
    if annealing.any and annealing.at(np.array([now])).max() > BEGUN:
        seen = solved(data, decay=belief, prior=middle)
        known = belief.after(seen.response, seen.node, seen.b, np.sqrt(seen.b_variance), seen.weights)
    surprises = []
    for share in ORIGINS:
        part = curve.until(share * now)
        # A rate that rises again undoes what its fall had brought: no forecast is held against that.
        if len(part) < MIN_POINTS or _rises(annealing.schedule, share * now, now):
            continue
        then = _reduce(part, prior)
        if then.S.size < MIN_WINDOWS:
            continue
        guess = solved(then, decay=known, prior=middle).loss([at])
        noise = max(then.step_noise / float(np.sqrt(weight.size)), error)
        surprises.append((actual - float(guess.mean()[0])) / float(np.hypot(guess.sd()[0], noise)))
    return tuple(surprises)


def _scale(surprises: tuple[float, ...], prior: Prior) -> float:
    """Return the factor on the misfit sizes that surprises ask for [1]."""
    r = np.clip(surprises, -CLIP, CLIP)
    nu, s_0 = prior.record
    return float(np.sqrt((nu * s_0**2 + float(np.sum(r**2))) / (nu + r.size)))


@lru_cache(maxsize=4)
def middling(prior: Prior) -> Prior:
    """Return the prior with one misfit of middling size and growth, which is enough to look back with."""
    size, growth = float(np.exp(np.mean(np.log(prior.misfits)))), float(np.mean(prior.growths))
    return replace(prior, misfits=(size,), growths=(growth,))


def _reduce(curve: LossCurve, prior: Prior) -> FitData:
    return reduce_curve(
        curve, windows_per_e_fold=prior.windows_per_e_fold, e_folds=prior.e_folds, outlier=prior.outlier
    )


def _rises(schedule: LRSchedule, S_from: float, S_to: float) -> bool:
    """Tell whether the learning rate rises by more than a twentieth of its peak between two steps."""
    rates = schedule.rate_at(np.linspace(S_from, S_to, 64))
    return bool((rates - np.minimum.accumulate(rates)).max() > 0.05)


def _standard_error(curve: LossCurve, recent: NDArray[np.bool_]) -> float:
    """Return the standard error of the mean of some points from their own scatter: one huge step makes it large."""
    count, spread, L = curve.count[recent], curve.spread[recent], curve.L[recent]
    inside = float(np.sum(np.where(count > 1, count * np.nan_to_num(spread) ** 2, 0.0)))
    between = float(np.sum(count**2)) * float(np.var(L)) if L.size > 3 else 0.0
    return float(np.sqrt(inside + between)) / float(count.sum())
