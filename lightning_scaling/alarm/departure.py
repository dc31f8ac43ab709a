"""Departure: a loss that has left its own forecast, since when and by how much."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, repeat
from operator import mul

from lightning_scaling.units import thousands

__all__ = ["Departure", "sigmas_since"]

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
    n: Sequence[float],
    off: Sequence[float],
    newest: float,
    noise: float,
    variance: Sequence[float],
    *,
    above: float = -math.inf,
) -> list[float]:
    r"""Return by how many sigmas the losses lie above their forecast, for a departure that began with each block.

    With m the mean deviation of the blocks since then, e what the blocks before tell of an error that the forecast had
    all along (none where they lie below it), N the variance of one loss and v the variance of the forecast, which grows
    with the steps,

    .. math:: z = \frac{m - e}{\sqrt{N/n + v_e + v(S) - v(S_e)}}, \qquad
              e = \max\!\left(\frac{m_e\,v(S_e)}{v(S_e) + N/n_e}, 0\right), \quad
              v_e = \frac{v(S_e)\,N/n_e}{v(S_e) + N/n_e}

    where S and n are the mean step and the number of losses since then, and :math:`S_e, n_e, m_e` those before.

    Args:
        n: Losses in each block that the forecast has not seen [1], shape (M,).
        off: Mean loss less what was forecast [unit of the loss], shape (M,).
        newest: The same of the newest block with every loss at its full size [same unit].
        noise: N, variance of the mean of n losses, times n [unit squared].
        variance: v of the forecast at the mean step of each block [unit squared], shape (M,).
        above: What z has to be above to count [1].

    Returns:
        z [1], shape (M,); minus infinity where it does not count, or a departure would be too short, or is over.
    """
    z = [-math.inf] * len(n)
    sum_n, sum_off, sum_v = (_sums_from(map(mul, n, x)) for x in (repeat(1.0), off, variance))
    lowest = min(newest, *off[-_BLOCKS:])
    n_before = off_before = v_before = 0.0
    for c in range(len(n) - _BLOCKS + 1):
        after = sum_n[c]
        if after < _LOSSES:
            break
        mean, v = sum_off[c] / after, sum_v[c] / after
        e, squared = 0.0, noise / after + v
        if n_before:
            noise_e, v_e = noise / n_before, min(v_before / n_before, v)
            known = v_e / (v_e + noise_e + _TINY)
            e, squared = max(known * off_before / n_before, 0.0), squared - v_e + known * noise_e
        sigmas, least = (mean - e) / math.sqrt(squared + _TINY), e + _LEFT * (mean - e)
        if sigmas > above and lowest > least and sum(x > least for x in off[c:]) >= _MOST * (len(n) - c):
            z[c] = sigmas
        n_before, off_before, v_before = n_before + n[c], off_before + n[c] * off[c], v_before + n[c] * variance[c]
    return z


def _sums_from(x: Iterable[float]) -> list[float]:
    """Return the sums from each place on."""
    return list(accumulate(reversed(list(x))))[::-1]
