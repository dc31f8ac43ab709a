"""TrackRecord: how often the intervals that were told of finished runs have held, and what that says of the next."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from scipy.special import ndtri

from lightning_scaling.ledger import ForecastLedger

__all__ = ["KEY", "TrackRecord", "errors_in_sigmas", "score"]

#: Name under which a run's own score is kept in its store, and version of the way it is computed.
KEY, _VERSION = "track_record", 1
#: Runs that intervals of the right width count for.
_WORTH = 4.0
#: An error beyond this many sigmas counts as this many.
_CLIP = 6.0
#: Largest factor.
_MOST = 3.0


def score(ledger: ForecastLedger, final_loss: float) -> dict[str, Any] | None:
    """Hold the forecasts of a finished run against what happened.

    Of each tenth of the run the newest forecast counts, if it could be used and spoke of the end that the run had.

    Args:
        ledger: The forecasts that were made on the way.
        final_loss: Mean loss over the last part of the run [unit of the loss].

    Returns:
        Plain numbers for `RunStore.derive`: how many forecasts counted (``n``), how many intervals held (``held``), the
        mean square of their errors in sigmas (``square``) and their ``level``. None where no forecast counts.
    """
    found = errors_in_sigmas(ledger, final_loss)
    squares = [min(z**2, _CLIP**2) for _, z in found]
    held = sum(abs(z) <= float(ndtri(0.5 + 0.5 * level)) for level, z in found)
    if not squares:
        return None
    return {
        "version": _VERSION,
        "n": len(squares),
        "held": held,
        "square": sum(squares) / len(squares),
        "level": found[-1][0],
    }


def errors_in_sigmas(ledger: ForecastLedger, final_loss: float) -> list[tuple[float, float]]:
    """Return by how much the forecasts that count in `score` were off, as if each side of an interval were normal.

    Args:
        ledger: The forecasts that were made on the way.
        final_loss: Mean loss over the last part of the run [unit of the loss].

    Returns:
        Of each forecast, oldest first, the level of its interval [1], and the loss less its median in sigmas of the
        side that the loss is on.
    """
    found = []
    horizon = ledger.records[-1].horizon if len(ledger) else None
    for _, record in ledger.at_tenths():
        loss = record.final_loss
        low, mid, high = float(loss.low), float(loss.mid), float(loss.high)
        if not (record.verdict.usable and record.horizon == horizon and math.isfinite(high - low)):
            continue
        side = (high - mid if final_loss > mid else mid - low) / float(ndtri(0.5 + 0.5 * loss.level))
        found.append((float(loss.level), (final_loss - mid) / max(side, 1e-300)))
    return found


@dataclass(frozen=True)
class TrackRecord:
    """What the forecasts of finished runs were worth.

    Args:
        n: Forecasts that were held against what happened.
        held: Those whose interval held it.
        n_runs: Runs that they were of.
        square: Mean square of their errors in sigmas, each run counting once [1]; 1 where intervals are right.
        level: Probability that the intervals named [1]; of the newest run where it differs.

    Example:
        >>> print(TrackRecord(n=44, held=41, n_runs=9, square=0.8, level=0.9))
        your 90 % intervals held 41 of 44 times, in 9 runs
    """

    n: int = 0
    held: int = 0
    n_runs: int = 0
    square: float = 1.0
    level: float = 0.9

    @classmethod
    def of(cls, runs: Iterable[Any]) -> TrackRecord:
        """Gather the record of finished runs; those without a score that can be read are left out.

        Args:
            runs: Stored runs, oldest first.
        """
        scores = [found for run in runs if (found := _score_of(run)) is not None]
        if not scores:
            return cls()
        n, held = (sum(int(one[key]) for one in scores) for key in ("n", "held"))
        square = sum(float(one["square"]) for one in scores) / len(scores)
        return cls(n, held, len(scores), square, float(scores[-1]["level"]))

    @property
    def factor(self) -> float:
        r"""By what an interval should be widened, at least 1; forecasts of one run are not independent, so runs count.

        .. math:: f^2 = \max\left(1, \frac{\nu + \sum_r \overline{z_r^2}}{\nu + n_{runs}}\right)
        """
        square = (_WORTH + self.n_runs * self.square) / (_WORTH + self.n_runs)
        return min(math.sqrt(max(square, 1.0)), _MOST)

    def __str__(self) -> str:
        """Return half a sentence."""
        if not self.n:
            return "no forecast of yours has been held against its end yet"
        runs = f"{self.n_runs} run{'s' * (self.n_runs != 1)}"
        return f"your {100.0 * self.level:.0f} % intervals held {self.held} of {self.n} times, in {runs}"


def _score_of(run: Any) -> Mapping[str, Any] | None:
    if getattr(run, "state", "finished") != "finished":
        return None
    found: Any = getattr(run, "derived", {}).get(KEY)
    try:
        if found["version"] != _VERSION or int(found["n"]) < 1:
            return None
        sound = 0 <= int(found["held"]) <= int(found["n"]) and float(found["square"]) >= 0.0
        return found if sound and 0.0 < float(found["level"]) < 1.0 else None
    except (KeyError, TypeError, ValueError):
        return None
