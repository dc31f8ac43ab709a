"""What is written of a run: arguments in, the JSON text of its parts out."""

from __future__ import annotations

import importlib
import math
import re
import uuid
from collections.abc import Mapping
from datetime import datetime, timezone
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.curve import LossCurve
from lightning_scaling.ledger import ForecastLedger, recent_error, recent_loss
from lightning_scaling.schedule import LRSchedule, check_horizon
from lightning_scaling.store.run import COLUMNS, Tag, checked_schedule
from lightning_scaling.store.sheet import read_json, write_json
from lightning_scaling.store.thinning import thin

__all__ = ["new_id", "renewed", "with_derived"]

FloatArray = NDArray[np.float64]

#: Integers up to here are floats exactly, and shorter without their ".0".
_EXACT = 2.0**53
#: The order of the parts in a file: what a person looks for first, and what fills lines last.
_FIRST = ("state", "written_by", "started", "updated", "tags", "N", "batch", "tokens", "horizon")
_LAST = ("curve", "lr_schedule", "forecasts", "derived")


def renewed(
    parts: Mapping[str, str],
    curve: LossCurve,
    horizon: int | None = None,
    lr_schedule: ArrayLike | LRSchedule | None = None,
    tags: Mapping[str, Tag] | None = None,
    *,
    finished: bool | None = None,
    forecasts: ForecastLedger | None = None,
    derived: Mapping[str, Any] | None = None,
) -> dict[str, str]:
    """Return the parts of a run with what is new about it; the arguments are those of `RunStore.add`.

    Args:
        parts: The parts so far, none for a new run.
        curve: The run so far.
        horizon: Planned end [steps], None: as before.
        lr_schedule: Learning rates of steps 1..horizon, None: as before, if the horizon is.
        tags: New tags, None: as before.
        finished: Whether the run is over (True) or was stopped (False), None: finished if it is at its horizon.
        forecasts: The forecasts made on the way, None: as before.
        derived: Quantities computed from the run, to be added.

    Raises:
        TypeError: If `tags` is no mapping.
        ValueError: If the horizon, the schedule, a tag or a derived value cannot be stored.
    """
    new = dict(parts)
    if horizon is None:
        horizon = read_json(new.get("horizon", "null"))
    check_horizon(horizon, curve.step)
    if lr_schedule is not None:
        new["lr_schedule"] = _write_schedule(LRSchedule.of_plan(lr_schedule, horizon))
    elif horizon != read_json(parts.get("horizon", "null")):
        new.pop("lr_schedule", None)  # speaks of another plan
    if tags is not None or "tags" not in new:
        new["tags"] = _write_tags({} if tags is None else tags)
    if forecasts is not None:
        new["forecasts"] = write_json(forecasts.state_dict(), words=True)
    if derived is not None:
        new["derived"] = _write_derived(new, derived)
    if finished is None:
        state = "finished" if horizon is not None and curve.step >= horizon else "running"
    else:
        state = "finished" if finished else "stopped"
    new["state"] = write_json(state)
    new["horizon"] = write_json(None if horizon is None else int(horizon))
    return _in_order(new | _write_outcome(curve, state) | _write_curve(curve))


def with_derived(parts: Mapping[str, str], derived: Mapping[str, Any]) -> dict[str, str]:
    """Return the parts of a run with derived quantities added to it.

    Raises:
        ValueError: If they do not map text to JSON values.
    """
    return _in_order({**parts, "derived": _write_derived(parts, derived)})


def new_id(tags: Mapping[str, Tag] | None) -> str:
    """Return a unique id; those of one name sort by time.

    Example:
        >>> new_id({"name": "wide 3"})
        'wide-3-20...'
    """
    name = tags.get("name", "run") if isinstance(tags, Mapping) else "run"
    prefix = re.sub(r"[^A-Za-z0-9]+", "-", str(name)).strip("-")[:40] or "run"
    return f"{prefix}-{datetime.now(timezone.utc):%Y%m%d-%H%M%S}-{uuid.uuid4().hex[:16]}"


