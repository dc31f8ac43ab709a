"""What makes a log a poor one to forecast from: histories that were sampled or smoothed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.logfiles.names import normal

__all__ = ["is_sampled", "is_smoothed", "shortcomings"]

FloatArray = NDArray[np.float64]

#: Points from which either is judged.
_FEWEST = 60
#: Newest points that are looked at: more tell nothing new.
_ENOUGH = 20_000
#: Share of the commonest gap, and of different gaps, of a log that was sampled at random.
_REGULAR, _KINDS = 0.6, 6
#: Correlation of neighbouring differences: -0.5 for independent noise, about 0 for what was smoothed, above that where
#: a trend outweighs the noise; and the points it takes to tell.
_SMOOTH, _TREND, _TELLING = -0.12, 0.12, 100
_HELD_OUT = {"val", "valid", "validation", "eval", "test"}
_SMOOTH_WORDS = {"ema", "smooth", "smoothed", "avg", "average", "running", "rolling"}


def shortcomings(S: FloatArray, L: FloatArray, name: str) -> list[str]:
    """Return sentences on what is wrong with a log.

    Args:
        S: Steps of the losses, increasing [steps], shape (n,).
        L: Losses, shape (n,).
        name: Name of the column.
    """
    found = []
    if is_sampled(S):
        found.append(
            f"The history seems to be sampled: {S.size:,} losses at irregular steps. ".replace(",", " ")
            + "Export all of it, if you can: what a sample leaves out is missing from the forecast."
        )
    words = set(normal(name).split("_"))
    by_name = words & _SMOOTH_WORDS
    if by_name or (not words & _HELD_OUT and is_smoothed(L)):
        why = f"its name is '{name}'" if by_name else "neighbouring losses differ less than noise does"
        found.append(
            f"The losses seem to be smoothed ({why}): they lag behind the run, and intervals are too narrow. "
            "Read the raw losses, if there are any."
        )
    return found


def is_sampled(S: FloatArray) -> bool:
    """Tell whether steps look drawn at random from those that were logged.

    Steps at even, at log-spaced or at a few different distances are as their program logged them; what a service thins
    out at random has gaps of many lengths in no order.

    Args:
        S: Steps, increasing [steps], shape (n,).

    Example:
        >>> S = np.arange(10.0, 20_000.0, 10.0)
        >>> is_sampled(S), is_sampled(np.sort(np.random.default_rng(0).choice(S, 500, replace=False)))
        (False, True)
    """
    if S.size < _FEWEST:
        return False
    gaps = np.diff(S[-_ENOUGH:])
    lengths, n = np.unique(gaps, return_counts=True)
    if lengths.size < _KINDS or n.max() > _REGULAR * gaps.size:
        return False
    # Gaps that grow with the step are meant: what is left of them must be random.
    relative = np.log(gaps) - np.log(np.maximum(np.convolve(gaps, np.ones(9) / 9.0, mode="same"), 1e-300))
    return bool(np.std(relative[9:-9]) > 0.35)


def is_smoothed(L: FloatArray) -> bool:
    """Tell whether the noise of losses was smoothed away, as an exponential average does.

    Of independent noise about a slow trend neighbouring differences have the correlation -1/2; an exponential average
    of weight w leaves -(1 - w)/2, a moving average 0. Losses whose trend outweighs their noise are not called smoothed.

    Args:
        L: Losses in the order of their steps, shape (n,).

    Example:
        >>> noise = np.random.default_rng(0).standard_normal(2_000)
        >>> mean = np.zeros(2_000)
        >>> for i in range(1, 2_000):
        ...     mean[i] = 0.9 * mean[i - 1] + 0.1 * noise[i]
        >>> is_smoothed(noise), is_smoothed(mean)
        (False, True)
    """
    late = L[max(L.size // 2, L.size - _ENOUGH) :]
    if late.size < _TELLING:
        return False
    steps = np.diff(late)
    steps = steps - np.median(steps)
    size = float(np.median(np.abs(steps))) / 0.6745
    if size == 0.0:
        return False
    clipped = np.clip(steps, -3.0 * size, 3.0 * size)  # single spikes do not decide
    return bool(_SMOOTH < float(np.mean(clipped[1:] * clipped[:-1]) / np.mean(clipped**2)) < _TREND)
