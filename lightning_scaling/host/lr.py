"""The learning rates ahead, found by running a copy of the schedulers against a shadow of the optimizer.

The real scheduler, optimizer, module and random generators are not touched, and no weights are copied.
"""

from __future__ import annotations

import copy
import time
import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau, SequentialLR
from torch.utils.data import DataLoader

from lightning_scaling.host.by_hand import habit
from lightning_scaling.host.calendar import Calendar
from lightning_scaling.host.shadow import ShadowOptimizer, random_states_kept, shadow_modules

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.integer[Any]]

#: Scheduler steps that are replayed one by one (2 to 15 µs each); beyond, the schedule's formula is sampled.
MAX_REPLAYED = 40_000
#: Sampled points of a longer schedule; between them the rate is interpolated.
SAMPLES = 4_096
#: Seconds after which a replay of an unusually slow scheduler is given up.
PATIENCE_S = 2.0
#: How far the rates of two parameter groups may lie apart, in parts of each one's highest, to be on one schedule.
NEARLY = 0.02
#: Why nothing is known of groups that are further apart.
APART = "parameter groups are on different schedules: not known"


@dataclass(frozen=True)
class RatesAhead:
    """The learning rate of the coming optimizer steps, or why it is not known.

    Args:
        rates: Learning rate of each coming step, shape (n,), None where it is not known.
        why: The scheduler's name, or what stands in the way.
    """

    rates: FloatArray | None
    why: str


def rates_ahead(
    trainer: Any, pl_module: Any, n: int, *, batches: int | None = None, step: int = 0, per_batch: float | None = None
) -> RatesAhead:
    """Find the learning rates of the next n optimizer steps; call it between two batches.

    Schedulers are stepped as Lightning steps them: those of interval "step" after an optimizer step whose batch,
    counted in its epoch, is a multiple of their frequency; those of interval "epoch" after the last batch of every
    frequency-th epoch. The rate is the one of the first optimizer's first parameter group, and stands for those of all
    groups: it is known only where each of them, in parts of its own highest rate ahead, goes nearly the same way. A
    group whose rate stays 0 takes no part.

    In manual optimization Lightning steps no scheduler and does not heed intervals: there a schedule is known once the
    scheduler has been stepped as often as the optimizer, or once per epoch.

    What no replay can know is reported as unknown: ``ReduceLROnPlateau``, an overridden ``lr_scheduler_step``, a
    scheduler that cannot be copied, holds a module or data, or ends early. A rate that is set by hand shows only as it
    happens, so compare the rates used with the rates promised. A function with a memory of its own, a closure that
    counts its calls for one, is called as often as the replay needs: that memory alone cannot be shielded.

    Args:
        trainer: A Trainer whose optimizers and training data are set up.
        pl_module: Its module.
        n: Optimizer steps to look ahead [steps].
        batches: Batches per epoch where the data has no length and an earlier epoch was counted.
        step: Optimizer steps done; needed in manual optimization only [steps].
        per_batch: Optimizer steps per batch in manual optimization [1], None where that is not known.

    Returns:
        The rates in the optimizer's unit. Up to ``MAX_REPLAYED`` scheduler steps they are exact; of longer schedules
        the first steps are, and the rest is sampled, so that the cost stays below about a second.
    """
    if not trainer.optimizers:
        return RatesAhead(None, "there is no optimizer")
    configs = list(trainer.lr_scheduler_configs)
    if any(config.reduce_on_plateau for config in configs):
        return RatesAhead(None, "ReduceLROnPlateau waits for what the run will do")
    if _is_overridden(pl_module, "lr_scheduler_step"):
        return RatesAhead(None, "lr_scheduler_step is overridden")
    if not configs:
        return RatesAhead(np.full(n, float(trainer.optimizers[0].param_groups[0]["lr"])), "constant")

    calendar = Calendar.of(trainer, batches)
    if not getattr(pl_module, "automatic_optimization", True):
        return _rates_by_hand(trainer, pl_module, calendar, n, step, per_batch)
    if calendar.batches is None and any(c.interval == "epoch" or c.frequency != 1 for c in configs):
        return RatesAhead(None, "the length of an epoch is not known yet")
    return _guarded(configs, lambda: _replay(trainer, pl_module, configs, _calls(calendar, configs, n)))


