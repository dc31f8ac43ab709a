"""The noise scale: unbiased, with intervals that hold, and silent where it cannot know."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lightning_scaling.batch_size.noise_scale import G_squared, NoiseScale, trace_Sigma
from tests.golden import golden, half_unit


def between(low: float, high: float) -> st.SearchStrategy[float]:
    return st.floats(math.log(low), math.log(high)).map(math.exp)


def simulated(
    rng: np.random.Generator, n: int, *, G_sq: float, trace: float, b: int = 4, M: int = 8, d: int = 40
) -> NDArray[np.float64]:
    """Return n pairs (small_sq, big_sq) of M batches of size b, gradients of d parameters being G plus noise."""
    g = math.sqrt(G_sq / d) + math.sqrt(trace / d / b) * rng.standard_normal((n, M, d))
    return np.stack([(g**2).sum(-1).mean(-1), (g.mean(1) ** 2).sum(-1)], axis=1)


def fed(pairs: NDArray[np.float64], *, b: float = 4, B: float = 32, **settings: Any) -> NoiseScale:
    noise = NoiseScale(**settings)
    for small_sq, big_sq in pairs:
        noise.update(small_sq, big_sq, B_small=b, B_big=B)
    return noise


@pytest.mark.parametrize("row", golden("noise.json", "G_squared", "trace_Sigma"))
def test_golden_estimates(row: dict[str, Any]) -> None:
    got = {"G_squared": G_squared, "trace_Sigma": trace_Sigma}[row["what"]](**row["inputs"])
    assert got == pytest.approx(row["value"], abs=half_unit(row["printed"]), rel=0)


@pytest.mark.parametrize("row", golden("noise.json", "B_simple"))
def test_golden_ratio(row: dict[str, Any]) -> None:
    noise = NoiseScale()
    for _ in range(20):
        noise.update(**row["inputs"])
    assert noise.B_simple.mid == pytest.approx(row["value"], abs=half_unit(row["printed"]), rel=0)


@given(G_sq=between(1e-6, 1e6), trace=between(1e-6, 1e6), b=between(1.0, 1e4), times=between(1.5, 1e3))
def test_expected_norms_give_back_what_they_come_from(G_sq: float, trace: float, b: float, times: float) -> None:
    B = b * times
    norms = {"small_sq": G_sq + trace / b, "big_sq": G_sq + trace / B, "B_small": b, "B_big": B}
    slack = 1e-12 * (G_sq + trace / b)
    assert float(G_squared(**norms)) == pytest.approx(G_sq, rel=1e-9, abs=10 * slack)
    assert float(trace_Sigma(**norms)) == pytest.approx(trace, rel=1e-9, abs=10 * slack / (1 / b - 1 / B))


@given(tokens=between(1.0, 1e5), scale=between(1e-3, 1e3))
def test_units_change_no_more_than_they_should(tokens: float, scale: float) -> None:
    pairs = simulated(np.random.default_rng(1), 40, G_sq=1.0, trace=30.0)
    plain, other = fed(pairs), fed(pairs * scale, b=4 * tokens, B=32 * tokens)
    assert other.G_squared == pytest.approx(plain.G_squared * scale)
    assert other.trace_Sigma == pytest.approx(plain.trace_Sigma * scale * tokens)
    for end in ("low", "mid", "high"):
        assert getattr(other.B_simple, end) == pytest.approx(getattr(plain.B_simple, end) * tokens)


@pytest.mark.parametrize("n", [20, 300])
def test_intervals_hold_the_truth_about_as_often_as_they_say(rng: np.random.Generator, n: int) -> None:
    held, mids = [], []
    for _ in range(200):
        found = fed(simulated(rng, n, G_sq=1.0, trace=64.0)).B_simple
        held.append(found.low <= 64.0 <= found.high)
        mids.append(found.mid)
    assert 0.84 <= np.mean(held) <= 0.96
    assert np.median(mids) == pytest.approx(64.0, rel=0.03)


def test_it_follows_a_change_within_a_few_windows(rng: np.random.Generator) -> None:
    before, after = simulated(rng, 300, G_sq=1.0, trace=20.0), simulated(rng, 150, G_sq=1.0, trace=100.0)
    noise = fed(np.concatenate([before, after]), window=30.0)
    assert 50.0 < noise.B_simple.low <= 100.0 <= noise.B_simple.high
    before_it = fed(before, window=30.0).B_simple
    assert before_it.low <= 20.0 <= before_it.high < 40.0


def test_gradients_hidden_in_noise_are_not_known_and_it_says_why(rng: np.random.Generator) -> None:
    noise = fed(simulated(rng, 200, G_sq=0.01, trace=64.0))
    assert math.isnan(float(noise.B_simple.mid))
    assert "not clearly above 0" in noise.why_unknown
    bound = float(noise.why_unknown.partition("at least ")[2].split()[0])
    assert 32.0 < bound < 6400.0
    assert str(noise).startswith("B_simple is not known: |G|²")


def test_few_samples_are_too_few(rng: np.random.Generator) -> None:
    pairs = simulated(rng, 6, G_sq=1.0, trace=64.0)
    assert "too few" in NoiseScale().why_unknown
    assert math.isnan(NoiseScale().G_squared)
    assert "5 samples of the gradient are too few" in str(fed(pairs[:5]))
    assert fed(pairs, level=0.5).n_samples == 6


def test_no_noise_is_a_noise_scale_of_nothing(rng: np.random.Generator) -> None:
    found = fed(np.full((20, 2), 3.0)).B_simple
    assert (found.low, found.mid, found.high) == (0.0, 0.0, 0.0)
    found = fed(3.0 + 1e-3 * rng.standard_normal((20, 2))).B_simple
    assert found.low == 0.0
    assert 0.0 <= found.mid <= found.high < 0.1


def test_no_gradient_at_all_is_not_known() -> None:
    assert "not clearly above 0" in fed(np.zeros((20, 2))).why_unknown


def test_norms_that_are_not_finite_are_left_out(rng: np.random.Generator) -> None:
    pairs = simulated(rng, 50, G_sq=1.0, trace=64.0)
    noise = NoiseScale()
    for small_sq, big_sq in pairs:
        noise.update(small_sq, big_sq, B_small=4, B_big=32)
        noise.update(math.inf, big_sq, B_small=4, B_big=32)
        noise.update(math.nan, math.nan, B_small=4, B_big=32)
    assert (noise.n_samples, noise.n_skipped) == (50, 100)
    assert noise.B_simple == fed(pairs).B_simple


def test_memory_does_not_grow_and_blocks_change_the_averages_by_nothing(rng: np.random.Generator) -> None:
    pairs = simulated(rng, 3000, G_sq=1.0, trace=64.0, d=5)
    noise = fed(pairs, window=200.0)
    assert len(noise.state_dict()["blocks"]) <= 33
    weights = np.exp(-np.arange(3000)[::-1] / 200.0)
    mean = float((weights * G_squared(*pairs.T, B_small=4, B_big=32)).sum() / weights.sum())
    assert noise.G_squared == pytest.approx(mean, rel=1e-9)


def test_state_is_plain_and_goes_on_to_the_bit(rng: np.random.Generator) -> None:
    pairs = simulated(rng, 500, G_sq=1.0, trace=64.0)
    first = fed(pairs[:333], window=64.0, level=0.8, unit="tokens")
    second = NoiseScale.from_state(json.loads(json.dumps(first.state_dict())))
    for noise in (first, second):
        for small_sq, big_sq in pairs[333:]:
            noise.update(small_sq, big_sq, B_small=4, B_big=32)
    assert second.state_dict() == first.state_dict()
    assert second.B_simple == first.B_simple
    assert NoiseScale.from_state(NoiseScale().state_dict()).n_samples == 0


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: NoiseScale(window=5),
        lambda: NoiseScale(window=math.nan),
        lambda: NoiseScale(level=90),
        lambda: NoiseScale().update(1.0, 1.0, B_small=4, B_big=4),
        lambda: NoiseScale().update(1.0, 1.0, B_small=0, B_big=4),
        lambda: NoiseScale().update(1.0, 1.0, B_small=1, B_big=math.inf),
        lambda: NoiseScale.from_state({"version": 0}),
    ],
)
def test_wrong_arguments_say_what_was_expected(wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"Expected .*got"):
        wrong()
