"""RunStore: what goes in comes out, and what is not ours is left alone."""

from __future__ import annotations

import json
import math
import pickle
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fsspec.registry import known_implementations
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling import (
    Interval,
    LossCurve,
    LRSchedule,
    RunStore,
    ScalingWarning,
    StoredRun,
    StoreError,
    Verdict,
    forecast,
)
from lightning_scaling.ledger import ForecastLedger, ForecastRecord

NAN, INF = math.nan, math.inf
END = ".run.json"
COLUMNS = ("S", "L", "lr", "B", "count", "spread")


@pytest.fixture(params=["folder", "memory"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return str(tmp_path / "runs") if request.param == "folder" else f"memory://{tmp_path.name}/runs"


@pytest.fixture
def store(url: str) -> RunStore:
    return RunStore(url)


def curve(n: int = 50, *, N: float | None = 1e6, **more: Any) -> LossCurve:
    S = np.arange(1.0, n + 1.0)
    return LossCurve(S=S, L=2.0 + 3.0 * S**-0.4, N=N, **more)


def ledger(n: int = 3) -> ForecastLedger:
    found = ForecastLedger()
    for step in range(1, n + 1):
        loss, wild = Interval(1.9, 2.0 + 1.0 / (3.0 + step), 2.9, 0.9), Interval(-INF, 0.5, INF, 0.9)
        unknown = Interval(NAN, NAN, NAN, 0.9)
        found.append(ForecastRecord(step, None if step == 1 else 50, Verdict.OK, loss, wild, unknown, loss, wild))
    return found


def strict(path: Path) -> dict[str, Any]:
    """Read a file as other tools do, which know no NaN."""
    value = json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)
    assert isinstance(value, dict)
    return value


def same(one: LossCurve, other: LossCurve) -> None:
    """Assert that two curves are equal to the bit; all NaN are one."""
    for name in COLUMNS:
        a, b = getattr(one, name), getattr(other, name)
        assert (a is None) == (b is None), name
        if a is not None:
            assert np.where(np.isnan(a), NAN, a).tobytes() == np.where(np.isnan(b), NAN, b).tobytes(), name
    for name in ("N", "step", "n_nonfinite", "epoch_ends", "unit"):
        assert getattr(one, name) == getattr(other, name), name


# What goes in comes out


@st.composite
def curves(draw: st.DrawFn) -> LossCurve:
    n = draw(st.integers(0, 6))
    steps = draw(st.lists(st.floats(0.0, 1e17), min_size=n, max_size=n, unique=True))

    def column(low: float, high: float = 1e150, **kind: Any) -> list[float]:
        return draw(st.lists(st.floats(low, high, **kind), min_size=n, max_size=n))

    S = sorted(steps)
    return LossCurve(
        S=S,
        L=column(-1e150),
        lr=column(0.0) if draw(st.booleans()) else None,
        B=draw(st.sampled_from([None, 512.0, 0.1])) if draw(st.booleans()) else column(0.0),
        N=draw(st.none() | st.floats(1e-300, 1e300)),
        count=column(1.0) if draw(st.booleans()) else None,
        spread=draw(st.lists(st.floats(), min_size=n, max_size=n)),
        step=draw(st.none() | st.integers(math.ceil(max(S, default=0)), 2**62)),
        n_nonfinite=draw(st.integers(0, 10**6)),
        epoch_ends=draw(st.lists(st.integers(0, 2**62), max_size=3)),
        unit=draw(st.text(max_size=5)),
    )


@given(curves(), st.booleans())
def test_a_curve_comes_back_to_the_bit(given_curve: LossCurve, finished: bool) -> None:
    store = RunStore("memory://property/runs")
    store.add(given_curve, id="run", finished=finished)
    run = store["run"]
    same(run.curve, given_curve)
    assert str(run).startswith("run: ")


@given(
    st.dictionaries(
        st.text(), st.text() | st.integers() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False)
    )
)
def test_tags_come_back(tags: dict[str, Any]) -> None:
    store = RunStore("memory://property/tags")
    store.add(curve(3), id="run", tags=tags)
    found = store.runs(tags=tags)[0].tags
    assert {k: (type(v), v) for k, v in found.items()} == {k: (type(v), v) for k, v in tags.items()}


