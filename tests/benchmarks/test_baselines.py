"""The baselines recover what was planted, and fall back where there is nothing to fit."""

import numpy as np
import pytest

from benchmarks.baselines import METHODS, target_steps
from benchmarks.curves import RunCurve, make_tasks
from benchmarks.least_squares import FitFailed, fit, thin
from benchmarks.schedule_laws import multi_power_basis, relative_rates, tissue_basis, tissue_sums

T = 4000
STEPS = np.arange(1.0, T + 1.0)
COSINE = 0.55 + 0.45 * np.cos(np.pi * STEPS / T)


def task_of(L, lr=None, fraction=0.7, noise=0.0):
    L = L + noise * np.random.default_rng(0).normal(size=L.size)
    (task,) = make_tasks([RunCurve("r", "g", STEPS, L, lr)], [fraction])
    return task


def power(alpha=0.4):
    return 2.0 + 6.0 * STEPS**-alpha


def with_law(basis, theta, weights):
    return weights[0] + basis(STEPS, np.array(theta)) @ np.array(weights[1:])


def test_trivial_methods_say_what_they_are_called():
    task = task_of(np.where(STEPS == 50, 0.5, power()))
    assert METHODS["best-so-far"](task).mid == 0.5
    assert METHODS["last-value"](task).mid == task.last_value


def test_the_power_law_finds_a_power_law():
    task = task_of(power(), fraction=0.3)
    assert METHODS["power-law"](task).mid == pytest.approx(task.truth, abs=2e-3)


def test_the_log_law_finds_a_log_law():
    task = task_of(9.0 - 0.5 * np.log(STEPS), fraction=0.3)
    assert METHODS["log-law"](task).mid == pytest.approx(task.truth, abs=2e-3)


@pytest.mark.parametrize(
    "shape", [power(0.7), 1.0 + 3.0 * np.exp(-STEPS / 900), 1.0 + 3.0 / (1.0 + (STEPS / 300) ** 1.4)]
)
def test_the_ensemble_finds_each_of_its_families(shape):
    task = task_of(shape, fraction=0.5, noise=1e-3)
    assert METHODS["curve-ensemble"](task).mid == pytest.approx(task.truth, abs=0.01)


def test_fitted_parameters_are_those_planted():
    windows = thin(STEPS[:2800], power(0.4)[:2800])
    found = fit(
        lambda S, theta: (S[:, None]) ** -theta[0],
        windows,
        target_steps(T),
        (np.array([0.1, 1.0]),),
        (np.array([0.02]), np.array([3.0])),
    )
    assert found.theta == pytest.approx([0.4], abs=0.01)
    assert found.weights == pytest.approx([2.0, 6.0], abs=0.05)


@pytest.mark.parametrize(("method", "seen"), [("tissue", 0.7), ("multi-power", 0.7)])
def test_the_schedule_laws_find_themselves_once_the_decay_has_begun(method, seen):
    if method == "tissue":
        L = with_law(tissue_basis(COSINE, 1000.0), [0.5], [2.0, 0.8, 0.15])
    else:
        L = with_law(multi_power_basis(COSINE, 1000.0), [0.5, np.log(0.11), 0.59, 0.64], [2.0, 0.8, 0.15])
    task = task_of(L, lr=3e-4 * COSINE, fraction=seen)
    ours, blind = METHODS[method](task), METHODS["power-law"](task)
    assert ours.mid == pytest.approx(task.truth, abs=6e-3)
    assert abs(ours.mid - task.truth) < 0.5 * abs(blind.mid - task.truth)


def test_the_schedule_laws_are_power_laws_where_no_rate_was_logged():
    task = task_of(power(), fraction=0.3)
    for method in ("tissue", "multi-power"):
        assert METHODS[method](task).mid == pytest.approx(task.truth, abs=2e-3)


def test_tissue_sums_agree_with_the_double_sum():
    rates = np.random.default_rng(3).uniform(0.1, 1.0, 30)
    drops = -np.diff(rates, prepend=rates[0])
    double = [sum(drops[k] * 0.9 ** (i - k) for i in range(t + 1) for k in range(i + 1)) for t in range(30)]
    np.testing.assert_allclose(tissue_sums(rates, 0.9)[2], double, atol=1e-12)


def test_pooled_drops_agree_with_the_multi_power_sum_step_by_step():
    theta = np.array([0.5, np.log(0.11), 0.59, 0.64])
    S1, drops = np.cumsum(COSINE), -np.diff(COSINE, prepend=COSINE[0])
    for t in (1500, 3999):
        since = S1[t] - S1[: t + 1] + COSINE[: t + 1]
        gain = 1.0 - (1.0 + 0.11 * COSINE[: t + 1] ** -0.64 * since) ** -0.59
        expected = -(drops[: t + 1] * gain).sum()
        assert multi_power_basis(COSINE, 1000.0)(STEPS[[t]], theta)[0, 1] == pytest.approx(expected, rel=0.01)


def test_a_warm_up_is_taken_at_the_peak():
    rates = 3e-4 * np.concatenate([np.linspace(0.1, 1.0, 100), np.linspace(1.0, 0.0, 3900)])
    relative = relative_rates(task_of(power(), lr=rates))
    np.testing.assert_allclose(relative[:100], 1.0)
    assert relative[-1] == 0.0


def test_a_flat_curve_falls_back_to_the_last_value_and_says_so():
    task = task_of(np.full(T, 3.0))
    for method in ("power-law", "tissue", "multi-power", "log-law", "curve-ensemble"):
        prediction = METHODS[method](task)
        assert prediction.failed
        assert prediction.mid == 3.0
        assert prediction.quantiles is None


def test_a_fit_without_a_finite_start_fails_by_name():
    windows = thin(STEPS, power())
    with pytest.raises(FitFailed, match="finite"):
        fit(lambda S, theta: np.full((S.size, 1), np.nan), windows, target_steps(T), (), (np.empty(0), np.empty(0)))


@pytest.mark.parametrize("method", [m for m in METHODS if m != "log-law"])
def test_scaling_the_loss_scales_the_forecast(method):
    L = power(0.6) + 0.01 * np.sin(STEPS)
    small, large = METHODS[method](task_of(L)), METHODS[method](task_of(1000.0 * L))
    assert large.mid == pytest.approx(1000.0 * small.mid, rel=1e-3)


def test_the_standard_error_shrinks_with_the_noise():
    widths = [np.diff(METHODS["power-law"](task_of(power(), noise=sd)).interval(0.9))[0] for sd in (0.01, 0.1)]
    assert widths[1] == pytest.approx(10 * widths[0], rel=0.5)


def test_windows_keep_every_point_and_the_means():
    windows = thin(np.arange(0.0, 5000.0), np.arange(5000.0))
    assert windows.count.sum() == 5000
    assert len(windows.S) <= 150
    np.testing.assert_allclose(windows.S, windows.L)
