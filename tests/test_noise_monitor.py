"""The noise scale through a real Trainer: known problems, no harm, no waiting."""

from __future__ import annotations

import copy
import importlib
import math
import pickle
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from lightning.pytorch.loggers import CSVLogger
from torch.utils._python_dispatch import TorchDispatchMode

from lightning_scaling import ScalingWarning
from lightning_scaling.gradients.norms import BackwardNorms, ExampleNorms
from lightning_scaling.noise_monitor import GradientNoiseMonitor
from tests.known_noise import G_SQ, TRACE, D, Linear, Normalised, known_loader
from tests.trainers import PACKAGES, QUIET, loader, read_csv, scripted_module, trainer

pytestmark = QUIET


def fit(monitor: Any, module: Any = None, *, batches: int = 400, batch_size: int = 4, **settings: Any) -> Any:
    runner = trainer(*([] if monitor is None else [monitor]), **({"max_epochs": 1} | settings))
    runner.fit(Linear() if module is None else module, known_loader(batches, batch_size=batch_size))
    return runner


def quiet(every_n_steps: int = 1, **settings: Any) -> GradientNoiseMonitor:
    return GradientNoiseMonitor(every_n_steps, **({"window": 1000.0, "verbose": False} | settings))


def test_micro_batches_within_10_percent() -> None:
    monitor = quiet()
    fit(monitor, batches=1200, accumulate_grad_batches=4)
    noise = monitor.noise_scale
    assert noise.n_samples == 300
    assert noise.G_squared == pytest.approx(G_SQ, rel=0.1)
    assert noise.trace_Sigma == pytest.approx(TRACE, rel=0.1)
    assert noise.B_simple.mid == pytest.approx(TRACE / G_SQ, rel=0.1)
    assert noise.B_simple.low <= TRACE / G_SQ <= noise.B_simple.high
    assert str(monitor.batch_size) == "16 samples per step"


@pytest.mark.parametrize("settings", [{}, {"accumulate_grad_batches": 2}])
def test_examples_in_a_norm_layer_within_10_percent(settings: dict[str, Any]) -> None:
    monitor = quiet(source="examples")
    fit(monitor, Normalised(), batches=400, **settings)
    noise, truth = monitor.noise_scale, Normalised.trace() / Normalised.G_sq()
    assert noise.G_squared == pytest.approx(Normalised.G_sq(), rel=0.1)
    assert noise.trace_Sigma == pytest.approx(Normalised.trace(), rel=0.1)
    assert noise.B_simple.mid == pytest.approx(truth, rel=0.1)


def test_auto_takes_batches_where_there_are_several() -> None:
    for module, settings, expected in (
        (Normalised(), {}, Normalised.trace() / Normalised.G_sq()),
        (Linear(), {"accumulate_grad_batches": 2}, TRACE / G_SQ),
    ):
        monitor = quiet(every_n_steps=2)
        fit(monitor, module, batches=400, **settings)
        assert monitor.noise_scale.B_simple.mid == pytest.approx(expected, rel=0.2)


def test_short_windows_clipping_and_changing_accumulation_change_nothing() -> None:
    monitor = quiet()
    runner = trainer(
        monitor, GradientAccumulationScheduler({0: 2, 2: 3}), max_epochs=4, gradient_clip_val=1e-3, max_steps=-1
    )
    runner.fit(Linear(), known_loader(100))
    assert monitor.noise_scale.n_samples == 2 * 50 + 2 * 33  # the last batch of 100 is alone in its window
    assert monitor.noise_scale.B_simple.mid == pytest.approx(TRACE / G_SQ, rel=0.15)


def test_bfloat16() -> None:
    monitor = quiet()
    fit(monitor, Normalised(), precision="bf16-mixed")
    assert monitor.noise_scale.B_simple.mid == pytest.approx(Normalised.trace() / Normalised.G_sq(), rel=0.1)


