"""Following: every committed turn exactly once, in order, whatever becomes of the file.

The followers here run in threads, as those of programs do; what they have got is compared with
what was recorded after each thing that happens to the log.
"""

from __future__ import annotations

import gc
import os
import shutil
import threading
import time

import pytest

from convmem import Archive, RetentionPolicy, UsageError
from convmem.log import codec
from convmem.log.follow import Cursor
from convmem.turns import draft

PATIENCE_SECONDS = 10.0
STAMP = "2026-11-21T09:00:00.123456Z"


def line(seq, content, batch=None):
    return codec.turn_line(draft("user", content, id=f"t{seq}"), seq, STAMP, batch)


def by_hand(content):
    return b'{"role":"user","content":"%b"}\n' % content.encode()


class Followed:
    """A follower in a thread of its own, and what it has got so far."""

    def __init__(self, chat, **options):
        self.following = chat.follow(**options)
        self.got = []
        self.cursors = []
        self.fault = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        try:
            for turn in self.following:
                self.got.append(turn.content)
                self.cursors.append(str(self.following.cursor))
        except BaseException as error:
            self.fault = error

    def expect(self, contents):
        """Wait until it has got exactly *contents* and nothing more is on its way."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while len(self.got) < len(contents) and time.monotonic() < deadline and not self.fault:
            time.sleep(0.002)
        time.sleep(0.04)  # a few looks: time enough for what should not come
        assert self.fault is None
        assert self.got == contents

    def end(self):
        """Close it and wait for its thread."""
        self.following.close()
        self._thread.join(PATIENCE_SECONDS)
        assert not self._thread.is_alive()
        assert self.fault is None


@pytest.fixture
def chat(archive):
    return archive.conversation("trip")


@pytest.fixture
def followed(chat):
    """A running follower of the conversation, from before its first turn on."""
    running = Followed(chat)
    yield running
    running.end()


def say(chat, *contents):
    for content in contents:
        chat.record("user", content)


def drained(chat, after=None):
    """Return what a new follower gets that starts behind *after* and ends when there is no more."""
    return [turn.content for turn in chat.follow(after=after, idle_timeout=0)]


def test_turns_come_as_they_are_recorded(chat, followed):
    """P9: also those of a conversation that was not there when the follower started."""
    followed.expect([])
    say(chat, "a", "b")
    followed.expect(["a", "b"])
    chat.record_many([("user", "c"), ("assistant", "d"), ("user", "e")])
    say(chat, "f")
    followed.expect(list("abcdef"))
    assert followed.following.diverged == 0


def test_lines_and_batches_come_when_they_are_whole(chat, followed, log):
    """P1: readers see the pages of one write arrive one by one."""
    say(chat, "a")
    batch = [line(3 + at, f"batch {at}", ("9f3a01bc", at, 3)) for at in range(3)]
    pieces = [line(2, "long " * 3000)[:5000], line(2, "long " * 3000)[5000:], by_hand("hand")[:10]]
    pieces += [by_hand("hand")[10:], batch[0], batch[1] + batch[2][:-1], b"\n"]
    counts = [1, 2, 2, 3, 3, 3, 6]
    whole = ["a", "long " * 3000, "hand", "batch 0", "batch 1", "batch 2"]
    with log().open("ab", buffering=0) as file:
        for piece, count in zip(pieces, counts, strict=True):
            file.write(piece)
            followed.expect(whole[:count])
    say(chat, "z")
    followed.expect([*whole, "z"])


@pytest.mark.parametrize("keep", [0, 1, 2, 3])
def test_compaction_repeats_and_hides_nothing(chat, followed, keep):
    """P9: also where it dropped the turn that the follower had read last."""
    said = []
    for at in range(4):
        new = [f"{at}.{nth}" for nth in range(3)]
        say(chat, *new)
        said += new
        followed.expect(said)
        chat.compact(RetentionPolicy(keep_last=keep))
        if at % 2:
            followed.expect(said)
    say(chat, "last")
    followed.expect([*said, "last"])
    assert followed.following.diverged == 0


def test_turns_recorded_around_a_compaction_come_once(chat, followed):
    """P9: what was appended to the old file before it was replaced is in both."""
    said = []
    for at in range(20):
        say(chat, f"{at} before")
        chat.record_many([("user", f"{at} batch 0"), ("user", f"{at} batch 1")])
        chat.compact(RetentionPolicy(keep_last=at % 4))
        say(chat, f"{at} after")
        said += [f"{at} before", f"{at} batch 0", f"{at} batch 1", f"{at} after"]
    kept = [turn.content for turn in chat.turns()]
    # What a compaction dropped before the follower came to it is not promised.
    deadline = time.monotonic() + PATIENCE_SECONDS
    while followed.got[-1:] != said[-1:] and time.monotonic() < deadline:
        time.sleep(0.01)
    assert followed.fault is None
    assert len(set(followed.got)) == len(followed.got)
    assert [each for each in said if each in set(followed.got)] == followed.got
    assert set(kept) <= set(followed.got)


def test_a_log_cut_to_nothing_is_followed_on(chat, followed, log):
    """P9: `> trip.jsonl` in a shell, and new turns after it."""
    say(chat, "a", "b")
    followed.expect(["a", "b"])
    log().write_bytes(b"")
    followed.expect(["a", "b"])
    say(chat, "c")
    followed.expect(["a", "b", "c"])


def test_a_log_cut_in_half_is_followed_on(chat, followed, log):
    """P9: an editor or a restore took the last turns away; those before are not told again."""
    say(chat, *"abcdef")
    followed.expect(list("abcdef"))
    lines = log().read_bytes().splitlines(keepends=True)
    os.truncate(log(), sum(map(len, lines[:3])) + 5)
    followed.expect(list("abcdef"))
    say(chat, "g")
    followed.expect(list("abcdefg"))


def test_a_cursor_behind_a_line_by_hand_survives_a_cut(chat, followed, log):
    """P9: the place is still known, and is not mistaken for the beginning."""
    say(chat, "a", "b")
    with log().open("ab") as file:
        file.write(by_hand("hand"))
    size = log().stat().st_size
    say(chat, "c")
    followed.expect(["a", "b", "hand", "c"])
    os.truncate(log(), size)
    followed.expect(["a", "b", "hand", "c"])
    assert drained(chat, str(followed.following.cursor)) == []
    chat.compact(RetentionPolicy(keep_last=2))
    say(chat, "d")
    followed.expect(["a", "b", "hand", "c", "d"])


@pytest.mark.parametrize("longer", [False, True], ids=["shorter", "longer"])
@pytest.mark.parametrize("seen_gone", [True, False], ids=["noticed", "unnoticed"])
def test_a_log_made_anew_is_followed_from_its_start(
    root, chat, followed, log, tmp_path, longer, seen_gone
):
    """P9, A20: also where it has grown past our place before anybody looked."""
    say(chat, "a", "b", "c")
    followed.expect(["a", "b", "c"])
    new = [f"new {at}" for at in range(10 if longer else 2)]
    with Archive.open(tmp_path / "elsewhere", durability="none") as other:
        say(other.conversation("trip"), *new)
    if seen_gone:
        log().unlink()
        followed.expect(["a", "b", "c"])
    os.replace(tmp_path / "elsewhere" / "default" / "trip.jsonl", log())
    followed.expect(["a", "b", "c", *new])
    assert followed.following.diverged == 1
    with Archive.open(root, durability="none") as archive:
        say(archive.conversation("trip"), "more")
    followed.expect(["a", "b", "c", *new, "more"])


@pytest.mark.parametrize("attached", [True, False], ids=["attached", "from a cursor"])
def test_a_log_begun_again_and_still_empty_is_no_other_log(chat, log, attached):
    """P9: whoever records first after a deletion makes the file, and a moment later writes it."""
    say(chat, "a", "b", "c")
    following = chat.follow()
    turns = iter(following)
    assert [next(turns).content for _ in range(3)] == ["a", "b", "c"]
    chat.delete()
    log().touch()
    cursor = following.cursor
    if not attached:
        turns = iter(chat.follow(after=str(cursor)))
    late = threading.Timer(0.1, lambda: (chat.restore(), say(chat, "d")))
    late.start()
    assert next(turns).content == "d"
    late.join()
    assert following.diverged == 0


def test_older_turns_brought_back_into_a_log_begun_again_are_not_followed_twice(
    chat, log, tmp_path
):
    """P9: the restoration had read the trash before our last turns went there."""
    say(chat, "a", "b", "c")
    following = chat.follow()
    turns = iter(following)
    assert [next(turns).content for _ in range(3)] == ["a", "b", "c"]
    chat.compact(RetentionPolicy(keep_last=0))
    say(chat, "d")
    assert next(turns).content == "d"
    trash = log().parent / ".trash"
    kept = set(trash.iterdir())
    chat.delete()
    for path in set(trash.iterdir()) - kept:
        path.rename(tmp_path / path.name)
    say(chat, "e")
    chat.restore()
    assert [turn.content for turn in chat.turns()] == ["a", "b", "c", "e"]
    assert next(turns).content == "e"
    assert following.diverged == 0


@pytest.mark.parametrize("way", ["namespace", "archive"])
def test_a_folder_that_is_removed_and_comes_back_is_followed_on(root, chat, followed, way):
    """P9: a volume that is unmounted, a sync client that swaps folders."""
    say(chat, "a")
    followed.expect(["a"])
    shutil.rmtree(root if way == "archive" else os.path.join(root, "default"))
    followed.expect(["a"])
    with Archive.open(root, durability="none") as archive:
        say(archive.conversation("trip"), "b", "c")
    followed.expect(["a", "b", "c"])


def test_a_folder_that_is_moved_away_is_not_followed_there(root, chat, followed):
    """P5, A20: the conversation is what its path leads to, for readers, writers and followers."""
    say(chat, "a")
    followed.expect(["a"])
    namespace = os.path.join(root, "default")
    os.rename(namespace, namespace + ".old")
    say(chat, "b")
    assert [turn.content for turn in chat.tail()] == ["b"]
    followed.expect(["a", "b"])


@pytest.mark.parametrize(
    "tear", [b"junk", bytes(300), line(3, "x")[:-10], line(3, "x", ("9f3a01bc", 0, 2))]
)
def test_a_healed_tail_is_no_turn_and_hides_none(chat, followed, log, tear):
    """P9: healing cuts the log behind the last whole turn; the follower never went past it."""
    say(chat, "a", "b")
    with log().open("ab") as file:
        file.write(tear)
    followed.expect(["a", "b"])
    say(chat, "c")
    followed.expect(["a", "b", "c"])


def test_a_turn_as_long_as_the_torn_tail_that_it_replaced_is_seen(chat, followed, log):
    """P9: a power cut leaves NUL bytes of a turn's very length, and then its client retries it."""
    say(chat, "a")
    with log().open("ab") as file:
        file.write(bytes(len(line(2, "retried"))))
    followed.expect(["a"])
    size = log().stat().st_size
    time.sleep(0.5)  # so that it hardly ever looks between the healing and the append
    chat.record("user", "retried", id="t2", ts=STAMP)
    assert log().stat().st_size == size
    followed.expect(["a", "retried"])


