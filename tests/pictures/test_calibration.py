from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import beta, norm

from lightning_scaling.interval import Interval
from lightning_scaling.ledger import ForecastRecord
from lightning_scaling.pictures import plot_calibration
from lightning_scaling.pictures.axes import new_figure
from lightning_scaling.pictures.calibration import _binomial
from lightning_scaling.store.example import example_store
from lightning_scaling.track_record import KEY
from lightning_scaling.verdict import Verdict

pytest.importorskip("matplotlib")

NAN = Interval(np.nan, np.nan, np.nan, 0.9)


def draw(entries: Any) -> Any:
    return plot_calibration(entries, ax=new_figure(4.0, 4.0).subplots())


def dots(ax: Any) -> dict[float, float]:
    return {float(x): float(y) for c in ax.collections for x, y in c.get_offsets()}


def of_run(off: list[float], verdict: Verdict = Verdict.OK) -> tuple[list[ForecastRecord], float]:
    """Return a run whose forecasts were off by so many sigmas of a 90 % interval."""
    sigma, truth = 0.1, 2.0
    half = sigma * float(norm.ppf(0.95))
    steps = range(100, 1000, 100)
    losses = [Interval(truth - z * sigma - half, truth - z * sigma, truth - z * sigma + half, 0.9) for z in off]
    rows = [ForecastRecord(s, 1000, verdict, loss, NAN, NAN, NAN, NAN) for s, loss in zip(steps, losses, strict=False)]
    return rows, truth


def test_the_share_that_held_is_counted_per_run() -> None:
    ax = draw([of_run([0.1, 1.0]), of_run([0.1, 1.0, 1.5, 1.8, 9.0])])
    assert dots(ax) == pytest.approx(
        {0.5: (1 / 2 + 1 / 5) / 2, 0.8: (1.0 + 2 / 5) / 2, 0.9: (1.0 + 3 / 5) / 2, 0.95: (1.0 + 4 / 5) / 2}
    )
    assert "2 runs, 7 forecasts" in ax.texts[0].get_text()


def test_bars_are_the_binomial_interval_of_as_many_trials_as_runs() -> None:
    ax = draw([of_run([0.1 if k < 6 else 5.0]) for k in range(10)])
    bars = {float(line.get_xdata()[0]): line.get_ydata() for line in ax.lines if np.ptp(line.get_xdata()) == 0.0}
    assert bars[0.9] == pytest.approx(beta(6.5, 4.5).ppf([0.05, 0.95]))
    assert _binomial(1.0, 1)[2] == 1.0
    assert _binomial(0.0, 3)[0] == 0.0
    for n in (1, 5, 50):
        widths = [high - low for low, _, high in (_binomial(share, n) for share in (0.0, 0.5, 1.0))]
        assert max(widths) < 1.0


def test_a_told_level_is_filled_and_others_are_hollow() -> None:
    ax = draw([of_run([0.1, 1.0])])
    face = tuple(ax.get_facecolor())
    filled = {c.get_offsets()[0][0] for c in ax.collections if tuple(c.get_facecolor()[0]) != face}
    assert filled == {0.9}


def test_runs_of_a_store_and_their_scores_say_the_same_of_the_told_level() -> None:
    runs = [run for run in example_store() if run.tags["part"] == "ladder"]
    whole, told = dots(draw(runs)), dots(draw([run.derived[KEY] for run in runs]))
    assert set(whole) == {0.5, 0.8, 0.9, 0.95}
    assert told == pytest.approx({0.9: whole[0.9]})
    assert [whole[level] for level in sorted(whole)] == sorted(whole.values())


def test_what_cannot_be_held_against_an_end_is_an_error() -> None:
    useless = of_run([0.1], Verdict.TOO_EARLY)
    for entries in ([], [useless], [(useless[0], float("nan"))], [([], 2.0)]):
        with pytest.raises(ValueError, match="Expected finished runs with usable forecasts"):
            draw(entries)
    assert "1 run, 1 forecast" in draw([useless, of_run([0.2])]).texts[0].get_text()
    with pytest.raises(TypeError, match="got ForecastRecord, so give one such entry per finished run"):
        draw(useless[0])
