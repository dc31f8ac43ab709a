"""What another batch size would bring and cost: steps against examples, given the critical batch size."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.interval import Interval

__all__ = ["CAVEATS", "BatchTrade", "E_ratio", "S_min_at", "S_ratio", "batch_trade", "learning_rate_ratio"]

FloatArray = NDArray[np.float64]

CAVEATS = (
    "A heuristic: the noise scale stands for the critical batch size only under plain SGD on a loss that curves the "
    "same in all directions. Adam is not plain SGD, and no network curves evenly. On language models the batch sizes "
    "that still paid were larger than the noise scale by orders of magnitude (Merrill et al. 2025, arXiv:2505.23971), "
    "and they grew with the length of the run, not with the model (Zhang et al. 2025, arXiv:2410.21676). Read it "
    "as a trend within a run and as a lower bound. A larger batch wants a larger learning rate."
)
"""What later work says against reading B_simple as the critical batch size."""

#: Share of the steps below which a gain is called small, and share of more examples below which a price is.
_SMALL = 0.1


def S_ratio(B: ArrayLike, B_crit: ArrayLike) -> FloatArray:
    r"""Return how many times the fewest possible steps a batch size takes to a loss.

    .. math:: S / S_{min} = 1 + B_{crit} / B

    `lightning_scaling.laws.trade.steps_ratio` is the same of B / B_crit; here B_crit was measured, and may be 0 or
    infinite.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eqs. 5.1 and 5.2 solved for S.

    Args:
        B: Batch size [samples or tokens], shape (...).
        B_crit: Critical batch size [same unit], broadcastable to (...).

    Returns:
        S/S_min [1], shape (...), above 1; falls in B.

    Raises:
        ValueError: If ``B <= 0`` or ``B_crit < 0``.

    Example:
        >>> float(S_ratio(40, 160))
        5.0
    """
    B, B_crit = _batches(B, B_crit)
    return 1.0 + B_crit / B


def E_ratio(B: ArrayLike, B_crit: ArrayLike) -> FloatArray:
    r"""Return how many times the fewest possible examples a batch size takes to a loss.

    .. math:: E / E_{min} = 1 + B / B_{crit}

    `lightning_scaling.laws.trade.compute_ratio` is the same of B / B_crit; here B_crit was measured, and may be 0 or
    infinite.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eqs. 5.1 and 5.2 solved for E.

    Args:
        B: Batch size [samples or tokens], shape (...).
        B_crit: Critical batch size [same unit], broadcastable to (...).

    Returns:
        E/E_min [1], shape (...), above 1; grows with B; infinite where ``B_crit`` is 0.

    Raises:
        ValueError: If ``B <= 0`` or ``B_crit < 0``.

    Example:
        >>> float(E_ratio(40, 160))
        1.25
    """
    B, B_crit = _batches(B, B_crit)
    with np.errstate(divide="ignore"):
        return 1.0 + B / B_crit


def learning_rate_ratio(B: ArrayLike, B_noise: ArrayLike) -> FloatArray:
    r"""Return the best learning rate of SGD at a batch size, as a share of that at an endless batch.

    .. math:: \epsilon_{opt} / \epsilon_{max} = 1 / (1 + B_{noise} / B)

    For SGD only; with Adam the best rate has been found to grow as B^0.5 to B^1.

    Source: McCandlish et al. 2018, arXiv:1812.06162, Sec. 2.

    Args:
        B: Batch size [samples or tokens], shape (...).
        B_noise: Noise scale [same unit], broadcastable to (...).

    Returns:
        The share [1], shape (...), up to 1.

    Raises:
        ValueError: If ``B <= 0`` or ``B_noise < 0``.

    Example:
        >>> float(learning_rate_ratio(40, 160))
        0.2
    """
    return 1.0 / S_ratio(B, B_noise)


def S_min_at(S: ArrayLike, B: ArrayLike, B_crit: ArrayLike) -> FloatArray:
    r"""Return the steps that a run's loss would have taken at B >> B_crit, given a critical batch size.

    .. math:: S_{min} = S / (1 + B_{crit} / B)

    `lightning_scaling.laws.S_min` is the same with B_crit from the loss; here it was measured.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 5.4.

    Args:
        S: Optimizer steps taken [steps], shape (...).
        B: Batch size [samples or tokens per step], broadcastable to (...).
        B_crit: Critical batch size [same unit], broadcastable to (...).

    Returns:
        S_min [steps], shape (...), never above S.

    Raises:
        ValueError: If ``B <= 0`` or ``B_crit < 0``.

    Example:
        >>> float(S_min_at(10_000, 40, 160))
        2000.0
    """
    return np.asarray(S, dtype=np.float64) / S_ratio(B, B_crit)


@dataclass(frozen=True)
class BatchTrade:
    """What changes with the batch size on the way to the same loss.

    Args:
        B: Batch size now [unit].
        B_new: Batch size asked about [unit].
        B_simple: The noise scale, taken for the critical batch size [unit].
        steps: Steps at ``B_new`` as a share of those at ``B`` [1].
        examples: Samples (or tokens), and with them compute, at ``B_new`` as a share of those at ``B`` [1].
        unit: What batch sizes count, for print.
    """

    B: float
    B_new: float
    B_simple: Interval
    steps: Interval
    examples: Interval
    unit: str

    def __str__(self) -> str:
        """Return the answer in words."""
        if math.isnan(float(self.steps.mid)):
            return (
                f"What a batch of {_count(self.B_new)} {self.unit} would bring cannot be said: B_simple is not known."
            )
        verdict = {
            (True, True): "Yes, for next to nothing",
            (True, False): "Yes, at a price",
            (False, True): "Hardly",
            (False, False): "Hardly, and at a price",
        }[1.0 - float(self.steps.mid) >= _SMALL, float(self.examples.mid) - 1.0 <= _SMALL]
        larger = self.B_new > self.B
        question = "Would a larger batch save time?" if larger else "Would a smaller batch save compute?"
        if not larger:
            verdict = "Yes" if 1.0 - float(self.examples.mid) >= _SMALL else "Hardly"
        time = (
            "Time is saved with the steps only as far as a larger step takes no longer, which needs idle or more "
            "devices."
            if larger
            else "It takes longer where a smaller step is no quicker."
        )
        return (
            f"{question} {verdict}: {_count(self.B_new)} instead of {_count(self.B)} {self.unit} per step should reach "
            f"the same loss in {_change(self.steps)} steps, with {_change(self.examples)} {self.unit} (compute), if "
            f"the critical batch size is {self.B_simple} {self.unit}. {time}"
        )


def batch_trade(B: float, B_simple: Interval, *, factor: float = 2.0, unit: str = "samples") -> BatchTrade:
    r"""Answer "would a larger batch save time, and what would it cost?".

    .. math:: \frac{S(fB)}{S(B)} = \frac{B + B_{crit}/f}{B + B_{crit}}, \qquad
        \frac{E(fB)}{E(B)} = \frac{B_{crit} + fB}{B_{crit} + B}

    B_crit is taken to be the noise scale; `CAVEATS` says what is wrong with that.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eqs. 5.1 and 5.2.

    Args:
        B: Batch size now [unit].
        B_simple: The noise scale [unit], NaN where it is not known.
        factor: How many times larger a batch to ask about [1].
        unit: What batch sizes count.

    Returns:
        Steps and examples at ``factor * B`` as shares of those now.

    Raises:
        TypeError: If ``B_simple`` is no Interval.
        ValueError: If ``B`` or ``factor`` is not positive, ``factor`` is 1, or ``B_simple`` is negative.

    Example:
        >>> print(batch_trade(40, Interval(130.0, 160.0, 190.0, 0.9)))
        Would a larger batch save time? Yes, at a price: 80 instead of 40 samples per step should reach the same loss
        in 40 % (38 to 41) fewer steps, with 20 % (17 to 24) more samples (compute), if the critical batch size is
        160 (130 to 190, 90 %) samples. Time is saved with the steps only as far as a larger step takes no longer,
        which needs idle or more devices.
    """
    if not 0.0 < factor < math.inf or factor == 1.0:
        raise ValueError(f"Expected a factor above 0 other than 1, got {factor!r}, so give e.g. 2 for twice the batch.")
    if not isinstance(B_simple, Interval):
        raise TypeError(f"Expected B_simple to be an Interval, got {B_simple!r:.80}, so give Interval(low, mid, high).")
    known = np.array([B_simple.low, B_simple.mid, B_simple.high])
    _batches(B, np.nan_to_num(known, nan=0.0))
    with np.errstate(invalid="ignore"):
        shares = np.where(np.isinf(known), 1.0 / factor, (B + known / factor) / (B + known))
    shares = np.sort(shares)  # they fall in B_crit for a factor above 1, and rise for one below
    low, mid, high = (float(x) for x in shares)
    steps = Interval(low, mid, high, B_simple.level)
    examples = Interval(low * factor, mid * factor, high * factor, B_simple.level)
    return BatchTrade(float(B), float(B * factor), B_simple, steps, examples, unit)


def _count(x: float) -> str:
    return f"{x:,.0f}".replace(",", " ") if x >= 1.0 else f"{x:.3g}"


def _change(share: Interval) -> str:
    """Return a share of what is now as a change: "40 % (38 to 41) fewer"."""
    low, mid, high = (100.0 * (float(x) - 1.0) for x in (share.low, share.mid, share.high))
    word = "more" if mid > 0.0 else "fewer"
    sizes = (low, high) if mid > 0.0 else (-high, -low)
    return f"{abs(mid):.0f} % ({sizes[0]:.0f} to {sizes[1]:.0f}) {word}"


def _batches(B: ArrayLike, B_crit: ArrayLike) -> tuple[FloatArray, FloatArray]:
    size, critical = np.asarray(B, dtype=np.float64), np.asarray(B_crit, dtype=np.float64)
    if not np.all(size > 0.0) or not np.all(critical >= 0.0):
        raise ValueError(
            f"Expected B > 0 and a critical batch size >= 0, got {B!r} and {B_crit!r}, so count both in the same unit, "
            "samples or tokens."
        )
    return size, critical
