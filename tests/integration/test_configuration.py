"""Arguments, and the same from YAML."""

from __future__ import annotations

import importlib
import math
from pathlib import Path
from typing import Any

import pytest

from lightning_scaling import (
    ComputeEfficient,
    Converged,
    Diverged,
    ScalingLawMonitor,
    TargetUnreachable,
)
from tests.trainers import PACKAGES, QUIET, loader, validated_module

pytestmark = QUIET


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"monitor": ""}, ValueError),
        ({"monitor": TargetUnreachable(1.0)}, TypeError),
        ({"monitor": "scaling/loss"}, ValueError),
        ({"monitor": "val/final_loss", "name": "val"}, ValueError),
        ({"stop": "now"}, TypeError),
        ({"stop": [TargetUnreachable(1.0), 3]}, TypeError),
        ({"advise": "now"}, TypeError),
        ({"horizon": 0}, ValueError),
        ({"horizon": 10.5}, TypeError),
        ({"horizon": True}, TypeError),
        ({"horizon": 3, "lr_schedule": [1.0, 1.0]}, ValueError),
        ({"lr_schedule": [1.0, math.nan]}, ValueError),
        ({"lr_schedule": [0.0, 0.0]}, ValueError),
        ({"lr_schedule": []}, ValueError),
        ({"lr_schedule": ["fast"]}, TypeError),
        ({"N": -1.0}, ValueError),
        ({"N": math.inf}, ValueError),
        ({"tokens_per_step": 0}, ValueError),
        ({"level": 90}, ValueError),
        ({"level": 1.0}, ValueError),
        ({"refits": 3}, ValueError),
        ({"refits": None}, TypeError),
        ({"name": ""}, ValueError),
    ],
)
def test_wrong_arguments_say_what_was_expected(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"Expected .*got"):
        ScalingLawMonitor(**arguments)


# https://github.com/Lightning-AI/pytorch-lightning/issues/21900
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("package", PACKAGES)
def test_configured_from_yaml(tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])
    cli = importlib.import_module(f"{package}.cli")
    config = tmp_path / "config.yaml"
    config.write_text(
        """
trainer:
  max_steps: 60
  accelerator: cpu
  devices: 1
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
  val_check_interval: 20
  callbacks:
    - class_path: lightning_scaling.ScalingLawMonitor
      init_args:
        monitor: val_loss
        horizon: 500
        level: 0.8
        verbose: false
        stop:
          class_path: lightning_scaling.TargetUnreachable
          init_args: {loss: 1.9}
    - class_path: lightning_scaling.ScalingLawMonitor
      init_args:
        name: other
        lr_schedule: [1.0, 0.5]
        verbose: false
        stop:
          - class_path: lightning_scaling.Converged
            init_args: {min_gain: 0.01}
          - class_path: lightning_scaling.Diverged
        advise:
          class_path: lightning_scaling.ComputeEfficient
          init_args: {irreducible: 1.8}
"""
    )
    module = type(validated_module(package=package))
    parsed = cli.LightningCLI(
        module, run=False, args=["--config", str(config)], save_config_callback=None, seed_everything_default=False
    )
    one, other = (c for c in parsed.trainer.callbacks if isinstance(c, ScalingLawMonitor))
    assert one._settings.rules == (TargetUnreachable(loss=1.9),)
    assert (one._settings.horizon, one._settings.level) == (500, 0.8)
    assert other._settings.rules == (Converged(min_gain=0.01), Diverged())
    assert other._settings.advisers == (ComputeEfficient(irreducible=1.8),)
    assert other._settings.horizon == 2
    parsed.trainer.fit(parsed.model, loader(60), loader(1))
    assert one._settings.monitor == "val_loss"
    assert [record.step for record in one.history] == [20, 40, 60]
    assert one.history[-1].horizon == 500
    assert other._settings.monitor is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.parametrize("package", PACKAGES)
def test_configured_by_class_path_on_the_command_line(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])
    cli = importlib.import_module(f"{package}.cli")
    args = [
        "--trainer.callbacks+=lightning_scaling.ScalingLawMonitor",
        "--trainer.callbacks.level=0.8",
        "--trainer.callbacks.stop=lightning_scaling.TargetUnreachable",
        "--trainer.callbacks.stop.loss=1.9",
        "--trainer.logger=false",
    ]
    module = type(validated_module(package=package))
    parsed = cli.LightningCLI(module, run=False, args=args, save_config_callback=None, seed_everything_default=False)
    (monitor,) = (c for c in parsed.trainer.callbacks if isinstance(c, ScalingLawMonitor))
    assert monitor._settings.rules == (TargetUnreachable(loss=1.9),)
    assert monitor._settings.level == 0.8
