"""Departure: a loss that has left its own forecast, since when and by how much."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.units import thousands

__all__ = ["Departure", "sigmas_since"]

FloatArray = NDArray[np.float64]

#: Share of its size that a departure must have in each of the newest two blocks: less is a spike that recovers.
_LEFT = 0.5
#: Share of its blocks in which it must have that: more than one block makes it.
_MOST = 0.6
#: Fewest losses and blocks that make a departure: fewer are a spike.
_LOSSES, _BLOCKS = 3, 2
_TINY = 1e-300


@dataclass(frozen=True)
class Departure:
    """The loss has left what the run itself had forecast of it, and not for a moment.

    Args:
        step: First step of the departure, as far as it can be told [steps].
        sigma: By how many standard deviations of noise and forecast [1]; above 0 the loss is too high.
        loss: Mean loss since then [unit of the loss].
        expected: What had been forecast of it [same unit].
        noticed: Step at which it was noticed [steps].
        seconds_ago: Time from the departure until it was noticed [s], NaN where it is not known.
        name: What the loss is called.

    Example:
        >>> print(Departure(18_400, 5.13, 2.31, 2.174, 18_944, 720.0))
        The loss left its forecast at step 18 400, +5.1 sigma (2.31 instead of 2.174), 12 minutes ago.
    """

    step: int
    sigma: float
    loss: float
    expected: float
    noticed: int
    seconds_ago: float = field(default=math.nan, compare=False)
    name: str = "The loss"

    @property
    def upwards(self) -> bool:
        """Whether the loss is higher than forecast."""
        return self.sigma > 0.0

    def __str__(self) -> str:
        """Return the sentence that is told."""
        what = "left" if self.upwards else "fell below"
        at = thousands(self.step)
        size = f"{self.sigma:+.1f} sigma ({self.loss:.4g} instead of {self.expected:.4g})"
        return f"{self.name} {what} its forecast at step {at}, {size}{_ago(self.seconds_ago)}."


def _ago(seconds: float) -> str:
    if not math.isfinite(seconds):
        return ""
    for unit, length, most in (("second", 1.0, 90.0), ("minute", 60.0, 5400.0), ("hour", 3600.0, math.inf)):
        if seconds < most:
            n = round(seconds / length)
            return f", {n} {unit}{'s' * (n != 1)} ago"
    return ""


def sigmas_since(
    S: FloatArray, n: FloatArray, off: FloatArray, newest: float, noise: float, variance: FloatArray
) -> FloatArray:
    r"""Return by how many sigmas the losses lie above their forecast, for a departure that began with each block.

    With m the mean deviation of the blocks since then, e what the blocks before tell of an error that the forecast had
    all along (none where they lie below it), N the variance of one loss and v the variance of the forecast, which grows
    with the steps,

    .. math:: z = \frac{m - e}{\sqrt{N/n + v_e + v(S) - v(S_e)}}, \qquad
              e = \max\!\left(\frac{m_e\,v(S_e)}{v(S_e) + N/n_e}, 0\right), \quad
              v_e = \frac{v(S_e)\,N/n_e}{v(S_e) + N/n_e}

    where S and n are the mean step and the number of losses since then, and :math:`S_e, n_e, m_e` those before.

    Args:
        S: Mean step of each block that the forecast has not seen [steps], shape (M,).
        n: Losses in it [1], shape (M,).
        off: Mean loss less what was forecast [unit of the loss], shape (M,).
        newest: The same of the newest block with every loss at its full size [same unit].
        noise: N, variance of the mean of n losses, times n [unit squared].
        variance: v of the forecast at S [unit squared], shape (M,).

    Returns:
        z [1], shape (M,); minus infinity where a departure would be too short, or is over.
    """
    before = np.concatenate(([0.0], np.cumsum(n)[:-1]))
    after = float(n.sum()) - before
    mean_after, v_after = (_means_from(n * x, after) for x in (off, variance))
    sums = [np.concatenate(([0.0], np.cumsum(n * x)[:-1])) / np.maximum(before, 1.0) for x in (off, variance)]
    mean_before, v_before = sums[0], np.minimum(sums[1], v_after)
    noise_before = noise / np.maximum(before, 1.0)
    known = np.where(before > 0.0, v_before / (v_before + noise_before + _TINY), 0.0)
    e = np.maximum(known * mean_before, 0.0)
    # A departure with no block before it is charged with all that the forecast may be off by.
    unsure = known * noise_before + v_after - np.where(before > 0.0, v_before, 0.0)
    z = (mean_after - e) / np.sqrt(noise / after + unsure + _TINY)
    least = e + _LEFT * (mean_after - e)
    lasts = min(newest, *off[-_BLOCKS:].tolist()) > least
    place = np.arange(n.size)
    mostly = np.triu(off > least[:, None]).sum(axis=1) >= _MOST * (n.size - place)
    long = (after >= _LOSSES) & (place <= n.size - _BLOCKS)
    return np.where(lasts & mostly & long, z, -np.inf)


def _means_from(sums: FloatArray, after: FloatArray) -> FloatArray:
    """Return the mean from each block on."""
    return np.asarray(np.cumsum(sums[::-1])[::-1] / after)
