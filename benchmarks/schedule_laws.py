"""Two published laws that know the learning rate, fitted by least squares to the prefix of one run.

They are baselines and written for that: the rates are relative to their peak, and everything before the peak is taken
at the peak (the usual treatment of a warm-up), so that a warm-up adds no negative drop. Where no rate was logged it is
taken as constant, and both laws become a power law.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from benchmarks.curves import Task
from benchmarks.least_squares import Basis

Array = NDArray[np.float64]

TISSUE_DECAY = 0.999
MAX_DROPS = 160

# Means over the three sizes that Luo et al. 2025 publish; C is their 2.07 in units of a peak rate of 3e-4.
MPL_C, MPL_BETA, MPL_GAMMA = 0.11, 0.59, 0.64


def relative_rates(task: Task) -> Array:
    """Return the rates of the steps 1..T relative to their peak, the steps before the peak at the peak, shape (T,)."""
    if task.rates is None or not task.rates.max() > 0.0:
        return np.ones(task.T)
    rates: Array = task.rates / task.rates.max()
    rates[: int(rates.argmax())] = 1.0
    return rates


def tissue_basis(rates: Array, S_now: float, decay: float = TISSUE_DECAY) -> Basis:
    r"""Return the columns of Tissue's law, theta = (alpha,).

    .. math:: L = L_0 + A S_1^{-\alpha} - C S_2, \quad S_1 = \sum_{i \le t} \eta_i, \quad
        S_2 = \sum_{i \le t} m_i, \quad m_i = \lambda m_{i-1} + \eta_{i-1} - \eta_i

    Source: Tissue, Wang & Wang 2024, arXiv:2408.11029, with their lambda = 0.999. The column is (1 - lambda) S_2, whose
    weight is the loss that a full decay brings in the end.

    Args:
        rates: Relative learning rates of the steps 1..T, shape (T,).
        S_now: Last step seen; it sets the unit of the summed rate and matters to nothing else.
        decay: lambda.
    """
    _, S1, S2 = tissue_sums(rates, decay)
    steps = np.arange(1.0, len(rates) + 1.0)
    unit = np.interp(S_now, steps, S1)

    def basis(S: Array, theta: Array) -> Array:
        return np.column_stack(
            [(np.interp(S, steps, S1) / unit) ** -theta[0], -(1.0 - decay) * np.interp(S, steps, S2)]
        )

    return basis


def tissue_sums(rates: Array, decay: float = TISSUE_DECAY) -> tuple[Array, Array, Array]:
    """Return (momentum m, S1, S2) of Tissue's law at every step, shape (T,) each; the first step has no drop.

    Example:
        >>> _, S1, S2 = tissue_sums(np.array([1, 1, 1, .5, .5, .5]), decay=0.9)
        >>> S1.tolist(), S2.round(6).tolist()
        ([1.0, 2.0, 3.0, 3.5, 4.0, 4.5], [0.0, 0.0, 0.0, 0.5, 0.95, 1.355])
    """
    drops = -np.diff(rates, prepend=rates[0])
    momentum = np.asarray(lfilter([1.0], [1.0, -decay], drops), dtype=np.float64)
    return momentum, np.cumsum(rates), np.cumsum(momentum)


def multi_power_basis(rates: Array, S_now: float) -> Basis:
    r"""Return the columns of the Multi-Power Law, theta = (alpha, log C, beta, gamma).

    .. math:: L = L_0 + A S_1^{-\alpha} - B \sum_{k \le t} (\eta_{k-1} - \eta_k) G(\eta_k^{-\gamma} S_k(t)),

    with :math:`G(x) = 1 - (1 + C x)^{-\beta}` and :math:`S_k(t) = \sum_{i=k}^t \eta_i`.

    Source: Luo et al. 2025, arXiv:2503.12811. The drops are pooled into at most 160 blocks of equal total change;
    B is the loss that a full decay brings in the end.

    Args:
        rates: Relative learning rates of the steps 1..T, shape (T,).
        S_now: Last step seen; it sets the unit of the summed rate in the power law.
    """
    steps = np.arange(1.0, len(rates) + 1.0)
    S1 = np.cumsum(rates)
    unit = np.interp(S_now, steps, S1)
    drop, S1_before, rate = _pooled_drops(rates, S1)

    def basis(S: Array, theta: Array) -> Array:
        alpha, log_C, beta, gamma = theta
        s1 = np.interp(S, steps, S1)
        since = np.maximum(s1[:, None] - S1_before, 0.0)
        gain = 1.0 - (1.0 + np.exp(log_C) * rate**-gamma * since) ** -beta
        return np.column_stack([(s1 / unit) ** -alpha, -(gain @ drop)])

    return basis


def _pooled_drops(rates: Array, S1: Array) -> tuple[Array, Array, Array]:
    """Return (drop, summed rate before it, rate after it) of blocks of neighbouring steps, shape (<= 160,) each."""
    drops = -np.diff(rates, prepend=rates[0])
    at = np.flatnonzero(drops)
    if at.size == 0:
        return np.zeros(1), np.zeros(1), np.ones(1)
    change = np.cumsum(np.abs(drops[at]))
    block = np.minimum((change / change[-1] * MAX_DROPS).astype(int), MAX_DROPS - 1)
    _, start, size = np.unique(block, return_index=True, return_counts=True)
    before = S1[at] - rates[at]
    # A rate of zero would make eta^-gamma infinite.
    floor = 1e-4
    return (
        np.add.reduceat(drops[at], start),
        np.add.reduceat(before, start) / size,
        np.maximum(np.add.reduceat(rates[at], start) / size, floor),
    )
