"""`Interval`: a number that carries its uncertainty, printed with no more digits than that uncertainty allows."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

UNKNOWN = "not known yet"
#: Bounds further apart than this factor are not printed to a common last digit.
_LOPSIDED = 30.0


@dataclass(frozen=True, eq=False)
class Interval:
    """A median with the bounds of a central interval, for one quantity or for an array of them.

    NaN means "not known"; infinity means "never" or "without limit". Bounds are ordered wherever they are known.

    Printed digits follow the rule of the Particle Data Group (Review of Particle Physics, Introduction, Sec. 5.3): with
    the three leading digits of the error between 100 and 354 it is printed with two digits, between 355 and 949 with
    one, above that as 1000 with two; the value is printed to the same place.

    Args:
        low: Lower bound [unit of the quantity], a number or an array of shape (...).
        mid: Median [same unit], same shape.
        high: Upper bound [same unit], same shape.
        level: Probability that the quantity lies between the bounds [1], between 0 and 1.

    Raises:
        TypeError: If a bound is not numeric.
        ValueError: If the shapes differ, if ``low <= mid <= high`` does not hold where the numbers are known, or if
            ``level`` is not between 0 and 1.

    Example:
        >>> loss = Interval(1.852, 1.873, 1.897, 0.9)
        >>> print(loss)
        1.873 (1.852 to 1.897, 90 %)
        >>> loss.short()
        '1.873±0.022'
        >>> print(Interval(float("nan"), float("nan"), float("nan"), 0.9))
        not known yet
    """

    low: float | NDArray[np.float64]
    mid: float | NDArray[np.float64]
    high: float | NDArray[np.float64]
    level: float

    def __post_init__(self) -> None:
        low, mid, high = (_as_floats(name, getattr(self, name)) for name in ("low", "mid", "high"))
        if not low.shape == mid.shape == high.shape:
            raise ValueError(
                f"Expected low, mid and high of equal shape, got {low.shape}, {mid.shape} and {high.shape}, "
                "so broadcast them before you build the Interval."
            )
        level = float(self.level)
        if not 0.0 < level < 1.0:
            raise ValueError(
                f"Expected level between 0 and 1, got {self.level!r}, so give a probability such as 0.9 for 90 %."
            )
        for left, a, right, b in (("low", low, "mid", mid), ("mid", mid, "high", high), ("low", low, "high", high)):
            if (crossed := a > b).any():  # False where either is NaN
                i = np.flatnonzero(crossed)[0]
                where = f"[{i}]" if a.ndim else ""
                raise ValueError(
                    f"Expected low <= mid <= high, got {left}{where}={a.flat[i]:.12g} above "
                    f"{right}{where}={b.flat[i]:.12g}, so pass the bounds in order (NaN where one is not known)."
                )
        for name, value in (("low", low), ("mid", mid), ("high", high)):
            object.__setattr__(self, name, value if value.ndim else float(value))
        object.__setattr__(self, "level", level)

    @property
    def half_width(self) -> float | NDArray[np.float64]:
        """Half the distance between the bounds [unit of the quantity]; NaN where a bound is not known."""
        with np.errstate(invalid="ignore"):
            half = (np.asarray(self.high) - np.asarray(self.low)) / 2.0
        return half if half.ndim else float(half)

    def short(self) -> str:
        """Return ``value±half width``, for one line of a progress bar or a table.

        Returns:
            For example ``"1.873±0.022"``; of an array the first and the last value; ``"not known yet"`` where the
            median or a bound is NaN.

        Example:
            >>> Interval(76_000.0, 81_234.0, 86_000.0, 0.9).short()
            '81000±5000'
        """
        return self._first_and_last(_short_text)

    def __str__(self) -> str:
        return self._first_and_last(lambda low, mid, high: _long_text(low, mid, high, self.level))

    def __eq__(self, other: object) -> bool:
        """Equal numbers at an equal level; two values that are not known count as equal."""
        if not isinstance(other, Interval):
            return NotImplemented
        return self.level == other.level and all(
            np.array_equal(getattr(self, name), getattr(other, name), equal_nan=True) for name in ("low", "mid", "high")
        )

    def _first_and_last(self, text: Callable[[float, float, float], str]) -> str:
        low, mid, high = (np.ravel(x) for x in (self.low, self.mid, self.high))
        if np.ndim(self.mid) == 0:
            return text(float(low[0]), float(mid[0]), float(high[0]))
        if mid.size == 0:
            return "no values"
        first, last = (text(float(low[i]), float(mid[i]), float(high[i])) for i in (0, -1))
        return first if mid.size == 1 else f"{mid.size} values, {first} … {last}"


def _as_floats(name: str, value: object) -> NDArray[np.float64]:
    """Return a read-only float64 copy."""
    try:
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"Expected {name} to be a number or an array of numbers, got {value!r}, so convert it first."
        ) from error
    array.flags.writeable = False
    return array


def _long_text(low: float, mid: float, high: float, level: float) -> str:
    if math.isnan(mid):
        return UNKNOWN
    known = [abs(x) for x in (low, mid, high) if math.isfinite(x)]
    sides = [side for side in (mid - low, high - mid) if math.isfinite(side) and side > 0.0]
    # The closer bound sets the digits, so that it stays apart from the median, but a lopsided interval earns only one
    # digit more than its wider side allows.
    text = _formatter(known, max(min(sides), max(sides) / 10.0) if sides else None)
    if math.isnan(low) or math.isnan(high):
        return f"{text(mid)} (bounds {UNKNOWN})"
    if min(low, mid) > 0.0 and (high > _LOPSIDED * low or mid > _LOPSIDED * low):
        # Bounds of different size have no common last digit: each gets two of its own.
        text = _two_digits
    return f"{text(mid)} ({text(low)} to {text(high)}, {100.0 * level:g} %)"


def _two_digits(x: float) -> str:
    return f"{x}" if math.isinf(x) else f"{float(f'{x:.1e}'):.15g}"


def _short_text(low: float, mid: float, high: float) -> str:
    half = (high - low) / 2.0
    if math.isnan(mid) or math.isnan(low) or math.isnan(high):
        return UNKNOWN
    if math.isinf(mid):
        return f"{mid}"
    if math.isinf(half) or half == 0.0:
        return f"{_formatter([abs(mid)], None)(mid)}±{half:g}"
    power = _power_to_split_off([abs(mid), half])
    text = _formatter([abs(mid) / 10.0**power, half / 10.0**power], half / 10.0**power)
    pair = f"{text(mid / 10.0**power)}±{text(half / 10.0**power)}"
    return f"({pair})e{power:+03d}" if power else pair


def _formatter(magnitudes: list[float], error: float | None) -> Callable[[float], str]:
    """Return the text of a number rounded as ``error`` asks (None: four digits of the largest magnitude)."""
    power = _power_to_split_off(magnitudes)
    largest = max(magnitudes, default=0.0)
    leading = math.floor(math.log10(largest)) if largest > 0.0 else 0
    # More than ten digits of a value say that the error is rounding noise.
    places = min(3 - leading if error is None else _places(error), 9 - leading) + power

    def text(x: float) -> str:
        if math.isinf(x):
            return f"{x}"
        rounded = round(x / 10.0**power, places) + 0.0  # + 0.0 turns -0.0 into 0.0
        return f"{rounded:.{max(places, 0)}f}" + (f"e{power:+03d}" if power else "")

    return text


def _power_to_split_off(magnitudes: list[float]) -> int:
    """Return the power of ten written as an exponent: 0 for numbers that read well without one."""
    largest = max(magnitudes, default=0.0)
    return 0 if largest == 0.0 or 1e-4 <= largest < 1e7 else math.floor(math.log10(largest))


def _places(error: float) -> int:
    """Return the decimal places that an error is worth by the rule of the Particle Data Group."""
    digits, exponent = f"{error:.2e}".split("e")
    return (1 if digits <= "3.54" else 0) - int(exponent)
