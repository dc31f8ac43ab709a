"""Overfitting: a loss that turns, the bound on where it can, and what is said of either."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling import Action, Converged, Forecast, LossCurve, Overfitting, Reason, advise, forecast
from lightning_scaling.laws import KAPLAN_TEXT
from tests.golden import golden, half_unit

HORIZON, TURNS = 10_000, 3000


@cache
def run(last: int = 6000, *, turns: bool = True, N: float | None = None, B: float | None = None) -> Forecast:
    """Forecast a validation loss that is lowest near step 3 000, or one that goes on falling."""
    S = np.arange(50, last + 1, 50, dtype=float)
    rise = 1e-4 * np.maximum(S - TURNS, 0.0) if turns else 0.0
    loss = 2.0 + 4.0 * S**-0.5 + rise + 0.002 * np.random.default_rng(1).standard_normal(S.size)
    return forecast(LossCurve(S, loss, N=N, B=B), horizon=HORIZON, lr_schedule=np.ones(HORIZON))


@pytest.mark.parametrize("row", golden("advice.json", "S_stop"))
def test_golden_bounds(row: dict[str, Any]) -> None:
    assert Overfitting(**row["inputs"]).S_stop() == pytest.approx(row["value"], abs=half_unit(row["printed"]), rel=0)


sizes = st.floats(1.0, 30.0).map(lambda x: 10.0**x)


@given(N=sizes, D=sizes, factor=st.floats(1.0, 100.0), B=sizes)
def test_the_bound_grows_with_the_data_and_with_smaller_batches(N: float, D: float, factor: float, B: float) -> None:
    fewest = Overfitting(N, D).S_stop()
    assert fewest > 0.0
    assert Overfitting(N, factor * D).S_stop() >= fewest
    assert Overfitting(N, D).S_stop(B=B) >= Overfitting(N, D).S_stop(B=factor * B) >= fewest


def test_at_the_critical_batch_size_it_takes_twice_the_steps() -> None:
    rule = Overfitting(N=1e8, D=1e9)
    B_crit = float(KAPLAN_TEXT.B_crit(2.95673373863))  # L(N, D) of Table 2
    assert rule.S_stop(B=B_crit) == pytest.approx(2.0 * rule.S_stop(), rel=1e-9)


def test_a_loss_that_turns_is_stopped_with_its_best_checkpoint() -> None:
    present = run()
    advice = Overfitting().judge(present)
    assert (advice.action, advice.reason) == (Action.STOP, Reason.OVERFITTING)
    assert abs(advice.evidence["best_step"] - TURNS) < 0.1 * TURNS
    assert advice.evidence["best_loss"] == pytest.approx(2.0 + 4.0 * TURNS**-0.5, abs=0.005)
    assert advice.evidence["probability"] < 0.2
    assert "the loss has turned: it was lowest at step 2 875, 2.075" in advice.sentence
    assert advise(present, [Converged(0.5), Overfitting()]).reason is Reason.OVERFITTING


@pytest.mark.parametrize(
    ("rule", "present", "action", "reason"),
    [
        (Overfitting(), run(turns=False), Action.CONTINUE, Reason.ON_COURSE),
        (Overfitting(), run(200), Action.WAIT, Reason.NO_FORECAST),
        (Overfitting(D=1e9), run(turns=False), Action.CONTINUE, Reason.ON_COURSE),
        (Overfitting(D=1e12), run(turns=False, N=1e8, B=2.0**19), Action.CONTINUE, Reason.ON_COURSE),
        (Overfitting(D=1e6), run(turns=False, N=1e8, B=2.0**19), Action.CONTINUE, Reason.DATA_SPENT),
        (Overfitting(D=1e6, stop_at_bound=True), run(turns=False, N=1e8, B=2.0**19), Action.STOP, Reason.DATA_SPENT),
        (Overfitting(1e8, 1e6, stop_at_bound=True), run(turns=False), Action.CONTINUE, Reason.DATA_SPENT),
        (Overfitting(D=1e6), run(N=1e8, B=2.0**19), Action.STOP, Reason.OVERFITTING),
    ],
)
def test_what_it_does(rule: Overfitting, present: Forecast, action: Action, reason: Reason) -> None:
    advice = rule.judge(present)
    assert (advice.action, advice.reason) == (action, reason)
    assert all(isinstance(value, float) for value in advice.evidence.values())


def test_data_that_were_not_all_seen_are_not_spent() -> None:
    rule = Overfitting(N=1e8, D=1e8, stop_at_bound=True)
    few, many = run(turns=False, N=1e8, B=1e4), run(turns=False, N=1e8, B=1e6)
    assert few.step < rule.S_stop(B=1e4)  # a batch that small never gets there before the data are seen
    assert many.step > rule.S_stop(B=1e6)
    assert rule.judge(few).action is Action.CONTINUE
    assert rule.judge(many).action is Action.STOP


def test_what_it_says() -> None:
    assert Overfitting().judge(run(turns=False)).sentence.endswith("the loss has not turned: go on.")
    said = Overfitting(D=1e6).judge(run(turns=False, N=1e8)).sentence
    assert "a lower bound, Kaplan's Eq. 5.7 with constants of WebText2, at a batch far above the critical one" in said
    assert said.endswith("but the loss has not turned: go on, by a held-out loss.")
    assert "N is not known" in Overfitting(D=1e6).judge(run(turns=False)).sentence
    assert "before very many steps" in Overfitting(D=1e30).judge(run(turns=False, N=1e8)).sentence


def test_endless_data_are_never_spent() -> None:
    assert Overfitting(N=1e8, D=1e300).S_stop() > 1e300
    assert math.isnan(Overfitting(N=1e8).S_stop())


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        ({"N": 0.0}, ValueError, "N to be a finite number >= 1"),
        ({"D": math.inf}, ValueError, "D to be a finite number"),
        ({"D": "1e9"}, TypeError, "Give it in tokens"),
        ({"stop_at_bound": True}, ValueError, "give the tokens of the training data"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        Overfitting(**arguments)
