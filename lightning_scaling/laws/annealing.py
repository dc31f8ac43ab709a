"""Later laws of one run that know the learning rate: what L(N, S) cannot say about the middle of a schedule.

Rates are those of the optimizer at each step, and constants belong to their unit and their peak. Both laws are written
for all steps at once, as published; the engine that forecasts a run has its own, shorter form.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.laws._check import check_constants


@dataclass(frozen=True)
class TissueLaw:
    r"""The loss of a run as the sum of what its rates have trained and what their falls have annealed.

    .. math:: L(t) = L_0 + A \, S_1^{-\alpha} - C \, S_2, \quad S_1 = \sum_{i \le t} \eta_i, \quad
        S_2 = \sum_{i \le t} \sum_{k \le i} (\eta_{k-1} - \eta_k) \lambda^{i-k}

    Replace the rates of a warm-up by the peak, or it adds negative annealing. C is not identified before the decay
    begins, and lambda is not the same everywhere (0.999 and 0.9997 have both been best). It is a law of a whole
    schedule, not of one number, so it has no inverse: many schedules end at one loss.

    Source: Tissue, Wang & Wang 2024, arXiv:2408.11029, as restated in Wang et al. 2025, arXiv:2505.07796, Eq. 1.

    Args:
        L_0: Loss of endless training at a constant rate [nats/token].
        A: Loss at a summed rate of 1 [nats/token].
        alpha: Exponent of the summed rate [1].
        annealing: The C of the paper [nats/token per annealed area].
        decay: Its lambda, between 0 and 1 [1].

    Raises:
        ValueError: If a constant is not positive and finite, or decay is not below 1.

    Example:
        >>> law = TissueLaw(L_0=3.057, A=0.49, alpha=0.497, annealing=0.299, decay=0.9)
        >>> S1, S2 = law.areas([1.0, 1.0, 1.0, 0.5, 0.5, 0.5])
        >>> S1.tolist(), S2.round(6).tolist()
        ([1.0, 2.0, 3.0, 3.5, 4.0, 4.5], [0.0, 0.0, 0.0, 0.5, 0.95, 1.355])
    """

    L_0: float
    A: float
    alpha: float
    annealing: float
    decay: float = 0.999

    def __post_init__(self) -> None:
        check_constants(self, may_be_zero=("L_0", "annealing"))
        if not self.decay < 1.0:
            raise ValueError(f"Expected TissueLaw.decay below 1, got {self.decay!r}, so pass for example 0.999.")

    def areas(self, rates: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Return the summed rate S1 and the annealed area S2 after each step [unit of the rate], shape (T,) each.

        Args:
            rates: Learning rate of the steps 1..T [1], shape (T,).

        Raises:
            ValueError: If the rates are not a list of finite numbers >= 0 of which the first is above 0.
        """
        from scipy.signal import lfilter  # takes longer to import than a forecast of a run, which does without

        rates = _rates(rates)
        drops = -np.diff(rates, prepend=rates[0])
        momentum = lfilter([1.0], [1.0, -self.decay], drops)
        return np.cumsum(rates), np.cumsum(momentum)

    def loss(self, rates: ArrayLike) -> NDArray[np.float64]:
        """Return the loss after each step [nats/token], shape (T,).

        Args:
            rates: Learning rate of the steps 1..T [1], shape (T,).

        Raises:
            ValueError: If the rates are not a list of finite numbers >= 0 of which the first is above 0.

        Example:
            >>> constant, decayed = np.ones(1000), np.append(np.ones(800), np.linspace(1, 0, 200))
            >>> law = TissueLaw(L_0=3.0, A=1.0, alpha=0.5, annealing=0.001)
            >>> [round(float(law.loss(rates)[-1]), 3) for rates in (constant, decayed)]
            [3.032, 2.94]
        """
        S1, S2 = self.areas(rates)
        return np.asarray(self.L_0 + self.A * S1**-self.alpha - self.annealing * S2)


