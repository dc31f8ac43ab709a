"""What forecasts take: seconds of refits, memory, and bytes in a checkpoint; no Trainer is needed to find out."""

from __future__ import annotations

import gc
import io
import math
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import thread_time
from types import FunctionType, ModuleType

import numpy as np
import torch

from lightning_scaling.host.advisor import Advisor
from lightning_scaling.host.losses import Losses
from lightning_scaling.host.series import Series
from lightning_scaling.host.settings import Settings
from lightning_scaling.recording.fetching import Fetching
from lightning_scaling.recording.recorder import CurveRecorder
from lightning_scaling.refits import BUFFER

#: Spread of the losses of single steps around the law.
_NOISE = 0.05
#: Losses are drawn in blocks of this length.
_BLOCK = 10_000
#: Validations of a run, where it has them.
VALIDATIONS = 100


@dataclass(frozen=True)
class Refits:
    """The refits of one run.

    Attributes:
        steps: Length of the run [steps].
        validations: Validations in it, whose loss is forecast as well.
        seconds: Processor time of every refit [s]: what it takes where no other program is in the way.
    """

    steps: int
    validations: int
    seconds: tuple[float, ...]

    def share(self, step_s: float) -> float:
        """Return the share of the wall time of a run with steps of so many seconds [1]."""
        return sum(self.seconds) / (self.steps * step_s + sum(self.seconds))


@dataclass(frozen=True)
class Held:
    """What a monitor holds at a step of a run.

    Attributes:
        step: Steps done [steps].
        held: Memory of everything that can be reached from it [bytes].
        state: Its state in a checkpoint [bytes].
        resident: Memory of the whole process [bytes], NaN where the system does not tell.
    """

    step: int
    held: int
    state: int
    resident: float


class Watched:
    """Both losses of a run, fed and forecast as in a Trainer, with a cosine schedule.

    Args:
        steps: Planned end [steps].
        validations: Validations, evenly spread; 0: none.

    Attributes:
        losses: The losses.
        seconds: Processor time of every refit [s], and of what is compared with it at the quarters of the run.
    """

    def __init__(self, steps: int, validations: int = 0) -> None:
        self.losses = Losses(Settings.of(horizon=steps, verbose=False), CurveRecorder(buffer=4 * BUFFER))
        self.losses.find(["val_loss"] if validations else [])
        self.losses.set_batch_size(1024.0, "tokens")
        self._every = max(steps // validations, 1) if validations else 0
        shape = 0.5 * (1.0 + np.cos(np.pi * np.arange(steps) / steps))
        self.losses.steps.live.plan(steps, 1e-3 * (0.1 + 0.9 * shape))
        self.losses.metric.live.adopt(self.losses.steps.live)
        self.seconds: list[float] = []
        self._advisor = Advisor(None, 0)
        self._fetching = Fetching(self.losses.steps.recorder, self.losses.steps.live, across_ranks=False)
        self._fetching.plan(0)

    def feed(self, first: int, values: Sequence[float]) -> None:
        """Take the losses of consecutive steps, tensors as in a training, and do what is due."""
        losses, every = self.losses, self._every
        recorder = losses.steps.recorder
        for step, loss in enumerate(torch.tensor(values).unbind(), start=first):
            recorder.append(step, loss, 1e-3)
            if step >= self._fetching.due:
                self._fetching.turn(step, self._look)
            if every and step % every == 0:
                losses.metric.take({"val_loss": loss + 0.1}, step, 1e-3)
                losses.metric.fetch(step)
                if losses.metric.is_due():
                    self._refit(losses.metric)

    def _look(self) -> None:
        if self.losses.steps.is_due():
            self._refit(self.losses.steps)

    def _refit(self, series: Series) -> None:
        began = thread_time()
        curve = series.curve(None)
        series.live.refit(curve)
        if series is self.losses.main and series.live.at_quarter:
            self._advisor.renew(series.live, curve, step=curve.step)
        self.seconds.append(thread_time() - began)

    def state_bytes(self) -> int:
        """Return the size of the state as ``torch.save`` writes it [bytes]."""
        file = io.BytesIO()
        torch.save(self.losses.state_dict(), file)
        return file.tell()


def measure_refits(steps: int, *, validations: int = 0) -> Refits:
    """Follow a whole run and take the time of its refits, those at its start included."""
    watched = Watched(steps, validations)
    for first, block in _blocks(steps):
        watched.feed(first, block)
    return Refits(steps, validations, tuple(watched.seconds))


def measure_memory(marks: Sequence[int]) -> list[Held]:
    """Follow a run with validations to the last of some steps, and see at each of them what is held."""
    watched = Watched(marks[-1], VALIDATIONS)
    found = []
    for first, block in _blocks(marks[-1], marks):
        watched.feed(first, block)
        step = first + len(block) - 1
        if step in marks:
            state = watched.state_bytes()  # fetches: of losses under way there are never more than a fetch takes
            found.append(Held(step, held_bytes(watched.losses), state, _resident()))
    return found


def held_bytes(thing: object) -> int:
    """Return the memory of an object and of everything that can be reached from it, code apart [bytes]."""
    seen: set[int] = set()
    left, total = [thing], 0
    while left:
        x = left.pop()
        if id(x) in seen or isinstance(x, (type, ModuleType, FunctionType)):
            continue
        seen.add(id(x))
        total += sys.getsizeof(x)
        if isinstance(x, torch.Tensor):
            total += x.untyped_storage().nbytes()
        elif isinstance(x, np.ndarray) and x.base is not None:
            left.append(x.base)
        left += gc.get_referents(x)
    return total


def _blocks(steps: int, marks: Iterable[int] = ()) -> Iterator[tuple[int, Sequence[float]]]:
    """Yield the losses of a run in blocks, none of which goes past a mark, with the step of their first."""
    draw = np.random.default_rng(1)
    ends = sorted({*range(_BLOCK, steps, _BLOCK), *marks, steps})
    first = 1
    for end in ends:
        S = np.arange(first, end + 1)
        yield first, 2.0 + 6.0 * S**-0.3 + _NOISE * draw.standard_normal(S.size)
        first = end + 1


def _resident() -> float:
    """Return the memory of the process [bytes], NaN where the system does not tell."""
    status = Path("/proc/self/status")
    lines: Mapping[str, str] = {}
    if status.exists():
        lines = dict(line.split(":", 1) for line in status.read_text(encoding="utf-8").splitlines())
    return 1024.0 * int(lines["VmRSS"].split()[0]) if "VmRSS" in lines else math.nan
