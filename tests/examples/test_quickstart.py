from __future__ import annotations

import importlib
import itertools
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that imports a module of the examples."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    for name in ("quickstart", "console", "stdlib_text", "byte_transformer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module


def test_it_runs_from_one_end_to_the_other(tmp_path: Path) -> None:
    picture = tmp_path / "quickstart.png"
    command = [sys.executable, str(EXAMPLES / "quickstart.py"), "--steps", "120", "--picture", str(picture)]
    done = subprocess.run(
        command,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no warning, no chat
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(re.findall(r"^step +\d+ of 120  loss \d\.\d{3}  end \d", done.stdout, re.MULTILINE)) >= 5
    assert "Forecasts of the loss at step 120, and what happened" in done.stdout
    assert "GPU available" not in done.stdout
    half = re.search(
        r"At half of the run: forecast ([\d.]+) \(([\d.]+) to ([\d.]+), 90 %\), ended at ([\d.]+): "
        r"error ([+-][\d.]+) %, (inside|outside) its interval\.",
        done.stdout,
    )
    assert half is not None, done.stdout
    forecast, low, high, ended, error = (float(x) for x in half.groups()[:5])
    assert error == pytest.approx(100.0 * (forecast / ended - 1.0), abs=0.5)  # from rounded figures
    assert half[6] == ("inside" if low <= ended <= high else "outside")
    assert re.search(r"Stopped at step \d+ of 120: \d+ steps \(\d+ %\) saved\.|Not stopped: ", done.stdout)


def test_without_matplotlib_it_says_so_and_goes_on(
    example: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    quickstart = example("quickstart")
    for name in [m for m in sys.modules if m.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    quickstart.draw(None, [], None, tmp_path / "quickstart.png")
    assert "matplotlib is not installed" in capsys.readouterr().out
    assert not (tmp_path / "quickstart.png").exists()


def test_the_text_is_source_code_without_tests(example: Any) -> None:
    stdlib_text = example("stdlib_text")
    text = stdlib_text.stdlib_text()
    assert text.dtype == torch.uint8
    assert len(text) > 3_000_000
    whole = bytes(text.numpy())
    assert Path(os.__file__).read_bytes() in whole
    assert b"class TestCase(object):" in whole  # of the module unittest
    assert b"class GrammarTests(unittest.TestCase)" not in whole  # of the package test
    assert torch.equal(text, stdlib_text.stdlib_text())


def test_crops_come_with_the_bytes_that_follow_them(example: Any) -> None:
    text = (torch.arange(5_000) % 251).to(torch.uint8)
    x, y = next(iter(example("stdlib_text").Crops(text, batch_size=16, length=10)))
    assert x.shape == y.shape == (16, 10)
    assert torch.equal(x[:, 1:], y[:, :-1])
    assert torch.equal((x[:, -1] + 1) % 251, y[:, -1])


def test_few_crops_see_all_parts_of_the_text(example: Any) -> None:
    n = 100_000
    parts = (torch.arange(n) * 256 // n).to(torch.uint8)
    batches = itertools.islice(example("stdlib_text").Crops(parts, batch_size=16, length=10), 64)
    seen = torch.bincount(torch.cat([x[:, 0] for x, _ in batches]), minlength=256)
    assert seen.sum() == 1024
    assert 3 <= seen.min() <= seen.max() <= 5  # drawn at random, some parts would be seen never and some ten times


def test_the_learning_rate_warms_up_and_falls_to_a_tenth(example: Any) -> None:
    model = example("byte_transformer").ByteTransformer(width=8, depth=1, context=4, steps=200)
    rates = [model.relative_rate(step) for step in range(201)]
    assert rates[0] == pytest.approx(0.1)
    assert rates[9] == rates[10] == max(rates) == 1.0
    assert rates[200] == pytest.approx(0.1)
    assert rates[10:] == sorted(rates[10:], reverse=True)


def test_the_model_looks_at_no_byte_ahead(example: Any) -> None:
    torch.manual_seed(0)
    model = example("byte_transformer").ByteTransformer(width=8, depth=2, context=12, steps=200).eval()
    x = torch.randint(256, (1, 12))
    changed = x.clone()
    changed[0, 7] = (x[0, 7] + 1) % 256
    with torch.no_grad():
        difference = (model(x) - model(changed)).abs().amax(dim=-1)[0]
    assert (difference[:7] == 0).all()
    assert (difference[7:] > 0).all()
