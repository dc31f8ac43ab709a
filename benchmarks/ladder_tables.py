"""The tables of the ladder page: pure functions from findings to rows of text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.ladder_findings import SHARES, Efficient, Ladder, Look, SizeLaw, common_levels, efficiency
from benchmarks.tables import Table
from lightning_scaling.batch_size.critical import CriticalBatchFit, steps_to_losses
from lightning_scaling.joint import JointFit
from lightning_scaling.ledger import holds


def run_table(ladder: Ladder) -> Table:
    rows = [
        (
            str(run.tags["name"]),
            f"{run.N:.0f}",
            str(run.tags["schedule"]),
            f"{run.horizon}",
            f"{run.batch:.0f}",
            f"{run.tags['peak_lr']:.2g}",
            f"{run.final_loss:.3f}±{run.final_loss_error:.3f}",
        )
        for run in sorted(ladder.runs, key=lambda r: (str(r.tags["part"]), r.N or 0.0, r.horizon or 0, r.batch or 0.0))
    ]
    header = ("run", "N", "schedule", "steps", "tokens per step", "peak rate", "final loss")
    return Table("The runs", "The final loss is the mean over the last 2 % of the run.", header, tuple(rows))


def size_table(laws: dict[str, tuple[SizeLaw, SizeLaw]]) -> Table:
    rows = []
    for kind, pair in laws.items():
        for law, name in zip(pair, ("power law", "power law and E"), strict=True):
            E = str(law.E) if law.E.high > 0.0 else "0"
            rows.append((f"{kind}, {name}", str(law.alpha_N), str(law.N_c), E, f"{law.residual:.4f}"))
    header = ("final loss at", "alpha_N", "N_c", "E", "rms residual [nats]")
    note = (
        "Least squares in log(L − E). Intervals: Student's t for the power law, the F-test over E for the law with an "
        "offset."
    )
    return Table("L against N", note, header, tuple(rows))


def joint_table(fits: dict[str, JointFit]) -> Table:
    rows = []
    for name, fit in fits.items():
        if fit.reason:
            rows.append((name, "no law", "–", "–", "–", "–", "–", "–"))
            continue
        cells = [str(getattr(fit, key)) for key in ("alpha_N", "alpha_S", "N_c", "S_c")]
        E = str(fit.E) if fit.offset else "0"
        own, shared = fit.scatter
        rows.append((name, *cells, E, f"{fit.residual:.4f}", f"{own:.4f} / {shared:.4f}"))
    header = ("fit", "alpha_N", "alpha_S", "N_c", "S_c", "E", "rms residual [nats]", "misfit, own / shared")
    return Table("L(N, S)", "", header, tuple(rows))


def efficiency_table(ladder: Ladder) -> Table:
    levels = common_levels(ladder.constant, 6)
    tokens = efficiency(ladder.constant, ladder.batch, levels)
    rows = [
        (f"{curve.N:.0f}", *(f"{t / 1e3:.0f}" if np.isfinite(t) else "–" for t in row))
        for curve, row in zip(ladder.constant, tokens, strict=True)
    ]
    header = ("N", *(f"L = {level:.2f}" for level in levels))
    return Table("Sample efficiency: thousands of tokens to a loss", "", header, tuple(rows))


def frontier_table(measured: Efficient, fits: dict[str, tuple[str, str]]) -> Table:
    rows = [("read off the curves", str(measured.N_power), str(measured.L_power))]
    rows += [(name, *powers) for name, powers in fits.items()]
    return Table("The compute frontier", "", ("from", "N grows as C^", "L falls as C^"), tuple(rows))


def batch_table(ladder: Ladder, fit: CriticalBatchFit) -> Table:
    levels = fit.losses[:: max(len(fit.losses) // 5, 1)]
    rows = []
    for run in ladder.scan:
        steps = steps_to_losses(run.curve, levels)
        cells = [f"{s:.0f}" if np.isfinite(s) else "–" for s in steps]
        rows.append((f"{run.batch:.0f}", f"{run.tags['peak_lr']:.2g}", *cells))
    crit = [f"{x:.0f}" for x in np.atleast_1d(fit.B_crit.mid)[:: max(len(fit.losses) // 5, 1)]]
    if crit and fit.critical is not None:
        rows.append(("B_crit [tokens]", "", *crit))
    header = ("tokens per step", "peak rate", *(f"L = {level:.2f}" for level in levels))
    return Table("Steps to a loss, by batch size", str(fit), header, tuple(rows))


def look_table(title: str, note: str, looks: Sequence[Look]) -> Table:
    rows = []
    for look in looks:
        truth = float(look.run.final_loss or np.nan)
        rows.append(
            (
                f"{look.run.tags['name']} ({truth:.3f})",
                f"{100 * look.share:.0f} %",
                *_said(look.with_store, truth),
                *_said(look.without, truth),
            )
        )
    header = ("run (ended at)", "seen", "with the store", "off", "without", "off")
    return Table(title, note, header, tuple(rows))


def look_means(looks: Sequence[Look]) -> Table:
    """Return mean errors, widths and coverage over runs, at each share."""
    rows = []
    for share in SHARES:
        here = [look for look in looks if look.share == share]
        cells = []
        for name in ("with_store", "without"):
            known = [(getattr(x, name).final_loss, float(x.run.final_loss or np.nan), x.run) for x in here]
            known = [one for one in known if np.isfinite(one[0].mid)]
            if not known:
                cells += ["–", "–", "–"]
                continue
            off = np.mean([abs(i.mid - truth) for i, truth, _ in known])
            width = np.mean([i.high - i.low for i, _, _ in known])
            held = sum(holds(i, truth) for i, truth, _ in known)
            cells += [f"{off:.3f}", f"{width:.3f}", f"{held} of {len(known)}"]
        rows.append((f"{100 * share:.0f} %", *cells))
    header = ("seen", "with: error", "width", "held", "without: error", "width", "held")
    note = "Mean error of the final loss and mean width of the 90 % interval [nats]."
    return Table("Every size left out in turn", note, header, tuple(rows))


def _said(forecast: object, truth: float) -> tuple[str, str]:
    loss = forecast.final_loss  # type: ignore[attr-defined]
    if not np.isfinite(loss.mid):
        return "–", "–"
    return str(loss), f"{loss.mid - truth:+.3f}"
