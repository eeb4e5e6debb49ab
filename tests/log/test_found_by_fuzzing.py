"""What the fuzzing of the crash laboratory found, each as its smallest case."""

from __future__ import annotations

import os

import pytest
from verify_logs import BY_HAND, batch, line

from convmem import Archive, CorruptLog, UsageError
from convmem.log import codec, look
from convmem.log.checks import verify
from convmem.log.checks.verify_split import split
from convmem.log.files import Folder
from convmem.log.removing import dropped
from convmem.settings import Settings


@pytest.fixture
def put(root, log):
    """Have the conversation's log be these bytes, and return the conversation."""
    opened = []

    def put(data):
        os.makedirs(log().parent, mode=0o700, exist_ok=True)
        log().write_bytes(data)
        opened.append(Archive.open(root, durability="none"))
        return opened[-1].conversation("trip")

    yield put
    for archive in opened:
        archive.close()


@pytest.mark.parametrize("rotten", [b't"2', b"t\\2", b"t\xff2"])
def test_a_rotten_id_in_the_log_does_not_keep_a_batch_with_ids_out(put, rotten):
    """Seven turns with ids made every line be read; one of them was no text, and all failed."""
    chat = put(line(1) + line(2).replace(b"t2", rotten) + line(3))
    turns = [{"role": "user", "content": "x", "id": f"new {at}"} for at in range(12)]
    assert [turn.seq for turn in chat.record_many(turns)] == list(range(4, 16))


def test_a_follower_outlives_the_rot_of_the_turn_that_it_gave_last(put, log):
    """Eight digits of a checksum need not be digits any more."""
    chat = put(line(1) + line(2))
    follower = chat.follow(idle_timeout=0)._follower
    assert len(list(follower.look())) == 2
    log().write_bytes(line(1) + line(2)[:-8] + b"\xff" + line(2)[-7:] + line(3))
    assert [each.seq for each in follower.look()] == [3]
    follower.release()


def test_a_seq_of_thousands_of_digits_is_damage_and_no_error(put):
    """Python refuses to make a number of more than 4,300."""
    rotten = line(2).replace(b'"seq":2', b'"seq":' + b"2" * 5000)
    chat = put(rotten + line(3) + rotten)
    assert [turn.seq for turn in chat.turns()] == [3]
    assert chat.verify().found == {"checksum": 2}
    assert chat.describe().last_seq == 3


def test_the_numbers_of_a_batch_that_lost_its_closing_line_are_not_given_out_again(put):
    """P4: one rotten digit in the last line, and a turn that all had seen shared its seq."""
    closing = batch(2, 3).splitlines(keepends=True)[-1]
    chat = put(line(1) + batch(2, 3)[: -len(closing)] + closing.replace(b'"seq":4', b'"seq":!'))
    assert chat.record("user", "new").seq > 4


def test_the_number_of_a_last_line_that_cannot_be_read_is_not_given_out_again(put):
    """P4: it carries a seal, so somebody was answered with it."""
    chat = put(line(1) + line(2).replace(b'"seq":2', b'"seq":!'))
    assert chat.record("user", "new").seq > 2


def test_a_short_log_with_old_lines_at_its_end_gives_no_number_twice(put):
    """P4: `cat trash >> log` was noticed in logs of some kilobytes, and not in shorter ones."""
    chat = put(line(3) + line(7) + line(1))
    assert chat.record("user", "new").seq == 8


def test_one_rotten_byte_does_not_make_a_turn_that_nobody_said(put):
    """A quote where a backslash was ends the string, and with it the record."""
    inner = '{"id":"x","seq":1,"_c":"00000000"}{'
    whole = line(1, inner)[:-1]
    for at in range(len(whole)):
        for byte in b'"\\]}{x':
            rotten = whole[:at] + bytes([byte]) + whole[at + 1 :]
            if rotten == whole or (codec.fault_of(rotten) is None):
                continue
            assert not any(is_record for _, _, is_record in split(rotten, 0)), rotten
            behind = line(2)[:-1]
            assert [
                (rotten + behind)[start:end]
                for start, end, is_record in split(rotten + behind, 0)
                if is_record
            ] in ([behind], [])
    rotten = whole.replace(b'\\"}{"', b']"}{"')
    chat = put(rotten + b"\n" + line(2))
    assert chat.repair().set_aside_bytes == len(rotten) + 1
    assert [turn.seq for turn in chat.turns()] == [2]


