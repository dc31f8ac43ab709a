"""write_report(): a run or a store of runs as one HTML file."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from numpy.typing import ArrayLike

from lightning_scaling.advice import StopRule
from lightning_scaling.alternatives import Price
from lightning_scaling.curve import LossCurve
from lightning_scaling.finished import FinishedRun
from lightning_scaling.forecast import Store
from lightning_scaling.ledger import ForecastLedger, ForecastRecord
from lightning_scaling.logfiles import RunLog
from lightning_scaling.named_schedule import PlannedRates
from lightning_scaling.report.run_report import run_page
from lightning_scaling.report.run_source import RunSource, of_curve, of_log, of_stored
from lightning_scaling.report.run_story import tell
from lightning_scaling.report.store_report import store_page
from lightning_scaling.report.store_story import tell_store
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.store import RunStore, StoredRun

__all__ = ["write_report"]

Source = RunStore | StoredRun | RunLog | LossCurve


def write_report(
    path: str | os.PathLike[str],
    source: Source,
    *,
    title: str | None = None,
    horizon: int | None = None,
    lr_schedule: ArrayLike | LRSchedule | PlannedRates | None = None,
    rules: Mapping[str, StopRule] | Sequence[StopRule] = (),
    price: Price | None = None,
    level: float = 0.9,
    store: Store | Iterable[FinishedRun] | None = None,
    history: Sequence[ForecastRecord] = (),
) -> Path:
    """Write the report of a run, or of a store of runs, as one HTML file that needs nothing else.

    It works from a disk, without a network and without JavaScript, in light and dark, and on paper. What stands in a
    log or a tag is shown as text, whatever it is. Pictures need matplotlib (extra ``plot``); without it they are left
    out.

    Args:
        path: The file; what was there before is replaced once the new page is whole.
        source: What to report: a `RunStore`; one run of it; a run that was read from a log
            (`lightning_scaling.logfiles.read_log`); or a curve, such as ``monitor.curve``.
        title: Its name; default: what the log or the store calls it.
        horizon: Planned last step of a log or a curve [steps]; None: as the log tells, or else the run is taken to be
            over.
        lr_schedule: Learning rate of steps 1..horizon of a log or a curve [any unit], shape (horizon,), or an
            LRSchedule, or `named_schedule.planned_rates`; None: of a run that is over, as it was logged.
        rules: Stop rules, or stop rules by their words: what they say now, or would have done.
        price: What a step costs, for the alternatives of a run that goes on.
        level: Probability of the intervals, between 0 and 1.
        store: Finished runs to borrow from, as in `forecast`. For a run of a store give that store: it borrows from the
            runs that were over when it began.
        history: Forecasts of a curve that were made on the way, ``monitor.history``; default: they are made anew.

    Returns:
        The path of the file.

    Raises:
        TypeError: If the source is of another kind.
        ValueError: If an argument does not fit the source, or as in `forecast`.
        StoreError: If a store cannot be read.
        OSError: If the file cannot be written.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     page = write_report(f"{folder}/run.html", LossCurve([1, 2, 3], [3.0, 2.0, 1.0]), horizon=100)
        ...     print("there is no forecast of the final loss" in page.read_text(encoding="utf-8"))
        True
    """
    named = dict(rules) if isinstance(rules, Mapping) else {_in_words(rule): rule for rule in rules}
    given = {"horizon": horizon, "lr_schedule": lr_schedule, "history": history or None}
    if isinstance(source, RunStore):
        _refuse(given | {"rules": named or None, "price": price, "store": store}, "a store")
        text = store_page(tell_store(source, level=level), title or _name_of(source.url))
        return _written(path, text)
    if isinstance(source, StoredRun):
        _refuse(given, "a run of a store, which knows its own")
        if isinstance(store, RunStore):
            store = _known_to(source, store)
    elif isinstance(source, RunLog):
        _refuse({"history": given["history"]}, "a log")
    run = _run_of(source, title or "run", horizon, lr_schedule, history)
    story = tell(run, rules=named, price=price, level=level, store=store)
    return _written(path, run_page(story, title))


def _run_of(
    source: Source,
    name: str,
    horizon: int | None,
    lr_schedule: ArrayLike | LRSchedule | PlannedRates | None,
    history: Sequence[ForecastRecord],
) -> RunSource:
    """Return the one run that a source is."""
    if isinstance(source, StoredRun):
        return of_stored(source)
    if isinstance(source, RunLog):
        return of_log(source, horizon, _rates(lr_schedule, horizon or source.planned or source.curve.step))
    if isinstance(source, LossCurve):
        return _of_curve(source, name, horizon, lr_schedule, history)
    raise TypeError(
        f"Expected source to be a RunStore, a StoredRun, a RunLog or a LossCurve, got {type(source).__name__}, so "
        "open the store, or read the log with lightning_scaling.logfiles.read_log."
    )


def _of_curve(
    curve: LossCurve,
    name: str,
    horizon: int | None,
    lr_schedule: ArrayLike | LRSchedule | PlannedRates | None,
    history: Sequence[ForecastRecord],
) -> RunSource:
    rates = _rates(lr_schedule, horizon or curve.step)
    ledger = None
    if history:
        ledger = ForecastLedger()
        for record in history:
            ledger.append(record)
    return of_curve(curve, name, horizon, None if rates is None else rates.schedule, ledger)


def _rates(lr_schedule: ArrayLike | LRSchedule | PlannedRates | None, horizon: int) -> PlannedRates | None:
    if lr_schedule is None or isinstance(lr_schedule, PlannedRates):
        return lr_schedule
    return PlannedRates(LRSchedule.of_plan(lr_schedule, horizon), "The learning rate is that of the plan.")


def _known_to(run: StoredRun, store: RunStore) -> list[StoredRun]:
    """Return the finished runs of the same loss that were there when a run began, as its monitor had them."""
    loss = run.tags.get("loss")
    others = [one for one in store.runs(state="finished") if one.id != run.id and one.updated <= run.started]
    return [one for one in others if one.tags.get("loss", loss) == loss]


def _refuse(given: Mapping[str, object], what: str) -> None:
    for name, value in given.items():
        if value is not None:
            raise ValueError(f"Expected no {name} for {what}, got one, so leave it out.")


def _in_words(rule: StopRule) -> str:
    """Return a rule as words, such as ``target unreachable, loss 1.9, confidence 0.95``."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", type(rule).__name__).lower()
    values = getattr(rule, "__dict__", {}).items()
    return ", ".join([name, *(f"{key.replace('_', ' ')} {value:g}" for key, value in values if _is_number(value))])


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _name_of(url: str) -> str:
    return url.rstrip("/\\").replace("\\", "/").rsplit("/", 1)[-1] or url


def _written(path: str | os.PathLike[str], text: str) -> Path:
    """Put a page in its place, whole."""
    target = Path(path)
    if target.is_dir() or not target.parent.is_dir():
        raise FileNotFoundError(
            f"Expected a file in a folder that is there, got {target}, so name one, such as report.html."
        )
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        # Made for its owner alone; a report is as open as any other new file.
        mask = os.umask(0)
        os.umask(mask)
        os.chmod(name, 0o666 & ~mask)
        os.replace(name, target)
    except BaseException:
        os.unlink(name)
        raise
    return target
