"""Branches: a run that has been stopped, and is taken up again from before its stop."""

from __future__ import annotations

import json

from lightning_scaling.live import LiveForecast

__all__ = ["reasons_to_overrule"]


def reasons_to_overrule(
    before: LiveForecast, stopped_by: str | None, *known: tuple[LiveForecast, LiveForecast]
) -> list[str]:
    """Return the reasons that have stopped a run, for which it is not to be stopped again when it is taken up.

    What was saved before a stop knows nothing of it, but who has stopped the run may still be there. That it is the
    same run is told by its forecasts: those of the same steps are equal to the bit.

    Args:
        before: What was known of the loss that has rules when the run was stopped.
        stopped_by: Name of the reason, None where it was not stopped this time.
        known: Of each loss, what was known then and what is known of the run that is taken up.

    Returns:
        Names of reasons, the newest last; none where it is another run.
    """
    if not _same(known):
        return []
    earlier = set(before.state_dict()["overruled"]) - {stopped_by}
    return [*sorted(earlier), *([] if stopped_by is None else [stopped_by])]


def _same(known: tuple[tuple[LiveForecast, LiveForecast], ...]) -> bool:
    """Return whether all forecasts of the same steps are the same, and at least one of them says something."""
    told: list[str] = []
    for pair in known:
        one, other = ({row[0]: row[3:] for row in live.ledger.state_dict()["rows"]} for live in pair)
        steps = one.keys() & other.keys()
        rows = [json.dumps(one[step]) for step in steps]  # as text: NaN is equal to NaN there, and no digit is lost
        if rows != [json.dumps(other[step]) for step in steps]:
            return False
        told += rows
    return any("NaN" not in row for row in told)
