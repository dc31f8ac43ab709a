"""Write the page of the ladder: words, tables and pictures, all from the store."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.ladder_findings import FIRST, Ladder, Look, frontier, in_size
from benchmarks.ladder_pictures import draw_batch, draw_compute, draw_forecasts, draw_sizes
from benchmarks.ladder_planted import planted_table
from benchmarks.ladder_tables import (
    batch_table,
    efficiency_table,
    frontier_table,
    joint_table,
    look_means,
    look_table,
    run_table,
    size_table,
)
from lightning_scaling import Interval, RunStore
from lightning_scaling.joint import JointFit
from lightning_scaling.laws import CriticalBatch

PICTURES = ("sizes", "compute", "batch", "forecasts")

_INTRODUCTION = """\
# A ladder of models, and what its store says

Written by `python -m benchmarks.ladder report --store lightning_scaling/example_store --out docs/ladder.md`. The {n}
runs were trained by `python -m benchmarks.ladder train` on the source code of Python's standard library, as bytes,
through `ScalingLawMonitor(store=DIR)`: transformers of {layers} layers, {n_sizes} sizes from {least} to {most}
non-embedding parameters, {tokens:.0f} tokens (bytes) per step and {steps} steps unless the table says otherwise, AdamW,
{warm_up} steps of warm-up, decay to 10 % (cosine) or to 0 (WSD, in its last fifth; linear). No run reads a byte twice,
so the training loss is a loss on new data. Runs of one batch size read the same crops in the same order: much of their
noise is common, and they agree better with each other than the noise of each would let expect. Every run was trained
once; what another seed would change was not measured.

