"""Faults: training ends as it would have without the monitor, to the bit, and what was known before is known after."""

from __future__ import annotations

import errno
import math
import signal
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch.optim import lr_scheduler as schedulers

from lightning_scaling import (
    Converged,
    Diverged,
    ScalingLawMonitor,
    ScalingWarning,
    TargetUnreachable,
)
from lightning_scaling.curve import LossCurve
from lightning_scaling.host import (
    batch,
    course,
    horizon,
    losses,
    lr,
    metrics,
    outlets,
    pace,
    plan,
    refitting,
    series,
    session,
    size,
    steps,
    teller,
)
from lightning_scaling.host.calendar import Calendar
from lightning_scaling.ledger import ForecastLedger
from lightning_scaling.live import LiveForecast
from lightning_scaling.recording import fetching, loads, recorder, transfer
from lightning_scaling.recording.fetching import Fetching
from lightning_scaling.recording.recorder import CurveRecorder
from lightning_scaling.windows import CurveBuilder
from tests.trainers import (
    PLAIN_CHECKPOINTS,
    QUIET,
    cosine,
    law,
    loader,
    scripted_module,
    trainer,
    watch,
)

pytestmark = [*QUIET, pytest.mark.filterwarnings("ignore:.*returned .None.*")]

STEPS, REFITS = 100, 12


class Learner(type(scripted_module())):  # type: ignore[misc]
    """A module that learns from noise of torch's own generator, so that a draw too many, or a step too few, shows."""

    def __init__(self, factor: Callable[[int], float | None] = lambda step: 1.0, configure: Any = None) -> None:
        super().__init__()
        self.factor, self.configure = factor, configure
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.layer = torch.nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        step = self.trainer.global_step + 1
        factor = self.factor(step)
        fit = (self.layer(batch + torch.randn(1, 2)) - 1.0).pow(2).mean() + law(step)
        return None if factor is None else fit * factor

    def configure_optimizers(self) -> Any:
        if self.configure is not None:
            return self.configure(self)
        return torch.optim.SGD(self.parameters(), lr=0.01)


