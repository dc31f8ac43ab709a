"""Advisor: when it compares, what it tells, and that it fails in silence."""

from __future__ import annotations

from itertools import count

import numpy as np
import pytest

from lightning_scaling import CurveBuilder, LossCurve
from lightning_scaling.host import advisor
from lightning_scaling.host.advisor import Advisor
from lightning_scaling.live import LiveForecast
from tests.siblings.planted import rates, run

T = 4000
CONSTANT = np.full(T, 3e-4)
WSD = 3e-4 * np.clip((T - np.arange(T)) / 800, 0.0, 1.0)
COSINE = 3e-4 * 0.5 * (1.0 + np.cos(np.pi * np.arange(T) / T))


def curve(n: int) -> LossCurve:
    steps = np.arange(1, n + 1)
    builder = CurveBuilder()
    builder.extend(
        steps.tolist(), (2.0 + 4.0 * steps**-0.5 + 0.01 * np.random.default_rng(1).standard_normal(n)).tolist()
    )
    return builder.curve()


def live(n: int, rates: np.ndarray | None) -> LiveForecast:
    found = LiveForecast()
    found.plan(T, rates)
    found.refit(curve(n))
    return found


def ask(n: int, rates: np.ndarray | None, price: float | None = None) -> tuple[Advisor, str]:
    """Ask at a step of a run in which each step took 9 seconds."""
    found = Advisor(price, 0, clock=count(0.0, 9.0 * n).__next__)
    return found, found.renew(live(n, rates), curve(n), step=n)


@pytest.mark.parametrize(
    ("n", "rates", "names"),
    [
        (2000, CONSTANT, ["decay now", "longer"]),
        (2000, WSD, ["decay now", "longer"]),
        (3600, WSD, ["longer"]),  # its own decay is on
        (2000, COSINE, ["longer"]),
        (2000, None, []),
        (T, CONSTANT, []),
    ],
)
def test_what_is_compared(n: int, rates: np.ndarray | None, names: list[str]) -> None:
    found, told = ask(n, rates)
    assert list(found.alternatives) == names
    assert bool(told) == ("decay now" in names)


def test_what_is_told() -> None:
    found, told = ask(2000, CONSTANT)
    assert found.alternatives["decay now"].sentence() == told
    assert told.startswith("Decaying now over 400 steps would end at 2.0")
    assert told.endswith("in 20 % of the hours still to come, 4 hours less.")
    found, told = ask(2000, CONSTANT, price=2.5)
    assert found.alternatives["decay now"].money == pytest.approx(-10.0)
    assert "4 hours and 10 in money less. Training for 8 000 steps would end at" in told
    assert told.endswith("10 hours and 25 in money more.")
    assert ask(2000, COSINE)[1] == ""
    assert ask(2000, COSINE, price=2.5)[1].startswith("Training for 8 000 steps would end at")


def test_what_the_plan_borrows_the_alternatives_borrow_too(rng: np.random.Generator) -> None:
    found, own = Advisor(None, 0), run(rng, 2e7, "constant")
    plan = LiveForecast()
    plan.siblings = [run(rng, N, kind) for N in (1e6, 3e6, 1e7) for kind in ("cosine", "wsd")]
    plan.plan(own.horizon, rates("constant"))
    plan.refit(own.at(0.5))
    found.renew(plan, own.at(0.5), step=own.horizon // 2)
    assert list(found.alternatives) == ["decay now", "longer"]
    for one in found.alternatives.values():
        assert one.planned.n_siblings == one.other.n_siblings == 6


def test_a_decay_that_would_save_little_is_not_told() -> None:
    found, told = ask(3350, CONSTANT)
    assert found.alternatives["decay now"].share > 0.8
    assert told == ""


def test_no_more_than_two_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    from lightning_scaling.alternatives import ask as alternatives

    fits, forecast = [], alternatives.forecast
    monkeypatch.setattr(alternatives, "forecast", lambda *a, **k: fits.append(1) or forecast(*a, **k))  # type: ignore[func-returns-value]
    ask(2000, CONSTANT)
    assert len(fits) == 2


def test_what_fails_is_left_out_in_silence(monkeypatch: pytest.MonkeyPatch) -> None:
    found, _ = ask(2000, CONSTANT)
    monkeypatch.setattr(advisor, "longer", lambda *a, **k: 1 / 0)
    assert found.renew(live(3000, CONSTANT), curve(3000), step=3000) == ""
    assert found.alternatives == {}


def test_a_clock_that_stands_still_has_no_price() -> None:
    found = Advisor(2.5, 2000, clock=lambda: 1.0)
    told = found.renew(live(2000, CONSTANT), curve(2000), step=2000)
    assert found.alternatives["decay now"].price is None
    assert "of the steps still to come." in told


def test_losses_that_no_law_explains_are_compared_without_a_word() -> None:
    steps = np.arange(1, 3001)
    loss = 2.0 + 4.0 * steps**-0.5 + 0.02 * np.random.default_rng(3).standard_normal(3000) + 3.0 * (steps > 2400)
    builder = CurveBuilder()
    builder.extend(steps.tolist(), loss.tolist())
    plan = LiveForecast()
    plan.plan(T, CONSTANT)
    plan.refit(builder.curve())
    found = Advisor(None, 0)
    assert found.renew(plan, builder.curve(), step=3000) == ""
    assert list(found.alternatives) == ["decay now", "longer"]
