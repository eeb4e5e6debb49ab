"""Queries: what people type is read as they mean it, and every text is a query."""

from __future__ import annotations

import os
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convmem.search.language.prefixes import prefix_expression
from convmem.search.language.query import Query, holds, parse
from convmem.search.language.words import index_text

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
some = settings(max_examples=int(os.environ.get("CONVMEM_EXAMPLES", "200")), deadline=None)


def read(text: str) -> Query:
    return parse(text, now=NOW)


def words_of(text: str) -> list[tuple[str, ...]]:
    return [unit.words for unit in read(text).units]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Oslo train", "oslo | train"),
        ("What did Caroline's group research?", "caroline | group | research"),
        ("what's the who", "what | the | who"),
        ("IT in Oslo", "it | oslo"),
        ("IT IN OSLO", "oslo"),
        ("cats AND dogs OR mice", "cats | dogs | mice"),
        ("foo_bar a/b.py well-known", "foo bar | a b py | well known"),
        ("std::vector 12:30 key:value", "std vector | 12 30 | key value"),
        (r"https://a.b/c?d=e C:\x\y", "https a b c d e | c x y"),
        ("--flag -- - ! ???", "flag"),
        ("getUserName", "getusername"),
        ("什么是递归？用Python写", "什 么 是 递 归 | 用 python 写"),
        ("O'Brien’s rock'n'roll", "o brien | rock n roll"),
        ('"state of the art" of', "state of the art"),
        ("“curly quotes” «guillemets» „low“", "curly quotes | guillemets | low"),
        ('an "unclosed phrase', "unclosed phrase"),
        ('"" " " "?"', ""),
        ("oslo Oslo OSLO train", "oslo | train"),
        ("since:gibberish role: until:3m", "since gibberish | role | until 3m"),
        ("meta.:x meta..a:b", "meta x | meta a b"),
    ],
)
def test_words_and_phrases_of_a_query(text, expected):
    """Anything that people paste is searched as what it looks like."""
    assert words_of(text) == [tuple(each.split()) for each in expected.split("|") if each.strip()]


def test_what_kind_each_unit_is():
    """The index answers for words; of the others the text must be looked at."""
    plain, phrase, name, exact, prefix = read('rain "night train" a_b "painting" tr*').units
    assert not plain.needs_text
    assert phrase.is_phrase and phrase.is_exact
    assert name.is_phrase and not name.is_exact
    assert exact.is_exact and not exact.is_phrase
    assert prefix.is_prefix and prefix.words == ("tr",) and prefix.asked == ()


def test_minus_leaves_out_what_follows_it():
    """A minus counts at the beginning of a word only: hyphens and options are no exclusions."""
    query = read('oslo -bergen -"night train" well-known --flag - 5-3')
    assert [unit.words for unit in query.excluded] == [("bergen",), ("night", "train")]
    assert len(query.units) == 4


def test_filters():
    """Each says where to look, and is none of the words."""
    query = read(
        'role:user,tool Role:system id:"a, b" id:c,d ns:work since:2026-11-01T00:00Z since:3d '
        'until:"today 10:00" meta.project:conv* meta.a.b:"x y" oslo'
    )
    assert query.roles == {"user", "tool", "system"}
    assert query.ids == {"a, b", "c", "d"}
    assert query.namespaces == {"work"}
    assert query.since == NOW - timedelta(days=3)
    assert query.until is not None and query.until <= NOW + timedelta(hours=24)
    assert query.meta == ((("project",), "conv*"), (("a", "b"), "x y"))
    assert query.words == ("oslo",)


def test_without_a_clock_only_times_that_need_none_are_filters():
    """The library does not read the clock; what it cannot know is searched as words."""
    query = parse("since:2026-11-01T00:00Z until:2d")
    assert query.since == datetime(2026, 11, 1, tzinfo=UTC)
    assert query.until is None
    assert [unit.words for unit in query.units] == [("until", "2d")]


def test_words_are_what_ranking_counts():
    """Stop words tell nothing, unless there is nothing else."""
    assert read('"state of the art" in the paint*').words == ("state", "art", "paint")
    assert read("to be or not").words == ("to", "be", "or", "not")
    assert read("用户名").words == ("用户", "户名")


