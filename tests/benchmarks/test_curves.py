"""The loader and the tasks of the benchmark, on folders made here."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.curves import RunCurve, load_curves, make_tasks, rates_of_all_steps


def write_csv(path, rows, header="step,loss"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n", encoding="utf-8")


def run(S, L, lr=None, **known):
    return RunCurve(
        "r", "g", np.asarray(S, float), np.asarray(L, float), None if lr is None else np.asarray(lr), **known
    )


def test_index_gives_the_order_and_what_is_known(tmp_path):
    write_csv(tmp_path / "b.csv", [(1, 3.0, 0.1), (2, 2.0, 0.1)], header="step,loss,lr")
    write_csv(tmp_path / "a.csv", [(1, 5.0), (9, 4.0)])
    index = [{"id": "b", "group": "lab", "schedule": "cosine"}, {"id": "a", "group": "other", "horizon_known": False}]
    (tmp_path / "index.json").write_text(json.dumps(index), encoding="utf-8")
    b, a = load_curves(tmp_path)
    assert (b.id, b.group, b.schedule, b.horizon_known, b.T) == ("b", "lab", "cosine", True, 2)
    assert (a.id, a.horizon_known, a.T, a.lr) == ("a", False, 9, None)
    np.testing.assert_array_equal(b.lr, [0.1, 0.1])


def test_a_folder_without_index_is_one_group_and_held_out_losses_are_not_runs(tmp_path):
    write_csv(tmp_path / "two.csv", [(1, 3.0), (2, 2.0)])
    write_csv(tmp_path / "one.csv", [(1, 3.0), (2, 2.0)])
    write_csv(tmp_path / "one.val.csv", [(2, 2.5)], header="step,val_loss")
    curves = load_curves(tmp_path)
    assert [c.id for c in curves] == ["one", "two"]
    assert {c.group for c in curves} == {tmp_path.name}
    assert all(c.horizon_known for c in curves)


def test_a_resumed_run_keeps_its_later_rows_and_loses_non_finite_ones(tmp_path):
    rows = [(1, 9.0), (2, 8.0), (3, 7.0), (4, "nan"), (2, 6.0), (3, 5.0), (4, 4.0), (5, ""), (6, 3.0)]
    write_csv(tmp_path / "resumed.csv", rows)
    (curve,) = load_curves(tmp_path)
    assert curve.S.tolist() == [1, 2, 3, 4, 6]
    assert curve.L.tolist() == [9, 6, 5, 4, 3]
    assert curve.n_dropped == 4


@pytest.mark.parametrize(
    ("content", "message"),
    [("step,value\n1,2\n", "step,loss"), ("step,loss\n1,nan\n2,1\n", "two finite losses"), ("", "step,loss")],
)
def test_a_file_that_is_no_curve_is_refused_by_name(tmp_path, content, message):
    (tmp_path / "odd.csv").write_text(content, encoding="utf-8")
    with pytest.raises(ValueError, match=message) as error:
        load_curves(tmp_path)
    assert "odd.csv" in str(error.value)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(ValueError, match="got none"):
        load_curves(tmp_path)


def test_the_truth_is_the_mean_over_the_last_two_percent_of_the_steps():
    curve = run(np.arange(1, 1001), np.arange(1000, 0, -1))
    # Steps 981..1000 have the losses 20..1.
    assert curve.truth == pytest.approx(10.5)


@pytest.mark.parametrize("spacing", [7, 477, 1013])
@pytest.mark.parametrize("fraction", [0.1, 0.2, 0.3, 0.5, 0.7])
def test_a_point_on_the_cut_is_seen_whatever_the_rounding(spacing, fraction):
    curve = run(spacing * np.arange(1, 101), np.ones(100))
    (task,) = make_tasks([curve], [fraction])
    assert len(task.S) == round(100 * fraction)


def test_short_prefixes_are_skipped():
    curve = run(np.arange(1, 46), np.ones(45))
    assert [(t.fraction, len(t.S)) for t in make_tasks([curve], [0.2, 0.3])] == [(0.3, 13)]


def test_a_task_holds_nothing_of_the_future_but_the_rates():
    curve = run(np.arange(1, 101), np.linspace(5, 1, 100), lr=np.linspace(1, 0, 100))
    (task,) = make_tasks([curve], [0.3])
    assert task.S[-1] == 30
    assert task.L[-1] == curve.L[29]
    assert task.T == 100
    assert task.rates.shape == (100,)
    assert task.initial == 5.0


def test_the_last_value_is_the_mean_of_the_last_five_percent_of_the_points():
    curve = run(np.arange(1, 201), np.arange(200, 0, -1))
    (task,) = make_tasks([curve], [0.5])
    # 100 points seen, of which the last five have the losses 105..101.
    assert task.last_value == pytest.approx(103.0)


def test_rates_are_linear_between_logs_and_held_outside_them():
    rates = rates_of_all_steps(np.array([4.0, 6.0, 8.0]), np.array([2.0, 1.0, np.nan]), 9)
    np.testing.assert_allclose(rates, [2, 2, 2, 2, 1.5, 1, 1, 1, 1])


def test_a_log_from_step_zero_gives_the_rates_of_steps_one_to_T():
    rates = rates_of_all_steps(np.arange(0.0, 5.0), np.array([9.0, 1.0, 2.0, 3.0, 4.0]), 4)
    np.testing.assert_allclose(rates, [1, 2, 3, 4])


def test_held_out_losses_come_with_the_rates_of_their_run(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("step,loss,lr\n" + "".join(f"{s},{5 / s},{1 - s / 200}\n" for s in range(1, 101)))
    (tmp_path / "a.val.csv").write_text("step,val_loss\n" + "".join(f"{s},{6 / s}\n" for s in range(10, 121, 10)))
    (tmp_path / "b.csv").write_text("step,loss\n1,2\n2,1\n")
    (run,) = load_curves(tmp_path, held_out=True)
    assert (run.id, run.T, run.S[0], run.L[0]) == ("a.val", 120, 10, 0.6)
    rates = run.rates()
    assert rates is not None
    assert rates[[0, 99, 119]] == pytest.approx([0.995, 0.5, 0.5])  # beyond the log the last rate is held
    (tmp_path / "a.val.csv").unlink()
    with pytest.raises(ValueError, match=r"val\.csv"):
        load_curves(tmp_path, held_out=True)
