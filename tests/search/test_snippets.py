"""Snippets: one line that shows why a turn was found."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from convmem.search.hits import Snippet
from convmem.search.language.query import parse
from convmem.search.language.snippets import snippet

some = settings(max_examples=int(os.environ.get("CONVMEM_EXAMPLES", "200")), deadline=None)


def made(text: str, query: str, width: int = 160) -> Snippet:
    return snippet(text, parse(query).units, width=width)


def marked(text: str, query: str, width: int = 160) -> list[str]:
    found = made(text, query, width)
    return [found.text[start:end] for start, end in found.marks]


@pytest.mark.parametrize(
    ("text", "query", "expected"),
    [
        ("She painted it", "painting", "painted"),
        ("im Café", "cafe", "Café"),
        ("im Cafe\u0301 da", "café", "Café"),
        ("我们讨论了数据库索引", "数据库", "数据库"),
        ("call getUserName()", "user", "User"),
        ("call getUserName()", "getUserName", "getUserName"),
        ("the night train", '"night train"', "night train"),
        ("train by night", '"night train"', "train|night"),
        ("数据，据库 库", "数据库", "数据|据库"),
        ("painter, paint", "pai*", "painter|paint"),
        ("Straße ist offen", "strasse", "Straße"),
        ("night_train", "night-train", "night_train"),
        ("nothing here", "oslo", ""),
    ],
)
def test_hits_are_marked(text, query, expected):
    """Other forms of a word, accents, parts of names: whatever was found is marked."""
    assert marked(text, query) == [each for each in expected.split("|") if each]


def test_the_piece_with_the_most_units_is_shown():
    """A word that is everywhere must not hide the place where all of them stand."""
    filler = " and so on" * 40
    text = f"the train was late{filler} the night train to Oslo{filler} train"
    found = made(text, "oslo night train")
    assert "night train to Oslo" in found.text
    assert found.text.startswith("…") and found.text.endswith("…")


def test_the_first_of_equal_pieces_is_shown():
    """The beginning of an answer says most."""
    text = "x " * 200 + "oslo one " + "x " * 200 + "oslo two"
    assert "oslo one" in made(text, "oslo").text


def test_a_snippet_is_one_line_without_control_characters():
    """It is printed on a terminal, which would obey them."""
    found = made("a\r\n\tb\x1b[31mred\x1b[0m\x07\x9b\u202eolleh\u2028c\x1b]0;title\x07 d", "red")
    assert found.text == "a b red olleh c d"
    assert found.marks == [(4, 7)]


def test_words_are_not_cut_where_there_are_spaces():
    """Half a word reads like another word."""
    text = "wonderful " * 100 + "oslo " + "beautiful " * 100
    words = made(text, "oslo").text.strip("…").split()
    assert set(words) == {"wonderful", "oslo", "beautiful"}


def test_hit_in_a_long_text_is_found_behind_its_beginning():
    """A log of megabytes was found for a word at its end."""
    text = "lorem ipsum dolor " * 60_000 + "the needle"
    assert marked(text, "needles") == ["needle"]
    assert made(text, "absent").text.startswith("lorem ipsum")


@given(
    st.lists(st.sampled_from([*"ab \n\x1b[éß用户", "oslo ", "trainNight ", "👍🏽", "\u0301"])).map(
        "".join
    ),
    st.sampled_from(["oslo", "a b", "用户", '"a b"', "o*", "night", "absent"]),
    st.integers(1, 60),
)
@some
def test_snippets_are_never_too_wide_and_marks_are_in_order(text, query, width):
    """Tables are laid out by the width that was asked for."""
    found = made(text, query, width)
    assert len(found.text) <= max(width, 8)
    before = 0
    for start, end in found.marks:
        assert before <= start < end <= len(found.text)
        before = end + 1
    assert not set(found.text) & {"\n", "\x1b"}
