"""The break-away alarm: silent where noise explains it all, quick where it does not, the same however it is fed."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from lightning_scaling import Departure, LossCurve, LRSchedule, forecast
from lightning_scaling.alarm import Alarm
from lightning_scaling.alarm.band import Band
from lightning_scaling.alarm.departure import sigmas_since
from lightning_scaling.live import LiveForecast

Array = NDArray[np.float64]

T = 2000
STEPS = np.arange(1, T + 1)
TRUTH = 2.0 + 6.0 * STEPS**-0.5
SD = 0.05


def noise(seed: int, correlation: float = 0.8) -> Array:
    """Return noise of unit width with heavy tails (Student's t, 4 degrees), each step like the one before."""
    fresh = np.random.default_rng(seed).standard_t(4, T) / math.sqrt(2.0)
    for k in range(1, T):
        fresh[k] = correlation * fresh[k - 1] + math.sqrt(1.0 - correlation**2) * fresh[k]
    return fresh


def gone_through(L: Array, *, seed: int = 0, unsure: float = 0.01, alarm: Alarm | None = None) -> Alarm:
    """Hold losses against forecasts made every 5 % of the run, which are off by as much as they say they may be."""
    alarm, rng = alarm or Alarm(), np.random.default_rng(10_000 + seed)
    alarm.horizon = T
    for start in range(0, T, 100):
        alarm.take(STEPS[start : start + 100].tolist(), L[start : start + 100].tolist(), now=0.5 * (start + 100))
        made = start + 100
        S = np.linspace(made, made + 300.0, 9)
        sd = unsure * np.sqrt(1.0 + (S - made) / 100.0)
        mid = (
            2.0
            + 6.0 * S**-0.5
            + np.concatenate(([0.0], np.cumsum(rng.standard_normal(8) * np.sqrt(np.diff(sd**2)))))
            + unsure * rng.standard_normal()
        )
        alarm.hold(Band(made, S[-1], S, mid, sd))
    return alarm


def test_at_most_one_clean_run_in_twenty_gives_an_alarm_in_correlated_noise_with_heavy_tails() -> None:
    alarms = sum(bool(gone_through(TRUTH + SD * noise(seed), seed=seed).found) for seed in range(200))
    assert alarms <= 10


@pytest.mark.parametrize("share", [0.2, 0.4, 0.6, 0.8])
def test_a_shift_of_five_widths_is_found_within_a_fiftieth_of_the_run(share: float) -> None:
    at, delays, sizes = int(share * T), [], []
    for seed in range(10):
        L = TRUTH + SD * noise(seed, correlation=0.0) + np.where(at < STEPS, 5.0 * SD, 0.0)
        found = gone_through(L, seed=seed).found
        assert found
        assert found[0].upwards
        assert abs(found[0].step - at) <= 0.02 * T
        sizes.append(found[0].loss - found[0].expected)
        assert sizes[-1] == pytest.approx(5.0 * SD, abs=3.0 * sizes[-1] / found[0].sigma)
        delays.append(found[0].noticed - at)
    assert np.median(sizes) == pytest.approx(5.0 * SD, abs=SD)
    assert np.mean(np.array(delays) <= 0.02 * T) >= 0.9
    assert np.median(delays) <= 0.015 * T


def test_where_no_end_is_known_nothing_is_said_while_the_run_has_just_begun() -> None:
    def gone(begin: int, end: int) -> list[Departure]:
        alarm, L = Alarm(), TRUTH + SD * noise(2, 0.0) + np.where(begin <= STEPS, 1.0, 0.0)
        for made in range(10, end, 10):
            alarm.take(range(made - 9, made + 1), L[made - 10 : made].tolist())
            S = np.linspace(made, made + 400.0, 9)
            alarm.hold(Band(made, S[-1], S, 2.0 + 6.0 * S**-0.5, np.full(9, 0.02)))
        return alarm.found

    assert not gone(150, 200)
    assert gone(1000, 1200)


def test_a_band_says_how_sure_its_slope_is() -> None:
    S = np.array([90.0, 100.0, 110.0, 120.0])
    band = Band(100, 120.0, S, np.zeros(4), np.array([1.0, 3.0, 5.0, 9.0]))
    assert band.slope_sd(10.0) == pytest.approx(0.4)
    assert Band(100, 120.0, S, np.zeros(4), np.full(4, 3.0)).slope_sd(10.0) == 0.0


def test_a_fall_is_told_as_such_and_needs_more() -> None:
    found = gone_through(TRUTH + SD * noise(1, 0.0) - np.where(STEPS > 1200, 5.0 * SD, 0.0)).found
    assert found
    assert found[0].sigma < -6.0
    assert str(found[0]).startswith("The loss fell below its forecast at step 1 2")


@pytest.mark.parametrize(("height", "length"), [(1e3, 1), (20.0, 5), (math.nan, 30), (math.inf, 30)])
def test_a_spike_that_recovers_is_no_departure(height: float, length: int) -> None:
    for seed in range(5):
        L = TRUTH + SD * noise(seed, 0.0)
        L[1233 : 1233 + length] += height
        assert not gone_through(L, seed=seed).found


def test_a_departure_is_told_once_and_later_forecasts_know_of_it() -> None:
    alarm = gone_through(TRUTH + SD * noise(3, 0.0) + np.where(STEPS > 1210, 8.0 * SD, 0.0))
    first = [d for d in alarm.found if d.step < 1300]
    assert len(first) == 1
    assert alarm.news() == tuple(alarm.found)
    assert alarm.news() == ()


def test_a_rate_that_is_to_rise_again_is_not_held_against_the_run() -> None:
    rates = np.where(STEPS <= 1000, 1.0 - 0.9 * STEPS / 1000, 1.0)
    said = forecast(LossCurve(S=STEPS[:900], L=TRUTH[:900] + SD * noise(0, 0.0)[:900]), horizon=T, lr_schedule=rates)
    band = Band.of(said, LRSchedule.from_array(rates), 300.0)
    assert band is not None
    assert 990 < band.until < 1020


@pytest.mark.parametrize("seed", range(3))
def test_a_decay_that_is_planned_is_no_departure(seed: int) -> None:
    rates = np.minimum(1.0, (T + 1 - STEPS) / (0.3 * T))
    L = TRUTH - 0.25 * (1.0 - rates) + SD * noise(seed, 0.0)
    live = LiveForecast()
    live.plan(T, rates)
    for step in STEPS.tolist():
        live.watch([step], [float(L[step - 1])])
        if step >= live.next_step:
            live.refit(LossCurve(S=STEPS[:step], L=L[:step]))
    assert live.departure is None


def test_however_it_is_fed_and_wherever_it_is_resumed_the_same_is_found() -> None:
    L = TRUTH + SD * noise(5) + np.where(STEPS > 1234, 8.0 * SD, 0.0)
    whole = gone_through(L)
    assert whole.found
    pieces, rng = Alarm(), np.random.default_rng(10_000)
    pieces.horizon = T
    for start in range(0, T, 100):
        for first in range(start, start + 100, 7):
            last = min(first + 7, start + 100)
            pieces.take(STEPS[first:last].tolist(), L[first:last].tolist())
            again = Alarm()
            again.load_state_dict(json.loads(json.dumps(pieces.state_dict())))
            pieces = again
        made = start + 100
        S = np.linspace(made, made + 300.0, 9)
        sd = 0.01 * np.sqrt(1.0 + (S - made) / 100.0)
        drift = np.concatenate(([0.0], np.cumsum(rng.standard_normal(8) * np.sqrt(np.diff(sd**2)))))
        pieces.hold(Band(made, S[-1], S, 2.0 + 6.0 * S**-0.5 + drift + 0.01 * rng.standard_normal(), sd))
    assert pieces.found == whole.found
    assert len(json.dumps(pieces.state_dict())) < 32_000


def test_a_live_forecast_without_an_alarm_in_its_state_goes_on() -> None:
    live = LiveForecast()
    live.plan(T, None)
    live.watch([1, 2], [3.0, None])
    old = live.state_dict()
    del old["alarm"]
    again = LiveForecast()
    again.load_state_dict(old)
    assert again.departure is None
    assert again.alarm.horizon == T


@pytest.mark.parametrize("L", [np.full(T, 3.0), np.zeros(T), 1e140 * TRUTH, np.full(T, np.nan), 1e-300 * TRUTH])
def test_losses_without_noise_or_measure_do_no_harm(L: Array) -> None:
    live = LiveForecast()
    live.plan(T, None)
    for start in range(0, T, 50):
        live.watch(STEPS[start : start + 50].tolist(), L[start : start + 50].tolist())
        if np.isfinite(L).all() and (start + 50) % 200 == 0:
            live.refit(LossCurve(S=STEPS[: start + 50], L=L[: start + 50]))
    assert live.departure is None


def test_sigmas_of_a_departure_are_those_of_the_mean_where_the_forecast_is_sure() -> None:
    n, off, variance = [4.0] * 6, [0.0, 0.0, 0.0, 1.0, 1.0, 1.0], [1e-12] * 6
    z = sigmas_since(n, off, 1.0, 4.0, variance)
    assert int(np.argmax(z)) == 3
    assert z[3] == pytest.approx(1.0 / math.sqrt(4.0 / 12.0), rel=1e-3)
    assert z[5] == -math.inf  # one block may be a spike
    assert sigmas_since(n, off, 0.1, 4.0, variance)[:4] == [-math.inf] * 4  # it is over


def plain_sigmas(n: Array, off: Array, newest: float, noise: float, variance: Array, c: int) -> float:
    """Return the sigmas of a departure that began with one block, as the docstring of `sigmas_since` says it."""
    weights, mean = n[c:], float(np.average(off[c:], weights=n[c:]))
    v, e, squared = float(np.average(variance[c:], weights=weights)), 0.0, 0.0
    if c:
        v_e, noise_e = min(float(np.average(variance[:c], weights=n[:c])), v), noise / n[:c].sum()
        e = max(float(np.average(off[:c], weights=n[:c])) * v_e / (v_e + noise_e), 0.0)
        squared = v_e * noise_e / (v_e + noise_e) - v_e
    least = e + 0.5 * (mean - e)
    lasts = min(newest, *off[-2:]) > least and (off[c:] > least).mean() >= 0.6
    long = weights.size >= 2 and weights.sum() >= 3.0
    return (mean - e) / math.sqrt(noise / weights.sum() + v + squared) if lasts and long else -math.inf


@pytest.mark.parametrize("seed", range(20))
def test_sigmas_are_those_of_the_formula_block_by_block(seed: int) -> None:
    rng = np.random.default_rng(seed)
    M = int(rng.integers(2, 25))
    n, shift = rng.integers(1, 9, M).astype(float), np.where(np.arange(M) >= M // 2, 3.0, rng.normal())
    off, variance = rng.standard_normal(M) + shift, np.cumsum(rng.random(M)) * rng.choice([1e-6, 1.0])
    z = sigmas_since(n.tolist(), off.tolist(), 3.0, 1.0, variance.tolist())
    assert z == pytest.approx([plain_sigmas(n, off, 3.0, 1.0, variance, c) for c in range(M)], rel=1e-9)
    most = max(z)
    assert sigmas_since(n.tolist(), off.tolist(), 3.0, 1.0, variance.tolist(), above=most) == [-math.inf] * M


def test_a_band_of_one_step_is_that_of_many() -> None:
    S = np.array([90.0, 100.0, 110.0, 120.0])
    band = Band(100, 120.0, S, np.array([4.0, 2.0, 1.0, 0.5]), np.array([1.0, 3.0, 5.0, 9.0]))
    at = np.linspace(80.0, 130.0, 101)
    assert [band.mid_at(x) for x in at] == pytest.approx(np.interp(at, S, band.mid), rel=1e-12)
    assert [band.sd_at(x) for x in at] == pytest.approx(np.interp(at, S, band.sd), rel=1e-12)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(math.nan, "."), (1.2, ", 1 second ago."), (720.0, ", 12 minutes ago."), (9e4, ", 25 hours ago.")],
)
def test_the_sentence_says_when(seconds: float, words: str) -> None:
    said = str(Departure(18_400, 4.13, 2.31, 2.174, 18_944, seconds, "train_loss"))
    assert said == f"train_loss left its forecast at step 18 400, +4.1 sigma (2.31 instead of 2.174){words}"