class Validated(Learner):
    """A learner that logs a validation loss."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", law(self.trainer.global_step or 1))


def outcome(
    make: Callable[[], Any], *callbacks: Any, steps: int = STEPS, raises: Any = (), **settings: Any
) -> dict[str, Any]:
    """Fit a module, which may raise what is expected; return all by which two fits can be told apart."""
    torch.manual_seed(7)
    module, runner = make(), trainer(*callbacks, **{"max_steps": steps} | settings)
    validated = settings.get("val_check_interval") is not None
    error: BaseException | None = None
    try:
        runner.fit(module, loader(steps), loader(1) if validated else None)
    except raises as raised:
        error = raised
    return {
        "weights": [p.detach().numpy().tobytes() for p in module.parameters()],  # bytes: NaN is NaN
        "steps": runner.global_step,
        "epoch": runner.current_epoch,
        "stopped": runner.should_stop,
        "error": (type(error), str(error)),
        "random": torch.get_rng_state().tolist(),
        "rates": [group["lr"] for optimizer in runner.optimizers for group in optimizer.param_groups],
    }


def with_and_without(make: Callable[[], Any], *others: Any, monitor: Any = None, **settings: Any) -> ScalingLawMonitor:
    """Fit with a monitor and without; return the monitor once both have ended alike."""
    monitor = monitor or ScalingLawMonitor(refits=REFITS, verbose=False)
    made = [other() if callable(other) else other for other in others]
    ours = outcome(make, monitor, *made, **settings)
    theirs = outcome(make, *[other() if callable(other) else other for other in others], **settings)
    assert ours == theirs
    return monitor


@pytest.mark.parametrize(("value", "lasts"), [(math.nan, 2), (math.nan, 20), (math.inf, STEPS), (-math.inf, 2)])
def test_nan_and_inf(value: float, lasts: int) -> None:
    monitor = with_and_without(lambda: Learner(lambda s: value if 50 < s <= 50 + lasts else 1.0))
    before = [r for r in monitor.history if r.step <= 50]
    assert any(r.verdict.usable for r in before)
    assert monitor.curve.S[-1] >= 49  # the weights are NaN from there on, and so is the loss
    assert monitor.curve.step == STEPS
    assert "held the loss" not in monitor.summary()


def test_spikes_of_a_hundred_times_the_loss() -> None:
    def spiky(s: int) -> float:
        return law(s) * (100.0 if s in (60, 90, 91, 120) else 1.0)

    monitor = ScalingLawMonitor(stop=Diverged(), refits=REFITS, verbose=False)
    with_and_without(lambda: scripted_module(spiky), monitor=monitor, steps=200)
    assert monitor.curve.step == 200
    final = monitor.history[-1].final_loss
    assert final.low < law(200) < final.high
    assert monitor.history[-1].verdict.usable


@pytest.mark.parametrize("often", [1, 3])
def test_a_training_step_that_returns_nothing(often: int) -> None:
    monitor = with_and_without(lambda: Learner(lambda s: None if s % often == 0 else 1.0))
    assert len(monitor.curve) == 0 if often == 1 else monitor.curve.S[:4].tolist() == [1, 2, 4, 5]


class Throws(CSVLogger):
    """A logger that fails from its nth call on."""

    def __init__(self, folder: Path, good: int) -> None:
        super().__init__(folder)
        self.good = good

    def log_metrics(self, metrics: Any, step: int | None = None) -> None:
        self.good -= 1
        if self.good < 0:
            raise ConnectionError("no route to the dashboard")


@pytest.mark.parametrize("good", [0, 3])
def test_a_logger_that_throws(tmp_path: Path, good: int) -> None:
    with pytest.warns(ScalingWarning, match="no route"):
        monitor = with_and_without(Learner, logger=Throws(tmp_path, good))
    assert monitor.history[-1].step == STEPS  # the forecasts go on
    assert monitor.forecast is not None


@pytest.mark.parametrize("hook", ["__deepcopy__", "get_lr"])
def test_a_scheduler_that_throws_when_copied(hook: str) -> None:
    def fails(self: Any, *args: Any) -> Any:
        if hook == "get_lr" and isinstance(self.optimizer, torch.optim.SGD):
            return schedulers.ExponentialLR.get_lr(self)
        raise RuntimeError("no copies of me")

    Fragile = type("Fragile", (schedulers.ExponentialLR,), {hook: fails})

    def configure(module: Any) -> Any:
        optimizer = torch.optim.SGD(module.parameters(), lr=0.01)
        return [optimizer], [{"scheduler": Fragile(optimizer, 0.999), "interval": "step"}]

    monitor = with_and_without(lambda: Learner(configure=configure))
    assert monitor.forecast is not None
    assert not monitor.forecast.schedule_known


class FullDisk(TorchCheckpointIO):
    """A disk that takes a number of checkpoints and then no more."""

    def __init__(self, room: int) -> None:
        self.room = room

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        self.room -= 1
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().save_checkpoint(*args, **kwargs)


def test_a_full_disk_at_the_checkpoint_ends_the_run_as_it_would(tmp_path: Path) -> None:
    monitor, whole = (ScalingLawMonitor(refits=REFITS, verbose=False) for _ in range(2))
    ends = []
    for callbacks in ([monitor], []):
        keep = ModelCheckpoint(tmp_path, every_n_train_steps=20, save_top_k=-1)
        ends.append(
            outcome(Learner, *callbacks, keep, plugins=[FullDisk(2)], enable_checkpointing=True, raises=OSError)
        )
    assert ends[0] == ends[1]
    assert ends[0]["error"][0] is OSError
    assert ends[0]["steps"] == 60
    outcome(Learner, whole)
    known = [r for r in whole.history if r.step <= 60]
    assert list(monitor.history[: len(known)]) == known
    assert monitor.curve.step == 60
    # What is on the disk goes on, and what is in memory can still be saved elsewhere.
    saved = torch.load(tmp_path / "epoch=0-step=40.ckpt", weights_only=PLAIN_CHECKPOINTS)["callbacks"][
        "ScalingLawMonitor"
    ]
    assert saved["step"] == 40
    assert monitor.state_dict()["step"] == 60


def test_a_full_disk_that_the_script_survives_changes_nothing() -> None:
    def tries(self: Any, runner: Any, *args: Any) -> None:
        if runner.global_step % 20 == 0:
            with pytest.raises(OSError, match="No space"):
                runner.save_checkpoint("never.ckpt")

    monitor = with_and_without(Learner, lambda: watch(on_train_batch_end=tries), plugins=[FullDisk(0)])
    untroubled = ScalingLawMonitor(refits=REFITS, verbose=False)
    outcome(Learner, untroubled)
    assert monitor.history == untroubled.history
    assert monitor.state_dict() == untroubled.state_dict()


@pytest.mark.filterwarnings("ignore:Detected KeyboardInterrupt")  # of Lightning before 2.5
@pytest.mark.parametrize("error", [RuntimeError("out of memory"), KeyboardInterrupt(), SystemExit(3)], ids=repr)
def test_an_error_of_the_script(error: BaseException) -> None:
    def breaks(s: int) -> float:
        if s == 60:
            raise error
        return 1.0

    monitor = with_and_without(lambda: Learner(breaks), raises=(RuntimeError, SystemExit))
    assert monitor.curve.step == 59
    assert monitor.history[-1].step == 59
    assert monitor.state_dict()["step"] == 59


def test_sigterm() -> None:
    def terminated(self: Any, runner: Any, *args: Any) -> None:
        if runner.global_step == 60:
            signal.raise_signal(signal.SIGTERM)

    monitor = with_and_without(Learner, lambda: watch(on_train_batch_start=terminated), raises=BaseException)
    assert monitor.curve.step >= 60
    assert monitor.history[-1].step == monitor.curve.step


def test_a_stop_of_another_callback() -> None:
    class Improves(Learner):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.log("loss", float(self.trainer.global_step))
            return loss

    monitor = with_and_without(
        Improves, lambda: EarlyStopping("loss", patience=2, check_on_train_epoch_end=True), max_epochs=9, steps=30,
        max_steps=-1,
    )  # fmt: skip
    assert monitor.curve.step == 90
    assert "The run ended at step 90 of 270" in monitor.summary()


_known: dict[str, Any] = {}


def methods(owner: type, without: str = "") -> list[tuple[Any, str]]:
    """Return (class, name) of all that a class can do, but for what is named."""
    return [(owner, name) for name, x in vars(owner).items() if callable(x) and name not in without.split()]


#: What the hooks call in a run with a validation loss.
IN_A_RUN = [
    *methods(session.Session, "curve summary mute count _stop"),
    *methods(course.Course, "settle"),
    *methods(refitting.Refitting),
    *methods(teller.Teller, "_hand_over"),
    *methods(Fetching),
    *methods(steps.StepTracker, "before_backward"),
    *methods(CurveRecorder, "curve discard load_state_dict set_batch_size _reduce _heard_of"),
    *methods(LiveForecast, "stopped due_after _acts_at _agrees overrule load_state_dict"),
    *methods(losses.Losses, "find forecasts sentence named set_batch_size load_state_dict reasons_to_overrule"),
    *methods(metrics.LoggedMetric, "load_state_dict"),
    *methods(outlets.Outlets, "log_picture shows_pictures _writer"),
    *((CurveBuilder, name) for name in ("extend", "curve", "state_dict", "__init__")),
    *((ForecastLedger, name) for name in ("append", "table", "state_dict", "__len__")),
    *((series.Series, name) for name in ("curve", "is_behind", "is_due", "state_dict")),
    *((session, name) for name in ("step_size", "model_size", "is_half_precision", "logged_by_others", "recall")),
    *((session, name) for name in ("Losses", "Course", "Refitting", "Teller", "Fetching")),
    *((course, name) for name in ("make_plan", "planned_end", "past_rates")),
    *((refitting, "logged_step"), (teller, "describe_size")),
    *((batch, name) for name in ("batch_size", "data_ranks")),
    *((fetching, "next_fetch"), (recorder, "Load"), (loads, "Fetch"), (transfer, "_number")),
    *((plan, name) for name in ("rates_ahead", "describe_rates")),
    *((horizon, "time_limit"), (lr, "_replay"), (Calendar, "of"), (pace.Pace, "end")),
    *((LossCurve, "__init__"), (batch, "_inputs"), (size, "_parameters")),
]
#: What they call besides where a run is resumed after a stop and is about to be stopped again.
IN_A_STOP = [
    (session.Session, "_stop"),
    (session, "may_stop"),
    (LiveForecast, "_acts_at"),
    (LiveForecast, "overrule"),
    (LiveForecast, "load_state_dict"),
    (losses.Losses, "load_state_dict"),
    (CurveRecorder, "load_state_dict"),
]


def named(where: tuple[Any, str]) -> str:
    return f"{where[0].__name__.rpartition('.')[2]}.{where[1]}"


class Broken:
    """Fails whenever it is called, and knows that it was."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.calls += 1
        raise RuntimeError("ours is broken")


