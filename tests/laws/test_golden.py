"""Every published number, from the preset that its row names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from lightning_scaling.laws import (
    BESIROGLU,
    HOFFMANN_PRINTED,
    HOFFMANN_TEX,
    KAPLAN_APPENDIX_B,
    KAPLAN_EQ_4_4,
    KAPLAN_EQ_6_7,
    KAPLAN_FIGURE_10,
    KAPLAN_TABLE_2,
    KAPLAN_TABLE_3,
    KAPLAN_TABLE_5,
    KAPLAN_TABLE_5_C,
    KAPLAN_TABLE_5_C_MIN,
    KAPLAN_TABLE_5_D,
    KAPLAN_TABLE_5_N,
    KAPLAN_TABLE_6,
    KAPLAN_TEXT,
    MULTI_POWER_25M,
    MULTI_POWER_100M,
    MULTI_POWER_400M,
    C_min,
    EmpiricalFrontier,
    Frontier,
    KaplanND,
    S_min,
    S_stop,
    TissueLaw,
)
from lightning_scaling.laws.convex import best_rate, bound_terms
from lightning_scaling.laws.cost import (
    compute_near_convergence,
    compute_ratio_at_size,
    size_near_convergence,
    steps_near_convergence,
    steps_ratio_at_size,
)
from lightning_scaling.laws.shape import forward_flop, learning_rate, parameters, tokens_for, training_flop
from lightning_scaling.laws.trade import compute_ratio, steps_ratio
from lightning_scaling.units import PF_DAY
from tests.golden import golden, half_unit

Row = dict[str, Any]

CRITICAL = {"kaplan_text_Bstar": KAPLAN_TEXT, "kaplan_table5": KAPLAN_TABLE_5, "kaplan_fig10": KAPLAN_FIGURE_10}
FRONTIER = {
    "kaplan_table3 + kaplan_table5 B_star": KAPLAN_APPENDIX_B,
    "kaplan_table3 + kaplan_text_Bstar": Frontier(KAPLAN_TABLE_3, KAPLAN_TEXT),
}
HOFFMANN = {"hoffmann_printed": HOFFMANN_PRINTED, "hoffmann_tex": HOFFMANN_TEX, "besiroglu_2024": BESIROGLU}
MULTI_POWER = {"mpl_25M": MULTI_POWER_25M, "mpl_100M": MULTI_POWER_100M, "mpl_400M": MULTI_POWER_400M}
# A row of warning rather than a fit: the constants of Table 5 within the law of Table 2.
MIXED_ND = KaplanND(alpha_N=0.076, alpha_D=0.095, N_c=8.8e13, D_c=5.4e13)
DATA = {"kaplan_table2": KAPLAN_TABLE_2, "kaplan_table5": MIXED_ND}
EQ_6_7 = EmpiricalFrontier(
    N=KAPLAN_TABLE_6.N,
    B=KAPLAN_TABLE_6.B,
    S_min=KAPLAN_TABLE_6.S_min,
    D=KAPLAN_EQ_6_7,
    in_compute=KAPLAN_TABLE_6.in_compute,
)
EMPIRICAL = {"kaplan_table5 + kaplan_table6": KAPLAN_TABLE_6, "kaplan_table5 + kaplan_table6 N + eq6.7 D": EQ_6_7}

# The presets whose constants a row repeats, by the name of its set.
PRESETS: dict[str, tuple[object, ...]] = {
    "kaplan_table2": (KAPLAN_TABLE_2,),
    "kaplan_table3": (KAPLAN_TABLE_3,),
    "kaplan_table3 + kaplan_text_Bstar": (KAPLAN_TABLE_3, KAPLAN_TEXT),
    "kaplan_table3 + kaplan_table5 B_star": (KAPLAN_TABLE_3, KAPLAN_TABLE_5),
    "kaplan_text_Bstar": (KAPLAN_TEXT,),
    "kaplan_fig10": (KAPLAN_FIGURE_10,),
    "kaplan_table5": (KAPLAN_TABLE_5_N, KAPLAN_TABLE_5_D, KAPLAN_TABLE_5),
    "kaplan_table5 + kaplan_text_Bstar": (KAPLAN_TEXT,),
    "kaplan_table5 + kaplan_table6": (KAPLAN_TABLE_5_D,),
    "kaplan_table5 + kaplan_table6 N + eq6.7 D": (KAPLAN_TABLE_5_D,),
    **{name: (law,) for name, law in HOFFMANN.items()},
}


def set_of(parameter: Any) -> str:
    return str(parameter.values[0].get("set"))


def flop(row: Row) -> float:
    """Return the compute that a row asks about [FLOP]."""
    inputs = row["inputs"]
    if "C_FLOP" in inputs:
        return float(inputs["C_FLOP"])
    return float(inputs.get("C_min_PF_days", inputs.get("C_PF_days"))) * PF_DAY


def rates(name: str) -> np.ndarray:
    """Return the learning rates of a named schedule."""
    i = np.arange(400)
    warmup = np.linspace(0.0, 3e-4, 2160)
    t = np.arange(21840)
    return {
        "constant": np.ones(400),
        "linear": (400 - i) / 400,
        "cosine": 0.5 * (1.0 + np.cos(np.pi * i / 400)),
        "wsd_linear": np.append(np.ones(320), (80 - i[:80]) / 80),
        "wsd_sqrt": np.append(np.ones(320), 1.0 - np.sqrt(i[:80] / 80)),
        "constant_then_cosine": 2e-4 * np.append(np.ones(100), 0.5 * (1.0 + np.cos(np.pi * np.arange(1000) / 1000))),
        "warmup_constant": np.append(warmup, np.full(21840, 3e-4)),
        "warmup_cosine": np.append(warmup, 3e-5 + 0.5 * 2.7e-4 * (1.0 + np.cos(np.pi * t / 21840))),
    }[name]


def tissue(row: Row) -> TissueLaw:
    constants = dict(row["constants"])
    return TissueLaw(**{"L_0": 1.0, "A": 1.0, "alpha": 0.5, "annealing": constants.pop("C", 1.0)} | constants)


def tissue_areas(row: Row) -> tuple[Any, Any]:
    if "eta" in row["inputs"]:
        S1, S2 = tissue(row).areas(row["inputs"]["eta"])
        return S1.tolist(), S2.tolist()
    S1, S2 = tissue(row).areas(rates(row["inputs"]["schedule"]))
    return S1[-1], S2[-1]


def exponents(row: Row) -> dict[str, float]:
    return {name: row["constants"][name] for name in ("alpha_N", "alpha_S")}


def excesses(row: Row) -> tuple[float, float]:
    return row["inputs"]["f"], row["inputs"]["f_prime"]


def alpha_C(row: Row) -> float:
    return FRONTIER[row["set"]].in_compute.alpha_C


COMPUTED: dict[str, Callable[[Row], Any]] = {
    "L_N": lambda row: KAPLAN_TABLE_5_N.loss(**row["inputs"]),
    "L_D": lambda row: KAPLAN_TABLE_5_D.loss(**row["inputs"]),
    "L_C": lambda row: KAPLAN_TABLE_5_C.loss(flop(row)),
    "L_C_min": lambda row: KAPLAN_TABLE_5_C_MIN.loss(flop(row)),
    "factor_2N": lambda row: KAPLAN_TABLE_5_N.loss(2e8) / KAPLAN_TABLE_5_N.loss(1e8),
    "L_ND": lambda row: DATA[row["set"]].loss(**row["inputs"]),
    "ND_converged": lambda row: KAPLAN_TABLE_2.converged(**row["inputs"]),
    "ND_data_limit": lambda row: KAPLAN_TABLE_2.loss(np.inf, **row["inputs"]),
    "overfitting": lambda row: KAPLAN_TABLE_2.overfitting(**row["inputs"]),
    "rule_4_4": lambda row: KAPLAN_EQ_4_4(row["inputs"]["N"]),
    "factor_8N_data": lambda row: KAPLAN_EQ_4_4(8e6) / KAPLAN_EQ_4_4(1e6),
    "tokens_needed": lambda row: KAPLAN_TABLE_2.tokens_needed(row["inputs"]["N"], row["inputs"]["deltaL"]),
    "tokens_needed_coefficient": lambda row: KAPLAN_TABLE_2.tokens_needed(1.0, row["inputs"]["deltaL"]),
    "tokens_needed_exponent": lambda row: (
        np.log(KAPLAN_TABLE_2.tokens_needed(1e9) / KAPLAN_TABLE_2.tokens_needed(1e3)) / np.log(1e6)
    ),
    "S_stop": lambda row: S_stop(**row["inputs"], data=KAPLAN_TABLE_2, steps=KAPLAN_TABLE_3),
    "converged": lambda row: KAPLAN_TABLE_3.converged(**row["inputs"]),
    "loss": lambda row: KAPLAN_TABLE_3.loss(**row["inputs"]),
    "loss_at_batch": lambda row: KAPLAN_TABLE_3.loss_at_batch(**row["inputs"], critical=KAPLAN_TEXT),
    "B_crit": lambda row: CRITICAL[row["set"]].B_crit(**row["inputs"]),
    "B_crit_ratio": lambda row: KAPLAN_TEXT.B_crit(3.0 * row["inputs"]["ratio_L"]) / KAPLAN_TEXT.B_crit(3.0),
    "B_crit_at_C_min": lambda row: KAPLAN_TEXT.B_crit(KAPLAN_TABLE_5_C_MIN.loss(flop(row))),
    "S_min": lambda row: S_min(**row["inputs"], **row["constants"]),
    "C_min_over_C": lambda row: C_min(1e20, **row["inputs"], **row["constants"]) / 1e20,
    "batch_trade": lambda row: (
        (x := row["inputs"]["B"] / row["inputs"]["B_crit"]) and [steps_ratio(x), compute_ratio(x), 1.0 / steps_ratio(x)]
    ),
    "table_6_N": lambda row: KAPLAN_TABLE_6.N(flop(row)),
    "table_6_B": lambda row: KAPLAN_TABLE_6.B(flop(row)),
    "table_6_S_min": lambda row: KAPLAN_TABLE_6.S_min(flop(row)),
    "table_6_D": lambda row: KAPLAN_TABLE_6.D(flop(row)),
    "table_6_factor_N": lambda row: KAPLAN_TABLE_6.N(1e21) / KAPLAN_TABLE_6.N(1e20),
    "table_6_factor_B": lambda row: KAPLAN_TABLE_6.B(1e21) / KAPLAN_TABLE_6.B(1e20),
    "table_6_factor_S_min": lambda row: KAPLAN_TABLE_6.S_min(1e21) / KAPLAN_TABLE_6.S_min(1e20),
    "table_6_factor_D": lambda row: KAPLAN_TABLE_6.D(1e21) / KAPLAN_TABLE_6.D(1e20),
    "table_6_6NBS_over_C": lambda row: (
        training_flop(*(trend(flop(row)) for trend in (KAPLAN_TABLE_6.N, KAPLAN_TABLE_6.B, KAPLAN_TABLE_6.S_min)))
        / flop(row)
    ),
    "table_6_two_C_over_6N": lambda row: tokens_for(2.0 * flop(row), KAPLAN_TABLE_6.N(flop(row))),
    "breakdown_C": lambda row: EMPIRICAL[row["set"]].breakdown(KAPLAN_TABLE_5_D) / PF_DAY,
    "breakdown_N": lambda row: KAPLAN_TABLE_6.N(EMPIRICAL[row["set"]].breakdown(KAPLAN_TABLE_5_D)),
    "breakdown_D": lambda row: EMPIRICAL[row["set"]].D(EMPIRICAL[row["set"]].breakdown(KAPLAN_TABLE_5_D)),
    "breakdown_L": lambda row: KAPLAN_TABLE_6.loss(EMPIRICAL[row["set"]].breakdown(KAPLAN_TABLE_5_D)),
    "alpha_C": alpha_C,
    "C_c": lambda row: FRONTIER[row["set"]].in_compute.C_c / (1.0 if row["value"] > 1e20 else PF_DAY),
    "exponent_N": lambda row: np.log10(KAPLAN_APPENDIX_B.N(1e21) / KAPLAN_APPENDIX_B.N(1e20)),
    "exponent_B": lambda row: np.log10(KAPLAN_APPENDIX_B.B(1e21) / KAPLAN_APPENDIX_B.B(1e20)),
    "exponent_S": lambda row: np.log10(KAPLAN_APPENDIX_B.S_min(1e21) / KAPLAN_APPENDIX_B.S_min(1e20)),
    "frontier_L": lambda row: FRONTIER[row["set"]].loss(flop(row)),
    "frontier_N": lambda row: FRONTIER[row["set"]].N(flop(row)),
    "frontier_S": lambda row: FRONTIER[row["set"]].S_min(flop(row)),
    "frontier_B": lambda row: FRONTIER[row["set"]].B(flop(row)),
    "size_near_convergence": lambda row: size_near_convergence(*excesses(row), alpha_N=KAPLAN_TABLE_3.alpha_N),
    "steps_near_convergence": lambda row: steps_near_convergence(*excesses(row), alpha_S=KAPLAN_TABLE_3.alpha_S),
    "steps_near_convergence_inverse": lambda row: steps_near_convergence(
        *reversed(excesses(row)), alpha_S=KAPLAN_TABLE_3.alpha_S
    ),
    "compute_near_convergence": lambda row: compute_near_convergence(*excesses(row), **exponents(row)),
    "compute_ratio_at_size": lambda row: compute_ratio_at_size(row["inputs"]["r"], **exponents(row)),
    "steps_ratio_at_size": lambda row: steps_ratio_at_size(row["inputs"]["r"], **exponents(row)),
    "parameters": lambda row: parameters(**row["inputs"]),
    "training_PF_days": lambda row: training_flop(**row["inputs"]) / PF_DAY,
    "forward_flop": lambda row: forward_flop(parameters(48, 1600), **row["inputs"]),
    "learning_rate": lambda row: learning_rate(**row["inputs"]),
    "hoffmann_L": lambda row: HOFFMANN[row["set"]].loss(**row["inputs"]),
    "N_opt": lambda row: HOFFMANN[row["set"]].N_opt(flop(row)),
    "D_opt": lambda row: HOFFMANN[row["set"]].D_opt(flop(row)),
    "D_over_N": lambda row: HOFFMANN[row["set"]].D_opt(flop(row)) / HOFFMANN[row["set"]].N_opt(flop(row)),
    "hoffmann_exponent": lambda row: HOFFMANN[row["set"]].exponent,
    "tissue_S1": lambda row: tissue_areas(row)[0],
    "tissue_S2": lambda row: tissue_areas(row)[1],
    "tissue_L": lambda row: tissue(row).loss(rates(row["inputs"]["schedule"]))[-1],
    "multi_power": lambda row: MULTI_POWER[row["set"]].loss(
        rates(row["inputs"]["schedule"]), row["inputs"]["step_index"] + 1
    ),
    "convex_terms": lambda row: bound_terms(rates(row["inputs"]["schedule"])),
    "convex_best": lambda row: best_rate(rates(row["inputs"]["schedule"])),
}


@pytest.mark.parametrize("row", golden("laws.json") + golden("later.json"))
def test_golden(row: Row) -> None:
    got = COMPUTED[row["what"]](row)
    if isinstance(row["value"], list):
        assert len(got) == len(row["value"])
        for x, value, printed in zip(got, row["value"], row["printed"], strict=True):
            assert x == pytest.approx(value, abs=half_unit(printed), rel=0)
    else:
        assert got == pytest.approx(row["value"], abs=half_unit(row["printed"]), rel=0)


@pytest.mark.parametrize("row", [p for p in golden("laws.json") + golden("later.json") if set_of(p) in PRESETS])
def test_the_presets_hold_the_constants_of_the_rows(row: Row) -> None:
    presets = (MIXED_ND,) if row["id"] == "G4b" else PRESETS[row["set"]]
    mine = {name: value for preset in presets for name, value in vars(preset).items()}
    shared = {name: value for name, value in row["constants"].items() if name in mine}
    assert shared or row["what"].startswith("L_C")  # scales in PF-days
    assert {name: mine[name] for name in shared} == shared
