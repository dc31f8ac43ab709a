"""The pictures of how forecasts work: they are drawn, and the numbers in them are as the page says."""

import numpy as np
import pytest

from benchmarks import explain
from benchmarks.looks import Decay, Record
from lightning_scaling.fit.record import ORIGINS, RECENT, _standard_error

image = pytest.importorskip("matplotlib.image")

PICTURES = (explain.LAW_PICTURE, explain.DECAY_PICTURE, explain.RECORD_PICTURE)


@pytest.fixture(scope="module")
def decays() -> list[Decay]:
    return explain.decays()


@pytest.fixture(scope="module")
def records() -> list[Record]:
    return explain.records()


def rows(markdown: str) -> list[list[str]]:
    """Return the cells of the rows of markdown tables, headers and rules left out."""
    lines = [line for line in markdown.splitlines() if line.startswith("| ") and not line.startswith("| run ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_command_draws_three_pictures_and_prints_numbers_that_bear_out_the_page(tmp_path, capsys):
    assert explain.main(["--out", str(tmp_path / "img")]) == 0
    assert sorted(path.name for path in (tmp_path / "img").iterdir()) == sorted(PICTURES)
    for name in PICTURES:
        pixels = image.imread(tmp_path / "img" / name)[..., :3]
        height, width, _ = pixels.shape
        assert 500 < height < width < 1400
        assert pixels[0, 0] == pytest.approx(1.0)  # on white
        for half in np.split(pixels[:, : width // 2 * 2], 2, axis=1):
            assert half.std() > 0.05
        coloured = np.ptp(pixels, axis=2) > 0.2
        assert coloured.mean() > 0.005
    printed = rows(capsys.readouterr().out)
    by_run: dict[str, list[list[str]]] = {}
    for row in printed:
        by_run.setdefault(row[0], []).append(row)
    for name in ("Decay from 60 % on", "Cosine"):
        assert [row[1] for row in by_run[name]] == ["30 %", "65 %", "85 %"]
        widths = [float(row[4]) for row in by_run[name]]
        assert widths[0] > 1.5 * widths[1] > 2.0 * widths[2] > 0.0
    [[_, _, kept, _, narrow, _]], [[_, _, left, _, wide, _]] = by_run["Keeps to the law"], by_run["Leaves the law"]
    assert float(left) > 2.0 * float(kept)
    assert float(wide) > 1.3 * float(narrow)


def test_before_its_decay_a_run_is_less_sure_than_one_whose_decay_is_under_way(decays):
    wsd, cosine = decays
    assert wsd.forecasts[0].decay_done == 0.0
    assert 0.0 < cosine.forecasts[0].decay_done < 1.0
    first, second = (float(look.forecasts[0].final_loss.half_width) for look in (wsd, cosine))
    assert first > second


def test_the_runs_end_inside_the_intervals_drawn(decays, records):
    for look in decays:
        for forecast in look.forecasts:
            assert forecast.final_loss.low < look.run.end < forecast.final_loss.high
    for look in records:
        assert look.forecast.final_loss.low < look.run.end < look.forecast.final_loss.high


def test_the_earlier_forecasts_drawn_are_those_that_the_engine_held_against_the_present(records):
    for look in records:
        step, loss = look.present
        assert look.forecast.departure == look.fit.surprises[-1]
        for k, (origin, surprise) in enumerate(zip(ORIGINS, look.fit.surprises, strict=True)):
            assert look.earlier[k].data.now <= origin * look.seen.step
            then = look.earlier[k].loss([step])
            # The engine's sigma also holds the noise of the present.
            recent = look.seen.S >= RECENT * look.seen.step
            of_steps = look.earlier[k].data.step_noise / np.sqrt(recent.sum())
            noise = max(of_steps, _standard_error(look.seen, recent))
            off = (loss - float(then.mean()[0])) / float(np.hypot(then.sd()[0], noise))
            assert surprise == pytest.approx(off, rel=1e-3)
    inside = [
        [
            low < look.present[1] < high
            for low, _, high in (look.band(k, np.array(look.present[:1]))[:, 0] for k in (0, 1))
        ]
        for look in records
    ]
    assert inside == [[True, True], [True, False]]
