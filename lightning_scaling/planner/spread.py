"""`Spread`: a number with what several sets of constants make of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

#: Counts from here on are written with an exponent.
_SHORT = 1e7


@dataclass(frozen=True)
class Spread:
    """A number and the range that comes with it.

    Args:
        low: Lower end [unit of the quantity].
        mid: The number itself [same unit].
        high: Upper end [same unit].
        level: Probability that the quantity lies between the ends [1]. None: the ends are the smallest and the largest
            that a few published sets of constants give, which is no probability.

    Example:
        >>> print(Spread.of([1.3e9, 5.8e8, 6.0e8], level=None))
        1.3e9 (5.8e8 to 1.3e9)
        >>> print(Spread.of([2.658, 2.694], level=None))
        2.66 (2.66 to 2.69)
    """

    low: float
    mid: float
    high: float
    level: float | None = None

    @classmethod
    def of(cls, values: Sequence[float], level: float | None) -> Spread:
        """Return the spread of a quantity over sets of constants.

        Args:
            values: The quantity from each set; without a level the first is the number itself.
            level: Probability between the ends, where the sets are equally likely draws; or None.

        Example:
            >>> Spread.of([1.0, 2.0, 3.0, 4.0, 5.0], level=0.5)
            Spread(low=2.0, mid=3.0, high=4.0, level=0.5)
        """
        if level is None:
            return cls(float(min(values)), float(values[0]), float(max(values)))
        low, mid, high = np.quantile(values, [0.5 - level / 2.0, 0.5, 0.5 + level / 2.0])
        return cls(float(low), float(mid), float(high), level)

    def __str__(self) -> str:
        return self.text(number)

    def text(self, written: Callable[[float, int], str]) -> str:
        """Return the number and its range with the fewest digits, from two to four, that tell the ends apart.

        Args:
            written: Writes a value with a number of digits.
        """
        for digits in (2, 3, 4):
            mid, low, high = (written(x, digits) for x in (self.mid, self.low, self.high))
            if low != high:
                return f"{mid} ({low} to {high})"
        return written(self.mid, 3)


def number(x: float, digits: int = 2) -> str:
    """Return a count the way a person writes it: "3400", "1.3e9".

    Example:
        >>> [number(x) for x in (0.04321, 2.6581, 18.39, 5786.2, 1.3e9, 9.96e9)]
        ['0.043', '2.7', '18', '5800', '1.3e9', '1e10']
    """
    if not math.isfinite(x):
        return f"{x:g}"
    mantissa, exponent = f"{x:.{digits - 1}e}".split("e")
    if -3 <= int(exponent) < 5:
        return f"{float(f'{x:.{digits - 1}e}'):.15g}"
    return f"{float(mantissa):g}e{int(exponent)}"


def whole(x: float) -> str:
    """Return a count that somebody has given: in full where it is short, else as `number` has it.

    Example:
        >>> whole(65536.0), whole(1e6), whole(0.5), whole(2.5e8)
        ('65 536', '1 000 000', '0.5', '2.5e8')
    """
    return f"{x:,.0f}".replace(",", " ") if x.is_integer() and abs(x) < _SHORT else number(x, 4)
