"""Pictures of runs of several sizes: loss against steps, and loss against compute with its frontier."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.joint import JointFit
from lightning_scaling.laws import Frontier
from lightning_scaling.laws.shape import training_flop
from lightning_scaling.pictures.axes import (
    axes_or_new,
    explain,
    face_of,
    ink_of,
    loss_axis,
    note,
    of_size,
    step_axis,
    windows,
)
from lightning_scaling.pictures.colours import Colour, ramp, tint
from lightning_scaling.store.run import StoredRun

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["plot_frontier", "plot_sizes"]

FloatArray = NDArray[np.float64]

#: Windows in each factor e of steps.
_WINDOWS = 12
#: Labels of sizes in a legend, at most.
_LABELS = 8
#: Sizes that differ by less than this in log N are one size.
_SAME = 1e-3
#: Draws of a joint fit of which the frontier is computed, and points at which.
_DRAWS, _LINE_POINTS = 200, 80


@dataclass(frozen=True, eq=False)
class _Member:
    """A run of known size in windows, and the colour of its size."""

    N: float
    B: float | None
    unit: str
    step: float
    S: FloatArray
    L: FloatArray
    colour: Colour


def plot_sizes(runs: Iterable[StoredRun], *, joint: JointFit | None = None, ax: Axes | None = None) -> Axes:
    """Draw the loss of runs of several sizes against steps, one colour per size, with the law of them all.

    Every dot is the mean loss of a window of steps; nothing is smoothed. The colours run along a sequential map, the
    largest model standing out most.

    Args:
        runs: Stored runs; those without N or with too few points are left out.
        joint: L(N, S) as fitted to them, in steps (`fit_joint` without ``critical``): thin lines.
        ax: Where to draw; default: a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: If no run has a size and three points.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    axes = axes_or_new(ax)
    family = _family(runs, axes)
    _draw_dots(axes, family, [one.S for one in family])
    if joint is not None and not joint.reason:
        for one in {member.N: member for member in sorted(family, key=lambda m: m.step)}.values():
            S = np.geomspace(min(joint.steps[0], one.step), one.step, _LINE_POINTS)
            axes.plot(S, joint.loss(one.N, S).mid, color=one.colour, lw=1.1, zorder=3)
        axes.plot([], [], color=ink_of(axes), lw=1.1, label="joint law")
    _finish(axes, family, joint)
    axes.set_xlabel("optimizer step")
    step_axis(axes, max(one.step for one in family))
    return axes


def plot_frontier(
    runs: Iterable[StoredRun], *, joint: JointFit | Frontier | None = None, ax: Axes | None = None
) -> Axes:
    """Draw the loss of runs of several sizes against compute C = 6 N B S, and the lowest loss for each compute.

    Every dot is the mean loss of a window of steps. The stairs are the lowest of all of them at that compute or less.
    Where several windows are as low, noise makes the lowest of them a little too low.

    Args:
        runs: Stored runs; those without N or batch size in tokens, or with too few points, are left out.
        joint: A law with a frontier. That of a `JointFit` holds at the batch size of its runs, which these must share;
            it is drawn with its interval, where it was fitted. That of a `Frontier` is in C_min, which a run at any
            batch size exceeds.
        ax: Where to draw; default: a new figure.

    Returns:
        The axes.

    Raises:
        ValueError: If no run has a size, a batch size and three points, or if the batch sizes differ with a `JointFit`.
        ModuleNotFoundError: If matplotlib is not installed.
    """
    axes = axes_or_new(ax)
    family = [one for one in _family(runs, axes) if one.B is not None]
    if not family:
        raise ValueError(
            "Expected runs with a batch size in tokens, got none, so build LossCurve(…, B=…) with tokens per step."
        )
    C = [np.asarray(training_flop(one.N, one.B or 1.0, one.S)) for one in family]
    _draw_dots(axes, family, C)
    at, lowest = _envelope(np.concatenate(C), np.concatenate([one.L for one in family]))
    ink = ink_of(axes)
    axes.step(at, lowest, where="post", color=ink, lw=1.4, zorder=4, label="lowest so far")
    limits = axes.get_ylim()
    if joint is not None and not (isinstance(joint, JointFit) and joint.reason):
        line = np.geomspace(max(_begins(joint, family), at[0]), at[-1], _LINE_POINTS)
        low, mid, high = _law(joint, family, line)
        axes.fill_between(line, low, high, color=tint(ink, face_of(axes), 0.18), lw=0, zorder=1.5)
        name = "law" if isinstance(joint, JointFit) else "law, in C_min"
        axes.plot(line, mid, color=ink, lw=1.2, ls=(0, (4, 2)), zorder=4, label=name)
        axes.set_ylim(min(limits[0], 0.99 * float(np.nanmin(mid))), limits[1])
    _finish(axes, family, joint if isinstance(joint, JointFit) else None)
    axes.set_xlabel("compute 6 N B S [FLOP]")
    return axes


