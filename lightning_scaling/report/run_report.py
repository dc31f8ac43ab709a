"""The page of one run: where it ends, how well that was foreseen, what to do, and what nobody can know."""

from __future__ import annotations

import math
from collections.abc import Iterator

from lightning_scaling.advice import Action, Advice
from lightning_scaling.advice.words import evidence_of, percent
from lightning_scaling.alternatives import Alternative
from lightning_scaling.interval import Interval
from lightning_scaling.ledger import ForecastRecord, holds
from lightning_scaling.report.figures import has_pictures, run_picture
from lightning_scaling.report.markup import Markup, Part, table, tag
from lightning_scaling.report.page import cards, facts, page, section
from lightning_scaling.report.run_story import RunStory
from lightning_scaling.review import Outcome, Stop
from lightning_scaling.units import thousands
from lightning_scaling.verdict import Verdict

__all__ = ["NO_PICTURES", "run_page"]

NO_PICTURES = "There are no pictures, because matplotlib cannot be imported: pip install 'lightning-scaling[plot]'."

#: Standard error of an end, as a share of it, from which on it is shown.
_NO_NOISE = 1e-6
_ACTION = {Action.STOP: ("stop", "bad"), Action.CONTINUE: ("go on", "good"), Action.WAIT: ("wait", "wait")}
_OUTCOME = {
    Outcome.RIGHT_STOP: "good",
    Outcome.RIGHT_GO: "good",
    Outcome.FALSE_STOP: "bad",
    Outcome.MISSED: "wait",
}


def run_page(story: RunStory, title: str | None = None) -> str:
    """Return the page of a run as HTML, under its own name where no title is given."""
    known = facts(story.run.facts, "what is known of the run")
    notes = tag("ul", [tag("li", note) for note in _notes(story)])
    return page(
        "Run report",
        title or story.run.name,
        _headline(story),
        cards(_cards(story)),
        tag(
            "div",
            tag("div", _picture(story), section("What is known of the run", known, class_="later")),
            tag("div", _ledger(story), _advice(story), section("What this report cannot know", notes, class_="last")),
            class_="board",
        ),
        _alternatives(story),
        mark=_state_mark(story),
    )


# The headline -----------------------------------------------------------------------------------------------------


def _state_mark(story: RunStory) -> Markup:
    side = {"finished": "good", "running": "wait", "stopped": "wait", "broken": "bad"}[story.state]
    words = {"running": "not over", "broken": "broken"}.get(story.state, story.state)
    return tag("span", words, class_=f"mark {side}")


def _headline(story: RunStory) -> list[Part]:
    """Return in a few sentences where the run ends, what that is worth and what to do."""
    run, f = story.run, story.forecast
    step = thousands(run.curve.step)
    of = "" if run.horizon is None else f" of {thousands(run.horizon)}"
    if story.state == "broken":
        since = "the start" if not len(run.curve) else f"step {thousands(run.curve.S[-1])}"
        first = f"The last {thousands(run.curve.n_nonfinite)} losses, since {since}, are NaN or infinite."
        return [tag("p", tag("strong", first)), tag("p", "What to do: ", f.verdict.what_to_do)]
    if story.state == "finished":
        return [tag("p", tag("strong", _ended(story)), " ", _foreseen(story))]
    where = f"At step {step}{of}"
    if story.state == "stopped":
        saved = "" if not run.horizon else f", with {100.0 * (1.0 - run.curve.step / run.horizon):.0f} % of it saved"
        where = f"It was stopped at step {step}{of}{saved}. From there"
    if not f.verdict.usable or math.isnan(float(f.final_loss.mid)):
        said = tag("strong", f"{where}, there is no forecast of the final loss")
        return [tag("p", said, " ", _verdict_mark(f.verdict)), _why(f.verdict)]
    should = "would have ended" if story.state == "stopped" else "should end"
    unit = f" {f.unit}" if f.unit else ""
    if not f.schedule_known:
        unit += " if the learning rate stays as it is"
    first = tag("strong", f"{where}, the run {should} at {f.final_loss}{unit}.")
    parts: list[Part] = [tag("p", first, " ", _verdict_mark(f.verdict)), _why(f.verdict)]
    if story.state == "running":
        parts.append(tag("p", "Advice: ", _action_mark(story.advice), " ", story.advice.sentence))
    return parts


