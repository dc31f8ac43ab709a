"""The compute-efficient frontier as measured: power trends in compute, and where they must break down."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.laws._check import check_constants, positive, power
from lightning_scaling.laws.power import KAPLAN_TABLE_5_C_MIN, KaplanC, KaplanD
from lightning_scaling.units import PF_DAY


@dataclass(frozen=True)
class Trend:
    r"""A quantity that grows as a power of another.

    .. math:: y = k \, (x / u)^p

    Args:
        k: Value at x = u [unit of y].
        p: Exponent [1].
        u: Unit in which x was printed [unit of x].

    Raises:
        ValueError: If a constant is not positive and finite.

    Example:
        >>> print(f"{KAPLAN_EQ_4_4(1e9):.6g} tokens keep a model of 1e9 parameters from overfitting")
        2.28544e+10 tokens keep a model of 1e9 parameters from overfitting
    """

    k: float
    p: float
    u: float = 1.0

    def __post_init__(self) -> None:
        check_constants(self)

    def __call__(self, x: ArrayLike) -> NDArray[np.float64]:
        """Return y at x, shape (...).

        Raises:
            ValueError: If any ``x <= 0``.
        """
        return self.k * (positive("x", x) / self.u) ** self.p

    def inverse(self, y: ArrayLike) -> NDArray[np.float64]:
        """Return the x of y, shape (...).

        Raises:
            ValueError: If any ``y <= 0``.

        Example:
            >>> print(f"{KAPLAN_EQ_4_4.inverse(22854409480.7):.6g}")
            1e+09
        """
        return self.u * power(positive("y", y) / self.k, 1.0 / self.p)

    def __str__(self) -> str:
        return f"{self.k:.4g} x^{self.p:.4g}" if self.u == 1.0 else f"{self.k:.4g} (x / {self.u:.4g})^{self.p:.4g}"


@dataclass(frozen=True)
class EmpiricalFrontier:
    """Model, batch, steps and data of compute-efficient training, each a trend in C_min.

    The optimum behind them was found with the batch, the warm-up and the rates of the paper; later work puts N at about
    C^0.5 (Hoffmann et al. 2022, arXiv:2203.15556; Porian et al. 2024, arXiv:2406.19146): see `HoffmannND`.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Table 6 and Eq. 1.3.

    Args:
        N: Model size [non-embedding parameters], from C_min [FLOP].
        B: Batch size, well below it or at most at it [tokens].
        S_min: Least steps [steps], a lower bound.
        D: Tokens of one epoch at the critical batch [tokens], twice the least.
        in_compute: L(C_min).

    Example:
        >>> best = KAPLAN_TABLE_6
        >>> print(f"{best.N(10 * PF_DAY):.6g} {best.B(10 * PF_DAY):.6g} {best.S_min(10 * PF_DAY):.6g}")
        6.98141e+09 3.4756e+06 5786.2
    """

    N: Trend
    B: Trend
    S_min: Trend
    D: Trend
    in_compute: KaplanC

    def loss(self, C_min: ArrayLike) -> NDArray[np.float64]:
        """Return the lowest loss for an amount of compute (Eq. 1.3).

        Args:
            C_min: Compute at B << B_crit [FLOP], shape (...).

        Returns:
            L [nats/token], shape (...).

        Raises:
            ValueError: If any ``C_min <= 0``.

        Example:
            >>> round(float(KAPLAN_TABLE_6.loss(PF_DAY)), 5)
            2.65808
        """
        return self.in_compute.loss(C_min)

    def compute(self, loss: ArrayLike) -> NDArray[np.float64]:
        """Return the least compute for a loss [FLOP]; the inverse of `loss`.

        Args:
            loss: Loss [nats/token], shape (...).

        Returns:
            C_min [FLOP], shape (...).

        Raises:
            ValueError: If any ``loss <= 0``.

        Example:
            >>> round(float(KAPLAN_TABLE_6.compute(2.65808022625) / PF_DAY), 6)
            1.0
        """
        return self.in_compute.compute(loss)

    def breakdown(self, in_data: KaplanD) -> float:
        r"""Return the compute at which efficient training meets the loss that its own data allow.

        .. math:: (C_c / C_{min})^{\alpha_C} = (D_c / D(C_{min}))^{\alpha_D}

        Beyond it the laws contradict each other, so one of them fails before. The paper: 1e4 PF-days, N 1e12, D 1e12,
        1.7 nats/token, give or take a factor of ten. With its Eq. 6.7 in place of Table 6 it is ten times further.

        Source: Kaplan et al. 2020, arXiv:2001.08361, Sec. 6.3 and Eq. 6.8.

        Args:
            in_data: L(D).

        Returns:
            C_min [FLOP].

        Raises:
            ValueError: If the two losses never cross as compute grows.

        Example:
            >>> from lightning_scaling.laws import KAPLAN_TABLE_5_D
            >>> print(f"{KAPLAN_TABLE_6.breakdown(KAPLAN_TABLE_5_D) / PF_DAY:.6g}")
            11189.5
        """
        C, D = self.in_compute, self.D
        slope = C.alpha_C - D.p * in_data.alpha_D  # of log L(D(C)) - log L(C) in log C
        if slope <= 0.0:
            raise ValueError(
                f"Expected L(C_min) to fall faster than L(D(C_min)), got exponents {C.alpha_C:g} and "
                f"{D.p * in_data.alpha_D:g}, so these laws never contradict each other."
            )
        offset = C.alpha_C * np.log(C.C_c) - in_data.alpha_D * (np.log(in_data.D_c / D.k) + D.p * np.log(D.u))
        return float(np.exp(offset / slope))

    def __str__(self) -> str:
        return f"x = C_min: N = {self.N}, B = {self.B}, S_min = {self.S_min}, D = {self.D}; {self.in_compute}"


KAPLAN_EQ_4_4 = Trend(5e3, 0.74)
"""Tokens that keep overfitting below seed noise (2 %) as a trend in N; Eq. 4.4. `KaplanND.tokens_needed` is exact."""

KAPLAN_EQ_6_7 = Trend(4e10, 0.26, PF_DAY)
"""D(C_min) as Eq. 6.7 prints it: twice Table 6, which is the one that agrees with Eqs. 6.1 and 6.8."""

KAPLAN_TABLE_6 = EmpiricalFrontier(
    N=Trend(1.3e9, 0.73, PF_DAY),
    B=Trend(2.0e6, 0.24, PF_DAY),
    S_min=Trend(5.4e3, 0.03, PF_DAY),
    D=Trend(2e10, 0.27, PF_DAY),
    in_compute=KAPLAN_TABLE_5_C_MIN,
)
"""Compute-efficient training as Kaplan et al. 2020 measured it, Table 6; its 6 N B S_min is 0.975 C_min."""