def _in_order(parts: Mapping[str, str]) -> dict[str, str]:
    """Return the parts in their order, with the time and the version of this writing."""
    now = write_json(datetime.now(timezone.utc).isoformat(timespec="milliseconds"))
    version = write_json(str(importlib.import_module("lightning_scaling").__version__))
    whole = {"started": now, **parts, "updated": now, "written_by": version}
    rest = [key for key in whole if key not in (*_FIRST, *_LAST)]
    return {key: whole[key] for key in (*_FIRST, *rest, *_LAST) if key in whole}


def _write_curve(curve: LossCurve) -> dict[str, str]:
    """Return the parts that hold a curve, thinned if it is long."""
    short = thin(curve)
    values: dict[str, Any] = {}
    for name in COLUMNS:
        column = getattr(short, name)
        if column is not None:
            same = name in ("B", "count") and column.size > 0 and (column == column[0]).all()
            values[name] = _numbers(column[:1])[0] if same else _numbers(column)
    values |= {"step": short.step, "n_nonfinite": short.n_nonfinite, "epoch_ends": short.epoch_ends, "unit": short.unit}
    if short.B is not None:
        values["B_unit"] = short.B_unit
    batch = None if curve.B is None or not len(curve) else float(np.average(curve.B, weights=curve.count))
    return {
        "N": write_json(None if curve.N is None else _numbers(np.array([curve.N]))[0]),
        "batch": write_json(batch),
        "tokens": write_json(None if batch is None or curve.B_unit != "tokens" else batch * curve.step),
        "curve": write_json(values, words=True),
    }


def _write_schedule(schedule: LRSchedule) -> str:
    """Return the part that holds a schedule: its blocks, so at most about a thousand, exact to the bit."""
    values = {"edges": _numbers(schedule.edges), "rates": _numbers(schedule.rates), "known": bool(schedule.known)}
    checked_schedule(values)
    return write_json(values)


def _write_outcome(curve: LossCurve, state: str) -> dict[str, str]:
    """Return the parts that say what came of a run: the final loss, if it has one."""
    if state != "finished" or not len(curve) or curve.n_nonfinite:
        return {"final_loss": "null", "final_loss_error": "0.0"}
    with np.errstate(over="ignore"):
        error = recent_error(curve)
    return {
        "final_loss": write_json(recent_loss(curve)),
        "final_loss_error": write_json(error if math.isfinite(error) else 0.0),
    }


def _write_tags(tags: Mapping[str, Tag]) -> str:
    if not isinstance(tags, Mapping):
        raise TypeError(f"Expected tags to be a mapping, got {type(tags).__name__}, so give a dict of names to values.")
    plain = {key: value.item() if isinstance(value, np.generic) else value for key, value in tags.items()}
    for key, value in plain.items():
        sound = type(key) is str and isinstance(value, (str, int, float))
        if not sound or (isinstance(value, float) and not np.isfinite(value)):
            raise ValueError(
                f"Expected tags of text to text, finite numbers or True and False, got {key!r:.80}: {value!r:.80}, so "
                "leave it out or write it as text."
            )
    return write_json(plain)


def _write_derived(parts: Mapping[str, str], derived: Mapping[str, Any]) -> str:
    try:
        if set(map(type, derived)) - {str}:
            raise TypeError("a name is not text")
        return write_json({**read_json(parts.get("derived", "{}")), **derived})
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"Expected derived to map names to values that JSON can hold, got {derived!r:.80} ({error}), so write "
            "numbers as float and arrays as lists, and None for NaN."
        ) from error


def _numbers(values: FloatArray) -> list[float | int]:
    """Return a column as numbers that JSON keeps exactly, whole ones without their ".0"."""
    return [int(x) if x and -_EXACT < x < _EXACT and x.is_integer() else x for x in values.tolist()]
