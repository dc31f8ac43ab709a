"""Points: what the runs of a joint fit are reduced to, windows of steps with a measured noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.fit.data import reduce_curve
from lightning_scaling.fit.prior import DEFAULT_PRIOR
from lightning_scaling.laws import CriticalBatch, S_min

__all__ = ["Points", "points_of"]

FloatArray = NDArray[np.float64]

#: Windows in each factor e of steps, and the points of all runs beyond which they are made wider.
_WINDOWS, _MOST_POINTS = 8, 600
_MIN_SIZES, _MIN_POINTS = 3, 6


@dataclass(frozen=True, eq=False)
class Points:
    """The windows of all runs, one after another."""

    N: FloatArray
    S: FloatArray
    y: FloatArray
    variance: FloatArray
    run: NDArray[np.intp]
    fall: float

    @property
    def n_runs(self) -> int:
        """Runs that have windows."""
        return int(np.unique(self.run).size)

    def trouble(self) -> str | None:
        """Return why no law can be fitted, None where it may."""
        sizes = np.unique(np.round(np.log(self.N), 3)).size
        if sizes < _MIN_SIZES:
            return f"{sizes} sizes are known, of which {_MIN_SIZES} are the fewest. Give runs of more sizes."
        if self.y.min() <= 0.0:
            return "a loss is not above zero, which the law never is."
        if self.fall <= 0.0:
            return "the losses do not fall."
        return None


def points_of(curves: Sequence[LossCurve], critical: CriticalBatch | None, first: float) -> Points:
    """Return the windows of all runs, each after its first share; with ``critical`` their steps are S_min.

    Raises:
        ValueError: If a curve has no N or, with ``critical``, no batch size, or they count tokens and samples.
    """
    if any(curve.N is None for curve in curves):
        raise ValueError("Expected N in every curve, got one without, so build LossCurve(…, N=…).")
    if critical is not None and any(curve.B is None or not (curve.B > 0.0).all() for curve in curves):
        raise ValueError("Expected B in every curve, got one without, so build LossCurve(…, B=…) or drop critical.")
    e_folds = -math.log(first)
    windows = min(float(_WINDOWS), max(2.0, _MOST_POINTS / (max(len(curves), 1) * e_folds)))
    if critical is not None and len(units := {critical.unit} | {curve.B_unit for curve in curves}) > 1:
        raise ValueError(
            f"Expected B in one unit with critical, got {' and '.join(sorted(units))}, so give runs and a critical "
            "batch size of one of them."
        )
    empty = np.zeros(0)
    columns: list[tuple[FloatArray, ...]] = [(empty,) * 5]
    falls = []
    for r, curve in enumerate(curves):
        if len(curve) < _MIN_POINTS:
            continue
        data = reduce_curve(curve, windows_per_e_fold=int(windows), e_folds=e_folds, outlier=DEFAULT_PRIOR.outlier)
        S = data.S
        if critical is not None and curve.B is not None and data.y.min() > 0.0:
            B = np.interp(S, curve.S, curve.B)
            S = np.asarray(S_min(S, B, data.y, B_star=critical.B_star, alpha_B=critical.alpha_B))
        # Noise of exactly zero, as of a curve that was computed, would leave the misfits nothing to weigh against.
        variance = np.maximum(data.variance, (1e-6 * float(np.abs(data.y).max())) ** 2)
        columns.append((np.full(S.size, curve.N), S, data.y, variance, np.full(S.size, float(r))))
        falls.append(float(data.y[0] - data.y[-1]))
    N, S, y, variance, run = (np.concatenate(column) for column in zip(*columns, strict=True))
    return Points(N, S, y, variance, run.astype(np.intp), float(np.median(falls)) if falls else 0.0)
