"""Pages: together they are all hits, each once, however alike these are."""

from __future__ import annotations

import pytest

from convmem import Archive, UsageError

TURNS = 23


def all_pages(archive, query, limit, **more):
    """Return (conversation, place) of every hit, page by page."""
    found = []
    page = archive.search(query, limit=limit, **more)
    while True:
        assert len(page) <= limit
        found += [(hit.continuation_id, hit.turn.seq, hit.turn.text) for hit in page]
        if page.cursor is None:
            return found
        page = archive.search(query, limit=limit, cursor=page.cursor, **more)


@pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
def test_turns_that_are_the_same_to_the_letter_are_all_shown(tmp_path, limit):
    """Lines that were written by hand without a time have nothing to be told apart by."""
    with Archive.open(tmp_path) as archive:
        for name in ("one", "two"):
            chat = archive.conversation(name)
            chat.record("user", "Hello there.")
            with open(chat.path, "a", encoding="utf-8") as log:
                log.write('{"role":"user","content":"The ferry was late."}\n' * TURNS)
        found = all_pages(archive, "ferry", limit)
    assert len(found) == 2 * TURNS
    assert {name for name, _, _ in found} == {"one", "two"}


@pytest.mark.parametrize("limit", [1, 4, 10])
def test_pages_have_each_turn_once(tmp_path, limit):
    """Who reads page after page misses nothing, and reads nothing twice."""
    with Archive.open(tmp_path) as archive:
        for nth in range(TURNS):
            archive.conversation(f"c{nth % 3}").record("user", f"ferry {nth} " + "late " * nth)
        found = all_pages(archive, "ferry", limit)
    assert len(found) == len(set(found)) == TURNS


@pytest.mark.parametrize("cursor", ["", "all", "all.1.2.3", "all.zz.1.1", "x" * 5000])
def test_a_cursor_that_is_none_is_wrong_usage(tmp_path, cursor):
    """A cursor is copied by hand, and the end of it is lost."""
    with Archive.open(tmp_path) as archive:
        archive.conversation("c").record("user", "ferry")
        with pytest.raises(UsageError, match="no search cursor"):
            archive.search("ferry", cursor=cursor)


def test_what_very_many_turns_hold_is_paged_to_its_end(tmp_path):
    """Only so many are ranked with all that stands beside them; the others come behind."""
    with Archive.open(tmp_path) as archive:
        turns = [("c", ("user", f"base filler {nth} word{nth % 7}")) for nth in range(1700)]
        archive.record_to_many(turns)
        found = all_pages(archive, "filler", 90)
        some = all_pages(archive, "word3 filler absentword", 200)
    assert [seq for _, seq, _ in sorted(found)] == list(range(1, 1701))
    assert len(some) == len(set(some)) == 1700
