"""The site: it is built without a warning, fetches nothing from elsewhere, and its reference has every public name."""

from __future__ import annotations

import importlib
import os
import re
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_scaling

ROOT = Path(__file__).parents[1]
#: Objects of the reference, by their names: ``::: lightning_scaling.curve.LossCurve``.
REFERENCE = [
    name
    for page in sorted((ROOT / "docs" / "api").glob("*.md"))
    for name in re.findall(r"^::: ([\w.]+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    for name in ("mkdocs", "material", "mkdocstrings", "latex2mathml"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


def test_every_public_name_is_in_the_reference() -> None:
    assert set(lightning_scaling.__all__) <= {name.rpartition(".")[2] for name in REFERENCE}
    assert len(REFERENCE) == len(set(REFERENCE))


@pytest.mark.parametrize("name", REFERENCE)
def test_the_reference_names_what_exists(name: str) -> None:
    module, _, last = name.rpartition(".")
    if module == "lightning_scaling.huggingface":
        pytest.importorskip("transformers")
    thing = getattr(importlib.import_module(module), last)
    assert thing.__module__ == module
    if last in lightning_scaling.__all__:
        assert getattr(lightning_scaling, last) is thing


def test_the_site_has_the_reference_and_the_examples(site: Path) -> None:
    reference = "".join(page.read_text(encoding="utf-8") for page in (site / "api").glob("*.html"))
    assert [name for name in REFERENCE if f'id="{name}"' not in reference] == []
    assert ".. math::" not in reference
    assert ":math:" not in reference
    for path in (ROOT / "examples").glob("*.py"):
        assert (site / "examples" / f"{path.stem}.html").exists()


def test_the_site_fetches_nothing_from_elsewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        fetched = re.findall(r'<(?:script|img|iframe)[^>]+src="([^"]+)"', text)
        fetched += re.findall(r'<link[^>]+rel="(?:stylesheet|preconnect|icon)"[^>]*href="([^"]+)"', text)
        fetched += re.findall(r'<link[^>]+href="([^"]+)"[^>]*rel="(?:stylesheet|preconnect|icon)"', text)
        assert fetched
        assert [url for url in fetched if url.startswith(("http", "//"))] == [], page.name


def test_docstrings_become_markdown() -> None:
    pytest.importorskip("griffe")
    for_site = runpy.run_path(str(ROOT / "docs" / "_site" / "docstrings.py"))["for_site"]
    text = for_site("A :math:`L`.\n\n.. math:: L = E +\n    A\n\nSee :attr:`why`.\n\nExample::\n\n    x = 1\n")
    assert text.count("<math") == 2
    assert '<div class="equation">' in text
    assert "`why`" in text
    assert text.endswith("Example:\n\n```python\nx = 1\n```\n\n")


def test_the_examples_ask_what_their_page_says() -> None:
    page = (ROOT / "docs" / "examples.md").read_text(encoding="utf-8")
    numbered = sorted((ROOT / "examples").glob("[0-9]*.py"))
    assert len(numbered) == 10
    for path in numbered:
        question = path.read_text(encoding="utf-8").splitlines()[0].strip('"')
        assert question.endswith("?")
        assert f"](../examples/{path.name}) | {question} |" in page
