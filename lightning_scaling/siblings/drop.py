"""end_by_drop(): the end of a run if it still falls by what its kin fell by from here on."""

from __future__ import annotations

import numpy as np

from lightning_scaling.curve import LossCurve
from lightning_scaling.siblings.borrow import Borrowed
from lightning_scaling.siblings.relevance import Relative, schedule_distance
from lightning_scaling.siblings.trend import Scatter, trend

__all__ = ["end_by_drop"]

#: Part of the steps so far that the present loss is the mean of.
_RECENT = 0.1
#: Root mean square difference of two schedules, over the newer part of a run, up to which its present losses compare.
_SAME_PAST = 0.03
#: Distance of schedules at which a run counts for .6, and the least that its schedule leaves of its weight.
_SCHEDULES, _LEAST = 0.2, 1e-3
#: Drift of the log of a drop with the logs of size and length, and its spread from run to run.
_PER_LOG_N, _PER_LOG_T, _SPREAD = (0.05, 0.08), (0.0, 0.05), 0.04


def end_by_drop(borrowed: Borrowed, curve: LossCurve) -> float | None:
    r"""Return where a run ends if it still falls as its kin did.

    .. math:: L(T) = L(t) - D, \qquad \ln D_r = m + b_N \ln\frac{N_r}{N} + b_T \ln\frac{T_r}{T} + u_r

    with D_r the drop of a relative from step t on: from its own losses there, where its rate was ours so far, to what
    its law says of the end of our schedule. A crude forecast that errs where laws do not, and the other way round.

    Args:
        borrowed: What the kin of the run lend.
        curve: The run so far.

    Returns:
        Loss at the planned end [unit of the loss]; None where no relative falls from here on.
    """
    now, T = float(curve.step), float(borrowed.schedule.horizon)
    here = _present(curve, now)
    if here is None:
        return None
    steps = np.array([(1.0 - 0.5 * _RECENT) * now, 0.99 * T])
    rows = []
    for i, one in enumerate(borrowed.relatives):
        (start, end), variance = borrowed.carried(i, steps)
        seen = _present(one.curve, now) if _same_past(borrowed, one, now) else None
        drop = float((start if seen is None else seen) - end)
        if drop > 0.0:
            near = np.exp(-0.5 * (schedule_distance(borrowed.schedule, one.schedule) / _SCHEDULES) ** 2)
            rows.append((np.log(drop), variance[1] / drop**2, max(near * one.weight, _LEAST), one.log_N, one.log_T))
    if not rows:
        return None
    values, variances, weights, log_N, log_T = np.array(rows).T
    middle = float(np.average(values, weights=weights)), 1.0
    said = trend(values, variances, weights, log_N, log_T, Scatter(middle, _PER_LOG_N, _PER_LOG_T, _SPREAD))
    return here - float(np.exp(said.mean))


def _present(curve: LossCurve, now: float) -> float | None:
    """Return the mean loss over the last part of the steps up to now; None where none was logged there."""
    recent = (curve.S > (1.0 - _RECENT) * now) & (curve.S <= now)
    return float(np.average(curve.L[recent], weights=curve.count[recent])) if recent.any() else None


def _same_past(borrowed: Borrowed, one: Relative, now: float) -> bool:
    """Tell whether a relative had our learning rates over the newer part of what we have seen."""
    steps = np.linspace(0.3 * now, now, 50)
    off = borrowed.schedule.rate_at(steps) - one.schedule.rate_at(steps)
    return float(np.sqrt(np.mean(off**2))) < _SAME_PAST
