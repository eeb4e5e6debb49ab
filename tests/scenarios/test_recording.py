"""Recording: what was answered is there once, whole and in order, whoever else is writing."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import itertools
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from convmem import (
    Archive,
    ConversationNotFound,
    InvalidTurn,
    LockTimeout,
    RetentionPolicy,
    StorageError,
    StorageFull,
    TurnConflict,
)


@pytest.fixture
def chat(archive):
    """The conversation that these tests talk to."""
    return archive.conversation("trip")


@pytest.fixture
def python(cli):
    """Start a Python of its own with convmem at hand; its words are in ``sys.argv[1:]``."""

    @contextlib.contextmanager
    def start(body, *words, **options):
        preface = "import os, signal, sys, time\nfrom convmem import *\n"
        with subprocess.Popen(
            [sys.executable, "-c", preface + body, *words],
            stdout=subprocess.PIPE,
            env=cli.environment,
            **options,
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    return start


@contextlib.contextmanager
def writing(root, name="trip"):
    """Be another process that writes to that conversation, for a while."""
    with open(os.path.join(root, "default", ".locks", f"{name}.lock"), "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def contents(chat, count=10_000):
    """Return what the last turns say."""
    return [turn.content for turn in chat.tail(count)]


# --- what is stored is what was said ----------------------------------------------------------

SEPARATORS = "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg\x1dh\x1ei\rj\nk\r\nl\0m"


def test_text_with_any_separator_comes_back_equal_after_a_restart(chat, root, log):
    """A7: splitting lines as Python's `splitlines` does lost every turn with U+2028 in it."""
    said = [
        SEPARATORS,
        "\ufeffmark",
        "\U0001f600",
        "",
        "  ",
        "\\u2028",
        '"_c":"00000000"}\n{"id":"',
    ]
    for text in said:
        chat.record("user", text)
    with Archive.open(root) as again:
        assert contents(again.conversation("trip")) == said
        assert [turn.content for turn in again.conversation("trip").turns()] == said
    assert log().read_bytes().count(b"\n") == len(said)


UNSTORABLE = [
    "half a pair \ud800",
    {"key \udfff": 1},
    float("nan"),
    [float("inf")],
    b"bytes",
    {1: "a number as key"},
    {"deep": {"a", "set"}},
    datetime(2026, 11, 21, tzinfo=UTC),
    object(),
]


@pytest.mark.parametrize("content", UNSTORABLE, ids=lambda content: type(content).__name__)
def test_what_cannot_be_stored_is_refused_before_a_byte_is_written(archive, chat, log, content):
    """A8, K16: memory once had two turns, the disk none and an empty file; the caller no error."""
    for attempt in (
        lambda: archive.conversation("new").record("user", content),
        lambda: chat.record("user", "text", meta={"value": content}),
        lambda: chat.record("user", "text", extra=content),
        lambda: chat.record_many([("user", "good"), ("user", content)]),
    ):
        with pytest.raises(InvalidTurn):
            attempt()
    assert not log("new").exists()
    assert not log().exists()
    chat.record("user", "good")
    with pytest.raises(InvalidTurn):
        chat.record("user", content)
    assert contents(chat) == ["good"]
    assert log().read_bytes().count(b"\n") == 1


def test_a_list_of_parts_is_stored_whole(chat, root):
    """K16: a loader kept the text of the first part only."""
    parts = [
        {"type": "text", "text": "look"},
        {"type": "image_url", "image_url": {"url": "data:,"}},
        {"type": "text", "text": "again"},
    ]
    chat.record("user", parts)
    chat.record("user", [])
    with Archive.open(root) as again:
        assert contents(again.conversation("trip")) == [parts, []]


