"""How often does the break-away alarm cry wolf, and how soon does it see a loss that has left its forecast?

    python -m benchmarks.alarm [--curves DIR] [--out docs/alarm.md]

Every run is gone through as a monitor does: forecast at its refits, each loss held against them. Then the same with a
shift of the loss planted at 20, 40, 60 and 80 % of it. Without a folder (see `benchmarks.curves` for its form) only
runs made by the law are gone through.
"""

from __future__ import annotations

import argparse
import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.curves import RunCurve, load_curves
from benchmarks.synthetic import SyntheticRun, constant, cosine, wsd
from benchmarks.tables import Table
from lightning_scaling.alarm import Departure
from lightning_scaling.alarm.band import Band
from lightning_scaling.alarm.watch import THRESHOLDS, Alarm
from lightning_scaling.forecast import forecast
from lightning_scaling.refits import next_refit
from lightning_scaling.schedule import LRSchedule
from lightning_scaling.windows import CurveBuilder

Array = NDArray[np.float64]

SHARES, SIZES = (0.2, 0.4, 0.6, 0.8), (5.0, 3.0, 2.0)
#: Sigmas beyond which an oracle sees a shift.
ORACLE = 5.0
#: Thresholds among which those of a jump, upwards and downwards are chosen; false alarms that each may give per run.
TRIED = ((4.0, 4.25, 4.5, 5.0, 6.0, 7.0), (4.0, 4.5, 5.0, 5.5, 6.0, 7.0), (5.0, 6.0, 7.0, 8.0))
ALLOWED = (0.025, 0.0125, 0.0125)
#: A shift is looked for so far, and counts as found soon within this share of the run.
_LOOKED, SOON = 0.08, 0.02
#: Losses that the noise is measured from: within this share of the run, at least so many.
_NEAR, _POINTS = 0.025, 9
#: An oracle knows the run about so much of it to either side of a shift, and of what degree its course is.
_TOLD, _DEGREE = 0.08, 3
#: Logged losses within that share below which a shift cannot be told from a spike so soon.
FEWEST = 4
#: Runs that break visibly: each leaves its course by far more than noise, and stays away or comes back slowly.
BROKEN = {
    "ap_wmt_glu_tanh_baseline": "loses all it has learnt at 13 % of the run",
    "ap_librispeech_conformer_nadamw_sequential": "loses all it has learnt at 43 and at 85 % of the run",
    "ap_librispeech_conformer_caspr_adaptive": "jumps up by half of its loss at 68 % of the run, and again at 95 %",
    "ap_imagenet_resnet_sinv6_75": "several times its loss at 63 and at 86 % of the run",
    "ap_imagenet_resnet_large_bn_init_sinv6_75": "several times its loss again and again from 66 % of the run on",
}

Refits = Mapping[int, Band | None]
Thresholds = tuple[float, float, float]


@dataclass(frozen=True)
class Planted:
    """What came of one shift.

    Attributes:
        run: The run.
        share: Where it was planted, as a share of the run.
        size: Its size, in standard deviations of one logged loss.
        wander: Whether these take in correlated wander.
        oracle: Standard deviations by which it stands out to one who is told its place (`oracle_sigmas`).
        delay: Share of the run from the shift until it was noticed, infinite where it was not.
        dense: Whether enough losses are logged within 2 % of the run to tell a shift from a spike.
    """

    run: RunCurve
    share: float
    size: float
    wander: bool
    oracle: float
    delay: float
    dense: bool


