from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.delitem(sys.modules, "stdlib_text", raising=False)
    return runpy.run_path(str(EXAMPLES / "09_huggingface.py"))["main"]


# torch and transformers disagree on names from release to release
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_tiny_gpt_2_from_start_to_end(main: Any, capsys: pytest.CaptureFixture[str]) -> None:
    main(steps=120, target=9.0)
    out = capsys.readouterr().out
    assert re.match(
        r"ScalingLawCallback: N = [\d.]+ k non-embedding parameters, 120 steps \(max_steps\), cosine decay to 0 %", out
    )
    assert "Forecasts of the loss at step 120, and what happened" in out
    assert re.search(r"^100 % +120  ended at \d\.\d+$", out, re.MULTILINE)
    assert "The last word: Step 120 of 120: the run should end at " in out
    assert "'loss'" not in out
