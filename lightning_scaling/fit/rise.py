"""A loss that has turned and rises: where it may go, for no falling law says it."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.fit.data import FitData
from lightning_scaling.schedule import LRSchedule

__all__ = ["Rise"]

FloatArray = NDArray[np.float64]

#: The lowest loss must lie before this share of the present, and this many windows after it.
_BEFORE, _WINDOWS = 0.85, 4
#: Standard errors by which the slope since then must stand out, and sigmas by which the present must lie above it.
_SLOPES, _SIGMAS = 5.0, 4.0
#: What may come of it, in multiples of the slope, and how probable that is. The first: it returns to its law.
_FATES: tuple[float, ...] = (0.0, 0.0, 0.5, 1.0, 1.6, 2.5)
_WEIGHTS = (0.1, 0.15, 0.2, 0.3, 0.15, 0.1)
#: Changes of the learning rate, as a share of its peak, from which they count.
_RATE = 0.05
#: How soon it returns, as a share of the present.
_RETURN = 0.1


@dataclass(frozen=True, eq=False)
class Rise:
    r"""The loss has risen since its minimum, clearly and evenly: overfitting, or a run that comes apart.

    Held-out losses of runs that overfit rise about linearly in steps. So beyond the present the loss is taken to go on
    from where it is with 0 to 2.5 times the slope since its minimum, or to return to its law.

    Args:
        since: Step of the lowest loss [steps].
        seen: Step up to which it was seen [steps].
        slope: Rise per step since then [unit of the loss per step].
        level: The loss now, as the line since the lowest has it [unit of the loss].
        now: The present step [steps].
    """

    since: float
    seen: float
    slope: float
    level: float
    now: float

    @classmethod
    def of(cls, data: FitData, schedule: LRSchedule) -> Rise | None:
        """Return the rise of a run, None where its loss does not rise beyond doubt, or where the rate explains it.

        A rate that rises lifts the loss, and one that has yet to fall may undo whatever a high one has brought.

        Args:
            data: The windows.
            schedule: The learning rate of all steps.
        """
        smooth = np.convolve(data.y, np.full(3, 1 / 3), mode="valid") if data.y.size > 12 else data.y
        lowest = int(np.argmin(smooth)) + (data.y.size - smooth.size) // 2
        later = slice(lowest + 1, None)
        S, y, variance = data.S[later], data.y[later], data.variance[later]
        if data.S[lowest] > _BEFORE * data.now or S.size < _WINDOWS:
            return None
        rates = schedule.rate_at(np.linspace(data.S[lowest], data.now, 64))
        ahead = float(schedule.rate_at(data.now) - schedule.rate_at(schedule.horizon))
        if (schedule.known and ahead > _RATE) or float((rates - np.minimum.accumulate(rates)).max()) > _RATE:
            return None
        X = np.stack((np.ones_like(S), (S - data.now) / data.now), axis=1)
        (level, slope), *_ = np.linalg.lstsq(X, y, rcond=None)
        off = float(np.sum((y - X @ (level, slope)) ** 2))
        if _off_a_step(data.y[lowest:]) < off:
            return None  # a jump, and what comes after it is not known
        scatter = off / max(S.size - 2, 1)
        # Neighbours that err together are fewer than they seem: a slow wander looks like a rise.
        together = _correlation(y - X @ (level, slope))
        error = float(np.sqrt(max(scatter, float(variance.mean())) * np.linalg.inv(X.T @ X)[1, 1]))
        error *= float(np.sqrt((1.0 + together) / (1.0 - together)))
        noise = float(np.sqrt(max(scatter, float(variance[-3:].mean()))))
        if slope <= _SLOPES * error or level - float(data.y[lowest]) <= _SIGMAS * noise:
            return None
        return cls(float(data.S[lowest]), float(data.S[-1]), float(slope) / data.now, float(level), data.now)

    @property
    def weight(self) -> FloatArray:
        """Probability of each fate, shape (6,), summing to 1."""
        return np.array(_WEIGHTS)

    def without(self, data: FitData) -> FitData:
        """Return the windows with as much noise since the lowest loss as it has risen: the law is that of before."""
        risen = np.maximum(data.y - float(data.y[data.S <= self.since][-1]), 0.0) ** 2
        return replace(data, variance=data.variance + np.where(data.S > self.since, risen, 0.0))

    def above(self, S: FloatArray, present_by_law: float) -> FloatArray:
        """Return how far above its law the loss may lie at steps S from now on [unit of the loss], shape (6, P).

        Args:
            S: Steps [steps], shape (P,); for those that were seen it is 0.
            present_by_law: What the law says of the present loss [unit of the loss].
        """
        ahead, offset = np.maximum(S - self.now, 0.0), self.level - present_by_law
        risen = offset + np.outer(_FATES, self.slope * ahead)
        risen[0] = offset * np.exp(-ahead / max(_RETURN * self.now, 1.0))
        return np.asarray(np.where(self.seen < S, risen, 0.0))


def _off_a_step(y: FloatArray) -> float:
    """Return the squared deviation of y from the best of two levels, one before some point and one after it."""
    before, squares = np.cumsum(y - y.mean())[:-1], float(np.sum((y - y.mean()) ** 2))
    n = np.arange(1, y.size)
    return squares - float(np.max(before**2 * (1.0 / n + 1.0 / (y.size - n))))


def _correlation(off: FloatArray) -> float:
    """Return the correlation of neighbouring deviations [1], between 0 and .95."""
    square = float(np.sum(off**2))
    return float(np.clip(np.sum(off[1:] * off[:-1]) / square, 0.0, 0.95)) if square > 0.0 else 0.0
