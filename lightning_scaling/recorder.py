"""CurveRecorder: the loss of every optimizer step, collected on its device and fetched in bulk."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from lightning_scaling.curve import LossCurve
from lightning_scaling.windows import CurveBuilder

__all__ = ["CurveRecorder"]


class CurveRecorder:
    """Collects the loss of every optimizer step of a PyTorch loop without waiting for the device.

    `append` keeps a reference to the detached tensor where it is. Every ``buffer`` steps, and when the curve is asked
    for, one stacked transfer brings the collected losses over and feeds them to a `CurveBuilder`, whose memory does not
    grow with the run.

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
        self._steps: list[int] = []
        self._losses: list[Tensor | float | None] = []
        self._lrs: list[Tensor | float | None] = []
        self._B: float | None = None
        self._flight: _Flight | None = None
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

    @property
    def builder(self) -> CurveBuilder:
        """The windows of all steps fetched so far."""
        return self._builder

    @property
    def step(self) -> int:
        """Newest step that has been fetched."""
        return self._builder.step

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
        newest = self._steps[-1] if self._steps else self._builder.step
        if step <= newest:
            raise ValueError(
                f"Expected a step after {newest}, got step={step}. Count optimizer steps from 1, for example with "
                "enumerate(loader, start=1); after a restart, load the recorder's state first."
            )
        self._steps.append(step)
        self._losses.append(loss.detach() if isinstance(loss, Tensor) else loss)
        self._lrs.append(lr)
        if len(self._steps) >= self._buffer:
            self.flush(wait=False)

    def set_batch_size(self, B: float | None) -> None:
        """Set the batch size of the steps to come [tokens per step], None where it is not known."""
        self._B = B

    def flush(self, *, wait: bool = True) -> None:
        """Fetch what has been collected.

        Args:
            wait: With ``across_ranks``: whether to wait for this flush's own reduction, as against the one before,
                which has had time to arrive. Every rank must call with the same value at the same step.
        """
        self.flushes += 1
        if not self._across_ranks:
            steps, losses, lrs = self._take()
            if steps:
                self._feed(steps, *_fetch(losses, lrs), self._B)
            return
        # Every rank takes part in every reduction, whatever goes wrong here: errors are for the end.
        landed = [self._land()]
        steps, losses, lrs = self._take()
        self._flight = _Flight(steps, losses, lrs, self._B, self.note, self._device)
        self._flight.launch()
        if wait:
            landed.append(self._land())
        for flight, means in (found for found in landed if found is not None):
            if flight.error is not None:
                raise flight.error
            self._feed(flight.steps, means, _fetch([], flight.lrs)[1], flight.B)

    def curve(self, *, N: float | None = None, unit: str = "") -> LossCurve:
        """Return the curve so far; with ``across_ranks``, up to the last reduction that has arrived.

        Args:
            N: Non-embedding parameters, if known.
            unit: Unit of the loss, for print, such as ``nats/token``.
        """
        if not self._across_ranks:
            self.flush()
        return self._builder.curve(N=N, unit=unit)

    def mark_epoch_end(self, step: int) -> None:
        """Note that a pass over the training data ended at ``step``."""
        self._builder.mark_epoch_end(step)

    def discard(self) -> None:
        """Drop what has been collected and not fetched, and any reduction under way."""
        self._take()
        self._flight = None

    def state_dict(self) -> dict[str, Any]:
        """Return the curve as plain numbers and lists, exact to the bit.

        With ``across_ranks`` the steps that are not yet reduced are left out: a state may be asked for on one rank
        alone, and then nothing may wait for another.
        """
        if not self._across_ranks:
            self.flush()
        return {"version": 1, "builder": self._builder.state_dict(), "lr": self.lr}

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
        self.discard()

    def _take(self) -> tuple[list[int], list[Tensor | float | None], list[Tensor | float | None]]:
        taken = self._steps, self._losses, self._lrs
        self._steps, self._losses, self._lrs = [], [], []
        return taken

    def _land(self) -> tuple[_Flight, list[float | None]] | None:
        """Wait for the reduction under way, if there is one; return it and the mean losses, and hear the note."""
        flight, self._flight = self._flight, None
        if flight is None:
            return None
        losses, self.heard = flight.land()
        return flight, losses

    def _feed(
        self, steps: Sequence[int], losses: Sequence[float | None], lrs: Sequence[float | None], B: float | None
    ) -> None:
        finite: list[float] = []
        for step, loss, lr in zip(steps, losses, lrs, strict=True):
            if lr is not None:
                self.lr = lr
            if loss is None:
                continue
            self._builder.append(step, loss, lr, B)
            if math.isfinite(loss):
                finite.append(loss)
        self.latest = float(np.mean(finite)) if finite else math.nan
        self.latest_error = float(np.std(finite, ddof=1)) / math.sqrt(len(finite)) if len(finite) > 1 else math.inf


