"""fit_joint(): the law of model and steps, L(N, S), fitted to runs of several sizes at once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve, require_curves
from lightning_scaling.joint.points import Points, points_of
from lightning_scaling.joint.problem import ALPHA_N, ALPHA_S, Problem
from lightning_scaling.joint.result import JointFit, interval_of, losses_of, no_fit
from lightning_scaling.laws import CriticalBatch

__all__ = ["fit_joint"]

FloatArray = NDArray[np.float64]

#: Fewest draws that make an interval.
_FEWEST = 200
#: Share of the draws at an end of the grid from which an exponent counts as not found.
_AT_END = 0.2


def fit_joint(
    curves: Sequence[LossCurve],
    *,
    offset: bool = True,
    critical: CriticalBatch | None = None,
    first: float = 0.05,
    level: float = 0.9,
) -> JointFit:
    r"""Fit L(N, S) to runs of several sizes.

    .. math:: L = E + (N_c / N)^{\alpha_N} + (S_c / S)^{\alpha_S} + u_r(\ln S) + v(\ln S) + \varepsilon

    The noise of the windows is measured. Each run has a misfit u_r of its own and all runs share one, v: both are
    Gaussian processes that last some two e-folds of steps, u_r with an offset of the whole run beside it, and their
    sizes are summed over, weighed by the evidence. Six sizes tell little of a scatter between them: with E, and runs
    that scatter by 2 % of their fall, 90 % intervals of alpha_N held some 70 to 80 % of the time (``docs/ladder.md``).
    For given exponents the law is linear in E, N_c^alpha_N and S_c^alpha_S, so that the exponents lie on a grid and the
    rest is solved in closed form under weak priors, zero or above. The draws come from a generator of fixed seed: the
    same runs give the same numbers.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.6 (= 5.6), there without E.

    Args:
        curves: Runs on one data set, of at least three sizes (in their N), at a constant learning rate: a loss in the
            middle of a decay is not the loss of a shorter run. Give all the same batch size, or ``critical``.
        offset: Whether there is an irreducible loss E. Without it the law is Kaplan's.
        critical: The critical batch size. With it steps become S_min (Eq. 5.4), at the batch size of each curve.
        first: Share of each run that is left out at its start [1]: the law begins after the first transient.
        level: Probability that an interval holds its number [1].

    Returns:
        The law with its intervals. Where the runs do not tell it, ``reason`` says why.

    Raises:
        TypeError: If one of the curves is none.
        ValueError: If a curve has no N or, with ``critical``, no batch size, or ``first`` or ``level`` is out of range.

    Example:
        >>> from lightning_scaling.laws import KaplanNS
        >>> law, S = KaplanNS(alpha_N=0.1, alpha_S=0.6, N_c=1e9, S_c=20.0), np.geomspace(10, 3000, 200)
        >>> rng = np.random.default_rng(0)
        >>> runs = [LossCurve(S, law.loss(N, S) + 0.01 * rng.standard_normal(200), N=N) for N in (1e4, 1e5, 1e6)]
        >>> found = fit_joint(runs, offset=False).alpha_N
        >>> round(found.mid, 2), bool(found.low < 0.1 < found.high)
        (0.1, True)
    """
    for name, value in (("first", first), ("level", level)):
        if not 0.0 < value < 1.0:
            raise ValueError(f"Expected {name} between 0 and 1, got {value!r}, so give for example 0.05 and 0.9.")
    require_curves(curves)
    points = points_of(curves, critical, first)
    if (trouble := points.trouble()) is not None:
        return no_fit(trouble, points.n_runs, offset, level)
    draws, misfits = Problem(points, offset).draws()
    if (trouble := _unfound(draws)) is not None:
        return no_fit(trouble, points.n_runs, offset, level)
    return _found(points, draws, misfits, offset, level)


def _unfound(draws: FloatArray) -> str | None:
    """Return why the draws are no law, None where they are one."""
    if len(draws) < _FEWEST:
        return (
            "the loss does not fall with size and steps as the law has it. Are the runs of one data set and schedule?"
        )
    for k, (name, (low, high)) in enumerate((("alpha_N", ALPHA_N), ("alpha_S", ALPHA_S))):
        if max(np.mean(draws[:, k] < 1.1 * low), np.mean(draws[:, k] > high / 1.1)) > _AT_END:
            return f"{name} is not found between {low:g} and {high:g}. Give runs over a wider range, or fix E (offset)."
    return None


def _found(points: Points, draws: FloatArray, misfits: FloatArray, offset: bool, level: float) -> JointFit:
    losses = losses_of(draws, points.N, points.S)
    k = int(np.argmin(((losses - losses.mean(axis=0)) ** 2).sum(axis=1)))
    best = float(draws[k, 0]), float(draws[k, 1]), float(draws[k, 2]), float(draws[k, 3]), float(draws[k, 4])
    alpha_N, alpha_S, N_c, S_c, E = (interval_of(column, level) for column in draws.T)
    return JointFit(
        reason="",
        alpha_N=alpha_N,
        alpha_S=alpha_S,
        N_c=N_c,
        S_c=S_c,
        E=E,
        best=best,
        draws=draws,
        scatter=(float(misfits[0]), float(misfits[1])),
        residual=float(np.sqrt(np.mean((points.y - losses[k]) ** 2))),
        sizes=(float(points.N.min()), float(points.N.max())),
        steps=(float(points.S.min()), float(points.S.max())),
        n_runs=points.n_runs,
        offset=offset,
    )
