"""What else could be done with a run: asked a few times in it, in a form that never fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from lightning_scaling.alternatives import Alternative, Price, decay_now, longer
from lightning_scaling.curve import LossCurve
from lightning_scaling.forecast.judge import SMALL_FALL
from lightning_scaling.live import LiveForecast
from lightning_scaling.verdict import Verdict

#: Verdicts under which the alternatives are told; they can be read under any.
_TELLING = (Verdict.OK, Verdict.BEFORE_DECAY, Verdict.NOT_IDENTIFIED)
#: Share of the steps still to come from which a decay would save too little to speak of.
_MOST = 0.8


class Advisor:
    """Compares a run as planned with other ways to go on, and knows what a step costs.

    Args:
        price_per_hour: Price of an hour [any money], None where it is not known.
        step: Optimizer step at which the clock starts [steps].
        clock: Seconds since any moment [s].

    Attributes:
        alternatives: The newest comparisons by name: ``"decay now"`` where the rate is held, ``"longer"``.
    """

    def __init__(self, price_per_hour: float | None, step: int, clock: Callable[[], float] = time.monotonic) -> None:
        self.alternatives: Mapping[str, Alternative] = {}
        self._price_per_hour = price_per_hour
        self._clock = clock
        self._since = step, clock()

    def renew(self, live: LiveForecast, curve: LossCurve, *, step: int) -> str:
        """Compare anew; return it in words, none where there is nothing to tell.

        What fails here says nothing of the run, so it is left out in silence.

        Args:
            live: The forecast of the run as planned, of this moment.
            curve: The run so far.
            step: Optimizer steps done [steps].
        """
        self.alternatives = {}
        planned, schedule, horizon = live.forecast, live.schedule, live.horizon
        if planned is None or schedule is None or horizon is None or planned.horizon != horizon:
            return ""
        price, level = self._price(step), planned.level
        kin = live.siblings or None  # the plan borrows from them, so what it is compared with does too
        try:
            found = {}
            if _held(live, curve.step):
                found["decay now"] = decay_now(
                    curve, horizon, schedule, price=price, level=level, store=kin, planned=planned
                )
            found["longer"] = longer(curve, horizon, schedule, price=price, level=level, store=kin, planned=planned)
        except Exception:
            return ""
        self.alternatives = found
        if planned.verdict not in _TELLING:
            return ""
        told = [found[name] for name in ("decay now", "longer") if name in found]
        if self._price_per_hour is None:
            told = [one for one in told if one.decay_steps is not None and one.share <= _MOST]
        return " ".join(one.sentence() for one in told if one.usable)

    def _price(self, step: int) -> Price | None:
        """Return what a step costs by the clock so far, None where it cannot be told."""
        steps, seconds = step - self._since[0], self._clock() - self._since[1]
        return Price(seconds / steps, self._price_per_hour) if steps > 0 and seconds > 0.0 else None


def _held(live: LiveForecast, step: int) -> bool:
    """Return whether the rate is held at its peak: of a constant schedule, or before the decay of WSD."""
    assert live.schedule is not None
    return float(live.schedule.rate_at(step)) >= (1.0 - SMALL_FALL) * float(live.schedule.rates.max())