def _family(runs: Iterable[StoredRun], axes: Axes) -> list[_Member]:
    """Return the runs that can be drawn, smallest first, in windows."""
    found = []
    for run in runs:
        seen = windows(run.curve, float(run.curve.step), _WINDOWS)
        if run.N is not None and seen is not None:
            found.append(
                (run.N, run.batch if run.batch_unit == "tokens" else None, run.curve.unit, float(run.curve.step), seen)
            )
    if not found:
        raise ValueError("Expected runs with a size N and three points or more, got none, so give their curves an N.")
    found.sort(key=lambda one: one[0])
    sizes = np.array([one[0] for one in found])
    rank = np.concatenate(([0], np.cumsum(np.diff(np.log(sizes)) > _SAME)))
    colours = ramp(int(rank[-1]) + 1, axes.get_facecolor())
    return [
        _Member(N, B if B else None, unit, step, seen.S, seen.y, colours[k])
        for (N, B, unit, step, seen), k in zip(found, rank, strict=True)
    ]


def _draw_dots(axes: Axes, family: Sequence[_Member], places: Sequence[FloatArray]) -> None:
    colours = list(dict.fromkeys(one.colour for one in family))
    told = {colours[i] for i in np.linspace(0, len(colours) - 1, min(len(colours), _LABELS)).round().astype(int)}
    for one, x in zip(family, places, strict=True):
        new = one.colour in told
        told.discard(one.colour)
        label = of_size(one.N) if new else None
        axes.scatter(x, one.L, s=10, color=[one.colour], linewidths=0, alpha=0.85, zorder=2, label=label)
    logarithmic = min(float(one.L.min()) for one in family) > 0.0
    axes.set(xscale="log", yscale="log" if logarithmic else "linear")
    axes.margins(0.03)


def _finish(axes: Axes, family: Sequence[_Member], joint: JointFit | None) -> None:
    units = {one.unit for one in family}
    axes.set_ylabel(f"training loss [{units.pop()}]" if len(units) == 1 and units != {""} else "training loss")
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_yscale() == "log":
        loss_axis(axes)
    explain(axes, "upper right", title="N", markerscale=1.8, borderaxespad=0.0)
    if joint is not None and joint.reason:
        note(axes, "no joint law of these runs", 0.02, 0.03, va="bottom")


def _envelope(C: FloatArray, L: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return where the lowest loss so far falls, and to what, up to the largest compute."""
    order = np.argsort(C, kind="stable")
    C, lowest = C[order], np.minimum.accumulate(L[order])
    falls = np.concatenate(([True], np.diff(lowest) < 0.0))
    return np.append(C[falls], C[-1]), np.append(lowest[falls], lowest[-1])


def _begins(joint: JointFit | Frontier, family: Sequence[_Member]) -> float:
    """Return the compute of the smallest model at the first step that was fitted [FLOP]."""
    first = min(family, key=lambda one: one.N)
    return 0.0 if isinstance(joint, Frontier) else float(training_flop(first.N, first.B or 1.0, joint.steps[0]))


def _law(joint: JointFit | Frontier, family: Sequence[_Member], C: FloatArray) -> tuple[FloatArray, ...]:
    """Return the lowest loss that a law has for each compute: its lower bound, median and upper bound."""
    if isinstance(joint, Frontier):
        loss = np.asarray(joint.loss(C))
        return loss, loss, loss
    batches = [one.B for one in family if one.B is not None]
    if max(batches) > 1.01 * min(batches):
        raise ValueError(
            f"Expected runs of one batch size with a joint fit, got {min(batches):g} to {max(batches):g}, so choose "
            "those of one: its law holds at the batch size of its runs."
        )
    laws = joint.hoffmann(float(np.mean(batches)))
    losses = [law.loss_opt(C) for law in laws[:: max(len(laws) // _DRAWS, 1)]]
    tail = 0.5 * (1.0 - joint.E.level)
    low, mid, high = np.quantile(losses, [tail, 0.5, 1.0 - tail], axis=0)
    return low, mid, high
