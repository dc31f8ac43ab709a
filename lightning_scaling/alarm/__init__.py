"""The break-away alarm: when losses leave their own forecast in a way that noise does not explain."""

from lightning_scaling.alarm.departure import Departure
from lightning_scaling.alarm.watch import Alarm

__all__ = ["Alarm", "Departure"]
