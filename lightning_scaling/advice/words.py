"""How rules speak, and when none of them may: what all rules have in common."""

from __future__ import annotations

import math

from lightning_scaling.advice.base import Action, Advice, Reason
from lightning_scaling.forecast import Forecast
from lightning_scaling.forecast.judge import REJECTED
from lightning_scaling.units import thousands
from lightning_scaling.verdict import Verdict

__all__ = ["advice_on", "departed", "evidence_of", "not_usable", "opening", "percent", "thousands", "wait", "where"]

#: A flat loss is left alone up to this share of the run: many runs fall again after a plateau.
_PATIENCE = 0.5


def not_usable(forecast: Forecast) -> Advice | None:
    """Return the advice of every rule where there is no forecast of the final loss to judge, else None."""
    if not forecast.verdict.usable or math.isnan(float(forecast.final_loss.mid)):
        return wait(forecast)
    if forecast.verdict is Verdict.BORROWED:
        return advice_on(
            forecast, Action.WAIT, Reason.BORROWED, "other runs say so, this one does not yet.", evidence_of(forecast)
        )
    if forecast.verdict is Verdict.RISING:
        text = f"the loss rises since step {thousands(forecast.rises_since or 0)}; its lowest lies behind."
        return Advice(Action.WAIT, Reason.RISING, f"{where(forecast)}: {text}", evidence_of(forecast))
    if forecast.verdict is Verdict.ACCELERATING:
        text = "the loss falls faster and faster, which no power law does: no rule acts on this."
        return Advice(Action.WAIT, Reason.ACCELERATING, f"{where(forecast)}: {text}", evidence_of(forecast))
    # Whatever else the verdict tells of: a law that has just failed is no ground to act on.
    if forecast.verdict is Verdict.LAW_REJECTED or abs(forecast.departure) > REJECTED:
        text = f"{departed(forecast)}, which no law of steps explains: no rule acts on this."
        return Advice(Action.WAIT, Reason.LAW_REJECTED, f"{where(forecast)}: {text}", evidence_of(forecast))
    if forecast.verdict is Verdict.FLAT and forecast.horizon and forecast.step < _PATIENCE * forecast.horizon:
        text = f"the loss is flat at {forecast.present_loss}; a fall may follow, so no rule acts on this yet."
        return Advice(Action.WAIT, Reason.FLAT, f"{where(forecast)}: {text}", evidence_of(forecast))
    return None


def departed(forecast: Forecast) -> str:
    """Say how far the newest losses lie off what the run itself forecast."""
    return f"the newest losses lie {forecast.departure:+.1f} sigma off what the run itself forecast earlier"


def wait(forecast: Forecast) -> Advice:
    """Return the advice of a rule that has nothing to go by."""
    text = f"no forecast of the final loss. {forecast.verdict.why} {forecast.verdict.what_to_do}"
    if forecast.verdict is Verdict.DIVERGED:
        text = f"the last {forecast.n_nonfinite} losses are NaN or infinite. {forecast.verdict.what_to_do}"
    if forecast.verdict is Verdict.NO_HORIZON:
        text += f" Converged loss: {forecast.converged_loss}."
    return Advice(Action.WAIT, Reason.NO_FORECAST, f"{where(forecast)}: {text}", evidence_of(forecast))


def advice_on(forecast: Forecast, action: Action, reason: Reason, text: str, evidence: dict[str, float]) -> Advice:
    """Return advice with its sentence: where the run is, where it should end, and what the rule says of it."""
    return Advice(action, reason, f"{opening(forecast)}{text}", evidence)


def opening(forecast: Forecast) -> str:
    """Say where the run is, and where it should end: what the sentence of every rule begins with."""
    landing = ""
    if forecast.verdict.usable and not math.isnan(float(forecast.final_loss.mid)):
        held = "" if forecast.schedule_known else " if the learning rate stays as it is"
        landing = f"the run should end at {forecast.final_loss}{held}; "
    return f"{where(forecast)}: {landing}"


def where(forecast: Forecast) -> str:
    """Say how far the run is."""
    of = "" if forecast.horizon is None else f" of {thousands(forecast.horizon)}"
    return f"Step {thousands(forecast.step)}{of}"


def evidence_of(forecast: Forecast) -> dict[str, float]:
    """Return the numbers that every advice rests on."""
    final = forecast.final_loss
    return {
        "step": float(forecast.step),
        "horizon": float("nan") if forecast.horizon is None else float(forecast.horizon),
        "final_loss_low": float(final.low),
        "final_loss": float(final.mid),
        "final_loss_high": float(final.high),
        "level": forecast.level,
    }


def percent(probability: float) -> str:
    """Return a probability in words that do not claim more than a forecast can: never 0 or 100 %."""
    if probability < 0.001:
        return "below 0.1 %"
    if probability > 0.999:
        return "above 99.9 %"
    return f"{100.0 * probability:.1f} %" if probability < 0.1 or probability > 0.9 else f"{100.0 * probability:.0f} %"
