"""The benchmark of decisions, on runs made here whose right decisions are known."""

from __future__ import annotations

import doctest
import importlib
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.curves import RunCurve, load_curves
from benchmarks.decisions import decide, main
from benchmarks.decisions_cases import CONSTANT, FALLS, UNKNOWN, Case
from benchmarks.decisions_pools import OTHER, SAME, parts_of, pools_of
from benchmarks.decisions_rivals import HINDSIGHT, LAST_AT_HALF, POWER_AT_HALF, by_rivals, early_stopping
from benchmarks.decisions_rules import ADVICE, Decision, Heard, by_rules, name_of
from benchmarks.decisions_strategies import (
    BLIND,
    HALVING,
    HALVING_OURS,
    MEDIAN,
    MEDIAN_AVERAGES,
    ONCE_OURS,
    ONCE_PRESENT,
    OURS,
    STRATEGIES,
    Outcome,
    Racer,
    blind,
    outcome,
)
from benchmarks.decisions_tables import JUDGED, Bar, bars, false_share, pool_means, saved_share
from lightning_scaling import Converged, LossCurve, TargetUnreachable, forecast
from lightning_scaling.fit.mixture import GaussianMixture
from lightning_scaling.review import Outcome as Found
from lightning_scaling.review import replay

T = 2000
S = np.arange(1.0, T + 1.0)


def power_run(name: str, E: float = 2.0, *, lr: bool = True, noise: float = 0.01, seed: int = 0) -> RunCurve:
    L = E + 8.0 * S**-0.5 + noise * np.random.default_rng(seed).standard_normal(T)
    return RunCurve(name, "ours", S, L, lr=np.full(T, 0.001) if lr else None, domain="LM pretraining")


def case_of(run: RunCurve) -> Case:
    case = Case.of(run)
    assert case is not None
    return case


def decided(rule: str, place: float, stopped: float | None, *, run: str = "a", known: bool = True) -> Decision:
    false = stopped is not None and place > 0
    return Decision(run, run, "constant" if known else UNKNOWN, rule, "target", place, stopped, false, 0.1, 0.05)


# -- what is asked ----------------------------------------------------------------------------------------------------


def test_targets_are_nats_of_a_language_model_and_shares_of_the_fall_of_anything_else() -> None:
    run = power_run("a")
    language = case_of(run)
    assert {k: round(v - run.truth, 9) for k, v in language.targets.items()} == {
        -3: -0.1,
        -2: -0.05,
        -1: -0.02,
        1: 0.02,
        2: 0.05,
        3: 0.1,
    }
    robots = case_of(replace(run, domain="robots"))
    assert robots.fall == pytest.approx(run.L[19] - run.truth)
    assert robots.targets[2] - run.truth == pytest.approx(0.02 * robots.fall)
    # A loss that was never below 0 has no target there, one that was may have.
    low = replace(run, L=run.L - run.L.min() + 0.01)
    assert sorted(case_of(low).targets) == [-1, 1, 2, 3]
    assert len(case_of(replace(run, L=run.L - 3.0)).targets) == 6


def test_a_loss_that_did_not_fall_is_left_out_and_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "rises.csv").write_text("step,loss\n" + "\n".join(f"{s},{1 + s / 100}" for s in range(1, 101)))
    assert main(["--curves", str(tmp_path)]) == 1
    assert "nothing to decide" in capsys.readouterr().err
    (tmp_path / "falls.csv").write_text("step,loss\n" + "\n".join(f"{s},{2 / s}" for s in range(1, 101)))
    assert main(["--curves", str(tmp_path)]) == 0
    assert "did not fall: rises" in capsys.readouterr().out


def test_a_constant_rate_is_handed_in_only_where_the_index_says_constant() -> None:
    silent = power_run("a", lr=False)
    assert case_of(silent).schedule is None
    constant = case_of(replace(silent, schedule="constant"))
    assert constant.assumed
    assert constant.schedule is not None
    assert constant.schedule.known
    assert case_of(replace(silent, schedule="warmup+constant")).schedule is None
    logged = case_of(power_run("b"))
    assert not logged.assumed
    assert (logged.rate, constant.rate, case_of(silent).rate) == (CONSTANT, CONSTANT, UNKNOWN)
    assert case_of(replace(power_run("b"), lr=0.001 * (1.0 - S / (T + 1.0)))).rate == FALLS


