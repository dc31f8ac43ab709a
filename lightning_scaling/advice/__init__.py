"""Advice: stop rules as pure functions of a Forecast. No Trainer, no clock.

`TargetUnreachable`, `Converged` and `Diverged` are for any run, `ComputeEfficient` and `Overfitting` ask whether the
model is too small for its compute and the data too few for the model. `advise` asks several rules at once.
"""

from lightning_scaling.advice.base import Action, Advice, Reason, StopRule
from lightning_scaling.advice.choice import advise
from lightning_scaling.advice.compute import ComputeEfficient
from lightning_scaling.advice.overfitting import Overfitting
from lightning_scaling.advice.rules import EARLIEST, Converged, Diverged, TargetUnreachable

__all__ = [
    "EARLIEST",
    "Action",
    "Advice",
    "ComputeEfficient",
    "Converged",
    "Diverged",
    "Overfitting",
    "Reason",
    "StopRule",
    "TargetUnreachable",
    "advise",
]
