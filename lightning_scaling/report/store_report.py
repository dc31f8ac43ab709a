"""The page of a store: its runs, what its forecasts were worth, and one law for all of them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from lightning_scaling.describe import describe_rates
from lightning_scaling.ledger import recent_loss
from lightning_scaling.pictures.axes import of_size
from lightning_scaling.planner.spread import number
from lightning_scaling.report.figures import calibration_picture, has_pictures, size_pictures
from lightning_scaling.report.markup import Markup, Part, table, tag
from lightning_scaling.report.page import cards, page, section
from lightning_scaling.report.run_report import NO_PICTURES
from lightning_scaling.report.store_story import FIRST, JUDGED, StoreStory, end_of
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.store import StoredRun
from lightning_scaling.track_record import KEY
from lightning_scaling.units import thousands

__all__ = ["store_page"]

#: Rates of a schedule that are looked at to name it.
_LOOKS = 2000
_STATE = {"finished": "good", "running": "wait", "stopped": "wait"}
#: Tags that other columns show, or that every run has.
_SHOWN_ELSEWHERE = ("name", "loss")


def store_page(story: StoreStory, title: str) -> str:
    """Return the page of a store as HTML."""
    return page(
        "Store report",
        title,
        _headline(story),
        cards(_cards(story)),
        _record(story),
        _family(story),
        _plans(story),
        _runs(story),
        _skipped(story),
        section("What this report cannot know", tag("ul", [tag("li", note) for note in _notes(story)])),
    )


def _headline(story: StoreStory) -> list[Part]:
    n, over = len(story.runs), len(story.finished)
    if not n:
        return [tag("p", tag("strong", "There are no runs in this store yet."))]
    sizes = sorted({float(run.N) for run in story.runs if run.N is not None})
    of = "" if not sizes else f", N from {of_size(sizes[0])} to {of_size(sizes[-1])}"
    if len(sizes) == 1:
        of = f", N = {of_size(sizes[0])}"
    runs = f"{thousands(n)} run{'s' * (n != 1)}, {'all' if over == n else thousands(over)} finished{of}."
    said = str(story.record)
    return [tag("p", tag("strong", runs), f" {said[:1].upper()}{said[1:]}.")]


def _cards(story: StoreStory) -> Iterator[tuple[str, Part, Part]]:
    if not story.runs:
        return
    states = {state: sum(run.state == state for run in story.runs) for state in _STATE}
    yield "runs", thousands(len(story.runs)), ", ".join(f"{n} {state}" for state, n in states.items() if n)
    sizes = {round(math.log(run.N), 2) for run in story.runs if run.N is not None}
    if sizes:
        yield "sizes of model", str(len(sizes)), None
    if story.record.n:
        share = f"{100.0 * story.record.held / story.record.n:.0f} %"
        yield "intervals that held", f"{story.record.held} of {story.record.n}", f"{share}, at {_level(story)} meant"
        factor = story.record.factor
        remark = "they held often enough" if factor == 1.0 else "they held less often than meant"
        yield "new intervals are widened", "no" if factor == 1.0 else f"{factor:.2f} times", remark
    ends = [(float(run.final_loss), run) for run in story.finished if end_of(run) is not None and run.final_loss]
    if ends:
        loss, best = min(ends, key=lambda pair: pair[0])
        yield "lowest final loss", f"{loss:.4g}", tag("bdi", str(best.tags.get("name", best.id)))
    tokens = sum(run.tokens or 0.0 for run in story.runs)
    if tokens:
        yield "tokens seen", of_size(tokens), "by all runs that tell their batch size"
    if samples := sum(run.samples or 0.0 for run in story.runs):
        yield "samples seen", of_size(samples), "by all runs that tell their batch size in samples"


def _level(story: StoreStory) -> str:
    return f"{100.0 * story.record.level:.0f} %"


def _record(story: StoreStory) -> Markup | None:
    if not story.runs:
        return None
    title = "What the forecasts were worth"
    if not story.tenths:
        return section(title, tag("p", "No forecast of a finished run has been held against its end yet."))
    rows: list[list[Part]] = []
    for row in story.tenths:
        share = f"{100.0 * row.held / row.n:.0f} %"
        rows.append([f"{row.tenth}0 %", str(row.n), str(row.held), share, _number(row.error), _number(row.half_width)])
    head = ["done", "forecasts", "held", "share", "mean error", "mean half-width"]
    note = (
        f"The newest forecast made in each tenth of every finished run, its {_level(story)} interval held against the "
        "end; that is a mean of noisy steps, which is allowed for. Forecasts of one run err together, so the count is "
        "of fewer independent cases than it says."
    )
    if len(story.finished) > JUDGED:
        note += f" Of {thousands(len(story.finished))} finished runs the newest {JUDGED} are in the table."
    shown = table(head, rows, title, left=())
    picture = calibration_picture(story) if has_pictures() else None
    return section(title, tag("div", [tag("div", shown, tag("p", note, class_="note")), picture], class_="columns"))


def _family(story: StoreStory) -> Markup | None:
    if not story.runs:
        return None
    title, family, joint = "One law for all sizes", story.family, story.joint
    if family is None:
        why = "It takes runs of two sizes or more that are alike in batch size, schedule and data, with N known."
        return section(title, tag("p", f"There is nothing to compare by size. {why}"))
    sizes = f"{len(family.runs)} runs, one per size, the longest of each"
    batch = "" if not family.batch else f", batch {thousands(family.batch)}{_samples(family.runs[0])}"
    parts: list[Part] = []
    if joint is None:
        why = (
            f"L(N, S) is fitted to runs of three sizes or more at a constant rate, and here are {len(family.runs)}."
            if family.constant
            else "L(N, S) is fitted to runs at a constant rate, and these have none: a loss in the middle of a decay "
            "is not the loss of a shorter run."
        )
        parts.append(tag("p", f"{sizes}{batch}. {why}"))
    elif joint.reason:
        parts.append(tag("p", f"No L(N, S) from {joint.n_runs} runs: {joint.reason}"))
    else:
        parts.append(tag("p", f"L(N, S) = E + (N_c/N)^alpha_N + (S_c/S)^alpha_S, fitted to {sizes}{batch}."))
        parts.append(_constants(story))
    if has_pictures():
        parts.append(tag("div", size_pictures(story), class_="columns"))
    else:
        parts.append(tag("p", NO_PICTURES, class_="note"))
    return section(title, parts)


def _constants(story: StoreStory) -> Markup:
    joint = story.joint
    assert joint is not None
    words = {
        "alpha_N": "exponent of the size",
        "alpha_S": "exponent of the steps",
        "N_c": "scale of the size [parameters]",
        "S_c": "scale of the steps [steps]",
        "E": "irreducible loss",
    }
    rows: list[list[Part]] = []
    for name, meaning in words.items():
        value = getattr(joint, name)
        rows.append([name, meaning, number(value.mid), f"{number(value.low)} to {number(value.high)}"])
    level = f"{100.0 * joint.E.level:g} % interval"
    shown = table(["constant", "what", "median", level], rows, "constants of the law", left=(0, 1))
    own, shared = joint.scatter
    note = (
        f"Steps {thousands(joint.steps[0])} to {thousands(joint.steps[1])}; the first {100.0 * FIRST:.0f} % of each "
        f"run is left out as transient. Runs scatter about the law by {own:.2g} each and {shared:.2g} together. The "
        "constants go together, so that their intervals are wide where the loss itself is well known."
    )
    return tag("div", shown, tag("p", note, class_="note"))


def _plans(story: StoreStory) -> Markup | None:
    if not story.plans or story.joint is None:
        return None
    level = story.joint.E.level
    rows: list[list[Part]] = []
    for times, one in story.plans:
        answer = one.hoffmann
        if answer is None:
            continue
        steps = answer.D.mid / float(story.family.batch) if story.family and story.family.batch else math.nan
        budget = "as much" if times == 1.0 else f"{times:g} times as much"
        row: list[Part] = [budget, number(one.C or math.nan, 3), str(answer.N), str(answer.D), number(steps)]
        rows.append([*row, str(answer.L), _beyond(answer.N_beyond, answer.D_beyond)])
    if not rows:
        return None
    head = ["budget", "compute [FLOP]", "best N", "tokens", "steps at this batch", "loss", "beyond what was explored"]
    asked = "The best model for the compute of the largest of these runs, and for more, by the law above."
    note = (
        f"In brackets: {100.0 * level:g} % intervals over the draws of the fit. Compute is 6 N B S with B in tokens; "
        "the losses are those at a constant rate, before a decay."
    )
    shown = table(head, rows, "what the law plans", left=(0, 2, 3, 5, 6))
    return section("The next run", tag("p", asked), shown, tag("p", note, class_="note"))


def _beyond(N: float | None, D: float | None) -> str:
    words = [
        f"{name} {number(10.0 ** abs(x))} times {'above' if x > 0.0 else 'below'}"
        for name, x in (("N", N), ("tokens", D))
        if x
    ]
    return ", ".join(words) or "inside"


def _runs(story: StoreStory) -> Markup | None:
    if not story.runs:
        return None
    common = _common(story)
    keys = [key for run in story.runs for key in run.tags if key not in _SHOWN_ELSEWHERE and key not in common]
    keys = list(dict.fromkeys(keys))
    words: dict[int, str] = {}
    rows = [_run_row(run, keys, words) for run in sorted(story.runs, key=_by_size)]
    head = ["run", "state", "N", "steps", "batch", "learning rate", "loss", "held", *(["tags"] * bool(keys))]
    shown = table(head, rows, "all runs", left=(0, 1, 5, 6, 8), class_="scroll tall")
    note = (
        "The loss of a finished run is the mean over its last 2 %, ± its standard error; of one that goes on, the "
        "newest, and what it was last forecast to end at. Held: forecasts at its tenths whose interval held the end."
    )
    same = ", ".join(f"{key}={value}" for key, value in common.items())
    shared = tag("p", "All have ", tag("bdi", same), ".") if same else None
    return section("All runs", shared, shown, tag("p", note, class_="note"), class_="long")


def _samples(run: StoredRun) -> str:
    return " samples" if run.batch_unit == "samples" else ""


def _common(story: StoreStory) -> dict[str, object]:
    """Return the tags that all of several runs have alike."""
    first, *others = (run.tags for run in story.runs)
    if not others:
        return {}
    return {key: value for key, value in first.items() if all(tags.get(key) == value for tags in others)}


def _by_size(run: StoredRun) -> tuple[float, str, str]:
    return (math.inf if run.N is None else float(run.N), run.started, run.id)


def _run_row(run: StoredRun, keys: list[str], words: dict[int, str]) -> list[Part]:
    steps = thousands(run.curve.step)
    if run.horizon is not None and run.horizon != run.curve.step:
        steps += f" of {thousands(run.horizon)}"
    row: list[Part] = [
        tag("bdi", str(run.tags.get("name", run.id)), class_="name"),
        tag("span", run.state, class_=f"mark {_STATE[run.state]}"),
        "–" if run.N is None else of_size(float(run.N)),
        steps,
        "–" if run.batch is None else f"{thousands(run.batch)}{_samples(run)}",
        _rate_words(run.lr_schedule, words),
        _loss(run),
        _held(run),
    ]
    if keys:
        tags = [f"{key}={run.tags[key]}" for key in keys if key in run.tags]
        row.append(tag("div", tag("bdi", ", ".join(tags) or "–"), class_="wide"))
    return row


def _rate_words(schedule: LRSchedule | None, words: dict[int, str]) -> str:
    """Return the shape of a schedule in a few words; runs of one ladder often share one."""
    if schedule is None or not schedule.known:
        return "not known"
    if id(schedule) not in words:
        sampled = schedule.rate_at(np.unique(np.linspace(1.0, schedule.horizon, _LOOKS).round()))
        words[id(schedule)] = describe_rates(sampled).split(" after ")[0].split(" over the last ")[0]
    return words[id(schedule)]


def _loss(run: StoredRun) -> str:
    if run.curve.n_nonfinite:
        return f"the last {thousands(run.curve.n_nonfinite)} not finite"
    if (end := end_of(run)) is not None:
        return end.short() if run.final_loss_error > 0.0 else f"{run.final_loss:.4g}"
    if not len(run.curve):
        return "none yet"
    records = run.forecasts.records
    now = f"{recent_loss(run.curve):.4g} now"
    if records and records[-1].verdict.usable and math.isfinite(float(records[-1].final_loss.mid)):
        return f"{now}, to end at {records[-1].final_loss.short()}"
    return now


def _held(run: StoredRun) -> str:
    score: Any = run.derived.get(KEY)
    try:
        return f"{int(score['held'])} of {int(score['n'])}"
    except (KeyError, TypeError, ValueError):
        return "–"


def _skipped(story: StoreStory) -> Markup | None:
    if not story.skipped:
        return None
    rows = [[tag("bdi", name, class_="name"), tag("div", why, class_="wide")] for name, why in story.skipped.items()]
    return section(
        "Files that were skipped",
        tag("p", "They are no runs of this version; they are left as they are."),
        table(["file", "what it is"], rows, "skipped files", left=(0, 1), class_="scroll tall"),
    )


def _notes(story: StoreStory) -> Iterator[str]:
    yield "Runs are told apart by what the store knows of them; what was not tagged, such as data or code, may differ."
    if any(run.state == "running" for run in story.runs):
        yield "A run that is shown as running may have died: the store hears of a run from its own job alone."
    if story.joint is not None and not story.joint.reason:
        yield "Each size was trained once or is taken once: what another seed would change is not known."
        yield "The law is of runs at a constant rate; a decay ends lower than it says."
        yield "Beyond the sizes and steps of these runs the law is an extrapolation."
    if story.record.n:
        yield "Intervals that held so far are no promise for runs of another kind."


def _number(x: float) -> str:
    return f"{x:.3g}"
