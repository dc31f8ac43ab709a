"""The law of Hoffmann et al. with an irreducible loss, its corrected constants, and the optimum that follows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.laws._check import check_constants, check_shapes, positive, solve


@dataclass(frozen=True)
class HoffmannND:
    r"""The loss of a model of N parameters after one pass over D tokens, with a schedule that ends there.

    .. math:: L(N, D) = E + A_N / N^{\alpha_N} + A_D / D^{\alpha_D}

    N counts all parameters, embeddings too. The paper's A is A_N here, its B is A_D, alpha is alpha_N, beta is alpha_D.

    Source: Hoffmann et al. 2022, arXiv:2203.15556, Eq. 10. Its printed constants do not fit its own data (Besiroglu et
    al. 2024, arXiv:2404.10102: the fit had stopped early, and the exponents were rounded).

    Args:
        E: Irreducible loss [nats/token]; 0 is allowed. Not identified before losses saturate.
        A_N: Loss at N = 1 that the size costs [nats/token].
        A_D: Loss at D = 1 that the data cost [nats/token].
        alpha_N: Exponent of the model size [1].
        alpha_D: Exponent of the data [1].

    Raises:
        ValueError: If a constant is not finite, E is negative or another is not positive.

    Example:
        >>> round(float(BESIROGLU.loss(70e9, 1.4e12)), 5)
        1.97388
    """

    E: float
    A_N: float
    A_D: float
    alpha_N: float
    alpha_D: float

    def __post_init__(self) -> None:
        check_constants(self, may_be_zero=("E",))

    def loss(self, N: ArrayLike, D: ArrayLike) -> NDArray[np.float64]:
        r"""Return the loss.

        .. math:: L(N, D) = E + A_N / N^{\alpha_N} + A_D / D^{\alpha_D}

        Source: Hoffmann et al. 2022, arXiv:2203.15556, Eq. 10.

        Args:
            N: Parameters with embeddings [1], shape (...).
            D: Tokens [tokens], broadcastable to (...).

        Returns:
            L [nats/token], shape (...); falls in both to E.

        Raises:
            ValueError: If any ``N <= 0`` or ``D <= 0``.

        Example:
            >>> round(float(HOFFMANN_PRINTED.loss(70e9, 1.4e12)), 5)
            1.93665
        """
        check_shapes(N=N, D=D)
        return self.E + self._N_term(N) + self._D_term(D)

    def tokens(self, N: ArrayLike, loss: ArrayLike) -> NDArray[np.float64]:
        r"""Return the tokens with which a model reaches a loss; the inverse of `loss` in D.

        .. math:: D = \left[A_D / (L - E - A_N / N^{\alpha_N})\right]^{1/\alpha_D}

        Source: Hoffmann et al. 2022, arXiv:2203.15556, Eq. 10, solved for D.

        Args:
            N: Parameters with embeddings [1], shape (...).
            loss: Loss to reach [nats/token], broadcastable to (...).

        Returns:
            D [tokens], shape (...); infinite where the model does not reach the loss.

        Raises:
            ValueError: If any ``N <= 0`` or ``loss <= 0``.

        Example:
            >>> print(f"{BESIROGLU.tokens(70e9, 1.97388186316):.4g}")
            1.4e+12
        """
        check_shapes(N=N, loss=loss)
        return solve((positive("L", loss) - self.E - self._N_term(N)) / self.A_D, 1.0, self.alpha_D)

    def size(self, D: ArrayLike, loss: ArrayLike) -> NDArray[np.float64]:
        r"""Return the model that reaches a loss on D tokens; the inverse of `loss` in N.

        .. math:: N = \left[A_N / (L - E - A_D / D^{\alpha_D})\right]^{1/\alpha_N}

        Source: Hoffmann et al. 2022, arXiv:2203.15556, Eq. 10, solved for N.

        Args:
            D: Tokens [tokens], shape (...).
            loss: Loss to reach [nats/token], broadcastable to (...).

        Returns:
            N [parameters with embeddings], shape (...); infinite where no model reaches the loss on these data.

        Raises:
            ValueError: If any ``D <= 0`` or ``loss <= 0``.

        Example:
            >>> print(f"{BESIROGLU.size(1.4e12, 1.97388186316):.4g}")
            7e+10
        """
        check_shapes(D=D, loss=loss)
        return solve((positive("L", loss) - self.E - self._D_term(D)) / self.A_N, 1.0, self.alpha_N)

    @property
    def exponent(self) -> float:
        """Exponent of N_opt in compute, alpha_D / (alpha_N + alpha_D); that of D_opt is one less this."""
        return self.alpha_D / (self.alpha_N + self.alpha_D)

    def N_opt(self, C: ArrayLike) -> NDArray[np.float64]:
        r"""Return the size of the best model for an amount of compute.

        .. math:: N_{opt} = G (C / 6)^{\alpha_D / (\alpha_N + \alpha_D)}, \qquad
            G = \left(\frac{\alpha_N A_N}{\alpha_D A_D}\right)^{1 / (\alpha_N + \alpha_D)}

        Source: Hoffmann et al. 2022, arXiv:2203.15556, Eq. 4, with C = 6 N D.

        Args:
            C: Compute [FLOP], shape (...).

        Returns:
            N_opt [parameters with embeddings], shape (...).

        Raises:
            ValueError: If any ``C <= 0``.

        Example:
            >>> print(f"{BESIROGLU.N_opt(5.76e23):.6g}")
            7.22487e+10
        """
        return self._G * (positive("C", C) / 6.0) ** self.exponent

    def D_opt(self, C: ArrayLike) -> NDArray[np.float64]:
        r"""Return the tokens of the best model for an amount of compute.

        .. math:: D_{opt} = (C / 6) / N_{opt}

        Source: Hoffmann et al. 2022, arXiv:2203.15556, Eq. 4, with C = 6 N D.

        Args:
            C: Compute [FLOP], shape (...).

        Returns:
            D_opt [tokens], shape (...).

        Raises:
            ValueError: If any ``C <= 0``.

        Example:
            >>> print(f"{BESIROGLU.D_opt(5.76e23) / BESIROGLU.N_opt(5.76e23):.4g} tokens per parameter")
            18.39 tokens per parameter
        """
        return (positive("C", C) / 6.0) ** (1.0 - self.exponent) / self._G

    def loss_opt(self, C: ArrayLike) -> NDArray[np.float64]:
        """Return the lowest loss for an amount of compute, L(N_opt, D_opt) [nats/token].

        Args:
            C: Compute [FLOP], shape (...).

        Raises:
            ValueError: If any ``C <= 0``.

        Example:
            >>> round(float(BESIROGLU.loss_opt(5.76e23)), 3)
            1.974
        """
        return self.loss(self.N_opt(C), self.D_opt(C))

    def compute(self, loss: ArrayLike) -> NDArray[np.float64]:
        r"""Return the least compute for a loss; the inverse of `loss_opt`.

        .. math:: L - E = K (C / 6)^{-\alpha_N \alpha_D / (\alpha_N + \alpha_D)}, \qquad
            K = A_N G^{-\alpha_N} + A_D G^{\alpha_D}

        Source: Hoffmann et al. 2022, arXiv:2203.15556, Eqs. 4 and 10, solved for C.

        Args:
            loss: Loss to reach [nats/token], shape (...).

        Returns:
            C [FLOP], shape (...); infinite where the loss is not above E.

        Raises:
            ValueError: If any ``loss <= 0``.

        Example:
            >>> print(f"{BESIROGLU.compute(BESIROGLU.loss_opt(5.76e23)):.4g}")
            5.76e+23
        """
        K = self.A_N * self._G**-self.alpha_N + self.A_D * self._G**self.alpha_D
        return solve((positive("L", loss) - self.E) / K, 6.0, self.alpha_N * self.exponent)

    @property
    def _G(self) -> float:
        return float((self.alpha_N * self.A_N / (self.alpha_D * self.A_D)) ** (1.0 / (self.alpha_N + self.alpha_D)))

    def _N_term(self, N: ArrayLike) -> NDArray[np.float64]:
        return self.A_N * positive("N", N) ** -self.alpha_N

    def _D_term(self, D: ArrayLike) -> NDArray[np.float64]:
        return self.A_D * positive("D", D) ** -self.alpha_D

    def __str__(self) -> str:
        return (
            f"L(N, D) = {self.E:.4g} + {self.A_N:.4g} / N^{self.alpha_N:.4g} + {self.A_D:.4g} / D^{self.alpha_D:.4g} "
            "(N with embeddings)"
        )


HOFFMANN_PRINTED = HoffmannND(E=1.69, A_N=406.4, A_D=410.7, alpha_N=0.34, alpha_D=0.28)
"""As printed by Hoffmann et al. 2022, arXiv:2203.15556, Eq. 10. Contradicted by its own data; kept for comparison."""

HOFFMANN_TEX = HoffmannND(E=1.6934, A_N=406.4, A_D=410.7, alpha_N=0.3392, alpha_D=0.2849)
"""The same with the digits of the paper's TeX source: rounding the exponents moved the optimum."""

BESIROGLU = HoffmannND(E=1.8172, A_N=482.01, A_D=2085.43, alpha_N=0.3478, alpha_D=0.3658)
"""Refitted to the same data: Besiroglu et al. 2024, arXiv:2404.10102; standard errors .03, 125, 1293, .02, .02."""
