"""What simple rules would have done to a finished run: a look at half of it, a least-squares power law, patience.

And what a rule could have done that knew the rest of the run.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise

from benchmarks.baselines import power_law
from benchmarks.curves import make_tasks
from benchmarks.decisions_cases import GAINS, Case
from benchmarks.decisions_rules import Decision, decision

#: Patience of early stopping, in shares of the run.
PATIENCE = (0.05, 0.1)
#: Where a power law is fitted: every 5 % from a fifth of the run on, as the rules of the package may act from there.
_LOOKS = tuple(k / 20.0 for k in range(4, 20))

LAST_AT_HALF = "last value above the target at 50 %"
POWER_AT_HALF = "power law above the target at 50 %"
POWER_TWICE = "power law above the target at two looks"
HINDSIGHT = "hindsight: from where on no more is gained"


def early_stopping(patience: float) -> str:
    """Return what a table calls early stopping.

    Example:
        >>> early_stopping(0.05)
        'EarlyStopping, patience 5 % of the run'
    """
    return f"EarlyStopping, patience {100.0 * patience:.0f} % of the run"


def by_rivals(case: Case) -> list[Decision]:
    """Try all simple rules on a run; early stopping knows of no target, so it stops for all of them alike."""
    forecasts = {task.fraction: power_law(task).mid for task in make_tasks([case.run], _LOOKS)}
    patience = {early_stopping(p): case.out_of_patience(p) for p in PATIENCE}
    decisions = []
    for place, target in case.targets.items():
        last = 0.5 if case.present(0.5) > target else None
        half = 0.5 if forecasts.get(0.5, target) > target else None
        stops = {LAST_AT_HALF: last, POWER_AT_HALF: half, POWER_TWICE: twice_above(forecasts, target)}
        decisions += [decision(case, name, "target", place, share) for name, share in stops.items()]
        decisions += [
            decision(case, name, "target", place, share, made=share is not None and case.present(share) <= target)
            for name, share in patience.items()
        ]
    for gain in GAINS:
        stops = {**patience, HINDSIGHT: spent_from(case, gain * case.fall)}
        decisions += [decision(case, name, "gain", gain, share) for name, share in stops.items()]
    return decisions


def spent_from(case: Case, gain: float) -> float | None:
    """Return the share of the run, to 1 %, from which on a gain [unit of the loss] never lies ahead; None: its end."""
    shares = [k / 100.0 for k in range(100) if case.run.prefix(k / 100.0).any()]
    worth = [share for share in shares if case.around(share) - case.run.truth > gain]
    later = [share for share in shares if not worth or share > worth[-1]]
    return later[0] if later else None


def twice_above(forecasts: Mapping[float, float], target: float) -> float | None:
    """Return the second of the first two looks running whose forecasts lie above a target, None without such.

    Example:
        >>> twice_above({0.2: 2.0, 0.25: 1.8, 0.3: 2.0, 0.35: 2.0}, 1.9)
        0.35
    """
    above = [share for share in sorted(forecasts) if forecasts[share] > target]
    for share, following in pairwise(above):
        if round(20.0 * (following - share)) == 1:
            return following
    return None
