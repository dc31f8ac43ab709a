"""The numbered examples, each with --quick: they end, warn of nothing, and say what was forecast and what happened."""

from __future__ import annotations

import io
import logging
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
SHARED = {path.stem for path in EXAMPLES.glob("[a-z]*.py")}
NUMBERED = sorted(EXAMPLES.glob("[0-9]*.py"))


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Callable[[str], str]]:
    """Return a function that runs an example as a script, in this process, and returns what it prints."""
    monkeypatch.syspath_prepend(str(EXAMPLES))
    monkeypatch.chdir(tmp_path)
    for name in SHARED:
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setenv("PL_GLOBAL_SEED", "0")  # what seed_everything leaves behind is taken back
    # What Lightning says goes to the logger of the package imported last, and has no handler where pytest has one.
    spoken = logging.getLogger("pytorch_lightning.utilities.rank_zero")
    monkeypatch.setattr("lightning_utilities.core.rank_zero.log", spoken)
    monkeypatch.setattr(logging.getLogger("pytorch_lightning"), "handlers", [logging.StreamHandler(io.StringIO())])
    threads = torch.get_num_threads()

    def script(name: str) -> str:
        monkeypatch.setattr(sys, "argv", [name, "--quick"])
        runpy.run_path(str(EXAMPLES / name), run_name="__main__")
        out, err = capsys.readouterr()
        assert err == ""
        return out

    yield script
    torch.set_num_threads(threads)


def held(out: str) -> int:
    """Return how many of the nine forecasts of a closing table held."""
    found = re.findall(r"^(\d) of 9 forecasts held the loss inside its interval\.$", out, re.MULTILINE)
    assert len(found) == 1, out
    assert re.search(r"^100 % +\d[\d ]*  ended at \d", out, re.MULTILINE)
    return int(found[0])


def test_01_a_vision_classifier(run: Callable[[str], str]) -> None:
    out = run("01_vision_classifier.py")
    held(out)
    assert "val_loss is forecast beside the training loss." in out
    assert re.search(r"On images it has not seen the loss ended at \d\.\d+, \d+\.\d% were right\.\n$", out)


def test_02_a_language_model(run: Callable[[str], str]) -> None:
    out = run("02_language_model.py")
    held(out)
    assert "constant rate with a linear decay to" in out
    assert re.search(
        r"before the decay, the loss was .* and its end was forecast at .*\nIt ended at \d.*% off\.\n$", out
    )


def test_03_fine_tuning(run: Callable[[str], str]) -> None:
    out = run("03_fine_tuning.py")
    assert "Forecasts of val_loss at step 120" in out
    assert re.search(r"\n\d+ of 120 steps were made\. The last word: Step .*\n$", out)


def test_04_two_processes() -> None:
    done = subprocess.run(  # the Trainer starts the script again
        [sys.executable, str(EXAMPLES / "04_two_processes.py"), "--quick"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": "", "PYTHONWARNINGS": "ignore"},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ended = dict(re.findall(r"^Process (\d) ended at step (\d+) of 200\.$", done.stdout, re.MULTILINE))
    assert set(ended) == {"0", "1"}
    assert ended["0"] == ended["1"]
    assert done.stdout.count("Forecasts of the loss at step 200") == 1


def test_05_resume(run: Callable[[str], str]) -> None:
    out = run("05_resume.py")
    held(out)
    assert out.startswith("The machine was taken away. On from the middle.\n")
    same, of = map(int, re.search(r"^(\d+) of (\d+) forecasts are, to the last digit", out, re.MULTILINE).groups())
    assert same == of > 10


def test_06_a_sweep_with_a_store(run: Callable[[str], str]) -> None:
    out = run("06_sweep_with_a_store.py")
    ended = [float(loss) for loss in re.findall(r"^width +\d+, N = .*: ended at (\S+)$", out, re.MULTILINE)]
    assert len(ended) == 6
    assert ended == sorted(ended, reverse=True)
    low, high = map(float, re.search(r"after +0% with the store +\S+ \((\S+) to (\S+), 90 %\)", out).groups())
    assert low <= ended[-1] <= high
    assert "after   0% alone           not known yet  (not begun)" in out


def test_08_your_own_csv(run: Callable[[str], str]) -> None:
    out = run("08_own_csv.py")
    assert "step from 'iteration', loss from 'train loss', learning rate from 'lr'" in out
    mid, low, high = map(float, re.search(r"should end at (\S+) \((\S+) to (\S+), 90 %\)", out).groups())
    ended = float(re.search(r"What happened: it ended at ([\d.]+)±", out)[1])
    assert low <= ended <= high
    assert abs(mid / ended - 1.0) < 0.1


@pytest.mark.parametrize("path", NUMBERED[:8], ids=lambda path: path.stem)
def test_an_example_is_a_short_script(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert 40 <= len(lines) <= 80
    assert f"    python examples/{path.name}" in lines
