"""What is put into a page as text stays text."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_scaling.report.markup import join, table, tag


class Reader(HTMLParser):
    """Collects the elements and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, name: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((name, dict(attributes)))

    def handle_data(self, data: str) -> None:
        self.text += data


def read(page: str) -> Reader:
    reader = Reader()
    reader.feed(page)
    reader.close()
    return reader


# Characters that a page shows as they are: no control characters, no halves, none that turn the text around.
PLAIN = st.text(st.characters(exclude_categories=("Cc", "Cs", "Cf")))


@given(PLAIN, PLAIN)
def test_text_and_attributes_come_back_as_they_went_in(text: str, attribute: str) -> None:
    found = read(tag("p", text, title=attribute))
    assert found.elements == [("p", {"title": attribute})]
    assert found.text.replace("\N{NO-BREAK SPACE}", " ") == text.replace("\N{NO-BREAK SPACE}", " ")


@given(st.text())
def test_whatever_the_text_it_makes_no_element_and_can_be_written(text: str) -> None:
    page = tag("p", text, title=text)
    assert [name for name, _ in read(page).elements] == ["p"]
    page.encode("utf-8")


@pytest.mark.parametrize("odd", ["\x00", "\x1b[31m", "\u202e", "\u2066", "\ud800"])
def test_what_would_break_a_page_is_replaced(odd: str) -> None:
    assert join(f"a{odd[0]}b") == "a\N{REPLACEMENT CHARACTER}b"


def test_numbers_do_not_break_at_their_gaps() -> None:
    assert join("20 000 of 1 000 000, 90 % of 4.38 k and 5 runs") == (
        "20\N{NO-BREAK SPACE}000 of 1\N{NO-BREAK SPACE}000\N{NO-BREAK SPACE}000, 90\N{NO-BREAK SPACE}% of "
        "4.38\N{NO-BREAK SPACE}k and 5 runs"
    )


def test_a_table_names_its_box_its_columns_and_its_rows() -> None:
    found = read(table(["run", "loss"], [["a", "2.1"], ["b", tag("b", "2.0")]], "all runs"))
    assert ("div", {"class": "scroll", "tabindex": "0", "role": "region", "aria-label": "all runs"}) in found.elements
    assert [a.get("scope") for name, a in found.elements if name == "th"] == ["col", "col", "row", "row"]
    assert found.text == "runlossa2.1b2.0"


def test_a_row_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="zip"):
        table(["run", "loss"], [["a"]], "all runs")