def kinds_of_log(chat, log):
    """Fill a log with every kind of line; return the contents in order."""
    say(chat, "1")
    with log().open("ab") as file:
        file.write(by_hand("hand 2") + by_hand("hand 3"))
    chat.record_many([("user", "4"), ("user", "5"), ("user", "6")])
    with log().open("ab") as file:
        file.write(b"junk\n" + by_hand("hand 7") + b'{"seq":2,"role":"user","content":"old 8"}\n')
    say(chat, "9")
    with log().open("ab") as file:
        file.write(b'{"seq":40,"role":"user","content":"ahead 10"}\n' + by_hand("hand 11"))
    say(chat, "12")
    return [
        "1",
        "hand 2",
        "hand 3",
        "4",
        "5",
        "6",
        "hand 7",
        "old 8",
        "9",
        "ahead 10",
        "hand 11",
        "12",
    ]


def places(chat):
    """Return the cursor at the start and behind each turn."""
    cursors = [None]
    following = chat.follow(idle_timeout=0)
    cursors += [str(following.cursor) for _ in following]
    return cursors


def test_a_cursor_goes_on_from_every_place(chat, log):
    """P9: a restarted follower gets what its predecessor had not, and nothing twice."""
    contents = kinds_of_log(chat, log)
    cursors = places(chat)
    for read, cursor in enumerate(cursors):
        assert drained(chat, cursor) == contents[read:], cursor
        assert [
            turn.content for turn in chat.turns(after=Cursor.parse(cursor or "0:00000000:0"))
        ] == (contents[read:])
    say(chat, "new")
    assert drained(chat, cursors[-1]) == ["new"]


