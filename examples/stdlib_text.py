"""What the examples train on: the source code of Python's standard library, as bytes."""

from __future__ import annotations

import itertools
import sysconfig
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

#: Left out: tests, what pip has added, and packages that are tables of data rather than code.
SKIP = {"test", "tests", "idle_test", "site-packages", "dist-packages", "encodings", "pydoc_data"}
GOLDEN = (5**0.5 - 1) / 2


def stdlib_text() -> Tensor:
    """Return the source of the standard library as one tensor of bytes, its files in the order of their names."""
    root = Path(sysconfig.get_path("stdlib"))
    files = [file for file in root.rglob("*.py") if SKIP.isdisjoint(file.relative_to(root).parts)]
    return torch.frombuffer(bytearray(b"\n".join(f.read_bytes() for f in sorted(files))), dtype=torch.uint8)


class Crops(torch.utils.data.IterableDataset[tuple[Tensor, Tensor]]):
    """Endless batches of crops and the bytes that follow, spread evenly over the text by the golden ratio.

    Any few batches in a row see all parts of the text, so that their losses differ little, and no place is seen twice.
    """

    def __init__(self, text: Tensor, batch_size: int, length: int) -> None:
        self.text, self.batch_size, self.length = text, batch_size, length

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        for first in itertools.count(step=self.batch_size):
            share = GOLDEN * torch.arange(first, first + self.batch_size, dtype=torch.float64) % 1.0
            starts = (share * (len(self.text) - self.length)).long()
            crops = self.text[starts[:, None] + torch.arange(self.length + 1)].long()
            yield crops[:, :-1], crops[:, 1:]
