"""What callbacks cost per step: Trainers that take turns, so that a slow moment of the machine hits all alike.

Each variant is a run of its own, with its own Trainer, in its own thread. Only one of them ever moves: it does so many
steps while the others wait, in an order that is drawn anew every time. Across ranks (gloo, one process each) every rank
draws the same order. The module is one linear layer with plain gradient descent, and its loss falls by a power
law, so that there is little to a step but what Lightning and the callbacks do.

Every round does the same things at the same places: ours fetches its losses, loggers write at every so-manieth
step. So a time, or the difference of two in the same round, is the mean over the places of a round of the median over
the rounds: what is done now and then counts with its share, and a moment at which the machine does something else, or
is slow for all of them, counts for nothing.
"""

from __future__ import annotations

import json
import logging
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter, sleep, thread_time
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, LearningRateMonitor
from lightning.pytorch.loggers import CSVLogger
from numpy.typing import NDArray

from lightning_scaling import ScalingLawMonitor
from lightning_scaling.refits import BUFFER, RANK_BUFFER

FloatArray = NDArray[np.float64]

NOTHING, EMPTY, OURS, LOG = "no callback", "an empty callback", "ScalingLawMonitor", "self.log"
VARIANTS: Mapping[str, Callable[[], list[Any]]] = {
    NOTHING: list,
    EMPTY: lambda: [Callback()],
    OURS: lambda: [ScalingLawMonitor(verbose=False)],
    "EarlyStopping": lambda: [EarlyStopping("loss", strict=False)],
    "LearningRateMonitor": lambda: [LearningRateMonitor("step")],
    LOG: list,
}


@dataclass(frozen=True)
class Pace:
    """How turns are taken.

    Attributes:
        rounds: Rounds that count.
        steps: Steps of a turn.
        turns: Turns of each variant in a round. A round should have as many steps as pass between two fetches of ours,
            so that every round holds one.
        warm_up: Rounds before those that count: the first steps are slow for everyone, and ours looks often at the
            start of a run.
        planned: Planned steps of the runs; of a run that is not over before, refits, which are counted apart, fall into
            few turns.
        writing: Loggers write at every so-manieth step, a part of a round; Lightning's default is 50.
        runs: How often all of this is done, with new runs.
    """

    rounds: int
    steps: int
    turns: int
    warm_up: int
    planned: int = 10_000_000
    writing: int = 64
    runs: int = 1


