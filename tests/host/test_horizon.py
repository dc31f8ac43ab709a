"""The planned end that is read off a Trainer is where the fit then ends."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning.pytorch import Callback
from lightning.pytorch.callbacks import GradientAccumulationScheduler
from torch.utils.data import DataLoader

from lightning_scaling.host.by_hand import Rhythm
from lightning_scaling.host.calendar import Calendar
from lightning_scaling.host.horizon import planned_end
from tests.trainers import QUIET, REPEATS_A_BATCH, Unsized, loader, scripted_module, trainer, watch

pytestmark = QUIET


class Probe(Callback):
    """Asks for the planned end at the start, after each step of the automatic optimization, and after each epoch."""

    def __init__(self) -> None:
        self.at_start: int | None = None
        self.on_the_way: list[int | None] = []
        self.after_epochs: list[int | None] = []
        self.steps = 0

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        self.at_start = planned_end(trainer, step=trainer.global_step).step

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self.steps = trainer.global_step
        self.on_the_way.append(planned_end(trainer, step=trainer.global_step).step)

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        seen = trainer.fit_loop.epoch_loop.batch_progress.current.processed
        self.after_epochs.append(planned_end(trainer, step=trainer.global_step, batches=seen).step)


@pytest.mark.parametrize(
    ("settings", "steps"),
    [
        ({"max_epochs": 2}, 16),
        ({"max_steps": 5}, 5),
        ({"max_steps": 100, "max_epochs": 2}, 16),
        ({"max_steps": 10, "max_epochs": 2}, 10),
        ({"max_epochs": 3, "accumulate_grad_batches": 3}, 9),
        ({"max_epochs": 2, "limit_train_batches": 0.5}, 8),
        ({"max_epochs": 2, "limit_train_batches": 3, "accumulate_grad_batches": 2}, 4),
        ({"max_epochs": 3, "overfit_batches": 2}, 6),
        ({"max_steps": 7, "accumulate_grad_batches": 3}, 7),
    ],
)
def test_end_is_where_the_fit_ends(settings: dict[str, Any], steps: int) -> None:
    probe = Probe()
    trainer(probe, **settings).fit(scripted_module(), loader(8))
    assert probe.steps == steps
    assert probe.at_start == steps
    assert set(probe.on_the_way) == {steps}


def test_accumulation_that_changes_between_epochs() -> None:
    probe = Probe()
    trainer(probe, GradientAccumulationScheduler({0: 1, 1: 2, 3: 4}), max_epochs=4).fit(scripted_module(), loader(8))
    assert probe.steps == 8 + 4 + 4 + 2
    assert probe.at_start == probe.steps
    assert set(probe.on_the_way) == {probe.steps}


def test_data_without_a_length_is_known_after_one_epoch() -> None:
    probe = Probe()
    trainer(probe, max_epochs=3, accumulate_grad_batches=2).fit(scripted_module(), DataLoader(Unsized(7), batch_size=1))
    assert probe.at_start is None
    assert probe.steps == 12
    assert probe.after_epochs == [12, 12, 12]


def test_data_without_a_length_but_with_a_limit_is_known() -> None:
    probe = Probe()
    fit = trainer(probe, max_epochs=2, limit_train_batches=3)
    fit.fit(scripted_module(), DataLoader(Unsized(7), batch_size=1))
    assert (probe.at_start, probe.steps) == (6, 6)


@pytest.mark.parametrize("settings", [{"max_epochs": -1}, {"max_time": {"hours": 1}}, {}, {"max_epochs": 1000}])
@pytest.mark.filterwarnings("ignore:.*max_epochs. was not set.*")
def test_unknown_end(settings: dict[str, Any]) -> None:
    class Stop(Probe):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            trainer.should_stop = True

    probe = Stop()
    fit = trainer(probe, **settings)
    fit.fit(scripted_module(), loader(8))
    assert probe.at_start is None
    assert planned_end(fit).why


def test_manual_optimization_counts_a_step_of_both_optimizers_once() -> None:
    class Counts(Probe):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            super().on_train_start(trainer, pl_module)
            self.rhythm = Rhythm()
            self.rhythm.note(trainer, 0)

        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            self.steps = trainer.global_step
            self.rhythm.note(trainer, self.steps // 2)
            self.on_the_way.append(planned_end(trainer, step=self.steps // 2, rhythm=self.rhythm).step)

    class Two(type(scripted_module())):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            for optimizer in self.optimizers():
                optimizer.zero_grad()
                self.manual_backward(self.layer(batch).mean())
                optimizer.step()

        def configure_optimizers(self) -> Any:
            return [torch.optim.SGD(self.parameters(), lr=0.1) for _ in range(2)]

    for settings, batches in (({"max_epochs": 2}, 16), ({"max_steps": 28}, 14)):
        probe = Counts()
        trainer(probe, **settings).fit(Two(), loader(8))
        assert probe.steps == 2 * batches  # Lightning's count
        assert probe.at_start is None
        assert probe.on_the_way == [None] * 9 + [batches] * (batches - 9)


@pytest.mark.parametrize(
    ("hook", "at"),
    [
        *(("on_train_batch_end", at) for at in (5, 8, 11, 16)),
        *(("on_validation_end", at) for at in (4, 8, 12, 16)),
        *(("on_train_epoch_end", at) for at in (8, 16)),
    ],
)
def test_resume(tmp_path: Any, hook: str, at: int) -> None:
    class Validated(type(scripted_module())):  # type: ignore[misc]
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            pass

    def save(self: Any, trainer: Any, *args: Any) -> None:
        if trainer.global_step == at:
            trainer.save_checkpoint(tmp_path / "mid.ckpt")

    often = {"max_epochs": 3, "val_check_interval": 0.5}
    trainer(watch(**{hook: save}), **often).fit(Validated(), loader(8), loader(1))
    probe = Probe()
    trainer(probe, **often).fit(Validated(), loader(8), loader(1), ckpt_path=tmp_path / "mid.ckpt")
    assert probe.steps == 24 + (REPEATS_A_BATCH and hook == "on_train_batch_end")
    assert probe.at_start == probe.steps
    assert set(probe.on_the_way) == {probe.steps}
    assert set(probe.after_epochs) == {probe.steps}


def test_calendar_of_a_strategy_that_leaves_the_last_batches_to_the_next_epoch() -> None:
    calendar = Calendar(batches=10, epoch=0, batch=5, changes=((0, 4),), steps_on_last=False)
    batch, epoch, last = calendar.next_steps(3)
    assert batch.tolist() == [8, 4, 8]
    assert epoch.tolist() == [0, 1, 1]
    assert not last.any()


def test_calendar_needs_a_length_to_count_an_epoch() -> None:
    with pytest.raises(ValueError, match="batches per epoch"):
        Calendar(batches=None, epoch=0, batch=0).steps_in_epoch(0)
