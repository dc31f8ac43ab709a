"""A rise is seen where there is one, and carried on."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling import Action, LossCurve, LRSchedule, Reason, TargetUnreachable, Verdict, advise, forecast
from lightning_scaling.fit.data import reduce_curve
from lightning_scaling.fit.rise import Rise

S = np.arange(100, 10_001, 100, dtype=float)
FALL = 2.0 + 5.0 * S**-0.4
OVERFITS = FALL + 0.25 * np.maximum(S - 3000, 0) / 7000


def rise(L: np.ndarray, S: np.ndarray = S, schedule: LRSchedule | None = None) -> Rise | None:
    data = reduce_curve(LossCurve(S, L), windows_per_e_fold=32, e_folds=4.0, outlier=5.0)
    return Rise.of(data, schedule or LRSchedule.constant(20_000))


def test_a_held_out_loss_that_turns_is_seen(rng: np.random.Generator) -> None:
    for share in (0.55, 0.7, 0.9):
        seen = S <= share * S[-1]
        found = rise((OVERFITS + 0.003 * rng.standard_normal(S.size))[seen], S[seen])
        assert found is not None
        assert 2500 < found.since < 5500


def test_its_end_lies_in_the_interval_and_above_the_present(rng: np.random.Generator) -> None:
    for share in (0.6, 0.7, 0.85):
        seen = S <= share * S[-1]
        L = OVERFITS + 0.003 * rng.standard_normal(S.size)
        f = forecast(LossCurve(S[seen], L[seen]), horizon=int(S[-1]))
        assert f.verdict is Verdict.RISING
        assert f.final_loss.low <= OVERFITS[-1] <= f.final_loss.high
        assert f.final_loss.mid > L[seen][-1]
        assert "still falls" not in str(f)
        said = advise(f)
        assert (said.action, said.reason) == (Action.WAIT, Reason.RISING)
        assert "rises since step" in said.sentence


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.05])
def test_a_loss_that_falls_or_stays_is_none(rng: np.random.Generator, noise: float) -> None:
    for L in (FALL, np.full(S.size, 2.0), FALL + 0.3 * (S > 6000), FALL + 2.0 * (np.abs(S - 6000) < 150)):
        for _ in range(20):
            assert rise(L + noise * rng.standard_normal(S.size)) is None


def test_its_fates_begin_at_the_present_and_go_apart() -> None:
    r = Rise(since=100.0, seen=990.0, slope=0.01, level=2.5, now=1000.0)
    assert r.weight.sum() == pytest.approx(1.0)
    higher = r.above(np.array([990.0, 1000.0, 2000.0]), present_by_law=2.0)
    assert higher[:, 0] == pytest.approx(0.0)
    assert higher[:, 1] == pytest.approx(0.5)
    assert higher[0, 2] == pytest.approx(0.0, abs=1e-3)  # returns to its law
    assert np.diff(higher[1:, 2]).min() > 0


def test_a_rate_that_rises_or_has_yet_to_fall_explains_a_rise(rng: np.random.Generator) -> None:
    L = OVERFITS + 0.003 * rng.standard_normal(S.size)
    steps = np.arange(1, 20_001)
    steady, cosine = np.ones(20_000), 0.5 * (1 + np.cos(np.pi * steps / 20_000))
    warmed_again = np.where(steps < 4000, 0.3, 1.0)
    assert rise(L, schedule=LRSchedule.from_array(steady)) is not None
    assert rise(L, schedule=LRSchedule.from_array(cosine)) is None
    assert rise(L, schedule=LRSchedule.from_array(warmed_again)) is None


def test_no_rule_acts_on_a_bump_that_passes(rng: np.random.Generator) -> None:
    n = 4000
    steps = np.arange(1, n + 1, dtype=float)
    bump = 0.3 * np.clip(1 - np.abs(steps - 1300) / 500, 0, 1)
    L = 2 + 6 / np.sqrt(steps) + bump + 0.03 * rng.standard_normal(n)
    target = 2 + 6 / np.sqrt(n) + 0.03
    for now in range(800, 2600, 100):
        f = forecast(LossCurve(steps[:now], L[:now]), horizon=n, lr_schedule=np.ones(n))
        if f.verdict is Verdict.RISING:
            assert TargetUnreachable(target).judge(f).action is Action.WAIT
            assert f.probability_below(target) > 1e-3  # it may yet return to its law
