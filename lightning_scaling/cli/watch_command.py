"""``lightning-scaling watch``: follow a log that is being written."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

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
    step_column: o.StepColumn = None,
    loss_column: o.LossColumn = None,
    lr_column: o.RateColumn = None,
    run: o.RunName = None,
) -> None:
    """Follow a log that is being written, with a live curve and the forecast ahead of it.

    In a terminal the picture is drawn anew as the log grows; in a pipe each change of the advice is a line. It ends
    with the run, at Ctrl-C, or with status 4 where a rule has stood long enough to act: no rule ends the run itself.
    """
    wanted = o.wanted(step_column, loss_column, lr_column, run)
    follower = _Follower(log, wanted, horizon, schedule, warmup, o.rules_of(target, min_gain), level)
    if once:
        if not follower.look():
            output.say(follower.waiting)
            raise typer.Exit(output.NO_FORECAST)
        typer.echo(follower.picture())
        raise typer.Exit(follower.status())
    try:
        code = _follow(follower, interval)
    except KeyboardInterrupt:
        code = 130
    raise typer.Exit(code)


def _follow(follower: _Follower, interval: float) -> int:
    """Look again and again; return the exit status."""
    if not sys.stdout.isatty():
        said = ""
        while not follower.over:
            if follower.look():
                if follower.news:
                    typer.echo(follower.live.sentence)
            elif follower.waiting != said:
                output.say(said := follower.waiting)
            if follower.live.wants_stop:
                return output.STOP
            if not follower.over:
                time.sleep(interval)
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

    @property
    def over(self) -> bool:
        """Whether the run has reached its planned end."""
        return self.log is not None and self.live.horizon is not None and self.log.curve.step >= self.live.horizon

    def look(self) -> bool:
        """Read the log and forecast where it has grown; return whether there is something to show."""
        from lightning_scaling.logfiles import read_log

        self.news = False
        state = _state(self._path)
        if state == self._seen:
            return self.log is not None
        try:
            log = read_log(self._path, self._wanted)
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
        self.news = self.live.refit(log.curve)

    def _begin_again(self) -> None:
        """Forget what was forecast of a run that was taken up from an old checkpoint."""
        from lightning_scaling.ledger import ForecastLedger

        self.live.ledger = ForecastLedger()

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
