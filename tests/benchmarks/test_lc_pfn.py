"""LC-PFN: the windows and the scale it reads, what is said without it, and with it training to score in one go."""

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import lc_pfn
from benchmarks.accuracy import main
from benchmarks.curves import RunCurve, make_tasks
from benchmarks.predictions import PROBABILITIES

ROOT = Path(__file__).parents[2]
INSTALLED = importlib.util.find_spec("lcpfn") is not None

losses = st.floats(1e-3, 1e3)


def task_of(S, L, fraction=0.5):
    (one,) = make_tasks([RunCurve("r", "g", np.asarray(S, dtype=float), np.asarray(L, dtype=float))], [fraction])
    return one


@pytest.fixture
def run(make_curve):
    return task_of(*make_curve(2000, E=2.0, A=8.0, alpha=0.5, noise=0.01))


@pytest.fixture
def folder(tmp_path, make_curve):
    rows = "\n".join(f"{s:.0f},{loss:.5f}" for s, loss in zip(*make_curve(400), strict=True))
    own = tmp_path / "my_runs"
    own.mkdir()
    (own / "only.csv").write_text(f"step,loss\n{rows}\n", encoding="utf-8")
    return own


# -- the scale --


@given(first=losses, shares=st.lists(st.floats(0.0, 3.5), min_size=1, max_size=20))
def test_losses_come_back_from_the_unit_scale(first, shares):
    scale, L = lc_pfn.UnitScale(first), first * np.array(shares)
    np.testing.assert_allclose(scale.to_loss(scale.to_unit(L)), L, rtol=1e-9, atol=1e-9 * first)


@given(first=losses)
def test_a_falling_loss_rises_inside_zero_and_one(first):
    y = lc_pfn.UnitScale(first).to_unit(first * np.linspace(2.0, 0.0, 50))
    assert np.all(np.diff(y) > 0.0)
    assert y[0] > 0.0
    assert y[-1] == pytest.approx(1.0)


@given(first=losses, factor=losses)
def test_the_unit_of_the_loss_does_not_matter(first, factor):
    L = first * np.linspace(0.1, 1.5, 20)
    y = lc_pfn.UnitScale(first).to_unit(L)
    np.testing.assert_allclose(lc_pfn.UnitScale(factor * first).to_unit(factor * L), y, rtol=1e-9)
    np.testing.assert_allclose(lc_pfn.UnitScale(factor * first).to_loss(y), factor * L, rtol=1e-9)


def test_a_point_outside_zero_and_one_is_a_finite_loss():
    low, none = lc_pfn.UnitScale(4.0).to_loss(np.array([-0.2, 1.3]))
    assert 4.0 < low < 40.0
    assert none == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("first", [0.0, -1.0, np.nan])
def test_a_first_loss_that_is_not_positive_is_refused(first):
    with pytest.raises(ValueError, match="Expected the first loss to be positive"):
        lc_pfn.UnitScale(first)


# -- the windows --


@given(n=st.integers(20, 3000), fraction=st.sampled_from([0.1, 0.3, 0.5, 0.7]))
def test_windows_follow_each_other_and_hold_the_points_of_their_steps(n, fraction):
    S = np.arange(1.0, n + 1.0)
    tasks = make_tasks([RunCurve("r", "g", S, S)], [fraction])
    for task in tasks:
        x, L, n_windows = lc_pfn.windows(task)
        assert n_windows == min(n, lc_pfn.MAX_WINDOWS)
        assert x.tolist() == list(range(1, int(x[-1]) + 1))
        assert L[-1] <= task.S[-1] <= x[-1] * n / n_windows
        # The losses are the steps: a window's mean lies inside the window.
        assert np.all(L > (x - 1) * n / n_windows)
        assert np.all(L <= x * n / n_windows)


def test_a_log_with_fewer_points_than_windows_gets_a_window_for_each():
    S = np.arange(100.0, 5001.0, 100.0)
    x, L, n_windows = lc_pfn.windows(task_of(S, 1.0 / S, 0.7))
    assert n_windows == 50
    np.testing.assert_array_equal(x, np.arange(1, 36))
    np.testing.assert_array_equal(L, 1.0 / S[:35])


def test_windows_are_counted_from_the_start_of_a_late_log():
    S = np.arange(1010.0, 10001.0, 10.0)
    x, L, n_windows = lc_pfn.windows(task_of(S, S, 0.3))
    assert n_windows == 90
    np.testing.assert_array_equal(x, np.arange(1, 21))
    np.testing.assert_allclose(L, 955.0 + 100.0 * x)


def test_a_gap_in_the_log_is_a_window_left_out():
    S = np.array([s for s in range(1, 1001) if not 100 < s <= 130], dtype=float)
    x, _, n_windows = lc_pfn.windows(task_of(S, S, 0.2))
    assert n_windows == 100
    np.testing.assert_array_equal(x, [*range(1, 11), *range(14, 21)])


# -- without package or weights --


