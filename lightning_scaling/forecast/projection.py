"""Forecast: where a run's loss will land, and everything that can be asked of that."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.errors import FitError
from lightning_scaling.fit.mixture import GaussianMixture
from lightning_scaling.fit.posterior import Posterior
from lightning_scaling.fit.power import effective_time
from lightning_scaling.forecast.hindsight import Hindsight
from lightning_scaling.forecast.readout import discrete, interval_of, joined, now_final_change, one_of, unknown
from lightning_scaling.interval import Interval
from lightning_scaling.siblings.before_start import Unbegun
from lightning_scaling.units import thousands
from lightning_scaling.verdict import Verdict

__all__ = ["Forecast"]

FloatArray = NDArray[np.float64]

#: steps_to() looks this far beyond the planned end, as a multiple of it.
_FAR = 1e6
#: Steps of which the loss is forecast at once: memory is for so many.
_AT_ONCE = 32
#: Points of the grid on which steps_to() looks for the crossing, before it interpolates.
_CROSSING_POINTS = 160


@dataclass(frozen=True, eq=False)
class Forecast:
    """Where a run's loss will land, with what certainty, and what that is worth.

    All losses are *expected* losses, in the unit of the curve: free of the noise of single batches. A number that is
    not known is NaN. Where the verdict is not ``usable``, numbers may be there all the same, for those who study
    forecasts; nothing should be decided on them.

    Attributes:
        step: Last optimizer step of the curve [steps].
        horizon: Planned last step, or None where it is not known [steps].
        level: Probability that an interval holds its quantity [1].
        verdict: What the forecast is worth.
        final_loss: Mean loss over the last 2 % of the run, which is what one reads off the end of a log; the noise of
            the losses that it is the mean of is in its interval.
        converged_loss: Loss for S to infinity at this N, learning rate decayed as at the planned end.
        present_loss: Loss now.
        remaining_gain: Present minus final loss.
        alpha_S: Exponent of the law (Kaplan et al. 2020, Eq. 1.6).
        departure: Sigmas by which the newest losses lie above what the run itself forecast a little earlier.
        decay_done: Share of the planned fall of the learning rate that has happened [1]; 1 where none is ahead.
        decay_to_come: Median of what the rest of that fall will bring [unit of the loss].
        decay_sudden: Share of the learning rate that a fall in steps takes until the end, where the run has not shown
            such a fall yet [1]; 0 where the rate glides or is held.
        decay_unbounded: Share of the loss that may go with the rest of the learning rate where nothing bounds it, as a
            language model's is by the entropy of its text [1].
        rises_since: Step of the lowest loss, where the loss has clearly risen since; else None [steps].
        n_nonfinite: Steps with NaN or infinite loss since the last finite one.
        schedule_known: False where the future learning rate was not given and is taken to stay as it is.
        unit: Unit of the loss.
        seconds: Time that the forecast took [s].
        n_siblings: Finished runs of a store that it has borrowed from.
        N: Non-embedding parameters, None where the curve does not say.
        B: Newest batch size [tokens per step], None where the curve does not say, or counts samples.
    """

    step: int
    horizon: int | None
    level: float
    verdict: Verdict
    final_loss: Interval
    converged_loss: Interval
    present_loss: Interval
    remaining_gain: Interval
    alpha_S: Interval
    departure: float
    decay_done: float
    decay_to_come: float
    decay_sudden: float
    decay_unbounded: float
    rises_since: int | None
    n_nonfinite: int
    schedule_known: bool
    unit: str
    seconds: float
    n_siblings: int = 0
    N: float | None = None
    B: float | None = None
    _posterior: Posterior | Unbegun | None = field(default=None, repr=False)
    _curve: LossCurve | None = field(default=None, repr=False)

    def require_usable(self) -> Forecast:
        """Return the forecast itself where its verdict is usable.

        Raises:
            FitError: Where it is not; the error carries the forecast as ``result``.
        """
        if not self.verdict.usable:
            raise FitError(
                f"Expected a usable forecast, got the verdict '{self.verdict}': {self.verdict.why} "
                f"{self.verdict.what_to_do}",
                result=self,
            )
        return self

    def loss_at(self, S: ArrayLike) -> Interval:
        """Forecast the expected loss at steps S, past or future.

        Args:
            S: Optimizer steps >= 0 [steps], shape (...). In the past, what the smoothed losses were (NaN before the
                first one); beyond the planned end the last learning rate is held.

        Returns:
            Interval of the shape of S [unit of the loss].

        Raises:
            ValueError: If a step is negative or not finite.
        """
        steps = np.asarray(S, dtype=np.float64)
        if steps.size and not (np.isfinite(steps).all() and steps.min() >= 0):
            raise ValueError(f"Expected finite steps S >= 0, got {S!r:.80}. For S to infinity read converged_loss.")
        if self._posterior is None or not steps.size:
            return unknown(self.level, steps.shape)
        flat = steps.ravel()
        parts = [self._loss(flat[i : i + _AT_ONCE]) for i in range(0, flat.size, _AT_ONCE)]
        interval = joined([interval_of(part, self.level, (part.means.shape[1],)) for part in parts], steps.shape)
        assert self._curve is not None
        if len(self._curve) and (unseen := steps < min(self._curve.S[0], self.step)).any():
            low, mid, high = (np.where(unseen, np.nan, x) for x in (interval.low, interval.mid, interval.high))
            interval = Interval(low, mid, high, self.level)
        return interval

    def law_at(self, S: ArrayLike) -> Interval:
        """Return what the fitted law by itself says of the expected loss at steps S, past or future.

        `loss_at` says what the losses were, and carries on by how much the newest of them lie off the law. This does
        neither: what losses lie off it shows where a run has left its law. The law is fitted to the newest losses above
        all, so after a jump ask a forecast that was made before it.

        Args:
            S: Optimizer steps >= 0 [steps], shape (...).

        Returns:
            Interval of the shape of S [unit of the loss]: how well the law is known, wide in the far past, which it
            forgets on purpose. NaN where there is no law.

        Raises:
            ValueError: If a step is negative or not finite.

        Example:
            >>> from lightning_scaling import LossCurve, forecast
            >>> S = np.arange(1, 2001)
            >>> prediction = forecast(LossCurve(S=S, L=2.0 + 6.0 * S**-0.5), horizon=10_000)
            >>> print(prediction.law_at([500, 1000]).mid.round(2), 2.27, 2.19)
            [2.27 2.19] 2.27 2.19
        """
        steps = np.asarray(S, dtype=np.float64)
        if steps.size and not (np.isfinite(steps).all() and steps.min() >= 0):
            raise ValueError(f"Expected finite steps S >= 0, got {S!r:.80}. For S to infinity read converged_loss.")
        if self._posterior is None or not steps.size:
            return unknown(self.level, steps.shape)
        flat = np.maximum(steps.ravel(), 0.5)
        parts = [self._law(flat[i : i + _AT_ONCE]) for i in range(0, flat.size, _AT_ONCE)]
        return joined([interval_of(part, self.level, (part.means.shape[1],)) for part in parts], steps.shape)

    def mixture_at(self, S: ArrayLike | None = None, *, smooth: bool = True) -> GaussianMixture | None:
        """Return all that is known of the expected loss at steps S, as a mixture of normals.

        Args:
            S: Steps [steps], shape (P,); None: the last 2 % of the run, as in ``final_loss``.
            smooth: Whether some ten windows are averaged before now, so that a lucky one is not taken for the trend.

        Returns:
            The mixture of P quantities (of one for None) [unit of the curve]; None where nothing can be said.
        """
        if self._posterior is None or (S is None and self.horizon is None):
            return None
        return self._final if S is None else self._loss(np.asarray(S, dtype=np.float64), smooth=smooth)

    def probability_below(self, loss: float, S: float | None = None) -> float:
        """Return the probability that the expected loss at step S, or the mean over the last 2 %, is at most ``loss``.

        Args:
            loss: A loss [unit of the curve].
            S: Optimizer step [steps]; default: the last 2 % of the run, as in ``final_loss``.

        Returns:
            Probability [1]; NaN where nothing can be said.
        """
        if S is not None and not (np.isfinite(S) and S >= 0):
            raise ValueError(f"Expected a finite step S >= 0, got {S!r}. For S to infinity read converged_loss.")
        if self._posterior is None or (S is None and self.horizon is None):
            return float("nan")
        mixture = self._final if S is None else self._loss(np.array([float(S)]))
        return float(np.clip(mixture.cdf(loss)[0], 0.0, 1.0))

    def probability_converged_below(self, loss: float) -> float:
        """Return the probability that the converged loss is at most ``loss``.

        Args:
            loss: A loss [unit of the curve].

        Returns:
            Probability [1]; NaN where nothing can be said.
        """
        if not isinstance(self._posterior, Posterior):
            return float("nan")
        return float(np.clip(self._posterior.converged().cdf(loss)[0], 0.0, 1.0))

    @property
    def seed_noise(self) -> float:
        """Smallest standard deviation of an expected loss, what two seeds of a run differ by [unit of the loss]."""
        return self._posterior.floor if isinstance(self._posterior, Posterior) else 0.0

    @property
    def positive(self) -> bool:
        """Whether every loss so far was above 0: such a loss is taken to stay so, any other can fall to 0 and below."""
        return self._curve is not None and len(self._curve) > 0 and bool(self._curve.L.min() > 0.0)

    def probability_gain_above(self, gain: float) -> float:
        """Return the probability that the loss still falls by more than ``gain`` up to the planned end.

        Args:
            gain: A loss difference [unit of the curve].

        Returns:
            Probability [1]; NaN where nothing can be said.
        """
        if not isinstance(self._posterior, Posterior) or self.horizon is None:
            return float("nan")
        return float(np.clip(self._change.cdf(-gain)[0], 0.0, 1.0))

    def steps_to(self, loss: float) -> Interval:
        """Forecast the optimizer step at which the expected loss first reaches ``loss``.

        Args:
            loss: A loss [unit of the curve].

        Returns:
            Interval of steps [steps]: the step by which the loss has been reached with probability (1 - level)/2, 1/2
            and (1 + level)/2; infinite where that does not happen, beyond the planned end at the last learning rate.
        """
        if self._posterior is None:
            return unknown(self.level)
        end = float(self.horizon or self.step)
        grid = np.unique(
            np.concatenate(
                (
                    [float(max(self.step, 1))] if self._past is None else self._past.S,
                    np.linspace(self.step, end, _CROSSING_POINTS // 4),
                    np.geomspace(max(end, 2.0), max(end, 2.0) * _FAR, _CROSSING_POINTS // 4),
                )
            )
        )
        # A loss once reached stays reached: the probability of having been below never falls.
        reached = np.maximum.accumulate(self._loss(grid, smooth=True).cdf(loss))
        crossings = []
        for probability in ((1.0 - self.level) / 2.0, 0.5, (1.0 + self.level) / 2.0):
            i = int(np.searchsorted(reached, probability))
            if i == grid.size:
                crossings.append(float("inf"))
            elif i == 0 or reached[i] <= reached[i - 1]:
                crossings.append(float(grid[i]))
            else:
                share = (probability - reached[i - 1]) / (reached[i] - reached[i - 1])
                crossings.append(float(np.exp(np.log(grid[i - 1]) + share * np.log(grid[i] / grid[i - 1]))))
        low, mid, high = crossings
        return Interval(low, mid, high, self.level)

    @cached_property
    def _past(self) -> Hindsight | None:
        assert self._curve is not None
        return Hindsight.of(self._curve) if len(self._curve) > 2 else None

    def _loss(self, S: FloatArray, *, smooth: bool = False) -> GaussianMixture:
        """Predict the expected loss at steps S (P,): of the law from now on, in hindsight before."""
        assert self._posterior is not None
        mixture = self._posterior.loss(S)
        if self._past is None:
            return mixture
        before = self._past.S[-1] > S
        means, sds = self._past.at(S[before], smooth=smooth)
        mixture.means[:, before], mixture.sds[:, before] = means, np.hypot(sds, self._posterior.floor)
        return mixture

    def _law(self, S: FloatArray) -> GaussianMixture:
        """Return mean and width of the law at steps S (P,), as one normal each."""
        assert self._posterior is not None
        if not isinstance(self._posterior, Posterior):
            return self._posterior.loss(S)
        mean, variance = self._posterior.elsewhere(self._posterior.schedule, S)
        return GaussianMixture(np.ones(1), mean[None], np.sqrt(variance)[None], self._posterior.least)

    @cached_property
    def _final(self) -> GaussianMixture:
        assert self._posterior is not None
        return one_of(now_final_change(self._posterior, self.step, self.horizon), 1)

    @cached_property
    def _change(self) -> GaussianMixture:
        assert self._posterior is not None
        return one_of(now_final_change(self._posterior, self.step, self.horizon), 2)

    @property
    def parameters(self) -> dict[str, Interval]:
        """The posterior of the law's parameters.

        ``alpha_S`` [1]; ``E``, the converged loss at peak rate; ``A``, the loss above it now; ``S_c``, the scale of
        Kaplan's (S_c/S)^alpha_S [steps at peak rate]; ``delay``, the steps that the beginning of the run has cost,
        below zero where it had a head start [steps at peak rate]; ``b``, the loss that a full decay of the learning
        rate brings. Their marginals are wide where the loss at the planned end is not: they trade off along a ridge.
        """
        if not isinstance(self._posterior, Posterior):
            return {name: unknown(self.level) for name in ("alpha_S", "E", "A", "S_c", "delay", "b")}
        p = self._posterior
        z_now = max(float(p.schedule.summed(p.data.now)), 1e-9)
        S_c = z_now * effective_time(np.ones(1), p.delay) * np.exp(np.log(np.maximum(p.A, 1e-300)) / p.alpha)
        return {
            "alpha_S": self.alpha_S,
            "E": interval_of(p.parameter("E"), self.level),
            "A": interval_of(p.parameter("A"), self.level),
            "S_c": discrete(p, S_c, self.level),
            "delay": discrete(p, z_now * p.delay, self.level),
            "b": interval_of(p.parameter("b"), self.level),
        }

    def __str__(self) -> str:
        """Return a few lines a person can read."""
        of = "" if self.horizon is None else f" of {thousands(self.horizon)}"
        lines = [f"Step {thousands(self.step)}{of}: {self._headline()}"]
        if self.verdict is not Verdict.OK:
            lines.append(f"{self.verdict.why} {self.verdict.what_to_do}")
        if self.n_siblings:
            lines.append(f"Borrowed from {self.n_siblings} finished run{'s' * (self.n_siblings > 1)} of its kind.")
        own = isinstance(self._posterior, Posterior)
        if own and self.verdict.usable:
            over = self.horizon is not None and self.step >= self.horizon
            ahead = "" if over or self.rises_since is not None else f"; the loss still falls by {self.remaining_gain}"
            lines.append(f"now {self.present_loss}{ahead}")
        if own and (self.verdict.usable or self.verdict is Verdict.NO_HORIZON):
            lines.append(f"converged, for S to infinity: {self.converged_loss}; alpha_S {self.alpha_S}")
        if self.horizon is not None and self.verdict.usable and not self.schedule_known:
            lines.append("The learning rate ahead was not given: it is taken to stay as it is.")
        return "\n".join(lines)

    def _headline(self) -> str:
        if np.isnan(self.final_loss.mid) or not self.verdict.usable:
            return f"no forecast of the final loss ({self.verdict})."
        unit = f" {self.unit}" if self.unit else ""
        return f"the run should end at {self.final_loss}{unit} ({self.verdict})."
