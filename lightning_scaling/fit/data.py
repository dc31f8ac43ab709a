"""Reduce a LossCurve to the log-spaced points that a fit sees, with the noise that each carries."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve

__all__ = ["FitData", "compact", "median", "reduce_curve"]

FloatArray = NDArray[np.float64]

#: A normal distribution's median absolute value, and its median square, in standard deviations and variances.
_MAD, _MEDIAN_SQUARE = 0.6745, 0.4549
#: Points from which a curve is long, and windows per factor e of steps that it is then brought to.
_LONG, _FINE = 6000, 256
#: Points that tell where a run began.
_FIRST = 5
#: Neighbours on each side that a window is held against to tell an outlier.
_NEIGHBOURS = 3
#: Neighbours on each side whose scatter is the usual one; how many times that is unusual where there are very many
#: steps in a point, and how many standard errors more where there are few.
_AROUND, _SCATTER, _SIGMAS = 8, 1.3, 5.0
#: Sigmas by which a point stands alone, how many times what the points beside it bend, and the fewest points to tell.
_ALONE, _ABOVE, _LEAST_POINTS = 8.0, 1.5, 30


@dataclass(frozen=True, eq=False)
class FitData:
    """The points of a fit.

    Args:
        S: Mean step of each window [steps], increasing, shape (M,).
        y: Mean loss of each window [unit of the loss], shape (M,).
        variance: Variance of y that comes from the noise of single steps [unit squared], shape (M,).
        now: The present step [steps].
        slope: Size of the fall of the loss over the last e-fold of steps [unit per e-fold]: the scale of everything.
        present: Mean loss of the newest windows [unit of the loss].
        step_noise: Standard deviation of a single logged point about the trend [unit of the loss].
        first: Median of the first points of the run, wherever the windows begin [unit of the loss].
        noise: Standard deviation of a single loss about the trend, of which a point may be the mean of many; correlated
            noise counts with what it does to means [unit of the loss].
        per_step: Losses that were logged per step of late [1/steps].
    """

    S: FloatArray
    y: FloatArray
    variance: FloatArray
    now: float
    slope: float
    present: float
    step_noise: float
    first: float = float("nan")
    noise: float = 0.0
    per_step: float = 1.0

    def error_of_end(self, horizon: float, share: float) -> float:
        """Return the standard deviation of the mean of the last losses of the run from the noise of those to come.

        Args:
            horizon: Planned end [steps].
            share: Part of the run at its end that the mean is taken over [1].
        """
        losses = max(self.per_step * share * horizon, 1.0)
        to_come = min(losses, self.per_step * max(horizon - self.now, 0.0))
        return self.noise * float(np.sqrt(to_come)) / losses


def compact(curve: LossCurve) -> LossCurve:
    """Return a curve of bounded length, so that a forecast costs the same whatever the length of the history.

    Args:
        curve: Any curve; one of up to ``_LONG`` points is returned as it is.

    Returns:
        The curve in windows far finer than those of a fit, without learning rates, batches and spreads.
    """
    if len(curve) <= _LONG:
        return curve
    first = max(float(curve.S[0]), 1.0)
    edges = np.geomspace(first, float(curve.S[-1]), int(np.log(curve.S[-1] / first) * _FINE) + 2)
    heads = np.unique(np.concatenate(([0], np.searchsorted(curve.S, edges[1:-1]))))
    count = np.add.reduceat(curve.count, heads)
    return LossCurve(
        S=np.add.reduceat(curve.S * curve.count, heads) / count,
        L=np.add.reduceat(curve.L * curve.count, heads) / count,
        N=curve.N,
        count=count,
        step=curve.step,
        n_nonfinite=curve.n_nonfinite,
        epoch_ends=curve.epoch_ends,
        unit=curve.unit,
    )


def reduce_curve(curve: LossCurve, *, windows_per_e_fold: int, e_folds: float, outlier: float) -> FitData:
    """Average the curve in windows of equal width in log step, seen from the present, and measure their noise.

    Args:
        curve: At least three points.
        windows_per_e_fold: Windows in each factor e of steps.
        e_folds: How far back the windows reach; what lies before is not used.
        outlier: Windows off their neighbours by more than this many sigmas (a spike that recovered) lose their say.

    Returns:
        At most ``windows_per_e_fold * e_folds + 1`` points.
    """
    now = max(float(curve.step), float(curve.S[-1]), 1.0)
    inside = np.log(now / np.maximum(curve.S, 0.5)) <= e_folds
    if not inside.any():  # nothing was logged for long
        inside = np.log(curve.S[-1] / np.maximum(curve.S, 0.5)) <= e_folds
    sigma = _point_noise(curve.L, np.sqrt(curve.count))
    say = _say_by_spread(curve) * _say_by_neighbours(curve, sigma)
    steps, count = np.maximum(curve.S[inside], 0.5), (curve.count * say)[inside]
    window = np.floor(np.log(now / steps) * windows_per_e_fold).astype(int)
    heads = np.concatenate(([0], np.flatnonzero(np.diff(window)) + 1))
    weight = np.add.reduceat(count, heads)
    S = np.add.reduceat(steps * count, heads) / weight
    y = np.add.reduceat(curve.L[inside] * count, heads) / weight

    variance = sigma**2 / weight
    scatter = _overdispersion(S, y, variance)
    variance = _forgive_outliers(y, variance * scatter, outlier)

    newest = S >= 0.93 * now
    present = _mean(y[newest], weight[newest]) if newest[-1] else float(y[-1])
    slope = max(_slope(S, y, weight, now, present), 2.0 * float(np.sqrt(variance[-3:].mean())))
    largest = float(np.abs(y).max())
    tiny = 1e-9 * (largest if largest > 1e-290 else 1.0)
    return FitData(
        S=S,
        y=y,
        variance=variance,
        now=now,
        slope=max(slope, tiny),
        present=present,
        step_noise=sigma / float(np.sqrt(median(curve.count))),
        first=float(median(curve.L[:_FIRST])),
        noise=sigma * float(np.sqrt(scatter)),
        per_step=_per_step(curve),
    )


def median(x: FloatArray) -> FloatArray:
    """Return the median along the last axis of finite numbers, for arrays on which np.median spends its time checking.

    Example:
        >>> float(median(np.array([3.0, 1.0, 2.0, 10.0])))
        2.5
    """
    n = x.shape[-1]
    ordered = np.sort(x, axis=-1)
    return np.asarray(0.5 * (ordered[..., (n - 1) // 2] + ordered[..., n // 2]))


def _say_by_spread(curve: LossCurve) -> FloatArray:
    r"""Return the part of its say that each point keeps, shape (n,): it may hold a spike, which its own scatter shows.

    One step that lies x off moves the mean of n steps by x/n and their standard deviation s to some :math:`x/\sqrt n`,
    so the mean is off by its own standard error :math:`s/\sqrt n`. A point whose s lies beyond what samples of a normal
    distribution scatter about that of its neighbours therefore counts as so many fewer steps.
    """
    say = np.ones(len(curve))
    known = np.flatnonzero((curve.count > 1.0) & np.isfinite(curve.spread))
    if known.size <= 2 * _AROUND:
        return say
    spread = np.pad(curve.spread[known], _AROUND, mode="reflect")
    usual = median(np.lib.stride_tricks.sliding_window_view(spread, 2 * _AROUND + 1))
    ratio = np.divide(curve.spread[known], usual, out=np.ones(known.size), where=usual > 0.0)
    unusual = ratio > _SCATTER + _SIGMAS / np.sqrt(2.0 * curve.count[known])
    say[known[unusual]] = ratio[unusual] ** -2.0
    return say


def _say_by_neighbours(curve: LossCurve, sigma: float) -> FloatArray:
    """Return the same for points whose scatter is not known: one that stands alone has next to none, shape (n,).

    Of a spike the points beside it bend half as much as it does, of a jump in the loss as much as the first one after
    it. The newest point is held against the line through those before it, for nothing has come after it yet.
    """
    L, n = curve.L, len(curve)
    say = np.ones(n)
    if n < _LEAST_POINTS or not sigma > 0.0:
        return say
    scale = sigma / np.sqrt(curve.count)
    bend = np.zeros(n)
    bend[1:-1] = L[1:-1] - 0.5 * (L[:-2] + L[2:])
    bend[-1] = L[-1] - (L[-2] + (L[-2] - L[-5]) / 3.0)
    size = np.abs(bend)
    beside = np.maximum(np.append(0.0, size[:-1]), np.append(size[1:], 0.0))
    beside[-2] = size[-3]  # the newest is measured another way
    beside[-1] = 0.0
    alone = (size > _ALONE * scale) & (size > _ABOVE * beside) & ~((curve.count > 1.0) & np.isfinite(curve.spread))
    say[alone] = (_ALONE * scale[alone] / size[alone]) ** 2
    return say


def _point_noise(L: FloatArray, root_count: FloatArray) -> float:
    """Return the standard deviation of single steps from second differences of the newer half, robust to spikes."""
    if L.size < 3:
        return 0.0
    weights = np.sqrt(1.0 / root_count[2:] ** 2 + 4.0 / root_count[1:-1] ** 2 + 1.0 / root_count[:-2] ** 2)
    bends = ((L[2:] - 2.0 * L[1:-1] + L[:-2]) / weights)[(L.size - 2) // 2 :]
    typical = float(median(np.abs(bends))) / _MAD
    jumps = np.abs(np.diff(L))
    rounding = float(jumps[jumps > 0.0].min()) / float(np.sqrt(12.0)) if jumps.any() else 0.0
    if typical == 0.0:
        return max(rounding, float(np.sqrt(np.mean(bends**2))))
    return max(rounding, typical, float(np.sqrt(np.mean(np.clip(bends, -4.0 * typical, 4.0 * typical) ** 2))))


def _overdispersion(S: FloatArray, y: FloatArray, variance: FloatArray) -> float:
    """Return by how much windows scatter more than independent steps would: autocorrelated noise shows here."""
    if y.size < 6:
        return 1.0
    x = np.log(S)
    share = (x[2:] - x[1:-1]) / (x[2:] - x[:-2])
    bend = y[1:-1] - share * y[:-2] - (1.0 - share) * y[2:]
    expected = variance[1:-1] + share**2 * variance[:-2] + (1.0 - share) ** 2 * variance[2:]
    half = bend.size // 2
    ratio = bend[half:] ** 2 / np.maximum(expected[half:], 1e-300)
    return float(np.clip(median(ratio) / _MEDIAN_SQUARE, 1.0, 50.0))


def _forgive_outliers(y: FloatArray, variance: FloatArray, outlier: float) -> FloatArray:
    """Add its squared deviation to the variance of a window that stands off the median of its neighbours.

    The newest windows are left alone: what they show may be the beginning of something.
    """
    k = _NEIGHBOURS
    if y.size < 2 * k + 3:
        return variance
    around = np.lib.stride_tricks.sliding_window_view(y, 2 * k + 1)
    neighbours = np.concatenate((around[:, :k], around[:, k + 1 :]), axis=1)
    deviation = y[k:-k] - median(neighbours)
    scatter = median(np.abs(deviation - median(deviation))) / _MAD
    large = deviation**2 > outlier**2 * np.maximum(variance[k:-k], scatter**2)
    forgiven = variance.copy()
    forgiven[k:-k][large] += deviation[large] ** 2
    return forgiven


def _per_step(curve: LossCurve) -> float:
    """Return how many losses were logged per step in the newest tenth of the steps, or in all where it has too few."""
    first = min(int(np.searchsorted(curve.S, 0.9 * curve.S[-1])), len(curve) - 2)
    S, count = curve.S[first:], curve.count[first:]
    # Of the two at the ends one half each lies between their mean steps.
    between = float(count.sum()) - 0.5 * float(count[0] + count[-1])
    return between / max(float(S[-1] - S[0]), 1e-9)


def _mean(x: FloatArray, weight: FloatArray) -> float:
    return float((x * weight).sum() / weight.sum())


def _slope(S: FloatArray, y: FloatArray, weight: FloatArray, now: float, present: float) -> float:
    """Return the size of the loss change per e-fold of steps over the last e-fold, or over what there is of it."""
    start = max(now / np.e, S[0])
    then = (S >= 0.9 * start) & (S <= 1.1 * start)
    past = _mean(y[then], weight[then]) if then.any() else float(y[0])
    return abs(past - present) / max(float(np.log(now / max(now / np.e, 1.05 * S[0]))), 0.2)
