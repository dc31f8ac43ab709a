"""Stairs: does the training loss drop where the data begin again?"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.fit.data import median
from lightning_scaling.schedule import LRSchedule

__all__ = ["find_epochs", "has_stairs"]

#: Passes over the data that are looked at: later ones are shorter than what the windows of a curve resolve.
_PASSES = 6
#: Change of the learning rate, as a share of itself, up to which it counts as steady.
_STEADY = 0.05
#: Points needed on each side of an epoch's end.
_POINTS = 3
#: Sigmas, and multiples of the fall inside the epochs, from which a drop at their ends is a stair.
_SIGMAS, _TIMES = 4.0, 3.0
#: Where no epochs are told: fewest points, most bins, and bins that are averaged on each side of an edge.
_FEWEST, _BINS, _BESIDE = 60, 400, (4, 8, 16)
#: Sigmas, pooled over all ends and at the least of them, from which falls at equal distances are ends of epochs, and
#: the share of their mean that the least of them must reach.
_STANDS_OUT, _WEAKEST, _EVEN = 4.5, 1.5, 0.35
#: Share of the greatest fall nearby from which a fall counts.
_EDGE = 0.7


def has_stairs(curve: LossCurve, schedule: LRSchedule | None = None) -> bool:
    """Tell whether the loss drops at the ends of the first epochs by more than trend and noise explain.

    At each end the fall from the last sixth of an epoch to the first sixth of the next is held against the fall inside
    the epoch between its last two sixths; the surplus must stand out of its own scatter.

    Args:
        curve: A curve; where it has no :attr:`LossCurve.epoch_ends` they are looked for.
        schedule: The learning rate; ends at which it changes are not looked at.

    Returns:
        True where memorised data make the training loss say little of held-out loss.

    Example:
        >>> S = np.arange(1, 301)
        >>> has_stairs(LossCurve(S=S, L=3.0 - 0.5 * ((S - 1) // 100) + 0.01 * (S % 2), epoch_ends=[100, 200]))
        True
    """
    ends = [e for e in (curve.epoch_ends or find_epochs(curve))[:_PASSES] if e < curve.step]
    surplus, variance = [], []
    previous = 0.0
    for end in ends:
        sixth = (end - previous) / 6.0
        previous = end
        if schedule is not None:
            rates = schedule.rate_at([end - 2 * sixth, end, end + sixth])
            if float(np.ptp(rates)) > _STEADY * float(rates.max()):
                continue
        parts = [curve.L[(curve.S > end + k * sixth) & (curve.S <= end + (k + 1) * sixth)] for k in (-2, -1, 0)]
        if min(part.size for part in parts) < _POINTS:
            continue
        before, last, after = (float(part.mean()) for part in parts)
        inside = max(before - last, 0.0)
        surplus.append((last - after) - _TIMES * inside)
        variance.append(sum(part.var(ddof=1) / part.size * w for part, w in zip(parts, (9.0, 16.0, 1.0), strict=True)))
    if not surplus:
        return False
    scatter = float(np.sqrt(np.sum(variance))) / len(surplus)
    return float(np.mean(surplus)) > _SIGMAS * max(scatter, 1e-12 * float(np.abs(curve.L).max()))


def find_epochs(curve: LossCurve) -> tuple[int, ...]:
    """Find the ends of epochs in a bare curve: sudden falls at a step P and at all its multiples.

    The curve is averaged to a few hundred bins. At the edge of each, the fall across it is held against the falls on
    both sides, which leaves out every smooth trend; P is the spacing at whose multiples that surplus is largest, and it
    must stand out of the surplus at all other edges.

    Args:
        curve: A curve whose points are about evenly spaced, as a log has them.

    Returns:
        The steps P, 2P, … [steps]; empty where there are fewer than two of them, or none that stand out. Where the
        first falls drown in the early fall of the loss, P may be a multiple of the epoch.

    Example:
        >>> S = np.arange(1, 501)
        >>> find_epochs(LossCurve(S=S, L=3.0 - 0.5 * ((S - 1) // 100) + 0.01 * (S % 3)))
        (100, 200, 300, 400)
    """
    gaps = np.diff(curve.S)
    if len(curve) < _FEWEST or float(np.ptp(gaps)) > 0.5 * float(median(gaps)):
        return ()
    n_bins = min(len(curve), _BINS)
    heads = np.arange(n_bins) * len(curve) // n_bins
    y = np.add.reduceat(curve.L, heads) / np.diff(np.append(heads, len(curve)))
    ends_at = np.append(curve.S[heads[1:] - 1], curve.S[-1])
    found = max((_best_spacing(y, beside) for beside in _BESIDE if 8 * beside < n_bins), default=(0.0, 0.0))
    if found[0] < _STANDS_OUT:
        return ()
    period = float(np.interp(found[1] - 1.0, np.arange(n_bins), ends_at))
    return tuple(round(period * k) for k in range(1, int(curve.S[-1] / period - 1e-9) + 1))


def _best_spacing(y: NDArray[np.float64], beside: int) -> tuple[float, float]:
    """Return the pooled sigmas of the falls at equal distances that stand out most, and that distance [bins]."""
    mean = np.convolve(y, np.full(beside, 1.0 / beside), mode="valid")
    a, b, c, d = (mean[k * beside : mean.size - (3 - k) * beside] for k in range(4))
    surplus = (b - c) - np.maximum(np.maximum(a - b, c - d), 0.0)
    scatter = float(median(np.abs(surplus - median(surplus)))) / 0.6745 + 1e-12 * float(np.abs(y).max())
    # An epoch may end inside a bin: the larger surplus of its two edges counts.
    score = np.maximum(surplus[:-1], surplus[1:]) / max(scatter, 1e-300)
    # Beside a great fall everything looks like a smaller one.
    score = np.where(score >= _EDGE * _highest_nearby(score, beside), score, 0.0)
    periods = np.arange(4.0 * beside, 0.5 * y.size, 0.5)
    edges = np.rint(periods[:, None] * np.arange(1, _PASSES + 1)).astype(int) - 2 * beside
    inside = (edges >= 0) & (edges < score.size)
    at = np.where(inside, score[np.minimum(np.maximum(edges, 0), score.size - 1)], 0.0)
    n = np.maximum(inside.sum(axis=1), 1)
    # One great fall and others by chance are no stairs: each must do its part.
    least = np.maximum(_WEAKEST, _EVEN * at.sum(axis=1) / n)
    clear = (n >= 2) & (np.where(inside, at, np.inf).min(axis=1) > least)
    pooled = np.where(clear, at.sum(axis=1) / np.sqrt(n), 0.0)
    best = int(np.argmax(pooled))
    return float(pooled[best]), float(periods[best])


def _highest_nearby(values: NDArray[np.float64], beside: int) -> NDArray[np.float64]:
    """Return the largest of each value and so many on both sides of it."""
    wide = np.pad(values, beside, constant_values=-np.inf)
    return np.asarray(np.lib.stride_tricks.sliding_window_view(wide, values.size).max(axis=0))
