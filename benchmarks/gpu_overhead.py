"""What does a GPU see of the monitor? Whether its hooks ever wait for the device, and what they cost per step.

    python benchmarks/gpu_overhead.py                               # prints the table
    python benchmarks/gpu_overhead.py --out docs/performance_gpu.md # and writes the page

A model large enough to keep the GPU busy is trained in bf16-mixed precision, as it is, compiled, and under FSDP on one
GPU. Between two fetches of the losses every hook runs under ``torch.cuda.set_sync_debug_mode("error")``, where whatever
waits for the device raises; a trace of some steps says the same from the side of the driver. Where there is no GPU it
says so and measures nothing.
"""

from __future__ import annotations

import argparse
import logging
import os
import platform
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from importlib.metadata import version
from pathlib import Path
from time import perf_counter
from typing import Any

if not __package__:
    # Run as a file: the repository is one folder up.
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
import torch.distributed as dist
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.profiler import ProfilerActivity, profile, record_function

from benchmarks.tables import Table
from lightning_scaling import CurveRecorder, ScalingLawMonitor, ScalingWarning

#: Settings of the Trainer of each case, and whether the model is compiled.
CASES: Mapping[str, tuple[Mapping[str, Any], bool]] = {
    "bf16-mixed": ({"precision": "bf16-mixed"}, False),
    "bf16-mixed, torch.compile": ({"precision": "bf16-mixed"}, True),
    "bf16-mixed, FSDP on one GPU": ({"precision": "bf16-mixed", "strategy": "fsdp"}, False),
}

_HOOK, _FETCH = "monitor: hook", "monitor: fetch"
#: Planned steps, never reached, so that the fetches are as far apart as in a long run.
_PLANNED = 1_000_000

_PAGE = """\
# What a GPU sees of the monitor

Written by `python benchmarks/gpu_overhead.py --out docs/performance_gpu.md`, on a machine with {machine}.

{table}"""


@dataclass(frozen=True)
class Size:
    """Size of the model and of the runs.

    Attributes:
        width: Width of a layer.
        depth: Layers.
        batch: Samples of a batch.
        steps: Steps of a run.
        traced: First and last step of the trace.
        repeats: Runs with an empty callback, and as many with ours.
    """

    width: int
    depth: int
    batch: int
    steps: int
    traced: tuple[int, int]
    repeats: int


LARGE = Size(width=4096, depth=8, batch=4096, steps=600, traced=(270, 370), repeats=3)
TINY = Size(width=8, depth=1, batch=2, steps=24, traced=(11, 20), repeats=1)


@dataclass(frozen=True)
class Seen:
    """What was seen of one case.

    Attributes:
        case: Its name.
        empty: Time of a step with an empty callback, of each run [µs].
        ours: The same with ours.
        hooks: Hooks that ran where waiting raises.
        complaints: What the monitor warned of there: a wait is one.
        fetches: Fetches of the losses.
        trace: Of the traced steps.
    """

    case: str
    empty: Sequence[float]
    ours: Sequence[float]
    hooks: int
    complaints: Sequence[str]
    fetches: int
    trace: Trace


@dataclass(frozen=True)
class Trace:
    """What a trace shows.

    Attributes:
        hooks: Hooks of ours in it.
        waits: Calls of the driver inside them, outside fetches, that wait for the device.
        busy: Share of the time in which the device worked [1].
    """

    hooks: int
    waits: int
    busy: float

    @classmethod
    def of(cls, events: Sequence[Any]) -> Trace:
        """Read the events of a profile."""
        cpu = [e for e in events if "CUDA" not in str(e.device_type)]
        hooks = _ranges(e for e in cpu if e.name == _HOOK)
        fetches = _ranges(e for e in cpu if e.name == _FETCH)
        waits = [e.time_range.start for e in cpu if _is_wait(e.name)]
        bad = [t for t in waits if _inside(t, hooks) and not _inside(t, fetches)]
        kernels = sorted(_ranges(e for e in events if "CUDA" in str(e.device_type) and not _is_label(e)))
        worked, until = 0.0, -np.inf
        for start, end in kernels:
            worked += max(end - max(start, until), 0.0)
            until = max(until, end)
        whole = until - kernels[0][0] if kernels else np.nan
        return cls(len(hooks), len(bad), float(worked / whole) if whole > 0.0 else float("nan"))


