"""fit_joint(): the law of model and steps, L(N, S), fitted to runs of several sizes at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cholesky, solve_triangular

from lightning_scaling.curve import LossCurve
from lightning_scaling.errors import FitError
from lightning_scaling.fit.data import reduce_curve
from lightning_scaling.fit.prior import DEFAULT_PRIOR
from lightning_scaling.interval import Interval
from lightning_scaling.laws import CriticalBatch, HoffmannND, KaplanNS, S_min

__all__ = ["JointFit", "fit_joint"]

FloatArray = NDArray[np.float64]

#: Exponents that are looked for, of the size and of the steps, and the values of each in a grid.
_ALPHA_N, _ALPHA_S, _COARSE, _FINE = (0.02, 2.0), (0.05, 4.0), 24, 36
#: Part of the probability that the fine grid may leave out at each side.
_OUTSIDE = 1e-4
#: Misfits that are tried, a run's own and the shared one, as shares of what a run falls by. No two runs are alike.
_OWN, _SHARED = (0.004, 0.01, 0.025, 0.06, 0.15), (0.0, 0.004, 0.01, 0.025, 0.06, 0.15)
#: E-folds of steps over which a misfit lasts.
_LASTS = 2.0
#: By how much a run lies off as a whole, in units of what it wiggles.
_WHOLE = 1.5
#: Windows in each factor e of steps, and the points of all runs beyond which they are made wider.
_WINDOWS, _MOST_POINTS = 8, 600
#: Sets of constants that are drawn, in how many tries at most, and the fewest that make an interval.
_N_DRAWS, _TRIES, _FEWEST = 2000, 40, 200
#: Share of the draws at an end of the grid from which an exponent counts as not found.
_AT_END = 0.2
_MIN_SIZES, _MIN_POINTS = 3, 6
_NAMES = ("alpha_N", "alpha_S", "N_c", "S_c", "E")


@dataclass(frozen=True, eq=False)
class JointFit:
    r"""L(N, S) as fitted to runs of several sizes.

    .. math:: L(N, S) = E + (N_c / N)^{\alpha_N} + (S_c / S)^{\alpha_S}

    The constants go together: with a larger E go a larger alpha_N and a smaller N_c. Intervals of single constants are
    therefore wide where `loss` is well known; what follows from the law is to be computed from each draw.

    Args:
        reason: Why there is no law; empty where there is one.
        alpha_N: Exponent of the model size [1].
        alpha_S: Exponent of the steps [1].
        N_c: Scale of the model size [non-embedding parameters].
        S_c: Scale of the steps [steps].
        E: Irreducible loss [unit of the loss]; 0 where the law has none.
        best: One likely set of the five constants, the one whose losses lie closest to the mean of all draws.
        draws: Sets of the five constants, equally likely, shape (n, 5).
        scatter: What single runs leave the law by on their way, and what all runs share [unit of the loss]; standard
            deviations. As a whole a run lies off by half as much again.
        residual: Root mean square residual of the windows about ``best`` [unit of the loss].
        sizes: Smallest and largest model of the runs [non-embedding parameters].
        steps: First and last step that was fitted [steps].
        n_runs: Runs that were used.
        offset: Whether the law has an irreducible loss.
    """

    reason: str
    alpha_N: Interval
    alpha_S: Interval
    N_c: Interval
    S_c: Interval
    E: Interval
    best: tuple[float, float, float, float, float]
    draws: FloatArray = field(repr=False)
    scatter: tuple[float, float]
    residual: float
    sizes: tuple[float, float]
    steps: tuple[float, float]
    n_runs: int
    offset: bool

    def require_ok(self) -> JointFit:
        """Return the fit itself.

        Raises:
            FitError: If it found no law; the error carries this result.
        """
        if self.reason:
            raise FitError(f"Expected runs that tell L(N, S), got none: {self.reason}", self)
        return self

    def loss(self, N: ArrayLike, S: ArrayLike) -> Interval:
        """Return the loss of the law; a run scatters about it by ``scatter``.

        Args:
            N: Non-embedding parameters [1], shape (...).
            S: Steps, of the batch size of the runs, or S_min if the fit was made in it [steps], broadcastable to (...).

        Returns:
            L [unit of the loss], shape (...).

        Raises:
            FitError: If there is no law.
            ValueError: If any ``N <= 0`` or ``S <= 0``.
        """
        self.require_ok()
        sizes, steps = np.broadcast_arrays(np.asarray(N, dtype=np.float64), np.asarray(S, dtype=np.float64))
        if not (np.all(sizes > 0.0) and np.all(steps > 0.0)):
            raise ValueError("Expected N > 0 and S > 0, got a smaller one, so pass sizes and steps counted from 1.")
        losses = _law(self.draws, sizes.ravel(), steps.ravel()).reshape(-1, *sizes.shape)
        return _interval(losses, self.E.level)

    def kaplan(self) -> tuple[KaplanNS, ...]:
        """Return each draw as the law of Kaplan et al.; it has no irreducible loss.

        Raises:
            FitError: If there is no law.
            ValueError: If the fit was made with an irreducible loss.
        """
        self.require_ok()
        if self.offset:
            raise ValueError("Expected a fit without E, got one with it, so fit with offset=False or ask hoffmann(B).")
        return tuple(KaplanNS(*row[:4]) for row in self.draws.tolist())

    def hoffmann(self, B: float) -> tuple[HoffmannND, ...]:
        r"""Return each draw as a law of size and tokens, D = B S, in the form of Hoffmann et al.

        .. math:: A_N = N_c^{\alpha_N}, \qquad A_D = (B S_c)^{\alpha_S}, \qquad \alpha_D = \alpha_S

        It holds at this batch size, and counts N as the runs do, without embeddings.

        Args:
            B: Batch size of the runs [tokens/step].

        Raises:
            FitError: If there is no law.
            ValueError: If the batch size is not positive.
        """
        self.require_ok()
        if not 0.0 < B < math.inf:
            raise ValueError(f"Expected B above 0, got {B!r}, so pass the tokens of one step.")
        return tuple(
            HoffmannND(E=E, A_N=N_c**alpha_N, A_D=(B * S_c) ** alpha_S, alpha_N=alpha_N, alpha_D=alpha_S)
            for alpha_N, alpha_S, N_c, S_c, E in self.draws.tolist()
        )

    def __str__(self) -> str:
        """Return one line a person can read."""
        if self.reason:
            return f"No L(N, S) from {self.n_runs} runs: {self.reason}"
        names = _NAMES if self.offset else _NAMES[:4]
        return ", ".join(f"{name} = {getattr(self, name)}" for name in names) + f", from {self.n_runs} runs"


def fit_joint(
    curves: Sequence[LossCurve],
    *,
    offset: bool = True,
    critical: CriticalBatch | None = None,
    first: float = 0.05,
    level: float = 0.9,
) -> JointFit:
    r"""Fit L(N, S) to runs of several sizes.

    .. math:: L = E + (N_c / N)^{\alpha_N} + (S_c / S)^{\alpha_S} + u_r(\ln S) + v(\ln S) + \varepsilon

    The noise of the windows is measured. Each run has a misfit u_r of its own and all runs share one, v: both are
    Gaussian processes that last some two e-folds of steps, u_r with an offset of the whole run beside it, and their
    sizes are summed over, weighed by the evidence. Six sizes tell little of a scatter between them: with E, and runs
    that scatter by 2 % of their fall, 90 % intervals of alpha_N held some 70 to 80 % of the time (``docs/ladder.md``).
    For given exponents the law is linear in E, N_c^alpha_N and S_c^alpha_S, so that the exponents lie on a grid and the
    rest is solved in closed form under weak priors, zero or above. The draws come from a generator of fixed seed: the
    same runs give the same numbers.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.6 (= 5.6), there without E.

    Args:
        curves: Runs on one data set, of at least three sizes (in their N), at a constant learning rate: a loss in the
            middle of a decay is not the loss of a shorter run. Give all the same batch size, or ``critical``.
        offset: Whether there is an irreducible loss E. Without it the law is Kaplan's.
        critical: The critical batch size. With it steps become S_min (Eq. 5.4), at the batch size of each curve.
        first: Share of each run that is left out at its start [1]: the law begins after the first transient.
        level: Probability that an interval holds its number [1].

    Returns:
        The law with its intervals. Where the runs do not tell it, ``reason`` says why.

    Raises:
        ValueError: If a curve has no N or, with ``critical``, no batch size, or ``first`` or ``level`` is out of range.

    Example:
        >>> law, S = KaplanNS(alpha_N=0.1, alpha_S=0.6, N_c=1e9, S_c=20.0), np.geomspace(10, 3000, 200)
        >>> rng = np.random.default_rng(0)
        >>> runs = [LossCurve(S, law.loss(N, S) + 0.01 * rng.standard_normal(200), N=N) for N in (1e4, 1e5, 1e6)]
        >>> found = fit_joint(runs, offset=False).alpha_N
        >>> round(found.mid, 2), bool(found.low < 0.1 < found.high)
        (0.1, True)
    """
    for name, value in (("first", first), ("level", level)):
        if not 0.0 < value < 1.0:
            raise ValueError(f"Expected {name} between 0 and 1, got {value!r}, so give for example 0.05 and 0.9.")
    points = _points(curves, critical, first)
    if (trouble := points.trouble()) is not None:
        return _failure(trouble, points, offset, level)
    draws, misfits = _Problem(points, offset).draws()
    if len(draws) < _FEWEST:
        why = "the loss does not fall with size and steps as the law has it. Are the runs of one data set and schedule?"
        return _failure(why, points, offset, level)
    for k, (name, (low, high)) in enumerate((("alpha_N", _ALPHA_N), ("alpha_S", _ALPHA_S))):
        if max(np.mean(draws[:, k] < 1.1 * low), np.mean(draws[:, k] > high / 1.1)) > _AT_END:
            why = f"{name} is not found between {low:g} and {high:g}. Give runs over a wider range, or fix E (offset)."
            return _failure(why, points, offset, level)
    losses = _law(draws, points.N, points.S)
    k = int(np.argmin(((losses - losses.mean(axis=0)) ** 2).sum(axis=1)))
    best = float(draws[k, 0]), float(draws[k, 1]), float(draws[k, 2]), float(draws[k, 3]), float(draws[k, 4])
    alpha_N, alpha_S, N_c, S_c, E = (_interval(column, level) for column in draws.T)
    return JointFit(
        reason="",
        alpha_N=alpha_N,
        alpha_S=alpha_S,
        N_c=N_c,
        S_c=S_c,
        E=E,
        best=best,
        draws=draws,
        scatter=(float(misfits[0]), float(misfits[1])),
        residual=float(np.sqrt(np.mean((points.y - losses[k]) ** 2))),
        sizes=(float(points.N.min()), float(points.N.max())),
        steps=(float(points.S.min()), float(points.S.max())),
        n_runs=points.n_runs,
        offset=offset,
    )


@dataclass(frozen=True, eq=False)
class _Points:
    """The windows of all runs, one after another."""

    N: FloatArray
    S: FloatArray
    y: FloatArray
    variance: FloatArray
    run: NDArray[np.intp]
    fall: float

    @property
    def n_runs(self) -> int:
        return int(np.unique(self.run).size)

    def trouble(self) -> str | None:
        """Return why no law can be fitted, None where it may."""
        sizes = np.unique(np.round(np.log(self.N), 3)).size
        if sizes < _MIN_SIZES:
            return f"{sizes} sizes are known, of which {_MIN_SIZES} are the fewest. Give runs of more sizes."
        if self.y.min() <= 0.0:
            return "a loss is not above zero, which the law never is."
        if self.fall <= 0.0:
            return "the losses do not fall."
        return None


def _points(curves: Sequence[LossCurve], critical: CriticalBatch | None, first: float) -> _Points:
    if any(curve.N is None for curve in curves):
        raise ValueError("Expected N in every curve, got one without, so build LossCurve(…, N=…).")
    if critical is not None and any(curve.B is None or not (curve.B > 0.0).all() for curve in curves):
        raise ValueError("Expected B in every curve, got one without, so build LossCurve(…, B=…) or drop critical.")
    e_folds = -math.log(first)
    windows = min(float(_WINDOWS), max(2.0, _MOST_POINTS / (max(len(curves), 1) * e_folds)))
    empty = np.zeros(0)
    columns: list[tuple[FloatArray, ...]] = [(empty,) * 5]
    falls = []
    for r, curve in enumerate(curves):
        if len(curve) < _MIN_POINTS:
            continue
        data = reduce_curve(curve, windows_per_e_fold=int(windows), e_folds=e_folds, outlier=DEFAULT_PRIOR.outlier)
        S = data.S
        if critical is not None and curve.B is not None and data.y.min() > 0.0:
            B = np.interp(S, curve.S, curve.B)
            S = np.asarray(S_min(S, B, data.y, B_star=critical.B_star, alpha_B=critical.alpha_B))
        # Noise of exactly zero, as of a curve that was computed, would leave the misfits nothing to weigh against.
        variance = np.maximum(data.variance, (1e-6 * float(np.abs(data.y).max())) ** 2)
        columns.append((np.full(S.size, curve.N), S, data.y, variance, np.full(S.size, float(r))))
        falls.append(float(data.y[0] - data.y[-1]))
    N, S, y, variance, run = (np.concatenate(column) for column in zip(*columns, strict=True))
    return _Points(N, S, y, variance, run.astype(np.intp), float(np.median(falls)) if falls else 0.0)


class _Problem:
    """The points whitened for each size of the misfits, and the law on a grid of exponents."""

    def __init__(self, points: _Points, offset: bool) -> None:
        self.points, self.offset = points, offset
        self.log_N, self.log_S = np.log(points.N), np.log(points.S)
        self.at = float(self.log_N.mean()), float(self.log_S.mean())
        # A share of the loss cannot be larger than the loss: half-normal priors of that width.
        self.width = float(points.y.max())
        gaps = np.abs(self.log_S[:, None] - self.log_S) / _LASTS
        shared = np.exp(-gaps)
        own = (shared + _WHOLE**2) * (points.run[:, None] == points.run)
        self.misfits = [(points.fall * u, points.fall * v) for u in _OWN for v in _SHARED]
        self.roots = [
            cholesky(np.diag(points.variance) + u**2 * own + v**2 * shared, lower=True) for u, v in self.misfits
        ]

    def draws(self) -> tuple[FloatArray, FloatArray]:
        """Return sets of the five constants, shape (n, 5), and the mean sizes of the misfits, own and shared."""
        grids = np.geomspace(*_ALPHA_N, _COARSE), np.geomspace(*_ALPHA_S, _COARSE)
        weights = _weights(self._solve(*grids)[0])
        grids = _inner(grids[0], weights.sum(axis=(0, 2))), _inner(grids[1], weights.sum(axis=(0, 1)))
        evidence, means, roots = self._solve(*grids)
        weights = _weights(evidence)
        rng = np.random.default_rng(0)
        flat, kept = weights.ravel(), []
        for _ in range(_TRIES):
            cells = rng.choice(flat.size, size=_N_DRAWS, p=flat)
            m, i, j = np.unravel_index(cells, weights.shape)
            normal = rng.standard_normal((_N_DRAWS, means.shape[-1], 1))
            theta = means[m, i, j] + np.linalg.solve(roots[m, i, j].swapaxes(-1, -2), normal)[..., 0]
            sound = (theta > 0.0).all(axis=1)
            # Within a cell of the grid all exponents are alike, so the draws need not lie on its lines.
            alphas = [_spread(grid, k, rng)[sound] for grid, k in zip(grids, (i, j), strict=True)]
            kept.append(self._constants(alphas[0], alphas[1], theta[sound]))
            if sum(map(len, kept)) >= _N_DRAWS:
                break
        sizes = weights.sum(axis=(1, 2)) @ np.array(self.misfits)
        return np.concatenate(kept)[:_N_DRAWS], sizes

    def _solve(self, alphas_N: FloatArray, alphas_S: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Return log evidence, mean and root of the precision of the linear constants, each of (misfit, i, j)."""
        n, s = alphas_N.size, alphas_S.size
        columns = [
            np.ones((self.log_N.size, 1)),
            np.exp(-(self.log_N - self.at[0])[:, None] * alphas_N),
            np.exp(-(self.log_S - self.at[1])[:, None] * alphas_S),
            self.points.y[:, None],
        ]
        everything = np.concatenate(columns, axis=1)
        i, j = np.meshgrid(1 + np.arange(n), 1 + n + np.arange(s), indexing="ij")
        chosen = np.stack(([np.zeros_like(i)] if self.offset else []) + [i, j], axis=-1)
        prior = np.eye(chosen.shape[-1]) / self.width**2
        found = []
        for root in self.roots:
            white = solve_triangular(root, everything, lower=True)
            gram = white.T @ white
            P = gram[chosen[..., :, None], chosen[..., None, :]] + prior
            right = gram[chosen, -1]
            L = np.linalg.cholesky(P)
            half = np.linalg.solve(L, right[..., None])[..., 0]
            mean = np.linalg.solve(L.swapaxes(-1, -2), half[..., None])[..., 0]
            log_det = np.log(np.diagonal(L, axis1=-2, axis2=-1)).sum(axis=-1) + np.log(np.diag(root)).sum()
            found.append((0.5 * (half**2).sum(axis=-1) - 0.5 * gram[-1, -1] - log_det, mean, L))
        evidence, means, roots = (np.array(x) for x in zip(*found, strict=True))
        return evidence, means, roots

    def _constants(self, alpha_N: FloatArray, alpha_S: FloatArray, theta: FloatArray) -> FloatArray:
        a, b = theta[:, -2], theta[:, -1]
        with np.errstate(over="ignore"):
            N_c, S_c = np.exp(self.at[0] + np.log(a) / alpha_N), np.exp(self.at[1] + np.log(b) / alpha_S)
        E = theta[:, 0] if self.offset else np.zeros(len(theta))
        return np.stack((alpha_N, alpha_S, N_c, S_c, E), axis=1)


