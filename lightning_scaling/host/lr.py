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


@dataclass(frozen=True)
class RatesAhead:
    """The learning rate of the coming optimizer steps, or why it is not known.

    Args:
        rates: Learning rate of each coming step, shape (n,), None where it is not known.
        why: The scheduler's name, or what stands in the way.
    """

    rates: FloatArray | None
    why: str


def rates_ahead(trainer: Any, pl_module: Any, n: int, *, batches: int | None = None) -> RatesAhead:
    """Find the learning rates of the next n optimizer steps; call it between two batches.

    Schedulers are stepped as Lightning steps them: those of interval "step" after an optimizer step whose batch,
    counted in its epoch, is a multiple of their frequency; those of interval "epoch" after the last batch of every
    frequency-th epoch. The rate is the one of the first optimizer's first parameter group.

    What no replay can know is reported as unknown: ``ReduceLROnPlateau``, an overridden ``lr_scheduler_step``, a
    scheduler that cannot be copied, holds a module or data, or ends early. A rate that is set by hand shows only as it
    happens, so compare the rates used with the rates promised. A function with a memory of its own, a closure that
    counts its calls for one, is called as often as the replay needs: that memory alone cannot be shielded.

    Args:
        trainer: A Trainer whose optimizers and training data are set up.
        pl_module: Its module.
        n: Optimizer steps to look ahead [steps].
        batches: Batches per epoch where the data has no length and an earlier epoch was counted.

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
    main = trainer.optimizers[0]
    # A strategy may have wrapped the optimizer after the scheduler took hold of it; then every scheduler counts.
    configs = [c for c in configs if c.scheduler.optimizer is main] or configs
    if not configs:
        return RatesAhead(np.full(n, float(main.param_groups[0]["lr"])), "constant")

    calendar = Calendar.of(trainer, batches)
    if calendar.batches is None and any(c.interval == "epoch" or c.frequency != 1 for c in configs):
        return RatesAhead(None, "the length of an epoch is not known yet")
    return _guarded(configs, lambda: _replay(trainer, pl_module, configs, _calls(calendar, configs, n)))


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


def _guarded(configs: list[Any], replay: Callable[[], FloatArray | None]) -> RatesAhead:
    """Run a replay that may fail, and judge what it gives."""
    name = " and ".join(type(c.scheduler).__name__ for c in configs)
    # Schedulers warn of steps without optimizer steps, which is what a replay is.
    with random_states_kept(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if (heavy := _heavy(configs)) is not None:
                return RatesAhead(None, f"{name} holds a {heavy}, which is not copied")
            rates = replay()
        except Exception as error:
            return RatesAhead(None, f"{name} cannot be replayed ({type(error).__name__}: {error})")
    if rates is None:
        return RatesAhead(None, f"{name} takes too long to replay")
    if not np.isfinite(rates).all() or rates.min() < 0.0:
        return RatesAhead(None, f"{name} gives rates that are negative or not finite")
    return RatesAhead(rates, name)


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


def _replay(trainer: Any, pl_module: Any, configs: list[Any], calls: list[IntArray]) -> FloatArray | None:
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
    values = _sample(fresh.schedulers[0], fresh.group, points)
    if values is None:
        return None
    rates = np.interp(done, points, values)
    known = np.flatnonzero(np.isin(done[:prefix], points))
    if not np.allclose(rates[known], exact[known], rtol=1e-6, atol=1e-9 * float(np.abs(exact).max())):
        return None
    rates[:prefix] = exact
    return rates


def _step_by_step(
    shadows: _Shadows, order: list[int], calls: list[IntArray], due: IntArray, n: int
) -> FloatArray | None:
    """Run the copies; return the rate of each of n optimizer steps, None if that takes too long."""
    rates = np.empty(n)
    start, began = 0, time.monotonic()
    for count, i in enumerate(due.tolist()):
        rates[start : i + 1] = shadows.rate()
        start = i + 1
        for k in order:
            for _ in range(int(calls[k][i])):
                shadows.schedulers[k].step()
        if count % 512 == 511 and time.monotonic() - began > PATIENCE_S:
            return None
    rates[start:] = shadows.rate()
    return rates


def _sample(scheduler: Any, group: dict[str, Any], points: IntArray) -> FloatArray | None:
    """Evaluate a scheduler's formula after the given numbers of steps, None if it is not a function of them alone."""
    formula = _formula(scheduler, group)
    if formula is None:
        return None
    values = np.empty(points.size)
    for i, point in enumerate(points.tolist()):
        pair = [formula(point, junk) for junk in (1.0, 2.0)]  # a recursive rule would build on the rate it finds
        if pair[0] != pair[1]:
            return None
        values[i] = pair[0]
    return values


def _formula(scheduler: Any, group: dict[str, Any]) -> Callable[[int, float], float] | None:
    """Return rate(steps from now, rate found in the optimizer), None where the scheduler has no formula."""
    if isinstance(scheduler, SequentialLR):
        return _sequential(scheduler, group)
    if not isinstance(scheduler, LRScheduler) or not hasattr(scheduler, "last_epoch"):
        return None
    now = scheduler.last_epoch
    evaluate = getattr(scheduler, "_get_closed_form_lr", scheduler.get_lr)

    def rate(steps: int, junk: float) -> float:
        _set_rate(group, junk)
        scheduler.last_epoch = now + steps
        scheduler._get_lr_called_within_step = True
        return float(evaluate()[0])

    return rate


def _sequential(scheduler: Any, group: dict[str, Any]) -> Callable[[int, float], float] | None:
    """SequentialLR: part i counts its own steps from its milestone on."""
    milestones = [0, *scheduler._milestones]
    now = scheduler.last_epoch
    parts: list[Callable[[int, float], float]] = []
    for part in scheduler._schedulers:
        part.last_epoch = 0
        if (formula := _formula(part, group)) is None:
            return None
        parts.append(formula)

    def rate(steps: int, junk: float) -> float:
        i = int(np.searchsorted(milestones, now + steps, side="right")) - 1
        return parts[i](now + steps - milestones[i], junk)

    return rate


def _set_rate(group: dict[str, Any], value: float) -> None:
    if isinstance(group["lr"], torch.Tensor):
        group["lr"].fill_(value)
    else:
        group["lr"] = value


class _Shadows:
    """Copies of schedulers that drive shadows of their optimizers."""

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
        main = trainer.optimizers[0] if any(s.optimizer is trainer.optimizers[0] for s in schedulers) else None
        self.group: dict[str, Any] = memo[id(main or schedulers[0].optimizer)].param_groups[0]

    def rate(self) -> float:
        return float(self.group["lr"])


def _is_overridden(module: Any, hook: str) -> bool:
    """Return whether a module brings its own version of one of Lightning's hooks."""
    defined_in = getattr(getattr(type(module), hook, None), "__module__", None)
    return defined_in is not None and defined_in.partition(".")[0] not in ("lightning", "pytorch_lightning")
