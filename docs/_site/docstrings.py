"""Docstrings for the site: equations in LaTeX (``.. math::``) become MathML, which browsers draw by themselves."""

from __future__ import annotations

import re
import textwrap
from typing import Any

import griffe
from latex2mathml.converter import convert

BLOCK = re.compile(r"^( *)\.\. math:: ?(.*(?:\n\1 +\S.*)*)", re.MULTILINE)
INLINE = re.compile(r":math:`([^`]+)`")
EXAMPLE = re.compile(r"^( *)Example:$", re.MULTILINE)  # what the parser knows is called Examples
ROLE = re.compile(r":(?:attr|class|func|meth|mod):`~?([^`]+)`")
LITERAL = re.compile(r"^( *)(\S.*)::\n((?:\n|\1 +.*\n?)+)", re.MULTILINE)
TABLE = re.compile(r"^=+ +=+\n(.*?)^=+ +=+$", re.MULTILINE | re.DOTALL)


def for_site(text: str) -> str:
    """Return a docstring in Markdown."""
    text = EXAMPLE.sub(r"\1Examples:", text)
    text = TABLE.sub(_table, text)
    text = LITERAL.sub(_literal, text)
    text = BLOCK.sub(_equation, text)
    text = INLINE.sub(lambda found: _mathml(found[1], "inline"), text)
    return ROLE.sub(r"`\1`", text)


def _mathml(latex: str, display: str) -> str:
    return convert(re.sub(r"\s+", " ", latex).strip(), display=display)


def _equation(found: re.Match[str]) -> str:
    return f'{found[1]}<div class="equation">{_mathml(found[2], "block")}</div>'


def _literal(found: re.Match[str]) -> str:
    """``Text::`` and an indented block, as a block of code after ``Text:``."""
    indent, head, code = found.groups()
    fenced = f"```python\n{textwrap.dedent(code).strip()}\n```\n"
    return f"{indent}{head}:\n\n{textwrap.indent(fenced, indent)}\n"


def _table(found: re.Match[str]) -> str:
    """A simple table of reStructuredText with two columns."""
    rows = [re.split(r" {2,}", line.strip(), maxsplit=1) for line in found[1].splitlines() if line.strip()]
    return "| name | what |\n|---|---|\n" + "\n".join(f"| {name} | {what} |" for name, what in rows)


class ForSite(griffe.Extension):
    """Rewrites every docstring of the package before it is parsed."""

    def on_package(self, *, pkg: griffe.Module, **_: Any) -> None:
        """Visit all objects, each once."""
        todo: list[Any] = [pkg]
        while todo:
            thing = todo.pop()
            if thing.docstring is not None:
                thing.docstring.value = for_site(thing.docstring.value)
            todo += [member for member in thing.members.values() if not member.is_alias]
