"""forecast(): a loss curve in, where its loss will land and how sure that is out."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import ArrayLike

from lightning_scaling.curve import LossCurve
from lightning_scaling.finished import FinishedRun
from lightning_scaling.fit.data import compact
from lightning_scaling.fit.posterior import Posterior
from lightning_scaling.fit.prior import DEFAULT_PRIOR
from lightning_scaling.fit.record import MIN_POINTS, Fit, fit
from lightning_scaling.fit.rise import Rise
from lightning_scaling.forecast.judge import decay_done, decay_sudden, decay_unbounded, judge
from lightning_scaling.forecast.projection import Forecast
from lightning_scaling.forecast.readout import discrete, interval_of, intervals_of, now_final_change, unknown
from lightning_scaling.interval import Interval
from lightning_scaling.schedule import LRSchedule, check_horizon
from lightning_scaling.siblings.before_start import Unbegun
from lightning_scaling.siblings.borrow import Borrowed, borrow
from lightning_scaling.siblings.calibration import calibrate
from lightning_scaling.track_record import TrackRecord
from lightning_scaling.verdict import Verdict

__all__ = ["Forecast", "forecast"]


class Store(Protocol):
    """What is asked of a store of runs; a `RunStore` is one."""

    def runs(self) -> Iterable[FinishedRun]:
        """Return the runs in it."""


def forecast(
    curve: LossCurve,
    *,
    horizon: int | None,
    lr_schedule: ArrayLike | LRSchedule | None = None,
    level: float = 0.9,
    store: Store | Iterable[FinishedRun] | None = None,
) -> Forecast:
    r"""Forecast the loss of a run from its curve so far.

    The law is Kaplan's :math:`L(S) = E + (S_c/S)^{\alpha_S}` at fixed N, in summed learning rate instead of steps, less
    what a falling learning rate brings, plus a misfit that is as large as the run's own record asks for.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.6; the decay term after Luo et al. 2025, arXiv:2503.12811.

    Args:
        curve: The run so far.
        horizon: Planned last optimizer step [steps], at or after the last step of the curve; None where unknown.
        lr_schedule: Learning rate of steps 1..horizon [any unit], shape (horizon,), or an LRSchedule; None where the
            future is not known: then the present rate is held.
        level: Probability of the intervals, between 0 and 1.
        store: Finished runs to borrow from: a `RunStore`, or some of its runs. Those that are kin to this run, by size,
            length and the losses so far, tell what it has not shown yet and what such forecasts are worth; an empty
            curve is forecast from them alone. Runs of another kind are left out. Where the forecasts that were made of
            its runs on the way held less often than they should have, intervals are widened.

    Returns:
        The forecast. A curve that cannot be forecast is no error: its verdict says why.

    Raises:
        TypeError: If ``curve`` is not a LossCurve, or ``store`` is neither a store nor runs, such as the name of one.
        ValueError: If the horizon lies before the curve's last step, the schedule has another length than the horizon,
            or the level is not between 0 and 1.

    Example:
        >>> S = np.arange(1, 2001)
        >>> prediction = forecast(LossCurve(S=S, L=2.0 + 6.0 * S**-0.5), horizon=10_000)
        >>> print(prediction.verdict, round(prediction.final_loss.mid, 2))
        ok 2.06
    """
    started = time.perf_counter()
    schedule = _schedule(curve, horizon, lr_schedule, level)
    short = compact(curve)
    runs = _runs_of(store)
    borrowed = _borrowed(short, schedule, horizon, runs)
    enough = len(curve) >= MIN_POINTS and curve.step >= MIN_POINTS
    fitted = _fit(short, schedule, borrowed, TrackRecord.of(runs).factor) if enough else None
    posterior = None if fitted is None else fitted.posterior
    own = _read(posterior, curve.step, horizon, level)
    failed = enough and fitted is None
    verdict = judge(curve, schedule, horizon, fitted, own.present, own.converged, failed=failed)
    kin = Unbegun(schedule, borrowed) if verdict is Verdict.TOO_EARLY and borrowed is not None else None
    theirs = None if kin is None else _read_of_kin(kin, level)
    if verdict is Verdict.TOO_EARLY and not curve.step and theirs is None:
        verdict = Verdict.NOT_BEGUN
    # Where the run has not shown its law yet, its kin may have.
    told, said = (posterior, own) if theirs is None else (kin, theirs)
    return Forecast(
        step=curve.step,
        horizon=horizon,
        level=level,
        verdict=verdict if theirs is None else Verdict.BORROWED,
        final_loss=said.final,
        converged_loss=said.converged,
        present_loss=said.present,
        remaining_gain=said.gain,
        alpha_S=said.alpha,
        departure=fitted.surprises[-1] if fitted is not None and fitted.surprises else float("nan"),
        decay_done=decay_done(schedule, curve.step),
        decay_to_come=0.0 if posterior is None else posterior.decay_to_come(),
        decay_sudden=decay_sudden(schedule, curve.step),
        decay_unbounded=decay_unbounded(fitted, schedule, curve.step),
        rises_since=_rises_since(posterior),
        n_nonfinite=curve.n_nonfinite,
        schedule_known=schedule.known,
        unit=curve.unit,
        seconds=time.perf_counter() - started,
        n_siblings=0 if borrowed is None else borrowed.n_runs,
        N=curve.N,
        B=_newest_batch(curve),
        _posterior=told,
        _curve=short,
    )


def _runs_of(store: Any) -> Sequence[FinishedRun]:
    """Return the runs of a store, or of what else was given for one."""
    if store is None:
        return ()
    if hasattr(store, "runs"):
        return list(store.runs())
    runs = list(store) if isinstance(store, Iterable) and not isinstance(store, (str, bytes)) else None
    if runs is None or not all(isinstance(getattr(run, "curve", None), LossCurve) for run in runs):
        raise TypeError(f"Expected store to be a RunStore or some of its runs, got {store!r:.80}. Give RunStore(url).")
    return runs


def _borrowed(
    curve: LossCurve, schedule: LRSchedule, horizon: int | None, runs: Sequence[FinishedRun]
) -> Borrowed | None:
    """Return what finished runs lend; nothing to a run whose end is not known, or where numbers overflow."""
    if not runs or horizon is None:
        return None
    try:
        with np.errstate(all="ignore"):
            return borrow(curve, schedule, runs)
    except (np.linalg.LinAlgError, ArithmeticError):
        return None


class _Numbers(NamedTuple):
    """The intervals of a forecast."""

    present: Interval
    final: Interval
    gain: Interval
    converged: Interval
    alpha: Interval


def _read(posterior: Posterior | None, step: int, horizon: int | None, level: float) -> _Numbers:
    """Return what a fit says; nothing where there is none."""
    nothing = unknown(level)
    if posterior is None:
        return _Numbers(*(nothing,) * 5)
    present, final, change = intervals_of(now_final_change(posterior, step, horizon), level)
    gain = Interval(-change.high, -change.mid, -change.low, level)
    if horizon is None:
        final = gain = nothing
    alpha = discrete(posterior, posterior.alpha, level)
    return _Numbers(present, final, gain, interval_of(posterior.converged(), level), alpha)


def _read_of_kin(kin: Unbegun, level: float) -> _Numbers | None:
    """Return the same where the run has shown nothing yet: of its own present there is nothing to say."""
    try:
        with np.errstate(all="ignore"):
            end = kin.loss([0.99 * kin.schedule.horizon])
    except (np.linalg.LinAlgError, ArithmeticError):
        return None
    if not (np.isfinite(end.means).all() and np.isfinite(end.sds).all()):
        return None
    nothing = unknown(level)
    return _Numbers(nothing, interval_of(end, level), nothing, nothing, kin.alpha_S(level))


def _fit(curve: LossCurve, schedule: LRSchedule, borrowed: Borrowed | None, widened: float) -> Fit | None:
    """Fit the law, intervals widened by a factor; None where numbers leave what floating point can hold."""
    shift, factor = 0.0, 1.0
    try:
        with np.errstate(all="ignore"):
            fitted = fit(curve, schedule, DEFAULT_PRIOR, None if borrowed is None else borrowed.kin)
            if borrowed is not None:
                worth = calibrate(borrowed, curve, fitted.posterior)
                shift, factor = worth.shift, worth.factor
            if (shift, factor * widened) != (0.0, 1.0):
                calibrated = replace(fitted.posterior, calibration=(shift, factor * widened))
                fitted = replace(fitted, posterior=calibrated)
    except (np.linalg.LinAlgError, ArithmeticError, ValueError):
        return None
    found = fitted.posterior
    sound = found.weights.size and np.isfinite(found.weights).all() and np.isfinite(found.E).all()
    return fitted if sound else None


def _schedule(
    curve: LossCurve, horizon: int | None, lr_schedule: ArrayLike | LRSchedule | None, level: float
) -> LRSchedule:
    """Validate the arguments of forecast() and return the schedule of all steps."""
    if not isinstance(curve, LossCurve):
        raise TypeError(f"Expected curve to be a LossCurve, got {type(curve).__name__}. Build LossCurve(S=…, L=…).")
    if not 0.0 < level < 1.0:
        raise ValueError(f"Expected level between 0 and 1, got {level!r}. For a 90 % interval give 0.9.")
    check_horizon(horizon, curve.step)
    if lr_schedule is None:
        return LRSchedule.of_past(curve.S, curve.lr, max(horizon or 0, curve.step, 1))
    return LRSchedule.of_plan(lr_schedule, horizon)


def _newest_batch(curve: LossCurve) -> float | None:
    if curve.B is None or curve.B_unit != "tokens" or not len(curve) or curve.B[-1] <= 0.0:
        return None
    return float(curve.B[-1])


def _rises_since(posterior: Posterior | None) -> int | None:
    beyond = None if posterior is None else posterior.beyond
    return round(beyond.since) if isinstance(beyond, Rise) else None
