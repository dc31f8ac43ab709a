"""read_log(), read_logs(): what a file or folder is, by its content, and the runs in it."""

from __future__ import annotations

import csv
import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lightning_scaling.logfiles.assemble import assemble
from lightning_scaling.logfiles.delimited import Table, decoded
from lightning_scaling.logfiles.exports import runs_of
from lightning_scaling.logfiles.json_logs import read_json
from lightning_scaling.logfiles.mlflow import is_metric, read_mlflow, runs_below
from lightning_scaling.logfiles.names import Wanted
from lightning_scaling.logfiles.run import RawRun, RunLog
from lightning_scaling.logfiles.tensorboard import event_files, read_events

__all__ = ["read_log", "read_logs"]

#: Where a folder of a run keeps its log, the best first.
_IN_A_FOLDER = ("metrics.csv", "trainer_state.json", "wandb-history.jsonl", "history.jsonl", "metrics.jsonl")
_SUFFIXES = {".csv", ".tsv", ".jsonl", ".json", ".txt", ".log", ".ndjson", ".dat", ".gz"}


def read_log(path: str | Path, wanted: Wanted | None = None) -> RunLog:
    """Read the one run of a log.

    Formats are told apart by their content: Lightning's CSVLogger, TensorBoard event files, Hugging Face
    ``trainer_state.json``, W&B exports and histories, MLflow's local store and exports, JSON lines, CSV and its like.

    Args:
        path: A file, or the folder of a run.
        wanted: Columns that are not found by themselves, and the run where there are several.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        ModuleNotFoundError: If a format needs a package that is not installed.
        ValueError: If it holds no losses, or several runs and none was named.
    """
    wanted = wanted or Wanted()
    with _readable(path):
        return _one(Path(path), wanted)


def _one(path: Path, wanted: Wanted) -> RunLog:
    found = _raw_runs(path)
    if wanted.run is not None:
        named = [raw for raw in found if raw.name == wanted.run] or [raw for raw in found if wanted.run in raw.name]
        if len(named) != 1:
            raise ValueError(f"Expected one run named '{wanted.run}' in {path}, got {_names(named or found)}.")
        found = named
    if len(found) > 1:
        raise ValueError(f"Expected one run in {path}, got {len(found)}: {_names(found)}, so name one of them (run).")
    return assemble(found[0], str(path), wanted)


def read_logs(path: str | Path, wanted: Wanted | None = None) -> list[RunLog]:
    """Read every run of a log or of a folder of logs; what holds no losses is left out.

    Raises:
        FileNotFoundError: If there is nothing at the path.
        ValueError: If no run could be read; the message is that of the first file.
    """
    wanted, root = wanted or Wanted(), Path(path)
    if _is_run(root):
        return _assembled(root, wanted)
    found: list[RunLog] = []
    first: Exception | None = None
    for place in _runs_in(root):
        try:
            found += _assembled(place, wanted)
        except (ValueError, ModuleNotFoundError) as error:
            first = first or error
    if not found:
        why = f" ({first})" if first else ""
        raise ValueError(f"Expected logs of runs in {path}, got none that can be read{why}, so name the files.")
    return found


@contextmanager
def _readable(path: str | Path) -> Iterator[None]:
    """Say of a file that cannot be read what it is: whatever a stranger's bytes do to a parser is one kind of error."""
    try:
        yield
    except (csv.Error, zlib.error, gzip.BadGzipFile, EOFError, OverflowError, RecursionError, ValueError) as error:
        if str(error).startswith("Expected"):
            raise
        raise ValueError(
            f"Expected a log that can be read at {path}, got one that is cut off, damaged or of another kind "
            f"({error}), so give another, or write it anew."
        ) from error


def _assembled(path: Path, wanted: Wanted) -> list[RunLog]:
    with _readable(path):
        return _all_of(path, wanted)


def _all_of(path: Path, wanted: Wanted) -> list[RunLog]:
    found = _raw_runs(path)
    if wanted.run is not None:
        found = [raw for raw in found if wanted.run in raw.name]
    logs: list[RunLog] = []
    first: ValueError | None = None
    for raw in found:
        try:
            logs.append(assemble(raw, str(path), wanted))
        except ValueError as error:
            first = first or error
    if not logs and first is not None:
        raise first
    return logs


def _is_run(path: Path) -> bool:
    """Tell whether a path is a log or the folder of one run, not a folder of several."""
    if not path.is_dir():
        return True
    if any((path / name).is_file() for name in _IN_A_FOLDER) or event_files(path) or (path / "metrics").is_dir():
        return True
    return bool(list(path.glob("checkpoint-*/trainer_state.json")))


def _runs_in(folder: Path) -> list[Path]:
    """Return the logs and run folders of a folder, down to four levels, sorted by name."""
    runs = runs_below(folder)
    if runs:
        return runs
    found: list[Path] = []
    for place in sorted(folder.iterdir()):
        if place.is_dir():
            found += [place] if _is_run(place) else [p for p in _runs_in(place) if len(p.parts) < len(folder.parts) + 5]
        elif place.suffix.lower() in _SUFFIXES and not place.name.endswith((".val.csv", "hparams.yaml", "index.json")):
            found.append(place)
    return found


def _raw_runs(path: Path) -> list[RawRun]:
    """Return the runs of a file or of the folder of a run."""
    if not path.exists():
        raise FileNotFoundError(f"Expected a log at {path}, got nothing there, so check the path.")
    if path.is_dir():
        return _of_folder(path)
    if "tfevents" in path.name:
        return [read_events([path], path.parent.name or path.name)]
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    head = decoded(data[:4096]).lstrip()
    if not head:
        raise ValueError(f"Expected a log at {path}, got an empty file, so wait for the first entries.")
    if b"\x00" in data[:4096] and data[:2] not in (b"\xff\xfe", b"\xfe\xff"):
        raise ValueError(
            f"Expected a log of text at {path}, got a binary file, so give a CSV, JSON or event file, or export one."
        )
    if head[0] in "{[":
        return read_json(path, data, _name(path))
    if is_metric(path, head):
        return [read_mlflow(path)]
    return runs_of(Table(path, data), _name(path))


def _of_folder(folder: Path) -> list[RawRun]:
    for name in _IN_A_FOLDER:
        if (folder / name).is_file():
            return _raw_runs(folder / name)
    if files := event_files(folder):
        return [read_events(files, folder.name)]
    states = list(folder.glob("checkpoint-*/trainer_state.json"))
    if states:  # each checkpoint holds all history up to it
        newest = max(states, key=lambda p: int(p.parent.name.rpartition("-")[2]) if p.parent.name[-1].isdigit() else 0)
        return read_json(newest, newest.read_bytes(), folder.name)
    runs = runs_below(folder)
    if runs:
        return [read_mlflow(run) for run in runs]
    raise ValueError(
        f"Expected the log of a run in the folder {folder}, got none of {', '.join(_IN_A_FOLDER)}, event files, "
        "checkpoints or MLflow metrics, so give the file itself."
    )


def _name(path: Path) -> str:
    """Return what the run of a file is called: by the folder where all files are called alike."""
    return path.parent.name if path.name in _IN_A_FOLDER and path.parent.name else path.name.split(".")[0]


def _names(runs: list[RawRun]) -> str:
    shown = ", ".join(f"'{raw.name}'" for raw in runs[:12])
    return f"{shown}, …" if len(runs) > 12 else shown or "none"
