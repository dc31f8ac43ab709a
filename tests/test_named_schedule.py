"""Schedules by name, joined to what the log has."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling.curve import LossCurve
from lightning_scaling.named_schedule import as_logged, named_rates, planned_rates

NAMES = ["cosine", "cosine:0.1", "linear", "linear:0.1", "wsd", "wsd:0.3", "wsd:30:0.1", "constant"]


@given(name=st.sampled_from(NAMES), horizon=st.integers(50, 500), warmup=st.integers(0, 15))
def test_shapes(name: str, horizon: int, warmup: int) -> None:
    rates = named_rates(name, horizon, warmup)
    assert rates.shape == (horizon,)
    assert rates.max() <= 1.0
    assert rates.min() >= -1e-12
    assert (np.diff(rates[warmup:]) <= 1e-12).all()
    if warmup:
        np.testing.assert_allclose(rates[:warmup], np.arange(1, warmup + 1) / warmup)
    last = {"constant": 1.0, "cosine:0.1": 0.1, "linear:0.1": 0.1, "wsd:30:0.1": 0.1}.get(name, 0.0)
    assert rates[-1] == pytest.approx(last, abs=1e-12)


def test_the_cosine_is_that_of_torch() -> None:
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=100, eta_min=0.1)
    found = []
    for _ in range(100):
        optimizer.step()
        scheduler.step()
        found.append(scheduler.get_last_lr()[0])  # after step n: the rate that the curve has at n
    np.testing.assert_allclose(named_rates("cosine:0.1", 100), found, atol=1e-12)


def test_the_decay_of_wsd_as_share_and_as_steps() -> None:
    np.testing.assert_array_equal(named_rates("wsd:0.25", 200), named_rates("wsd:50", 200))
    assert (named_rates("wsd:0.25", 200)[:150] == 1.0).all()


@pytest.mark.parametrize("name", ["cosin", "cosine:x", "cosine:0.1:0.2", "cosine:-1", "constant:1", "cosine:nan"])
def test_names_that_are_not_known(name: str) -> None:
    with pytest.raises(ValueError, match=f"Expected a learning-rate schedule such as cosine, .*, got '{name}', so"):
        named_rates(name, 100)


def test_numbers_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"Expected the last rate as a share of the peak, got 10"):
        named_rates("cosine:10", 100)
    with pytest.raises(ValueError, match="Expected a warm-up of 0 to 99 steps, got 100"):
        named_rates("cosine", 100, 100)


def log(T: int, seen: int, name: str, peak: float = 3e-4) -> LossCurve:
    S = np.arange(10, seen + 1, 10)
    return LossCurve(S=S, L=5.0 / S, lr=peak * named_rates(name, T, 20)[S - 1])


def test_the_past_is_that_of_the_log_and_the_future_goes_on() -> None:
    found = planned_rates(log(1000, 400, "cosine:0.1"), 1000, "cosine:0.1", 20)
    assert found.schedule is not None
    assert found.schedule.known
    np.testing.assert_allclose(
        found.schedule.rate_at(np.arange(20, 1001)), named_rates("cosine:0.1", 1000, 20)[19:], atol=0.01
    )
    assert found.warnings == ()
    assert found.assumed.startswith("The learning rate is that of the log up to now, and taken to follow cosine:0.1")


def test_a_schedule_that_the_log_belies_is_warned_of() -> None:
    found = planned_rates(log(1000, 400, "cosine"), 2000, "cosine", 20)
    assert "lies up to" in found.warnings[0]
    assert "check schedule, warm-up and horizon" in found.warnings[0]


def test_what_is_not_known() -> None:
    curve = log(1000, 400, "cosine")
    assert planned_rates(curve, 1000, None).schedule is None
    bare = LossCurve(S=curve.S, L=curve.L)
    assert planned_rates(bare, 1000, None).schedule is None
    assert planned_rates(bare, 1000, "linear").schedule is not None
    assert as_logged(bare, 400).schedule is None


def test_a_finished_run_as_it_was_logged() -> None:
    found = as_logged(log(1000, 1000, "linear"), 1000)
    assert found.schedule is not None
    np.testing.assert_allclose(
        found.schedule.rate_at([500, 750, 1000]), named_rates("linear", 1000, 20)[[499, 749, 999]], atol=0.01
    )
