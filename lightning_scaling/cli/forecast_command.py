"""``lightning-scaling forecast``: where a run will end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightning_scaling.cli import options as o
from lightning_scaling.cli import output

if TYPE_CHECKING:
    from lightning_scaling.curve import LossCurve
    from lightning_scaling.finished import FinishedRun
    from lightning_scaling.forecast import Forecast
    from lightning_scaling.logfiles import RunLog
    from lightning_scaling.named_schedule import PlannedRates
    from lightning_scaling.schedule import LRSchedule


def forecast(
    log: Annotated[
        Path | None,
        typer.Argument(help="Log of the run: a file, or the folder of the run; none: a run that has not begun."),
    ] = None,
    horizon: o.Horizon = None,
    schedule: o.Schedule = None,
    warmup: o.Warmup = 0,
    assume_logged: Annotated[
        bool, typer.Option("--assume-logged", help="Of a run that is over: its logged learning rates were planned.")
    ] = False,
    at: Annotated[float | None, typer.Option(help="Forecast from this step, or share of the run below 1.")] = None,
    target: o.Targets = None,
    min_gain: o.MinGain = None,
    store: o.Store = None,
    like: Annotated[list[Path] | None, typer.Option(help="Log or folder of finished runs to borrow from.")] = None,
    level: o.Level = 0.9,
    picture: o.Picture = None,
    as_json: o.AsJson = False,
    step_column: o.StepColumn = None,
    loss_column: o.LossColumn = None,
    lr_column: o.RateColumn = None,
    run: o.RunName = None,
    parameters: o.Size = None,
) -> None:
    """Forecast where a run will end.

    Reads Lightning's CSVLogger, TensorBoard event files, Hugging Face trainer_state.json, W&B and MLflow exports and
    stores, JSON lines and any CSV; says which columns it took. With --store or --like it borrows from finished runs,
    and without a LOG it forecasts a run that has not begun from these alone, given --horizon and --N.
    """
    from lightning_scaling.advice import Action, advise
    from lightning_scaling.forecast import forecast as make_forecast

    if log is None:
        _refuse_without_log(horizon, store, like, {"--at": at, "--picture": picture, "--assume-logged": assume_logged})
        found, end, curve = None, horizon, _empty(parameters)
    else:
        found = o.one_log(log, o.wanted(step_column, loss_column, lr_column, run, parameters))
        end = horizon if horizon is not None else found.planned
        if end is None and assume_logged:
            end = found.curve.step
        curve = _until(found, at, end)
    rates = o.rates_for(curve, end, schedule, warmup, found.curve if found is not None and assume_logged else None)
    rules = o.rules_of(target, min_gain)
    kin = _kin(store, like)
    with output.failing():
        prediction = make_forecast(curve, horizon=end, lr_schedule=rates.schedule, level=level, store=kin or None)
    advice = advise(prediction, list(rules.values()))
    if picture is not None:
        _draw(picture, curve, prediction, rates)
    if as_json:
        read = None if found is None else output.log_data(found)
        output.print_json({"log": read, **output.forecast_data(prediction, rates, advice)})
    else:
        typer.echo(f"{output.log_text(found)}\n" if found is not None else f"{_words_for_none(kin)}\n")
        _say(curve, prediction, rates, advice.sentence if rules else None)
        if picture is not None:
            output.say(f"The picture is in {picture}.")
    if rules and advice.action is Action.STOP:
        raise typer.Exit(output.STOP)
    if not prediction.verdict.usable:
        raise typer.Exit(output.NO_FORECAST)


def _say(curve: LossCurve, prediction: Forecast, rates: PlannedRates, advice: str | None) -> None:
    """Print a forecast, what the rules say of it, and the course of the run."""
    from lightning_scaling.report.chart import chart

    typer.echo(output.forecast_text(prediction, rates))
    if advice is not None:
        typer.echo(advice)
    if len(curve):
        typer.echo("\n" + chart(curve, prediction, width=output.width(), unicode=output.knows_unicode()))


def _draw(path: Path, curve: LossCurve, prediction: Forecast, rates: PlannedRates) -> None:
    with output.failing():
        from lightning_scaling.pictures import save_picture

        save_picture(path, curve, [prediction], rates.schedule)


def _refuse_without_log(
    horizon: int | None, store: str | None, like: list[Path] | None, others: Mapping[str, object]
) -> None:
    """End with what is wrong where a run that has not begun cannot be forecast as asked."""
    with output.failing():
        if store is None and not like:
            raise ValueError("Expected a LOG, or --store or --like to borrow from, got none, so name a log or a store.")
        if horizon is None:
            raise ValueError("Expected --horizon where there is no LOG, got none, so give the planned last step.")
        asked = [name for name, value in others.items() if value not in (None, False)]
        if asked:
            raise ValueError(f"Expected a LOG beside {asked[0]}, got none, so name one or leave {asked[0]} out.")


def _empty(size: float | None) -> LossCurve:
    from lightning_scaling.curve import LossCurve

    with output.failing():
        return LossCurve(S=[], L=[], N=size)


def _kin(store: str | None, like: list[Path] | None) -> list[FinishedRun]:
    """Return the runs to borrow from."""
    runs: list[FinishedRun] = [] if store is None else list(o.stored_runs(o.open_store(store)))
    if like:
        with output.failing():
            runs += [_Finished.of(one) for one in o.many_logs(like, o.wanted(None, None, None))]
    return runs


def _words_for_none(kin: list[FinishedRun]) -> str:
    return f"A run that has not begun, beside {len(kin)} other{'s' * (len(kin) != 1)}."


def _until(log: RunLog, at: float | None, horizon: int | None) -> LossCurve:
    """Return the part of the run up to a step, or to a share of it."""
    if at is None:
        return log.curve
    with output.failing():
        step = at * (horizon or log.curve.step) if at < 1.0 else at
        curve = log.curve.until(step)
        if not len(curve):
            raise ValueError(
                f"Expected losses up to step {step:g}, got the first one at {log.curve.S[0]:g}, so give a later --at."
            )
        return curve


@dataclass(frozen=True)
class _Finished:
    """A finished run, as a store has them."""

    curve: LossCurve
    horizon: int
    lr_schedule: LRSchedule | None

    @classmethod
    def of(cls, log: RunLog) -> _Finished:
        from lightning_scaling.named_schedule import as_logged

        return cls(log.curve, log.planned or log.curve.step, as_logged(log.curve, log.curve.step).schedule)
