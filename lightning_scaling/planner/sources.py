"""The laws that a plan rests on, and how far they were explored."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_scaling.laws import (
    BESIROGLU,
    HOFFMANN_PRINTED,
    HOFFMANN_TEX,
    KAPLAN_APPENDIX_B,
    KAPLAN_FIGURE_10,
    KAPLAN_TABLE_2,
    KAPLAN_TABLE_3,
    KAPLAN_TABLE_6,
    KAPLAN_TEXT,
    Frontier,
    HoffmannND,
    KaplanND,
)

Quantity = Callable[[ArrayLike], NDArray[np.float64]]


class BestForCompute(Protocol):
    """What a plan asks of a compute-efficient frontier: `Frontier` and `EmpiricalFrontier` have it."""

    @property
    def N(self) -> Quantity:
        """Size of the best model [non-embedding parameters] from C_min [FLOP]."""

    @property
    def B(self) -> Quantity:
        """Critical batch at its end [tokens] from C_min [FLOP]."""

    @property
    def loss(self) -> Quantity:
        """Lowest loss [nats/token] from C_min [FLOP]."""

    @property
    def compute(self) -> Quantity:
        """Least C_min [FLOP] from a loss [nats/token]."""


@dataclass(frozen=True)
class Explored:
    """The sizes and the data that a law was fitted to.

    Args:
        N: Smallest and largest model [parameters].
        D: Fewest and most tokens [tokens].

    Raises:
        ValueError: If a range is not two positive numbers in order.

    Example:
        >>> Explored(N=(1e6, 1e8), D=(1e8, 1e10)).decades_beyond(N=1e9, D=1e9)
        (1.0, 0.0)
    """

    N: tuple[float, float]
    D: tuple[float, float]

    def __post_init__(self) -> None:
        for name in ("N", "D"):
            low, high = getattr(self, name)
            if not 0.0 < low <= high < math.inf:
                raise ValueError(f"Expected {name} as (smallest, largest), got {(low, high)!r}, so order two numbers.")

    def decades_beyond(self, *, N: float, D: float) -> tuple[float, float]:
        """Return how many powers of ten N and D lie above what was explored (below: negative; inside: 0)."""
        return _decades(N, self.N), _decades(D, self.D)


def _decades(x: float, explored: tuple[float, float]) -> float:
    low, high = explored
    if x > high:
        return math.log10(x / high)
    return math.log10(x / low) if x < low else 0.0


@dataclass(frozen=True)
class PlanLaws:
    """The laws for a plan, each in one or more sets of constants whose spread is the uncertainty of the answer.

    Several sets are either a few from which the first is the answer (``level=None``), or draws from a fit to runs of
    your own, all equally likely, from which come the median and an interval of that level.

    Args:
        kaplan: Compute-efficient frontiers, for example ``Frontier(law, critical)`` of each draw; or, with ``batch``,
            laws of size and tokens without an irreducible loss, as they hold at that batch size.
        hoffmann: Laws with an irreducible loss, whose optimum is asked for beside Kaplan's.
        data: L(N, D), for the data needed against overfitting; may be empty.
        source: Where the constants come from: printed with every plan.
        level: Probability of the printed ranges [1], or None where the sets are no draws.
        explored_kaplan: Range of the runs behind ``kaplan``, if known.
        explored_hoffmann: Range of the runs behind ``hoffmann``, if known.
        published: True where the constants are those of the papers, which no run of yours has confirmed.
        batch: Batch size that all laws hold at [tokens/step]; None where Kaplan's frontiers know the critical one.

    Raises:
        ValueError: If there is neither a frontier nor a law of Hoffmann, if Kaplan's are of one batch size and that is
            not given, or the level is not between 0 and 1.

    Example:
        >>> from lightning_scaling.laws import CriticalBatch, KaplanNS
        >>> mine = Frontier(KaplanNS(0.08, 0.7, 4e13, 3e3), CriticalBatch(1e8, 0.25))
        >>> PlanLaws(kaplan=[mine], source="my 12 runs").published
        False
    """

    kaplan: Sequence[BestForCompute | HoffmannND] = ()
    hoffmann: Sequence[HoffmannND] = ()
    data: Sequence[KaplanND] = ()
    source: str = "constants given by the user"
    level: float | None = None
    explored_kaplan: Explored | None = None
    explored_hoffmann: Explored | None = None
    published: bool = False
    batch: float | None = None

    def __post_init__(self) -> None:
        for name in ("kaplan", "hoffmann", "data"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        if not (self.kaplan or self.hoffmann):
            raise ValueError(
                "Expected a frontier or a law of Hoffmann, got neither, so pass kaplan=[Frontier(…)] or "
                "hoffmann=[HoffmannND(…)]."
            )
        if self.batch is None and any(isinstance(law, HoffmannND) for law in self.kaplan):
            raise ValueError(
                "Expected the batch size that Kaplan's laws hold at, got none, so pass batch=…, or frontiers."
            )
        if self.batch is not None and not 0.0 < self.batch < math.inf:
            raise ValueError(f"Expected batch above 0, got {self.batch!r}, so pass the tokens of one step.")
        if self.level is not None and not 0.0 < self.level < 1.0:
            raise ValueError(f"Expected level between 0 and 1, got {self.level!r}, so pass for example 0.9, or None.")


PUBLISHED = PlanLaws(
    # The paper's own answer first, then what its theory makes of each B_crit(L) that it prints.
    kaplan=(
        KAPLAN_TABLE_6,
        KAPLAN_APPENDIX_B,
        Frontier(KAPLAN_TABLE_3, KAPLAN_TEXT),
        Frontier(KAPLAN_TABLE_3, KAPLAN_FIGURE_10),
    ),
    hoffmann=(BESIROGLU, HOFFMANN_TEX, HOFFMANN_PRINTED),
    data=(KAPLAN_TABLE_2,),
    source=(
        "Kaplan et al. 2020 (WebText2, vocabulary of 50257): Table 6, and App. B with three B_crit(L); Hoffmann et al. "
        "2022 (MassiveText) as refitted by Besiroglu et al. 2024, and as printed"
    ),
    explored_kaplan=Explored(N=(768, 1.5e9), D=(2.2e7, 2.3e10)),
    explored_hoffmann=Explored(N=(7e7, 1.6e10), D=(5e9, 5e11)),
    published=True,
)
"""The constants of the papers: for a first idea, and for nobody's absolute numbers."""
