"""The command line: what it prints, in words and in JSON, and how it ends."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from lightning_scaling import LossCurve, forecast
from lightning_scaling.cli.app import app
from lightning_scaling.cli.watch_command import _Follower
from lightning_scaling.logfiles import Wanted
from lightning_scaling.named_schedule import named_rates

ROOT = Path(__file__).parents[1]
T = 2000
AHEAD = ("--horizon", str(T), "--schedule", "cosine:0.1")


def run(*arguments: str | Path) -> tuple[int, str, str]:
    """Run a command; return its exit status, and what it prints to stdout and stderr."""
    found = CliRunner().invoke(app, [str(a) for a in arguments])
    if found.exception is not None and not isinstance(found.exception, SystemExit):
        raise found.exception
    return found.exit_code, found.stdout, found.stderr


def as_json(*arguments: str | Path) -> tuple[int, dict[str, Any]]:
    code, out, _ = run(*arguments, "--json")
    return code, json.loads(out)


def write(path: Path, seen: int, *, A: float = 6.0, seed: int = 0, every: int = 10) -> Path:
    """Write the log of a run under a cosine: 2 + A/sqrt(S), less what the decay brings."""
    S = np.arange(every, seen + 1, every)
    lr = named_rates("cosine:0.1", T)[S - 1]
    L = 2.0 + A * S**-0.5 - 0.05 * (1.0 - lr) + 0.02 * np.random.default_rng(seed).standard_normal(S.size)
    rows = [f"{s},{y:.5f},{3e-4 * r:.4e}" for s, y, r in zip(S, L, lr, strict=True)]
    path.write_text("\n".join(["step,train_loss,lr", *rows]) + "\n")
    return path


@pytest.fixture
def half(tmp_path: Path) -> Path:
    return write(tmp_path / "half.csv", T // 2)


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return write(tmp_path / "whole.csv", T)


def test_forecast_says_what_the_api_says(half: Path) -> None:
    code, data = as_json("forecast", half, "--horizon", str(T), "--schedule", "cosine:0.1")
    assert code == 0
    table = np.loadtxt(half, delimiter=",", skiprows=1)
    S, L, lr = table.T
    rates = np.concatenate((np.interp(np.arange(1, S[-1] + 1), S, lr), 3e-4 * named_rates("cosine:0.1", T)[T // 2 :]))
    expected = forecast(LossCurve(S=S, L=L, lr=lr), horizon=T, lr_schedule=rates).final_loss
    assert data["final_loss"]["mid"] == pytest.approx(float(expected.mid), rel=1e-4)
    assert data["final_loss"]["low"] == pytest.approx(float(expected.low), rel=1e-3)
    assert data["log"]["columns"] == {"step": "step", "loss": "train_loss", "lr": "lr"}
    assert data["usable"]
    assert "taken to follow cosine:0.1 over 2 000 steps" in data["assumed"]
    assert data["warnings"] == []


def test_forecast_in_words(half: Path) -> None:
    code, out, err = run("forecast", half, "--horizon", str(T), "--schedule", "cosine:0.1")
    assert code == 0
    assert "100 losses up to step 1 000; step from 'step', loss from 'train_loss', learning rate from 'lr'" in out
    assert "Step 1 000 of 2 000: the run should end at 2." in out
    assert "•" in out
    assert "\x1b" not in out
    assert err == ""


def test_forecast_from_a_part_of_a_finished_run(whole: Path) -> None:
    code, data = as_json("forecast", whole, "--assume-logged", "--at", "0.5")
    assert code == 0
    assert (data["step"], data["horizon"], data["schedule_known"]) == (1000, T, True)
    assert as_json("forecast", whole, "--assume-logged", "--at", "1500")[1]["step"] == 1500
    code, _, err = run("forecast", whole, "--at", "5")
    assert code == 2
    assert "Expected losses up to step 5, got the first one at 10, so give a later --at." in err


def test_the_status_tells_of_forecasts_and_stops(half: Path) -> None:
    ahead = ("forecast", half, "--horizon", str(T), "--schedule", "cosine:0.1")
    assert run(*ahead, "--target", "2.5")[0] == 0
    code, out, _ = run(*ahead, "--target", "1.2")
    assert code == 4
    assert "target 1.2 has probability below 0.1 %: stop." in out
    assert run(*ahead, "--min-gain", "1.5")[0] == 4
    code, out, _ = run("forecast", half)
    assert code == 3
    assert "no horizon" in out
    assert as_json("forecast", half, "--horizon", "900000")[1]["verdict"] == "too early"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("forecast", "nowhere.csv"), "Expected a log at nowhere.csv, got nothing there, so check the path."),
        (("forecast", "LOG", "--loss-column", "zebra"), "Expected a column 'zebra' in"),
        (("forecast", "LOG", "--horizon", "10"), "at or after the last one in the log, 1 000, got 10, so"),
        (("forecast", "LOG", "--horizon", "abc"), "Expected --horizon as a whole number of steps, got 'abc', so give"),
        (
            ("forecast", "LOG", "--horizon", "1e400"),
            "Expected --horizon as a whole number of steps, got '1e400', so give",
        ),
        (
            ("forecast", "LOG", "--horizon", "2000.5"),
            "Expected --horizon as a whole number of steps, got '2000.5', so give",
        ),
        (("forecast", "LOG", "--schedule", "cosine"), "Expected --horizon beside --schedule, got none"),
        (("forecast", "LOG", "--horizon", "2000", "--schedule", "cosin"), "Expected a learning-rate schedule such as"),
        (("forecast", "LOG", "--level", "90"), "Expected level between 0 and 1, got 90.0"),
        (("forecast", "LOG", "--min-gain", "-1"), "Expected min_gain to be a finite number >= 0"),
        (("forecast", "LOG", "--picture", "x.zebra"), "zebra"),
        (("replay", "nowhere"), "Expected a log at nowhere"),
        (("compare", "LOG"), "Expected two runs with a usable forecast, got 1"),
    ],
)
def test_what_is_wrong_is_said(half: Path, arguments: tuple[str, ...], message: str) -> None:
    code, out, err = run(*(half if a == "LOG" else a for a in arguments))
    assert code == 2
    assert message in err
    assert err.startswith("lightning-scaling: ")
    assert out == ""


def test_pictures(half: Path, tmp_path: Path) -> None:
    code, _, err = run("forecast", half, "--horizon", str(T), "--schedule", "linear", "--picture", tmp_path / "a.svg")
    assert code == 0
    assert "The picture is in" in err
    assert (tmp_path / "a.svg").read_text().startswith("<?xml")


def test_borrowing_from_finished_runs(tmp_path: Path) -> None:
    finished = tmp_path / "finished"
    finished.mkdir()
    for seed in range(3):
        write(finished / f"{seed}.csv", T, seed=seed + 10)
    early = write(tmp_path / "early.csv", 300)
    ahead = ("forecast", early, "--horizon", str(T), "--schedule", "cosine:0.1")
    alone, borrowed = (as_json(*ahead, *more)[1] for more in ((), ("--like", finished)))
    assert (alone["borrowed_from"], borrowed["borrowed_from"]) == (0, 3)
    width = [d["final_loss"]["high"] - d["final_loss"]["low"] for d in (alone, borrowed)]
    assert width[1] < width[0]


def test_replay_of_one_run(whole: Path, tmp_path: Path) -> None:
    code, out, _ = run("replay", whole, "--target", "1.5", "--target", "2.4", "--picture", tmp_path / "r.png")
    assert code == 0
    assert "whole: 2 000 steps, ended at 2.0" in out
    assert out.count(" yes") + out.count(" no\n") >= 7
    assert "right to stop" in out
    assert "right to go on" in out
    assert (tmp_path / "r.png").stat().st_size > 10_000
    code, data = as_json("replay", whole)
    assert code == 0
    assert len(data["runs"][0]["looks"]) == 9
    assert len(data["runs"][0]["stops"]) == len(data["rules"]) == 8


def test_replay_of_a_folder(tmp_path: Path) -> None:
    for seed in range(3):
        write(tmp_path / f"{seed}.csv", T, seed=seed)
    write(tmp_path / "short.csv", 100)
    code, out, err = run("replay", tmp_path)
    assert code == 0
    assert out.startswith("3 runs; mean error of the end")
    assert "Wrongly stopped: " in out
    targets = [line.split() for line in out.splitlines() if line.startswith("target")]
    assert len(targets) == 6
    assert "Left out: short has 10 losses, and a replay needs 20." in err
    _, data = as_json("replay", tmp_path)
    judged = {rule["rule"]: rule for rule in data["rules"]}
    assert sum(rule["wrongly_stopped"] for name, rule in judged.items() if name.startswith("target")) == 0
    assert "Left out: short has 10 losses, and a replay needs 20." in err


def test_compare(tmp_path: Path) -> None:
    good, bad = write(tmp_path / "good.csv", 1500), write(tmp_path / "bad.csv", 1500, A=9.0, seed=1)
    ahead = ("--horizon", str(T), "--schedule", "cosine:0.1")
    code, out, _ = run("compare", bad, good, *ahead)
    assert code == 0
    assert out.index("good  2.") < out.index("bad ")
    assert "good gets to where bad ends" in out
    assert "Counted in steps" in out
    code, data = as_json("compare", good, bad, *ahead)
    assert data["runs"][0]["probability_best"] > 0.95
    assert data["speed_ups"][0]["factor"]["low"] > 1.2
    code, out, _ = run("compare", write(tmp_path / "a.csv", T), write(tmp_path / "b.csv", T, A=9.0))
    assert out.count("Taken to be over.") == 2
    assert run("compare", write(tmp_path / "c.csv", 60), good, *ahead)[0] == 3


def test_watch_once(half: Path, tmp_path: Path) -> None:
    ahead = ("watch", half, "--once", "--horizon", str(T), "--schedule", "cosine:0.1")
    code, out, _ = run(*ahead)
    assert code == 0
    assert "the run should end at" in out
    assert run(*ahead, "--target", "1.2")[0] == 4
    assert run("watch", tmp_path / "later.csv", "--once")[0] == 3


def test_watch_follows_a_log_to_its_end(tmp_path: Path) -> None:
    source = write(tmp_path / "source.csv", T).read_text()
    log = tmp_path / "log.csv"

    def train() -> None:
        for end in (0.0, 0.35, 0.6001, 0.8, 1.0):  # cut in the middle of lines
            log.write_text(source[: int(end * len(source))])
            time.sleep(0.25)

    writer = threading.Thread(target=train)
    writer.start()
    code, out, _ = run("watch", log, "--horizon", str(T), "--schedule", "cosine:0.1", "--interval", "0.1")
    writer.join()
    assert code == 0
    assert "the run should end at" in out
    assert "Forecasts of the loss at step 2 000, and what happened" in out


def test_watch_ends_where_a_rule_may_act(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    follower = _Follower(log, Wanted(), T, "cosine:0.1", 0, {"target": _target(1.2)}, 0.9)
    assert not follower.look()
    assert "Waiting for losses" in follower.waiting
    stopped = []
    for seen in range(200, T, 100):
        write(log, seen)
        follower.look()
        stopped.append(follower.live.wants_stop)
    assert not stopped[0]
    assert stopped[-1]


def test_watch_of_a_run_that_goes_back(tmp_path: Path) -> None:
    follower = _Follower(tmp_path / "log.csv", Wanted(), T, "cosine:0.1", 0, {}, 0.9)
    for seen in (1000, 600, 1200):
        write(tmp_path / "log.csv", seen)
        assert follower.look()
        assert follower.live.last_step <= seen
    assert follower.live.last_step == 1200


def test_watch_prints_a_line_of_json_for_each_forecast(tmp_path: Path) -> None:
    source, log = write(tmp_path / "source.csv", T).read_text(), tmp_path / "log.csv"

    def train() -> None:
        for end in (0.35, 0.6001, 0.8, 1.0):
            log.write_text(source[: int(end * len(source))])
            time.sleep(0.25)

    writer = threading.Thread(target=train)
    writer.start()
    code, out, _ = run("watch", log, *AHEAD, "--interval", "0.1", "--json")
    writer.join()
    assert code == 0
    lines = [json.loads(line) for line in out.splitlines()]
    assert [line["final"] for line in lines] == [False] * (len(lines) - 1) + [True]
    steps = [line["step"] for line in lines]
    assert steps == sorted(set(steps))
    assert (lines[-1]["step"], lines[-1]["over"], lines[-1]["status"]) == (T, True, 0)
    assert lines[-1]["ended_at"] == pytest.approx(2.0 + 6.0 * T**-0.5 - 0.045, abs=0.02)


def test_watch_once_in_json(half: Path, tmp_path: Path) -> None:
    code, data = as_json("watch", half, "--once", *AHEAD, "--target", "1.2")
    assert (code, data["status"], data["final"], data["over"]) == (4, 4, True, False)
    assert data["advice"]["action"] == "stop"
    code, data = as_json("watch", tmp_path / "later.csv", "--once")
    assert (code, data["status"], data["log"]) == (3, 3, None)


def test_a_run_that_is_over_and_short_has_no_speed_up(tmp_path: Path) -> None:
    (tmp_path / "short.csv").write_text("step,loss\n1,1.0\n2,0.5\n3,0.4\n")
    code, data = as_json("compare", tmp_path / "short.csv", write(tmp_path / "long.csv", T))
    assert (code, data["speed_ups"]) == (0, [])


GOOD = b"step,train_loss\n" + b"".join(b"%d,%d.5\n" % (s, 200 - s) for s in range(1, 100))
PACKED = gzip.compress(GOOD)
BAD = {
    "empty": b"",
    "blank": b"\n \n",
    "header only": b"step,train_loss,lr\n",
    "one row": b"step,train_loss\n1,2\n",
    "no loss": b"a,b\n1,2\n3,4\n",
    "binary": bytes(range(256)) * 20,
    "not text": bytes(range(1, 256)) * 20,
    "another encoding": GOOD.decode().encode("utf-32"),
    "gzip that is cut off": PACKED[:100],
    "gzip that is damaged": PACKED[:60] + bytes(x ^ 255 for x in PACKED[60:90]) + PACKED[90:],
    "no gzip": b"\x1f\x8b" + b"x" * 100,
    "a cell without end": b'step,train_loss\n1,"' + b"x" * 200_000 + b"\n",
    "all NaN": b"step,train_loss\n" + b"1,nan\n" * 50,
    "steps beyond measure": b"step,loss,lr\n" + b"".join(b"%de200,%d,0.1\n" % (s, 100 - s) for s in range(1, 99)),
    "JSON of another kind": b'{"a": 1}',
    "deep JSON": b"[" * 100_000,
    "a number of 5000 digits": b'[{"step": 1, "loss": 1' + b"0" * 5000 + b"}]",
    "a state without a history": b'{"log_history": [{"step": "x"}], "global_step": 1, "max_steps": 1e400}',
}


@pytest.mark.parametrize("kind", BAD)
def test_no_log_brings_a_traceback(tmp_path: Path, half: Path, kind: str) -> None:
    log = tmp_path / "bad.csv"
    log.write_bytes(BAD[kind])
    for command in (
        ("forecast", log, "--horizon", "100", "--schedule", "cosine"),
        ("replay", log),
        ("forecast", half, "--horizon", str(T), "--like", log),
        ("runs", "import", log, "--store", tmp_path / "store"),
    ):
        code, out, err = run(*command)
        assert (code, out) == (2, "")
        assert err.startswith("lightning-scaling: Expected ")
    code, _, err = run("compare", log, half)
    assert code in (2, 3)
    assert "Expected " in err
    assert run("watch", log, "--once")[0] == 3
    assert not (tmp_path / "store").exists()


def test_a_folder_without_logs(tmp_path: Path) -> None:
    for command in ("forecast", "replay"):
        code, _, err = run(command, tmp_path)
        assert code == 2
        assert err.startswith("lightning-scaling: Expected ")


def _target(loss: float) -> Any:
    from lightning_scaling import TargetUnreachable

    return TargetUnreachable(loss)


def test_help_and_version() -> None:
    code, out, _ = run("--help")
    assert code == 0
    for word in ("forecast", "replay", "watch", "compare", "plan", "runs", "Exit status"):
        assert word in out
    code, out, _ = run("--version")
    assert out.startswith("lightning-scaling 0.")
    for command in ("forecast", "replay", "watch", "compare", "plan", "runs"):
        assert "3  there is no usable forecast" in run(command, "--help")[1]


def test_it_starts_without_anything_heavy(half: Path) -> None:
    code = f"""
import sys
sys.argv = ["lightning-scaling", "forecast", {str(half)!r}, "--horizon", "{T}"]
from lightning_scaling.cli.app import app
assert not {{"numpy", "scipy", "torch", "matplotlib", "pandas"}} & set(sys.modules), "at start"
try:
    app()
finally:
    heavy = {{"torch", "matplotlib", "pandas", "lightning", "pytorch_lightning", "scipy.signal", "scipy.stats"}}
    heavy &= set(sys.modules)
    assert not heavy, heavy
"""
    environment = {**os.environ, "PYTHONIOENCODING": "ascii", "COLUMNS": "60"}
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert "the run should end at" in done.stdout
    assert done.stdout.isascii()


def test_without_typer_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['typer'] = None; from lightning_scaling.cli import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "pip install 'lightning-scaling[cli]'" in done.stderr
