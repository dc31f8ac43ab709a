"""Fit the loss curve of a running Lightning training live, and forecast where it will end.

The law is L(N, S) of Kaplan et al. 2020 (arXiv:2001.08361). Put a `ScalingLawMonitor` into the callbacks of a Trainer;
or, without Lightning, build a `LossCurve` and ask `forecast`. The maths needs NumPy and SciPy only.

Public names load on first use, so that the import is fast and works where torch or Lightning are absent.
"""

import importlib
import sys
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lightning_scaling.advice import (
        Action,
        Advice,
        ComputeEfficient,
        Converged,
        Diverged,
        Overfitting,
        Reason,
        StopRule,
        TargetUnreachable,
        advise,
    )
    from lightning_scaling.alarm import Departure
    from lightning_scaling.alternatives import Alternative, Price, decay_now, longer
    from lightning_scaling.batch_size.critical import fit_critical_batch
    from lightning_scaling.batch_size.noise_scale import NoiseScale
    from lightning_scaling.batch_size.trade import batch_trade
    from lightning_scaling.callback import ScalingLawMonitor
    from lightning_scaling.curve import LossCurve
    from lightning_scaling.errors import FitError, LightningScalingError, ScalingWarning, StoreError
    from lightning_scaling.forecast import Forecast, forecast
    from lightning_scaling.interval import Interval
    from lightning_scaling.joint import JointFit, fit_joint
    from lightning_scaling.laws import (
        CriticalBatch,
        Frontier,
        HoffmannND,
        KaplanC,
        KaplanD,
        KaplanN,
        KaplanND,
        KaplanNS,
        S_min,
    )
    from lightning_scaling.loop import LoopMonitor
    from lightning_scaling.noise_monitor import GradientNoiseMonitor
    from lightning_scaling.own_laws import OwnLaws, own_laws
    from lightning_scaling.planner import Plan, PlanLaws, plan
    from lightning_scaling.recording.recorder import CurveRecorder
    from lightning_scaling.report.write import write_report
    from lightning_scaling.schedule import LRSchedule
    from lightning_scaling.store import RunStore, StoredRun
    from lightning_scaling.store.example import example_store
    from lightning_scaling.verdict import Verdict
    from lightning_scaling.windows import CurveBuilder

__version__ = "0.1.0"

__all__ = [
    "Action",
    "Advice",
    "Alternative",
    "ComputeEfficient",
    "Converged",
    "CriticalBatch",
    "CurveBuilder",
    "CurveRecorder",
    "Departure",
    "Diverged",
    "FitError",
    "Forecast",
    "Frontier",
    "GradientNoiseMonitor",
    "HoffmannND",
    "Interval",
    "JointFit",
    "KaplanC",
    "KaplanD",
    "KaplanN",
    "KaplanND",
    "KaplanNS",
    "LRSchedule",
    "LightningScalingError",
    "LoopMonitor",
    "LossCurve",
    "NoiseScale",
    "Overfitting",
    "OwnLaws",
    "Plan",
    "PlanLaws",
    "Price",
    "Reason",
    "RunStore",
    "S_min",
    "ScalingLawMonitor",
    "ScalingWarning",
    "StopRule",
    "StoreError",
    "StoredRun",
    "TargetUnreachable",
    "Verdict",
    "advise",
    "batch_trade",
    "decay_now",
    "example_store",
    "fit_critical_batch",
    "fit_joint",
    "forecast",
    "longer",
    "own_laws",
    "plan",
    "write_report",
]

_MODULE_OF = {
    "Action": "advice",
    "Advice": "advice",
    "Alternative": "alternatives",
    "ComputeEfficient": "advice",
    "Converged": "advice",
    "CriticalBatch": "laws",
    "CurveBuilder": "windows",
    "CurveRecorder": "recording.recorder",
    "Departure": "alarm",
    "Diverged": "advice",
    "FitError": "errors",
    "Forecast": "forecast",
    "Frontier": "laws",
    "GradientNoiseMonitor": "noise_monitor",
    "HoffmannND": "laws",
    "Interval": "interval",
    "JointFit": "joint",
    "KaplanC": "laws",
    "KaplanD": "laws",
    "KaplanN": "laws",
    "KaplanND": "laws",
    "KaplanNS": "laws",
    "LRSchedule": "schedule",
    "LightningScalingError": "errors",
    "LoopMonitor": "loop",
    "LossCurve": "curve",
    "NoiseScale": "batch_size.noise_scale",
    "Overfitting": "advice",
    "OwnLaws": "own_laws",
    "Plan": "planner",
    "PlanLaws": "planner",
    "Price": "alternatives",
    "Reason": "advice",
    "RunStore": "store",
    "S_min": "laws",
    "ScalingLawMonitor": "callback",
    "ScalingWarning": "errors",
    "StopRule": "advice",
    "StoreError": "errors",
    "StoredRun": "store",
    "TargetUnreachable": "advice",
    "Verdict": "verdict",
    "advise": "advice",
    "batch_trade": "batch_size.trade",
    "decay_now": "alternatives",
    "example_store": "store.example",
    "fit_critical_batch": "batch_size.critical",
    "fit_joint": "joint",
    "forecast": "forecast",
    "longer": "alternatives",
    "own_laws": "own_laws",
    "plan": "planner",
    "write_report": "report.write",
}


def __getattr__(name: str) -> object:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(f"{__name__}.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # from now on found without coming here
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


class _Package(ModuleType):
    """This package's module: a public name is never replaced by a submodule of the same name.

    Importing a submodule sets it as an attribute of its package. For `forecast`, a function that lives in the module
    ``forecast``, the order of imports would decide which of the two a user gets; here it is always the function. The
    module stays importable as ``from lightning_scaling.forecast import ...``.
    """

    def __setattr__(self, name: str, value: object) -> None:
        if name in _MODULE_OF and isinstance(value, ModuleType):
            value = getattr(value, name)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package
