"""I have a few finished runs: how would a model three times as large do, and what is best for a budget?

    python examples/10_plan_next_run.py

reads the store that ships with the package (byte-level transformers of six sizes on the source of Python's standard
library, see docs/ladder.md), forecasts a larger model before it begins, and asks the planner. For runs of your own put
`RunStore("your folder")` in its place. A few seconds on one CPU core.
"""

from __future__ import annotations

import argparse

from lightning_scaling import (
    LossCurve,
    PlanLaws,
    RunStore,
    example_store,
    fit_critical_batch,
    fit_joint,
    forecast,
    plan,
)
from lightning_scaling.planner import Explored


def main(store: RunStore, times: float, budget: float) -> None:
    runs = store.runs(state="finished")
    largest = max((run for run in runs if run.tags["schedule"] == "cosine"), key=lambda run: (run.N, run.horizon))
    print(f"{len(runs)} finished runs; the largest with a cosine decay is\n  {largest}\n")

    begun = LossCurve(S=[], L=[], N=times * largest.N)
    for name, known in (("without the store", None), ("with the store", store)):
        f = forecast(begun, horizon=largest.horizon, lr_schedule=largest.lr_schedule, store=known)
        print(f"N = {begun.N:.3g}, same steps and schedule, {name}: {f.final_loss} ({f.verdict})")

    constant = [run.curve for run in store.runs(tags={"schedule": "constant"}, state="finished")]
    ladder = [curve for curve in constant if curve.B[-1] == largest.batch]
    scan = [curve for curve in constant if sum(curve.N == other.N for other in constant) > 1]
    batch = fit_critical_batch(scan)
    joint = fit_joint(ladder, first=0.2)  # the first fifth of runs as short as these is transient
    print(f"\nL(N, S) at a constant rate: {joint}\nB_crit: {batch}\n")

    sizes, tokens = joint.sizes, (largest.batch * joint.steps[0], largest.batch * joint.steps[1])
    laws = PlanLaws(
        hoffmann=joint.hoffmann(largest.batch)[::10],  # two hundred draws are plenty for an interval
        source=f"fitted to {joint.n_runs} runs of this store at a constant rate, N without embeddings",
        level=0.9,
        explored_hoffmann=Explored(N=sizes, D=tokens),
    )
    spent = 6.0 * largest.N * largest.batch * largest.horizon
    print(f"The largest run took {spent:.2g} FLOP. What would be best for {budget:g} times as much?\n")
    print(plan(C=budget * spent, laws=laws))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=float, default=3.0, help="size asked about, over the largest (default: 3)")
    parser.add_argument("--budget", type=float, default=10.0, help="compute over that of the largest run (default: 10)")
    arguments = parser.parse_args()
    main(example_store(), arguments.times, arguments.budget)
