"""Which logged metric is found, which of its values are taken, and when they are forecast from."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_scaling import ScalingWarning
from lightning_scaling.host.metrics import LoggedMetric, find_validation_loss
from lightning_scaling.live import LiveForecast
from tests.untouchable import Untouchable, untouchable


def metric(name: str | None = "val_loss", refits: int = 40) -> LoggedMetric:
    return LoggedMetric(name, LiveForecast(refits=refits), refits=refits)


def taken(series: LoggedMetric) -> list[tuple[int, float]]:
    series.fetch(0)
    curve = series.curve(None)
    return [(int(s), float(x)) for s, x in zip(curve.S, curve.L, strict=True)]


@pytest.mark.parametrize(
    ("keys", "found"),
    [
        (["val_loss"], "val_loss"),
        (["train_loss", "val/loss", "val_acc"], "val/loss"),
        (["Valid_Loss"], "Valid_Loss"),
        (["validation_loss", "validation/loss"], "validation/loss"),  # of one length: by the alphabet
        (["eval_loss", "eval/loss_per_token"], "eval_loss"),
        (["val/nll_loss", "val/l1_loss"], "val/l1_loss"),
        (["val_kl_loss", "val_loss"], "val_loss"),
        (["val_loss/dataloader_idx_1", "val_loss/dataloader_idx_0"], "val_loss/dataloader_idx_0"),
        (["value_loss", "train/val", "loss", "test_loss", "evaluate_loss", "val_lossy", "my_val_loss"], None),
        ([], None),
    ],
)
def test_a_validation_loss_is_known_by_its_name(keys: list[str], found: str | None) -> None:
    assert find_validation_loss(keys) == found
    assert find_validation_loss(keys[::-1]) == found


def test_only_what_is_renewed_is_taken() -> None:
    series = metric()
    logged = {"val_loss": torch.tensor(3.0)}
    series.take(logged, 10, 0.1)
    series.take(logged, 15, 0.1)
    logged["val_loss"] = logged["val_loss"].detach()  # what Lightning shows of an old value at the next look
    series.take(logged, 20, 0.1)
    logged["val_loss"] = torch.tensor(3.0)
    series.take(logged, 30, 0.1)
    series.take({}, 40, 0.1)
    assert taken(series) == [(10, 3.0), (30, 3.0)]
    assert series.curve(None).lr == pytest.approx(0.1)


def test_what_was_there_before_a_validation_is_not_of_it() -> None:
    series = metric()
    logged = {"val_loss": torch.tensor(9.0)}  # a training step's
    series.note(logged)
    series.take(logged, 10, None)
    series.note(logged)
    series.take({"val_loss": torch.tensor(3.0)}, 20, None)
    series.take(logged, 30, None)  # at the end of the epoch it is what the epoch has logged
    assert taken(series) == [(20, 3.0), (30, 9.0)]


def test_one_value_per_step_and_none_before_the_first() -> None:
    series = metric()
    for step, value in ((0, 1000.0), (10, 3.0), (10, 2.0), (20, 1.0)):
        series.take({"val_loss": torch.tensor(value)}, step, None)
    assert taken(series) == [(10, 3.0), (20, 1.0)]


def test_numbers_are_taken_too_and_nothing_else() -> None:
    series = metric()
    for step, value in ((10, 3.0), (20, 2), (30, "low"), (40, None), (50, torch.tensor(1.0))):
        series.take({"val_loss": value}, step, None)
    assert taken(series) == [(10, 3.0), (20, 2.0), (50, 1.0)]


def test_taking_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Untouchable, "guarded", True)
    series = metric()
    for step in (10, 20):
        logged = {"val_loss": untouchable(1.0 / step)}
        series.note(logged)
        series.take(logged | {"val_loss": untouchable(2.0 / step)}, step, untouchable(0.1))
    assert series.is_fresh
    with pytest.raises(AssertionError, match="waits"):
        series.fetch(0)


def test_a_value_that_changes_in_place_afterwards_is_kept() -> None:
    series = metric()
    value = torch.tensor(3.0)
    series.take({"val_loss": value}, 10, None)
    value.fill_(7.0)
    assert taken(series) == [(10, 3.0)]


def test_a_tensor_without_memory_counts_as_renewed() -> None:
    class Elsewhere(Tensor):
        def data_ptr(self) -> int:
            raise RuntimeError("no storage")

    series = metric()
    value = torch.tensor(3.0).as_subclass(Elsewhere)
    series.take({"val_loss": value}, 10, None)
    series.take({"val_loss": value}, 20, None)
    assert [step for step, _ in taken(series)] == [10, 20]


def test_the_first_values_are_all_forecast_from_then_as_planned() -> None:
    series = metric(refits=8)
    plan = LiveForecast(refits=8)
    plan.plan(1000, None)
    series.live.adopt(plan)
    fitted = []
    for step in range(10, 1001, 10):
        series.take({"val_loss": torch.tensor(2.0 + step**-0.5)}, step, None)
        series.fetch(0)
        if series.is_due():
            fitted.append(step)
            series.live.refit(series.curve(None))
        assert not series.is_due()  # without a new value there is nothing to forecast
    assert fitted[:8] == list(range(10, 90, 10))
    assert fitted[8:] == [120, 250, 500, 750, 1000]


def test_a_loss_that_breaks_is_looked_at_before_its_time() -> None:
    series = metric(refits=4)
    for step in range(10, 100, 10):
        series.take({"val_loss": torch.tensor(2.0)}, step, None)
        series.fetch(0)
        if series.is_due():
            series.live.refit(series.curve(None))
    series.live.next_step = 10_000
    due = []
    for step in (100, 110, 120):
        series.take({"val_loss": torch.tensor(torch.nan)}, step, None)
        series.fetch(0)
        due.append(series.is_due())
    assert due == [False, False, True]


def complaints(there: dict[str, Any], *ends: Any, validates: bool = True) -> list[str]:
    """Return what is said of a metric that is not there, after such and such has ended."""
    series = metric("val_los")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for after in ends:
            series.complain(there, after, validates=validates)
    return [str(w.message) for w in caught if w.category is ScalingWarning]


def test_a_metric_that_is_never_there_is_warned_of_once() -> None:
    there: dict[str, Any] = {"val_loss": torch.tensor(1.0), "acc": torch.tensor(1.0)}
    validations = ["validation"] * 10
    assert complaints(there, *validations[1:], "epoch") == []
    (said,) = complaints(there, *validations, "validation", "epoch", "run")
    assert said.startswith("Expected a metric 'val_los' in callback_metrics, got acc, val_loss, so")
    assert complaints(there, "validation", "epoch") == []
    assert len(complaints(there, "validation", "epoch", "validation")) == 1
    assert len(complaints(there, "validation", "run")) == 1
    assert complaints(there, "epoch", "epoch", "epoch", "run") == []  # before the first validation
    assert complaints(there, "epoch", validates=False) == []
    assert len(complaints(there, "epoch", "epoch", validates=False)) == 1
    (said,) = complaints({}, "run", validates=False)
    assert "got none at all" in said
