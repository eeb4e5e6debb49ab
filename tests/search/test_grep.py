"""``Archive.grep``: which turns are found, with which neighbours, and what is no hit."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest

from convmem import Archive, ConversationNotFound
from convmem.errors import UsageError
from convmem.progress import Observer


@pytest.fixture
def chats(archive):
    """Two conversations: a trip of nine turns, and another one."""
    trip = archive.conversation("trip")
    for nth, (role, text) in enumerate(
        (
            ("user", "And by train?"),
            ("assistant", "About seven hours.\nThe Train leaves at nine."),
            ("user", "No more."),
            ("user", "filler"),
            ("assistant", "filler"),
            ("user", "filler"),
            ("tool", "last but one"),
            ("user", "again the train, from Zürich"),
            ("assistant", "café"),
        )
    ):
        trip.record(role, text, ts=f"2026-01-0{nth + 1}T09:00:00Z")
    archive.conversation("other").record("user", "a train of thought")
    return archive


def seqs(found):
    return [(hit.continuation_id, hit.turn.seq) for hit in found]


def test_the_hits_come_by_conversation_and_in_the_order_of_the_log(chats):
    """The same archive gives the same answer."""
    assert seqs(chats.grep("train")) == [("other", 1), ("trip", 1), ("trip", 2), ("trip", 8)]
    assert seqs(chats.grep("train", continuation_ids=["trip", "other"]))[-1] == ("other", 1)
    assert seqs(chats.grep("train", continuation_ids="other")) == [("other", 1)]


@pytest.mark.parametrize(
    ("pattern", "options", "expected"),
    [
        ("Train", {}, [2]),
        ("train", {"ignore_case": False}, [1, 8]),
        ("TRAIN", {"ignore_case": True}, [1, 2, 8]),
        ("ZÜRICH", {}, []),
        ("zürich", {}, [8]),
        ("zurich", {}, []),
        ("cafe", {}, []),
        ("CAFÉ", {"ignore_case": True}, [9]),
        (r"^the \w+ leaves", {}, [2]),
        ("hours.$", {}, [2]),
        ("hours.The", {}, []),
        (r"train\?", {}, [1]),
        ("train?", {"fixed": True}, [1]),
        (r"\Strain", {}, []),
        ("seven|last", {}, [2, 7]),
        ("user", {}, []),
        ("content", {}, []),
        ("2026", {}, []),
        ("train", {"invert": True}, [3, 4, 5, 6, 7, 9]),
        ("train", {"roles": ["assistant"]}, [2]),
        ("train", {"roles": "user", "max_per_conversation": 1}, [1]),
        ("train", {"max_per_conversation": 0}, []),
        ("train", {"since": datetime(2026, 1, 2, tzinfo=UTC)}, [2, 8]),
        ("train", {"until": datetime(2026, 1, 2, tzinfo=UTC)}, [1]),
        (re.compile("TRAIN", re.IGNORECASE), {}, [1, 2, 8]),
        (re.compile("Train"), {}, [2]),
        (re.compile("^The"), {}, []),
        (re.compile("t r a i n", re.VERBOSE), {}, [1, 8]),
        ("", {}, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
    ],
)
def test_which_turns_are_found(chats, pattern, options, expected):
    """Smart case, regular expressions, roles and times mean what they mean elsewhere."""
    found = chats.grep(pattern, continuation_ids=["trip"], **options)
    assert [hit.turn.seq for hit in found] == expected


@pytest.mark.parametrize("pattern", ["train", "[t]rain"], ids=["text", "expression"])
@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (1, 0, {1: ([], []), 2: ([1], []), 8: ([7], [])}),
        (0, 1, {1: ([], [2]), 2: ([], [3]), 8: ([], [9])}),
        (2, 2, {1: ([], [2, 3]), 2: ([1], [3, 4]), 8: ([6, 7], [9])}),
        (
            9,
            9,
            {
                1: ([], [2, 3, 4, 5, 6, 7, 8, 9]),
                2: ([1], [3, 4, 5, 6, 7, 8, 9]),
                8: ([1, 2, 3, 4, 5, 6, 7], [9]),
            },
        ),
    ],
)
def test_each_hit_has_its_neighbours(chats, pattern, before, after, expected):
    """What was said just before and after is often what is looked for."""
    found = chats.grep(pattern, continuation_ids=["trip"], before=before, after=after)
    assert {
        hit.turn.seq: ([each.seq for each in hit.before], [each.seq for each in hit.after])
        for hit in found
    } == expected


def test_what_is_no_text_is_no_hit(archive):
    """K15: keys, ids, meta and what another tool wrote were found, and texts were not."""
    chat = archive.conversation("c")
    chat.record(
        "needle",
        [{"type": "text", "text": "said", "needle": 1}, {"type": "image", "needle": "needle"}],
        id="needle",
        meta={"k": "needle"},
        raw={"said": "needle"},
    )
    assert seqs(archive.grep("needle")) == []
    chat.record("user", [{"type": "tool_use", "input": {"q": "a needle"}}])
    chat.record("assistant", "", tool_calls=[{"function": {"arguments": '{"q":"needle"}'}}])
    chat.record("user", {"n": 1e2, "m": [12345678901234567890123]})
    assert seqs(archive.grep("needle")) == [("c", 2), ("c", 3)]
    assert seqs(archive.grep('"needle"')) == [("c", 3)]
    assert seqs(archive.grep("100.0")) == seqs(archive.grep("8901234567890")) == [("c", 4)]


def test_what_nobody_said_is_found_only_by_its_role(archive):
    """An import keeps what a tool noted for itself; that is not what people look for."""
    chat = archive.conversation("c")
    chat.record("event", "needle", meta={"source": {"format": "x"}})
    chat.record("user", "needle")
    chat.record("event", "noted", meta={"source": {"format": "x"}})
    chat.record("user", "after")
    assert seqs(archive.grep("needle")) == [("c", 2)]
    assert seqs(archive.grep("needle", roles=["event"])) == [("c", 1)]
    (hit,) = archive.grep("needle", before=1, after=1)
    assert (hit.before, [each.seq for each in hit.after]) == ([], [4])


def test_a_batch_is_found_whole_or_not_at_all(archive, log):
    """What no reader sees as committed was never answered."""
    chat = archive.conversation("trip")
    chat.record("user", "before")
    chat.record_many([("user", "needle 1"), ("user", "needle 2"), ("user", "none")])
    assert seqs(archive.grep("needle")) == [("trip", 2), ("trip", 3)]
    whole = log().read_bytes()
    log().write_bytes(b"".join(whole.splitlines(keepends=True)[:3]))
    assert seqs(archive.grep("needle")) == []
    with log().open("ab") as file:
        file.write(b'{"role":"user","content":"needle by hand"}\n')
    assert [hit.turn.text for hit in archive.grep("needle")] == ["needle by hand"]


def test_damage_is_passed_over_and_told(root, log):
    """Who searches must know that something could not be read."""
    told = []

    class Watch(Observer):
        def damaged(self, continuation_id, damage):
            told.append((continuation_id, damage.offset, damage.reason))

    with Archive.open(root, observer=Watch()) as archive:
        for nth in range(3):
            archive.conversation("trip").record("user", f"needle {nth}")
        lines = log().read_bytes().splitlines(keepends=True)
        log().write_bytes(lines[0] + lines[1].replace(b"needle 1", b"needle 7") + lines[2])
        assert [hit.turn.text for hit in archive.grep("needle")] == ["needle 0", "needle 2"]
    assert told == [("trip", len(lines[0]), "checksum wrong")]


def test_compressed_conversations_are_searched_too(chats):
    """What is old is compressed, and what is looked for is often old."""
    expected = seqs(chats.grep("train"))
    chats.conversation("trip").compress()
    assert seqs(chats.grep("train")) == expected
    assert seqs(chats.grep("t[r]ain")) == expected


def test_who_is_named_and_not_there_is_an_error_and_who_vanishes_is_not(chats, log, monkeypatch):
    """Searching all conversations goes on while others delete some."""
    with pytest.raises(ConversationNotFound, match="nobody"):
        list(chats.grep("train", continuation_ids=["trip", "nobody"]))
    found = chats.grep("train")
    assert next(found).continuation_id == "other"
    log().unlink()
    assert list(found) == []
    assert list(chats.grep("train", namespace="nobody")) == []


def test_hits_come_as_they_are_found(chats):
    """The first hit in an archive of years is there before the last was looked for."""
    found = chats.grep("train", continuation_ids=["trip", "nobody"])
    assert next(found).turn.seq == 1


@pytest.mark.parametrize(
    ("pattern", "options", "said"),
    [
        ("(", {}, "unterminated subpattern at character 1"),
        ("a**", {}, "multiple repeat at character 3"),
        ("a{99999999999999999999}", {}, "cannot be used"),
        (re.compile(b"x"), {}, "not bytes"),
        (re.compile("x"), {"fixed": True}, "own flags"),
        ("x", {"before": -1}, "before must be"),
        ("x", {"max_per_conversation": 1.5}, "most must be"),
        ("x", {"since": datetime(2026, 1, 1)}, "no time zone"),
    ],
)
def test_what_cannot_be_meant_is_said_by_the_call_itself(archive, pattern, options, said):
    """An error that comes only with the first hit would be met in production."""
    with pytest.raises(UsageError, match=re.escape(said)):
        archive.grep(pattern, **options)


def test_a_hit_is_an_object_with_its_line_and_where_the_matches_are(chats):
    """What ``--json`` prints is what programs are written against."""
    (hit,) = chats.grep("Train")
    assert hit.as_dict() == {
        "continuation_id": "trip",
        "namespace": "default",
        "id": hit.turn.id,
        "seq": 2,
        "ts": "2026-01-02T09:00:00.000000Z",
        "role": "assistant",
        "snippet": "The Train leaves at nine.",
        "marks": [[4, 9]],
    }


@pytest.mark.parametrize("length", [0, 10, 59, 60, 61, 179, 180, 181, 1000])
def test_a_long_line_is_cut_around_its_first_match(archive, length):
    """A turn may be a megabyte on one line."""
    archive.conversation("c").record("user", "x" * length + "needle, needle" + "y" * length)
    (hit,) = archive.grep("needle")
    text = hit.snippet.text
    assert len(text) <= 242
    assert [text[first:behind] for first, behind in hit.snippet.marks] == ["needle"] * 2
    assert text.startswith("…") == (length > 113)
    assert text.endswith("…") == (length > 113)


def test_a_match_of_several_lines_is_shown_on_one(archive):
    """A snippet is one line, whatever was found."""
    archive.conversation("c").record("user", "zero\none\ntwo\nthree")
    (hit,) = archive.grep(r"ne\s+tw")
    assert hit.snippet.text == "one two"
    assert hit.snippet.marks == [(1, 6)]
    (hit,) = archive.grep("nine", invert=True)
    assert (hit.snippet.text, hit.snippet.marks) == ("zero", [])
    assert json.dumps(hit.as_dict())
