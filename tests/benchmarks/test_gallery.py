"""The gallery: each picture of the page is what the code above it draws."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks import gallery

plt = pytest.importorskip("matplotlib.pyplot")


@pytest.fixture(autouse=True)
def _agg() -> Iterator[None]:
    plt.switch_backend("Agg")
    yield
    plt.close("all")


SMALL = """
```python
from lightning_scaling import LRSchedule
from lightning_scaling.pictures import *
```
Words.
```python
ax = plot_schedule(LRSchedule.constant(90))
```
<img src="img/a.png" width="420" alt="a rate">
"""


def test_a_page_is_run_and_its_pictures_are_written(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(SMALL)
    assert gallery.main(["--page", str(page)]) == 0
    assert (tmp_path / "img" / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("more", "left"),
    [('```python\nb = 1\n```\n<img src="img/b.png">', "none"), ('\n<img src="img/b.png">', "one")],
)
def test_a_block_that_does_not_draw_one_picture_is_an_error(tmp_path: Path, more: str, left: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(SMALL + more)
    with pytest.raises(ValueError, match=f"got code that leaves {left}"):
        gallery.draw(page, tmp_path)


def test_the_code_of_the_page_runs_and_draws_the_pictures_that_are_there(tmp_path: Path) -> None:
    drawn = gallery.draw(gallery.PAGE, tmp_path, dpi=40)
    there = {path.name for path in (gallery.PAGE.parent / "img").glob("pictures_*.png")}
    assert {path.name for path in drawn} == there
    assert len(drawn) == len(there) >= 9
    for path in drawn:
        assert plt.imread(path).shape[1] == 224
        assert plt.imread(gallery.PAGE.parent / "img" / path.name).shape[1] == 1120
    for code, images in gallery.blocks(gallery.PAGE.read_text(encoding="utf-8")):
        assert len(code.splitlines()) <= 7
        assert len(images) <= 1
