"""Overfitting: the held-out loss has turned, or the data are too few for as many steps."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning_scaling.advice.base import Action, Advice, Reason, StopRule, check_number
from lightning_scaling.advice.words import advice_on, evidence_of, not_usable, percent
from lightning_scaling.forecast import Forecast
from lightning_scaling.laws import KAPLAN_TABLE_2, KAPLAN_TABLE_3, KAPLAN_TEXT, S_stop
from lightning_scaling.units import thousands
from lightning_scaling.verdict import Verdict

__all__ = ["Overfitting"]


@dataclass(frozen=True)
class Overfitting(StopRule):
    r"""Stop where the loss has turned and rises; say from which step on the data may be too few for the model.

    Meant for a held-out loss: ``ScalingLawMonitor("val_loss", stop=Overfitting())``. It stops under the verdict
    `rising`, which asks for an even rise beyond the noise, and names the best checkpoint so far: the step of the lowest
    smoothed loss.

    With D it also knows the earliest step at which a held-out loss can turn,

    .. math:: S_{stop}(N, D) \gtrsim S_c\,[L(N, D) - L(N, \infty)]^{-1/\alpha_S}\,(1 + B_{crit}/B)

    That is a lower bound, and with constants of WebText2: the loss may well fall on long after it. So to have passed it
    is said, and stops a run only where ``stop_at_bound`` asks for it, N and the batch size in tokens are known, and all
    data were seen once.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 5.7 with Table 2 for L(N, D) and Table 3 for S_c and alpha_S;
    Eq. 5.4 for the steps at batch size B.

    Args:
        N: Non-embedding parameters [1]; default: as many as the curve says.
        D: Tokens of the training data, each counted once [tokens]; default: not known.
        stop_at_bound: Whether to stop at that lower bound too.

    Raises:
        TypeError: If N or D is no number.
        ValueError: If N or D is not above 0, or ``stop_at_bound`` has no D.

    Example:
        >>> round(Overfitting(N=1e8, D=1e9).S_stop(), 1)
        18114.4
    """

    N: float | None = None
    D: float | None = None
    stop_at_bound: bool = False

    def __post_init__(self) -> None:
        for name, unit in (("N", "parameters"), ("D", "tokens")):
            if (value := getattr(self, name)) is not None:
                check_number(name, value, lowest=1.0, unit=unit)
        if self.stop_at_bound and self.D is None:
            raise ValueError("Expected D for stop_at_bound, got None, so give the tokens of the training data: D=….")

    def S_stop(self, N: float | None = None, B: float | None = None) -> float:
        """Return the earliest step at which a held-out loss can turn.

        Args:
            N: Non-embedding parameters [1]; default: those of the rule.
            B: Batch size [tokens per step]; default: far above the critical one, where it takes fewest steps.

        Returns:
            S_stop [steps]; NaN where N or D is not known.
        """
        N = self.N if self.N is not None else N
        if N is None or self.D is None:
            return math.nan
        steps = float(S_stop(N, self.D, data=KAPLAN_TABLE_2, steps=KAPLAN_TABLE_3))
        if B is None:
            return steps
        return steps * (1.0 + float(KAPLAN_TEXT.B_crit(KAPLAN_TABLE_2.loss(N, self.D))) / B)  # Eq. 5.4

    def judge(self, forecast: Forecast) -> Advice:
        """Return STOP where the loss rises, or where asked to at the bound."""
        if forecast.verdict is Verdict.RISING and forecast.rises_since is not None:
            return self._turned(forecast, forecast.rises_since)
        early = not_usable(forecast)
        if early is not None:
            return early
        bound = self.S_stop(forecast.N, forecast.B)
        evidence = evidence_of(forecast) | {"S_stop": bound}
        if math.isnan(bound):
            unknown = "" if self.D is None else " N is not known, so neither is from where on it may: give N=…."
            text = f"the loss has not turned: go on.{unknown}"
            return advice_on(forecast, Action.CONTINUE, Reason.ON_COURSE, text, evidence)
        many = "very many steps" if bound > 1e12 else f"{thousands(bound)} steps"
        what = "a lower bound, Kaplan's Eq. 5.7 with constants of WebText2"
        what += "" if forecast.B is not None else ", at a batch far above the critical one"
        if forecast.step < bound:
            text = f"the loss has not turned, nor should it before {many} ({what}): go on."
            return advice_on(forecast, Action.CONTINUE, Reason.ON_COURSE, text, evidence)
        text = f"the data may be too few from {many} on ({what})"
        assert self.D is not None
        if self.stop_at_bound and forecast.B is not None and forecast.step * forecast.B >= self.D:
            return advice_on(forecast, Action.STOP, Reason.DATA_SPENT, f"{text}: stop.", evidence)
        text = f"{text}, but the loss has not turned: go on, by a held-out loss."
        return advice_on(forecast, Action.CONTINUE, Reason.DATA_SPENT, text, evidence)

    def _turned(self, forecast: Forecast, lowest: int) -> Advice:
        best = forecast.loss_at(lowest)
        probability = forecast.probability_below(float(best.mid))
        evidence = evidence_of(forecast) | {
            "best_step": float(lowest),
            "best_loss": float(best.mid),
            "probability": probability,
        }
        text = (
            f"the loss has turned: it was lowest at step {thousands(lowest)}, {best}, where the best checkpoint is, "
            f"and ends lower with probability {percent(probability)}: stop."
        )
        return advice_on(forecast, Action.STOP, Reason.OVERFITTING, text, evidence)
