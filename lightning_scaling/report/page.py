"""A whole HTML page: one file that asks for nothing else, reads in light and dark, on a phone and on paper."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from datetime import datetime, timezone
from importlib.resources import files

from lightning_scaling.report.markup import Markup, Part, join, tag

__all__ = ["cards", "facts", "page", "section"]

#: What the page may load: nothing but the styles and pictures that are in it.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(kind: str, title: str, headline: Part, *body: Part, mark: Part = None) -> str:
    """Return the text of a page.

    Args:
        kind: What it is a report of, above the title.
        title: Its name.
        headline: What it says in a sentence or two.
        body: Its sections.
        mark: A word or two beside the kind.
    """
    style = files("lightning_scaling.report").joinpath("page.css").read_text(encoding="utf-8")
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{title} – {kind}"),
        tag("style", Markup(style)),
    )
    top = tag(
        "header",
        tag("p", f"{kind} ", mark, class_="kicker"),
        tag("h1", tag("bdi", title)),
        tag("div", headline, class_="headline"),
    )
    version = sys.modules["lightning_scaling"].__version__
    moment = datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
    foot = tag(
        "footer",
        tag(
            "p",
            f"Written by lightning_scaling {version} at {moment}. The law is L(N, S) of Kaplan et al. 2020, "
            "arXiv:2001.08361.",
        ),
    )
    return f"<!doctype html>\n{tag('html', head, tag('body', top, tag('main', body), foot), lang='en-GB')}\n"


def section(title: str, *parts: Part, class_: str | None = None) -> Markup:
    """Return a part of the page under a heading of its own."""
    return tag("section", tag("h2", title), parts, class_=class_)


def cards(pairs: Iterable[tuple[str, Part, Part]]) -> Markup:
    """Return numbers side by side: each with its name above and, if any, a remark below."""
    shown = [
        tag("div", tag("dt", name), tag("dd", value, tag("small", remark) if remark else None))
        for name, value, remark in pairs
    ]
    return tag("dl", shown, class_="cards") if shown else Markup()


def facts(pairs: Iterable[tuple[str, Part]], name: str) -> Markup:
    """Return names and values as a table of two columns."""
    rows = [tag("tr", tag("th", key, scope="row"), tag("td", tag("bdi", join(value)))) for key, value in pairs]
    whole = tag("table", tag("tbody", rows), class_="facts")
    return tag("div", whole, class_="scroll", tabindex=0, role="region", aria_label=name)
