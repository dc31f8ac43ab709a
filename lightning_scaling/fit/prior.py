"""What the engine believes of a loss curve before it has seen it."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from lightning_scaling.fit.annealing import Response

__all__ = ["DEFAULT_PRIOR", "Prior"]


@dataclass(frozen=True)
class Prior:
    r"""Grids, scales and weights of the fit; all free of the unit of the loss.

    The law is :math:`L(t) = E + A\,(z/z_{now})^{-\alpha} - b\,a(t) + d(t)`; its scale is the slope g,
    the fall of the loss over the last e-fold of steps. See ``docs/how_forecasts_work.md``.

    Args:
        alphas: Grid of the exponent alpha_S [1].
        log_alpha: Mean and standard deviation of log alpha_S.
        responses: How the loss answers a falling rate; one of them is right.
        excess: Mean and standard deviation of A, the loss above the converged loss now, in units of g/alpha.
        decay: Median of b, the loss that a full decay of the rate brings, in units of the slope expected at the end.
        decay_share: Median of b as a share of the present loss, where losses are positive [1].
        decay_mix: Weight of the first against the second scale, in the log [1].
        decay_spread: Scale of log b, which has the tails of Student's t.
        decay_none: Probability that a decay brings nothing.
        slope_exponent: Exponent with which the slope is taken to shrink up to the end [1].
        misfits: Grid of (size, p) of d, what the law does not say, all of equal weight: its size now in units of g,
            and the exponent with which it grows into the past, :math:`(t_{now}/t)^p`.
        misfit_length: Correlation length of d in log steps.
        record: (nu, s_0) of the scale that the run's own record puts on the misfit.
        seed_floor: Smallest standard deviation, as a share of the present loss: what two seeds of a run differ by.
        windows_per_e_fold: Windows in each factor e of steps.
        e_folds: How far back windows reach.
        outlier: Sigmas beyond which a window that its neighbours contradict is not believed.
    """

    alphas: tuple[float, ...] = (0.1, 0.2, 0.3, 0.42, 0.6, 0.85, 1.2, 1.7)
    log_alpha: tuple[float, float] = (log(0.5), 0.9)
    responses: tuple[Response, ...] = (Response(0.0, 0.7), Response(0.01, 0.6))
    excess: tuple[float, float] = (0.5, 2.0)
    decay: float = 0.5
    decay_share: float = 0.06
    decay_mix: float = 0.5
    decay_spread: float = 0.3
    decay_none: float = 0.01
    slope_exponent: float = 0.3
    misfits: tuple[tuple[float, float], ...] = ((0.02, 2.5), (0.06, 2.5), (0.2, 2.5))
    misfit_length: float = 1.5
    record: tuple[float, float] = (2.0, 0.4)
    seed_floor: float = 4e-4
    windows_per_e_fold: int = 32
    e_folds: float = 4.0
    outlier: float = 5.0


DEFAULT_PRIOR = Prior()
