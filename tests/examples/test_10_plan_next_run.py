from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_it_forecasts_a_larger_model_and_plans(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / "10_plan_next_run.py"), "--times", "2"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    said = re.search(r"with the store: ([\d.]+) \(([\d.]+) to ([\d.]+), 90 %\)", done.stdout)
    assert said is not None, done.stdout
    mid, low, high = map(float, said.groups())
    assert 1.1 < low < mid < high < 1.6  # the largest of the store ended at 1.45
    assert re.search(r"^model size N \[parameters\] +\d", done.stdout, re.MULTILINE)
    assert "fitted to 6 runs of this store" in done.stdout
