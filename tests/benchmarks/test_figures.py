"""The benchmark of the live figures: that it counts what it says it counts. No time decides here."""

import pytest

from benchmarks import figures
from benchmarks.figures import Drawn, follow, table


def test_a_run_is_drawn_at_each_quarter_and_at_its_end(tmp_path, capsys):
    page, pictures = tmp_path / "docs" / "figures_cost.md", tmp_path / "pictures"
    arguments = ["--steps", "400", "--rounds", "1", "--out", str(page), "--pictures", str(pictures)]
    assert figures.main(arguments) == 0
    assert "figures in a run" in capsys.readouterr().out
    written = page.read_text(encoding="utf-8")
    assert "| figures in a run" in written
    assert str(tmp_path) not in written
    steps = sorted(int(path.stem.removeprefix("step_")) for path in pictures.iterdir())
    assert len(steps) == 4
    assert [step / 400 for step in steps] == pytest.approx([0.25, 0.5, 0.75, 1.0], abs=0.06)
    assert follow(400, figures=False).pictures == []


@pytest.mark.parametrize(("seconds", "word"), [(0.9, "met"), (1.1, "missed")])
def test_the_share_counts_the_run_in_which_matplotlib_is_loaded(seconds, word):
    plain, picture = Drawn(1.0, []), object()
    found = [(plain, Drawn(1.0 + seconds, [picture] * 4)), (plain, Drawn(1.2, [picture] * 4))]
    rows = table(found).rows
    assert [row[2] for row in rows[:4]] == ["4", "50", "200", f"{1e3 * seconds:.0f}"]
    assert rows[-1][-1] == word
