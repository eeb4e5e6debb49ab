"""Words: the index holds what ``index_terms`` says, and what a query asks for is among it."""

from __future__ import annotations

import os
import sqlite3
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convmem.search.language.folding import composed, folded, is_unspaced
from convmem.search.language.words import (
    STOP_WORDS,
    asked_for,
    index_terms,
    index_text,
    placed,
    stem,
    terms,
    tokens,
)

some = settings(max_examples=int(os.environ.get("CONVMEM_EXAMPLES", "200")), deadline=None)
SCRIPTS = (
    "abcXYZ019 _-.'\"\x00\n\x1b[m",
    "éÉßøŁıİœǅ½²ﬁ™…—“’",
    "мйЁґδςΆ",
    "עִבاُ٣ـأहिन्दी",
    "ไทย用户名ひがパｶﾞ한글ㅋ\u1112\u1161々ー、。",
    "😀👍🏽❤️👩\u200d💻🇩🇪1️⃣✓⏰",
    "\u0301\u0308\u3099\u200b\u00ad\ufeff\ud800\U000e0101Ꮿꭰ",
)
any_text = st.lists(
    st.one_of(
        *map(st.sampled_from, SCRIPTS), st.characters(), st.sampled_from(["getUser", "HTTPd"])
    ),
    max_size=40,
).map("".join)


def held(text: str) -> set[str]:
    """Return the terms that an index holds after it was given *text*."""
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(
            "create virtual table t using fts5"
            "(text, content='', columnsize=0, detail='none', tokenize='porter ascii')"
        )
    except sqlite3.OperationalError:
        pytest.skip("needs SQLite with FTS5")
    connection.execute("create virtual table v using fts5vocab(t, 'row')")
    connection.execute("insert into t(rowid, text) values (1, ?)", (index_text(text),))
    return {term for (term,) in connection.execute("select term from v")}


@given(any_text)
@example("用Python写 getUserName, HTTPServer 用户\ud800")
@some
def test_index_holds_the_terms_that_index_terms_says(text):
    """The scan works on ``index_terms``: where they differ it finds other turns than the index."""
    there = held(text)
    assert there <= index_terms(text)
    for term in index_terms(text) - there:
        assert is_unspaced(term) and any(pair.startswith(term) for pair in there)


@given(any_text)
@some
def test_what_a_query_asks_for_is_in_the_index_of_the_same_text(text):
    """Who pastes a turn finds the turn."""
    there = index_terms(text)
    assert set(map(stem, asked_for(text))) <= there
    assert set(terms(text)) <= there


@given(any_text)
@some
def test_words_are_the_same_with_composed_and_with_decomposed_letters(text):
    """Names from macOS come decomposed; nobody types them so."""
    decomposed = unicodedata.normalize("NFD", text)
    assert tokens(decomposed) == tokens(unicodedata.normalize("NFC", text))


@given(any_text)
@some
def test_places_of_words_are_those_of_the_same_words(text):
    """Marks in a snippet must fit what was found."""
    text = composed(text)
    found = list(placed(text))
    assert [token for token, _, _ in found] == tokens(text)
    before = 0
    for token, start, end in found:
        assert before <= start < end <= len(text)
        assert token in tokens(text[start:end])
        before = start  # one character can be two words


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Das Café in Łódź, naïve straße", "das cafe in lodz naive strasse"),
        ("København SMØRREBRØD Ærø", "kobenhavn smorrebrod aero"),
        ("IŞIK ışık İstanbul", "isik isik istanbul"),
        ("ＦＵＬＬ ﬁne x² Ⅳ", "full fine x2 iv"),
        ("Ёлка ЙОД ΣΊΣΥΦΟΣ", "елка иод σισυφοσ"),
        ("עִבְרִית ٣٤ كِتَاب", "עברית 34 كتاب"),
        ("foo_bar a/b.py well-known", "foo bar a b py well known"),
        ("getUserName", "getusername"),
        ("用Python写", "用 python 写"),
        ("ｶﾞｷﾞ", "ガ ギ"),
        ("한글", "한 글"),
        ("ไทย", "ไ ท ย"),
        ("ok👍🏽!❤️", "ok 👍 ❤"),
        ("co\u00adop\ufeff zero\u200bwidth", "coop zero width"),
        ("don’t “quote”—this…", "don t quote this"),
        ("\x1b[31merror\x1b[0m", "error"),
    ],
)
def test_words_of_a_text(text, expected):
    """Folded as people search: without accents, signs, and the colours of a terminal."""
    assert tokens(text) == expected.split()


@pytest.mark.parametrize(
    ("text", "extras"),
    [
        ("getUserName", "get user name"),
        ("parseHTTPResponse2", "pars http response2"),
        ("naïveCase", "naiv case"),
        ("a用户名b", "用户 户名"),
        ("用、户", ""),
        ("plain words only", ""),
    ],
)
def test_index_holds_parts_of_identifiers_and_pairs_of_characters(text, extras):
    """``user`` is to find ``getUserName``; a pair of characters tells more than each alone."""
    assert index_terms(text) - set(terms(text)) == set(extras.split())


def test_plain_ascii_is_given_to_the_index_as_it_is():
    """Nearly all text is so, and the index is built at the speed of this."""
    text = "Plain words, foo_bar and WORDS."
    assert index_text(text) is text


def test_base64_does_not_add_its_pieces_to_the_index():
    """A picture pasted as text would fill the index with words of a letter or two."""
    text = "aGVsbG8gd29ybGQgdGhpcyBpcyBhIHRlc3QgbG9uZ2VyIHRo"
    assert index_terms(text) == {text.lower()}


def test_values_are_compared_folded_and_with_their_signs():
    """``meta.project:cafe`` is Café; ``a-b`` is not ``a b``."""
    assert folded("  Café \n Noir") == "cafe noir"
    assert folded("a-b") != folded("a b")


def test_stop_words_are_words():
    """One that is no token would never be left out."""
    assert all(tokens(word) == [word] for word in STOP_WORDS)
