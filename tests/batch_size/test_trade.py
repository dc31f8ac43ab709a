"""Steps against examples: the paper's numbers, limits, and the answer in words."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling.batch_size.trade import CAVEATS, E_ratio, S_min_at, S_ratio, batch_trade, learning_rate_ratio
from lightning_scaling.interval import Interval
from lightning_scaling.laws import KAPLAN_TEXT, S_min
from tests.golden import golden, half_unit


def between(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(math.log(low), math.log(high)).map(math.exp)


batches = between(1.0, 1e9)


@pytest.mark.parametrize("row", golden("noise.json", "trade"))
def test_golden(row: dict[str, Any]) -> None:
    B, B_crit = row["inputs"]["B"], row["inputs"]["B_crit"]
    got = [S_ratio(B, B_crit), E_ratio(B, B_crit), learning_rate_ratio(B, B_crit)]
    for value, expected, printed in zip(got, row["value"], row["printed"], strict=True):
        assert value == pytest.approx(expected, abs=half_unit(printed), rel=0)


@given(B=batches, B_crit=batches)
def test_the_product_of_the_excesses_is_1(B: float, B_crit: float) -> None:
    """Kaplan et al. 2020, Eq. 5.1."""
    excess = B_crit / B
    assert float(S_ratio(B, B_crit)) - 1.0 == pytest.approx(excess, rel=1e-6, abs=1e-15)
    assert (1.0 + B_crit / B - 1.0) * (B / B_crit) == pytest.approx(1.0, rel=1e-5)
    # E/S = B whatever the batch: E_ratio E_min / (S_ratio S_min) with E_min / S_min = B_crit.
    assert float(E_ratio(B, B_crit) / S_ratio(B, B_crit)) * B_crit == pytest.approx(B)


@given(S=between(1.0, 1e7), B=batches, L=between(1.0, 10.0))
def test_S_min_is_that_of_the_law_where_B_crit_is(S: float, B: float, L: float) -> None:
    got = float(S_min_at(S, B, KAPLAN_TEXT.B_crit(L)))
    assert got == pytest.approx(float(S_min(S, B, L, B_star=2e8, alpha_B=0.21)))
    assert got <= S


@given(B=batches, low=batches, up=between(1.0, 100.0), factor=between(0.01, 100.0))
def test_trade_is_the_ratio_of_two_batch_sizes(B: float, low: float, up: float, factor: float) -> None:
    if factor == 1.0:
        return
    trade = batch_trade(B, Interval(low, low * up, low * up**2, 0.9), factor=factor)
    mid = float(S_ratio(B * factor, low * up) / S_ratio(B, low * up))
    assert float(trade.steps.mid) == pytest.approx(mid)
    assert float(trade.examples.mid) == pytest.approx(float(E_ratio(B * factor, low * up) / E_ratio(B, low * up)))
    assert trade.steps.low <= trade.steps.mid <= trade.steps.high
    assert (trade.steps.mid <= 1.0 <= trade.examples.mid) == (factor > 1.0)


@pytest.mark.parametrize(
    ("B_crit", "steps", "examples"), [(0.0, 1.0, 4.0), (math.inf, 0.25, 1.0), (1e-12, 1.0, 4.0), (1e12, 0.25, 1.0)]
)
def test_limits(B_crit: float, steps: float, examples: float) -> None:
    trade = batch_trade(100, Interval(B_crit, B_crit, B_crit, 0.9), factor=4.0)
    assert trade.steps.mid == pytest.approx(steps)
    assert trade.examples.mid == pytest.approx(examples)


@pytest.mark.parametrize(
    ("B", "factor", "words"),
    [
        (1, 2.0, "Would a larger batch save time? Yes, for next to nothing: 2 instead of 1 "),
        (160, 2.0, "Would a larger batch save time? Yes, at a price: 320 instead of 160 tokens per step"),
        (160, 2.0, "in 25 % (23 to 26) fewer steps, with 50 % (47 to 53) more tokens (compute)"),
        (16_000, 2.0, "Hardly, and at a price: 32 000 instead of 16 000 tokens"),
        (160, 1.001, "Hardly: 160 instead of 160"),
        (640, 0.5, "Would a smaller batch save compute? Yes: 320 instead of 640"),
        (640, 0.5, "in 20 % (18 to 22) more steps, with 40 % (39 to 41) fewer tokens"),
        (10, 0.5, "Would a smaller batch save compute? Hardly"),
    ],
)
def test_in_words(B: float, factor: float, words: str) -> None:
    assert words in str(batch_trade(B, Interval(140.0, 160.0, 180.0, 0.9), factor=factor, unit="tokens"))


def test_not_known() -> None:
    nan = float("nan")
    trade = batch_trade(40, Interval(nan, nan, nan, 0.9))
    assert "cannot be said" in str(trade)
    assert np.isnan(trade.steps.mid)


def test_caveats_name_what_is_wrong() -> None:
    for words in ("heuristic", "Adam", "2505.23971", "2410.21676"):
        assert words in CAVEATS


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: S_ratio(0.0, 10.0),
        lambda: E_ratio(10.0, -1.0),
        lambda: S_ratio([10.0, math.nan], 10.0),
        lambda: batch_trade(0.0, Interval(1.0, 2.0, 3.0, 0.9)),
        lambda: batch_trade(10.0, Interval(-1.0, 2.0, 3.0, 0.9)),
        lambda: batch_trade(10.0, Interval(1.0, 2.0, 3.0, 0.9), factor=1.0),
        lambda: batch_trade(10.0, Interval(1.0, 2.0, 3.0, 0.9), factor=-2.0),
    ],
)
def test_wrong_arguments_say_what_was_expected(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"Expected .*got"):
        wrong()


def test_a_number_without_its_error_is_no_noise_scale() -> None:
    with pytest.raises(TypeError, match=r"^Expected B_simple to be an Interval, got 160\.0, so give Interval"):
        batch_trade(40.0, 160.0)  # type: ignore[arg-type]
