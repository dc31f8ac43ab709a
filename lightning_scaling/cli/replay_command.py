"""``lightning-scaling replay``: what would have been said of runs that are over."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lightning_scaling.cli import options as o
from lightning_scaling.cli import output

if TYPE_CHECKING:
    from lightning_scaling.logfiles import RunLog
    from lightning_scaling.review import Replay, RuleScore, Stop


def replay(
    logs: Annotated[list[Path], typer.Argument(help="Logs of finished runs, or folders of them.")],
    target: o.Targets = None,
    min_gain: o.MinGain = None,
    schedule: o.Schedule = None,
    warmup: o.Warmup = 0,
    level: o.Level = 0.9,
    picture: o.Picture = None,
    as_json: o.AsJson = False,
    step_column: o.StepColumn = None,
    loss_column: o.LossColumn = None,
    lr_column: o.RateColumn = None,
    run: o.RunName = None,
) -> None:
    """Replay finished runs: forecasts at each tenth beside baselines, and what stop rules would have done.

    The last step of a log is taken for the planned end, and its learning rates for the planned ones, unless --schedule
    names others. Without --target and --min-gain, targets 2, 5 and 10 % of the fall of the loss below and above each
    run's own end are tried. Of several runs the false stops and the savings of each rule are summed up.
    """
    from lightning_scaling.report.text import pool_text, replay_text
    from lightning_scaling.review import scores

    found = o.many_logs(logs, o.wanted(step_column, loss_column, lr_column, run))
    if not found:
        raise typer.Exit(output.WRONG)
    rules = o.rules_of(target, min_gain)
    replays = []
    for i, log in enumerate(found):
        _progress(i, len(found), log.name)
        one = _replay(log, rules, schedule, warmup, level)
        if one is not None:
            replays.append((log, one))
    _progress(len(found), len(found), "")
    if not replays:
        raise typer.Exit(output.NO_FORECAST)
    rows = scores(one for _, one in replays)
    if picture is not None:
        _draw(picture, replays[0])
    if as_json:
        runs = [_data(log, one) for log, one in replays]
        output.print_json({"runs": runs, "rules": [_score_data(row) for row in rows]})
    elif len(replays) == 1:
        typer.echo(f"{output.log_text(replays[0][0])}\n\n{replay_text(replays[0][1])}")
    else:
        for log, _ in replays:
            for warning in log.warnings:
                output.say(f"{log.name}: {warning}")
        typer.echo(pool_text([one for _, one in replays], rows))


def _replay(log: RunLog, rules: dict[str, Any], schedule: str | None, warmup: int, level: float) -> Replay | None:
    from lightning_scaling.review import replay as play

    if len(log.curve) < 20:
        output.say(f"Left out: {log.name} has {len(log.curve)} losses, and a replay needs 20.")
        return None
    rates = o.rates_for(log.curve, log.curve.step, schedule, warmup, log.curve)
    with output.failing():
        return play(log.curve, name=log.name, schedule=rates.schedule, rules=rules or None, level=level)


def _progress(i: int, n: int, name: str) -> None:
    """Say on a terminal how far it is: a folder of runs takes a second for each."""
    if n > 3 and sys.stderr.isatty():
        end = "\n" if i == n else ""
        sys.stderr.write(f"\r\x1b[K{i} of {n} {name}{end}")
        sys.stderr.flush()


def _draw(picture: Path, replayed: tuple[RunLog, Replay]) -> None:
    with output.failing():
        from lightning_scaling.pictures import save_picture

        log, one = replayed
        rates = o.rates_for(log.curve, log.curve.step, None, 0, log.curve)
        save_picture(picture, log.curve, one.forecasts, rates.schedule)
        output.say(f"The picture of {log.name} is in {picture}.")


def _data(log: RunLog, one: Replay) -> dict[str, Any]:
    looks = [
        {
            "step": look.step,
            "final_loss": output.interval(look.final_loss),
            "verdict": look.verdict,
            "usable": look.usable,
            "advice": look.advice,
            "baselines": dict(look.baselines),
        }
        for look in one.looks
    ]
    return {
        "log": output.log_data(log),
        "name": one.name,
        "horizon": one.horizon,
        "ended_at": one.truth,
        "standard_error": one.error,
        "looks": looks,
        "mean_errors": one.errors(),
        "stops": [_stop_data(stop) for stop in one.stops],
    }


def _stop_data(stop: Stop) -> dict[str, Any]:
    return {
        "rule": stop.label,
        "step": stop.step,
        "outcome": stop.outcome.value,
        "saved": stop.saved,
        "given_up": stop.given_up,
    }


def _score_data(row: RuleScore) -> dict[str, Any]:
    return {
        "rule": row.label,
        "runs": row.n_runs,
        "to_go_on": row.n_go,
        "wrongly_stopped": row.n_false,
        "to_stop": row.n_stop,
        "stopped": row.n_right,
        "steps_saved": row.saved,
    }
