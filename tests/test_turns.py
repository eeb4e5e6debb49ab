"""Turns: what may be one, what it says as text, and whose the returned objects are."""

from __future__ import annotations

import collections
import enum
import os
import types
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convmem import InvalidTurn, Turn, TurnConflict
from convmem.turns import MAX_TURN_BYTES, draft, draft_from_object, drafts_from

few = settings(max_examples=int(os.environ.get("CONVMEM_EXAMPLES", "100")), deadline=None)

AWARE = st.datetimes(
    timezones=st.integers(-86_399, 86_399).map(lambda seconds: timezone(timedelta(seconds=seconds)))
)


@pytest.fixture
def chat(archive):
    return archive.conversation("trip")


# Role, id and keys


@pytest.mark.parametrize(
    "role", ["user", "assistant", "tool", "system", "développeur", "a b", "x" * 64]
)
def test_a_role_is_any_short_word(chat, role):
    """Providers invent roles faster than lists of them are kept."""
    chat.record(role, "hello")
    assert chat.tail(1)[0].role == role
    assert chat.tail(1, roles=[role])[0].role == role


@pytest.mark.parametrize(
    "role",
    [
        "",
        " ",
        " user",
        "user ",
        "a\nb",
        "a\x1b[2Jb",
        "a\u2028b",
        "\0",
        "x" * 65,
        "\ud800",
        None,
        5,
        ["user"],
    ],
)
def test_what_is_no_role_is_refused(chat, root, role):
    """A role with a line break forges a turn in every transcript that is printed (A13)."""
    with pytest.raises(InvalidTurn, match="role"):
        chat.record(role, "hello")
    assert not os.path.exists(root)


@pytest.mark.parametrize("turn_id", ["", 5, b"x", True, "x" * 1025, "é" * 513, "\ud800"])
def test_what_is_no_id_is_refused(chat, root, turn_id):
    """An id that is silently replaced would make every retry a new turn."""
    with pytest.raises(InvalidTurn, match="id"):
        chat.record("user", "hello", id=turn_id)
    assert not os.path.exists(root)


@pytest.mark.parametrize(
    "turn_id", ["1", "x" * 1024, 'a"b\\c', "line\nbreak", "\u2028", "😀", '","seq":9,"']
)
def test_any_text_can_be_an_id(chat, turn_id):
    """P6: whatever a client's ids look like, its retry finds the turn."""
    first = chat.record("user", "hello", id=turn_id)
    assert chat.record("user", "hello", id=turn_id) == first
    with pytest.raises(TurnConflict) as caught:
        chat.record("user", "other", id=turn_id)
    assert (caught.value.turn_id, caught.value.seq) == (turn_id, 1)
    assert [turn.id for turn in chat.turns()] == [turn_id]


@pytest.mark.parametrize(
    "change", [{"role": "tool"}, {"content": "b"}, {"meta": {}}, {"meta": {"k": 2}}, {"x": 2}]
)
def test_a_retry_that_says_something_else_is_a_conflict(chat, change):
    """O25: the first is kept; a silent overwrite would lose one of the two."""
    given_turn = {"role": "user", "content": "a", "id": "one", "meta": {"k": 1}, "x": 1}
    first = chat.record(**given_turn, ts="2026-11-21T09:00:00Z")
    assert chat.record(**given_turn, ts="2020-01-01T00:00:00Z") == first
    with pytest.raises(TurnConflict):
        chat.record(**(given_turn | change))
    assert list(chat.turns()) == [first]


@pytest.mark.parametrize("key", ["_", "_c", "_b", "_private", "continuation_id", "seq", "\ud800"])
def test_a_key_that_is_not_the_callers_is_refused(chat, root, key):
    """Keys with an underscore are how a log marks its own lines."""
    with pytest.raises(InvalidTurn):
        chat.record("user", "hello", **{key: 1})
    assert not os.path.exists(root)


def test_other_keys_are_kept_in_their_order(chat):
    """O4: fields that we know nothing of survive every read, `raw` among them."""
    more = {
        "z": 1,
        "raw": {"b": [1, None], "a": {"c": 2**70}},
        "a": "x",
        "": "empty",
        'q"uote': None,
    }
    chat.record("user", "hello", **more)
    (turn,) = chat.tail(1)
    assert list(turn.extra.items()) == list(more.items())
    assert list(turn.as_dict()) == ["id", "seq", "ts", "role", "content", *more]


def test_meta_is_an_object(chat):
    """`meta` has one shape, so that programs can merge into it."""
    chat.record("user", "a", meta=types.MappingProxyType({"k": (1, 2)}))
    chat.record("user", "b", meta={})
    chat.record("user", "c")
    assert [turn.meta for turn in chat.turns()] == [{"k": [1, 2]}, {}, None]
    for bad in (5, "text", [("k", 1)], {1: 2}, {"_": float("nan")}):
        with pytest.raises(InvalidTurn, match="meta"):
            chat.record("user", "d", meta=bad)


