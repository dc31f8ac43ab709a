"""Judge a forecast: which Verdict it earns."""

from __future__ import annotations

import numpy as np

from lightning_scaling.curve import LossCurve
from lightning_scaling.fit.annealing import first_peak
from lightning_scaling.fit.decay import freedom
from lightning_scaling.fit.record import MIN_WINDOWS, Fit
from lightning_scaling.fit.rise import Rise
from lightning_scaling.interval import Interval
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.stairs import has_stairs
from lightning_scaling.verdict import Verdict

__all__ = ["decay_done", "decay_sudden", "decay_unbounded", "is_identified", "judge"]

#: As many non-finite losses in a row are a broken run; one may be an overflow that mixed precision skips.
BROKEN_AFTER = 3
#: Share of the planned run below which nothing is said of its end.
MIN_SHARE = 0.05
#: Sigmas of surprise beyond which the law is rejected.
REJECTED = 4.0
#: Times, and sigmas, by which the fall over the last half e-fold exceeds the one before where a loss accelerates.
FASTER, CLEARLY = 1.15, 2.0
#: Half-width of the converged loss, as a share of the distance to it, from which it counts as not identified.
VAGUE = 0.5
#: Falls of the learning rate below this share of the peak do not count as a decay.
SMALL_FALL = 0.05
#: A rate that falls by this share of its peak within this share of the run falls in a step, and this share of the run
#: later the losses show what that brought.
STEP_FALL, STEP_WIDTH, STEP_SHOWN = 0.25, 0.01, 0.1


def judge(
    curve: LossCurve,
    schedule: LRSchedule,
    horizon: int | None,
    fitted: Fit | None,
    present: Interval,
    converged: Interval,
    *,
    failed: bool,
) -> Verdict:
    """Return the first verdict that applies, the most serious ones first."""
    if curve.n_nonfinite >= BROKEN_AFTER:
        return Verdict.DIVERGED
    if failed:
        return Verdict.FAILED
    if fitted is None or fitted.posterior.data.S.size < MIN_WINDOWS or _in_warm_up(curve, schedule):
        return Verdict.TOO_EARLY
    if horizon is None:
        return Verdict.NO_HORIZON
    if curve.step < MIN_SHARE * horizon:
        return Verdict.TOO_EARLY
    if has_stairs(curve, schedule):
        return Verdict.REPEATED_DATA
    if _accelerates(fitted, schedule):
        return Verdict.ACCELERATING
    if isinstance(fitted.posterior.beyond, Rise):
        return Verdict.RISING
    # After those that know why.
    if fitted.surprises and abs(fitted.surprises[-1]) > REJECTED:
        return Verdict.LAW_REJECTED
    if _flat(fitted):
        return Verdict.FLAT
    if decay_done(schedule, curve.step) < SMALL_FALL:
        return Verdict.BEFORE_DECAY
    return Verdict.OK if is_identified(present, converged) else Verdict.NOT_IDENTIFIED


def is_identified(present: Interval, converged: Interval) -> bool:
    """Tell whether the converged loss is known to half of the distance to it."""
    return not float(converged.half_width) > VAGUE * (float(present.mid) - float(converged.mid))


def _in_warm_up(curve: LossCurve, schedule: LRSchedule) -> bool:
    return schedule.known and curve.step <= first_peak(schedule) and first_peak(schedule) > 1.0


def decay_done(schedule: LRSchedule, step: int) -> float:
    """Return the share of the planned fall of the learning rate that has happened [1]; 1 where none is planned."""
    peak, now, end = (float(schedule.rate_at(s)) for s in (first_peak(schedule), step, schedule.horizon))
    return 1.0 if not schedule.known or now - end <= SMALL_FALL else max(peak - now, 0.0) / (peak - end)


def decay_sudden(schedule: LRSchedule, step: int) -> float:
    """Return the share of the rate that falls away until the end, where the first fall in a step is not shown yet [1].

    The part of a loss that is noise of the steps is about proportional to the rate, and may be nearly all of it. 0
    where a fall in a step has been shown, where none is planned, or where the schedule is not known.
    """
    if not schedule.known:
        return 0.0
    width = max(STEP_WIDTH * schedule.horizon, 1.0)
    before = schedule.edges[1:][schedule.edges[1:] <= schedule.horizon - 1]
    falls = schedule.rate_at(before) - schedule.rate_at(before + width)
    sudden = before[falls >= STEP_FALL]
    if not sudden.size or step > sudden[0] + width + STEP_SHOWN * schedule.horizon:
        return 0.0
    return 1.0 - float(schedule.rate_at(schedule.horizon)) / max(float(schedule.rate_at(sudden[0])), 1e-9)


def decay_unbounded(fitted: Fit | None, schedule: LRSchedule, step: int) -> float:
    """Return the share of the loss that may go with the rest of the rate, where nothing bounds the loss [1].

    That of the rate which has yet to fall, as far as the loss looks unbounded (`fit.decay.freedom`): nearly all of such
    a loss can be noise of the rate. 0 where no fall is planned, or the loss is like a language model's.
    """
    if fitted is None or not schedule.known:
        return 0.0
    now, end = (float(schedule.rate_at(s)) for s in (step, schedule.horizon))
    if now - end <= SMALL_FALL:
        return 0.0
    p = fitted.posterior
    # A loss that may be unbounded is taken to be so: what is asked here is what a rule must allow for.
    return min(2.0 * freedom(p.data, p.prior, positive=p.least == 0.0), 1.0) * (1.0 - max(end, 0.0) / now)


def _flat(fitted: Fit) -> bool:
    """Tell whether the fall over the last e-fold of steps does not stand out of its noise."""
    data = fitted.posterior.data
    return bool(data.slope <= max(2.5 * np.sqrt(data.variance[-3:].mean()), 2e-9 * float(np.abs(data.y).max())))


def _accelerates(fitted: Fit, schedule: LRSchedule) -> bool:
    """Tell whether the loss fell more in the last half e-fold of steps than in the one before, at a steady rate.

    Under a power law the fall per e-fold shrinks by exp(-alpha) each time. A falling rate may well speed the loss up.
    """
    data = fitted.posterior.data
    now, middle, start = (data.now * float(np.exp(-k)) for k in (0.0, 0.5, 1.0))
    rates = schedule.rate_at([start, now])
    if abs(float(rates[1] - rates[0])) > 2.0 * SMALL_FALL or data.S[0] > start:
        return False
    means, variances = [], []
    for step in (start, middle, now):
        near = (data.S > 0.88 * step) & (data.S <= 1.12 * step)
        if not near.any():
            return False
        means.append(float(data.y[near].mean()))
        variances.append(float(data.variance[near].sum()) / float(near.sum()) ** 2)
    before, after = means[0] - means[1], means[1] - means[2]
    sigma = float(np.sqrt(variances[0] + 4.0 * variances[1] + variances[2]))
    return after > FASTER * max(before, 0.0) and after - before > CLEARLY * sigma
