"""Whatever is asked, and whatever conversations are called: an answer, not an accident."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from index_asked import WITHOUT, without_index

from convmem import Archive
from convmem.errors import ConversationNotFound
from convmem.progress import Observer
from convmem.search.language.words import tokens

EXAMPLES = int(os.environ.get("CONVMEM_EXAMPLES", "100"))
few = settings(max_examples=EXAMPLES, deadline=None)

LONG = "x" * 1024
IDS = (
    'a"b',
    "a'b",
    "line\nbreak",
    "100%",
    "%s",
    "*",
    "drop table log; --",
    LONG,
    "用户",
    ".hidden",
)
HOSTILE = (
    "",
    '"',
    '""""',
    "-",
    "- - -",
    "-----",
    "*",
    "^",
    ":",
    "(",
    ")",
    "NEAR(",
    "NEAR(night train, 2)",
    "AND",
    "OR NOT",
    "night AND NOT train",
    '"night',
    'night"',
    '-"night',
    'night" train" "',
    "text:night",
    "{text}:night",
    "words MATCH 'x'",
    "'; drop table turn; --",
    "night\0train",
    "\0",
    "\ud800",
    "night \udfff train",
    'role:"\ud800"',
    "meta.\ud800:x",
    "meta.a.b.c.d:",
    "meta..:x",
    "since:yesterday-ish",
    "since:9999999999d",
    "until:-1",
    "role:",
    "role:,",
    "night*",
    "*night",
    '"night tr"*',
    "e*",
    "\u0301",
    "\u200b",
    "\U0001f642",
    "a" * 70_000,
    "ü" * 40_000,
    " ".join(f"w{at}" for at in range(10_000)),
    " ".join(f"w{at}*" for at in range(2_000)),
    " ".join(f"-w{at}" for at in range(10_000)),
    "x " * 50_000 + "y" * 900_000,
    "用户" * 5_000,
)


@pytest.fixture(scope="module")
def said(tmp_path_factory):
    """An archive that all of these may ask."""
    root = tmp_path_factory.mktemp("hostile") / "archive"
    with Archive.open(root, durability="none", observer=Observer()) as archive:
        chat = archive.conversation("trip")
        chat.record("user", "the night train to Oslo", meta={"a": {"b": "c"}})
        chat.record("assistant", "w1 w2 w3 -- NEAR AND")
        log = Path(chat.path)
        with log.open("ab") as file:
            # As JSON allows it, and no text can be.
            file.write(b'{"role":"user","content":"night \\ud800 train"}\n')
            file.write(b'{"role":"us\\udfffer","content":"night \\u0000 train"}\n')
            file.write(b'{"role":"user","content":["night",1e400,-0.0,12345678901234567890]}\n')
            file.write(b'{"role":"user","seq":99999999999999999999999,"content":"night"}\n')
            file.write(b'{"role":"user","ts":"0001-01-01T00:00:00Z","content":"first night"}\n')
            file.write(b'{"role":"user","ts":"9999-12-31T23:59:59.999999Z","content":"last"}\n')
        yield archive


def _asked(archive: Archive, query: str) -> list[tuple[object, ...]]:
    page = archive.search(query, limit=20)
    notes = [note for note in page.notes if not note.startswith(WITHOUT)]
    # What was written by hand twice at no time comes in any order.
    return [
        page.matched,
        notes,
        sorted((hit.score, repr(hit.turn.as_dict()), repr(hit.snippet)) for hit in page),
    ]


@pytest.mark.parametrize("query", HOSTILE, ids=range(len(HOSTILE)))
def test_any_text_is_a_query(said, query):
    """People paste what they have: an error message, a megabyte, half a string."""
    found = _asked(said, query)
    with without_index():
        assert found == _asked(said, query)


@pytest.mark.parametrize("name", ["\ud800", "\0", "", "x" * 2000, "nobody"], ids=range(5))
def test_an_id_that_nothing_has_is_an_error_in_words(said, name):
    """Of a conversation that is not there "no hits" would be a lie."""
    with pytest.raises(ConversationNotFound):
        said.search("night", continuation_ids=[name])


@few
@given(st.text(max_size=40) | st.text('"-*:()^ antrw\\', max_size=20))
def test_any_text_at_all_is_a_query(said, query):
    """What nobody thought of, too."""
    found = _asked(said, query)
    with without_index():
        assert found == _asked(said, query)


@few
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60))
def test_what_somebody_said_is_found_by_saying_it(tmp_path_factory, text):
    """Word for word, in any script; where there is no word in it there is nothing to find."""
    with Archive.open(tmp_path_factory.mktemp("said"), durability="none") as archive:
        archive.conversation("trip").record("user", text)
        said = tokens(text)
        if said:
            quoted = text.translate(dict.fromkeys(map(ord, '"“”„‟«»＂'), " "))
            (hit,) = archive.search(f'"{quoted}"')
            assert hit.turn.content == text


@pytest.mark.parametrize("name", IDS, ids=range(len(IDS)))
@pytest.mark.parametrize("how", ["index", "scan"])
def test_conversations_may_be_called_anything(tmp_path, name, how):
    """An id is text of the user's, and no part of a statement or a path."""
    with Archive.open(tmp_path / "archive", durability="none") as archive:
        archive.conversation(name).record("user", "night train")
        archive.conversation("other").record("user", "night bus")
        with without_index() if how == "scan" else contextlib.nullcontext():
            hits = archive.search("night train", continuation_ids=[name]).hits
            assert [hit.continuation_id for hit in hits] == [name]
            everywhere = archive.search("night").hits
            assert {hit.continuation_id for hit in everywhere} == {name, "other"}
