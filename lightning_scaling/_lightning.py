"""The one place that chooses between ``lightning.pytorch`` and ``pytorch_lightning``.

The two packages are copies of each other with classes that know nothing of one another: a callback of one is refused by
the other's command line, by its Trainer when passed bare, and by older Trainers always. A callback that derives from
the `Callback` of every package that is installed is at home in all of them.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from typing import Any

_PACKAGES = ("lightning.pytorch", "pytorch_lightning")


def callback_base() -> type:
    """Return a base class for callbacks that is a `Callback` of every installed Lightning package.

    Raises:
        ModuleNotFoundError: If neither package can be imported.
    """
    found = _import_callbacks()
    if not found:
        raise ModuleNotFoundError(
            "Expected Lightning to be installed, got neither `lightning` nor `pytorch-lightning`, so install one of "
            "them, or use CurveRecorder in a loop of your own.",
            name="pytorch_lightning",
        )
    return type("LightningCallback", tuple(found), {"__module__": __name__})


def _import_callbacks() -> list[type]:
    """Import the `Callback` classes, the one of the package that the user has imported first."""
    names = [name for name in _PACKAGES if name in sys.modules or importlib.util.find_spec(name.partition(".")[0])]
    names.sort(key=lambda name: name not in sys.modules)
    found: list[type] = []
    for name in names:
        log = _rank_zero_log()
        fresh = name not in sys.modules
        try:
            found.append(importlib.import_module(name).Callback)
        except Exception:  # a second package that is broken must not take the first one with it
            if not found and name == names[-1]:
                raise
            continue
        if fresh and len(found) > 1 and log is not None:
            # Both packages write through one rank-zero logger, and the last import takes it over; give it back to the
            # package that the user works with.
            sys.modules["lightning_utilities.core.rank_zero"].__dict__.update(log)
    return found


def _rank_zero_log() -> dict[str, Any] | None:
    module = sys.modules.get("lightning_utilities.core.rank_zero")
    names = ("log", "rank_zero_deprecation_category")
    return None if module is None else {name: getattr(module, name) for name in names if hasattr(module, name)}
