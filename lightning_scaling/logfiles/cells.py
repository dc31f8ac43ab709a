"""Where the cells of a text table begin and end, found for all rows of a block at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["columns_of"]

IntArray = NDArray[np.intp]
BoolArray = NDArray[np.bool_]
ByteArray = NDArray[np.uint8]

_NEW_LINE, _RETURN, _QUOTE, _BLANK, _COMMENT = (ord(c) for c in '\n\r" #')
#: ASCII that `str.split` takes for a blank.
_BLANKS = np.isin(np.arange(256), [9, 10, 11, 12, 13, 28, 29, 30, 31, 32])
#: Blanks that are taken off either end of a cell.
_MOST_BLANKS = 32


@dataclass(frozen=True, eq=False)
class _Cells:
    """Rows of equal length; most columns of a wide table are not read, so that only the ends of all cells are held.

    Args:
        begins: Where the rows begin, shape (rows,).
        ends: Where the cells end, shape (rows, columns).
        starts: Where they begin, shape (rows, columns); None: each behind the byte that ends the one before.
    """

    begins: IntArray
    ends: IntArray
    starts: IntArray | None = None

    def column(self, i: int) -> tuple[IntArray, IntArray]:
        """Return where the cells of a column begin and end; one that is not there is all of empty cells."""
        if i >= self.ends.shape[1]:
            return self.begins, self.begins
        if self.starts is not None:
            return self.starts[:, i], self.ends[:, i]
        return self.ends[:, i - 1] + 1 if i else self.begins, self.ends[:, i].copy()


def columns_of(block: bytes, delimiter: str | None, index: Sequence[int]) -> list[tuple[IntArray, IntArray]]:
    r"""Return where the cells of columns begin and end, without quotes and blanks around them.

    Args:
        block: Whole rows in an encoding that agrees with ASCII, the last one with its end of line.
        delimiter: What separates the cells; None: blanks, as many as there are.
        index: Columns, counted from 0; one that the rows do not have is all of empty cells.

    Returns:
        Starts and ends of each column, each of shape (rows,).

    Raises:
        ValueError: If the rows differ in length, hold comments, or quotes that are not around a whole cell.

    Example:
        >>> [(starts.tolist(), ends.tolist()) for starts, ends in columns_of(b'1,"2.5"\n2,\n', ",", [1])]
        [([3, 10], [6, 10])]
    """
    if not block.endswith(b"\n"):
        raise ValueError("Expected whole rows, got the last one without its end of line.")
    cells = _between_blanks(block) if delimiter is None else _between_delimiters(block, ord(delimiter))
    if b"#" in block and (_bytes(block)[_bare(block, delimiter, *cells.column(0))[0]] == _COMMENT).any():
        raise ValueError("Expected rows of cells, got comments among them.")
    return [_bare(block, delimiter, *cells.column(i)) for i in index]


def _bytes(block: bytes) -> ByteArray:
    return np.frombuffer(block, dtype=np.uint8)


def _between_delimiters(block: bytes, delimiter: int) -> _Cells:
    """Return the cells where a byte separates them, but not between quotes."""
    text = _bytes(block)
    line = text == _NEW_LINE
    cut = line | (text == delimiter)
    if b'"' in block:
        cuts = _outside_quotes(text, cut)
        n = int(np.count_nonzero(line[cuts]))
    else:
        cuts = np.flatnonzero(cut)
        n = int(np.count_nonzero(line))
    width = cuts.size // n
    if cuts.size % n or not line[cuts[width - 1 :: width]].all():
        raise ValueError("Expected rows of equal length, got ragged ones.")
    ends = cuts.reshape(n, width)
    begins = np.concatenate(([0], ends[:-1, -1] + 1))
    if b"\r" in block:
        returned = (text[ends[:, -1] - 1] == _RETURN) & (ends[:, -1] > (ends[:, -2] + 1 if width > 1 else begins))
        ends[:, -1] -= returned
        if np.count_nonzero(returned) != block.count(b"\r"):
            raise ValueError("Expected lines that end as Unix or Windows ends them, got a return of its own.")
    if width == 1:  # a row without anything is none
        kept = ends[:, 0] > begins
        begins, ends = begins[kept], ends[kept]
    return _Cells(begins, ends)


def _outside_quotes(text: ByteArray, cut: BoolArray) -> IntArray:
    """Return the cuts that do not lie between quotes that open a cell and those that close it.

    Of two quotes within a cell, which stand for one, the first closes the cell and the second opens it again.
    """
    marks = np.flatnonzero(cut | (text == _QUOTE))
    quote = text[marks] == _QUOTE
    within = np.logical_xor.accumulate(quote)  # from a quote that opens up to the one that closes, without the latter
    if within[-1]:
        raise ValueError("Expected quotes around whole cells, got one that is alone.")
    beside = np.diff(marks) == 1  # its neighbour behind is a cut or a quote
    alone = np.flatnonzero((quote & within)[1:] & ~beside)
    if alone.size or (within[0] and marks[0]):
        raise ValueError("Expected quotes around whole cells, got one within a cell.")
    after = marks[:-1][(quote & ~within)[:-1] & ~beside] + 1
    if not (text[after] == _RETURN).all():
        raise ValueError("Expected quotes around whole cells, got more of the cell behind one.")
    found: IntArray = marks[~(quote | within)]
    return found


def _between_blanks(block: bytes) -> _Cells:
    """Return the cells where blanks separate them, and quotes mean nothing."""
    text = _bytes(block)
    if text.max() > 127 or not (text[np.flatnonzero(text == _RETURN) + 1] == _NEW_LINE).all():
        raise ValueError("Expected ASCII in lines as Unix or Windows ends them, got something else.")
    blank = _BLANKS[text]
    before = np.concatenate(([True], blank[:-1]))
    starts, ends = np.flatnonzero(before & ~blank), np.flatnonzero(blank & ~before)
    lengths = np.diff(np.searchsorted(starts, np.flatnonzero(text == _NEW_LINE)), prepend=0)
    n = max(int(lengths.max()), 1)
    if not ((lengths == n) | (lengths == 0)).all():
        raise ValueError("Expected rows of equal length, got ragged ones.")
    cells = starts.reshape(-1, n)
    return _Cells(cells[:, 0], ends.reshape(-1, n), cells)


def _bare(block: bytes, delimiter: str | None, starts: IntArray, ends: IntArray) -> tuple[IntArray, IntArray]:
    """Return the cells without quotes and blanks around them; between blanks they are as they should be."""
    if delimiter is None:
        return starts, ends
    text = _bytes(block)
    if b'"' in block:
        quoted = text[starts] == _QUOTE
        starts, ends = starts + quoted, ends - quoted
    for _ in range(_MOST_BLANKS if b" " in block else 0):
        leading = text[starts] == _BLANK
        if not leading.any():
            break
        starts = np.minimum(starts + leading, ends)
    for _ in range(_MOST_BLANKS if b" " in block else 0):
        trailing = (text[ends - 1] == _BLANK) & (ends > starts)
        if not trailing.any():
            break
        ends = ends - trailing
    return starts, ends
