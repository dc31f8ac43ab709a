"""What else could be done, in real fits: told at the quarters, and rules for a model too small or data too few."""

from __future__ import annotations

import re
from typing import Any

import pytest
import torch

from lightning_scaling import (
    Alternative,
    ComputeEfficient,
    Overfitting,
    Reason,
    ScalingLawMonitor,
    TargetUnreachable,
)
from lightning_scaling.alternatives import ask
from tests.trainers import QUIET, T, cosine, fit, law, scripted_module, validate, validated_module

pytestmark = QUIET


def hold(module: Any) -> Any:
    """Return an optimizer with a scheduler that holds its rate, which a monitor can replay."""
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    return [optimizer], [
        {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0), "interval": "step"}
    ]


def sentences(caplog: pytest.LogCaptureFixture, monitor: Any, **settings: Any) -> list[str]:
    with caplog.at_level("INFO"):
        fit(monitor, **settings)
    messages = [record.getMessage() for record in caplog.records]
    return [message for message in messages if message.startswith(("Decaying", "Training for"))]


def test_quarters_tell_of_a_decay_now_and_of_nothing_else(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    fits, forecast = [], ask.forecast

    def counted(*arguments: Any, **options: Any) -> Any:
        fits.append(options["horizon"])
        return forecast(*arguments, **options)

    monkeypatch.setattr(ask, "forecast", counted)
    monitor = ScalingLawMonitor()
    assert monitor.alternatives == {}
    said = sentences(caplog, monitor, module=scripted_module(configure=hold))
    told = [re.match(r"Decaying now over (\d+) steps would end at [\d.±]+ instead of", text) for text in said]
    assert [int(found[1]) for found in told if found] == [20, 40, 60]
    assert len(said) == 3
    assert len(fits) == 6  # two at each quarter
    assert list(monitor.alternatives) == ["decay now", "longer"]
    found = monitor.alternatives["decay now"]
    assert isinstance(found, Alternative)
    assert found.planned.step == 300
    assert found.price is not None
    assert found.money is None


def test_with_a_price_longer_runs_are_told_of_too(caplog: pytest.LogCaptureFixture) -> None:
    monitor = ScalingLawMonitor(price_per_hour=36.0)
    said = sentences(caplog, monitor, module=scripted_module(configure=cosine(T)))
    assert len(said) == 3
    assert all(text.startswith("Training for 800 steps would end at") for text in said)
    assert all(text.endswith(" in money more.") for text in said)
    assert monitor.alternatives["longer"].money > 0.0  # type: ignore[operator]


def test_a_run_that_fails_to_be_compared_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "forecast", lambda *a, **k: 1 / 0)
    monitor = ScalingLawMonitor(verbose=False)
    assert fit(monitor).global_step == T
    assert monitor.alternatives == {}
    assert monitor.forecast is not None
    assert monitor.forecast.step == T


def test_a_run_past_its_compute_efficient_loss_is_stopped() -> None:
    monitor = ScalingLawMonitor(stop=ComputeEfficient(), verbose=False)
    runner = fit(monitor, steps=4000, module=scripted_module(configure=hold))
    assert monitor.advice is not None
    assert monitor.advice.reason is Reason.COMPUTE_EFFICIENT
    assert 800 <= runner.global_step < 2500
    assert law(runner.global_step) < 1.11 * 2.0
    assert "compute efficient" in monitor.summary()


def test_a_model_too_small_is_told_of_and_goes_on_where_that_is_advice(caplog: pytest.LogCaptureFixture) -> None:
    monitor = ScalingLawMonitor(advise=ComputeEfficient())
    with caplog.at_level("INFO"):
        runner = fit(monitor, steps=2000, module=scripted_module(configure=hold))
    assert runner.global_step == 2000
    assert monitor.advice is not None
    assert monitor.advice.reason is Reason.COMPUTE_EFFICIENT
    assert monitor.advice.sentence.endswith("a larger model is the better use of compute from here on.")
    assert "a larger model is the better use of compute from here on." in caplog.text
    said = [record.getMessage() for record in caplog.records]
    assert not any("stop" in words for words in said if words.startswith("Step "))


def test_a_rule_that_stops_does_so_beside_one_that_advises() -> None:
    monitor = ScalingLawMonitor(stop=TargetUnreachable(loss=1.0), advise=[ComputeEfficient(0.5)], verbose=False)
    runner = fit(monitor, steps=1000, module=scripted_module(configure=hold))
    assert runner.global_step < 1000
    assert monitor.advice is not None
    assert monitor.advice.reason is Reason.TARGET_UNREACHABLE


def test_a_validation_loss_that_turns_is_told_of_where_that_is_advice() -> None:
    monitor = ScalingLawMonitor("val_loss", advise=Overfitting(), verbose=False)
    turned = validated_module(lambda step: 2.0 + 2.0 * step**-0.5 + 1e-3 * max(step - 300, 0), configure=hold)
    runner = validate(monitor, steps=1000, module=turned)
    assert runner.global_step == 1000
    assert monitor.advice is not None
    assert monitor.advice.reason is Reason.OVERFITTING
    assert "the best checkpoint is" in monitor.advice.sentence
    assert "stop" not in monitor.advice.sentence


def test_a_validation_loss_that_turns_is_stopped() -> None:
    def turns(step: int) -> float:
        return 2.0 + 2.0 * step**-0.5 + 1e-3 * max(step - 300, 0)

    monitor = ScalingLawMonitor("val_loss", stop=Overfitting(), verbose=False)
    runner = validate(monitor, steps=1000, module=validated_module(turns, configure=hold))
    assert monitor.advice is not None
    assert monitor.advice.reason is Reason.OVERFITTING
    assert abs(monitor.advice.evidence["best_step"] - 300) <= 50
    assert 350 < runner.global_step < 800


def test_overfitting_of_a_training_loss_is_refused() -> None:
    with pytest.raises(ValueError, match=r"Expected a validation loss .* ScalingLawMonitor\('val_loss'"):
        ScalingLawMonitor(stop=[ComputeEfficient(), Overfitting()])
    with pytest.raises(ValueError, match=r"Expected a validation loss"):
        ScalingLawMonitor(advise=Overfitting())
    ScalingLawMonitor(stop=Overfitting(D=1e9))
    ScalingLawMonitor("val_loss", stop=Overfitting())


@pytest.mark.parametrize("price", [-1.0, float("nan"), "2", True])
def test_a_bad_price(price: Any) -> None:
    with pytest.raises(ValueError, match="Expected price_per_hour"):
        ScalingLawMonitor(price_per_hour=price)