def _ended(story: RunStory) -> str:
    steps = thousands(story.run.curve.step)
    if math.isnan(story.truth):
        return f"The run is over after {steps} steps; of its end no loss is known."
    unit = f" {story.run.curve.unit}" if story.run.curve.unit else ""
    return f"The run ended at {_measured(story.truth, story.error)}{unit} after {steps} steps."


def _foreseen(story: RunStory) -> str:
    """Return what was forecast in the middle of a run that is over, and how many intervals held."""
    judged = _judged(story)
    if not judged:
        return "No forecast was made of it that could be used."
    done, loss, off, _ = min(judged, key=lambda row: abs(row[0] - 0.5))
    hits = sum(inside for *_, inside in judged)
    return (
        f"After {100.0 * done:.0f} % of it the forecast was {loss}, which is {abs(off):.2g} too "
        f"{'high' if off > 0.0 else 'low'}; {hits} of {len(judged)} forecasts held it inside their interval."
    )


def _why(verdict: Verdict) -> Markup:
    return tag("p", f"{verdict.why} {verdict.what_to_do}", class_="note")


def _verdict_mark(verdict: Verdict) -> Markup:
    side = "good" if verdict in (Verdict.OK, Verdict.NOT_IDENTIFIED) else "wait" if verdict.usable else "bad"
    return tag("span", str(verdict), class_=f"mark {side}")


def _action_mark(advice: Advice) -> Markup:
    word, side = _ACTION[advice.action]
    return tag("span", word, class_=f"mark {side}")


# The numbers ------------------------------------------------------------------------------------------------------


def _cards(story: RunStory) -> Iterator[tuple[str, Part, Part]]:
    run, f = story.run, story.forecast
    if story.state == "finished":
        if not math.isnan(story.truth):
            yield "ended at", _measured(story.truth, story.error), "mean of the last 2 %, with its standard error"
        if judged := _judged(story):
            yield "intervals that held", f"{sum(inside for *_, inside in judged)} of {len(judged)}", "one per tenth"
    elif f.verdict.usable and not math.isnan(float(f.final_loss.mid)):
        yield "forecast of the end", f.final_loss.short(), _range(f.final_loss)
        yield "loss now", f.present_loss.short(), "free of the noise of single steps"
        if f.rises_since is None:
            yield "still to fall", f.remaining_gain.short(), _range(f.remaining_gain)
    if story.state == "broken" and len(run.curve):
        yield "last finite loss", f"{run.curve.L[-1]:.4g}", f"at step {thousands(run.curve.S[-1])}"
    if run.horizon is not None and run.curve.step < run.horizon:
        done = f"{100.0 * run.curve.step / run.horizon:.0f} %"
        yield "done", done, f"step {thousands(run.curve.step)} of {thousands(run.horizon)}"
    else:
        yield "steps", thousands(run.curve.step), None
    if f.verdict.usable or f.verdict is Verdict.NO_HORIZON:
        if math.isfinite(float(f.converged_loss.mid)):
            yield "converged loss", f.converged_loss.short(), "for endless training of this model"
        if math.isfinite(float(f.alpha_S.mid)):
            yield "exponent alpha_S", f.alpha_S.short(), _range(f.alpha_S)
    if f.n_siblings:
        yield "borrowed from", f"{f.n_siblings} runs", "finished ones of its kind"


def _range(interval: Interval) -> str:
    text = str(interval)
    return text[text.find("(") + 1 : -1] if text.endswith(")") else text


def _measured(x: float, error: float) -> str:
    # Where the noise is not known, its place is held by next to nothing.
    return Interval(x - error, x, x + error, 0.68).short() if error > _NO_NOISE * abs(x) else f"{x:.4g}"


# The picture and the ledger ---------------------------------------------------------------------------------------


def _picture(story: RunStory) -> Markup | None:
    if not has_pictures():
        return section("The run", tag("p", NO_PICTURES, class_="note"))
    return None if (drawn := run_picture(story)) is None else section("The run", drawn)


