"""What a user may set on a monitor, checked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.advice import Overfitting, StopRule
from lightning_scaling.alarm import Departure
from lightning_scaling.live import METRICS
from lightning_scaling.store import RunStore
from lightning_scaling.store.run import Tag


@dataclass(frozen=True, eq=False)
class Settings:
    """The arguments of `ScalingLawMonitor` in the form that the rest works with; their meaning is told there.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a number is out of its range.
    """

    monitor: str | None
    rules: tuple[StopRule, ...]
    horizon: int | None
    rates: NDArray[np.float64] | None
    N: float | None
    tokens_per_step: int | None
    level: float
    refits: int
    name: str
    verbose: bool
    price_per_hour: float | None = None
    store: RunStore | None = None
    tags: Mapping[str, Tag] = field(default_factory=dict)
    figures: bool = False
    on_departure: Callable[[Departure], object] | None = None
    advisers: tuple[StopRule, ...] = ()  # told of, never acted on
    across_ranks: bool = True  # else rank 0 follows its own loss and asks no other rank for anything

    @classmethod
    def of(
        cls,
        *,
        monitor: str | None = None,
        stop: StopRule | Sequence[StopRule] | None = None,
        advise: StopRule | Sequence[StopRule] | None = None,
        horizon: int | None = None,
        lr_schedule: Sequence[float] | NDArray[np.float64] | None = None,
        N: float | None = None,
        tokens_per_step: int | None = None,
        level: float = 0.9,
        refits: int = 40,
        name: str = "scaling",
        verbose: bool = True,
        price_per_hour: float | None = None,
        store: str | PathLike[str] | RunStore | None = None,
        tags: Mapping[str, Tag] | None = None,
        figures: bool = False,
        on_departure: Callable[[Departure], object] | None = None,
    ) -> Settings:
        """Check the arguments of a monitor."""
        _require_key(monitor, name)
        for argument, value in (("horizon", horizon), ("tokens_per_step", tokens_per_step)):
            _require_count(argument, value, least=1)
        _require_count("refits", refits, least=4)
        if N is not None and not (_is_number(N) and math.isfinite(N) and N > 0):
            raise ValueError(
                f"Expected N to be a number of parameters above 0, got {N!r}, so count them or leave it out."
            )
        if not (_is_number(level) and 0.0 < level < 1.0):
            raise ValueError(f"Expected level between 0 and 1, got {level!r}, so give e.g. 0.9 for 90 % intervals.")
        if not name:
            raise ValueError(
                f"Expected name to be a word to put before the metrics, got {name!r}, so give e.g. 'scaling'."
            )
        if price_per_hour is not None and not (
            _is_number(price_per_hour) and math.isfinite(price_per_hour) and price_per_hour >= 0.0
        ):
            raise ValueError(
                f"Expected price_per_hour to be a number >= 0, got {price_per_hour!r}, so give what an hour of all "
                "machines together costs, or leave it out."
            )
        if not isinstance(figures, bool):
            raise TypeError(f"Expected figures to be True or False, got {figures!r}, so say which.")
        if on_departure is not None and not callable(on_departure):
            raise TypeError(
                f"Expected on_departure to be a function of one Departure, got {on_departure!r:.80}, so give e.g. "
                "print."
            )
        rates = _rates(lr_schedule)
        if rates is not None and horizon is not None and rates.size != horizon:
            raise ValueError(
                f"Expected lr_schedule to hold the rates of steps 1..{horizon}, got {rates.size} of them, so give one "
                "per step up to the horizon, or leave one of the two out."
            )
        return cls(
            monitor=monitor,
            rules=_rules("stop", stop),
            advisers=_rules("advise", advise),
            horizon=horizon if rates is None else rates.size,
            rates=rates,
            N=None if N is None else float(N),
            tokens_per_step=tokens_per_step,
            level=float(level),
            refits=refits,
            name=name,
            verbose=bool(verbose),
            store=store if store is None or isinstance(store, RunStore) else RunStore(store),
            tags=_tags(tags),
            figures=figures,
            on_departure=on_departure,
            price_per_hour=None if price_per_hour is None else float(price_per_hour),
        )


def require_held_out(monitor: str | None, rules: Sequence[StopRule]) -> None:
    """Raise where a rule for held-out losses alone is to judge the training loss.

    Raises:
        ValueError: For an `Overfitting` without D, where no metric is monitored.
    """
    if monitor is None and any(isinstance(rule, Overfitting) and rule.D is None for rule in rules):
        raise ValueError(
            "Expected a validation loss to be monitored for Overfitting(), got the training loss, which does not turn, "
            "so give its key first, ScalingLawMonitor('val_loss', stop=Overfitting()), or the tokens of the training "
            "data, Overfitting(D=…)."
        )


def _require_key(monitor: object, name: str) -> None:
    if monitor is None:
        return
    if not isinstance(monitor, str):
        raise TypeError(
            f"Expected monitor to be the key of a logged metric, got {monitor!r}, so give e.g. 'val_loss'; a rule goes "
            "to stop=…."
        )
    if not monitor:
        raise ValueError(
            f"Expected monitor to be the key of a logged metric, got {monitor!r}, so give e.g. 'val_loss', or leave it "
            "out for the training loss."
        )
    if monitor in {f"{name}/{metric}" for metric in METRICS}:
        raise ValueError(
            f"Expected monitor to be logged by the module, got {monitor!r}, which this monitor writes itself, so give "
            "another name=…."
        )


def _rules(argument: str, given: object) -> tuple[StopRule, ...]:
    rules = () if given is None else tuple(given) if isinstance(given, (list, tuple)) else (given,)
    for rule in rules:
        if not isinstance(rule, StopRule):
            raise TypeError(
                f"Expected {argument} to be a StopRule or a list of them, got {rule!r}, so give e.g. "
                "TargetUnreachable(loss=1.9), with its parentheses."
            )
    return rules


def _tags(tags: object) -> Mapping[str, Tag]:
    if tags is None:
        return {}
    fit = isinstance(tags, Mapping) and all(
        isinstance(name, str) and name and isinstance(value, (str, int, float)) for name, value in tags.items()
    )
    if not fit:
        raise TypeError(
            f"Expected tags to be names with text, numbers, True or False, got {tags!r:.80}, so give e.g. "
            '{"task": "text"}.'
        )
    assert isinstance(tags, Mapping)
    return dict(tags)


def _rates(lr_schedule: object) -> NDArray[np.float64] | None:
    if lr_schedule is None:
        return None
    try:
        rates = np.array(lr_schedule, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"Expected lr_schedule to be a list of numbers, got {lr_schedule!r:.80}.") from error
    if rates.ndim != 1 or not rates.size or not np.isfinite(rates).all() or rates.min() < 0.0 or rates.max() == 0.0:
        raise ValueError(
            f"Expected lr_schedule to hold learning rates >= 0, some above 0, got {lr_schedule!r:.80}, so give the "
            "rate of each step from 1 to the end."
        )
    return rates


def _require_count(argument: str, value: object, *, least: int) -> None:
    if value is None and argument != "refits":
        return
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"Expected {argument} to be a whole number, got {value!r}, so give an int.")
    if value < least:
        raise ValueError(f"Expected {argument} to be at least {least}, got {value!r}, so give a larger number.")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
