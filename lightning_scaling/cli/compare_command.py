"""``lightning-scaling compare``: several runs side by side."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lightning_scaling.cli import options as o
from lightning_scaling.cli import output

if TYPE_CHECKING:
    from lightning_scaling.logfiles import RunLog
    from lightning_scaling.review import Comparison, Contender


def compare(
    runs: Annotated[list[Path], typer.Argument(help="Logs of at least two runs, or folders of them.")],
    horizon: o.Horizon = None,
    schedule: o.Schedule = None,
    warmup: o.Warmup = 0,
    level: o.Level = 0.9,
    as_json: o.AsJson = False,
    step_column: o.StepColumn = None,
    loss_column: o.LossColumn = None,
    lr_column: o.RateColumn = None,
    run: o.RunName = None,
) -> None:
    """Compare runs: where each will end, the probability that it ends best, and how much faster the best one is.

    A run whose planned end is not known (--horizon, or by its log) is taken to be over. Runs are taken as independent.
    The speed-up is over the whole compute of the other run, N x B per step where logs tell both, else in steps.
    """
    from lightning_scaling.report.text import comparison_text
    from lightning_scaling.review import compare as hold

    logs = o.many_logs(runs, o.wanted(step_column, loss_column, lr_column, run))
    entries = [
        _contender(log, name, horizon, schedule, warmup, level) for log, name in zip(logs, _named(logs), strict=True)
    ]
    contenders, costed = _with_costs([c for c, _ in entries], logs)
    try:
        found = hold(contenders, level)
    except ValueError as error:
        output.say(f"lightning-scaling: {error}")
        raise typer.Exit(output.NO_FORECAST if len(logs) > 1 else output.WRONG) from None
    if as_json:
        data = _data(found, contenders, logs, [assumed for _, assumed in entries])
        output.print_json(data | {"cost": "compute" if costed else "steps"})
        return
    for log, one, (_, assumed) in zip(logs, contenders, entries, strict=True):
        said = "" if one.forecast.verdict.usable else f" ({one.forecast.verdict})"
        typer.echo(f"{one.name}: step {one.curve.step:,}".replace(",", " ") + f"{said}. {assumed}")
        for warning in log.warnings:
            output.say(f"{one.name}: {warning}")
    typer.echo(f"\n{comparison_text(found)}")
    typer.echo(f"(Counted in {'compute' if costed else 'steps'}; the runs are taken as independent.)")


def _contender(
    log: RunLog, name: str, horizon: int | None, schedule: str | None, warmup: int, level: float
) -> tuple[Contender, str]:
    from lightning_scaling.forecast import forecast
    from lightning_scaling.review import Contender

    end = horizon if horizon is not None else log.planned
    over = end is None or end <= log.curve.step
    end = log.curve.step if over or end is None else end
    rates = o.rates_for(log.curve, end, schedule, warmup, log.curve if over else None)
    with output.failing():
        found = forecast(log.curve, horizon=end, lr_schedule=rates.schedule, level=level)
    for warning in rates.warnings:
        output.say(f"{name}: {warning}")
    return Contender(name, log.curve, found), "Taken to be over." if over else rates.assumed


def _with_costs(contenders: list[Contender], logs: list[RunLog]) -> tuple[list[Contender], bool]:
    """Return the runs with the compute of a step, N x B, where every log tells both."""
    from dataclasses import replace

    curves = [log.curve for log in logs]
    costs = [
        c.N * float(c.B.mean()) if c.N is not None and c.B is not None and c.B_unit == "tokens" else None
        for c in curves
    ]
    if any(cost is None for cost in costs):
        return contenders, False
    return [replace(one, cost=float(cost or 1.0)) for one, cost in zip(contenders, costs, strict=True)], True


def _named(logs: list[RunLog]) -> list[str]:
    """Return names that tell the runs apart."""
    names = [log.name for log in logs]
    return [n if names.count(n) == 1 else f"{n} ({log.path})" for n, log in zip(names, logs, strict=True)]


def _data(found: Comparison, contenders: list[Contender], logs: list[RunLog], assumed: list[str]) -> dict[str, Any]:
    best = dict(zip(found.names, found.probability_best, strict=True))
    ends = dict(zip(found.names, found.final_losses, strict=True))
    runs = [
        {
            "name": one.name,
            "log": output.log_data(log),
            "step": one.curve.step,
            "horizon": one.forecast.horizon,
            "verdict": str(one.forecast.verdict),
            "assumed": words,
            "final_loss": output.interval(ends[one.name]) if one.name in ends else None,
            "probability_best": best.get(one.name),
        }
        for one, log, words in zip(contenders, logs, assumed, strict=True)
    ]
    ups = [
        {
            "fast": up.fast,
            "slow": up.slow,
            "loss": output.interval(up.loss),
            "steps": output.interval(up.steps),
            "factor": output.interval(up.factor),
        }
        for up in found.speed_ups
    ]
    return {"runs": runs, "speed_ups": ups}