@pytest.mark.parametrize("source", ["batches", "examples"])
def test_training_is_the_same_to_the_bit(source: str) -> None:
    weights = []
    for monitor in (None, quiet(every_n_steps=3, source=source)):
        torch.manual_seed(0)
        module = Normalised()
        fit(monitor, module, batches=40, accumulate_grad_batches=2)
        weights.append(module.norm.weight.detach().clone())
    assert torch.equal(*weights)


def test_numbers_go_to_loggers_and_other_callbacks(tmp_path: Path) -> None:
    monitor = quiet(every_n_steps=2, name="noise")
    runner = fit(monitor, batches=400, accumulate_grad_batches=2, logger=CSVLogger(tmp_path, name="", version=0))
    rows = [row for row in read_csv(tmp_path / "version_0/metrics.csv") if row["noise/B_simple"]]
    assert [int(row["step"]) for row in rows] == [31, 63, 95, 127, 159, 191, 199]
    assert float(rows[-1]["noise/B_simple"]) == pytest.approx(float(monitor.noise_scale.B_simple.mid))
    assert math.isnan(float(rows[0]["noise/B_simple"]))  # fetched one flush later
    low, mid, high = (float(runner.callback_metrics[f"noise/B_simple{end}"]) for end in ("_low", "", "_high"))
    assert low < mid < high
    assert monitor.state_key == "GradientNoiseMonitor[noise]"


def test_what_was_found_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        fit(quiet(verbose=True), batches=200, accumulate_grad_batches=2)
    said = [r.getMessage() for r in caplog.records if r.getMessage().startswith("GradientNoiseMonitor: B_simple = ")]
    assert len(said) == 1
    assert "Would a larger batch save time?" in said[0]
    assert "heuristic" in said[0]


def test_nothing_is_said_to_be_known_before_it_is() -> None:
    monitor = quiet()
    assert "too few" in monitor.advice()
    assert monitor.trade() is None
    fit(monitor, batches=4, accumulate_grad_batches=2)
    assert monitor.noise_scale.n_samples == 2
    assert "too few" in monitor.advice()


@pytest.mark.parametrize(
    ("settings", "module", "why"),
    [
        ({}, Linear(), "without normalisation layers"),
        ({"source": "batches"}, Linear(), "one batch per step"),
    ],
)
def test_a_run_that_cannot_be_measured_is_declined(settings: dict[str, Any], module: Any, why: str) -> None:
    monitor = quiet(**settings)
    with pytest.warns(ScalingWarning, match=why):
        runner = fit(monitor, module, batches=10)
    assert runner.global_step == 10
    assert monitor.noise_scale.n_samples == 0


def test_manual_optimization_is_declined() -> None:
    class Manual(Linear):
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            optimizer: Any = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    with pytest.warns(ScalingWarning, match="manual optimization"):
        assert fit(quiet(), Manual(), batches=10).global_step == 10


@pytest.mark.parametrize(
    ("where", "what"),
    [
        (BackwardNorms, "start"),
        (BackwardNorms, "before_backward"),
        (BackwardNorms, "_take"),
        (BackwardNorms, "after_backward"),
        (BackwardNorms, "finish"),
        (ExampleNorms, "_passed"),
        (ExampleNorms, "_add"),
    ],
)
def test_failures_are_warned_of_once_and_leave_nothing(monkeypatch: pytest.MonkeyPatch, where: type, what: str) -> None:
    original, calls = getattr(where, what), []

    def fails(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) <= 3:
            return original(self, *args, **kwargs)
        if what.startswith("_") and what != "_add":
            self._error = RuntimeError("only here")
            return None
        raise RuntimeError("only here")

    monkeypatch.setattr(where, what, fails)
    module = Normalised()
    monitor = quiet(source="batches" if where is BackwardNorms else "examples")
    with pytest.warns(ScalingWarning, match="only here") as caught:
        runner = fit(monitor, module, batches=40, accumulate_grad_batches=2)
    assert len([w for w in caught if w.category is ScalingWarning]) == 1
    assert runner.global_step == 20
    assert not any(p._backward_hooks for p in module.parameters())
    assert not module.norm._forward_hooks