def test_structured_content_keeps_its_types(chat, root):
    """O9: `str()` on the way in made text of every object, and no way back."""
    values = [{"k": 1}, [1, [2.5, None]], 7, 2**70, 0.1, -0.0, True, None, {"": {"ä": []}}, "7"]
    for value in values:
        chat.record("tool", value)
    with Archive.open(root) as again:
        assert contents(again.conversation("trip")) == values
        assert [json.dumps(value) for value in contents(again.conversation("trip"))] == [
            json.dumps(value) for value in values
        ]


def test_the_callers_keys_come_back_whatever_they_are_called(chat, root):
    """O4: a store that keeps its own notes among the user's had overwritten these."""
    meta = {"session_id": "s", "item_type": "t", "record_type": "r", "seq": 0, "_c": "x", "id": 1}
    extra = {"embedding": [0.25, -1.5], "expiration": None, "raw": {"role": "other"}, "name": "n"}
    chat.record("user", "a", meta=meta, **extra)
    with Archive.open(root) as again:
        (turn,) = again.conversation("trip").tail()
        assert (turn.meta, turn.extra) == (meta, extra)
        assert turn == chat.tail()[0]


def test_text_is_stored_as_it_was_given_and_grows_by_what_was_given(chat, log):
    """A23: prompts that were recorded with the context put into them grew to 108,000 tokens."""
    text = "  And by train?\n\n[context]\n- User: earlier  "
    sizes = [0]
    for _ in range(20):
        chat.record("user", text)
        # Whoever puts stored turns into a prompt changes nothing that is stored.
        assert {turn.text for turn in chat.tail(20)} == {text}
        sizes.append(log().stat().st_size)
    steps = [after - before for before, after in itertools.pairwise(sizes)]
    assert max(steps) - min(steps) <= 1  # one more digit in "seq" from the tenth on


def test_a_returned_turn_is_the_callers_own(chat):
    """A14, rule 7: a caller that tidied up its copy had emptied the store's."""
    given = {"parts": [{"text": "a"}]}
    stored = chat.record("user", given, meta={"k": ["v"]}, raw={"r": [1]})
    assert stored.content == {"parts": [{"text": "a"}]}
    given["parts"].append("later")
    for turn in (stored, chat.tail(1)[0], next(chat.turns())):
        turn.content["parts"].clear()
        turn.meta["k"].append("changed")
        turn.extra["raw"]["r"].append(2)
        turn.role = "other"
    found = chat.tail(1)
    found.clear()
    (turn,) = chat.tail(1)
    assert (turn.role, turn.content) == ("user", {"parts": [{"text": "a"}]})
    assert (turn.meta, turn.extra) == ({"k": ["v"]}, {"raw": {"r": [1]}})


def test_recording_changes_nothing_of_the_callers(chat):
    """O25: an `add` that wrote its new id into the caller's object made the next add a twin."""
    item = {"role": "user", "content": ["a"], "meta": {"k": 1}}
    before = json.dumps(item)
    chat.record_many([item])
    chat.record_many([item])
    assert json.dumps(item) == before
    first, second = chat.tail()
    assert first.id != second.id
    copied = chat.record_many([first]) == [first]
    assert copied and len(chat.tail()) == 2  # a turn that is there already is the same turn


# --- ids and numbers --------------------------------------------------------------------------


def test_turns_without_an_id_get_one_each(chat):
    """O1: an id made of a time that was read once, at import, stored one item out of five."""
    stored = [chat.record("user", "same") for _ in range(5)]
    stored += chat.record_many([("user", "same")] * 5)
    assert len({turn.id for turn in stored}) == 10
    assert [turn.seq for turn in chat.tail()] == list(range(1, 11))


def test_each_turn_gets_the_time_at_which_it_was_stored(chat):
    """O2, K23: one default for all made every "most recent" meaningless."""
    before = datetime.now(UTC)
    first = chat.record("user", "a")
    time.sleep(0.002)
    second = chat.record("user", "b")
    after = datetime.now(UTC)
    margin = timedelta(microseconds=1)
    assert before - margin <= first.ts < second.ts <= after
    assert first.ts.utcoffset() == timedelta(0)
    assert [turn.ts for turn in chat.tail()] == [first.ts, second.ts]


