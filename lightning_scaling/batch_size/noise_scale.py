"""The gradient noise scale: how noisy a gradient is, from squared norms at two batch sizes.

Everything comes from McCandlish et al. 2018, arXiv:1812.06162, Appendix A. The expected squared norm of a gradient that
is the mean over B samples is |G|² + tr(Σ)/B, so two batch sizes tell both terms. Single estimates are noisy, and those
of |G|² often negative, so `NoiseScale` averages the two apart and takes their ratio last.

The maths asks nothing of where the norms come from: ranks, accumulated batches or single examples.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import stdtrit

from lightning_scaling.interval import Interval

__all__ = ["G_squared", "NoiseScale", "trace_Sigma"]

FloatArray = NDArray[np.float64]

_VERSION = 1
#: Blocks that are kept; when there are more, neighbours are merged.
_BLOCKS = 32
#: Blocks of a time scale, once there are enough samples: their spread is the uncertainty.
_BLOCKS_PER_WINDOW = 8
#: Blocks, counted by weight, below which their spread says nothing.
_FEWEST = 6.0
#: Standard errors that |G|² must be above 0. With fewer, the ratios that happen to come out are mostly too small.
_CLEAR = 3.0


def G_squared(small_sq: ArrayLike, big_sq: ArrayLike, *, B_small: ArrayLike, B_big: ArrayLike) -> FloatArray:
    r"""Return an unbiased estimate of the squared norm of the true gradient.

    .. math:: |G|^2 \approx \frac{B_{big} |G_{big}|^2 - B_{small} |G_{small}|^2}{B_{big} - B_{small}}

    Source: McCandlish et al. 2018, arXiv:1812.06162, Appendix A.

    Args:
        small_sq: Squared norm of the gradient of a small batch, or the mean over several [gradient unit²], shape (...).
        big_sq: Squared norm of the mean gradient of a big batch, broadcastable to (...).
        B_small: Size of the small batches [samples or tokens].
        B_big: Size of the big batch [same unit].

    Returns:
        |G|² [gradient unit²], shape (...); below 0 where noise has it so.

    Raises:
        ValueError: If ``0 < B_small < B_big`` does not hold.

    Example:
        >>> float(G_squared(52.5, 4.0625, B_small=8, B_big=256))
        2.5
    """
    small, big = _sizes(B_small, B_big)
    return np.asarray((big * np.asarray(big_sq) - small * np.asarray(small_sq)) / (big - small), dtype=np.float64)


def trace_Sigma(small_sq: ArrayLike, big_sq: ArrayLike, *, B_small: ArrayLike, B_big: ArrayLike) -> FloatArray:
    r"""Return an unbiased estimate of the variance of a single sample's gradient, summed over all parameters.

    .. math:: \mathrm{tr}(\Sigma) \approx \frac{|G_{small}|^2 - |G_{big}|^2}{1/B_{small} - 1/B_{big}}

    Source: McCandlish et al. 2018, arXiv:1812.06162, Appendix A.

    Args:
        small_sq: Squared norm of the gradient of a small batch, or the mean over several [gradient unit²], shape (...).
        big_sq: Squared norm of the mean gradient of a big batch, broadcastable to (...).
        B_small: Size of the small batches [samples or tokens].
        B_big: Size of the big batch [same unit].

    Returns:
        tr(Σ) [gradient unit² × unit of B], shape (...); below 0 where noise has it so.

    Raises:
        ValueError: If ``0 < B_small < B_big`` does not hold.

    Example:
        >>> float(trace_Sigma(52.5, 4.0625, B_small=8, B_big=256))
        400.0
    """
    small, big = _sizes(B_small, B_big)
    return np.asarray((np.asarray(small_sq) - np.asarray(big_sq)) / (1.0 / small - 1.0 / big), dtype=np.float64)


class NoiseScale:
    r"""The noise scale of a run, from squared norms that arrive one sample after the other.

    .. math:: B_{simple} = \mathrm{tr}(\Sigma) / |G|^2

    Numerator and denominator are averaged apart, with weights that fall by a factor e over ``window`` samples (an
    exponential moving average, bias-corrected), and only then divided. The samples are kept in blocks, and the spread
    between blocks, which covers the drift of the gradient as well, gives the interval of the ratio by Fieller's
    theorem. Where |G|² is not clearly above 0 the ratio has no upper bound: then `B_simple` is not known and
    `why_unknown` says so.

    B_simple comes out in the unit of the batch sizes that are fed in. It is a heuristic for the critical batch size,
    see `lightning_scaling.batch_size.trade.CAVEATS`.

    Source: McCandlish et al. 2018, arXiv:1812.06162, Appendix A.

    Args:
        window: Time scale of the averages [samples of the norms].
        level: Probability that the interval holds the ratio of the averaged truths [1].
        unit: What the batch sizes count, for print.

    Attributes:
        n_samples: Samples taken so far.
        n_skipped: Samples left out because a norm was not finite.

    Raises:
        ValueError: If ``window`` is below 10, or ``level`` not between 0 and 1.

    Example:
        >>> rng, noise = np.random.default_rng(0), NoiseScale()
        >>> for _ in range(200):  # 400 parameters: G = 0.1 each, single gradients with variance 1 each
        ...     ranks = 0.1 + rng.normal(size=(8, 400)) / np.sqrt(4)
        ...     noise.update((ranks**2).sum(1).mean(), (ranks.mean(0) ** 2).sum(), B_small=4, B_big=32)
        >>> print(noise)  # tr(Σ) = 400, |G|² = 4
        B_simple = 100.2 (97.3 to 103.2, 90 %) samples
    """

    def __init__(self, *, window: float = 100.0, level: float = 0.9, unit: str = "samples") -> None:
        if not 10.0 <= window < math.inf:
            raise ValueError(f"Expected a window of 10 samples or more, got {window!r}, so give for example 100.")
        if not 0.0 < level < 1.0:
            raise ValueError(f"Expected level between 0 and 1, got {level!r}, so give for example 0.9 for 90 %.")
        self.window = float(window)
        self.level = float(level)
        self.unit = unit
        self.n_samples = 0
        self.n_skipped = 0
        self._blocks = np.zeros((0, 3))  # sums of weights, of weighted tr(Σ) and of weighted |G|², oldest first
        self._block = 1  # samples of a full block
        self._in_last = 0

    def update(self, small_sq: float, big_sq: float, *, B_small: float, B_big: float) -> None:
        """Take the squared norms of one optimizer step; a sample with a norm that is not finite is only counted.

        Args:
            small_sq: Mean squared norm of the gradients of small batches [gradient unit²].
            big_sq: Squared norm of the mean gradient of the whole step [gradient unit²].
            B_small: Size of the small batches [unit of the batch].
            B_big: Size of the whole step [same unit].

        Raises:
            ValueError: If ``0 < B_small < B_big`` does not hold.
        """
        sizes = {"B_small": B_small, "B_big": B_big}
        trace, G_sq = float(trace_Sigma(small_sq, big_sq, **sizes)), float(G_squared(small_sq, big_sq, **sizes))
        if not (math.isfinite(trace) and math.isfinite(G_sq)):
            self.n_skipped += 1
            return
        self.n_samples += 1
        self._blocks *= math.exp(-1.0 / self.window)
        if self._in_last >= self._block or not len(self._blocks):
            self._open_block()
        self._blocks[-1] += (1.0, trace, G_sq)
        self._in_last += 1

    @property
    def G_squared(self) -> float:
        """Average of |G|² [gradient unit²], NaN before the first sample; may be negative."""
        return self._averages()[1]

    @property
    def trace_Sigma(self) -> float:
        """Average of tr(Σ) [gradient unit² × unit of the batch], NaN before the first sample; may be negative."""
        return self._averages()[0]

    @property
    def B_simple(self) -> Interval:
        """B_simple [unit of the batch], NaN where it is not known."""
        return self._read()[0]

    @property
    def why_unknown(self) -> str:
        """Why `B_simple` is not known, empty where it is."""
        return self._read()[1]

    def __str__(self) -> str:
        """Return one line a person can read."""
        found, why = self._read()
        return f"B_simple is not known: {why}" if why else f"B_simple = {found} {self.unit}"

    def state_dict(self) -> dict[str, Any]:
        """Return plain numbers, strings and lists."""
        return {
            "version": _VERSION,
            "window": self.window,
            "level": self.level,
            "unit": self.unit,
            "n_samples": self.n_samples,
            "n_skipped": self.n_skipped,
            "blocks": self._blocks.tolist(),
            "block": self._block,
            "in_last": self._in_last,
        }

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> NoiseScale:
        """Go on from a `state_dict`.

        Raises:
            ValueError: If the state is of another version.
        """
        if state.get("version") != _VERSION:
            raise ValueError(
                f"Expected a NoiseScale state of version {_VERSION}, got {state.get('version')!r}, so start a new one."
            )
        new = cls(window=state["window"], level=state["level"], unit=str(state["unit"]))
        new.n_samples, new.n_skipped = int(state["n_samples"]), int(state["n_skipped"])
        new._blocks = np.array(state["blocks"], dtype=np.float64).reshape(-1, 3)
        new._block, new._in_last = int(state["block"]), int(state["in_last"])
        return new

    def _open_block(self) -> None:
        if len(self._blocks) >= _BLOCKS:
            if 2 * self._block <= max(self.window / _BLOCKS_PER_WINDOW, 1.0):
                self._blocks = self._blocks.reshape(-1, 2, 3).sum(axis=1)
                self._block *= 2
            else:  # the oldest weigh next to nothing
                self._blocks = np.concatenate([self._blocks[:2].sum(axis=0, keepdims=True), self._blocks[2:]])
        self._blocks = np.concatenate([self._blocks, np.zeros((1, 3))])
        self._in_last = 0

    def _averages(self) -> tuple[float, float]:
        if not len(self._blocks):
            return math.nan, math.nan
        weight, trace, G_sq = self._blocks.sum(axis=0)
        return float(trace / weight), float(G_sq / weight)

    def _read(self) -> tuple[Interval, str]:
        """Return the interval, and why it is not known."""
        unknown = Interval(math.nan, math.nan, math.nan, self.level)
        weights = self._blocks[:, 0]
        total, squares = float(weights.sum()), float((weights**2).sum())
        n = total**2 / squares if squares else 0.0
        if n < _FEWEST:
            return unknown, f"{self.n_samples} samples of the gradient are too few."
        trace, G_sq = self._averages()
        off = self._blocks[:, 1:] - weights[:, None] * np.array([trace, G_sq])
        V = off.T @ off / total**2 / (1.0 - 1.0 / n)
        # Fieller's theorem: all ratios r for which trace - r |G|² is less than t standard errors from 0. They lie
        # between the roots of a r² - 2 b r + c, if a is positive.
        t_sq = float(stdtrit(n - 1.0, 0.5 + self.level / 2.0)) ** 2
        a, b, c = G_sq**2 - t_sq * V[1, 1], trace * G_sq - t_sq * V[0, 1], trace**2 - t_sq * V[0, 0]
        root = math.sqrt(max(b**2 - a * c, 0.0))
        if a <= 0.0 or G_sq <= _CLEAR * math.sqrt(V[1, 1]):
            half = math.sqrt(t_sq * V[1, 1])
            error = Interval(G_sq - half, G_sq, G_sq + half, self.level).short()
            why = f"|G|² is not clearly above 0 ({error}), noise hides it"
            if c > 0.0 and (a < 0.0 or (a > 0.0 and G_sq > 0.0)):
                why += f"; B_simple is at least {(b - root) / a:.2g} {self.unit}"
            return unknown, f"{why}. Take more samples, or larger steps."
        low, mid, high = (max(r, 0.0) for r in ((b - root) / a, trace / G_sq, (b + root) / a))
        return Interval(min(low, mid), mid, max(mid, high), self.level), ""


def _sizes(B_small: ArrayLike, B_big: ArrayLike) -> tuple[FloatArray, FloatArray]:
    small, big = np.asarray(B_small, dtype=np.float64), np.asarray(B_big, dtype=np.float64)
    if not np.all((small > 0.0) & (small < big) & np.isfinite(big)):
        raise ValueError(
            f"Expected 0 < B_small < B_big, got {B_small!r} and {B_big!r}, so compare the gradients of parts of a step "
            "with that of the whole step."
        )
    return small, big
