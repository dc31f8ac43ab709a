"""The calendar of a Trainer: in which batch of which epoch each of the coming optimizer steps happens."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

IntArray = NDArray[np.int32]


@dataclass(frozen=True)
class Calendar:
    """How a Trainer turns batches into optimizer steps, and where it stands.

    Lightning steps the optimizer in every A-th batch of an epoch and in the epoch's last batch; the count starts anew
    with each epoch.

    Args:
        batches: Batches per epoch, None where the data has no length.
        epoch: Epoch of the next batch, counted from 0.
        batch: Batches of that epoch that are done.
        changes: Pairs (first epoch, A) of the gradient accumulation, first epochs increasing from 0.
        steps_on_last: Whether the last batch of an epoch steps in any case (DeepSpeed leaves it to the next epoch).

    Example:
        >>> calendar = Calendar(batches=10, epoch=0, batch=0, changes=((0, 4),))
        >>> calendar.steps_in_epoch(0)
        3
        >>> batch, epoch, last = calendar.next_steps(4)
        >>> batch.tolist(), epoch.tolist(), last.tolist()
        ([4, 8, 10, 4], [0, 0, 0, 1], [False, False, True, False])
    """

    batches: int | None
    epoch: int
    batch: int
    changes: tuple[tuple[int, int], ...] = ((0, 1),)
    steps_on_last: bool = True

    @classmethod
    def of(cls, trainer: Any, batches: int | None = None) -> Calendar:
        """Read the calendar of a Trainer between two batches.

        Args:
            trainer: A Trainer whose training data is set up (``on_train_start`` or later).
            batches: Batches per epoch where they were counted in an earlier epoch and the data has no length.

        Returns:
            The calendar from the next batch on.
        """
        length = trainer.num_training_batches
        if not math.isinf(length):
            batches = int(length)
        # `processed` counts the batches whose optimizer step is over, also when a checkpoint was written inside
        # on_train_batch_end, where `completed` is one behind and `ready` may be one ahead.
        loop, epochs = trainer.fit_loop.epoch_loop, trainer.fit_loop.epoch_progress.current
        batch, started, finished = loop.batch_progress.current, int(epochs.ready), int(epochs.processed)
        repeats = not hasattr(loop, "restarted_on_train_batch_end")  # before 2.5 such a checkpoint's batch comes again
        waits = bool(getattr(loop, "restarting", False)) and (not repeats or epochs.ready == epochs.completed)
        done = int(batch.completed if waits and repeats else batch.processed)
        over = done >= batches if batches is not None else finished >= started
        # An epoch whose batches are over does not count as processed yet in the hooks of its last batch, nor in a run
        # that waits to go on from the validation at its end. In one that goes on between epochs, `ready` is one behind.
        ended = finished + (waits == (batch.completed == batch.processed))
        return cls(
            batches=batches,
            epoch=ended if over else max(started - 1, finished),
            batch=0 if over else done,
            changes=_accumulation(trainer),
            steps_on_last=not getattr(trainer.strategy, "handles_gradient_accumulation", False),
        )

    def steps_in_epoch(self, epoch: int, *, after: int = 0) -> int:
        """Return the optimizer steps of one epoch, after its first ``after`` batches; the data must have a length."""
        return int((self._stepping_batches(epoch) > after).sum())

    def next_steps(self, n: int) -> tuple[IntArray, IntArray, NDArray[np.bool_]]:
        """Return batch (from 1), epoch (from 0) and "was it the epoch's last batch" of the next n optimizer steps.

        Without a known length the data counts as one endless epoch.
        """
        if self.batches is None:
            every = self._every(self.epoch)
            first = self.batch // every + 1
            batch = np.arange(first, first + n, dtype=np.int32) * every
            return batch, np.full(n, self.epoch, dtype=np.int32), np.zeros(n, dtype=np.bool_)
        batches, epochs = [], []
        found = 0
        for start, stop, pattern in self._stretches():
            repeat = stop - start if stop is not None else math.ceil((n - found) / max(pattern.size, 1))
            repeat = max(min(repeat, math.ceil((n - found) / max(pattern.size, 1))), 0)
            batches.append(np.tile(pattern, repeat))
            epochs.append(np.repeat(np.arange(start, start + repeat, dtype=np.int32), pattern.size))
            found += pattern.size * repeat
            if found >= n:
                break
        batch, epoch = np.concatenate(batches)[:n], np.concatenate(epochs)[:n]
        return batch, epoch, batch == self.batches

    def _stretches(self) -> Iterator[tuple[int, int | None, IntArray]]:
        """Yield (first epoch, epoch after the last, stepping batches of each of them)."""
        pattern = self._stepping_batches(self.epoch)
        yield self.epoch, self.epoch + 1, pattern[pattern > self.batch]
        start = self.epoch + 1
        for change in (first for first, _ in self.changes if first > start):
            yield start, change, self._stepping_batches(start)
            start = change
        yield start, None, self._stepping_batches(start)

    def _every(self, epoch: int) -> int:
        return [every for first, every in self.changes if first <= epoch][-1]

    def _stepping_batches(self, epoch: int) -> IntArray:
        if self.batches is None:
            raise ValueError("Expected data with a length, got none. Give the number of batches per epoch.")
        every = self._every(epoch)
        batches = np.arange(every, self.batches + 1, every, dtype=np.int32)
        if self.steps_on_last and self.batches % every:
            batches = np.append(batches, self.batches)
        return batches


def _accumulation(trainer: Any) -> tuple[tuple[int, int], ...]:
    """Return the gradient accumulation by epoch; a ``GradientAccumulationScheduler`` changes it between epochs."""
    for callback in trainer.callbacks:
        scheduling = getattr(callback, "scheduling", None)
        if isinstance(scheduling, dict) and hasattr(callback, "get_accumulate_grad_batches"):
            return tuple((int(epoch), int(every)) for epoch, every in sorted(({0: 1} | scheduling).items()))
    return ((0, int(trainer.accumulate_grad_batches)),)
