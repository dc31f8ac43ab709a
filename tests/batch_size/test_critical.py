"""B_crit(L) from runs at several batch sizes, on planted truth."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from lightning_scaling import example_store
from lightning_scaling.batch_size.critical import fit_critical_batch, steps_to_losses
from lightning_scaling.curve import LossCurve
from lightning_scaling.errors import FitError
from lightning_scaling.laws import CriticalBatch

LAW = CriticalBatch(B_star=2e8, alpha_B=0.21)
BATCHES = (2e4, 7e4, 2.5e5, 9e5, 3e6)


def runs(
    batches: Sequence[float] = BATCHES,
    *,
    law: CriticalBatch = LAW,
    rng: np.random.Generator | None = None,
    seeds: float = 0.0,
    noise: float = 0.0,
    unit: float = 1.0,
) -> list[LossCurve]:
    """Return runs of L = 2.2 + 20 S_min^-0.3, their steps off by a factor per run, their losses by noise."""
    rng = rng or np.random.default_rng(0)
    S = np.geomspace(50, 3e4, 250)
    L = 2.2 + 20.0 * S**-0.3
    found = []
    for B in batches:
        steps = S * (1.0 + law.B_crit(L) / B) * math.exp(seeds * rng.standard_normal())
        found.append(LossCurve(S=steps, L=L + noise * rng.standard_normal(L.size), B=B * unit))
    return found


def test_planted_truth_without_noise() -> None:
    fit = fit_critical_batch(runs())
    assert fit.require_ok().B_star == pytest.approx(2e8, rel=1e-2)
    assert fit.require_ok().alpha_B == pytest.approx(0.21, rel=2e-3)
    assert fit.B_crit.mid == pytest.approx(LAW.B_crit(fit.losses), rel=2e-3)
    assert fit.S_min == pytest.approx(((fit.losses - 2.2) / 20.0) ** (-1.0 / 0.3), rel=1e-2)
    assert fit.residual < 1e-3
    assert fit.n_runs == 5
    assert fit.reason == ""
    assert str(fit).startswith("B_crit(L) = 2e+08 tokens / L^4.762; at loss 3.146: 8522")


def test_planted_truth_lies_in_the_intervals_as_often_as_they_say(rng: np.random.Generator) -> None:
    held: list[list[bool]] = []
    errors = []
    for _ in range(40):
        fit = fit_critical_batch(runs(rng=rng, seeds=0.05, noise=0.02))
        middle = len(fit.losses) // 2
        low, mid, high = (float(np.ravel(x)[middle]) for x in (fit.B_crit.low, fit.B_crit.mid, fit.B_crit.high))
        truth = float(LAW.B_crit(fit.losses[middle]))
        held.append([low <= truth <= high, bool(fit.alpha_B.low <= 0.21 <= fit.alpha_B.high)])
        errors.append(math.log(mid / truth))
    assert np.all(np.mean(held, axis=0) >= 0.82)
    assert abs(np.mean(errors)) < 0.05
    assert 0.03 < np.std(errors) < 0.2


def test_the_unit_of_the_batch_is_the_unit_of_the_answer() -> None:
    samples, tokens = fit_critical_batch(runs()), fit_critical_batch(runs(unit=1024.0))
    assert tokens.require_ok().B_star == pytest.approx(1024.0 * samples.require_ok().B_star, rel=1e-3)
    assert tokens.require_ok().alpha_B == pytest.approx(samples.require_ok().alpha_B, rel=1e-4)


def test_three_runs_give_a_law_and_no_intervals() -> None:
    fit = fit_critical_batch(runs(BATCHES[::2]))
    assert fit.require_ok().alpha_B == pytest.approx(0.21, rel=1e-2)
    assert math.isnan(float(fit.alpha_B.low))
    assert "intervals need runs" in fit.reason


def test_runs_that_reach_only_some_of_the_losses_are_used_for_those() -> None:
    every = runs()
    every[0] = every[0].until(float(every[0].S[200]))
    fit = fit_critical_batch(every)
    assert fit.n_runs == 5
    assert fit.require_ok().alpha_B == pytest.approx(0.21, rel=1e-2)


@pytest.mark.parametrize(
    ("curves", "why"),
    [
        ([], "at 0 batch sizes"),
        (runs(BATCHES[:2]), "Give runs at more batch sizes"),
        (runs([1e5] * 4), "Give runs at more batch sizes"),
        (runs([1e12, 1e13, 1e14, 1e15]), "far above"),
        (runs([1e-2, 1e-1, 1.0, 10.0]), "far below"),
        ([LossCurve([1], [2.0], B=B) for B in BATCHES], "at 0 batch sizes"),
        ([LossCurve([1, 9], [2.0, 3.0], B=B) for B in BATCHES], "at 0 batch sizes"),
        ([LossCurve([], [], B=[]) for _ in BATCHES], "at 0 batch sizes"),
    ],
)
def test_runs_that_do_not_tell_it(curves: list[LossCurve], why: str) -> None:
    given = None if not curves or len(curves[0]) else BATCHES
    fit = fit_critical_batch(curves, B=given)
    assert fit.critical is None
    assert why in fit.reason
    assert why in str(fit)
    with pytest.raises(FitError, match="critical batch size"):
        fit.require_ok()


def test_a_critical_batch_that_falls_with_the_loss_is_no_law() -> None:
    S = np.geomspace(50, 3e4, 250)
    L = 2.2 + 20.0 * S**-0.3
    curves = [LossCurve(S=S * (1.0 + 3e3 * L**3 / B), L=L, B=B) for B in BATCHES]
    assert "B_crit falls with the loss" in fit_critical_batch(curves).reason


def test_crossings_of_a_noisy_curve_lean_to_no_side(rng: np.random.Generator) -> None:
    S = np.geomspace(10, 1e4, 400)
    L = 2.0 + 6.0 * S**-0.4
    levels = np.array([3.0, 2.5, 2.3])
    truth = steps_to_losses(LossCurve(S=S, L=L), levels)
    assert truth == pytest.approx(((levels - 2.0) / 6.0) ** -2.5, rel=1e-2)
    off = [
        np.log(steps_to_losses(LossCurve(S=S, L=L + 0.03 * rng.standard_normal(S.size)), levels) / truth)
        for _ in range(60)
    ]
    assert np.abs(np.mean(off, axis=0)).max() < 0.04
    assert np.all(np.isnan(steps_to_losses(LossCurve(S=S, L=L), [20.0, 2.0])))


@pytest.mark.parametrize(
    "arguments",
    [{"B": [1.0, 2.0]}, {"B": [1.0, 2.0, 3.0, 4.0, math.nan]}, {"losses": [3.0, -1.0]}, {"level": 1.0}],
)
def test_wrong_arguments_say_what_was_expected(arguments: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"Expected .*got"):
        fit_critical_batch(runs(), **arguments)


def test_runs_of_a_store_are_asked_for_their_curves() -> None:
    stored = example_store().runs(tags={"width": 32})
    with pytest.raises(TypeError, match=r"^Expected curves to be LossCurves, got StoredRun, so .*\[run\.curve for run"):
        fit_critical_batch(stored)  # type: ignore[arg-type]


def test_a_batch_size_that_is_nowhere_is_asked_for() -> None:
    with pytest.raises(ValueError, match="batch size above 0 for each of 1 curves"):
        fit_critical_batch([LossCurve([1, 2], [3.0, 2.0])])


def test_the_beginning_of_runs_is_not_compared_unless_asked_for() -> None:
    S = np.unique(np.geomspace(1, 3e4, 400).round())
    law = 2.2 + 20.0 * np.maximum(S, 50.0) ** -0.3
    rate = np.minimum(S / 1000.0, 1.0)
    # The same warm-up at every batch size: there the steps to a loss say nothing of the batch.
    curves = [
        LossCurve(S=S * (1.0 + LAW.B_crit(law) / B) + 1000.0, L=law + 9.0 * np.exp(-S / 200.0), lr=rate, B=B)
        for B in BATCHES
    ]
    fit = fit_critical_batch(curves)
    for curve in curves:
        begin = max(0.1 * float(curve.S[-1]), 2.0 * float(curve.S[np.argmax(rate >= 0.99)]))
        assert np.nanmin(steps_to_losses(curve, fit.losses)) >= 0.99 * begin


def test_of_the_example_store_the_default_agrees_with_levels_chosen_by_hand_and_holds_them() -> None:
    scan = [run.curve for run in example_store().runs(tags={"width": 32, "schedule": "constant"}, state="finished")]
    found = fit_critical_batch(scan)
    assert found.n_runs == 5
    i = int(np.argmin(np.abs(found.losses - 1.85)))
    low, high = (float(x[i]) for x in (found.B_crit.low, found.B_crit.high))
    for top, end in ((2.3, 1.81), (2.2, 1.87), (2.1, 1.83), (2.0, 1.83)):
        chosen = fit_critical_batch(scan, losses=np.geomspace(top, end, 10)).require_ok()
        assert low < float(chosen.B_crit(found.losses[i])) < high
