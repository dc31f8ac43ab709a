"""What the commands print: plain text or JSON to stdout, everything about it to stderr."""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from lightning_scaling.advice import Advice
    from lightning_scaling.forecast import Forecast
    from lightning_scaling.interval import Interval
    from lightning_scaling.logfiles import RunLog
    from lightning_scaling.named_schedule import PlannedRates
    from lightning_scaling.planner import Spread

NOT_CONFIRMED, WRONG, NO_FORECAST, STOP, INTERRUPTED = 1, 2, 3, 4, 130


@contextmanager
def failing() -> Iterator[None]:
    """End the command with the message of an error that the user can do something about."""
    from lightning_scaling.errors import LightningScalingError

    try:
        yield
    except MemoryError as error:
        typer.echo(
            f"lightning-scaling: Expected numbers that fit into memory, got too large ones ({error}), so check "
            "--horizon and the steps of the log.",
            err=True,
        )
        raise typer.Exit(WRONG) from None
    except (OSError, ValueError, TypeError, OverflowError, ImportError, LightningScalingError) as error:
        words = str(error)
        if not words.startswith("Expected"):
            kind = "a file or folder that can be used" if isinstance(error, OSError) else "what can be worked with"
            words = f"Expected {kind}, got {words or type(error).__name__}, so check path and options."
        typer.echo(f"lightning-scaling: {words}", err=True)
        raise typer.Exit(WRONG) from None


def say(text: str) -> None:
    """Tell the reader something beside the result."""
    typer.echo(text, err=True)


def print_json(data: Mapping[str, Any]) -> None:
    """Print data as JSON; NaN and infinity, which JSON does not know, become null."""
    typer.echo(as_json(data))


def print_line(data: Mapping[str, Any]) -> None:
    """Print data as JSON in one line, at once."""
    typer.echo(as_json(data, indent=None))
    sys.stdout.flush()


def as_json(data: Mapping[str, Any], indent: int | None = 2) -> str:
    """Return data as JSON."""
    return json.dumps(_plain(data), indent=indent, allow_nan=False)


def interval(value: Interval | Spread) -> dict[str, Any]:
    """Return an interval for JSON."""
    return {"low": value.low, "mid": value.mid, "high": value.high, "level": value.level}


def log_data(log: RunLog) -> dict[str, Any]:
    """Return for JSON what was read."""
    return {
        "path": log.path,
        "name": log.name,
        "format": log.format,
        "columns": dict(log.columns),
        "losses": len(log.curve),
        "logged_again": log.n_repeated,
        "not_finite": log.n_nonfinite,
        "notes": list(log.notes),
        "warnings": list(log.warnings),
    }


def forecast_data(found: Forecast, rates: PlannedRates, advice: Advice | None = None) -> dict[str, Any]:
    """Return a forecast for JSON."""
    names = ("final_loss", "present_loss", "remaining_gain", "converged_loss", "alpha_S")
    data: dict[str, Any] = {
        "step": found.step,
        "horizon": found.horizon,
        "verdict": str(found.verdict),
        "usable": found.verdict.usable,
        "why": found.verdict.why,
        "what_to_do": found.verdict.what_to_do,
        "schedule_known": found.schedule_known,
        "assumed": rates.assumed,
        "warnings": list(rates.warnings),
        "borrowed_from": found.n_siblings,
    }
    data |= {name: interval(getattr(found, name)) for name in names}
    if advice is not None:
        data["advice"] = {
            "action": advice.action.value,
            "reason": advice.reason.value,
            "sentence": advice.sentence,
            "evidence": advice.evidence,
        }
    return data


def log_text(log: RunLog) -> str:
    """Return what was read, assumed and found odd, in lines."""
    return "\n".join([str(log), *log.notes, *(f"Warning: {text}" for text in log.warnings)])


def forecast_text(found: Forecast, rates: PlannedRates) -> str:
    """Return a forecast in lines, with what was assumed of the learning rate."""
    lines = str(found).splitlines()
    if rates.schedule is not None:
        lines.append(rates.assumed)
    elif found.horizon is not None:
        lines.append("Name the schedule that is planned: --schedule cosine, linear, wsd or constant.")
    return "\n".join([*lines, *(f"Warning: {text}" for text in rates.warnings)])


def knows_unicode() -> bool:
    """Tell whether stdout takes more than ASCII."""
    try:
        "•─░▁".encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def width() -> int:
    """Return how wide a picture may be."""
    return max(40, min(shutil.get_terminal_size((80, 24)).columns, 100))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if isinstance(value, bool) or value is None or isinstance(value, (str, int)):
        return value
    number = float(value)
    return number if math.isfinite(number) else None