@pytest.mark.parametrize("where", IN_A_RUN, ids=named)
def test_whatever_of_ours_fails_at_every_call(where: tuple[Any, str], monkeypatch: pytest.MonkeyPatch) -> None:
    make = lambda: Validated(configure=cosine(12))  # noqa: E731
    settings = {"val_check_interval": 3, "num_sanity_val_steps": 0, "limit_train_batches": 6}
    if not _known:  # the outcome without a monitor
        _known.update(outcome(make, steps=12, **settings))
    fails = Broken()
    monkeypatch.setattr(*where, lambda *args, **kwargs: fails())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        monitor = ScalingLawMonitor("val_loss", stop=Diverged())
        assert outcome(make, monitor, steps=12, **settings) == _known
        monitor.state_dict()
    assert fails.calls
    ours = [w for w in caught if w.category is ScalingWarning]
    assert len(ours) <= 2
    assert all("broken" in str(w.message) for w in ours)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of a run that a rule has stopped."""
    runner = trainer(ScalingLawMonitor(stop=TargetUnreachable(loss=-9.0), verbose=False), max_steps=200)
    runner.fit(Learner(), loader(200))
    assert runner.global_step < 100
    path = tmp_path_factory.mktemp("stopped") / "stopped.ckpt"
    runner.save_checkpoint(path)
    return path


@pytest.mark.parametrize("where", IN_A_STOP, ids=named)
def test_whatever_of_ours_fails_where_a_run_is_stopped_and_resumed(
    where: tuple[Any, str], stopped: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = Broken()
    monkeypatch.setattr(*where, lambda *args, **kwargs: fails())
    monitor = ScalingLawMonitor(stop=[TargetUnreachable(loss=-9.0), Converged(min_gain=99.0)])
    runner = trainer(monitor, max_steps=200)
    with pytest.warns(ScalingWarning, match="broken"):
        runner.fit(Learner(), loader(200), ckpt_path=stopped)
    assert fails.calls
    assert runner.global_step == 200 or where[1] in ("overrule", "load_state_dict")  # nothing known, and a new start


def test_the_engine_fails_once_and_what_was_known_is_saved_and_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lightning_scaling.live as live

    forecast, calls = live.forecast, []

    def fails(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > 6:
            raise RuntimeError("engine on fire")
        return forecast(*args, **kwargs)

    monkeypatch.setattr(live, "forecast", fails)
    first, second = (ScalingLawMonitor(refits=REFITS, verbose=False) for _ in range(2))
    runner = trainer(first, max_steps=STEPS)
    with pytest.warns(ScalingWarning, match="engine on fire"):
        runner.fit(Learner(), loader(2 * STEPS))
    runner.save_checkpoint(tmp_path / "after.ckpt")
    monkeypatch.undo()
    resumed = trainer(second, max_steps=2 * STEPS)
    resumed.fit(Learner(), loader(2 * STEPS), ckpt_path=tmp_path / "after.ckpt")
    assert second.history[:6] == first.history
    assert second.curve.step == second.history[-1].step == 2 * STEPS
