"""The compute-efficient frontier in closed form: the best model for an amount of compute, and any other."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.laws._check import check_shapes, positive, power
from lightning_scaling.laws._implicit import solve_log_loss
from lightning_scaling.laws.batch import KAPLAN_TABLE_5, CriticalBatch
from lightning_scaling.laws.power import KaplanC
from lightning_scaling.laws.steps import KAPLAN_TABLE_3, KaplanNS


@dataclass(frozen=True)
class Frontier:
    r"""The lowest loss for an amount of compute, as it follows from L(N, S_min) and B_crit(L).

    .. math:: L(C_{min}) = (C_c / C_{min})^{\alpha_C}, \qquad
        \alpha_C = \left(1/\alpha_S + 1/\alpha_B + 1/\alpha_N\right)^{-1}

    Compute is C_min and steps are S_min, so that C_min = 6 N B_crit S_min: with that reading Eqs. B.3 to B.10 follow
    from Eqs. 1.6 and 5.3 to 5.5 and nothing is lost. (The paper calls them compute and steps at the critical batch,
    where both are twice as large.) At 1 PF-day this theory and the fit of the same paper (`EmpiricalFrontier`, Table 6)
    are a factor 2.2 apart in N and 2.4 in S_min.

    N grows as C^0.68 here and C^0.73 in Table 6. Later work puts it at about C^0.5 (Hoffmann et al. 2022,
    arXiv:2203.15556; Besiroglu et al. 2024, arXiv:2404.10102): see `HoffmannND`.

    Source: Kaplan et al. 2020, arXiv:2001.08361, App. B.

    Args:
        law: L(N, S_min).
        critical: B_crit(L), in tokens.

    Raises:
        ValueError: If the critical batch size counts anything but tokens.

    Example:
        >>> best = KAPLAN_APPENDIX_B
        >>> print(f"{best.N(8.64e19):.6g} {best.S_min(8.64e19):.6g} {best.B(8.64e19):.6g}")
        5.84408e+08 13160.7 1.87226e+06
    """

    law: KaplanNS
    critical: CriticalBatch

    def __post_init__(self) -> None:
        if self.critical.unit != "tokens":
            raise ValueError(
                f"Expected a critical batch size in tokens, got one in {self.critical.unit}, of which compute takes "
                "the positions each, so fit it to runs whose batch is known in tokens."
            )

    @property
    def excess(self) -> float:
        """The f of Eq. B.5: efficient training ends this share above the converged loss, alpha_N / alpha_S."""
        return self.law.alpha_N / self.law.alpha_S

    @property
    def in_compute(self) -> KaplanC:
        r"""L(C_min) as a law of its own, with the exponent of Eq. B.7 and the scale of Eq. B.8.

        .. math:: C_c = 6 N_c B_* S_c \left(1 + \frac{\alpha_N}{\alpha_S}\right)^{1/\alpha_S + 1/\alpha_N}
            \left(\frac{\alpha_S}{\alpha_N}\right)^{1/\alpha_S}
        """
        law, critical, f = self.law, self.critical, self.excess
        alpha_C = 1.0 / (1.0 / law.alpha_S + 1.0 / critical.alpha_B + 1.0 / law.alpha_N)
        log_C_c = math.log(6.0 * law.N_c * critical.B_star * law.S_c)
        log_C_c += (1.0 / law.alpha_S + 1.0 / law.alpha_N) * math.log1p(f) - math.log(f) / law.alpha_S
        return KaplanC(alpha_C=alpha_C, C_c=math.exp(log_C_c))

    def loss(self, C_min: ArrayLike) -> NDArray[np.float64]:
        """Return the lowest loss for an amount of compute (Eq. B.6).

        Args:
            C_min: Compute at B << B_crit [FLOP], shape (...).

        Returns:
            L [nats/token], shape (...).

        Raises:
            ValueError: If any ``C_min <= 0``.

        Example:
            >>> round(float(KAPLAN_APPENDIX_B.loss(8.64e19)), 5)
            2.69444
        """
        return self.in_compute.loss(positive("C_min", C_min))

    def compute(self, loss: ArrayLike) -> NDArray[np.float64]:
        """Return the least compute for a loss [FLOP]; the inverse of `loss`.

        Args:
            loss: Loss [nats/token], shape (...).

        Returns:
            C_min [FLOP], shape (...).

        Raises:
            ValueError: If any ``loss <= 0``.

        Example:
            >>> round(float(KAPLAN_APPENDIX_B.compute(2.69444322313) / 8.64e19), 6)
            1.0
        """
        return self.in_compute.compute(loss)

    def N(self, C_min: ArrayLike) -> NDArray[np.float64]:
        r"""Return the size of the best model.

        .. math:: N = N_c (C_{min} / C_c)^{\alpha_C/\alpha_N} (1 + \alpha_N/\alpha_S)^{1/\alpha_N}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. B.9.

        Args:
            C_min: Compute at B << B_crit [FLOP], shape (...).

        Returns:
            N [non-embedding parameters], shape (...).

        Raises:
            ValueError: If any ``C_min <= 0``.

        Example:
            >>> print(f"{KAPLAN_APPENDIX_B.N(8.64e20):.6g}")
            2.80494e+09
        """
        return self.law.N_c * power((1.0 + self.excess) / self.loss(C_min), 1.0 / self.law.alpha_N)

    def compute_for_size(self, N: ArrayLike) -> NDArray[np.float64]:
        """Return the compute for which a model is the best one [FLOP]; the inverse of `N`.

        Args:
            N: Non-embedding parameters [1], shape (...).

        Returns:
            C_min [FLOP], shape (...).

        Raises:
            ValueError: If any ``N <= 0``.

        Example:
            >>> round(float(KAPLAN_APPENDIX_B.compute_for_size(2804938752.56) / 8.64e19), 6)
            10.0
        """
        return self.compute((1.0 + self.excess) * self.law.converged(N))

    def S_min(self, C_min: ArrayLike) -> NDArray[np.float64]:
        r"""Return the least steps of the best model.

        .. math:: S_{min} = S_c \left[(1 + \alpha_S/\alpha_N) / L(C_{min})\right]^{1/\alpha_S}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. B.10, with C_c put in.

        Args:
            C_min: Compute at B << B_crit [FLOP], shape (...).

        Returns:
            S_min [steps], shape (...).

        Raises:
            ValueError: If any ``C_min <= 0``.

        Example:
            >>> print(f"{KAPLAN_APPENDIX_B.S_min(8.64e20):.6g}")
            15427.5
        """
        return self.law.S_c * power((1.0 + 1.0 / self.excess) / self.loss(C_min), 1.0 / self.law.alpha_S)

    def B(self, C_min: ArrayLike) -> NDArray[np.float64]:
        """Return the critical batch at the loss that the compute buys [tokens] (Eq. 5.3 at Eq. B.6).

        Args:
            C_min: Compute at B << B_crit [FLOP], shape (...).

        Returns:
            B_crit [tokens], shape (...); 6 N B S_min is C_min.

        Raises:
            ValueError: If any ``C_min <= 0``.

        Example:
            >>> print(f"{KAPLAN_APPENDIX_B.B(8.64e20):.6g}")
            3.32769e+06
        """
        return self.critical.B_crit(self.loss(C_min))

    def loss_at_size(self, N: ArrayLike, C_min: ArrayLike) -> NDArray[np.float64]:
        r"""Return the loss that the compute buys with a model of any size.

        .. math:: L = (N_c / N)^{\alpha_N} + \left(\frac{6 B_* S_c N}{L^{1/\alpha_B} C_{min}}\right)^{\alpha_S}

        The loss is on both sides; the equation has exactly one root.

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. B.3.

        Args:
            N: Non-embedding parameters [1], finite, shape (...).
            C_min: Compute at B << B_crit [FLOP], broadcastable to (...).

        Returns:
            L [nats/token], shape (...); smallest at N = `N` of the compute.

        Raises:
            ValueError: If any ``N`` is not positive and finite, or any ``C_min <= 0``.

        Example:
            >>> KAPLAN_APPENDIX_B.loss_at_size([1e8, 5.84e8, 1e10], 8.64e19).round(3).tolist()
            [2.855, 2.694, 3.165]
        """
        check_shapes(N=N, C_min=C_min)
        law, alpha_B = self.law, self.critical.alpha_B
        if np.any(np.isinf(positive("N", N))):
            raise ValueError("Expected N to be finite, got an infinite one, so pass a size that the compute can train.")
        log_E = np.log(law.converged(N))
        log_samples = np.log(6.0 * self.critical.B_star * law.S_c) + np.log(N) - np.log(positive("C_min", C_min))
        log_E, log_samples = np.broadcast_arrays(log_E, log_samples)

        def step_term(x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
            return law.alpha_S * (log_samples - x / alpha_B), np.full_like(x, -law.alpha_S / alpha_B)

        return np.exp(solve_log_loss(log_E, step_term, log_E, law.alpha_S * np.abs(log_samples)))

    def compute_at_size(self, N: ArrayLike, loss: ArrayLike) -> NDArray[np.float64]:
        r"""Return the compute with which a model of any size reaches a loss; the inverse of `loss_at_size`.

        .. math:: C_{min} = \frac{6 B_* S_c N}{L^{1/\alpha_B}} \left(L - (N_c / N)^{\alpha_N}\right)^{-1/\alpha_S}

        Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. B.15.

        Args:
            N: Non-embedding parameters [1], shape (...).
            loss: Loss to reach [nats/token], broadcastable to (...).

        Returns:
            C_min [FLOP], shape (...); infinite where the model does not reach the loss.

        Raises:
            ValueError: If any ``N <= 0`` or ``loss <= 0``.

        Example:
            >>> round(float(KAPLAN_APPENDIX_B.compute_at_size(1e9, 2.69444322313) / 8.64e19), 3)
            1.099
        """
        check_shapes(N=N, loss=loss)
        return 6.0 * positive("N", N) * self.critical.B_crit(loss) * self.law.steps(N, loss)

    def __str__(self) -> str:
        return f"{self.law}; {self.critical}; frontier {self.in_compute}"


KAPLAN_APPENDIX_B = Frontier(KAPLAN_TABLE_3, KAPLAN_TABLE_5)
"""The frontier of Kaplan et al. 2020, App. B, from L(N, S_min) of Table 3 and B_crit(L) of Table 5."""
