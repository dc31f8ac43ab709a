"""Run the code of a page with pictures, and write each picture below the code that drew it.

    python -m benchmarks.gallery [--page docs/pictures.md]

The blocks share their names, as in one script. A block above an image leaves the figure as ``figure``, or axes as
``ax``.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

PAGE = Path(__file__).parents[1] / "docs" / "pictures.md"

_BLOCK = re.compile(r"```python\n(.*?)```(.*?)(?=```python\n|\Z)", re.DOTALL)
_IMAGE = re.compile(r'<img src="([^"]+)"')
_DPI = 200


def blocks(page: str) -> list[tuple[str, list[str]]]:
    """Return the blocks of code of a page, each with the images between it and the next."""
    return [(code, _IMAGE.findall(rest)) for code, rest in _BLOCK.findall(page)]


def draw(page: Path, folder: Path, dpi: float = _DPI) -> list[Path]:
    """Run a page and write its pictures.

    Args:
        page: Markdown file.
        folder: Where the paths of its images begin.
        dpi: Pixels per inch.

    Returns:
        The files, in the order of the page.

    Raises:
        ValueError: If a block above an image draws nothing, or stands above two.
    """
    names: dict[str, Any] = {}
    written = []
    for code, images in blocks(page.read_text(encoding="utf-8")):
        names.pop("ax", None)
        names.pop("figure", None)
        exec(compile(code, str(page), "exec"), names)
        if not images:
            continue
        figure = names.get("figure") or getattr(names.get("ax"), "figure", None)
        if figure is None or len(images) > 1:
            raise ValueError(
                f"Expected one picture for {', '.join(images)}, got code that leaves {'one' if figure else 'none'}, so "
                "let each block above an image leave `ax` or `figure`."
            )
        path = folder / images[0]
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=dpi, metadata={"Software": None})
        written.append(path)
    return written


def main(arguments: Sequence[str] | None = None) -> int:
    """Draw the pictures of a page beside it."""
    import matplotlib as mpl

    mpl.use("Agg")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--page", type=Path, default=PAGE, help="markdown file (default: docs/pictures.md)")
    page: Path = parser.parse_args(arguments).page
    for path in draw(page, page.parent):
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
