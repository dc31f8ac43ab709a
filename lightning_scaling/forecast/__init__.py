"""Forecasts: a loss curve in, where its loss will land, how sure that is and what it is worth out."""

from lightning_scaling.forecast.ask import Store, forecast
from lightning_scaling.forecast.projection import Forecast

__all__ = ["Forecast", "Store", "forecast"]
