"""The question and its plan."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from typing import Any

import numpy as np

from lightning_scaling.planner import notes, text
from lightning_scaling.planner.answer import Answer, Trade, hoffmann_cases, kaplan_cases, summarise, trades
from lightning_scaling.planner.sources import PUBLISHED, PlanLaws

#: What is asked about must lie between these, whatever its unit; beyond, the powers of the laws overflow.
_SENSIBLE = (1e-9, 1e45)
#: By how much a batch size may differ from another one and still be the same.
_SAME_BATCH = 0.01


@dataclass(frozen=True)
class Plan:
    """Two answers to one question, side by side, and what to keep in mind. Print it.

    Args:
        C: The budget asked about [FLOP]; None where a loss was asked for.
        L: The loss asked for [nats/token]; None where a budget was given.
        flop_per_s: Speed of the machine [FLOP/s], if given.
        B: The batch size asked for [tokens/step]; None where that is left to the laws.
        data: Unique tokens at hand [tokens]; None where they are not limited.
        batch_ratio: B / B_crit of Kaplan's answer [1]; None where the laws know no critical batch.
        kaplan: Answer of Kaplan's laws; None where they have none.
        hoffmann: Answer of Hoffmann's law; None where it has none.
        trade: The same model and loss as Kaplan's at other batch sizes.
        notes: Caveats in plain words.
        laws: The laws it rests on.
    """

    C: float | None
    L: float | None
    flop_per_s: float | None
    B: float | None
    data: float | None
    batch_ratio: float | None
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
    laws: PlanLaws | None = PUBLISHED,
    batch_ratio: float = 1.0,
    B: float | None = None,
    data: float | None = None,
) -> Plan:
    """Plan a training run for a budget of compute or of time, or for a target loss.

    Kaplan's laws count in C_min, the compute at a batch far below the critical one. A run at B = B_crit spends twice of
    it and takes twice the least steps (Eq. 5.2), so the budget is divided by 1 + B / B_crit before they are asked, and
    tokens are C / (6 N). Hoffmann's law takes all compute as it is and has no batch size: its steps are counted at
    Kaplan's batch. Laws that hold at one batch size (``PlanLaws.batch``) are asked at that.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Secs. 5, 6 and App. B; Hoffmann et al. 2022, arXiv:2203.15556.

    Args:
        C: Compute to spend, 6 N B S [FLOP].
        time_s: Time to spend [s]; needs ``flop_per_s``.
        flop_per_s: What all devices together achieve in training, as measured and not as advertised [FLOP/s].
        L: Loss to reach [nats/token].
        laws: The laws and their constants; the papers' unless you pass your own, which `own_laws` fits to the runs of a
            store. None: the papers', as where a store carries no fit.
        batch_ratio: Batch size over the critical one [1]; 1 is the compromise of time and compute.
        B: Batch size to use [tokens/step], instead of a ratio.
        data: Unique tokens at hand [tokens]: says how often they are passed, and how far a model of the answer's size
            overfits on them (Eq. 4.3). The answer itself stays what it is with tokens that are read once.

    Returns:
        The plan; print it.

    Raises:
        TypeError: If a number is not one, or the laws are none.
        ValueError: If not exactly one of ``C``, ``time_s`` and ``L`` is given, if ``time_s`` comes without
            ``flop_per_s``, if ``B`` comes with a ``batch_ratio`` or with laws of another batch size, or if a number is
            not between 1e-9 and 1e45.

    Example:
        >>> answer = plan(C=1.728e20)  # 2 PF-days, of which 1 is C_min at the critical batch
        >>> print(answer.kaplan.N)
        1.3e9 (5.8e8 to 1.3e9)
        >>> print(answer.hoffmann.tokens_per_parameter)
        23 (23 to 42)
    """
    _check_all(C=C, time_s=time_s, flop_per_s=flop_per_s, L=L, batch_ratio=batch_ratio, B=B, data=data)
    C, time_s, flop_per_s, L, B, data = (_float(x) for x in (C, time_s, flop_per_s, L, B, data))
    batch_ratio = float(batch_ratio)
    laws = PUBLISHED if laws is None else laws
    if not isinstance(laws, PlanLaws):
        raise TypeError(f"Expected laws to be PlanLaws, got {type(laws).__name__}, so pass own_laws(store).laws.")
    C = _compute(C, time_s, flop_per_s, L)
    _check_batch(B, batch_ratio, laws)
    kaplan = summarise(kaplan_cases(laws, C, L, batch_ratio, B), laws, laws.explored_kaplan, flop_per_s, data)
    cases = hoffmann_cases(laws.hoffmann, C, L, _batch(B, laws, kaplan))
    hoffmann = summarise(cases, laws, laws.explored_hoffmann, flop_per_s, data)
    ratio = None if kaplan is None or kaplan.ratio is None else kaplan.ratio.mid
    return Plan(
        C=C,
        L=L,
        flop_per_s=flop_per_s,
        B=B,
        data=data,
        batch_ratio=ratio,
        kaplan=kaplan,
        hoffmann=hoffmann,
        trade=() if kaplan is None else trades(kaplan, flop_per_s),
        notes=notes.of(laws, kaplan, hoffmann, L=L, B=B, data=data),
        laws=laws,
    )


def _compute(C: float | None, time_s: float | None, flop_per_s: float | None, L: float | None) -> float | None:
    """Return the budget of compute, given as such or as a time; None where a loss is asked for."""
    asked = [name for name, value in (("C", C), ("time_s", time_s), ("L", L)) if value is not None]
    if len(asked) != 1:
        raise ValueError(
            f"Expected one of C, time_s and L, got {' and '.join(asked) or 'none'}, so ask about a budget of "
            "compute, a budget of time, or a loss."
        )
    if time_s is None:
        return C
    if flop_per_s is None:
        raise ValueError(
            "Expected flop_per_s with time_s, got none, so pass what your devices achieve together in training."
        )
    C = time_s * flop_per_s
    _check("time_s * flop_per_s", C)
    return C


def _batch(B: float | None, laws: PlanLaws, kaplan: Answer | None) -> float | None:
    """Return the batch at which Hoffmann's steps are counted: as asked for, as the laws have it, or Kaplan's."""
    batch = B if B is not None else laws.batch
    return kaplan.B.mid if batch is None and kaplan is not None and kaplan.B is not None else batch


def _float(value: float | None) -> float | None:
    return None if value is None else float(value)


def _check_all(**given: Any) -> None:
    for name, value in given.items():
        if value is not None:
            _check(name, value)


def _check_batch(B: float | None, batch_ratio: float, laws: PlanLaws) -> None:
    if B is not None and batch_ratio != 1.0:
        raise ValueError(f"Expected B or batch_ratio, got {B!r} and {batch_ratio!r}, so pass one of them.")
    if laws.batch is None:
        return
    if batch_ratio != 1.0:
        raise ValueError(
            f"Expected no batch_ratio with laws of one batch size, got {batch_ratio!r}, so pass laws that know the "
            "critical one."
        )
    if B is not None and abs(B / laws.batch - 1.0) > _SAME_BATCH:
        raise ValueError(
            f"Expected B = {laws.batch:g}, at which the laws hold, got {B!r}, so leave it out or pass laws of that "
            "batch size."
        )


def _check(name: str, value: Any) -> None:
    if isinstance(value, np.floating):
        value = float(value)  # a short one cannot hold the bounds
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"Expected {name} to be a number, got {value!r}, so pass one.")
    low, high = _SENSIBLE
    if value < low or not value <= high:  # the second holds for NaN too
        raise ValueError(f"Expected {name} from {low:g} to {high:g}, got {value!r}, so pass such a number.")
