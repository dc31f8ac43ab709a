"""Choose: which of many runs a joint fit takes, since each further one costs time and tells less."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Protocol, TypeVar

import numpy as np

from lightning_scaling.curve import LossCurve

__all__ = ["MOST_RUNS", "spread_over_sizes"]

#: Runs of a joint fit at most.
MOST_RUNS = 12


class Sized(Protocol):
    """A run of a known size."""

    @property
    def curve(self) -> LossCurve:
        """Its losses."""

    @property
    def N(self) -> float | None:
        """Its non-embedding parameters [1]."""


Run = TypeVar("Run", bound=Sized)


def spread_over_sizes(runs: Iterable[Run], most: int = MOST_RUNS, *, repeats: bool = False) -> list[Run]:
    """Return the longest run of each size, the newest of equals, smallest first, of at most so many sizes evenly apart.

    Args:
        runs: Runs of known size, oldest first; sizes within a percent are one.
        most: Runs to return at most.
        repeats: Whether to fill up with the next longest of each size where there are fewer sizes than that.

    Example:
        >>> from types import SimpleNamespace
        >>> runs = [SimpleNamespace(N=N, curve=LossCurve([S], [2.0])) for N in (1e4, 1e5, 1e6) for S in (10, 20)]
        >>> [(run.N, run.curve.step) for run in spread_over_sizes(runs, 4, repeats=True)]
        [(10000.0, 20), (100000.0, 20), (1000000.0, 20), (10000.0, 10)]
        >>> [run.N for run in spread_over_sizes(runs, 2)]
        [10000.0, 1000000.0]
    """
    of_size: dict[float, list[Run]] = {}
    for run in reversed(list(runs)):
        of_size.setdefault(round(math.log(run.N or 1.0), 2), []).append(run)
    sizes = [sorted(of_size[size], key=lambda run: -run.curve.step) for size in sorted(of_size)]
    if len(sizes) > most:
        return [sizes[i][0] for i in np.unique(np.linspace(0, len(sizes) - 1, most).round().astype(int))]
    chosen = [members[0] for members in sizes]
    if repeats:
        rounds = max(map(len, sizes), default=0)
        again = [members[k] for k in range(1, rounds) for members in sizes if k < len(members)]
        chosen += again[: most - len(chosen)]
    return chosen
