"""CSV, TSV and their like: any delimiter, holes, quotes, comments; a million rows in a second."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.logfiles.cells import columns_of
from lightning_scaling.logfiles.decimals import PAD, decimals

__all__ = ["Table", "decoded", "number"]

FloatArray = NDArray[np.float64]

_DELIMITERS = (",", "\t", ";", "|")
#: Rows that are held as text at once.
_CHUNK = 65_536
#: Bytes that are looked at together: what a processor keeps at hand.
_BLOCK = 2**20
#: What programs write where a value is missing; NaN and inf are values.
_MISSING = {"", "none", "null", "na", "n/a", "-"}
_NUMBER = re.compile(r"^\s*[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?\s*$")


def number(text: str) -> float:
    """Return what a cell holds: NaN where it holds nothing, infinity where it is logged but not finite.

    Example:
        >>> number("2.5"), number(""), number("NaN"), number("-inf"), number("hello")
        (2.5, nan, inf, inf, nan)
    """
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.inf


def _decimal_comma(text: str) -> float:
    return number(text.replace(",", "."))


def decoded(data: bytes) -> str:
    """Return the text of a file, whatever its byte order mark says."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, errors="replace")
    return data.decode("utf-8", errors="replace")


@dataclass(frozen=True, eq=False)
class Table:
    """A text table, of which only the columns that are asked for are read.

    Args:
        path: The file.
        data: Its bytes, uncompressed; a last line that is being written may be missing.
    """

    path: Path
    data: bytes

    @cached_property
    def _head(self) -> list[str]:
        """The first lines that hold something."""
        lines = decoded(self.data[:65_536]).splitlines()
        if len(self.data) > 65_536:
            lines = lines[:-1]
        return [line for line in lines if line.strip()]

    @cached_property
    def _n_comments(self) -> int:
        """Lines of comment before the header; the last of them is the header where only numbers follow."""
        n = next((i for i, line in enumerate(self._head) if not line.startswith("#")), len(self._head))
        follows = self._split(self._head[n].strip()) if n < len(self._head) else []
        return n - 1 if n and follows and all(_NUMBER.match(cell) for cell in follows) else n

    @cached_property
    def delimiter(self) -> str | None:
        """What separates the columns; None: blanks."""
        sample = [line.lstrip("#") for line in self._head if not line.startswith("#")][:20] or self._head
        header = sample[0] if sample else ""
        counts = {d: header.count(d) for d in _DELIMITERS}
        best = max(_DELIMITERS, key=lambda d: counts[d])
        if counts[";"] and counts[","] and all(";" in line for line in sample):
            return ";"  # a comma in the header may belong to a name, and in the rows to a number
        if counts[best]:
            return best
        return None if re.search(r"\S[ \t]+\S", header) else ","

    def _split(self, line: str) -> list[str]:
        if self.delimiter is None:
            return line.split()
        return next(csv.reader([line], delimiter=self.delimiter, skipinitialspace=True), [])

    @cached_property
    def has_header(self) -> bool:
        """Whether the first line names the columns."""
        first = self._head[self._n_comments] if len(self._head) > self._n_comments else ""
        return not all(_NUMBER.match(cell) for cell in self._split(first.lstrip("#").strip()))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Names of the columns; of a file without a header ``loss``, ``step`` and ``loss``, or numbers from 1."""
        if len(self._head) <= self._n_comments:
            return ()
        cells = [cell.strip() for cell in self._split(self._head[self._n_comments].lstrip("#").strip("\r\n "))]
        if not self.has_header:
            n = len(cells)
            return {1: ("loss",), 2: ("step", "loss")}.get(n, tuple(str(i + 1) for i in range(n)))
        unique: list[str] = []
        for i, cell in enumerate(cells):
            unique.append(cell if cell and cell not in unique else f"{cell or 'column'} ({i + 1})")
        return tuple(unique)

    def numbers(self, names: Sequence[str]) -> Mapping[str, FloatArray]:
        """Return columns of numbers, NaN where a row has none, infinity where it is not finite."""
        index = [self.names.index(name) for name in names]
        readers = [self._reader(i) for i in index]
        parts = [] if self._body is not None else [_thorough(self._rows(), index, readers)]
        at = len(self.data) if self._body is None else self._body
        while at < len(self.data):
            block = self._block(at)
            try:
                part = _fast(block, self.delimiter, index, readers)
            except ValueError:  # what is not so simple costs its block some time, with quotes all that follows
                block = block if b'"' not in block else self.data[at:]
                part = _thorough(self._rows(block), index, readers)
            parts.append(part)
            at += len(block)
        columns = (
            [np.concatenate(column) for column in zip(*parts, strict=True)] if parts else [np.empty(0)] * len(index)
        )
        return dict(zip(names, columns, strict=True))

    def texts(self, name: str) -> list[str]:
        """Return a column as it is written."""
        i = self.names.index(name)
        return [row[i] if i < len(row) else "" for row in self._rows()]

    def _reader(self, i: int) -> Callable[[str], float]:
        """Return how the cells of a column are read: with a decimal comma where they have one."""
        if self.delimiter == ",":
            return number
        cells = [row[i] for row in (self._split(line) for line in self._head[1:200]) if i < len(row)]
        commas = any("," in cell and _NUMBER.match(cell.replace(",", ".")) for cell in cells)
        return _decimal_comma if commas else number

    @cached_property
    def _body(self) -> int | None:
        """Where the first row begins; None where the lines before it are not plain ones."""
        at = 3 if self.data.startswith(b"\xef\xbb\xbf") else 0
        if self.data[:2] in (b"\xff\xfe", b"\xfe\xff") or (self._n_comments and not self.has_header):
            return None
        for line in self._head[: self._n_comments + 1] if self.has_header else ():
            found = b""
            while not found.strip(b"\r\n"):
                end = self.data.find(b"\n", at) + 1
                if not end:
                    return None
                found, at = self.data[at:end], end
            if decoded(found).rstrip("\r\n") != line or line.count('"') % 2:
                return None
        return at

    def _block(self, at: int) -> bytes:
        """Return whole rows from a place on; a last one that is being written is a block of its own."""
        end = self.data.rfind(b"\n", at, at + _BLOCK) + 1 or self.data.find(b"\n", at) + 1
        return self.data[at : end or len(self.data)]

    def _rows(self, block: bytes | None = None) -> Iterator[list[str]]:
        """Return the rows of a block of them, or of the whole file."""
        lines = io.StringIO(decoded(self.data) if block is None else block.decode("utf-8", "replace"), newline="")
        d = self.delimiter
        rows = (line.split() for line in lines) if d is None else csv.reader(lines, delimiter=d, skipinitialspace=True)
        kept = (row for row in rows if row and not (row[0].startswith("#") and self.has_header))
        head = 1 if block is None and self.has_header and not self._header_is_comment else 0
        return itertools.islice(kept, head, None)

    @cached_property
    def _header_is_comment(self) -> bool:
        return self._head[self._n_comments].startswith("#")


def _fast(
    block: bytes, delimiter: str | None, index: Sequence[int], readers: Sequence[Callable[[str], float]]
) -> list[FloatArray]:
    """Read columns of a block of rows; only the cells that are no plain numbers are looked at one by one.

    Raises:
        ValueError: If the rows are not of equal length, or not as simple as that.
    """
    pad = bytes(PAD)
    padded = pad + block + pad
    pointed = padded if all(read is number for read in readers) else padded.replace(b",", b".")
    found = []
    for (starts, ends), read in zip(columns_of(block, delimiter, index), readers, strict=True):
        there = ends > starts
        full = bool(there.all())
        if not full:
            starts, ends = starts[there], ends[there]
        numbers, sure = decimals(padded if read is number else pointed, starts + PAD, ends + PAD)
        odd = np.flatnonzero(~sure)
        cells = [block[a:b] for a, b in zip(starts[odd].tolist(), ends[odd].tolist(), strict=True)]
        known = {cell: _value(cell.decode("utf-8", "replace"), read) for cell in set(cells)}
        numbers[odd] = [known[cell] for cell in cells]
        if not full:
            column = np.full(there.size, np.nan)
            column[there] = numbers
        found.append(numbers if full else column)
    return found


def _thorough(
    rows: Iterator[list[str]], index: Sequence[int], readers: Sequence[Callable[[str], float]]
) -> list[FloatArray]:
    """Read columns of rows of cells, cell by cell."""
    parts: list[list[FloatArray]] = [[] for _ in index]
    while chunk := list(itertools.islice(rows, _CHUNK)):
        for part, i, read in zip(parts, index, readers, strict=True):
            cells = [row[i] if i < len(row) else "" for row in chunk]
            part.append(_numbers(cells, read))
    return [np.concatenate(part) if part else np.empty(0) for part in parts]


def _numbers(cells: list[str], read: Callable[[str], float]) -> FloatArray:
    """Convert cells; most are numbers or empty, which is tried first because it is three times as fast."""
    if read is number:
        try:
            found = np.array([float(cell) if cell else math.nan for cell in cells])
        except ValueError:
            pass
        else:
            odd = np.flatnonzero(~np.isfinite(found))
            found[[i for i in odd.tolist() if cells[i]]] = np.inf
            return found
    return np.array([_value(cell, read) for cell in cells])


def _value(cell: str, read: Callable[[str], float]) -> float:
    return math.nan if cell.strip().lower() in _MISSING else read(cell)
