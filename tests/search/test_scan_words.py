"""A search without an index: what only it does. That it answers the same: test_index_in_step."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from index_asked import WITHOUT, asked, without_index

from convmem import Archive
from convmem.log.blocks import good_blocks
from convmem.log.files import Folder
from convmem.log.read import Reader
from convmem.progress import Observer
from convmem.search import scan, space, terms
from convmem.search.index.rows import mark_of, row_of, rows_of
from convmem.search.language.words import index_text, index_tokens, stem
from convmem.search.page import INDEX, SCAN


class Watching(Observer):
    """Keeps what it is told of progress."""

    def __init__(self) -> None:
        self.told: list[tuple[str, int]] = []

    def started(self, task: str, total: int) -> None:
        self.told.append((f"started {task}", total))

    def advanced(self, task: str, amount: int) -> None:
        self.told.append((task, amount))

    def finished(self, task: str) -> None:
        self.told.append((f"finished {task}", 0))


def test_it_says_that_it_was_a_scan_and_how_far_it_is(tmp_path):
    """It takes longer: whoever waits should know why, and for how long."""
    watching = Watching()
    with Archive.open(tmp_path / "archive", observer=watching) as archive:
        chat = archive.conversation("trip")
        chat.record_many([("user", "night train " * 2000)] * 100)
        watching.told.clear()
        with without_index():
            page = archive.search("train")
    assert page.how == SCAN
    assert page.notes[0].startswith(WITHOUT)
    (first, total), *between, (last, _) = watching.told
    assert (first, last) == (f"started {scan.TASK}", f"finished {scan.TASK}")
    assert len(between) > 1
    assert sum(amount for _, amount in between) == total


def test_long_words_are_told_apart_as_fts5_does(tmp_path, monkeypatch):
    """It keeps 32 KiB of a word: an encoded picture is one."""
    monkeypatch.setattr(space, "snippet", lambda text, units: text[:40])
    with Archive.open(tmp_path / "archive", durability="none") as archive:
        chat = archive.conversation("trip")
        for letter in "ab":
            chat.record("user", "x" * 32767 + letter + "y")
            chat.record("user", "x" * 32768 + letter)
        for query in ("x" * 32767 + "ay", "x" * 32768 + "a", "x" * 32768, "x" * 40000):
            with without_index():
                scanned = asked(archive, query, SCAN)
            assert asked(archive, query, INDEX) == scanned


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("aeiybdlnrstzcfumé"), max_size=14))
def test_a_stem_begins_as_its_word_but_for_its_last_letters(word):
    """By its beginning a text is passed over that cannot hold the word."""
    for token in index_tokens(word):
        beginning = stem(token)
        beginning = beginning[: max(1, len(beginning) - terms._STEMMED_LETTERS)]
        assert beginning in index_text(word).lower()


def test_rows_of_a_block_are_those_of_its_lines(tmp_path):
    """Many lines at once take a third of the time, to the same rows."""
    with Archive.open(tmp_path / "archive", durability="none") as archive:
        chat = archive.conversation("trip")
        contents = ("text", "", "asks?", ["a", {"text": "b"}], {"n": 15}, "é\n")
        for at, content in enumerate(contents * 3):
            meta = {"source": "x"} if at % 4 == 0 else None
            role = "event" if at % 3 == 0 else f"role {at % 5}"
            chat.record(role, content, meta=meta, tool_calls=[{"name": "f"}] if at % 7 else None)
        chat.record_many([("user", content) for content in contents])
        folder = Folder.open(str(tmp_path / "archive" / "default"))
        with Reader(folder, "trip") as reader:
            blocks = good_blocks(reader.fd, reader.end)
            at_once = [row for block in blocks for row in rows_of(block) or ()]
            singly = [
                row_of(stored, mark_of(stored.line))
                for stored in reader.in_order(lambda damage: None)
            ]
    assert at_once == singly
