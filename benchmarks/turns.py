"""What callbacks cost per step: Trainers that take turns, so that a slow moment of the machine hits all alike.

Each variant is a run of its own, with its own Trainer, in its own thread. Only one of them ever moves: it does so many
steps while the others wait, in an order that is drawn anew every time. Across ranks (gloo, one process each) every rank
draws the same order. The module is one linear layer with plain gradient descent, and its loss falls by a power
law, so that there is little to a step but what Lightning and the callbacks do.
"""

from __future__ import annotations

import json
import logging
import math
import os
import random
import socket
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
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
    """

    rounds: int
    steps: int
    turns: int
    warm_up: int


ALONE = Pace(rounds=50, steps=BUFFER // 8, turns=8, warm_up=4)
TOGETHER = Pace(rounds=60, steps=RANK_BUFFER, turns=1, warm_up=16)
QUICK = Pace(rounds=3, steps=8, turns=2, warm_up=1)

_TIMEOUT_S = 900
#: Planned steps, never reached, so that refits, which are counted apart, fall into few turns.
_PLANNED = 10_000_000


_QUIET: Mapping[str, Any] = {
    "accelerator": "cpu",
    "devices": 1,
    "enable_checkpointing": False,
    "enable_progress_bar": False,
    "enable_model_summary": False,
}


@dataclass(frozen=True)
class Difference:
    """Differences within rounds [µs].

    Attributes:
        median: Their median.
        low: Their lower quartile.
        high: Their upper quartile.
        error: Standard error of the median, from the quartiles, which a few slow rounds do not move.
    """

    median: float
    low: float
    high: float
    error: float

    @classmethod
    def of(cls, values: NDArray[np.float64]) -> Difference:
        """Describe differences, shape (rounds,)."""
        low, median, high = (float(q) for q in np.quantile(values, [0.25, 0.5, 0.75]))
        # A normal distribution has its quartiles 1.349 sigma apart, and its median an error of 1.253 sigma / sqrt(n).
        return cls(median, low, high, 1.253 / 1.349 * (high - low) / math.sqrt(len(values)))

    def verdict(self, bar: float) -> str:
        """Say whether they are at most so much; two standard errors from it are asked for."""
        if self.median + 2.0 * self.error <= bar:
            return "met"
        return "missed" if self.median - 2.0 * self.error > bar else "not settled"


@dataclass(frozen=True)
class Times:
    """Microseconds per step, of the rounds of each variant; the same place is the same round.

    Attributes:
        rounds: Wall time, shape (rounds,) [µs/step].
        busy: Processor time of the thread that trains, shape (rounds,) [µs/step]: without waiting, be it for other
            ranks or for a processor that other programs use.
    """

    rounds: Mapping[str, Sequence[float]]
    busy: Mapping[str, Sequence[float]]

    def above(self, variant: str, *, busy: bool = False) -> Difference:
        """Return by how much a step of a variant is longer than one with an empty callback [µs]."""
        of = self.busy if busy else self.rounds
        return Difference.of(np.array(of[variant]) - np.array(of[EMPTY]))

    def above_share(self, variant: str, share: float, other: str) -> Difference:
        """Return by how much that is more than a share of what another variant costs [µs]."""
        mine, others, empty = (np.array(self.rounds[name]) for name in (variant, other, EMPTY))
        return Difference.of((mine - empty) - share * (others - empty))

    def median(self, variant: str) -> float:
        """Return the median time of a step [µs]."""
        return float(np.median(self.rounds[variant]))


class _Turn(LightningModule):
    """A small module that waits for its turn."""

    def __init__(self, steps: int, *, logs: bool) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(4, 1)
        self._seconds = np.zeros(2)
        self._thread: threading.Thread | None = None
        self._over = False
        self._error: BaseException | None = None
        self._logs = logs
        self._steps = steps
        self._left = 0
        self._began = _clocks()
        self._go, self._done = threading.Semaphore(0), threading.Semaphore(0)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        if not self._left:
            self._wait()
        self._left -= 1
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

    def move(self) -> NDArray[np.float64]:
        """Let it have its turn; return how long that took, by the clock and of the processor [s]."""
        self._go.release()
        self._settle()
        return self._seconds

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
        self._seconds = _clocks() - self._began
        self._done.release()
        self._go.acquire()
        if self._over:
            self.trainer.should_stop = True
        self._left = self._steps
        self._began = _clocks()


def _clocks() -> NDArray[np.float64]:
    return np.array([perf_counter(), thread_time()])


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
    modules = {name: _Turn(pace.steps, logs=name == LOG) for name in VARIANTS}
    found: dict[str, list[NDArray[np.float64]]] = {name: [] for name in modules}
    order, draw = list(modules), random.Random(1)
    with tempfile.TemporaryDirectory() as folder, _silence():
        try:
            for name, module in modules.items():  # one after the other: setting up is collective across ranks
                logger = CSVLogger(folder, name=name)
                module.start(
                    Trainer(**_QUIET | settings, max_steps=_PLANNED, logger=logger, callbacks=VARIANTS[name]())
                )
            for k in range(pace.warm_up + pace.rounds):
                seconds = {name: np.zeros(2) for name in order}
                for _ in range(pace.turns):
                    draw.shuffle(order)
                    for name in order:
                        seconds[name] += modules[name].move()
                if k >= pace.warm_up:
                    for name in order:
                        found[name].append(1e6 * seconds[name] / (pace.steps * pace.turns))
        finally:
            for module in modules.values():
                module.end()
    wall, busy = ({name: [float(x[i]) for x in rounds] for name, rounds in found.items()} for i in (0, 1))
    return Times(wall, busy)


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
        return Times(*json.loads(said.read().splitlines()[-1]))


def _main() -> None:
    """Be one of the processes of `measure_ranks`."""
    times = measure(Pace(**json.loads(sys.argv[1])), devices=int(os.environ["WORLD_SIZE"]), strategy="ddp")
    print(json.dumps([dict(times.rounds), dict(times.busy)]), flush=True)
    # Lightning leaves the process group to the exit of the interpreter, where gloo's threads may abort the process.
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    _main()
