"""trend(): planted means and slopes are found again, and agreement is what makes a prediction narrow."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from lightning_scaling.siblings.trend import Scatter, trend

PRIOR = Scatter(middle=(0.0, 1.0), per_log_N=(0.05, 0.08), per_log_T=(0.0, 0.08), spread=0.1)


def test_the_stated_probability_holds_over_worlds_drawn_from_the_prior(rng: np.random.Generator) -> None:
    off = []
    for _ in range(400):
        n = int(rng.integers(1, 10))
        log_N, log_T = rng.normal(0.0, 2.0, n), rng.normal(0.0, 1.0, n)
        m, per_N, per_T = rng.normal((0.0, 0.05, 0.0), (1.0, 0.08, 0.08))
        sigma, variances = 0.1 * rng.choice([0.7, 1.0, 1.4]), rng.uniform(1e-4, 0.02, n)
        values = m + per_N * log_N + per_T * log_T + rng.normal(0.0, np.sqrt(sigma**2 + variances))
        said = trend(values, variances, np.ones(n), log_N, log_T, PRIOR)
        off.append((m + sigma * rng.standard_normal() - said.mean) / said.sd)
    inside = np.abs(off) < 1.645
    assert inside.mean() == pytest.approx(0.9, abs=2.5 * np.sqrt(0.09 / 400))
    assert np.mean(off) == pytest.approx(0.0, abs=3.0 / np.sqrt(400))


def test_many_exact_runs_tell_mean_and_slopes(rng: np.random.Generator) -> None:
    n = 200
    log_N, log_T = rng.normal(-3.0, 2.0, n), rng.normal(1.0, 1.0, n)
    values = 2.0 + 0.2 * log_N - 0.1 * log_T + 0.02 * rng.standard_normal(n)
    # All of them are smaller and longer than the run: it is the slopes that lead there.
    said = trend(values, np.full(n, 1e-6), np.ones(n), log_N, log_T, PRIOR)
    assert said.mean == pytest.approx(2.0, abs=3.0 * 0.02 / np.sqrt(n / 4))
    assert said.sd < 0.05


def test_siblings_that_agree_narrow_and_siblings_that_do_not_widen() -> None:
    def said(apart: float, n: int) -> float:
        values = np.linspace(-apart, apart, n)
        return trend(values, np.full(n, 1e-5), np.ones(n), np.zeros(n), np.zeros(n), PRIOR).sd

    assert said(0.005, 6) < 0.6 * said(0.005, 2)
    assert said(0.005, 6) < 0.6 * said(0.15, 6) < 0.6**2 * said(0.5, 6)


def test_without_weight_or_knowledge_the_prior_is_left() -> None:
    one = np.ones(1)
    for weights, variances in ((1e-9 * one, one), (one, 1e9 * one)):
        said = trend(5.0 * one, variances, weights, 0.0 * one, 0.0 * one, PRIOR)
        assert said.mean == pytest.approx(0.0, abs=1e-3)
        assert said.sd > 1.0


def test_a_run_far_off_in_size_tells_less() -> None:
    one = np.ones(1)
    near, far = (trend(one, 1e-4 * one, one, log_N * one, 0.0 * one, PRIOR) for log_N in (0.0, 4.0))
    assert near.sd < 0.6 * far.sd
    assert far.mean == pytest.approx(1.0 - 4.0 * 0.05, abs=0.1)  # by the slope that the prior expects


def test_pairs_of_one_kind_tell_the_drift_with_the_size_whatever_their_kind(rng: np.random.Generator) -> None:
    """Kinds differ by far more than sizes do, and only one kind is like that of the run."""
    by_size, n = 0.2, 5
    kinds = rng.normal(0.0, 0.5, n)
    values = np.concatenate((kinds - 2.0 * by_size, kinds - by_size)) + 0.005 * rng.standard_normal(2 * n)
    log_N = np.repeat([-2.0, -1.0], n)
    kind = np.append(np.tile(np.arange(n), 2), 0)
    alike = np.where(kind[:, None] == kind, 1.0, 0.0)
    prior = replace(PRIOR, spread=0.05, by_kind=0.3)
    given = values, np.full(2 * n, 1e-6), np.ones(2 * n), log_N, np.zeros(2 * n)
    found, blind = trend(*given, prior, alike), trend(*given, prior)
    assert found.mean == pytest.approx(kinds[0], abs=0.05)
    assert abs(found.mean - kinds[0]) < 0.3 * abs(blind.mean - kinds[0])
    assert found.sd < 0.5 * blind.sd


def test_a_kind_that_no_run_is_of_is_as_unsure_as_kinds_differ(rng: np.random.Generator) -> None:
    n = 6
    prior, alike = replace(PRIOR, by_kind=0.3), np.ones((n + 1, n + 1))
    given = 0.01 * rng.standard_normal(n), np.full(n, 1e-4), np.ones(n), np.zeros(n), np.zeros(n)
    near = trend(*given, prior, alike)
    alike[-1, :-1] = alike[:-1, -1] = 0.0
    far = trend(*given, prior, alike)
    assert far.sd > 2.0 * near.sd


def test_kinds_that_do_not_differ_are_no_kinds(rng: np.random.Generator) -> None:
    n = 6
    given = rng.standard_normal(n), np.full(n, 0.01), rng.uniform(0.2, 1.0, n), rng.normal(0.0, 1.0, n), np.zeros(n)
    with_kinds, without = trend(*given, PRIOR, np.eye(n + 1)), trend(*given, PRIOR)
    assert (with_kinds.mean, with_kinds.sd) == pytest.approx((without.mean, without.sd))