def test_all_of_a_run_comes_back(store: RunStore) -> None:
    S = np.arange(1, 51)
    whole = curve(lr=3e-4 / S, B=512, unit="nats/token")
    held = ledger()
    run_id = store.add(
        whole,
        horizon=50,
        lr_schedule=3e-4 / S,
        tags={"name": "wide 3", "width": np.int64(512), "tied": True},
        forecasts=held,
        derived={"noise": {"version": 1, "B_crit": 1.5}},
    )
    assert re.fullmatch(r"wide-3-\d{8}-\d{6}-[0-9a-f]{16}", run_id)
    (run,) = store
    assert run.id == run_id
    assert run_id in store
    assert (run.state, run.horizon, run.N) == ("finished", 50, 1e6)
    assert run.tags == {"name": "wide 3", "width": 512, "tied": True}
    assert (run.batch, run.tokens) == (512.0, 512.0 * 50)
    assert run.final_loss == pytest.approx(2.0 + 3.0 * 50**-0.4)
    assert run.forecasts.records == held.records
    assert run.derived == {"noise": {"version": 1, "B_crit": 1.5}}
    assert run.lr_schedule is not None
    expected = LRSchedule.from_array(3e-4 / S)
    assert run.lr_schedule.edges.tobytes() == expected.edges.tobytes()
    assert run.lr_schedule.rates.tobytes() == expected.rates.tobytes()
    assert run.lr_schedule.known
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", run.started)
    assert run.updated == run.started
    assert str(run) == (
        f"{run_id}: finished at step 50 of 50, N = 1e+06, batch 512, loss {run.final_loss:.5g} nats/token, "
        "name=wide 3, width=512, tied=True"
    )


def test_a_forecast_from_a_stored_run_is_the_forecast_of_the_run(
    store: RunStore, make_curve: Callable[..., Any]
) -> None:
    S, L = make_curve(600)
    rates = 0.5 * (1.0 + np.cos(np.pi * np.arange(1, 20_001) / 20_000))
    before = LossCurve(S=S, L=L, lr=rates[:600])
    run = store[store.add(before, horizon=20_000, lr_schedule=rates)]
    ours = forecast(run.curve, horizon=run.horizon, lr_schedule=run.lr_schedule)
    theirs = forecast(before, horizon=20_000, lr_schedule=rates)
    assert ours.final_loss == theirs.final_loss
    assert ours.verdict == theirs.verdict


