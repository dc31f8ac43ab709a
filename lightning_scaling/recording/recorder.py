"""CurveRecorder: the loss of every optimizer step, collected on its device and fetched in bulk."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from itertools import repeat
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lightning_scaling.curve import LossCurve
from lightning_scaling.recording.loads import Load, Reduction
from lightning_scaling.windows import CurveBuilder

__all__ = ["CurveRecorder"]


class CurveRecorder:
    """Collects the loss of every optimizer step of a PyTorch loop without waiting for the device.

    `append` keeps a reference to the detached tensor where it is. Every ``buffer`` steps, and whenever `flush` is
    called, one stacked transfer brings the collected losses over and feeds them to a `CurveBuilder`, whose memory does
    not grow with the run.

    Losses in the host's memory are taken in by the flush itself. Losses on a device are sent off by one flush and taken
    in by the next, or by `land`: by then they have long arrived, and nothing waits. What `builder` holds at a step thus
    follows from the steps of the flushes alone, not from how fast a device is, and neither `curve` nor `state_dict`,
    which may wait for what is under way, changes it.

    With ``across_ranks`` the curve is that of the mean loss over all ranks of the default process group. Each flush
    then is one asynchronous all_reduce, which is waited for at the next one only, so every rank must append the same
    steps. The same reduction carries a `note` from rank 0 to all, which is how ranks agree to stop at the same step.

    Args:
        buffer: Steps that are collected before they are fetched.
        across_ranks: Whether to take the mean over the ranks of ``torch.distributed``.
        note_size: Length of the note that a flush carries from rank 0 to all ranks.
        device: Device of the reduction; default: that of the losses. NCCL needs one on the GPU.

    Raises:
        ValueError: If ``buffer`` or ``note_size`` is out of range, or ranks are asked for where there are none.

    Example:
        >>> recorder = CurveRecorder()
        >>> for step in range(1, 101):
        ...     recorder.append(step, torch.tensor(5.0 / step), lr=1e-3)
        >>> print(recorder.curve())
        LossCurve: 98 points up to step 100, loss 5 to 0.05
    """

    def __init__(
        self,
        *,
        buffer: int = 256,
        across_ranks: bool = False,
        note_size: int = 0,
        device: torch.device | str | None = None,
    ) -> None:
        if not 1 <= buffer <= 65_536:
            raise ValueError(f"Expected buffer between 1 and 65536 steps, got {buffer!r}, so choose e.g. 256.")
        if note_size < 0:
            raise ValueError(f"Expected note_size >= 0, got {note_size!r}, so give the number of values to carry.")
        if across_ranks and not (dist.is_available() and dist.is_initialized()):
            raise ValueError(
                "Expected an initialised torch.distributed for across_ranks=True, got none, so call "
                "torch.distributed.init_process_group first or leave across_ranks out."
            )
        self._buffer = buffer
        self._across_ranks = across_ranks
        self._device = None if device is None else torch.device(device)
        self._builder = CurveBuilder()
        self._newest = 0
        self._steps: list[int] = []
        self._losses: list[Tensor | float | None] = []
        self._lrs: list[Tensor | float | None] = []
        self._B: float | None = None
        self._load: Load | None = None
        self._reduction: Reduction | None = None
        #: What is called with the steps and losses of each fetch, in order.
        self.listener: Callable[[Sequence[int], Sequence[float | None]], None] | None = None
        self._is_remote = False  # once a loss has been on a device, each flush is taken in by the next
        #: What rank 0 wants to tell all ranks; sent with every flush. Other ranks' notes are ignored.
        self.note: list[float] = [0.0] * note_size
        #: What rank 0 told with the last reduction that has arrived; the same on every rank at the same step.
        self.heard: list[float] = [0.0] * note_size
        #: Learning rate of the newest step that has been fetched.
        self.lr: float | None = None
        #: Mean of the finite losses of the last fetch, NaN where there were none.
        self.latest = math.nan
        #: Its standard error, infinite where one loss tells nothing of it.
        self.latest_error = math.inf
        #: Flushes so far.
        self.flushes = 0
        #: Transfers that had not arrived when they were taken in, so that the host waited.
        self.waits = 0

    @property
    def builder(self) -> CurveBuilder:
        """The windows of all steps fetched so far."""
        return self._builder

    @property
    def step(self) -> int:
        """Newest step that has been fetched."""
        return self._builder.step

    @property
    def sent(self) -> int | None:
        """Newest step of the losses that have been sent off by a device and not taken in, None where there are none."""
        return None if self._load is None else self._load.steps[-1]

    def append(self, step: int, loss: Tensor | float | None, lr: Tensor | float | None = None) -> None:
        """Add one optimizer step; no synchronisation, no copy.

        Args:
            step: Optimizer step, counted from 1 and above the last one [steps].
            loss: Its loss, a tensor of one element (of more: their mean) or a number; None where there was none, which
                keeps ranks in step. Pass a clone if the tensor will be overwritten, as by CUDA graphs.
            lr: Learning rate used.

        Raises:
            ValueError: If the step does not come after the last one; nothing collected is lost.
        """
        if step <= self._newest:
            raise ValueError(
                f"Expected a step after {self._newest}, got step={step}. Count optimizer steps from 1, for example "
                "with enumerate(loader, start=1); after a restart, load the recorder's state first."
            )
        self._newest = step
        self._steps.append(step)
        self._losses.append(loss.detach() if isinstance(loss, Tensor) and loss.requires_grad else loss)
        self._lrs.append(lr)
        if len(self._steps) >= self._buffer:
            self.flush(wait=False)

    def set_batch_size(self, B: float | None, unit: str = "tokens") -> None:
        """Set the batch size of the steps to come.

        Args:
            B: Batch size [`unit` per step], None where it is not known.
            unit: What it counts, ``tokens`` or ``samples``. A run has one unit, that of its first batch; a size in the
                other is taken as not known.
        """
        if B is not None and self._builder.B_unit is None:
            self._builder.B_unit = unit
        self._B = B if unit == self._builder.B_unit else None

    def flush(self, *, wait: bool = True) -> None:
        """Fetch what has been collected, and take in what was sent off before.

        Args:
            wait: Whether to wait for what this flush itself sends off, from a device or with ``across_ranks``. Every
                rank must call with the same value at the same step.
        """
        self.flushes += 1
        if self._across_ranks:
            self._reduce(wait=wait)
            return
        self.land()
        if not self._steps:
            return
        load = Load(*self._take(), self._B)
        self._is_remote = self._is_remote or load.fetch.is_remote
        self._load = load
        if wait or not self._is_remote:
            self.land()

    def land(self) -> None:
        """Take in what a device has sent off; a reduction over the ranks is taken in by the next flush only."""
        load, self._load = self._load, None
        if load is not None:
            self.waits += not load.fetch.is_done()
            self._feed(load.steps, *load.values(), load.B)

    def curve(self, *, N: float | None = None, unit: str = "") -> LossCurve:
        """Return the curve so far; with ``across_ranks``, up to the last reduction that has arrived.

        Args:
            N: Non-embedding parameters, if known.
            unit: Unit of the loss, for print, such as ``nats/token``.
        """
        if self._across_ranks:
            return self._builder.curve(N=N, unit=unit)
        if not self._looks_far():
            self.flush()
            return self._builder.curve(N=N, unit=unit)
        newest = CurveBuilder.from_state(self._builder.state_dict())
        for load in (self._load, Load(self._steps, self._losses, self._lrs, self._B)):
            if load is not None:
                _extend(newest, load.steps, *load.values(), load.B)
        return newest.curve(N=N, unit=unit)

    def mark_epoch_end(self, step: int) -> None:
        """Note that a pass over the training data ended at ``step``."""
        self._builder.mark_epoch_end(step)

    def discard(self) -> None:
        """Drop what has been collected and not fetched, and whatever is under way."""
        self._take()
        self._load = self._reduction = None
        self._newest = self._builder.step

    def state_dict(self) -> dict[str, Any]:
        """Return the curve as plain numbers and lists, exact to the bit.

        With ``across_ranks`` the steps that are not yet reduced are left out: a state may be asked for on one rank
        alone, and then nothing may wait for another.
        """
        state: dict[str, Any] = {"version": 1}
        if not self._across_ranks:
            if self._looks_far():
                # Kept apart, so that a resumed run takes them in at the step at which this one does.
                state["sent"] = None if self._load is None else self._load.state()
                state["collected"] = Load(self._steps, self._losses, self._lrs, self._B).state()
            else:
                self.flush()
        return {**state, "builder": self._builder.state_dict(), "lr": self.lr, "B": self._B}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a `state_dict`.

        Raises:
            ValueError: If the state is of another version.
        """
        if state.get("version") != 1:
            raise ValueError(
                f"Expected a CurveRecorder state of version 1, got {state.get('version')!r}, so start a new recorder."
            )
        self._builder = CurveBuilder.from_state(state["builder"])
        self.lr = None if state.get("lr") is None else float(state["lr"])
        self._B = None if state.get("B") is None else float(state["B"])
        self.discard()
        self._is_remote = "collected" in state
        loads = [Load(*state[name]) for name in ("sent", "collected") if state.get(name) is not None]
        if self._across_ranks:  # the state of one process: no rank has anything of it under way
            for load in loads:
                self._feed(load.steps, *load.values(), load.B)
        elif self._is_remote:
            *sent, collected = loads
            self._load = sent[0] if sent else None
            losses, lrs = collected.values()
            self._steps, self._losses, self._lrs = list(collected.steps), [*losses], [*lrs]
        self._newest = max([self._builder.step, *(step for load in loads for step in load.steps[-1:])])

    def _looks_far(self) -> bool:
        """Return whether a loss has been on a device, collected ones included."""
        both = (*self._losses, *self._lrs)
        return self._is_remote or any(isinstance(x, Tensor) and x.device.type != "cpu" for x in both)

    def _take(self) -> tuple[list[int], list[Tensor | float | None], list[Tensor | float | None]]:
        taken = self._steps, self._losses, self._lrs
        self._steps, self._losses, self._lrs = [], [], []
        return taken

    def _reduce(self, *, wait: bool) -> None:
        # Every rank takes part in every reduction, whatever goes wrong here: errors are for the end.
        landed = [self._heard_of()]
        self._reduction = Reduction(*self._take(), self._B, self.note, self._device)
        self._reduction.launch()
        if wait:
            landed.append(self._heard_of())
        for reduction, means in (found for found in landed if found is not None):
            if reduction.error is not None:
                raise reduction.error
            self._feed(reduction.steps, means, reduction.rates.numbers(), reduction.B)

    def _heard_of(self) -> tuple[Reduction, list[float | None]] | None:
        """Wait for the reduction under way, if there is one; return it and the mean losses, and hear the note."""
        reduction, self._reduction = self._reduction, None
        if reduction is None:
            return None
        losses, self.heard = reduction.land()
        return reduction, losses

    def _feed(
        self, steps: Sequence[int], losses: Sequence[float | None], lrs: Sequence[float | None], B: float | None
    ) -> None:
        _extend(self._builder, steps, losses, lrs, B)
        if self.listener is not None:
            self.listener(steps, losses)
        self.lr = next((lr for lr in reversed(lrs) if lr is not None), self.lr)
        finite = [loss for loss in losses if loss is not None and math.isfinite(loss)]
        n = len(finite)
        self.latest = sum(finite) / n if n else math.nan
        squares = sum((loss - self.latest) * (loss - self.latest) for loss in finite)
        self.latest_error = math.sqrt(squares / (n - 1) / n) if n > 1 else math.inf


def _extend(
    builder: CurveBuilder,
    steps: Sequence[int],
    losses: Sequence[float | None],
    lrs: Sequence[float | None],
    B: float | None,
) -> None:
    there = [i for i, loss in enumerate(losses) if loss is not None]
    known = (loss for loss in losses if loss is not None)
    builder.extend((steps[i] for i in there), known, (lrs[i] for i in there), repeat(B))
