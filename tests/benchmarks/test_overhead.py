"""The benchmark of the overhead: that it counts what it says it counts. No time decides here."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from benchmarks import gpu_overhead, overhead
from benchmarks.footprint import Held, Refits, Watched, held_bytes, measure_memory, measure_refits
from benchmarks.gpu_overhead import TINY, Seen, Trace, watch
from benchmarks.overhead import Measured, bar_table, refit_table, step_table
from benchmarks.turns import EMPTY, LOG, OURS, QUICK, VARIANTS, Difference, Pace, Times, measure, measure_ranks
from lightning_scaling import ScalingLawMonitor
from tests.trainers import QUIET, fit

pytestmark = QUIET


def times(ours, log, empty=400.0):
    """Return times in which ours and self.log cost so much more than an empty callback, over 5 rounds of 4 steps."""
    found = {name: np.full((5, 4), empty) for name in VARIANTS}
    found[OURS] += ours
    found[LOG] += log
    return Times(found, found)


def measured(*, ours=10.0, short=10.0, together=20.0, seconds=0.5, state=1000, growth=0):
    refits = [Refits(overhead.RUN, 0, (seconds / 2,) * 2), Refits(overhead.RUN, 100, (9.0,) * 3)]
    memory = [Held(10, 5000, 10, math.nan), Held(1000, 5000 + growth, state, math.nan)]
    return Measured(times(ours, 300.0), times(short, 300.0), times(together, 1000.0), refits, memory)


def verdicts(found):
    return [row[-1] for row in bar_table(found).rows]


def test_bars_are_met_or_missed_one_by_one():
    assert verdicts(measured()) == ["met"] * 6
    missed = {
        "ours": 301.0 / 12.0,
        "short": 301.0 / 12.0,
        "together": 101.0,
        "seconds": 1.1,
        "state": 263_000,
        "growth": 3_000_000,
    }
    for place, (name, value) in enumerate(missed.items()):
        assert [i for i, word in enumerate(verdicts(measured(**{name: value}))) if word == "missed"] == [place]


def test_what_is_done_now_and_then_counts_with_its_share_and_a_slow_moment_does_not():
    found = times(20.0, 300.0)
    found.wall[OURS][:, 2] += 80.0  # a fetch, once a round
    found.wall[OURS][1] += 10_000.0  # a turn in which the machine did something else
    for name in VARIANTS:
        found.wall[name][2] *= 3.0  # a round in which it was slow for all
    assert found.above(OURS).value == pytest.approx(40.0)
    assert found.above_share(OURS, 0.1, LOG).value == pytest.approx(10.0)
    assert found.step(EMPTY) == 400.0
    table = step_table(times(20.0, 300.0), "Title", "self.log(sync_dist=True)")
    assert table.rows[2] == (OURS, "420", "+20.0 ± 0.0", "+20.0 ± 0.0")
    assert table.rows[1] == (EMPTY, "400", "–", "–")
    assert table.rows[-1][0] == "self.log(sync_dist=True)"


def test_noise_leaves_a_bar_unsettled():
    noise, found = np.random.default_rng(1), []
    for _ in range(60):
        of = {name: noise.normal(400.0, 20.0, (40, 8)) for name in (OURS, EMPTY)}
        found.append(Times(of, of).above(OURS))
    assert np.mean([d.error for d in found]) == pytest.approx(np.std([d.value for d in found]), rel=0.3)
    one = Difference(20.0, 2.0)
    assert [one.verdict(bar) for bar in (25.0, 23.0, 17.0, 15.0)] == ["met", "not settled", "not settled", "missed"]


def test_share_of_refits_is_of_the_whole_wall_time():
    run = Refits(1000, 0, (0.5, 0.5))
    assert run.share(0.05) == pytest.approx(1.0 / 51.0)
    table = refit_table([run, Refits(100_000, 0, (1.0,))])
    assert "from 100 000 steps on" in table.note
    assert "more than 1.00 s" in table.note
    assert " steps on" not in refit_table([run]).note


def test_every_variant_takes_its_turns_and_ends():
    found = measure(Pace(rounds=1, steps=3, turns=2, warm_up=1, runs=2))
    assert list(found.wall) == list(found.busy) == list(VARIANTS)
    for of in (found.wall, found.busy):
        assert all(steps.shape == (2, 6) for steps in of.values())
        assert all(steps.min() >= 0.0 < np.median(steps) for steps in of.values())


def test_a_variant_that_fails_is_no_hang(monkeypatch):
    class Broken(ScalingLawMonitor):
        def setup(self, trainer, pl_module, stage):
            raise RuntimeError("cannot begin")

    monkeypatch.setattr("benchmarks.turns.VARIANTS", dict(VARIANTS) | {OURS: lambda: [Broken()]})
    with pytest.raises(RuntimeError, match="cannot begin"):
        measure(QUICK)


def test_two_ranks_take_turns():
    found = measure_ranks(Pace(rounds=1, steps=4, turns=1, warm_up=0))
    assert list(found.wall) == list(VARIANTS)
    assert all(steps.shape == (1, 4) for steps in found.wall.values())


def test_refits_are_those_of_a_monitor_in_a_trainer():
    monitor = ScalingLawMonitor(verbose=False)
    fit(monitor, steps=300)
    assert len(measure_refits(300).seconds) == len(monitor.history)
    assert min(measure_refits(300).seconds) > 0.0


def test_validations_are_forecast_as_well():
    watched = Watched(400, validations=20)
    watched.feed(1, 2.0 + np.arange(1, 401) ** -0.5)
    assert watched.losses.metric.recorder.step == 400
    assert len(watched.losses.metric.live.ledger) == 20
    assert watched.losses.main.live.schedule is not None


def test_state_is_as_large_as_that_of_a_monitor_in_a_trainer(tmp_path):
    monitor = ScalingLawMonitor(verbose=False)
    fit(monitor, steps=300)
    torch.save(monitor.state_dict(), tmp_path / "state")
    watched = Watched(300)
    watched.feed(1, 2.0 + np.arange(1, 301) ** -0.5)
    assert watched.state_bytes() == pytest.approx((tmp_path / "state").stat().st_size, rel=0.15)


def test_memory_is_seen_at_the_marks():
    first, last = measure_memory([100, 1000])
    assert (first.step, last.step) == (100, 1000)
    assert 0 < first.state < last.state
    assert last.resident > last.held > 0 or math.isnan(last.resident)


def test_held_is_everything_and_each_once():
    big, tensor = np.zeros(100_000), torch.zeros(100_000)
    assert 800_000 <= held_bytes([big]) < 801_000
    assert held_bytes([big, big, {"again": big}]) - held_bytes([big]) < 1000
    assert 800_000 <= held_bytes(SimpleNamespace(part=big[10:20])) < 802_000  # a part keeps the whole
    assert 400_000 <= held_bytes((tensor, fit)) < 402_000  # functions are code


def test_the_command_prints_and_writes_the_same_tables(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(overhead, "measure_all", lambda quick: measured() if quick else None)
    page = tmp_path / "docs" / "performance.md"
    assert overhead.main(["--quick", "--out", str(page)]) == 0
    printed, written = capsys.readouterr().out, page.read_text(encoding="utf-8")
    assert written.startswith("# What the monitor costs\n\nWritten by")
    for title in ("The bars", "one process", "a run of 6 000 steps", "two gloo ranks", "Refits", "Memory"):
        assert title in printed
    tables = [text[text.index("### The bars") :] for text in (printed, written)]
    assert tables[0].startswith(tables[1].rstrip())
    assert f"torch {torch.__version__}" in written
    assert str(tmp_path) not in written


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path, capsys):
    page = tmp_path / "performance_gpu.md"
    assert gpu_overhead.main(["--out", str(page)]) == 0
    assert capsys.readouterr().out == "No CUDA GPU is at hand: nothing was measured.\n"
    assert not page.exists()


def event(name, start, end, device="DeviceType.CPU"):
    return SimpleNamespace(name=name, time_range=SimpleNamespace(start=start, end=end), device_type=device)


def test_a_trace_tells_waits_in_hooks_from_those_in_fetches_and_elsewhere():
    cuda = "DeviceType.CUDA"
    events = [
        event("monitor: hook", 0, 10),
        event("cudaStreamSynchronize", 5, 6),
        event("cudaMemcpyAsync", 7, 8),  # returns at once
        event("monitor: hook", 20, 40),
        event("monitor: fetch", 25, 35),
        event("cudaStreamSynchronize", 30, 31),
        event("cudaDeviceSynchronize", 50, 51),
        event("gemm", 0, 10, cuda),
        event("gemm", 5, 20, cuda),
        event("gemm", 30, 40, cuda),
        event("monitor: hook", 20, 30, cuda),
        event("Optimizer.step#SGD.step", 0, 40, cuda),
    ]
    assert Trace.of(events) == Trace(hooks=2, waits=1, busy=0.75)
    assert math.isnan(Trace.of([]).busy)


@pytest.mark.filterwarnings("ignore")  # of the profiler
def test_the_guarded_run_works_on_a_processor(monkeypatch):
    from lightning_scaling.host.steps import StepTracker

    seen = watch("bf16-mixed", TINY, accelerator="cpu")
    assert seen.hooks == 3 * TINY.steps
    assert seen.complaints == []
    assert seen.trace.hooks == 3 * (TINY.traced[1] - TINY.traced[0])
    assert 1 <= seen.fetches <= TINY.steps / 4
    [row] = gpu_overhead.table([seen]).rows
    assert row[4] == "0"
    monkeypatch.setattr(StepTracker, "before_optimizer_step", lambda *a: 1 / 0)  # as a wait would raise
    [complaint] = set(watch("bf16-mixed", replace(TINY, repeats=0), accelerator="cpu").complaints)
    assert "ZeroDivisionError" in complaint


def test_the_table_of_the_gpu_pairs_runs():
    seen = Seen("case", [100.0, 200.0, 300.0], [110.0, 215.0, 305.0], 90, ["one"], 4, Trace(30, 0, 0.99))
    [row] = gpu_overhead.table([seen]).rows
    assert row == ("case", "200", "+10.0 (+5.0 to +15.0)", "90", "1", "4", "0 in 30", "99 %")
