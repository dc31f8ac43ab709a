from __future__ import annotations

import importlib
import re
import sys
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("transformers")
pytest.importorskip("accelerate")

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name in ("huggingface", "stdlib_text"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("huggingface")


# torch and transformers disagree on names from release to release
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_a_tiny_gpt_2_from_start_to_end(example: Any, capsys: pytest.CaptureFixture[str]) -> None:
    example.main(steps=120, target=9.0)
    out = capsys.readouterr().out
    assert re.match(
        r"ScalingLawCallback: N = [\d.]+ k non-embedding parameters, 120 steps \(max_steps\), cosine decay to 0 %", out
    )
    assert "Forecasts of the loss at step 120, and what happened" in out
    assert re.search(r"^100 % +120  ended at \d\.\d+$", out, re.MULTILINE)
    assert "The last word: Step 120 of 120: the run should end at " in out
    assert "'loss'" not in out
