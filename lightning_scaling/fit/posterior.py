"""Posterior: the law of one run as a mixture over the grid, and every prediction read off it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.fit.annealing import Annealing
from lightning_scaling.fit.data import FitData
from lightning_scaling.fit.decay import HiddenDecay
from lightning_scaling.fit.grid import Grid
from lightning_scaling.fit.misfit import MisfitModel
from lightning_scaling.fit.mixture import GaussianMixture
from lightning_scaling.fit.prior import Prior
from lightning_scaling.fit.rise import Rise
from lightning_scaling.fit.stretch import Stretch
from lightning_scaling.schedule import LRSchedule

__all__ = ["Posterior"]

FloatArray = NDArray[np.float64]

#: Steps that are predicted together: the misfit's covariance is of this size squared.
_AT_ONCE = 256
#: How soon a surprise that goes on has done so in full, as a share of the present.
_RAMP = 0.1
#: Sigmas of surprise below which nothing of it is carried on.
_NO_SURPRISE = 0.1


@dataclass(frozen=True, eq=False)
class Posterior:
    r"""Mixture of K laws :math:`L(t) = E + A\,\phi(t) - b\,a(t) + d(t)`, each with normal (E, A) given the rest.

    Args:
        data: The windows that were fitted.
        annealing: The annealing term of the run's schedule.
        prior: The prior that was used.
        models: Misfit models, one per size and growth.
        model: Index of each law's misfit model, never falling, shape (K,).
        weights: Weight of each law, summing to 1, shape (K,).
        grid: The exponents and delays that were tried.
        basis: Index of (alpha, delay) in the grid, shape (K,).
        response: Index of each law's response.
        node: Index of the normal of the prior that each law's b began from.
        b: Loss that a full decay brings [unit of the loss].
        b_variance: Its variance [unit squared].
        E: Converged loss at peak rate, relative to the present loss [unit of the loss].
        A: Loss above E now [unit of the loss].
        per_b: By how much E and A change with b [1], shape (K, 2).
        covariance: (var E, cov E A, var A) of each law given b [unit squared], shape (K, 3).
        surprise: Sigmas by which the newest losses lie off their forecast, as far as it may go on; 0 where they do not.
        beyond: What may come beyond the law: a decay that nobody told of, or a rise that goes on; None where neither.
        calibration: What forecasts of related runs were worth: (by how many sigmas they ended above, factor on the
            width) [1]; None where there are none.
    """

    data: FitData
    annealing: Annealing
    prior: Prior
    models: tuple[MisfitModel, ...]
    model: NDArray[np.intp]
    weights: FloatArray
    grid: Grid
    basis: NDArray[np.intp]
    response: NDArray[np.intp]
    node: NDArray[np.intp]
    b: FloatArray
    b_variance: FloatArray
    E: FloatArray
    A: FloatArray
    per_b: FloatArray
    covariance: FloatArray
    surprise: float = 0.0
    beyond: HiddenDecay | Rise | None = None
    calibration: tuple[float, float] | None = None

    @property
    def alpha(self) -> FloatArray:
        """Exponent alpha_S of each law [1], shape (K,)."""
        return self.grid.alpha[self.basis]

    @property
    def delay(self) -> FloatArray:
        """What the beginning of the run has cost in each law, as a share of the present [1], shape (K,)."""
        return self.grid.delay[self.basis]

    @property
    def n_basis(self) -> int:
        """Number of points (alpha, delay) in the grid."""
        return self.grid.alpha.size

    @cached_property
    def laws_of(self) -> tuple[slice, ...]:
        """Which laws belong to each misfit model."""
        ends = np.searchsorted(self.model, np.arange(len(self.models) + 1))
        return tuple(slice(int(first), int(last)) for first, last in pairwise(ends))

    @property
    def schedule(self) -> LRSchedule:
        """Learning rate of all steps."""
        return self.annealing.schedule

    @property
    def least(self) -> float:
        """Lower bound of the loss: one that has been positive throughout is taken to stay so [unit of the loss]."""
        return 0.0 if self.data.y.min() > 0.0 else -np.inf

    @property
    def floor(self) -> float:
        """Smallest standard deviation that a prediction may have: the seed noise [unit of the loss]."""
        y = self.data.y
        scale = abs(self.data.present) if y.min() > 0 else float(np.ptp(y))
        return max(self.prior.seed_floor * scale, 1e-12 * self.data.slope, 1e-300)

    def loss(self, S: ArrayLike, combine: ArrayLike | None = None) -> GaussianMixture:
        """Predict the expected loss at S, or linear combinations of it.

        Args:
            S: Steps, past or future [steps], shape (P,).
            combine: Coefficients of Q combinations of the P losses, shape (P, Q); default: each loss by itself.

        Returns:
            The mixture of P (or Q) quantities [unit of the loss].
        """
        steps = np.maximum(np.atleast_1d(np.asarray(S, dtype=np.float64)), 0.5)
        if combine is None and steps.size > _AT_ONCE:
            parts = [self.loss(steps[i : i + _AT_ONCE]) for i in range(0, steps.size, _AT_ONCE)]
            means, sds = (np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("means", "sds"))
            return GaussianMixture(parts[0].weights, means, sds, self.least, self.stretch(steps > self.data.now))
        each = np.eye(steps.size)
        c = each if combine is None else np.asarray(combine, dtype=np.float64)
        means, sds = self._by_law(steps, np.concatenate((c, each), axis=1) if combine is not None else c)
        means, sds, alone = means[: c.shape[1]], sds[: c.shape[1]], sds[-steps.size :]
        weights = self.weights
        chance, factor = self.prior.persistence
        if abs(self.surprise) > _NO_SURPRISE:
            ramp = np.clip((steps - self.data.now) / (_RAMP * self.data.now), 0.0, 1.0)
            shift = factor * self.surprise * (c.T @ (alone * ramp[:, None]))
            weights = np.concatenate(((1.0 - chance) * weights, chance * weights))
            means, sds = np.concatenate((means, means + shift), axis=1), np.tile(sds, 2)
        if self.beyond is not None:
            above = self._beyond(self.beyond, steps) @ c
            weights = np.outer(self.beyond.weight, weights).ravel()
            means = (means[:, None, :] + above.T[:, :, None]).reshape(c.shape[1], -1)
            sds = np.tile(sds, above.shape[0])
        mixture = GaussianMixture(weights, means.T, sds.T)
        if combine is None:
            mixture = replace(mixture, least=self.least, stretch=self.stretch(steps > self.data.now))
        return mixture if self.calibration is None else self._calibrated(mixture, steps, c)

    def stretch(self, kind: ArrayLike) -> Stretch | None:
        """Return what makes large falls less sure; None where a fall has no share, as the loss has no sign.

        Args:
            kind: What each quantity is, shape (P,): 1 a loss to come, -1 such a loss less the present one, 0 neither.
        """
        now, growth = self.data.present, self.prior.stretch
        if not (growth > 0.0 and self.least == 0.0 < now):
            return None
        return Stretch(now, growth, np.asarray(kind, dtype=np.float64))

    def _calibrated(self, mixture: GaussianMixture, steps: FloatArray, c: FloatArray) -> GaussianMixture:
        """Shift and scale combinations ``c`` (P, Q) of the losses at ``steps`` as forecasts of related runs ask for."""
        assert self.calibration is not None
        shift, factor = self.calibration
        alone = replace(self, calibration=None).loss(steps) if c.shape[1] != steps.size else mixture
        middle = mixture.quantiles([0.5])[0]
        means = middle + (shift * alone.sigma()) @ c + factor * (mixture.means - middle)
        floor = self.floor * np.abs(c.sum(axis=0))
        return replace(mixture, means=means, sds=np.maximum(factor * mixture.sds, floor))

    def _beyond(self, beyond: HiddenDecay | Rise, steps: FloatArray) -> FloatArray:
        """Return what may come beyond the law at each step [unit of the loss], shape (number of fates, P)."""
        if isinstance(beyond, HiddenDecay):
            return beyond.above(steps)
        means, _ = self._by_law(np.array([self.data.now]), np.eye(1))
        return beyond.above(steps, float(self.weights @ means[0]))

    def _by_law(self, steps: FloatArray, c: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and standard deviation of each law, shape (Q, K), of Q combinations ``c`` (P, Q) of P losses.

        There are far more laws than steps, so they run along the last axis, which is the fast one.
        """
        phi, a = self._power_laws(self.schedule.summed(steps)), self.annealing.at(steps)[:, self.response]
        means, variances = np.empty((c.shape[1], self.weights.size)), np.empty((c.shape[1], self.weights.size))
        for law, model in zip(self.laws_of, self.models, strict=True):
            pull, unexplained = model.predict(steps, c)
            # Rows of pull: the constant, the data, the power laws, the responses (none where the rate never falls).
            pull_1, pull_y = pull[:2, :, None]
            pull_phi = pull.T[:, 2 + self.basis[law]]
            has_decay = pull.shape[0] > 2 + self.n_basis
            pull_a = pull.T[:, 2 + self.n_basis + self.response[law]] if has_decay else np.zeros_like(pull_phi)
            E, A, b = self.E[law], self.A[law], self.b[law]
            here = E + A * phi[:, law] - b * a[:, law] + pull_y - E * pull_1 - A * pull_phi + b * pull_a
            means[:, law] = self.data.present * c.sum(axis=0)[:, None] + c.T @ here
            c_E, c_A = c.T @ (1.0 - pull_1), c.T @ (phi[:, law] - pull_phi)
            v_EE, v_EA, v_AA = self.covariance[law].T
            c_b = c_E * self.per_b[law, 0] + c_A * self.per_b[law, 1] - c.T @ (a[:, law] - pull_a)
            given_b = c_E**2 * v_EE + 2.0 * c_E * c_A * v_EA + c_A**2 * v_AA
            variances[:, law] = given_b + c_b**2 * self.b_variance[law] + unexplained[:, None]
        # Two seeds differ in level: the floor is for losses, not for differences within one run.
        floor = np.maximum(self.floor * np.abs(c.sum(axis=0)), 1e-12 * self.data.slope)
        return means, np.sqrt(np.maximum(variances, 0.0) + floor[:, None] ** 2)

    def _power_laws(self, z: FloatArray) -> FloatArray:
        """Return phi of each law at summed learning rates z (P,) relative to its peak [1], shape (P, K)."""
        z_now = max(float(self.schedule.summed(self.data.now)), 1e-9)
        return self.grid.power_laws(z, z_now)[:, self.basis]

    def elsewhere(self, schedule: LRSchedule, S: FloatArray) -> tuple[FloatArray, FloatArray]:
        """Return mean and variance of what the law says of the loss of a like run under another schedule.

        The misfit, which belongs to this run's own past, is left out.

        Args:
            schedule: Learning rate of all steps, relative to the same peak.
            S: Steps [steps], shape (P,).
        """
        phi = self._power_laws(schedule.summed(S)).T
        a = Annealing(schedule, self.prior.responses).at(S)[:, self.response].T
        means = self.data.present + self.E[:, None] + self.A[:, None] * phi - self.b[:, None] * a
        v_EE, v_EA, v_AA = (self.covariance[:, k, None] for k in range(3))
        by_b = (self.per_b[:, :1] + self.per_b[:, 1:] * phi - a) ** 2 * self.b_variance[:, None]
        variances = v_EE + 2.0 * phi * v_EA + phi**2 * v_AA + by_b
        mean = self.weights @ means
        return mean, self.weights @ (np.maximum(variances, 0.0) + (means - mean) ** 2) + self.floor**2

    def converged(self) -> GaussianMixture:
        """Predict the loss for S to infinity at this N, with the learning rate decayed as at the planned end."""
        a = self.annealing.at_end[self.response]
        misfit = np.array([model.size for model in self.models])[self.model]
        means = self.data.present + self.E - self.b * a
        by_b = (self.per_b[:, 0] - a) ** 2 * self.b_variance
        sds = np.sqrt(self.covariance[:, 0] + by_b + misfit**2 + self.floor**2)
        return GaussianMixture(self.weights, means[:, None], sds[:, None], self.least, self.stretch([1.0]))

    def parameter(self, name: str) -> GaussianMixture:
        """Return what is known of a linear parameter of the law: "E" (as a loss), "A" or "b" [unit of the loss]."""
        var_E, var_A = self.covariance[:, 0], self.covariance[:, 2]
        means, variances = {
            "E": (self.data.present + self.E, var_E + self.per_b[:, 0] ** 2 * self.b_variance),
            "A": (self.A, var_A + self.per_b[:, 1] ** 2 * self.b_variance),
            "b": (self.b, self.b_variance),
        }[name]
        return GaussianMixture(self.weights, means[:, None], np.sqrt(variances)[:, None])

    def decay_to_come(self) -> float:
        """Return the median of what the rest of the decay of the learning rate will bring [unit of the loss]."""
        now, end = self.annealing.at(np.array([self.data.now]))[0], self.annealing.at_end
        left = (end - now)[self.response]
        if not left.any():
            return 0.0
        sds = np.maximum(np.abs(left) * np.sqrt(self.b_variance), 1e-12 * self.data.slope)
        return float(GaussianMixture(self.weights, (self.b * left)[:, None], sds[:, None]).quantiles([0.5])[0, 0])

    def quantiles(self, values: FloatArray, probabilities: Sequence[float]) -> FloatArray:
        """Return quantiles, shape (Q,), of a number that each law has, such as ``alpha``, shape (K,)."""
        order = np.argsort(values, kind="stable")
        cumulated = np.cumsum(self.weights[order])
        # Half of each law's weight lies on either side of its value: interpolating there leaves no steps of the grid.
        return np.interp(probabilities, cumulated - 0.5 * self.weights[order], values[order])
