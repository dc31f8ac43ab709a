"""What the engine says of synthetic runs: of one with a decay at some moments, of another what its record makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.synthetic import Array, SyntheticRun
from lightning_scaling import Forecast, LossCurve, forecast
from lightning_scaling.fit.annealing import Annealing
from lightning_scaling.fit.data import reduce_curve
from lightning_scaling.fit.decay import DecayBelief
from lightning_scaling.fit.posterior import Posterior
from lightning_scaling.fit.prior import DEFAULT_PRIOR
from lightning_scaling.fit.record import ORIGINS, RECENT, Fit, fit, middling
from lightning_scaling.fit.solve import solve


@dataclass(frozen=True)
class Decay:
    """A run with a decay and its forecasts.

    Attributes:
        name: What a picture calls it.
        run: The run.
        forecasts: Forecasts of it, oldest first.
    """

    name: str
    run: SyntheticRun
    forecasts: tuple[Forecast, ...]

    @classmethod
    def of(cls, name: str, run: SyntheticRun, shares: Sequence[float]) -> Decay:
        """Forecast a run at some shares of it."""
        return cls(name, run, tuple(_forecast(run, run.curve(share)) for share in shares))


@dataclass(frozen=True)
class Record:
    """A run at a constant rate, its forecast, and the earlier forecasts of its present that set the width of that.

    Attributes:
        name: What a picture calls it.
        run: The run.
        seen: What of it is known now.
        forecast: The forecast of its end.
        fit: The surprises and the scale behind that forecast.
        earlier: What was believed at the shares ``ORIGINS`` of the present, oldest first.
    """

    name: str
    run: SyntheticRun
    seen: LossCurve
    forecast: Forecast
    fit: Fit
    earlier: tuple[Posterior, ...]

    @classmethod
    def of(cls, name: str, run: SyntheticRun, share: float) -> Record:
        """Forecast a run at a share of it, and look back from there."""
        seen = run.curve(share)
        earlier = tuple(_believed(run, seen.until(origin * seen.step)) for origin in ORIGINS)
        return cls(name, run, seen, _forecast(run, seen), fit(seen, run.schedule, DEFAULT_PRIOR), earlier)

    @property
    def present(self) -> tuple[float, float]:
        """Mean step [steps] and mean loss [nats] of the newest steps, against which earlier forecasts are held."""
        recent = self.seen.S >= RECENT * self.seen.step
        S, L = (np.average(x[recent], weights=self.seen.count[recent]) for x in (self.seen.S, self.seen.L))
        return float(S), float(L)

    def band(self, k: int, S: Array) -> Array:
        """Return low, median and high of the k-th earlier forecast at steps S, shape (3, P) [nats]."""
        level = self.forecast.level
        return self.earlier[k].loss(S).quantiles([(1.0 - level) / 2.0, 0.5, (1.0 + level) / 2.0])


def _forecast(run: SyntheticRun, seen: LossCurve) -> Forecast:
    return forecast(seen, horizon=run.horizon, lr_schedule=run.schedule)


def _believed(run: SyntheticRun, part: LossCurve) -> Posterior:
    """Solve the law as `fit` does where it looks back: with the misfit of the prior, which no record has scaled."""
    prior = middling(DEFAULT_PRIOR)
    data = reduce_curve(part, windows_per_e_fold=prior.windows_per_e_fold, e_folds=prior.e_folds, outlier=prior.outlier)
    annealing = Annealing(run.schedule, prior.responses)
    belief = DecayBelief.before(data, run.schedule, prior, decays=annealing.any, positive=True)
    return solve(data, annealing, belief, prior, positive=True)