def test_missing_weights_are_named_with_the_way_to_train_them(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"got no file\. Train them: python -m benchmarks\.lc_pfn train"):
        lc_pfn.predict(run, tmp_path / "none.pt")


@pytest.mark.parametrize("arguments", [["--lc-pfn", "none.pt"], ["--methods", lc_pfn.NAME]])
def test_the_command_says_what_is_missing_before_it_scores(folder, capsys, arguments):
    with pytest.raises(SystemExit):
        main(["--curves", str(folder), *arguments])
    captured = capsys.readouterr()
    assert "Expected" in captured.err
    assert "python -m benchmarks.lc_pfn train" in captured.err or "--lc-pfn WEIGHTS" in captured.err
    assert captured.out == ""


def test_without_the_option_there_is_no_such_method(folder, capsys):
    assert main(["--curves", str(folder), "--fractions", "0.5"]) == 0
    printed = capsys.readouterr().out
    assert "| last-value" in printed
    assert lc_pfn.NAME not in printed


def test_without_the_package_the_error_names_it_and_the_rest_works(folder, tmp_path):
    weights = tmp_path / "weights.pt"
    weights.write_bytes(b"")
    hide = "import sys; sys.modules['lcpfn'] = None; from benchmarks.accuracy import main; sys.exit(main(sys.argv[1:]))"
    base = [sys.executable, "-c", hide, "--curves", str(folder), "--fractions", "0.5", "--methods", "last-value"]
    plain, asked = (
        subprocess.run([*base, *more], cwd=ROOT, capture_output=True, text=True, check=False)
        for more in ([], [lc_pfn.NAME, "--lc-pfn", str(weights)])
    )
    assert plain.returncode == 0, plain.stderr
    assert asked.returncode == 2
    assert "pip install --no-deps --ignore-requires-python lcpfn" in asked.stderr


def test_a_run_with_a_loss_of_zero_is_answered_with_the_last_value(tmp_path):
    task = task_of(np.arange(1.0, 101.0), np.linspace(1.0, -0.1, 100), 0.95)
    prediction = lc_pfn.predict(task, tmp_path / "not_needed.pt")
    assert prediction.failed
    assert prediction.mid == task.last_value


def test_a_width_that_has_no_whole_heads_is_refused():
    with pytest.raises(ValueError, match="multiple of 128, got 100"):
        lc_pfn.Recipe(emsize=100)


# -- with the package: pip install --no-deps --ignore-requires-python lcpfn --

with_package = pytest.mark.skipif(not INSTALLED, reason="the package lcpfn is not installed")


@with_package
def test_the_scale_is_the_authors_own():
    import torch

    L = np.linspace(0.0, 12.0, 50)
    bounds = {"lb": torch.tensor(0.0), "ub": torch.tensor(torch.inf), "soft_lb": 0.0, "soft_ub": 8.0}
    there, back = lc_pfn._package().utils.pfn_normalize(**bounds, minimize=True)
    scale = lc_pfn.UnitScale(8.0)
    y = scale.to_unit(L)
    np.testing.assert_allclose(there(torch.tensor(L)).numpy(), y, atol=1e-7)
    np.testing.assert_allclose(back(torch.tensor(y)).numpy(), scale.to_loss(y), atol=1e-5)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    if not INSTALLED:
        pytest.skip("the package lcpfn is not installed")
    weights = tmp_path_factory.mktemp("lc_pfn") / "weights.pt"
    arguments = ["--out", str(weights), "--epochs", "2", "--batch", "8", "--n-layers", "1", "--n-borders", "100"]
    assert lc_pfn.main(["train", *arguments]) == 0
    return weights


def test_trained_weights_forecast_from_the_command(trained, folder, tmp_path, capsys):
    page = tmp_path / "accuracy.md"
    arguments = ["--lc-pfn", str(trained), "--methods", lc_pfn.NAME, "--out", str(page)]
    assert main(["--curves", str(folder), *arguments]) == 0
    for text in (capsys.readouterr().out, page.read_text(encoding="utf-8")):
        assert f"| {lc_pfn.NAME} " in text
        assert "own training of the authors' code, 1600 curves, emsize 128, 1 layers" in text


def test_quantiles_increase_and_scale_with_the_loss(trained, run):
    one = lc_pfn.predict(run, trained)
    tenfold = lc_pfn.predict(task_of(run.curve.S, 10.0 * run.curve.L), trained)
    assert one.quantiles.shape == PROBABILITIES.shape
    assert np.all(np.diff(one.quantiles) >= 0.0)
    assert one.interval(0.5)[0] < one.mid < one.interval(0.5)[1]
    np.testing.assert_allclose(tenfold.quantiles, 10.0 * one.quantiles, rtol=1e-3)


def test_the_same_seed_gives_the_same_weights(trained, tmp_path, run):
    _, recipe = lc_pfn.load(trained)
    lc_pfn.train(recipe, tmp_path / "again.pt")
    np.testing.assert_array_equal(
        lc_pfn.predict(run, tmp_path / "again.pt").quantiles, lc_pfn.predict(run, trained).quantiles
    )
