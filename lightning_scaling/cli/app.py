"""The application: its commands, and what they have in common."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from lightning_scaling.cli.compare_command import compare
from lightning_scaling.cli.forecast_command import forecast
from lightning_scaling.cli.plan_command import plan
from lightning_scaling.cli.replay_command import replay
from lightning_scaling.cli.report_command import report
from lightning_scaling.cli.runs_command import runs
from lightning_scaling.cli.watch_command import watch

__all__ = ["app"]

_CODES = """\b
Exit status:
  0  done
  1  asked whether to go on, and the answer was not yes
  2  an argument is wrong, or a log or store cannot be read
  3  there is no usable forecast
  4  a rule (--target, --min-gain) says stop
130  interrupted"""

app = typer.Typer(
    name="lightning-scaling",
    help="Forecast where the loss of a training run will end, from the log that it writes.",
    epilog=_CODES,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text in every terminal and pipe
    context_settings={"help_option_names": ["-h", "--help"]},
)

for _command in (forecast, replay, watch, compare, plan, report):
    app.command(epilog=_CODES)(_command)
app.add_typer(runs, name="runs", epilog=_CODES)


@app.callback(invoke_without_command=True)
def _common(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"lightning-scaling {sys.modules['lightning_scaling'].__version__}")
        raise typer.Exit
