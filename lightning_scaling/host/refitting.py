"""Refitting: what happens where it is time to forecast the losses of a run anew."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from lightning_scaling.host.advisor import Advisor
from lightning_scaling.host.herald import Herald
from lightning_scaling.host.losses import Losses
from lightning_scaling.host.memory import Memory
from lightning_scaling.host.series import Series
from lightning_scaling.host.steps import logged_step, may_stop
from lightning_scaling.host.teller import Teller
from lightning_scaling.units import thousands


class Refitting:
    """Forecasts losses that have been fetched, and hands on what comes of it: to the Trainer, the store, other ranks.

    Args:
        losses: The losses of the run.
        teller: Tells what is known of them.
        memory: The store of runs, None where there is none.
        advisor: Compares other ways to go on.
        herald: Tells of losses that have left their forecast.
        across_ranks: Whether rank 0 decides for others, which hear of it with the next fetch.

    Attributes:
        N: Non-embedding parameters, None where not known.
        stop_asked: Whether a rule asks to stop, as far as this rank has heard.
        stop_told: Whether it has been said that the run is being stopped.
    """

    def __init__(
        self,
        losses: Losses,
        teller: Teller,
        memory: Memory | None,
        advisor: Advisor,
        herald: Herald,
        *,
        across_ranks: bool,
    ) -> None:
        self.N: float | None = None
        self.stop_asked = False
        self.stop_told = False
        self._losses = losses
        self._teller = teller
        self._memory = memory
        self._advisor = advisor
        self._herald = herald
        self._across_ranks = across_ranks

    def steps(
        self, trainer: Any, step: int, due: bool | None = None, before: Callable[[], object] = lambda: None
    ) -> None:
        """Forecast the training loss where it is time, and a metric beside it that does not know yet that it broke.

        Args:
            trainer: The Trainer.
            step: Optimizer steps done [steps].
            due: Whether it is time; None: that is found out here.
            before: What is to be done before a forecast that is due.
        """
        losses = self._losses
        self._announce(trainer)
        if losses.breaks_beside():
            self._refit(trainer, losses.main, step, logged_at=logged_step(trainer))
        if losses.steps.is_due() if due is None else due:
            before()
            self._refit(trainer, losses.steps, step, logged_at=logged_step(trainer))

    def metric(self, trainer: Any, step: int) -> None:
        """Forecast the logged metric where it is time."""
        self._announce(trainer)
        if self._losses.metric.is_due():
            self._refit(trainer, self._losses.metric, step, logged_at=logged_step(trainer))

    def last(self, trainer: Any, step: int, *, settled: bool, stopped: bool) -> None:
        """Forecast what no forecast knows yet of a run that is over.

        Args:
            trainer: The Trainer.
            step: Optimizer steps done [steps].
            settled: Whether its end has become known only now.
            stopped: Whether a rule has ended it: the forecast that asked for it stays the last one.
        """
        self._announce(trainer)
        for series in (self._losses.beside, self._losses.main):
            news = series.is_behind() or (settled and len(series.live.ledger) > 0)
            if news and (series is self._losses.beside or not stopped):
                self._refit(trainer, series, step, logged_at=max(logged_step(trainer) - 1, 0))

    def _announce(self, trainer: Any) -> None:
        """Tell of losses that have left their forecast since the last look."""
        for series in (self._losses.main, self._losses.beside):
            for departure in series.live.alarm.news():
                self._teller.say(trainer, self._herald.tell(departure, series.name))

    def _refit(self, trainer: Any, series: Series, step: int, *, logged_at: int) -> None:
        losses, main, teller = self._losses, self._losses.main.live, self._teller
        curve = losses.curve(series, self.N)
        if series is losses.main:
            main.held_by = _held_by(trainer)
        changed = series.live.refit(curve)
        teller.log(trainer, series, logged_at)
        if self._across_ranks:
            losses.steps.recorder.note = [float(main.wants_stop), 1.0, *main.values(), *losses.beside.live.values()]
        else:
            self.stop_asked = main.wants_stop
            teller.offer(trainer, series, series.live.values())
        if series is losses.main:
            teller.show(trainer)
            teller.draw(trainer, curve, logged_at)
            if self._memory is not None:
                self._memory.keep(main, curve)
            more = self._advisor.renew(main, curve, step=step) if main.at_quarter else ""
            told = teller.say(trainer, losses.sentence() if changed else "")
            self.stop_told = main.wants_stop and not main.held_by and (told or self.stop_told)
            teller.say(trainer, losses.named(more) if more else "")


def _held_by(trainer: Any) -> str:
    """Return what a stop would have to wait for, nothing where it may act."""
    if may_stop(trainer, epochs_done=trainer.current_epoch):
        return ""
    steps, epochs = trainer.min_steps, trainer.min_epochs
    return " and ".join(
        f"{name} = {thousands(least)}"
        for name, least, done in (
            ("min_steps", steps, trainer.global_step),
            ("min_epochs", epochs, trainer.current_epoch),
        )
        if least and done < least
    )
