"""What it costs to train a model of the wrong size, or too near its convergence; only two exponents decide it.

All keep the loss. `compute_ratio_at_size` and `steps_ratio_at_size` compare a model of any size with the best one; the
three ``…_near_convergence`` compare two runs that end at different distances from their own limits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.laws._check import check_numbers, positive, solve


def steps_ratio_at_size(ratio: ArrayLike, *, alpha_N: float, alpha_S: float) -> NDArray[np.float64]:
    r"""Return the steps to the loss of the best model, with a model of another size, over the steps of the best.

    .. math:: \frac{S(N)}{S(N_{eff})} = \left[1 + \frac{\alpha_S}{\alpha_N} (1 - r^{-\alpha_N})\right]^{-1/\alpha_S},
        \qquad r = N / N_{eff}

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. B.17.

    Args:
        ratio: N / N_eff [1], shape (...).
        alpha_N: Exponent of the model size [1].
        alpha_S: Exponent of the steps [1].

    Returns:
        Ratio of steps [1], shape (...); infinite where the model is too small to reach the loss at all.

    Raises:
        ValueError: If any ``ratio <= 0`` or an exponent is not positive and finite.

    Example:
        >>> round(float(steps_ratio_at_size(2.2, alpha_N=0.077, alpha_S=0.76)), 6)  # 45 % fewer steps
        0.547146
    """
    check_numbers(alpha_N=alpha_N, alpha_S=alpha_S)
    log_ratio = np.log(positive("ratio", ratio))
    gap = 1.0 - alpha_S / alpha_N * np.expm1(-alpha_N * log_ratio)  # L - L(N, inf), in units of the best model's
    return solve(gap, 1.0, alpha_S)


def compute_ratio_at_size(ratio: ArrayLike, *, alpha_N: float, alpha_S: float) -> NDArray[np.float64]:
    r"""Return the compute to the loss of the best model, with a model of another size, over the compute of the best.

    .. math:: \frac{C(N)}{C(N_{eff})} = r \, \frac{S(N)}{S(N_{eff})}, \qquad r = N / N_{eff}

    Models from 0.6 to 2.2 times the best size cost about 20 % more.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. B.16.

    Args:
        ratio: N / N_eff [1], shape (...).
        alpha_N: Exponent of the model size [1].
        alpha_S: Exponent of the steps [1].

    Returns:
        Ratio of compute [1], shape (...), 1 at its least; infinite where the model is too small to reach the loss.

    Raises:
        ValueError: If any ``ratio <= 0`` or an exponent is not positive and finite.

    Example:
        >>> compute_ratio_at_size([0.6, 1.0, 2.2], alpha_N=0.077, alpha_S=0.76).round(5).tolist()
        [1.16473, 1.0, 1.20372]
    """
    return positive("ratio", ratio) * steps_ratio_at_size(ratio, alpha_N=alpha_N, alpha_S=alpha_S)


def size_near_convergence(excess: ArrayLike, other: ArrayLike, *, alpha_N: float) -> NDArray[np.float64]:
    r"""Return the ratio of the sizes of two models that reach one loss at different distances from convergence.

    .. math:: \frac{N_f}{N_{f'}} = \left(\frac{1 + f}{1 + f'}\right)^{1/\alpha_N}, \qquad L = (1 + f) \, L(N_f, \infty)

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eqs. B.11 and B.12.

    Args:
        excess: f, the share above its converged loss at which one run ends [1], shape (...). Best: alpha_N / alpha_S.
        other: f' of the other run [1], broadcastable to (...).
        alpha_N: Exponent of the model size [1].

    Returns:
        N_f / N_f' [1], shape (...).

    Raises:
        ValueError: If any of the arguments is not positive.

    Example:
        >>> round(float(size_near_convergence(0.077 / 0.76, 0.02, alpha_N=0.077)), 5)
        2.70782
    """
    check_numbers(alpha_N=alpha_N)
    return np.exp((np.log1p(positive("excess", excess)) - np.log1p(positive("excess", other))) / alpha_N)


def steps_near_convergence(excess: ArrayLike, other: ArrayLike, *, alpha_S: float) -> NDArray[np.float64]:
    r"""Return the ratio of the steps of two runs that reach one loss at different distances from convergence.

    .. math:: \frac{S_f}{S_{f'}} = \left(\frac{1 + 1/f}{1 + 1/f'}\right)^{1/\alpha_S}

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. B.13. Its "7.7x fewer" is 1/0.13, a rounded number; it is 7.64.

    Args:
        excess: f, the share above its converged loss at which one run ends [1], shape (...). Best: alpha_N / alpha_S.
        other: f' of the other run [1], broadcastable to (...).
        alpha_S: Exponent of the steps [1].

    Returns:
        S_f / S_f' [1], shape (...).

    Raises:
        ValueError: If any of the arguments is not positive.

    Example:
        >>> round(float(steps_near_convergence(0.077 / 0.76, 0.02, alpha_S=0.76)), 6)
        0.130817
    """
    check_numbers(alpha_S=alpha_S)
    return ((1.0 + 1.0 / positive("excess", excess)) / (1.0 + 1.0 / positive("excess", other))) ** (1.0 / alpha_S)


def compute_near_convergence(
    excess: ArrayLike, other: ArrayLike, *, alpha_N: float, alpha_S: float
) -> NDArray[np.float64]:
    r"""Return the ratio of the compute of two runs that reach one loss at different distances from convergence.

    .. math:: \frac{C_f}{C_{f'}} = \frac{N_f}{N_{f'}} \, \frac{S_f}{S_{f'}}

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. B.14.

    Args:
        excess: f, the share above its converged loss at which one run ends [1], shape (...). Best: alpha_N / alpha_S.
        other: f' of the other run [1], broadcastable to (...).
        alpha_N: Exponent of the model size [1].
        alpha_S: Exponent of the steps [1].

    Returns:
        C_f / C_f' [1], shape (...).

    Raises:
        ValueError: If any of the arguments is not positive.

    Example:
        >>> round(float(compute_near_convergence(0.077 / 0.76, 0.02, alpha_N=0.077, alpha_S=0.76)), 6)
        0.354228
    """
    sizes = size_near_convergence(excess, other, alpha_N=alpha_N)
    return sizes * steps_near_convergence(excess, other, alpha_S=alpha_S)
