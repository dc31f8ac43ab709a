"""The ladder: what is trained and how, that a store is taken up where it was left, and that the page is the store's."""

from __future__ import annotations

import itertools
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import ladder
from benchmarks.ladder_findings import Ladder, frontier, in_size
from benchmarks.ladder_forecasts import foretell
from benchmarks.ladder_page import _ends
from benchmarks.ladder_recipes import SCALES, WARM_UP, Recipe, recipes
from benchmarks.ladder_tables import batch_table, efficiency_table, run_table, size_table
from benchmarks.ladder_thinning import thin_store
from benchmarks.ladder_training import MOST_OF_TEXT, TASK, check_length, train
from examples.stdlib_text import Crops
from lightning_scaling import LossCurve, RunStore, Verdict
from lightning_scaling.store.example import example_store
from lightning_scaling.track_record import KEY
from tests.trainers import QUIET

pytestmark = QUIET

PAGE = Path(__file__).parents[2] / "docs" / "ladder.md"
TINY = replace(
    SCALES["cpu"], widths=(4, 8), depth=1, context=8, batch=2, steps=20, decayed=(), linear=(), shorter=(), longer=(),
    scanned=8, scan=(),
)  # fmt: skip


@pytest.fixture
def text() -> torch.Tensor:
    return torch.randint(256, (20_000,), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def test_a_store_is_taken_up_where_it_was_left(tmp_path: Path, text: torch.Tensor) -> None:
    store, said = RunStore(tmp_path / "runs"), []
    todo = [r for r in recipes(TINY) if r.schedule == "cosine"]
    assert train(store, TINY, todo, said.append, text) == 2
    assert [run.state for run in store.runs(tags={"task": TASK})] == ["finished", "finished"]
    small, large = sorted(store, key=lambda run: run.N)
    assert (small.horizon, small.batch, small.curve.step) == (20, 16.0, 20)
    assert large.N > 2.5 * small.N
    assert small.lr_schedule is not None
    rates = [todo[0].relative_rate(step) for step in range(20)]
    assert small.lr_schedule.rate_at([1, 10, 20]) == pytest.approx(np.array(rates)[[0, 9, 19]] / max(rates))
    assert train(store, TINY, todo, said.append, text) == 0
    store.forget(small.id)
    assert train(store, TINY, todo, said.append, text) == 1
    assert len(said) == 3
    assert len(store) == 2


def test_forecasts_made_anew_are_those_of_a_monitor_and_scored(tmp_path: Path) -> None:
    shipped = example_store()
    chosen = [run.id for run in shipped.runs() if run.tags["name"] in ("w12-cosine-1000-b16", "w20-cosine-1000-b16")]
    for id in chosen:
        shutil.copy(Path(shipped.url) / f"{id}.run.json", tmp_path)
    store = RunStore(tmp_path)
    first, second = sorted(store.runs(), key=lambda run: run.started)
    assert foretell(store) == 2
    for old in (first, second):
        new = store[old.id]
        steps = [record.step for record in new.forecasts.records]
        assert steps == sorted(set(steps))
        assert steps[-1] == new.horizon == old.horizon
        assert len(steps) >= 20
        assert (new.tags, new.started) == (old.tags, old.started)
        assert new.final_loss == pytest.approx(old.final_loss, rel=1e-4)  # the curve has few digits
        usable = [record for _, record in new.forecasts.at_tenths() if record.verdict.usable]
        assert new.derived[KEY]["n"] == len(usable)
    early = [store[run.id].forecasts.records[0].verdict for run in (first, second)]
    assert early == [Verdict.TOO_EARLY, Verdict.BORROWED]  # only the second has one before it


def test_a_thinned_store_says_the_same_in_fewer_bytes(tmp_path: Path, text: torch.Tensor) -> None:
    store = RunStore(tmp_path / "runs")
    train(store, TINY, recipes(TINY)[:1], lambda _: None, text)
    store.add(LossCurve([1, 2, 3], [3.0, 2.0, 1.0]), horizon=90, tags={"name": "unfinished"})
    n_bytes = thin_store(tmp_path / "runs", tmp_path / "small")
    [thin], [run] = RunStore(tmp_path / "small"), store.runs(state="finished")
    assert n_bytes == (tmp_path / "small" / f"{thin.id}.run.json").stat().st_size
    assert n_bytes < (tmp_path / "runs" / f"{run.id}.run.json").stat().st_size
    assert thin.id == run.tags["name"]
    assert thin.curve.L == pytest.approx(run.curve.L, rel=1e-5)
    assert (thin.curve.S == run.curve.S).all()
    assert thin.final_loss == run.final_loss
    assert len(thin.forecasts) == len(run.forecasts)


@pytest.mark.parametrize("name", list(SCALES))
def test_the_scales_are_sound(name: str) -> None:
    scale = SCALES[name]
    runs = recipes(scale)
    assert len({run.name for run in runs}) == len(runs)
    assert len(scale.widths) >= 6
    assert all(width % 4 == 0 for width in scale.widths)
    assert (scale.widths[-1] / scale.widths[0]) ** 2 >= 100  # two decades of N at one depth
    assert len({run.batch for run in runs if run.width == scale.scanned and run.schedule == "constant"}) >= 4
    assert {run.schedule for run in runs} == {"constant", "cosine", "wsd", "linear"}
    for run in runs:
        check_length(run, scale, 9_500_000)  # a little less than the standard library of Python 3.11
    with pytest.raises(ValueError, match="read twice"):
        check_length(runs[0], scale, 100_000)


def test_no_byte_is_read_twice() -> None:
    length, crops, context = 50_000, 8, 15
    n = int(MOST_OF_TEXT * length / (crops * (context + 1)))
    places = torch.zeros(length, dtype=torch.int64)
    # Bytes that are their own places would need more than 256 values; the starts are what is looked at.
    text = torch.arange(length)
    for x, y in itertools.islice(Crops(text, crops, context), n):
        for seen, following in zip(x, y, strict=True):
            places[seen] += 1
            places[following[-1]] += 1
    assert places.max() == 1
    assert places.sum() > 0.4 * length


@pytest.mark.parametrize(
    ("schedule", "half", "end"),
    [("constant", 1.0, 1.0), ("cosine", 0.55, 0.1), ("linear", 0.5, 0.0), ("wsd", 1.0, 0.0)],
)
def test_schedules_warm_up_and_fall(schedule: str, half: float, end: float) -> None:
    recipe = Recipe("ladder", 8, schedule, 1000, 4, 1.0)
    rates = np.array([recipe.relative_rate(step) for step in range(1001)])
    assert rates[0] == 1.0 / WARM_UP
    assert rates[WARM_UP - 1] == rates.max() == pytest.approx(1.0)
    assert (np.diff(rates[WARM_UP:]) <= 1e-12).all()
    assert rates[520] == pytest.approx(half, abs=0.01)
    assert rates[1000] == pytest.approx(end, abs=1e-9)


def test_the_size_law_is_read_off_exact_losses() -> None:
    N = np.geomspace(1e3, 1e6, 7)
    offset = in_size(N, 1.0 + (2e3 / N) ** 0.4, offset=True)
    assert offset.E.mid == pytest.approx(1.0, rel=0.01)
    assert offset.alpha_N.mid == pytest.approx(0.4, rel=0.02)
    rough = np.array([1.004, 0.997, 1.002, 0.996, 1.003, 1.001, 0.998])
    noisy = in_size(N, rough * (1.0 + (2e3 / N) ** 0.4), offset=True)
    assert 0.8 < noisy.E.low < 1.0 < noisy.E.high < 1.2
    assert noisy.alpha_N.low < 0.4 < noisy.alpha_N.high
    plain = in_size(N, (1e9 / N) ** 0.08, offset=False)
    assert (plain.alpha_N.mid, plain.N_c.mid) == pytest.approx((0.08, 1e9))
    assert plain.residual < 1e-9


def test_the_frontier_of_known_curves_is_that_of_their_law() -> None:
    S = np.geomspace(1, 1e6, 2000)
    curves = [LossCurve(S, 1e3 / N**0.5 + 20.0 / S**0.5, N=N) for N in np.geomspace(1e4, 1e8, 25)]
    found = frontier(curves, batch=100.0)
    # L = a N^-1/2 + b S^-1/2 with C = 600 N S is least at N ~ C^1/2, L ~ C^-1/4.
    assert found.N_power.mid == pytest.approx(0.5, abs=0.03)
    assert found.L_power.mid == pytest.approx(-0.25, abs=0.01)


def test_the_page_is_what_the_example_store_says() -> None:
    page, runs = PAGE.read_text(encoding="utf-8"), Ladder(example_store())
    laws = {
        kind: (in_size(*_ends(runs, kind), offset=False), in_size(*_ends(runs, kind), offset=True))
        for kind in runs.by_schedule
    }
    for table in (run_table(runs), size_table(laws), efficiency_table(runs), batch_table(runs, runs.batch_fit())):
        assert table.markdown() in page, f"docs/ladder.md is not of this store: {table.title}"
    for picture in ("sizes", "compute", "batch", "forecasts"):
        assert f"(img/ladder_{picture}.png)" in page
        assert (PAGE.parent / "img" / f"ladder_{picture}.png").read_bytes().startswith(b"\x89PNG")


def test_what_is_missing_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        ladder.main(["report"])
    assert "Expected --store" in capsys.readouterr().err
    with pytest.raises(ValueError, match="two sizes"):
        ladder.main(["report", "--store", str(tmp_path)])