def _weights(evidence: FloatArray) -> FloatArray:
    share = np.exp(evidence - evidence.max())
    return np.asarray(share / share.sum())


def _inner(grid: FloatArray, weights: FloatArray) -> FloatArray:
    """Return a finer grid over the part of a grid that holds nearly all probability, one cell more on each side."""
    below = np.cumsum(weights)
    first = max(int(np.searchsorted(below, _OUTSIDE)) - 1, 0)
    last = min(int(np.searchsorted(below, 1.0 - _OUTSIDE)) + 1, grid.size - 1)
    return np.geomspace(grid[first], grid[last], _FINE)


def _spread(grid: FloatArray, k: NDArray[np.intp], rng: np.random.Generator) -> FloatArray:
    width = math.log(grid[1] / grid[0])
    return np.clip(grid[k] * np.exp(width * rng.uniform(-0.5, 0.5, k.size)), grid[0], grid[-1])


def _law(draws: FloatArray, N: FloatArray, S: FloatArray) -> FloatArray:
    """Return the losses of each draw at each point, shape (draws, points)."""
    alpha_N, alpha_S, N_c, S_c, E = draws.T[..., None]
    return np.asarray(E + np.exp(alpha_N * (np.log(N_c) - np.log(N))) + np.exp(alpha_S * (np.log(S_c) - np.log(S))))


def _interval(values: FloatArray, level: float) -> Interval:
    low, mid, high = np.quantile(values, [0.5 - level / 2.0, 0.5, 0.5 + level / 2.0], axis=0)
    return Interval(low, mid, high, level)


def _failure(why: str, points: _Points, offset: bool, level: float) -> JointFit:
    nan = math.nan
    unknown = Interval(nan, nan, nan, level)
    return JointFit(
        reason=why,
        alpha_N=unknown,
        alpha_S=unknown,
        N_c=unknown,
        S_c=unknown,
        E=unknown,
        best=(nan, nan, nan, nan, nan),
        draws=np.zeros((0, 5)),
        scatter=(nan, nan),
        residual=nan,
        sizes=(nan, nan),
        steps=(nan, nan),
        n_runs=points.n_runs,
        offset=offset,
    )
