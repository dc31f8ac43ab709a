"""What it costs to train a model of the wrong size, or too near its convergence; only two exponents decide it.

All keep the loss. `compute_ratio_at_size` and `steps_ratio_at_size` compare a model of any size with the best one; the
three ``…_near_convergence`` compare two runs that end at different distances from their own limits. The inverses ask
for the size, or the distance, that a ratio belongs to.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.laws._check import check_numbers, check_shapes, positive, solve

#: Halvings of a bracket of log size: down to the last bits.
_HALVINGS = 100


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


def size_for_steps_ratio(steps_ratio: ArrayLike, *, alpha_N: float, alpha_S: float) -> NDArray[np.float64]:
    r"""Return the size that reaches the loss of the best model in so many times its steps.

    .. math:: \frac{N}{N_{eff}} = \left[1 - \frac{\alpha_N}{\alpha_S} (R^{-\alpha_S} - 1)\right]^{-1/\alpha_N},
        \qquad R = S(N) / S(N_{eff})

    The inverse of `steps_ratio_at_size`: steps above those of the best belong to smaller models, below to larger ones.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. B.17, solved for N.

    Args:
        steps_ratio: R [1], shape (...).
        alpha_N: Exponent of the model size [1].
        alpha_S: Exponent of the steps [1].

    Returns:
        N / N_eff [1], shape (...); infinite where no size takes so few steps.

    Raises:
        ValueError: If any ``steps_ratio <= 0`` or an exponent is not positive and finite.

    Example:
        >>> round(float(size_for_steps_ratio(0.547146, alpha_N=0.077, alpha_S=0.76)), 4)
        2.2
    """
    check_numbers(alpha_N=alpha_N, alpha_S=alpha_S)
    R = positive("ratio", steps_ratio)
    return solve(1.0 - alpha_N / alpha_S * np.expm1(-alpha_S * np.log(R)), 1.0, alpha_N)


def sizes_for_compute_ratio(
    compute_ratio: ArrayLike, *, alpha_N: float, alpha_S: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    r"""Return the sizes on either side of the best that reach its loss at so many times its compute.

    .. math:: \frac{C(N)}{C(N_{eff})} = \frac{N}{N_{eff}} \,
        \left[1 + \frac{\alpha_S}{\alpha_N} \left(1 - (N / N_{eff})^{-\alpha_N}\right)\right]^{-1/\alpha_S}

    The inverse of `compute_ratio_at_size`, which falls up to the best size and rises from it on.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. B.16, solved for N on each side by bisection.

    Args:
        compute_ratio: C(N) / C(N_eff), 1 or more [1], shape (...).
        alpha_N: Exponent of the model size [1].
        alpha_S: Exponent of the steps [1].

    Returns:
        N / N_eff of the smaller and of the larger model [1], each of shape (...).

    Raises:
        ValueError: If any ``compute_ratio < 1`` or an exponent is not positive and finite.

    Example:
        >>> sizes = sizes_for_compute_ratio(1.2, alpha_N=0.077, alpha_S=0.76)
        >>> [round(float(size), 2) for size in sizes]  # the paper's 0.6 to 2.2
        [0.58, 2.18]
    """
    check_numbers(alpha_N=alpha_N, alpha_S=alpha_S)
    C = positive("ratio", compute_ratio)
    if np.any(C < 1.0):
        raise ValueError(
            f"Expected compute_ratio >= 1, got {np.min(C):.12g}, so pass the compute over that of the best size, which "
            "takes the least."
        )
    log_C, log_most = np.log(C), np.log1p(alpha_S / alpha_N) / alpha_S
    smallest = -np.log1p(alpha_N / alpha_S) / alpha_N  # below it the loss is not reached at all
    found = []
    for far in (np.full(C.shape, smallest), log_C + log_most):
        near = np.zeros(C.shape)
        for _ in range(_HALVINGS):
            middle = 0.5 * (near + far)
            dearer = np.log(compute_ratio_at_size(np.exp(middle), alpha_N=alpha_N, alpha_S=alpha_S)) > log_C
            near, far = np.where(dearer, near, middle), np.where(dearer, middle, far)
        found.append(np.exp(near)[()])
    return found[0], found[1]


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
    check_shapes(excess=excess, other=other)
    check_numbers(alpha_N=alpha_N)
    return np.exp((np.log1p(positive("excess", excess)) - np.log1p(positive("excess", other))) / alpha_N)


def excess_for_size(size_ratio: ArrayLike, other: ArrayLike, *, alpha_N: float) -> NDArray[np.float64]:
    r"""Return how far above its limit a model of another size ends at the same loss.

    .. math:: f = (1 + f') \, (N_f / N_{f'})^{\alpha_N} - 1

    The inverse of `size_near_convergence` in its first excess.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. B.12, solved for f.

    Args:
        size_ratio: N_f / N_f' [1], shape (...).
        other: f' of the other run [1], broadcastable to (...).
        alpha_N: Exponent of the model size [1].

    Returns:
        f [1], shape (...); NaN where the model is too small to reach the loss.

    Raises:
        ValueError: If any of the arguments is not positive.

    Example:
        >>> round(float(excess_for_size(2.70782, 0.02, alpha_N=0.077)), 4)
        0.1013
    """
    check_numbers(alpha_N=alpha_N)
    check_shapes(size_ratio=size_ratio, other=other)
    f = np.expm1(alpha_N * np.log(positive("ratio", size_ratio)) + np.log1p(positive("excess", other)))
    return np.where(f > 0.0, f, np.nan)[()]


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
    check_shapes(excess=excess, other=other)
    check_numbers(alpha_S=alpha_S)
    return ((1.0 + 1.0 / positive("excess", excess)) / (1.0 + 1.0 / positive("excess", other))) ** (1.0 / alpha_S)


def excess_for_steps(steps_ratio: ArrayLike, other: ArrayLike, *, alpha_S: float) -> NDArray[np.float64]:
    r"""Return how far above its limit a run of more or fewer steps ends at the same loss.

    .. math:: \frac1f = \left(1 + \frac1{f'}\right) (S_f / S_{f'})^{\alpha_S} - 1

    The inverse of `steps_near_convergence` in its first excess.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. B.13, solved for f.

    Args:
        steps_ratio: S_f / S_f' [1], shape (...).
        other: f' of the other run [1], broadcastable to (...).
        alpha_S: Exponent of the steps [1].

    Returns:
        f [1], shape (...); NaN where a model of any size takes more steps to the loss.

    Raises:
        ValueError: If any of the arguments is not positive.

    Example:
        >>> round(float(excess_for_steps(0.130817, 0.02, alpha_S=0.76)), 4)
        0.1013
    """
    check_numbers(alpha_S=alpha_S)
    check_shapes(steps_ratio=steps_ratio, other=other)
    log_other = np.log1p(1.0 / positive("excess", other))
    share = np.expm1(alpha_S * np.log(positive("ratio", steps_ratio)) + log_other)
    return (1.0 / np.where(share > 0.0, share, np.nan))[()]


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
    check_shapes(excess=excess, other=other)
    sizes = size_near_convergence(excess, other, alpha_N=alpha_N)
    return sizes * steps_near_convergence(excess, other, alpha_S=alpha_S)