def test_a_cursor_survives_compaction_at_every_place(chat, log):
    """P9: also where its own turn was dropped, and where its batch was cut."""
    contents = kinds_of_log(chat, log)
    cursors = places(chat)
    for keep in range(len(contents) - 1, -1, -1):
        chat.compact(RetentionPolicy(keep_last=keep))
        kept = contents[len(contents) - keep :]
        assert [turn.content for turn in chat.turns()] == kept
        for read, cursor in list(enumerate(cursors))[1:]:
            remaining = contents[max(read, len(contents) - keep) :]
            found = drained(chat, cursor)
            numbered = [each for each in remaining if "hand" not in each and "old" not in each]
            # Lines by hand beside a dropped turn have nothing that tells which were read.
            assert [each for each in found if each in numbered] == numbered, (keep, cursor)
            assert len(found) <= len(remaining), (keep, cursor)
            if int(cursor.split(":")[0]) in {turn.seq for turn in chat.turns()}:
                assert found == remaining, (keep, cursor)


@pytest.mark.parametrize("first", ["numbered", "by hand"])
def test_a_cursor_behind_lines_by_hand_skips_no_turn(chat, log, first):
    """P9: compaction dropped a line that the cursor had counted; the next turn is not that line."""
    say(chat, "a")
    if first == "by hand":
        log().write_bytes(b"")
    with log().open("ab") as file:
        file.write(
            b'{"ts":"2001-01-01T00:00:00Z","role":"user","content":"old"}\n' + by_hand("hand")
        )
    cursor = places(chat)[-1]
    assert chat.compact(RetentionPolicy(max_age=3600)).dropped == 1
    say(chat, "b", "c")
    assert drained(chat, cursor) == ["b", "c"]


