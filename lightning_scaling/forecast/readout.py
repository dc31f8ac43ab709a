"""Read intervals off the mixtures and posteriors of a fit."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.fit.mixture import GaussianMixture
from lightning_scaling.fit.posterior import Posterior
from lightning_scaling.interval import Interval
from lightning_scaling.ledger import LAST_PART
from lightning_scaling.siblings.before_start import Unbegun

__all__ = ["discrete", "interval_of", "intervals_of", "joined", "last_part", "now_final_change", "one_of", "unknown"]

FloatArray = NDArray[np.float64]


def now_final_change(posterior: Posterior | Unbegun, step: int, horizon: int | None) -> GaussianMixture:
    """Return the loss now, the loss over the last 2 % of the run, and the second minus the first.

    The second is what a log will show, so the noise of the losses that it is the mean of is in it; the other two are of
    expected losses.
    """
    now, middle = float(step), last_part(step, step if horizon is None else horizon)
    if isinstance(posterior, Unbegun):
        mixture = posterior.loss([middle])
        nothing = np.full_like(mixture.means, np.nan)
        means, sds = (np.concatenate((nothing, x, nothing), axis=1) for x in (mixture.means, mixture.sds))
        return GaussianMixture(mixture.weights, means, sds, posterior.least)
    mixture = posterior.loss([now, middle], combine=[[1.0, 0.0, -1.0], [0.0, 1.0, 1.0]])
    noise = 0.0 if horizon is None else posterior.data.error_of_end(horizon, LAST_PART)
    sds = np.hypot(mixture.sds, [0.0, noise, 0.0])
    # What a loss that stays positive can lose is all that there is of it now.
    least = posterior.least - np.array([0.0, 0.0, posterior.data.present])
    return replace(mixture, sds=sds, least=least, stretch=posterior.stretch([0.0, 1.0, -1.0]))


def last_part(step: int, horizon: int) -> float:
    """Return the step at which the loss is its mean over the last 2 % of the run, or what of them is to come.

    The loss hardly bends over 2 % of a run: its mean there is its value in their middle.
    """
    return max((1.0 - 0.5 * LAST_PART) * horizon, 0.5 * (step + horizon))


def one_of(mixture: GaussianMixture, k: int) -> GaussianMixture:
    """Return the k-th quantity of a mixture by itself."""
    only = slice(k, k + 1)
    stretch = None if mixture.stretch is None else mixture.stretch.of(mixture.stretch.kind[only])
    least = np.broadcast_to(mixture.least, mixture.means.shape[1])[only]
    return GaussianMixture(mixture.weights, mixture.means[:, only], mixture.sds[:, only], least, stretch)


def interval_of(mixture: GaussianMixture, level: float, shape: tuple[int, ...] = ()) -> Interval:
    """Return the interval that holds each quantity with a probability, and its median."""
    low, mid, high = (q.reshape(shape) for q in _bounds(mixture, level))
    return Interval(low, mid, high, level) if shape else Interval(float(low), float(mid), float(high), level)


def intervals_of(mixture: GaussianMixture, level: float) -> list[Interval]:
    """Return one interval for each of a few quantities."""
    return [Interval(float(low), float(mid), float(high), level) for low, mid, high in _bounds(mixture, level).T]


def _bounds(mixture: GaussianMixture, level: float) -> FloatArray:
    """Return low, middle and high of each quantity, shape (3, P), in order even where numbers are too small to tell."""
    return np.asarray(np.maximum.accumulate(mixture.quantiles([(1 - level) / 2, 0.5, (1 + level) / 2]), axis=0))


def joined(parts: list[Interval], shape: tuple[int, ...]) -> Interval:
    """Return one interval of a shape from those of its parts."""
    low, mid, high = (np.concatenate([getattr(p, name) for p in parts]) for name in ("low", "mid", "high"))
    if shape:
        return Interval(low.reshape(shape), mid.reshape(shape), high.reshape(shape), parts[0].level)
    return Interval(float(low[0]), float(mid[0]), float(high[0]), parts[0].level)


def discrete(posterior: Posterior, values: FloatArray, level: float) -> Interval:
    """Return the interval of a number that each law of a posterior has, shape (K,)."""
    low, mid, high = posterior.quantiles(values, [(1 - level) / 2, 0.5, (1 + level) / 2])
    return Interval(float(low), float(mid), float(high), level)


def unknown(level: float, shape: tuple[int, ...] = ()) -> Interval:
    """Return an interval of NaN."""
    nan = np.full(shape, np.nan) if shape else float("nan")
    return Interval(nan, nan, nan, level)
