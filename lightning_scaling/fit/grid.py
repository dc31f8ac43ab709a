"""Grid: the exponents and delays that a fit tries, with their prior weights."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.fit.kin import Kin
from lightning_scaling.fit.power import log_time, power_of
from lightning_scaling.fit.prior import Prior

__all__ = ["Grid"]

FloatArray = NDArray[np.float64]

#: Kin's grid of log alpha and of log delay, in standard deviations about their means.
_ALPHA_NODES = np.arange(-2.5, 2.51, 0.5)
_DELAY_NODES = np.arange(-2.0, 2.01, 0.5)
#: Every so many exponents is tried beside a head start.
_HEAD_START_STEP = 2
#: Largest share of the present that the beginning of a run can have cost.
_MOST_DELAY = 0.7


@dataclass(frozen=True, eq=False)
class Grid:
    """Points at which the law is solved, of the prior for runs of all kinds (family 0) and of this run's kin (1).

    Args:
        alpha: Exponent alpha_S [1], shape (I,).
        delay: What the beginning has cost, as a share of the present, below zero where the run had a head start [1],
            shape (I,).
        log_weight: Log prior weight, shape (I,).
        family: 0 or 1, shape (I,).
    """

    alpha: FloatArray
    delay: FloatArray
    log_weight: FloatArray
    family: NDArray[np.intp]

    @property
    def stretch(self) -> FloatArray:
        """Factor by which the law's own slope is above that per e-fold of the run: a head start counts too, (I,)."""
        return np.asarray(1.0 + np.maximum(-self.delay, 0.0))

    @cached_property
    def _delays(self) -> tuple[FloatArray, NDArray[np.intp]]:
        """The delays, each once, and which of them each point has: many exponents share a delay."""
        return np.unique(self.delay, return_inverse=True)

    def power_laws(self, z: FloatArray, z_now: float) -> FloatArray:
        """Return phi of `power_basis` at every point of the grid [1], shape (P, I).

        Args:
            z: Summed learning rate, relative to its peak [steps], shape (P,).
            z_now: The same at the present [steps].
        """
        delays, which = self._delays
        return power_of(log_time(z, z_now, delays)[:, which], self.alpha)

    @classmethod
    def of(cls, prior: Prior, kin: Kin | None, z_now: float) -> Grid:
        """Return the grid of a prior, and beside it that of the run's kin where there is any.

        Args:
            prior: Grids and scales for runs of all kinds.
            kin: What related runs say, None where there are none.
            z_now: Learning rate summed up to the present, relative to its peak [steps].
        """
        own = _for_all_kinds(prior.alphas, prior.delays, prior.log_alpha, prior.head_starts, prior.head_start)
        if kin is None:
            return own
        alpha, delay, log_weight, family = own.alpha, own.delay, own.log_weight, own.family
        x, y = (v.ravel() for v in np.meshgrid(_ALPHA_NODES, _DELAY_NODES, indexing="ij"))
        theirs = _log_t4(x) + _log_t4(y)
        shares = np.log(1.0 - kin.weight), np.log(kin.weight)
        both = [w - np.logaddexp.reduce(w) + share for w, share in zip((log_weight, theirs), shares, strict=True)]
        alpha = np.concatenate((alpha, np.exp(kin.log_alpha[0] + kin.log_alpha[1] * x)))
        steps = np.exp(kin.log_delay[0] + kin.log_delay[1] * y)
        delay = np.concatenate((delay, np.minimum(steps / z_now, _MOST_DELAY)))
        family = np.concatenate((family, np.ones(x.size, dtype=np.intp)))
        return cls(alpha, delay, np.concatenate(both), family)


@lru_cache(maxsize=4)
def _for_all_kinds(
    alphas: tuple[float, ...],
    delays: tuple[float, ...],
    log_alpha: tuple[float, float],
    head_starts: tuple[float, ...],
    head_start: float,
) -> Grid:
    """Return the grid of a prior for runs of all kinds; every fit asks for the same one."""
    # Fewer exponents will do beside a head start, which is itself a rough one.
    few = alphas[1::_HEAD_START_STEP]
    share = head_start * len(alphas) / max(len(few), 1)
    own = np.array([(alpha, delay, 1.0) for alpha in alphas for delay in delays])
    ahead = np.array([(alpha, -start, share) for alpha in few for start in head_starts]).reshape(-1, 3)
    alpha, delay, weight = np.concatenate((own, ahead)).T
    # Student's t with 4 degrees of freedom: a run may have an exponent that other runs have not.
    log_weight = _log_t4((np.log(alpha) - log_alpha[0]) / log_alpha[1]) + np.log(weight)
    return Grid(alpha, delay, log_weight, np.zeros(alpha.size, dtype=np.intp))


def _log_t4(x: FloatArray) -> FloatArray:
    return np.asarray(-2.5 * np.log1p(x**2 / 4.0))
