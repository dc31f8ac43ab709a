"""Strategies that kill runs of a pool early, and what came of them."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.decisions_cases import Case
from benchmarks.decisions_rivals import PATIENCE, early_stopping
from lightning_scaling import LossCurve, forecast
from lightning_scaling.fit.mixture import GaussianMixture
from lightning_scaling.review import probability_best

#: Shares of the run at which runs are killed that have hardly a chance, or lie above a median.
LOOKS = (0.1, 0.2, 0.3, 0.5, 0.7)
#: Shares of the run at which the better half is kept.
RUNGS = (0.125, 0.25, 0.5)
#: Share of the run at which all but one are killed.
ONCE = 0.3
#: Probability to end best below which a run is killed.
HOPELESS = 0.05

OURS = f"ours: killed where it ends best with less than {100.0 * HOPELESS:.0f} %"
HALVING_OURS = "ours: the better half by forecast at 12.5, 25, 50 %"
ONCE_OURS = "ours: the best forecast at 30 %"
HALVING = "successive halving: the better half by present loss at 12.5, 25, 50 %"
ONCE_PRESENT = "the best present loss at 30 %"
MEDIAN = "median rule: best loss above the median of the running averages"
MEDIAN_AVERAGES = "the same with its own running average"
BLIND = "one run, picked blindly before the start"


@dataclass(frozen=True, eq=False)
class Racer:
    """A run of a pool.

    Attributes:
        case: The run.
        ends: Forecasts of its end at shares of the run; none where there is no usable one.
    """

    case: Case
    ends: Mapping[float, GaussianMixture]

    @classmethod
    def of(cls, case: Case) -> Racer:
        """Forecast a run wherever a strategy may ask."""
        curve, ends = LossCurve(case.run.S, case.run.L, N=case.run.N), {}
        for share in sorted({*LOOKS, *RUNGS, ONCE}):
            seen = case.run.prefix(share)
            if not seen.any():
                continue
            part = curve.until(float(curve.S[seen][-1]))
            found = forecast(part, horizon=case.run.T, lr_schedule=case.schedule)
            mixture = found.mixture_at()
            if found.verdict.usable and mixture is not None:
                ends[share] = mixture
        return cls(case, ends)

    @property
    def name(self) -> str:
        """Name of the run."""
        return self.case.run.id

    @property
    def truth(self) -> float:
        """Where it ended [unit of the loss]."""
        return self.case.run.truth

    def best(self, share: float) -> float:
        """Return the lowest smoothed loss so far [unit of the loss]."""
        return float(self.case.smooth[self.case.run.prefix(share)].min())

    def average(self, share: float) -> float:
        """Return the mean of all losses so far [unit of the loss]."""
        return float(self.case.run.L[self.case.run.prefix(share)].mean())


#: Shares of each run of a pool that a strategy runs [1], in the order of the pool.
Spent = tuple[float, ...]
Strategy = Callable[[Sequence[Racer]], Spent]
Kill = Callable[[Sequence[Racer], float], set[str]]


@dataclass(frozen=True)
class Outcome:
    """What a strategy made of a pool.

    Attributes:
        lost: Whether the best run, and every one about as good, was killed; a probability where it is left to chance.
        regret: Loss that is taken home minus that of the best run [unit of the loss].
        saved: Share of all steps that were not run, each run counting once [1].
    """

    lost: float
    regret: float
    saved: float


def outcome(pool: Sequence[Racer], spent: Spent) -> Outcome:
    """Judge what a strategy did to a pool: the lowest loss is taken home, of a run that was stopped as it was then."""
    ends = [one.truth if share >= 1.0 else one.case.present(share) for one, share in zip(pool, spent, strict=True)]
    best, near = min(one.truth for one in pool), _near(pool)
    kept = any(share >= 1.0 and one.truth <= best + near for one, share in zip(pool, spent, strict=True))
    return Outcome(float(not kept), max(min(ends) - best, 0.0), 1.0 - sum(spent) / len(spent))


def blind(pool: Sequence[Racer]) -> Outcome:
    """Return what is to be expected of one run that is picked before the start."""
    truths = np.array([one.truth for one in pool])
    lost = float(np.mean(truths > truths.min() + _near(pool)))
    return Outcome(lost, float(truths.mean() - truths.min()), 1.0 - 1.0 / len(pool))


def race(pool: Sequence[Racer], shares: Sequence[float], kill: Kill) -> Spent:
    """Run all runs of a pool side by side and kill some at given shares; where one has no loss yet all are waited for.

    Args:
        pool: The runs.
        shares: When runs may be killed, increasing.
        kill: Returns the names of those to kill, out of the runs left at a share; never all of them.
    """
    spent = {one.name: 1.0 for one in pool}
    left = list(pool)
    for share in shares:
        if len(left) < 2 or any(math.isnan(one.case.present(share)) for one in left):
            continue
        gone = kill(left, share)
        spent |= dict.fromkeys(gone, share)
        left = [one for one in left if one.name not in gone]
    return tuple(spent[one.name] for one in pool)


def hopeless(left: Sequence[Racer], share: float) -> set[str]:
    """Kill whatever ends best with less than 5 %; a run without a usable forecast is let go on and not counted."""
    able = [one for one in left if share in one.ends]
    if len(able) < 2:
        return set()
    chances = probability_best([one.ends[share] for one in able])
    return {one.name for one, p in zip(able, chances, strict=True) if p < min(HOPELESS, chances.max())}


def all_but(left: Sequence[Racer], share: float, *, by_forecast: bool, keep: float) -> set[str]:
    """Keep a share of the runs (rounded up), those of the lowest forecast or present loss, and kill the others.

    Where one has no usable forecast all are ranked by their present loss.
    """
    forecast_all = by_forecast and all(share in one.ends for one in left)
    rank = {
        one.name: float(one.ends[share].quantiles([0.5])[0, 0]) if forecast_all else one.case.present(share)
        for one in left
    }
    n = max(math.ceil(keep * len(left)), 1)
    return set(sorted(rank, key=rank.__getitem__)[n:])


def above_median(left: Sequence[Racer], share: float, *, own_average: bool) -> set[str]:
    """Kill whatever lies above the median of the running averages of the losses."""
    averages = {one.name: one.average(share) for one in left}
    median = float(np.median(list(averages.values())))
    return {one.name for one in left if (averages[one.name] if own_average else one.best(share)) > median}


def patient(pool: Sequence[Racer], patience: float) -> Spent:
    """Stop each run by itself where it runs out of patience."""
    found = (one.case.out_of_patience(patience) for one in pool)
    return tuple(1.0 if share is None else share for share in found)


_HALF, _ONE = 0.5, 0.0
STRATEGIES: Mapping[str, Strategy] = {
    OURS: partial(race, shares=LOOKS, kill=hopeless),
    HALVING_OURS: partial(race, shares=RUNGS, kill=partial(all_but, by_forecast=True, keep=_HALF)),
    ONCE_OURS: partial(race, shares=(ONCE,), kill=partial(all_but, by_forecast=True, keep=_ONE)),
    HALVING: partial(race, shares=RUNGS, kill=partial(all_but, by_forecast=False, keep=_HALF)),
    ONCE_PRESENT: partial(race, shares=(ONCE,), kill=partial(all_but, by_forecast=False, keep=_ONE)),
    MEDIAN: partial(race, shares=LOOKS, kill=partial(above_median, own_average=False)),
    MEDIAN_AVERAGES: partial(race, shares=LOOKS, kill=partial(above_median, own_average=True)),
    **{early_stopping(p): partial(patient, patience=p) for p in PATIENCE},
}


def _near(pool: Sequence[Racer]) -> float:
    return float(np.median([one.case.near for one in pool]))
