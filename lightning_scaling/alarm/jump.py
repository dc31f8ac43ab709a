"""Jump: losses that lie above those just before them by more than their noise and the forecast's shape explain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dposv

__all__ = ["Jump", "Noise", "find_jump", "noise_of"]

FloatArray = NDArray[np.float64]

#: A square counts up to so many times their mean; what that leaves out; a normal distribution's median square.
_CAP, _LEFT_OUT, _MEDIAN_SQUARE = 9.0, 1.05, 0.4549
#: Most that noise is taken to be correlated from value to value; what a level and a slope take up of the values.
_MOST_CORRELATED, _TAKEN = 0.95, 2.0
#: Age of a jump [shares of the run], and losses and values since then; values before it.
_YOUNGEST, _OLDEST, _LOSSES, _VALUES, _BEFORE = 0.006, 0.02, 3, 2, 12
#: Shares of the loss's own fall by which the slope may be off, and its change when the forecast was made at most; share
#: of a bend that was forecast which may not come in time.
_SLOPE, _KINK, _BEND = 0.2, 0.5, 0.5
#: Fits of the level before a jump, each leaving out what the one before did not explain.
_FITS = 3
#: Sigmas up to which a value counts: for the level before a jump and where one begins, for how sure the jump is, and
#: for its size.
_CLIP, _COUNTS, _MEASURED = 2.5, 5.0, 20.0
#: Share of a jump that has to be left, in so much of the losses since then, and in the newest third of them.
_LEFT, _MOSTLY = 0.5, 0.6
#: Variance of losses of size 1 that is rounding.
_TINY = 1e-30


@dataclass(frozen=True)
class Noise:
    """Noise of losses, averaged over neighbouring steps.

    Args:
        variance: Of the mean of n losses, times n [unit of the loss squared].
        correlation: From one value to the next [1], 0 where they are independent.
    """

    variance: float
    correlation: float


@dataclass(frozen=True)
class Jump:
    """The largest jump upwards that lasts, and how large jumps of any kind are.

    Args:
        start: Place of its first value.
        sigma: Its size [standard deviations]; minus infinity where there is none.
        size: Its size [unit of the loss].
        largest: The largest jump, upwards or downwards, whether it lasts or not [standard deviations].
    """

    start: int
    sigma: float
    size: float
    largest: float


def noise_of(rest: FloatArray) -> Noise | None:
    r"""Measure the noise of values about a line that was fitted to them.

    The correlation is that of neighbours, with large ones cut off, less what the line has taken out of it, and one
    standard deviation more: noise that is taken for less correlated than it is makes jumps.

    .. math:: \phi = \frac{r + 2/M}{1 - 4/M} + \sqrt{\frac{1 - r^2}{M}}, \qquad
              r = \frac{\sum_i x_i x_{i-1}}{\sum_i x_i^2}

    The variance is the mean square of :math:`(x_i - \phi x_{i-1})/\sqrt{1 - \phi^2}`.

    Args:
        rest: What the values are off the line [unit of the loss], shape (M,), M above 8.

    Returns:
        The noise; None where there is none.

    Example:
        >>> noise = noise_of(np.random.default_rng(2).normal(0.0, 0.1, 60))
        >>> round(noise.correlation, 2), round(noise.variance, 3)
        (0.09, 0.011)
    """
    M, most = rest.size, _CLIP * math.sqrt(_middle(np.sort(rest * rest)) / _MEDIAN_SQUARE)
    if not most > 0.0:
        return None
    clipped = _cut(rest, most)
    r = float(clipped[1:] @ clipped[:-1]) / float(clipped @ clipped)
    phi = (r + _TAKEN / M) / (1.0 - 2.0 * _TAKEN / M) + math.sqrt((1.0 - r * r) / M)
    phi = min(max(phi, 0.0), _MOST_CORRELATED)
    return Noise(_mean_square(_innovations(rest, phi)) * M / (M - _TAKEN), phi)


def _middle(ordered: FloatArray) -> float:
    """Return the median of values in order."""
    return 0.5 * float(ordered[(ordered.size - 1) // 2] + ordered[ordered.size // 2])


def _cut(x: FloatArray, most: float | FloatArray) -> FloatArray:
    """Return values with large ones cut off: `numpy.clip` takes several times as long for so few."""
    return np.maximum(np.minimum(x, most), -most)


def _mean_square(x: FloatArray) -> float:
    """Return the mean square; large ones are cut off."""
    squares = np.sort(x * x)
    M, sums = squares.size, squares.cumsum()
    most = max(int(0.9 * M), 1)
    mean = max(_middle(squares) / _MEDIAN_SQUARE, float(sums[most - 1]) / most)
    for _ in range(3):
        whole = int(squares.searchsorted(_CAP * mean))
        mean = _LEFT_OUT * float((sums[whole - 1] if whole else 0.0) + (M - whole) * _CAP * mean) / M
    return mean


def _innovations(x: FloatArray, phi: float) -> FloatArray:
    """Return what each value but the first, along the last axis, brings that does not follow from the one before."""
    return np.asarray((x[..., 1:] - phi * x[..., :-1]) / math.sqrt(1.0 - phi * phi))


def find_jump(
    end: FloatArray,
    S: FloatArray,
    n: FloatArray,
    L: FloatArray,
    said: FloatArray,
    *,
    since: float,
    made: float,
    kink: float,
    T: float,
) -> Jump | None:
    r"""Look for a jump among the newest losses, held against those just before.

    The losses since a step are taken for what was said of them, off by a level, by a slope, by a change of the slope
    when the forecast was made, and by a jump that began with any one value of the newest 2 % of the run. Least squares
    give its size and standard deviation. The slopes are known up to a share of the loss's own fall, the change as well
    as the forecast itself says. The noise is that of the values before, and both sides are whitened for its
    correlation. No value counts more than 5 sigma, the first of a jump no more than 2.5: one value may be a spike, and
    where the noise is correlated, a large one carries those after it along. Where what follows the first shows the jump
    more clearly by itself, that is what counts. The variance being measured from M values, z stands for

    .. math:: \sqrt{\nu \log(1 + z^2/\nu)}, \qquad \nu = M - 2

    Args:
        end: Last step of each value, the oldest first [steps], shape (M,).
        S: Its mean step [steps], shape (M,).
        n: Losses in it [1], shape (M,).
        L: Their mean [unit of the loss], shape (M,).
        said: What the forecast said of it; in its past, what the smoothed losses were [same unit], shape (M,).
        since: First step of which that is known [steps].
        made: Step of the forecast [steps].
        kink: Standard deviation of the slope that it forecasts [unit of the loss per step].
        T: Length of the run [steps].

    Returns:
        What was found; None where nothing can be said.
    """
    inside = int(S.searchsorted(since))
    end, S, n, M = end[inside:], S[inside:], n[inside:], S.size - inside
    # Where the first and the last of those that may begin one stand: at least 12 have to be before them, 2 to 3 after.
    first = max(_BEFORE, 1 + int(end.searchsorted(made)))
    if first >= M:
        return None
    first += int(np.count_nonzero(S[-1] - S[first:] > _OLDEST * T))
    old = np.count_nonzero(end[-1] - end[first - 1 : -1] >= _YOUNGEST * T)
    enough = np.count_nonzero(n[: first - 1 : -1].cumsum() >= _LOSSES)
    ripe = min(int(old), int(enough), M - first + 1 - _VALUES)
    both = np.array((L[inside:], said[inside:]))
    unit = float(np.abs(both).max())
    if ripe < 1 or not 0.0 < unit < math.inf:
        return None
    L, said = both = both / unit
    fall = _fall(L, said, first)
    spread = (_SLOPE * fall, min(_KINK * fall, kink / unit * float(S[-1] - S[0])))
    line = _Line.through(S, n, L - said, spread, first, made)
    if line is None:
        return None
    z, size = line.jumps(_BEND * _bend(S, said, first))
    best, freedom = int(z.max(axis=0).argmax()), first - _TAKEN
    start, sigma = first + best, _sigmas(float(z[:, best].max()), freedom)
    largest, height = (
        _sigmas(float(np.abs(z[:, :ripe]).max()), freedom),
        float(size[int(z[1, best] > z[0, best]), best]),
    )
    if best < ripe and sigma > _CLIP and _lasts(line.off(start), n[start:], height):
        return Jump(inside + start, sigma, unit * height, largest)
    # There is none, or it is too young to tell.
    return Jump(inside + M, -math.inf, 0.0, largest)


def _sigmas(z: float, freedom: float) -> float:
    """Return the sigmas for which those of a variance that was measured stand."""
    return math.copysign(math.sqrt(freedom * math.log1p(z * z / freedom)), z)


def _fall(L: FloatArray, said: FloatArray, before: int) -> float:
    """Return by how much the loss falls, by itself or as it was said to, over all values."""
    third = max(before // 3, 1)
    own = 1.5 * abs(float(L[:third].sum() - L[before - third : before].sum())) / third * L.size / before
    return max(own, abs(float(said[0] - said[-1])))


def _bend(S: FloatArray, said: FloatArray, before: int) -> float:
    """Return by how much the newest loss was said to lie below the line through what was said before any jump."""
    last, middle = before - 1, (before - 1) // 2
    slope = float(said[last] - said[middle]) / float(S[last] - S[middle])
    return max(float(said[last] - said[-1]) + slope * float(S[-1] - S[last]), 0.0)


def _prior(spread: tuple[float, float], sd: float) -> FloatArray:
    """Return what is known of level and slopes, as a matrix of precisions."""
    prior = np.zeros((3, 3))
    prior[1, 1], prior[2, 2] = (max(share, 1e-6 * sd) ** -2 for share in spread)
    return prior


def _fitted(rows: FloatArray, weighted: FloatArray, prior: FloatArray) -> FloatArray:
    """Fit the last row by the others, of whose factors something is known; return what is off by 1 of each row."""
    gram, off_by = weighted @ rows.T, np.ones(4)
    off_by[:3] = _solved(gram[:3, :3] + prior, -gram[:3, 3])
    return off_by


def _solved(gram: FloatArray, right: FloatArray) -> FloatArray:
    """Solve normal equations: `numpy.linalg.solve` takes several times as long for so few."""
    _, solved, failed = dposv(gram, right)
    return np.asarray(np.linalg.solve(gram, right) if failed else solved)


def _trust(rest: FloatArray) -> FloatArray:
    """Return weights of values, which are the less the farther they are off."""
    squares = rest * rest
    scale = _CLIP**2 * _middle(np.sort(squares)) / _MEDIAN_SQUARE + _TINY
    return np.asarray(scale / (scale + squares))


@dataclass(frozen=True, eq=False)
class _Line:
    """The level and slopes of what the losses are off, fitted to those before any jump, in units of their noise.

    Args:
        rows: Level, slope, change of slope and losses, each times the root of its number of losses, shape (4, M).
        white: The same without what follows from the value before.
        prior: What is known of level and slopes, as a matrix of precisions, shape (3, 3).
        off_by: What is off by 1 of each row, shape (4,).
        first: Place of the first value that may begin a jump.
        sd: Standard deviation of the noise of one loss.
        phi: Its correlation from value to value.
    """

    rows: FloatArray
    white: FloatArray
    prior: FloatArray
    off_by: FloatArray
    first: int
    sd: float
    phi: float

    @classmethod
    def through(
        cls, S: FloatArray, n: FloatArray, off: FloatArray, spread: tuple[float, float], first: int, made: float
    ) -> _Line | None:
        """Fit one, its slopes having these standard deviations; None where there is no noise."""
        span = float(S[-1] - S[0])
        rows = np.array((np.ones(S.size), (S - S[0]) / span - 0.5, np.maximum(S - made, 0.0) / span, off)) * np.sqrt(n)
        before = rows[:, :first]
        y = before[-1]
        rough = math.sqrt(_mean_square(y[1:-1] - 0.5 * (y[2:] + y[:-2])) / 1.5)
        if not rough * rough > _TINY:
            return None
        prior = _prior(spread, rough) * rough**2
        off_by = _fitted(before, before, prior)
        for _ in range(_FITS - 1):
            off_by = _fitted(before, before * _trust(off_by @ before), prior)
        noise = noise_of(off_by @ before)
        if noise is None or not noise.variance > _TINY:
            return None
        sd, phi = math.sqrt(noise.variance), noise.correlation
        white, prior = rows / sd, _prior(spread, sd)
        if phi:
            white[:, 1:] = _innovations(white, phi)
        before = white[:, :first]
        off_by = _fitted(before, before * _trust(off_by @ before), prior)
        return cls(rows, white, prior, off_by, first, sd, phi)

    def off(self, start: int) -> FloatArray:
        """Return what the values from a place on are off it, beside a jump [their unit]."""
        return np.asarray(self.off_by @ self.rows[:, start:] / self.rows[0, start:])

    def jumps(self, unsure: float) -> tuple[FloatArray, FloatArray]:
        """Return the jumps that begin with each value, in sigmas and in their unit, with it and without, shape (2, K).

        They are those of least squares of a jump beside the line, for all of its places at once: by the normal
        equations of the line, which leaving a value out changes by one rank only.

        Args:
            unsure: Standard deviation of what the newest losses may be off by whether there is a jump or not.
        """
        X, first = self.white[:-1], self.first
        rest = _cut(self.off_by @ self.white, np.array([[_COUNTS], [_MEASURED]]))
        right = X @ rest.T + (self.prior @ self.off_by[:-1])[:, None]
        # A jump is the whitened weight from its second value on, as the level is, and at its first value the head.
        at, begun = X[:, first:], rest[:, first:]
        head = self.rows[0, first:] / (self.sd * math.sqrt(1.0 - self.phi**2))
        sums = np.zeros((5, head.size))
        sums[:, :-1] = (np.concatenate((at, begun)) * at[0])[:, :0:-1].cumsum(axis=1)[:, ::-1]
        cross, score = sums[:3], sums[3:]
        solved = _solved(X @ X.T + self.prior, np.concatenate((right, cross, at), axis=1))
        b, by_cross, by_at = solved[:, :2], solved[:, 2 : 2 + head.size], solved[:, 2 + head.size :]
        # Where the first value is left out, the line is free of it too.
        shared = (cross * by_at).sum(axis=0) / np.maximum(1.0 - (at * by_at).sum(axis=0), _TINY)
        whole, clipped = cross + head * at, _cut(begun, np.array([[_CLIP], [_MEASURED]]))
        most = np.array((sums[0] + head**2, sums[0]))
        shown = (whole * (by_cross + head * by_at)).sum(axis=0), (cross * (by_cross + shared * by_at)).sum(axis=0)
        gain = np.array((score - b.T @ whole + head * clipped, score - b.T @ cross + shared * (begun - b.T @ at)))
        precision = most - np.array(shown)
        seen = precision > 1e-9 * most
        precision = np.where(seen, precision, 1.0)
        z = np.where(seen, gain[:, 0] / np.sqrt(precision * (1.0 + precision * unsure**2)), 0.0)
        return z, gain[:, 1] / precision


def _lasts(off: FloatArray, n: FloatArray, size: float) -> bool:
    """Return whether a jump is there in most of its losses, and still in the newest of them."""
    third, least = max(_VALUES, (off.size + 2) // 3), _LEFT * size
    newest = float(off[-third:] @ n[-third:]) / float(n[-third:].sum())
    return newest > least and bool(n[off > least].sum() >= _MOSTLY * n.sum())
