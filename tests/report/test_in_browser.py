"""Reports as a reader sees them: in Chromium, on a phone and at a desk, in light and in dark, and on paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from lightning_scaling import LossCurve, RunStore, TargetUnreachable, write_report
from lightning_scaling.named_schedule import named_rates
from lightning_scaling.report import run_report
from lightning_scaling.store.example import example_store
from tests.report.browser import Browser, installed

pytestmark = pytest.mark.skipif(installed() is None, reason="no Chromium on the path: apt-get install chromium")

T = 1000
PHONE, TABLET, DESK = 360, 720, 1600
KINDS = ("running", "store", "words")

#: The least contrast of all text with what lies behind it, and the text that has it (WCAG 2, relative luminance).
CONTRAST = """(() => {
  const rgba = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
  const luminance = c => [0.2126, 0.7152, 0.0722].reduce((sum, w, i) => {
    const x = c[i] / 255; return sum + w * (x <= 0.04045 ? x / 12.92 : ((x + 0.055) / 1.055) ** 2.4); }, 0);
  const behind = e => { for (; e; e = e.parentElement) {
    const c = rgba(getComputedStyle(e).backgroundColor); if (c[3] === 1) return c; } return [255, 255, 255, 1]; };
  let least = [99, ''];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !e.offsetParent) continue;
    const [a, b] = [luminance(rgba(getComputedStyle(e).color)), luminance(behind(e))];
    const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
    if (contrast < least[0]) least = [contrast, walker.currentNode.data];
  }
  return least;
})()"""

#: Size in pixels, as drawn and as it is, of each picture that is shown.
PICTURES = """[...document.images].filter(i => i.offsetParent !== null)
  .map(i => [i.getBoundingClientRect().width, i.getBoundingClientRect().height, i.naturalWidth, i.className])"""

#: Elements that reach out of the page, but for those in a box that scrolls.
OUTSIDE = """[...document.body.querySelectorAll('*')].filter(e => !e.parentElement.closest('.scroll'))
  .filter(e => e.getBoundingClientRect().right > document.documentElement.clientWidth + 0.5).map(e => e.outerHTML)"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    S = np.arange(1, T // 2 + 1)
    curve = LossCurve(S, 2.0 + 6.0 * S**-0.5 + 0.02 * np.random.default_rng(0).standard_normal(S.size), N=1e6, B=1e3)
    rules = {"target 1.9": TargetUnreachable(1.9), "target 2.5": TargetUnreachable(2.5)}
    long = "a_name_without_any_gap_" * 12
    store = RunStore(folder / "runs")
    store.add(curve.until(100), horizon=T, lr_schedule=np.ones(T), tags={"name": long, long: long}, id="words")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(run_report, "has_pictures", lambda: False)
        words = write_report(folder / "words.html", store["words"])
    return {
        "running": write_report(
            folder / "running.html", curve, horizon=T, lr_schedule=named_rates("wsd", T), rules=rules
        ),
        "store": write_report(folder / "store.html", example_store()),
        "words": words,
    }


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [PHONE, DESK])
@pytest.mark.parametrize("kind", KINDS)
def test_a_report_reads_well(browser: Browser, pages: dict[str, Path], kind: str, width: int, dark: bool) -> None:
    browser.open(pages[kind], width=width, dark=dark)
    assert browser.messages == []
    assert browser.requests == []
    assert browser.value("innerWidth") == width
    assert browser.value("document.documentElement.scrollWidth") <= width
    assert browser.value(OUTSIDE) == []
    contrast, text = browser.value(CONTRAST)
    assert contrast >= 4.5, text
    red, *_ = browser.value("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert red < 64 if dark else red > 192
    pictures = browser.value(PICTURES)
    assert len(pictures) == {"running": 1, "store": 3, "words": 0}[kind]
    for wide, high, real, side in pictures:
        assert side == ("dark" if dark else "light")
        assert min(wide, high) > 200
        assert real > 0
        assert wide <= width


@pytest.mark.parametrize("kind", KINDS)
def test_on_a_phone_nothing_scrolls_sideways_and_cells_have_their_headings(
    browser: Browser, pages: dict[str, Path], kind: str
) -> None:
    browser.open(pages[kind], width=PHONE)
    assert browser.value("[...document.querySelectorAll('.scroll')].every(b => b.scrollWidth <= b.clientWidth)")
    shown, heads = browser.value(
        """(() => { const t = document.querySelector('table:not(.facts)'); if (!t) return [[], []];
        return [[...t.querySelector('tbody tr').children].map(c => getComputedStyle(c, '::before').content),
                [...t.querySelectorAll('thead th')].map(h => h.textContent)]; })()"""
    )
    assert [words.strip('"\N{NO-BREAK SPACE}') for words in shown] == heads
    assert heads or kind == "words"


@pytest.mark.parametrize("kind", ["running", "store"])
def test_tables_that_are_too_wide_scroll_in_their_own_box(browser: Browser, pages: dict[str, Path], kind: str) -> None:
    browser.open(pages[kind], width=TABLET)
    boxes = browser.value(
        "[...document.querySelectorAll('.scroll')].map(b => [b.scrollWidth > b.clientWidth, b.tabIndex, b.ariaLabel])"
    )
    assert any(scrolls for scrolls, *_ in boxes)
    assert all(tab == 0 and name for _, tab, name in boxes)
    # Its last column can be brought into view.
    seen = browser.value(
        """[...document.querySelectorAll('.scroll')].every(b => { b.scrollLeft = 1e6;
        return b.querySelector('tr').lastElementChild.getBoundingClientRect().right <= innerWidth; })"""
    )
    assert seen


def test_on_paper_everything_is_there_in_black_on_white(browser: Browser, pages: dict[str, Path]) -> None:
    browser.open(pages["store"], width=800, dark=True, media="print")
    assert browser.value("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert [side for *_, side in browser.value(PICTURES)] == ["light"] * 3
    assert browser.value("[...document.querySelectorAll('.scroll')].every(b => b.scrollHeight <= b.clientHeight + 1)")
    assert browser.value(CONTRAST)[0] >= 4.5


def test_the_page_may_neither_run_nor_load_anything(browser: Browser, pages: dict[str, Path], tmp_path: Path) -> None:
    # The same policy on a page with what it forbids: it is the policy that keeps it from happening.
    page = pages["words"].read_text(encoding="utf-8")
    hostile = tmp_path / "hostile.html"
    bad = "<script>document.title = 'run'</script><img src='http://192.0.2.1/x.png' onerror=\"document.title = 'run'\">"
    hostile.write_text(page.replace("</main>", f"{bad}</main>"), encoding="utf-8")
    browser.open(hostile, width=DESK)
    assert browser.value("document.title") != "run"
    assert len([text for text in browser.messages if "Content Security Policy" in text]) >= 2
