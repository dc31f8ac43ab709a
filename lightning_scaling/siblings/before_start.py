"""Unbegun: the loss of a run that has not begun, or hardly, from the laws of its kin alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtri

from lightning_scaling.fit.mixture import GaussianMixture
from lightning_scaling.interval import Interval
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.siblings.borrow import Borrowed
from lightning_scaling.siblings.relevance import schedule_distance
from lightning_scaling.siblings.trend import Scatter, trend

__all__ = ["Unbegun"]

FloatArray = NDArray[np.float64]

#: Irreducible loss that is tried, as shares of the lowest loss among the kin: a few sizes do not tell it.
_IRREDUCIBLE = (0.0, 0.3, 0.6)
#: By how much log L changes with log N where nothing is irreducible (Kaplan et al. 2020, Table 2: -0.076), and how well
#: that is known; run-to-run spread of log L, sizes being equal; drift with the log of the length beyond the law.
_PER_LOG_N, _SPREAD, _PER_LOG_T = (-0.076, 0.04), 0.012, 0.01
#: Where losses are not positive: the same in units of the fall of the loss over the last e-fold of steps.
_PER_LOG_N_IN_SLOPES, _SPREAD_IN_SLOPES = 1.0, 0.3
#: Share of the lowest loss of a relative below which its law is not followed.
_NEVER = 0.01
#: Distance of schedules at which a run counts for .6, and the least that its schedule leaves of its weight.
_SCHEDULES, _LEAST = 0.2, 0.05


@dataclass(frozen=True, eq=False)
class Unbegun:
    r"""What the kin of a run say of its loss before it has shown any.

    The law of each relative is carried to the schedule and length of this run; what they then say is brought to its
    size by a trend in N, for several shares e of a loss that no size takes away:

    .. math:: \ln (L_r - e L_{min}) = m + b_N \ln\frac{N_r}{N} + u_r

    Source: L(N) of Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.1, for e = 0.

    Where a store holds runs of several kinds, it may be of any of them: as probable as each is common.

    Args:
        schedule: Learning rate of all steps of the run.
        borrowed: Its kin.
    """

    schedule: LRSchedule
    borrowed: Borrowed

    @property
    def least(self) -> float:
        """Lower bound of the loss: where all kin are positive it is taken to be so too [unit of the loss]."""
        return min(self._least, *(Unbegun(self.schedule, other).least for other in self.borrowed.others), 0.0)

    @property
    def _least(self) -> float:
        return 0.0 if min(float(one.curve.L.min()) for one in self.borrowed.relatives) > 0.0 else -np.inf

    @property
    def floor(self) -> float:
        """Smallest standard deviation that a prediction may have: the seed noise [unit of the loss]."""
        return float(np.median([traits.posterior.floor for traits in self.borrowed.traits]))

    def alpha_S(self, level: float) -> Interval:
        """Return what the kin say of the exponent."""
        mean, sd = self.borrowed.kin.log_alpha
        low, mid, high = (float(np.exp(mean + sd * z)) for z in ndtri([(1 - level) / 2, 0.5, (1 + level) / 2]))
        return Interval(low, mid, high, level)

    def loss(self, S: ArrayLike) -> GaussianMixture:
        """Predict the expected loss at steps S [steps], shape (P,)."""
        kinds = [replace(self.borrowed, others=()), *self.borrowed.others]
        parts = [Unbegun(self.schedule, kind)._of_its_kind(S) for kind in kinds]
        weights = np.concatenate([kind.probability * part.weights for kind, part in zip(kinds, parts, strict=True)])
        means, sds = (np.concatenate(x) for x in zip(*((one.means, one.sds) for one in parts), strict=True))
        return GaussianMixture(weights / weights.sum(), means, sds, self.least)

    def _of_its_kind(self, S: ArrayLike) -> GaussianMixture:
        end = 0.99 * self.schedule.horizon
        steps = np.append(np.maximum(np.atleast_1d(np.asarray(S, dtype=np.float64)), 0.5), end)
        carried = [self.borrowed.carried(i, steps) for i in range(len(self.borrowed.relatives))]
        means, variances = (np.array(x) for x in zip(*carried, strict=True))
        if self._least == 0.0:
            # Carried far on, a law may fall below zero, which its run cannot.
            lowest = np.array([one.curve.L.min() for one in self.borrowed.relatives])
            means = np.maximum(means, _NEVER * lowest[:, None])
        with np.errstate(all="ignore"):
            parts = [self._at(means[:, p], variances[:, p]) for p in range(steps.size)]
        # Each step has weights of its own; a common mixture takes those of the end of the run, whatever was asked.
        at, sds = (np.concatenate(x, axis=1) for x in zip(*((one.means, one.sds) for one in parts), strict=True))
        return GaussianMixture(parts[-1].weights, at[:, :-1], sds[:, :-1], self._least)

    def _at(self, means: FloatArray, variances: FloatArray) -> GaussianMixture:
        """Bring what the relatives say of one step to the size of this run."""
        kin = self.borrowed.relatives
        log_N, log_T = np.array([(one.log_N, one.log_T) for one in kin]).T
        near = np.array([schedule_distance(self.schedule, one.schedule) for one in kin]) / _SCHEDULES
        weights = np.array([one.weight for one in kin]) * np.maximum(np.exp(-0.5 * near**2), _LEAST)
        if self._least < 0.0:
            slope = float(np.median([t.posterior.data.slope for t in self.borrowed.traits]))
            middle = float(np.average(means, weights=weights)), 1e3 * slope
            prior = Scatter(middle, (0.0, _PER_LOG_N_IN_SLOPES * slope), (0.0, slope), _SPREAD_IN_SLOPES * slope)
            said = trend(means, variances, weights, log_N, log_T, prior)
            return GaussianMixture(np.ones(1), np.array([[said.mean]]), np.array([[np.hypot(said.sd, self.floor)]]))
        found, lowest = [], float(means.min())
        for share in _IRREDUCIBLE:
            above, left = means - share * lowest, 1.0 - share
            values = np.log(above)
            per_N = _PER_LOG_N[0] / left, _PER_LOG_N[1] / left
            middle = float(np.average(values, weights=weights)), 1.0
            prior = Scatter(middle, per_N, (0.0, _PER_LOG_T / left), _SPREAD / left)
            said = trend(values, variances / above**2, weights, log_N, log_T, prior)
            at = float(np.exp(said.mean))
            evidence = said.log_evidence - float(weights @ values)
            found.append((evidence, share * lowest + at, float(np.hypot(at * said.sd, self.floor))))
        evidence, mean, sd = np.array(found).T
        share = np.exp(evidence - evidence.max())
        return GaussianMixture(share / share.sum(), mean[:, None], sd[:, None], 0.0)