def _judged(story: RunStory) -> list[tuple[float, Interval, float, bool]]:
    """Return of each forecast that can be held against the end: share done, what it said, how far off, whether inside.

    Only those count that could be used, and that spoke of the end that the run then had.
    """
    found = []
    horizon = _spoken_of(story)
    for record in _tenths(story):
        loss = record.final_loss
        if math.isnan(story.truth) or horizon is None or not _counts(record.verdict, record.horizon, horizon, loss):
            continue
        off = float(loss.mid) - story.truth
        found.append((record.step / horizon, loss, off, holds(loss, story.truth)))
    return found


def _tenths(story: RunStory) -> list[ForecastRecord]:
    """Return the newest forecast of each tenth of the run; in a run of a few steps some tenths share one."""
    return list({record.step: record for _, record in story.ledger.at_tenths()}.values())


def _spoken_of(story: RunStory) -> int | None:
    """Return the planned end that the newest forecasts spoke of [steps]."""
    return next((r.horizon for r in reversed(story.ledger.records) if r.horizon is not None), None)


def _counts(verdict: Verdict, spoken: int | None, horizon: int, loss: Interval) -> bool:
    return verdict.usable and spoken == horizon and math.isfinite(float(loss.mid))


def _ledger(story: RunStory) -> Markup:
    title = "What was forecast, and what happened" if story.state == "finished" else "What was forecast so far"
    horizon, rows = _spoken_of(story), _tenths(story)
    if horizon is None or not rows:
        why = "the planned end is not known" if horizon is None else "the run was too short for one"
        return section(title, tag("p", f"There is no forecast of the final loss: {why}."))
    known, level = not math.isnan(story.truth), rows[-1].final_loss.level
    cells: list[list[Part]] = []
    for record in rows:
        loss = record.final_loss
        usable = record.verdict.usable and math.isfinite(float(loss.mid))
        said = _bounds(loss, level) if usable else "none"
        row: list[Part] = [f"{100.0 * record.step / horizon:.0f} %", thousands(record.step), said]
        if known and _counts(record.verdict, record.horizon, horizon, loss):
            inside = holds(loss, story.truth)
            mark = tag("span", "yes" if inside else "no", class_=f"mark {'good' if inside else 'bad'}")
            row += [f"{float(loss.mid) - story.truth:+.2g}", mark]
        elif known:
            row += ["–", "–"]
        another = usable and record.horizon != horizon
        end = f", for an end at step {_steps(record.horizon)}" if another else ""
        cells.append([*row, tag("div", f"{record.verdict}{end}", class_="narrow")])
    if known:
        cells.append(["100 %", thousands(horizon), f"ended at {_measured(story.truth, story.error)}", "", "", ""])
    said = f"forecast of the end ({100.0 * level:g} %)"
    head = ["done", "at step", said, *(["off", "inside"] if known else []), "verdict"]
    made = (
        "Made for this report, each from what the run had shown by then."
        if story.remade
        else "As they were made while the run went on; of each tenth the newest."
    )
    noise = " The end is a mean of noisy steps; the intervals allow for that." if known and story.error > 0.0 else ""
    return section(title, table(head, cells, title, left=(2, len(head) - 1)), tag("p", made + noise, class_="note"))


def _bounds(interval: Interval, level: float) -> str:
    """Return an interval, its level left out where the head of the column names it."""
    return str(interval).replace(f", {100.0 * level:g} %)", ")")


def _steps(horizon: int | None) -> str:
    return "unknown" if horizon is None else thousands(horizon)


# Advice and alternatives ------------------------------------------------------------------------------------------


def _advice(story: RunStory) -> Markup | None:
    if story.stops:
        rows = [_stop_row(stop, story) for stop in story.stops]
        note = (
            "Each rule as it would have acted in a Trainer: after a fifth of the run, once it had stood for a tenth of "
            "it, and on a learning rate that was known ahead; “diverged” at once."
        )
        head = ["rule", "stops at", "saves", "outcome"]
        shown = table(head, rows, "what stop rules would have done", left=(0, 3))
        return section("What stop rules would have done", shown, tag("p", note, class_="note"))
    if not story.opinions:
        return None
    rows = [[words, _action_mark(one), one.reason.value, _evidence(one, story)] for words, one in story.opinions]
    return section(
        "Advice, and what it rests on",
        # The page begins with the advice on a run that goes on.
        None if story.state == "running" else tag("p", _action_mark(story.advice), " ", story.advice.sentence),
        table(["rule", "says", "because", "numbers"], rows, "advice of each rule", left=(0, 1, 2, 3)),
        tag("p", "Nothing is stopped by a report; a rule acts in a Trainer only once it has stood.", class_="note"),
    )


