"""Runs made by the law itself, so that a picture can show what no log does: every term by itself, and the future."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling import CurveBuilder, LossCurve, LRSchedule
from lightning_scaling.fit.annealing import Annealing, Response
from lightning_scaling.fit.power import effective_time

Array = NDArray[np.float64]

#: How the loss answers to the falling rate: with a delay of this share of the run, as in the Multi-Power Law.
_RESPONSE = Response(timescale=0.01, exponent=0.6)
#: Sharpness with which the loss of the untrained model goes over into the law.
_SHARPNESS = 6.0


def wsd(horizon: int, *, warm_up: int, decay_from: float) -> LRSchedule:
    """Return a linear warm-up, the peak rate, and from the share ``decay_from`` of the run on a linear decay to 0."""
    left = (1.0 - np.arange(1, horizon + 1) / horizon) / (1.0 - decay_from)
    return LRSchedule.from_array(np.clip(left, 0.0, 1.0) * _warm_up(horizon, warm_up))


def cosine(horizon: int, *, warm_up: int) -> LRSchedule:
    """Return a linear warm-up and half a cosine from there to 0."""
    done = np.clip((np.arange(1, horizon + 1) - warm_up) / (horizon - warm_up), 0.0, 1.0)
    return LRSchedule.from_array((0.5 + 0.5 * np.cos(np.pi * done)) * _warm_up(horizon, warm_up))


def constant(horizon: int, *, warm_up: int) -> LRSchedule:
    """Return a linear warm-up and the peak rate from there on."""
    return LRSchedule.from_array(_warm_up(horizon, warm_up))


def _warm_up(horizon: int, warm_up: int) -> Array:
    return np.minimum(np.arange(1, horizon + 1) / warm_up, 1.0)


@dataclass(frozen=True, eq=False)
class SyntheticRun:
    r"""A run of which every term is known: :math:`L(t) = E + A\,(\zeta/\zeta_{end})^{-\alpha} - b\,a(t)`.

    Attributes:
        schedule: Learning rate of all steps.
        E: Limit at peak rate [nats].
        A: Loss above E at the end, but for the decay [nats].
        alpha: Exponent [1].
        delay: delta, what the beginning has cost beside the warm-up [steps at peak rate].
        b: Loss that a full decay of the rate brings [nats].
        first: Loss of the untrained model [nats].
        noise: Standard deviation of the loss of single steps about the expected loss [nats].
        seed: Seed of that noise.
        leaves: Shares of the run between which the loss leaves the law, for good, and by how much [nats].
    """

    schedule: LRSchedule
    E: float = 2.2
    A: float = 0.35
    alpha: float = 0.5
    delay: float = 150.0
    b: float = 0.11
    first: float = 9.0
    noise: float = 0.05
    seed: int = 0
    leaves: tuple[float, float, float] = (0.0, 1.0, 0.0)

    @property
    def horizon(self) -> int:
        """Length of the run [steps]."""
        return self.schedule.horizon

    def power_law(self, S: ArrayLike, *, delay: float | None = None) -> Array:
        """Return E + A (zeta/zeta_end)^-alpha, the law without what the decay brings; after the run at peak rate.

        Args:
            S: Steps, beyond the end of the run too [steps], shape (P,).
            delay: A delay in place of the run's own, 0 for none [steps at peak rate].
        """
        steps, end = np.asarray(S, dtype=np.float64), float(self.horizon)
        z = self.schedule.summed(np.minimum(steps, end)) + np.maximum(steps - end, 0.0)
        zeta = effective_time(z, np.asarray(self.delay if delay is None else delay))
        zeta_end = effective_time(self.schedule.summed(end), np.asarray(self.delay))
        return np.asarray(self.E + self.A * np.maximum(zeta / zeta_end, 1e-12) ** -self.alpha)

    def decay(self, S: ArrayLike) -> Array:
        """Return b a(t), what the falling rate has brought by steps S, shape (P,) [nats]."""
        return np.asarray(self.b * self._annealing.at(np.asarray(S, dtype=np.float64))[:, 0])

    def expected(self, S: ArrayLike) -> Array:
        """Return the expected loss at steps S, shape (P,) [nats]: the law and what leaves it, below the first loss."""
        steps = np.asarray(S, dtype=np.float64)
        start, stop, rise = self.leaves
        above = self.power_law(steps) - self.E
        above = (above**-_SHARPNESS + (self.first - self.E) ** -_SHARPNESS) ** (-1.0 / _SHARPNESS)
        off = rise * np.clip((steps / self.horizon - start) / (stop - start), 0.0, 1.0)
        return np.asarray(self.E + above - self.decay(steps) + off)

    @property
    def end(self) -> float:
        """Expected loss over the last 2 % of the run, which is what is forecast [nats]."""
        return float(self.expected(np.arange(int(0.98 * self.horizon) + 1, self.horizon + 1)).mean())

    @cached_property
    def losses(self) -> Array:
        """Loss of every step, shape (horizon,) [nats]."""
        noise = np.random.default_rng(self.seed).standard_normal(self.horizon)
        return np.asarray(self.expected(np.arange(1, self.horizon + 1)) + self.noise * noise)

    def curve(self, share: float = 1.0) -> LossCurve:
        """Return the log of the run up to a share of its steps, in the windows in which the callback keeps it."""
        seen = round(share * self.horizon)
        builder = CurveBuilder()
        builder.extend(range(1, seen + 1), self.losses[:seen].tolist())
        return builder.curve(unit="nats")

    @cached_property
    def _annealing(self) -> Annealing:
        return Annealing(self.schedule, (_RESPONSE,))
