"""JointFit: the law of model and steps with its uncertainty, as draws of its constants."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.errors import FitError
from lightning_scaling.interval import Interval
from lightning_scaling.laws import HoffmannND, KaplanNS

__all__ = ["JointFit", "interval_of", "losses_of", "no_fit"]

FloatArray = NDArray[np.float64]

_NAMES = ("alpha_N", "alpha_S", "N_c", "S_c", "E")


@dataclass(frozen=True, eq=False)
class JointFit:
    r"""L(N, S) as fitted to runs of several sizes.

    .. math:: L(N, S) = E + (N_c / N)^{\alpha_N} + (S_c / S)^{\alpha_S}

    The constants go together: with a larger E go a larger alpha_N and a smaller N_c. Intervals of single constants are
    therefore wide where `loss` is well known; what follows from the law is to be computed from each draw.

    Args:
        reason: Why there is no law; empty where there is one.
        alpha_N: Exponent of the model size [1].
        alpha_S: Exponent of the steps [1].
        N_c: Scale of the model size [non-embedding parameters].
        S_c: Scale of the steps [steps].
        E: Irreducible loss [unit of the loss]; 0 where the law has none.
        best: One likely set of the five constants, the one whose losses lie closest to the mean of all draws.
        draws: Sets of the five constants, equally likely, shape (n, 5).
        scatter: What single runs leave the law by on their way, and what all runs share [unit of the loss]; standard
            deviations. As a whole a run lies off by half as much again.
        residual: Root mean square residual of the windows about ``best`` [unit of the loss].
        sizes: Smallest and largest model of the runs [non-embedding parameters].
        steps: First and last step that was fitted [steps].
        n_runs: Runs that were used.
        offset: Whether the law has an irreducible loss.
    """

    reason: str
    alpha_N: Interval
    alpha_S: Interval
    N_c: Interval
    S_c: Interval
    E: Interval
    best: tuple[float, float, float, float, float]
    draws: FloatArray = field(repr=False)
    scatter: tuple[float, float]
    residual: float
    sizes: tuple[float, float]
    steps: tuple[float, float]
    n_runs: int
    offset: bool

    def require_ok(self) -> JointFit:
        """Return the fit itself.

        Raises:
            FitError: If it found no law; the error carries this result.
        """
        if self.reason:
            raise FitError(f"Expected runs that tell L(N, S), got none: {self.reason}", self)
        return self

    def loss(self, N: ArrayLike, S: ArrayLike) -> Interval:
        """Return the loss of the law; a run scatters about it by ``scatter``.

        Args:
            N: Non-embedding parameters [1], shape (...).
            S: Steps, of the batch size of the runs, or S_min if the fit was made in it [steps], broadcastable to (...).

        Returns:
            L [unit of the loss], shape (...).

        Raises:
            FitError: If there is no law.
            ValueError: If any ``N <= 0`` or ``S <= 0``.
        """
        self.require_ok()
        sizes, steps = np.broadcast_arrays(np.asarray(N, dtype=np.float64), np.asarray(S, dtype=np.float64))
        if not (np.all(sizes > 0.0) and np.all(steps > 0.0)):
            raise ValueError("Expected N > 0 and S > 0, got a smaller one, so pass sizes and steps counted from 1.")
        losses = losses_of(self.draws, sizes.ravel(), steps.ravel()).reshape(-1, *sizes.shape)
        return interval_of(losses, self.E.level)

    def kaplan(self) -> tuple[KaplanNS, ...]:
        """Return each draw as the law of Kaplan et al.; it has no irreducible loss.

        Raises:
            FitError: If there is no law.
            ValueError: If the fit was made with an irreducible loss.
        """
        self.require_ok()
        if self.offset:
            raise ValueError("Expected a fit without E, got one with it, so fit with offset=False or ask hoffmann(B).")
        return tuple(KaplanNS(*row[:4]) for row in self.draws.tolist())

    def hoffmann(self, B: float) -> tuple[HoffmannND, ...]:
        r"""Return each draw as a law of size and tokens, D = B S, in the form of Hoffmann et al.

        .. math:: A_N = N_c^{\alpha_N}, \qquad A_D = (B S_c)^{\alpha_S}, \qquad \alpha_D = \alpha_S

        It holds at this batch size, and counts N as the runs do, without embeddings.

        Args:
            B: Batch size of the runs [tokens/step].

        Raises:
            FitError: If there is no law.
            ValueError: If the batch size is not positive.
        """
        self.require_ok()
        if not 0.0 < B < math.inf:
            raise ValueError(f"Expected B above 0, got {B!r}, so pass the tokens of one step.")
        return tuple(
            HoffmannND(E=E, A_N=N_c**alpha_N, A_D=(B * S_c) ** alpha_S, alpha_N=alpha_N, alpha_D=alpha_S)
            for alpha_N, alpha_S, N_c, S_c, E in self.draws.tolist()
        )

    def __str__(self) -> str:
        """Return one line a person can read."""
        if self.reason:
            return f"No L(N, S) from {self.n_runs} runs: {self.reason}"
        names = _NAMES if self.offset else _NAMES[:4]
        return ", ".join(f"{name} = {getattr(self, name)}" for name in names) + f", from {self.n_runs} runs"


def losses_of(draws: FloatArray, N: FloatArray, S: FloatArray) -> FloatArray:
    """Return the losses of each draw at each point, shape (draws, points)."""
    alpha_N, alpha_S, N_c, S_c, E = draws.T[..., None]
    return np.asarray(E + np.exp(alpha_N * (np.log(N_c) - np.log(N))) + np.exp(alpha_S * (np.log(S_c) - np.log(S))))


def interval_of(values: FloatArray, level: float) -> Interval:
    """Return median and interval of the draws along the first axis."""
    low, mid, high = np.quantile(values, [0.5 - level / 2.0, 0.5, 0.5 + level / 2.0], axis=0)
    return Interval(low, mid, high, level)


def no_fit(why: str, n_runs: int, offset: bool, level: float) -> JointFit:
    """Return the result of runs that tell no law, and why they do not."""
    nan = math.nan
    unknown = Interval(nan, nan, nan, level)
    return JointFit(
        reason=why,
        alpha_N=unknown,
        alpha_S=unknown,
        N_c=unknown,
        S_c=unknown,
        E=unknown,
        best=(nan, nan, nan, nan, nan),
        draws=np.zeros((0, 5)),
        scatter=(nan, nan),
        residual=nan,
        sizes=(nan, nan),
        steps=(nan, nan),
        n_runs=n_runs,
        offset=offset,
    )
