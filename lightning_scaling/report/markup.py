"""HTML from text that is not to be trusted: everything is escaped but what was built here."""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence

__all__ = ["Markup", "Part", "join", "table", "tag"]

#: Elements without content.
_VOID = frozenset({"br", "img", "meta"})
#: Kinds of the characters that turn the direction of the text after them.
_TURNING = frozenset({"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"})


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


#: The gap in "20 000", "90 %" and "4.38 k", where a line must not end.
_GAP = re.compile(r"(?<=\d) (?=(?:\d{3}|[kMBT])\b|%)")

Part = str | Iterable["Part"] | None


def tag(element: str, /, *parts: Part, **attributes: str | int | bool | None) -> Markup:
    """Return an element.

    Args:
        element: Its name, such as ``p``.
        parts: What is in it: markup, text, which is escaped, or lists of them; None is nothing.
        attributes: Its attributes; ``_`` in a name becomes ``-`` but for one at the end, which is dropped. True is an
            attribute without a value; None and False leave it out.

    Example:
        >>> print(tag("p", "a < b ", tag("b", "& c"), class_="note"))
        <p class="note">a &lt; b <b>&amp; c</b></p>
    """
    words = [element]
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        key = key.rstrip("_").replace("_", "-")
        words.append(key if value is True else f'{key}="{html.escape(_printable(str(value)))}"')
    start = Markup(f"<{' '.join(words)}>")
    return start if element in _VOID else Markup(f"{start}{join(parts)}</{element}>")


def join(parts: Part, between: str = "") -> Markup:
    """Return several parts one after another.

    Example:
        >>> print(join(["<script>", tag("br")]))
        &lt;script&gt;<br>
    """
    if parts is None:
        return Markup()
    if isinstance(parts, Markup):
        return parts
    if isinstance(parts, str):
        return Markup(html.escape(_GAP.sub("\N{NO-BREAK SPACE}", _printable(parts))))
    return Markup(html.escape(between).join(join(part) for part in parts))


def table(
    head: Sequence[str],
    rows: Iterable[Sequence[Part]],
    label: str,
    *,
    left: Sequence[int] = (0,),
    class_: str = "scroll",
) -> Markup:
    """Return a table in a box of its own, in which it scrolls where the page is too narrow for it.

    The first cell of a row is its header. On a phone each row stands by itself, its cells below their own headings.

    Args:
        head: Names of the columns.
        rows: Their cells.
        label: Name of the box, for a screen reader.
        left: Columns of text; all others are numbers, flush right.
        class_: Classes of the box.
    """
    sides = [None if i in left else "number" for i in range(len(head))]
    names = [_GAP.sub("\N{NO-BREAK SPACE}", name) for name in head]
    body = []
    for row in rows:
        cells = [
            tag("td" if i else "th", cell, scope=None if i else "row", class_=side, data_head=name)
            for i, (cell, side, name) in enumerate(zip(row, sides, names, strict=True))
        ]
        body.append(tag("tr", cells))
    heads = [tag("th", name, scope="col", class_=side) for name, side in zip(head, sides, strict=True)]
    whole = tag("table", tag("thead", tag("tr", heads)), tag("tbody", body))
    # A box that scrolls has to be reached by keyboard.
    return tag("div", whole, class_=class_, tabindex=0, role="region", aria_label=label)


def _printable(text: str) -> str:
    """Return text without control characters, halves of characters and what turns the direction of text around it."""
    return "".join("\N{REPLACEMENT CHARACTER}" if _is_odd(c) else c for c in text)


def _is_odd(c: str) -> bool:
    return c not in "\n\t" and (unicodedata.category(c) in ("Cc", "Cs") or unicodedata.bidirectional(c) in _TURNING)
