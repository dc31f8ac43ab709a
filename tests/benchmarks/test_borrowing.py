"""The benchmark of borrowing, on a folder of runs made here."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.borrowing import main
from benchmarks.curves import load_curves
from benchmarks.lending import OWN, STRANGERS, Finished, Question, ask, costs, within

SIZES = {"small_a": 1e6, "small_b": 3e6, "large": 1e7}
EVERYBODY = Question(OWN, lambda run: True, lambda run, other: other.group == run.group)


@pytest.fixture
def folder(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Return a folder of two sources; the branch of one run is known as that run."""
    own = tmp_path / "runs"
    own.mkdir()
    index, S = [], np.unique(np.round(np.geomspace(5, 2000, 200)))
    for group, level in (("ours", 1.0), ("theirs", 20.0)):
        for name, N in SIZES.items():
            L = level * (2.0 * (N / 1e6) ** -0.07 + 3.0 * S**-0.5 + 0.003 * rng.standard_normal(S.size))
            index.append({"id": f"{group}_{name}", "group": group, "N": N})
            names = [f"{group}_{name}"]
            if (group, name) == ("ours", "large"):
                names.append("ours_branch")
                index.append({"id": "ours_branch", "group": group, "N": N})
            for run in names:
                losses = L - 0.3 * (S > 1500) if run == "ours_branch" else L
                rows = "\n".join(f"{s:.0f},{loss:.6f},0.001" for s, loss in zip(S, losses, strict=True))
                (own / f"{run}.csv").write_text(f"step,loss,lr\n{rows}\n", encoding="utf-8")
    (own / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return own


def finished(folder: Path) -> list[Finished]:
    return [Finished.of(run) for run in load_curves(folder)]


def test_sizes_are_read_and_travel_in_the_curve(folder: Path) -> None:
    assert {run.curve.N for run in finished(folder)} == set(SIZES.values())


def test_a_store_holds_neither_the_run_nor_its_branch_nor_what_was_not_asked_for(folder: Path) -> None:
    runs = finished(folder)
    stored = {pair.run: pair.stored for pair in ask([EVERYBODY], runs, [0.5])}
    assert stored == {
        "ours_small_a": 3,
        "ours_small_b": 3,
        "ours_large": 2,
        "ours_branch": 2,
        **{f"theirs_{name}": 2 for name in SIZES},
    }
    asked = ask([within("ours", "large", "small", "large from small")], runs, [0.5])
    assert [(pair.run, pair.stored) for pair in asked] == [("ours_large", 2)]


def test_kin_help_strangers_do_not_and_nothing_is_said_alone_of_a_run_that_has_not_begun(folder: Path) -> None:
    strangers = Question(STRANGERS, lambda run: True, lambda run, other: other.group != run.group)
    pairs = ask([EVERYBODY, strangers], finished(folder), [0.0, 0.3])
    for pair in pairs:
        if pair.fraction == 0.0:
            assert np.isnan(pair.alone.mid)
            if pair.question == OWN and pair.run != "ours_branch":
                assert pair.helped.low <= pair.truth <= pair.helped.high
        elif pair.question == STRANGERS:
            assert pair.helped.n_siblings == 0
            assert (pair.helped.low, pair.helped.mid, pair.helped.high) == (
                pair.alone.low,
                pair.alone.mid,
                pair.alone.high,
            )
    # Among theirs there is no branch that leaves its law late.
    theirs = [p for p in pairs if p.question == OWN and p.fraction == 0.3 and p.group == "theirs"]
    width = [(p.helped.high - p.helped.low) / (p.alone.high - p.alone.low) for p in theirs]
    assert np.mean(width) < 0.95


def test_the_command_prints_and_writes_a_page(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "docs" / "borrowing.md"
    arguments = ["--curves", str(folder), "--fractions", "0", "0.3", "--stores"]
    assert main([*arguments, "--out", str(page)]) == 0
    printed, written = capsys.readouterr().out, page.read_text(encoding="utf-8")
    for words in (OWN, STRANGERS, "| ours_large ", "width ratio"):
        assert words in printed
        assert words in written
    assert str(folder) not in written
    assert (page.parent / "img" / "borrowing_error.png").stat().st_size > 1_000
    assert main([*arguments, "--group", "ours", "--target", "large", "--store", "small"]) == 0
    assert "ours: 'large' from 'small'" in capsys.readouterr().out
    assert main([*arguments, "--group", "nobody"]) == 1
    assert "['ours', 'theirs']" in capsys.readouterr().err


def test_the_time_is_measured_of_stores_that_are_borrowed_from() -> None:
    ((n, borrowed, *seconds),) = costs([6], horizon=3000)
    assert n == 6
    assert 0 < borrowed <= 6
    assert min(seconds) > 0.0


def test_a_warm_up_before_the_log_is_known_where_it_is_given(folder: Path) -> None:
    run = finished(folder)[0]
    rates = run.warmed_up(4).lr_schedule
    assert run.lr_schedule is not None
    assert rates is not None
    assert rates.rate_at(np.arange(1.0, 7.0)) == pytest.approx([0.25, 0.5, 0.75, 1.0, 1.0, 1.0])
    assert run.warmed_up(0) is run
    assert run.warmed_up(6) is run  # the log begins at step 5
    plain, warmed = (
        ask([within("ours", "large", "small", "it", steps)], finished(folder), [0.5])[0] for steps in (0, 4)
    )
    assert plain.truth == warmed.truth
    assert plain.alone.mid != warmed.alone.mid
