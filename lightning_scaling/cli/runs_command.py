"""``lightning-scaling runs``: what a store of runs holds, and what goes into and out of it."""

from __future__ import annotations

import csv
import io
import math
import re
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lightning_scaling.cli import options as o
from lightning_scaling.cli import output
from lightning_scaling.units import thousands

if TYPE_CHECKING:
    from lightning_scaling.curve import LossCurve
    from lightning_scaling.logfiles import RunLog
    from lightning_scaling.store import RunStore, StoredRun

__all__ = ["runs"]

_COLUMNS = {"step": "S", "loss": "L", "lr": "lr", "batch_size": "B", "averaged_steps": "count", "spread": "spread"}
_EXPORTS = (".csv", ".json")

runs = typer.Typer(
    help="List, show, import, export and forget the runs of a store.",
    no_args_is_help=True,
    rich_markup_mode=None,
)

Id = Annotated[str, typer.Argument(metavar="ID", help="Name of the run in the store, or how it begins.")]


def list_runs(
    store: o.Store = None,
    tag: o.Tags = None,
    state: Annotated[str | None, typer.Option(help="Only these: finished, stopped or running.")] = None,
    as_json: o.AsJson = False,
) -> None:
    """List the runs of a store, oldest first."""
    place = o.open_store(store)
    found = o.stored_runs(place, tag, state)
    if as_json:
        output.print_json({"store": place.url, "runs": [_data(run) for run in found]})
        return
    for run in found:
        typer.echo(str(run))
    if not found:
        output.say(f"No such runs in {place.url}." if tag or state else f"No runs in {place.url}.")


def show(id: Id, store: o.Store = None, as_json: o.AsJson = False) -> None:
    """Show one run: what is known of it, its loss, and what was forecast on the way."""
    run = _one(o.open_store(store), id)
    if as_json:
        output.print_json(_data(run) | {"forecasts": _forecasts(run)})
        return
    from lightning_scaling.ledger import recent_loss
    from lightning_scaling.report.chart import chart

    typer.echo(str(run))
    typer.echo(f"written {run.started} to {run.updated} by version {run.written_by}; {len(run.curve)} points")
    schedule = run.lr_schedule
    if schedule is not None:
        last = float(schedule.rates[-1])
        steps = thousands(schedule.horizon)
        typer.echo(f"learning rate of {steps} steps, the last at {last:.3g} of the peak")
    if len(run.curve):
        typer.echo("\n" + chart(run.curve, width=output.width(), unicode=output.knows_unicode()))
    if len(run.forecasts):
        typer.echo("\n" + run.forecasts.table(recent_loss(run.curve) if run.state == "finished" else None))


def import_logs(
    logs: Annotated[list[Path], typer.Argument(metavar="LOG...", help="Logs of runs, or folders of them.")],
    store: o.Store = None,
    horizon: o.Horizon = None,
    schedule: o.Schedule = None,
    warmup: o.Warmup = 0,
    parameters: o.Size = None,
    batch: Annotated[float | None, typer.Option(help="Tokens (or samples) of one optimizer step.")] = None,
    tag: o.Tags = None,
    as_json: o.AsJson = False,
    step_column: o.StepColumn = None,
    loss_column: o.LossColumn = None,
    lr_column: o.RateColumn = None,
    run: o.RunName = None,
) -> None:
    """Put the runs of logs into a store, which is begun where there is none.

    Where neither --horizon nor the log tells the planned end, it is the last step. A run that came to its planned end
    is finished, any other is stopped. The name of a run depends on its losses: importing a log again adds nothing.
    """
    place = o.open_store(store, may_be_new=True)
    tags = o.tags_of(tag)
    found = o.many_logs(logs, o.wanted(step_column, loss_column, lr_column, run, parameters))
    if not found:
        raise typer.Exit(output.WRONG)
    rows = [_import(place, log, horizon, schedule, warmup, batch, tags) for log in found]
    if as_json:
        output.print_json({"store": place.url, "imported": rows})
        return
    for row in rows:
        typer.echo(f"{row['id']}: {row['state']} at step {row['step']:,} of {row['horizon']:,}".replace(",", " "))
        if row["assumed"]:
            typer.echo(f"  {row['assumed']}")
        for warning in row["log"]["warnings"]:
            output.say(f"{row['id']}: {warning}")


