"""Forecast finished runs alone and with a store of others, and time it."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from time import perf_counter

import numpy as np

from benchmarks.curves import LAST_SHARE, MIN_POINTS, RunCurve
from benchmarks.synthetic import SyntheticRun, cosine
from lightning_scaling import LossCurve, LRSchedule, forecast
from lightning_scaling.siblings.identity import same_run

#: Shares of a run that are seen; at 0 it has not begun.
FRACTIONS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7)
#: Runs in the stores of which the time is measured.
STORES = (10, 100, 1000)


@dataclass(frozen=True, eq=False)
class Finished:
    """A finished run, as a store holds it.

    Attributes:
        id: Name of the run.
        group: Source of the run.
        curve: Its losses; N travels in it.
        horizon: Its length [steps].
        lr_schedule: Learning rate of all its steps, None where it was not logged.
        truth: Mean loss over the last 2 % of it.
    """

    id: str
    group: str
    curve: LossCurve
    horizon: int
    lr_schedule: LRSchedule | None
    truth: float

    @classmethod
    def of(cls, run: RunCurve) -> Finished:
        """Return a run that was read from a folder."""
        rates = run.rates()
        schedule = None if rates is None else LRSchedule.from_array(rates)
        return cls(run.id, run.group, LossCurve(run.S, run.L, N=run.N), run.T, schedule, run.truth)

    def warmed_up(self, steps: int) -> Finished:
        """Return the run with a linear warm-up of its rate, where the log begins after it and says nothing of it."""
        if self.lr_schedule is None or not 0 < steps <= self.curve.S[0]:
            return self
        rates = self.lr_schedule.rate_at(np.arange(1.0, self.horizon + 1.0))
        ramp = np.minimum(np.arange(1.0, self.horizon + 1.0) / steps, 1.0)
        return replace(self, lr_schedule=LRSchedule.from_array(rates * ramp))


@dataclass(frozen=True)
class Question:
    """Which runs are forecast, and from which others they may borrow.

    Attributes:
        title: What is asked.
        targets: Tells whether a run is forecast.
        lends: Tells of a target and another run whether that is in the store.
        warm_up: Steps of a linear warm-up that the logs begin after; 0 where nobody says so [steps].
    """

    title: str
    targets: Callable[[Finished], bool]
    lends: Callable[[Finished, Finished], bool]
    warm_up: int = 0


@dataclass(frozen=True)
class Said:
    """One forecast of the loss at the end: median and 90 % interval, NaN where there is none."""

    low: float
    mid: float
    high: float
    verdict: str
    n_siblings: int
    seconds: float


@dataclass(frozen=True)
class Pair:
    """A run at one fraction, forecast alone and with a store.

    Attributes:
        stored: Runs in the store.
    """

    question: str
    run: str
    group: str
    fraction: float
    truth: float
    stored: int
    alone: Said
    helped: Said


def within(group: str, target: str, store: str, title: str, warm_up: int = 0) -> Question:
    """Return the question of one group whose targets and lenders are told by their names.

    Args:
        group: Source of the runs.
        target: Regular expression that is searched for in the name of a run that is forecast.
        store: The same of one that is borrowed from.
        title: What is asked.
        warm_up: Steps of a linear warm-up that the logs begin after [steps].
    """
    return Question(
        title,
        lambda run: run.group == group and re.search(target, run.id) is not None,
        lambda run, other: other.group == group and re.search(store, other.id) is not None,
        warm_up,
    )


OWN, STRANGERS = "All other runs of its source", "Only runs of other sources"

QUESTIONS = (
    within("MultiPowerLaw", "_100M_", "_25M_", "MultiPowerLaw: 100M from the runs of 25M"),
    within(
        "MultiPowerLaw", "_100M_", "_25M_", "MultiPowerLaw: the same, with the warm-up before the logs", warm_up=2160
    ),
    within("MultiPowerLaw", "_25M_", "_100M_", "MultiPowerLaw: 25M from the runs of 100M"),
    within("MultiPowerLaw", "", "", "MultiPowerLaw: each from all others"),
    within("Gemstones", "1024x28|1280x15", "_512x|_256x71", "Gemstones: wide models from small ones"),
    within("Gemstones", "", "", "Gemstones: each from all others"),
    Question(OWN, lambda run: True, lambda run, other: other.group == run.group),
    Question(STRANGERS, lambda run: True, lambda run, other: other.group != run.group),
)


def ask(
    questions: Sequence[Question], runs: Sequence[Finished], fractions: Sequence[float], jobs: int = 1
) -> list[Pair]:
    """Answer questions; those without a target that has anybody to borrow from come to nothing.

    Args:
        questions: What is asked.
        runs: Finished runs.
        fractions: Shares of a run that are seen, from 0; those between 0 and 1 that hold fewer than 10 points are
            skipped.
        jobs: Processes.
    """
    # The same target with the same store is forecast once, under however many titles.
    work: dict[tuple[int, tuple[int, ...], int], list[str]] = {}
    warmed = {steps: [run.warmed_up(steps) for run in runs] for steps in {question.warm_up for question in questions}}
    for question in questions:
        for i, run in enumerate(runs):
            if question.targets(run):
                store = tuple(j for j, other in enumerate(runs) if _lends(question, run, other))
                if store:
                    work.setdefault((i, store, question.warm_up), []).append(question.title)
    units = [
        (warmed[steps][i], [warmed[steps][j] for j in store], titles) for (i, store, steps), titles in work.items()
    ]
    answer = partial(_answer, fractions=tuple(fractions))
    if jobs == 1:
        nested = [answer(unit) for unit in units]
    else:
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            nested = list(pool.map(answer, units, chunksize=4))
    return [pair for pairs in nested for pair in pairs]


def _lends(question: Question, run: Finished, other: Finished) -> bool:
    return other is not run and question.lends(run, other) and not same_run(run.curve, other.curve)


def _answer(unit: tuple[Finished, list[Finished], list[str]], fractions: Sequence[float]) -> list[Pair]:
    run, store, titles = unit
    pairs = []
    for fraction in fractions:
        seen = run.curve.until(fraction * run.horizon * (1.0 + 1e-9)) if fraction else LossCurve([], [], N=run.curve.N)
        if fraction == 0.0 or len(seen) >= MIN_POINTS:
            alone, helped = _said(run, seen, None), _said(run, seen, store)
            pairs += [
                Pair(title, run.id, run.group, fraction, run.truth, len(store), alone, helped) for title in titles
            ]
    return pairs


def _said(run: Finished, seen: LossCurve, store: Sequence[Finished] | None) -> Said:
    """Forecast the end of a run; where there is no number the last value stands in, once there is one."""
    start = perf_counter()
    said = forecast(seen, horizon=run.horizon, lr_schedule=run.lr_schedule, store=store)
    seconds = perf_counter() - start
    low, mid, high = (float(x) for x in (said.final_loss.low, said.final_loss.mid, said.final_loss.high))
    if len(seen) and not math.isfinite(mid):
        mid = float(seen.L[-max(1, round(LAST_SHARE * len(seen))) :].mean())
    return Said(low, mid, high, said.verdict.name, said.n_siblings, seconds)


def costs(sizes: Sequence[int] = STORES, horizon: int = 20_000) -> list[tuple[int, int, float, float, float]]:
    """Return runs in a store, runs borrowed from, and seconds of a forecast without it, of the first and a later one.

    Runs are made by the law itself at sizes from 1 to 100 million parameters; one is forecast at 30 and 31 % of it.
    """
    steps = np.unique(np.round(np.geomspace(1, horizon, 500)))
    rates, rng = cosine(horizon, warm_up=horizon // 50), np.random.default_rng(0)

    def made(seed: int, N: float) -> Finished:
        like = N**-0.076
        run = SyntheticRun(
            rates, E=6.0 * like, A=like, b=0.3 * like, alpha=0.5 * math.exp(0.05 * rng.standard_normal())
        )
        losses = run.expected(steps) + 0.01 * np.random.default_rng(seed).standard_normal(steps.size)
        return Finished(f"made_{seed}", "made", LossCurve(steps, losses, N=N), horizon, rates, run.end)

    found = []
    target = made(0, 3e7)
    for n in sizes:
        # New curves for every store: what is known of a run is kept with its curve.
        store = [made(seed, 10.0 ** rng.uniform(6.0, 8.0)) for seed in range(1, n + 1)]
        early, later = (target.curve.until(share * horizon) for share in (0.3, 0.31))
        alone, first, second = _said(target, early, None), _said(target, early, store), _said(target, later, store)
        found.append((n, second.n_siblings, alone.seconds, first.seconds, second.seconds))
    return found
