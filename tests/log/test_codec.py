"""The line format: what a seal is, what it catches, and what only looks like one."""

from __future__ import annotations

import json
import os
import re
import zlib
from datetime import datetime

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from convmem.log import codec
from convmem.turns import draft

few = settings(max_examples=int(os.environ.get("CONVMEM_EXAMPLES", "100")), deadline=None)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
# Content that looks like the format itself, or like what splits lines elsewhere.
LOOKALIKES = st.sampled_from(
    [
        ',"_c":"00000000"}',
        '","_c":"9f3a01bc"}\n',
        '","_b":["9f3a01bc",0,2]',
        '{"_last_seq":7,"_c":"00000000"}',
        '{"id":"x","seq":1,"ts":"","role":"user","content":""}',
        "\n",
        "\r\n",
        "\u2028\u2029\x85\x0b\x0c",
        "\\",
        '"',
        "\\u0000",
        {"_c": "9f3a01bc"},
        {"_b": ["9f3a01bc", 0, 2]},
        [["9f3a01bc", 0, 2]],
        {"role": "user", "content": "inner"},
    ]
)
CONTENTS = TEXT | LOOKALIKES | st.lists(TEXT | st.integers() | LOOKALIKES, max_size=3)
BATCHES = st.none() | st.tuples(
    st.binary(min_size=4, max_size=4).map(bytes.hex), st.integers(0, 9), st.integers(1, 9)
).map(lambda mark: (mark[0], mark[1], mark[1] + mark[2]))
STAMP = "2026-11-21T09:00:00.123456Z"
MOMENT = datetime.fromisoformat(STAMP)


@st.composite
def drafts(draw):
    keys = st.sampled_from(["tool_call_id", "raw", "x", "content2", 'a"b'])
    return draft(
        draw(st.sampled_from(["user", "assistant", 'say "hi"', "naïve", "a\\b"])),
        draw(CONTENTS),
        id=draw(st.none() | TEXT.filter(bool) | st.sampled_from(['"', "a\nb", '","seq":9,"'])),
        meta=draw(st.none() | st.dictionaries(TEXT, CONTENTS, max_size=2)),
        extra=draw(st.dictionaries(keys, CONTENTS, max_size=2)),
    )


def plain_line(content="hello", seq=1, batch=None, **more):
    return codec.turn_line(draft("user", content, **more), seq, STAMP, batch)[:-1]


@few
@given(drafts(), st.integers(1, 2**53 - 1), BATCHES)
def test_the_seal_is_the_crc_of_the_line_without_it(made, seq, batch):
    """Anybody must be able to check a log with zlib and a JSON parser, and nothing of ours."""
    line = codec.turn_line(made, seq, STAMP, batch)
    assert line[-1:] == b"\n" and line.count(b"\n") == 1
    assert re.fullmatch(rb',"_c":"[0-9a-f]{8}"\}\n', line[-18:])
    assert json.loads(line)["_c"] == f"{zlib.crc32(line[:-18] + b'}'):08x}"
    assert codec.is_sealed(line[:-1]) and codec.seal_holds(line[:-1])
    assert codec.fault_of(line[:-1]) is None


@few
@given(drafts(), st.integers(1, 2**53 - 1), BATCHES)
def test_what_was_written_is_what_is_read(made, seq, batch):
    """No content can end its line, forge a seal or join a batch."""
    line = codec.turn_line(made, seq, STAMP, batch)[:-1]
    turn = codec.parse(line)
    assert turn == made.stored_as(seq, MOMENT)
    assert made.says_the_same_as(turn)
    head = codec.head_of(line)
    assert (codec.text_of(head[0]), head[1], head[2], codec.text_of(head[3])) == (
        made.id,
        seq,
        STAMP,
        made.role,
    )
    assert codec.seq_of(line) == seq
    mark = codec.batch_mark(line)
    assert mark == (None if batch is None else (batch[0].encode(), *batch[1:]))
    assert codec.substance_crc(line) == codec.draft_substance(made)


@few
@given(drafts(), st.integers(1, 1000), BATCHES.filter(bool))
def test_a_turn_taken_out_of_its_batch_is_the_turn_recorded_alone(made, seq, batch):
    """Compaction takes turns out of batches; cursors and retries must still know them."""
    alone = codec.turn_line(made, seq, STAMP, None)
    together = codec.turn_line(made, seq, STAMP, batch)
    assert codec.without_batch(together[:-1]) == alone
    assert codec.line_crc(together[:-1]) == codec.line_crc(alone[:-1])
    assert codec.line_crc(alone[:-1]).encode() == alone[-11:-3]


