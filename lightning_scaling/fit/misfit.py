"""The part of a loss curve that the law does not say, as a Gaussian process in log steps that forgets the past."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpttrf, dpttrs

from lightning_scaling.fit.data import FitData
from lightning_scaling.fit.prior import Prior

__all__ = ["MisfitModel"]

FloatArray = NDArray[np.float64]

#: The misfit of the far past stops growing at this multiple of today's: nothing is believed there anyway.
_CEILING = 1e3
#: Noise below this share of the misfit's variance changes no forecast and is not told from none.
_LEAST_NOISE = 1e-8


@dataclass(frozen=True, eq=False)
class MisfitModel:
    r"""Ornstein-Uhlenbeck misfit of one size beside the noise of the windows.

    .. math:: \mathrm{cov}[d(S), d(S')] = \sigma_S\,\sigma_{S'}\,e^{-|\ln S - \ln S'|/\ell}, \qquad
              \sigma_S = \sigma\,\max(t_{now}/S, 1)^p

    so that the early transient, which no law of S explains, has little say, without a cut that must be chosen.

    The process is Markov, so neighbours' differences are independent: a bidiagonal matrix R takes d to white noise, and
    :math:`T = R (\mathrm{cov}\,d + D) R^T = 1 + R D R^T` is tridiagonal. Its factors give
    :math:`C^{-1} = R^T\, T^{-1} R` in O(M), exactly, and without a threaded matrix library whose spinning threads would
    take the processor from the training loop.

    Args:
        size: sigma, the misfit now [unit of the loss].
        growth: p, how fast it grows into the past [1].
        solved: ``T^-1 R columns``, shape (M, n_columns).
    """

    data: FitData
    prior: Prior
    size: float
    growth: float
    solved: FloatArray
    _sizes: FloatArray
    _turn: tuple[FloatArray, FloatArray]
    _factors: tuple[FloatArray, FloatArray]

    @classmethod
    def build(
        cls, data: FitData, size: float, growth: float, prior: Prior, columns: FloatArray
    ) -> tuple[MisfitModel, FloatArray]:
        """Factorise the covariance of the windows and solve it for ``columns``, shape (M, n).

        Returns:
            The model and ``R columns``: products of these with ``solved`` are inner products of columns under C^-1.
        """
        amplitude = _amplitude(data.S, data.now, size, growth)
        correlation = np.exp(-np.diff(np.log(data.S)) / prior.misfit_length)
        innovation = np.sqrt(-np.expm1(2.0 * np.log(correlation)))
        diagonal = 1.0 / (amplitude * np.concatenate(([1.0], innovation)))
        below = -correlation / (innovation * amplitude[:-1])
        noise = data.variance + _LEAST_NOISE * amplitude**2
        on_diagonal = 1.0 + diagonal**2 * noise
        on_diagonal[1:] += below**2 * noise[:-1]
        *factors, failed = dpttrf(on_diagonal, below * noise[:-1] * diagonal[:-1])
        if failed:
            raise np.linalg.LinAlgError(
                f"Expected a positive definite covariance, got leading minor {failed} that is not."
            )
        turn = diagonal[:, None], below[:, None]
        turned = _turned(turn, columns)
        solved = _solved(factors, turned)
        return cls(data, prior, size, growth, solved, amplitude, turn, tuple(factors)), turned

    @property
    def log_determinant(self) -> float:
        """Log determinant of the windows' covariance [log of unit squared]."""
        return float(np.log(self._factors[0]).sum() - 2.0 * np.log(self._turn[0]).sum())

    def predict(self, S: FloatArray, combine: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return how the windows inform the misfit at S.

        Args:
            S: Steps [steps], shape (P,).
            combine: Coefficients of Q linear combinations of the P misfits, shape (P, Q).

        Returns:
            ``columns^T C^-1 k`` of shape (n_columns, P) (what the misfit predicted from each column is), and the
            posterior variance of the Q combinations [unit squared], shape (Q,).
        """
        here = _amplitude(S, self.data.now, self.size, self.growth)
        cross = _kernel(self.data.S, S, self.prior.misfit_length) * np.outer(self._sizes, here)
        turned = _turned(self._turn, cross)
        prior_covariance = _kernel(S, S, self.prior.misfit_length) * np.outer(here, here)
        known = turned @ combine
        variance = _inner(combine, prior_covariance @ combine) - _inner(known, _solved(self._factors, known))
        return self.solved.T @ turned, np.maximum(variance, 0.0)


def _turned(turn: tuple[FloatArray, FloatArray], columns: FloatArray) -> FloatArray:
    """Return ``R columns``, shape (M, n)."""
    diagonal, below = turn
    turned = diagonal * columns
    turned[1:] += below * columns[:-1]
    return turned


def _solved(factors: Sequence[FloatArray], turned: FloatArray) -> FloatArray:
    """Return ``T^-1`` times columns over the windows, shape (M, n)."""
    return np.asarray(dpttrs(*factors, turned)[0])


def _inner(x: FloatArray, y: FloatArray) -> FloatArray:
    """Return the inner product of each column of x with that of y, shape (n,)."""
    return np.asarray(np.einsum("mi,mi->i", x, y))


def _amplitude(S: FloatArray, now: float, size: float, growth: float) -> FloatArray:
    return np.asarray(size * np.minimum((now / np.minimum(S, now)) ** growth, _CEILING))


def _kernel(S: FloatArray, S_other: FloatArray, length: float) -> FloatArray:
    return np.asarray(np.exp(-np.abs(np.log(S)[:, None] - np.log(S_other)[None, :]) / length))
