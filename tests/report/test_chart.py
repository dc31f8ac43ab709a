"""Pictures in characters."""

from __future__ import annotations

import numpy as np
import pytest

from lightning_scaling.curve import LossCurve
from lightning_scaling.forecast import forecast
from lightning_scaling.report.chart import chart, sparkline

S = np.arange(1, 1001)
CURVE = LossCurve(S=S, L=2.0 + 6.0 * S**-0.5)


def test_a_run_and_its_forecast() -> None:
    lines = chart(CURVE, forecast(CURVE, horizon=10_000), width=60, height=9).splitlines()
    assert len(lines) == 10
    assert max(map(len, lines)) <= 60
    drawn = "".join(lines[:-1])
    assert "•" in drawn
    assert "─" in drawn
    assert lines[-1].startswith("          step 100")
    assert lines[-1].endswith("10 000")
    assert "now 1 000" in lines[-1]
    # The loss falls: the mark of each column lies no higher than that of the one before.
    rows = [next(r for r in range(9) if len(lines[r]) > c and lines[r][c] in "•─") for c in range(10, 59)]
    assert rows == sorted(rows)


def test_ascii_says_the_same() -> None:
    found = forecast(CURVE, horizon=10_000)
    plain = chart(CURVE, found, unicode=False)
    assert plain.isascii()
    assert plain == chart(CURVE, found).translate(str.maketrans("•─░", "*-."))


@pytest.mark.parametrize(
    "curve",
    [
        LossCurve(S=[1], L=[2.0]),
        LossCurve(S=[0, 1, 2], L=[2.0, 2.0, 2.0]),
        LossCurve(S=[5, 6, 9], L=[-1.0, -2.0, -3.0]),
        LossCurve(S=[1, 2], L=[0.0, 0.0]),
    ],
)
def test_odd_curves(curve: LossCurve) -> None:
    assert "•" in chart(curve)


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match="Expected a curve with points, got none"):
        chart(LossCurve(S=[], L=[]))


def test_sparklines() -> None:
    assert sparkline(np.array([3.0, 2.0, 1.0]), 3) == "█▅▁"
    assert sparkline(np.ones(10), 5) == "▁▁▁▁▁"
    assert sparkline(np.array([]), 5) == ""