def _rates_by_hand(
    trainer: Any, pl_module: Any, calendar: Calendar, n: int, step: int, per_batch: float | None
) -> RatesAhead:
    """Replay schedulers that a module steps by hand, as often as it has stepped them so far."""
    schedulers = [c.scheduler for c in trainer.lr_scheduler_configs]
    habits = [habit(trainer, scheduler, step) for scheduler in schedulers]
    if None in habits:
        return RatesAhead(None, "manual optimization has not shown a scheduler step per optimizer step or epoch")
    configs = [
        SimpleNamespace(scheduler=s, interval=interval, frequency=1)
        for s, interval in zip(schedulers, habits, strict=True)
    ]
    each: IntArray = np.ones(n, dtype=np.int8)
    last: IntArray = each
    if "epoch" in habits:
        if calendar.batches is None or per_batch is None:
            return RatesAhead(None, "the length of an epoch is not known yet")
        at = calendar.batch + np.arange(1, n + 2) / per_batch  # batches from the start of this epoch
        last = np.diff(np.ceil(at / calendar.batches - 1e-9)).astype(np.int8)
    calls = [each if c.interval == "step" else last for c in configs]
    return _guarded(configs, lambda: _replay(trainer, pl_module, configs, calls))


def scheduler_rates(scheduler: Any, n: int) -> RatesAhead:
    """Find the learning rates of the next n steps of a loop that steps a scheduler once after each optimizer step.

    Args:
        scheduler: A scheduler of ``torch.optim.lr_scheduler``, as it stands between two steps.
        n: Optimizer steps to look ahead [steps].

    Returns:
        The rates of the optimizer's first parameter group, or why they are not known; see `rates_ahead`.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> scheduler = torch.optim.lr_scheduler.ExponentialLR(optimizer, 0.5)
        >>> scheduler_rates(scheduler, 3).rates.tolist(), optimizer.param_groups[0]["lr"]
        ([0.1, 0.05, 0.025], 0.1)
    """
    if isinstance(scheduler, ReduceLROnPlateau):
        return RatesAhead(None, "ReduceLROnPlateau waits for what the run will do")
    if scheduler is None:
        return RatesAhead(None, "no scheduler was handed over")
    if not isinstance(scheduler, LRScheduler):
        return RatesAhead(None, f"{type(scheduler).__name__} is no scheduler of torch")
    loop = SimpleNamespace(optimizers=[scheduler.optimizer])
    config = SimpleNamespace(scheduler=scheduler, interval="step", frequency=1)
    return _guarded([config], lambda: _replay(loop, torch.nn.Module(), [config], [np.ones(n, dtype=np.int8)]))


def lambda_rates(scheduler: Any, n: int) -> FloatArray | None:
    """Return the learning rates of the first n steps under a ``LambdaLR``, which are a function of the step alone.

    Example:
        >>> optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
        >>> lambda_rates(torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step)), 2).tolist()
        [0.1, 0.05]
    """
    if not isinstance(scheduler, LambdaLR):
        return None
    try:
        rates = np.array([scheduler.base_lrs[0] * scheduler.lr_lambdas[0](step) for step in range(n)], dtype=np.float64)
    except Exception:  # the user's function: what it cannot tell is recorded less finely elsewhere
        return None
    return rates if np.isfinite(rates).all() and rates.min(initial=0.0) >= 0.0 else None


def _guarded(configs: list[Any], replay: Callable[[], list[_Replayed] | None]) -> RatesAhead:
    """Run a replay that may fail, and judge what it gives."""
    name = " and ".join(type(c.scheduler).__name__ for c in configs)
    # Schedulers warn of steps without optimizer steps, which is what a replay is.
    with random_states_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if (heavy := _heavy(configs)) is not None:
                return RatesAhead(None, f"{name} holds a {heavy}, which is not copied")
            replayed = replay()
        except Exception as error:
            return RatesAhead(None, f"{name} cannot be replayed ({type(error).__name__}: {error})")
    if replayed is None:
        return RatesAhead(None, f"{name} takes too long to replay")
    if any(not np.isfinite(x).all() or x.min() < 0.0 for found in replayed for x in (found.rates, found.groups)):
        return RatesAhead(None, f"{name} gives rates that are negative or not finite")
    # The groups of one optimizer by those steps that were looked at, the optimizers by their first groups.
    together = _go_together(np.stack([found.rates for found in replayed], axis=1))
    if not together or not all(_go_together(found.groups) for found in replayed):
        return RatesAhead(None, APART)
    return RatesAhead(replayed[0].rates, name)


