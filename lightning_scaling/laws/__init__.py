"""The laws of Kaplan et al. 2020, and beside them the ones that corrected them, each with its inverse.

====================  ==============================================================================================
`KaplanN`             L(N): only the model is short (1.1)
`KaplanD`             L(D): only the data are short (1.2)
`KaplanC`             L(C), naive (3.3) and at the least compute (1.3)
`KaplanND`            L(N, D): overfitting and the data that prevent it (1.5, 4.2 to 4.4)
`KaplanNS`            L(N, S): a run while it trains, at any batch size (1.6); `S_stop` where data run out (5.7)
`CriticalBatch`       B_crit(L) (5.3), with `S_min`, `C_min` (5.4, 5.5) and back; `trade`: time against compute (5.1)
`Frontier`            the best model for an amount of compute in theory (App. B); `EmpiricalFrontier`: as measured
`cost`                the price of the wrong size and of training too near convergence (B.11 to B.17)
`shape`               N from depth and width, 6 N B S, learning rate (2.1, 2.2, D.1)
`HoffmannND`          L(N, D) with an irreducible loss, and its optimum
`TissueLaw`           a run while it trains, under any learning rate; `MultiPowerLaw`
====================  ==============================================================================================

Presets are in capitals and name their table. The paper's numbers belong to WebText2, a vocabulary of 50257 tokens and
losses in nats/token; on other data the shapes carry over and the numbers do not. Its tables have different scales for
the same letter, so constants of two presets are never mixed within a law.
"""

from lightning_scaling.laws.annealing import (
    MULTI_POWER_25M,
    MULTI_POWER_100M,
    MULTI_POWER_400M,
    MultiPowerLaw,
    TissueLaw,
)
from lightning_scaling.laws.batch import (
    KAPLAN_FIGURE_10,
    KAPLAN_TABLE_5,
    KAPLAN_TEXT,
    C_at_batch,
    C_min,
    CriticalBatch,
    S_at_batch,
    S_min,
)
from lightning_scaling.laws.data import KAPLAN_TABLE_2, KaplanND
from lightning_scaling.laws.empirical import KAPLAN_EQ_4_4, KAPLAN_EQ_6_7, KAPLAN_TABLE_6, EmpiricalFrontier, Trend
from lightning_scaling.laws.frontier import KAPLAN_APPENDIX_B, Frontier
from lightning_scaling.laws.hoffmann import BESIROGLU, HOFFMANN_PRINTED, HOFFMANN_TEX, HoffmannND
from lightning_scaling.laws.power import (
    KAPLAN_TABLE_5_C,
    KAPLAN_TABLE_5_C_MIN,
    KAPLAN_TABLE_5_D,
    KAPLAN_TABLE_5_N,
    KaplanC,
    KaplanD,
    KaplanN,
)
from lightning_scaling.laws.steps import KAPLAN_TABLE_3, KaplanNS
from lightning_scaling.laws.stop import D_stop, L_stop, S_stop

__all__ = [
    "BESIROGLU",
    "HOFFMANN_PRINTED",
    "HOFFMANN_TEX",
    "KAPLAN_APPENDIX_B",
    "KAPLAN_EQ_4_4",
    "KAPLAN_EQ_6_7",
    "KAPLAN_FIGURE_10",
    "KAPLAN_TABLE_2",
    "KAPLAN_TABLE_3",
    "KAPLAN_TABLE_5",
    "KAPLAN_TABLE_5_C",
    "KAPLAN_TABLE_5_C_MIN",
    "KAPLAN_TABLE_5_D",
    "KAPLAN_TABLE_5_N",
    "KAPLAN_TABLE_6",
    "KAPLAN_TEXT",
    "MULTI_POWER_25M",
    "MULTI_POWER_100M",
    "MULTI_POWER_400M",
    "C_at_batch",
    "C_min",
    "CriticalBatch",
    "D_stop",
    "EmpiricalFrontier",
    "Frontier",
    "HoffmannND",
    "KaplanC",
    "KaplanD",
    "KaplanN",
    "KaplanND",
    "KaplanNS",
    "L_stop",
    "MultiPowerLaw",
    "S_at_batch",
    "S_min",
    "S_stop",
    "TissueLaw",
    "Trend",
]