def test_patience_runs_out_a_patience_after_the_last_best() -> None:
    falls_to_half = np.where(S <= T / 2, 3.0 - S / T, 2.5 + 1e-6 * S)
    case = case_of(RunCurve("a", "g", S, falls_to_half))
    # The smoothed loss still falls for the first step after the turn.
    assert case.out_of_patience(0.1) == pytest.approx(0.6, abs=0.02)
    assert case.out_of_patience(0.05) == pytest.approx(0.55, abs=0.02)
    assert case.out_of_patience(0.6) is None
    assert case_of(RunCurve("b", "g", S, 3.0 - S / T)).out_of_patience(0.05) is None


# -- what rules do ----------------------------------------------------------------------------------------------------


def test_targets_missed_are_stopped_targets_made_are_not_and_the_shares_are_those_of_replay() -> None:
    run = power_run("a")
    case = case_of(run)
    found = [d for d in by_rules(case, (0.95,)) if d.aim == "target"]
    acted = {d.place: d for d in found if d.rule == JUDGED}
    advised = {d.place: d for d in found if d.rule == JUDGED + ADVICE}
    for place in (1.0, 2.0, 3.0):
        assert acted[place].stopped is None
        assert not acted[place].false
        assert acted[place].saved == 0.0
    far, soon = acted[-3.0].stopped, advised[-3.0].stopped
    assert far is not None
    assert soon is not None
    assert 0.2 <= soon < far < 0.6
    assert acted[-3.0].saved == pytest.approx(1.0 - far)
    assert acted[-3.0].left == pytest.approx(8.0 * ((far * T) ** -0.5 - (0.99 * T) ** -0.5), abs=0.01)
    rule = TargetUnreachable(loss=case.targets[-3])
    (stop,) = replay(LossCurve(run.S, run.L), schedule=case.schedule, rules={"far": rule}).stops
    assert stop.outcome is Found.RIGHT_STOP
    assert stop.step == far * T


def test_without_a_schedule_no_rule_acts_but_the_advice_is_heard() -> None:
    found = by_rules(case_of(power_run("a", lr=False)), (0.95,))
    assert [d for d in found if d.stopped is not None and not d.rule.endswith(ADVICE)] == []
    assert [d.place for d in found if d.rule == JUDGED + ADVICE and d.stopped is not None] != []
    assert not any(d.known for d in found)


def test_a_run_that_falls_once_more_is_stopped_by_mistake_and_counted_so() -> None:
    run = power_run("a")
    late = replace(run, L=run.L - 1.0 * np.clip((S - 0.8 * T) / (0.1 * T), 0.0, 1.0))
    case = case_of(late)
    found = [d for d in by_rules(case, (0.95,)) if d.rule == JUDGED]
    assert {d.place for d in found if d.false} == {1.0, 2.0, 3.0}
    assert all(d.stopped is not None and d.left > d.worth for d in found)
    gains = [d for d in by_rules(case, (0.95,)) if d.aim == "gain" and d.rule == name_of(Converged, 0.95)]
    assert any(d.false for d in gains)
    for d in gains:
        assert d.false == (d.stopped is not None and d.left > d.place * case.fall)


def test_a_rule_is_heard_once_for_each_forecast() -> None:
    run = power_run("a")
    curve = LossCurve(run.S, run.L)
    heard = Heard(TargetUnreachable(loss=1.0))
    seen = [forecast(curve.until(step), horizon=T) for step in (100, 800, 1600)]
    for one in seen:
        assert heard.judge(one) is heard.judge(one)
    assert heard.first == 800  # nothing is out of reach in the first fifth