def _stop_row(stop: Stop, story: RunStory) -> list[Part]:
    mark = tag("span", stop.outcome.value, class_=f"mark {_OUTCOME[stop.outcome]}")
    if stop.step is None:
        return [stop.label, "–", "–", mark]
    return [stop.label, thousands(stop.step), f"{100.0 * stop.saved:.0f} %", mark]


def _evidence(advice: Advice, story: RunStory) -> str:
    """Return the numbers that are this rule's own; what all of them rest on is at the top of the page."""
    common = evidence_of(story.forecast)
    words = []
    for key, value in advice.evidence.items():
        if key in common or math.isnan(value) or (key == "n_nonfinite" and not value):
            continue
        name = key.replace("_", " ").replace("n nonfinite", "losses not finite")
        if key == "probability":
            words.append(f"probability {percent(value)}")
        elif key == "departure":
            words.append(f"newest losses {value:+.1f} sigma off")
        else:
            words.append(f"{name} {value:.4g}")
    return ", ".join(words) or "–"


def _alternatives(story: RunStory) -> Markup | None:
    if not story.alternatives:
        return None
    priced = any(one.hours is not None for one in story.alternatives)
    paid = any(one.money is not None for one in story.alternatives)
    first = story.alternatives[0].planned
    empty = ["–"] * (priced + paid)
    rows: list[list[Part]] = [
        ["as planned", thousands(first.horizon or 0), str(first.final_loss), "–", "–", *empty, str(first.verdict)]
    ]
    rows += [_alternative_row(one, priced=priced, paid=paid) for one in story.alternatives]
    head = ["what", "ends at step", "ends at", "difference", "steps", *(["time"] if priced else [])]
    head += [*(["money"] if paid else []), "verdict"]
    sentences = [tag("p", one.sentence()) for one in story.alternatives]
    decays = any(one.decay_steps is not None for one in story.alternatives)
    note = "What a decay brings that the run has not shown is known from other runs only." if decays else None
    shown = table(head, rows, "other ways to go on", left=(0, 2, 3, len(head) - 1))
    return section("Other ways to go on", sentences, shown, tag("p", note, class_="note") if note else None)


def _alternative_row(one: Alternative, *, priced: bool, paid: bool) -> list[Part]:
    name = one.name if one.decay_steps is None else f"decay now, over {thousands(one.decay_steps)} steps"
    row: list[Part] = [name, thousands(one.other.horizon or 0), str(one.other.final_loss), str(one.difference)]
    row.append(f"{'+' if one.steps > 0 else '-'}{thousands(abs(one.steps))}")
    if priced:
        row.append("–" if one.hours is None else f"{_signed(one.hours)} h")
    if paid:
        row.append("–" if one.money is None else _signed(one.money))
    return [*row, str(one.other.verdict)]


def _signed(x: float) -> str:
    return f"{x:+.3g}" if abs(x) < 999.5 else f"{x:+,.0f}".replace(",", " ")


# What nobody can know ---------------------------------------------------------------------------------------------


def _notes(story: RunStory) -> Iterator[str]:
    run, f = story.run, story.forecast
    yield from run.notes
    if story.state == "running":
        level = 100.0 * f.level
        yield f"Of {level:g} % intervals, {100.0 - level:g} % do not hold; that is meant so."
        yield "A change of data, batch size or learning rate that is not in the plan is not in the forecast."
    if f.verdict is Verdict.BEFORE_DECAY or any(x.decay_steps is not None for x in story.alternatives):
        yield "The run does not show what a decay of its learning rate brings before the decay has begun."
    if story.state != "finished" and not f.schedule_known:
        yield "The learning rate ahead is not known: it is taken to stay as it is, and no rule acts on that."
    if f.verdict is Verdict.NOT_IDENTIFIED:
        yield "Where the loss would go in endless training does not show yet; the final loss is not touched by this."
    if run.curve.N is None:
        yield "The size of the model is not known, so there is nothing about compute here."
    if not f.n_siblings and story.state == "running":
        yield "No finished runs were given to borrow from: the forecast rests on this run alone."
    yield "The losses are forecast as they were logged: a training loss says nothing of overfitting."
