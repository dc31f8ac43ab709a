"""``lightning-scaling report``: a run, or a store of runs, as one HTML file."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lightning_scaling.cli import options as o
from lightning_scaling.cli import output

if TYPE_CHECKING:
    from lightning_scaling.alternatives import Price
    from lightning_scaling.store import RunStore

#: Ends the names of the files of a store.
_SUFFIX = ".run.json"


def report(
    source: Annotated[str, typer.Argument(metavar="LOG|STORE", help="Log of a run, or folder or URL of a store.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The HTML file.")] = Path("report.html"),
    title: Annotated[str | None, typer.Option(help="Name of the report; default: that of the run or store.")] = None,
    horizon: o.Horizon = None,
    schedule: o.Schedule = None,
    warmup: o.Warmup = 0,
    target: o.Targets = None,
    min_gain: o.MinGain = None,
    like: Annotated[list[Path] | None, typer.Option(help="Log or folder of finished runs to borrow from.")] = None,
    seconds_per_step: Annotated[float | None, typer.Option(help="Time of a step, for what alternatives cost.")] = None,
    price_per_hour: Annotated[float | None, typer.Option(help="Price of an hour of all machines.")] = None,
    level: o.Level = 0.9,
    step_column: o.StepColumn = None,
    loss_column: o.LossColumn = None,
    lr_column: o.RateColumn = None,
    run: Annotated[str | None, typer.Option("--run", help="Which run, where a log or a store holds several.")] = None,
    parameters: o.Size = None,
) -> None:
    """Write a report of a run, or of a store of runs, as one HTML file.

    The file needs nothing else: no network, no JavaScript. A run without a planned end (--horizon, or by its log) is
    taken to be over. Of a store, --run names one run of it.
    """
    rules = o.rules_of(target, min_gain)
    with _failing():
        price = _price(seconds_per_step, price_per_hour)
        store = _store(source)
    asked: dict[str, Any] = {"rules": rules, "price": price}
    common: dict[str, Any] = {"title": title, "level": level}
    if store is None:
        columns = o.wanted(step_column, loss_column, lr_column, run, parameters)
        log = o.one_log(Path(source), columns)
        end = horizon if horizon is not None else log.planned
        rates = None
        if schedule is not None or (end is not None and end > log.curve.step):
            rates = o.rates_for(log.curve, end, schedule, warmup)
        _write(out, log, horizon=horizon, lr_schedule=rates, store=_kin(like), **asked, **common)
        typer.echo(output.log_text(log))
    else:
        of_a_log = [horizon, schedule, like, step_column, loss_column, lr_column, parameters]
        _report_store(out, store, run, of_a_log, asked, common)
    typer.echo(f"The report is in {out}.")


def _report_store(
    out: Path, store: RunStore, run: str | None, of_a_log: list[Any], asked: dict[str, Any], common: dict[str, Any]
) -> None:
    with _failing(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # files that are skipped are listed in the report
        if any(value is not None for value in of_a_log):
            raise ValueError("Expected no options of a log beside a store, got some, so leave them out.")
        if run is None:
            if any(asked.values()):
                raise ValueError("Expected --run beside a rule or a price, got a whole store, so name one run of it.")
            _write(out, store, **common)
            n, skipped = len(store), len(store.skipped())
            left_out = f", {skipped} file{'s' * (skipped != 1)} skipped" if skipped else ""
            typer.echo(f"{n} run{'s' * (n != 1)} in {store.url}{left_out}")
        elif run not in store:
            raise ValueError(f"Expected a run of {store.url}, got '{run}', so name one of it by its id.")
        else:
            _write(out, store[run], store=store, **asked, **common)
            typer.echo(str(store[run]))


def _write(out: Path, source: Any, **arguments: Any) -> None:
    from lightning_scaling.report.write import write_report

    with _failing():
        write_report(out, source, **arguments)


@contextmanager
def _failing() -> Iterator[None]:
    """End the command with the message of an error, a store's too."""
    from lightning_scaling.errors import LightningScalingError

    with output.failing():
        try:
            yield
        except LightningScalingError as error:
            raise ValueError(str(error)) from None


def _kin(like: list[Path] | None) -> list[Any] | None:
    """Return the finished runs of logs to borrow from."""
    from lightning_scaling.cli.forecast_command import _Finished

    if like is None:
        return None
    with output.failing():
        return [_Finished.of(one) for one in o.many_logs(like, o.wanted(None, None, None))]


def _store(source: str) -> RunStore | None:
    """Return the store that a path or URL leads to; None where it is a log."""
    from lightning_scaling.store import RunStore

    if "://" in source:
        return RunStore(source)
    path = Path(source)
    return RunStore(path) if path.is_dir() and any(path.glob(f"*{_SUFFIX}")) else None


def _price(seconds_per_step: float | None, price_per_hour: float | None) -> Price | None:
    from lightning_scaling.alternatives import Price

    if seconds_per_step is None:
        if price_per_hour is not None:
            raise ValueError(
                "Expected --seconds-per-step beside --price-per-hour, got none, so give the time of a step."
            )
        return None
    return Price(seconds_per_step, price_per_hour)
