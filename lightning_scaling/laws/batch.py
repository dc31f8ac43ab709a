"""The critical batch size, and the bridge between what a run took at its batch and the least it could have taken.

Below the critical batch more data per step saves steps at no cost in tokens; above it more tokens save hardly any.
`S_min` and `C_min` turn steps and compute at a batch B into the units of the laws, `S_at_batch` and `C_at_batch` back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.laws._check import check_constants, check_shapes, positive


@dataclass(frozen=True)
class CriticalBatch:
    r"""The critical batch size: training at it takes twice the fewest steps and twice the fewest tokens.

    .. math:: B_{crit}(L) = B_* / L^{1/\alpha_B}

    It depends on the size of the model only through the loss. Outside the losses it was measured at (about 2 to 6
    nats/token), and for optimizers and data of today, read it as an order of magnitude: Zhang et al. 2024,
    arXiv:2410.21676, find that it grows with the tokens of the run and hardly with the model, Merrill et al. 2025,
    arXiv:2505.23971, that it rises early and then stays.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 5.3.

    Args:
        B_star: B_crit extrapolated to L = 1 [tokens].
        alpha_B: Exponent [1].
        unit: What batch sizes count where it is not tokens, for print: a law that was fitted to runs in samples has
            all its batch sizes in samples.

    Raises:
        ValueError: If a constant is not positive and finite.

    Example:
        >>> round(float(KAPLAN_TEXT.B_crit(3.0)))
        1069114
    """

    B_star: float
    alpha_B: float
    unit: str = "tokens"

    def __post_init__(self) -> None:
        check_constants(self)

    def B_crit(self, L: ArrayLike) -> NDArray[np.float64]:
        r"""Return the critical batch size at a loss.

        .. math:: B_{crit}(L) = B_* / L^{1/\alpha_B}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 5.3.

        Args:
            L: Loss [nats/token], shape (...).

        Returns:
            B_crit [tokens], shape (...).

        Raises:
            ValueError: If any ``L <= 0``.

        Example:
            >>> round(float(KAPLAN_TEXT.B_crit(4.0)))
            271693
        """
        return np.exp(math.log(self.B_star) - np.log(positive("L", L)) / self.alpha_B)

    def loss(self, B_crit: ArrayLike) -> NDArray[np.float64]:
        r"""Return the loss at which a batch size is the critical one; the inverse of `B_crit`.

        .. math:: L = (B_* / B_{crit})^{\alpha_B}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 5.3, solved for L.

        Args:
            B_crit: Critical batch size [tokens], shape (...).

        Returns:
            L [nats/token], shape (...).

        Raises:
            ValueError: If any ``B_crit <= 0``.

        Example:
            >>> round(float(KAPLAN_TEXT.loss(2**19)), 3)
            3.484
        """
        return np.exp(self.alpha_B * (math.log(self.B_star) - np.log(positive("B_crit", B_crit))))

    def __str__(self) -> str:
        return f"B_crit(L) = {self.B_star:.4g} {self.unit} / L^{1.0 / self.alpha_B:.4g}"


def S_min(S: ArrayLike, B: ArrayLike, L: ArrayLike, *, B_star: float, alpha_B: float) -> NDArray[np.float64]:
    r"""Return the steps the same loss would take at B >> B_crit(L).

    .. math:: S_{min} = S / (1 + B_{crit}(L) / B), \qquad B_{crit}(L) = B_* / L^{1/\alpha_B}

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 5.4 (B_crit: Eq. 5.3).

    Args:
        S: Optimizer steps taken [steps], shape (...).
        B: Batch size [tokens/step], broadcastable to (...).
        L: Loss reached [nats/token], broadcastable to (...).
        B_star: B_crit extrapolated to L = 1 [tokens].
        alpha_B: Exponent of B_crit [1].

    Returns:
        S_min [steps], shape (...), never above S.

    Raises:
        ValueError: If any of the arguments is not positive.

    Example:
        >>> round(float(S_min(250_000, 2**19, 3.0, B_star=2e8, alpha_B=0.21)))
        82259
    """
    check_shapes(S=S, B=B, L=L)
    B_crit = CriticalBatch(B_star, alpha_B).B_crit(L)
    return positive("S", S) / (1.0 + B_crit / positive("B", B))


def C_min(C: ArrayLike, B: ArrayLike, L: ArrayLike, *, B_star: float, alpha_B: float) -> NDArray[np.float64]:
    r"""Return the compute the same loss would take at B << B_crit(L).

    .. math:: C_{min} = C / (1 + B / B_{crit}(L)), \qquad B_{crit}(L) = B_* / L^{1/\alpha_B}

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 5.5 (B_crit: Eq. 5.3).

    Args:
        C: Compute spent [FLOP], shape (...).
        B: Batch size [tokens/step], broadcastable to (...).
        L: Loss reached [nats/token], broadcastable to (...).
        B_star: B_crit extrapolated to L = 1 [tokens].
        alpha_B: Exponent of B_crit [1].

    Returns:
        C_min [FLOP], shape (...), never above C.

    Raises:
        ValueError: If any of the arguments is not positive.

    Example:
        >>> round(float(C_min(1.0, 2**19, 3.0, B_star=2e8, alpha_B=0.21)), 6)
        0.670963
    """
    check_shapes(C=C, B=B, L=L)
    B_crit = CriticalBatch(B_star, alpha_B).B_crit(L)
    return positive("C", C) / (1.0 + positive("B", B) / B_crit)


def S_at_batch(S_min: ArrayLike, B: ArrayLike, L: ArrayLike, *, B_star: float, alpha_B: float) -> NDArray[np.float64]:
    r"""Return the steps to the same loss at batch size B; the inverse of `S_min`.

    .. math:: S = S_{min} (1 + B_{crit}(L) / B)

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 5.4, solved for S.

    Args:
        S_min: Steps at B >> B_crit [steps], shape (...).
        B: Batch size [tokens/step], broadcastable to (...).
        L: Loss reached [nats/token], broadcastable to (...).
        B_star: B_crit extrapolated to L = 1 [tokens].
        alpha_B: Exponent of B_crit [1].

    Returns:
        S [steps], shape (...), never below S_min.

    Raises:
        ValueError: If any of the arguments is not positive.

    Example:
        >>> round(float(S_at_batch(82259.2159154, 2**19, 3.0, B_star=2e8, alpha_B=0.21)))
        250000
    """
    check_shapes(S_min=S_min, B=B, L=L)
    B_crit = CriticalBatch(B_star, alpha_B).B_crit(L)
    return positive("S_min", S_min) * (1.0 + B_crit / positive("B", B))


def C_at_batch(C_min: ArrayLike, B: ArrayLike, L: ArrayLike, *, B_star: float, alpha_B: float) -> NDArray[np.float64]:
    r"""Return the compute to the same loss at batch size B; the inverse of `C_min`.

    .. math:: C = C_{min} (1 + B / B_{crit}(L))

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 5.5, solved for C.

    Args:
        C_min: Compute at B << B_crit [FLOP], shape (...).
        B: Batch size [tokens/step], broadcastable to (...).
        L: Loss reached [nats/token], broadcastable to (...).
        B_star: B_crit extrapolated to L = 1 [tokens].
        alpha_B: Exponent of B_crit [1].

    Returns:
        C [FLOP], shape (...), never below C_min.

    Raises:
        ValueError: If any of the arguments is not positive.

    Example:
        >>> round(float(C_at_batch(0.670963136338, 2**19, 3.0, B_star=2e8, alpha_B=0.21)), 6)
        1.0
    """
    check_shapes(C_min=C_min, B=B, L=L)
    B_crit = CriticalBatch(B_star, alpha_B).B_crit(L)
    return positive("C_min", C_min) * (1.0 + positive("B", B) / B_crit)


KAPLAN_TEXT = CriticalBatch(B_star=2e8, alpha_B=0.21)
"""B_crit(L) with the B_* of the text of Kaplan et al. 2020, below Eq. 5.3."""

KAPLAN_TABLE_5 = CriticalBatch(B_star=2.1e8, alpha_B=0.21)
"""B_crit(L) with the B_* of Kaplan et al. 2020, Table 5: 5 % above the text."""

KAPLAN_FIGURE_10 = CriticalBatch(B_star=2.1e8, alpha_B=1.0 / 4.8)
"""B_crit(L) = 2.1e8 tokens / L^4.8, as the legend of Fig. 10 of Kaplan et al. 2020 has it."""
