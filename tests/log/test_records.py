"""Committed or not: what readers take from a log that holds damage, torn batches and holes."""

from __future__ import annotations

import contextlib
import json
import os
import tempfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convmem.log import codec, heal, lines, records
from convmem.log.read import turns_of
from convmem.turns import draft

EXAMPLES = int(os.environ.get("CONVMEM_EXAMPLES", "100"))
few = settings(max_examples=EXAMPLES, deadline=None)
many = settings(max_examples=5 * EXAMPLES, deadline=None)

STAMP = "2026-11-21T09:00:00.123456Z"


@contextlib.contextmanager
def file_of(data):
    with tempfile.TemporaryFile() as file:
        file.write(data)
        file.flush()
        yield file.fileno()


def turn(seq, content="hello you", batch=None):
    return codec.turn_line(draft("user", content, id=f"t{seq}"), seq, STAMP, batch)


def batch(seq, count, name=None):
    """Return the lines of a batch of *count* turns from *seq* on."""
    name = name or f"{seq:08x}"
    return [turn(seq + at, batch=(name, at, count)) for at in range(count)]


def starts_of(parts):
    """Return where each part of a file begins."""
    starts, at = [], 0
    for part in parts:
        starts.append(at)
        at += len(part)
    return starts


def read(data):
    """Return the offsets of what is committed, forwards and backwards, and the damage of each."""
    with file_of(data) as fd:
        end = lines.finished_end(fd, len(data))
        ahead, back, told_ahead, told_back = [], [], [], []
        for record in records.forward(fd, 0, end, told_ahead.append):
            assert data[record.offset : record.end] == record.data
            ahead.append(record.offset)
        for record in records.backward(fd, end, told_back.append):
            assert data[record.offset : record.end] == record.data
            back.append(record.offset)
    return ahead, back[::-1], told_ahead, told_back


@st.composite
def files(draw, *, kinds=("turn", "batch", "half", "holed", "nul", "junk", "hand")):
    """Draw a file as (lines, which of them are whole single turns)."""
    parts, single = [], []
    seq = 1
    for kind in draw(st.lists(st.sampled_from(kinds), max_size=8)):
        made = []
        if kind == "turn":
            made = [turn(seq, draw(st.sampled_from(["", "x" * 50, "\u2028", '"_b":["'])))]
        elif kind in ("batch", "half", "holed"):
            made = batch(seq, draw(st.integers(2, 5)))
            if kind == "half":
                made = made[: draw(st.integers(1, len(made) - 1))]
            elif kind == "holed":  # a power cut took a piece, line ends included or not
                at = draw(st.integers(0, len(made) - 1))
                made[at] = bytes(len(made[at]) - 1) + draw(st.sampled_from([b"\n", b"\0"]))
        elif kind == "nul":
            made = [bytes(draw(st.integers(1, 20))) + b"\n"]
        elif kind == "junk":
            made = [draw(st.sampled_from([b"\n", b"42\n", b"{}\n", b'{"id":"t\n', b"\xff\xfe\n"]))]
        elif kind == "hand":
            made = [b'{"role":"user","content":"by hand"}\n']
        parts += made
        single += [kind in ("turn", "hand")] * len(made)
        seq += 5
    return parts, single


@many
@given(files(), st.data())
def test_forward_and_backward_agree_on_what_is_committed(found, data):
    """`tail` and `turns` show one truth; healing cuts by the one what the other has shown."""
    parts, _ = found
    content = bytearray(b"".join(parts))
    for _ in range(data.draw(st.integers(0, 2)) if content else 0):
        content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    ahead, back, _, _ = read(bytes(content))
    assert ahead == back


@many
@given(files(), st.data())
def test_damage_never_hides_a_turn_that_it_did_not_hit(found, data):
    """P10, A5, K8, O23: bad lines use up nothing, before or after them."""
    parts, single = found
    starts = starts_of(parts)
    content = bytearray(b"".join(parts))
    hit = set()
    for _ in range(data.draw(st.integers(0, 3)) if content else 0):
        at = data.draw(st.integers(0, len(content) - 1))
        content[at] ^= data.draw(st.integers(1, 255))
        hit.add(at)
    ahead, back, _, _ = read(bytes(content))
    for start, part, is_single in zip(starts, parts, single, strict=True):
        end = start + len(part)
        untouched = not any(start - 1 <= at < end for at in hit)
        begins = start == 0 or content[start - 1] == 0x0A
        if is_single and untouched and begins:
            assert start in ahead
            assert start in back