@pytest.mark.parametrize("kept", [0, 1], ids=["nothing kept", "a line by hand kept"])
def test_a_cursor_moves_on_in_a_log_whose_turns_were_all_dropped(chat, log, kept):
    """P9: each run of `tail --cursor` would tell the same lines by hand again."""
    say(chat, "a", "b")
    cursor = str(chat.cursor())
    with log().open("ab") as file:
        file.write(by_hand("hand 1") * kept)
    chat.compact(RetentionPolicy(keep_last=kept))
    with log().open("ab") as file:
        file.write(by_hand("hand 2"))
    got = []
    for _ in range(3):
        following = chat.follow(after=cursor, idle_timeout=0)
        got += [turn.content for turn in following]
        cursor = str(following.cursor)
    assert [each for each in got if each == "hand 2"] == ["hand 2"]
    assert len(got) <= 1 + kept
    say(chat, "c")
    assert drained(chat, cursor) == ["c"]


def test_the_cursor_of_the_end_is_where_a_follower_goes_on(chat, log):
    """`tail -f` shows the last turns and then what comes: none between, none twice."""
    for _ in range(3):
        say(chat, "a")
        assert drained(chat, chat.cursor()) == []
        with log().open("ab") as file:
            file.write(by_hand("hand"))
        assert drained(chat, str(chat.cursor())) == []
    cursor = chat.cursor()
    chat.record_many([("user", "b"), ("user", "c")])
    assert drained(chat, cursor) == ["b", "c"]


def test_following_after_a_seq_starts_behind_it(chat):
    """A number is the cursor of people; one that is not reached yet is no fault."""
    assert drained(chat, 5) == []
    say(chat, *"abcd")
    assert drained(chat, 0) == ["a", "b", "c", "d"]
    assert drained(chat, 2) == ["c", "d"]
    assert drained(chat, 4) == []
    assert drained(chat, 100) == []
    chat.compact(RetentionPolicy(keep_last=1))
    assert drained(chat, 2) == ["d"]


def test_a_cursor_of_another_log_is_told_apart(chat, log):
    """P9: after a power cut a seq can be given out a second time: not the same turn."""
    say(chat, "a", "b")
    cursor = str(chat.cursor())
    log().write_bytes(line(1, "other a") + line(2, "other b"))
    following = chat.follow(after=cursor, idle_timeout=0)
    assert [turn.content for turn in following] == ["other a", "other b"]
    assert following.diverged == 1