def test_a_batch_that_cannot_be_counted_and_a_broken_state_are_survived() -> None:
    class Odd(Linear):
        def transfer_batch_to_device(self, batch: Any, device: Any, dataloader_idx: int) -> Any:
            return type("Opaque", (), {"__getitem__": lambda self, i: batch[0]})()

    with pytest.warns(ScalingWarning, match="holds a tensor"):
        assert fit(quiet(), Odd(), batches=10, accumulate_grad_batches=2).global_step == 5
    monitor = quiet()
    monitor.load_state_dict({"version": 1, "noise_scale": {"version": 1}})
    with pytest.warns(ScalingWarning, match="readable state"):
        fit(monitor, batches=10, accumulate_grad_batches=2)
    assert monitor.noise_scale.n_samples == 5
    for state in ({"version": 7}, [1, 2], "hello"):
        with pytest.warns(ScalingWarning, match="version 1"):
            quiet().load_state_dict(state)


def test_training_that_breaks_leaves_nothing_hooked() -> None:
    class Breaks(Normalised):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            if batch_idx == 7:
                raise RuntimeError("the user's own bug")
            return loss

    module = Breaks()
    with pytest.raises(RuntimeError, match="own bug"):
        fit(quiet(), module)
    assert not module.norm._forward_hooks


def test_skipped_steps_and_frozen_parameters() -> None:
    class Skips(Linear):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.weights[0].requires_grad_(batch_idx < 20)
            return None if batch_idx in (4, 5, 9) else super().training_step(batch, batch_idx)

    monitor = quiet()
    with warnings.catch_warnings():  # Lightning says once in a process that nothing was returned
        warnings.filterwarnings("ignore", ".*returned `None`.*")
        fit(monitor, Skips(), batches=40, accumulate_grad_batches=2)
    assert monitor.noise_scale.n_samples == 18  # not the step without a batch, nor that of a single one


def test_parameters_that_the_optimizer_does_not_zero_are_left_out() -> None:
    class Partly(Linear):
        def configure_optimizers(self) -> Any:
            return torch.optim.SGD([self.weights[0], self.weights[1]], lr=1e-3)

    monitor = quiet()
    fit(monitor, Partly(), accumulate_grad_batches=2)
    assert monitor.noise_scale.G_squared == pytest.approx(G_SQ * 2 / 3, rel=0.1)
    assert monitor.noise_scale.trace_Sigma == pytest.approx(TRACE * 2 / 3, rel=0.1)


def test_resumed_from_a_checkpoint(tmp_path: Path) -> None:
    whole, first, second = quiet(), quiet(), quiet()
    fit(whole, batches=64, accumulate_grad_batches=2, max_epochs=2)
    runner = fit(first, batches=64, accumulate_grad_batches=2, max_epochs=1)
    runner.save_checkpoint(tmp_path / "half.ckpt")
    state = torch.load(tmp_path / "half.ckpt", weights_only=True)["callbacks"]["GradientNoiseMonitor"]
    assert state["noise_scale"]["n_samples"] == 32
    runner = trainer(second, max_epochs=2, accumulate_grad_batches=2)
    runner.fit(Linear(), known_loader(64), ckpt_path=tmp_path / "half.ckpt")
    assert second.noise_scale.n_samples == whole.noise_scale.n_samples == 64
    assert second.noise_scale.B_simple.mid == pytest.approx(whole.noise_scale.B_simple.mid, rel=1e-3)


def test_a_fit_anew_begins_anew() -> None:
    monitor = quiet()
    for _ in range(2):
        fit(monitor, batches=40, accumulate_grad_batches=2)
        assert monitor.noise_scale.n_samples == 20
    for twin in (copy.deepcopy(monitor), pickle.loads(pickle.dumps(monitor))):
        fit(twin, batches=40, accumulate_grad_batches=2)
        assert twin.noise_scale.n_samples == 20


def test_a_checkpoint_that_is_tested_between_two_fits_is_passed_by(tmp_path: Path) -> None:
    class Tested(Linear):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            pass

    monitor = quiet()
    runner = fit(monitor, batches=40, accumulate_grad_batches=2)
    runner.save_checkpoint(tmp_path / "then.ckpt")
    runner.test(Tested(), known_loader(2), ckpt_path=tmp_path / "then.ckpt", verbose=False)
    assert monitor.noise_scale.n_samples == 20
    fit(monitor, batches=40, accumulate_grad_batches=2)
    assert monitor.noise_scale.n_samples == 20


