"""The fault table names tests that exist, and all of those that were written for it."""

from __future__ import annotations

import ast
import re
from pathlib import Path

TESTS = Path(__file__).parent
PAGE = TESTS.parent / "docs" / "reliability.md"
#: Files whose every test is a row.
FAULTS = ("integration/test_faults.py", "integration/test_killed.py")


def written_in(name: str) -> set[str]:
    tree = ast.parse((TESTS / name).read_text(encoding="utf-8"))
    return {f"{name}::{node.name}" for node in tree.body if isinstance(node, ast.FunctionDef) and "test_" in node.name}


def test_every_row_names_tests_that_exist() -> None:
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    shown = [
        re.findall(r"`([\w/]+\.py::\w+)`", row) for row in rows if not row.startswith(("| fault", "| what is found"))
    ]
    assert len(shown) > 20
    for row in shown:
        assert row
        for name in row:
            assert name in written_in(name.partition("::")[0]), name


def test_every_fault_has_its_row() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for name in FAULTS:
        assert [test for test in written_in(name) if test not in page] == []
