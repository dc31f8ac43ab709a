"""own_laws(): what finished runs of one's own say to a plan."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from lightning_scaling import LossCurve, RunStore, plan
from lightning_scaling.joint import spread_over_sizes
from lightning_scaling.laws import HoffmannND
from lightning_scaling.own_laws import own_laws

LAW = HoffmannND(E=1.0, A_N=40.0, A_D=300.0, alpha_N=0.35, alpha_D=0.5)
SIZES = np.geomspace(1e4, 1e7, 5)


@dataclass(frozen=True)
class StoredLike:
    """What is asked of a run that is chosen by its size."""

    N: float
    steps: int
    age: int

    @property
    def curve(self) -> LossCurve:
        return LossCurve([self.steps], [2.0])


def keep(
    store: RunStore, N: float | None, *, B: float | None = 512.0, seed: int = 0, T: int = 4000, **more: Any
) -> None:
    """Put a run of the law into a store; its rate is held unless another schedule is given."""
    S = np.arange(10, T + 1, 10)
    L = LAW.loss(N or 1e5, S * (B or 512.0)) + 0.02 * np.random.default_rng(seed).standard_normal(S.size)
    rates = more.pop("rates", np.minimum(np.arange(1, T + 1) / 50, 1.0))
    store.add(LossCurve(S, L, N=N, B=B), horizon=T, lr_schedule=rates, **more)


@pytest.fixture
def store(tmp_path: Any) -> RunStore:
    return RunStore(tmp_path)


def test_the_planted_law_answers_a_plan(store: RunStore) -> None:
    for seed, N in enumerate(SIZES):
        keep(store, float(N), seed=seed)
    keep(store, 1e5, B=1024.0)
    keep(store, None)
    keep(store, 1e5, rates=np.linspace(1.0, 0.1, 4000))
    keep(store, 1e5, finished=False)
    found = own_laws(store)
    assert found.reason == ""
    assert (found.n_runs, found.n_sizes) == (5, 5)
    assert sum(found.left_out.values()) == 4
    assert found.laws is not None
    got = plan(C=6.0 * 1e6 * 2e6, laws=found.laws)
    assert got.hoffmann is not None
    assert got.hoffmann.N.low < LAW.N_opt(1.2e13) < got.hoffmann.N.high
    assert got.hoffmann.L.mid == pytest.approx(float(LAW.loss_opt(1.2e13)), abs=0.1)
    assert got.hoffmann.N_beyond == 0.0
    assert got.hoffmann.B is not None
    assert got.hoffmann.B.mid == 512.0
    assert got.kaplan is not None
    assert "NOT YOURS" not in str(got)


def test_what_the_runs_lack_is_said(store: RunStore) -> None:
    assert own_laws(store).reason.startswith("Expected finished runs of 3 sizes at a held learning rate")
    for N in (1e4, 1e5):
        keep(store, N)
    keep(store, None)
    keep(store, 1e6, B=None)
    reason = own_laws(store).reason
    assert "got 2 of 2 sizes; 1 without a size N; 1 without one batch size." in reason
    keep(store, 1e6)
    assert own_laws(store).laws is not None
    assert "of 64 tokens per step, got none" in own_laws(store, B=64.0).reason
    with pytest.raises(ValueError, match=r"^Expected level between 0 and 1"):
        own_laws(store, level=90)


def test_runs_that_tell_no_law_are_no_error(store: RunStore) -> None:
    S = np.arange(1, 101)
    for N in (1e4, 1e5, 1e6):
        store.add(LossCurve(S, 3.0 + 0.01 * S, N=N, B=64.0), horizon=100, lr_schedule=np.ones(100))
    found = own_laws(store)
    assert found.laws is None
    assert "that do not: the losses do not fall" in found.reason


def test_of_many_runs_the_longest_of_each_size_are_fitted(store: RunStore) -> None:
    for seed in range(5):
        for k, N in enumerate(SIZES[:3]):
            keep(store, float(N), seed=10 * seed + k, T=600 if seed else 800)
    found = own_laws(store)
    assert found.reason == ""
    assert (found.n_runs, found.n_sizes) == (12, 3)
    assert found.left_out == {"beyond the 12 that are fitted, the longest of each size": 3}
    assert found.joint is not None
    assert found.joint.n_runs == 12
    assert found.joint.steps[1] > 700  # the longest is among them
    assert found.laws is not None
    assert found.laws.hoffmann == found.joint.hoffmann(512.0)[::10]


def test_sizes_are_taken_evenly_apart_and_the_newest_of_equals() -> None:
    runs = [StoredLike(N=1e4 * 2.0**k, steps=steps, age=age) for age in (1, 0) for k in range(20) for steps in (50, 90)]
    chosen = spread_over_sizes(runs)
    assert len(chosen) == 12
    assert (chosen[0].N, chosen[-1].N) == (1e4, 1e4 * 2.0**19)
    assert {(run.curve.step, run.age) for run in chosen} == {(90, 0)}
    gaps = np.diff(np.log2([run.N for run in chosen]).round())
    assert set(gaps) == {1, 2}
    assert spread_over_sizes(runs[:6], repeats=False) == [runs[1], runs[3], runs[5]]
    assert spread_over_sizes(runs[:6], 4, repeats=True) == [runs[1], runs[3], runs[5], runs[0]]
    assert spread_over_sizes([]) == []
