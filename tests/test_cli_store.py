"""The commands that know a store: plan, runs, and forecasts that borrow from one."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lightning_scaling import LossCurve, RunStore, forecast, plan
from lightning_scaling.cli.app import app
from lightning_scaling.cli.plan_command import _seconds
from lightning_scaling.laws import HoffmannND
from lightning_scaling.own_laws import own_laws
from lightning_scaling.store.example import example_store
from tests.test_cli import T, as_json, run, write

SIZES = (1e5, 1e6, 1e7)


@pytest.fixture(autouse=True)
def _no_store_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIGHTNING_SCALING_STORE", raising=False)


@pytest.fixture
def store(tmp_path: Path) -> RunStore:
    """Runs of three sizes at a held rate, by a law."""
    law, found = HoffmannND(E=1.0, A_N=40.0, A_D=300.0, alpha_N=0.35, alpha_D=0.5), RunStore(tmp_path / "store")
    S = np.arange(10, T + 1, 10)
    for seed, N in enumerate(SIZES):
        L = law.loss(N, 512.0 * S) + 0.02 * np.random.default_rng(seed).standard_normal(S.size)
        curve = LossCurve(S, L, N=N, B=512.0)
        found.add(curve, horizon=T, lr_schedule=np.ones(T), tags={"task": "text"}, id=f"run-{seed}")
    return found


class TestPlan:
    def test_it_says_what_the_api_says(self) -> None:
        assert run("plan", "--compute", "1e21")[1] == f"{plan(C=1e21)}\n"
        asked = ("plan", "--time", "10d", "--flops", "2e14", "--batch", "1e6", "--data", "1e10")
        expected = plan(time_s=864_000.0, flop_per_s=2e14, B=1e6, data=1e10)
        assert run(*asked)[1] == f"{expected}\n"
        code, data = as_json(*asked)
        assert code == 0
        assert expected.kaplan is not None
        assert data["kaplan"]["N"] == vars(expected.kaplan.N)
        assert data["kaplan"]["overfitting"]["mid"] == expected.kaplan.overfitting.mid  # type: ignore[union-attr]
        assert data["constants"]["published"]
        assert data["store"] is None
        assert data["asked"] == {"C": 1.728e20, "L": None, "flop_per_s": 2e14, "B": 1e6, "data": 1e10}

    def test_a_loss_that_is_never_reached(self) -> None:
        data = as_json("plan", "--loss", "1.5")[1]
        assert data["hoffmann"] is None
        assert "its irreducible loss is" in " ".join(data["notes"])

    def test_with_laws_of_the_runs_of_a_store(self, store: RunStore) -> None:
        code, data = as_json("plan", "--compute", "1e14", "--store", store.url)
        assert code == 0
        assert not data["constants"]["published"]
        assert data["constants"]["batch"] == 512.0
        assert (data["store"]["runs"], data["store"]["sizes"], data["store"]["why_not"]) == (3, 3, None)
        laws = own_laws(store.runs()).laws
        assert laws is not None
        assert data["hoffmann"]["N"] == vars(plan(C=1e14, laws=laws).hoffmann.N)  # type: ignore[union-attr]
        assert data["hoffmann"]["decades_beyond"]["D"] > 0.0

    def test_a_store_that_carries_no_fit_is_said_first(self, store: RunStore) -> None:
        store.forget("run-0")
        code, out, _ = run("plan", "--compute", "1e14", "--store", store.url)
        assert code == 0
        first, rest = out.split("\n\n", 1)
        assert first.startswith(f"THE RUNS IN {store.url} DO NOT CARRY A FIT. Expected finished runs of 3 sizes")
        assert "got 2 of 2 sizes" in first
        assert rest == f"{plan(C=1e14)}\n"
        data = as_json("plan", "--compute", "1e14", "--store", store.url, "--tag", "task=none")[1]
        assert data["constants"]["published"]
        assert not data["store"]["used"]
        assert "got none" in data["store"]["why_not"]

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((), "Expected one of --compute, --time and --loss, got 0"),
            (("--compute", "1e20", "--loss", "2"), "Expected one of --compute, --time and --loss, got 2"),
            (("--time", "10d"), "Expected --flops beside --time"),
            (("--time", "10 parsecs", "--flops", "1e14"), "Expected a time such as 90min, 12h, 10d or 3w, got"),
            (("--compute", "nan"), "Expected C from 1e-09 to 1e+45"),
            (("--compute", "1e20", "--batch", "0"), "Expected B from 1e-09"),
            (("--compute", "1e20", "--data", "-1"), "Expected data from 1e-09"),
            (("--compute", "1e20", "--store", "nowhere"), "Expected a store at"),
        ],
    )
    def test_what_is_wrong_is_said(self, arguments: tuple[str, ...], message: str) -> None:
        code, out, err = run("plan", *arguments)
        assert (code, out) == (2, "")
        assert err.startswith(f"lightning-scaling: {message}")

    def test_times(self) -> None:
        found = [_seconds(text) for text in ("90", "90s", "1.5 min", "2h", "10d", "1e-1w")]
        assert found == [90.0, 90.0, 90.0, 7200.0, 864_000.0, 60_480.0]


class TestRuns:
    def test_a_log_goes_in_and_comes_out(self, tmp_path: Path) -> None:
        log, url = write(tmp_path / "whole.csv", T), tmp_path / "new"
        arguments = ("runs", "import", log, "--store", url, "--N", "1e6", "--batch", "512", "--tag", "task=text")
        code, data = as_json(*arguments, "--tag", "width=64")
        assert code == 0
        (row,) = data["imported"]
        assert row["id"].startswith("whole-")
        found = RunStore(url)[row["id"]]
        assert (found.state, found.horizon, found.N, found.batch) == ("finished", T, 1e6, 512.0)
        assert found.tags == {"name": "whole", "loss": "train_loss", "task": "text", "width": 64}
        assert found.lr_schedule is not None
        assert found.lr_schedule.rates[-1] == pytest.approx(0.1, abs=0.01)
        run(*arguments)
        assert len(RunStore(url)) == 1  # the same log again
        out = tmp_path / "out.csv"
        assert run("runs", "export", row["id"][:8], "--store", url, "--out", out)[0] == 0
        with out.open() as stream:
            rows = list(csv.DictReader(stream))
        assert [float(r["step"]) for r in rows] == found.curve.S.tolist()
        assert [float(r["loss"]) for r in rows] == found.curve.L.tolist()
        whole = tmp_path / "out.json"
        assert run("runs", "export", row["id"], "--store", url, "--out", whole)[0] == 0
        assert json.loads(whole.read_text())["curve"]["loss"] == found.curve.L.tolist()
        ended, again = (as_json("forecast", x, "--at", "0.5", "--horizon", str(T))[1] for x in (log, out))
        assert again["final_loss"]["mid"] == pytest.approx(ended["final_loss"]["mid"], rel=1e-3)

    def test_a_run_that_was_cut_short_is_stopped(self, tmp_path: Path) -> None:
        log = write(tmp_path / "half.csv", T // 2)
        ahead = ("--horizon", str(T), "--schedule", "cosine:0.1")
        row = as_json("runs", "import", log, "--store", tmp_path / "s", *ahead)[1]["imported"][0]
        found = RunStore(tmp_path / "s")[row["id"]]
        assert (found.state, found.horizon) == ("stopped", T)
        assert found.lr_schedule is not None
        assert found.lr_schedule.horizon == T
        code, _, err = run("runs", "import", log, "--store", tmp_path / "s", "--horizon", "10")
        assert code == 2
        assert "at or after the last one in the log" in err

    def test_list_and_show(self, store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LIGHTNING_SCALING_STORE", store.url)
        assert run("runs", "list")[1] == "".join(f"{one}\n" for one in store)
        assert [one["id"] for one in as_json("runs", "list")[1]["runs"]] == ["run-0", "run-1", "run-2"]
        assert as_json("runs", "list", "--tag", "task=images")[1]["runs"] == []
        assert "No such runs in" in run("runs", "list", "--state", "stopped")[2]
        code, out, _ = run("runs", "show", "run-1")
        assert code == 0
        assert out.startswith(f"{store['run-1']}\n")
        assert "•" in out
        example = example_store()
        shown = as_json("runs", "show", "w12-cosine-1000", "--store", example.url)[1]
        assert shown["final_loss"] == example["w12-cosine-1000-b16"].final_loss
        assert shown["forecasts"][-1]["usable"]

    def test_forget_asks(self, store: RunStore) -> None:
        for answer in ("", "n\n"):
            found = CliRunner().invoke(app, ["runs", "forget", "run-1", "--store", store.url], input=answer)
            assert found.exit_code == 1
            assert "Nothing was deleted" in found.stderr
        assert len(store) == 3
        found = CliRunner().invoke(app, ["runs", "forget", "run-1", "--store", store.url], input="y\n")
        assert found.exit_code == 0
        assert run("runs", "forget", "run-2", "run-0", "--store", store.url, "--yes")[0] == 0
        assert len(store) == 0
        assert run("runs", "forget", "run-2", "--yes", "--store", store.url)[0] == 2

    def test_files_of_others_are_left_alone(self, store: RunStore) -> None:
        folder = Path(store.url)
        foreign = {"foreign.run.json": '{"a": 1}', "cut.run.json": '{"format":"lightning', "notes.txt": "mine"}
        for name, text in foreign.items():
            (folder / name).write_text(text)
        for id in ("foreign", "cut", "notes", "notes.txt", "../store/run-0", "run-"):
            code, _, err = run("runs", "forget", id, "--yes", "--store", store.url)
            assert code == 2
            assert "Expected" in err
        assert {name: (folder / name).read_text() for name in foreign} == foreign
        code, out, err = run("runs", "list", "--store", store.url)
        assert (code, out.count("\n")) == (0, 3)
        assert err.count("Left out: Expected") == 2
        assert [one["id"] for one in as_json("runs", "list", "--store", store.url)[1]["runs"]] == [
            "run-0",
            "run-1",
            "run-2",
        ]

    def test_export_does_not_write_over_a_file(self, store: RunStore, tmp_path: Path) -> None:
        out = tmp_path / "mine.csv"
        out.write_text("mine")
        code, _, err = run("runs", "export", "run-0", "--store", store.url, "--out", out)
        assert code == 2
        assert "which is there, so name another or add --force" in err
        assert out.read_text() == "mine"
        assert run("runs", "export", "run-0", "--store", store.url, "--out", out, "--force")[0] == 0
        assert out.read_text().startswith("step,loss,batch_size,")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("list",), "Expected --store URL or the environment variable LIGHTNING_SCALING_STORE, got neither"),
            (("list", "--store", "nowhere"), "got no folder there, so check the path"),
            (("list", "--store", "zebra://x"), "Expected a folder or a URL that fsspec can open"),
            (("list", "--store", "STORE", "--state", "zebra"), "Expected state to be one of"),
            (("list", "--store", "STORE", "--tag", "zebra"), "Expected --tag KEY=VALUE, got 'zebra'"),
            (("show", "zebra", "--store", "STORE"), "got none of this name, so choose one of"),
            (("show", "run", "--store", "STORE"), "got 3 that begin so, so choose one of"),
            (("export", "run-0", "--store", "STORE", "--out", "x.zebra"), "Expected a file that ends in .csv or .json"),
            (
                ("export", "run-0", "--store", "STORE", "--out", "nowhere/x.csv"),
                "Expected a file or folder that can be",
            ),
            (("import", "nowhere.csv", "--store", "STORE"), "Expected a log at nowhere.csv"),
        ],
    )
    def test_what_is_wrong_is_said(self, store: RunStore, arguments: tuple[str, ...], message: str) -> None:
        code, out, err = run("runs", *(store.url if a == "STORE" else a for a in arguments))
        assert (code, out) == (2, "")
        assert message in err


class TestForecast:
    def test_it_borrows_from_a_store(self, tmp_path: Path) -> None:
        for seed in range(3):
            log = write(tmp_path / f"{seed}.csv", T, seed=seed + 10)
            run("runs", "import", log, "--store", tmp_path / "runs", "--N", "1e6")
        early = write(tmp_path / "early.csv", 300)
        ahead = ("forecast", early, "--horizon", str(T), "--schedule", "cosine:0.1", "--N", "1e6")
        alone, borrowed = (as_json(*ahead, *more)[1] for more in ((), ("--store", tmp_path / "runs")))
        assert (alone["borrowed_from"], borrowed["borrowed_from"]) == (0, 3)

    def test_of_a_run_that_has_not_begun(self) -> None:
        example = example_store()
        ahead = ("--horizon", "1000", "--store", example.url, "--N", "1.2e6", "--schedule", "constant")
        code, data = as_json("forecast", *ahead)
        assert code == 0
        expected = forecast(
            LossCurve([], [], N=1.2e6), horizon=1000, lr_schedule=np.ones(1000), store=example
        ).final_loss
        assert data["final_loss"]["mid"] == pytest.approx(float(expected.mid))
        assert (data["log"], data["verdict"]) == (None, "borrowed")
        assert run("forecast", *ahead)[1].startswith("A run that has not begun, beside 27 others.")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("--horizon", "1000"), "Expected a LOG, or --store or --like to borrow from, got none"),
            (("--store", "STORE"), "Expected --horizon where there is no LOG, got none"),
            (("--store", "STORE", "--horizon", "1000", "--at", "0.5"), "Expected a LOG beside --at, got none"),
            (("--store", "STORE", "--horizon", "1000", "--N", "0"), "Expected N > 0 parameters"),
            (("--store", "nowhere", "--horizon", "1000"), "Expected a store at"),
        ],
    )
    def test_what_is_wrong_is_said(self, store: RunStore, arguments: tuple[str, ...], message: str) -> None:
        code, out, err = run("forecast", *(store.url if a == "STORE" else a for a in arguments))
        assert (code, out) == (2, "")
        assert err.startswith(f"lightning-scaling: {message}")