ALONE = Pace(rounds=80, steps=BUFFER // 8, turns=8, warm_up=4)
#: A short run, whose losses are fetched at every hundredth of it; up to its sixth no alarm is thought of. A round holds
#: two fetches, for at every second of them the alarm looks for a jump. Refits are in every fifth.
SHORT = Pace(rounds=40, steps=30, turns=4, warm_up=9, planned=6_000, writing=60, runs=3)
TOGETHER = Pace(rounds=120, steps=RANK_BUFFER, turns=1, warm_up=16)
QUICK = Pace(rounds=3, steps=8, turns=2, warm_up=1)

_TIMEOUT_S = 900
_RESAMPLES = 200

_QUIET: Mapping[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@dataclass(frozen=True)
class Difference:
    """A difference between two times of a step [µs], and its standard error."""

    value: float
    error: float

    def verdict(self, bar: float) -> str:
        """Say whether it is at most so much; two standard errors from it are asked for."""
        if self.value + 2.0 * self.error <= bar:
            return "met"
        return "missed" if self.value - 2.0 * self.error > bar else "not settled"


@dataclass(frozen=True)
class Times:
    """Microseconds of every step of every variant; the same place is the same step of the same round.

    Attributes:
        wall: By the clock, shape (rounds, places) [µs].
        busy: Processor time of the thread that trains, shape (rounds, places) [µs]: without waiting, be it for other
            ranks or for a processor that other programs use.
    """

    wall: Mapping[str, FloatArray]
    busy: Mapping[str, FloatArray]

    def step(self, variant: str) -> float:
        """Return the time of a step [µs]."""
        return _step(self.wall[variant])

    def above(self, variant: str, *, busy: bool = False) -> Difference:
        """Return by how much a step of a variant is longer than one with an empty callback [µs]."""
        of = self.busy if busy else self.wall
        return _over_rounds(_step, of[variant] - of[EMPTY])

    def above_share(self, variant: str, share: float, other: str) -> Difference:
        """Return by how much that is more than a share of what another variant costs [µs]."""
        mine, others = (self.wall[name] - self.wall[EMPTY] for name in (variant, other))
        return _over_rounds(lambda x, y: _step(x) - share * _step(y), mine, others)


def _step(times: FloatArray) -> float:
    """Return the mean over the places of a round of the median over the rounds."""
    return float(np.median(times, axis=0).mean())


def _over_rounds(number: Callable[..., float], *times: FloatArray) -> Difference:
    """Return a number made of times, with its error by the bootstrap over rounds, which all times share."""
    draw, n = np.random.default_rng(0), len(times[0])
    again = [number(*(t[rounds] for t in times)) for rounds in draw.integers(0, n, (_RESAMPLES, n))]
    return Difference(number(*times), float(np.std(again)))


class _Turn(LightningModule):
    """A small module that waits for its turn."""

    def __init__(self, steps: int, *, logs: bool) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self._times: list[tuple[float, float]] = []
        self._thread: threading.Thread | None = None
        self._over = False
        self._error: BaseException | None = None
        self._logs = logs
        self._steps = steps
        self._left = 0
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if not self._left:
            self._wait()
        self._left -= 1
        self._times.append((perf_counter(), thread_time()))
        loss = self.layer(batch).pow(2).mean() * 1e-3 + (2.0 + 6.0 * (batch_idx + 1) ** -0.5)
        if self._logs:
            self.log("loss", loss, sync_dist=self.trainer.world_size > 1)
        return loss

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=1e-3)

    def start(self, trainer: Trainer) -> None:
        """Train in a thread of its own; return when that waits for its first turn."""
        self._thread = threading.Thread(target=self._run, args=(trainer,), daemon=True)
        self._thread.start()
        self._settle()

    def move(self) -> FloatArray:
        """Let it have its turn; return how long each step took, by the clock and of the processor, shape (2, steps)."""
        self._go.release()
        self._settle()
        return np.diff(np.array(self._times), axis=0).T

    def end(self) -> None:
        """Let it come to its end."""
        if self._thread is not None:
            self._over = True
            self._go.release()
            self._thread.join()

    def _run(self, trainer: Trainer) -> None:
        torch.set_num_threads(1)
        try:
            trainer.fit(self, _Endless())
        except BaseException as error:
            self._error = error
        finally:
            self._done.release()

    def _settle(self) -> None:
        self._done.acquire()
        if self._error is not None:
            raise self._error

    def _wait(self) -> None:
        self._times.append((perf_counter(), thread_time()))  # the end of the last step
        self._done.release()
        self._go.acquire()
        if self._over:
            self.trainer.should_stop = True
        self._left, self._times = self._steps, []


class _Endless:
    """The same batch again and again."""

    def __iter__(self) -> Iterator[torch.Tensor]:
        batch = torch.ones(2, 4)
        while True:
            yield batch


def measure(pace: Pace = ALONE, **settings: Any) -> Times:
    """Let all variants take turns in this process.

    Args:
        pace: How.
        settings: Passed to every Trainer.
    """
    found: dict[str, list[FloatArray]] = {name: [] for name in VARIANTS}
    draw = random.Random(1)
    for _ in range(pace.runs):
        _run(pace, draw, found, settings)
    wall, busy = ({name: np.array([r[i] for r in rounds]) for name, rounds in found.items()} for i in (0, 1))
    return Times(wall, busy)


def _run(pace: Pace, draw: random.Random, found: Mapping[str, list[FloatArray]], settings: Mapping[str, Any]) -> None:
    """Let one run of each variant take turns; add the times of every round to what was found."""
    modules = {name: _Turn(pace.steps, logs=name == LOG) for name in VARIANTS}
    order = list(modules)
    planned = _QUIET | settings | {"max_steps": pace.planned, "log_every_n_steps": pace.writing}
    with tempfile.TemporaryDirectory() as folder, _silence():
        try:
            for name, module in modules.items():  # one after the other: setting up is collective across ranks
                told = planned | {"logger": CSVLogger(folder, name=name)}
                module.start(Trainer(**told, callbacks=VARIANTS[name]()))
            for k in range(pace.warm_up + pace.rounds):
                turns: dict[str, list[FloatArray]] = {name: [] for name in order}
                for _ in range(pace.turns):
                    draw.shuffle(order)
                    for name in order:
                        turns[name].append(1e6 * modules[name].move())
                if k >= pace.warm_up:
                    for name in order:
                        found[name].append(np.concatenate(turns[name], axis=1))
        finally:
            for module in modules.values():
                module.end()


@contextmanager
def _silence() -> Iterator[None]:
    """Keep Lightning from remarks on tiny runs."""
    log = logging.getLogger("lightning.pytorch")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def measure_ranks(pace: Pace = TOGETHER, *, ranks: int = 2) -> Times:
    """Let all variants take turns on several gloo ranks, one process each; the times are those of rank 0.

    Raises:
        RuntimeError: If a rank fails.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": str(ranks), "NODE_RANK": "0"}
    with tempfile.TemporaryFile("w+") as said, tempfile.TemporaryFile("w+") as complaints:
        processes = [
            subprocess.Popen(
                [sys.executable, "-m", "benchmarks.turns", json.dumps(asdict(pace))],
                cwd=Path(__file__).resolve().parents[1],
                env=os.environ | where | {"LOCAL_RANK": str(rank), "OMP_NUM_THREADS": "1"},
                stdout=said if rank == 0 else subprocess.DEVNULL,
                stderr=complaints,
            )
            for rank in range(ranks)
        ]
        until = perf_counter() + _TIMEOUT_S
        try:
            while None in (codes := [process.poll() for process in processes]) and perf_counter() < until:
                if any(codes):
                    break  # the others would wait for this one
                sleep(0.05)
        finally:
            for process in processes:
                process.kill()
                process.wait()
        said.seek(0)
        complaints.seek(0)
        if codes != [0] * ranks:
            raise RuntimeError(f"Expected every rank to end well, got exit codes {codes}: {complaints.read()[-2000:]}")
        wall, busy = json.loads(said.read().splitlines()[-1])
        return Times(*({name: np.array(times) for name, times in of.items()} for of in (wall, busy)))


def _main() -> None:
    """Be one of the processes of `measure_ranks`."""
    times = measure(Pace(**json.loads(sys.argv[1])), devices=int(os.environ["WORLD_SIZE"]), strategy="ddp")
    both = ({name: of[name].round(3).tolist() for name in VARIANTS} for of in (times.wall, times.busy))
    print(json.dumps(list(both)), flush=True)
    # Lightning leaves the process group to the exit of the interpreter, where gloo's threads may abort the process.
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    _main()
