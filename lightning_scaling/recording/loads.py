"""Loads: the losses of some steps under way, to the host or to their mean over all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lightning_scaling.recording.transfer import Fetch, Transfer, aside, stack, upload

__all__ = ["Load", "Reduction"]


class Load:
    """The losses of some steps on their way to the host, with the learning rates and the batch size.

    Args:
        steps: The steps [steps].
        losses: Their losses; None where there was none.
        lrs: Their learning rates, None where not known.
        B: Their batch size [tokens per step], None where it is not known.

    Attributes:
        fetch: The losses and the learning rates as one transfer.

    Raises:
        ValueError: If there is not one loss and one learning rate for each step.
    """

    def __init__(
        self,
        steps: Sequence[int],
        losses: Sequence[Tensor | float | None],
        lrs: Sequence[Tensor | float | None],
        B: float | None,
    ) -> None:
        if not len(steps) == len(losses) == len(lrs):
            raise ValueError(
                f"Expected as many losses and learning rates as steps, got {len(losses)} and {len(lrs)} of them for "
                f"{len(steps)}. The state is damaged: start a new recorder."
            )
        self.steps, self.B = list(steps), B
        self.fetch = Fetch([*losses, *lrs])

    def values(self) -> tuple[list[float | None], list[float | None]]:
        """Return the losses and the learning rates, after a wait where they are not there yet."""
        both = self.fetch.numbers()
        return both[: len(self.steps)], both[len(self.steps) :]

    def state(self) -> list[Any]:
        """Return the four arguments as plain numbers and lists."""
        return [list(self.steps), *self.values(), self.B]


class Reduction:
    """The mean over the ranks of the losses of some steps, and a note from rank 0 to all, by one collective.

    What is summed is [loss where there was one, else 0][1 where there was one, else 0][note], in float64.

    Args:
        steps: The steps, the same on every rank [steps].
        losses: Their losses; None where there was none.
        lrs: Their learning rates, which stay those of this rank.
        B: Batch size of the steps [tokens per step], None where it is not known.
        note: What is sent if this is rank 0.
        device: Device of the collective; default: that of the first loss on one.

    Attributes:
        rates: The learning rates, on their way to the host.
        error: Why this rank takes part with nothing, None where it does not.
    """

    def __init__(
        self,
        steps: list[int],
        losses: Sequence[Tensor | float | None],
        lrs: Sequence[Tensor | float | None],
        B: float | None,
        note: Sequence[float],
        device: torch.device | None,
    ) -> None:
        self.steps, self.B = steps, B
        self.error: Exception | None = None
        self.rates = Fetch([None] * len(steps))
        first = next((x for x in losses if isinstance(x, Tensor)), None)
        device = device or (torch.device("cpu") if first is None else first.device)
        sent = list(note) if dist.get_rank() == 0 else [0.0] * len(note)
        try:
            self.rates = Fetch(lrs)
            self._payload = _payload(losses, sent, device)
        except Exception as error:  # the other ranks wait for this one: take part with nothing, complain later
            self.error = error
            self._payload = _payload([None] * len(steps), sent, device)
        self._work: Any = None

    def launch(self) -> None:
        """Start the collective."""
        self._work = dist.all_reduce(self._payload, async_op=True)

    def land(self) -> tuple[list[float | None], list[float]]:
        """Wait for it, and for nothing that its device has been given since; return the mean losses and the note."""
        with aside(self._payload.device):
            self._work.wait()
            values = Transfer(self._payload).values()
        n = len(self.steps)
        means = [total / there if there else None for total, there in zip(values[:n], values[n : 2 * n], strict=True)]
        return means, values[2 * n :]


def _payload(losses: Sequence[Tensor | float | None], sent: Sequence[float], device: torch.device) -> Tensor:
    """Return what this rank adds to the sum, on the device of the collective, without waiting for that."""
    far = [i for i, x in enumerate(losses) if isinstance(x, Tensor) and x.device.type != "cpu"]
    near = list(losses)
    for i in far:
        near[i] = None
    head = [0.0 if x is None else x for x in Fetch(near).numbers()]
    there = [float(x is not None) for x in losses]
    payload = upload([*head, *there, *sent], torch.float64, device)
    if far:
        tensors: list[Any] = list(losses)
        brought = stack([tensors[i].to(device, non_blocking=True) for i in far])
        payload[upload(far, torch.int64, device)] = brought
    return payload
