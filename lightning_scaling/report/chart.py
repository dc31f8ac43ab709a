"""A loss curve and its forecast in characters, for a terminal."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.forecast import Forecast
from lightning_scaling.units import thousands

__all__ = ["chart", "sparkline"]

FloatArray = NDArray[np.float64]

_BARS = "▁▂▃▄▅▆▇█"
#: A loss, the median of the forecast, its interval, the present.
_UNICODE, _ASCII = ("•", "─", "░", "│"), ("*", "-", ".", "|")
#: Part of the planned run at which the picture begins.
_FIRST_SHARE = 0.01


def sparkline(L: FloatArray, width: int = 40) -> str:
    """Return losses as a row of bars, the mean of equal shares of them in each.

    Example:
        >>> sparkline(np.array([8.0, 6.0, 5.0, 4.0, 3.5, 3.2]), 6)
        '█▅▄▂▁▁'
    """
    parts = [float(part.mean()) for part in np.array_split(np.asarray(L, dtype=np.float64), width) if part.size]
    low, high = min(parts, default=0.0), max(parts, default=0.0)
    if high == low:
        return _BARS[0] * len(parts)
    return "".join(_BARS[round((x - low) / (high - low) * (len(_BARS) - 1))] for x in parts)


def chart(
    curve: LossCurve,
    forecast: Forecast | None = None,
    *,
    width: int = 72,
    height: int = 12,
    unicode: bool = True,
) -> str:
    """Return a picture of a run in characters: its losses, and the band that the forecast opens up to its end.

    Both axes are logarithmic where the losses allow it. A cell shows the mean of the losses that fall into its column.

    Args:
        curve: The run so far.
        forecast: Its forecast; nothing is drawn of one that knows no end.
        width: Columns in all.
        height: Rows of the picture.
        unicode: Whether the terminal can show more than ASCII.

    Raises:
        ValueError: If the curve has no points.
    """
    if not len(curve):
        raise ValueError("Expected a curve with points, got none, so wait for the first steps of the run.")
    ahead = forecast is not None and forecast.horizon is not None and forecast.verdict.usable
    end = float(forecast.horizon) if ahead and forecast is not None and forecast.horizon else float(curve.step)
    first = min(max(_FIRST_SHARE * end, 1.0, float(curve.S[0])), float(curve.S[-1]))
    columns = max(width - 10, 10)
    edges = np.geomspace(first, max(end, first * 1.01), columns + 1)
    middle = np.sqrt(edges[1:] * edges[:-1])
    losses = _in_columns(curve, edges)
    low, mid, high = (np.full(columns, np.nan) for _ in range(3))
    if ahead and forecast is not None:
        future = middle > forecast.step
        future[-1] = True
        band = forecast.loss_at(np.append(middle[future][:-1], end))
        low[future], mid[future], high[future] = np.asarray(band.low), np.asarray(band.mid), np.asarray(band.high)
    rows = _drawn(losses, (low, mid, high), height, _UNICODE if unicode else _ASCII)
    axis = _axis(first, end, columns, float(curve.step))
    return "\n".join([*rows, axis])


def _in_columns(curve: LossCurve, edges: FloatArray) -> FloatArray:
    """Return the mean loss in each column, NaN where there is none."""
    # Both rise, so that looking up the few edges among the many steps tells the column of each.
    beyond = np.searchsorted(curve.S, edges, side="left")
    column = np.repeat(np.arange(-1, edges.size), np.diff(beyond, prepend=0, append=curve.S.size))
    column = np.where(curve.S == edges[-1], edges.size - 2, column)
    inside = (column >= 0) & (column < edges.size - 1)
    n, total = (
        np.bincount(column[inside], weights=w[inside], minlength=edges.size - 1)
        for w in (curve.count, curve.count * curve.L)
    )
    return np.where(n > 0, total / np.maximum(n, 1e-300), np.nan)


def _drawn(
    losses: FloatArray, band: tuple[FloatArray, FloatArray, FloatArray], height: int, signs: tuple[str, ...]
) -> list[str]:
    everything = np.concatenate((losses, *band))
    known = everything[np.isfinite(everything)]
    logarithmic = bool(known.min() > 0.0)
    bottom, top = float(known.min()), float(known.max())
    if top - bottom < 1e-9 * max(abs(top), 1e-9):
        bottom, top = bottom - 0.5 * abs(bottom) - 1e-9, top + 0.5 * abs(top) + 1e-9
        logarithmic = False
    start, stop = (math.log(bottom), math.log(top)) if logarithmic else (bottom, top)

    def row(x: float) -> int:
        at = math.log(max(x, bottom)) if logarithmic else max(x, bottom)
        return round((stop - min(at, stop)) / (stop - start) * (height - 1))

    cells = [[" "] * losses.size for _ in range(height)]
    for k in range(losses.size):
        if math.isfinite(band[1][k]):
            for r in range(row(float(band[2][k])), row(float(band[0][k])) + 1):
                cells[r][k] = signs[2]
            cells[row(float(band[1][k]))][k] = signs[1]
        if math.isfinite(losses[k]):
            cells[row(float(losses[k]))][k] = signs[0]
    labels = []
    for r in range(height):
        place = stop - (stop - start) * r / (height - 1)
        value = math.exp(place) if logarithmic else place
        labels.append(f"{value:9.4g} " if r % 3 == 0 or r == height - 1 else " " * 10)
    return [(label + "".join(line)).rstrip() for label, line in zip(labels, cells, strict=True)]


def _axis(first: float, end: float, columns: int, now: float) -> str:
    """Return the line below: the first step, the present and the end."""
    left, right = f"step {thousands(first)}", thousands(end)
    line = [" "] * columns
    line[: len(left)] = left
    line[columns - len(right) :] = right
    if now < end:
        text = f"now {thousands(now)}"
        at = round(math.log(now / first) / math.log(end / first) * (columns - 1)) - len(text) // 2
        at = max(len(left) + 2, at)
        if at + len(text) + 2 <= columns - len(right):
            line[at : at + len(text)] = text
    return " " * 10 + "".join(line)
