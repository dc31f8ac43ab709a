"""``lightning-scaling forecast``: where a run will end."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightning_scaling.cli import options as o
from lightning_scaling.cli import output

if TYPE_CHECKING:
    from lightning_scaling.curve import LossCurve
    from lightning_scaling.logfiles import RunLog
    from lightning_scaling.schedule import LRSchedule


def forecast(
    log: Annotated[Path, typer.Argument(help="Log of the run: a file, or the folder of the run.")],
    horizon: o.Horizon = None,
    schedule: o.Schedule = None,
    warmup: o.Warmup = 0,
    assume_logged: Annotated[
        bool, typer.Option("--assume-logged", help="Of a run that is over: its logged learning rates were planned.")
    ] = False,
    at: Annotated[float | None, typer.Option(help="Forecast from this step, or share of the run below 1.")] = None,
    target: o.Targets = None,
    min_gain: o.MinGain = None,
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
    stores, JSON lines and any CSV; says which columns it took.
    """
    from lightning_scaling.advice import Action, advise
    from lightning_scaling.forecast import forecast as make_forecast

    columns = o.wanted(step_column, loss_column, lr_column, run, parameters)
    found = o.one_log(log, columns)
    end = horizon if horizon is not None else found.planned
    if end is None and assume_logged:
        end = found.curve.step
    curve = _until(found, at, end)
    rates = o.rates_for(curve, end, schedule, warmup, found.curve if assume_logged else None)
    rules = o.rules_of(target, min_gain)
    with output.failing():
        store = [_Finished.of(one) for one in o.many_logs(like, o.wanted(None, None, None))] if like else None
        prediction = make_forecast(curve, horizon=end, lr_schedule=rates.schedule, level=level, store=store)
    advice = advise(prediction, list(rules.values()))
    if picture is not None:
        with output.failing():
            from lightning_scaling.pictures import save_picture

            save_picture(picture, curve, [prediction], rates.schedule)
    if as_json:
        output.print_json({"log": output.log_data(found), **output.forecast_data(prediction, rates, advice)})
    else:
        from lightning_scaling.report.chart import chart

        typer.echo(f"{output.log_text(found)}\n\n{output.forecast_text(prediction, rates)}")
        if rules:
            typer.echo(advice.sentence)
        typer.echo("\n" + chart(curve, prediction, width=output.width(), unicode=output.knows_unicode()))
        if picture is not None:
            output.say(f"The picture is in {picture}.")
    if rules and advice.action is Action.STOP:
        raise typer.Exit(output.STOP)
    if not prediction.verdict.usable:
        raise typer.Exit(output.NO_FORECAST)


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
