"""Comparisons of runs whose laws are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from lightning_scaling.curve import LossCurve
from lightning_scaling.fit.mixture import GaussianMixture
from lightning_scaling.forecast import forecast
from lightning_scaling.report.text import comparison_text
from lightning_scaling.review import Contender, compare, ended, probability_best, speed_up
from lightning_scaling.schedule import LRSchedule

T = 4000
NORMAL = st.tuples(st.floats(-3.0, 3.0), st.floats(0.05, 3.0))


def normal(mean: float, sd: float) -> GaussianMixture:
    return GaussianMixture(np.ones(1), np.array([[mean]]), np.array([[sd]]))


def law(S: np.ndarray | float, A: float = 8.0) -> np.ndarray | float:
    return 2.0 + A * np.asarray(S) ** -0.5


def contender(name: str, A: float, seen: int = T // 2, *, seed: int = 0, cost: float = 1.0) -> Contender:
    S = np.arange(1, seen + 1)
    curve = LossCurve(S=S, L=law(S, A) + 0.02 * np.random.default_rng(seed).standard_normal(seen))
    found = forecast(curve, horizon=T, lr_schedule=LRSchedule.from_array(np.ones(T)))
    return Contender(name, curve, found, cost)


@given(a=NORMAL, b=NORMAL)
def test_two_normals_are_compared_exactly(a: tuple[float, float], b: tuple[float, float]) -> None:
    found = probability_best([normal(*a), normal(*b)])
    exact = norm.cdf((b[0] - a[0]) / math.hypot(a[1], b[1]))
    assert found[0] == pytest.approx(exact, abs=0.004)
    assert found.sum() == pytest.approx(1.0)


def test_many_runs_against_drawn_ones(rng: np.random.Generator) -> None:
    means, sds = rng.normal(0.0, 1.0, 6), rng.uniform(0.1, 2.0, 6)
    drawn = rng.normal(means, sds, (200_000, 6)).argmin(axis=1)
    expected = np.bincount(drawn, minlength=6) / drawn.size
    assert probability_best([normal(m, s) for m, s in zip(means, sds, strict=True)]) == pytest.approx(
        expected, abs=0.006
    )


def test_runs_that_are_over_and_certain() -> None:
    found = probability_best([normal(2.0, 1e-9), normal(2.1, 1e-9), normal(2.05, 0.01)])
    assert found == pytest.approx([1.0, 0.0, 0.0], abs=1e-4)
    assert probability_best([normal(2.0, 0.1)] * 4) == pytest.approx([0.25] * 4, abs=1e-6)


def test_the_better_run_is_found_and_how_much_faster_it_is() -> None:
    found = compare([contender("slow", 9.0, seed=1), contender("fast", 8.0, seed=2)])
    assert found.names == ("slow", "fast")
    assert found.probability_best[1] > 0.9
    (up,) = found.speed_ups
    assert (up.fast, up.slow) == ("fast", "slow")
    # 8 s^-1/2 = 9 T^-1/2 at s = (8/9)^2 T: the slow run takes 1.266 times as long.
    assert up.factor.low <= (9.0 / 8.0) ** 2 <= up.factor.high
    assert up.factor.high < 1.6
    assert "fast gets to where slow ends" in comparison_text(found)


def test_compute_counts_where_a_step_costs_more() -> None:
    slow, fast = contender("slow", 9.0, seed=1), contender("fast", 8.0, seed=2, cost=2.0)
    end = ended(LossCurve(S=[T], L=[law(T, 9.0)]))
    assert float(speed_up(fast, slow, end).factor.mid) == pytest.approx((9.0 / 8.0) ** 2 / 2.0, rel=0.05)


def test_a_run_that_never_gets_there() -> None:
    up = speed_up(contender("slow", 9.0), contender("fast", 8.0), normal(1.0, 0.01))
    assert math.isinf(up.steps.mid)
    assert up.factor.mid == 0.0


def test_intervals_of_the_speed_up_hold_the_truth() -> None:
    held = []
    for seed in range(12):
        slow, fast = contender("slow", 9.0, seed=2 * seed), contender("fast", 8.0, seed=2 * seed + 1)
        end = slow.forecast.mixture_at()
        assert end is not None
        up = speed_up(fast, slow, end)
        held.append(up.factor.low <= (9.0 / 8.0) ** 2 <= up.factor.high)
    assert sum(held) >= 9  # of 12 at 90 %: fewer have a chance of 0.4 %


def test_a_run_that_is_over_ends_where_it_has_ended() -> None:
    over, ahead = contender("over", 8.0, seen=T), contender("ahead", 8.0, seed=3)
    found = compare([over, ahead])
    last = over.curve.L[over.curve.S > 0.98 * T]
    assert found.final_losses[0].mid == pytest.approx(last.mean(), abs=1e-6)
    assert found.final_losses[0].half_width == pytest.approx(1.645 * 0.02 / math.sqrt(last.size), rel=0.4)


def test_runs_that_cannot_be_compared() -> None:
    short = contender("short", 8.0, seen=30)
    with pytest.raises(ValueError, match=r"Expected two runs with a usable forecast, got 1 \(short: too early, long: "):
        compare([short, contender("long", 8.0)])