@pytest.mark.parametrize("zone", ["Asia/Kolkata", "IST-5:30", "EST5EDT,M3.2.0,M11.1.0"])
def test_times_are_utc_wherever_the_machine_stands(cli, zone):
    """K23: local time with a Z at its end was hours off."""
    before = datetime.now(UTC)
    cli("record", "trip", "now", TZ=zone)
    cli("record", "trip", "then", "--ts", "2026-11-21T09:00:00+01:00", TZ=zone)
    now, then = cli("show", "trip", TZ=zone).objects
    assert now["ts"].endswith("Z") and len(now["ts"]) == 27
    assert before <= datetime.fromisoformat(now["ts"]) <= datetime.now(UTC)
    assert then["ts"] == "2026-11-21T08:00:00.000000Z"


def test_the_order_is_that_of_recording_whatever_the_clocks_say(chat, monkeypatch):
    """A22: turns of one second, or of a clock that was set back, changed places."""
    midnight = datetime(2026, 11, 21, tzinfo=UTC).timestamp()
    # An id asks for the time as well, and may ask several times.
    monkeypatch.setattr(time, "time_ns", lambda: round((midnight + next(clock)) * 1e9))
    clock = (second for second in range(100, 0, -1) for _ in range(2))
    for at in range(5):
        chat.record("user", at)
    same = "2026-11-21T00:00:30Z"
    for at in range(5, 8):
        chat.record("user", at, ts=same)
    assert contents(chat) == list(range(8))
    seqs = [turn.seq for turn in chat.turns()]
    assert seqs == sorted(set(seqs))
    times = [turn.ts for turn in chat.turns()]
    assert times[:5] == sorted(times[:5], reverse=True)  # said as they were
    since = datetime(2026, 11, 21, 0, 1, 38, tzinfo=UTC)
    assert [turn.content for turn in chat.turns(since=since)] == [0, 1, 2]
    assert [turn.content for turn in chat.turns(until=since)] == [3, 4, 5, 6, 7]


def test_a_retried_turn_is_stored_once(chat, cli):
    """A25: the model call failed after the user's turn was stored; the retry stored it again."""
    first = chat.record("user", "And by train?", id="req-1")
    again = chat.record("user", "And by train?", id="req-1", ts="2001-01-01T00:00:00Z")
    assert again == first
    elsewhere = cli("record", "trip", "And by train?", "--id", "req-1", "--json")
    assert elsewhere.objects[0]["seq"] == first.seq
    chat.record("assistant", "About seven hours.")
    assert contents(chat) == ["And by train?", "About seven hours."]
    batch = [{"role": "user", "content": at, "id": f"b{at}"} for at in range(3)]
    assert chat.record_many(batch) == chat.record_many(batch)
    assert len(chat.tail()) == 5


@pytest.mark.parametrize(
    "other",
    [
        {"content": "other"},
        {"role": "assistant"},
        {"meta": {"k": 2}},
        {"meta": None},
        {"extra": 1},
        {"content": ["hello"]},
    ],
    ids=str,
)
def test_another_turn_under_a_taken_id_is_a_conflict(chat, log, other):
    """O25: it used to overwrite the first one without a word."""
    turn = {"role": "user", "content": "hello", "id": "t1", "meta": {"k": 1}}
    first = chat.record(**turn)
    before = log().read_bytes()
    with pytest.raises(TurnConflict) as caught:
        chat.record(**{**turn, **other})
    assert (caught.value.turn_id, caught.value.seq) == ("t1", first.seq)
    with pytest.raises(TurnConflict):
        chat.record_many([("user", "new"), {**turn, **other}])
    assert log().read_bytes() == before


