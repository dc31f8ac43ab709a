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


def kaplan_cases(
    frontiers: Sequence[BestForCompute], C: float | None, L: float | None, ratio: float
) -> list[_Case | None]:
    """Return what each frontier says of a budget C or a loss L, at ratio times the critical batch; None for never.

    A run at ratio B / B_crit spends 1 + ratio times the C_min that the frontier counts in (Eq. 5.5).
    """
    more = float(compute_ratio(ratio))
    cases: list[_Case | None] = []
    for frontier in frontiers:
        C_min = C / more if C is not None else float(frontier.compute(L if L is not None else math.nan))
        if _LEAST < C_min < _MOST:
            N = float(frontier.N(C_min))
            D = float(tokens_for(more * C_min, N))
            cases.append(_Case(N, D, more * C_min, float(frontier.loss(C_min)), ratio * float(frontier.B(C_min))))
        else:
            cases.append(None)
    return cases


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
    asked: Sequence[_Case | None], laws: PlanLaws, explored: Explored | None, flop_per_s: float | None
) -> Answer | None:
    """Return the answer that several sets of constants give together, from those that have one.

    None where the first set (of draws: more than half) says that no compute is enough.
    """
    level = laws.level
    cases = [case for case in asked if case is not None]
    if not cases or (asked[0] is None if level is None else 2 * len(cases) < len(asked)):
        return None
    batches = [case.B for case in cases if case.B is not None]
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
    )


def _data_needed(cases: Sequence[_Case], data: Sequence[KaplanND], level: float | None) -> Spread | None:
    if not data:
        return None
    N = np.array([case.N for case in cases])
    return Spread.of(np.concatenate([law.tokens_needed(N) for law in data]).tolist(), level)


def trades(answer: Answer, ratio: float, flop_per_s: float | None) -> tuple[Trade, ...]:
    """Return other batch sizes for the model and the loss of an answer at ``ratio`` times the critical batch."""
    if answer.B is None:
        return ()
    B_crit = answer.B.mid / ratio
    S_min = float(answer.C.mid / training_flop(answer.N.mid, answer.B.mid, 1.0) / steps_ratio(ratio))
    rows = []
    for other in sorted([ratio, *(r for r in RATIOS if abs(math.log(r / ratio)) > 0.2)]):
        B, S = other * B_crit, S_min * float(steps_ratio(other))
        C = float(training_flop(answer.N.mid, B, S))
        rows.append(Trade(other, B, S, C, None if flop_per_s is None else C / flop_per_s))
    return tuple(rows)