def test_content_keeps_its_kind(chat):
    """Storage never edits: an enum or a subclass that an encoder would turn is refused or exact."""

    class Word(enum.StrEnum):
        HELLO = "hello"

    class Level(enum.IntEnum):
        LOW = 1

    pair = collections.namedtuple("pair", "a b")
    chat.record("user", [Word.HELLO, pair(1, 2), True, 1, 1.0])
    found = chat.tail(1)[0].content
    assert repr(found) == "['hello', [1, 2], True, 1, 1.0]"
    for bad in (Level.LOW, enum.Enum("Plain", "X").X, range(3), iter([])):
        with pytest.raises(InvalidTurn, match="content"):
            chat.record("user", bad)


def test_a_turn_too_long_for_a_line_is_refused(chat, root):
    """Rule 5: the longest line bounds what every reader must hold."""
    with pytest.raises(InvalidTurn, match="too long"):
        chat.record("user", "x" * MAX_TURN_BYTES)
    assert not os.path.exists(root)


# Time


@few
@given(AWARE)
@example(datetime.min.replace(tzinfo=timezone(timedelta(hours=14))))
@example(datetime.max.replace(tzinfo=timezone(-timedelta(hours=12))))
@example(
    datetime(2026, 3, 1, 12, 0, 0, 1, tzinfo=timezone(timedelta(hours=5, minutes=30, seconds=15)))
)
def test_a_given_time_is_kept_or_refused(moment):
    """A22, K23: never replaced by the present, which is what a failed parse would give."""
    try:
        expected = moment.astimezone(UTC)
    except OverflowError:
        with pytest.raises(InvalidTurn, match="ts"):
            draft("user", "hello", ts=moment)
        return
    made = draft("user", "hello", ts=moment)
    assert made.ts == expected
    assert made.stored_as(1, made.ts).ts.utcoffset() == timedelta(0)


@pytest.mark.parametrize(
    ("ts", "stored"),
    [
        ("2026-11-21T09:00:00Z", "2026-11-21T09:00:00.000000Z"),
        ("2026-11-21T10:00:00.5+01:00", "2026-11-21T09:00:00.500000Z"),
        ("2026-11-21", "2026-11-21T00:00:00.000000Z"),
        (0, "1970-01-01T00:00:00.000000Z"),
        (1_790_000_000.25, "2026-09-21T14:13:20.250000Z"),
        (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000000Z"),
    ],
)
def test_a_time_is_stored_in_utc_to_the_microsecond(chat, log, ts, stored):
    """K23: "local time + Z" is how a day's turns came out of order."""
    answer = chat.record("user", "hello", ts=ts)
    assert f'"ts":"{stored}"'.encode() in log().read_bytes()
    assert chat.tail(1)[0].ts == answer.ts == datetime.fromisoformat(stored)


@pytest.mark.parametrize(
    "ts",
    [
        datetime(2026, 11, 21),
        "yesterday",
        "",
        "12:00",
        -1,
        1_790_000_000_000,
        float("nan"),
        True,
        [],
        b"x",
    ],
)
def test_what_is_no_time_is_refused(chat, root, ts):
    """A naive time means another moment on every machine."""
    with pytest.raises(InvalidTurn, match="ts"):
        chat.record("user", "hello", ts=ts)
    assert not os.path.exists(root)


def test_without_a_time_it_is_now(chat):
    """O1, O2: taken when the turn is appended, not when a class was defined."""
    before = datetime.now(UTC)
    first, second = chat.record("user", "a"), chat.record("user", "b")
    assert before <= first.ts <= second.ts <= datetime.now(UTC)
    assert [first, second] == list(chat.turns())


# Text


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("hello", "hello"),
        ("", ""),
        (None, ""),
        ([], ""),
        ([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}], "a\nb"),
        (["a", {"text": "b"}, None, "", {"content": "c"}, {"value": "d"}], "a\nb\nc\nd"),
        ({"text": "a"}, "a"),
        ({"other": 1}, '{"other":1}'),
        ([{"type": "image", "data": "…"}], '{"type":"image","data":"…"}'),
        ({"text": 5, "content": "x"}, "x"),
        (42, "42"),
        (True, "true"),
        ([[1, 2]], "[1,2]"),
    ],
)
def test_any_content_has_a_text(content, text):
    """Search, context and terminals show something for every shape, and never raise (K16)."""
    assert Turn("user", content).text == text


# Recording many


def test_turns_can_be_given_in_every_form(chat):
    """What was read can be recorded again, here and in another conversation."""
    first = chat.record("user", "a", id="one", meta={"k": 1}, x=[1])
    forms = [
        ("user", "pair"),
        {"role": "user", "content": "mapping", "ts": 5, "x": 1},
        types.MappingProxyType({"role": "user", "content": "proxy"}),
        Turn("user", "turn", meta={"k": 2}, extra={"y": 2}),
        first,
        {
            "id": "two",
            "seq": 99,
            "continuation_id": "else",
            "_c": "0",
            "_b": [],
            "role": "u",
            "content": "",
        },
    ]
    answers = chat.record_many(iter(forms))
    assert answers[4] == first
    assert [turn.seq for turn in answers] == [2, 3, 4, 5, 1, 6]
    assert list(chat.turns()) == [first, *answers[:4], answers[5]]
    assert answers[3].meta == {"k": 2} and answers[3].extra == {"y": 2}
    assert answers[5].id == "two" and answers[5].extra == {}
    assert chat.record_many([]) == []


