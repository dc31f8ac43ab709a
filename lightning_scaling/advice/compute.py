"""ComputeEfficient: from here on a larger model is the better use of compute."""

from __future__ import annotations

import math
from dataclasses import dataclass

from lightning_scaling.advice.base import Action, Advice, Reason, StopRule, check_number, check_probability
from lightning_scaling.advice.rules import DECAY_SHOWN
from lightning_scaling.advice.words import advice_on, evidence_of, not_usable, percent
from lightning_scaling.forecast import Forecast
from lightning_scaling.forecast.judge import is_identified

__all__ = ["ComputeEfficient"]


@dataclass(frozen=True)
class ComputeEfficient(StopRule):
    r"""Stop where the run has come so near to its converged loss that a larger model is the better use of compute.

    For a given compute the best model is trained to

    .. math:: L(N, C) = L(N, \infty) + \frac{\alpha_N}{\alpha_S}\,[L(N, \infty) - E_0]

    which with the constants of the paper and without an irreducible loss is 10 % above the converged loss. A run that
    is lower has spent compute that a larger model would have used better: 2 % above it took 2.8 times the compute of
    the larger model that reaches the same loss.

    Kaplan's law has no irreducible loss :math:`E_0`. Where the data have one, the point lies nearer to the converged
    loss, and the rule is too early without it. Later work has other exponents: the form of Hoffmann et al. 2022 at a
    fixed batch, with the constants of Besiroglu et al. 2024 (arXiv:2404.10102), is ``alpha_N=0.348, alpha_S=0.366,
    irreducible=1.82`` for losses in nats/token of their data.

    It judges the loss now, at its upper bound, and waits where the converged loss is not identified, where a loss can
    be 0 or below, so that shares of it mean nothing, and before half of a planned decay of the learning rate.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. B.5; with E_0 the same minimum over N of Eq. B.3, at a batch size
    that does not depend on the loss.

    Args:
        alpha_N: Exponent of the model size [1].
        alpha_S: Exponent of the steps [1].
        confidence: Stop only if it is so with at least this probability [1].
        irreducible: Part of the loss that no model takes away, E_0 [unit of the loss].

    Raises:
        TypeError: If an argument is no number.
        ValueError: If an exponent is not above 0, the irreducible loss is negative or the confidence is not in
            [0.5, 1).

    Example:
        >>> round(ComputeEfficient().excess, 3)
        0.101
    """

    alpha_N: float = 0.077
    alpha_S: float = 0.76
    confidence: float = 0.95
    irreducible: float = 0.0

    def __post_init__(self) -> None:
        for name in ("alpha_N", "alpha_S"):
            check_number(name, getattr(self, name), lowest=1e-6, unit="powers, 0.077 and 0.76 in the paper")
        check_number("irreducible", self.irreducible, lowest=0.0)
        check_probability(self.confidence)

    @property
    def excess(self) -> float:
        """How far above the converged loss compute is best spent, as a share of its reducible part [1]."""
        return self.alpha_N / self.alpha_S

    def judge(self, forecast: Forecast) -> Advice:
        """Return STOP where the loss has passed the compute-efficient one with at least the confidence."""
        early = not_usable(forecast)
        if early is not None:
            return early
        evidence = evidence_of(forecast)
        if not forecast.positive:
            text = "the loss can be 0 or below, so no share of it tells where compute is well spent."
            return advice_on(forecast, Action.WAIT, Reason.NOT_APPLICABLE, text, evidence)
        present, converged = forecast.present_loss, forecast.converged_loss
        if not is_identified(present, converged) or math.isnan(float(converged.mid)):
            text = "where it would converge is not known yet, nor whether a larger model would use compute better."
            return advice_on(forecast, Action.WAIT, Reason.NOT_IDENTIFIED, text, evidence)
        if self.irreducible >= float(converged.high):
            text = f"the converged loss is {converged}, below what was given as irreducible, {self.irreducible:g}."
            return advice_on(forecast, Action.WAIT, Reason.NOT_APPLICABLE, text, evidence)
        # L <= L_oo + r (L_oo - E_0), solved for L_oo; of the loss now, the bound that makes it least probable.
        least = (float(present.high) + self.excess * self.irreducible) / (1.0 + self.excess)
        probability = 1.0 - forecast.probability_converged_below(least)
        evidence |= {"converged_loss": float(converged.mid), "excess": self.excess, "probability": probability}
        chance = (
            f"with probability {percent(probability)} the loss lies less than {100.0 * self.excess:.2g} % above the "
            f"converged loss, {converged}"
        )
        if probability < self.confidence:
            return advice_on(forecast, Action.CONTINUE, Reason.GAIN_WORTH_IT, f"{chance}: go on.", evidence)
        if forecast.decay_done < DECAY_SHOWN:
            text = f"{chance}, but the learning rate has yet to fall: go on."
            return advice_on(forecast, Action.CONTINUE, Reason.DECAY_AHEAD, text, evidence)
        law = f"an irreducible loss of {self.irreducible:g}" if self.irreducible else "no irreducible loss"
        better = f"by Kaplan's law with {law} a larger model is the better use of compute from here on"
        text = f"{chance}; {better}: stop."
        return advice_on(forecast, Action.STOP, Reason.COMPUTE_EFFICIENT, text, evidence)
