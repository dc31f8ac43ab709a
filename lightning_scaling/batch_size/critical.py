"""The critical batch size measured directly: from how many steps runs at several batch sizes took to the same losses.

This is how Kaplan et al. 2020 measured it, and what the gradient noise scale only stands for. It needs runs of one
model on the same data, each at a learning rate that suits its batch size, and losses that may be compared at the same
step: a rate held constant, or curves of final losses. A loss in the middle of a decay is not the loss of a shorter run.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import least_squares
from scipy.special import stdtrit

from lightning_scaling.curve import LossCurve, require_curves
from lightning_scaling.errors import FitError
from lightning_scaling.interval import Interval
from lightning_scaling.laws import CriticalBatch

__all__ = ["CriticalBatchFit", "fit_critical_batch", "steps_to_losses"]

FloatArray = NDArray[np.float64]

#: Loss levels that are compared where none are given.
_N_LEVELS = 12
#: The beginning of a run, which is no part of its law: this share of its steps, and so many times its warm-up, which
#: is over where the rate has come to this share of its peak.
_TRANSIENT, _AFTER_WARM_UP, _WARM = 0.1, 2.0, 0.99
#: Fewest loss levels of which a third can be left out.
_FEW_LEVELS = 6
#: How far outside the batch sizes seen a critical one is looked for [factor].
_REACH = 100.0
#: Steepest 1/alpha_B that is looked for; Kaplan et al. found 4.8.
_STEEPEST = 50.0


@dataclass(frozen=True)
class CriticalBatchFit:
    """B_crit(L) as fitted to runs at several batch sizes.

    Args:
        critical: The law, None where the fit does not give one; ``reason`` says why.
        reason: Why there is no law, or why there are no intervals; empty otherwise.
        B_star: B_crit extrapolated to L = 1 [unit of the batch]; wide, because L = 1 is far from the losses seen.
        alpha_B: Exponent [1].
        losses: Loss levels at which steps were compared [unit of the loss], falling, shape (k,).
        B_crit: B_crit at these losses [unit of the batch], shape (k,).
        S_min: Steps to these losses at B >> B_crit [steps], shape (k,).
        residual: Root mean square residual of log S [1].
        n_runs: Runs that were used.
    """

    critical: CriticalBatch | None
    reason: str
    B_star: Interval
    alpha_B: Interval
    losses: FloatArray
    B_crit: Interval
    S_min: FloatArray
    residual: float
    n_runs: int

    def require_ok(self) -> CriticalBatch:
        """Return the law.

        Raises:
            FitError: If there is none; it carries this result.
        """
        if self.critical is None:
            raise FitError(f"Expected runs that tell a critical batch size, got none: {self.reason}", self)
        return self.critical

    def __str__(self) -> str:
        """Return one line a person can read."""
        if self.critical is None:
            return f"No critical batch size from {self.n_runs} runs: {self.reason}"
        low, mid, high = (float(np.ravel(x)[-1]) for x in (self.B_crit.low, self.B_crit.mid, self.B_crit.high))
        last = Interval(low, mid, high, self.B_crit.level)
        return f"{self.critical}; at loss {self.losses[-1]:.4g}: {last}, from {self.n_runs} runs"


def steps_to_losses(curve: LossCurve, losses: ArrayLike) -> FloatArray:
    """Return the steps at which a curve came down to losses.

    A noisy curve crosses a level many times, and its lowest value so far comes down too early, the more so the noisier
    it is, which would look like a gain of small batches. So the curve that never rises and lies closest to it (isotonic
    regression) is followed instead.

    Args:
        curve: Losses of one run.
        losses: Levels [unit of the loss], shape (k,).

    Returns:
        S [steps], shape (k,), NaN where the curve begins below the level or ends above it.

    Example:
        >>> curve = LossCurve(S=[10, 100, 1000], L=[5.0, 4.0, 3.0])
        >>> steps_to_losses(curve, [4.5, 3.5, 2.5]).round().tolist()
        [32.0, 316.0, nan]
    """
    levels = np.asarray(losses, dtype=np.float64)
    keep = curve.S > 0.0
    x, L = np.log(curve.S[keep]), curve.L[keep]
    if x.size < 2:
        return np.full(levels.shape, np.nan)
    return np.asarray(np.exp(_crossing(*_falling(x, L), levels)), dtype=np.float64)


def fit_critical_batch(
    curves: Sequence[LossCurve],
    *,
    B: ArrayLike | None = None,
    losses: ArrayLike | None = None,
    level: float = 0.9,
) -> CriticalBatchFit:
    r"""Fit B_crit(L) to the steps that runs at several batch sizes took to the same losses.

    .. math:: \left(\frac{S}{S_{min}} - 1\right) \left(\frac{E}{E_{min}} - 1\right) = 1
        \quad\Leftrightarrow\quad S = S_{min}(L) \, (1 + B_{crit}(L) / B), \qquad B_{crit}(L) = B_* / L^{1/\alpha_B}

    One S_min for each loss level and the two constants of B_crit are found by least squares in log S. A run's steps to
    neighbouring losses err together, so the intervals come from leaving out one run at a time (the jackknife), with
    Student's t; they need runs at three batch sizes whichever is left out, else they are not known. The choice of the
    levels matters too, as no run follows the law exactly: to the variance is added that of the fits without the third
    of the levels that is highest, and without the lowest.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eqs. 5.1 to 5.4.

    Args:
        curves: Runs of one model and data set at different batch sizes, at a constant learning rate (see the module).
        B: Batch size of each run [unit of the curves' batch per step]; default: the median of each curve's own. All
            are in tokens, or all in samples (``B_unit`` of the curves), and so is the answer.
        losses: Loss levels to compare at [unit of the loss]; default: 12 of equal ratio over the losses that all batch
            sizes, or where they end too far apart three of them, came to after their beginnings: the first tenth of
            their steps, and twice the warm-up, where the curve tells its learning rate.
        level: Probability that an interval holds its number [1].

    Returns:
        The law, its intervals and what it rests on. Where the runs do not tell it, the law is None with a reason.

    Raises:
        TypeError: If one of the curves is none.
        ValueError: If a batch size is missing or not positive, some count tokens and some samples, a loss level is not
            positive, or ``level`` is out of range.

    Example:
        >>> law, S = CriticalBatch(B_star=2e8, alpha_B=0.21), np.geomspace(100, 1e5, 200)
        >>> L = 2.0 + 20.0 * S**-0.3  # at B >> B_crit
        >>> runs = [LossCurve(S=S * (1.0 + law.B_crit(L) / B), L=L, B=B) for B in (2e4, 1e5, 5e5, 2e6)]
        >>> print(fit_critical_batch(runs).critical)
        B_crit(L) = 2e+08 tokens / L^4.762
    """
    require_curves(curves)
    if not 0.0 < level < 1.0:
        raise ValueError(f"Expected level between 0 and 1, got {level!r}, so give for example 0.9 for 90 %.")
    unit = _unit(curves)
    sizes, levels, log_S = _shared_losses(curves, B, losses)
    n_runs = sizes.size
    if _distinct(sizes) < 3 or levels.size < 2:
        why = (
            f"steps to the same losses are known at {_distinct(sizes)} batch sizes and {levels.size} losses, of which "
            "3 and 2 are the fewest. Give runs at more batch sizes that reach the same losses."
        )
        return _failure(why, levels, n_runs, level)
    pivot = float(np.log(levels).mean())
    problem = _Problem(log_S, np.log(sizes), np.log(levels) - pivot)
    best = problem.solve()
    if (trouble := problem.trouble(best)) is not None:
        return _failure(trouble, levels, n_runs, level)
    return _found(problem, best, levels, pivot, level, unit)


def _shared_losses(
    curves: Sequence[LossCurve], B: ArrayLike | None, losses: ArrayLike | None
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the batch sizes of the runs that can be compared, the losses to do it at, and log S of each at each."""
    sizes = _batch_sizes(curves, B)
    levels = _levels(curves, sizes, losses)
    log_S = np.log(np.array([steps_to_losses(curve, levels) for curve in curves]).reshape(len(curves), levels.size))
    enough = np.array([_distinct(sizes[np.isfinite(column)]) >= 2 for column in log_S.T], dtype=bool)
    levels, log_S = levels[enough], log_S[:, enough]
    used = np.isfinite(log_S).any(axis=1) if levels.size else np.zeros(len(curves), dtype=bool)
    return sizes[used], levels, log_S[used]


def _found(
    problem: _Problem, best: FloatArray, levels: FloatArray, pivot: float, level: float, unit: str
) -> CriticalBatchFit:
    """Return the law with its intervals, which come from leaving out one run at a time, and some of the levels."""
    n_runs = len(problem.log_S)
    V, reason = problem.jackknife(best)
    V = V + problem.spread_over_levels(best)
    t = float(stdtrit(max(n_runs - 2, 1), 0.5 + level / 2.0))

    def interval(log_mid: FloatArray, gradient: FloatArray) -> Interval:
        half = t * np.sqrt(np.einsum("...i,ij,...j->...", gradient, V, gradient))
        return Interval(np.exp(log_mid - half), np.exp(log_mid), np.exp(log_mid + half), level)

    x = np.log(levels) - pivot
    log_B_crit = best[0] - best[1] * x
    half = t * math.sqrt(V[1, 1])
    gentle, steep = float(best[1] - half), float(best[1] + half)  # 1/alpha_B; a law that rises has no exponent
    B_star = interval(np.array(best[0] + best[1] * pivot), np.array([1.0, pivot]))
    return CriticalBatchFit(
        critical=CriticalBatch(float(B_star.mid), 1.0 / float(best[1]), unit),
        reason=reason,
        B_star=B_star,
        alpha_B=Interval(1.0 / steep, 1.0 / float(best[1]), math.inf if gentle <= 0.0 else 1.0 / gentle, level),
        losses=levels,
        B_crit=interval(log_B_crit, np.stack([np.ones_like(x), -x], axis=1)),
        S_min=np.exp(problem.log_S_min(best)),
        residual=float(np.sqrt(np.mean(problem.residuals(best) ** 2))),
        n_runs=n_runs,
    )


class _Problem:
    """log S = log S_min(L) + log(1 + B_crit(L)/B), with log B_crit = p[0] - p[1] x and x = log L less its mean.

    Args:
        log_S: Shape (runs, levels), NaN where a run did not pass through a level.
        log_B: Shape (runs,).
        x: Shape (levels,).
    """

    def __init__(self, log_S: FloatArray, log_B: FloatArray, x: FloatArray) -> None:
        self.log_S, self.log_B, self.x = log_S, log_B, x
        self._there = np.isfinite(log_S)
        self._low = np.array([log_B.min() - math.log(_REACH), -_STEEPEST])
        self._high = np.array([log_B.max() + math.log(_REACH), _STEEPEST])

    def offsets(self, p: FloatArray) -> FloatArray:
        """Return log S_min as each run tells it, shape (runs, levels)."""
        return np.asarray(self.log_S - np.logaddexp(0.0, p[0] - p[1] * self.x - self.log_B[:, None]))

    def log_S_min(self, p: FloatArray) -> FloatArray:
        """Return the best log S_min of each level, the mean of what the runs tell."""
        n = np.maximum(self._there.sum(axis=0), 1)
        return np.asarray(np.where(self._there, self.offsets(p), 0.0).sum(axis=0) / n)

    def residuals(self, p: FloatArray) -> FloatArray:
        """Return what is left of log S, flat, 0 where there is nothing."""
        return np.asarray(np.where(self._there, self.offsets(p) - self.log_S_min(p), 0.0).ravel())

    def solve(self, start: FloatArray | None = None) -> FloatArray:
        """Return the best parameters; without a start, several are tried."""
        middle = np.linspace(self.log_B.min(), self.log_B.max(), 4)
        starts = [np.array([b, a]) for b in middle for a in (0.0, 5.0)] if start is None else [start]
        found = [least_squares(self.residuals, s, bounds=(self._low, self._high), x_scale=[1.0, 5.0]) for s in starts]
        return np.asarray(min(found, key=lambda f: f.cost).x)

    def trouble(self, p: FloatArray) -> str | None:
        """Return why parameters are no critical batch size, None where they are one."""
        edge = 1e-3 * (self._high - self._low)
        if p[0] < self._low[0] + edge[0]:
            return (
                "steps do not depend on the batch size: all batches are far above the critical one. Give smaller ones."
            )
        if p[0] > self._high[0] - edge[0]:
            return "steps fall as 1/B: all batches are far below the critical one. Give larger ones."
        if p[1] <= 0.0:
            return (
                f"B_crit falls with the loss (as L^{-p[1]:.2g}), where the law has it grow. Were all batch sizes "
                "trained at learning rates that suit them?"
            )
        if p[1] > self._high[1] - edge[1]:
            return f"B_crit seems to grow faster than L^-{_STEEPEST:g}. Give runs that cover more losses."
        return None

    def jackknife(self, p: FloatArray) -> tuple[FloatArray, str]:
        """Return the covariance of the parameters from leaving out one run at a time, and why there is none."""
        n = len(self.log_B)
        kept = [np.arange(n) != i for i in range(n)]
        if n < 4 or any(_distinct(np.exp(self.log_B[k])) < 3 for k in kept):
            return np.full((2, 2), np.nan), "intervals need runs at three batch sizes whichever run is left out"
        left = np.array([_Problem(self.log_S[k], self.log_B[k], self.x).solve(p) for k in kept])
        off = left - left.mean(axis=0)
        return (n - 1.0) / n * (off.T @ off), ""

    def spread_over_levels(self, p: FloatArray) -> FloatArray:
        """Return the covariance of the parameters from leaving out the highest or the lowest third of the levels."""
        if self.x.size < _FEW_LEVELS:
            return np.zeros((2, 2))
        low, high = np.quantile(self.x, [1.0 / 3.0, 2.0 / 3.0])
        kept = (self.x <= high, self.x >= low)
        off = np.array([_Problem(self.log_S[:, k], self.log_B, self.x[k]).solve(p) - p for k in kept])
        return np.asarray(off.T @ off / len(off))


def _unit(curves: Sequence[LossCurve]) -> str:
    """Return what all batch sizes count."""
    units = sorted({curve.B_unit for curve in curves if curve.B is not None})
    if len(units) > 1:
        raise ValueError(
            f"Expected batch sizes in one unit, got {' and '.join(units)}, so give runs of one, or build the curves of "
            "all with B in tokens."
        )
    return units[0] if units else "tokens"


def _batch_sizes(curves: Sequence[LossCurve], B: ArrayLike | None) -> FloatArray:
    if B is None:
        given = [math.nan if curve.B is None or not len(curve) else float(np.median(curve.B)) for curve in curves]
    else:
        given = np.asarray(B, dtype=np.float64).ravel().tolist()
    if len(given) != len(curves) or not all(0.0 < size < math.inf for size in given):
        raise ValueError(
            f"Expected a batch size above 0 for each of {len(curves)} curves, got {given}, so give B=[…] in samples or "
            "tokens per step."
        )
    return np.array(given, dtype=np.float64)


def _levels(curves: Sequence[LossCurve], sizes: FloatArray, losses: ArrayLike | None) -> FloatArray:
    """Return the levels to compare at, falling: those given, or some that runs came to after their beginnings."""
    if losses is not None:
        levels = np.unique(np.asarray(losses, dtype=np.float64))[::-1]
        if not np.all((levels > 0.0) & np.isfinite(levels)):
            raise ValueError(f"Expected losses above 0, got {losses!r}, so give levels in the unit of the curves.")
        return np.asarray(levels)
    begins: dict[float, float] = {}
    ends: dict[float, float] = {}
    for size, curve in zip(sizes, curves, strict=True):
        if (reach := _reach(curve)) is not None:
            begins[size] = min(begins.get(size, math.inf), reach[0])
            ends[size] = min(ends.get(size, math.inf), reach[1])
    if len(begins) < 3:
        return np.zeros(0)
    top, last, third = min(begins.values()), max(ends.values()), sorted(ends.values())[2]
    if not 0.0 < third < top:
        return np.zeros(0)
    # Where some runs end far above the others, they are compared at the losses that they came to.
    end = last if last < top and math.log(top / last) >= 0.5 * math.log(top / third) else third
    # A noisy curve says little of its last losses, so a twentieth of the range is left out at both sides.
    return np.geomspace(top, end, _N_LEVELS + 2)[1:-1]


def _reach(curve: LossCurve) -> tuple[float, float] | None:
    """Return the losses of a run once its beginning is over, and at its end; None where it is too short."""
    if np.count_nonzero(curve.S > 0.0) < 2:
        return None
    keep = curve.S > 0.0
    begin = _TRANSIENT * float(curve.S[-1])
    if curve.lr is not None and curve.lr.max() > 0.0:
        warm = int(np.argmax(curve.lr >= _WARM * curve.lr.max()))
        if warm:
            begin = max(begin, _AFTER_WARM_UP * float(curve.S[warm]))
    if begin >= curve.S[-1]:
        return None
    x, falling = _falling(np.log(curve.S[keep]), curve.L[keep])
    return float(np.interp(math.log(begin), x, falling)), float(falling[-1])


def _falling(x: FloatArray, L: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the falling curve closest to L in the mean square, at the means of x over its level stretches."""
    blocks: list[tuple[float, float, int]] = []  # sums of x and L, points
    for point in zip(x.tolist(), L.tolist(), strict=True):
        sx, sL, n = *point, 1
        while blocks and blocks[-1][1] * n <= sL * blocks[-1][2]:  # not above the mean that follows: pool them
            px, pL, pn = blocks.pop()
            sx, sL, n = sx + px, sL + pL, n + pn
        blocks.append((sx, sL, n))
    sums = np.array(blocks)
    return sums[:, 0] / sums[:, 2], sums[:, 1] / sums[:, 2]


def _crossing(x: FloatArray, falling: FloatArray, levels: FloatArray) -> FloatArray:
    """Return where a curve that falls everywhere crosses levels, NaN where it does not."""
    below = np.searchsorted(-falling, -levels, side="left")  # first point at or below the level
    inside = (below > 0) & (below < falling.size)
    if falling.size < 2:
        return np.full(levels.shape, np.nan)
    i = np.clip(below, 1, falling.size - 1)
    share = (falling[i - 1] - levels) / (falling[i - 1] - falling[i])
    return np.asarray(np.where(inside, x[i - 1] + share * (x[i] - x[i - 1]), np.nan))


def _distinct(sizes: FloatArray) -> int:
    return int(np.unique(np.round(np.log(sizes), 6)).size)


def _failure(why: str, levels: FloatArray, n_runs: int, level: float) -> CriticalBatchFit:
    unknown = Interval(math.nan, math.nan, math.nan, level)
    nothing = np.full(levels.shape, np.nan)
    return CriticalBatchFit(
        None, why, unknown, unknown, levels, Interval(nothing, nothing, nothing, level), nothing, math.nan, n_runs
    )
