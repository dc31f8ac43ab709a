"""NoiseSamples: squared gradient norms on their way from the device, and over the ranks, into a `NoiseScale`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from lightning_scaling.batch_size.noise_scale import NoiseScale
from lightning_scaling.gradients.norms import NormSample
from lightning_scaling.recording.transfer import Transfer, aside, upload

__all__ = ["NoiseSamples"]


class NoiseSamples:
    """Keeps norms where they are, and fetches many of them at once.

    Across ranks a fetch is one asynchronous all_reduce of fixed length, waited for at the next fetch only: every rank
    must `flush` at the same steps, with whatever it has. The mean over the ranks that have a sample is what counts.

    Args:
        noise: What takes the samples.
        slots: Samples between two fetches, at most.
        across_ranks: Whether to take the mean over the ranks of the default process group.
        device: Device of the reduction across ranks.

    Example:
        >>> noise = NoiseScale()
        >>> samples = NoiseSamples(noise, slots=4)
        >>> samples.put(NormSample(torch.tensor(52.5), torch.tensor(4.0625), 8, 256))
        >>> samples.flush()
        >>> noise.trace_Sigma, noise.G_squared
        (400.0, 2.5)
    """

    def __init__(
        self,
        noise: NoiseScale,
        *,
        slots: int = 16,
        across_ranks: bool = False,
        device: torch.device | str = "cpu",
    ) -> None:
        self.noise = noise
        self._slots = slots
        self._across_ranks = across_ranks
        self._device = torch.device(device)
        self._waiting: list[NormSample | None] = []
        self._flight: _Flight | None = None

    def put(self, sample: NormSample | None) -> None:
        """Keep a sample, None in the place of one that could not be taken; more than ``slots`` at once are dropped."""
        if len(self._waiting) < self._slots:
            self._waiting.append(sample)

    def flush(self, *, wait: bool = True) -> None:
        """Send off what was kept, and take in what was sent before.

        Args:
            wait: Whether to wait for this flush's own samples too.
        """
        landed = [self._flight]
        waiting, self._waiting = self._waiting, []
        self._flight = _Flight(waiting, self._slots, self._across_ranks, self._device)
        if wait:
            landed.append(self._flight)
            self._flight = None
        for flight in landed:
            if flight is not None:
                self._feed(flight)

    def discard(self) -> None:
        """Drop what has not been fetched."""
        self._waiting, self._flight = [], None

    def _feed(self, flight: _Flight) -> None:
        for small_sq, big_sq, B_small, B_big in flight.land():
            if 0.0 < B_small < B_big:
                self.noise.update(small_sq, big_sq, B_small=B_small, B_big=B_big)


class _Flight:
    """Some samples on their way: rows of [small_sq, big_sq, B_small, B_big, 1], summed over ranks that have them."""

    def __init__(
        self, samples: Sequence[NormSample | None], slots: int, across_ranks: bool, device: torch.device
    ) -> None:
        self._error: Exception | None = None
        self._work: Any = None
        self._transfer: Transfer | None = None
        try:
            payload = _rows(samples, device if across_ranks else None)
        except Exception as error:  # the other ranks wait for this one: take part with nothing, complain later
            if not across_ranks:
                raise
            self._error, payload = error, _rows([], device)
        if across_ranks:
            filled = torch.zeros(slots, payload.shape[1], dtype=payload.dtype, device=device)
            filled[: len(payload)] = payload
            payload = filled
            self._work = dist.all_reduce(payload, async_op=True)
        else:
            self._transfer = Transfer(payload.flatten())
        self._payload = payload

    def land(self) -> list[list[float]]:
        """Wait for them, and for nothing that came later; return the rows that any rank has, as means."""
        with aside(self._payload.device):
            if self._work is not None:
                self._work.wait()
            values = (self._transfer or Transfer(self._payload.flatten())).values()
        if self._error is not None:
            raise self._error
        rows = [values[k : k + 5] for k in range(0, len(values), 5)]
        return [[x / row[4] for x in row[:4]] for row in rows if row[4]]


def _rows(samples: Sequence[NormSample | None], device: torch.device | None) -> Tensor:
    """Return the rows on a device, that of the first sample where none is given; a row of zeros where there is none."""
    there = [s for s in samples if s is not None]
    device = device or (there[0].small_sq.device if there else torch.device("cpu"))
    wide = torch.float32 if device.type == "mps" else torch.float64
    sizes = [[0.0] * 5 if s is None else [0.0, 0.0, s.B_small, s.B_big, 1.0] for s in samples]
    rows = upload([x for row in sizes for x in row], wide, device).reshape(-1, 5)
    if there:
        norms = [torch.stack([s.small_sq.to(device), s.big_sq.to(device)]).to(wide) for s in there]
        places = upload([i for i, s in enumerate(samples) if s is not None], torch.int64, device)
        rows[places, :2] = torch.stack(norms)
    return rows