def test_of_many_who_store_one_id_at_once_one_does(root, python):
    """O24: between "is it there?" and "add it" another one came in; both were stored."""
    body = (
        "chat = Archive.open(sys.argv[1], durability='none').conversation('trip')\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "for at in range(60):\n"
        "    print(chat.record('user', at, id=f't{at}').seq, flush=True)\n"
    )
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(python(body, root, stdin=subprocess.PIPE)) for _ in range(3)
        ]
        for process in processes:
            assert process.stdout.readline() == b"ready\n"
        for process in processes:
            process.stdin.write(b"go\n")
            process.stdin.flush()
        answers = [process.communicate(timeout=60)[0].split() for process in processes]
    assert answers[0] == answers[1] == answers[2]
    with Archive.open(root, durability="none") as archive:
        chat = archive.conversation("trip")
        assert contents(chat) == list(range(60))
        with ThreadPoolExecutor(8) as threads:
            seqs = set(threads.map(lambda _: chat.record("user", "x", id="one").seq, range(40)))
        assert seqs == {61}
        assert len(chat.tail(100)) == 61


# --- many at once -----------------------------------------------------------------------------


def test_two_processes_on_one_conversation_keep_every_turn_of_both(root, python):
    """A28, K26: read, change, write back: the last writer won, and lines of two ran together."""
    body = (
        "with Archive.open(sys.argv[1], durability='none') as archive:\n"
        "    chat = archive.conversation('trip')\n"
        "    for at in range(150):\n"
        "        chat.record('user', [sys.argv[2], at])\n"
        "        if at % 10 == 0:\n"
        "            chat.record_many([('user', [sys.argv[2], at, 'batch', n]) for n in (0, 1)])\n"
    )
    with python(body, root, "a") as one, python(body, root, "b") as other:
        assert (one.wait(60), other.wait(60)) == (0, 0)
    with Archive.open(root) as archive:
        turns = list(archive.conversation("trip").turns())
    assert [turn.seq for turn in turns] == list(range(1, 361))
    for who in ("a", "b"):
        mine = [turn.content[1:] for turn in turns if turn.content[0] == who]
        assert [each[0] for each in mine if len(each) == 1] == list(range(150))
    batches = [at for at, turn in enumerate(turns) if turn.content[2:] == ["batch", 0]]
    assert len(batches) == 30
    assert all(turns[at + 1].content[2:] == ["batch", 1] for at in batches)


def test_large_turns_of_many_processes_stay_whole(root, python):
    """A24: 200 KB lines were whole by luck of one system call on one kind of disk."""
    body = (
        "with Archive.open(sys.argv[1], durability='none') as archive:\n"
        "    chat = archive.conversation('trip')\n"
        "    for at in range(40):\n"
        "        chat.record('user', sys.argv[2] * 200_000)\n"
    )
    with contextlib.ExitStack() as stack:
        processes = [stack.enter_context(python(body, root, letter)) for letter in "abcd"]
        assert [process.wait(60) for process in processes] == [0] * 4
    with Archive.open(root) as archive:
        turns = archive.conversation("trip").turns(on_damage=pytest.fail)
        counts = dict.fromkeys("abcd", 0)
        for turn in turns:
            assert turn.content == turn.content[0] * 200_000
            counts[turn.content[0]] += 1
    assert counts == dict.fromkeys("abcd", 40)


def test_many_threads_share_one_archive_and_lose_nothing(root):
    """A18: an unlocked "make it if it is not there" gave each thread a store of its own."""
    with Archive.open(root, durability="none") as shared:

        def write(at):
            with Archive.open(root, durability="none") as own:
                for archive in (shared, own, shared):
                    archive.conversation(f"c{at % 2}").record("user", at)

        with ThreadPoolExecutor(50) as threads:
            list(threads.map(write, range(50)))
        for name in ("c0", "c1"):
            turns = shared.conversation(name).tail(200)
            assert [turn.seq for turn in turns] == list(range(1, 76))
            assert sorted({turn.content for turn in turns}) == list(range(int(name[1]), 50, 2))