class Course:
    """A run as a monitor goes through it: its windows, its forecasts when they are due, and the alarm.

    Args:
        run: The run.
        thresholds: Those of the alarm.
        refits: Forecasts that are known already; they are not made anew.
        planned: Whether its end is known, and its learning rates where they were logged.
    """

    def __init__(
        self, run: RunCurve, thresholds: Thresholds, refits: Refits | None = None, *, planned: bool = True
    ) -> None:
        self.run, self.alarm, self.made = run, Alarm(thresholds), dict(refits or {})
        self.alarm.horizon = run.T if planned else None
        rates = run.rates() if planned else None
        self._schedule = None if rates is None else LRSchedule.from_array(rates)
        self._builder, self._due, self._done = CurveBuilder(), next_refit(0, self.alarm.horizon, 40), 0.0

    def go(self, L: Array, until: float = np.inf) -> Course:
        """Go on up to a step [steps] with losses of shape (n,) [unit of the loss]."""
        run, T = self.run, self.alarm.horizon
        there = (run.S >= 1.0) & (run.S > self._done) & (run.S <= until)
        self._done = until
        for step, loss in zip(np.ceil(run.S[there]).astype(int).tolist(), L[there].tolist(), strict=True):
            self._builder.append(step, loss)
            self.alarm.take([step], [loss])
            if step < self._due:
                continue
            self._due = next_refit(step, T, 40)
            if step not in self.made:
                said = forecast(self._builder.curve(), horizon=T, lr_schedule=self._schedule)
                self.made[step] = Band.of(said, self._schedule, max(3.0 * (self._due - step), 0.15 * (T or step)))
            if (band := self.made[step]) is not None:
                self.alarm.hold(band)
        return self

    def copy(self) -> Course:
        """Return the same course, which can go on by itself."""
        twin = copy.copy(self)
        twin.alarm, twin._builder = copy.deepcopy(self.alarm), CurveBuilder.from_state(self._builder.state_dict())
        twin.made = {step: band for step, band in self.made.items() if step <= self._done}
        return twin


def departures(run: RunCurve, refits: Refits, thresholds: Thresholds) -> list[Departure]:
    """Return what the alarm finds in a run whose forecasts are known."""
    return Course(run, thresholds, refits).go(run.L).alarm.found


def noise_at(run: RunCurve, step: float) -> float:
    """Return the standard deviation of one logged loss about a straight line, near a step [unit of the loss]."""
    nearest = np.argsort(np.abs(run.S - step), kind="stable")
    near = nearest[: max(int((np.abs(run.S - step) < _NEAR * run.T).sum()), _POINTS)]
    S, L = (run.S[near] - step) / run.T, run.L[near]
    off = L - np.polyval(np.polyfit(S, L, 1), S)
    return float(np.median(np.abs(off - np.median(off)))) / 0.6745 * float(np.sqrt(near.size / (near.size - 2.0)))


def wander_at(run: RunCurve, step: float) -> float:
    """Return the standard deviation of the losses of 4 % of the run about a straight line [unit of the loss]."""
    nearest = np.argsort(np.abs(run.S - step), kind="stable")
    near = nearest[: max(int((np.abs(run.S - step) < SOON * run.T).sum()), _POINTS)]
    S, L = (run.S[near] - step) / run.T, run.L[near]
    off = L - np.polyval(np.polyfit(S, L, 1), S)
    return float(np.sqrt((off**2).sum() / (near.size - 2.0)))


def oracle_sigmas(run: RunCurve, step: float, size: float) -> float:
    """Return by how many standard deviations a shift stands out to one who is told where it is.

    It also knows the run without the shift: noise of a size, and of a correlation from one loss to the next, that are
    those about a cubic through the losses from 8 % of the run before to 8 % after. From that cubic the losses up to 2 %
    after the step are off by a level, a slope and the shift; generalised least squares, the first of each whitened.
    """
    near = np.abs(run.S - step) <= _TOLD * run.T
    S, L = (run.S[near] - step) / (_TOLD * run.T), run.L[near]
    if S.size < _POINTS:
        return 0.0
    rest = L - np.polyval(np.polyfit(S, L, _DEGREE), S)
    r = float(rest[1:] @ rest[:-1] / (rest @ rest)) if rest.any() else 0.0
    # The cubic takes as much out of the correlation as out of the variance.
    phi = float(np.clip((r + _DEGREE / S.size) / (1.0 - min((_DEGREE + 2.0) / S.size, 0.5)), 0.0, 0.95))
    fresh = _whitened(rest, phi)
    variance = float(fresh @ fresh) / (S.size - _DEGREE - 1.0)
    told = S[S <= SOON / _TOLD]
    X = _whitened(np.stack([np.ones(told.size), told, told > 0.0], axis=1), phi)
    spread = variance * float(np.linalg.pinv(X.T @ X)[2, 2])
    return size / float(np.sqrt(max(spread, 1e-300)))