@dataclass(frozen=True)
class MultiPowerLaw:
    r"""The loss of a run whose every fall of the rate pays off as a power of the rate summed since.

    .. math:: L(t) = L_0 + A \, S_1(t)^{-\alpha} - B \sum_{k \le t} (\eta_{k-1} - \eta_k) \,
        G\left(\eta_k^{-\gamma} S_k(t)\right), \quad G(x) = 1 - (1 + C x)^{-\beta}, \quad S_k(t) = \sum_{i=k}^t \eta_i

    S_1 counts the warm-up, and so does the sum of drops, as in the authors' code; C, beta and gamma hardly depend on
    the size of the model. Errors gather at the end of a run, so judge it there and not by the mean over the curve. It
    is a law of a whole schedule, not of one number, so it has no inverse: many schedules end at one loss.

    Source: Luo et al. 2025, arXiv:2503.12811.

    Args:
        L_0: Loss of endless training [nats/token].
        A: Loss at a summed rate of 1 [nats/token].
        alpha: Exponent of the summed rate [1].
        annealing: The B of the paper [nats/token per rate].
        scale: The C of the paper [rate^(gamma - 1)].
        beta: Exponent of the pay-off [1].
        gamma: Exponent of the rate in it [1].

    Raises:
        ValueError: If a constant is not positive and finite.

    Example:
        >>> rates = np.append(np.linspace(0, 3e-4, 2160), np.full(24_000 - 2160, 3e-4))
        >>> round(float(MULTI_POWER_400M.loss(rates, [23_937])[0]), 5)
        2.81718
    """

    L_0: float
    A: float
    alpha: float
    annealing: float
    scale: float
    beta: float
    gamma: float

    def __post_init__(self) -> None:
        check_constants(self, may_be_zero=("L_0", "annealing"))

    def loss(self, rates: ArrayLike, S: ArrayLike) -> NDArray[np.float64]:
        """Return the loss after S steps [nats/token], shape of S.

        Args:
            rates: Learning rate of the steps 1..T [1], shape (T,).
            S: Steps from 1 to T [steps]; each costs a sum over all drops before it.

        Raises:
            ValueError: If the rates are not a list of finite numbers >= 0 with one above 0 up to the least step, or a
                step is not among 1..T.
        """
        rates = _rates(rates, first_may_be_zero=True)
        steps = np.asarray(S)
        if not (np.all(steps >= 1) and np.all(steps <= rates.size) and np.all(steps == np.round(steps))):
            raise ValueError(f"Expected S from 1 to {rates.size}, the number of rates, got {S!r}, so pass more rates.")
        S1 = np.cumsum(rates)
        if steps.size and not S1[int(np.min(steps)) - 1] > 0.0:
            raise ValueError("Expected a rate above 0 up to the first step, got none, so ask for a later step.")
        drops = -np.diff(rates, prepend=rates[0])
        at = np.flatnonzero((drops != 0.0) & (rates > 0.0))  # a rate of exactly 0 trains nothing: its G is taken as 1
        gone = np.cumsum(np.where(rates > 0.0, 0.0, drops))
        loss = [
            self.L_0 + self.A * S1[t] ** -self.alpha - self.annealing * (self._paid(t, at, rates, S1, drops) + gone[t])
            for t in steps.astype(int).ravel() - 1
        ]
        return np.asarray(loss, dtype=np.float64).reshape(steps.shape)

    def _paid(
        self,
        t: int,
        at: NDArray[np.intp],
        rates: NDArray[np.float64],
        S1: NDArray[np.float64],
        drops: NDArray[np.float64],
    ) -> float:
        k = at[at <= t]
        since = S1[t] - S1[k] + rates[k]
        return float(drops[k] @ (1.0 - (1.0 + self.scale * rates[k] ** -self.gamma * since) ** -self.beta))


def _rates(rates: ArrayLike, *, first_may_be_zero: bool = False) -> NDArray[np.float64]:
    array = np.asarray(rates, dtype=np.float64)
    good = array.ndim == 1 and array.size > 0 and bool(np.all(np.isfinite(array) & (array >= 0.0)))
    if not good or not (first_may_be_zero or array[0] > 0.0):
        raise ValueError(
            f"Expected rates to be a list of finite numbers >= 0{'' if first_may_be_zero else ', the first above 0'}, "
            f"got shape {array.shape}, so pass one learning rate per step."
        )
    return array


MULTI_POWER_25M = MultiPowerLaw(3.0405, 0.52469, 0.50787, 363.79, 2.0656, 0.58279, 0.64142)
"""25M parameters, Luo et al. 2025, arXiv:2503.12811; peak rate 3e-4, 24000 to 72000 steps."""

MULTI_POWER_100M = MultiPowerLaw(2.6514, 0.60115, 0.45296, 437.95, 2.1325, 0.59785, 0.65524)
"""100M parameters, from the same source."""

MULTI_POWER_400M = MultiPowerLaw(2.37474466, 0.65421216, 0.42878731, 523.42464371, 2.02462735, 0.59350493, 0.63472457)
"""400M parameters, from the same source."""
