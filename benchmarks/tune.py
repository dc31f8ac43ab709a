"""How much of the accuracy is owed to constants that were chosen on the same runs?

    python -m benchmarks.tune --curves DIR [--candidates 300] [--out docs/tuning.md]

The engine's prior holds a dozen constants, the same for every run. This draws other sets of them at random around the
shipped ones, scores all on finished runs, and for each source takes the set that is best on all *other* sources and
scores it on the one left out. What a source loses by that is what choosing with it in sight had bought. It is a lower
bound: the form of the model and the sets to draw from were thought of with all the runs in sight.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.curves import FRACTIONS, Task, load_curves, make_tasks
from benchmarks.predictions import PROBABILITIES, Prediction
from benchmarks.scores import Score, score
from lightning_scaling import LossCurve, LRSchedule
from lightning_scaling.fit.annealing import Response
from lightning_scaling.fit.prior import DEFAULT_PRIOR, Prior, Signed, Unbounded
from lightning_scaling.fit.record import fit
from lightning_scaling.forecast.readout import now_final_change, one_of

SPACE: dict[str, list[object]] = {
    "alphas": [(0.25, 0.35, 0.42, 0.5, 0.58, 0.7, 0.9, 1.3), (0.2, 0.32, 0.42, 0.5, 0.58, 0.7, 0.9, 1.2, 1.6)],
    "log_alpha": [(math.log(a), sd) for a in (0.45, 0.5, 0.55, 0.6) for sd in (0.15, 0.25, 0.4)],
    "delays": [
        (0.0,),
        (0.0, 0.02, 0.06, 0.15),
        (0.0, 0.01, 0.03, 0.07, 0.15, 0.3),
        (0.0, 0.01, 0.02, 0.035, 0.06, 0.1, 0.17, 0.28),
    ],
    "responses": [
        (Response(0.0, 0.7), Response(0.01, 0.6)),
        (Response(0.0, 1.0), Response(0.01, 0.6)),
        (Response(0.0, 0.7), Response(0.003, 0.6), Response(0.02, 0.6)),
        (Response(0.001, 0.6), Response(0.005, 0.6), Response(0.03, 0.6)),
    ],
    "excess": [(0.5, 1.0), (0.5, 2.0), (0.7, 0.7), (0.7, 0.4)],
    "decay": [1.0, 1.5, 2.0, 3.0],
    "decay_share": [0.04, 0.05, 0.06, 0.075],
    "decay_spread": [0.25, 0.35, 0.45, 0.6],
    "decay_none": [0.01, 0.03, 0.08],
    "slope_exponent": [0.0, 0.15, 0.3, 0.5],
    "decay_most": [0.4, 0.6, 0.9],
    "unbounded": [
        Unbounded(come=come, scatter=scatter, share=share, spread=spread)
        for come, scatter in ((4.0, 0.05), (6.0, 0.06), (8.0, 0.12))
        for share, spread in ((2.0, 1.0), (4.0, 0.7), (3.0, 1.0))
    ],
    "signed": [Signed(share, spread) for share in (0.02, 0.05) for spread in (0.3, 0.7)],
    "hidden_decay": [(0.05, 0.7), (0.1, 0.7), (0.1, 1.0), (0.2, 0.7), (0.3, 1.0)],
    "misfits": [(0.02, 0.08), (0.02, 0.12), (0.02, 0.06, 0.2), (0.03, 0.12), (0.015, 0.06)],
    "growths": [(1.0, 2.5), (1.0, 2.0), (1.0, 1.8, 3.0), (1.5,), (2.5,)],
    "trust": [0.0, 0.3, 0.5, 0.7, 1.0],
    "misfit_length": [1.0, 1.5, 2.5],
    "record": [(nu, s) for nu in (1.0, 2.0, 3.0) for s in (0.4, 0.6)],
    "windows_per_e_fold": [24, 32],
    "e_folds": [3.0, 4.0],
    "outlier": [4.0, 5.0, 7.0],
}


def candidates(n: int, seed: int) -> Iterator[Prior]:
    """Yield the default prior, then n - 1 others: one to all of its constants drawn anew."""
    rng = np.random.default_rng(seed)
    yield DEFAULT_PRIOR
    names = list(SPACE)
    for _ in range(n - 1):
        size = int(np.round(np.exp(rng.uniform(0.0, math.log(len(names))))))
        chosen = rng.choice(names, size=size, replace=False)
        drawn: dict[str, Any] = {str(name): SPACE[name][rng.integers(len(SPACE[name]))] for name in chosen}
        yield replace(DEFAULT_PRIOR, **drawn)


def _schedule(task: Task) -> LRSchedule:
    return LRSchedule.constant(task.T) if task.rates is None else LRSchedule.from_array(task.rates)


def predict(curve: LossCurve, schedule: LRSchedule, prior: Prior) -> Prediction:
    """Forecast the loss over the last 2 % of a run."""
    posterior = fit(curve, schedule, prior).posterior
    final = one_of(now_final_change(posterior, curve.step, schedule.horizon), 1)
    quantiles = final.quantiles(PROBABILITIES)[:, 0]
    return Prediction(float(quantiles[PROBABILITIES.size // 2]), quantiles)


def scores_of(prior: Prior, runs: Sequence[tuple[Task, LossCurve, LRSchedule]]) -> list[Score]:
    with np.errstate(all="ignore"):
        return [score(task, "", predict(curve, schedule, prior), 0.0) for task, curve, schedule in runs]


def objective(scores: Sequence[Score]) -> float:
    """Return mean normalised CRPS plus half the normalised error, and a price on covering less than 90 %."""
    total = 0.0
    for fraction in FRACTIONS:
        part = [s for s in scores if s.fraction == fraction]
        groups = sorted({s.group for s in part})
        if not groups:
            continue
        rows = np.array([_row([s for s in part if s.group == group]) for group in groups])
        error, crps, inside = rows.mean(axis=0)
        total += float(crps + 0.5 * error + 0.8 * max(0.0, 0.9 - inside))
    return total / len(FRACTIONS)


def _row(scores: Sequence[Score]) -> tuple[float, float, float]:
    """Return the mean normalised error, normalised CRPS and coverage of 90 % of some scores."""
    return (
        float(np.mean([s.normalised_error for s in scores])),
        float(np.mean([s.normalised_crps for s in scores])),
        float(np.mean([s.covers(0.9) for s in scores])),
    )


def table(groups: Sequence[str], default: dict[str, list[Score]], held_out: dict[str, list[Score]]) -> str:
    lines = [
        "| source left out | runs | error, shipped | error, left out | CRPS, shipped | CRPS, left out | "
        "inside 90 %, shipped | inside 90 %, left out |",
        "|:--|--:|--:|--:|--:|--:|--:|--:|",
    ]
    rows = []
    for group in groups:
        pair = [_row([s for s in part[group] if s.horizon_known]) for part in (default, held_out)]
        rows.append([x for both in zip(*pair, strict=True) for x in both])
        runs = len({s.curve for s in default[group]})
        lines.append(_line(group, str(runs), rows[-1]))
    lines.append(_line("mean, each source once", "", list(np.mean(rows, axis=0))))
    return "\n".join(lines)


def _line(name: str, runs: str, row: Sequence[float]) -> str:
    cells = [f"{x:.3f}" for x in row[:4]] + [f"{100 * x:.0f} %" for x in row[4:]]
    return f"| {name} | {runs} | " + " | ".join(cells) + " |"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, required=True, help="folder of finished runs")
    parser.add_argument("--candidates", type=int, default=300, help="sets of constants to score")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="markdown page to write")
    options = parser.parse_args(arguments)
    curves = [curve for curve in load_curves(options.curves) if curve.horizon_known]
    runs = [(task, LossCurve(task.S, task.L), _schedule(task)) for task in make_tasks(curves, FRACTIONS)]
    groups = sorted({task.curve.group for task, _, _ in runs})
    if len(groups) < 2:
        print("Leaving a source out needs runs of two sources or more.", file=sys.stderr)
        return 1
    priors, every = [], []
    for prior in candidates(options.candidates, options.seed):
        priors.append(prior)
        every.append(scores_of(prior, runs))
        print(f"\r{len(every)} of {options.candidates} sets scored", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    held_out, chosen = {}, {}
    for group in groups:
        losses = [objective([s for s in scores if s.group != group]) for scores in every]
        chosen[group] = int(np.argmin(losses))
        held_out[group] = [s for s in every[chosen[group]] if s.group == group]
    default = {group: [s for s in every[0] if s.group == group] for group in groups}
    best = int(np.argmin([objective(scores) for scores in every]))
    names = [f.name for f in fields(Prior) if getattr(priors[best], f.name) != getattr(DEFAULT_PRIOR, f.name)]
    changed = ", ".join(f"{name} = {getattr(priors[best], name)}" for name in names)
    text = (
        f"Scored {len(every)} sets of constants on {len(curves)} runs of {len(groups)} sources, at "
        f"{', '.join(f'{100 * f:.0f}' for f in FRACTIONS)} % of each run. Errors and CRPS are in units of the last "
        f"value's miss.\n\n{table(groups, default, held_out)}\n\n"
        f"Objective of the shipped constants on all sources {objective(every[0]):.4f}; the best of the sets drawn "
        f"{objective(every[best]):.4f}, which differs in {changed or 'nothing'}.\n"
    )
    print(text)
    if options.out is not None:
        explained = (__doc__ or "").split("\n\n", 2)[2].strip()
        options.out.write_text(f"# What tuning bought\n\n{explained}\n\n{text}", encoding="utf-8")
        print(f"Wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
