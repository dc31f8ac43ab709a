"""Decimal numbers in text, many at once: eight digits in one operation, each number rounded as `float` does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["PAD", "decimals"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
ByteArray = NDArray[np.uint8]
WordArray = NDArray[np.uint64]

#: Bytes of any kind that the text needs before its first cell and after its last.
PAD = 24
#: Longest whole part and longest fraction that are read [digits].
_WHOLE, _FRACTION = 16, 24
#: Largest mantissa: what a word holds, less what rounding may hide.
_MOST = 1.8e19


def _every(byte: int) -> np.uint64:
    """Return a word of eight such bytes."""
    return np.uint64(int.from_bytes(bytes([byte]) * 8, "little"))


_ZERO, _HIGH, _ABOVE_NINE = _every(ord("0")), _every(0x80), _every(0x76)
#: Keeps the last k of eight bytes; of little-endian words these are the high ones.
_LAST = np.array([(2**64 - 1) ^ (2 ** (64 - 8 * k) - 1) for k in range(9)], dtype=np.uint64)
#: Which bits hold numbers, what adds ten times one to its neighbour, and the width of a number [bits].
_PAIRS = tuple(
    (np.uint64(keep), np.uint64(10**n * 2**width + 1), np.uint64(width))
    for keep, n, width in ((0x0F0F0F0F0F0F0F0F, 1, 8), (0x00FF00FF00FF00FF, 2, 16), (0x0000FFFF0000FFFF, 4, 32))
)
_WORDS = np.array([10 ** (8 * k) for k in range(3)], dtype=np.uint64)
_TEN = np.array([10**k for k in range(20)], dtype=np.uint64)
#: 10^k as the sum of two floats, and the first as the sum of two halves whose products are exact.
_POWER = np.array([float(10**k) for k in range(61)])
_POWER_REST = np.array([float(10**k - int(float(10**k))) for k in range(61)])
_HALF = 134_217_729.0
_POWER_HIGH = _HALF * _POWER - (_HALF * _POWER - _POWER)
_POWER_LOW = _POWER - _POWER_HIGH


def decimals(text: bytes, starts: IntArray, ends: IntArray) -> tuple[FloatArray, BoolArray]:
    r"""Return the numbers that cells of a text hold, each rounded as ``float`` rounds it, and which cells were read.

    A number has a sign or none, up to 16 digits, a point and up to 24 digits, ``e-05`` or the like, and 19 digits from
    the first that is no zero. Such a number is :math:`m / 10^k` of integers. The quotient in floating point has a
    remainder that is exact, which gives the next 53 bits; a number that lies too close to the middle of two floats for
    them to tell is not read.

    Args:
        text: ASCII, or whatever agrees with it, with `PAD` bytes before the first cell and after the last.
        starts: Where the cells begin, shape (n,).
        ends: Where they end, at or after their starts, shape (n,).

    Returns:
        The numbers and whether the cells were read, each of shape (n,); where one was not, its number means nothing.

    Example:
        >>> text = b" " * PAD + b"-2.5,1e-05,nan" + b" " * PAD
        >>> numbers, read = decimals(text, np.array([24, 29, 35]), np.array([28, 34, 38]))
        >>> numbers[read].tolist(), read.tolist()
        ([-2.5, 1e-05], [True, True, False])
    """
    if not starts.size:
        return np.empty(0), np.empty(0, dtype=np.bool_)
    bytes_ = np.frombuffer(text, dtype=np.uint8)
    # One word of eight bytes begins at each byte, which only the bounds of the buffer limit.
    words = np.ndarray((len(text) - 7,), dtype="<u8", buffer=text, strides=(1,))
    first = bytes_[starts]
    negative = first == ord("-")
    starts = starts + (negative | (first == ord("+")))
    ends, exponent = _without_exponent(bytes_, starts, ends)
    point = _after_digits(words, starts, ends)
    n_whole, n_fraction = point - starts, np.maximum(ends - point - 1, 0)
    whole, read = _integers(words, starts, point, _WHOLE)
    fraction, sound = _integers(words, ends - n_fraction, ends, _FRACTION)
    read &= sound & (n_whole + n_fraction > 0) & ((bytes_[point] == ord(".")) | (point == ends))
    k = n_fraction - exponent
    read &= (k >= 0) & (k < _POWER.size)
    places = np.minimum(n_fraction, _TEN.size - 1)
    read &= (whole == 0) | (places == n_fraction)
    read &= whole * _POWER[places] + fraction < _MOST
    found, sure = _quotients(np.where(read, whole * _TEN[places] + fraction, 0), np.where(read, k, 0))
    return np.where(negative, -found, found), read & sure


def _without_exponent(bytes_: ByteArray, starts: IntArray, ends: IntArray) -> tuple[IntArray, IntArray]:
    """Return the ends of the cells without an exponent of two digits, and these exponents."""
    size = np.zeros_like(ends)
    at = np.flatnonzero(((bytes_[ends - 4] | 0x20) == ord("e")) & (ends - starts > 4))
    if not at.size:
        return ends, size
    sign, tens, ones = (bytes_[ends[at] - i] for i in (3, 2, 1))
    minus, tens, ones = sign == ord("-"), tens - ord("0"), ones - ord("0")
    there = (minus | (sign == ord("+"))) & (tens < 10) & (ones < 10)
    at, minus, value = at[there], minus[there], 10 * tens[there].astype(np.int64) + ones[there]
    size[at] = np.where(minus, -value, value)
    ends = ends.copy()
    ends[at] -= 4
    return ends, size


def _after_digits(words: WordArray, starts: IntArray, ends: IntArray) -> IntArray:
    """Return the first place at or after each start that holds no digit, up to the ends and 16 bytes."""
    found: IntArray = np.minimum(starts + _n_digits(words[starts]), ends)
    on = np.flatnonzero(found - starts == 8)
    if on.size:
        found[on] = np.minimum(found[on] + _n_digits(words[found[on]]), ends[on])
    return found


def _n_digits(word: WordArray) -> IntArray:
    """Return how many of the eight bytes, from the first on, are digits."""
    word = word ^ _ZERO
    others = ((word + _ABOVE_NINE) | word) & _HIGH  # a carry can only mark bytes behind one that is rightly marked
    lowest = others & (~others + np.uint64(1))  # its exponent as a float is the place of the bit
    place = (lowest.astype(np.float64).view(np.int64) >> 52) - 1023
    found: IntArray = np.where(others == 0, 8, place >> 3)
    return found


def _integers(words: WordArray, starts: IntArray, ends: IntArray, most: int) -> tuple[WordArray, BoolArray]:
    """Return the integers from starts to ends, 0 where these are one, and whether all between them are digits."""
    length = ends - starts
    total = np.zeros(length.size, dtype=np.uint64)
    wrong = np.zeros(length.size, dtype=np.uint64)
    sound = length <= most
    for k in range(min(-(-int(length.max()) // 8), most // 8)):
        here = np.minimum(length - 8 * k, 8)
        word = words[ends - 8 * (k + 1)]
        word ^= _ZERO
        word &= _LAST[np.maximum(here, 0, out=here)]
        wrong |= (word + _ABOVE_NINE) | word
        # Two digits become one number, two of these one, and so on: eight steps in three.
        for keep, weigh, width in _PAIRS:
            word &= keep
            word *= weigh
            word >>= width
        if k == 2:
            sound &= word < 1000
        total += word if k == 0 else word * _WORDS[k]
    wrong &= _HIGH
    return total, sound & (wrong == 0)


def _quotients(m: WordArray, k: IntArray) -> tuple[FloatArray, BoolArray]:
    """Return m / 10^k to the nearest float, and where that is certain."""
    high, power = m.astype(np.float64), _POWER[k]
    q = high / power
    if m.max() <= 2**53 and k.max() <= 22:  # both are exact, so their quotient is rounded once
        return q, np.ones(q.size, dtype=np.bool_)
    rest = (m - high.astype(np.uint64)).view(np.int64).astype(np.float64)
    # Dekker's product: the remainder of the division, to the last bit.
    q_high = _HALF * q - (_HALF * q - q)
    q_low = q - q_high
    product, power_high, power_low = q * power, _POWER_HIGH[k], _POWER_LOW[k]
    lost = ((q_high * power_high - product) + q_high * power_low + q_low * power_high) + q_low * power_low
    more = (((high - product) - lost) + (rest - q * _POWER_REST[k])) / power
    slack = 2.0**-95 * q
    found = q + (more + slack)
    return found, found == q + (more - slack)
