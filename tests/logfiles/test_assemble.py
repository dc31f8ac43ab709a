"""Rows to curves: runs that were resumed, that broke, that count from 0; epochs, sizes, batches."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling.logfiles.assemble import assemble, newest
from lightning_scaling.logfiles.names import Wanted
from lightning_scaling.logfiles.run import RunLog, from_columns


def read(wanted: Wanted | None = None, **columns: object) -> RunLog:
    table = {name: np.asarray(values, dtype=np.float64) for name, values in columns.items()}
    return assemble(from_columns("run", "CSV", table), "run.csv", wanted or Wanted())


def test_a_resumed_run_keeps_the_newest_of_each_step() -> None:
    log = read(step=[10, 20, 30, 40, 20, 30], loss=[5, 4, 9, 9, 3, 2])
    assert log.curve.S.tolist() == [10, 20, 30]
    assert log.curve.L.tolist() == [5, 3, 2]
    assert (log.n_rows, log.n_repeated) == (6, 3)
    assert "3 logged again later" in str(log)


@given(st.lists(st.integers(1, 50), min_size=1, max_size=60))
def test_what_is_kept_rises_and_ends_with_the_newest_row(steps: list[int]) -> None:
    S = np.array(steps, dtype=np.float64)
    order, kept = newest(S)
    found = S[order[kept[order]]]
    assert (np.diff(found) > 0).all()
    assert kept[-1]
    for step in set(found.tolist()):  # the last row of its step
        assert kept[np.flatnonzero(step == S)[-1]]


def test_rows_in_no_order_are_sorted() -> None:
    S = np.random.default_rng(0).permutation(np.arange(1.0, 101.0))
    log = read(step=S, loss=5.0 / S)
    assert log.curve.S.tolist() == list(range(1, 101))
    assert log.n_repeated == 0


def test_a_run_that_broke() -> None:
    log = read(step=[1, 2, 3, 4, 5, 6], loss=[5, 4, np.inf, 3, np.inf, np.inf])
    assert log.curve.S.tolist() == [1, 2, 4]
    assert (log.curve.step, log.curve.n_nonfinite, log.n_nonfinite) == (6, 2, 3)


def test_nan_that_comes_and_goes_is_a_hole() -> None:
    loss = np.full(100, np.inf)
    loss[::5] = np.linspace(5, 3, 20)
    log = read(step=np.arange(1, 101), loss=loss)
    assert log.n_nonfinite == log.curve.n_nonfinite == 0
    assert "80 rows with NaN between finite losses" in log.notes[0]


@pytest.mark.parametrize(("steps", "first"), [([0, 1, 2, 3], 1), ([49, 99, 149, 199], 50), ([1, 2, 3, 4], 1)])
def test_steps_are_counted_from_one(steps: list[int], first: int) -> None:
    log = read(step=steps, loss=[5, 4, 3, 2])
    assert log.curve.S[0] == first
    assert bool(log.notes) == (steps[0] != first)


@pytest.mark.parametrize("steps", [[0, 100, 200, 300], [50, 100, 150, 200]])
def test_steps_that_count_from_one_stay(steps: list[int]) -> None:
    assert read(step=steps, loss=[5, 4, 3, 2]).curve.S.tolist() == steps


def test_batches_that_begin_again_are_not_steps() -> None:
    log = read(epoch=np.repeat([0, 1, 2], 10), batch=np.tile(np.arange(10), 3), loss=5.0 / np.arange(1, 31))
    assert log.curve.S.tolist() == list(range(1, 31))
    assert "'batch' begins again 2 times" in log.notes[0]
    assert log.curve.epoch_ends == (10, 20)


def test_without_steps_rows_are_counted() -> None:
    log = read(loss=[5, 4, 3])
    assert log.curve.S.tolist() == [1, 2, 3]
    assert "every row counts as one step" in log.notes[0]


def test_rates_from_rows_of_their_own() -> None:
    log = read(step=[1, 5, 5, 9, 9], loss=[np.nan, 4, np.nan, 3, 2.5], lr=[1.0, np.nan, 0.5, np.nan, 0.3])
    assert log.curve.S.tolist() == [5, 9]
    assert log.curve.lr is not None
    assert log.curve.lr.tolist() == [0.5, 0.3]


def test_epochs_whole_and_in_fractions() -> None:
    S = np.arange(1, 101)
    assert read(step=S, loss=5.0 / S, epoch=(S - 1) // 25).curve.epoch_ends == (25, 50, 75)
    assert read(step=S, loss=5.0 / S, epoch=(S - 1) / 25).curve.epoch_ends == (25, 50, 75)
    one_row_each = read(step=S, loss=5.0 / S, epoch=S)
    assert one_row_each.curve.epoch_ends == ()
    assert "epoch" not in one_row_each.columns


def test_size_and_batch() -> None:
    log = read(step=[1, 2], loss=[5, 4], n_params=[1e6, 1e6], batch_size=[64, 64])
    assert log.curve.N == 1e6
    assert log.curve.B is not None
    assert log.curve.B.tolist() == [64, 64]
    assert read(Wanted(N=5e6), step=[1, 2], loss=[5, 4]).curve.N == 5e6


def test_errors() -> None:
    with pytest.raises(ValueError, match=r"Expected at least two finite losses in run\.csv, got 1 in 'loss'"):
        read(step=[1, 2], loss=[5, np.inf])
    with pytest.raises(ValueError, match=r"Expected steps >= 0 in run\.csv, got -5 in 'step'"):
        read(step=[-5, 2, 3], loss=[5, 4, 3])


def test_a_rate_that_was_never_logged_is_left_out() -> None:
    log = read(step=[1, 2], loss=[5, 4], lr=[np.nan, np.nan])
    assert log.curve.lr is None
    assert "lr" not in log.columns