def test_a_title_is_not_taken_from_inside_the_content():
    """A tool's result holds a key of that name; the quick look took what stood there."""
    data = line(1, [{"type": "tool_result", "content": "from inside"}])
    fd = os.memfd_create("log")
    os.write(fd, data)
    assert look.look(fd, len(data)).title == look._look_closely(fd, len(data)).title
    os.close(fd)


def test_damage_inside_the_last_batch_is_no_torn_end():
    """`list` would mark a conversation as torn that ends in a whole line."""
    one, two, _, four = batch(2, 4).splitlines(keepends=True)
    data = line(1) + one + two + b"junk\n" + four
    fd = os.memfd_create("log")
    os.write(fd, data)
    assert not look._look_closely(fd, len(data)).is_torn
    os.close(fd)


def test_a_turn_by_hand_behind_half_a_batch_is_counted_by_verify_too():
    """Readers show it: it lacks nothing but its newline."""
    data = line(1) + batch(2, 3)[:-150] + b"\n" + BY_HAND
    fd = os.memfd_create("log")
    os.write(fd, data)
    report = verify.verify(fd, len(data), lambda each: None, lambda amount: None, is_still=True)
    os.close(fd)
    assert (report.turns, report.lines["unsealed"]) == (2, 1)


def test_a_last_line_whose_seal_lost_its_key_is_not_shown_as_one_by_hand(put):
    """What is shown must still be there once somebody records."""
    rotten = line(2)[:-1].replace(b'"_c"', b'"_s"')
    chat = put(line(1) + rotten)
    assert [turn.seq for turn in chat.turns()] == [1]
    chat.record("user", "new")
    assert [turn.content for turn in chat.turns()] == ["hello", "new"]


def test_two_turns_of_one_id_and_seq_both_outlive_a_restore(put, log):
    """Two logs put together by hand: the second one went from the trash, and came nowhere."""
    chat = put(line(1, "mine") + line(1, "theirs") + line(2))
    chat.delete()
    put(line(9))
    chat.restore()
    trash = b"".join(path.read_bytes() for path in log().parent.glob(".trash/*"))
    assert b"mine" in log().read_bytes() and b"theirs" in trash


def test_a_state_with_bytes_behind_its_seal_is_damaged(put, log):
    """A space there was enough to have a rotten state be read as one by hand."""
    chat = put(line(1))
    chat.update_state({"token": "secret"})
    (path,) = (log().parent / ".state").iterdir()
    path.write_bytes(path.read_bytes().replace(b"secret", b"sacred")[:-1] + b" \n")
    with pytest.raises(CorruptLog):
        chat.state()


def test_two_remembered_turns_that_damage_has_made_one_are_told_apart(tmp_path):
    """A retry would be answered with the seq of another turn."""
    tmp_path.chmod(0o700)
    folder = Folder.open(str(tmp_path))
    lines = b"".join(line(at, turn_id=f"id {at}") for at in (1, 2))
    (tmp_path / "gone").write_bytes(lines)
    fd = folder.open_file("gone", os.O_RDONLY)
    spans = [(0, len(lines))]
    dropped.remember(folder, "trip", fd, spans, is_discarded=False, now=0.0, until=1e10)
    os.close(fd)
    path = tmp_path / dropped.FOLDER / "trip.jsonl"
    one, two = path.read_bytes().splitlines()
    path.write_bytes(one[:20] + b"," + two[1:] + b"\n")
    assert dropped.find(folder, "trip", "id 1", 1.0) is None
    assert dropped.find_all(folder, "trip", ["id 1"], 1.0).turns == {}
    folder.close()


def test_a_number_of_thousands_of_digits_in_the_settings_is_told(tmp_path):
    """It ended `record` with a traceback, and the turn was not kept."""
    (tmp_path / "convmem.toml").write_text("lock_timeout = " + "9" * 5000)
    with pytest.raises(UsageError, match="out of range"):
        Settings.load(str(tmp_path), {})
    told = []
    Settings.load(str(tmp_path), {}, on_problem=told.append)
    assert len(told) == 1
