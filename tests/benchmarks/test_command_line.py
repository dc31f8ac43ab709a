"""The benchmark of the command line: that it measures what it says it does. No time decides here."""

import pytest

from benchmarks import command_line
from benchmarks.command_line import BAR, HELP, KINDS, Taken, measure, run, table, taken, write
from lightning_scaling.logfiles import read_log


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_a_log_of_the_same_run(kind, tmp_path):
    log = read_log(write(kind, tmp_path, 3000))
    losses = {int(step): float(loss) for step, loss, _ in run(3000)}
    assert len(log.curve) >= 1900
    assert all(losses[int(s)] == pytest.approx(y, abs=1e-6) for s, y in zip(log.curve.S, log.curve.L, strict=True))
    assert ("lr" in log.columns) == ("6 decimals" not in kind)


def test_processes_are_timed_in_turns(tmp_path):
    found = measure(tmp_path, 3000, 1, ["tabs"])
    assert list(found) == [HELP, "tabs"]
    assert all(0.0 < t.busy and 0.0 < t.wall for times in found.values() for t in times)


def test_a_command_that_fails_is_no_time(tmp_path):
    with pytest.raises(RuntimeError, match="ended with 2"):
        taken(["forecast", "not there.csv"], tmp_path)


def test_modules_are_compiled_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONDONTWRITEBYTECODE", "1")
    taken(["--help"], tmp_path)
    compiled = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pyc")}
    assert any("lightning_scaling" in path.parts for path in compiled)
    taken(["--help"], tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.pyc")} == compiled


def test_the_table_holds_the_median_against_the_bar(monkeypatch, tmp_path, capsys):
    def times(wall):
        return [Taken(wall, wall), Taken(9.0 * wall, wall), Taken(wall, 0.5 * wall)]

    found = {HELP: times(0.4), **{kind: times(1.5) for kind in KINDS}, "tabs": times(BAR)}
    rows = {row[0]: row for row in table(found, {"tabs": 2_000_000}, 100).rows}
    assert rows[HELP] == (HELP, "–", "0.40", "0.40", "0.20", "0.5", "met")
    assert rows["tabs"] == ("tabs", "2", "2.00", "2.00", "1.00", "2.0", "missed")
    assert rows["JSON lines"][-2:] == ("–", "–")
    monkeypatch.setattr(
        command_line, "measure", lambda folder, rows, rounds: [write(k, folder, 10) for k in KINDS] and found
    )
    page = tmp_path / "docs" / "command_line_speed.md"
    assert command_line.main(["--rows", "10", "--out", str(page)]) == 0
    assert "### Seconds from start to end" in page.read_text(encoding="utf-8")
    assert "### Seconds from start to end" in capsys.readouterr().out
    assert str(tmp_path) not in page.read_text(encoding="utf-8")
