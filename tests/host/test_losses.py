"""Two series together: their names, what they say, and what a state of one of them leaves of the other."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from lightning_scaling import CurveRecorder, TargetUnreachable, Verdict
from lightning_scaling.host.losses import Losses
from lightning_scaling.host.series import Series
from lightning_scaling.host.settings import Settings
from lightning_scaling.live import METRICS, LiveForecast

T = 1000


def losses(monitor: str | None = None, *rules: TargetUnreachable) -> Losses:
    settings = Settings.of(monitor=monitor, stop=list(rules))
    found = Losses(settings, CurveRecorder())
    found.steps.live.plan(T, np.full(T, 1e-3))
    found.metric.live.adopt(found.steps.live)
    return found


def fill(series: Series, steps: range, *, stair: float = 0.0) -> None:
    rng = np.random.default_rng(1)
    for step in steps:
        pass_over_data = (step - 1) // 200
        loss = 2.0 + 4.0 * step**-0.5 - stair * pass_over_data + 0.01 * rng.standard_normal()
        series.recorder.append(step, loss, 1e-3)
        if stair and step % 200 == 0:
            series.recorder.flush()
            series.recorder.mark_epoch_end(step)
    series.recorder.flush()
    series.live.refit(series.curve(None))


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("val_loss", "val_loss"),
        ("val/nll loss", "val_nll_loss"),
        ("val_loss/dataloader_idx_0", "val_loss_dataloader_idx_0"),
    ],
)
def test_a_label_is_one_word(name: str, label: str) -> None:
    assert Series(name, CurveRecorder(), LiveForecast()).label == label


def test_the_main_series_has_the_rules_and_the_plain_names() -> None:
    rule = TargetUnreachable(loss=1.0)
    for monitor in (None, "val/loss"):
        both = losses(monitor, rule)
        assert both.find(["val/loss"])
        fill(both.steps, range(1, 501))
        fill(both.metric, range(10, 501, 10))
        assert both.main.live.advice is not None
        assert "target" in both.main.live.advice.evidence
        assert both.beside.live.advice is not None
        assert "target" not in both.beside.live.advice.evidence
        values = both.main.live.values()
        assert tuple(both.numbers(both.main, values)) == METRICS
        place = "val_loss" if monitor is None else "train_loss"
        assert tuple(both.numbers(both.beside, values)) == tuple(f"{place}/{name}" for name in METRICS)
        order = ["train_loss", "val/loss"]
        assert list(both.forecasts()) == (order if monitor is None else order[::-1])


def test_nothing_is_forecast_of_what_has_no_name() -> None:
    both = losses()
    assert not both.find(["accuracy"])
    assert both.forecasts() == {}
    assert both.state_dict()["metric"] is None
    fill(both.steps, range(1, 501))
    assert list(both.forecasts()) == ["train_loss"]
    assert both.sentence() == both.steps.live.sentence


def test_a_metric_called_train_loss_keeps_its_name() -> None:
    both = losses("train_loss")
    assert (both.metric.name, both.steps.name) == ("train_loss", "step_loss")


@pytest.mark.parametrize(
    ("stair", "words"), [(0.0, ""), (0.3, " The data repeat, so this says little of held-out loss:")]
)
def test_the_sentence_speaks_of_both_and_where_data_repeat_leads_to_the_second(stair: float, words: str) -> None:
    both = losses()
    both.find(["val_loss"])
    fill(both.steps, range(1, 601), stair=stair)
    assert both.steps.live.forecast is not None
    assert (both.steps.live.forecast.verdict is Verdict.REPEATED_DATA) == bool(stair)
    assert both.sentence() == both.steps.live.sentence  # the second has nothing to say yet
    fill(both.metric, range(10, 601, 10))
    reading = both.forecasts()["val_loss"].final_loss.short()
    assert both.sentence() == f"{both.steps.live.sentence}{words} val_loss should end at {reading}."


def test_the_sentence_of_a_metric_says_of_what_it_speaks() -> None:
    both = losses("val_loss")
    fill(both.metric, range(10, 501, 10))
    assert both.sentence() == f"[val_loss] {both.metric.live.sentence}"
    assert both.summary(600).startswith("The run ended at step 600 of 1 000 (40 % of its steps saved); val_loss was 2.")
    assert "Forecasts of val_loss at step 1 000" in both.summary(600)


def test_a_state_serves_the_metric_that_it_is_of() -> None:
    old = losses("val_loss")
    fill(old.steps, range(1, 501))
    fill(old.metric, range(10, 501, 10))
    state = old.state_dict()
    for monitor, known in (("val_loss", True), (None, True), ("val/other", False)):
        new = losses(monitor)
        new.load_state_dict(state)
        assert new.steps.state_dict() == old.steps.state_dict()
        assert (len(new.metric.curve(None)) > 0) == known
        assert new.metric.name == ("val_loss" if known else "val/other")
    unusual = losses("perplexity")
    fill(unusual.metric, range(10, 501, 10))
    found = losses()
    found.load_state_dict(unusual.state_dict())
    assert found.metric.name is None  # nobody asked for it any more, and by its name it is no validation loss


def test_a_state_without_a_metric_is_read() -> None:
    old = losses()
    fill(old.steps, range(1, 501))
    state = old.state_dict()
    del state["metric"]  # as it was before there were metrics
    new = losses("val_loss")
    new.load_state_dict(state)
    assert new.steps.state_dict() == old.steps.state_dict()
    assert new.metric.name == "val_loss"


def test_the_state_of_the_longest_run_is_small() -> None:
    both, horizon = losses("val_loss", TargetUnreachable(loss=1.0)), 10_000_000
    for series in (both.steps, both.metric):
        series.live.plan(horizon, None)
        recorder, step = series.recorder, 1
        while step <= horizon:  # every window gets one step, and every planned refit takes place
            recorder.append(step, 2.0 + step**-0.5, 1e-3)
            if step >= series.live.next_step:
                recorder.flush()
                series.live.refit(series.curve(None))
            step += max(1, step // 48)
        recorder.flush()
        assert len(recorder.builder) > 600
    both.steps.live.plan(horizon, np.linspace(1.0, 0.0, horizon))
    both.metric.live.adopt(both.steps.live)
    assert len(pickle.dumps(both.state_dict())) < 256 * 1024