def test_a_huge_run_makes_a_small_file(tmp_path: Path, rng: np.random.Generator) -> None:
    n = 1_000_000
    S = np.arange(1, n + 1)
    rates = 3e-4 * (1.0 + np.cos(np.pi * S / n))
    big = LossCurve(S=S, L=2.0 + 5.0 * S**-0.3 + 0.1 * rng.standard_normal(n), lr=rates, B=512, N=1e8)
    store = RunStore(tmp_path)
    run_id = store.add(big, horizon=n, lr_schedule=rates, forecasts=ledger(50))
    assert (tmp_path / (run_id + END)).stat().st_size < 120_000
    run = store[run_id]
    assert len(run.curve) < 700
    assert np.average(run.curve.L, weights=run.curve.count) == pytest.approx(big.L.mean(), rel=1e-9)
    assert run.final_loss == pytest.approx(big.L[-n // 50 :].mean(), rel=1e-9)
    assert run.lr_schedule is not None
    assert run.lr_schedule.summed(n) == pytest.approx(rates.sum() / rates.max(), rel=1e-9)


def test_a_run_that_has_not_begun_can_be_stored(store: RunStore) -> None:
    run = store[store.add(LossCurve([], [], N=4e6), horizon=100)]
    assert (run.state, len(run.curve), run.N, run.batch, run.final_loss) == ("running", 0, 4e6, None, None)
    assert str(run).endswith("running at step 0 of 100, N = 4e+06")


@pytest.mark.parametrize(
    ("horizon", "finished", "n_nonfinite", "state", "ended"),
    [
        (50, None, 0, "finished", True),
        (60, None, 0, "running", False),
        (None, None, 0, "running", False),
        (60, True, 0, "finished", True),
        (60, False, 0, "stopped", False),
        (50, None, 7, "finished", False),
    ],
)
def test_how_a_run_ended(horizon: int | None, finished: bool | None, n_nonfinite: int, state: str, ended: bool) -> None:
    store = RunStore("memory://ends/runs")
    store.add(curve(n_nonfinite=n_nonfinite), horizon=horizon, finished=finished, id="run")
    run = store["run"]
    assert run.state == state
    assert (run.final_loss is not None) is ended
    assert [r.id for r in store.runs(state=state)] == ["run"]
    assert store.runs(state="stopped" if state == "running" else "running") == []


# Writing again


def test_a_live_run_is_one_file(store: RunStore) -> None:
    run_id = store.add(curve(10), horizon=30, lr_schedule=np.ones(30), tags={"lr": 0.1}, derived={"a": 1})
    first = store[run_id]
    for n in (20, 30):
        assert store.add(curve(n), id=run_id, forecasts=ledger(2), derived={"b": n}) == run_id
    (run,) = store.runs()
    assert (run.state, run.horizon, run.curve.step, run.tags) == ("finished", 30, 30, {"lr": 0.1})
    assert run.derived == {"a": 1, "b": 30}
    assert len(run.forecasts) == 2
    assert run.lr_schedule is not None
    assert run.started == first.started <= first.updated <= run.updated
    store.add(curve(30), id=run_id, horizon=40)
    assert store[run_id].lr_schedule is None, "it spoke of another horizon"
    with pytest.raises(ValueError, match="Expected horizon"):
        store.add(curve(50), id=run_id)


@pytest.mark.parametrize("indent", [None, 2])
def test_what_a_later_version_has_added_survives(tmp_path: Path, indent: int | None) -> None:
    store = RunStore(tmp_path)
    store.add(curve(10), horizon=30, id="run")
    path = tmp_path / ("run" + END)
    added = {"grad_noise": {"B_simple": [1.5, None]}, "note: free": "line\nbreak"}
    path.write_text(json.dumps(strict(path) | added, indent=indent), encoding="utf-8")
    store.add(curve(20), id="run")
    store.add(curve(30), id="run")
    store.derive("run", "alpha", 0.5)
    assert {key: strict(path)[key] for key in added} == added
    assert store["run"].curve.step == 30


def test_quantities_are_derived_from_runs_that_are_over(store: RunStore) -> None:
    store.add(curve(), horizon=50, id="over", tags={"a": 1})
    store.add(curve(), horizon=60, id="live")
    store.derive("over", "fit", {"version": 1, "alpha": 0.4})
    store.derive("over", "B_crit", 3)
    run = store["over"]
    assert run.derived == {"fit": {"version": 1, "alpha": 0.4}, "B_crit": 3}
    same(run.curve, curve())
    assert (run.state, run.tags) == ("finished", {"a": 1})
    with pytest.raises(ValueError, match="which is running"):
        store.derive("live", "fit", 1)
    with pytest.raises(KeyError, match="no run 'none'"):
        store.derive("none", "fit", 1)
    for value in (NAN, np.ones(2), {"x": {1, 2}}):
        with pytest.raises(ValueError, match="to values that JSON can hold"):
            store.derive("over", "fit", value)
    assert store["over"].derived == run.derived


# Reading


def test_two_stores_at_one_place_see_each_other(url: str) -> None:
    one, other = RunStore(url), RunStore(url)
    assert len(one) == len(other) == 0
    a = one.add(curve(10), tags={"task": "text"})
    assert [run.id for run in other] == [a]
    b = other.add(curve(20), tags={"task": "images"})
    assert {run.id for run in one.runs()} == {a, b}
    one.add(curve(15), id=a)
    assert other[a].curve.step == 15
    assert {run.curve.step for run in other.runs()} == {15, 20}
    assert [run.id for run in one.runs({"task": "text"})] == [a]
    assert one.runs(tags={"task": "text", "more": 1}) == []
    other.forget(a)
    assert [run.id for run in one.runs()] == [b]
    assert a not in one


def test_what_has_not_changed_is_not_read_again(store: RunStore) -> None:
    for i in range(3):
        store.add(curve(10), id=f"run{i}")
    before = {run.id: run for run in store.runs()}
    store.add(curve(11), id="run1")
    after = {run.id: run for run in store.runs()}
    assert [after[i] is before[i] for i in ("run0", "run1", "run2")] == [True, False, True]


def test_runs_come_oldest_first(store: RunStore, monkeypatch: pytest.MonkeyPatch) -> None:
    ids = [store.add(curve(10)) for _ in range(5)]
    assert [run.started for run in store] == sorted(run.started for run in store)
    assert {run.id for run in store} == set(ids)
    store.add(curve(12), id=ids[0])
    assert store.runs()[0].started <= store.runs()[-1].started


def test_stores_and_runs_travel(store: RunStore) -> None:
    run_id = store.add(curve(), horizon=50, lr_schedule=np.ones(50), forecasts=ledger())
    store.runs()
    again = pickle.loads(pickle.dumps(store))
    assert (again.url, repr(again)) == (store.url, repr(store))
    run: StoredRun = pickle.loads(pickle.dumps(again[run_id]))
    same(run.curve, curve())
    assert run.forecasts.records == ledger().records


# What is not ours


def test_bad_files_are_skipped_with_one_warning_each_and_left_as_they_are(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    good = store.add(curve(), id="good")
    whole = (tmp_path / ("good" + END)).read_bytes()
    future = whole.replace(b'"schema":1', b'"schema":2')
    bad = {
        "torn": whole[:-200],
        "empty": b"",
        "foreign": b'{"loss": [3, 2, 1]}',
        "future": future,
        "zeros": b"\0" * len(whole),
        "wrong": whole.replace(b'"state":"running"', b'"state":"sleeping"'),
        "curve": re.sub(rb'"L":\[', b'"L":["x",', whole),
        "headless": re.sub(rb'"curve":.*\n', b"", whole),
        "tagged": whole.replace(b'"tags":{}', b'"tags":{"a":[1]}'),
        "a name that is no id": whole,
    }
    for name, data in bad.items():
        assert data != whole or " " in name, name
        (tmp_path / (name + END)).write_bytes(data)
    (tmp_path / "notes.json").write_text("mine")
    with pytest.warns(ScalingWarning) as said:
        assert [run.id for run in store] == [good]
    assert len(said) == len(bad)
    assert sorted(store.skipped()) == sorted(name + END for name in bad)
    assert store.skipped()["empty" + END] == "an empty file"
    for name in bad:
        assert (
            sum(f"Expected {name}{END} in {tmp_path} to be a run of schema 1, got " in str(w.message) for w in said)
            == 1
        )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(store) == 1
        bad["torn"] = whole[:-300]
        (tmp_path / ("torn" + END)).write_bytes(bad["torn"])  # still being copied: read again, not told again
        assert len(store) == 1
        assert RunStore(tmp_path / "deeper").runs() == []
    for name in bad:
        if " " in name:
            continue
        with pytest.raises(StoreError, match="so it is left as it is"):
            store.add(curve(), id=name)
        with pytest.raises(StoreError, match="so it is left as it is"):
            store.forget(name)
        with pytest.raises(StoreError, match="so it is left as it is"):
            store[name]
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == (
        {"good" + END: whole, "notes.json": b"mine"} | {name + END: data for name, data in bad.items()}
    )
    (tmp_path / ("torn" + END)).write_bytes(whole)  # a slow copy has come to its end
    assert {run.id for run in store} == {"good", "torn"}


def test_a_long_part_that_is_damaged_is_missed_with_a_warning(tmp_path: Path) -> None:
    store = RunStore(tmp_path)
    store.add(curve(), horizon=50, lr_schedule=np.ones(50), forecasts=ledger(), derived={"a": 1}, id="run")
    path = tmp_path / ("run" + END)
    text = path.read_text()
    for key in ("lr_schedule", "forecasts", "derived"):
        text = re.sub(rf'"{key}":.*?(,?)\n', rf'"{key}":[0]\1\n', text)
    path.write_text(text)
    run = store["run"]
    with pytest.warns(ScalingWarning, match="Expected a learning-rate schedule"):
        assert run.lr_schedule is None
    with pytest.warns(ScalingWarning, match="Expected forecasts"):
        assert len(run.forecasts) == 0
    with pytest.warns(ScalingWarning, match="Expected derived quantities"):
        assert run.derived == {}
    same(run.curve, curve())


@pytest.mark.parametrize(
    "bad", ["../x", "a/b", "a\\b", "", ".hidden", "-x", "x" * 129, "a b", "a\n", "ä", "..", None, 3]
)
def test_no_id_leads_out_of_the_store(tmp_path: Path, bad: Any) -> None:
    store = RunStore(tmp_path / "runs")
    (tmp_path / ("x" + END)).write_text("outside")
    if bad is not None:
        with pytest.raises(ValueError, match="Expected an id of"):
            store.add(curve(), id=bad)
    for work in (store.__getitem__, store.forget):
        with pytest.raises(KeyError, match="no run"):
            work(bad)
    assert bad not in store
    assert [path.name for path in tmp_path.iterdir()] == ["x" + END]


# What cannot be stored


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"curve": [1, 2]}, TypeError, "Expected curve to be a LossCurve, got list"),
        ({"forecasts": [1]}, TypeError, "Expected forecasts to be a ForecastLedger"),
        ({"horizon": 49}, ValueError, "Expected horizon to be a step at or after the last one seen, 50, got 49"),
        ({"horizon": 60.5}, ValueError, "Expected horizon"),
        ({"horizon": NAN}, ValueError, "Expected horizon"),
        ({"lr_schedule": np.ones(50)}, ValueError, "together with a horizon"),
        ({"lr_schedule": np.ones(51), "horizon": 50}, ValueError, r"steps 1\.\.50, got 51"),
        ({"lr_schedule": [NAN] * 50, "horizon": 50}, ValueError, "finite learning rates"),
        (
            {"lr_schedule": LRSchedule(np.array([0.0, 30.0, 20.0, 50.0]), np.ones(3)), "horizon": 50},
            ValueError,
            "Expected edges",
        ),
        ({"tags": {"a": NAN}}, ValueError, "Expected tags of text to text"),
        ({"tags": {"a": [1]}}, ValueError, "Expected tags of text to text"),
        ({"tags": {1: "a"}}, ValueError, "Expected tags of text to text"),
        ({"tags": ["a"]}, TypeError, "Expected tags to be a mapping, got list"),
        ({"derived": {"a": NAN}}, ValueError, "Expected derived to map names to values"),
        ({"derived": {1: 2}}, ValueError, "Expected derived to map names to values"),
        ({"derived": [1]}, ValueError, "Expected derived to map names to values"),
    ],
)
def test_what_cannot_be_stored_is_refused(
    store: RunStore, arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        store.add(**({"curve": curve()} | arguments))
    assert len(store) == 0


def test_the_schedule_is_refused_in_the_words_of_forecast(store: RunStore) -> None:
    for wrong in ({"horizon": 10}, {"horizon": 60, "lr_schedule": np.ones(9)}, {"horizon": None, "lr_schedule": [1.0]}):
        with pytest.raises(ValueError, match="Expected") as theirs:
            forecast(curve(), **wrong)
        with pytest.raises(ValueError, match="Expected") as ours:
            store.add(curve(), **wrong)
        assert str(ours.value) == str(theirs.value)


def test_a_state_that_there_is_not_is_refused(store: RunStore) -> None:
    with pytest.raises(ValueError, match="one of running, finished, stopped, got 'done'"):
        store.runs(state="done")


# Places that cannot be used


def test_a_url_that_cannot_be_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    absent = {"class": "no_such_package.FileSystem", "err": "Install no_such_package"}
    monkeypatch.setitem(known_implementations, "absent", absent)
    for url, reason in (
        ("", "it is empty"),
        ("nosuch://bucket/runs", "nosuch"),
        ("absent://bucket/runs", "Install no_such_package"),
        ("memory://runs/*", "stands for several"),
    ):
        with pytest.raises(
            StoreError, match=f"Expected a folder or a URL that fsspec can open, got .*{reason}.*so name"
        ):
            RunStore(url)
    (tmp_path / "file").write_text("x")
    for place in (tmp_path / "file", f"file://{tmp_path}/file"):
        with pytest.raises(StoreError, match=r"^Expected a folder or URL of a store, got the file '.*file', so"):
            RunStore(place)
    with pytest.raises(TypeError):
        RunStore(3)  # type: ignore[arg-type]


def test_a_folder_that_cannot_be_made_is_said_when_it_is_needed(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "file" / "runs")
    (tmp_path / "file").write_text("x")
    with pytest.raises(StoreError, match=r"written to .*runs, got \w+Error: .*so check that the place exists"):
        store.add(curve())
    with pytest.raises(StoreError, match="listed at"):
        store.runs()


@pytest.mark.parametrize("tags", [{"a": [1]}, ["a"], {"a"}, {"a": None}])
def test_tags_that_no_run_can_have_are_refused_by_name(tmp_path: Path, tags: Any) -> None:
    with pytest.raises(TypeError, match=r"^Expected tags to be names with one text, .*, got .*, so"):
        RunStore(tmp_path).runs(tags=tags)


@pytest.mark.parametrize("url", [3, None, b"runs", ["runs"]])
def test_a_place_that_is_no_text_is_refused_by_name(url: Any) -> None:
    with pytest.raises(TypeError, match=r"^Expected url to be a path or URL, got .*, so"):
        RunStore(url)


def test_a_run_that_has_not_begun_is_told_that_the_store_is_empty(tmp_path: Path) -> None:
    begun = LossCurve([], [], N=1e6)
    for store in (RunStore(tmp_path), None):
        found = forecast(begun, horizon=1000, lr_schedule=[1.0] * 1000, store=store)
        assert found.verdict is Verdict.NOT_BEGUN
        assert "there are no finished runs like it to borrow from" in str(found)
        assert "too few points" not in str(found)