def test_simple_rules_on_a_power_law() -> None:
    case = case_of(power_run("a", noise=0.001))
    found = {(d.rule, d.aim, d.place): d for d in by_rivals(case)}
    # At half of the run 8/sqrt(1000) - 8/sqrt(1980) = 0.073 is still to come.
    last = {place: found[LAST_AT_HALF, "target", place].false for place in (1.0, 2.0, 3.0)}
    assert last == {1.0: True, 2.0: True, 3.0: False}
    for place in (-3.0, -2.0, -1.0, 1.0, 2.0, 3.0):
        assert found[POWER_AT_HALF, "target", place].stopped == (0.5 if place < 0 else None)
        assert found[early_stopping(0.1), "target", place].stopped is None
    hindsight = found[HINDSIGHT, "gain", 0.05]
    assert hindsight.stopped is not None
    assert not hindsight.false
    assert 8.0 * (hindsight.stopped * T) ** -0.5 == pytest.approx(8.0 * (0.99 * T) ** -0.5 + 0.05 * case.fall, abs=0.01)


def test_early_stopping_is_not_charged_where_it_had_made_the_target() -> None:
    flat = np.where(S <= T / 2, 4.0 - 4.0 * S / T, 2.0 + 1e-6 * S)
    case = case_of(RunCurve("a", "g", S, flat, domain="LM pretraining"))
    found = {d.place: d for d in by_rivals(case) if d.rule == early_stopping(0.1) and d.aim == "target"}
    assert all(d.stopped is not None for d in found.values())
    assert [place for place, d in found.items() if d.false] == []


# -- bars ---------------------------------------------------------------------------------------------------------


def test_counts_are_pooled_or_over_sources() -> None:
    decisions = [decided(JUDGED, 1.0, 0.5), *(decided(JUDGED, 1.0, None, run="b") for _ in range(3))]
    decisions += [decided(JUDGED, -3.0, 0.4), decided(JUDGED, -1.0, 0.2), decided(JUDGED, -2.0, None, run="b")]
    assert false_share(decisions) == 0.25
    assert false_share(decisions, groups=True) == 0.5
    assert saved_share(decisions) == pytest.approx(0.3)  # a near miss is not among them
    assert saved_share(decisions, places=(-1.0,)) == pytest.approx(0.8)


@pytest.mark.parametrize(("n_false", "saved", "expected"), [(1, 0.34, "met"), (2, 0.32, "missed")])
def test_bars_are_met_up_to_one_in_twenty_and_from_a_third_on(n_false: int, saved: float, expected: str) -> None:
    decisions = [decided(JUDGED, 1.0, 0.5 if i < n_false else None) for i in range(20)]
    decisions += [decided(JUDGED, -2.0, 1.0 - saved), decided(JUDGED + ADVICE, 1.0, 0.5)]
    assert [bar.verdict for bar in bars(decisions)] == [expected] * 8
    unknown = [decided(JUDGED, 1.0, None, run="b", known=False) for _ in range(40)]
    assert [bar.verdict for bar in bars([*decisions, *unknown])][4:] == [expected] * 4
    assert bars([*decisions, *unknown])[0].figure == n_false / 60


def test_a_bar_with_nothing_to_count_is_neither_met_nor_missed() -> None:
    assert Bar("what", "whom", math.nan, 0.1, most=True).verdict == "nothing to count"
    assert Bar("what", "whom", 0.05, 0.05, most=True).verdict == "met"


# -- pools ----------------------------------------------------------------------------------------------------------

#: Four runs of which the one that ends lowest looks worst to begin with: slower, but with a lower floor.
ENDS = {"best": 1.0, "second": 1.3, "third": 1.5, "worst": 1.8}
STARTS = {"best": 4.0, "second": 3.6, "third": 3.4, "worst": 3.2}


def toy(name: str, *, said: float | None = None, sd: float = 0.01) -> Racer:
    """A run that falls evenly from its start to its end; a forecast says so at every share, or something else."""
    L = STARTS[name] + (ENDS[name] - STARTS[name]) * S / T
    mean = ENDS[name] if said is None else said
    mixture = GaussianMixture(np.ones(1), np.array([[mean]]), np.array([[sd]]))
    case = case_of(RunCurve(name, "g", S, L, domain="LM pretraining"))
    return Racer(case, dict.fromkeys((0.1, 0.125, 0.2, 0.25, 0.3, 0.5, 0.7), mixture))


def played(strategy: str, pool: Sequence[Racer]) -> tuple[dict[str, float], Outcome]:
    spent = STRATEGIES[strategy](pool)
    return {one.name: share for one, share in zip(pool, spent, strict=True)}, outcome(pool, spent)


