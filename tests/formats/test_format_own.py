"""convmem's own lines: what was printed, exported or copied comes back as it was, id and all."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_lines import JSON, TEXT, Lines, begins, read, records, samples

from convmem import Archive
from convmem.formats import own
from convmem.formats.protocol import EVENT, Kept

few = settings(max_examples=200, deadline=None)

TURN = {
    "continuation_id": "oslo-trip",
    "id": "t1",
    "seq": 7,
    "ts": "2026-11-21T09:00:00.000000Z",
    "role": "user",
    "content": "hello",
}


def shown(turn):
    """Return what of a turn must come back."""
    value = turn.as_dict()
    value.pop("seq")
    return value


# --- recognising -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "sample"), samples(), ids=lambda value: getattr(value, "name", value)
)
def test_no_other_format_is_taken_for_convmems(folder, sample):
    """Its turns would come without their tools, their times and their raw records."""
    assert folder != "convmem"
    assert not own.recognises(sample)


@pytest.mark.parametrize(
    "value",
    [
        {"role": "user", "content": "hi"},
        {"role": "user", "content": "hi", "id": "m1", "type": "message"},
        {"seq": 1, "id": "a", "ts": "x"},
        {"messages": [TURN]},
        [TURN],
    ],
)
def test_what_is_near_it_is_not_taken_for_it(value):
    """Messages of other programs have a role and content too."""
    assert not own.recognises(Lines(value).sample)


def test_prints_and_logs_are_recognised(tmp_path):
    """By what convmem alone adds to a turn."""
    assert own.recognises(Lines({"role": "user", "content": "by hand"}, TURN).sample)
    assert own.recognises(
        Lines({key: TURN[key] for key in TURN if key != "continuation_id"}).sample
    )
    with Archive.open(tmp_path / "a") as archive:
        archive.conversation("x").record("user", "hi")
    [log] = tmp_path.rglob("x.jsonl")
    assert own.recognises(Lines.of_file(log).sample)


# --- as it was ---------------------------------------------------------------------------------

KEYS = TEXT.filter(
    lambda key: (
        not key.startswith("_")
        and key not in ("id", "seq", "ts", "role", "content", "meta", "continuation_id", "raw")
    )
)


@settings(max_examples=60, deadline=None)
@given(
    content=JSON,
    meta=st.none() | st.dictionaries(TEXT, JSON, max_size=3),
    extra=st.dictionaries(KEYS, JSON, max_size=3),
    raw=st.none() | st.tuples(JSON),
)
def test_a_logs_turns_come_back_as_they_were(tmp_path_factory, content, meta, extra, raw):
    """An archive that is moved by copying its logs must be the same archive."""
    folder = tmp_path_factory.mktemp("own")
    if raw is not None:
        extra = extra | {"raw": raw[0]}
    turn = {"id": "a", "role": "user", "content": content, "meta": meta, **extra}
    if meta is None:
        del turn["meta"]
    with Archive.open(folder / "archive", durability="none") as archive:
        chat = archive.conversation("Oslo trip/1")
        chat.record("user", "before")
        chat.record_many([turn, {"role": "tool", "content": "after"}])
        stored = list(chat.turns())
    [log] = folder.rglob("*.jsonl")
    found = read(own, Lines.of_file(log))
    assert {name for name, _ in found} == {"Oslo trip/1"}
    for (_, record), turn in zip(found, stored, strict=True):
        # The turn that an importer stores: all but ``raw``, which is kept as bytes.
        kept = shown(turn)
        raw_kept = kept.pop("raw", None)
        assert shown(record.turn) == kept
        assert (record.role, record.content, record.id) == (turn.role, turn.content, turn.id)
        assert record.meta == (turn.meta or {})
        if record.raw is None:
            assert raw_kept is None
        else:
            text = record.raw
            assert (text if isinstance(text, str) else json.loads(text)) == raw_kept


def test_the_bytes_of_a_turns_own_source_record_are_kept():
    """It was imported once, and may still be exported to the byte after it was moved."""
    spelled = b'{"n": 1.50, "n": 2, "raw":{}}'
    line = json.dumps(TURN).encode()[:-1] + b',"raw":' + spelled + b"}"
    [record] = records(own, Lines(raws=[line]))
    assert record.raw == spelled
    assert "raw" not in record.turn.extra
    [again] = own.native([Kept(record.turn, record.raw)])
    assert again.endswith(b',"raw":' + spelled + b"}\n")


@few
@given(st.lists(st.fixed_dictionaries({"role": TEXT | JSON, "content": JSON}, optional={
    "id": JSON, "ts": JSON, "meta": JSON, "raw": JSON, "seq": JSON, "continuation_id": TEXT | JSON,
    "name": JSON}) | JSON, max_size=5))  # fmt: skip
def test_no_line_is_lost_whatever_it_holds(values):
    """A line that is no turn was somebody's all the same."""
    found = records(own, Lines(*values, stem="x"))
    assert len(found) == len(values)
    for record, value in zip(found, values, strict=True):
        if type(record) is own.OwnRecord:
            assert record.content == value["content"]
            assert (record.raw is not None) == (value.get("raw", ...) is not ...)
        else:
            assert (record.role, record.is_known) == (EVENT, False)
            assert json.loads(record.raw) == value


@few
@given(st.lists(st.sampled_from(["a", "b", None]), max_size=6), st.integers(0, 6))
def test_turns_belong_to_the_conversation_that_they_name(names, cut):
    """One export may hold a whole archive."""
    values = [TURN | {"id": str(at), "continuation_id": name} for at, name in enumerate(names)]
    memory = {}
    found = read(own, Lines(*values[:cut], stem="file"), memory)
    found += read(own, Lines(*values[cut:], stem="file"), json.loads(json.dumps(memory)))
    expected = []
    for name in names:
        expected.append(name or (expected[-1] if expected else "file"))
    assert [name for name, _ in found] == expected


def test_lines_by_hand_have_no_id_and_no_time():
    """Logs may be written with any editor; such lines are turns."""
    values = [{"role": "user", "content": "by hand"}, TURN | {"ts": "yesterday", "id": ""}]
    for record in records(own, Lines(*values)):
        assert (record.id, record.ts) == (None, None)


def test_what_a_log_remembers_of_removed_turns_is_no_turn(tmp_path):
    """Bringing it back would leave a hole in the order of another log."""
    floor = {"_last_seq": 9, "_c": "9f3a01bc"}
    assert len(records(own, Lines(floor, TURN))) == 1


@pytest.mark.parametrize(
    ("stem", "name"),
    [("oslo", "oslo"), ("%4fslo%20trip", "Oslo trip"), ("Not Ours", "Not Ours"), ("", None)],
)
def test_a_log_is_of_the_conversation_that_its_name_stands_for(stem, name):
    """Its lines do not say it."""
    turn = {key: TURN[key] for key in TURN if key != "continuation_id"}
    assert begins(own, Lines(turn, stem=stem)) == [(name, None)]


def test_native_gives_the_lines_again():
    """What is exported can be imported, and is the same."""
    turn = TURN | {"meta": {"a": 1}, "name": "x"}
    del turn["continuation_id"]
    [record] = records(own, Lines(turn))
    assert [json.loads(line) for line in own.native([Kept(record.turn, None)])] == [turn]
