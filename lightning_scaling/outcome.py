"""What became of a run, in numbers: where it ended, what had been forecast half way, and how often that was right."""

from __future__ import annotations

import math

from lightning_scaling.curve import LossCurve
from lightning_scaling.ledger import LAST_PART, recent_loss
from lightning_scaling.live import LiveForecast

__all__ = ["outcome"]

#: The tenth of the run whose newest forecast stands for "half way".
_HALF = 5


def outcome(live: LiveForecast, curve: LossCurve, step: int | None = None) -> dict[str, float]:
    """Return the closing numbers of a run, those that are known.

    Args:
        live: Its plan and its forecasts.
        curve: The run as far as it went.
        step: Step that it has reached, where the loss is not known at every step; default: the curve's.

    Returns:
        By name:

        - ``ended_at``: mean loss over the last 2 % of the steps that were done [unit of the losses];
        - ``at_half/final_loss``, ``_low`` and ``_high``: what was forecast half way;
        - ``at_half/off``: that forecast minus ``ended_at``, of a run that reached its planned end;
        - ``intervals`` and ``intervals_held``: forecasts at 10, 20, … 90 % of such a run, and how many of their
          intervals held its end;
        - ``steps_saved``: steps that were not done because a rule has stopped the run, 0 at the planned end.
    """
    step = curve.step if step is None else step
    known: dict[str, float] = {}
    truth = math.nan if curve.n_nonfinite else recent_loss(curve)
    known["ended_at"] = truth
    half = next((record for tenth, record in live.ledger.at_tenths() if tenth == _HALF), None)
    if half is not None and half.verdict.usable:
        loss = half.final_loss
        known |= {
            "at_half/final_loss": float(loss.mid),
            "at_half/final_loss_low": float(loss.low),
            "at_half/final_loss_high": float(loss.high),
        }
    if live.horizon is not None and step >= live.horizon:
        known["steps_saved"] = 0.0
        if curve.step >= (1.0 - LAST_PART) * live.horizon:  # a value from before the last part is not the end
            if half is not None and half.horizon == live.horizon and half.verdict.usable:
                known["at_half/off"] = float(half.final_loss.mid) - truth
            held, judged = live.ledger.held(truth)
            if judged:
                known |= {"intervals": float(judged), "intervals_held": float(held)}
    elif live.horizon is not None and live.wants_stop and live.acts_on is not None:
        known["steps_saved"] = float(live.horizon - step)
    return {name: value for name, value in known.items() if math.isfinite(value)}
