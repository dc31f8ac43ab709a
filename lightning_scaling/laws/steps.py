"""The law of model and steps: the loss of a run while it trains, at any batch size. Sizes and steps may be infinite."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.laws._check import check_constants, check_shapes, positive, solve
from lightning_scaling.laws._implicit import solve_log_loss
from lightning_scaling.laws.batch import CriticalBatch


@dataclass(frozen=True)
class KaplanNS:
    r"""The loss of a model of N parameters during its training, with data that do not repeat.

    .. math:: L(N, S_{min}) = (N_c / N)^{\alpha_N} + (S_c / S_{min})^{\alpha_S}

    For a single run N is fixed, the first term is a constant E, and the law reads L(S) = E + (S_c / S)^alpha_S.
    The law starts after the warm-up and the first transient. It was fitted to runs whose learning rate follows one
    cosine to zero, so its value in the middle of such a run is not the final loss of a shorter one. Laws that know the
    learning rate do better there: `TissueLaw` and `MultiPowerLaw`.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.6 (= 5.6).

    Args:
        alpha_N: Exponent of the model size [1].
        alpha_S: Exponent of the steps [1].
        N_c: Scale of the model size [non-embedding parameters].
        S_c: Scale of the steps [steps].

    Raises:
        ValueError: If a constant is not positive and finite.

    Example:
        >>> round(float(KAPLAN_TABLE_3.loss(1e8, 1e4)), 5)
        3.10823
    """

    alpha_N: float
    alpha_S: float
    N_c: float
    S_c: float

    def __post_init__(self) -> None:
        check_constants(self)

    def loss(self, N: ArrayLike, S_min: ArrayLike) -> NDArray[np.float64]:
        r"""Return the loss after S_min steps at a batch size far above the critical one.

        .. math:: L(N, S_{min}) = (N_c / N)^{\alpha_N} + (S_c / S_{min})^{\alpha_S}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.6 (= 5.6).

        Args:
            N: Non-embedding parameters [1], shape (...).
            S_min: Steps at B >> B_crit [steps], broadcastable to (...).

        Returns:
            L [nats/token], shape (...); falls in both N and S_min.

        Raises:
            ValueError: If any ``N <= 0`` or ``S_min <= 0``.

        Example:
            >>> round(float(KAPLAN_TABLE_3.loss(1e9, 1e5)), 5)
            2.40051
        """
        check_shapes(N=N, S_min=S_min)
        return self.converged(N) + (self.S_c / positive("S_min", S_min)) ** self.alpha_S

    def converged(self, N: ArrayLike) -> NDArray[np.float64]:
        r"""Return the loss of a model of size N after endless training.

        .. math:: L(N, \infty) = (N_c / N)^{\alpha_N}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.6 for S -> infinity (with its own constants also Eq. 1.1).

        Args:
            N: Non-embedding parameters [1], shape (...).

        Returns:
            E [nats/token], shape (...).

        Raises:
            ValueError: If any ``N <= 0``.

        Example:
            >>> round(float(KAPLAN_TABLE_3.converged(1.5e9)), 5)
            2.27528
        """
        return (self.N_c / positive("N", N)) ** self.alpha_N

    def steps(self, N: ArrayLike, loss: ArrayLike) -> NDArray[np.float64]:
        r"""Return the steps to a loss at a batch size far above the critical one; the inverse of `loss`.

        .. math:: S_{min} = S_c \, [L - L(N, \infty)]^{-1/\alpha_S}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.6, solved for S_min.

        Args:
            N: Non-embedding parameters [1], shape (...).
            loss: Loss to reach [nats/token], broadcastable to (...).

        Returns:
            S_min [steps], shape (...), may be fractional; infinite where the loss is not above the converged one.

        Raises:
            ValueError: If any ``N <= 0`` or ``loss <= 0``.

        Example:
            >>> KAPLAN_TABLE_3.steps(1e8, [3.10822672363, 2.0]).round(3).tolist()
            [10000.0, inf]
        """
        check_shapes(N=N, loss=loss)
        return solve(positive("L", loss) - self.converged(N), self.S_c, self.alpha_S)

    def size(self, S_min: ArrayLike, loss: ArrayLike) -> NDArray[np.float64]:
        r"""Return the size of the model that reaches a loss in S_min steps; the inverse of `loss` in N.

        .. math:: N = N_c \, [L - (S_c / S_{min})^{\alpha_S}]^{-1/\alpha_N}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.6, solved for N.

        Args:
            S_min: Steps at B >> B_crit [steps], shape (...).
            loss: Loss to reach [nats/token], broadcastable to (...).

        Returns:
            N [non-embedding parameters], shape (...); infinite where no model reaches the loss in these steps.

        Raises:
            ValueError: If any ``S_min <= 0`` or ``loss <= 0``.

        Example:
            >>> print(f"{KAPLAN_TABLE_3.size(1e4, 3.10822672363):.6g}")
            1e+08
        """
        check_shapes(S_min=S_min, loss=loss)
        gap = positive("L", loss) - (self.S_c / positive("S_min", S_min)) ** self.alpha_S
        return solve(gap, self.N_c, self.alpha_N)

    def loss_at_batch(self, N: ArrayLike, S: ArrayLike, B: ArrayLike, critical: CriticalBatch) -> NDArray[np.float64]:
        r"""Return the loss after S steps at batch size B.

        .. math:: L = L(N, S_{min}), \qquad S_{min} = S / (1 + B_{crit}(L) / B)

        The loss is on both sides, in B_crit; there is exactly one root.

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eqs. 1.6, 5.3 and 5.4 solved together.

        Args:
            N: Non-embedding parameters [1], shape (...).
            S: Optimizer steps [steps], broadcastable to (...).
            B: Batch size [tokens/step], broadcastable to (...).
            critical: The critical batch size as a function of the loss.

        Returns:
            L [nats/token], shape (...); falls in N, S and B.

        Raises:
            ValueError: If any ``N``, ``S`` or ``B`` is not positive, or if ``N`` and ``S`` are both infinite.

        Example:
            >>> round(float(KAPLAN_TABLE_3.loss_at_batch(1e8, 250_000, 2**19, CriticalBatch(2e8, 0.21))), 5)
            2.87153
        """
        check_shapes(N=N, S=S, B=B)
        with np.errstate(divide="ignore"):  # log(E) of an infinite model is -inf, as it should be
            log_E = np.log(self.converged(N))
        log_S_term = self.alpha_S * (math.log(self.S_c) - np.log(positive("S", S)))
        log_batch_term = math.log(critical.B_star) - np.log(positive("B", B))
        log_E, log_S_term, log_batch_term = np.broadcast_arrays(log_E, log_S_term, log_batch_term)
        start = np.logaddexp(log_E, log_S_term)  # the loss at B = infinity
        if np.any(np.isneginf(start)):
            raise ValueError("Expected N or S to be finite, got both infinite, so ask for the limit in one of them.")

        def step_term(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            log_ratio = log_batch_term - x / critical.alpha_B  # log(B_crit / B)
            log_more = np.logaddexp(0.0, log_ratio)  # log(S / S_min)
            slope = -self.alpha_S / critical.alpha_B * np.exp(log_ratio - log_more)
            return log_S_term + self.alpha_S * log_more, slope

        magnitude = np.abs(log_S_term) + self.alpha_S * np.abs(log_batch_term)
        return np.exp(solve_log_loss(log_E, step_term, start, magnitude))

    def steps_at_batch(
        self, N: ArrayLike, loss: ArrayLike, B: ArrayLike, critical: CriticalBatch
    ) -> NDArray[np.float64]:
        r"""Return the steps to a loss at batch size B; the inverse of `loss_at_batch`.

        .. math:: S = S_c \, [L - L(N, \infty)]^{-1/\alpha_S} \, (1 + B_{crit}(L) / B)

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eqs. 1.6, 5.3 and 5.4, solved for S.

        Args:
            N: Non-embedding parameters [1], shape (...).
            loss: Loss to reach [nats/token], broadcastable to (...).
            B: Batch size [tokens/step], broadcastable to (...).
            critical: The critical batch size as a function of the loss.

        Returns:
            S [steps], shape (...), may be fractional; infinite where the loss is not above the converged one.

        Raises:
            ValueError: If any ``N``, ``loss`` or ``B`` is not positive.

        Example:
            >>> round(float(KAPLAN_TABLE_3.steps_at_batch(1e8, 2.87152847153, 2**19, CriticalBatch(2e8, 0.21))))
            250000
        """
        check_shapes(N=N, loss=loss, B=B)
        return self.steps(N, loss) * (1.0 + critical.B_crit(loss) / positive("B", B))

    def tokens_at_batch(
        self, N: ArrayLike, loss: ArrayLike, B: ArrayLike, critical: CriticalBatch
    ) -> NDArray[np.float64]:
        r"""Return the tokens to a loss at batch size B; large models need up to 100 times fewer (Fig. 19).

        .. math:: E = B \, S = S_{min}(N, L) \, (B + B_{crit}(L))

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eqs. 1.6, 5.3 and 5.4, with E = B S (Sec. 5.1).

        Args:
            N: Non-embedding parameters [1], shape (...).
            loss: Loss to reach [nats/token], broadcastable to (...).
            B: Batch size [tokens/step], broadcastable to (...).
            critical: The critical batch size as a function of the loss.

        Returns:
            Tokens, shape (...); grows with B, infinite where the loss is not above the converged one.

        Raises:
            ValueError: If any ``N``, ``loss`` or ``B`` is not positive.

        Example:
            >>> print(f"{KAPLAN_TABLE_3.tokens_at_batch(1e9, 3.0, 2**19, CriticalBatch(2e8, 0.21)):.3g}")
            5.87e+09
        """
        check_shapes(N=N, loss=loss, B=B)
        return self.steps(N, loss) * (positive("B", B) + critical.B_crit(loss))

    def __str__(self) -> str:
        return f"L(N, S_min) = ({self.N_c:.4g} / N)^{self.alpha_N:.4g} + ({self.S_c:.4g} / S_min)^{self.alpha_S:.4g}"


KAPLAN_TABLE_3 = KaplanNS(alpha_N=0.077, alpha_S=0.76, N_c=6.5e13, S_c=2.1e3)
"""L(N, S_min) as fitted by Kaplan et al. 2020, arXiv:2001.08361, Table 3."""