def test_nothing_is_done_in_a_dry_run() -> None:
    monitor = quiet()
    fit(monitor, Normalised(), fast_dev_run=3)
    assert monitor.noise_scale.n_samples == 0


@pytest.mark.parametrize("package", PACKAGES)
def test_at_home_in_both_packages(package: str) -> None:
    monitor = quiet()
    runner = trainer(monitor, package=package, max_steps=20, accumulate_grad_batches=2)
    runner.fit(scripted_module(package=package), loader(40, batch_size=2))
    assert monitor.noise_scale.n_samples == 20


def test_no_step_waits_for_the_device() -> None:
    """Values are asked for as often as without the monitor, but for its few fetches."""

    class Asked(TorchDispatchMode):
        def __init__(self) -> None:
            super().__init__()
            self.n = 0

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.n += func is torch.ops.aten._local_scalar_dense.default
            return func(*args, **(kwargs or {}))

    counts = []
    for monitor in (None, quiet(source="batches"), quiet(source="examples")):
        with Asked() as asked:
            fit(monitor, Normalised(), batches=60, accumulate_grad_batches=2)
        counts.append(asked.n)
        assert monitor is None or monitor.noise_scale.n_samples == 30
    assert counts[0] <= counts[1] <= counts[0] + 4 * 5  # callback_metrics of two fetches
    assert counts[2] == counts[1]


def test_tokens_are_counted_as_tokens() -> None:
    class Words(Normalised):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            z = torch.ones(*batch[0].shape, D // 3)
            z[..., ::2] = -1.0
            return (batch[0][..., None] * self.norm(z)).sum(dim=(1, 2)).mean()

    tokens = torch.randint(0, 9, (256, 5), generator=torch.Generator().manual_seed(0))
    data = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(tokens), batch_size=8)
    found = {}
    for source in ("examples", "batches"):
        monitor = quiet(source=source)
        trainer(monitor, max_epochs=4, accumulate_grad_batches=2).fit(Words(), data)
        found[source] = monitor.noise_scale
        assert str(monitor.batch_size) == "80 tokens per step"
    # The gradients of a sample are ± the sum of its tokens: mean 5 · 4, variance 5 · 60 / 9. In tokens, 5 times that.
    truth = 5.0 * (5.0 * 60.0 / 9.0) / 20.0**2
    for noise in found.values():
        assert noise.unit == "tokens"
        assert noise.B_simple.mid == pytest.approx(truth, rel=0.25)
    assert "tokens" in str(found["batches"])


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"every_n_steps": 0}, ValueError),
        ({"every_n_steps": 2.5}, TypeError),
        ({"every_n_steps": True}, TypeError),
        ({"source": "ranks"}, ValueError),
        ({"window": 2}, ValueError),
        ({"window": "long"}, TypeError),
        ({"level": 90}, ValueError),
        ({"level": None}, TypeError),
        ({"name": ""}, ValueError),
    ],
)
def test_wrong_arguments_say_what_was_expected(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error, match=r"Expected .*got"):
        GradientNoiseMonitor(**arguments)


# https://github.com/Lightning-AI/pytorch-lightning/issues/21900
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_configured_from_yaml(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py"])
    (tmp_path / "c.yaml").write_text(
        "trainer:\n  logger: false\n  callbacks:\n"
        "    - class_path: lightning_scaling.noise_monitor.GradientNoiseMonitor\n"
        "      init_args: {every_n_steps: 5, source: examples}\n"
    )
    cli = importlib.import_module("lightning.pytorch.cli").LightningCLI(
        Linear,
        run=False,
        args=["--config", str(tmp_path / "c.yaml")],
        save_config_callback=None,
        seed_everything_default=False,
    )
    assert any(isinstance(c, GradientNoiseMonitor) for c in cli.trainer.callbacks)
