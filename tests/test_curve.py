"""LossCurve: what it takes, what it refuses and with which words."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling import LossCurve


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"S": [1, 2, 2], "L": [3, 2, 1]}, r"S to increase, got S\[2\]=2 after S\[1\]=2"),
        ({"S": [1, 3, 2], "L": [3, 2, 1]}, "Was an old checkpoint resumed"),
        ({"S": [1, np.nan, 3], "L": [3, 2, 1]}, r"finite values in S, got S\[1\]=nan"),
        ({"S": [1, 2, 3], "L": [3, np.inf, 1]}, r"L\[1\]=inf .* CurveBuilder"),
        ({"S": [-1, 2, 3], "L": [3, 2, 1]}, r"S >= 0, got S\[0\]=-1"),
        ({"S": [1, 2, 3], "L": [3, 2]}, "one length, got 3 and 2"),
        ({"S": [[1, 2]], "L": [[1, 2]]}, r"one dimension, got shape \(1, 2\)"),
        ({"S": ["a"], "L": [1]}, "sequence of numbers"),
        ({"S": [1], "L": [1e200]}, "Rescale the loss"),
        ({"S": [1, 2], "L": [1, 1], "lr": [0.1]}, "2 entries of S, got 1"),
        ({"S": [1, 2], "L": [1, 1], "lr": [0.1, -0.1]}, "lr >= 0, got -0.1"),
        ({"S": [1, 2], "L": [1, 1], "count": [1, 0]}, "count >= 1, got 0"),
        ({"S": [1, 2], "L": [1, 1], "spread": [1]}, "spread to have the 2 entries"),
        ({"S": [1, 2], "L": [1, 1], "N": 0}, "N > 0 parameters"),
        ({"S": [1, 2], "L": [1, 1], "step": 1}, "step >= the last entry of S"),
        ({"S": [1, 2], "L": [1, 1], "n_nonfinite": -1}, "n_nonfinite >= 0"),
    ],
)
def test_bad_input_is_refused_in_words(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        LossCurve(**arguments)  # type: ignore[arg-type]


def test_arrays_are_copies_that_cannot_be_written() -> None:
    S = np.array([1.0, 2.0, 3.0])
    curve = LossCurve(S=S, L=[3, 2, 1], lr=[1, 1, 1])
    S[0] = 2.5
    assert curve.S[0] == 1.0
    for array in (curve.S, curve.L, curve.lr, curve.count, curve.spread):
        assert array is not None
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 9.0


def test_empty_curve_and_defaults() -> None:
    curve = LossCurve(S=[], L=[], N=1e6)
    assert (len(curve), curve.step, curve.N) == (0, 0, 1e6)
    assert "no points" in str(curve)
    assert LossCurve(S=[1, 2], L=[1, 1], B=64).B.tolist() == [64.0, 64.0]  # type: ignore[union-attr]


def test_until_keeps_what_was_known_then() -> None:
    curve = LossCurve(S=[1, 5, 9], L=[3, 2, 1], lr=[1, 2, 3], B=8, N=7, n_nonfinite=4, step=12, epoch_ends=[4, 11])
    early = curve.until(5)
    assert (early.S.tolist(), early.L.tolist(), early.step, early.n_nonfinite) == ([1, 5], [3, 2], 5, 0)
    assert early.lr is not None
    assert (early.lr.tolist(), early.N, early.epoch_ends) == ([1, 2], 7.0, (4,))
    whole = curve.until(12)
    assert (whole.step, whole.n_nonfinite, whole.epoch_ends) == (12, 4, (4, 11))