@pytest.mark.parametrize("text", ["0:00000000:0", "17:9f3a01bc:0", "9007199254740991:ffffffff:12"])
def test_a_cursor_is_its_text(text):
    """It is kept in files, and by other processes."""
    assert str(Cursor.parse(text)) == text
    assert Cursor.parse(f" {text}\n") == Cursor.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        *"""17 17: 17:9f3a01bc :9f3a01bc:0 17::0 17:9f3a01bc: -1:9f3a01bc:0 17:9f3a01bc:-1
    17:9f3a01:0 17:9f3a01bcd:0 17:9f3a01bg:0 17:9f3a01bc:0:0 1.5:9f3a01bc:0 a:9f3a01bc:0
    17:9F3A01BC:0 1_7:9f3a01bc:0 +17:9f3a01bc:0 \u0661\u0667:9f3a01bc:0 17:0x9f3a01:0 17:+9f3a01b:0
    17:9f_3a_01:0""".split(),
        *["", " ", "\0", "17 :9f3a01bc:0", "17:9f3a01bc:0\n17:9f3a01bc:0"],
        "1" * 5000 + ":9f3a01bc:0",
    ],
)
def test_what_is_no_cursor_is_refused(chat, text):
    """A damaged cursor file must not start a follower in the wrong place."""
    with pytest.raises(UsageError):
        Cursor.parse(text)
    with pytest.raises(UsageError):
        chat.follow(after=text)


def test_roles_are_filtered_and_still_counted(chat):
    """The cursor is behind what was passed over too: a restart must not read it again."""
    chat.record("system", "s")
    chat.record("user", "u")
    chat.record("assistant", "a")
    following = chat.follow(roles=["user"], idle_timeout=0)
    assert [turn.content for turn in following] == ["u"]
    assert drained(chat, str(following.cursor)) == []


def test_a_follower_ends_when_nothing_comes(chat):
    """`idle_timeout` counts from the last turn, not from the start."""
    say(chat, "a")
    started = time.monotonic()
    assert [turn.content for turn in chat.follow(idle_timeout=0.15)] == ["a"]
    assert 0.15 <= time.monotonic() - started < PATIENCE_SECONDS
    following = chat.follow(idle_timeout=0.15)
    for at in range(4):
        assert next(following).content == ("a" if at == 0 else f"{at}")
        time.sleep(0.08)
        say(chat, f"{at + 1}")
    assert [turn.content for turn in following] == ["4"]


def test_closing_ends_the_iteration(chat):
    """From within, between two turns."""
    say(chat, "a", "b", "c")
    following = chat.follow()
    got = []
    for turn in following:
        got.append(turn.content)
        if turn.content == "b":
            following.close()
    assert got == ["a", "b"]
    following.close()
    assert list(following) == []


def test_closing_from_another_thread_ends_a_busy_follower(root):
    """A descriptor that is closed under a reader may be another file's by the next read."""
    with Archive.open(root, durability="none") as archive:
        chat = archive.conversation("busy")
        chat.record_many([("user", "x" * 50)] * 2000)
        for at in range(60):
            busy = Followed(chat)
            time.sleep(at * 0.0005)
            busy.end()


def test_a_closed_follower_holds_nothing_open(chat):
    """Rule 5: a server follows and forgets all day long, and not at the collector's pace."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("no /proc here: nothing tells which descriptors are open")
    say(chat, "a")
    gc.collect()
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            assert drained(chat) == ["a"]
            waiting = chat.follow()
            assert next(waiting).content == "a"
            waiting.close()
        assert len(os.listdir("/proc/self/fd")) <= before
    finally:
        gc.enable()


def test_what_went_before_it_could_be_seen_is_counted(archive):
    """A watcher that reports "all seen" must know when it cannot."""
    chat = archive.conversation("trip")
    for number in range(3):
        chat.record("user", number)
    following = chat.follow(idle_timeout=0.3)
    assert [next(following).content for _ in range(3)] == [0, 1, 2]
    assert following.missed == 0
    for number in range(3, 9):
        chat.record("user", number)
    seen = str(following.cursor)
    # Twice, so that the file in between is gone as well.
    chat.compact(RetentionPolicy(keep_last=3))
    chat.compact(RetentionPolicy(keep_last=2))
    again = chat.follow(after=seen, idle_timeout=0)
    assert [turn.content for turn in again] == [7, 8]
    assert again.missed == 4


def test_who_stops_following_in_the_middle_gives_the_descriptors_back_at_once(chat):
    """A server follows thousands of conversations, and nobody calls ``close`` behind a break."""
    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("needs /proc/self/fd")
    chat.record("user", "hello")
    gc.disable()
    try:
        before = len(os.listdir("/proc/self/fd"))
        for _ in range(20):
            for _turn in chat.follow():
                break
        assert len(os.listdir("/proc/self/fd")) <= before + 1
    finally:
        gc.enable()
