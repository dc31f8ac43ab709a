"""``lightning-scaling plan``: how large a model, how many steps, which batch."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lightning_scaling.cli import options as o
from lightning_scaling.cli import output

if TYPE_CHECKING:
    from lightning_scaling.own_laws import OwnLaws
    from lightning_scaling.planner import Answer, Plan

_SECONDS = {"": 1.0, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SPREADS = (
    *("N", "D", "S", "B", "tokens_per_parameter", "L", "C", "time_s", "ratio"),
    *("data_needed", "passes", "overfitting"),
)
_NAMES = {"ratio": "batch_ratio"}


def plan(
    compute: Annotated[float | None, typer.Option(help="Compute to spend [FLOP], 6 N x tokens.")] = None,
    time: Annotated[
        str | None, typer.Option(metavar="10d", help="Time to spend: 90min, 12h, 10d, 3w; needs --flops.")
    ] = None,
    flops: Annotated[float | None, typer.Option(help="What all devices together achieve in training [FLOP/s].")] = None,
    loss: Annotated[float | None, typer.Option(help="Loss to reach [nats/token].")] = None,
    batch: Annotated[float | None, typer.Option(help="Batch size [tokens/step]; default: the critical one.")] = None,
    data: Annotated[float | None, typer.Option(help="Unique tokens at hand.")] = None,
    store: o.Store = None,
    tag: o.Tags = None,
    level: o.Level = 0.9,
    as_json: o.AsJson = False,
) -> None:
    """Plan a run for a budget of compute or time, or for a loss: model size, steps, batch and tokens, with ranges.

    The laws of Kaplan et al. and of Hoffmann et al. answer side by side. With --store they are fitted to the finished
    runs there of known size and batch that held their learning rate, at three sizes or more; else, or where these do
    not carry a fit, the constants are the papers', which is said.
    """
    from lightning_scaling.planner import PUBLISHED
    from lightning_scaling.planner import plan as make_plan

    with output.failing():
        time_s = None if time is None else _seconds(time)
        given = sum(value is not None for value in (compute, time_s, loss))
        if given != 1:
            raise ValueError(
                f"Expected one of --compute, --time and --loss, got {given}, so ask about a budget of compute, a "
                "budget of time, or a loss."
            )
        if time is not None and flops is None:
            raise ValueError(
                "Expected --flops beside --time, got none, so give what your devices achieve together in training."
            )
    own = None if store is None else _own(store, tag, batch, level)
    laws = PUBLISHED if own is None or own.laws is None else own.laws
    if batch is not None and laws.batch is not None:
        batch = laws.batch  # the mean of runs that were chosen by it
    with output.failing():
        found = make_plan(C=compute, time_s=time_s, flop_per_s=flops, L=loss, B=batch, data=data, laws=laws)
    if as_json:
        output.print_json(_data(found, store, own))
        return
    if own is not None:
        typer.echo(f"{_own_words(store, own)}\n")
    typer.echo(str(found))


def _own(url: str, tags: list[str] | None, batch: float | None, level: float) -> OwnLaws:
    from lightning_scaling.own_laws import own_laws

    runs = o.stored_runs(o.open_store(url), tags)
    with output.failing():
        return own_laws(runs, B=batch, level=level)


def _own_words(url: str | None, own: OwnLaws) -> str:
    """Return what became of the runs of the store."""
    if own.laws is None:
        return f"THE RUNS IN {url} DO NOT CARRY A FIT. {own.reason}"
    left = ", ".join(f"{count} {why}" for why, count in own.left_out.items())
    of = f"{own.n_runs} runs of {own.n_sizes} sizes in {url}"
    return f"The laws are fitted to {of}; left out: {left}." if left else f"The laws are fitted to {of}."


def _seconds(text: str) -> float:
    """Return a time in seconds from a number with a unit.

    Example:
        >>> _seconds("90min"), _seconds("1.5 d"), _seconds("600")
        (5400.0, 129600.0, 600.0)
    """
    match = re.fullmatch(r"\s*([0-9.]+(?:[eE][-+]?[0-9]+)?)\s*([a-z]*)\s*", text)
    unit = _SECONDS.get(match[2]) if match else None
    try:
        number = float(match[1]) if match else None
    except ValueError:
        number = None
    if number is None or unit is None:
        raise ValueError(f"Expected a time such as 90min, 12h, 10d or 3w, got '{text}', so write it so.")
    return number * unit


def _data(found: Plan, url: str | None, own: OwnLaws | None) -> dict[str, Any]:
    laws = found.laws
    fitted = None
    if own is not None:
        fitted = {
            "url": url,
            "used": own.laws is not None,
            "why_not": own.reason or None,
            "runs": own.n_runs,
            "sizes": own.n_sizes,
            "left_out": dict(own.left_out),
        }
    return {
        "asked": {"C": found.C, "L": found.L, "flop_per_s": found.flop_per_s, "B": found.B, "data": found.data},
        "constants": {"published": laws.published, "source": laws.source, "level": laws.level, "batch": laws.batch},
        "store": fitted,
        "kaplan": _answer_data(found.kaplan),
        "hoffmann": _answer_data(found.hoffmann),
        "trade": [
            {"batch_ratio": row.ratio, "B": row.B, "S": row.S, "C": row.C, "time_s": row.time_s} for row in found.trade
        ],
        "notes": list(found.notes),
    }


def _answer_data(answer: Answer | None) -> dict[str, Any] | None:
    if answer is None:
        return None
    spreads = {name: getattr(answer, name) for name in _SPREADS}
    data: dict[str, Any] = {
        _NAMES.get(name, name): None if value is None else output.interval(value) for name, value in spreads.items()
    }
    return data | {
        "decades_beyond": {"N": answer.N_beyond, "D": answer.D_beyond},
        "reached": answer.reached,
    }