def test_a_busy_conversation_is_an_error_in_good_time(root, cli):
    """K26: no lock at all mixed up the lines; a lock without an end would hang for ever."""
    with Archive.open(root, lock_timeout_seconds=0.1) as archive:
        chat = archive.conversation("trip")
        chat.record("user", "a")
        with writing(root):
            began = time.monotonic()
            with pytest.raises(LockTimeout):
                chat.record("user", "b")
            assert 0.1 <= time.monotonic() - began < 5
            archive.conversation("other").record("user", "is not held up")
            assert contents(chat) == ["a"]  # readers wait for nobody
        chat.record("user", "c")
        assert contents(chat) == ["a", "c"]


def test_a_waiting_turn_does_not_hold_up_an_event_loop(root):
    """K25: an "async" append that wrote, and ran git, in the loop stopped every other task."""

    async def serve():
        with Archive.open(root) as archive:
            chat = archive.conversation("trip")
            await asyncio.to_thread(chat.record, "user", "a")
            with writing(root):
                waiting = asyncio.create_task(asyncio.to_thread(chat.record, "user", "b"))
                beats = 0
                until = time.monotonic() + 0.3
                while time.monotonic() < until:
                    await asyncio.sleep(0.005)
                    beats += 1
                assert not waiting.done()
            turn = await asyncio.wait_for(waiting, 10)
            return beats, turn.seq

    beats, seq = asyncio.run(serve())
    assert beats > 10
    assert seq == 2


# --- dying, and refusals of the system --------------------------------------------------------


def test_nine_turns_and_a_kill_leave_nine_turns(root, python):
    """K1: "save every ten" had nothing on disk when the ninth was the last."""
    body = (
        "chat = Archive.open(sys.argv[1], durability=sys.argv[2]).conversation('trip')\n"
        "for at in range(9):\n"
        "    print(chat.record('user', at).seq, flush=True)\n"
        "time.sleep(60)\n"
    )
    for at, durability in enumerate(["always", "interval", "none"]):
        with python(body, root, durability) as process:
            for _ in range(9):
                process.stdout.readline()
            process.send_signal(signal.SIGKILL)
            process.wait(60)
        with Archive.open(root) as archive:
            assert contents(archive.conversation("trip")) == list(range(9)) * (at + 1)


def test_a_conversation_is_one_file(chat, log):
    """K2: saving all of it every ten messages made three full copies of thirty."""
    for at in range(30):
        chat.record("user", at)
    files = [path for path in log().parent.rglob("*") if path.is_file()]
    assert {path.name for path in files} == {"trip.jsonl", "trip.lock"}
    assert log().read_bytes().count(b"\n") == 30


@pytest.mark.skipif(not os.path.exists("/proc/self/io"), reason="no /proc/self/io here")
@pytest.mark.parametrize("given", [False, True], ids=["made ids", "given ids"])
def test_the_cost_of_a_turn_does_not_grow_with_the_conversation(chat, given):
    """K3: rewriting the whole file made 3,000 appends take 38 seconds."""

    def cost_of_ten(name):
        before = _bytes_moved()
        for at in range(10):
            chat.record("user", "hello", id=f"{name}{at}" if given else None)
        return _bytes_moved() - before

    chat.record("user", "the first one opens the file")
    early = cost_of_ten("a")
    for at in range(3000):
        chat.record("user", "hello", id=f"m{at}" if given else None)
    late = cost_of_ten("b")
    assert late < 2 * early + 1000


def _bytes_moved():
    with open("/proc/self/io", encoding="ascii") as file:
        fields = dict(line.split(": ") for line in file.read().splitlines())
    return int(fields["rchar"]) + int(fields["wchar"])


