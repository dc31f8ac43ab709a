"""ForecastLedger: every forecast that a run was given, kept to be held against what then happened."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.interval import Interval
from lightning_scaling.units import thousands
from lightning_scaling.verdict import Verdict

__all__ = ["ForecastLedger", "ForecastRecord", "holds", "recent_error", "recent_loss"]

_INTERVALS = ("final_loss", "converged_loss", "present_loss", "remaining_gain", "alpha_S")
_TENTHS = tuple(range(1, 10))
#: Records kept; a run that is refitted more often drops every second one of the older half.
_MAX_RECORDS = 512
#: Last part of a run whose mean loss is its final loss.
LAST_PART = 0.02


@dataclass(frozen=True)
class ForecastRecord:
    """What one forecast said.

    Args:
        step: Last optimizer step it knew [steps].
        horizon: Planned end that it spoke of [steps], None where that was not known.
        verdict: What it was worth.
        final_loss: Loss at the planned end.
        converged_loss: Loss for S -> infinity.
        present_loss: Expected loss at `step`, free of single-batch noise.
        remaining_gain: Present minus final loss.
        alpha_S: Exponent of the fitted law [1].
    """

    step: int
    horizon: int | None
    verdict: Verdict
    final_loss: Interval
    converged_loss: Interval
    present_loss: Interval
    remaining_gain: Interval
    alpha_S: Interval

    @classmethod
    def of(cls, forecast: Any) -> ForecastRecord:
        """Keep what matters later of a Forecast; its module knows this one, not the other way round."""
        return cls(
            step=int(forecast.step),
            horizon=None if forecast.horizon is None else int(forecast.horizon),
            verdict=forecast.verdict,
            **{name: getattr(forecast, name) for name in _INTERVALS},
        )


class ForecastLedger:
    """The forecasts of a run in the order in which they were made; its size is bounded.

    Example:
        >>> ledger = ForecastLedger()
        >>> loss = Interval(1.85, 1.87, 1.90, 0.9)
        >>> ledger.append(ForecastRecord(500, 1000, Verdict.OK, loss, loss, loss, loss, loss))
        >>> print(ledger.table(1.86))
        Forecasts of the loss at step 1 000, and what happened
         done  at step  forecast                        off  inside
         50 %      500  1.870 (1.850 to 1.900, 90 %)  +0.01  yes
        100 %    1 000  ended at 1.86
        1 of 1 forecasts held the loss inside its interval.
    """

    def __init__(self) -> None:
        self._records: list[ForecastRecord] = []

    @property
    def records(self) -> tuple[ForecastRecord, ...]:
        """All records, oldest first."""
        return tuple(self._records)

    def __len__(self) -> int:
        """Return the number of records."""
        return len(self._records)

    def append(self, record: ForecastRecord) -> None:
        """Add a record; one of the same step takes the place of the last.

        Raises:
            ValueError: If the record is older than the last one.
        """
        if self._records and record.step < self._records[-1].step:
            raise ValueError(
                f"Expected a forecast made at step {self._records[-1].step} or later, got step {record.step}, so start "
                "a new ledger for a new run."
            )
        if self._records and record.step == self._records[-1].step:
            self._records.pop()
        self._records.append(record)
        if len(self._records) > _MAX_RECORDS:
            half = _MAX_RECORDS // 2
            self._records = self._records[:half:2] + self._records[half:]

    def at_tenths(self) -> list[tuple[int, ForecastRecord]]:
        """Return (tenth, record): the newest forecast made in each tenth of the way to the last known planned end."""
        horizon = self._horizon()
        if horizon is None:
            return []
        found = []
        for tenth in _TENTHS:
            low, high = (tenth - 1) * horizon / 10.0, tenth * horizon / 10.0
            inside = [r for r in self._records if low < r.step <= min(math.ceil(high), horizon - 1)]
            if inside:
                found.append((tenth, inside[-1]))
        return found

    def held(self, actual: float) -> tuple[int, int]:
        """Return how many of the forecasts at 10, 20, … 90 % of the run held its end, and how many can be judged.

        Args:
            actual: Loss at the planned end [unit of the losses]; NaN: none can be judged.
        """
        if not math.isfinite(actual):
            return 0, 0
        judged = [r.final_loss for _, r in self.at_tenths() if _speaks_of(r, self._horizon())]
        return sum(holds(loss, actual) for loss in judged), len(judged)

    def table(self, actual: float | None = None, error: float = 0.0, *, of: str = "the loss") -> str:
        """Return the forecasts made at 10, 20, … 90 % of the run, as text.

        Args:
            actual: Loss at the planned end [unit of the losses], None if the run ended before it.
            error: Standard error of it from the noise of single batches [same unit], which is said beside it.
            of: What the loss is called in the title.

        Returns:
            A table of a few lines. Where there is no forecast to show, one line that says so.
        """
        rows, horizon = self.at_tenths(), self._horizon()
        if horizon is None:
            return "No forecast of a final loss: the planned end of the run was not known."
        if not rows:
            return "No forecast of a final loss: the run ended before it had shown enough."
        truth = math.nan if actual is None else actual
        known = math.isfinite(truth)
        cells = [["done", "at step", "forecast", *(["off", "inside"] if known else [])]]
        hits, usable = self.held(truth)
        for _, record in rows:
            row = [f"{100.0 * record.step / horizon:.0f} %", thousands(record.step), _said(record, horizon)]
            loss = record.final_loss
            if known and _speaks_of(record, horizon):
                row += [f"{float(loss.mid) - truth:+.2g}", "yes" if holds(loss, truth) else "no"]
            cells.append(row)
        if known:
            cells.append(["100 %", thousands(horizon), f"ended at {truth:.4g}"])
        lines = [f"Forecasts of {of} at step {thousands(horizon)}{', and what happened' if known else ''}"]
        lines += _aligned(cells, right=(True, True, False, True, False))
        if usable:
            lines.append(f"{hits} of {usable} forecasts held the loss inside its interval.")
        if usable and error > 0.0:
            shown = Interval(truth - error, truth, truth + error, 0.68).short()
            lines.append(
                f"(The end is a mean of noisy steps, {shown} with its standard error; the intervals allow for that.)"
            )
        return "\n".join(lines)

    def state_dict(self) -> dict[str, Any]:
        """Return the ledger as plain numbers and lists."""
        rows = []
        for r in self._records:
            numbers = [float(x) for name in _INTERVALS for x in _bounds(getattr(r, name))]
            rows.append([r.step, r.horizon, r.verdict.name, float(r.final_loss.level), *numbers])
        return {"version": 1, "rows": rows}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> ForecastLedger:
        """Rebuild a ledger from `state_dict`.

        Raises:
            ValueError: If the state is of another version.
        """
        if state.get("version") != 1:
            raise ValueError(
                f"Expected a ForecastLedger state of version 1, got {state.get('version')!r}, so start a new ledger."
            )
        ledger = cls()
        for step, horizon, verdict, level, *numbers in state["rows"]:
            intervals = {
                name: Interval(numbers[3 * i], numbers[3 * i + 1], numbers[3 * i + 2], level)
                for i, name in enumerate(_INTERVALS)
            }
            ledger._records.append(ForecastRecord(step, horizon, Verdict[verdict], **intervals))
        return ledger

    def _horizon(self) -> int | None:
        return next((r.horizon for r in reversed(self._records) if r.horizon is not None), None)


def recent_loss(curve: LossCurve, share: float = LAST_PART) -> float:
    """Return the mean loss over the last part of a run, which is what a forecast of its end is held against.

    Args:
        curve: The run so far.
        share: Part of the run to average over [1].

    Returns:
        The mean over the steps of that part [unit of the curve], NaN for a run without a finite loss.

    Example:
        >>> recent_loss(LossCurve(S=[97, 99, 100], L=[3.0, 2.5, 1.5]))
        2.0
    """
    if not len(curve):
        return math.nan
    last = _last_part(curve, share)
    return float(np.average(curve.L[last], weights=curve.count[last]))


def recent_error(curve: LossCurve, share: float = LAST_PART) -> float:
    """Return the standard error of `recent_loss` from the noise of single steps [unit of the curve], 0 if not known."""
    if not len(curve):
        return 0.0
    last = _last_part(curve, share)
    known = last & np.isfinite(curve.spread) & (curve.count > 1.0)
    if not known.any():
        return 0.0
    weight = curve.count[known] - 1.0
    variance = float(np.average(curve.spread[known] ** 2, weights=weight))
    return math.sqrt(variance / float(curve.count[last].sum()))


def _last_part(curve: LossCurve, share: float) -> NDArray[np.bool_]:
    last = curve.S > (1.0 - share) * curve.step
    last[-1] = True
    return np.asarray(last)


def _speaks_of(record: ForecastRecord, horizon: int | None) -> bool:
    """Return whether a record forecasts the loss at a planned end, and not at another one."""
    return record.verdict.usable and record.horizon == horizon and math.isfinite(float(record.final_loss.mid))


def holds(interval: Interval, truth: float) -> bool:
    """Return whether an interval holds what happened; False for NaN.

    Example:
        >>> holds(Interval(1.85, 1.87, 1.90, 0.9), 1.84), holds(Interval(1.85, 1.87, 1.90, 0.9), 1.86)
        (False, True)
    """
    return bool(interval.low <= truth <= interval.high)


def _bounds(interval: Interval) -> tuple[Any, Any, Any]:
    return interval.low, interval.mid, interval.high


def _said(record: ForecastRecord, horizon: int) -> str:
    if math.isnan(float(record.final_loss.mid)) or not record.verdict.usable:
        return f"none: {record.verdict}"
    if record.horizon != horizon:
        end = "unknown" if record.horizon is None else thousands(record.horizon)
        return f"{record.final_loss} for an end at step {end}"
    return str(record.final_loss)


def _aligned(cells: list[list[str]], right: tuple[bool, ...]) -> list[str]:
    widths = [max(len(row[i]) if i < len(row) else 0 for row in cells) for i in range(len(cells[0]))]
    return [
        "  ".join(
            cell.rjust(width) if flush else cell.ljust(width)
            for cell, width, flush in zip(row, widths, right, strict=False)
        ).rstrip()
        for row in cells
    ]
