"""What was found about a run, in words."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from lightning_scaling.units import thousands

FloatArray = NDArray[np.float64]

#: How far a schedule may lie from a textbook shape and still bear its name, in parts of the peak rate.
_LIKENESS = 0.02


def describe_rates(rates: FloatArray) -> str:
    """Return the shape of a learning-rate schedule in words.

    Args:
        rates: Learning rate of steps 1..horizon [any unit], shape (horizon,), above 0 somewhere.

    Returns:
        For example ``"cosine decay to 10 % after 500 warm-up steps"``.

    Example:
        >>> cosine = 0.55 + 0.45 * np.cos(np.linspace(0, np.pi, 900))
        >>> describe_rates(np.concatenate([np.linspace(0.01, 1, 100), cosine]))
        'cosine decay to 10 % after 100 warm-up steps'
        >>> describe_rates(np.ones(1000))
        'constant learning rate'
    """
    relative = rates / rates.max()
    warmup = int(np.argmax(relative >= 1.0 - 1e-6))
    rising = warmup > 0 and bool(np.all(np.diff(relative[: warmup + 1]) >= -1e-9))
    start = warmup if rising else 0
    words = _shape(relative[start:])
    # The first step at full rate ends the warm-up; a schedule that starts there has none.
    return f"{words} after {thousands(start + 1)} warm-up steps" if start else words


def _shape(relative: FloatArray) -> str:
    end, n = float(relative[-1]), relative.size
    if float(np.ptp(relative)) <= _LIKENESS or n < 3:
        return "constant learning rate"
    if np.any(np.diff(relative) > 1e-9):
        return f"learning rate that rises and falls, ending at {_percent(end)} of its peak"
    if np.unique(np.round(relative, 9)).size <= 10:
        return f"decay in steps to {_percent(end)}"
    held = int(np.argmax(relative < 1.0 - 1e-6)) - 1  # steps before the decay begins
    tail = relative[max(held, 0) :]
    x = np.linspace(0.0, 1.0, tail.size)
    if np.abs(tail - (1.0 - (1.0 - end) * x)).max() <= _LIKENESS:
        words = "linear decay"
    elif np.abs(tail - (end + (1.0 - end) * 0.5 * (1.0 + np.cos(np.pi * x)))).max() <= _LIKENESS:
        words = "cosine decay"
    else:
        words = "decay"
    words = f"{words} to {_percent(end)}"
    return f"constant rate with a {words} over the last {thousands(tail.size)} steps" if held > 0.05 * n else words


def _percent(x: float) -> str:
    return f"{100.0 * x:.3g} %" if x >= 5e-4 else "0 %"