def _go_together(rates: FloatArray) -> bool:
    """Return whether rates of shape (steps, groups), each in parts of its highest, are nearly the same."""
    peaks = rates.max(axis=0)
    if peaks[0] <= 0.0 or peaks.size == 1:
        return True  # a rate that stays 0 is no schedule for anything: whoever plans says so
    parts = rates[:, peaks > 0.0] / peaks[peaks > 0.0]
    return bool((parts.max(axis=1) - parts.min(axis=1)).max() <= NEARLY)


def _heavy(configs: Iterable[Any]) -> str | None:
    """Return what a user's own scheduler holds that must not be copied: weights, large tensors, data."""
    for config in configs:
        for value in vars(config.scheduler).values():
            large = isinstance(value, torch.Tensor) and value.numel() > 65_536
            if large or isinstance(value, (torch.nn.Module, DataLoader)):
                return type(value).__name__
    return None


def _calls(calendar: Calendar, configs: Iterable[Any], n: int) -> list[IntArray]:
    """Return for each scheduler how often it is stepped after each of the next n optimizer steps, shape (n,)."""
    batch, epoch, last = calendar.next_steps(n)
    return [
        (batch % c.frequency == 0 if c.interval == "step" else last & ((epoch + 1) % c.frequency == 0)).astype(np.int8)
        for c in configs
    ]


@dataclass(frozen=True)
class _Replayed:
    """What a replay shows of one optimizer.

    Args:
        rates: Learning rate of its first group at each coming step, shape (n,).
        groups: Those of all of its groups at some of them, shape (steps, groups).
    """

    rates: FloatArray
    groups: FloatArray


def _replay(trainer: Any, pl_module: Any, configs: list[Any], calls: list[IntArray]) -> list[_Replayed] | None:
    """Run the schedulers of each optimizer, the first optimizer first; None if that takes too long."""
    scheduled = [c.scheduler.optimizer for c in configs]
    optimizers = list(trainer.optimizers)
    if not any(optimizer is s for optimizer in optimizers for s in scheduled):
        # A strategy has wrapped the optimizers after the schedulers took hold of them.
        optimizers = list({id(s): s for s in scheduled}.values())
    found = []
    for optimizer in optimizers:
        mine = [i for i, s in enumerate(scheduled) if s is optimizer]
        if mine:
            one = _replay_one(trainer, pl_module, [configs[i] for i in mine], [calls[i] for i in mine])
            if one is None:
                return None
            found.append(one)
        else:
            groups = np.array([[float(group["lr"]) for group in optimizer.param_groups]])
            found.append(_Replayed(np.full(calls[0].size, groups[0, 0]), groups))
    return found


def _replay_one(trainer: Any, pl_module: Any, configs: list[Any], calls: list[IntArray]) -> _Replayed | None:
    """Run the schedulers of one optimizer."""
    shadows = _Shadows(trainer, pl_module, [c.scheduler for c in configs])
    # Lightning updates the schedulers of interval "step" first.
    order = sorted(range(len(configs)), key=lambda i: configs[i].interval != "step")
    due = np.flatnonzero(np.any(calls, axis=0))
    if sum(int(c.sum()) for c in calls) <= MAX_REPLAYED:
        return _step_by_step(shadows, order, calls, due, calls[0].size)
    if len(configs) > 1:
        return None
    prefix = int(due[min(SAMPLES, due.size) - 1]) + 1
    exact = _step_by_step(shadows, order, calls, due[due < prefix], prefix)
    if exact is None:
        return None
    done = np.concatenate(([0], np.cumsum(calls[0])[:-1]))  # scheduler steps before each optimizer step
    fresh = _Shadows(trainer, pl_module, [configs[0].scheduler])
    points = np.unique(np.round(np.linspace(0, done[-1], SAMPLES)).astype(np.int64))
    points = np.union1d(points, np.linspace(0, done[prefix - 1], 65).astype(np.int64))
    values = _sample(fresh.schedulers[0], fresh.groups, points)
    if values is None:
        return None
    rates = np.interp(done, points, values[:, 0])
    known = np.flatnonzero(np.isin(done[:prefix], points))
    if not np.allclose(rates[known], exact.rates[known], rtol=1e-6, atol=1e-9 * float(np.abs(exact.rates).max())):
        return None
    rates[:prefix] = exact.rates
    return _Replayed(rates, np.concatenate([exact.groups, values]))