def _whitened(x: Array, phi: float) -> Array:
    return np.concatenate((x[:1], (x[1:] - phi * x[:-1]) / np.sqrt(1.0 - phi**2)))


def plant(run: RunCurve, refits: Refits, thresholds: Thresholds) -> Iterable[Planted]:
    """Plant shifts in a run, one at a time; those before a twentieth of its log are left out."""
    clean = Course(run, thresholds, refits)
    for share in SHARES:
        at, until = share * run.T, (share + _LOOKED) * run.T
        clean.go(run.L, at)
        if (run.S < at).sum() < 0.05 * run.S.size:
            continue
        dense = int(((run.S > at) & (run.S <= at + SOON * run.T)).sum()) >= FEWEST
        for size, wander in (*((size, False) for size in SIZES), (SIZES[0], True)):
            shift = size * (wander_at if wander else noise_at)(run, at)
            L = run.L + np.where(run.S > at, shift, 0.0)
            found = [d for d in clean.copy().go(L, until).alarm.found if d.noticed > at]
            delay = (found[0].noticed - at) / run.T if found and found[0].upwards else np.inf
            yield Planted(run, share, size, wander, oracle_sigmas(run, at, shift), delay, dense)


def synthetic_runs(n: int) -> list[RunCurve]:
    """Return runs made by the law, with noise of several kinds."""
    runs = []
    for i in range(n):
        horizon, rng = 2000 + 500 * (i % 3), np.random.default_rng(i)
        schedule = (
            constant(horizon, warm_up=50),
            cosine(horizon, warm_up=50),
            wsd(horizon, warm_up=50, decay_from=0.8),
        )[i % 3]
        law = SyntheticRun(schedule, noise=0.0)
        noise = rng.standard_t(4, horizon) / np.sqrt(2.0)
        kind = ("independent", "correlated")[i % 2]
        if kind == "correlated":
            for k in range(1, horizon):
                noise[k] = 0.9 * noise[k - 1] + np.sqrt(1.0 - 0.81) * noise[k]
        S = np.arange(1.0, horizon + 1.0)
        runs.append(
            RunCurve(f"law_{i}", f"made by the law, {kind} noise", S, law.losses + 0.05 * noise, planned=_rates(law))
        )
    return runs


#: Kinds of noise of clean runs: its correlation, degrees of freedom (0: normal), and what is done to it.
KINDS: Mapping[str, tuple[float, int, str]] = {
    "independent": (0.0, 0, ""),
    "correlation 0.3": (0.3, 0, ""),
    "correlation 0.6": (0.6, 0, ""),
    "correlation 0.9": (0.9, 0, ""),
    "heavy tails (t, 3 degrees)": (0.0, 3, ""),
    "correlation 0.9, heavy tails": (0.9, 3, ""),
    "spikes in 1 % of the steps": (0.0, 0, "spikes"),
    "rounded to 4 decimals, noise of 0.0002": (0.0, 0, "rounded"),
    "shrinks to a tenth": (0.0, 0, "shrinks"),
}


