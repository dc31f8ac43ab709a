"""own_laws(): the laws that finished runs of your own give a plan, or why they do not give any."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from lightning_scaling.curve import LossCurve
from lightning_scaling.finished import FinishedRun
from lightning_scaling.joint import MOST_RUNS, JointFit, fit_joint, spread_over_sizes
from lightning_scaling.laws import HoffmannND
from lightning_scaling.planner import Explored, PlanLaws
from lightning_scaling.schedule import LRSchedule

__all__ = ["OwnLaws", "own_laws", "thinned_laws"]

#: The rate counts as held where it stays this near to its peak once the transient at the start is over.
_HELD = 0.95
#: The transient at the start: so many steps, but between these shares of the run; twice a warm-up, where there is one.
_TRANSIENT, _LEAST, _MOST = 200.0, 0.05, 0.2
#: By how much batch sizes of one group may differ.
_SAME_BATCH = 0.01
#: Fewest sizes and fewest points of a run.
_SIZES, _POINTS = 3, 20
#: Why runs of images and the like are left out, and what mends it.
_IN_SAMPLES = (
    "with a batch in samples, which are no tokens to count compute by (give the monitor tokens_per_step, or the curve "
    "its B in tokens)"
)
#: Of the draws of a fit every so many are taken: two hundred are plenty for an interval.
_EVERY = 10


class KeptRun(FinishedRun, Protocol):
    """What is asked of a run that is fitted; a `StoredRun` is one."""

    @property
    def state(self) -> str:
        """Whether it is ``finished``."""

    @property
    def tags(self) -> Mapping[str, object]:
        """What its writer said of it."""


@dataclass(frozen=True, eq=False)
class OwnLaws:
    """The laws for a plan that finished runs give.

    Args:
        laws: The laws; None where the runs do not carry a fit.
        reason: Why not; empty where they do.
        n_runs: Runs that were used.
        n_sizes: Sizes among them.
        left_out: How many runs were left out, by the reason.
        joint: The fit with an irreducible loss; None where the runs are too few to be fitted.
    """

    laws: PlanLaws | None
    reason: str
    n_runs: int
    n_sizes: int
    left_out: Mapping[str, int]
    joint: JointFit | None = None


@dataclass(frozen=True, eq=False)
class _Usable:
    curve: LossCurve
    N: float
    B: float
    kind: tuple[str, str]
    first: float


def own_laws(runs: Iterable[KeptRun], *, B: float | None = None, level: float = 0.9) -> OwnLaws:
    r"""Fit the laws for a plan to finished runs.

    .. math:: L(N, D) = E + (N_c / N)^{\alpha_N} + (B S_c / D)^{\alpha_S}, \qquad D = B S

    Fitted twice by `fit_joint` to the same runs: with the irreducible loss E for Hoffmann's column of a plan, without
    it for Kaplan's. Taken are finished runs of known N and batch size at a learning rate that was held, since a loss in
    the middle of a decay is not the loss of a shorter run. Runs whose batch is known in samples only are left out: a
    plan counts compute as 6 N B S, with B in tokens. Of those that share unit, loss and batch size the group with
    the most sizes, and of more than twelve the longest of each size, evenly apart. Both laws hold at that batch size,
    and count N as the runs do, without embeddings.

    Source: Kaplan et al. 2020, arXiv:2001.08361, Eq. 1.6; Hoffmann et al. 2022, arXiv:2203.15556, Eq. 10.

    Args:
        runs: Runs on one data set, such as those of a `RunStore`.
        B: Take only runs of this batch size [tokens/step].
        level: Probability of the ranges of a plan [1].

    Returns:
        The laws. Where the runs do not tell them, ``reason`` says why.

    Raises:
        ValueError: If the level is not between 0 and 1.

    Example:
        >>> from lightning_scaling import example_store
        >>> own_laws(example_store().runs(tags={"schedule": "cosine"})).n_runs
        0
        >>> found = own_laws(example_store())  # a plan takes found.laws
        >>> found.n_runs, found.n_sizes, found.laws.batch
        (6, 6, 1024.0)
    """
    if not 0.0 < level < 1.0:
        raise ValueError(f"Expected level between 0 and 1, got {level!r}, so give for example 0.9.")
    usable, left_out = [], dict[str, int]()
    for run in runs:
        found = _usable(run)
        if isinstance(found, str):
            left_out[found] = left_out.get(found, 0) + 1
        else:
            usable.append(found)
    group = _largest(usable, B)
    if len(usable) > len(group):
        left_out["with another batch size, unit or loss"] = len(usable) - len(group)
    if len(group) > MOST_RUNS:
        left_out[f"beyond the {MOST_RUNS} that are fitted, the longest of each size"] = len(group) - MOST_RUNS
        group = spread_over_sizes(group, repeats=True)
    sizes = _n_sizes(group)
    if sizes < _SIZES:
        return OwnLaws(None, _too_few(sizes, len(group), left_out, B), 0, 0, left_out)
    batch, first = float(np.median([one.B for one in group])), max(one.first for one in group)
    curves = [one.curve for one in group]
    with_E, without = (fit_joint(curves, offset=offset, first=first, level=level) for offset in (True, False))
    kaplan, hoffmann = thinned_laws(without, batch), thinned_laws(with_E, batch)
    if not (kaplan or hoffmann):
        why = with_E.reason or "its constants are beyond what numbers hold"
        reason = f"Expected runs that tell L(N, S), got {len(group)} of {sizes} sizes that do not: {why}"
        return OwnLaws(None, reason, 0, 0, left_out, with_E)
    low, high = (with_E if hoffmann else without).steps
    explored = Explored(N=_ends([one.N for one in group]), D=(batch * low, batch * high))
    laws = PlanLaws(
        kaplan=kaplan,
        hoffmann=hoffmann,
        source=(
            f"fitted to {len(group)} runs of {sizes} sizes of your own at a held learning rate; N without embeddings; "
            "a decay of the rate ends lower"
        ),
        level=level,
        explored_kaplan=explored,
        explored_hoffmann=explored,
        batch=batch,
    )
    return OwnLaws(laws, "", len(group), sizes, left_out, with_E)


def thinned_laws(fit: JointFit, B: float) -> tuple[HoffmannND, ...]:
    """Return as many draws of a fit as a plan needs; none where it failed, or where powers of its constants overflow.

    Args:
        fit: A fit to runs of one batch size.
        B: That batch size [tokens/step].
    """
    try:
        return () if fit.reason else fit.hoffmann(B)[::_EVERY]
    except (ValueError, OverflowError):
        return ()


def _usable(run: KeptRun) -> _Usable | str:
    """Return what is fitted of a run, or why it is left out."""
    curve = run.curve
    if run.state != "finished" or curve.n_nonfinite:
        return "not finished"
    if curve.N is None:
        return "without a size N"
    if len(curve) < _POINTS or curve.L.min() <= 0.0:
        return f"with fewer than {_POINTS} losses, or losses that are not positive"
    if curve.B is not None and curve.B_unit != "tokens":
        return _IN_SAMPLES
    if curve.B is None or not curve.B.min() > 0.0 or float(np.ptp(curve.B)) > _SAME_BATCH * float(curve.B.max()):
        return "without one batch size"
    first = _transient(run)
    if first is None:
        return "whose learning rate is not known, or falls"
    return _Usable(curve, curve.N, float(curve.B.mean()), (curve.unit, str(run.tags.get("loss", ""))), first)


def _transient(run: KeptRun) -> float | None:
    """Return the share of a run that its transient takes; None where the rate is not held after it."""
    curve = run.curve
    schedule = run.lr_schedule
    if schedule is None:
        if curve.lr is None or not curve.lr.max() > 0.0:
            return None
        schedule = LRSchedule.of_past(curve.S, curve.lr, curve.step)
    now = float(curve.step)
    steps = np.linspace(now / 1000.0, now, 1000)
    held = schedule.rate_at(steps) >= _HELD * float(schedule.rates.max())
    if not held.any():
        return None
    begins = int(np.argmax(held))
    if not held[begins:].all() or 2.0 * steps[begins] > 0.5 * now:
        return None
    warm_up = 2.0 * steps[begins] / now if begins else 0.0
    return float(max(np.clip(_TRANSIENT / now, _LEAST, _MOST), warm_up))


def _largest(usable: list[_Usable], B: float | None) -> list[_Usable]:
    """Return the runs of one unit, loss and batch size that have the most sizes."""
    groups: list[list[_Usable]] = []
    for one in sorted(usable, key=lambda run: run.B):
        if B is not None and abs(one.B / B - 1.0) > _SAME_BATCH:
            continue
        near = [g for g in groups if g[0].kind == one.kind and abs(one.B / g[0].B - 1.0) <= _SAME_BATCH]
        if near:
            near[0].append(one)
        else:
            groups.append([one])
    return max(groups, key=lambda group: (_n_sizes(group), len(group)), default=[])


def _n_sizes(group: list[_Usable]) -> int:
    return int(np.unique(np.round(np.log([one.N for one in group]), 3)).size) if group else 0


def _ends(values: list[float]) -> tuple[float, float]:
    return min(values), max(values)


def _too_few(sizes: int, n: int, left_out: Mapping[str, int], B: float | None) -> str:
    at = "" if B is None else f" of {B:g} tokens per step"
    got = f"{n} of {sizes} size{'s' * (sizes != 1)}" if n else "none"
    others = "".join(f"; {count} {why}" for why, count in left_out.items())
    return (
        f"Expected finished runs of {_SIZES} sizes at a held learning rate and one batch size{at}, got {got}{others}. "
        "Train small models at a held rate and keep them in the store."
    )
