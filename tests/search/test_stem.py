"""Stems are those of SQLite: what a query asks for and what the index holds have to be the same."""

from __future__ import annotations

import re
import sqlite3
import sysconfig
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convmem.search.language.stem import stem

ENDINGS = (
    "s es sses ies ied ss eed eeds ed ing y ly ational tional enci anci izer logi bli alli entli "
    "eli ousli ization ation ator alism iveness fulness ousness aliti iviti biliti icate ative "
    "alize iciti ical ful ness al ance ence er ic able ible ant ement ment ent sion tion ion ou "
    "ism ate iti ous ive ize e l ll at bl iz tt zz ee yy é éa"
).split()
made_words = st.builds(
    lambda beginning, endings: beginning + "".join(endings),
    st.one_of(
        st.text("aeioubcdtslwxyz1éб", max_size=5),
        st.text("ab", min_size=50, max_size=66),
    ),
    st.lists(st.sampled_from(ENDINGS), max_size=3),
).filter(bool)


def sqlite_stems(words: list[str]) -> list[str]:
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute("create virtual table t using fts5(text, tokenize='porter ascii')")
    except sqlite3.OperationalError:
        pytest.skip("needs SQLite with FTS5")
    connection.execute("create virtual table v using fts5vocab(t, 'instance')")
    connection.executemany("insert into t(rowid, text) values (?, ?)", enumerate(words))
    return [term for (term,) in connection.execute("select term from v order by doc")]


def test_stems_of_many_real_words_are_those_of_sqlite():
    """The rules have exceptions that only real words meet."""
    words: set[str] = set()
    library = Path(sysconfig.get_path("stdlib"))
    for path in sorted(library.glob("*.py"))[:150]:
        words.update(re.findall("[a-z]+", path.read_text("utf-8", "replace").lower()))
    assert len(words) > 5000
    ordered = sorted(words)
    assert list(map(stem, ordered)) == sqlite_stems(ordered)


@given(st.lists(made_words, min_size=50, max_size=200, unique=True))
@settings(max_examples=30, deadline=None)
def test_stems_of_made_words_are_those_of_sqlite(words):
    """Words that are all endings, very short, very long or not English."""
    assert list(map(stem, words)) == sqlite_stems(words)


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("paintings", "paint"),
        ("relational", "relat"),
        ("generalizations", "gener"),
        ("happy", "happi"),
        ("eed", "e"),
        ("ies", "ie"),
        ("café", "café"),
        ("is", "is"),
        ("ing" * 22, "ing" * 22),
        ("用户", "用户"),
    ],
)
def test_stems_that_people_know(word, expected):
    """What Porter's paper says, and where SQLite differs from it."""
    assert stem(word) == expected
