"""``LIGHTNING_SCALING=1 python train.py``: a monitor in every Trainer, without a change to the script.

Whenever a Trainer is made, Lightning asks the entry points of the groups ``lightning.pytorch.callbacks_factory`` and
``pytorch_lightning.callbacks_factory`` for callbacks. So what is raised here would break every Trainer of the
environment, and what is imported here would delay it: nothing is raised, and nothing is imported without the variable.
"""

from __future__ import annotations

import json
import os
from typing import Any

__all__ = ["callbacks"]

SWITCH, ARGUMENTS = "LIGHTNING_SCALING", "LIGHTNING_SCALING_ARGS"
_OFF = ("", "0", "false", "no", "off")
#: What a monitor takes here; who wants a run to be stopped says so in the script.
_NAMES = ("horizon", "lr_schedule", "N", "tokens_per_step", "level", "refits", "name", "verbose", "price_per_hour")


def callbacks() -> list[Any]:
    """Return the callbacks that the environment asks for: none, or one monitor that advises only.

    It is asked for by setting ``LIGHTNING_SCALING`` to anything but ``0``, ``false``, ``no``, ``off`` or nothing.
    ``LIGHTNING_SCALING_ARGS`` may hold arguments of `ScalingLawMonitor` as JSON, such as
    ``{"level": 0.8, "verbose": false}``; ``stop`` is not among them. What is wrong with them is warned of, and the
    defaults are taken.

    Example:
        >>> callbacks()  # without the variable
        []
    """
    if os.environ.get(SWITCH, "").strip().lower() in _OFF:
        return []
    try:
        return [_monitor(os.environ.get(ARGUMENTS, ""))]
    except Exception as error:
        _warn(f"Expected to add a ScalingLawMonitor, got {type(error).__name__}: {error}, so there is none.")
        return []


def _monitor(text: str) -> Any:
    from lightning_scaling.guest import GuestMonitor

    try:
        return GuestMonitor(**_arguments(text))
    except (TypeError, ValueError) as error:
        _warn(f"{error} Until then the defaults of ScalingLawMonitor are taken in place of {ARGUMENTS}.")
        return GuestMonitor()


def _arguments(text: str) -> dict[str, Any]:
    """Read arguments from JSON.

    Raises:
        ValueError: If it is not JSON, no object, or holds something else than a monitor takes here.
    """
    if not text.strip():
        return {}
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ValueError(
            f"Expected {ARGUMENTS} to be JSON, got {text!r} ({error}), so write e.g. '{{\"level\": 0.8}}'."
        ) from error
    if not isinstance(found, dict):
        raise ValueError(f"Expected {ARGUMENTS} to be a JSON object, got {text!r}, so put it in braces.")
    if unknown := sorted(set(found) - set(_NAMES)):
        raise ValueError(
            f"Expected {ARGUMENTS} to hold arguments of ScalingLawMonitor, got {', '.join(unknown)}, so choose from "
            f"{', '.join(_NAMES)}."
        )
    return found


def _warn(message: str) -> None:
    from lightning_scaling.errors import say_warning

    say_warning(message)
