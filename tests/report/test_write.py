"""Reports: what they say, of what, and that nothing that is known of a run can break them."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lightning_scaling import (
    LossCurve,
    Price,
    RunStore,
    StoreError,
    TargetUnreachable,
    forecast,
    write_report,
)
from lightning_scaling.ledger import ForecastRecord
from lightning_scaling.logfiles import read_log
from lightning_scaling.named_schedule import named_rates, planned_rates
from lightning_scaling.report import run_report, store_report
from lightning_scaling.store.example import example_store
from tests.report.test_markup import read

T = 1000
S = np.arange(1, T + 1)
RATES = named_rates("wsd:0.2", T)
EVIL = "<script>alert(1)</script>\"'&\u202e\x00 </title></style> 😀 ünï <img src=x onerror=alert(1)>"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def pictures() -> None:
    """Ask for this where pictures are to be drawn: each takes a second."""


@pytest.fixture(autouse=True)
def _only_words(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    if "pictures" not in request.fixturenames:
        for module in (run_report, store_report):
            monkeypatch.setattr(module, "has_pictures", lambda: False)


def losses(seed: int = 0, *, n: int = T, E: float = 2.0) -> np.ndarray:
    noise = 0.02 * np.random.default_rng(seed).standard_normal(n)
    return np.asarray(E + 6.0 * S[:n] ** -0.5 + noise)


def words(path: Path) -> str:
    """Return the text of a page, its styles left out."""
    found = read(re.sub(r"<style>.*?</style>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL))
    return found.text.replace("\N{NO-BREAK SPACE}", " ")


def is_sound(path: Path) -> bool:
    """Return whether a page is whole, asks for nothing, runs nothing, and describes its pictures."""
    page = path.read_text(encoding="utf-8")
    elements = read(page).elements
    names = [name for name, _ in elements]
    levels = [int(name[1]) for name in names if re.fullmatch(r"h[1-6]", name)]
    assert page.startswith("<!doctype html>")
    assert page.rstrip().endswith("</html>")
    assert names.count("h1") == names.count("title") == names.count("main") == 1
    assert levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels))
    assert dict(elements)["html"]["lang"] == "en-GB"
    assert {"script", "link", "iframe", "object", "svg", "b", "i"}.isdisjoint(names)
    for name, attributes in elements:
        assert not any(key.startswith("on") for key in attributes)
        if name == "img":
            assert str(attributes["src"]).startswith("data:image/svg+xml;base64,")
            assert attributes["alt"]
    assert "Expected" not in words(path)
    assert not re.search(r"\bnan\b", words(path))
    return True


@pytest.fixture(scope="module")
def half() -> LossCurve:
    return LossCurve(S[:500], losses(n=500), lr=RATES[:500], N=1e6, B=100.0, unit="nats/byte")


def test_a_run_that_goes_on_is_told_with_forecast_advice_and_other_ways(tmp_path: Path, half: LossCurve) -> None:
    rules = {"target 1": TargetUnreachable(1.0)}
    price = Price(seconds_per_step=36.0, price_per_hour=2.0)
    page = write_report(
        tmp_path / "run.html", half, title="half", horizon=T, lr_schedule=RATES, rules=rules, price=price
    )
    f = forecast(half, horizon=T, lr_schedule=RATES)
    text = words(page)
    assert is_sound(page)
    assert f"the run should end at {f.final_loss} nats/byte" in text
    assert str(f.verdict) in text
    assert "target 1 has probability below 0.1 %" in text
    assert "Decaying now over 100 steps" in text
    assert re.search(r"-400-4 h-8before decay", text)
    assert re.search(r"\+1 000\+10 h\+20", text)
    assert "constant rate with a linear decay to" in text
    assert "1 000 000" in text  # N


@pytest.mark.usefixtures("pictures")
def test_the_page_of_a_run_that_is_over_says_what_its_forecasts_said(tmp_path: Path) -> None:
    run = example_store()["w20-cosine-333-b16"]
    page = write_report(tmp_path / "run.html", run)
    text, table = words(page), run.forecasts.table(run.final_loss, run.final_loss_error)
    held = re.search(r"(\d) of 9 forecasts held", table)
    assert held is not None
    assert is_sound(page)
    assert f"The run ended at {run.final_loss:.3f}" in text
    assert f"{held[1]} of 9 forecasts held it inside their interval" in text
    rows = re.findall(r"^ *\d0 % +(\d+)  (.*?\)) +([+-][\d.e-]+)  (yes|no)$", table, re.MULTILINE)
    assert len(rows) == 9
    assert page.read_text(encoding="utf-8").count("<img") == 2  # one picture, light and dark
    for step, said, off, inside in rows:
        assert f"{step}{said.replace(', 90 %)', ')')}{off}{inside}" in text


def test_a_stored_run_borrows_from_those_that_were_over_when_it_began(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs")
    for size in (1e5, 3e5):
        store.add(LossCurve(S, losses(E=2.1), N=size), horizon=T, lr_schedule=RATES, id=f"before-{size:g}")
    store.add(LossCurve(S[:60], losses(n=60), N=1e6), horizon=T, lr_schedule=RATES, id="now")
    store.add(LossCurve(S, losses(E=2.1), N=2e6), horizon=T, lr_schedule=RATES, id="after")
    page = write_report(tmp_path / "run.html", store["now"], store=store)
    assert "borrowed from2 runs" in words(page)


def test_a_history_is_shown_as_it_was_told(tmp_path: Path, half: LossCurve) -> None:
    made = [ForecastRecord.of(forecast(half.until(s), horizon=T, lr_schedule=RATES, level=0.5)) for s in (200, 300)]
    text = words(write_report(tmp_path / "run.html", half, horizon=T, lr_schedule=RATES, history=made))
    assert "As they were made while the run went on" in text
    assert f"200{str(made[0].final_loss).replace(', 50 %)', ')')}" in text


def test_a_log_without_a_planned_end_is_taken_to_be_over_and_says_so(tmp_path: Path) -> None:
    log = tmp_path / "run.csv"
    log.write_text("step,train_loss\n" + "\n".join(f"{s},{y:.4f}" for s, y in zip(S, losses(), strict=True)))
    over = words(write_report(tmp_path / "over.html", read_log(log)))
    assert "The run ended at 2.184" in over
    assert "is taken to be over where its losses end" in over
    rates = planned_rates(read_log(log).curve, 2 * T, "cosine")
    ahead = words(write_report(tmp_path / "ahead.html", read_log(log), horizon=2 * T, lr_schedule=rates))
    assert "At step 1 000 of 2 000, the run should end at" in ahead
    assert rates.assumed in ahead


STATES: dict[str, dict[str, Any]] = {
    "finished": {"horizon": 500},
    "running": {"horizon": T},
    "stopped": {"horizon": T, "finished": False},
}


@pytest.mark.parametrize("state", STATES)
def test_names_tags_and_units_are_text_whatever_is_in_them(tmp_path: Path, half: LossCurve, state: str) -> None:
    store = RunStore(tmp_path / "runs")
    horizon = STATES[state]["horizon"]
    curve = LossCurve(half.S[:60] * (horizon // 100), half.L[:60], N=1e6, B=10.0, unit="<b>nats</b>")
    if state == "finished":
        horizon = curve.step
    run_id = store.add(
        curve,
        **STATES[state] | {"horizon": horizon},
        lr_schedule=np.ones(horizon),
        tags={"name": EVIL, "<i>key": "<svg onload=alert(1)>"},
    )
    (tmp_path / "runs" / "bad.run.json").write_text("<script>alert(1)</script>")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert store[run_id].state == state
        pages = [write_report(tmp_path / "run.html", store[run_id]), write_report(tmp_path / "store.html", store)]
    for page in pages:
        assert is_sound(page)
        assert "<script>alert(1)</script>" in words(page)
        assert "<svg onload=alert(1)>" in words(page)
    assert "bad.run.json" in words(pages[1])


CURVES = {
    "nothing": LossCurve([], []),
    "one": LossCurve([1], [3.0]),
    "three": LossCurve([1, 2, 3], [3.0, 2.0, 1.0]),
    "broken": LossCurve(S[:500], losses(n=500), step=520, n_nonfinite=20),
    "never finite": LossCurve([], [], step=50, n_nonfinite=50),
    "negative": LossCurve(S[:500], losses(n=500, E=-7.0)),
    "flat": LossCurve(S[:500], np.ones(500)),
    "sparse": LossCurve([1e3, 2e5, 9e8], [5.0, 4.0, 3.0]),
}


@pytest.mark.parametrize("name", CURVES)
def test_a_curve_of_any_kind_makes_a_page(tmp_path: Path, name: str) -> None:
    curve = CURVES[name]
    page = write_report(tmp_path / "run.html", curve, horizon=2 * curve.step or 100)
    assert is_sound(page)
    text = words(page)
    if name in ("broken", "never finite"):
        assert "are NaN or infinite" in text
        assert "should end at" not in text
    elif name in ("negative", "flat"):
        assert "the run should end at" in text
    else:
        assert "there is no forecast of the final loss" in text


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("name", ["nothing", "one", "three"])
def test_so_does_one_that_is_over(tmp_path: Path, name: str) -> None:
    page = write_report(tmp_path / "run.html", CURVES[name])
    assert is_sound(page)
    if name == "three":
        assert "The run ended at 1 after 3 steps." in words(page)


def test_a_store_is_told_with_its_runs_its_record_its_law_and_its_plans(tmp_path: Path) -> None:
    stored = write_report(tmp_path / "store.html", example_store())
    text = words(stored)
    runs = example_store().runs()
    scores: list[Any] = [run.derived["track_record"] for run in runs]
    held, n = (sum(score[key] for score in scores) for key in ("held", "n"))
    assert is_sound(stored)
    assert f"27 runs, all finished, N from 4.38 k to 407 k. Your 90 % intervals held {held} of {n} times" in text
    for run in runs:
        assert f"{run.id}finished" in text
    tenths = re.findall(r"\d0 %27(\d\d)\d{2,3} %", text)
    assert len(tenths) == 9
    assert sum(map(int, tenths)) == held
    assert "fitted to 6 runs, one per size, the longest of each, batch 1 024" in text
    assert "irreducible loss" in text
    assert "100 times as much" in text


def test_a_store_of_many_runs_is_a_page_of_moderate_size(tmp_path: Path) -> None:
    files = sorted((ROOT / "lightning_scaling" / "example_store").glob("*.run.json"))
    folder = tmp_path / "runs"
    folder.mkdir()
    small = min(files, key=lambda file: file.stat().st_size)
    for k in range(400):
        shutil.copy(small, folder / f"run-{k}.run.json")
    page = write_report(tmp_path / "store.html", RunStore(folder))
    assert page.stat().st_size < 1e6
    assert page.read_text(encoding="utf-8").count('scope="row"') > 400


def test_a_store_without_a_finished_run_or_without_any_is_a_page(tmp_path: Path, half: LossCurve) -> None:
    store = RunStore(tmp_path / "runs")
    empty = write_report(tmp_path / "empty.html", store)
    assert is_sound(empty)
    assert "There are no runs in this store yet." in words(empty)
    store.add(half, horizon=T, lr_schedule=RATES)
    page = write_report(tmp_path / "store.html", store)
    assert is_sound(page)
    assert "1 run, 0 finished, N = 1 M." in words(page)
    assert "No forecast of a finished run has been held against its end yet." in words(page)


def test_runs_that_cannot_carry_a_law_say_why(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "runs")
    for size in (1e5, 3e5, 1e6):
        store.add(LossCurve(S, losses(), N=size, B=8.0), horizon=T, lr_schedule=named_rates("linear", T))
    text = words(write_report(tmp_path / "store.html", store))
    assert "L(N, S) is fitted to runs at a constant rate, and these have none" in text
    assert "The next run" not in text


def test_what_was_there_stays_until_the_new_page_is_whole(tmp_path: Path, half: LossCurve) -> None:
    page = tmp_path / "run.html"
    page.write_text("before")
    with pytest.raises(ValueError, match="horizon"):
        write_report(page, half, horizon=10)
    assert page.read_text() == "before"
    write_report(page, half, horizon=T)
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [page]


@pytest.mark.parametrize("given", [{"horizon": 10}, {"history": [1]}, {"price": Price(1.0)}, {"rules": [1]}])
def test_what_does_not_fit_a_store_is_refused(tmp_path: Path, given: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="Expected no"):
        write_report(tmp_path / "store.html", RunStore(tmp_path / "runs"), **given)


def test_what_is_no_source_or_no_place_is_refused(tmp_path: Path, half: LossCurve) -> None:
    with pytest.raises(TypeError, match="Expected source to be a RunStore"):
        write_report(tmp_path / "run.html", "runs")  # type: ignore[arg-type]
    with pytest.raises(FileNotFoundError, match="Expected a file in a folder that is there"):
        write_report(tmp_path / "nowhere" / "run.html", half)
    with pytest.raises(StoreError):
        write_report(tmp_path / "run.html", RunStore(__file__))


@pytest.mark.usefixtures("pictures")
@pytest.mark.parametrize("broken", [False, True])
def test_without_matplotlib_there_is_a_page_without_pictures(broken: bool, tmp_path: Path) -> None:
    (tmp_path / "matplotlib.py").write_text("raise ImportError('made for another NumPy')")
    hide = f"sys.path.insert(0, {str(tmp_path)!r})" if broken else 'sys.modules["matplotlib"] = None'
    code = f"""
    import sys
    {hide}
    from lightning_scaling import LossCurve, write_report
    write_report({str(tmp_path / "run.html")!r}, LossCurve([1, 2, 3], [3.0, 2.0, 1.0]), horizon=100)
    """
    subprocess.run([sys.executable, "-c", "\n".join(x.strip() for x in code.splitlines())], check=True, cwd=ROOT)
    page = tmp_path / "run.html"
    assert is_sound(page)
    assert "There are no pictures, because matplotlib cannot be imported" in words(page)
    assert "<img" not in page.read_text(encoding="utf-8")