FULL = (
    "import resource\n"
    "archive = Archive.open(sys.argv[1])\n"
    "chat = archive.conversation('trip')\n"
    "chat.record('user', 'a' * 500)\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))\n"
    "for attempt in (lambda: chat.record('user', 'b' * 500),\n"
    "                lambda: chat.record_many([('user', 'c'), ('user', 'd' * 500)])):\n"
    "    try:\n"
    "        attempt()\n"
    "    except StorageFull as error:\n"
    "        print(len(error.stored), len(chat.tail()), os.stat(chat.path).st_size, flush=True)\n"
    "print(chat.record('user', 'e').seq)\n"
    "resource.setrlimit(resource.RLIMIT_FSIZE, (-1, -1))\n"
    "print(chat.record('user', 'f' * 500).seq)\n"
)


def test_a_full_disk_leaves_the_file_as_it_was_and_works_again_with_room(root, python):
    """A15, K4: the old file was cut to six bytes, and the message was in memory only."""
    with python(FULL, root) as process:
        out, _ = process.communicate(timeout=60)
    first, second, *seqs = out.splitlines()
    assert first == second
    assert first.split()[:2] == [b"0", b"1"]
    assert seqs == [b"2", b"3"]
    with Archive.open(root) as archive:
        assert [text[0] for text in contents(archive.conversation("trip"))] == ["a", "e", "f"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="mounting needs root")
def test_a_disk_that_is_really_full(tmp_path):
    """A15, K4: the same with a file system that has no block left."""
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k,mode=0700", "tmpfs", disk], capture_output=True
    )
    if done.returncode != 0:
        pytest.skip(f"cannot mount a small disk here: {done.stderr.decode().strip()}")
    try:
        (disk / "something else").write_bytes(b"x" * 40_000)
        with Archive.open(disk / "archive") as archive:
            chat = archive.conversation("trip")
            kept = 0
            with pytest.raises(StorageFull):
                for _ in range(100):
                    chat.record("user", "x" * 5000)
                    kept += 1
            before = Path(chat.path).read_bytes()
            assert before.count(b"\n") == kept > 2
            with pytest.raises(StorageFull):
                archive.conversation("other").record("user", "y" * 9000)
            with pytest.raises(StorageFull):
                chat.compact(RetentionPolicy(keep_last=kept - 1))
            assert Path(chat.path).read_bytes() == before
            (disk / "something else").unlink()
            assert chat.record("user", "room again").seq == kept + 1
            assert chat.compact(RetentionPolicy(keep_last=2)).dropped == kept - 1
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


def test_a_folder_that_is_gone_is_an_error_not_a_new_archive(root, archive, chat, tmp_path):
    """K17, A15: a log without its folder answered with an id, as if it had stored something."""
    chat.record("user", "a")
    os.rename(root, tmp_path / "moved")
    with pytest.raises(StorageError):
        chat.record("user", "b")
    with pytest.raises(StorageError):
        archive.conversation("other").record("user", "b")
    with pytest.raises(ConversationNotFound):
        chat.tail()
    assert not os.path.exists(root)
    os.rename(tmp_path / "moved", root)
    chat.record("user", "c")
    assert contents(chat) == ["a", "c"]


def test_a_place_where_no_folder_can_be_made_is_an_error(tmp_path):
    """A15: a failure to make the folder at the start was swallowed, and then every write."""
    (tmp_path / "file").write_text("precious")
    with (
        Archive.open(tmp_path / "file" / "archive") as archive,
        pytest.raises(StorageError),
    ):
        archive.conversation("trip").record("user", "a")
    assert (tmp_path / "file").read_text() == "precious"


# --- the file under our hands -----------------------------------------------------------------


