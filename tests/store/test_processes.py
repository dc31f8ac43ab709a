"""Real processes: many writers at one place, a death in the middle of a write, a full disk, a folder of others."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from lightning_scaling import LossCurve, RunStore

ROOT = Path(__file__).parents[2]
FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX processes")

PREAMBLE = """
import os, resource, signal, sys, time
import numpy as np
from lightning_scaling import LossCurve, RunStore, StoreError
folder = sys.argv[1]
store = RunStore(folder)
def curve(n):
    S = np.arange(1.0, n + 1.0)
    return LossCurve(S=S, L=2.0 + S**-0.5 / 3.0, N=1e6)
"""


def python(code: str, folder: Path) -> subprocess.Popen[str]:
    """Run code in a process that has numpy and the store only; threads of numpy would not survive a fork."""
    return subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + textwrap.dedent(code), str(folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def printed(code: str, folder: Path) -> str:
    process = python(code, folder)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    return out.strip()


@FORKS
def test_two_hundred_writers_lose_nothing(tmp_path: Path) -> None:
    """Each writes a run, and writes it again, all at once; meanwhile a reader sees whole files only."""
    out = printed(
        """
        assert not {"torch", "lightning", "pytorch_lightning", "fsspec"} & set(sys.modules)
        gate, open_gate = os.pipe()
        children = []
        for i in range(200):
            if (child := os.fork()) == 0:
                os.close(open_gate)
                os.read(gate, 1)  # comes back for all at once, when the parent closes its end
                run_id = store.add(curve(30 + i), horizon=300, tags={"writer": i})
                store.add(curve(300), id=run_id, derived={"writer": i})
                os._exit(0)
            children.append(child)
        os.close(open_gate)
        seen = [len(store) for _ in range(5)]
        failed = sum(os.waitpid(child, 0)[1] != 0 for child in children)
        print(failed, seen == sorted(seen))
        """,
        tmp_path,
    )
    assert out == "0 True"
    runs = RunStore(tmp_path).runs()
    assert sorted(run.tags["writer"] for run in runs) == list(range(200))
    assert all(run.derived == {"writer": run.tags["writer"]} and run.state == "finished" for run in runs)
    assert len(list(tmp_path.iterdir())) == 200, "nothing but the runs is left"


@FORKS
def test_writers_of_one_run_leave_one_whole_file(tmp_path: Path) -> None:
    """That is not how a store is used, but two jobs with one id must not make a torn file."""
    out = printed(
        """
        children = []
        for i in range(8):
            if (child := os.fork()) == 0:
                for _ in range(20):
                    store.add(curve(100 + 50 * i), id="one")
                os._exit(0)
            children.append(child)
        print(sum(os.waitpid(child, 0)[1] != 0 for child in children), len(store))
        """,
        tmp_path,
    )
    assert out == "0 1"
    assert [path.name for path in tmp_path.iterdir()] == ["one.run.json"]


def test_killed_before_the_file_is_in_its_place(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.add(LossCurve(S=[1, 2, 3], L=[3.0, 2.0, 1.5]), id="run")
    before = (tmp_path / "run.run.json").read_bytes()
    process = python(
        """
        def wait(_):
            print("writing", flush=True)
            time.sleep(60)
        os.fsync = wait  # the data have been handed to the system by then
        store.add(curve(300), id="run")
        """,
        tmp_path,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    process.kill()
    process.communicate()
    assert (tmp_path / "run.run.json").read_bytes() == before
    assert [run.curve.step for run in store] == [3]
    store.add(LossCurve(S=[1, 2, 3, 4], L=[3.0, 2.0, 1.5, 1.4]), id="run")  # what is left over is in nobody's way
    assert [run.curve.step for run in RunStore(tmp_path)] == [4]


LIMIT = """
resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
"""


@FORKS
def test_killed_in_the_middle_of_a_write(tmp_path: Path) -> None:
    """The system ends the process at byte 4096 of a longer file."""
    RunStore(tmp_path).add(LossCurve(S=[1, 2, 3], L=[3.0, 2.0, 1.5]), id="run")
    before = (tmp_path / "run.run.json").read_bytes()
    process = python(f"{LIMIT}signal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nstore.add(curve(300), id='run')", tmp_path)
    process.communicate(timeout=60)
    assert process.returncode == -signal.SIGXFSZ
    assert (tmp_path / "run.run.json").read_bytes() == before
    assert [run.curve.step for run in RunStore(tmp_path)] == [3]


@FORKS
def test_a_full_disk_is_an_error_that_leaves_no_trace(tmp_path: Path) -> None:
    RunStore(tmp_path).add(LossCurve(S=[1, 2, 3], L=[3.0, 2.0, 1.5]), id="run")
    code = f"{LIMIT}try:\n    store.add(curve(300), id='run')\nexcept StoreError as error:\n    print(error)"
    said = printed(code, tmp_path)
    assert said.startswith(f"Expected runs to be written to {tmp_path}, got OSError: ")
    assert [path.name for path in tmp_path.iterdir()] == ["run.run.json"]
    assert [run.curve.step for run in RunStore(tmp_path)] == [3]


@FORKS
def test_a_folder_that_may_only_be_read(tmp_path: Path) -> None:
    """Root may write anywhere, so the process becomes somebody else."""
    code = """
        import tempfile
        from pathlib import Path
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            RunStore(folder).add(curve(10), id="run")
            folder.chmod(0o555)
            if (child := os.fork()) == 0:
                if os.geteuid() == 0:
                    os.setuid(65534)
                store = RunStore(folder)
                print([run.curve.step for run in store])
                for work in (lambda: store.add(curve(20), id="run"), lambda: store.forget("run")):
                    try:
                        work()
                    except StoreError as error:
                        print(str(error).replace(str(folder), "FOLDER"))
                sys.stdout.flush()
                os._exit(0)
            os.waitpid(child, 0)
            folder.chmod(0o755)
        """
    steps, *errors = printed(code, tmp_path).splitlines()
    assert steps == "[10]"
    for deed, error in zip(("written to", "deleted from"), errors, strict=True):
        assert error.startswith(f"Expected runs to be {deed} FOLDER, got PermissionError: ")
        assert error.endswith("so check that the place exists, that this job may use it, and that it is not full.")


def test_a_local_store_does_without_fsspec(tmp_path: Path) -> None:
    out = printed(
        """
        sys.modules["fsspec"] = None
        store.add(curve(30), id="run")
        print(store["run"].curve.step)
        try:
            RunStore("memory://runs")
        except StoreError as error:
            print(error)
        """,
        tmp_path,
    )
    step, error = out.splitlines()
    assert step == "30"
    assert re.search(r"got 'memory://runs' \(\w+Error: .*fsspec.*\), so .* install", error)
