"""After a crash: the next append works, nothing answered is gone, and no byte is thrown away."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from convmem import Archive, ConversationNotFound, RetentionPolicy
from convmem.log import codec
from convmem.turns import draft

STAMP = "2026-11-21T09:00:00.123456Z"
BY_HAND = b'{"role":"user","content":"by hand"}'


def line(seq, content="hello", batch=None):
    return codec.turn_line(draft("user", content, id=f"t{seq}"), seq, STAMP, batch)


class Bench:
    """A log that is broken again and again, each time as after a crash: a new process opens it."""

    def __init__(self, root):
        self.root = Path(root)
        self.folder = self.root / "default"
        self.log = self.folder / "trip.jsonl"
        self.folder.mkdir(mode=0o700, parents=True)

    def open(self):
        return Archive.open(self.root, durability="none")

    def break_into(self, data):
        """Make the log *data*, with an empty quarantine."""
        self.log.write_bytes(data)
        for path in self.set_aside():
            path.unlink()

    def set_aside(self):
        return sorted(self.folder.glob(".quarantine/*"))

    def turns(self):
        """Return (id, seq, content) of all turns, having asked both ends of the log."""
        with self.open() as archive:
            chat = archive.conversation("trip")
            found = [(turn.id, turn.seq, turn.content) for turn in chat.turns()]
            assert found == [(turn.id, turn.seq, turn.content) for turn in chat.tail(1000)]
            return found

    def append(self, content="after"):
        with self.open() as archive:
            return archive.conversation("trip").record("assistant", content)


@pytest.fixture
def bench(root):
    return Bench(root)


def check_heals(bench, data, whole):
    """Append to a log of *data*, the first *whole* bytes of which are committed."""
    bench.break_into(data)
    before = bench.turns()
    highest = max([seq for _, seq, _ in before if seq] or [0])
    added = bench.append()
    after = bench.turns()
    assert after[: len(before)] == before
    assert after[len(before) :] == [(added.id, added.seq, "after")]
    assert added.seq > highest
    now = bench.log.read_bytes()
    assert now.startswith(data[:whole])
    assert [json.loads(each)["content"] for each in now[whole:].splitlines()] == ["after"]
    # P7: the rest is in the quarantine, byte for byte.
    kept = b"".join(path.read_bytes() for path in bench.set_aside())
    assert data[:whole] + kept == data
    bench.append("and again")
    assert b"".join(path.read_bytes() for path in bench.set_aside()) == kept
    assert bench.log.read_bytes().startswith(now)


def test_a_log_cut_at_any_byte_takes_the_next_turn(bench):
    """P1, P7, A6: a torn line must not be glued to the turn that comes next: both were lost."""
    lines = [line(1), line(2, "zwei"), line(3, {"role": "user", "content": "inner"})]
    data = b"".join(lines)
    starts = [0, len(lines[0]), len(lines[0] + lines[1]), len(data)]
    for cut in range(starts[1], len(data) + 1):
        whole = max(start for start in starts if start <= cut)
        if cut + 1 in starts:
            bench.break_into(data[:cut])
            bench.append()  # it lacked nothing but its newline
            assert [turn_id for turn_id, *_ in bench.turns()[:-1]] == [
                f"t{at}" for at, start in enumerate(starts) if 0 < start <= cut + 1
            ]
            assert bench.set_aside() == []
        else:
            check_heals(bench, data[:cut], whole)


def test_a_batch_cut_at_any_byte_is_gone_as_a_whole(bench):
    """P1, P7: half a batch was never answered; what is left of it is set aside in one piece."""
    head = line(1)
    batch = [line(2 + at, batch=("9f3a01bc", at, 3)) for at in range(3)]
    data = head + b"".join(batch)
    for cut in range(len(head) + 1, len(data), 7):
        check_heals(bench, data[:cut], len(head))
    check_heals(bench, data[: len(data) - 1], len(head))


@pytest.mark.parametrize("count", [1, 2, 3, 4095, 4096, 10_000])
@pytest.mark.parametrize("start", [b"", b'{"id":"t2","se'])
@pytest.mark.parametrize("end", [b"", b"\n", b'","_c":"00000000"}\n'])
def test_bytes_that_were_never_written_are_set_aside(bench, start, count, end):
    """P7: ext4 leaves NUL bytes where a power cut came between size and content."""
    check_heals(bench, line(1) + start + bytes(count) + end, len(line(1)))


@pytest.mark.parametrize("tail", [b"\0\n", b'{"id":"t9"\n', b"\0" * 5000 + b'x"}\n{"id"'])
def test_a_torn_append_behind_a_batch_leaves_the_batch_alone(bench, tail):
    """P2: the batch was answered; what a crash tore behind it was not."""
    batch = b"".join(line(2 + at, batch=("9f3a01bc", at, 2)) for at in range(2))
    check_heals(bench, line(1) + batch + tail, len(line(1) + batch))


@pytest.mark.parametrize(
    "garbage",
    [b"junk", b"\xff\xfe", b"{", b"[]", b"42", b'{"role":"user"', b"\r", b"  ", b"junk\njunk"],
)
def test_a_tail_of_garbage_is_set_aside(bench, garbage):
    """P7: whatever wrote it, it is no turn, and it must not spoil the next one."""
    check_heals(bench, line(1) + line(2) + garbage, len(line(1) + line(2)))


@pytest.mark.parametrize("data", [b"", b"junk", bytes(100), b"junk\n", line(1)[:50]])
def test_a_log_with_nothing_whole_begins_anew(bench, data):
    """A first append that was torn, or a file made by `touch`."""
    bench.break_into(data)
    assert bench.append().seq == 1
    assert b"".join(path.read_bytes() for path in bench.set_aside()) == data


def test_damage_in_the_middle_stays_where_it_is(bench):
    """P7, P10: only the end is healed; what is behind damage was answered."""
    data = line(1) + b"junk\n" + bytes(50) + b"\n" + line(2)
    check_heals(bench, data, len(data))


@pytest.mark.parametrize("count", [2, 3])
def test_a_damaged_last_line_of_a_batch_takes_no_other_turn_along(bench, count):
    """P2, P10: bit rot in an answered batch costs its one line, also after the next append."""
    batch = [line(2 + at, batch=("9f3a01bc", at, count)) for at in range(count)]
    data = bytearray(line(1) + b"".join(batch))
    data[-30] ^= 1
    bench.break_into(bytes(data))
    before = bench.turns()
    assert [turn_id for turn_id, *_ in before] == ["t1", *(f"t{2 + at}" for at in range(count - 1))]
    for _ in range(3):
        bench.append()
        assert bench.turns()[: len(before)] == before


def test_a_turn_behind_damage_that_lacks_its_newline_is_kept(bench):
    """Rule 3: what a reader has shown must not vanish with the next append."""
    bench.break_into(line(1) + b"junk\n" + BY_HAND)
    before = bench.turns()
    assert before[-1] == (None, None, "by hand")
    bench.append()
    assert bench.turns()[:-1] == before


def test_a_line_by_hand_without_a_newline_is_kept(bench):
    """`printf` leaves none, and so do editors: a whole turn is not torn."""
    bench.break_into(line(1) + BY_HAND)
    assert bench.turns()[-1] == (None, None, "by hand")
    added = bench.append()
    assert [content for *_, content in bench.turns()] == ["hello", "by hand", "after"]
    assert added.seq == 2
    assert bench.set_aside() == []
    assert bench.log.read_bytes().startswith(line(1) + BY_HAND + b"\n")


@pytest.mark.parametrize(
    "last",
    [
        b'{"seq":70,"role":"user","content":"ahead"}',
        b'{"seq":9007199254740992,"role":"user","content":"too large"}',
        b'{"id":"x","seq":9007199254740993,"ts":"","role":"user","content":"imitation"}',
        b'{"id":"x","seq":100000000000000000000,"ts":"","role":"user","content":"imitation"}',
        b'{"seq":-5,"role":"user","content":"below"}',
    ],
)
def test_a_seq_by_hand_never_makes_the_next_one_unreadable(bench, last):
    """P4: the next turn has a higher seq than every one that can be read, and can be read too."""
    bench.break_into(line(5) + last + b"\n")
    highest = max(seq for _, seq, _ in bench.turns() if seq)
    added = bench.append()
    assert added.seq > highest
    assert bench.turns()[-1] == (added.id, added.seq, "after")


def test_a_seq_of_a_damaged_last_line_is_not_given_out_again(bench):
    """P4: the turn was answered with it before the disk lost it."""
    last = bytearray(line(2))
    last[-30] ^= 1
    bench.break_into(line(1) + bytes(last))
    assert bench.append().seq == 3


def tree(root):
    """Return all there is below *root*: what writing anything would change."""
    found = {}
    for folder, names, files in os.walk(root):
        for name in [*names, *files]:
            path = os.path.join(folder, name)
            at = os.lstat(path)
            content = Path(path).read_bytes() if name in files else None
            found[path] = (at.st_mode, at.st_ino, at.st_mtime_ns, at.st_ctime_ns, content)
    return found


@pytest.mark.parametrize(
    "tail",
    [b"junk", bytes(4096), BY_HAND, line(3)[:-1], line(3, batch=("9f3a01bc", 0, 2)), b"\n\n", b""],
    ids=["junk", "nul", "by hand", "no newline", "half batch", "empty lines", "sound"],
)
def test_no_reader_writes(bench, tail):
    """Readers never write: a check that "repairs" as it goes is how evidence is lost."""
    bench.break_into(line(1) + b"junk\n" + line(2) + tail)
    (bench.folder / ".trip.999.deadbeef.tmp").write_bytes(b"left by a crash")
    before = tree(bench.root)
    with bench.open() as archive:
        assert archive.namespaces() == ["default"]
        assert [each.continuation_id for each in archive.conversations()] == ["trip"]
        chat = archive.conversation("trip")
        assert chat.exists()
        chat.tail(10)
        chat.tail(0)
        list(chat.turns())
        list(chat.turns(after=1, roles=["user"]))
        list(chat.turns(after=chat.cursor()))
        list(chat.follow(idle_timeout=0))
        list(chat.follow(after=str(chat.cursor()), idle_timeout=0))
        chat.describe(count=True)
        chat.stored_tail(None)
        chat.compact(RetentionPolicy(keep_last=0), dry_run=True)
        nowhere = archive.conversation("nowhere", namespace="other")
        assert not nowhere.exists()
        list(nowhere.follow(idle_timeout=0))
        for attempt in (nowhere.tail, nowhere.turns, nowhere.describe, nowhere.cursor):
            with pytest.raises(ConversationNotFound):
                attempt()
    assert tree(bench.root) == before
