"""Herald: who hears of a loss that has left its forecast."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

from lightning_scaling.alarm import Departure
from lightning_scaling.errors import say_warning

__all__ = ["Herald"]

_LOG = logging.getLogger("lightning_scaling")
_LOG.addHandler(logging.NullHandler())  # who logs decides where it goes; without that, the sentence is printed only


class Herald:
    """Tells of departures: in the log of the process, and to a function of the user's.

    A record goes to the logger ``lightning_scaling``: a warning where the loss is too high, else of level INFO; its
    ``departure`` is the `Departure`. What the function raises is warned of once, and it is called again at the next.

    Args:
        call: The function, None where there is none.
    """

    def __init__(self, call: Callable[[Departure], object] | None) -> None:
        self._call = call
        self._has_warned = False

    def tell(self, departure: Departure, name: str | None = None) -> str:
        """Tell of a departure; return it in words.

        Args:
            departure: What has been found.
            name: What the loss is called where there is more than one.
        """
        if name is not None:
            departure = replace(departure, name=name)
        level = logging.WARNING if departure.upwards else logging.INFO
        _LOG.log(level, "%s", departure, extra={"departure": departure})
        try:
            if self._call is not None:
                self._call(departure)
        except Exception as error:
            if not self._has_warned:
                self._has_warned = True
                say_warning(
                    f"Expected on_departure to take a Departure, got {type(error).__name__}: {error}, so what it "
                    "should have done is left undone; training goes on."
                )
        return str(departure)
