"""The command, on a folder of a user's own runs made here, and the examples in the docstrings."""

import doctest
import importlib
import json

import numpy as np
import pytest

from benchmarks.accuracy import evaluate, main
from benchmarks.curves import load_curves
from benchmarks.scores import PROBABILITIES
from benchmarks.tables import Table, families, method_tables

BASELINES = ["last-value", "power-law"]


@pytest.fixture
def folder(tmp_path, rng):
    own = tmp_path / "my_runs"
    own.mkdir()
    S = np.arange(1, 401)
    for name, alpha in (("first", 0.4), ("second", 0.8)):
        L = 2.0 + 5.0 * S**-alpha + 0.01 * rng.standard_normal(S.size)
        rows = "\n".join(f"{s},{loss:.5f},0.001" for s, loss in zip(S, L, strict=True))
        (own / f"{name}.csv").write_text(f"step,loss,lr\n{rows}\n", encoding="utf-8")
    return own


def test_the_power_law_beats_the_last_value_on_power_laws(folder):
    scores = evaluate(load_curves(folder), BASELINES, [0.2, 0.5])
    assert [(s.method, s.curve, s.fraction) for s in scores[:3]] == [
        ("last-value", "first", 0.2),
        ("last-value", "first", 0.5),
        ("last-value", "second", 0.2),
    ]
    mean = {m: np.mean([s.error for s in scores if s.method == m]) for m in BASELINES}
    assert mean["power-law"] < 0.5 * mean["last-value"]
    assert families(scores) == ["my_runs"]


def test_two_processes_give_the_scores_of_one(folder):
    one, two = (evaluate(load_curves(folder), BASELINES, [0.5], jobs=jobs) for jobs in (1, 2))
    assert [(s.method, s.curve, s.mid, s.low, s.high) for s in one if s.has_interval] == [
        (s.method, s.curve, s.mid, s.low, s.high) for s in two if s.has_interval
    ]


def test_the_command_prints_and_writes_a_page_with_every_curve(folder, tmp_path, capsys):
    page, raw = tmp_path / "docs" / "accuracy.md", tmp_path / "scores.json"
    arguments = ["--curves", str(folder), "--methods", "power-law", "--fractions", "0.2", "0.5"]
    assert main([*arguments, "--out", str(page), "--scores", str(raw)]) == 0
    printed, written = capsys.readouterr().out, page.read_text(encoding="utf-8")
    assert "last-value" in printed
    for name in ("first", "second"):
        assert f"| {name} " in written
    for picture in ("accuracy_error.png", "accuracy_calibration.png"):
        assert f"img/{picture}" in written
        assert (page.parent / "img" / picture).stat().st_size > 10_000
    assert str(folder) not in written
    assert len(json.loads(raw.read_text(encoding="utf-8"))) == 2 * 2 * 2


def test_the_same_input_gives_the_same_tables_but_for_the_times(folder):
    first, second = (
        [t.markdown() for t in method_tables(evaluate(load_curves(folder), BASELINES, [0.5])) if "Time" not in t.title]
        for _ in range(2)
    )
    assert first == second
    assert len(first) >= 6


def test_nothing_to_score_is_said(folder, capsys):
    assert main(["--curves", str(folder), "--methods", "last-value", "--fractions", "0.01"]) == 1
    assert "nothing to score" in capsys.readouterr().err


def test_a_table_reads_as_markdown():
    table = Table("Title", "Note.", ("method", "10 %"), (("a", "1.0"), ("long name", "2")))
    assert table.markdown().splitlines() == [
        "### Title",
        "",
        "Note.",
        "",
        "| method    | 10 % |",
        "|:----------|-----:|",
        "| a         |  1.0 |",
        "| long name |    2 |",
    ]


@pytest.mark.parametrize("name", ["curves", "lc_pfn", "least_squares", "predictions", "schedule_laws", "scores"])
def test_the_examples_in_the_docstrings_hold(name):
    result = doctest.testmod(importlib.import_module(f"benchmarks.{name}"))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_levels_of_the_intervals_are_among_the_quantiles():
    for p in (0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95):
        assert np.abs(PROBABILITIES - p).min() < 1e-12
