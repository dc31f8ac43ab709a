"""A loss that leaves its forecast in a real Trainer: who hears of it, and what becomes of a run whose hearer fails."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from lightning_scaling import Departure, LoopMonitor, ScalingLawMonitor, ScalingWarning
from tests.trainers import QUIET, REPEATS_A_BATCH, cosine, fit, law, loader, scripted_module, trainer, watch

pytestmark = QUIET

STEPS, AT = 1000, 620
LOG = "lightning_scaling"


def shifted(step: int) -> float:
    """The law, and from a step on 5 times the noise more."""
    return law(step) + 0.1 * (step > AT)


def module(loss: Any) -> Any:
    return scripted_module(loss, configure=cosine(STEPS))


def test_a_shift_is_logged_told_and_handed_on_within_a_fiftieth_of_the_run(
    caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    heard: list[tuple[int, Departure]] = []
    monitor = ScalingLawMonitor(on_departure=lambda d: heard.append((runner.global_step, d)))
    runner = trainer(monitor, max_steps=STEPS)
    with caplog.at_level(logging.INFO):
        runner.fit(module(shifted), loader(STEPS))
    ((when, departure),) = heard
    assert abs(departure.step - AT) <= 0.01 * STEPS
    assert AT < when <= AT + 0.02 * STEPS
    assert departure.upwards
    assert departure.loss - departure.expected == pytest.approx(0.1, abs=0.05)
    assert departure.seconds_ago > 0.0
    (record,) = [r for r in caplog.records if r.name == LOG]
    assert (record.levelno, record.getMessage()) == (logging.WARNING, str(departure))
    assert record.getMessage().startswith("train_loss left its forecast at step 6")
    assert monitor.alarm is not None
    assert (monitor.alarm.step, monitor.alarm.sigma) == (departure.step, departure.sigma)


def test_a_clean_run_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Departure] = []
    monitor = ScalingLawMonitor(on_departure=heard.append, verbose=False)
    with caplog.at_level(logging.INFO):
        fit(monitor, steps=STEPS, module=module(law))
    assert not heard
    assert monitor.alarm is None
    assert not [r for r in caplog.records if r.name == LOG]


def test_a_hearer_that_fails_is_warned_of_once_and_the_run_goes_on() -> None:
    def fails(departure: Departure) -> None:
        raise RuntimeError("no network")

    def twice(step: int) -> float:
        return shifted(step) + 0.3 * (step > 820)

    monitor = ScalingLawMonitor(on_departure=fails, verbose=False)
    with pytest.warns(ScalingWarning, match="Expected on_departure to take a Departure, got RuntimeError") as warned:
        runner = fit(monitor, steps=STEPS, module=module(twice))
    assert runner.global_step == STEPS
    assert len([w for w in warned if w.category is ScalingWarning]) == 1
    assert monitor.alarm is not None
    assert monitor.alarm.step > 800  # it was called again
    assert monitor.history[-1].step == STEPS


@pytest.mark.skipif(REPEATS_A_BATCH, reason="this Lightning does not go on where it was, but a batch before")
@pytest.mark.parametrize("at", [AT + 3, AT + 17])
def test_a_resumed_run_gives_the_same_alarm(tmp_path: Path, at: int) -> None:
    path, heard = tmp_path / "mid.ckpt", []
    saver = watch(on_train_batch_end=lambda self, t, *a: t.save_checkpoint(path) if t.global_step == at else None)
    whole = ScalingLawMonitor(verbose=False)
    fit(whole, saver, steps=STEPS, module=module(shifted))
    rest = ScalingLawMonitor(verbose=False, on_departure=heard.append)
    trainer(rest, max_steps=STEPS).fit(module(shifted), loader(STEPS), ckpt_path=path)
    assert whole.alarm is not None
    assert rest.alarm == whole.alarm
    assert len(heard) <= 1  # told before the checkpoint, or after it, never twice


def test_a_loop_of_ones_own_hears_of_it_too(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[Departure] = []
    told: list[str] = []
    monitor = LoopMonitor(horizon=STEPS, lr_schedule=[0.1] * STEPS, tell=told.append, on_departure=heard.append)
    for step in range(1, STEPS + 1):
        monitor.step(shifted(step) + 0.02 * ((step * 0.618034) % 1.0 - 0.5) * 3.46)
    (departure,) = heard
    assert monitor.alarm == departure
    assert abs(departure.step - AT) <= 0.01 * STEPS
    assert str(departure) in told
    assert [r.levelno for r in caplog.records if r.name == LOG] == [logging.WARNING]


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(TypeError, match="Expected on_departure to be a function"):
        ScalingLawMonitor(on_departure="print")  # type: ignore[arg-type]
