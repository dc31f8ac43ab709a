"""LossCurve: the validated, immutable record of a training loss that every other room works on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["BATCH_UNITS", "LossCurve", "require_curves"]

#: What a batch size counts. Only tokens go with compute, 6 N B S; samples compare batch sizes with one another.
BATCH_UNITS = ("tokens", "samples")

FloatArray = NDArray[np.float64]


def _vector(name: str, values: ArrayLike) -> FloatArray:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Expected {name} to be a sequence of numbers, got {values!r:.80}. Pass floats.") from error
    if array.ndim != 1:
        raise ValueError(f"Expected {name} to have one dimension, got shape {array.shape}. Pass a flat sequence.")
    return array


def _finite(name: str, array: FloatArray, advice: str) -> None:
    bad = np.flatnonzero(~np.isfinite(array))
    if bad.size:
        i, share = int(bad[0]), f"{bad.size} of {array.size} are not"
        raise ValueError(f"Expected finite values in {name}, got {name}[{i}]={array[i]} ({share}). {advice}")


def _companion(name: str, values: ArrayLike | None, length: int, *, lowest: float) -> FloatArray | None:
    """Validate an optional array that runs beside S."""
    if values is None:
        return None
    array = _vector(name, values)
    if array.size != length:
        raise ValueError(
            f"Expected {name} to have the {length} entries of S, got {array.size}. Give one value per step."
        )
    _finite(name, array, f"Leave {name} out if it is not known at every step.")
    if array.size and array.min() < lowest:
        raise ValueError(f"Expected {name} >= {lowest:g}, got {array.min():g}. Check the column that it was read from.")
    return array


@dataclass(frozen=True, eq=False, init=False)
class LossCurve:
    r"""The loss of one run against its optimizer steps: validated once, immutable after.

    Point i says: around optimizer step ``S[i]`` the loss was ``L[i]``, the mean of ``count[i]`` steps. A log of single
    steps has ``count = 1`` everywhere; :class:`~lightning_scaling.CurveBuilder` makes curves of log-spaced windows.

    Args:
        S: Optimizer steps (not batches), counted from 1 [steps], strictly increasing, shape (n,).
        L: Losses [unit], finite, any sign, shape (n,).
        lr: Learning rate used at S [any one unit], shape (n,), or None where it was not logged.
        B: Batch size [``B_unit`` per step], shape (n,) or one number, or None.
        N: Non-embedding parameters of the model, or None.
        count: Steps averaged in each point, shape (n,); default 1.
        spread: Standard deviation of the single-step losses inside each point [unit], shape (n,), NaN where unknown.
        step: Last optimizer step seen; default ``S[-1]``. Window centres may lie before it.
        n_nonfinite: Steps with NaN or infinite loss since the last finite one: more than 0 means that the run is
            broken now.
        epoch_ends: Steps at which a pass over the training data ended.
        unit: Unit of the loss, for print, such as ``nats/token``.
        B_unit: What B counts, ``tokens`` or ``samples``; laws of compute take tokens only.

    Raises:
        ValueError: If the arrays differ in length, S does not increase or is negative, a value is not finite, or
            ``B_unit`` is another word.

    Example:
        >>> curve = LossCurve(S=[1, 2, 4], L=[9.0, 7.5, 6.2], N=1.0e6)
        >>> len(curve), curve.step
        (3, 4)
    """

    S: FloatArray
    L: FloatArray
    lr: FloatArray | None
    B: FloatArray | None
    N: float | None
    count: FloatArray
    spread: FloatArray
    step: int
    n_nonfinite: int
    epoch_ends: tuple[int, ...]
    unit: str
    B_unit: str

    def __init__(
        self,
        S: ArrayLike,
        L: ArrayLike,
        *,
        lr: ArrayLike | None = None,
        B: ArrayLike | None = None,
        N: float | None = None,
        count: ArrayLike | None = None,
        spread: ArrayLike | None = None,
        step: int | None = None,
        n_nonfinite: int = 0,
        epoch_ends: Sequence[int] = (),
        unit: str = "",
        B_unit: str = "tokens",
    ) -> None:
        s, loss = _vector("S", S), _vector("L", L)
        n = s.size
        if loss.size != n:
            raise ValueError(f"Expected S and L of one length, got {n} and {loss.size}. Give one loss per step.")
        _finite("S", s, "Steps are numbers counted from 1.")
        _finite("L", loss, "Feed a run that can diverge through CurveBuilder, which counts non-finite losses apart.")
        if n and s[0] < 0:
            raise ValueError(f"Expected steps S >= 0, got S[0]={s[0]:g}. Count optimizer steps from 1.")
        if n > 1 and (rises := np.diff(s)).min() <= 0:
            i = int(np.flatnonzero(rises <= 0)[0]) + 1
            raise ValueError(
                f"Expected S to increase, got S[{i}]={s[i]:.12g} after S[{i - 1}]={s[i - 1]:.12g}. "
                "Was an old checkpoint resumed, or two runs put in one log? Keep the newest entry of each step."
            )
        if n and max(abs(float(loss.max())), abs(float(loss.min()))) > 1e150:
            raise ValueError(
                f"Expected losses below 1e150 in size, got {loss[np.abs(loss).argmax()]:g}. Rescale the loss."
            )
        if N is not None and not (np.isfinite(N) and N > 0):
            raise ValueError(f"Expected N > 0 parameters, got {N!r}. Leave it out if it is not known.")
        if n_nonfinite < 0:
            raise ValueError(f"Expected n_nonfinite >= 0, got {n_nonfinite}. It counts steps.")
        if B_unit not in BATCH_UNITS:
            raise ValueError(f"Expected B_unit to be tokens or samples, got {B_unit!r:.80}, so say what B counts.")
        last = int(np.ceil(s[-1])) if n else 0
        if step is not None and step < last:
            raise ValueError(f"Expected step >= the last entry of S, got step={step} before S[-1]={s[-1]:g}.")
        if B is not None and np.ndim(B) == 0:
            B = np.full(n, B, dtype=np.float64)
        batch = _companion("B", B, n, lowest=0.0)
        rates = _companion("lr", lr, n, lowest=0.0)
        counts = np.ones(n) if count is None else _companion("count", count, n, lowest=1.0)
        spreads = np.full(n, np.nan) if spread is None else _vector("spread", spread)
        if spreads.size != n:
            raise ValueError(
                f"Expected spread to have the {n} entries of S, got {spreads.size}. Use NaN where unknown."
            )
        fields = {"S": s, "L": loss, "lr": rates, "B": batch, "count": counts, "spread": spreads}
        for name, array in fields.items():
            if array is not None:
                array.setflags(write=False)
            object.__setattr__(self, name, array)
        object.__setattr__(self, "N", None if N is None else float(N))
        object.__setattr__(self, "step", last if step is None else int(step))
        object.__setattr__(self, "n_nonfinite", int(n_nonfinite))
        object.__setattr__(self, "epoch_ends", tuple(int(e) for e in epoch_ends))
        object.__setattr__(self, "unit", unit)
        object.__setattr__(self, "B_unit", B_unit)

    def __len__(self) -> int:
        """Return the number of points."""
        return int(self.S.size)

    def until(self, S: float) -> LossCurve:
        """Return the part of the curve that was known at step S [steps].

        Args:
            S: Last step to keep [steps].

        Returns:
            The curve of the points with step <= S; what is said of the present (``n_nonfinite``) is dropped with it
            unless the whole curve is kept.

        Example:
            >>> len(LossCurve(S=[1, 2, 4], L=[9.0, 7.5, 6.2]).until(3))
            2
        """
        keep = self.S <= S
        whole = bool(keep.all()) and self.step <= S
        return LossCurve(
            S=self.S[keep],
            L=self.L[keep],
            lr=None if self.lr is None else self.lr[keep],
            B=None if self.B is None else self.B[keep],
            N=self.N,
            count=self.count[keep],
            spread=self.spread[keep],
            step=self.step if whole else None,
            n_nonfinite=self.n_nonfinite if whole else 0,
            epoch_ends=[e for e in self.epoch_ends if e <= S],
            unit=self.unit,
            B_unit=self.B_unit,
        )

    def __str__(self) -> str:
        """Return one line a person can read."""
        if not len(self):
            return "LossCurve: no points yet"
        size = "" if self.N is None else f", N = {self.N:.4g}"
        return (
            f"LossCurve: {len(self)} points up to step {self.step}, loss {self.L[0]:.5g} to {self.L[-1]:.5g}"
            f"{' ' * bool(self.unit)}{self.unit}{size}"
        )


def require_curves(curves: Iterable[object]) -> None:
    """Refuse what are no curves, such as the runs of a store, which have one each.

    Raises:
        TypeError: If one of them is no `LossCurve`.
    """
    for curve in curves:
        if not isinstance(curve, LossCurve):
            raise TypeError(
                f"Expected curves to be LossCurves, got {type(curve).__name__}, so of the runs of a store give "
                "[run.curve for run in runs]."
            )