def _is_wait(name: str) -> bool:
    """Tell whether a call of the driver waits; a copy to the host is followed by a call that does."""
    return "Synchronize" in name or name == "cudaMemcpy"


def _is_label(event: Any) -> bool:
    """Tell whether an event on the device is no work but the span of a label."""
    return bool(getattr(event, "is_user_annotation", False)) or event.name in (_HOOK, _FETCH) or "#" in event.name


def _ranges(events: Iterator[Any]) -> list[tuple[float, float]]:
    return [(e.time_range.start, e.time_range.end) for e in events]


def _inside(t: float, ranges: Sequence[tuple[float, float]]) -> bool:
    return any(start <= t <= end for start, end in ranges)


class _Busy(LightningModule):
    """Layers and a loss that is computed in float32, as it should be."""

    def __init__(self, size: Size) -> None:
        super().__init__()
        layers = [
            torch.nn.Sequential(torch.nn.Linear(size.width, size.width), torch.nn.GELU()) for _ in range(size.depth)
        ]
        self.model = torch.nn.Sequential(*layers)
        self._size = size

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.model(batch).float().pow(2).mean()

    def train_dataloader(self) -> Any:
        return _Same(torch.randn(self._size.batch, self._size.width, device=self.trainer.strategy.root_device))

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.trainer.model.parameters(), lr=1e-3)


class _Same:
    """The same batch again and again, already on its device."""

    def __init__(self, batch: torch.Tensor) -> None:
        self._batch = batch

    def __iter__(self) -> Iterator[torch.Tensor]:
        while True:
            yield self._batch


class GuardedMonitor(ScalingLawMonitor):
    """The monitor, with every hook of a step under a mode in which waiting for the device raises.

    Attributes:
        hooks: Hooks that have run so.
    """

    def __init__(self) -> None:
        super().__init__(verbose=False)
        self.hooks = 0
        for name in ("on_before_backward", "on_before_optimizer_step", "on_train_batch_end"):
            setattr(self, name, self._guarded(getattr(self, name)))

    def _guarded(self, hook: Callable[..., None]) -> Callable[..., None]:
        @wraps(hook)
        def guarded(*args: Any, **kwargs: Any) -> None:
            self.hooks += 1
            with _sync_mode("error"), record_function(_HOOK):
                hook(*args, **kwargs)

        return guarded


@contextmanager
def _sync_mode(mode: str | int) -> Iterator[None]:
    """Let waits raise or not; nothing without CUDA."""
    if not torch.cuda.is_available():
        yield
        return
    before = torch.cuda.get_sync_debug_mode()
    torch.cuda.set_sync_debug_mode(mode)
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode(before)


@contextmanager
def _fetches_allowed() -> Iterator[None]:
    """Let a fetch wait, and mark it in the trace."""
    flush = CurveRecorder.flush

    @wraps(flush)
    def allowed(self: CurveRecorder, **how: Any) -> None:
        with _sync_mode("default"), record_function(_FETCH):
            flush(self, **how)

    CurveRecorder.flush = allowed  # type: ignore[method-assign]
    try:
        yield
    finally:
        CurveRecorder.flush = flush  # type: ignore[method-assign]