def test_strategies_on_a_pool_whose_best_run_looks_worst() -> None:
    pool = [toy(name) for name in ENDS]
    best = next(one for one in pool if one.name == "best")

    spent, result = played(OURS, pool)
    assert spent == {"best": 1.0, "second": 0.1, "third": 0.1, "worst": 0.1}
    assert (result.lost, result.regret) == (0.0, 0.0)
    assert result.saved == pytest.approx(0.675)

    spent, result = played(HALVING_OURS, pool)
    assert spent == {"best": 1.0, "second": 0.25, "third": 0.125, "worst": 0.125}
    assert result.lost == 0.0
    assert played(ONCE_OURS, pool)[0] == {"best": 1.0, "second": 0.3, "third": 0.3, "worst": 0.3}

    # At 12.5 % the losses are 3.625, 3.3125, 3.1625 and 3.025; at 25 % those of the two left 3.025 and 2.85.
    spent, result = played(HALVING, pool)
    assert spent == {"best": 0.125, "second": 0.125, "third": 0.25, "worst": 1.0}
    assert result.lost == 1.0
    assert result.regret == pytest.approx(0.8, abs=0.03)
    assert result.saved == pytest.approx(0.625)
    assert played(ONCE_PRESENT, pool)[0] == {"best": 0.3, "second": 0.3, "third": 0.3, "worst": 1.0}

    # The present loss of the best lies above the median of the averages at 10 %, 3.42, as it has only just begun.
    assert best.best(0.1) > np.median([one.average(0.1) for one in pool])
    assert played(MEDIAN, pool)[1].lost == 1.0
    assert played(MEDIAN_AVERAGES, pool)[0]["best"] == 0.1

    for patience in (0.05, 0.1):
        assert set(played(early_stopping(patience), pool)[0].values()) == {1.0}
    assert blind(pool).lost == 0.75
    assert blind(pool).regret == pytest.approx(0.4, abs=0.01)


def test_a_forecast_that_says_nothing_kills_nothing() -> None:
    unsure = [toy(name, said=2.0, sd=1.0) for name in ENDS]
    assert set(played(OURS, unsure)[0].values()) == {1.0}
    silent = [replace(one, ends={}) if one.name == "best" else one for one in map(toy, ENDS)]
    spent, result = played(OURS, silent)
    assert spent["best"] == 1.0
    assert result.lost == 0.0
    # Without all forecasts the better half is that of the present losses; the two left have forecasts again.
    assert played(HALVING_OURS, silent)[0] == {"best": 0.125, "second": 0.125, "third": 1.0, "worst": 0.25}


def test_wrong_forecasts_are_charged() -> None:
    wrong = [toy(name, said=5.0 - ENDS[name]) for name in ENDS]
    spent, result = played(OURS, wrong)
    assert spent["worst"] == 1.0
    assert result.lost == 1.0
    assert result.regret == pytest.approx(0.8 * 0.99 - 0.008, abs=1e-3)  # the last 2 % are a mean


def test_a_run_that_is_about_as_good_may_stand_in_for_the_best() -> None:
    pool = [toy("best"), toy("second")]
    level = replace(pool[0].case.run, id="level", L=pool[0].case.run.L + 0.004)
    pool.append(Racer(case_of(level), {}))
    assert outcome(pool, (0.5, 0.5, 1.0)).lost == 0.0
    assert outcome(pool, (0.5, 0.5, 1.0)).regret == pytest.approx(0.004)
    assert outcome(pool, (0.5, 1.0, 0.5)).lost == 1.0


def test_where_a_log_begins_late_all_are_waited_for() -> None:
    pool = [toy(name) for name in ENDS]
    late = pool[0].case.run
    kept = late.S > 0.15 * T
    pool[0] = replace(pool[0], case=case_of(replace(late, S=late.S[kept], L=late.L[kept])))
    assert played(OURS, pool)[0] == {"best": 1.0, "second": 0.2, "third": 0.2, "worst": 0.2}


