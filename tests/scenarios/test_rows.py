"""Every fault of earlier systems that convmem could have too has its test."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

HERE = Path(__file__).parent

# A: an in-memory history with a best-effort log. O: a manager over a document store, with a cache
# before it. K: a manager that saved on a count.
ROWS = [
    *(f"A{row}" for row in range(1, 32)),
    *(f"O{row}" for row in (*range(1, 3), *range(4, 10), *range(12, 15), 19, 20, *range(23, 28))),
    *("O3", "O29", "O32"),
    *(f"K{row}" for row in (*range(1, 12), 14, *range(16, 29))),
]

SYSTEMS = {"A": 31, "O": 32, "K": 28}

# What convmem does not offer, and so cannot get wrong yet.
LEFT_OUT = {
    "K12": "threads: turns stand in one order and have no parents",
    "K13": "threads: there is no chain that could be a circle",
    "K15": "search",
    **dict.fromkeys(("O21", "O22", "O28"), "search, by meaning or with filters"),
    **dict.fromkeys(("O10", "O11"), "an asynchronous face"),
    **dict.fromkeys(("O15", "O16", "O17", "O18"), "a cache of turns; the same as A1 to A4"),
    **dict.fromkeys(("O30", "O31"), "several stores"),
}


def _tests():
    for path in sorted(HERE.glob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                yield path.name, node.name, ast.get_docstring(node) or ""


@pytest.mark.parametrize("row", ROWS)
def test_each_row_is_named_by_a_test_that_holds_it(row):
    """A lesson that no test remembers will be learned again."""
    assert [name for _, name, told in _tests() if re.search(rf"\b{row}\b", told)]


def test_no_row_is_forgotten():
    """A row is held by a test, or it is said why it cannot be; none is both, none is neither."""
    every = {f"{system}{row}" for system, last in SYSTEMS.items() for row in range(1, last + 1)}
    assert len(ROWS) == len(set(ROWS))
    assert set(ROWS) | LEFT_OUT.keys() == every
    assert not set(ROWS) & LEFT_OUT.keys()


def test_every_scenario_says_why_anyone_cares():
    """The row, or the rule or promise that it stands on, comes with the reason."""
    silent = [(file, name) for file, name, told in _tests() if len(told) < 20]
    assert not silent
