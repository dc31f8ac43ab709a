from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, "stdlib_text", raising=False)
    return runpy.run_path(str(EXAMPLES / "07_plain_pytorch.py"))["main"]


def test_it_runs_to_its_end(main: Any, capsys: pytest.CaptureFixture[str]) -> None:
    main(steps=120, target=9.0)
    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("LoopMonitor: 120 steps (as given), cosine decay to 0 % after 6 warm-up steps.\n")
    assert len(re.findall(r"^step +\d+ of 120  loss \d\.\d{3}  end \d", out, re.MULTILINE)) >= 5
    assert "Forecasts of the loss at step 120, and what happened" in out


def test_a_target_out_of_reach_ends_it(main: Any, capsys: pytest.CaptureFixture[str]) -> None:
    main(steps=400, target=-1.0)
    assert re.search(r"The run ended at step \d+ of 400 \(\d+ % of its steps saved, ", capsys.readouterr().out)
