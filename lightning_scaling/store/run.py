"""StoredRun: one run, read from the JSON text of its parts."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from lightning_scaling.curve import LossCurve
from lightning_scaling.errors import say_warning
from lightning_scaling.interval import Interval
from lightning_scaling.ledger import ForecastLedger, recent_loss
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.store.sheet import read_json
from lightning_scaling.units import thousands

__all__ = ["COLUMNS", "STATES", "StoredRun", "Tag", "checked_schedule"]

Tag = str | int | float | bool

#: Going on or cut off without a word; over, at its planned end or where it was meant to end; over before that.
STATES = ("running", "finished", "stopped")

COLUMNS = ("S", "L", "lr", "B", "count", "spread")


@dataclass(frozen=True, eq=False)
class StoredRun:
    """A run as it lies in a store.

    Attributes:
        id: Its name in the store.
        state: ``finished``; ``stopped``, over before its planned end; or ``running``, which may mean that its job died.
        curve: Its loss, thinned if it was long.
        horizon: Planned end [steps], None where it was not known.
        tags: What its writer said of it.
        started: Time of the first writing, UTC, ISO 8601.
        updated: Time of the newest writing, UTC, ISO 8601.
        written_by: Version of the package that wrote it.
        batch: Mean batch size [`batch_unit` per step], None where it was not known.
        tokens: Batch size times steps [tokens], None where it was not known or is in samples.
        final_loss: Mean loss over the last 2 % of a finished run [unit of the curve], else None.
        final_loss_error: Its standard error from the noise of single steps [same unit], 0 where it is not known.
    """

    id: str
    state: str
    curve: LossCurve = field(repr=False)
    horizon: int | None
    tags: Mapping[str, Tag]
    started: str
    updated: str
    written_by: str
    batch: float | None
    tokens: float | None
    final_loss: float | None
    final_loss_error: float
    _texts: Mapping[str, str] = field(repr=False)

    @classmethod
    def of(cls, run_id: str, parts: Mapping[str, str]) -> StoredRun:
        """Read a run from the JSON text of its parts; what is long and seldom wanted is read when it is asked for.

        Raises:
            ValueError: If a part is missing or is not what it should be.
        """
        try:
            state, started, updated, writer = (
                read_json(parts[key]) for key in ("state", "started", "updated", "written_by")
            )
            batch, tokens, final, off = (
                None if (x := read_json(parts.get(key, "null"))) is None else float(x)
                for key in ("batch", "tokens", "final_loss", "final_loss_error")
            )
            horizon, tags = read_json(parts.get("horizon", "null")), read_json(parts.get("tags", "{}"))
            curve = _read_curve(parts["curve"], read_json(parts.get("N", "null")))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"a run that cannot be read ({type(error).__name__}: {error})") from error
        heads = (state, started, updated, writer)
        if state not in STATES or not all(isinstance(x, str) for x in heads):
            raise ValueError(f"a run with the head {heads}")
        plain = isinstance(tags, dict) and all(isinstance(x, (str, int, float)) for x in tags.values())
        if not (plain and (horizon is None or type(horizon) is int)):
            raise ValueError(f"a run with horizon {horizon!r:.40} and tags {tags!r:.80}")
        return cls(
            id=run_id,
            state=state,
            curve=curve,
            horizon=horizon,
            tags=tags,
            started=started,
            updated=updated,
            written_by=writer,
            batch=batch,
            tokens=tokens,
            final_loss=final,
            final_loss_error=off or 0.0,
            _texts={key: parts[key] for key in ("lr_schedule", "forecasts", "derived") if key in parts},
        )

    @property
    def N(self) -> float | None:
        """Non-embedding parameters, None where they are not known."""
        return self.curve.N

    @property
    def batch_unit(self) -> str:
        """What the batch size counts: ``tokens`` or ``samples``."""
        return self.curve.B_unit

    @property
    def samples(self) -> float | None:
        """Batch size times steps [samples], None where it was not known or is in tokens."""
        return None if self.batch is None or self.batch_unit != "samples" else self.batch * self.curve.step

    @cached_property
    def lr_schedule(self) -> LRSchedule | None:
        """Learning rates of steps 1..horizon relative to their peak, None where they were not known."""
        text = self._texts.get("lr_schedule")
        try:
            return None if text is None else _read_schedule(text)
        except Exception as error:
            self._miss("a learning-rate schedule", error)
            return None

    @cached_property
    def forecasts(self) -> ForecastLedger:
        """The forecasts that were made on the way; building the ledger takes milliseconds."""
        text = self._texts.get("forecasts")
        try:
            return ForecastLedger() if text is None else ForecastLedger.from_state(read_json(text, words=True))
        except Exception as error:
            self._miss("forecasts", error)
            return ForecastLedger()

    @cached_property
    def derived(self) -> Mapping[str, Any]:
        """What other modules have computed from the run, by name."""
        try:
            return dict(read_json(self._texts.get("derived", "{}")))
        except Exception as error:
            self._miss("derived quantities", error)
            return {}

    def __str__(self) -> str:
        """Return one line a person can read."""
        end = "" if self.horizon is None else f" of {thousands(self.horizon)}"
        said = [f"{self.id}: {self.state} at step {thousands(self.curve.step)}{end}"]
        if self.N is not None:
            said.append(f"N = {self.N:.4g}")
        if self.batch is not None:
            said.append(f"batch {thousands(self.batch)}{' samples' * (self.batch_unit == 'samples')}")
        loss, error = self.final_loss, self.final_loss_error
        if loss is None:
            loss, error = recent_loss(self.curve), 0.0
        if math.isfinite(loss):
            shown = Interval(loss - error, loss, loss + error, 0.68).short() if error > 0.0 else f"{loss:.5g}"
            said.append(f"loss {shown}{' ' * bool(self.curve.unit)}{self.curve.unit}")
        if self.curve.n_nonfinite:
            said.append(f"the last {thousands(self.curve.n_nonfinite)} losses not finite")
        said += [f"{key}={value}" for key, value in self.tags.items()]
        return ", ".join(said)

    def _miss(self, what: str, error: Exception) -> None:
        say_warning(
            f"Expected {what} of this version in run {self.id}, got {type(error).__name__}: {error}, so the run is "
            "taken to have none."
        )


def _read_curve(text: str, N: float | None) -> LossCurve:
    values = read_json(text)
    columns = {name: values[name] for name in COLUMNS if name in values}
    if isinstance(columns["count"], (int, float)):
        columns["count"] = np.full(len(columns["S"]), columns["count"])
    # NumPy takes the words for NaN and infinity as they are.
    columns["spread"] = np.array(columns["spread"], dtype=np.float64)
    rest = {key: values[key] for key in ("step", "n_nonfinite", "epoch_ends", "unit")}
    return LossCurve(**columns, N=N, **rest, B_unit=values.get("B_unit", "tokens"))


@lru_cache(maxsize=16)
def _read_schedule(text: str) -> LRSchedule:
    """Return the schedule of a text; runs of one ladder often share one."""
    return checked_schedule(read_json(text))


def checked_schedule(values: Mapping[str, Any]) -> LRSchedule:
    """Return the schedule of what a file holds of one; ValueError if it is none."""
    edges, rates = (np.array(values[key], dtype=np.float64) for key in ("edges", "rates"))
    sound = rates.ndim == 1 and 0 < rates.size == edges.size - 1
    if not (sound and edges[0] == 0.0 and (np.diff(edges) > 0.0).all() and np.isfinite(edges[-1])):
        raise ValueError(f"Expected edges 0 < ... < horizon, one more than rates, got {edges.size} and {rates.size}.")
    if not (np.isfinite(rates).all() and rates.min() >= 0.0):
        raise ValueError(f"Expected finite rates >= 0, got {rates.min():g} to {rates.max():g}.")
    edges.setflags(write=False)
    rates.setflags(write=False)
    return LRSchedule(edges, rates, bool(values["known"]))
