"""Pools of comparable runs, random parts of them, and what each strategy makes of all these."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from benchmarks.decisions_cases import Case
from benchmarks.decisions_strategies import BLIND, STRATEGIES, Outcome, Racer, blind, outcome

#: Runs of a pool, at least, and of a random part of one.
SMALLEST, LARGEST_PART = 4, 8
#: Random parts of each pool, as far as there are so many, and the seed they are drawn with.
PARTS, SEED = 12, 20200123
#: Runs are of one length where they differ by less than this.
_SAME_LENGTH = 1.01
#: A log that starts later than this share of the run is of no use when runs are chosen early.
_LATEST_START = 0.2

SAME, OTHER = "of one length", "of several lengths"


@dataclass(frozen=True, eq=False)
class Pool:
    """Runs of one source and kind that can be run side by side.

    Attributes:
        name: What a table calls it.
        kind: `SAME` or `OTHER`: whether all are equally long.
        cases: The runs.
    """

    name: str
    kind: str
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Played:
    """What one strategy made of one pool or part of one."""

    pool: str
    kind: str
    n_runs: int
    strategy: str
    outcome: Outcome


def pools_of(cases: Sequence[Case]) -> list[Pool]:
    """Return the pools of at least four runs of one source and domain.

    They are first those of one length, to 1 %; then, where there are other lengths too, all of the source, each at the
    same share of its own plan. A pool is taken apart by the size of the model where every size has four runs.
    """
    kinds: dict[tuple[str, str], list[Case]] = {}
    for case in cases:
        if case.run.S[0] <= _LATEST_START * case.run.T:
            kinds.setdefault((case.run.group, case.run.domain), []).append(case)
    same, other = [], []
    for (group, domain), runs in kinds.items():
        several = sum(other_group == group for other_group, _ in kinds) > 1
        name, lengths = f"{group}, {domain}" if several else group, _by_length(runs)
        for members in lengths:
            where = f"{name}, {members[0].run.T} steps"
            same += [Pool(where + size, SAME, part) for size, part in _by_size(members) if len(part) >= SMALLEST]
        if len(lengths) > 1:
            other += [Pool(name + size, OTHER, part) for size, part in _by_size(runs) if len(part) >= SMALLEST]
    return [*same, *other]


def parts_of(pool: Sequence[Racer], rng: np.random.Generator, n: int = PARTS) -> list[tuple[Racer, ...]]:
    """Return a pool and up to n different random parts of it, of 4 to 8 runs."""
    found = {tuple(range(len(pool)))}
    parts = [tuple(pool)]
    for _ in range(8 * n):  # a small pool has few parts
        if len(parts) > n or len(pool) <= SMALLEST:
            break
        size = int(rng.integers(SMALLEST, min(LARGEST_PART, len(pool) - 1) + 1))
        chosen = tuple(sorted(rng.choice(len(pool), size, replace=False).tolist()))
        if chosen not in found:
            found.add(chosen)
            parts.append(tuple(pool[i] for i in chosen))
    return parts


def play(pools: Sequence[Pool], n_parts: int = PARTS) -> list[Played]:
    """Try every strategy on every pool and its parts; each run is forecast once."""
    racers: dict[str, Racer] = {}
    rng = np.random.default_rng(SEED)
    played = []
    for pool in pools:
        for case in pool.cases:
            if case.run.id not in racers:
                racers[case.run.id] = Racer.of(case)
        for part in parts_of([racers[case.run.id] for case in pool.cases], rng, n_parts):
            found = {name: outcome(part, strategy(part)) for name, strategy in STRATEGIES.items()}
            found[BLIND] = blind(part)
            played += [Played(pool.name, pool.kind, len(part), name, result) for name, result in found.items()]
    return played


def _by_length(cases: Sequence[Case]) -> list[list[Case]]:
    found: list[list[Case]] = []
    for case in sorted(cases, key=lambda c: c.run.T):
        if found and case.run.T <= _SAME_LENGTH * found[-1][0].run.T:
            found[-1].append(case)
        else:
            found.append([case])
    return found


def _by_size(cases: Sequence[Case]) -> list[tuple[str, tuple[Case, ...]]]:
    sizes: dict[float | None, list[Case]] = {}
    for case in cases:
        sizes.setdefault(case.run.N, []).append(case)
    if len(sizes) < 2 or None in sizes or min(map(len, sizes.values())) < SMALLEST:
        return [("", tuple(cases))]
    return [(f", {size / 1e6:.3g}M", tuple(part)) for size, part in sizes.items() if size is not None]