@pytest.mark.parametrize(
    ("query", "text", "expected"),
    [
        ("painting", "She painted it", True),
        ('"painting"', "She painted it", False),
        ("cafe", "im CAFÉ", True),
        ("café", "im cafe", True),
        ("night-trains", "the night train", True),
        ("night-trains", "the train at night", False),
        ('"night train"', "night, train", True),
        ('"night train"', "night trains", False),
        ('"night tr"*', "night trains", True),
        ("paint* oslo", "Oslo: repainting", False),
        ("pai*", "Painter", True),
        ("user", "getUserName()", True),
        ("us*", "getUserName()", True),
        ('"user"', "getUserName()", False),
        ("getusername", "getUserName()", True),
        ("数据库", "讨论了数据库索引", True),
        ("数据库", "数据 据库", False),
        ("据", "讨论了数据库索引", True),
        ("用Python写", "用 python 写", True),
        ("Caroline's", "Caroline said", True),
        ("-oslo train", "the train to Oslo", False),
        ("-oslo train", "the train", True),
        ("👍", "ok 👍🏽", True),
        ("", "anything", True),
    ],
)
def test_what_a_text_must_hold(query, text, expected):
    """The one meaning that index, scan and snippets share."""
    assert read(query).holds_in(text) is expected


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("meta.project:CONVMEM", True),
        ("meta.project:conv", False),
        ("meta.project:conv*", True),
        ("meta.a.b:7", True),
        ("meta.a.b:8 meta.a.b:7", True),
        ("meta.a.b:7 meta.project:x", False),
        ("meta.tags:red", True),
        ("meta.is_done:true", True),
        ("meta.a:7", False),
        ("meta.none.b:7", False),
    ],
)
def test_meta_holds_the_wanted_value(query, expected):
    """Folded, whole, at that place; one of several values for one place."""
    meta = {"project": "Convmem", "a": {"b": 7}, "tags": ["Red", "blue"], "is_done": True}
    assert read(query).meta_holds(meta) is expected
    assert read("oslo").meta_holds(None)
    assert not read(query).meta_holds(None)


typed = st.lists(
    st.one_of(
        st.text(max_size=6),
        st.sampled_from(
            ['"', "-", "*", "role:", "since:", "meta.a:", "id:x", "用户", "paint*", " ", "'s", "”"]
        ),
    ),
    max_size=12,
).map("".join)


@given(typed, typed)
@example('-"', "")
@example("role:\ud800 *", "")
@some
def test_any_text_is_a_query(text, other):
    """Nobody should have to learn a syntax in order not to get an error."""
    query = read(text)
    query.holds_in(other)
    assert query.text == text
    for unit in query.units + query.excluded:
        assert unit.words
        assert unit.asked or unit.is_prefix


@pytest.fixture(scope="module")
def table():
    connection = sqlite3.connect(":memory:")
    try:
        connection.execute(
            "create virtual table t using fts5"
            "(text, content='', columnsize=0, detail='none', tokenize='porter ascii')"
        )
    except sqlite3.OperationalError:
        pytest.skip("needs SQLite with FTS5")
    for number, text in enumerate(TEXTS):
        connection.execute("insert into t(rowid, text) values (?, ?)", (number, index_text(text)))
    return connection


SAID = (
    "paint painted Painting paintings repaint key keyboard keys Keystone happy happiness hoping "
    "hope hop planned plan planner embedding reliable reliability general generalizations getUser "
    "getUserName user_name café Cafés 用户 用户名 用Python写 数据 据库 a/b.py it's the 12:30 👍"
).split()
TEXTS = [
    *SAID,
    *(" ".join(SAID[at : at + 3]) for at in range(len(SAID))),
    *(" ".join(reversed(SAID[at : at + 2])) for at in range(len(SAID))),
]


@given(st.sampled_from(SAID), st.sampled_from(SAID), st.integers(1, 20), st.integers(0, 3))
@some
def test_index_and_text_agree_on_what_holds_a_unit(table, one, two, length, kind):
    """What the index does not bring is never looked at: it must bring all that hold the unit."""
    text = [one, f"{one[:length]}*", f'"{one} {two}"', f'"{one} {two[:length]}"*'][kind]
    for unit in read(text).units:
        found = table.execute("select rowid from t where t match ?", (unit.expression,))
        rows = {row for (row,) in found}
        holding = {number for number, each in enumerate(TEXTS) if holds(unit, each)}
        assert holding <= rows
        if not unit.needs_text:
            assert holding == rows


def test_very_long_queries_are_asked_too(table):
    """People paste whole pages."""
    page = " ".join(f"word{number}" for number in range(1000))
    for text in (page, f'"{page}"'):
        expression = " AND ".join(unit.expression for unit in read(text).units)
        assert not table.execute("select rowid from t where t match ?", (expression,)).fetchall()
    for prefix in ("es" * 30, "es" * 500):
        assert len(prefix_expression(prefix)) < 8000