class _Clock(Callback):
    """Ends the run after so many steps; the time counts from a tenth of them on, the device having caught up."""

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._from = max(steps // 10, 1)
        self.us = 0.0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self._from:
            _wait()
            self._began = perf_counter()
        if trainer.global_step == self._steps:
            _wait()
            self.us = 1e6 * (perf_counter() - self._began) / (self._steps - self._from)
            trainer.should_stop = True


class _Tracer(Callback):
    """Takes a trace of some steps."""

    def __init__(self, first: int, last: int) -> None:
        self._first, self._last = first, last
        activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if torch.cuda.is_available() else [])]
        self._profile = profile(activities=activities)
        self.trace = Trace(0, 0, float("nan"))

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self._first:
            self._profile.start()

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self._last:
            _wait()
            self._profile.stop()
            self.trace = Trace.of(self._profile.events())


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def watch(case: str, size: Size, *, accelerator: str = "gpu") -> Seen:
    """Train with an empty callback and with ours in turn, then guarded, then traced."""
    empty, ours = [], []
    _train(case, size, Callback(), accelerator=accelerator)  # the first run of a process is slow
    for _ in range(size.repeats):
        empty.append(_train(case, size, Callback(), accelerator=accelerator))
        ours.append(_train(case, size, ScalingLawMonitor(verbose=False), accelerator=accelerator))
    guarded, tracer = GuardedMonitor(), _Tracer(*size.traced)
    with warnings.catch_warnings(record=True) as caught, _fetches_allowed():
        warnings.simplefilter("always")
        _train(case, size, guarded, accelerator=accelerator)
        hooks, fetches = guarded.hooks, guarded._session.losses.steps.recorder.flushes if guarded._session else 0
        _train(case, size, GuardedMonitor(), tracer, accelerator=accelerator)
    complaints = [str(w.message) for w in caught if issubclass(w.category, ScalingWarning)]
    return Seen(case, empty, ours, hooks, complaints, fetches, tracer.trace)


def _train(case: str, size: Size, *callbacks: Any, accelerator: str) -> float:
    """Train, ours before the others; return the time of a step [µs]."""
    settings, compiled = CASES[case]
    module, clock = _Busy(size), _Clock(size.steps)
    if compiled:
        torch._dynamo.reset()  # every run compiles anew, and of those there may be few
        module.model = torch.compile(module.model)  # type: ignore[assignment]
    with warnings.catch_warnings():
        for about in (".*many workers.*", ".*treespec, LeafSpec.*", ".*GPU available.*", ".*TF32.*"):
            warnings.filterwarnings("ignore", about)
        Trainer(
            accelerator=accelerator,
            devices=1,
            max_steps=_PLANNED,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            callbacks=[*callbacks, clock],
            **settings,
        ).fit(module)
    return clock.us


def table(found: Sequence[Seen]) -> Table:
    """Return a row for each case."""
    rows = []
    for seen in found:
        extra = np.array(seen.ours) - np.array(seen.empty)
        low, mid, high = np.quantile(extra, [0.0, 0.5, 1.0])
        rows.append(
            (
                seen.case,
                f"{np.median(seen.empty):.0f}",
                f"{mid:+.1f} ({low:+.1f} to {high:+.1f})",
                f"{seen.hooks}",
                f"{len(seen.complaints)}",
                f"{seen.fetches}",
                f"{seen.trace.waits} in {seen.trace.hooks}",
                f"{100 * seen.trace.busy:.0f} %" if seen.trace.busy >= 0.0 else "–",
            )
        )
    note = (
        "Step: median over the runs with an empty callback; ours above it: median, lowest and highest of the "
        "differences of two runs, one after the other, refits included. Raised: hooks that tried to wait for the "
        "device outside a fetch. Traced: calls of the driver in our hooks, outside fetches, that wait."
    )
    header = (
        "case",
        "step [µs]",
        "ours above it [µs]",
        "hooks guarded",
        "raised",
        "fetches",
        "waits traced, in hooks",
        "GPU busy",
    )
    return Table("Does the monitor wait for the GPU?", note, header, tuple(rows))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure where there is a GPU; print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, help="markdown page to write")
    options = parser.parse_args(arguments)
    if not torch.cuda.is_available():
        print("No CUDA GPU is at hand: nothing was measured.")
        return 0
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    found = [watch(case, LARGE) for case in CASES]
    if dist.is_initialized():  # by FSDP
        dist.destroy_process_group()
    packages = ", ".join(f"{name} {version(name)}" for name in ("torch", "lightning"))
    machine = f"{torch.cuda.get_device_name()}, {os.cpu_count()} cores, Python {platform.python_version()}, {packages}"
    text = table(found).markdown()
    complaints = sorted({c for seen in found for c in seen.complaints})
    print("\n".join([machine, "", text, *complaints]))
    if options.out is not None:
        options.out.parent.mkdir(parents=True, exist_ok=True)
        options.out.write_text(_PAGE.format(machine=machine, table=text), encoding="utf-8")
        print(f"Wrote {options.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
