"""Jump: losses that lie above those just before them by more than their noise and the forecast's shape explain."""

from __future__ import annotations

import math
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray

__all__ = ["Jump", "Noise", "find_jump", "noise_of"]

FloatArray = NDArray[np.float64]

#: Distances of the second differences that noise is measured by, and fewest values that each asks for.
_LAGS, _ASKED = (1, 2, 4, 8), (12, 24, 32, 48)
#: Newest values that the noise is measured by, at least and at most, and those of how much of the run between.
_LEAST_NOISE, _MOST_NOISE, _SHARE_NOISE = 32, 128, 0.15
#: A square counts up to so many times their mean; what that leaves out; a normal distribution's median square.
_CAP, _LEFT_OUT, _MEDIAN_SQUARE = 9.0, 1.05, 0.4549
#: Correlation from one value to the next: below the first it is taken for chance, none is taken for more than the last.
_CORRELATED, _MOST_CORRELATED = 0.2, 0.95
#: Age of a jump [shares of the run], and losses and values since then; in correlated noise so many values for each
#: over which it is forgotten, but no more than the last.
_YOUNGEST, _OLDEST, _LOSSES, _VALUES, _MEMORIES, _PATIENCE = 0.006, 0.02, 3, 2, 2.0, 11.0
#: Values that go before it, and in all.
_BEFORE, _FEWEST = 8, 14
#: Shares of the loss's own fall by which the slope may be off, and its change when the forecast was made.
_SLOPE, _KINK = 0.2, 0.5
#: In correlated noise one value may carry a jump, and tails are heavy: by how much it counts for less, times the
#: correlation.
_DOUBT = 1.0
#: Sigmas up to which a value counts: for the level before a jump, for how sure the jump is, and for its size.
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


def _roughness(correlation: FloatArray) -> FloatArray:
    """Return the mean square of second differences, in those of independent values."""
    return np.asarray((1.0 - correlation) * (3.0 - correlation) / 3.0)


_GRID = np.linspace(0.0, 0.98, 50)
_RATIOS = [_roughness(_GRID**lag) / _roughness(_GRID) for lag in _LAGS]


def noise_of(n: FloatArray, L: FloatArray) -> Noise | None:
    r"""Measure noise, and its correlation, by second differences, which leave out what is smooth.

    For noise of variance V and correlation :math:`\phi` from one value to the next, the mean square of
    :math:`x_i - \frac12(x_{i-k} + x_{i+k})` is :math:`\frac12 V (1 - \phi^k)(3 - \phi^k)`: how it grows with k
    gives the correlation, and its size at k = 1 the variance.

    Args:
        n: Losses in each value [1], shape (M,).
        L: The values [unit of the loss], shape (M,).

    Returns:
        The noise; None where there are too few values, or none of it.

    Example:
        >>> noise_of(np.ones(60), np.random.default_rng(2).normal(3.0, 0.1, 60)).correlation
        0.0
    """
    squares = [_square(n, L, lag) for lag, asked in zip(_LAGS, _ASKED, strict=True) if L.size >= asked]
    if not squares or not squares[0] > 0.0:
        return None
    known = [float(np.interp(s / squares[0], r, _GRID)) for s, r in zip(squares[1:], _RATIOS[1:], strict=False)]
    correlation = min(median(known), _MOST_CORRELATED) if known else 0.0
    if correlation < _CORRELATED:
        correlation = 0.0
    return Noise(squares[0] / float(_roughness(np.array(correlation))), correlation)


