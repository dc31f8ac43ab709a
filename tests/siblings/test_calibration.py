"""What forecasts made again were worth: they widen, shift, or leave the law for the drops of the kin."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lightning_scaling import LossCurve, forecast
from lightning_scaling.fit.prior import DEFAULT_PRIOR
from lightning_scaling.fit.record import fit
from lightning_scaling.siblings import calibration
from lightning_scaling.siblings.borrow import borrow
from lightning_scaling.siblings.calibration import Calibration, calibrate
from lightning_scaling.siblings.relevance import schedule_distance
from tests.siblings.planted import Planted, T, family, run


def calibrated(own: Planted, share: float, store: list[Planted]) -> Calibration:
    assert own.lr_schedule is not None
    seen = own.at(share)
    borrowed = borrow(seen, own.lr_schedule, store)
    assert borrowed is not None
    return calibrate(borrowed, seen, fit(seen, own.lr_schedule, DEFAULT_PRIOR, borrowed.kin).posterior)


def bent(one: Planted, by: float) -> Planted:
    """A run whose loss leaves its law in its last tenth."""
    late = one.curve.S > 0.9 * T
    return replace(one, curve=LossCurve(one.curve.S, one.curve.L + by * late, N=one.curve.N), end=one.end + by)


def test_where_laws_held_intervals_are_narrowed(rng: np.random.Generator) -> None:
    own, store = run(rng, 1e7), family(rng, (3e6, 1e7, 3e7))
    found = calibrated(own, 0.5, store)
    assert found.factor < 0.8
    assert found.n_runs == 6
    helped = forecast(own.at(0.5), horizon=T, lr_schedule=own.lr_schedule, store=store).final_loss
    assert float(helped.mid) == pytest.approx(own.end, abs=0.02)


def test_where_every_run_left_its_law_late_that_is_expected_again(rng: np.random.Generator) -> None:
    own, store = run(rng, 1e7), family(rng, (3e6, 1e7, 3e7))
    left = [bent(one, 0.06) for one in store]
    assert calibrated(own, 0.5, left).shift > calibrated(own, 0.5, store).shift + 0.5
    alone, helped = (
        forecast(own.at(0.5), horizon=T, lr_schedule=own.lr_schedule, store=runs).final_loss for runs in (None, left)
    )
    end = own.end + 0.06
    assert abs(float(helped.mid) - end) < 0.7 * abs(float(alone.mid) - end)


def test_runs_that_erred_this_way_and_that_widen(rng: np.random.Generator) -> None:
    own, store = run(rng, 1e7), family(rng, (3e6, 1e7, 3e7))
    torn = [bent(one, by) for one, by in zip(store, (0.3, -0.3, -0.3, 0.3, 0.3, -0.3), strict=True)]
    assert calibrated(own, 0.5, torn).factor > 1.2


def test_the_drops_of_the_kin_count_where_they_served_them(rng: np.random.Generator) -> None:
    """A fall at one step of every run that no law of the learning rate foresees, but that all of them share."""

    def fallen(one: Planted) -> Planted:
        curve = one.curve
        return replace(
            one, curve=LossCurve(curve.S, curve.L - 0.06 * (curve.S > 0.7 * T), N=curve.N), end=one.end - 0.06
        )

    own, store = fallen(run(rng, 1e7)), [fallen(run(rng, N)) for N in (3e6, 3e6, 1e7, 1e7, 3e7)]
    found = calibrated(own, 0.5, store)
    assert found.drop > 0.5
    helped = forecast(own.at(0.5), horizon=T, lr_schedule=own.lr_schedule, store=store).final_loss
    assert float(helped.mid) == pytest.approx(own.end, abs=0.025)


def test_a_lone_relative_says_nothing_of_worth(rng: np.random.Generator) -> None:
    found = calibrated(run(rng, 1e7), 0.5, [run(rng, 1e7)])
    assert found == Calibration(0.0, 1.0, 0.0, 0.0, 0)


def test_shift_and_width_are_those_of_the_errors(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    own, store = run(rng, 1e7), family(rng, (1e7,))
    again = {"error": 2.0}
    # Neither drops nor levels knew anything: they lie where the laws do, and are far from sure.
    monkeypatch.setattr(calibration, "_forecast_again", lambda *_: (again["error"], 0.0, 0.0, 1e6))
    monkeypatch.setattr(calibration, "_level", lambda *_: (0.0, 1e6))
    seen = own.at(0.5)
    borrowed = borrow(seen, own.lr_schedule, store)
    assert borrowed is not None
    borrowed = replace(borrowed, relatives=[replace(one, weight=1.0) for one in borrowed.relatives])
    near = [schedule_distance(borrowed.schedule, one.schedule) / 0.3 for one in borrowed.relatives]
    n = float(np.exp(-0.5 * np.square(near)).sum())
    posterior = fit(seen, own.lr_schedule, DEFAULT_PRIOR, borrowed.kin).posterior
    for error in (0.0, 1.0, 2.0):
        again["error"] = error
        found = calibrate(borrowed, seen, posterior)
        shift = n * error / (3.0 + n)
        assert found.shift == pytest.approx(shift)
        square = (0.7 + 3.0 * shift**2 + n * (error - shift) ** 2) / (0.7 + n)
        assert found.factor == pytest.approx(np.clip(np.sqrt(square), 0.3, 2.5))


def test_early_in_a_run_the_levels_of_its_kin_say_where_it_ends(rng: np.random.Generator) -> None:
    store = family(rng, (3e6, 1e7, 3e7))
    off = {}
    for k in range(4):
        own = run(np.random.default_rng(k), 1e7)
        assert own.lr_schedule is not None
        for name, runs in (("alone", None), ("helped", store)):
            found = forecast(own.at(0.1), horizon=T, lr_schedule=own.lr_schedule, store=runs).final_loss
            off.setdefault(name, []).append(abs(float(found.mid) - own.end))
        assert calibrated(own, 0.1, store).level > 0.2
    assert np.mean(off["helped"]) < 0.5 * np.mean(off["alone"])


def test_levels_of_runs_that_are_kin_to_each_other_only_are_left_alone(rng: np.random.Generator) -> None:
    own, store = run(rng, 1e7), family(rng, (3e6, 1e7, 3e7))
    assert own.lr_schedule is not None
    seen = own.at(0.1)
    borrowed = borrow(seen, own.lr_schedule, store)
    assert borrowed is not None
    posterior = fit(seen, own.lr_schedule, DEFAULT_PRIOR, borrowed.kin).posterior
    found = {}
    for like in (1.0, 0.2):
        distant = replace(borrowed, relatives=[replace(one, weight=like) for one in borrowed.relatives])
        found[like] = calibrate(distant, seen, posterior).level
    assert found[1.0] > 0.2
    assert found[0.2] < 0.2 * found[1.0]