class _Flight:
    """One reduction under way: the losses of some steps on their way to their mean over the ranks, and a note.

    The payload is [loss where there was one, else 0][1 where there was one, else 0][note], float64.
    """

    def __init__(
        self,
        steps: list[int],
        losses: list[Tensor | float | None],
        lrs: list[Tensor | float | None],
        B: float | None,
        note: Sequence[float],
        device: torch.device | None,
    ) -> None:
        self.steps = steps
        self.lrs = lrs
        self.B = B
        first = next((x for x in losses if isinstance(x, Tensor)), None)
        device = device or (torch.device("cpu") if first is None else first.device)
        sent = list(note) if dist.get_rank() == 0 else [0.0] * len(note)
        there = [float(x is not None) for x in losses]
        tail = torch.tensor(there + sent, dtype=torch.float64, device=device)
        self.error: Exception | None = None
        try:
            head = _stack([0.0 if x is None else x for x in losses], device)
        except Exception as error:  # the other ranks wait for this one: take part with nothing, complain later
            self.error = error
            head = torch.zeros(len(losses), dtype=torch.float64, device=device)
            tail[: len(losses)] = 0.0
        self._payload = torch.cat([head, tail])
        self._work: Any = None

    def launch(self) -> None:
        """Start the one collective of a flush."""
        self._work = dist.all_reduce(self._payload, async_op=True)

    def land(self) -> tuple[list[float | None], list[float]]:
        """Wait for it; return the mean losses and the note."""
        self._work.wait()
        values: list[float] = self._payload.tolist()
        n = len(self.steps)
        means = [total / there if there else None for total, there in zip(values[:n], values[n : 2 * n], strict=True)]
        return means, values[2 * n :]


def _fetch(
    losses: Sequence[Tensor | float | None], lrs: Sequence[Tensor | float | None]
) -> tuple[list[float | None], list[float | None]]:
    """Bring losses and learning rates to the host in one transfer."""
    both = [*losses, *lrs]
    where = [i for i, x in enumerate(both) if isinstance(x, Tensor)]
    found: list[float | None] = [None if x is None or isinstance(x, Tensor) else float(x) for x in both]
    if where:
        tensors = [x for x in both if isinstance(x, Tensor)]
        for i, value in zip(where, _stack(tensors, tensors[0].device).tolist(), strict=True):
            found[i] = value
    return found[: len(losses)], found[len(losses) :]


def _stack(values: Sequence[Tensor | float], device: torch.device) -> Tensor:
    """Return the values as one vector, each a mean over its elements."""
    wide = torch.float32 if device.type == "mps" else torch.float64
    first = values[0] if values else None
    if isinstance(first, Tensor) and all(isinstance(x, Tensor) and x.shape == first.shape for x in values):
        tensors: list[Any] = list(values)
        if all(x.dtype == first.dtype and x.device == first.device for x in tensors):
            stacked = torch.stack(tensors).to(device=device, dtype=wide)
            return stacked if stacked.dim() == 1 else stacked.flatten(1).mean(1)
    rows = [torch.as_tensor(x).detach().to(device=device, dtype=wide).mean() for x in values]
    return torch.stack(rows) if rows else torch.empty(0, dtype=wide, device=device)
