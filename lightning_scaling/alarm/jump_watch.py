"""JumpWatch: looks for a jump in the newest losses every so often, in memory that does not grow."""

from __future__ import annotations

import math
from array import array
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from operator import sub
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.alarm.jump import find_jump

__all__ = ["CELLS", "Found", "JumpWatch"]

FloatArray = NDArray[np.float64]

#: Cells that a run is cut in; those that are kept.
CELLS, _KEPT = 1000, 160
#: Shares of the run: between looks, before the first, before one is told, and of how much before it a look makes use.
_EVERY, _FIRST, _SILENT, _WINDOW = 0.008, 0.1, 0.16, 0.15
#: Share of the run between looks where the newest cells stand out: so many of them against twice as many before, and
#: those that tell by how much neighbours differ.
_SOONEST, _NEWEST, _COMPARED = 0.004, 4, 24
#: Steps between looks in a short run, for a look has its price, and the largest share of the run that they may be.
_APART, _SPARSE = 128, 0.02
#: Looks that tell how large jumps are in this run anyway: their age [shares of the run], how many, which of them, and
#: how large it may be [sigma].
_OLDEST, _YOUNGEST, _FEWEST, _QUANTILE, _USUAL = 0.12, 0.02, 4, 0.8, 2.5


@dataclass(frozen=True)
class Found:
    """A jump that lasts.

    Args:
        start: The step before its first [steps].
        sigma: Its size [standard deviations].
        loss: Mean loss since then [unit of the loss].
        size: Its size [same unit].
    """

    start: int
    sigma: float
    loss: float
    size: float


class JumpWatch:
    r"""Holds the newest losses against those just before.

    Losses are averaged in cells of a 1000th of the run. Every 125th of it, or every 250th where the newest cells stand
    out, `find_jump` looks for a jump that began in the newest 2 %. Where the shape that the forecast gives the curve
    does not fit, or the noise has heavy tails, it finds jumps all the time: a jump counts for less where the looks
    before found large ones,

    .. math:: z / \max(q / 2.5, 1)

    with q the 80 % quantile of the largest jumps, of either sign, at the looks between 2 and 12 % of the run before.
    """

    def __init__(self) -> None:
        # Last step, losses, mean step and mean loss of each: NumPy reads arrays far faster than lists.
        self._cells = tuple(array("d") for _ in range(4))
        self._open: list[float] | None = None  # first step less one, losses, sum of steps, sum of losses
        self._looks: list[list[float]] = []  # step, largest jump
        self._looked = 0.0

    def cell(self, step: int) -> list[float]:
        """Return the cell that is open, or a new one for a step: the step before it, losses, sums of steps and losses.

        Whoever holds it adds to it.
        """
        if self._open is None:
            end = self._cells[0]
            self._open = [end[-1] if end else step - 1.0, 0.0, 0.0, 0.0]
        return self._open

    def close(self, step: int, length: float) -> bool:
        """Close the cell if it is full with a step; return whether it is time to look then.

        Args:
            step: The last step in it [steps].
            length: Length of the run [steps], the step where it is not known.
        """
        if (cell := self._open) is None or step - cell[0] < length / CELLS:
            return False
        _, n, steps, losses = cell
        for column, value in zip(self._cells, (step, n, steps / n, losses / n), strict=True):
            column.append(value)
            if len(column) > _KEPT:
                del column[0]
        self._open = None
        since = step - self._looked
        if step < _FIRST * length or since < _SOONEST * length:
            return False
        return since >= max(_EVERY * length, min(_APART, _SPARSE * length)) or self._stands_out()

    def _stands_out(self) -> bool:
        """Return whether the newest cells lie above the line of those before by more than their differences explain."""
        losses = self._cells[3][-_COMPARED:].tolist()
        if len(losses) < _COMPARED:
            return False
        new, old, older = losses[-_NEWEST:], losses[-3 * _NEWEST : -_NEWEST], losses[-5 * _NEWEST : -3 * _NEWEST]
        # The middle of the newest is three quarters as far from that of the old as the old from that of the older.
        rise = sum(new) / _NEWEST - (1.75 * sum(old) - 0.75 * sum(older)) / (2 * _NEWEST)
        return rise > 0.0 and rise > sum(map(abs, map(sub, losses[1:], losses))) / (_COMPARED - 1)

    def look(self, S: FloatArray, mid: FloatArray, made: int, kink: float, length: float) -> Found | None:
        """Look for a jump; return the one that lasts and is largest.

        Args:
            S: Steps of which it is known what was forecast of the loss, or what it was [steps], shape (M,).
            mid: That [unit of the loss], shape (M,).
            made: Step of the forecast [steps].
            kink: Standard deviation of the slope that it forecasts [unit of the loss per step].
            length: Length of the run [steps].
        """
        end, n, at, L = map(np.array, self._cells)
        self._looked = float(end[-1])
        since = max(float(S[0]), self._looked - _WINDOW * length)
        found = find_jump(end, at, n, L, np.interp(at, S, mid), since=since, made=made, kink=kink, T=length)
        if found is None:
            return None
        self._looks = [look for look in self._looks if (self._looked - look[0]) / length <= _OLDEST]
        ordered = sorted(x for step, x in self._looks if (self._looked - step) / length > _YOUNGEST)
        self._looks.append([self._looked, found.largest])
        if len(ordered) < _FEWEST or self._looked < _SILENT * length or math.isinf(found.sigma):
            return None
        sigma = found.sigma / max(ordered[math.ceil(_QUANTILE * len(ordered)) - 1] / _USUAL, 1.0)
        start = found.start
        return Found(int(end[start - 1]), sigma, float(L[start:] @ n[start:] / n[start:].sum()), found.size)

    def forget(self, step: int) -> None:
        """Forget the losses up to a step, after which the run goes another course."""
        known = bisect_right(self._cells[0], step)
        for column in self._cells:
            del column[:known]
        self._looks = []

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers and lists."""
        return {
            "cells": [list(cell) for cell in zip(*self._cells, strict=True)],
            "open": None if self._open is None else list(self._open),
            "looks": [list(look) for look in self._looks],
            "looked": self._looked,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`."""
        self._cells = tuple(array("d", (cell[k] for cell in state["cells"])) for k in range(4))
        self._open = None if state["open"] is None else list(state["open"])
        self._looks = [list(look) for look in state["looks"]]
        self._looked = float(state["looked"])