def _square(n: FloatArray, L: FloatArray, lag: int) -> float:
    """Return the mean square of second differences in those of one loss; large ones are cut off."""
    line = L[lag:-lag] - 0.5 * (L[2 * lag :] + L[: -2 * lag])
    squares = np.sort(line**2 / (1.0 / n[lag:-lag] + 0.25 * (1.0 / n[2 * lag :] + 1.0 / n[: -2 * lag])))
    M, sums = squares.size, np.concatenate(([0.0], np.cumsum(squares)))
    middle, most = 0.5 * float(squares[(M - 1) // 2] + squares[M // 2]), max(int(0.9 * M), 1)
    mean = max(middle / _MEDIAN_SQUARE, float(sums[most]) / most)
    for _ in range(3):
        whole = int(squares.searchsorted(_CAP * mean))
        mean = _LEFT_OUT * float(sums[whole] + (M - whole) * _CAP * mean) / M
    return mean


def find_jump(
    end: FloatArray,
    S: FloatArray,
    n: FloatArray,
    L: FloatArray,
    said: FloatArray,
    *,
    since: float,
    made: float,
    T: float,
) -> Jump | None:
    r"""Look for a jump among the newest losses, held against those just before.

    The losses since a step are taken for what was said of them, off by a level, by a slope, by a change of the slope
    when the forecast was made, and by a jump that began with any one value of the newest 2 % of the run. Least squares
    give its size and standard deviation: both sides are whitened for correlated noise, the slopes are known up to a
    share of the loss's own fall, no value counts more than 5 sigma, and what correlated noise brings about counts less.

    Args:
        end: Last step of each value, the oldest first [steps], shape (M,).
        S: Its mean step [steps], shape (M,).
        n: Losses in it [1], shape (M,).
        L: Their mean [unit of the loss], shape (M,).
        said: What the forecast said of it; in its past, what the smoothed losses were [same unit], shape (M,).
        since: First step of which that is known [steps].
        made: Step of the forecast [steps].
        T: Length of the run [steps].

    Returns:
        What was found; None where nothing can be said.
    """
    inside = int(np.searchsorted(S, since))
    unit = float(max(np.abs(L).max(), np.abs(said).max())) if S.size - inside >= _FEWEST else 0.0
    if not 0.0 < unit < math.inf:
        return None
    off, L, said = L / unit - said / unit, L / unit, said / unit
    newest = min(max(int((S > S[-1] - _SHARE_NOISE * T).sum()), _LEAST_NOISE), _MOST_NOISE)
    noise = noise_of(n[-newest:], off[-newest:])
    if noise is None or noise.variance < _TINY:
        return None
    begin = np.concatenate(([S[0] - 1.0], end[:-1]))[inside:]
    L, S, n, off, said = (x[inside:] for x in (L, S, n, off, said))
    age, losses, place = (end[-1] - begin) / T, np.cumsum(n[::-1])[::-1], np.arange(S.size)
    memory = _MEMORIES / -math.log(noise.correlation) if noise.correlation else 0.0
    starts = np.flatnonzero((begin >= made) & (age <= _OLDEST) & (place >= _BEFORE))
    if not starts.size:
        return None
    ripe = (age >= _YOUNGEST) & (losses >= _LOSSES) & (S.size - place >= max(_VALUES, min(memory, _PATIENCE)))
    ripe = ripe[starts]
    if not ripe.any():
        return None
    z, size, left = _least_squares(S, n, off, _fall(L, said, int(starts[0])), noise, starts, made)
    z /= 1.0 + _DOUBT * noise.correlation
    largest = float(np.abs(z[ripe]).max())
    best = int(np.argmax(z))
    if ripe[best] and z[best] > _CLIP and _lasts(left[starts[best] :], n[starts[best] :], float(size[best])):
        return Jump(inside + int(starts[best]), float(z[best]), unit * float(size[best]), largest)
    # There is none, or it is too young to tell.
    return Jump(inside + S.size, -math.inf, 0.0, largest)


def _fall(L: FloatArray, said: FloatArray, before: int) -> float:
    """Return by how much the loss falls, by itself or as it was said to, over all values."""
    third = max(before // 3, 1)
    own = 1.5 * abs(float(L[:third].mean() - L[before - third : before].mean())) * L.size / before
    return max(own, abs(float(said[0] - said[-1])))


def _least_squares(
    S: FloatArray,
    n: FloatArray,
    off: FloatArray,
    fall: float,
    noise: Noise,
    starts: NDArray[np.intp],
    made: float,
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Return the jump at each start in sigmas and in its unit, and what the values are off without it."""
    span = float(S[-1] - S[0])
    shape = np.stack([np.ones(S.size), (S - S[0]) / span - 0.5, np.maximum(S - made, 0.0) / span], axis=1)
    weight, sd = np.sqrt(n / noise.variance), math.sqrt(noise.variance)
    known = np.array([0.0, *(max(share * fall, 1e-6 * sd) ** -2 for share in (_SLOPE, _KINK))])
    phi, root = noise.correlation, math.sqrt(1.0 - noise.correlation**2)

    def whitened(x: FloatArray) -> FloatArray:
        return np.concatenate((x[:1], (x[1:] - phi * x[:-1]) / root)) if phi else x

    X, y = whitened(shape * weight[:, None]), whitened(off * weight)
    before = int(starts[0])
    gram = X[:before].T @ X[:before] + np.diag(known)
    b = np.linalg.solve(gram, X[:before].T @ y[:before])
    for _ in range(2):
        fit = X[:before] @ b
        b = np.linalg.solve(gram, X[:before].T @ (fit + np.clip(y[:before] - fit, -_CLIP, _CLIP)))
    rest = y - X @ b
    rest = np.stack([np.clip(rest, -most, most) for most in (_COUNTS, _MEASURED)], axis=1)
    # A jump that begins with value c is 0 before it, its weight over root at c, and the whitened weight from there on.
    head, tail = weight[starts] / root, whitened(weight)

    def along(x: FloatArray) -> FloatArray:
        sums = np.cumsum((tail * x.T)[..., ::-1], axis=-1)[..., ::-1]
        return np.asarray((sums[..., starts] + (head - tail[starts]) * x.T[..., starts]).T)

    inner = along(tail) + head * (head - tail[starts])
    cross = along(X)
    through = np.linalg.solve(X.T @ X + np.diag(known), np.column_stack((cross.T, X.T @ rest - (known * b)[:, None])))
    precision = np.maximum(inner - np.einsum("ij,ji->i", cross, through[:, :-2]), 1e-12 * inner)
    counted, measured = (along(rest) - cross @ through[:, -2:]).T
    return counted / np.sqrt(precision), measured / precision, off - shape @ b


def _lasts(off: FloatArray, n: FloatArray, size: float) -> bool:
    """Return whether a jump is there in most of its losses, and still in the newest of them."""
    high, third = off > _LEFT * size, max(_VALUES, (off.size + 2) // 3)
    newest = float(np.average(off[-third:], weights=n[-third:]))
    return bool(n[high].sum() >= _MOSTLY * n.sum() and newest > _LEFT * size)
