"""Every fault of earlier systems that concerns recording, reading or compaction has its test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# A: an in-memory history with a best-effort log. O: a manager over a document store, with a cache
# before it. K: a manager that saved on a count. What speaks of state, context, search or export
# has its tests elsewhere.
ROWS = [
    *(f"A{row}" for row in (*range(1, 12), *range(14, 19), *range(20, 26), 28)),
    *(f"O{row}" for row in (1, 2, 4, 5, 9, 19, 20, 23, 24, 25, 26, 32)),
    *(f"K{row}" for row in (*range(1, 10), *range(16, 19), *range(22, 28))),
]


def _tests():
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield path.name, node.name, ast.get_docstring(node) or ""


@pytest.mark.parametrize("row", ROWS)
def test_each_row_is_named_by_a_test_that_holds_it(row):
    """A lesson that no test remembers will be learned again."""
    assert [name for _, name, told in _tests() if re.search(rf"\b{row}\b", told)]


def test_every_scenario_says_why_anyone_cares():
    """The row, or the rule or promise that it stands on, comes with the reason."""
    silent = [(file, name) for file, name, told in _tests() if len(told) < 20]
    assert not silent
