"""Files and folders that are no logs, or hold several."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightning_scaling.logfiles import read_log, read_logs

RUN = "step,loss\n" + "".join(f"{s},{5 / s}\n" for s in range(1, 30))


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"Expected a log at .*, got nothing there, so check the path"):
        read_log(tmp_path / "run.csv")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "got an empty file, so wait"),
        (b"\x89PNG\x00\x01", "got a binary file, so give"),
        (b"{}", "got a JSON document without one"),
        (b"{ not json at all\n{ neither\n", "got 2 lines that are not JSON and 0 that are"),
        (b"hello world\nthis is prose\n", "Expected a column of losses"),
        (b"step,loss\n", "Expected at least two finite losses"),
        (b"step,loss\n1,x\n2,y\n", "Expected at least two finite losses"),
    ],
)
def test_no_log(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "run.log"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        read_log(path)


def test_a_folder_of_runs(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(RUN)
    (tmp_path / "a.val.csv").write_text(RUN)
    (tmp_path / "notes.txt").write_text("remember the milk\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    for version in ("version_0", "version_1"):
        folder = tmp_path / "lightning_logs" / version
        folder.mkdir(parents=True)
        (folder / "metrics.csv").write_text(RUN)
        (folder / "hparams.yaml").write_text("{}\n")
    assert [log.name for log in read_logs(tmp_path)] == ["a", "version_0", "version_1"]


def test_a_folder_without_runs(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("remember the milk\n")
    with pytest.raises(ValueError, match=r"Expected logs of runs in .*, got none that can be read \(Expected a column"):
        read_logs(tmp_path)
    with pytest.raises(ValueError, match=r"Expected the log of a run in the folder .*, so give the file itself"):
        read_log(tmp_path)


def test_what_was_taken_is_said(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text(RUN)
    said = str(read_log(tmp_path / "a.csv"))
    assert said.endswith("a.csv (CSV): 29 losses up to step 29; step from 'step', loss from 'loss'")
