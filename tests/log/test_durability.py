"""What an answer means under each policy, and what becomes of it when a sync fails."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from contextlib import contextmanager

import pytest

from convmem import Archive, Durability, DurabilityUnknown
from convmem.log import durability, files


class Syncs:
    """Counts the syncs of logs, and can slow them down or make them fail."""

    def __init__(self):
        self.count = 0
        self.delay = 0.0
        self.error = None
        self._lock = threading.Lock()

    def __call__(self, fd):
        with self._lock:
            self.count += 1
        time.sleep(self.delay)
        if self.error is not None:
            raise OSError(self.error, os.strerror(self.error))
        os.fsync(fd)


@pytest.fixture
def syncs(monkeypatch):
    counted = Syncs()
    monkeypatch.setattr(durability, "sync_data", counted)
    return counted


@pytest.fixture
def root(tmp_path):
    return tmp_path / "archive"


def test_always_syncs_before_each_answer(root, syncs):
    """An answered turn must survive the power cut that comes the moment after."""
    with Archive.open(root) as archive:
        for expected in (1, 2, 3):
            archive.conversation("c").record("user", "x")
            assert syncs.count == expected


def test_a_batch_costs_one_sync(root, syncs):
    """Atomic batches are also how bulk loads stay quick."""
    with Archive.open(root) as archive:
        archive.conversation("c").record_many([("user", str(n)) for n in range(100)])
    assert syncs.count == 1


def test_threads_that_write_at_the_same_time_share_a_sync(root, syncs):
    """Group commit: a server's throughput must not be one sync for each turn."""
    syncs.delay = 0.02
    with Archive.open(root) as archive:
        chat = archive.conversation("c")
        chat.record("user", "first")
        before = syncs.count

        def work():
            for n in range(5):
                chat.record("user", str(n))

        threads = [threading.Thread(target=work) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(chat.tail(100)) == 41
    assert syncs.count - before <= 30, "40 turns of 8 threads need 10 to 20 shared syncs"


def test_an_answer_is_never_covered_by_a_sync_that_began_before_its_write(root, monkeypatch):
    """A shared sync that started too early would acknowledge bytes that it did not carry."""
    covered_at_start = []
    written_sizes = []
    path = root / "default" / "c.jsonl"

    def slow(fd):
        size = os.fstat(fd).st_size
        time.sleep(0.01)
        covered_at_start.append((size, time.monotonic_ns()))

    monkeypatch.setattr(durability, "sync_data", slow)
    with Archive.open(root) as archive:
        chat = archive.conversation("c")

        def work(name):
            for n in range(8):
                turn = chat.record("user", f"{name}-{n}")
                answered = time.monotonic_ns()
                written_sizes.append((turn.seq, answered))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    ends = {}
    at = 0
    for seq, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
        at += len(line)
        ends[seq] = at
    for seq, answered in written_sizes:
        done = [size for size, finished in covered_at_start if finished <= answered]
        assert max(done) >= ends[seq], f"turn {seq} was answered before a sync carried it"


def test_interval_syncs_when_so_many_turns_wait(root, syncs):
    """The loss window is bounded by count, however fast the turns come."""
    with Archive.open(root, durability=Durability.interval(turns=5, seconds=60)) as archive:
        chat = archive.conversation("c")
        for _ in range(4):
            chat.record("user", "x")
        assert syncs.count == 0
        chat.record("user", "x")
        assert syncs.count == 1
        for _ in range(5):
            chat.record("user", "x")
        assert syncs.count == 2


def test_interval_syncs_in_time_when_nothing_more_arrives(root, syncs):
    """S2b: a policy that only looks at the clock when a turn comes never saves an idle chat."""
    with Archive.open(root, durability=Durability.interval(turns=1000, seconds=0.05)) as archive:
        archive.conversation("c").record("user", "the last word")
        deadline = time.monotonic() + 5
        while syncs.count == 0 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert syncs.count == 1


def test_interval_syncs_what_waits_at_close(root, syncs):
    """Closing says that everything is safe."""
    archive = Archive.open(root, durability=Durability.interval(turns=1000, seconds=60))
    for name in ("a", "b"):
        archive.conversation(name).record("user", "x")
    assert syncs.count == 0
    archive.close()
    assert syncs.count == 2
    archive.close()
    assert syncs.count == 2


def test_a_critical_turn_is_synced_at_once_under_any_policy(root, syncs):
    """A payment is not small talk."""
    for policy in ("interval", "none"):
        with Archive.open(root, durability=policy) as archive:
            before = syncs.count
            archive.conversation("c").record("user", "small talk")
            assert syncs.count == before
            archive.conversation("c").record("user", "pay", critical=True)
            assert syncs.count == before + 1


def test_none_never_syncs(root, syncs):
    """It says so in its name."""
    with Archive.open(root, durability="none") as archive:
        archive.conversation("c").record("user", "x")
    assert syncs.count == 0


def test_the_first_answer_waits_for_the_name_of_the_file(root, monkeypatch):
    """A synced file whose name was never synced may be gone after a power cut."""
    synced = []
    real = files.Folder.sync
    monkeypatch.setattr(files.Folder, "sync", lambda self: (synced.append(self.path), real(self)))
    with Archive.open(root) as archive:
        archive.conversation("c").record("user", "x")
        assert any(path.endswith("default") for path in synced)


def test_a_retry_is_answered_only_after_a_sync(root, syncs):
    """Who stored the turn first may have died between write and sync."""
    with Archive.open(root, durability="none") as archive:
        archive.conversation("c").record("user", "x", id="1")
    with Archive.open(root) as archive:
        assert archive.conversation("c").record("user", "x", id="1").seq == 1
    assert syncs.count == 1


def test_a_failed_sync_is_no_answer_and_is_never_tried_again(root, syncs):
    """P11: after a failed sync the kernel calls the pages clean; a second sync would lie."""
    archive = Archive.open(root)
    chat = archive.conversation("c")
    chat.record("user", "before", id="0")
    syncs.error = errno.EIO
    with pytest.raises(DurabilityUnknown) as caught:
        chat.record("user", "x", id="1")
    assert caught.value.ids == ["1"]
    assert caught.value.errno == errno.EIO
    syncs.error = None
    count = syncs.count
    for _ in range(2):
        with pytest.raises(DurabilityUnknown, match="earlier sync failed"):
            chat.record("user", "y", id="2")
    assert syncs.count == count
    assert [turn.id for turn in chat.tail(10)] == ["0", "1"], "nothing is written after it"
    archive.close()
    with Archive.open(root) as again:
        chat = again.conversation("c")
        assert chat.record("user", "x", id="1").seq == 2
        assert chat.record("user", "y", id="2").seq == 3


def test_another_conversation_goes_on_after_a_failed_sync(root, syncs):
    """One bad file must not stop a server's other conversations."""
    with Archive.open(root) as archive:
        syncs.error = errno.EIO
        with pytest.raises(DurabilityUnknown):
            archive.conversation("bad").record("user", "x")
        syncs.error = None
        archive.conversation("good").record("user", "x")


def test_all_threads_that_wait_for_a_sync_hear_that_it_failed(root, syncs):
    """A follower of a group commit must not take the leader's failure for success."""
    with Archive.open(root) as archive:
        chat = archive.conversation("c")
        chat.record("user", "first")
        syncs.delay, syncs.error = 0.05, errno.EIO
        heard = []

        def work():
            try:
                chat.record("user", "x")
                heard.append("answered")
            except DurabilityUnknown:
                heard.append("unknown")

        threads = [threading.Thread(target=work) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert heard == ["unknown"] * 6


class Interrupt(BaseException):
    """What a signal handler raises, wherever the thread just is."""


def test_a_thread_that_gives_up_waiting_for_a_sync_holds_up_nobody(root, monkeypatch):
    """Ctrl-C must not take the next sync along: all who wait behind it would wait for ever."""
    is_syncing, may_end = threading.Event(), threading.Event()

    def slow(fd):
        is_syncing.set()
        assert may_end.wait(10)

    def interrupt(number, frame):
        raise Interrupt

    with Archive.open(root) as archive:
        chat = archive.conversation("c")
        chat.record("user", "first")
        log = archive._store._places.log("default", "c")._open
        monkeypatch.setattr(durability, "sync_data", slow)
        others = [threading.Thread(target=chat.record, args=("user", "x")) for _ in range(2)]
        others[0].start()
        assert is_syncing.wait(10)
        before = signal.signal(signal.SIGALRM, interrupt)
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(Interrupt):
                chat.record("user", "of one who gives up")
        finally:
            signal.signal(signal.SIGALRM, before)
        others[1].start()
        while not log._waiting:
            time.sleep(0.001)
        may_end.set()
        for thread in others:
            thread.join(10)
            assert not thread.is_alive()


def test_a_thread_that_gives_up_just_as_it_is_to_sync_passes_that_on(root, monkeypatch):
    """Whoever was woken to sync for all, and does not, must leave it to the next."""
    is_syncing, may_end = threading.Event(), threading.Event()
    gave_up = []

    def slow(fd):
        is_syncing.set()
        assert may_end.wait(10)

    with Archive.open(root) as archive:
        chat = archive.conversation("c")
        chat.record("user", "first")
        log = archive._store._places.log("default", "c")._open
        monkeypatch.setattr(durability, "sync_data", slow)
        sync_for_all = durability.OpenLog._sync_for_all

        def given_up_once(self):
            if is_syncing.is_set() and not gave_up:
                gave_up.append(threading.current_thread())
                raise Interrupt
            sync_for_all(self)

        monkeypatch.setattr(durability.OpenLog, "_sync_for_all", given_up_once)

        def work():
            try:
                chat.record("user", "x")
            except Interrupt:
                assert gave_up == [threading.current_thread()]

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        while len(log._waiting) < 3:
            time.sleep(0.001)
        may_end.set()
        for thread in threads:
            thread.join(10)
            assert not thread.is_alive()
        assert len(gave_up) == 1


def test_a_sync_that_fails_in_the_background_is_raised_by_the_next_turn_and_by_close(root, syncs):
    """An interval policy must not swallow the failure that it hides from the caller."""
    archive = Archive.open(root, durability=Durability.interval(turns=1000, seconds=0.02))
    chat = archive.conversation("c")
    syncs.error = errno.EIO
    chat.record("user", "x")
    deadline = time.monotonic() + 5
    while syncs.count == 0 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    with pytest.raises(DurabilityUnknown):
        chat.record("user", "y")
    with pytest.raises(DurabilityUnknown):
        archive.close()


@pytest.mark.parametrize("major, are_in_turns", [(0, True), (8, False)])
def test_where_a_file_system_mixes_up_syncs_of_one_file_processes_take_turns(
    root, monkeypatch, major, are_in_turns
):
    """P2: btrfs answered a sync before anything was written, while another process synced."""
    held = []

    def sync(fd):
        # Another process would open the file anew, as this does.
        other = os.open(f"/proc/self/fd/{fd}", os.O_RDONLY)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            held.append(False)
        except BlockingIOError:
            held.append(True)
        finally:
            os.close(other)

    monkeypatch.setattr(durability, "sync_data", sync)
    monkeypatch.setattr(os, "major", lambda device: major)
    with Archive.open(root) as archive:
        archive.conversation("c").record("user", "x")
        assert held == [are_in_turns]
        archive.conversation("c").record("user", "y")  # and nothing stays locked
    assert held == [are_in_turns, are_in_turns]


@pytest.mark.parametrize("bad", [lambda: Durability("often"), lambda: Durability.interval(turns=0)])
def test_a_policy_that_means_nothing_is_refused(bad):
    """A typo must not become the weakest policy."""
    with pytest.raises(ValueError):
        bad()


CHILD = """
    import os, sys, time
    from convmem import Archive, Durability
    from convmem.log import durability

    def told(fd):
        os.write(1, b"synced\\n")
        os.fsync(fd)

    durability.sync_data = told
    archive = Archive.open(sys.argv[1], durability=Durability.interval(turns=1000, seconds=60))
    archive.conversation("c").record("user", "x")
    os.write(1, b"recorded\\n")
"""


@contextmanager
def child(root, then):
    """A process that records one turn under `interval` and then does *then*."""
    code = textwrap.dedent(CHILD) + textwrap.dedent(then)
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def test_interval_syncs_what_waits_at_exit(root):
    """A program that just ends has not asked to lose its last second."""
    with child(root, "") as process:
        out, err = process.communicate(timeout=30)
    assert out == b"recorded\nsynced\n"
    assert err == b""


def test_interval_syncs_what_waits_on_sigterm_and_dies_of_it(root):
    """Service managers stop with SIGTERM, and want to see that it worked."""
    with child(root, "time.sleep(60)") as process:
        assert process.stdout.readline() == b"recorded\n"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    assert out == b"synced\n"
    assert process.returncode == -signal.SIGTERM


def test_a_program_that_handles_sigterm_itself_is_left_alone(root):
    """A server's own graceful shutdown goes before ours."""
    then = """
        import signal
        signal.signal(signal.SIGTERM, lambda *_: (os.write(1, b"mine\\n"), sys.exit(0)))
        os.write(1, b"ready\\n")
        time.sleep(60)
    """
    with child(root, then) as process:
        assert process.stdout.readline() == b"recorded\n"
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGTERM)
        out, _ = process.communicate(timeout=30)
    assert out == b"mine\nsynced\n"
    assert process.returncode == 0
