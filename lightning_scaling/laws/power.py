"""The three laws of one variable: only the model, the data or the compute is short. None has an irreducible loss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.laws._check import check_constants, positive, power
from lightning_scaling.units import PF_DAY


@dataclass(frozen=True)
class KaplanN:
    r"""The loss of a model of N parameters, trained to convergence on data that do not run out.

    .. math:: L(N) = (N_c / N)^{\alpha_N}

    It has no irreducible loss, so far beyond the models that it was fitted to it promises too much; Hoffmann et al.
    2022 add one (`HoffmannND`). How the exponents change where N counts the embeddings too is in Pearce and Song 2024,
    arXiv:2406.12907.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.1.

    Args:
        alpha_N: Exponent [1].
        N_c: Scale [non-embedding parameters].

    Raises:
        ValueError: If a constant is not positive and finite.

    Example:
        >>> round(float(KAPLAN_TABLE_5_N.loss(1.5e9)), 5)
        2.30355
    """

    alpha_N: float
    N_c: float

    def __post_init__(self) -> None:
        check_constants(self)

    def loss(self, N: ArrayLike) -> NDArray[np.float64]:
        r"""Return the converged loss of a model.

        .. math:: L = (N_c / N)^{\alpha_N}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.1.

        Args:
            N: Non-embedding parameters [1], shape (...).

        Returns:
            L [nats/token], shape (...); falls in N, 0 for an infinite model.

        Raises:
            ValueError: If any ``N <= 0``.

        Example:
            >>> round(float(KAPLAN_TABLE_5_N.loss(2e8) / KAPLAN_TABLE_5_N.loss(1e8)), 3)  # 5 % less
            0.949
        """
        return (self.N_c / positive("N", N)) ** self.alpha_N

    def size(self, loss: ArrayLike) -> NDArray[np.float64]:
        r"""Return the size of the model that converges to a loss; the inverse of `loss`.

        .. math:: N = N_c \, L^{-1/\alpha_N}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.1, solved for N.

        Args:
            loss: Loss [nats/token], shape (...).

        Returns:
            N [non-embedding parameters], shape (...).

        Raises:
            ValueError: If any ``loss <= 0``.

        Example:
            >>> print(f"{KAPLAN_TABLE_5_N.size(2.303550552):.6g}")
            1.5e+09
        """
        return self.N_c * power(positive("L", loss), -1.0 / self.alpha_N)

    def __str__(self) -> str:
        return f"L(N) = ({self.N_c:.4g} / N)^{self.alpha_N:.4g}"


@dataclass(frozen=True)
class KaplanD:
    r"""The loss of a model that is not too small, trained on D tokens and stopped when the test loss turns.

    .. math:: L(D) = (D_c / D)^{\alpha_D}

    It has no irreducible loss, so far beyond the data that it was fitted to it promises too much; Hoffmann et al. 2022
    add one (`HoffmannND`).

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.2.

    Args:
        alpha_D: Exponent [1].
        D_c: Scale [tokens].

    Raises:
        ValueError: If a constant is not positive and finite.

    Example:
        >>> round(float(KAPLAN_TABLE_5_D.loss(22e9)), 5)
        2.09917
    """

    alpha_D: float
    D_c: float

    def __post_init__(self) -> None:
        check_constants(self)

    def loss(self, D: ArrayLike) -> NDArray[np.float64]:
        r"""Return the early-stopped loss on D tokens.

        .. math:: L = (D_c / D)^{\alpha_D}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.2.

        Args:
            D: Tokens of the training set [tokens], shape (...).

        Returns:
            L [nats/token], shape (...); falls in D, 0 for endless data.

        Raises:
            ValueError: If any ``D <= 0``.

        Example:
            >>> round(float(KAPLAN_TABLE_5_D.loss(1e9)), 5)
            2.81564
        """
        return (self.D_c / positive("D", D)) ** self.alpha_D

    def tokens(self, loss: ArrayLike) -> NDArray[np.float64]:
        r"""Return the tokens that a loss asks for; the inverse of `loss`.

        .. math:: D = D_c \, L^{-1/\alpha_D}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.2, solved for D.

        Args:
            loss: Loss [nats/token], shape (...).

        Returns:
            D [tokens], shape (...).

        Raises:
            ValueError: If any ``loss <= 0``.

        Example:
            >>> print(f"{KAPLAN_TABLE_5_D.tokens(2.09916826682):.6g}")
            2.2e+10
        """
        return self.D_c * power(positive("L", loss), -1.0 / self.alpha_D)

    def __str__(self) -> str:
        return f"L(D) = ({self.D_c:.4g} tokens / D)^{self.alpha_D:.4g}"


@dataclass(frozen=True)
class KaplanC:
    r"""The loss that an amount of compute buys with a model of the best size.

    .. math:: L(C) = (C_c / C)^{\alpha_C}

    One form, two laws: C is what was spent at a batch of 2^19 tokens (Eq. 3.3), or C_min, what a batch far below the
    critical one would have spent (Eq. 1.3). The best N behind it is too large by later work: see `HoffmannND`.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eqs. 3.3 and 1.3.

    Args:
        alpha_C: Exponent [1].
        C_c: Scale [FLOP].

    Raises:
        ValueError: If a constant is not positive and finite.

    Example:
        >>> print(KAPLAN_TABLE_5_C_MIN)
        L(C) = (2.678e+28 FLOP / C)^0.05
    """

    alpha_C: float
    C_c: float

    def __post_init__(self) -> None:
        check_constants(self)

    def loss(self, C: ArrayLike) -> NDArray[np.float64]:
        r"""Return the loss at an amount of compute.

        .. math:: L = (C_c / C)^{\alpha_C}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eqs. 3.3 and 1.3.

        Args:
            C: Compute, in the sense of the constants [FLOP], shape (...).

        Returns:
            L [nats/token], shape (...); falls in C.

        Raises:
            ValueError: If any ``C <= 0``.

        Example:
            >>> round(float(KAPLAN_TABLE_5_C.loss(PF_DAY)), 5)
            2.57416
        """
        return (self.C_c / positive("C", C)) ** self.alpha_C

    def compute(self, loss: ArrayLike) -> NDArray[np.float64]:
        r"""Return the compute that a loss asks for; the inverse of `loss`.

        .. math:: C = C_c \, L^{-1/\alpha_C}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eqs. 3.3 and 1.3, solved for C.

        Args:
            loss: Loss [nats/token], shape (...).

        Returns:
            C [FLOP], shape (...).

        Raises:
            ValueError: If any ``loss <= 0``.

        Example:
            >>> print(f"{KAPLAN_TABLE_5_C_MIN.compute(2.36901649528) / PF_DAY:.6g}")
            10
        """
        return self.C_c * power(positive("L", loss), -1.0 / self.alpha_C)

    def __str__(self) -> str:
        return f"L(C) = ({self.C_c:.4g} FLOP / C)^{self.alpha_C:.4g}"


KAPLAN_TABLE_5_N = KaplanN(alpha_N=0.076, N_c=8.8e13)
"""L(N) of Kaplan et al. 2020, Table 5. Tables 2 and 3 have other N_c: 2 % apart in L(1.5e9)."""

KAPLAN_TABLE_5_D = KaplanD(alpha_D=0.095, D_c=5.4e13)
"""L(D) of Kaplan et al. 2020, Table 5. Table 2 has other constants, fitted with those of L(N, D)."""

KAPLAN_TABLE_5_C = KaplanC(alpha_C=0.057, C_c=1.6e7 * PF_DAY)
"""Naive L(C) of Kaplan et al. 2020, Table 5."""

KAPLAN_TABLE_5_C_MIN = KaplanC(alpha_C=0.050, C_c=3.1e8 * PF_DAY)
"""L(C_min) of Kaplan et al. 2020, Table 5. Theory (Eq. B.7) gives 0.052, Eq. 6.4 prints 0.054."""
