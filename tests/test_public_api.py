"""The public names are a promise: a change here is a change for users."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest

import lightning_scaling

ROOT = Path(__file__).parents[1]

NAMES = [
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


def test_all() -> None:
    assert lightning_scaling.__all__ == sorted(NAMES)
    assert set(NAMES) <= set(dir(lightning_scaling))


@pytest.mark.parametrize("name", NAMES)
def test_a_public_name_comes_from_its_module(name: str) -> None:
    thing = getattr(lightning_scaling, name)
    assert thing.__name__ == name
    assert thing.__module__.startswith("lightning_scaling.")
    assert getattr(importlib.import_module(thing.__module__), name) is thing
    assert thing.__doc__


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'KaplanNS2'"):
        lightning_scaling.KaplanNS2  # noqa: B018
    assert not hasattr(lightning_scaling, "__wrapped__")


def test_the_version_is_the_same_everywhere() -> None:
    cited = re.search(r"^version: (\S+)$", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited is not None
    assert cited[1] == lightning_scaling.__version__


def test_errors_and_warnings_can_be_caught_together() -> None:
    assert issubclass(lightning_scaling.FitError, lightning_scaling.LightningScalingError)
    assert issubclass(lightning_scaling.ScalingWarning, UserWarning)
    error = lightning_scaling.FitError("Expected a fit, got none, so train on.", result={"windows": 3})
    assert error.result == {"windows": 3}
    assert str(error) == "Expected a fit, got none, so train on."
