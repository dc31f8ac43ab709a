"""What every law asks of its arguments and constants."""

from __future__ import annotations

import math
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

_SO = {
    "N": "pass the number of parameters, without embeddings for a law of Kaplan and with them for one of Hoffmann",
    "D": "pass a number of tokens",
    "S": "count optimizer steps from 1",
    "S_min": "count optimizer steps from 1",
    "C": "pass the compute of the run in FLOP",
    "C_min": "pass the compute of the run in FLOP",
    "B": "pass the tokens of one optimizer step over all ranks and accumulated batches",
    "B_crit": "pass a batch size in tokens",
    "L": "pass a loss in nats/token; a loss that can reach 0 or below does not follow these laws",
    "excess": "pass the share by which a loss may lie above another, for example 0.02 for 2 %",
    "ratio": "pass the ratio of two sizes, batches or counts of steps",
    "n_layer": "pass the number of layers",
    "d_model": "pass the width of the model",
    "d_attn": "pass the width of the attention",
    "d_ff": "pass the width of the feed-forward layer",
    "n_ctx": "pass the tokens of the context",
}


def positive(name: str, value: ArrayLike) -> NDArray[np.float64]:
    """Return float64 values, all of them above zero."""
    so = _SO.get(name, "pass a positive number")
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise TypeError(f"Expected {name} to be a number or an array of numbers, got {value!r}, so {so}.") from error
    bad = ~(array > 0.0)  # also true for NaN
    if np.any(bad):
        i = np.flatnonzero(bad)[0]
        where = f"[{i}]" if array.ndim else ""
        raise ValueError(f"Expected {name} > 0, got {name}{where}={array.flat[i]:.12g}, so {so}.")
    return array


def check_shapes(**values: ArrayLike | None) -> None:
    """Raise unless the shapes of arguments go together, as NumPy broadcasts them."""
    try:
        shapes = {name: np.shape(value) for name, value in values.items() if value is not None}
    except ValueError:  # no array at all, which `positive` has words for
        return
    try:
        np.broadcast_shapes(*shapes.values())
    except ValueError as error:
        found = ", ".join(f"{name} of {shape}" for name, shape in shapes.items())
        raise ValueError(
            f"Expected {' and '.join(shapes)} of shapes that broadcast, got {found}, so pass one value of each, arrays "
            "of one shape, or a column against a row, as in N[:, None]."
        ) from error


def power(x: ArrayLike, exponent: float) -> NDArray[np.float64]:
    """Return x to a power, infinite where it is too large for a float: an inverse of a flat law soon is."""
    with np.errstate(over="ignore"):
        return np.asarray(x, dtype=np.float64)[()] ** exponent


def solve(gap: ArrayLike, scale: float, alpha: float) -> NDArray[np.float64]:
    """Return the x with gap = (scale / x)^alpha, infinite where the gap is not above zero."""
    gap = np.asarray(gap)
    reached = gap > 0.0
    # [()] turns the result of scalar arguments back into a scalar, as in the other laws.
    return np.where(reached, scale * power(np.where(reached, gap, 1.0), -1.0 / alpha), np.inf)[()]


def check_constants(law: object, *, may_be_zero: tuple[str, ...] = ()) -> None:
    """Raise unless every constant of a law, its unit aside, is positive (or zero where that is allowed) and finite."""
    for name, value in vars(law).items():
        if name == "unit":
            continue
        number = isinstance(value, Real) and math.isfinite(value)
        if not (number and (value > 0.0 or (value == 0.0 and name in may_be_zero))):
            kind = "not negative" if name in may_be_zero else "positive"
            raise ValueError(
                f"Expected {type(law).__name__}.{name} to be {kind} and finite, got {value!r}, "
                "so take a published constant (for example KAPLAN_TABLE_3) or one fitted to your runs."
            )


def check_numbers(**values: float) -> None:
    """Raise unless each keyword is one positive finite number."""
    for name, value in values.items():
        if not 0.0 < value < math.inf:
            raise ValueError(
                f"Expected {name} to be positive and finite, got {value!r}, "
                "so take a published constant (for example of KAPLAN_TABLE_3) or one fitted to your runs."
            )