def _step_by_step(
    shadows: _Shadows, order: list[int], calls: list[IntArray], due: IntArray, n: int
) -> _Replayed | None:
    """Run the copies over n optimizer steps, None if that takes too long."""
    rates, groups = np.empty(n), []
    start, began = 0, time.monotonic()
    for count, i in enumerate(due.tolist()):
        groups.append(shadows.rates())
        rates[start : i + 1] = groups[-1][0]
        start = i + 1
        for k in order:
            for _ in range(int(calls[k][i])):
                shadows.schedulers[k].step()
        if count % 512 == 511 and time.monotonic() - began > PATIENCE_S:
            return None
    if start < n or not groups:  # after the last optimizer step nothing uses the rate any more
        groups.append(shadows.rates())
        rates[start:] = groups[-1][0]
    return _Replayed(rates, np.array(groups))


def _sample(scheduler: Any, groups: list[dict[str, Any]], points: IntArray) -> FloatArray | None:
    """Evaluate a scheduler's formula after the given numbers of steps, None if it is not a function of them alone."""
    formula = _formula(scheduler, groups)
    if formula is None:
        return None
    values = np.empty((points.size, len(groups)))
    for i, point in enumerate(points.tolist()):
        pair = [formula(point, junk) for junk in (1.0, 2.0)]  # a recursive rule would build on the rate it finds
        if pair[0] != pair[1]:
            return None
        values[i] = pair[0]
    return values


def _formula(scheduler: Any, groups: list[dict[str, Any]]) -> Callable[[int, float], list[float]] | None:
    """Return rates(steps from now, rate found in the optimizer), None where the scheduler has no formula."""
    if isinstance(scheduler, SequentialLR):
        return _sequential(scheduler, groups)
    if not isinstance(scheduler, LRScheduler) or not hasattr(scheduler, "last_epoch"):
        return None
    now = scheduler.last_epoch
    evaluate = getattr(scheduler, "_get_closed_form_lr", scheduler.get_lr)

    def rates(steps: int, junk: float) -> list[float]:
        for group in groups:
            _set_rate(group, junk)
        scheduler.last_epoch = now + steps
        scheduler._get_lr_called_within_step = True
        return [float(rate) for rate in evaluate()]

    return rates


def _sequential(scheduler: Any, groups: list[dict[str, Any]]) -> Callable[[int, float], list[float]] | None:
    """SequentialLR: part i counts its own steps from its milestone on."""
    milestones = [0, *scheduler._milestones]
    now = scheduler.last_epoch
    parts: list[Callable[[int, float], list[float]]] = []
    for part in scheduler._schedulers:
        part.last_epoch = 0
        if (formula := _formula(part, groups)) is None:
            return None
        parts.append(formula)

    def rates(steps: int, junk: float) -> list[float]:
        i = int(np.searchsorted(milestones, now + steps, side="right")) - 1
        return parts[i](now + steps - milestones[i], junk)

    return rates


def _set_rate(group: dict[str, Any], value: float) -> None:
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(value)
    else:
        group["lr"] = value


class _Shadows:
    """Copies of the schedulers of one optimizer that drive a shadow of it."""

    def __init__(self, trainer: Any, pl_module: Any, schedulers: list[Any]) -> None:
        # A lr_lambda may be a bound method: a copy of its module without weights of its own takes what it writes.
        optimizers = [*trainer.optimizers, *(s.optimizer for s in schedulers)]
        weights = [p for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]]
        memo: dict[int, Any] = {id(x): x for x in (trainer, *pl_module.parameters(), *pl_module.buffers(), *weights)}
        memo |= shadow_modules(pl_module)
        for optimizer in optimizers:
            memo.setdefault(id(optimizer), ShadowOptimizer(optimizer))
        self.schedulers: list[Any] = [copy.deepcopy(s, memo) for s in schedulers]
        for scheduler in self.schedulers:
            if getattr(scheduler, "verbose", False):
                scheduler.verbose = False
        self.groups: list[dict[str, Any]] = memo[id(schedulers[0].optimizer)].param_groups

    def rates(self) -> list[float]:
        return [float(group["lr"]) for group in self.groups]


def _is_overridden(module: Any, hook: str) -> bool:
    """Return whether a module brings its own version of one of Lightning's hooks."""
    defined_in = getattr(getattr(type(module), hook, None), "__module__", None)
    return defined_in is not None and defined_in.partition(".")[0] not in ("lightning", "pytorch_lightning")