def export(
    id: Id,
    out: Annotated[Path, typer.Option(help="File to write: .csv for the curve, .json for all that is known.")],
    store: o.Store = None,
    force: Annotated[bool, typer.Option("--force", help="Write over a file that is there.")] = False,
) -> None:
    """Write a run to a file."""
    run = _one(o.open_store(store), id)
    with output.failing():
        if out.suffix.lower() not in _EXPORTS:
            raise ValueError(f"Expected a file that ends in .csv or .json, got {out}, so name it so.")
        if out.exists() and not force:
            raise FileExistsError(f"Expected a new file, got {out}, which is there, so name another or add --force.")
        text = _csv(run.curve) if out.suffix.lower() == ".csv" else output.as_json(_whole(run)) + "\n"
        out.write_text(text, encoding="utf-8")
    output.say(f"{run.id} is in {out}.")


def forget(
    ids: Annotated[list[str], typer.Argument(metavar="ID...", help="Names of runs in the store, in full.")],
    store: o.Store = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete runs from a store, after asking. A file that is not a run of this store is left as it is."""
    place = o.open_store(store)
    found = [_one(place, id, whole=True) for id in dict.fromkeys(ids)]
    if not yes:
        for run in found:
            output.say(str(run))
        which = "this run" if len(found) == 1 else f"these {len(found)} runs"
        try:
            sure = typer.confirm(f"Delete {which} from {place.url}?", err=True)
        except typer.Abort:  # the end of the input, or Ctrl-C
            sure = False
        if not sure:
            output.say("Nothing was deleted. Answer y, or add --yes where nobody can be asked.")
            raise typer.Exit(output.NOT_CONFIRMED)
    for run in found:
        with output.failing(), suppress(KeyError):  # somebody else was faster
            place.forget(run.id)
        output.say(f"{run.id} is deleted.")


for _name, _command in (
    ("list", list_runs),
    ("show", show),
    ("import", import_logs),
    ("export", export),
    ("forget", forget),
):
    runs.command(name=_name)(_command)


def _one(store: RunStore, id: str, *, whole: bool = False) -> StoredRun:
    """Return the run of this id, or the only one that begins so; a file of another kind at its place is an error."""
    with output.failing():
        try:
            return store[id]
        except KeyError:
            pass
    near = [] if whole else [run for run in o.stored_runs(store) if run.id.startswith(id)]
    if len(near) == 1:
        return near[0]
    with output.failing():
        got = f"{len(near)} that begin so" if near else "none of this name"
        raise ValueError(
            f"Expected a run '{id:.200}' in {store.url}, got {got}, so choose one of `lightning-scaling runs list`."
        )


def _import(
    store: RunStore,
    log: RunLog,
    horizon: int | None,
    schedule: str | None,
    warmup: int,
    batch: float | None,
    tags: dict[str, Any],
) -> dict[str, Any]:
    curve = log.curve
    end = horizon if horizon is not None else log.planned or curve.step
    over = curve.step >= end and not curve.n_nonfinite
    # Of a run that went to its end the log has all rates; of one that was cut off only a name tells those ahead.
    rates = o.rates_for(curve, end, schedule, warmup, curve if curve.step >= end else None)
    with output.failing():
        if batch is not None:
            curve = _with_batch(curve, batch)
        named = {"name": log.name, "loss": log.columns["loss"]} | tags
        id = store.add(
            curve, horizon=end, lr_schedule=rates.schedule, tags=named, finished=over, id=_id_of(log.name, curve)
        )
    return {
        "id": id,
        "state": "finished" if over else "stopped",
        "step": curve.step,
        "horizon": end,
        "N": curve.N,
        "schedule_known": rates.schedule is not None,
        "assumed": rates.assumed,
        "warnings": list(rates.warnings),
        "tags": named,
        "log": output.log_data(log),
    }


def _with_batch(curve: LossCurve, batch: float) -> LossCurve:
    from lightning_scaling.curve import LossCurve

    if not 0.0 < batch < float("inf"):
        raise ValueError(f"Expected --batch above 0, got {batch}, so give the tokens of one step.")
    return LossCurve(
        S=curve.S,
        L=curve.L,
        lr=curve.lr,
        B=batch,
        N=curve.N,
        count=curve.count,
        spread=curve.spread,
        step=curve.step,
        n_nonfinite=curve.n_nonfinite,
        epoch_ends=curve.epoch_ends,
        unit=curve.unit,  # B_unit is tokens: those are what --batch gives
    )


def _id_of(name: str, curve: LossCurve) -> str:
    """Return a name for a run that tells by what is in it, so that a log that is imported twice is there once."""
    from hashlib import blake2b

    slug = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-")[:40].strip("-") or "run"
    content = curve.S.tobytes() + curve.L.tobytes()
    return f"{slug}-{blake2b(content, digest_size=8).hexdigest()}"


def _data(run: StoredRun) -> dict[str, Any]:
    """Return a run for JSON, without its curve."""
    return {
        "id": run.id,
        "state": run.state,
        "step": run.curve.step,
        "horizon": run.horizon,
        "N": run.N,
        "batch": run.batch,
        "batch_unit": None if run.batch is None else run.batch_unit,
        "tokens": run.tokens,
        "final_loss": run.final_loss,
        "final_loss_error": None if run.final_loss is None else run.final_loss_error,
        "unit": run.curve.unit,
        "points": len(run.curve),
        "not_finite": run.curve.n_nonfinite,
        "tags": dict(run.tags),
        "started": run.started,
        "updated": run.updated,
        "written_by": run.written_by,
    }


def _forecasts(run: StoredRun) -> list[dict[str, Any]]:
    return [
        {
            "step": record.step,
            "horizon": record.horizon,
            "verdict": str(record.verdict),
            "usable": record.verdict.usable,
            "final_loss": output.interval(record.final_loss),
        }
        for record in run.forecasts.records
    ]


def _whole(run: StoredRun) -> dict[str, Any]:
    """Return all that is known of a run for JSON: its curve by columns, and its learning rates by blocks of steps."""
    curve, schedule = run.curve, run.lr_schedule
    columns = {name: getattr(curve, attribute) for name, attribute in _COLUMNS.items()}
    return _data(run) | {
        "curve": {name: None if values is None else values.tolist() for name, values in columns.items()},
        "epoch_ends": list(curve.epoch_ends),
        "lr_schedule": None
        if schedule is None
        else {"edges": schedule.edges.tolist(), "rates": schedule.rates.tolist(), "known": schedule.known},
        "forecasts": _forecasts(run),
        "derived": dict(run.derived),
    }


def _csv(curve: LossCurve) -> str:
    """Return a curve as a table that `forecast` and `runs import` read; what is not known is empty."""
    columns = {name: getattr(curve, attribute) for name, attribute in _COLUMNS.items()}
    known = {name: values.tolist() for name, values in columns.items() if values is not None}
    if curve.B_unit == "samples" and "batch_size" in known:
        known = {"samples_per_step" if name == "batch_size" else name: values for name, values in known.items()}
    if all(math.isnan(x) for x in known["spread"]):
        del known["spread"]
    if curve.N is not None:
        known["n_params"] = [curve.N] * len(curve)
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(known)
    for row in zip(*known.values(), strict=True):
        table.writerow(["" if math.isnan(x) else int(x) if x.is_integer() else repr(x) for x in row])
    return text.getvalue()
