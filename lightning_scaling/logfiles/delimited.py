"""CSV, TSV and their like: any delimiter, holes, quotes, comments; a million rows in a second."""

from __future__ import annotations

import csv
import io
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["Table", "decoded", "number"]

FloatArray = NDArray[np.float64]

_DELIMITERS = (",", "\t", ";", "|")
#: Rows that are held as text at once.
_CHUNK = 65_536
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
        columns = self._fast(index)
        if columns is None:
            columns = self._thorough(index, [self._reader(i) for i in index])
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

    def _fast(self, index: Sequence[int]) -> list[FloatArray] | None:
        """Read a file of plain numbers without quotes; None where it is not so simple."""
        data, d = self.data, self.delimiter
        mark = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        if mark or self._n_comments or d not in (",", "\t") or not index or not data.endswith(b"\n"):
            return None
        body = data.index(b"\n") + 1 if self.has_header else 0
        if data.find(b'"', body) >= 0:
            return None
        if data.find(b"\r", body) < 0:
            try:  # NumPy's reader refuses an empty cell in a column that is asked for, and soon, where there are many
                return self._without_holes(body, d, index)
            except ValueError:
                pass
        else:  # lines as Windows ends them
            data = data.replace(b"\r\n", b"\n")
            body = data.index(b"\n") + 1 if self.has_header else 0
        try:
            return _with_holes(data, body, ord(d), index)
        except ValueError:
            return None

    def _without_holes(self, body: int, delimiter: str, index: Sequence[int]) -> list[FloatArray]:
        """Read with NumPy's reader, from the disk where the file is there as it is, which spares it the lines."""
        n = self.data.count(b"\n", body)
        if not n:
            return [np.empty(0) for _ in index]
        source: str | io.StringIO = str(self.path) if self._is_on_disk() else io.StringIO(self.data.decode("latin-1"))
        columns = tuple(index)
        found = np.loadtxt(
            source,
            delimiter=delimiter,
            usecols=columns,
            skiprows=int(body > 0),
            max_rows=n,
            comments=None,
            encoding="latin-1",
            unpack=True,
            ndmin=2,
        )
        found[~np.isfinite(found)] = np.inf
        return list(found)

    def _is_on_disk(self) -> bool:
        """Tell whether the file holds these bytes as they are, uncompressed and at its beginning."""
        if not self.path.is_file() or self.path.stat().st_size < len(self.data):
            return False
        with self.path.open("rb") as stream:
            return stream.read(256) == self.data[:256]

    def _rows(self) -> itertools.chain[list[str]]:
        lines = io.StringIO(decoded(self.data), newline="")
        d = self.delimiter
        rows = (line.split() for line in lines) if d is None else csv.reader(lines, delimiter=d, skipinitialspace=True)
        kept = (row for row in rows if row and not (row[0].startswith("#") and self.has_header))
        head = 1 if self.has_header and not self._header_is_comment else 0
        return itertools.chain(itertools.islice(kept, head, None))

    @cached_property
    def _header_is_comment(self) -> bool:
        return self._head[self._n_comments].startswith("#")

    def _thorough(self, index: Sequence[int], readers: Sequence[Callable[[str], float]]) -> list[FloatArray]:
        rows = self._rows()
        parts: list[list[FloatArray]] = [[] for _ in index]
        while chunk := list(itertools.islice(rows, _CHUNK)):
            for part, i, read in zip(parts, index, readers, strict=True):
                cells = [row[i] if i < len(row) else "" for row in chunk]
                part.append(_numbers(cells, read))
        return [np.concatenate(part) if part else np.empty(0) for part in parts]


def _with_holes(data: bytes, body: int, delimiter: int, index: Sequence[int]) -> list[FloatArray]:
    """Read columns of plain numbers in which cells may be empty; every row must have all its delimiters.

    Raises:
        ValueError: If a row has another number of cells, or a cell is neither empty nor a number.
    """
    text = np.frombuffer(data, dtype=np.uint8, offset=body)
    cuts = np.flatnonzero((text == delimiter) | (text == ord("\n")))
    n = data.count(b"\n", body)
    if not n or cuts.size % n or not (text[cuts[cuts.size // n - 1 :: cuts.size // n]] == ord("\n")).all():
        raise ValueError("Expected rows of equal length, got ragged ones.")
    starts = np.concatenate(([0], cuts[:-1] + 1)).reshape(n, -1)
    ends = cuts.reshape(n, -1)
    found = []
    for i in index:
        column, length = np.full(n, np.nan), ends[:, i] - starts[:, i]
        there = np.flatnonzero(length)
        if there.size:
            place = np.arange(int(length.max()))
            cells = text[np.minimum(starts[there, i, None] + place, text.size - 1)]
            cells[place >= length[there, None]] = 0
            numbers = cells.view(f"S{place.size}").ravel().astype(np.float64)
            column[there] = np.where(np.isfinite(numbers), numbers, np.inf)
        found.append(column)
    return found


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
    return np.array([math.nan if cell.strip().lower() in _MISSING else read(cell) for cell in cells])