def test_turns_go_to_the_file_that_the_name_leads_to(archive, chat, cli, log):
    """A20: after a compaction elsewhere, turns went to a file that nobody opens again."""
    for at in range(5):
        chat.record("user", at)
    cli("compact", "trip", "--keep-last", "1")
    assert chat.record("user", 5).seq == 6
    assert contents(chat) == [4, 5]
    log().unlink()
    chat.record("user", "anew")
    assert contents(chat) == ["anew"]
    copy = log().read_bytes()
    log().with_suffix(".bak").write_bytes(copy)
    os.replace(log().with_suffix(".bak"), log())
    chat.record("user", "after a restore")
    assert contents(chat) == ["anew", "after a restore"]
    seqs = [turn.seq for turn in chat.tail()]
    assert seqs == sorted(set(seqs))
    assert seqs[0] > 6  # what was answered once is not answered again


def test_a_whole_folder_that_is_replaced_by_a_backup_is_noticed(archive, chat, root):
    """A20: restoring a backup under a running server must not split the conversation in two."""
    chat.record("user", "a")
    namespace = os.path.join(root, "default")
    os.rename(namespace, f"{namespace}.old")
    os.mkdir(namespace, 0o700)
    os.link(os.path.join(f"{namespace}.old", "trip.jsonl"), os.path.join(namespace, "trip.jsonl"))
    chat.record("user", "b")
    with Archive.open(root) as again:
        assert contents(again.conversation("trip")) == ["a", "b"] == contents(chat)


def test_an_archive_stays_where_it_is_when_the_working_directory_changes(tmp_path, monkeypatch):
    """A21: history kept under a relative folder "vanished" with every change of directory."""
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "one")
    with Archive.open("chats") as archive:
        archive.conversation("trip").record("user", "a")
        monkeypatch.chdir(tmp_path / "two")
        archive.conversation("trip").record("user", "b")
        archive.conversation("other").record("user", "c")
        assert contents(archive.conversation("trip")) == ["a", "b"]
    assert not list((tmp_path / "two").iterdir())
    with Archive.open(tmp_path / "one" / "chats") as archive:
        assert contents(archive.conversation("trip")) == ["a", "b"]


def test_programs_in_different_directories_find_one_archive(cli, tmp_path):
    """A21: two daemons with different directories had two histories of one conversation."""
    for at, place in enumerate(("one", "two")):
        (tmp_path / place).mkdir()
        done = subprocess.run(
            [sys.executable, "-m", "convmem", "record", "trip", str(at)],
            cwd=tmp_path / place,
            env=cli.environment,
            timeout=60,
        )
        assert done.returncode == 0
    assert cli("show", "trip").contents == ["0", "1"]


def test_a_fork_does_not_share_the_parents_locks_and_files(root, python):
    """A28: servers fork; parent and child must count, and lock, each for themselves."""
    body = (
        "import warnings; warnings.simplefilter('ignore')\n"
        "archive = Archive.open(sys.argv[1], durability='none')\n"
        "chat = archive.conversation('trip')\n"
        "chat.record('user', 'before')\n"
        "child = os.fork()\n"
        "for at in range(100):\n"
        "    chat.record('user', ['child' if child == 0 else 'parent', at])\n"
        "if child == 0:\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    with python(body, root) as process:
        assert process.wait(60) == 0
    with Archive.open(root) as archive:
        turns = archive.conversation("trip").tail(300)
    assert [turn.seq for turn in turns] == list(range(1, 202))
    for who in ("child", "parent"):
        mine = [turn.content[1] for turn in turns if turn.content[0] == who]
        assert mine == list(range(100))


def test_threads_that_wait_are_served_while_one_writes_without_pause(root):
    """K26: a lock that is fair enough: nobody is left out for as long as another is busy."""
    done = threading.Event()

    def hurry():
        with Archive.open(root, durability="none") as own:
            while not done.is_set():
                own.conversation("trip").record("user", "again")

    busy = threading.Thread(target=hurry)
    busy.start()
    try:
        with Archive.open(root, durability="none") as archive:
            waits = []
            for _ in range(50):
                began = time.monotonic()
                archive.conversation("trip").record("user", "my turn")
                waits.append(time.monotonic() - began)
    finally:
        done.set()
        busy.join()
    assert max(waits) < 3
