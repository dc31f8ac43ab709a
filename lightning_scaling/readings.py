"""Readings: what can be read off a monitor, whichever loop it watches."""

from __future__ import annotations

from lightning_scaling.advice import Advice
from lightning_scaling.alarm import Departure
from lightning_scaling.forecast import Forecast
from lightning_scaling.ledger import ForecastRecord
from lightning_scaling.live import METRICS, LiveForecast

__all__ = ["Readings"]


class Readings:
    """The newest forecast of a `LiveForecast` in the forms that people and programs want."""

    _live: LiveForecast

    @property
    def forecast(self) -> Forecast | None:
        """The newest forecast, None before the first."""
        return self._live.forecast

    @property
    def advice(self) -> Advice | None:
        """The newest advice, None before the first forecast."""
        return self._live.advice

    @property
    def alarm(self) -> Departure | None:
        """The newest departure of the loss from its own forecast, None where there was none."""
        return self._live.departure

    @property
    def history(self) -> tuple[ForecastRecord, ...]:
        """All forecasts so far, oldest first."""
        return self._live.ledger.records

    @property
    def reading(self) -> str | None:
        """The forecast end for a progress bar, for example ``"1.873±0.021"``; None before there is something to say."""
        return self._live.reading()

    @property
    def values(self) -> dict[str, float]:
        """The numbers for a logger, by name: ``final_loss``, ``final_loss_low``, …; NaN while not known."""
        return dict(zip(METRICS, self._live.values(), strict=True))