def kinds_of_noise(n: int) -> list[RunCurve]:
    """Return n clean runs by the law for each kind of noise, their rates constant, cosine, WSD and in steps."""
    runs = []
    for place, (kind, (phi, degrees, treatment)) in enumerate(KINDS.items()):
        for i in range(n):
            horizon, rng = (1500, 2000, 3000)[i // 4 % 3], np.random.default_rng([place, i])
            at = np.arange(1, horizon + 1) / horizon
            steps = LRSchedule.from_array(
                np.minimum(50.0 * at, 1.0) * np.where(at < 0.5, 1.0, np.where(at < 0.8, 0.1, 0.01))
            )
            schedule = (
                constant(horizon, warm_up=50),
                cosine(horizon, warm_up=50),
                wsd(horizon, warm_up=50, decay_from=0.8),
                steps,
            )[i % 4]
            noise = rng.standard_t(degrees, horizon) / np.sqrt(3.0) if degrees else rng.standard_normal(horizon)
            for k in range(1, horizon if phi else 0):
                noise[k] = phi * noise[k - 1] + np.sqrt(1.0 - phi**2) * noise[k]
            if treatment == "spikes":
                noise += np.where(rng.random(horizon) < 0.01, rng.exponential(10.0, horizon), 0.0)
            noise *= np.linspace(2.0, 0.2, horizon) if treatment == "shrinks" else 1.0
            law = SyntheticRun(schedule, noise=0.0)
            L = law.losses + (0.0002 if treatment == "rounded" else 0.05) * noise
            L = np.asarray(np.round(L, 4) if treatment == "rounded" else L, dtype=np.float64)
            runs.append(RunCurve(f"{kind} {i}", kind, np.arange(1.0, horizon + 1.0), L, planned=_rates(law)))
    return runs


def _rates(law: SyntheticRun) -> Array:
    return np.asarray(law.schedule.rate_at(np.arange(1.0, law.horizon + 1.0)))


def _sources(runs: Iterable[RunCurve]) -> list[str]:
    return list(dict.fromkeys(run.group for run in runs))


def _share(count: int, of: int) -> str:
    return f"{count} of {of}" if of else "–"


def false_alarms(runs: Sequence[RunCurve], refits: Mapping[str, Refits], thresholds: Thresholds) -> list[str]:
    """Return for each run which alarms it gave: "" none, "up", "down" or both."""
    return [_words(departures(run, refits[run.id], thresholds)) for run in runs]


def _words(found: Sequence[Departure]) -> str:
    return " ".join(word for word, up in (("up", True), ("down", False)) if any(d.upwards is up for d in found))


def open_alarms(runs: Sequence[RunCurve], thresholds: Thresholds) -> list[str]:
    """Return the same where neither the end of a run nor its learning rates are known."""
    return [_words(Course(run, thresholds, planned=False).go(run.L).alarm.found) for run in runs]


def false_table(runs: Sequence[RunCurve], said: Sequence[str], title: str, note: str) -> Table:
    """Return the false alarms by source."""
    rows = []
    for source in [*_sources(runs), "all"]:
        mine = [s for run, s in zip(runs, said, strict=True) if source in (run.group, "all")]
        cells = [sum(word in s for s in mine) for word in ("up", "down")]
        rows.append((source, str(len(mine)), *map(str, cells), _share(sum(map(bool, mine)), len(mine))))
    return Table(title, note, ("source", "runs", "upwards", "downwards", "either"), tuple(rows))


def left_out_table(runs: Sequence[RunCurve], refits: Mapping[str, Refits]) -> Table:
    """Choose the thresholds by all sources but one, and count the false alarms of that one."""
    # A run that is silent at the lowest thresholds is so at all.
    lowest = (TRIED[0][0], TRIED[1][0], TRIED[2][0])
    loud = [bool(said) for said in false_alarms(runs, refits, lowest)]

    def alarms(thresholds: Thresholds) -> list[bool]:
        return [
            cries and bool(departures(run, refits[run.id], thresholds)) for run, cries in zip(runs, loud, strict=True)
        ]

    kinds = (lambda t: (t, np.inf, np.inf), lambda t: (np.inf, t, np.inf), lambda t: (np.inf, np.inf, t))
    cried = [{t: alarms(kind(t)) for t in tried} for kind, tried in zip(kinds, TRIED, strict=True)]
    rows, wrong, total = [], 0, 0
    for source in _sources(runs):
        others = [i for i, run in enumerate(runs) if run.group != source]
        mine = [i for i, run in enumerate(runs) if run.group == source]
        chosen = [
            next((t for t, said in tried.items() if sum(said[i] for i in others) <= share * len(others)), max(tried))
            for tried, share in zip(cried, ALLOWED, strict=True)
        ]
        count = sum(any(tried[t][i] for tried, t in zip(cried, chosen, strict=True)) for i in mine)
        wrong, total = wrong + count, total + len(mine)
        rows.append((source, *(f"{t:g}" for t in chosen), _share(count, len(mine))))
    rows.append(("all", "", "", "", _share(wrong, total)))
    note = (
        "The lowest thresholds at which at most one in forty runs of the other sources gives an alarm of a jump, and "
        "one in eighty one of a departure, each way; and how many runs of the source left out give one then."
    )
    header = ("source", "jump", "upwards", "downwards", "either")
    return Table("Thresholds chosen without a source", note, header, tuple(rows))


def oracle_table(planted: Sequence[Planted]) -> Table:
    """Return what is found of shifts of five widths, of either definition, beside what an oracle would."""
    rows = []
    for source in [*_sources(p.run for p in planted), "all"]:
        cells = []
        for wander in (False, True):
            mine = [p for p in planted if p.size == SIZES[0] and p.wander is wander and source in (p.run.group, "all")]
            seen = [p for p in mine if p.oracle > ORACLE]
            soon = [sum(p.delay <= SOON + 1e-9 for p in some) for some in (mine, seen)]
            cells += [f"{soon[0] / len(mine):.0%}", f"{len(seen) / len(mine):.0%}", _share(soon[1], len(seen))]
        rows.append((source, *cells))
    note = (
        "The first three columns: widths of one loss about its neighbours, from the median of its distances. The last "
        "three: the standard deviation of all losses in 4 % of the run about a straight line, which takes in "
        "correlated wander and spikes. An oracle is told where the shift is: it sees those that stand out by more than "
        f"{ORACLE:g} sigma by the losses from 8 % of the run before to 2 % after it, and knows all else but the level "
        "and the slope: the bend of the clean run, and the size and correlation of its noise."
    )
    header = ("source", *(2 * ("found in 2 %", "oracle", "found of the oracle's")))
    return Table("Shifts of five widths, and what an oracle sees", note, header, tuple(rows))


def found_table(planted: Sequence[Planted], title: str, note: str) -> Table:
    """Return shares found, and delays, by source and size."""
    rows, planted = [], [p for p in planted if not p.wander]
    for source in [*_sources(p.run for p in planted), "all"]:
        cells = []
        for size in SIZES:
            delays = np.array([p.delay for p in planted if p.size == size and source in (p.run.group, "all")])
            if not delays.size:
                cells += ["–", "–"]
                continue
            median = float(np.median(delays))
            soon, later = (f"{np.mean(delays <= x + 1e-9):.0%}" for x in (SOON, _LOOKED))
            cells += [f"{soon} / {later}", f"{median:.1%}" if np.isfinite(median) else "–"]
        n = sum(p.size == SIZES[0] and source in (p.run.group, "all") for p in planted)
        rows.append((source, str(n), *cells))
    header = ("source", "shifts", *(x for size in SIZES for x in (f"{size:g} sd", "median delay")))
    return Table(title, note, header, tuple(rows))


_OPEN = (
    "Runs with at least one, where neither the end of the run nor its learning rates are told: where the rate falls, "
    "nobody has announced it, and a loss that falls with it does leave its forecast."
)

_PAGE = """\
# The break-away alarm

Written by `python -m benchmarks.alarm --curves DIR --out docs/alarm.md`. A run is gone through loss by loss, with its
forecasts made when a monitor makes them; what the alarm does is told in `lightning_scaling/alarm/`. A departure
upwards is told from {up:g} sigma on, one downwards from {down:g}. Noise widths are standard deviations of one logged
loss about a straight line through its neighbours: where a log holds means over many steps, those of such a mean, which
can be a thousandth of the loss and less than what the forecast can know. A jump upwards is told from {jump:g} sigma on:
there the newest losses are held against those just before, and of the forecast only the shape is used; where no end of
the run is known, from half a sigma more on.

Nothing is said in about the first sixth of a run, nor of fewer than {fewest} losses: in a log of fifty
losses, 2 % of the run is one loss, and one loss is a spike. Where no end is known, nothing is said in the first 200
steps: the rate may rise still.
"""


def page(tables: Sequence[Table], broken: Sequence[str], named: Sequence[str]) -> str:
    """Return the page."""
    parts = [_PAGE.format(jump=THRESHOLDS[0], up=THRESHOLDS[1], down=THRESHOLDS[2], fewest=3)]
    if broken:
        parts.append("Runs that break visibly are not counted as clean:\n\n" + "\n".join(broken) + "\n")
    if named:
        parts.append("False alarms: " + ", ".join(named) + ".\n")
    return "\n".join([*parts, *(table.markdown() for table in tables)])


def main(arguments: Sequence[str] | None = None, say: Callable[[str], object] = print) -> None:
    """Go through the runs, and print the page or write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--curves", type=Path, help="folder of finished runs")
    parser.add_argument("--synthetic", type=int, default=30, help="runs made by the law")
    parser.add_argument("--kinds", type=int, default=24, help="clean runs made by the law for each kind of noise")
    parser.add_argument("--out", type=Path, help="the page to write")
    chosen = parser.parse_args(arguments)
    tables, broken, named = [], [], []
    groups = [("made by the law", synthetic_runs(chosen.synthetic))]
    if chosen.curves is not None:
        groups.insert(0, ("logged", load_curves(chosen.curves)))
    for title, runs in groups:
        refits = {run.id: Course(run, THRESHOLDS).go(run.L).made for run in runs}
        clean = [run for run in runs if run.id not in BROKEN]
        said = false_alarms(clean, refits, THRESHOLDS)
        named += [f"{run.id} ({words})" for run, words in zip(clean, said, strict=True) if words]
        for run in runs:
            if run.id in BROKEN:
                told = [d.step / run.T for d in departures(run, refits[run.id], THRESHOLDS) if d.upwards]
                at = ", ".join(f"{share:.0%}" for share in told) or "nowhere"
                broken.append(f"- `{run.id}`: {BROKEN[run.id]}; told upwards at {at}.")
        planted = [p for run in clean for p in plant(run, refits[run.id], THRESHOLDS)]
        found = [
            false_table(clean, said, "False alarms", "Runs with at least one."),
            false_table(clean, open_alarms(clean, THRESHOLDS), "Alarms where no end is known", _OPEN),
            found_table(
                [p for p in planted if p.dense],
                f"Shifts upwards, {FEWEST} losses or more in 2 % of the run",
                "Found within 2 % / within 8 % of the run.",
            ),
        ]
        found.append(oracle_table([p for p in planted if p.dense]))
        if sparse := [p for p in planted if not p.dense]:
            found.append(
                found_table(sparse, "Shifts upwards, fewer losses", "Found within 2 % / within 8 % of the run.")
            )
        if title == "logged":
            found.insert(2, left_out_table(clean, refits))
        tables += [Table(f"{t.title} ({title})", t.note, t.header, t.rows) for t in found]
    if chosen.kinds:
        runs = kinds_of_noise(chosen.kinds)
        refits = {run.id: Course(run, THRESHOLDS).go(run.L).made for run in runs}
        said = false_alarms(runs, refits, THRESHOLDS)
        tables.append(
            false_table(runs, said, "False alarms by kind of noise (made by the law)", "Runs with at least one.")
        )
        title = "Alarms by kind of noise where no end is known (made by the law)"
        tables.append(false_table(runs, open_alarms(runs, THRESHOLDS), title, _OPEN))
    text = page(tables, broken, named)
    say(text) if chosen.out is None else chosen.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
