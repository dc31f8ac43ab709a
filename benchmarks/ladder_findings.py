"""What the store of a ladder says: L against N, L(N, S), sample efficiency, compute frontier, batches, forecasts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.stats import f as f_distribution
from scipy.stats import t as t_distribution

from lightning_scaling import Forecast, Interval, LossCurve, RunStore, StoredRun, forecast
from lightning_scaling.batch_size.critical import CriticalBatchFit, fit_critical_batch, steps_to_losses
from lightning_scaling.joint import JointFit, fit_joint
from lightning_scaling.laws import CriticalBatch

Array = NDArray[np.float64]

#: Shares of a run at which it is forecast again.
SHARES = (0.0, 0.1, 0.2, 0.3, 0.5)
SCHEDULES = ("cosine", "constant")
LEVEL = 0.9
#: Share of these short runs that is transient: left out of the joint fits.
FIRST = 0.2


@dataclass(frozen=True)
class SizeLaw:
    """L against N, with intervals: L = E + (N_c/N)^alpha_N, E = 0 for the plain power law."""

    alpha_N: Interval
    N_c: Interval
    E: Interval
    residual: float

    def loss(self, N: Array) -> Array:
        return np.asarray(self.E.mid + (self.N_c.mid / N) ** self.alpha_N.mid)


@dataclass(frozen=True)
class Efficient:
    """The compute-efficient frontier as read off the curves: best size and lowest loss at amounts of compute."""

    C: Array
    N: Array
    L: Array
    N_power: Interval
    L_power: Interval


@dataclass(frozen=True)
class Look:
    """A run of the ladder forecast at one share of it, with other sizes in the store and without."""

    run: StoredRun
    share: float
    with_store: Forecast
    without: Forecast


class Ladder:
    """The finished runs of a store of the ladder.

    Args:
        store: The store, or its runs.

    Raises:
        ValueError: If it holds fewer than three sizes of one schedule, length and batch.
    """

    def __init__(self, store: RunStore | Sequence[StoredRun]) -> None:
        runs = store.runs(state="finished") if isinstance(store, RunStore) else store
        self.runs = [run for run in runs if run.state == "finished" and run.N is not None]
        rungs = [run for run in self.runs if run.tags.get("part") == "ladder"]
        self.by_schedule = {
            kind: sorted((r for r in rungs if r.tags["schedule"] == kind), key=lambda r: r.N or 0.0)
            for kind in SCHEDULES
        }
        if min(map(len, self.by_schedule.values())) < 2:
            raise ValueError("Expected two sizes or more of each schedule, got fewer, so train the ladder first.")
        scanned = next((run.tags["width"] for run in self.runs if run.tags.get("part") == "batch"), None)
        same = [r for r in self.by_schedule["constant"] if r.tags["width"] == scanned]
        self.scan = sorted(
            [*same, *(r for r in self.runs if r.tags.get("part") == "batch")], key=lambda r: r.batch or 0.0
        )

    @property
    def constant(self) -> list[LossCurve]:
        """Curves of all sizes at a constant rate."""
        return [run.curve for run in self.by_schedule["constant"]]

    @property
    def batch(self) -> float:
        """Tokens of a step."""
        return float(self.by_schedule["constant"][0].batch or 0.0)

    def batch_fit(self) -> CriticalBatchFit:
        """Fit B_crit(L) to the scan of batch sizes."""
        return fit_critical_batch([run.curve for run in self.scan])

    def joint(self, *, offset: bool, critical: CriticalBatch | None = None, first: float = FIRST) -> JointFit:
        return fit_joint(self.constant, offset=offset, critical=critical, first=first)

    def looks(self, kind: str, *, only_smaller: bool, least: int = 0) -> list[Look]:
        """Forecast runs of the ladder again, each without the runs of its size, or without those of its size and above.

        Args:
            kind: Schedule of the runs that are forecast; the store lends runs of all schedules.
            only_smaller: Leave out larger models too.
            least: First of the sizes that is forecast.
        """
        found = []
        for run in self.by_schedule[kind][least:]:
            N = float(run.N or 0.0)
            others = [r for r in self.runs if (r.N or 0.0) < 0.99 * N or (not only_smaller and (r.N or 0.0) > 1.01 * N)]
            for share in SHARES:
                curve = run.curve.until(share * run.curve.step) if share else LossCurve([], [], N=run.N)
                plan = {"horizon": run.horizon, "lr_schedule": run.lr_schedule}
                found.append(Look(run, share, forecast(curve, **plan, store=others), forecast(curve, **plan)))
        return found


def in_size(N: Array, L: Array, *, offset: bool) -> SizeLaw:
    """Fit L against N by least squares in log L - E; the interval of E is where the F-test does not reject it."""
    x = np.log(N)
    shares = np.linspace(0.0, 0.98, 981) if offset else np.zeros(1)
    n, p = x.size, 3 if offset else 2
    found = []
    for E in shares * L.min():
        slope, at = np.polyfit(x, np.log(L - E), 1)
        rest = E + np.exp(at + slope * x) - L
        found.append((float(rest @ rest), E, -slope, at))
    squares, E, alpha, at = np.array(found).T
    best = int(squares.argmin())
    N_c = np.exp(at / alpha)
    if not offset:
        s2 = np.sum((np.log(L) - at[0] + alpha[0] * x) ** 2) / max(n - p, 1)
        half = float(t_distribution.ppf(0.5 + LEVEL / 2.0, max(n - p, 1)) * np.sqrt(s2 / np.sum((x - x.mean()) ** 2)))
        middle = float(at[0] - alpha[0] * x.mean())  # of log L, all but free of the slope
        scales = [float(np.exp(x.mean() + middle / a)) for a in (alpha[0] - half, alpha[0] + half)]
        return SizeLaw(
            Interval(alpha[0] - half, alpha[0], alpha[0] + half, LEVEL),
            Interval(min(scales), N_c[0], max(scales), LEVEL),
            Interval(0.0, 0.0, 0.0, LEVEL),
            float(np.sqrt(squares[0] / n)),
        )
    limit = squares[best] * (1.0 + f_distribution.ppf(LEVEL, 1, max(n - p, 1)) / max(n - p, 1))
    inside = squares <= limit

    def around(values: Array) -> Interval:
        return Interval(float(values[inside].min()), float(values[best]), float(values[inside].max()), LEVEL)

    return SizeLaw(around(alpha), around(N_c), around(E), float(np.sqrt(squares[best] / n)))


def efficiency(curves: Sequence[LossCurve], batch: float, levels: Array) -> Array:
    """Return the tokens after which each run came down to each loss, shape (runs, levels), NaN where it did not."""
    return np.array([steps_to_losses(curve, levels) * batch for curve in curves])


def common_levels(curves: Sequence[LossCurve], n: int) -> Array:
    """Return losses from what the smallest model ends at down to what the largest ends at, falling."""
    ends = [_end(c) for c in curves]
    return np.geomspace(1.2 * max(ends), 1.01 * min(ends), n)


def frontier(curves: Sequence[LossCurve], batch: float, n: int = 25) -> Efficient:
    """Return the lower envelope of the curves over compute 6 N B S, and its powers, by least squares.

    The ends of the range, where the smallest or the largest model is best because there is no other, are left out.
    """
    levels = np.geomspace(*_range(curves), n)
    compute = np.array([6.0 * (c.N or 0.0) * batch * steps_to_losses(c, levels) for c in curves])
    C = np.nanmin(np.where(np.isfinite(compute), compute, np.inf), axis=0)
    best = np.argmin(np.where(np.isfinite(compute), compute, np.inf), axis=0)
    N = np.array([float(c.N or 0.0) for c in curves])[best]
    inner = np.isfinite(C) & (best > 0) & (best < len(curves) - 1)
    return Efficient(C, N, levels, _slope(C[inner], N[inner]), _slope(C[inner], levels[inner]))


def _range(curves: Sequence[LossCurve]) -> tuple[float, float]:
    ends = [_end(c) for c in curves]
    return 1.4 * max(ends), 1.005 * min(ends)


def _end(curve: LossCurve) -> float:
    return float(np.average(curve.L[-5:], weights=curve.count[-5:]))


def _slope(x: Array, y: Array) -> Interval:
    if x.size < 4:
        return Interval(np.nan, np.nan, np.nan, LEVEL)
    log_x, log_y = np.log(x), np.log(y)
    (slope, at), n = np.polyfit(log_x, log_y, 1), x.size
    rest = log_y - at - slope * log_x
    error = np.sqrt(rest @ rest / (n - 2) / np.sum((log_x - log_x.mean()) ** 2))
    half = float(t_distribution.ppf(0.5 + LEVEL / 2.0, n - 2) * error)
    return Interval(slope - half, slope, slope + half, LEVEL)