@few
@given(files(kinds=("turn", "batch", "hand")))
def test_a_sound_log_is_read_whole(found):
    """Every line of every whole batch is there, and nothing is called damage."""
    parts, _ = found
    ahead, back, told_ahead, told_back = read(b"".join(parts))
    assert ahead == back == starts_of(parts)
    assert told_ahead == told_back == []


@pytest.mark.parametrize(("count", "kept"), [(2, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("follower", ["nothing", "turn", "batch", "hand"])
def test_a_batch_without_its_closing_line_shows_nothing(count, kept, follower):
    """P1: a batch is there whole or not at all, also after other turns came behind it."""
    what_follows = {
        "nothing": b"",
        "turn": turn(9),
        "batch": b"".join(batch(20, 2)),
        "hand": b'{"role":"user","content":"by hand"}\n',
    }[follower]
    head = turn(1)
    data = head + b"".join(batch(2, count)[:kept]) + what_follows
    ahead, back, *_ = read(data)
    assert ahead == back
    assert not set(ahead) & set(range(len(head), len(data) - len(what_follows)))
    assert 0 in ahead


@pytest.mark.parametrize("tail", [b"\0\0\0\n", b"junk\n", b"\0" * 9 + b'n","_c":"00000000"}\n'])
def test_what_was_torn_behind_a_batch_takes_nothing_from_it(tail):
    """P2: a power cut that tears the next append leaves the answered batch where it is."""
    parts = [turn(1), *batch(2, 3)]
    ahead, back, *_ = read(b"".join(parts) + tail)
    assert ahead == starts_of(parts)
    assert back == starts_of(parts)
    with file_of(b"".join(parts) + tail) as fd:
        assert heal.find_end(fd, len(b"".join(parts) + tail)).committed == len(b"".join(parts))


def test_a_batch_with_a_hole_was_never_answered():
    """P1: where a power cut left NUL bytes in the middle of a batch, none of it is shown."""
    for count in (2, 3, 4):
        for hole in range(count):
            parts = [turn(1), *batch(2, count), turn(9)]
            parts[1 + hole] = bytes(len(parts[1 + hole]) - 1) + b"\n"
            ahead, back, *_ = read(b"".join(parts))
            assert ahead == back == [0, starts_of(parts)[-1]], (count, hole)


def changes_of_one_byte(data):
    for at in range(len(data)):
        for bit in range(8):
            yield at, data[:at] + bytes([data[at] ^ 1 << bit]) + data[at + 1 :]


def neighbours_hidden(parts):
    """Return the single-bit changes after which a line that was not hit is not read."""
    data = b"".join(parts)
    starts = starts_of(parts)
    found = []
    with tempfile.TemporaryFile(buffering=0) as file:
        for at, changed in changes_of_one_byte(data):
            file.seek(0)
            file.write(changed)
            size = lines.finished_end(file.fileno(), len(changed))
            seen = {record.offset for record in records.forward(file.fileno(), 0, size, _pass)}
            back = {record.offset for record in records.backward(file.fileno(), size, _pass)}
            for start, part in zip(starts, parts, strict=True):
                if start - 1 <= at < start + len(part):
                    continue
                if start not in seen or start not in back:
                    found.append((at, data[at : at + 1], changed[at : at + 1], start))
    return found


def _pass(damage):
    """Only what is read is looked at."""


def test_one_changed_bit_hides_no_turn_beside_it():
    """P10: bit rot costs the line that it hit, or two where it hit the newline between them."""
    assert neighbours_hidden([turn(1), turn(2), turn(9)]) == []


def test_one_changed_bit_hides_no_turn_of_the_same_batch():
    """P10: a batch that was answered is made of turns like all others."""
    hidden = neighbours_hidden([turn(1), *batch(2, 3), turn(5)])
    changes = {(before, after) for _, before, after, _ in hidden}
    assert not hidden, f"{len(hidden)} changes hide a neighbour, such as {sorted(changes)[:20]}"


@pytest.mark.parametrize("name", ["given", "batched"])
def test_a_turn_of_a_torn_batch_is_not_taken_for_stored(archive, log, name):
    """P6: the retry of a batch that a power cut tore is stored, not answered with what is gone."""
    chat = archive.conversation("trip")
    chat.record("user", "before")
    parts = batch(2, 3)
    parts[1] = bytes(len(parts[1]) - 1) + b"\n"
    with log().open("ab") as file:
        file.write(b"".join(parts) + turn(5))
    retry = [{"role": "user", "content": "hello you", "id": f"t{seq}"} for seq in (2, 3, 4)]
    if name == "given":
        for each in retry:
            chat.record(**each)
    else:
        chat.record_many(retry)
    assert [each.id for each in chat.tail(4)] == ["t5", "t2", "t3", "t4"]


def everything_reads(data):
    """Ask every question that readers, followers and writers ask of a log's bytes."""
    with file_of(data) as fd:
        end = lines.finished_end(fd, len(data))
        told = []
        for start in (0, end // 2 and lines.line_start_after(fd, end // 2, end)):
            for stored in turns_of(records.forward(fd, start, end, told.append), told.append):
                assert isinstance(stored.turn.role, str)
                assert stored.role == stored.turn.role
                assert stored.seq == stored.turn.seq
                codec.line_crc(stored.line)
        for stored in turns_of(records.backward(fd, end, told.append), told.append):
            assert isinstance(stored.turn.as_dict(), dict)
        for damage in told:
            assert 0 <= damage.offset <= damage.offset + damage.length <= len(data)
            assert damage.reason
        assert records.last_seq(fd, end) >= 0
        found = heal.find_end(fd, len(data))
        assert 0 <= found.committed <= end
        for seq in (0, 1, 3, 2**60):
            assert 0 <= records.offset_after(fd, end, seq) <= end


ODD_OBJECTS = st.dictionaries(
    st.sampled_from(["id", "seq", "ts", "role", "content", "meta", "_b", "_c", "_last_seq", "x"]),
    st.sampled_from(
        ["", "x", "user", STAMP, 0, 5, -1, 2**70, 1.5, None, True, [], {}, ["9f3a01bc", 0, 2]]
    ),
).map(lambda value: json.dumps(value, separators=(",", ":")).encode())
ODD_LINES = (
    st.binary(max_size=30)
    | ODD_OBJECTS
    # Sealed by a program that knows the format and not what a turn is.
    | ODD_OBJECTS.filter(lambda text: len(text) > 2).map(lambda text: codec.sealed(text[:-1])[:-1])
)


@many
@given(st.lists(ODD_LINES, max_size=6).map(b"\n".join))
@example(codec.sealed(b'{"id":"x"'))
@example(codec.sealed(b'{"_last_seq":"x"'))
@example(b'{"_last_seq":"x","role":"user","content":"x"}\n')
@example(
    codec.sealed(b'{"id":"x","seq":1,"ts":"","role":"user","content":"x","_b":["9f3a01bc",5,2]')
)
def test_no_bytes_whatsoever_raise(data):
    """P10, rule 3: damage never stops a read or an append."""
    everything_reads(data)


@many
@given(files(), st.data())
def test_no_mangling_of_a_log_raises(found, data):
    """P10: what a disk, an editor or a crash makes of a log is read around."""
    content = bytearray(b"".join(found[0]))
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content)))
        length = data.draw(st.integers(0, 300))
        piece = data.draw(st.binary(max_size=20) | st.just(bytes(length)))
        content[at : at + data.draw(st.sampled_from([0, length, len(piece)]))] = piece
    everything_reads(bytes(content))


@settings(max_examples=EXAMPLES // 4, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["turn", "turn", "turn", "hand", "seqless", "junk", "floor"]),
            st.integers(0, 3000),
            st.integers(1, 4),
        ),
        min_size=20,
        max_size=200,
    ),
    st.data(),
)
def test_bisection_finds_what_reading_all_would_find(drawn, data):
    """`turns(after=…)` starts in the right place in logs of any shape."""
    parts, seqs = [], []
    seq = 0
    for kind, size, step in drawn:
        text = "x" * size
        has_seq = kind in ("turn", "hand", "floor")
        seq += step if has_seq else 0
        if kind == "turn":
            parts.append(turn(seq, text))
        elif kind == "hand":
            parts.append(b'{"seq":%d,"role":"u","content":"%b"}\n' % (seq, text.encode()))
        elif kind == "seqless":
            parts.append(b'{"role":"u","content":"%b"}\n' % text.encode())
        elif kind == "floor":
            parts.append(codec.seq_floor_line(seq))
        else:
            parts.append(text.encode() + b"\n")
        seqs.append(seq if has_seq else None)
    content = b"".join(parts)
    with file_of(content) as fd:
        for _ in range(10):
            wanted = data.draw(st.integers(-1, seq + 1))
            above = [
                start
                for start, found in zip(starts_of(parts), seqs, strict=True)
                if found is not None and found > wanted
            ]
            expected = 0 if wanted <= 0 else above[0] if above else len(content)
            assert records.offset_after(fd, len(content), wanted) == expected
