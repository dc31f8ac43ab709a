"""Sum scores up, every source counting once: runs of one group are not independent of each other."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from benchmarks.scores import Score


def finite_mean(values: Iterable[float]) -> float:
    """Return the mean of the finite values, NaN if there are none."""
    kept = [value for value in values if math.isfinite(value)]
    return sum(kept) / len(kept) if kept else math.nan


def by_group(scores: Iterable[Score], value: Callable[[Score], float]) -> dict[str, float]:
    """Return the mean of a value in each group, over the curves with a known horizon.

    A group where the value never is finite is left out.
    """
    collected: dict[str, list[float]] = {}
    for score in scores:
        if score.horizon_known:
            collected.setdefault(score.group, []).append(value(score))
    means = {group: finite_mean(values) for group, values in collected.items()}
    return {group: mean for group, mean in means.items() if math.isfinite(mean)}


def mean_over_groups(scores: Iterable[Score], value: Callable[[Score], float]) -> float:
    """Return the mean over groups of the groups' means: each source counts once."""
    return finite_mean(by_group(scores, value).values())


def median_over_groups(scores: Iterable[Score], value: Callable[[Score], float]) -> float:
    """Return the median over groups of the groups' means: each source counts once."""
    means = by_group(scores, value)
    return float(np.median(list(means.values()))) if means else math.nan


def worse_than_last_value(scores: Sequence[Score], last_values: Sequence[Score]) -> tuple[int, int]:
    """Return (groups whose mean normalised error exceeds that of the last value, groups).

    Args:
        scores: Scores of a method at one fraction.
        last_values: Scores of the method ``last value`` on the same tasks.
    """
    mine = by_group(scores, lambda s: s.normalised_error)
    reference = by_group(last_values, lambda s: s.normalised_error)
    # Equal up to rounding is not worse: a method that falls back to the last value ties with it.
    worse = sum(mine[group] > reference[group] * (1.0 + 1e-9) for group in mine if group in reference)
    return worse, len(mine)
