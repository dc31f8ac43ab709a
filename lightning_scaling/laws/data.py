"""The law of model and data: how much a model overfits, and how much data keeps it from that."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.laws._check import check_constants, check_shapes, positive


@dataclass(frozen=True)
class KaplanND:
    r"""The loss of a model of N parameters on D tokens, stopped when the test loss turns.

    .. math:: L(N, D) = \left[(N_c / N)^{\alpha_N/\alpha_D} + D_c / D\right]^{\alpha_D}

    It becomes L(N) for endless data and L(D) for an endless model. It was fitted with 10 % dropout and no tuning of the
    regularisation, and misses the smallest data set (2e7 tokens). It has no irreducible loss; Hoffmann et al. 2022
    add one (`HoffmannND`), and 2026 work (arXiv:2608.07222) finds this shape plus an offset better than either.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.5.

    Args:
        alpha_N: Exponent of the model size [1].
        alpha_D: Exponent of the data [1].
        N_c: Scale of the model size [non-embedding parameters].
        D_c: Scale of the data [tokens].

    Raises:
        ValueError: If a constant is not positive and finite.

    Example:
        >>> round(float(KAPLAN_TABLE_2.loss(1e8, 1e9)), 5)
        2.95673
    """

    alpha_N: float
    alpha_D: float
    N_c: float
    D_c: float

    def __post_init__(self) -> None:
        check_constants(self)

    def loss(self, N: ArrayLike, D: ArrayLike) -> NDArray[np.float64]:
        r"""Return the early-stopped loss of a model on D tokens.

        .. math:: L(N, D) = \left[(N_c / N)^{\alpha_N/\alpha_D} + D_c / D\right]^{\alpha_D}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.5.

        Args:
            N: Non-embedding parameters [1], shape (...).
            D: Tokens of the training set [tokens], broadcastable to (...).

        Returns:
            L [nats/token], shape (...); falls in both N and D.

        Raises:
            ValueError: If any ``N <= 0`` or ``D <= 0``.

        Example:
            >>> round(float(KAPLAN_TABLE_2.loss(1e9, 22e9)), 5)
            2.36932
        """
        check_shapes(N=N, D=D)
        return np.exp(self.alpha_D * np.logaddexp(self._log_N_term(N), self._log_D_term(D)))

    def converged(self, N: ArrayLike) -> NDArray[np.float64]:
        r"""Return the loss of a model on endless data, L(N, infinity) = (N_c / N)^alpha_N.

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.5 for D -> infinity.

        Args:
            N: Non-embedding parameters [1], shape (...).

        Returns:
            L [nats/token], shape (...).

        Raises:
            ValueError: If any ``N <= 0``.

        Example:
            >>> round(float(KAPLAN_TABLE_2.converged(1e9)), 5)
            2.31883
        """
        return self.loss(N, np.inf)

    def tokens(self, N: ArrayLike, loss: ArrayLike) -> NDArray[np.float64]:
        r"""Return the data with which a model reaches a loss; the inverse of `loss` in D.

        .. math:: D = D_c \left[L^{1/\alpha_D} - (N_c / N)^{\alpha_N/\alpha_D}\right]^{-1}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.5, solved for D.

        Args:
            N: Non-embedding parameters [1], shape (...).
            loss: Loss to reach [nats/token], broadcastable to (...).

        Returns:
            D [tokens], shape (...); infinite where the model does not reach the loss on any data.

        Raises:
            ValueError: If any ``N <= 0`` or ``loss <= 0``.

        Example:
            >>> print(f"{KAPLAN_TABLE_2.tokens(1e8, 2.95673373863):.6g}")
            1e+09
        """
        check_shapes(N=N, loss=loss)
        return self.D_c * np.exp(-_log_difference(np.log(positive("L", loss)) / self.alpha_D, self._log_N_term(N)))

    def size(self, D: ArrayLike, loss: ArrayLike) -> NDArray[np.float64]:
        r"""Return the model that reaches a loss on D tokens; the inverse of `loss` in N.

        .. math:: N = N_c \left[L^{1/\alpha_D} - D_c / D\right]^{-\alpha_D/\alpha_N}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.5, solved for N.

        Args:
            D: Tokens of the training set [tokens], shape (...).
            loss: Loss to reach [nats/token], broadcastable to (...).

        Returns:
            N [non-embedding parameters], shape (...); infinite where no model reaches the loss on these data.

        Raises:
            ValueError: If any ``D <= 0`` or ``loss <= 0``.

        Example:
            >>> print(f"{KAPLAN_TABLE_2.size(1e9, 2.95673373863):.6g}")
            1e+08
        """
        check_shapes(D=D, loss=loss)
        log_N_term = _log_difference(np.log(positive("L", loss)) / self.alpha_D, self._log_D_term(D))
        return self.N_c * np.exp(-self.alpha_D / self.alpha_N * log_N_term)

    def overfitting(self, N: ArrayLike, D: ArrayLike) -> NDArray[np.float64]:
        r"""Return the share by which finite data raise the loss above that on endless data.

        .. math:: \delta L = \frac{L(N, D)}{L(N, \infty)} - 1 =
            \left(1 + (N / N_c)^{\alpha_N/\alpha_D} D_c / D\right)^{\alpha_D} - 1

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eqs. 4.2 and 4.3; under Eq. 1.5 the two are equal.

        Args:
            N: Non-embedding parameters [1], shape (...).
            D: Tokens of the training set [tokens], broadcastable to (...).

        Returns:
            Excess over the converged loss [1], shape (...); grows with N, falls in D. Seeds alone differ by 0.02.

        Raises:
            ValueError: If any ``N <= 0`` or ``D <= 0``, or where both are infinite.

        Example:
            >>> round(float(KAPLAN_TABLE_2.overfitting(1e8, 1e9)), 5)
            0.07039
        """
        check_shapes(N=N, D=D)
        log_D_term, log_N_term = self._log_D_term(D), self._log_N_term(N)
        if np.any(np.isneginf(log_D_term) & np.isneginf(log_N_term)):
            raise ValueError("Expected N or D to be finite, got both infinite, so ask for the limit in one of them.")
        return np.expm1(self.alpha_D * np.logaddexp(0.0, log_D_term - log_N_term))

    def tokens_needed(self, N: ArrayLike, excess: ArrayLike = 0.02) -> NDArray[np.float64]:
        r"""Return the data that keep overfitting at a tolerance; the inverse of `overfitting` in D.

        .. math:: D = D_c \, (N / N_c)^{\alpha_N/\alpha_D} / \left[(1 + \delta L)^{1/\alpha_D} - 1\right]

        With the default and Table 2 this is 5.52e3 N^0.738, which the paper prints as 5e3 N^0.74 (`KAPLAN_EQ_4_4`).

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 4.3, solved for D.

        Args:
            N: Non-embedding parameters [1], shape (...).
            excess: Tolerated excess over the converged loss [1], broadcastable to (...).

        Returns:
            D [tokens], shape (...); unique tokens, however often they are seen.

        Raises:
            ValueError: If any ``N <= 0`` or ``excess <= 0``.

        Example:
            >>> print(f"{KAPLAN_TABLE_2.tokens_needed(1e9):.6g}")
            2.41358e+10
        """
        check_shapes(N=N, excess=excess)
        return self.D_c * np.exp(-self._log_N_term(N) - self._log_tolerance(excess))

    def size_supported(self, D: ArrayLike, excess: ArrayLike = 0.02) -> NDArray[np.float64]:
        r"""Return the largest model that D tokens keep at a tolerance; the inverse of `overfitting` in N.

        .. math:: N = N_c \left(\left[(1 + \delta L)^{1/\alpha_D} - 1\right] D / D_c\right)^{\alpha_D/\alpha_N}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 4.3, solved for N.

        Args:
            D: Tokens of the training set [tokens], shape (...).
            excess: Tolerated excess over the converged loss [1], broadcastable to (...).

        Returns:
            N [non-embedding parameters], shape (...).

        Raises:
            ValueError: If any ``D <= 0`` or ``excess <= 0``.

        Example:
            >>> print(f"{KAPLAN_TABLE_2.size_supported(22e9):.3g}")  # WebText2
            8.82e+08
        """
        check_shapes(D=D, excess=excess)
        return self.N_c * np.exp(
            self.alpha_D / self.alpha_N * (self._log_tolerance(excess) - self._log_D_term(D)),
        )

    def _log_N_term(self, N: ArrayLike) -> NDArray[np.float64]:
        """Return log((N_c / N)^(alpha_N/alpha_D)); logarithms because small exponents alpha_D overflow the powers."""
        return np.asarray(self.alpha_N / self.alpha_D * (math.log(self.N_c) - np.log(positive("N", N))))

    def _log_D_term(self, D: ArrayLike) -> NDArray[np.float64]:
        return np.asarray(math.log(self.D_c) - np.log(positive("D", D)))

    def _log_tolerance(self, excess: ArrayLike) -> NDArray[np.float64]:
        """Return log((1 + excess)^(1/alpha_D) - 1)."""
        tolerance = np.log1p(positive("excess", excess)) / self.alpha_D
        return np.asarray(tolerance + np.log(-np.expm1(-tolerance)))

    def __str__(self) -> str:
        return (
            f"L(N, D) = (({self.N_c:.4g} / N)^({self.alpha_N:.4g}/{self.alpha_D:.4g}) + {self.D_c:.4g} tokens / D)"
            f"^{self.alpha_D:.4g}"
        )


def _log_difference(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return log(exp(a) - exp(b)), and -infinity where that is not positive."""
    above = a > b
    gap = np.where(above, b - a, -1.0)
    return np.where(above, a + np.log(-np.expm1(gap)), -np.inf)[()]


KAPLAN_TABLE_2 = KaplanND(alpha_N=0.076, alpha_D=0.103, N_c=6.4e13, D_c=1.8e13)
"""L(N, D) of Kaplan et al. 2020, arXiv:2001.08361, Table 2."""
