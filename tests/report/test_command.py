"""``lightning-scaling report``: which pages it writes of what, and what it refuses."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lightning_scaling.cli.app import app
from lightning_scaling.report import run_report, store_report
from tests.report.test_write import is_sound, words

ROOT = Path(__file__).parents[2]
T = 1000


@pytest.fixture(autouse=True)
def _only_words(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (run_report, store_report):
        monkeypatch.setattr(module, "has_pictures", lambda: False)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    S = np.arange(10, T // 2 + 1, 10)
    L = 2.0 + 6.0 * S**-0.5 + 0.02 * np.random.default_rng(0).standard_normal(S.size)
    path = tmp_path / "half.csv"
    path.write_text("step,train_loss,lr\n" + "\n".join(f"{s},{y:.4f},0.001" for s, y in zip(S, L, strict=True)))
    return path


@pytest.fixture
def store(tmp_path: Path) -> Path:
    folder = tmp_path / "runs"
    folder.mkdir()
    for name in ("w12-cosine-333-b16", "w20-cosine-333-b16"):
        shutil.copy(ROOT / "lightning_scaling" / "example_store" / f"{name}.run.json", folder)
    (folder / "broken.run.json").write_text("{")
    return folder


def report(*arguments: str | Path) -> tuple[int, str, str]:
    found = CliRunner().invoke(app, ["report", *map(str, arguments)])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout, found.stderr


def test_a_log_with_its_plan_is_a_page_of_a_run_that_goes_on(log: Path, tmp_path: Path) -> None:
    out = tmp_path / "run.html"
    options = ("--horizon", T, "--schedule", "constant", "--target", 1.5, "--seconds-per-step", 3600, "--title", "mine")
    code, printed, said = report(log, "--out", out, *map(str, options))
    assert (code, said) == (0, "")
    assert printed.splitlines()[-1] == f"The report is in {out}."
    assert is_sound(out)
    text = words(out)
    assert "Run report not overmine" in text
    assert "At step 500 of 1 000, the run should end at" in text
    assert "target 1.5" in text
    assert "+1 000 h" in text
    assert "learning rate from 'lr'" not in text


def test_a_log_alone_is_taken_to_be_over(log: Path, tmp_path: Path) -> None:
    code, _, _ = report(log, "--out", tmp_path / "run.html")
    assert code == 0
    assert "after 500 steps" in words(tmp_path / "run.html")


def test_a_folder_of_a_store_is_a_page_of_it_and_an_id_one_of_that_run(store: Path, tmp_path: Path) -> None:
    code, printed, said = report(store, "-o", tmp_path / "store.html")
    assert (code, said) == (0, "")
    assert printed.startswith(f"2 runs in {store}, 1 file skipped")
    assert "broken.run.json" in words(tmp_path / "store.html")
    code, printed, said = report(store, "--run", "w20-cosine-333-b16", "-o", tmp_path / "run.html", "--target", "1")
    assert (code, said) == (0, "")
    assert "Run report finishedw20-cosine-333-b16" in words(tmp_path / "run.html")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.csv"], "got nothing there"),
        (["{store}", "--run", "another"], "got 'another', so name one of it"),
        (["{store}", "--horizon", "10"], "no options of a log beside a store"),
        (["{store}", "--target", "1"], "Expected --run beside a rule or a price"),
        (["{log}", "--price-per-hour", "2"], "Expected --seconds-per-step"),
        (["{log}", "--horizon", "10"], "Expected horizon to be a step at or after the last one seen"),
        (["{log}", "--schedule", "cosine"], "Expected --horizon beside --schedule"),
        (["{log}", "--out", "nowhere/run.html"], "Expected a file in a folder that is there"),
        (["{log}", "--level", "2"], "Expected level between 0 and 1"),
        (["nowhere://runs"], "Expected a folder or a URL that fsspec can open"),
    ],
)
def test_what_cannot_be_reported_is_named(
    log: Path, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, printed, said = report(*(a.format(log=log, store=store) for a in arguments))
    assert (code, printed) == (2, "")
    assert message in said
    assert not (tmp_path / "report.html").exists()
