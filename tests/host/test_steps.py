"""StepTracker where a real Trainer would need a GPU, and the small questions beside it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from lightning_scaling.host.steps import StepTracker, is_half_precision, logged_step, may_stop


def standing(**more: Any) -> SimpleNamespace:
    known = {
        "global_step": 0,
        "accumulate_grad_batches": 1,
        "optimizers": [1],
        "precision_plugin": SimpleNamespace(),
        "fit_loop": SimpleNamespace(epoch_loop=SimpleNamespace()),
        "min_steps": None,
        "min_epochs": None,
    }
    return SimpleNamespace(**known | more)


def test_manual_loss_under_fp16_is_freed_of_its_scale() -> None:
    trainer = standing(precision_plugin=SimpleNamespace(scaler=SimpleNamespace(_scale=torch.tensor(1024.0))))
    tracker = StepTracker()
    tracker.start(trainer, SimpleNamespace(automatic_optimization=False), None)
    tracker.before_backward(trainer, torch.tensor(2048.0))
    tracker.before_backward(trainer, torch.tensor(99.0))  # the second backward of a batch is another optimizer's
    trainer.global_step = 1
    assert tracker.batch_end(trainer, {})
    assert tracker.loss is not None
    assert tracker.loss.item() == 2.0


def test_rate_that_is_a_tensor_is_copied() -> None:
    rate = torch.tensor(0.5)
    tracker = StepTracker()
    tracker.before_optimizer_step(SimpleNamespace(param_groups=[{"lr": rate}]))
    rate.fill_(0.25)
    assert float(tracker.lr) == 0.5  # type: ignore[arg-type]


def test_manual_run_that_is_joined_late_counts_steps_of_all_optimizers_once() -> None:
    tracker = StepTracker()
    manual = SimpleNamespace(automatic_optimization=False)
    tracker.start(standing(global_step=20, optimizers=[1, 2]), manual, None)
    assert tracker.step == 10
    tracker.start(standing(global_step=20, optimizers=[1, 2]), manual, 7)
    assert tracker.step == 7


def test_logged_step_is_lightnings_own_count() -> None:
    loop = SimpleNamespace(epoch_loop=SimpleNamespace(_batches_that_stepped=49))
    assert logged_step(standing(global_step=50, fit_loop=loop)) == 49
    assert logged_step(standing(global_step=50)) == 50  # an unknown Lightning


@pytest.mark.parametrize(
    ("minimum", "allowed"),
    [
        ({}, True),
        ({"min_steps": 10}, True),
        ({"min_steps": 11}, False),
        ({"min_epochs": 2}, True),
        ({"min_epochs": 3}, False),
    ],
)
def test_may_stop(minimum: dict[str, int], allowed: bool) -> None:
    assert may_stop(standing(global_step=10, **minimum), epochs_done=2) is allowed


def test_half_precision() -> None:
    assert is_half_precision(torch.zeros((), dtype=torch.bfloat16))
    assert not is_half_precision(torch.zeros(()))
