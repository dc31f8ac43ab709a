"""The annealing term: how much of a falling learning rate has already reached the loss."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.schedule import LRSchedule

__all__ = ["Annealing", "Response", "first_peak"]

FloatArray = NDArray[np.float64]

#: Changes of the rate are merged into at most this many before they are convolved with a response.
MAX_CHANGES = 160
#: Differences of neighbouring rates, as a share of the peak, above which the rate jumps rather than glides.
_JUMP = 0.02
#: The rate is taken as at least this share of the peak where it divides: a rate of zero must not stop the response.
MIN_RATE = 1e-3


@dataclass(frozen=True)
class Response:
    r"""How the loss answers to a change of the learning rate.

    Args:
        timescale: Length of the response as a share of the run's summed rate [1]; 0 = at once.
        exponent: For ``timescale > 0`` the decay exponent beta of :math:`G(x) = 1 - (1 + x)^{-\beta}`; for
            ``timescale == 0`` the power q of :math:`1 - (\eta/\eta_{peak})^q`.
    """

    timescale: float
    exponent: float


def first_peak(schedule: LRSchedule) -> float:
    """Return the step at which the warm-up ends: the first block within 2 % of the peak rate [steps]; 0 without one."""
    block = schedule.peak_block
    return float(schedule.edges[block + 1]) if block else 0.0


@dataclass(frozen=True, eq=False)
class Annealing:
    r"""Share of a full decay of the learning rate that the loss has seen at step S, under several responses.

    .. math:: a(t) = \sum_k (\eta_{k-1} - \eta_k)\, G\!\left(\frac{\eta_k^{-1/2}\,[S_1(t) - S_1(k)]}{\tau}\right),
              \qquad G(x) = 1 - (1 + x)^{-\beta}

    with rates relative to the peak and :math:`S_1` their running sum; a rate that rises again counts negative. The form
    is the Multi-Power Law's loss reduction with its :math:`\gamma` fixed at 1/2 and its amplitude taken out, so that
    ``a = 1`` means "decayed to nothing, and all of it has arrived". The warm-up is left out: it counts as peak rate.

    Source: Luo et al. 2025, arXiv:2503.12811 (Multi-Power Law); :math:`\tau = 0` is the limit of an immediate answer.

    Args:
        schedule: The learning rate of all steps, past and planned.
        responses: The responses to evaluate, R of them.

    Example:
        >>> schedule = LRSchedule.from_array([1.0] * 90 + [0.5] * 10)
        >>> Annealing(schedule, (Response(0.0, 1.0),)).at(np.array([50.0, 100.0])).ravel().tolist()
        [0.0, 0.5]
    """

    schedule: LRSchedule
    responses: tuple[Response, ...]

    @cached_property
    def _changes(self) -> tuple[FloatArray, FloatArray, FloatArray]:
        """Summed rate at which the rate changes, by how much it falls there, and how fast the loss answers there."""
        schedule = self.schedule
        start = schedule.peak_block
        falls, steps = -np.diff(schedule.rates[start:]), schedule.edges[start + 1 : -1]
        keep = np.abs(falls) > 1e-9
        falls, steps = falls[keep], steps[keep]
        if falls.size > MAX_CHANGES:
            size = np.abs(falls)
            done = np.cumsum(size)
            group = np.minimum((done / done[-1] * MAX_CHANGES).astype(int), MAX_CHANGES - 1)
            heads = np.concatenate(([0], np.flatnonzero(np.diff(group)) + 1))
            steps = np.add.reduceat(steps * size, heads) / np.add.reduceat(size, heads)
            falls = np.add.reduceat(falls, heads)
        total = max(float(schedule.summed(schedule.horizon)), 1e-9)
        speed = 1.0 / (np.sqrt(np.maximum(schedule.rate_at(steps + 1.0), MIN_RATE)) * total)
        return schedule.summed(steps), falls, speed

    @property
    def any(self) -> bool:
        """Whether the rate ever changes after the warm-up."""
        return bool(self._changes[1].size)

    @cached_property
    def at_end(self) -> FloatArray:
        """The same at the planned end, shape (R,) [1]."""
        return np.asarray(self.at(np.array([float(self.schedule.horizon)]))[0])

    def at(self, S: FloatArray) -> FloatArray:
        """Return a at steps S [steps], shape (P,), as an array of shape (P, R) [1]."""
        changed_at, falls, speed = self._changes
        if not falls.size:
            return np.zeros((S.size, len(self.responses)))
        since = np.maximum(self.schedule.summed(S)[:, None] - changed_at, 0.0) * speed
        edges = self.schedule.edges
        rate, exact = np.interp(S, 0.5 * (edges[1:] + edges[:-1]), self.schedule.rates), self.schedule.rate_at(S)
        rate = np.where(np.abs(rate - exact) > _JUMP, exact, rate)  # nothing is seen of a jump before it
        rate = np.where(first_peak(self.schedule) >= S, 1.0, rate)
        columns = [
            1.0 - rate**response.exponent
            if response.timescale == 0.0
            else np.einsum(
                "pk,k->p", 1.0 - np.exp(np.log(1.0 + since / response.timescale) * -response.exponent), falls
            )
            for response in self.responses
        ]
        return np.stack(columns, axis=1)
