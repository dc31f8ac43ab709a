"""The zero-code door: off unless asked, cheap while off, and never the reason that a Trainer cannot be made."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest

from lightning_scaling import ScalingWarning, autoload
from lightning_scaling.guest import GuestMonitor

ROOT = Path(__file__).parents[1]

TRAIN = """
import importlib, json, sys, warnings
import torch
from torch.utils.data import DataLoader
warnings.filterwarnings("ignore", message=".*(LeafSpec|does not have many workers|smaller than the logging).*")

for name in ("lightning.pytorch", "pytorch_lightning"):
    pl = importlib.import_module(name)

    class Model(pl.LightningModule):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(2, 1)

        def training_step(self, batch, batch_idx):
            return self.layer(batch).mean() * 0.0 + 2.0 + 6.0 * (self.trainer.global_step + 1) ** -0.5

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.1)

    for own in json.loads(sys.argv[1]):
        mine = []
        if own:
            from lightning_scaling import ScalingLawMonitor
            mine = [ScalingLawMonitor(level=0.5, verbose=False)]
        trainer = pl.Trainer(
            max_steps=100, accelerator="cpu", devices=1, logger=False, enable_checkpointing=False,
            enable_progress_bar=False, enable_model_summary=False, callbacks=mine,
        )
        trainer.fit(Model(), DataLoader(torch.zeros(100, 2)))
        forecasts = [c.forecast for c in trainer.callbacks if hasattr(c, "forecast")]
        print(json.dumps({
            "own": own,
            "callbacks": [type(c).__name__ for c in trainer.callbacks if hasattr(c, "forecast")],
            "forecasts": [None if f is None else [f.level, f.final_loss.mid] for f in forecasts],
            "asked": "lightning_scaling.autoload" in sys.modules,
            "loaded": sorted(m for m in sys.modules if m.startswith("lightning_scaling.")),
        }))
"""


def entry_points() -> dict[str, dict[str, str]]:
    tomllib = pytest.importorskip("tomllib")  # Python 3.11
    found: dict[str, dict[str, str]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["entry-points"]
    return found


@pytest.fixture
def train(tmp_path: Path) -> Any:
    """Return a function that runs a training script in an environment where this package is installed."""
    installed = tmp_path / "site" / "lightning_scaling-0.0.0.dist-info"
    installed.mkdir(parents=True)
    (installed / "METADATA").write_text("Metadata-Version: 2.1\nName: lightning-scaling\nVersion: 0.0.0\n")
    lines = []
    for group, points in entry_points().items():
        lines += [f"[{group}]", *(f"{name} = {target}" for name, target in points.items())]
    (installed / "entry_points.txt").write_text("\n".join(lines))
    script = tmp_path / "train.py"
    script.write_text(TRAIN)

    def run(*own: bool, **variables: str) -> tuple[list[dict[str, Any]], str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("LIGHTNING_SCALING")}
        paths = {"PYTHONPATH": f"{installed.parent}{os.pathsep}{ROOT}", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [sys.executable, str(script), json.dumps(own)],
            env=kept | paths | variables, capture_output=True, text=True, timeout=180, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-3000:]
        reports = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
        assert len(reports) == 2 * len(own)
        return reports, done.stdout + done.stderr

    return run


def test_with_the_variable_every_trainer_has_one_monitor_that_speaks(train: Any) -> None:
    reports, printed = train(False, True, LIGHTNING_SCALING="1", LIGHTNING_SCALING_ARGS='{"level": 0.8}')
    end = pytest.approx(2.0 + 6.0 * 99**-0.5, rel=0.01)
    for report in reports:
        if report["own"]:  # the script's own one is not verbose
            assert report["callbacks"] == ["ScalingLawMonitor", "GuestMonitor"]
            assert report["forecasts"] == [[0.5, end], None]
        else:
            assert report["callbacks"] == ["GuestMonitor"]
            assert report["forecasts"] == [[0.8, end]]
    assert printed.count("Forecasts of the loss at step 100, and what happened") == 2


def test_without_the_variable_nothing_is_added_and_nothing_is_imported(train: Any) -> None:
    for report in train(False, LIGHTNING_SCALING="0", LIGHTNING_SCALING_ARGS="not even read")[0]:
        assert report["asked"]  # Lightning did come to our door
        assert report["callbacks"] == []
        assert report["loaded"] == ["lightning_scaling.autoload"]


@pytest.mark.parametrize("value", ["", "0", "false", "False", " OFF ", "no", None])
def test_off(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv(autoload.SWITCH, raising=False)
    if value is not None:
        monkeypatch.setenv(autoload.SWITCH, value)
    monkeypatch.setenv(autoload.ARGUMENTS, "not even read")
    assert autoload.callbacks() == []


@pytest.mark.parametrize("value", ["1", "true", "ON", "yes"])
def test_on(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv(autoload.SWITCH, value)
    monkeypatch.setenv(autoload.ARGUMENTS, '{"level": 0.8, "verbose": false, "horizon": 500, "name": "other"}')
    (monitor,) = autoload.callbacks()
    assert isinstance(monitor, GuestMonitor)
    assert (monitor._settings.level, monitor._settings.verbose, monitor._settings.horizon) == (0.8, False, 500)
    assert monitor._settings.rules == ()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("{level: 0.8}", "to be JSON, got '{level: 0.8}'"),
        ("[0.8]", "to be a JSON object"),
        ('{"levle": 0.8}', "got levle, so choose from horizon"),
        ('{"stop": "Diverged"}', "got stop, so choose"),
        ('{"level": 80}', "level between 0 and 1, got 80"),
        ('{"refits": "many"}', "refits to be a whole number"),
        ('{"lr_schedule": {}}', "lr_schedule"),
    ],
)
def test_wrong_arguments_are_warned_of_and_left_out(monkeypatch: pytest.MonkeyPatch, arguments: str, said: str) -> None:
    monkeypatch.setenv(autoload.SWITCH, "1")
    monkeypatch.setenv(autoload.ARGUMENTS, arguments)
    with pytest.warns(ScalingWarning, match=said.replace("{", r"\{")):
        (monitor,) = autoload.callbacks()
    assert monitor._settings.level == 0.9


def test_where_warnings_are_errors_they_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(autoload.SWITCH, "1")
    monkeypatch.setenv(autoload.ARGUMENTS, "{level: 0.8}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(autoload.callbacks()) == 1
    assert capsys.readouterr().err.count("ScalingWarning: Expected LIGHTNING_SCALING_ARGS to be JSON") == 1


def test_a_monitor_that_cannot_be_made_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(autoload.SWITCH, "1")
    monkeypatch.delenv(autoload.ARGUMENTS, raising=False)
    monkeypatch.setitem(sys.modules, "lightning_scaling.guest", None)  # importing it fails
    with pytest.warns(ScalingWarning, match="Expected to add a ScalingLawMonitor, got ModuleNotFoundError"):
        assert autoload.callbacks() == []


def test_both_packages_find_the_door() -> None:
    assert set(entry_points()) == {"lightning.pytorch.callbacks_factory", "pytorch_lightning.callbacks_factory"}
    for points in entry_points().values():
        for target in points.values():
            module, _, name = target.partition(":")
            assert getattr(importlib.import_module(module), name) is autoload.callbacks
