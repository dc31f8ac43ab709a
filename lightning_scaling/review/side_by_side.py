"""compare(): several runs side by side, which of them ends best, and how much faster one gets where another ends."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.fit.mixture import GaussianMixture
from lightning_scaling.forecast import Forecast
from lightning_scaling.forecast.readout import interval_of, last_part
from lightning_scaling.interval import Interval
from lightning_scaling.review.ending import ended

__all__ = ["Comparison", "Contender", "SpeedUp", "compare", "probability_best", "speed_up"]

FloatArray = NDArray[np.float64]

#: Quantiles of each run at which probabilities are summed up, and at which another run's end is taken.
_QUANTILES, _ENDS = 201, 41
#: Steps at which a run is asked whether it has got there.
_STEPS = 121


@dataclass(frozen=True, eq=False)
class Contender:
    """A run to compare.

    Args:
        name: What it is called.
        curve: The run so far.
        forecast: Its forecast, for its own planned end.
        cost: Compute of one of its steps, in any unit that is the same for all runs.
    """

    name: str
    curve: LossCurve
    forecast: Forecast
    cost: float = 1.0


@dataclass(frozen=True)
class SpeedUp:
    """How much less compute a run takes to get where another ends.

    Args:
        fast: The run that gets there.
        slow: The run whose end it gets to.
        loss: Where that run ends.
        steps: Steps that the fast run takes to get there; infinite: not by its own end.
        factor: Compute of the slow run's whole length over that of the fast run's steps [1]; 0: it never gets there.
    """

    fast: str
    slow: str
    loss: Interval
    steps: Interval
    factor: Interval


@dataclass(frozen=True)
class Comparison:
    """Several runs side by side.

    Args:
        names: What they are called.
        final_losses: Where each ends, in the order of the names.
        probability_best: Probability of each that none of the others ends lower [1].
        speed_ups: The most probable winner over each of the others; none where it is over and was too short for a law.
    """

    names: tuple[str, ...]
    final_losses: tuple[Interval, ...]
    probability_best: tuple[float, ...]
    speed_ups: tuple[SpeedUp, ...]


def compare(contenders: Sequence[Contender], level: float = 0.9) -> Comparison:
    """Compare runs by where they will end, each by itself: what all forecasts get wrong alike is not allowed for.

    A run that is over ends where it has ended. One without a usable forecast takes no part.

    Args:
        contenders: At least two runs.
        level: Probability of the intervals.

    Raises:
        ValueError: If fewer than two of them can be compared.
    """
    able = [(one, mixture) for one in contenders if (mixture := _end(one)) is not None]
    if len(able) < 2:
        verdicts = ", ".join(f"{one.name}: {one.forecast.verdict}" for one in contenders)
        raise ValueError(f"Expected two runs with a usable forecast, got {len(able)} ({verdicts}), so wait for more.")
    ends = [mixture for _, mixture in able]
    best = probability_best(ends)
    winner = int(np.argmax(best))
    fast = able[winner][0]
    slower = [k for k in np.argsort(best)[::-1].tolist() if k != winner]
    has_law = fast.forecast.mixture_at() is not None
    ups = [speed_up(fast, able[k][0], ends[k], level) for k in slower] if has_law else []
    return Comparison(
        tuple(one.name for one, _ in able),
        tuple(interval_of(end, level) for end in ends),
        tuple(float(p) for p in best),
        tuple(ups),
    )


def probability_best(ends: Sequence[GaussianMixture]) -> FloatArray:
    r"""Return the probability of each of R independent numbers to be the smallest.

    .. math:: P_i = \int f_i(x) \prod_{j \ne i} (1 - F_j(x))\, dx

    summed over the quantiles of all of them, which leaves no number of samples to choose.

    Args:
        ends: A mixture of one quantity for each run.

    Returns:
        Probabilities that sum to 1 [1], shape (R,).

    Example:
        >>> ends = [GaussianMixture(np.ones(1), np.array([[m]]), np.array([[1.0]])) for m in (0.0, 1.0)]
        >>> [round(float(p), 3) for p in probability_best(ends)]
        [0.76, 0.24]
    """
    p = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    grid = np.unique(np.concatenate([end.quantiles(p)[:, 0] for end in ends]))
    cdf = np.stack([end.cdf(grid) for end in ends])
    # The parts outside the grid go to its ends.
    cdf = np.concatenate((np.zeros((len(ends), 1)), cdf, np.ones((len(ends), 1))), axis=1)
    above = 1.0 - 0.5 * (cdf[:, 1:] + cdf[:, :-1])
    found = np.array([float(np.diff(cdf[i]) @ np.prod(np.delete(above, i, axis=0), axis=0)) for i in range(len(ends))])
    return np.asarray(found / found.sum())


def speed_up(fast: Contender, slow: Contender, end: GaussianMixture, level: float = 0.9) -> SpeedUp:
    r"""Return how much less compute one run takes to get where another ends.

    With the loss :math:`L_f(s)` of the fast run at its step s and the end :math:`L_s` of the slow one, s is reached
    with the probability :math:`P(L_f(s) \le L_s)`, of which the quantiles are taken.

    Args:
        fast: The run that gets there.
        slow: The other run, over its whole length.
        end: Where that one ends.
        level: Probability of the intervals.
    """
    length = float(fast.forecast.horizon or fast.curve.step)
    first = min(max(float(fast.curve.S[0]), 1.0), length)
    steps = np.geomspace(first, length, _STEPS)
    there = fast.forecast.mixture_at(steps)
    assert there is not None
    levels = end.quantiles((np.arange(_ENDS) + 0.5) / _ENDS)[:, 0]
    # What a run has reached stays reached: the probability never falls.
    reached = np.maximum.accumulate(np.mean([there.cdf(float(x)) for x in levels], axis=0))
    found = [_crossing(steps, reached, p) for p in ((1.0 - level) / 2.0, 0.5, (1.0 + level) / 2.0)]
    whole = slow.cost * float(slow.forecast.horizon or slow.curve.step)
    factors = [0.0 if math.isinf(s) else whole / (fast.cost * s) for s in found[::-1]]
    at, by = (Interval(x[0], x[1], x[2], level) for x in (found, factors))
    return SpeedUp(fast.name, slow.name, interval_of(end, level), at, by)


def _end(one: Contender) -> GaussianMixture | None:
    over = one.forecast.horizon is not None and one.curve.step >= one.forecast.horizon
    if over and not one.curve.n_nonfinite:
        return ended(one.curve)
    if one.forecast.horizon is None or not one.forecast.verdict.usable:
        return None
    # Of expected losses: the noise with which an end is read makes no run better than another.
    return one.forecast.mixture_at([last_part(one.forecast.step, one.forecast.horizon)])


def _crossing(steps: FloatArray, reached: FloatArray, probability: float) -> float:
    """Return the step by which a probability is reached; infinity where it is not."""
    i = int(np.searchsorted(reached, probability))
    if i == steps.size:
        return math.inf
    if i == 0 or reached[i] <= reached[i - 1]:
        return float(steps[i])
    share = (probability - reached[i - 1]) / (reached[i] - reached[i - 1])
    return float(np.exp(np.log(steps[i - 1]) + share * np.log(steps[i] / steps[i - 1])))
