"""Problem: the posterior of the law of model and steps, its exponents on a grid and the rest in closed form."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.joint.points import Points
from lightning_scaling.joint.whitening import Whitening

__all__ = ["ALPHA_N", "ALPHA_S", "Problem"]

FloatArray = NDArray[np.float64]

#: Exponents that are looked for, of the size and of the steps, and the values of each in a grid.
ALPHA_N, ALPHA_S, _COARSE, _FINE = (0.02, 2.0), (0.05, 4.0), 24, 36
#: Part of the probability that the fine grid may leave out at each side.
_OUTSIDE = 1e-4
#: Misfits that are tried, a run's own and the shared one, as shares of what a run falls by. No two runs are alike.
_OWN, _SHARED = (0.004, 0.01, 0.025, 0.06, 0.15), (0.0, 0.004, 0.01, 0.025, 0.06, 0.15)
#: E-folds of steps over which a misfit lasts.
_LASTS = 2.0
#: By how much a run lies off as a whole, in units of what it wiggles.
_WHOLE = 1.5
#: Sets of constants that are drawn, and in how many tries at most.
_N_DRAWS, _TRIES = 2000, 40


class Problem:
    """The points whitened for each size of the misfits, and the law on a grid of exponents."""

    def __init__(self, points: Points, offset: bool) -> None:
        self.points, self.offset = points, offset
        self.log_N, self.log_S = np.log(points.N), np.log(points.S)
        self.at = float(self.log_N.mean()), float(self.log_S.mean())
        # A share of the loss cannot be larger than the loss: half-normal priors of that width.
        self.width = float(points.y.max())
        gaps = np.abs(self.log_S[:, None] - self.log_S) / _LASTS
        shared = np.exp(-gaps)
        own = (shared + _WHOLE**2) * (points.run[:, None] == points.run)
        self.misfits = [(points.fall * u, points.fall * v) for u in _OWN for v in _SHARED]
        noise = np.diag(points.variance)
        self.white = [Whitening(noise + u**2 * own + v**2 * shared) for u, v in self.misfits]

    def draws(self) -> tuple[FloatArray, FloatArray]:
        """Return sets of the five constants, shape (n, 5), and the mean sizes of the misfits, own and shared."""
        grids = np.geomspace(*ALPHA_N, _COARSE), np.geomspace(*ALPHA_S, _COARSE)
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
        for white in self.white:
            gram = white.gram(everything)
            P = gram[chosen[..., :, None], chosen[..., None, :]] + prior
            right = gram[chosen, -1]
            L = np.linalg.cholesky(P)
            half = np.linalg.solve(L, right[..., None])[..., 0]
            mean = np.linalg.solve(L.swapaxes(-1, -2), half[..., None])[..., 0]
            log_det = np.log(np.diagonal(L, axis1=-2, axis2=-1)).sum(axis=-1) + white.log_det
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
