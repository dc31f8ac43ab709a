"""RunSource: a run to be reported, from a log, a store or a curve, with what is known and assumed of it in words."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from lightning_scaling.curve import LossCurve
from lightning_scaling.describe import describe_rates
from lightning_scaling.ledger import ForecastLedger
from lightning_scaling.logfiles import RunLog
from lightning_scaling.named_schedule import PlannedRates, as_logged
from lightning_scaling.schedule import LRSchedule, check_horizon
from lightning_scaling.store import StoredRun
from lightning_scaling.units import thousands

__all__ = ["RunSource", "of_curve", "of_log", "of_stored"]

#: A schedule of more steps is not put into words: that takes the rate of every one of them.
_MOST_STEPS = 5_000_000
_TAKEN_TO_BE_OVER = (
    "No planned end was given, so the run is taken to be over where its losses end. If it goes on, give the horizon."
)


@dataclass(frozen=True, eq=False)
class RunSource:
    """What was given of a run.

    Args:
        name: What it is called.
        curve: Its losses.
        horizon: Planned end [steps], None where it is not known.
        schedule: Learning rate of steps 1..horizon, None where it is not known ahead.
        over: Whether it ended as it was meant to; None: if it has come to its planned end.
        stopped: Whether it was ended before that.
        ledger: The forecasts that were made on the way, None where none were kept.
        truth: Mean loss over its last part [unit of the curve], None: to be read off the curve.
        error: Standard error of that [same unit].
        facts: What is known of it: names and values.
        notes: What was assumed, and what is odd, in sentences.
    """

    name: str
    curve: LossCurve
    horizon: int | None = None
    schedule: LRSchedule | None = None
    over: bool | None = None
    stopped: bool = False
    ledger: ForecastLedger | None = None
    truth: float | None = None
    error: float = 0.0
    facts: tuple[tuple[str, str], ...] = field(default=())
    notes: tuple[str, ...] = ()


def of_log(log: RunLog, horizon: int | None = None, rates: PlannedRates | None = None) -> RunSource:
    """Return the run of a log.

    Args:
        log: The log.
        horizon: Planned end [steps]; None: as the log tells, or else where it ends.
        rates: Learning rates as planned; None: of a run that is over, as they were logged; else not known ahead.

    Raises:
        ValueError: If the horizon lies before the last step.
    """
    curve = log.curve
    end = horizon if horizon is not None else log.planned
    if horizon is None and end is not None and end < curve.step:
        end = curve.step
    check_horizon(end, curve.step)
    notes = [*log.notes, *log.warnings]
    if end is None:
        end = curve.step or None
        notes.insert(0, _TAKEN_TO_BE_OVER)
    if rates is None and end is not None and curve.step >= end:
        rates = as_logged(curve, end)
    if rates is not None:
        notes += [rates.assumed, *rates.warnings]
    schedule = None if rates is None else rates.schedule
    taken = ", ".join(f"{role} from '{name}'" for role, name in log.columns.items())
    facts = [*_sizes(curve, end), *_rates(schedule), ("log", f"{log.path} ({log.format})"), ("columns", taken)]
    if log.n_repeated:
        facts.append(("logged again", f"{thousands(log.n_repeated)} losses of a resumed run, the newest kept"))
    if log.n_nonfinite:
        facts.append(("not finite", f"{thousands(log.n_nonfinite)} losses"))
    return RunSource(log.name, curve, end, schedule, facts=tuple(facts), notes=tuple(n for n in notes if n))


def of_stored(run: StoredRun) -> RunSource:
    """Return a run of a store."""
    curve, horizon, notes = run.curve, run.horizon, []
    if horizon is None and run.state == "finished":
        horizon = curve.step
    if run.state == "running":
        notes.append(
            f"The store has it as running, last written at {_moment(run.updated)}: its job may have died since."
        )
    notes.append("The store keeps long curves as means of windows of steps.")
    facts = [*_sizes(curve, horizon, run.tokens), *_rates(run.lr_schedule)]
    facts += [("state", run.state), ("started", _moment(run.started)), ("last written", _moment(run.updated))]
    facts += [("written by", f"lightning_scaling {run.written_by}"), ("id in the store", run.id)]
    facts += [(f"tag {key}", str(value)) for key, value in run.tags.items()]
    return RunSource(
        name=str(run.tags.get("name", run.id)),
        curve=curve,
        horizon=horizon,
        schedule=run.lr_schedule if horizon is not None else None,
        over=run.state == "finished",
        stopped=run.state == "stopped",
        ledger=run.forecasts,
        truth=run.final_loss,
        error=run.final_loss_error,
        facts=tuple(facts),
        notes=tuple(notes),
    )


def of_curve(
    curve: LossCurve,
    name: str = "run",
    horizon: int | None = None,
    schedule: LRSchedule | None = None,
    ledger: ForecastLedger | None = None,
) -> RunSource:
    """Return a run of which there is a curve only.

    Raises:
        ValueError: If the horizon lies before the last step.
    """
    check_horizon(horizon, curve.step)
    notes = () if horizon is not None else (_TAKEN_TO_BE_OVER,)
    end = horizon if horizon is not None else curve.step or None
    if schedule is None and end is not None and curve.step >= end:
        schedule = as_logged(curve, end).schedule
    facts = (*_sizes(curve, end), *_rates(schedule))
    return RunSource(name, curve, end, schedule, ledger=ledger, facts=facts, notes=notes)


def _sizes(curve: LossCurve, horizon: int | None, tokens: float | None = None) -> Iterator[tuple[str, str]]:
    """Yield what is known of size, length and batch."""
    if curve.N is not None:
        yield "non-embedding parameters N", thousands(curve.N)
    yield "steps done", thousands(curve.step)
    if horizon is not None:
        yield "planned end", f"step {thousands(horizon)}"
    yield "points of the curve", thousands(len(curve))
    if curve.B is not None and len(curve) and float(curve.B.mean()) > 0.0:
        batch = float(np.average(curve.B, weights=curve.count))
        yield f"batch B ({curve.B_unit} per step)", thousands(batch)
        spent = tokens if tokens is not None else batch * curve.step
        yield f"{curve.B_unit} so far", f"{spent:.4g}" if spent >= 1e9 else thousands(spent)
        if curve.N is not None and curve.B_unit == "tokens":
            yield "compute so far, 6 N B S", f"{6.0 * curve.N * spent:.3g} FLOP, if B counts tokens"
    if curve.epoch_ends:
        yield (
            "passes over the data",
            f"{len(curve.epoch_ends)}, the first ended at step {thousands(curve.epoch_ends[0])}",
        )
    if curve.unit:
        yield "unit of the loss", curve.unit


def _rates(schedule: LRSchedule | None) -> Iterator[tuple[str, str]]:
    if schedule is None or not schedule.known:
        yield "learning rate", "not known ahead"
    elif schedule.horizon <= _MOST_STEPS:
        yield "learning rate", describe_rates(schedule.rate_at(np.arange(1.0, schedule.horizon + 1.0)))


def _moment(text: str) -> str:
    """Return a time of a store, to the minute."""
    return f"{text[:10]} {text[11:16]} UTC" if len(text) >= 16 and text[10] == "T" else text
