"""``lightning-scaling watch``: follow a log that is being written."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lightning_scaling.cli import options as o
from lightning_scaling.cli import output

if TYPE_CHECKING:
    from lightning_scaling.advice import StopRule
    from lightning_scaling.live import LiveForecast
    from lightning_scaling.logfiles import RunLog, Wanted


def watch(
    log: Annotated[Path, typer.Argument(help="Log that is being written: a file, or the folder of the run.")],
    horizon: o.Horizon = None,
    schedule: o.Schedule = None,
    warmup: o.Warmup = 0,
    target: o.Targets = None,
    min_gain: o.MinGain = None,
    interval: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks at the log.")] = 2.0,
    once: Annotated[bool, typer.Option("--once", help="Look once and end.")] = False,
    level: o.Level = 0.9,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print each forecast as JSON in a line, the last one with 'final': true.")
    ] = False,
    step_column: o.StepColumn = None,
    loss_column: o.LossColumn = None,
    lr_column: o.RateColumn = None,
    run: o.RunName = None,
) -> None:
    """Follow a log that is being written, with a live curve and the forecast ahead of it.

    In a terminal the picture is drawn anew as the log grows; in a pipe each change of the advice is a line. It ends
    with the run, at Ctrl-C, or with status 4 where a rule has stood long enough to act: no rule ends the run itself.
    With --json each forecast is a line, the last one too, which says how it ended.
    """
    wanted = o.wanted(step_column, loss_column, lr_column, run)
    follower = _Follower(log, wanted, horizon, schedule, warmup, o.rules_of(target, min_gain), level)
    if once:
        if not follower.look():
            output.say(follower.waiting)
            code = output.NO_FORECAST
        else:
            code = follower.status()
            if not as_json:
                typer.echo(follower.picture())
    else:
        try:
            code = _follow(follower, interval, as_json)
        except KeyboardInterrupt:
            code = output.INTERRUPTED
    if as_json:
        output.print_line(follower.data(code))
    raise typer.Exit(code)


def _follow(follower: _Follower, interval: float, as_json: bool) -> int:
    """Look again and again; return the exit status."""
    if as_json or not sys.stdout.isatty():
        said = ""
        while not follower.over:
            if follower.look():
                if follower.is_new and as_json and not follower.ends:
                    output.print_line(follower.data())
                elif follower.news and not as_json:
                    typer.echo(follower.live.sentence)
            elif follower.waiting != said:
                output.say(said := follower.waiting)
            if follower.live.wants_stop:
                return output.STOP
            if not follower.over:
                time.sleep(interval)
        if not as_json:
            typer.echo(follower.closing())
        return 0
    from rich.console import Console
    from rich.live import Live
    from rich.text import Text

    with Live(Text(follower.waiting), console=Console(highlight=False), auto_refresh=False) as screen:
        while not follower.over:
            if follower.look():
                screen.update(Text(follower.picture()), refresh=True)
            else:
                screen.update(Text(follower.waiting), refresh=True)
            if follower.live.wants_stop:
                return output.STOP
            if not follower.over:
                time.sleep(interval)
    typer.echo(follower.closing())
    return 0


class _Follower:
    """A log and its forecast, renewed where the log has grown."""

    def __init__(
        self,
        path: Path,
        wanted: Wanted,
        horizon: int | None,
        schedule: str | None,
        warmup: int,
        rules: dict[str, StopRule],
        level: float,
    ) -> None:
        from lightning_scaling.live import LiveForecast

        self._path, self._wanted = path, wanted
        self._given, self._schedule, self._warmup = horizon, schedule, warmup
        self._seen: tuple[tuple[str, int, int], ...] = ()
        self.live: LiveForecast = LiveForecast(list(rules.values()), level=level)
        self.has_rules = bool(rules)
        self.log: RunLog | None = None
        self.waiting = f"Waiting for losses in {path}."
        self.news = False
        self.is_new = False

    @property
    def ends(self) -> bool:
        """Whether there is nothing to come after the newest forecast."""
        return self.over or self.live.wants_stop

    @property
    def over(self) -> bool:
        """Whether the run has reached its planned end."""
        return self.log is not None and self.live.horizon is not None and self.log.curve.step >= self.live.horizon

    def look(self) -> bool:
        """Read the log and forecast where it has grown; return whether there is something to show."""
        from lightning_scaling.logfiles import read_log

        self.news = self.is_new = False
        state = _state(self._path)
        if state == self._seen:
            return self.log is not None
        try:
            log = read_log(self._path, self._wanted)
        except ModuleNotFoundError:  # waiting does not install a package
            with output.failing():
                raise
        except (OSError, ValueError) as error:
            if self.log is None:
                self.waiting = f"Waiting for losses in {self._path}: {error}"
            return self.log is not None  # it is being written: look again
        self._seen = state
        if self.log is not None and log.curve.step < self.live.last_step:
            self._begin_again()
        first, self.log = self.log is None, log
        if first or log.curve.step >= self.live.next_step or self.over:
            self._forecast(log)
        return True

    def _forecast(self, log: RunLog) -> None:
        horizon = self._given if self._given is not None else log.planned
        if horizon is not None:
            horizon = max(horizon, log.curve.step)
        rates = o.rates_for(log.curve, horizon, self._schedule, self._warmup)
        self._rates, self.live.horizon, self.live.schedule = rates, horizon, rates.schedule
        with output.failing():
            self.news = self.live.refit(log.curve)
        self.is_new = True

    def _begin_again(self) -> None:
        """Forget what was forecast of a run that was taken up from an old checkpoint."""
        from lightning_scaling.ledger import ForecastLedger

        self.live.ledger = ForecastLedger()

    def data(self, status: int | None = None) -> dict[str, Any]:
        """Return for JSON what is known now; of the last line also how it ended.

        Args:
            status: The exit status, None where there is more to come.
        """
        from lightning_scaling.ledger import recent_error, recent_loss

        found, advice = self.live.forecast, self.live.advice
        if self.log is None or found is None or advice is None:
            data: dict[str, Any] = {"log": None, "waiting": self.waiting}
        else:
            data = {"log": output.log_data(self.log), **output.forecast_data(found, self._rates, advice)}
            data["advice"] |= {"acts": self.live.wants_stop, "words": self.live.sentence}
        data["final"] = status is not None
        if status is not None:
            ended = self.log is not None and self.over and not self.log.curve.n_nonfinite
            curve = self.log.curve if self.log is not None else None
            data |= {
                "status": status,
                "over": ended,
                "ended_at": recent_loss(curve) if ended and curve is not None else None,
                "ended_at_error": recent_error(curve) if ended and curve is not None else None,
            }
        return data

    def picture(self) -> str:
        """Return what is known now: the log, the forecast, the advice and the curve."""
        from lightning_scaling.report.chart import chart

        assert self.log is not None
        found = self.live.forecast
        assert found is not None
        lines = [output.log_text(self.log), "", output.forecast_text(found, self._rates)]
        if self.has_rules:
            lines.append(self.live.sentence)
        lines += ["", chart(self.log.curve, found, width=output.width(), unicode=output.knows_unicode())]
        return "\n".join(lines)

    def closing(self) -> str:
        """Return what was forecast on the way beside what happened."""
        assert self.log is not None
        return self.live.summary(self.log.curve)

    def status(self) -> int:
        """Return the exit status of a single look."""
        from lightning_scaling.advice import Action

        found, advice = self.live.forecast, self.live.advice
        if self.has_rules and advice is not None and advice.action is Action.STOP:
            return output.STOP
        return 0 if found is not None and found.verdict.usable else output.NO_FORECAST


def _state(path: Path) -> tuple[tuple[str, int, int], ...]:
    """Return names, sizes and times of what is at a path, to tell whether it has changed."""
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    found = []
    for file in files:
        try:
            stat = file.stat()
        except OSError:
            continue
        found.append((str(file), stat.st_size, stat.st_mtime_ns))
    return tuple(found)
