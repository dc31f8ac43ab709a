"""Stairs: does the training loss drop where the data begin again?"""

from __future__ import annotations

import numpy as np

from lightning_scaling.curve import LossCurve
from lightning_scaling.schedule import LRSchedule

__all__ = ["has_stairs"]

#: Passes over the data that are looked at: later ones are shorter than what the windows of a curve resolve.
_PASSES = 6
#: Change of the learning rate, as a share of its peak, up to which it counts as steady.
_STEADY = 0.05
#: Points needed on each side of an epoch's end.
_POINTS = 3
#: Sigmas, and multiples of the fall inside the epochs, from which a drop at their ends is a stair.
_SIGMAS, _TIMES = 4.0, 3.0


def has_stairs(curve: LossCurve, schedule: LRSchedule | None = None) -> bool:
    """Tell whether the loss drops at the ends of the first epochs by more than trend and noise explain.

    At each end the fall from the last sixth of an epoch to the first sixth of the next is held against the fall inside
    the epoch between its last two sixths; the surplus must stand out of its own scatter.

    Args:
        curve: A curve with :attr:`LossCurve.epoch_ends`; without them the answer is False.
        schedule: The learning rate; ends at which it changes are not looked at.

    Returns:
        True where memorised data make the training loss say little of held-out loss.

    Example:
        >>> S = np.arange(1, 301)
        >>> has_stairs(LossCurve(S=S, L=3.0 - 0.5 * ((S - 1) // 100) + 0.01 * (S % 2), epoch_ends=[100, 200]))
        True
    """
    ends = [e for e in curve.epoch_ends[:_PASSES] if e < curve.step]
    surplus, variance = [], []
    previous = 0.0
    for end in ends:
        sixth = (end - previous) / 6.0
        previous = end
        if schedule is not None and float(np.ptp(schedule.rate_at([end - 2 * sixth, end, end + sixth]))) > _STEADY:
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
