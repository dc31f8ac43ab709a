"""Options that several commands share, and the runs they lead to."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lightning_scaling.cli.output import failing, say
from lightning_scaling.units import thousands

if TYPE_CHECKING:
    from lightning_scaling.advice import StopRule
    from lightning_scaling.curve import LossCurve
    from lightning_scaling.logfiles import RunLog, Wanted
    from lightning_scaling.named_schedule import PlannedRates
    from lightning_scaling.store import RunStore, StoredRun

#: Longest run whose learning rates are held step by step.
_MOST_STEPS = 10**8


def _steps(text: str) -> int:
    """Return a number of steps, written as 20000, 20_000 or 2e4."""
    for number in (int, float):
        try:
            value = number(text)
        except ValueError:
            continue
        if 0 <= value < float("inf") and value == int(value):
            return int(value)
    with failing():
        raise ValueError(f"Expected --horizon as a whole number of steps, got '{text}', so give for example 20000.")


Horizon = Annotated[
    int | None,
    typer.Option(
        parser=_steps, metavar="INTEGER", help="Planned last optimizer step; default: the log's, if it tells."
    ),
]
Schedule = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Learning rate ahead: cosine, cosine:0.1 (ends at 10 % of the peak), linear, linear:0.1, wsd:0.2 (decays "
        "over the last 20 %), constant; default: stays as the log has it last.",
    ),
]
Warmup = Annotated[int, typer.Option(help="Steps of linear warm-up of that schedule.")]
Level = Annotated[float, typer.Option(help="Probability that an interval holds its number.")]
Targets = Annotated[list[float] | None, typer.Option("--target", help="Stop if the run will not end at this loss.")]
MinGain = Annotated[float | None, typer.Option(help="Stop if the loss will not fall by this any more.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON; what is not known is null.")]
Picture = Annotated[Path | None, typer.Option(help="Write a picture to this file (.png, .svg, .pdf).")]
StepColumn = Annotated[str | None, typer.Option(help="Column of the steps, 'row' to count rows; default: by name.")]
LossColumn = Annotated[str | None, typer.Option(help="Column of the losses; default: the training loss, by name.")]
RateColumn = Annotated[str | None, typer.Option("--lr-column", help="Column of the learning rates, or 'none'.")]
RunName = Annotated[str | None, typer.Option("--run", help="Which run, where a log holds several.")]
Size = Annotated[float | None, typer.Option("--N", "-N", "--parameters", help="Non-embedding parameters of the model.")]
Store = Annotated[
    str | None,
    typer.Option(
        metavar="URL", envvar="LIGHTNING_SCALING_STORE", help="Store of runs: a folder, or s3://…, gs://… and the like."
    ),
]
Tags = Annotated[list[str] | None, typer.Option("--tag", metavar="KEY=VALUE", help="Tag of a run; may be repeated.")]


def wanted(
    step: str | None, loss: str | None, lr: str | None, run: str | None = None, size: float | None = None
) -> Wanted:
    """Return the columns that the user names."""
    from lightning_scaling.logfiles import Wanted

    return Wanted(step=step, loss=loss, lr=lr, run=run, N=size)


def one_log(path: Path, columns: Wanted) -> RunLog:
    """Read the one run of a log, or end with what is wrong."""
    from lightning_scaling.logfiles import read_log

    with failing():
        return read_log(path, columns)


def many_logs(paths: list[Path], columns: Wanted) -> list[RunLog]:
    """Read all runs of logs and folders; one file among several that cannot be read is passed over and named."""
    from lightning_scaling.logfiles import read_logs

    found: list[RunLog] = []
    for path in paths:
        try:
            found += read_logs(path, columns)
        except (OSError, ValueError, ModuleNotFoundError) as error:
            if len(paths) == 1:
                with failing():
                    raise
            say(f"Left out: {error}")
    return found


def open_store(url: str | None, *, may_be_new: bool = False) -> RunStore:
    """Return the store at a path or URL; one that is to be read must be there, as far as that can be told."""
    from lightning_scaling.store import RunStore

    with failing():
        if url is None:
            raise ValueError(
                "Expected --store URL or the environment variable LIGHTNING_SCALING_STORE, got neither, so name the "
                "folder or URL of your runs."
            )
        store = RunStore(url)
        if not may_be_new and "://" not in store.url and not Path(store.url).is_dir():
            raise FileNotFoundError(
                f"Expected a store at {store.url}, got no folder there, so check the path, or begin one with "
                "`lightning-scaling runs import`."
            )
        return store


def stored_runs(store: RunStore, tags: list[str] | None = None, state: str | None = None) -> list[StoredRun]:
    """Return the runs of a store, or end with what is wrong; files that are no runs are passed over and named."""
    import warnings

    with failing(), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = store.runs(tags=tags_of(tags), state=state)
    for warning in caught:
        say(f"Left out: {warning.message}")
    return found


def tags_of(texts: list[str] | None) -> dict[str, str | int | float | bool]:
    """Return tags from KEY=VALUE; a value that reads as a number, true or false is one."""
    tags: dict[str, str | int | float | bool] = {}
    for text in texts or ():
        key, sign, value = text.partition("=")
        with failing():
            if not (sign and key.strip()):
                raise ValueError(f"Expected --tag KEY=VALUE, got '{text}', so write for example --tag task=text.")
        tags[key.strip()] = _value(value.strip())
    return tags


def _value(text: str) -> str | int | float | bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            continue
        return value if value == value and abs(value) != float("inf") else text
    return text


def rules_of(targets: list[float] | None, min_gain: float | None) -> dict[str, StopRule]:
    """Return the rules that the options ask for, by their words."""
    from lightning_scaling.advice import Converged, TargetUnreachable

    with failing():
        rules: dict[str, StopRule] = {f"target {loss:g}": TargetUnreachable(loss) for loss in targets or ()}
        if min_gain is not None:
            rules[f"gain below {min_gain:g}"] = Converged(min_gain)
    return rules


def rates_for(
    curve: LossCurve, horizon: int | None, schedule: str | None, warmup: int, whole: LossCurve | None = None
) -> PlannedRates:
    """Return the learning rates of a run: as named, or as the whole log has them, where that is to be assumed."""
    from lightning_scaling.named_schedule import PlannedRates, as_logged, planned_rates

    with failing():
        if horizon is None:
            if schedule is not None:
                raise ValueError("Expected --horizon beside --schedule, got none, so give the planned last step.")
            return PlannedRates(None, "")
        if horizon < max(curve.step, 1):
            raise ValueError(
                f"Expected --horizon to be the planned last step, at or after the last one in the log, "
                f"{thousands(curve.step)}, got {thousands(horizon)}, so give a later one."
            )
        if (schedule is not None or whole is not None) and horizon > _MOST_STEPS:
            raise ValueError(
                f"Expected at most {_MOST_STEPS:g} steps, got {horizon:g}, so check --horizon, and whether the column "
                "of steps counts tokens or time: --step-column names another."
            )
        if schedule is None and whole is not None:
            return as_logged(whole, horizon)
        return planned_rates(curve, horizon, schedule, warmup)
