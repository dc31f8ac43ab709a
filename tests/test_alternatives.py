"""Other ways to go on: against runs that really went on so, and what is said of them."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import synthetic
from benchmarks.synthetic import SyntheticRun, constant, cosine, wsd
from lightning_scaling import Alternative, LossCurve, LRSchedule, Price, Verdict, decay_now, forecast, longer
from lightning_scaling.alternatives.alternative import compare
from lightning_scaling.alternatives.ask import _branched
from lightning_scaling.fit.annealing import Annealing, Response
from lightning_scaling.fit.power import effective_time
from lightning_scaling.interval import Interval

T, NOW = 8000, 4000
SCHEDULES = {
    "wsd": wsd(T, warm_up=200, decay_from=0.8),
    "constant": constant(T, warm_up=200),
    "cosine": cosine(T, warm_up=200),
}


def holds(interval: Interval, truth: float) -> bool:
    return bool(interval.low <= truth <= interval.high)


def planted(rng: np.random.Generator, schedule: LRSchedule) -> SyntheticRun:
    """Draw a run of the engine's own law, with a decay as large as decays are believed to be."""
    E, A, alpha = rng.uniform(1.5, 3.0), rng.uniform(0.1, 0.5), rng.uniform(0.4, 0.6)
    b = float(np.exp(0.33 * rng.standard_normal())) / (1.0 / (2.0 * A * alpha) + 1.0 / (0.055 * (E + A)))
    return SyntheticRun(schedule, E=E, A=A, alpha=alpha, b=b, noise=0.03, seed=int(rng.integers(1 << 30)))


def end_of(run: SyntheticRun, schedule: LRSchedule) -> float:
    """Return where a run of the same law ends under another schedule."""
    at = np.arange(int(0.98 * schedule.horizon) + 1, schedule.horizon + 1, dtype=float)
    z, z_end = schedule.summed(at), run.schedule.summed(float(T))
    ratio = effective_time(z, np.array(run.delay)) / effective_time(z_end, np.array(run.delay))
    a = Annealing(schedule, (Response(0.0, 0.7),)).at(at)[:, 0]
    return float((run.E + run.A * ratio**-run.alpha - run.b * a).mean())


def stretched(schedule: LRSchedule) -> LRSchedule:
    return longer(synthetic_curve(schedule), T, schedule).other._posterior.schedule  # type: ignore[union-attr]


def synthetic_curve(schedule: LRSchedule) -> LossCurve:
    return SyntheticRun(schedule).curve(NOW / T)


