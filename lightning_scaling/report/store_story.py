"""Everything that the report of a store says: what forecasts were worth, one law for all runs, what it plans."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from lightning_scaling.forecast.judge import SMALL_FALL
from lightning_scaling.interval import Interval
from lightning_scaling.joint import JointFit, fit_joint, spread_over_sizes
from lightning_scaling.ledger import holds
from lightning_scaling.own_laws import thinned_laws
from lightning_scaling.planner import Explored, Plan, PlanLaws, plan
from lightning_scaling.store import RunStore, StoredRun
from lightning_scaling.track_record import TrackRecord

__all__ = ["JUDGED", "Family", "StoreStory", "Tenth", "end_of", "tell_store"]

#: Finished runs whose forecasts are held against their ends one by one, the newest: reading those of one takes
#: milliseconds. The record counts all.
JUDGED = 300
#: Share of each run of the joint fit that is left out as transient.
FIRST = 0.2
#: Sizes that tell a law, and points that a run of it has at least.
_SIZES, _POINTS = 3, 6
#: Budgets that are planned for, as multiples of the compute of the largest run.
_BUDGETS = (1.0, 10.0, 100.0)


@dataclass(frozen=True)
class Tenth:
    """What the forecasts made in one tenth of the runs were worth.

    Args:
        tenth: From 1 to 9.
        n: Forecasts that were held against an end.
        held: Those whose interval held it.
        error: Mean size of their errors [unit of the losses].
        half_width: Mean half-width of their intervals [same unit].
    """

    tenth: int
    n: int
    held: int
    error: float
    half_width: float


@dataclass(frozen=True, eq=False)
class Family:
    """Runs that differ in their size alone, as far as the store tells: one per size, the longest, smallest first.

    Args:
        runs: The runs.
        constant: Whether all ran at a constant rate, so that one law L(N, S) can be fitted to them.
        batch: Their batch size [unit of the runs' batch per step], None where it is not known.
    """

    runs: tuple[StoredRun, ...]
    constant: bool
    batch: float | None


@dataclass(frozen=True, eq=False)
class StoreStory:
    """A store with what was computed of it.

    Attributes:
        url: Where it is.
        runs: Its runs, oldest first.
        skipped: Files that could not be read, and why.
        record: What the forecasts of the finished runs were worth.
        tenths: The same in each tenth of the newest runs.
        family: Runs that differ in size alone; None where there are none.
        joint: The law fitted to them; None where they ran at no constant rate, or are too few.
        plans: What the law says of budgets, by multiples of the largest run's compute.
    """

    url: str
    runs: tuple[StoredRun, ...]
    skipped: dict[str, str]
    record: TrackRecord
    tenths: tuple[Tenth, ...]
    family: Family | None
    joint: JointFit | None
    plans: tuple[tuple[float, Plan], ...] = ()

    @property
    def finished(self) -> tuple[StoredRun, ...]:
        """The runs that are over as they were meant to be."""
        return tuple(run for run in self.runs if run.state == "finished")


def tell_store(store: RunStore, *, level: float = 0.9) -> StoreStory:
    """Compute what a report of a store says.

    Args:
        store: The store.
        level: Probability of the intervals of the joint fit and of the plans.

    Raises:
        StoreError: If the store cannot be read.
    """
    runs = tuple(store.runs())
    finished = [run for run in runs if run.state == "finished"]
    family = _family(runs)
    joint = None
    if family is not None and family.constant and len(family.runs) >= _SIZES:
        joint = fit_joint([run.curve for run in family.runs], first=FIRST, level=level)
    plans = () if family is None or joint is None else _plans(family, joint, level)
    return StoreStory(
        url=store.url,
        runs=runs,
        skipped=store.skipped(),
        record=TrackRecord.of(finished),
        tenths=_tenths(finished[-JUDGED:]),
        family=family,
        joint=joint,
        plans=plans,
    )


def _tenths(finished: Iterable[StoredRun]) -> tuple[Tenth, ...]:
    """Return the record in each tenth, of the forecasts that could be used and spoke of the end that came."""
    found: dict[int, list[tuple[bool, float, float]]] = {}
    for run in finished:
        truth, ledger = run.final_loss, run.forecasts
        if truth is None or not math.isfinite(truth) or not len(ledger):
            continue
        horizon = ledger.records[-1].horizon
        for tenth, record in ledger.at_tenths():
            loss = record.final_loss
            half = float(loss.half_width)
            if record.verdict.usable and record.horizon == horizon and math.isfinite(half):
                error = abs(float(loss.mid) - truth)
                found.setdefault(tenth, []).append((holds(loss, truth), error, half))
    rows = []
    for tenth, cases in sorted(found.items()):
        held, errors, halves = zip(*cases, strict=True)
        rows.append(Tenth(tenth, len(cases), sum(held), float(np.mean(errors)), float(np.mean(halves))))
    return tuple(rows)


def _family(runs: Sequence[StoredRun]) -> Family | None:
    """Return the runs of most sizes that differ in nothing else, as far as is known; those at a constant rate first."""
    groups: dict[tuple[object, ...], list[StoredRun]] = {}
    for run in runs:
        if run.N is None or len(run.curve) < _POINTS or run.curve.n_nonfinite:
            continue
        batch = None if run.batch is None else round(math.log(max(run.batch, 1e-9)), 2)
        kind = "constant" if _constant(run) else run.tags.get("schedule", "another")
        data = tuple(str(run.tags.get(key)) for key in ("loss", "task"))
        groups.setdefault((kind == "constant", kind, batch, run.batch_unit, run.curve.unit, *data), []).append(run)
    found = [(is_constant, spread_over_sizes(members)) for (is_constant, *_), members in groups.items()]
    found = [(is_constant, members) for is_constant, members in found if len(members) > 1]
    if not found:
        return None
    is_constant, members = max(found, key=lambda one: (one[0] is True and len(one[1]) >= _SIZES, len(one[1])))
    return Family(tuple(members), bool(is_constant), members[0].batch)


def _constant(run: StoredRun) -> bool:
    """Return whether the learning rate was held from its peak on, as far as the run went."""
    schedule = run.lr_schedule
    if schedule is None or not schedule.known:
        return False
    rates = schedule.rates[: int(np.searchsorted(schedule.edges, run.curve.step))]
    if not rates.size:
        return False
    return float(rates[int(rates.argmax()) :].min()) >= (1.0 - SMALL_FALL) * float(rates.max())


def _plans(family: Family, joint: JointFit, level: float) -> tuple[tuple[float, Plan], ...]:
    """Return what the law says of budgets; nothing where there is no law or no batch size in tokens."""
    B = float(family.batch or 0.0)
    if family.runs[0].batch_unit != "tokens":
        return ()
    if not (draws := thinned_laws(joint, B)):
        return ()
    laws = PlanLaws(
        hoffmann=draws,
        source=f"fitted to {joint.n_runs} runs of this store at a constant rate, N without embeddings",
        level=level,
        explored_hoffmann=Explored(N=joint.sizes, D=(B * joint.steps[0], B * joint.steps[1])),
    )
    spent = max(6.0 * float(run.N or 0.0) * B * run.curve.step for run in family.runs)
    return tuple((times, plan(C=times * spent, laws=laws)) for times in _BUDGETS)


def end_of(run: StoredRun) -> Interval | None:
    """Return where a run has ended, with its standard error as an interval of 68 %; None where it has no end."""
    if run.final_loss is None or not math.isfinite(run.final_loss):
        return None
    return Interval(run.final_loss - run.final_loss_error, run.final_loss, run.final_loss + run.final_loss_error, 0.68)