The store ships with the package: `lightning_scaling.store.example.example_store()`.
"""

_LEARNING_RATE = """\
Learning rates: `python -m benchmarks.ladder tune` trained {trial} steps at a constant rate, at 1/6, 1/3, 2/3 and 4/3 of
the rates of the ladder, at three widths. The largest rate was the best at all three (width 12: 2.889, 2.686, 2.497,
2.391; width 32: 2.623, 2.435, 2.302, 2.218; width 76: 2.395, 2.241, 2.148, 2.097). Longer runs want smaller rates, so
the ladder takes three quarters of it: {first:.2g} at width {width}, falling as width^{power:.1f} (about N^{per_N:.2f}),
and growing with the root of the batch size in the scan. None was tuned at the full length.
"""


def report(store: RunStore, out: Path | None = None) -> str:
    """Return the page; with ``out`` write it and its pictures.

    Args:
        store: The runs of a ladder.
        out: Markdown file; pictures go to ``img/`` beside it.
    """
    ladder = Ladder(store)
    laws = {
        kind: (in_size(*_ends(ladder, kind), offset=False), in_size(*_ends(ladder, kind), offset=True))
        for kind in ladder.by_schedule
    }
    batch = ladder.batch_fit()
    fits = {
        "without E": ladder.joint(offset=False),
        "with E": ladder.joint(offset=True),
        "with E, from 5 % of the run": ladder.joint(offset=True, first=0.05),
    }
    if batch.critical is not None:
        fits["without E, in S_min"] = ladder.joint(offset=False, critical=batch.critical)
    measured = frontier(ladder.constant, ladder.batch)
    smaller = [look for kind in ladder.by_schedule for look in ladder.looks(kind, only_smaller=True, least=-1)]
    each = [look for kind in ladder.by_schedule for look in ladder.looks(kind, only_smaller=False)]
    if out is not None:
        folder = out.parent / "img"
        folder.mkdir(parents=True, exist_ok=True)
        at = {name: folder / f"{out.stem}_{name}.png" for name in PICTURES}
        draw_sizes(ladder, laws, fits, at["sizes"])
        draw_compute(ladder, fits["with E"], at["compute"])
        draw_batch(ladder, batch, at["batch"])
        draw_forecasts(smaller, at["forecasts"])
    stem = "ladder" if out is None else out.stem
    parts = [
        _introduction(ladder),
        _learning_rate(ladder),
        "## Size\n",
        size_table(laws).markdown(),
        f"![Final loss against N with both laws, and loss against steps with the joint fit](img/{stem}_sizes.png)\n",
        _wrapped(_of_sizes(laws)),
        "## Size and steps\n",
        "Fitted by `lightning_scaling.joint.fit_joint` to the runs at a constant rate, their first "
        f"{100 * FIRST:.0f} % left out.\n",
        joint_table(fits).markdown(),
        _wrapped(_of_joint(fits)),
        planted_table(_ends(ladder, "constant")[0], int(ladder.by_schedule["constant"][0].horizon or 0)).markdown(),
        "## Sample efficiency and the compute frontier\n",
        efficiency_table(ladder).markdown(),
        frontier_table(measured, _powers(fits, batch.critical)).markdown(),
        f"![Loss against tokens and against compute](img/{stem}_compute.png)\n",
        _wrapped(_of_frontier()),
        "## Batch size\n",
        batch_table(ladder, batch).markdown(),
        f"![Steps and tokens to a loss at several batch sizes](img/{stem}_batch.png)\n",
        _wrapped(_of_batch(batch.residual, ladder)),
        "## Forecasts with the store\n",
        look_table(
            "The largest size, from smaller ones",
            "The store lends only the runs of smaller models, of all schedules and lengths.",
            smaller,
        ).markdown(),
        f"![Forecasts of the largest run with and without the store](img/{stem}_forecasts.png)\n",
        look_means(each).markdown(),
        _wrapped(_of_looks(each)),
        "## All runs\n",
        run_table(ladder).markdown(),
    ]
    page = "\n".join(part for part in parts if part)
    if out is not None:
        out.write_text(page, encoding="utf-8")
    return page


def _ends(ladder: Ladder, kind: str) -> tuple[np.ndarray, np.ndarray]:
    runs = ladder.by_schedule[kind]
    return np.array([float(r.N or 0.0) for r in runs]), np.array([float(r.final_loss or 0.0) for r in runs])


def _introduction(ladder: Ladder) -> str:
    from benchmarks.ladder_recipes import WARM_UP

    sizes = sorted({float(run.N or 0.0) for run in ladder.runs})
    first = ladder.by_schedule["constant"][0]
    return _INTRODUCTION.format(
        n=len(ladder.runs),
        layers=first.tags["depth"],
        n_sizes=len(sizes),
        least=f"{sizes[0]:,.0f}".replace(",", " "),
        most=f"{sizes[-1]:,.0f}".replace(",", " "),
        tokens=ladder.batch,
        steps=first.horizon,
        warm_up=WARM_UP,
    )


def _learning_rate(ladder: Ladder) -> str:
    from benchmarks.ladder_training import TRIAL_STEPS

    first, last = (ladder.by_schedule["constant"][k] for k in (0, -1))
    rates, widths, sizes = (
        np.log([float(run.tags[key]) if key != "N" else float(run.N or 1.0) for run in (first, last)])
        for key in ("peak_lr", "width", "N")
    )
    return _LEARNING_RATE.format(
        trial=TRIAL_STEPS,
        first=first.tags["peak_lr"],
        width=first.tags["width"],
        power=np.diff(rates)[0] / np.diff(widths)[0],
        per_N=np.diff(rates)[0] / np.diff(sizes)[0],
    )


def _of_sizes(laws: dict) -> str:
    plain, offset = laws["cosine"]
    better = plain.residual / max(offset.residual, 1e-9)
    known = "is not told from zero" if offset.E.low <= 0.0 else "is above zero"
    return (
        f"At the end of the cosine the offset {known} and makes the residual {better:.1f} times smaller, with one "
        "constant more. The power law of Kaplan et al. has alpha_N = 0.076 on WebText2 at "
        "convergence; these runs are short, small and on bytes, so only the form can be compared.\n"
    )


def _of_joint(fits: dict[str, JointFit]) -> str:
    plain, offset = fits["without E"], fits["with E"]
    if plain.reason or offset.reason:
        return ""
    wide = [f"{n} by a factor {_factor(getattr(offset, n)):.2g}" for n in ("alpha_N", "alpha_S", "N_c", "S_c")]
    return (
        "How well: with E the ends of the 90 % intervals differ by these factors: "
        + ", ".join(wide)
        + f". Without E the fit is off by {plain.residual:.3f} nats (rms), with it by {offset.residual:.3f}; part of "
        "that is the noise of the windows. The misfit of the last column is what the law leaves of each run beyond "
        "that noise, and what it leaves of all runs alike, such as the early transient and the common order of the "
        "data. The misfit of single runs is real: the smallest model flattens earlier than a sum of a term in N and a "
        "term in S can." + _of_joint_in_min(fits) + "\n"
    )


def _of_joint_in_min(fits: dict) -> str:
    found = fits.get("without E, in S_min")
    if found is None:
        return ""
    told = (
        " The last row turns steps into S_min by the batch-size scan below, which is extrapolated there to losses that "
        "the scan did not reach: "
    )
    if found.reason:
        return f"{told}the steps that come of it carry no law, so there is no frontier in C_min either."
    return f"{told}its intervals are too narrow, as its residual shows."


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120) + "\n" if text else ""


def _of_looks(looks: Sequence[Look]) -> str:
    def error(name: str, share: float) -> float:
        here = [look for look in looks if look.share == share]
        return float(np.mean([abs(getattr(x, name).final_loss.mid - float(x.run.final_loss or 0.0)) for x in here]))

    before, tenth, fifth, half = (error("with_store", share) for share in (0.0, 0.1, 0.2, 0.5))
    text = (
        f"With other sizes in the store the end is known to {before:.3f} nats before the run begins and to {half:.3f} "
        f"half way, where a run alone is off by {error('without', 0.5):.3f}. "
    )
    if min(tenth, fifth) > before:
        text += (
            f"In between it is known less well ({tenth:.3f} at 10 %, {fifth:.3f} at 20 %): once a run has losses of "
            "its own, what its kin said of the level of its end is no longer asked, and its transient misleads."
        )
    return text


def _factor(interval: Interval) -> float:
    return float(interval.high) / float(interval.low)


def _powers(fits: dict[str, JointFit], critical: CriticalBatch | None) -> dict[str, tuple[str, str]]:
    """Return the powers of N and L along the frontier that each joint fit implies."""
    found = {}
    offset = fits["with E"]
    if not offset.reason:
        a_N, a_S = offset.draws[:, 0], offset.draws[:, 1]
        # At a fixed batch C = 6 N B S: the optimum of E + a N^-alpha_N + b (N/C)^alpha_S (Hoffmann et al. 2022).
        found["L(N, S) with E, at this batch"] = (
            str(_quantiles(a_S / (a_N + a_S))),
            f"{_quantiles(-a_N * a_S / (a_N + a_S))} (of L − E)",
        )
    plain = fits["without E"]
    if not plain.reason:
        a_N, a_S = plain.draws[:, 0], plain.draws[:, 1]
        found["L(N, S) without E, at this batch"] = (
            str(_quantiles(a_S / (a_N + a_S))),
            str(_quantiles(-a_N * a_S / (a_N + a_S))),
        )
    in_min = fits.get("without E, in S_min")
    if in_min is not None and not in_min.reason and critical is not None:
        a_N, a_S = in_min.draws[:, 0], in_min.draws[:, 1]
        a_C = 1.0 / (1.0 / a_S + 1.0 / critical.alpha_B + 1.0 / a_N)
        found["Kaplan's App. B, in C_min"] = (str(_quantiles(a_C / a_N)), str(_quantiles(-a_C)))
    return found


def _quantiles(values: np.ndarray) -> Interval:
    low, mid, high = np.quantile(values, [0.05, 0.5, 0.95])
    return Interval(low, mid, high, 0.9)


def _of_frontier() -> str:
    return (
        "Compute is 6 N B S without embeddings and head, which are most of the smallest models: the frontier of all "
        "compute lies elsewhere. What is read off the curves leaves out the smallest and the largest model, which "
        "are the best only where there is no other; its intervals are those of a straight line through neighbouring "
        "points, and too narrow. The other rows follow from the constants of the joint fits.\n"
    )


def _of_batch(residual: float, ladder: Ladder) -> str:
    if not (ladder.scan and np.isfinite(residual)):
        return ""
    return (
        f"Runs at width {ladder.scan[0].tags['width']} and a constant rate, compared at losses that all came to "
        "after twice their warm-up and a tenth of their steps. The interval holds what the choice of these losses "
        f"changes. Residual of log steps: {residual:.3f} (rms). B_* and alpha_B rest on the rates that were taken to "
        "suit each batch.\n"
    )