@few
@given(drafts(), BATCHES, st.data())
def test_no_changed_byte_goes_unnoticed(made, batch, data):
    """P10: one byte that is not what was written is damage, or leaves the turn what it was."""
    line = codec.turn_line(made, 7, STAMP, batch)[:-1]
    at = data.draw(st.integers(0, len(line) - 1) | st.integers(len(line) - 17, len(line) - 1))
    byte = data.draw(st.integers(0, 255).filter(lambda byte: byte not in (0x0A, line[at])))
    changed = line[:at] + bytes([byte]) + line[at + 1 :]
    if codec.fault_of(changed) is None:
        assert codec.parse(changed) == codec.parse(line)


def test_no_changed_byte_of_the_seal_goes_unnoticed():
    """P10: a line whose seal is broken is no line by hand with one more key."""
    line = plain_line()
    for at in range(len(line) - 17, len(line)):
        for byte in set(range(256)) - {0x0A, line[at]}:
            changed = line[:at] + bytes([byte]) + line[at + 1 :]
            assert codec.fault_of(changed) or codec.parse(changed) == codec.parse(line), changed


def test_no_changed_byte_makes_a_batch_fall_apart_unnoticed():
    """A closing line that passes for a line by hand would leave its batch without an end."""
    line = plain_line(batch=("9f3a01bc", 1, 2))
    for at in range(len(line)):
        for bit in range(8):
            changed = line[:at] + bytes([line[at] ^ 1 << bit]) + line[at + 1 :]
            if b"\n" not in changed and codec.fault_of(changed) is None:
                assert codec.is_sealed(changed), changed


def test_a_torn_line_is_never_whole():
    """A prefix of a JSON object is no JSON object: what a crash cut off shows."""
    line = plain_line(content={"role": "user", "content": [{"role": "user", "content": "x"}]})
    for end in range(len(line)):
        assert codec.fault_of(line[:end]) is not None
        assert codec.fault_of(line[:end] + bytes(len(line) - end)) is not None


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"", codec.NOT_JSON),
        (b"42", codec.NOT_A_TURN),
        (b'"str"', codec.NOT_A_TURN),
        (b"null", codec.NOT_A_TURN),
        (b"[]", codec.NOT_A_TURN),
        (b"{}", codec.NOT_A_TURN),
        (b'{"role":"user"}', codec.NOT_A_TURN),
        (b'{"role":"","content":"x"}', codec.NOT_A_TURN),
        (b'{"role":5,"content":"x"}', codec.NOT_A_TURN),
        (b'{"content":"x"}', codec.NOT_A_TURN),
        (b'{"role":"user","content":"x"', codec.NOT_JSON),
        (b'{"role":"user","content":"\xff"}', codec.NOT_JSON),
        (b'{"role":"user","content":"\\ud800"}', codec.NOT_JSON),
        (b'{"role":"user","content":NaN}', codec.NOT_JSON),
        (b"\0\0\0", codec.NUL),
        (b'{"role":"user","content":"x\0"}', codec.NUL),
        (b'{"role":"user","content":"x"}', None),
        (b' {"content":null, "role":"user"} \r', None),
        (b'{"role":"user","content":"x","_c":"zz"}', None),
    ],
)
def test_lines_by_hand_are_read_or_named_for_what_they_are(line, fault):
    """A11, K8: `42` on a line is counted and passed over, not handed out as a turn."""
    assert codec.fault_of(line) == fault
    assert (codec.parse(line) is not None) == (fault is None)


@few
@given(st.integers(0, 2**63))
def test_the_line_that_remembers_the_highest_seq_is_no_turn(last_seq):
    """A reader must not show it, and `jq` must not choke on it."""
    line = codec.seq_floor_line(last_seq)[:-1]
    assert codec.fault_of(line) is None and codec.is_seq_floor(line)
    assert codec.seq_of(line) == last_seq == json.loads(line)["_last_seq"]
    assert codec.parse(line) is None


@few
@given(
    st.dictionaries(
        st.sampled_from(["_last_seq", "id", "seq", "ts", "role", "content"]),
        CONTENTS | st.integers(),
    )
)
@example({"_last_seq": "x", "role": "user", "content": "x"})
@example({"_last_seq": 5, "role": "user", "content": "x"})
@example({"id": "x"})
@example({"id": "x", "seq": 2**70, "ts": "", "role": "user", "content": "x"})
def test_a_line_by_hand_that_imitates_ours_is_read_as_what_it_says(value):
    """Rule 3: whatever stands on a line, no reader and no append stops at it."""
    for text in (json.dumps(value), json.dumps(value, separators=(",", ":"))):
        line = text.encode()
        if codec.fault_of(line) is None:
            turn = codec.parse(line)
            assert turn is not None
            assert codec.seq_of(line) == turn.seq
            assert not codec.is_seq_floor(line)


@few
@given(drafts(), drafts())
def test_other_content_has_another_substance(one, other):
    """A late retry is answered with the turn that was dropped only if it says the same."""
    assume(not one.says_the_same_as(other.stored_as(1, MOMENT)))
    assert codec.draft_substance(one) != codec.draft_substance(other)