def test_pools_are_of_one_source_and_length_and_parts_of_four_to_eight() -> None:
    cases = [case_of(replace(power_run(f"short{i}", seed=i), N=1e6)) for i in range(9)]
    long = RunCurve("long", "ours", 2.0 * S, 2.0 + 8.0 * (2.0 * S) ** -0.5, domain="LM pretraining", N=1e6)
    stranger = replace(power_run("stranger"), group="theirs")
    continued = replace(power_run("continued"), S=S[600:], L=power_run("c").L[600:], lr=None)
    same, other = pools_of([*cases, *map(case_of, (long, stranger, continued))])
    assert (same.kind, len(same.cases)) == (SAME, 9)
    assert (other.kind, len(other.cases)) == (OTHER, 10)
    racers = [Racer(case, {}) for case in same.cases]
    whole, *parts = parts_of(racers, np.random.default_rng(0), 12)
    assert len(whole) == 9
    assert len(parts) == 12
    names = {tuple(one.name for one in part) for part in parts}
    assert len(names) == 12
    assert {len(part) for part in parts} <= {4, 5, 6, 7, 8}
    assert len(parts_of(racers[:5], np.random.default_rng(0), 12)) == 6  # all five parts of four, and the whole


def test_sizes_are_kept_apart_where_each_has_four_runs() -> None:
    sizes = [1e6] * 4 + [2e6] * 4
    cases = [case_of(replace(power_run(f"{i}", seed=i), N=N)) for i, N in enumerate(sizes)]
    assert [len(pool.cases) for pool in pools_of(cases)] == [4, 4]
    assert [len(pool.cases) for pool in pools_of(cases[1:])] == [7]


# -- the command --------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder of a user's runs: four that end 0.2 apart, and one without a learning rate."""
    own = tmp_path / "runs"
    own.mkdir()
    index = []
    for i, E in enumerate((1.8, 2.0, 2.2, 2.4, 2.0)):
        run = power_run(f"run{i}", E, seed=i)
        few = slice(None, None, 4)
        rate = ",0.001" if i < 4 else ","
        rows = "\n".join(f"{s:.0f},{x:.5f}{rate}" for s, x in zip(run.S[few], run.L[few], strict=True))
        (own / f"run{i}.csv").write_text(f"step,loss,lr\n{rows}\n", encoding="utf-8")
        index.append({"id": f"run{i}", "group": "ours" if i < 4 else "theirs", "domain": "LM pretraining"})
    (own / "index.json").write_text(json.dumps(index), encoding="utf-8")
    return own


def test_the_command_prints_the_bars_and_writes_a_page(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "docs" / "decisions.md"
    assert main(["--curves", str(folder), "--out", str(page)]) == 0
    printed, written = capsys.readouterr().out, page.read_text(encoding="utf-8")
    assert "met: false stops 0.0 %, at most 5.0 % (all runs, pooled)" in printed
    for words in ("### Bars", "`Diverged` stopped 0 of 5 runs", "### Pools of one length", OURS, BLIND):
        assert words in printed
        assert words in written
    assert [line for line in written.splitlines() if line.startswith("| run4 ")] != []
    assert str(folder) not in written
    assert (page.parent / "img" / "decisions_trade.png").stat().st_size > 10_000


def test_runs_without_a_known_rate_count_as_never_stopped_and_the_best_of_the_pool_is_kept(folder: Path) -> None:
    found = decide(load_curves(folder), n_parts=0)
    mine = [d for d in found.decisions if d.rule == JUDGED]
    known = [d for d in mine if d.known]
    assert len({d.run for d in known}) == 4
    assert saved_share(known) > 0.4
    assert saved_share(mine) == pytest.approx(0.8 * saved_share(known))
    assert saved_share(mine, groups=True) == pytest.approx(0.5 * saved_share(known))
    lost, regret, saved = pool_means([p for p in found.played if p.strategy == OURS])
    assert (lost, regret) == (0.0, 0.0)
    assert saved > 0.5


@pytest.mark.parametrize("name", ["cases", "rivals", "rules"])
def test_the_examples_in_the_docstrings_hold(name: str) -> None:
    result = doctest.testmod(importlib.import_module(f"benchmarks.decisions_{name}"))
    assert result.attempted > 0
    assert result.failed == 0
