"""The laws of Kaplan et al. 2020 that a single run obeys, each with its inverse.

`KaplanNS` is the loss L(N, S_min) of a model of N parameters after S_min steps, `CriticalBatch` the batch size
B_crit(L) up to which more data per step saves steps, and `S_min` the bridge between the steps taken at a batch size B
and the S_min of the law. The module constants are the paper's own numbers. They belong to WebText2, a vocabulary of
50257 tokens and losses in nats/token; on other data the shapes carry over and the numbers do not.

Sizes and steps may be infinite (the limit of the law), and a step count that no training reaches is infinite.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

_MAX_ITERATIONS = 100
_SO = {
    "N": "pass the number of non-embedding parameters",
    "S": "count optimizer steps from 1",
    "S_min": "count optimizer steps from 1",
    "C": "pass the compute of the run in FLOP",
    "B": "pass the tokens of one optimizer step over all ranks and accumulated batches",
    "B_crit": "pass a batch size in tokens",
    "L": "pass a loss in nats/token; a loss that can reach 0 or below does not follow these laws",
}


@dataclass(frozen=True)
class CriticalBatch:
    r"""The critical batch size: training at it takes twice the fewest steps and twice the fewest tokens.

    .. math:: B_{crit}(L) = B_* / L^{1/\alpha_B}

    It depends on the size of the model only through the loss. Outside the losses it was measured at (about 2 to 6
    nats/token), and for optimizers and data of today, read it as an order of magnitude.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 5.3.

    Args:
        B_star: B_crit extrapolated to L = 1 [tokens].
        alpha_B: Exponent [1].

    Raises:
        ValueError: If a constant is not positive and finite.

    Example:
        >>> round(float(KAPLAN_TEXT.B_crit(3.0)))
        1069114
    """

    B_star: float
    alpha_B: float

    def __post_init__(self) -> None:
        _check_constants(self)

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
        return np.exp(math.log(self.B_star) - np.log(_positive("L", L)) / self.alpha_B)

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
        return np.exp(self.alpha_B * (math.log(self.B_star) - np.log(_positive("B_crit", B_crit))))

    def __str__(self) -> str:
        return f"B_crit(L) = {self.B_star:.4g} tokens / L^{1.0 / self.alpha_B:.4g}"


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
    B_crit = CriticalBatch(B_star, alpha_B).B_crit(L)
    return _positive("S", S) / (1.0 + B_crit / _positive("B", B))


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
    B_crit = CriticalBatch(B_star, alpha_B).B_crit(L)
    return _positive("C", C) / (1.0 + _positive("B", B) / B_crit)


@dataclass(frozen=True)
class KaplanNS:
    r"""The loss of a model of N parameters during its training, with data that do not repeat.

    .. math:: L(N, S_{min}) = (N_c / N)^{\alpha_N} + (S_c / S_{min})^{\alpha_S}

    For a single run N is fixed, the first term is a constant E, and the law reads L(S) = E + (S_c / S)^alpha_S.
    The law starts after the warm-up and the first transient. It was fitted to runs whose learning rate follows one
    cosine to zero, so its value in the middle of such a run is not the final loss of a shorter one.

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
        _check_constants(self)

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
        return self.converged(N) + (self.S_c / _positive("S_min", S_min)) ** self.alpha_S

    def converged(self, N: ArrayLike) -> NDArray[np.float64]:
        r"""Return the loss of a model of size N after endless training.

        .. math:: L(N, \infty) = (N_c / N)^{\alpha_N}

        This is the E of the single-run law L(S) = E + (S_c / S)^alpha_S.

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
        return (self.N_c / _positive("N", N)) ** self.alpha_N

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
            >>> round(float(KAPLAN_TABLE_3.steps(1e8, 3.10822672363)))
            10000
            >>> float(KAPLAN_TABLE_3.steps(1e8, 2.0))
            inf
        """
        gap = _positive("L", loss) - self.converged(N)
        reached = gap > 0.0
        # [()] turns the result of scalar arguments back into a scalar, as in the other laws.
        return np.where(reached, self.S_c * np.where(reached, gap, 1.0) ** (-1.0 / self.alpha_S), np.inf)[()]

    def loss_at_batch(self, N: ArrayLike, S: ArrayLike, B: ArrayLike, critical: CriticalBatch) -> NDArray[np.float64]:
        r"""Return the loss after S steps at batch size B.

        .. math:: L = L(N, S_{min}), \qquad S_{min} = S / (1 + B_{crit}(L) / B)

        B_crit depends on the loss that is sought, so the equation is implicit; it has exactly one root.

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
            >>> round(float(KAPLAN_TABLE_3.loss_at_batch(1e8, 250_000, 2**19, KAPLAN_TEXT)), 5)
            2.87153
        """
        with np.errstate(divide="ignore"):  # log(E) of an infinite model is -inf, as it should be
            log_E = np.log(self.converged(N))
        log_S_term = self.alpha_S * (math.log(self.S_c) - np.log(_positive("S", S)))
        log_batch_term = math.log(critical.B_star) - np.log(_positive("B", B))
        log_E, log_S_term, log_batch_term = np.broadcast_arrays(log_E, log_S_term, log_batch_term)
        # With x = log L the equation reads 0 = h(x) = x - log(E + exp(s(x))), s(x) = alpha_S log(S_c / S_min). As s is
        # convex and falls in x, h is concave and rises with a slope of at least 1. From the left of its root Newton's
        # method therefore climbs monotonically to it, with no bracket to keep: the loss at B = infinity is a start.
        x: NDArray[np.float64] = np.logaddexp(log_E, log_S_term)
        if np.any(np.isneginf(x)):
            raise ValueError("Expected N or S to be finite, got both infinite, so ask for the limit in one of them.")
        for _ in range(_MAX_ITERATIONS):
            log_ratio = log_batch_term - x / critical.alpha_B  # log(B_crit / B)
            s = log_S_term + self.alpha_S * np.logaddexp(0.0, log_ratio)
            log_loss = np.logaddexp(log_E, s)
            slope = 1.0 + self.alpha_S / critical.alpha_B * np.exp(
                (s - log_loss) + (log_ratio - np.logaddexp(0.0, log_ratio))
            )
            step = (log_loss - x) / slope
            x = x + step
            rounding = 4.0 + np.abs(x) + np.abs(log_S_term) + self.alpha_S * np.abs(log_ratio)
            if np.all(np.abs(step) <= np.finfo(np.float64).eps * rounding):
                return np.exp(x)
        raise AssertionError(f"Newton's method did not settle in {_MAX_ITERATIONS} iterations: {self}, {critical}")

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
            >>> round(float(KAPLAN_TABLE_3.steps_at_batch(1e8, 2.87152847153, 2**19, KAPLAN_TEXT)))
            250000
        """
        return self.steps(N, loss) * (1.0 + critical.B_crit(loss) / _positive("B", B))

    def __str__(self) -> str:
        return f"L(N, S_min) = ({self.N_c:.4g} / N)^{self.alpha_N:.4g} + ({self.S_c:.4g} / S_min)^{self.alpha_S:.4g}"


def _positive(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """Return float64 values, all of them above zero."""
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"Expected {name} to be a number or an array of numbers, got {value!r}, so {_SO[name]}."
        ) from error
    bad = ~(array > 0.0)  # also true for NaN
    if np.any(bad):
        i = np.flatnonzero(bad)[0]
        where = f"[{i}]" if array.ndim else ""
        raise ValueError(f"Expected {name} > 0, got {name}{where}={array.flat[i]:.12g}, so {_SO[name]}.")
    return array


def _check_constants(law: CriticalBatch | KaplanNS) -> None:
    for name, value in vars(law).items():
        if not (isinstance(value, Real) and 0.0 < float(value) < math.inf):
            raise ValueError(
                f"Expected {type(law).__name__}.{name} to be positive and finite, got {value!r}, "
                "so take a published constant (for example KAPLAN_TABLE_3) or one fitted to your runs."
            )


KAPLAN_TABLE_3 = KaplanNS(alpha_N=0.077, alpha_S=0.76, N_c=6.5e13, S_c=2.1e3)
"""L(N, S_min) as fitted by Kaplan et al. 2020, arXiv:2001.08361, Table 3."""

KAPLAN_TEXT = CriticalBatch(B_star=2e8, alpha_B=0.21)
"""B_crit(L) with the B_* of the text of Kaplan et al. 2020, below Eq. 5.3."""

KAPLAN_TABLE_5 = CriticalBatch(B_star=2.1e8, alpha_B=0.21)
"""B_crit(L) with the B_* of Kaplan et al. 2020, Table 5: 5 % above the text."""

KAPLAN_FIGURE_10 = CriticalBatch(B_star=2.1e8, alpha_B=1.0 / 4.8)
"""B_crit(L) = 2.1e8 tokens / L^4.8, as the legend of Fig. 10 of Kaplan et al. 2020 has it."""
