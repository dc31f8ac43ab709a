"""What the engine believes of a loss curve before it has seen it."""

from __future__ import annotations

from dataclasses import dataclass
from math import log

from lightning_scaling.fit.annealing import Response

__all__ = ["DEFAULT_PRIOR", "Prior", "Signed", "Unbounded"]


@dataclass(frozen=True)
class Unbounded:
    """What is believed of losses that are near no bound: their decays bring more, and how much is less sure.

    Args:
        come: A positive loss is near a bound, such as the entropy of a text, where it has come down by no more than
            this factor [1],
        scatter: and single losses scatter by no more than this share of it [1].
        e_folds: How far beyond both together, in e-folds, it takes for 1 - 1/e of what follows.
        share: Factor on ``decay_share`` [1].
        spread: Added to ``decay_spread`` [1].
        hidden_share: Factor on ``decay_share`` where the schedule is not known [1].
        hidden_chance: Added to the probability of ``hidden_decay``.
        hidden_spread: Added to its standard deviation [1].
    """

    come: float = 6.0
    scatter: float = 0.08
    e_folds: float = 0.3
    share: float = 3.0
    spread: float = 0.7
    hidden_share: float = 2.0
    hidden_chance: float = 0.15
    hidden_spread: float = 0.5


@dataclass(frozen=True)
class Signed:
    """What is believed of losses that can be negative, of which a share means nothing.

    Args:
        share: Median of b as a share of the way that the loss has come since its first values [1].
        spread: Added to ``decay_spread`` [1].
    """

    share: float = 0.03
    spread: float = 0.5


@dataclass(frozen=True)
class Prior:
    r"""Grids, scales and weights of the fit; all free of the unit of the loss.

    The law is :math:`L(t) = E + A\,(\zeta/\zeta_{now})^{-\alpha} - b\,a(t) + d(t)`; its scale is the slope g,
    the fall of the loss over the last e-fold of steps. See ``docs/how_forecasts_work.md``.

    Args:
        alphas: Grid of the exponent alpha_S [1].
        log_alpha: Middle and scale of log alpha_S, which has the tails of Student's t.
        delays: Grid of what the beginning of a run has cost, as a share of the present [1]; all of equal weight.
        head_starts: Grid of what a run had learnt before its first step, as a share of the present [1]: the beginning
            of one that goes on from a trained model, or whose law sets in late, has cost less than nothing.
        head_start: Weight of each of them, that of a delay being 1.
        responses: How the loss answers a falling rate; one of them is right.
        excess: Mean and standard deviation of A, the loss above the converged loss now, in units of g/alpha.
        decay: Median of b, the loss that a full decay of the rate brings, in units of the slope expected at the end.
        decay_share: The same as a share of the present loss, where losses are positive [1]; the smaller of both counts
            (half their harmonic mean).
        decay_spread: Scale of log b, which has the tails of Student's t.
        decay_most: Largest median of the normals that make up the distribution of b, as a share of a positive loss [1].
        decay_none: Probability that a decay brings nothing.
        slope_exponent: Exponent with which the slope is taken to shrink up to the end [1].
        unbounded: What changes where nothing bounds the loss.
        signed: What changes where the loss can be negative.
        hidden_decay: Where the schedule is not known: the probability that the rate will fall all the same, and the
            standard deviation of the log of what that brings.
        misfits: Grid of the size of d, what the law does not say, now, in units of g; all of equal weight.
        growths: Grid of the exponent p with which d grows into the past, :math:`(t_{now}/t)^p`.
        trust: Share of the weight of the growths that goes by their evidence, the rest being equal [1].
        misfit_length: Correlation length of d in log steps.
        record: (nu, s_0) of the scale that the run's own record puts on the misfit.
        persistence: Probability that what the newest losses have shown off their forecast goes on, and how much of it,
            as a multiple: their surprise in sigmas times this many sigmas of the forecast.
        stretch: How much less sure a large fall of a positive loss is than its law says: see `Stretch` [1].
        seed_floor: Smallest standard deviation, as a share of the present loss: what two seeds of a run differ by.
        windows_per_e_fold: Windows in each factor e of steps.
        e_folds: How far back windows reach.
        outlier: Sigmas beyond which a window that its neighbours contradict is not believed.
    """

    alphas: tuple[float, ...] = (0.2, 0.3, 0.36, 0.42, 0.47, 0.52, 0.57, 0.63, 0.7, 0.8, 0.95, 1.3)
    log_alpha: tuple[float, float] = (log(0.53), 0.15)
    delays: tuple[float, ...] = (0.0, 0.005, 0.01, 0.015, 0.022, 0.032, 0.045, 0.065, 0.09, 0.13, 0.18, 0.25, 0.35)
    head_starts: tuple[float, ...] = (0.3, 1.0, 3.0)
    head_start: float = 0.02
    responses: tuple[Response, ...] = (Response(0.0, 1.0), Response(0.0, 0.7), Response(0.005, 0.6))
    excess: tuple[float, float] = (0.5, 2.0)
    decay: float = 2.0
    decay_share: float = 0.055
    decay_spread: float = 0.33
    decay_most: float = 0.9
    decay_none: float = 0.01
    slope_exponent: float = 0.35
    unbounded: Unbounded = Unbounded()
    signed: Signed = Signed()
    hidden_decay: tuple[float, float] = (0.2, 1.0)
    misfits: tuple[float, ...] = (0.02, 0.08)
    growths: tuple[float, ...] = (1.0, 2.5)
    trust: float = 0.65
    misfit_length: float = 2.0
    record: tuple[float, float] = (2.0, 0.4)
    persistence: tuple[float, float] = (0.13, 2.0)
    stretch: float = 1.0
    seed_floor: float = 4e-4
    windows_per_e_fold: int = 32
    e_folds: float = 4.0
    outlier: float = 5.0


DEFAULT_PRIOR = Prior()
