"""LRSchedule: the learning rate of every step of a run, past and planned, held in a bounded number of blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["LRSchedule", "check_horizon"]

FloatArray = NDArray[np.float64]

#: Steps are merged into at most about this many blocks of equal rate; their sum is kept exact.
MAX_BLOCKS = 1024


@dataclass(frozen=True, eq=False)
class LRSchedule:
    r"""Learning rate against optimizer steps, as blocks of steps with their mean rate.

    The laws need only sums of the rate, :math:`S_1(t) = \sum_{i \le t} \eta_i`, so blocks keep the sums exact at their
    edges whatever the length of the run. The unit of the rate does not matter: it is divided by its peak.

    Args:
        edges: Block edges ``0 = e_0 < e_1 < ... < e_K = horizon`` [steps], shape (K+1,).
        rates: Mean learning rate of the steps in ``(e_k, e_k+1]`` relative to the peak [1], shape (K,).
        known: False where the schedule is assumed constant because nobody told.

    Example:
        >>> schedule = LRSchedule.from_array([0.1, 0.2, 0.2, 0.1])
        >>> schedule.horizon, [float(x) for x in schedule.summed([2, 4])]
        (4, [1.5, 3.0])
    """

    edges: FloatArray
    rates: FloatArray
    known: bool = True

    @classmethod
    def constant(cls, horizon: int, *, known: bool = False) -> LRSchedule:
        """Return the constant schedule of steps 1..horizon."""
        return cls(np.array([0.0, float(max(int(horizon), 1))]), np.ones(1), known)

    @classmethod
    def from_array(cls, lr: ArrayLike) -> LRSchedule:
        """Compress the learning rates of steps 1..horizon.

        Args:
            lr: Learning rate of steps 1..horizon [any unit], shape (horizon,).

        Returns:
            The schedule in at most about ``MAX_BLOCKS`` blocks: single steps at the start, where warm-up is short, and
            blocks of equal length after it.

        Raises:
            ValueError: If the array is empty, not one-dimensional, negative, not finite or zero throughout.
        """
        rates = np.asarray(lr, dtype=np.float64)
        if rates.ndim != 1 or rates.size == 0:
            raise ValueError(
                f"Expected lr_schedule of shape (horizon,), got shape {rates.shape}. Give one rate per step."
            )
        peak = float(rates.max())
        if not (np.isfinite(peak) and rates.min() >= 0.0):
            raise ValueError(
                f"Expected finite learning rates >= 0, got values from {rates.min():g} to {peak:g}. "
                "Pass None if the schedule is not known."
            )
        if peak == 0.0:
            raise ValueError("Expected a learning rate above 0 somewhere, got all zeros. Pass None if it is not known.")
        n = rates.size
        width = max(1.0, n / (MAX_BLOCKS * 0.75))
        early = np.unique(np.round(np.geomspace(1.0, n, MAX_BLOCKS // 4)))
        even = np.round(np.arange(1, int(n / width) + 1) * width)
        edges = np.unique(np.concatenate(([0.0], early, even, [float(n)])))
        edges = edges[edges <= n]
        sums = np.add.reduceat(rates, edges[:-1].astype(np.int64))
        return cls(edges, sums / np.diff(edges) / peak, True)

    @classmethod
    def of_plan(cls, lr_schedule: ArrayLike | LRSchedule, horizon: int | None) -> LRSchedule:
        """Return the schedule that a user has given for steps 1..horizon.

        Args:
            lr_schedule: Learning rate of steps 1..horizon [any unit], shape (horizon,), or an LRSchedule.
            horizon: Planned last optimizer step [steps].

        Raises:
            ValueError: If the horizon is not known or the schedule has another length, or as in `from_array`.
        """
        if horizon is None:
            raise ValueError(
                "Expected lr_schedule together with a horizon, got horizon=None. Give the number of steps."
            )
        schedule = lr_schedule if isinstance(lr_schedule, LRSchedule) else cls.from_array(lr_schedule)
        if schedule.horizon != horizon:
            raise ValueError(
                f"Expected lr_schedule to hold the rates of steps 1..{horizon}, got {schedule.horizon} of them. "
                "Give one learning rate per optimizer step up to the horizon."
            )
        return schedule

    @classmethod
    def of_past(cls, S: ArrayLike, lr: ArrayLike | None, horizon: int) -> LRSchedule:
        """Return the schedule of a run whose future is not known: the rates used so far, then the last one held.

        Args:
            S: Steps at which rates were seen [steps], shape (n,).
            lr: Learning rates there [any unit], shape (n,), or None: constant.
            horizon: Last step [steps].
        """
        steps = np.asarray(S, dtype=np.float64)
        rates = np.asarray([] if lr is None else lr, dtype=np.float64)
        if rates.size < 2 or rates.max() <= 0.0:
            return cls.constant(horizon)
        edges = np.concatenate(([0.0], steps[steps > 0], [float(horizon)]))
        if not (np.diff(edges) > 0.0).all():
            edges = np.unique(edges)
        centres = 0.5 * (edges[1:] + edges[:-1])
        return cls(edges, np.interp(centres, steps, rates) / rates.max(), False)

    @property
    def horizon(self) -> int:
        """Last step that the schedule speaks of [steps]."""
        return int(self.edges[-1])

    @cached_property
    def peak_block(self) -> int:
        """Index of the first block within 2 % of the peak rate, which ends the warm-up."""
        return int(np.argmax(self.rates >= 0.98 * self.rates.max()))

    @cached_property
    def _sums(self) -> FloatArray:
        return np.concatenate(([0.0], np.cumsum(self.rates * np.diff(self.edges))))

    def rate_at(self, S: ArrayLike) -> FloatArray:
        """Return the rate at step S relative to the peak [1]; the last rate holds beyond the horizon."""
        s = np.asarray(S, dtype=np.float64)
        index = np.searchsorted(self.edges, s, side="left") - 1
        return self.rates[np.minimum(np.maximum(index, 0), self.rates.size - 1)]

    def summed(self, S: ArrayLike) -> FloatArray:
        r"""Return :math:`S_1(S)/\eta_{peak}`, the learning rate summed up to step S [steps at peak rate].

        Beyond the horizon the last rate is held.
        """
        s = np.asarray(S, dtype=np.float64)
        inside = np.interp(s, self.edges, self._sums)
        return np.asarray(inside + np.maximum(s - self.edges[-1], 0.0) * self.rates[-1])


def check_horizon(horizon: int | None, step: int) -> None:
    """Refuse a planned end that is no step at or after the last one seen; None, where it is not known, is fine.

    Raises:
        ValueError: If it is not one.
    """
    if horizon is not None and (not np.isfinite(horizon) or horizon != int(horizon) or horizon < max(step, 1)):
        raise ValueError(
            f"Expected horizon to be a step at or after the last one seen, {step}, got {horizon!r}. "
            "Give the planned last optimizer step, or a prefix of the curve: curve.until(S)."
        )