@pytest.mark.parametrize("shape", SCHEDULES)
@pytest.mark.parametrize("ask", [decay_now, longer])
def test_it_covers_what_a_run_that_went_on_so_came_to(
    shape: str, ask: Callable[..., Alternative], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(synthetic, "_RESPONSE", Response(0.0, 0.7))
    rng, schedule, n = np.random.default_rng(5), SCHEDULES[shape], 15
    held = {"other": 0, "difference": 0}
    narrower = []
    for _ in range(n):
        run = planted(rng, schedule)
        found = ask(run.curve(NOW / T), T, schedule)
        other = found.other._posterior.schedule  # type: ignore[union-attr]
        truth, as_planned = end_of(run, other), end_of(run, schedule)
        assert as_planned == pytest.approx(run.end, abs=1e-5)
        held["other"] += holds(found.other.final_loss, truth)
        held["difference"] += holds(found.difference, truth - as_planned)
        widths = [float(x.final_loss.half_width) for x in (found.planned, found.other)]
        narrower.append(float(found.difference.half_width) / np.hypot(*widths))
    assert min(held.values()) >= 11  # of 15 at 90 %: fewer come by chance once in eighty times
    assert max(narrower) < 1.1  # never wider than two independent forecasts, and
    if shape != "constant" or ask is longer:  # where both futures rest on one law
        assert np.median(narrower) < 0.5


@pytest.mark.parametrize("size", ["25M", "100M"])
@pytest.mark.parametrize("decay", ["wsd", "wsdld"])
def test_a_real_run_that_did_decay(size: str, decay: str) -> None:
    """A folder of public curves has runs that decayed after 20 000 steps, and twins that held their rate."""
    folder = Path(os.environ.get("LIGHTNING_SCALING_CURVES", "no such folder"))
    names = [f"mpl_{size}_constant_72000", f"mpl_{size}_{decay}_20000_24000"]
    if not all((folder / f"{name}.csv").is_file() for name in names):
        pytest.skip("needs the Multi-Power Law runs in $LIGHTNING_SCALING_CURVES")
    (S, L), (S_decayed, L_decayed) = (read(folder / f"{name}.csv") for name in names)
    horizon, seen = int(S[-1]), S <= 20_000
    found = decay_now(LossCurve(S[seen], L[seen]), horizon, [3e-4] * horizon, decay_steps=4000)
    truth = float(L_decayed[S_decayed > 0.98 * S_decayed[-1]].mean())
    as_planned = float(L[S > 0.98 * horizon].mean())
    assert holds(found.other.final_loss, truth)
    assert abs(float(found.other.final_loss.mid) - truth) < 0.02
    assert holds(found.difference, truth - as_planned)


def read(path: Path) -> tuple[np.ndarray, np.ndarray]:
    with path.open(newline="", encoding="utf-8") as stream:
        rows = [(float(row["step"]), float(row["loss"])) for row in csv.DictReader(stream)]
    S, L = np.array(rows).T
    return S, L


@pytest.mark.parametrize("shape", SCHEDULES)
def test_the_past_of_the_schedule_stays_as_it_was(shape: str) -> None:
    schedule, curve = SCHEDULES[shape], synthetic_curve(SCHEDULES[shape])
    steps = np.arange(1, NOW + 1)
    for found in (decay_now(curve, T, schedule), longer(curve, T, schedule, 3.0)):
        other = found.other._posterior.schedule  # type: ignore[union-attr]
        assert other.horizon == found.other.horizon
        assert other.summed(steps) == pytest.approx(schedule.summed(steps), rel=1e-12)


def test_a_decay_goes_from_the_present_rate_to_zero() -> None:
    found = decay_now(synthetic_curve(SCHEDULES["cosine"]), T, SCHEDULES["cosine"], decay_steps=1000)
    other = found.other._posterior.schedule  # type: ignore[union-attr]
    rate = float(SCHEDULES["cosine"].rate_at(NOW))
    assert other.horizon == NOW + 1000
    assert other.rate_at([NOW + 5, NOW + 500, NOW + 1000]) == pytest.approx([rate, 0.5 * rate, 0.0], abs=0.01)
    assert float(other.summed(NOW + 1000) - other.summed(NOW)) == pytest.approx(500.0 * rate, rel=1e-9)


@pytest.mark.parametrize(("step", "steps"), [(4000, 800), (1234, 250), (1000, 200), (7500, 500)])
def test_a_decay_takes_a_fifth_of_the_steps_done_but_ends_in_time(step: int, steps: int) -> None:
    curve = LossCurve(np.arange(1, step + 1), 2.0 + 6.0 * np.arange(1, step + 1) ** -0.5)
    assert decay_now(curve, T, np.ones(T)).decay_steps == steps


def test_longer_stretches_what_is_left() -> None:
    schedule = SCHEDULES["wsd"]
    other = stretched(schedule)
    assert other.horizon == 2 * T
    left = np.array([0.1, 0.5, 0.7, 0.9, 1.0])
    planned, then = schedule.rate_at(NOW + left * (T - NOW)), other.rate_at(NOW + left * (2 * T - NOW))
    assert then == pytest.approx(planned, abs=0.02)


def test_any_decay_may_be_asked_of_a_branch() -> None:
    rates = np.concatenate((np.ones(50), np.zeros(50)))
    branched = _branched(
        LRSchedule.from_array(rates), 20, np.array([20.0, 30.0, 40.0]), np.array([0.5, 0.0]), known=True
    )
    assert branched.rate_at([1, 20, 21, 30, 31, 40]).tolist() == [1.0, 1.0, 0.5, 0.5, 0.0, 0.0]


def test_a_forecast_that_is_there_already_is_used() -> None:
    curve, schedule = synthetic_curve(SCHEDULES["wsd"]), SCHEDULES["wsd"]
    planned = forecast(curve, horizon=T, lr_schedule=schedule)
    assert decay_now(curve, T, schedule, planned=planned).planned is planned
    again = decay_now(curve, T, schedule)
    assert again.planned.final_loss == planned.final_loss
    assert again.difference == decay_now(curve, T, schedule, planned=planned).difference
    with pytest.raises(ValueError, match="so leave it out"):
        longer(curve, T, schedule, planned=replace(planned, step=NOW - 1))


def test_without_a_schedule_the_rate_is_held() -> None:
    curve = synthetic_curve(SCHEDULES["constant"])
    found = decay_now(curve, T)
    assert found.usable
    assert not found.planned.schedule_known
    assert found.planned.final_loss == forecast(curve, horizon=T).final_loss
    known = decay_now(curve, T, np.ones(T))
    assert found.other.final_loss.mid == pytest.approx(known.other.final_loss.mid, abs=0.01)
    assert not longer(curve, T).other.schedule_known


def test_what_is_not_usable_is_a_verdict() -> None:
    curve = synthetic_curve(SCHEDULES["wsd"]).until(150)
    found = decay_now(curve, T, SCHEDULES["wsd"], price=Price(1.0, 1.0))
    assert found.planned.verdict is Verdict.TOO_EARLY
    assert not found.usable
    assert found.sentence() == ""
    assert str(found).startswith("No comparison (decay now): too early. ")


def test_a_loss_that_rises_is_compared_as_two_independent_forecasts() -> None:
    S = np.arange(50, 6001, 50, dtype=float)
    loss = 2.0 + 4.0 * S**-0.5 + 1e-4 * np.maximum(S - 3000.0, 0.0)
    loss += 0.002 * np.random.default_rng(1).standard_normal(S.size)
    found = longer(LossCurve(S, loss), 10_000, np.ones(10_000))
    assert found.planned.verdict is Verdict.RISING
    x, y = found.other.final_loss, found.planned.final_loss
    assert found.difference.mid == pytest.approx(x.mid - y.mid)
    assert found.difference.half_width >= max(float(x.half_width), float(y.half_width))


class TestPrices:
    found = decay_now(synthetic_curve(SCHEDULES["wsd"]), T, SCHEDULES["wsd"], price=Price(1.8, 5.0))

    def test_steps_hours_and_money(self) -> None:
        found = self.found
        assert found.decay_steps == 800
        assert (found.steps, found.hours, found.money) == (-3200, pytest.approx(-1.6), pytest.approx(-8.0))
        assert found.share == pytest.approx(0.2)
        for gain, cost in ((found.gain_per_step, 3200.0), (found.gain_per_hour, 1.6), (found.gain_per_money, 8.0)):
            assert gain is not None
            assert [gain.low * cost, gain.mid * cost, gain.high * cost] == pytest.approx(
                [found.difference.low, found.difference.mid, found.difference.high]
            )

    def test_the_longer_one_buys_a_lower_loss_either_way_round(self) -> None:
        curve, schedule = synthetic_curve(SCHEDULES["constant"]), SCHEDULES["constant"]
        twice, half = longer(curve, T, schedule), longer(curve, T, schedule, 0.75)
        assert (twice.name, half.name) == ("longer", "shorter")
        assert twice.difference.mid < 0.0 < half.difference.mid
        assert float(twice.gain.mid) > 0.0
        assert float(half.gain.mid) > 0.0
        assert float(half.gain_per_step.mid) > float(twice.gain_per_step.mid)  # steps buy ever less

    def test_what_it_says(self) -> None:
        lines = str(self.found).splitlines()
        assert lines[0].startswith("Let the learning rate fall now, over 800 steps: the run should end at 2.")
        assert lines[1].startswith("As planned, to step 8 000: 2.")
        assert lines[2].startswith("It ends 0.1")
        assert lines[2].endswith(" higher, with 3 200 steps fewer, 1.6 hours and 8 in money less.")
        assert "per 1 000 steps, " in lines[3]
        assert lines[3].endswith(" per unit of money.")
        assert self.found.sentence().startswith("Decaying now over 800 steps would end at 2.")
        assert self.found.sentence().endswith(
            " at the planned end, in 20 % of the hours still to come, 1.6 hours and 8 in money less."
        )

    def test_without_a_price_steps_only(self) -> None:
        plain = replace(self.found, price=None)
        assert (plain.hours, plain.money, plain.gain_per_hour, plain.gain_per_money) == (None, None, None, None)
        assert plain.sentence().endswith(" at the planned end, in 20 % of the steps still to come.")
        timed = replace(self.found, price=Price(1.8))
        assert (timed.hours, timed.money) == (pytest.approx(-1.6), None)
        assert timed.sentence().endswith("1.6 hours less.")
        assert replace(self.found, price=Price(0.9)).sentence().endswith("48 minutes less.")
        assert replace(self.found, price=Price(0.001)).sentence().endswith("3.2 seconds less.")
        assert str(timed).endswith(" per hour.")

    @pytest.mark.parametrize(
        ("arguments", "error"),
        [
            ((0.0,), ValueError),
            ((float("nan"),), ValueError),
            (("1",), TypeError),
            ((1.0, -1.0), ValueError),
            ((1.0, True), TypeError),
        ],
    )
    def test_bad_prices(self, arguments: tuple[Any, ...], error: type[Exception]) -> None:
        with pytest.raises(error, match=r"Expected .*got"):
            Price(*arguments)


@pytest.mark.parametrize(
    ("ask", "error", "words"),
    [
        (lambda c: decay_now(c, T, np.ones(T), decay_steps=0), ValueError, "at least 1"),
        (lambda c: decay_now(c, T, np.ones(T), decay_steps=1.5), TypeError, "give an int"),
        (lambda c: decay_now(c, None), TypeError, "Expected horizon to be a number of steps"),
        (lambda c: decay_now(c, NOW, np.ones(NOW)), ValueError, "no rate to let fall"),
        (lambda c: decay_now(c, T, np.ones(T - 1)), ValueError, "one learning rate per optimizer step"),
        (lambda c: decay_now(c, NOW - 1, np.ones(NOW - 1)), ValueError, "a curve up to 4000"),
        (lambda c: decay_now(c, T, np.arange(T) < NOW - 10), ValueError, "rate above 0"),
        (lambda c: decay_now(LossCurve([], []), T, np.ones(T)), ValueError, "between its first and its last"),
        (lambda c: decay_now([1.0], T), TypeError, "LossCurve"),
        (lambda c: decay_now(c, T, np.ones(T), price=2.0), TypeError, "Price"),
        (lambda c: longer(c, T, np.ones(T), 1.0), ValueError, "another end"),
        (lambda c: longer(c, T, np.ones(T), 0.5), ValueError, "another end"),
        (lambda c: longer(c, T, np.ones(T), float("nan")), ValueError, "another end"),
        (lambda c: longer(c, T, np.ones(T), "2"), TypeError, "times to be a number"),
        (lambda c: longer(c, NOW, np.ones(NOW)), ValueError, "no rest"),
        (lambda c: longer(c, T, np.ones(T), level=2.0), ValueError, "level"),
    ],
)
def test_bad_arguments(ask: Callable[[LossCurve], Any], error: type[Exception], words: str) -> None:
    with pytest.raises(error, match=words):
        ask(synthetic_curve(SCHEDULES["constant"]))


def test_compare_of_a_forecast_with_itself_is_nothing() -> None:
    planned = forecast(synthetic_curve(SCHEDULES["wsd"]), horizon=T, lr_schedule=SCHEDULES["wsd"])
    same = compare("same", planned, planned, SCHEDULES["wsd"])
    assert same.difference.mid == pytest.approx(0.0, abs=1e-9)
    assert same.steps == 0
    assert np.isnan(same.gain_per_step.mid)
