"""How often the intervals of `fit_joint` hold constants that are known, because the runs were made by the law."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from benchmarks.tables import Table
from lightning_scaling import CurveBuilder, LossCurve
from lightning_scaling.joint import fit_joint

NAMES = ("alpha_N", "alpha_S", "N_c", "S_c", "E")
#: Constants of the law that the runs are made by, without and with an irreducible loss.
KAPLAN, WITH_E = (0.1, 0.5, 1e8, 20.0, 0.0), (0.3, 0.5, 1e4, 20.0, 1.0)
#: Noise of single steps and scatter from run to run [nats].
_NOISE, _SCATTER = 0.1, 0.01


def simulate(
    rng: np.random.Generator, constants: tuple[float, ...], scatter: float, N: NDArray[np.float64], steps: int
) -> list[LossCurve]:
    """Return a run of each size in the windows that a live run is kept in."""
    alpha_N, alpha_S, N_c, S_c, E = constants
    S, runs = np.arange(1, steps + 1), []
    for size in N:
        builder = CurveBuilder()
        L = E + (N_c / size) ** alpha_N + (S_c / S) ** alpha_S + scatter * rng.standard_normal()
        builder.extend(S, L + _NOISE * rng.standard_normal(steps))
        c = builder.curve()
        runs.append(LossCurve(c.S, c.L, N=float(size), count=c.count, step=c.step))
    return runs


def planted_table(N: NDArray[np.float64], steps: int, n: int = 40) -> Table:
    """Return the share of 90 % intervals that held, for sizes and a length as those of a ladder."""
    rows = []
    for name, constants in (("without E", KAPLAN), ("with E", WITH_E)):
        for scatter in (0.0, _SCATTER):
            rng, held = np.random.default_rng(0), []
            for _ in range(n):
                fit = fit_joint(simulate(rng, constants, scatter, N, steps), offset=constants[-1] > 0.0)
                intervals = [getattr(fit, key) for key in NAMES]
                held.append([i.low <= value <= i.high for i, value in zip(intervals, constants, strict=True)])
            cells = [f"{100 * share:.0f} %" for share in np.mean(held, axis=0)]
            rows.append((f"{name}, scatter {scatter:g}", *(cells if constants[-1] else [*cells[:-1], "–"])))
    note = (
        f"{n} simulated ladders in each row, of {N.size} sizes and {steps} steps, the noise of a step {_NOISE:g} nats; "
        "scatter: what one run lies above or below the law as a whole [nats]."
    )
    return Table("Planted constants: share of the 90 % intervals that held", note, ("law", *NAMES), tuple(rows))
