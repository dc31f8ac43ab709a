"""Jump: losses that lie above those just before them by more than their noise and the forecast's shape explain."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    M, most = rest.size, _CLIP * math.sqrt(_middle(np.sort(rest**2)) / _MEDIAN_SQUARE)
    if not most > 0.0:
        return None
    clipped = _cut(rest, most)
    r = float(clipped[1:] @ clipped[:-1]) / float(clipped @ clipped)
    phi = (r + _TAKEN / M) / (1.0 - 2.0 * _TAKEN / M) + math.sqrt((1.0 - r * r) / M)
    phi = min(max(phi, 0.0), _MOST_CORRELATED)
    return Noise(_mean_square(_whitened(rest, phi)[1:]) * M / (M - _TAKEN), phi)


def _middle(ordered: FloatArray) -> float:
    """Return the median of values in order."""
    return 0.5 * float(ordered[(ordered.size - 1) // 2] + ordered[ordered.size // 2])


def _cut(x: FloatArray, most: float) -> FloatArray:
    """Return values with large ones cut off: `numpy.clip` takes several times as long for so few."""
    return np.maximum(np.minimum(x, most), -most)


def _mean_square(x: FloatArray) -> float:
    """Return the mean square; large ones are cut off."""
    squares = np.sort(x**2)
    M, sums = squares.size, np.concatenate(([0.0], np.cumsum(squares)))
    most = max(int(0.9 * M), 1)
    mean = max(_middle(squares) / _MEDIAN_SQUARE, float(sums[most]) / most)
    for _ in range(3):
        whole = int(squares.searchsorted(_CAP * mean))
        mean = _LEFT_OUT * float(sums[whole] + (M - whole) * _CAP * mean) / M
    return mean


def _whitened(x: FloatArray, phi: float) -> FloatArray:
    """Return what each value brings that does not follow from the one before, in the same unit."""
    return np.concatenate((x[:1], (x[1:] - phi * x[:-1]) / math.sqrt(1.0 - phi * phi))) if phi else x


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
    inside = int(np.searchsorted(S, since))
    begin = np.concatenate(([S[0] - 1.0], end[:-1]))[inside:]
    end, S, n, L, said = (x[inside:] for x in (end, S, n, L, said))
    place = np.arange(S.size)
    starts = np.flatnonzero((begin >= made) & (S[-1:] - S <= _OLDEST * T) & (place >= _BEFORE))
    if not starts.size:
        return None
    old = (end[-1] - begin >= _YOUNGEST * T) & (np.cumsum(n[::-1])[::-1] >= _LOSSES) & (S.size - place >= _VALUES)
    ripe = old[starts]
    unit = float(max(np.abs(L).max(), np.abs(said).max()))
    if not ripe.any() or not 0.0 < unit < math.inf:
        return None
    off, L, said, span = L / unit - said / unit, L / unit, said / unit, float(S[-1] - S[0])
    fall = _fall(L, said, int(starts[0]))
    spread = (_SLOPE * fall, min(_KINK * fall, kink / unit * span))
    jumps = _least_squares(S, n, off, spread, _BEND * _bend(S, said, int(starts[0])), starts, made)
    if jumps is None:
        return None
    z, size, left = jumps
    largest, upwards = float(np.abs(z[:, ripe]).max()), z.max(axis=0)
    best = int(np.argmax(upwards))
    start = int(starts[best])
    if ripe[best] and upwards[best] > _CLIP and _lasts(left[start:], n[start:], float(size[best])):
        return Jump(inside + start, float(upwards[best]), unit * float(size[best]), largest)
    # There is none, or it is too young to tell.
    return Jump(inside + S.size, -math.inf, 0.0, largest)


def _fall(L: FloatArray, said: FloatArray, before: int) -> float:
    """Return by how much the loss falls, by itself or as it was said to, over all values."""
    third = max(before // 3, 1)
    own = 1.5 * abs(float(L[:third].mean() - L[before - third : before].mean())) * L.size / before
    return max(own, abs(float(said[0] - said[-1])))


def _bend(S: FloatArray, said: FloatArray, before: int) -> float:
    """Return by how much the newest loss was said to lie below the line through what was said before any jump."""
    last, middle = before - 1, (before - 1) // 2
    slope = float(said[last] - said[middle]) / float(S[last] - S[middle])
    return max(float(said[last] - said[-1]) + slope * float(S[-1] - S[last]), 0.0)


def _prior(spread: tuple[float, float], sd: float) -> FloatArray:
    """Return what is known of level and slopes, as a matrix of precisions."""
    return np.diag([0.0, *(max(share, 1e-6 * sd) ** -2 for share in spread)])


def _solved(X: FloatArray, y: FloatArray, prior: FloatArray, weight: FloatArray | float) -> FloatArray:
    """Fit a line of which something is known."""
    weighted = X.T * weight
    return np.asarray(np.linalg.solve(weighted @ X + prior, weighted @ y))


def _trust(rest: FloatArray) -> FloatArray:
    """Return weights of values, which are the less the farther they are off."""
    squares = rest**2
    return np.asarray(1.0 / (1.0 + squares / (_CLIP**2 * _middle(np.sort(squares)) / _MEDIAN_SQUARE + _TINY)))


def _least_squares(
    S: FloatArray,
    n: FloatArray,
    off: FloatArray,
    spread: tuple[float, float],
    unsure: float,
    starts: NDArray[np.intp],
    made: float,
) -> tuple[FloatArray, FloatArray, FloatArray] | None:
    """Return the jumps in sigmas, with their first value and without it, in their unit, and what is off beside them.

    The slopes have standard deviations, and so has what the newest losses may be off by whether there is a jump or not.
    """
    span, before = float(S[-1] - S[0]), int(starts[0])
    shape = np.stack([np.ones(S.size), (S - S[0]) / span - 0.5, np.maximum(S - made, 0.0) / span], axis=1)
    root_n = np.sqrt(n)
    plain, y = shape * root_n[:, None], off * root_n
    X, target = plain[:before], y[:before]
    rough = math.sqrt(_mean_square(target[1:-1] - 0.5 * (target[2:] + target[:-2])) / 1.5)
    if not rough * rough > _TINY:
        return None
    prior = _prior(spread, rough) * rough**2
    b = _solved(X, target, prior, 1.0)
    for _ in range(_FITS - 1):
        b = _solved(X, target, prior, _trust(target - X @ b))
    noise = noise_of(target - X @ b)
    if noise is None or not noise.variance > _TINY:
        return None
    sd, phi = math.sqrt(noise.variance), noise.correlation
    prior, X, target = _prior(spread, sd), _whitened(plain / sd, phi), _whitened(y / sd, phi)
    b = _solved(X[:before], target[:before], prior, _trust(target[:before] - X[:before] @ b))
    rest = target - X @ b
    rest = np.column_stack((_cut(rest, _COUNTS), _cut(rest, _MEASURED)))
    # A jump that begins with value c is 0 before it, at c its weight over root, and from there on the whitened weight.
    head, tail = root_n[starts] / (sd * math.sqrt(1.0 - phi * phi)), _whitened(root_n / sd, phi)
    whole = np.column_stack((X, rest, tail))[before:]
    at, first = X[starts], rest[starts]
    # Sums over what follows each start, without it.
    sums = np.zeros((S.size - before + 1, 6))
    sums[:-1] = (whole * tail[before:, None])[::-1].cumsum(axis=0)[::-1]
    sums = sums[starts - before + 1]
    gram, right = X.T @ X + prior, X.T @ rest - (prior @ b)[:, None]
    # With the first value, and without it: the jump with the line, the line with itself and with the values, and more.
    precision, cross, score = (np.empty((2, starts.size, *shape)) for shape in ((), (3,), (2,)))
    precision[:] = sums[:, 5]
    cross[:] = sums[:, :3]
    score[:] = sums[:, 3:5]
    lines = np.empty((2, starts.size, 3, 6))
    lines[..., :3], lines[..., 3:5] = gram, right
    precision[0] += head**2
    cross[0] += head[:, None] * at
    score[0] += head[:, None] * np.column_stack((_cut(first[:, 0], _CLIP), first[:, 1]))
    lines[1, :, :, :3] -= at[:, :, None] * at[:, None, :]
    lines[1, :, :, 3:5] -= at[:, :, None] * first[:, None, :]
    lines[..., 5] = cross
    through = np.linalg.solve(lines[..., :3], lines[..., 3:])
    enough = 1e-9 * precision[0]
    precision -= (cross * through[..., 2]).sum(axis=2)
    gain = score - (cross[..., None] * through[..., :2]).sum(axis=2)
    seen = precision > enough
    precision = np.where(seen, precision, 1.0)
    z = np.where(seen, gain[..., 0] / np.sqrt(precision * (1.0 + precision * unsure**2)), 0.0)
    freedom = before - _TAKEN
    z = np.sign(z) * np.sqrt(freedom * np.log1p(z**2 / freedom))
    size = gain[..., 1] / precision
    return z, np.where(z[1] > z[0], size[1], size[0]), off - shape @ b


def _lasts(off: FloatArray, n: FloatArray, size: float) -> bool:
    """Return whether a jump is there in most of its losses, and still in the newest of them."""
    high, third = off > _LEFT * size, max(_VALUES, (off.size + 2) // 3)
    newest = float(np.average(off[-third:], weights=n[-third:]))
    return bool(n[high].sum() >= _MOSTLY * n.sum() and newest > _LEFT * size)
