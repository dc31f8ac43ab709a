"""Why does the law have a delay?

    python -m benchmarks.burn_in --curves DIR [--out docs/burn_in.md]

A run at a constant learning rate is where the law is by itself: nothing but E + A t^-α is left of it. This fits the
whole of every such run of a folder (see `benchmarks.curves` for its form) by robust least squares, with the time t
counted in three ways: in steps; in steps less a delay δ ("hard"); and as the engine counts it, where the delay is run
up over the first steps ("smooth": `lightning_scaling.fit.power.effective_time`). A law that lacks the delay it needs
misses the first logs, or takes too large an exponent to reach them, mostly both; with it, one curve follows a run from
its first logs to its last. Where all three miss the first logs, the beginning is a power law in none of these times,
and α and δ say little.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import OptimizeResult, least_squares, minimize_scalar

from benchmarks.curves import RunCurve, load_curves
from benchmarks.least_squares import thin
from benchmarks.tables import Table
from lightning_scaling.fit.power import effective_time

Array = NDArray[np.float64]

#: Fewest logged points of a run that is fitted.
MIN_POINTS = 40
#: A run's first points.
N_FIRST = 3

_TIMES: Mapping[str, Callable[[Array, float], Array]] = {
    "no delay": lambda S, delay: S,
    "hard": lambda S, delay: S - delay,
    "smooth": lambda S, delay: effective_time(S, np.array(delay)),
}
FORMS = tuple(_TIMES)

_ALPHAS = (0.03, 4.0)
#: Delays that are tried, evenly in their logs; between the neighbours of the best one it is then sought to this share.
_N_DELAYS, _PRECISION = 30, 1e-3
#: Residuals that are small, as a share of the range of the losses: of larger ones the size counts, not the square.
_SMALL = 1e-3


@dataclass(frozen=True)
class Fitted:
    """One form of the law, fitted to one run.

    Attributes:
        alpha: Exponent [1].
        delay: delta [steps], 0 in the form without it.
        first: Root mean square residual of the first three logged points [unit of the loss].
        late: The same of the points in the later half of the steps.
    """

    alpha: float
    delay: float
    first: float
    late: float


def fit(curve: RunCurve, form: str) -> Fitted:
    """Fit E + A t^-alpha to a whole run, in windows evenly spaced in log step of which each counts the same.

    Args:
        curve: A run at a constant rate.
        form: How the time is counted, out of `FORMS`.
    """
    S, L, time = curve.S, curve.L, _TIMES[form]
    unit, end = float(np.ptp(L)), np.array([float(curve.T)])
    windows = thin(S, L)
    y = (windows.L - L.min()) / unit

    def law(p: Array, delay: float, steps: Array) -> Array:
        return np.asarray(p[0] + p[1] * (time(steps, delay) / time(end, delay)) ** -p[2])

    def solve(delay: float) -> OptimizeResult:
        return least_squares(
            lambda p: law(p, delay, windows.S) - y,
            [y[-1] - 0.2, 0.2, 0.5],
            bounds=([-np.inf, 0.0, _ALPHAS[0]], [np.inf, np.inf, _ALPHAS[1]]),
            loss="soft_l1",
            f_scale=_SMALL,
            x_scale="jac",
        )

    delay = 0.0
    if form != "no delay":
        # A hard delay ends before the first log; a smooth one may last into the run.
        longest = 0.99 * S[0] if form == "hard" else max(0.99 * S[0], 0.3 * curve.T)
        tried = np.geomspace(0.01 * S[0], longest, _N_DELAYS)
        # More than one minimum is common, one on either side of half the first step, so all the range is looked at.
        best = int(np.argmin([solve(float(d)).cost for d in tried]))
        around = np.log(tried[[max(best - 1, 0), min(best + 1, _N_DELAYS - 1)]])
        sought = minimize_scalar(
            lambda x: solve(float(np.exp(x))).cost, bounds=around, method="bounded", options={"xatol": _PRECISION}
        )
        delay = float(np.exp(sought.x))
    p = solve(delay).x
    residuals = L - L.min() - unit * law(p, delay, S)
    return Fitted(float(p[2]), delay, _rms(residuals[:N_FIRST]), _rms(residuals[S > 0.5 * curve.T]))


def _rms(x: Array) -> float:
    return float(np.sqrt(np.mean(x**2)))


def usable(curve: RunCurve) -> bool:
    """Tell whether a run is at a constant rate, finished and logged often enough."""
    return curve.schedule == "constant" and curve.horizon_known and len(curve.S) >= MIN_POINTS


def group_table(curves: Sequence[RunCurve], fits: Sequence[Mapping[str, Fitted]]) -> Table:
    """Return for each source the range of the exponent and the medians of what the fits leave."""
    rows = []
    for group in dict.fromkeys(curve.group for curve in curves):
        here = [fitted for curve, fitted in zip(curves, fits, strict=True) if curve.group == group]
        for form in FORMS:
            mine = [fitted[form] for fitted in here]
            alphas = [f.alpha for f in mine]
            spread = f"{min(alphas):.2f} to {max(alphas):.2f}" if len(mine) > 1 else f"{alphas[0]:.2f}"
            delay, first, late = np.median([(f.delay, f.first, f.late) for f in mine], axis=0)
            rows.append((group, str(len(mine)), form, spread, _steps(delay), f"{first:.4f}", f"{late:.4f}"))
    header = ("source", "runs", "time", "α", "δ, median [steps]", f"first {N_FIRST} points", "later half")
    note = "Root mean square residuals of the first points and of the later half [unit of the loss], medians over runs."
    return Table("By source", note, header, tuple(rows))


def curve_table(curves: Sequence[RunCurve], fits: Sequence[Mapping[str, Fitted]]) -> Table:
    """Return every run, the three forms side by side in each cell."""
    rows = []
    for curve, fitted in zip(curves, fits, strict=True):
        mine = [fitted[form] for form in FORMS]
        cells = (
            " / ".join(text)
            for text in zip(
                *((f"{f.alpha:.2f}", _steps(f.delay), f"{f.first:.4f}", f"{f.late:.4f}") for f in mine), strict=True
            )
        )
        rows.append((curve.id, *cells))
    header = ("run", "α", "δ [steps]", f"first {N_FIRST} points", "later half")
    note = f"In every cell: {' / '.join(FORMS)}."
    return Table("Every run", note, header, tuple(rows))


def _steps(delay: float) -> str:
    return f"{delay:.0f}" if delay else "–"


def main(arguments: Sequence[str] | None = None) -> int:
    """Fit, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True, help="folder of finished runs with an index.json")
    parser.add_argument("--out", type=Path, help="markdown page to write")
    options = parser.parse_args(arguments)
    every = load_curves(options.curves)
    curves = [curve for curve in every if usable(curve)]
    if not curves:
        print(
            f'Expected a run with "schedule": "constant" in index.json, a known horizon and {MIN_POINTS} points or '
            f"more, got none among {len(every)}: nothing to fit.",
            file=sys.stderr,
        )
        return 1
    fits = [{form: fit(curve, form) for form in FORMS} for curve in curves]
    text = "\n".join(table(curves, fits).markdown() for table in (group_table, curve_table))
    print(text)
    if options.out is not None:
        explained = (__doc__ or "").split("\n\n", 2)[2].strip()
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(f"# Why the law has a delay\n\n{explained}\n\n{text}", encoding="utf-8")
        print(f"Wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
