"""Finished runs as questions of decision: the targets they would have made or missed, and what a user reads off them.

Targets lie 0.02, 0.05 and 0.10 nats below and above where a language model ended; for other runs, and where nobody says
what was trained, 1, 2 and 4 % of the fall of the loss, since their losses have other units.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import numpy as np

from benchmarks.curves import TARGET_SHARE, Array, RunCurve
from lightning_scaling import LRSchedule

#: Distances of the targets: nats for a language model, shares of the fall otherwise.
NATS, SHARES = (0.02, 0.05, 0.10), (0.01, 0.02, 0.04)
#: Losses this close to the best count as the best: nats, or a share of the fall.
NEAR_NATS, NEAR_SHARE = 0.005, 0.0025
#: Smallest gains worth training on for, as shares of the fall.
GAINS = (0.01, 0.02, 0.05)
#: What is known of the learning rate ahead, and below which share of its peak an end counts as a fall.
CONSTANT, FALLS, UNKNOWN, _NO_FALL = "constant", "falls", "not known", 0.95
#: Part of a run before which its fall is not counted: the first transient.
TRANSIENT = 0.01


@dataclass(frozen=True, eq=False)
class Case:
    """A finished run and what is asked of it.

    Attributes:
        run: The run.
        smooth: At each logged point the mean loss over the 2 % of the run's steps up to it, shape (n,).
        schedule: Learning rate of all steps as a Trainer would know it, None where nobody does.
        assumed: Whether that is a constant rate because the index says so, not the log.
        fall: First loss after the first 1 % of the steps minus the truth, above 0 [unit of the loss].
        targets: Losses to aim at, by their place: -3, -2, -1 are missed by the run, 1, 2, 3 made.
        near: Losses this close to the best of a pool count as the best [unit of the loss].
    """

    run: RunCurve
    smooth: Array
    schedule: LRSchedule | None
    assumed: bool
    fall: float
    targets: dict[int, float]
    near: float

    @classmethod
    def of(cls, run: RunCurve) -> Case | None:
        """Return the questions of a run; None if its loss did not fall, so that there is nothing to aim at.

        A target at or below 0 of a loss that never was is left out: nobody would set it.
        """
        after = run.L[run.S >= TRANSIENT * run.T]
        fall = float(after[0]) - run.truth
        if not fall > 0.0:
            return None
        language = is_language_model(run)
        sizes = NATS if language else tuple(share * fall for share in SHARES)
        targets = {side * (k + 1): run.truth + side * sizes[k] for side in (-1, 1) for k in range(len(sizes))}
        if run.L.min() > 0.0:
            targets = {place: target for place, target in targets.items() if target > 0.0}
        rates = run.rates()
        assumed = rates is None and run.schedule == "constant"
        schedule = None if rates is None or rates.max() <= 0.0 else LRSchedule.from_array(rates)
        if assumed:
            schedule = LRSchedule.constant(run.T, known=True)
        near = NEAR_NATS if language else NEAR_SHARE * fall
        return cls(run, smoothed(run), schedule, assumed, fall, targets, near)

    @property
    def rate(self) -> str:
        """What the learning rate does after its peak, as far as it was known: `CONSTANT`, `FALLS` or `UNKNOWN`."""
        if self.schedule is None:
            return UNKNOWN
        return FALLS if float(self.schedule.rates[-1]) < _NO_FALL * float(self.schedule.rates.max()) else CONSTANT

    def present(self, share: float) -> float:
        """Return the smoothed loss at a share of the run, NaN before the first point."""
        seen = int(self.run.prefix(share).sum())
        return float(self.smooth[seen - 1]) if seen else math.nan

    def around(self, share: float) -> float:
        """Return the mean loss of the 2 % of the steps around a share of the run: known with hindsight only."""
        S, half = self.run.S, 0.5 * TARGET_SHARE * self.run.T
        middle = share * self.run.T
        near = np.abs(S - middle) <= half
        return float(self.run.L[near].mean()) if near.any() else float(np.interp(middle, S, self.run.L))

    def out_of_patience(self, patience: float) -> float | None:
        """Return the share of the run at which early stopping ends it: so much of it without a new best smoothed loss.

        Args:
            patience: Share of the run [1].

        Returns:
            The share [1], None if it goes on to its end.
        """
        best = np.minimum.accumulate(self.smooth)
        is_new = np.concatenate(([True], self.smooth[1:] < best[:-1]))
        newest = np.maximum.accumulate(np.where(is_new, self.run.S, -np.inf))
        over = np.flatnonzero((self.run.S - newest >= patience * self.run.T) & (self.run.S < self.run.T))
        return float(self.run.S[over[0]] / self.run.T) if over.size else None


def is_language_model(run: RunCurve) -> bool:
    """Tell whether the index says that a language model was trained, so that its loss is in nats.

    Example:
        >>> S = np.array([1.0, 2.0])
        >>> [is_language_model(RunCurve("r", "g", S, S, domain=d)) for d in ("LM pretraining", "robots", "unknown")]
        [True, False, False]
    """
    return re.search(r"\bL?LM\b|\blanguage model", run.domain) is not None


def smoothed(run: RunCurve) -> Array:
    """Return at each logged point the mean of the losses over the 2 % of the run's steps up to it, shape (n,).

    Example:
        >>> run = RunCurve("r", "g", S=np.arange(1.0, 101.0), L=np.arange(100.0, 0.0, -1.0))
        >>> smoothed(run)[[0, 1, 99]].tolist()
        [100.0, 99.5, 1.5]
    """
    total = np.concatenate(([0.0], np.cumsum(run.L)))
    end = np.arange(1, run.S.size + 1)
    start = np.minimum(np.searchsorted(run.S, run.S - TARGET_SHARE * run.T, side="right"), end - 1)
    return np.asarray((total[end] - total[start]) / (end - start))
