"""The benchmark of the alarm, on runs made by the law."""

from pathlib import Path

import numpy as np
import pytest

from benchmarks.alarm import THRESHOLDS, main, noise_at, plant, synthetic_runs
from benchmarks.curves import RunCurve


def test_noise_is_measured_about_the_trend():
    S = np.arange(1.0, 2001.0)
    L = 2.0 + 6.0 * S**-0.5 + 0.05 * np.random.default_rng(0).standard_normal(S.size)
    assert noise_at(RunCurve("r", "g", S, L), 1000.0) == pytest.approx(0.05, rel=0.3)


def test_large_shifts_late_in_a_run_are_found():
    (run,) = synthetic_runs(1)
    late = [p for p in plant(run, {}, THRESHOLDS) if p.share >= 0.6 and p.size == 5.0]
    assert len(late) == 4  # of two noise widths
    assert all(p.delay <= 0.02 for p in late)


def test_the_page_is_written_without_a_folder(tmp_path: Path):
    main(["--synthetic", "1", "--kinds", "0", "--out", str(tmp_path / "alarm.md")])
    page = (tmp_path / "alarm.md").read_text()
    assert "### False alarms (made by the law)" in page
    assert "| all " in page
