"""The pictures of the ladder page. Matplotlib is imported inside: the numbers do without it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.ladder_findings import Efficient, Ladder, Look, SizeLaw
from lightning_scaling import LossCurve
from lightning_scaling.batch_size.critical import CriticalBatchFit, steps_to_losses
from lightning_scaling.joint import JointFit
from lightning_scaling.pictures.colours import COLOURS, GREY

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

_DPI = 110
#: Share of a run below which its steps are left out of a picture.
_FIRST = 0.02


def draw_sizes(ladder: Ladder, laws: dict[str, tuple[SizeLaw, SizeLaw]], fits: dict[str, JointFit], path: Path) -> None:
    """Draw the final losses against N with both laws, and all constant runs with the joint fit."""
    figure = _figure(9.0, 3.8)
    left, right = figure.subplots(1, 2)
    for (kind, (plain, offset)), colour in zip(laws.items(), COLOURS, strict=False):
        runs = ladder.by_schedule[kind]
        N = np.array([float(r.N or 0.0) for r in runs])
        left.errorbar(
            N, [r.final_loss for r in runs], [r.final_loss_error for r in runs], fmt="o", ms=5, color=colour, label=kind
        )
        x = np.geomspace(0.8 * N[0], 3.0 * N[-1], 100)
        left.plot(x, offset.loss(x), color=colour, lw=1.4)
        left.plot(x, plain.loss(x), color=colour, lw=1.2, ls="--")
    left.plot([], [], color=GREY, lw=1.4, label="E + power law")
    left.plot([], [], color=GREY, lw=1.2, ls="--", label="power law")
    left.set(xscale="log", yscale="log", xlabel="non-embedding parameters N", ylabel="final loss [nats/byte]")
    left.legend(frameon=False)
    _plain(left, "L against N")
    fit = fits["with E"] if not fits["with E"].reason else fits["without E"]
    for curve, colour in zip(ladder.constant, _ramp(len(ladder.constant)), strict=True):
        _line(right, _thin(curve), colour, ".", f"{_short(curve.N)}", ms=4)
        if not fit.reason:
            S = np.geomspace(fit.steps[0], curve.step, 60)
            right.plot(S, fit.loss(curve.N or 1.0, S).mid, color=colour, lw=1.5)
    right.set(xscale="log", yscale="log", xlabel="optimizer step", ylabel="loss [nats/byte]")
    right.legend(title="N", frameon=False, markerscale=2.5)
    _plain(right, "L(N, S): the runs, and the joint fit")
    _ticks(left, right)
    figure.savefig(path, dpi=_DPI)


def draw_compute(ladder: Ladder, measured: Efficient, path: Path) -> None:
    """Draw the loss against tokens and against compute."""
    figure = _figure(9.0, 3.8)
    left, right = figure.subplots(1, 2)
    for curve, colour in zip(ladder.constant, _ramp(len(ladder.constant)), strict=True):
        thin = _thin(curve)
        for ax, factor in ((left, ladder.batch), (right, 6.0 * (curve.N or 1.0) * ladder.batch)):
            ax.plot(factor * thin.S, thin.L, color=colour, lw=1.3, label=_short(curve.N))
    right.plot(measured.C, measured.L, color="black", lw=1.2, ls="--", label="frontier")
    left.set(xscale="log", yscale="log", xlabel="tokens", ylabel="loss [nats/byte]")
    right.set(xscale="log", yscale="log", xlabel="compute 6 N B S [FLOP]")
    right.legend(title="N", frameon=False)
    _plain(left, "Sample efficiency: larger models need fewer tokens")
    _plain(right, "Compute frontier")
    _ticks(left, right)
    figure.savefig(path, dpi=_DPI)


def draw_batch(ladder: Ladder, fit: CriticalBatchFit, path: Path) -> None:
    """Draw steps against tokens to a few losses, with the hyperbolas of the fit, and B_crit against the loss."""
    figure = _figure(9.0, 3.8)
    left, right = figure.subplots(1, 2)
    chosen = np.unique(np.linspace(0, len(fit.losses) - 1, 4).round().astype(int)) if len(fit.losses) else []
    for k, colour in zip(chosen, _ramp(len(chosen)), strict=False):
        level = fit.losses[k]
        S = np.array([float(steps_to_losses(run.curve, [level])[0]) for run in ladder.scan])
        B = np.array([float(run.batch or np.nan) for run in ladder.scan])
        left.plot(S, S * B, "o", ms=5, color=colour, label=f"{level:.2f}")
        if fit.critical is not None:
            sizes = np.geomspace(0.4 * B.min(), 3.0 * B.max(), 80)
            steps = fit.S_min[k] * (1.0 + np.atleast_1d(fit.B_crit.mid)[k] / sizes)
            left.plot(steps, steps * sizes, color=colour, lw=1.2)
    left.set(xscale="log", yscale="log", xlabel="steps", ylabel="tokens")
    left.legend(title="loss", frameon=False)
    _plain(left, "Steps and tokens to a loss, one dot per batch size")
    if fit.critical is not None:
        low, mid, high = (np.atleast_1d(x) for x in (fit.B_crit.low, fit.B_crit.mid, fit.B_crit.high))
        if np.isfinite(low).all():
            right.fill_between(fit.losses, low, high, color=_thinned(COLOURS[1]), lw=0, label="90 % interval")
        right.plot(fit.losses, mid, color=COLOURS[1], lw=1.6, label="B_crit")
        for run in ladder.scan:
            right.axhline(float(run.batch or 0.0), color=GREY, lw=0.8, ls=":")
        right.plot([], [], color=GREY, lw=0.8, ls=":", label="batch sizes of the scan")
        right.set(xscale="log", yscale="log", xlabel="loss [nats/byte]", ylabel="batch [tokens]")
        right.invert_xaxis()
        right.legend(frameon=False, loc="lower right", bbox_to_anchor=(1.0, 0.05))
        _ticks_x(right)
    _plain(right, "Critical batch size against the loss")
    figure.savefig(path, dpi=_DPI)


def draw_forecasts(looks: Sequence[Look], path: Path) -> None:
    """Draw what was forecast of the largest runs, with the store and without, at each share."""
    names = list(dict.fromkeys(str(look.run.tags["name"]) for look in looks))
    figure = _figure(9.0, 3.6)
    axes = np.atleast_1d(figure.subplots(1, len(names)))
    for ax, name in zip(axes, names, strict=True):
        mine = [look for look in looks if look.run.tags["name"] == name]
        truth = float(mine[0].run.final_loss or np.nan)
        error = mine[0].run.final_loss_error
        ax.axhspan(truth - error, truth + error, color="0.85", lw=0)
        ax.axhline(truth, color="black", lw=1.0)
        for k, look in enumerate(mine):
            for what, colour, off in (
                (look.with_store, COLOURS[1], -0.12),
                (look.without, COLOURS[0], 0.12),
            ):
                loss = what.final_loss
                if np.isfinite(loss.mid):
                    sides = [[loss.mid - loss.low], [loss.high - loss.mid]]
                    ax.errorbar([k + off], [loss.mid], sides, fmt="o", ms=5, color=colour, lw=2.0)
            if k == 0:
                for colour, label in ((COLOURS[1], "with the store of smaller sizes"), (COLOURS[0], "without")):
                    ax.errorbar([], [], [], fmt="o", color=colour, lw=2.0, label=label)
        ax.set_xticks(range(len(mine)), [f"{100 * look.share:.0f} %" for look in mine])
        ax.set(xlabel="share of the run seen", xlim=(-0.5, len(mine) - 0.5))
        _plain(ax, f"{mine[0].run.tags['schedule']} rate, N = {_short(mine[0].run.N)}")
    axes[0].set_ylabel("final loss [nats/byte]")
    axes[0].legend(frameon=False)
    figure.savefig(path, dpi=_DPI)


def _line(ax: Axes, curve: LossCurve, colour: tuple[float, ...], mark: str, label: str, ms: float) -> None:
    ax.plot(curve.S, curve.L, mark, ms=ms, color=colour, alpha=0.9, label=label, markeredgewidth=0)


def _thin(curve: LossCurve) -> LossCurve:
    """Return a curve in some twelve windows per e-fold, from a fiftieth of the run on."""
    edges = np.exp(np.arange(np.log(_FIRST * curve.step), np.log(curve.step) + 0.08, 1.0 / 12.0))
    k = np.digitize(curve.S, edges)
    rows = [
        (
            np.average(curve.S[k == i], weights=curve.count[k == i]),
            np.average(curve.L[k == i], weights=curve.count[k == i]),
        )
        for i in range(1, edges.size)
        if (k == i).any()
    ]
    S, L = np.array(rows).T
    return LossCurve(S, L, N=curve.N, step=curve.step)


def _ramp(n: int) -> list[tuple[float, ...]]:
    """Return colours from light to dark, readable on white."""
    from matplotlib import colormaps

    return [tuple(colormaps["viridis"](x)) for x in np.linspace(0.75, 0.0, max(n, 1))]


def _short(N: float | None) -> str:
    return "?" if N is None else f"{N / 1e3:.3g} k" if N < 1e6 else f"{N / 1e6:.3g} M"


def _figure(width: float, height: float) -> Figure:
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _plain(ax: Axes, title: str) -> None:
    ax.set_title(title, loc="left", fontsize=10)
    ax.spines[["top", "right"]].set_visible(False)


def _ticks(*axes: Axes) -> None:
    """Label losses as a person would: they seldom span a decade."""
    from matplotlib.ticker import MaxNLocator, NullLocator

    for ax in axes:
        ax.yaxis.set_major_locator(MaxNLocator(7, steps=[1, 2, 2.5, 5, 10]))
        ax.yaxis.set_minor_locator(NullLocator())
        ax.yaxis.set_major_formatter("{x:.4g}")


def _ticks_x(ax: Axes) -> None:
    from matplotlib.ticker import MaxNLocator, NullLocator

    ax.xaxis.set_major_locator(MaxNLocator(6, steps=[1, 2, 2.5, 5, 10]))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter("{x:.4g}")


def _thinned(colour: str) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return tuple(0.3 * x + 0.7 for x in to_rgb(colour))
