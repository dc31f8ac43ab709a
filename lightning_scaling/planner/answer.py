"""One law's answer to a plan, with its spread over sets of constants; and the trade along the batch-size curve."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lightning_scaling.laws import HoffmannND, KaplanND
from lightning_scaling.laws.shape import tokens_for, training_flop
from lightning_scaling.laws.trade import compute_ratio, steps_ratio
from lightning_scaling.planner.sources import BestForCompute, Explored, PlanLaws
from lightning_scaling.planner.spread import Spread

#: Batch sizes of the trade, over the critical one; one that is nearly the plan's own is left out.
RATIOS = (0.1, 0.3, 1.0, 3.0, 10.0)
#: Compute that still counts as an answer [FLOP]; a loss of 0.0001 asks for more, and the powers of the laws overflow.
_LEAST, _MOST = 1e-100, 1e100
#: How often and how nearly the compute of a fixed batch is solved for.
_ROUNDS, _EQUAL = 200, 1e-13


@dataclass(frozen=True)
class Answer:
    """What one law says. 6 N B S is C in the middle of every range.

    Args:
        N: Model size [parameters; without embeddings by Kaplan's laws, with them by Hoffmann's].
        D: Tokens, read once [tokens].
        C: Compute [FLOP].
        L: Loss at the end [nats/token].
        B: Batch size [tokens/step]; None where no law gives one.
        S: Optimizer steps [steps]; None where no law gives a batch size.
        time_s: Wall time [s]; None without a speed.
        tokens_per_parameter: D / N [tokens].
        data_needed: Unique tokens that keep a converged model of this size within 2 % of its loss on endless data
            [tokens] (Eq. 4.4); None without L(N, D).
        N_beyond: Powers of ten by which N lies above what the law was fitted to (negative: below); None if not known.
        D_beyond: The same of D.
        ratio: B / B_crit [1]; None where no critical batch is known.
        passes: D over the tokens at hand [1]; None where these are not limited.
        overfitting: Excess of a converged model of this size on the tokens at hand over its loss on endless data [1]
            (Eq. 4.3); None without a limit or without L(N, D).
        reached: Share of the sets of constants by which any compute is enough [1]; the ranges leave the others out.
    """

    N: Spread
    D: Spread
    C: Spread
    L: Spread
    B: Spread | None
    S: Spread | None
    time_s: Spread | None
    tokens_per_parameter: Spread
    data_needed: Spread | None
    N_beyond: float | None
    D_beyond: float | None
    reached: float
    ratio: Spread | None = None
    passes: Spread | None = None
    overfitting: Spread | None = None


@dataclass(frozen=True)
class Trade:
    """A batch size and what it costs, for one model and one loss (Kaplan et al. 2020, Eq. 5.1).

    Args:
        ratio: B / B_crit [1].
        B: Batch size [tokens/step].
        S: Optimizer steps [steps]: time, if devices are added as the batch grows.
        C: Compute [FLOP]: time, if they are not.
        time_s: Wall time at the given speed [s]; None without one.
    """

    ratio: float
    B: float
    S: float
    C: float
    time_s: float | None


@dataclass(frozen=True)
class _Case:
    """The answer of one set of constants."""

    N: float
    D: float
    C: float
    L: float
    B: float | None
    ratio: float | None = None


def kaplan_cases(
    laws: PlanLaws, C: float | None, L: float | None, ratio: float, B: float | None = None
) -> list[_Case | None]:
    """Return what each of Kaplan's laws says of a budget C or a loss L; None for never.

    Frontiers are asked at ratio times the critical batch, or at the batch B; laws of one batch size at that. A run at
    ratio B / B_crit spends 1 + ratio times the C_min that the frontier counts in (Eq. 5.5). For a given loss that is a
    number that does not depend on the model, so the best model is the one of the frontier at any batch.
    """
    cases: list[_Case | None] = []
    for law in laws.kaplan:
        cases += hoffmann_cases([law], C, L, laws.batch) if isinstance(law, HoffmannND) else [_at(law, C, L, ratio, B)]
    return cases


def _at(frontier: BestForCompute, C: float | None, L: float | None, ratio: float, B: float | None) -> _Case | None:
    if C is None:
        C_min = float(frontier.compute(L if L is not None else math.nan))
    else:
        C_min = C / float(compute_ratio(ratio)) if B is None else _least(frontier, C, B)
    if not _LEAST < C_min < _MOST:
        return None
    B_crit = float(frontier.B(C_min))
    ratio = ratio if B is None else B / B_crit
    more, N = float(compute_ratio(ratio)), float(frontier.N(C_min))
    if not more * C_min < _MOST:
        return None
    return _Case(
        N, float(tokens_for(more * C_min, N)), more * C_min, float(frontier.loss(C_min)), ratio * B_crit, ratio
    )


def _least(frontier: BestForCompute, C: float, B: float) -> float:
    """Return the C_min that compute C comes to at a fixed batch: C = C_min (1 + B / B_crit(C_min)).

    B_crit grows more slowly than C_min, so going round in a circle closes in on the one solution.
    """
    C_min = C
    for _ in range(_ROUNDS):
        last, C_min = C_min, C / (1.0 + B / float(frontier.B(C_min)))
        if not C_min > _LEAST or abs(C_min - last) <= _EQUAL * C_min:
            break
    return C_min


def hoffmann_cases(laws: Sequence[HoffmannND], C: float | None, L: float | None, B: float | None) -> list[_Case | None]:
    """Return what each law says of a budget C or a loss L, None for never; the batch is not theirs."""
    cases: list[_Case | None] = []
    for law in laws:
        spent = C if C is not None else float(law.compute(L if L is not None else math.nan))
        if _LEAST < spent < _MOST:
            N, D = float(law.N_opt(spent)), float(law.D_opt(spent))
            cases.append(_Case(N, D, spent, float(law.loss(N, D)), B))
        else:
            cases.append(None)
    return cases


def summarise(
    asked: Sequence[_Case | None],
    laws: PlanLaws,
    explored: Explored | None,
    flop_per_s: float | None,
    data: float | None = None,
) -> Answer | None:
    """Return the answer that several sets of constants give together, from those that have one.

    None where the first set (of draws: more than half) says that no compute is enough.
    """
    level = laws.level
    cases = [case for case in asked if case is not None]
    if not cases or (asked[0] is None if level is None else 2 * len(cases) < len(asked)):
        return None
    batches = [case.B for case in cases if case.B is not None]
    ratios = [case.ratio for case in cases if case.ratio is not None]
    steps = [case.D / case.B for case in cases if case.B is not None]
    N, D = (Spread.of([getattr(case, name) for case in cases], level) for name in ("N", "D"))
    beyond = explored.decades_beyond(N=N.mid, D=D.mid) if explored is not None else (None, None)
    return Answer(
        N=N,
        D=D,
        C=Spread.of([case.C for case in cases], level),
        L=Spread.of([case.L for case in cases], level),
        B=Spread.of(batches, level) if batches else None,
        S=Spread.of(steps, level) if steps else None,
        time_s=Spread.of([case.C / flop_per_s for case in cases], level) if flop_per_s is not None else None,
        tokens_per_parameter=Spread.of([case.D / case.N for case in cases], level),
        data_needed=_data_needed(cases, laws.data, level),
        N_beyond=beyond[0],
        D_beyond=beyond[1],
        reached=len(cases) / len(asked),
        ratio=Spread.of(ratios, level) if ratios else None,
        passes=Spread.of([case.D / data for case in cases], level) if data is not None else None,
        overfitting=_overfitting(cases, laws.data, level, data),
    )


def _data_needed(cases: Sequence[_Case], data: Sequence[KaplanND], level: float | None) -> Spread | None:
    if not data:
        return None
    N = np.array([case.N for case in cases])
    return Spread.of(np.concatenate([law.tokens_needed(N) for law in data]).tolist(), level)


def _overfitting(
    cases: Sequence[_Case], data: Sequence[KaplanND], level: float | None, tokens: float | None
) -> Spread | None:
    if not data or tokens is None:
        return None
    N = np.array([case.N for case in cases])
    return Spread.of(np.concatenate([law.overfitting(N, tokens) for law in data]).tolist(), level)


def trades(answer: Answer, flop_per_s: float | None) -> tuple[Trade, ...]:
    """Return other batch sizes for the model and the loss of an answer whose critical batch is known."""
    if answer.B is None or answer.ratio is None:
        return ()
    ratio = answer.ratio.mid
    B_crit = answer.B.mid / ratio
    S_min = float(answer.C.mid / training_flop(answer.N.mid, answer.B.mid, 1.0) / steps_ratio(ratio))
    rows = []
    for other in sorted([ratio, *(r for r in RATIOS if abs(math.log(r / ratio)) > 0.2)]):
        B, S = other * B_crit, S_min * float(steps_ratio(other))
        C = float(training_flop(answer.N.mid, B, S))
        rows.append(Trade(other, B, S, C, None if flop_per_s is None else C / flop_per_s))
    return tuple(rows)
