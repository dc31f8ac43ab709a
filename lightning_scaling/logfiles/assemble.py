"""From the rows of a log to a loss curve: what is repeated, missing or broken is sorted out and counted."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.logfiles.names import SAMPLES, Wanted, choose, normal
from lightning_scaling.logfiles.quality import shortcomings
from lightning_scaling.logfiles.run import RawRun, RunLog

__all__ = ["assemble", "newest"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

#: Share of the rows that a resumed run may repeat; where it would be more, the steps are not in the order of time.
_MOST_REPEATED = 0.5
#: Separate stretches of losses that are not finite, as a share of the finite ones, from which they are holes.
_HOLES = 0.1
#: Steps from here on cannot be told from their neighbours.
_MOST_STEPS = 2.0**53
#: Ends of epochs that are kept, as in a `CurveBuilder`.
_MOST_EPOCHS = 256


def assemble(raw: RawRun, path: str, wanted: Wanted) -> RunLog:
    """Return the run with its loss curve.

    Args:
        raw: The columns.
        path: Where they are from.
        wanted: Columns that the user names.

    Raises:
        ValueError: If there is no column of losses, or it holds fewer than two finite ones.
    """
    roles, notes = choose(raw.names, wanted, path)
    table = dict(raw.fetch(list(dict.fromkeys(roles.values()))))
    loss = table[roles["loss"]]
    logged = ~np.isnan(loss)
    if "step" in roles:
        steps = table[roles["step"]]
        logged &= np.isfinite(steps)
    else:
        steps = np.arange(1.0, loss.size + 1.0)
        if wanted.step is None:
            notes.append("No column of steps was found, so every row counts as one step.")
    logged, note = _without_holes(logged, loss)
    notes += note
    S, L = steps[logged], loss[logged]
    if np.isfinite(L).sum() < 2:
        raise ValueError(
            f"Expected at least two finite losses in {path}, got {int(np.isfinite(L).sum())} in '{roles['loss']}', so "
            "name another loss column, or wait for more of the run."
        )
    steps, S, note = _in_order(steps, S, roles)
    notes += note
    if S.min() < 0.0:
        raise ValueError(f"Expected steps >= 0 in {path}, got {S.min():g} in '{roles['step']}', so name another one.")
    if S.max() > _MOST_STEPS:
        raise ValueError(
            f"Expected steps up to {_MOST_STEPS:g} in {path}, got {S.max():g} in '{roles['step']}', so name another "
            "column."
        )
    order, kept = newest(S)
    steps, S, note = _from_one(steps, S, order[kept[order]])
    notes += note
    order = order[kept[order]]
    S, L = S[order], L[order]
    finite = np.isfinite(L)
    curve = _curve(raw, roles, table, steps, logged, S, L, finite, wanted)
    log = RunLog(
        path=path,
        name=raw.name,
        format=raw.format,
        columns=roles,
        curve=curve,
        planned=raw.planned if raw.planned is not None and raw.planned >= curve.step else None,
        n_rows=int(logged.sum()),
        n_repeated=int((~kept).sum()),
        n_nonfinite=int((~finite).sum()),
        notes=tuple(notes),
    )
    return replace(log, warnings=(*raw.warnings, *shortcomings(S[finite], L[finite], roles["loss"])))


def newest(S: FloatArray) -> tuple[NDArray[np.intp], BoolArray]:
    """Return the order of the rows by step, and which of them are the newest of their step.

    A run that is resumed from an old checkpoint goes back: the rows it had logged beyond that are superseded. Where
    that would cost more than half of the rows, they are not in the order of time, and of each step the last is kept.

    Args:
        S: Steps in the order of the rows, shape (n,).

    Example:
        >>> order, kept = newest(np.array([1.0, 2.0, 3.0, 4.0, 5.0, 3.0, 4.0]))
        >>> kept.tolist()
        [True, True, False, False, False, True, True]
    """
    order = np.arange(S.size)
    if (S[1:] > S[:-1]).all():
        return order, np.ones(S.size, dtype=np.bool_)
    later = np.minimum.accumulate(np.append(S[1:], np.inf)[::-1])[::-1]
    kept = later > S
    if not kept.all() and kept.sum() < (1.0 - _MOST_REPEATED) * np.unique(S).size:
        order = np.argsort(S, kind="stable")
        kept = np.ones(S.size, dtype=np.bool_)
        kept[order[:-1]] = np.diff(S[order]) > 0.0
    return order, kept


def _without_holes(logged: BoolArray, loss: FloatArray) -> tuple[BoolArray, list[str]]:
    """Take NaN for 'not logged in this row' where it comes and goes: a loss that is broken stays so."""
    broken = np.isinf(loss[logged])
    finite = int((~broken).sum())
    stretches = int(np.count_nonzero(np.diff(broken.astype(np.int8)) > 0))
    if stretches > 10 and stretches > _HOLES * finite:
        kept = logged.copy()
        kept[np.flatnonzero(logged)[broken]] = False
        return kept, [f"{int(broken.sum())} rows with NaN between finite losses are taken for rows without a loss."]
    return logged, []


def _in_order(steps: FloatArray, S: FloatArray, roles: dict[str, str]) -> tuple[FloatArray, FloatArray, list[str]]:
    """Count the rows where the steps begin again and again, as a batch number does in each epoch."""
    if "step" not in roles or S.size < 3:
        return steps, S, []
    falls = np.diff(S) < 0.0
    begins = np.count_nonzero(falls & (S[1:] <= S[0] + 1.0))
    if begins >= 2 and begins > 0.5 * np.count_nonzero(falls):
        name = roles.pop("step")
        note = f"'{name}' begins again {begins} times, so every row counts as one step."
        rows = np.arange(1.0, steps.size + 1.0)
        return rows, np.arange(1.0, S.size + 1.0), [note]
    return steps, S, []


def _from_one(steps: FloatArray, S: FloatArray, order: NDArray[np.intp]) -> tuple[FloatArray, FloatArray, list[str]]:
    """Count from 1 where the log counts from 0, as 0, 1, 2 or, every 50 steps, 49, 99, 149 do."""
    gaps = np.diff(S[order])
    if not gaps.size:
        return steps, S, []
    gap = float(np.median(gaps))
    if gap == 1.0:
        from_zero = bool(S[order[0]] == 0.0)
    else:
        behind = np.mean(np.mod(S[order] + 1.0, gap) == 0.0) if gap == math.floor(gap) else 0.0
        from_zero = bool(behind > 0.9)
    if not from_zero:
        return steps, S, []
    return steps + 1.0, S + 1.0, ["The log counts steps from 0: 1 is added, so that step n is the n-th."]


def _curve(
    raw: RawRun,
    roles: dict[str, str],
    table: dict[str, FloatArray],
    steps: FloatArray,
    logged: BoolArray,
    S: FloatArray,
    L: FloatArray,
    finite: BoolArray,
    wanted: Wanted,
) -> LossCurve:
    lr = _at(S[finite], steps, table[roles["lr"]]) if "lr" in roles else None
    if lr is None or lr.min() < 0.0:
        roles.pop("lr", None)
        lr = None
    ends: list[int] = []
    if "epoch" in roles:
        ends = _epoch_ends(steps, table[roles["epoch"]], logged)
        if not ends:
            roles.pop("epoch")
    size = wanted.N if wanted.N is not None else raw.N
    if size is None and "N" in roles:
        size = _constant(table[roles["N"]])
    batch = _constant(table[roles["B"]]) if "B" in roles else None
    count = np.maximum(np.diff(S, prepend=0.0), 1.0)[finite] if raw.averaged else np.ones(int(finite.sum()))
    after = len(finite) - 1 - int(np.flatnonzero(finite)[-1])
    last = math.ceil(float(S[-1]))
    return LossCurve(
        S=S[finite] - 0.5 * (count - 1.0),
        L=L[finite],
        lr=lr,
        B=batch,
        N=size,
        count=count,
        step=last,
        n_nonfinite=after,
        epoch_ends=[end for end in ends if end <= last],
        B_unit="samples" if normal(roles.get("B", "")) in SAMPLES else "tokens",
    )


def _at(S: FloatArray, steps: FloatArray, values: FloatArray) -> FloatArray | None:
    """Return values at steps S from the rows that hold them; None where there are none."""
    known = np.isfinite(values) & np.isfinite(steps)
    if not known.any():
        return None
    at, values = steps[known], values[known]
    if np.array_equal(at, S):
        return values
    order, kept = newest(at)
    order = order[kept[order]]
    at, values = at[order], values[order]
    return values if np.array_equal(at, S) else np.interp(S, at, values)


def _epoch_ends(steps: FloatArray, epoch: FloatArray, logged: BoolArray) -> list[int]:
    """Return the last step of each epoch but the newest, from a count of epochs, whole or with fractions."""
    known = np.isfinite(steps) & np.isfinite(epoch) & logged
    S, number = steps[known], np.floor(epoch[known])
    if number.size < 2:
        return []
    rises = np.flatnonzero(np.diff(number) > 0.0)
    ends = np.unique(S[rises].astype(np.int64))
    # One row per epoch tells nothing of what happens within.
    return ends[:_MOST_EPOCHS].tolist() if ends.size and number.size > 4 * ends.size else []


def _constant(values: FloatArray) -> float | None:
    known = values[np.isfinite(values)]
    return float(np.median(known)) if known.size and np.median(known) > 0.0 else None
