"""The question and its plan."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

from lightning_scaling.planner import notes, text
from lightning_scaling.planner.answer import Answer, Trade, hoffmann_cases, kaplan_cases, summarise, trades
from lightning_scaling.planner.sources import PUBLISHED, PlanLaws

#: What is asked about must lie between these, whatever its unit; beyond, the powers of the laws overflow.
_SENSIBLE = (1e-9, 1e45)


@dataclass(frozen=True)
class Plan:
    """Two answers to one question, side by side, and what to keep in mind. Print it.

    Args:
        C: The budget asked about [FLOP]; None where a loss was asked for.
        L: The loss asked for [nats/token]; None where a budget was given.
        flop_per_s: Speed of the machine [FLOP/s], if given.
        batch_ratio: B / B_crit of Kaplan's answer [1].
        kaplan: Answer of Kaplan's laws; None where they have none.
        hoffmann: Answer of Hoffmann's law; None where it has none.
        trade: The same model and loss as Kaplan's at other batch sizes.
        notes: Caveats in plain words.
        laws: The laws it rests on.
    """

    C: float | None
    L: float | None
    flop_per_s: float | None
    batch_ratio: float
    kaplan: Answer | None
    hoffmann: Answer | None
    trade: tuple[Trade, ...]
    notes: tuple[str, ...]
    laws: PlanLaws

    def __str__(self) -> str:
        return text.of(self)


def plan(
    *,
    C: float | None = None,
    time_s: float | None = None,
    flop_per_s: float | None = None,
    L: float | None = None,
    laws: PlanLaws = PUBLISHED,
    batch_ratio: float = 1.0,
) -> Plan:
    """Plan a training run for a budget of compute or of time, or for a target loss.

    Kaplan's laws count in C_min, the compute at a batch far below the critical one. A run at B = B_crit spends twice of
    it and takes twice the least steps (Eq. 5.2), so the budget is divided by 1 + B / B_crit before they are asked, and
    tokens are C / (6 N). Hoffmann's law takes all compute as it is and has no batch size: its steps are counted at
    Kaplan's batch.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Secs. 5, 6 and App. B; Hoffmann et al. 2022, arXiv:2203.15556.

    Args:
        C: Compute to spend, 6 N B S [FLOP].
        time_s: Time to spend [s]; needs ``flop_per_s``.
        flop_per_s: What all devices together achieve in training, as measured and not as advertised [FLOP/s].
        L: Loss to reach [nats/token].
        laws: The laws and their constants; the papers' unless you pass your own.
        batch_ratio: Batch size over the critical one [1]; 1 is the compromise of time and compute.

    Returns:
        The plan; print it.

    Raises:
        TypeError: If a number is not one.
        ValueError: If not exactly one of ``C``, ``time_s`` and ``L`` is given, if ``time_s`` comes without
            ``flop_per_s``, or if a number is not between 1e-9 and 1e45.

    Example:
        >>> answer = plan(C=1.728e20)  # 2 PF-days, of which 1 is C_min at the critical batch
        >>> print(answer.kaplan.N)
        1.3e9 (5.8e8 to 1.3e9)
        >>> print(answer.hoffmann.tokens_per_parameter)
        23 (23 to 42)
    """
    given = {"C": C, "time_s": time_s, "flop_per_s": flop_per_s, "L": L, "batch_ratio": batch_ratio}
    for name, value in given.items():
        if value is not None:
            _check(name, value)
    asked = [name for name in ("C", "time_s", "L") if given[name] is not None]
    if len(asked) != 1:
        raise ValueError(
            f"Expected one of C, time_s and L, got {' and '.join(asked) or 'none'}, so ask about a budget of "
            "compute, a budget of time, or a loss."
        )
    if time_s is not None:
        if flop_per_s is None:
            raise ValueError(
                "Expected flop_per_s with time_s, got none, so pass what your devices achieve together in training."
            )
        C = time_s * flop_per_s
        _check("time_s * flop_per_s", C)
    kaplan = summarise(kaplan_cases(laws.kaplan, C, L, batch_ratio), laws, laws.explored_kaplan, flop_per_s)
    B = kaplan.B.mid if kaplan is not None and kaplan.B is not None else None
    hoffmann = summarise(hoffmann_cases(laws.hoffmann, C, L, B), laws, laws.explored_hoffmann, flop_per_s)
    return Plan(
        C=None if C is None else float(C),
        L=None if L is None else float(L),
        flop_per_s=None if flop_per_s is None else float(flop_per_s),
        batch_ratio=float(batch_ratio),
        kaplan=kaplan,
        hoffmann=hoffmann,
        trade=() if kaplan is None else trades(kaplan, batch_ratio, flop_per_s),
        notes=notes.of(laws, kaplan, hoffmann, L, batch_ratio),
        laws=laws,
    )


def _check(name: str, value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"Expected {name} to be a number, got {value!r}, so pass one.")
    low, high = _SENSIBLE
    if value < low or not value <= high:  # the second holds for NaN too
        raise ValueError(f"Expected {name} from {low:g} to {high:g}, got {value!r}, so pass such a number.")
