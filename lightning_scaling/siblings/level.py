"""How far the forecast of a run goes by the levels that its kin have reached."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.siblings.before_start import Unbegun
from lightning_scaling.siblings.borrow import Borrowed

__all__ = ["end_by_level", "weigh_levels"]

FloatArray = NDArray[np.float64]

#: Ratios of variances, level to law, beyond what either says of itself, that are tried; log of the middle one and the
#: spread of the logs that is believed before any run has shown it: a law is trusted a little more.
_RATIOS = np.exp(np.linspace(-5.0, 5.0, 11))
_MIDDLE, _SPREAD = 1.0, 2.0
#: What is left of the errors at least, as a share of those of the law: no few runs prove a level exact.
_LEFT = 0.03
#: Runs that are over, by weight, from which this one goes more than half as far as they would.
_FEW = 0.5


def end_by_level(borrowed: Borrowed) -> tuple[float, float] | None:
    """Return what the levels of the kin say of the end of a run, mean and standard deviation; its losses have no say.

    Args:
        borrowed: What the kin of the run lend.

    Returns:
        Loss at the planned end as `Unbegun` forecasts it [unit of the loss]; None where that is not finite.
    """
    guess = Unbegun(borrowed.schedule, borrowed).loss([0.99 * borrowed.schedule.horizon])
    end, sd = float(guess.quantiles([0.5])[0, 0]), float(guess.sd()[0])
    return (end, sd) if np.isfinite(end) and np.isfinite(sd) else None


def weigh_levels(
    weights: FloatArray, errors: FloatArray, levels: FloatArray, ratios: FloatArray, ratio: float
) -> tuple[FloatArray, float]:
    r"""Return how far to go from law to level, for runs that are over and for one that is not.

    Two normal forecasts of one number, s the ratio of their standard deviations, are best joined by

    .. math:: \hat L = L_{law} + \lambda (L_{level} - L_{law}), \qquad \lambda = \frac{1}{1 + \rho s^2}

    if each is as good as it says (rho = 1). How good they are is seen in runs that are over: rho is summed over, each
    value weighed by the probability of the errors that it leaves, which are taken to be Laplace-distributed so that one
    of them does not decide. What was seen speaks for levels as near as those: where the level of this run is less sure
    than theirs, as beyond the largest size, the excess of its variance counts in full, beside what the law has proved.
    Where no run that is over says how good levels are, this run is left to its law.

    Args:
        weights: How much each run that is over counts [1], shape (n,).
        errors: By how many sigmas of its law the end of each lay above its law [1], shape (n,).
        levels: By how many its level did, shape (n,).
        ratios: Standard deviation of its level over that of its law [1], shape (n,).
        ratio: The same of the run that is not over.

    Returns:
        lambda of each run, shape (n,), and of this one.

    Example:
        >>> ones = np.ones(8)
        >>> found = weigh_levels(ones, 2.0 * ones, 1.9 * ones, ones, 1.0)  # the levels knew it, the laws did not
        >>> bool(found[1] > 0.9)
        True
        >>> bool(weigh_levels(ones, 0.1 * ones, 1.9 * ones, ones, 1.0)[1] < 0.1)  # the other way round
        True
        >>> bool(weigh_levels(ones, 2.0 * ones, 1.9 * ones, ones, 20.0)[1] < 0.1)  # a level far away
        True
    """
    n, square = float(weights.sum()), float(weights @ errors**2)
    by = 1.0 / (1.0 + _RATIOS[:, None] * ratios**2)
    evidence = -0.5 * ((np.log(_RATIOS) - _MIDDLE) / _SPREAD) ** 2
    if n > 0.0 and square > 0.0:
        left = np.abs(errors - by * levels) @ weights + _LEFT * float(np.abs(errors) @ weights)
        evidence = evidence - n * np.log(left)
    share = np.exp(evidence - evidence.max())
    share = share / share.sum()
    usual = np.sqrt(float(weights @ ratios**2) / n) if n > 0.0 else ratio
    excess = max(ratio**2 - usual**2, 0.0) * (1.0 + n) / (1.0 + square)
    ahead = float(share @ (1.0 / (1.0 + _RATIOS * min(ratio, usual) ** 2 + excess)))
    return share @ by, ahead * n / (n + _FEW)
