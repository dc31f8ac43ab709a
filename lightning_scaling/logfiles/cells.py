"""Where the cells of a text table begin and end, found for all rows of a block at once."""

from __future__ import annotations

from collections.abc import Sequence

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
    starts, ends = _between_blanks(block) if delimiter is None else _between_delimiters(block, ord(delimiter))
    if b"#" in block and (_bytes(block)[_bare(block, delimiter, starts[:, 0], ends[:, 0])[0]] == _COMMENT).any():
        raise ValueError("Expected rows of cells, got comments among them.")
    nothing = starts[:, 0], starts[:, 0]
    return [_bare(block, delimiter, starts[:, i], ends[:, i]) if i < starts.shape[1] else nothing for i in index]


def _bytes(block: bytes) -> ByteArray:
    return np.frombuffer(block, dtype=np.uint8)


def _between_delimiters(block: bytes, delimiter: int) -> tuple[IntArray, IntArray]:
    """Return starts and ends of all cells, of shape (rows, columns)."""
    text = _bytes(block)
    cut = (text == _NEW_LINE) | (text == delimiter)
    cuts = _outside_quotes(text, cut) if b'"' in block else np.flatnonzero(cut)
    last = text[cuts] == _NEW_LINE
    n = int(np.count_nonzero(last))
    if cuts.size % n or not last[cuts.size // n - 1 :: cuts.size // n].all():
        raise ValueError("Expected rows of equal length, got ragged ones.")
    starts, ends = np.concatenate(([0], cuts[:-1] + 1)).reshape(n, -1), cuts.reshape(n, -1)
    if n_returns := block.count(b"\r"):
        returned = (text[ends[:, -1] - 1] == _RETURN) & (ends[:, -1] > starts[:, -1])
        ends[:, -1] -= returned
        if np.count_nonzero(returned) != n_returns:
            raise ValueError("Expected lines that end as Unix or Windows ends them, got a return of its own.")
    if starts.shape[1] == 1:  # a row without anything is none
        kept = ends[:, 0] > starts[:, 0]
        starts, ends = starts[kept], ends[kept]
    return starts, ends


def _outside_quotes(text: ByteArray, cut: BoolArray) -> IntArray:
    """Return the cuts that do not lie between quotes that open a cell and those that close it.

    Of two quotes within a cell, which stand for one, the first closes the cell and the second opens it again.
    """
    quotes, cuts = np.flatnonzero(text == _QUOTE), np.flatnonzero(cut)
    opening, closing = quotes[::2], quotes[1::2]
    if opening.size != closing.size:
        raise ValueError("Expected quotes around whole cells, got one that is alone.")
    if not (cut[opening - 1] | (text[opening - 1] == _QUOTE) | (opening == 0)).all():
        raise ValueError("Expected quotes around whole cells, got one within a cell.")
    after = text[closing + 1]
    if not (cut[closing + 1] | (after == _QUOTE) | (after == _RETURN)).all():
        raise ValueError("Expected quotes around whole cells, got more of the cell behind one.")
    first, last = np.searchsorted(cuts, opening), np.searchsorted(cuts, closing)
    within = np.flatnonzero(first < last)
    change = np.bincount(first[within], minlength=cuts.size + 1) - np.bincount(last[within], minlength=cuts.size + 1)
    return cuts[np.cumsum(change[:-1]) == 0] if within.size else cuts


def _between_blanks(block: bytes) -> tuple[IntArray, IntArray]:
    """Return the same where blanks separate the cells and quotes mean nothing."""
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
    return starts.reshape(-1, n), ends.reshape(-1, n)


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
