"""Words that are gone for good are in no file, the index least of all."""

from __future__ import annotations

from datetime import timedelta

import pytest

from convmem import Archive

SECRET = "hunterzwei77secret"


def files_with(root, word):
    return [
        path.name
        for path in root.rglob("*")
        if path.is_file() and word.encode() in path.read_bytes()
    ]


@pytest.mark.parametrize("only", [["s1"], None])
def test_what_a_person_purged_has_no_word_left(tmp_path, only):
    """The index is the last place where anybody would look, and the first where a thief does."""
    with Archive.open(tmp_path) as archive:
        archive.conversation("s1").record("user", f"my password is {SECRET}")
        archive.conversation("s2").record("user", "and here is none")
        assert len(archive.search(SECRET)) == 1
        assert any(name.startswith("search-") for name in files_with(tmp_path, SECRET[6:]))
        archive.conversation("s1").delete()
        assert len(archive.search(SECRET)) == 0
        assert archive.purge_trash(timedelta(0), only=only)
        assert files_with(tmp_path, SECRET[6:]) == []
        assert len(archive.search("here")) == 1