@pytest.mark.parametrize(
    "bad",
    [
        "text",
        5,
        None,
        ("user",),
        ("user", "a", "b"),
        ["user", "a"],
        {"role": "user"},
        {"content": "a"},
        {"role": "user", "content": "a", "_x": 1},
        {"role": "user", "content": float("inf")},
        Turn("", "a"),
    ],
)
def test_one_bad_turn_keeps_all_out_and_is_named_by_its_number(chat, root, bad):
    """P1, A8: a batch is whole or not at all, also before it reaches the disk."""
    with pytest.raises(InvalidTurn, match=r"^turn 1: "):
        chat.record_many([("user", "good"), bad, ("user", "good")])
    assert not os.path.exists(root)


def test_an_id_twice_in_one_call_is_one_turn(chat):
    """P6: a client that retries within a batch means one turn, unless it says two things."""
    same = {"role": "user", "content": "a", "id": "one"}
    answers = chat.record_many([same, ("user", "b"), same])
    assert answers[0] == answers[2]
    assert [turn.content for turn in chat.turns()] == ["a", "b"]
    with pytest.raises(TurnConflict):
        chat.record_many([{**same, "id": "two"}, {**same, "id": "two", "content": "other"}])
    with pytest.raises(TurnConflict):
        chat.record_many([("user", "c"), {**same, "content": "other"}])
    assert [turn.content for turn in chat.turns()] == ["a", "b"]


@pytest.mark.parametrize("spelled", ["caf\\u00e9/1", "café\\/1", "café/1"])
def test_an_id_by_hand_is_found_however_it_is_spelled(chat, log, spelled):
    """P6: most JSON writers escape what is not ASCII, and some the slash; it is the same id."""
    chat.record("user", "first")
    with log().open("a", encoding="utf-8") as file:
        file.write(f'{{"id": "{spelled}", "role": "user", "content": "by hand"}}\n')
    assert chat.tail(1)[0].id == "café/1"
    for _ in range(4):  # the first look-ups search the bytes, later ones may know the ids
        chat.record("user", "by hand", id="café/1")
    assert [turn.content for turn in chat.turns()] == ["first", "by hand"]


# Whose it is


def test_changing_what_was_given_changes_nothing_stored(chat):
    """A14, rule 7: the caller goes on using its lists."""
    content, meta, more = [{"text": "a"}], {"k": [1]}, {"deep": [1]}
    answer = chat.record("user", content, meta=meta, more=more)
    content[0]["text"] = content[0]["new"] = "changed"
    meta["k"].append(2)
    more["deep"].clear()
    for turn in (answer, chat.tail(1)[0]):
        assert (turn.content, turn.meta) == ([{"text": "a"}], {"k": [1]})
        assert turn.extra == {"more": {"deep": [1]}}


def test_changing_what_was_returned_changes_nothing_stored(chat):
    """A14, K14, rule 7: not for this reader, nor for any other, nor for a retry."""
    given_turn = {
        "role": "user",
        "content": [{"text": "a"}],
        "id": "one",
        "meta": {"k": [1]},
        "x": [1],
    }

    def spoil(turn):
        turn.content[0]["text"] = "changed"
        turn.content.append("more")
        turn.meta["k"] = turn.extra["x"] = None
        turn.role, turn.id, turn.seq, turn.ts = "nobody", "none", -1, None
        turn.extra["_c"] = "0"

    spoil(chat.record(**given_turn))
    followed = chat.follow(idle_timeout=0)
    readers = [
        lambda: chat.tail(1)[0],
        lambda: next(chat.turns()),
        lambda: chat.record(**given_turn),
        lambda: chat.record_many([given_turn, given_turn])[1],
        lambda: next(followed),
        lambda: chat.stored_tail(1)[0].turn,
    ]
    for read in readers:
        turn = read()
        assert (turn.content, turn.meta) == ([{"text": "a"}], {"k": [1]})
        assert (turn.role, turn.id, turn.seq, turn.extra) == ("user", "one", 1, {"x": [1]})
        spoil(turn)


def test_drafts_are_made_without_a_file(tmp_path):
    """Checks cost no disk, so a command can check all its lines first."""
    made = drafts_from([("user", "a"), {"role": "user", "content": "b"}])
    assert [each.content for each in made] == ["a", "b"]
    assert (
        draft_from_object({"role": "user", "content": "a", "id": None, "ts": None}).is_given
        is False
    )
    assert list(tmp_path.iterdir()) == []


def test_turns_are_equal_by_what_they_say():
    """Two reads of one turn are equal; a turn is no key, since it can change."""
    assert Turn("user", "a") == Turn("user", "a")
    assert Turn("user", "a") != Turn("user", "b")
    assert Turn("user", "a") != ("user", "a")
    assert "x" * 40 in repr(Turn("user", "x" * 40)) and len(repr(Turn("user", "x" * 1000))) < 150
    with pytest.raises(TypeError):
        hash(Turn("user", "a"))
