"""Many threads, forks and conversations over one archive: locks, descriptors, memory."""

from __future__ import annotations

import fcntl
import os
import resource
import shutil
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from convmem import Archive, LockTimeout, StorageError


@pytest.fixture
def root(tmp_path):
    return tmp_path / "archive"


def run(code, *arguments):
    """Run *code* in a process of its own and return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_lock_held_by_others_ends_in_an_error_that_says_so(root):
    """A writer that waits for ever is a server that hangs."""
    with Archive.open(root, lock_timeout_seconds=0.1) as archive:
        chat = archive.conversation("c")
        chat.record("user", "first")
        held = os.open(root / "default" / ".locks" / "c.lock", os.O_RDWR)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            before = time.monotonic()
            with pytest.raises(LockTimeout, match="held by others"):
                chat.record("user", "second")
            assert 0.09 < time.monotonic() - before < 5
        finally:
            os.close(held)
        chat.record("user", "third")
        assert [turn.content for turn in chat.tail(9)] == ["first", "third"]


def test_a_lock_time_out_also_bounds_the_wait_for_another_thread(root):
    """Threads of one process queue before the kernel sees them; their wait counts too."""
    with Archive.open(root, lock_timeout_seconds=0.1) as archive:
        chat = archive.conversation("c")
        chat.record("user", "first")
        held = os.open(root / "default" / ".locks" / "c.lock", os.O_RDWR)
        heard = []

        def work():
            try:
                chat.record("user", "x")
            except LockTimeout:
                heard.append("busy")

        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(10)
        finally:
            os.close(held)
        assert heard == ["busy"] * 4


def test_locks_that_were_removed_are_made_again_and_still_exclude(root):
    """Derived folders may be deleted at any time, also while others hold what was in them."""
    with Archive.open(root) as one, Archive.open(root) as two:
        one.conversation("c").record("user", "1")
        shutil.rmtree(root / "default" / ".locks")
        two.conversation("c").record("user", "2")
        one.conversation("c").record("user", "3")
        held = os.open(root / "default" / ".locks" / "c.lock", os.O_RDWR)
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.close(held)
        assert [turn.seq for turn in two.conversation("c").tail(9)] == [1, 2, 3]


def test_a_log_that_was_moved_into_another_folder_is_locked_where_its_path_leads(root):
    """Who tidies up by hand moves logs, not locks: two locks for one log would guard nothing."""
    with Archive.open(root, durability="none", lock_timeout_seconds=0.1) as archive:
        chat = archive.conversation("c")
        chat.record("user", "1")
        (root / "default").rename(root / "old")
        (root / "default").mkdir(mode=0o700)
        (root / "old" / "c.jsonl").rename(root / "default" / "c.jsonl")
        chat.record("user", "2")
        held = os.open(root / "default" / ".locks" / "c.lock", os.O_RDWR)
        try:
            fcntl.flock(held, fcntl.LOCK_EX)
            with pytest.raises(LockTimeout):
                chat.record("user", "3")
        finally:
            os.close(held)
        assert [turn.content for turn in chat.tail(9)] == ["1", "2"]


def test_descriptors_stay_few_over_any_number_of_conversations(root):
    """A server that has seen a million users must not run out of files."""
    before = len(os.listdir("/proc/self/fd"))
    with Archive.open(root, durability="none") as archive:
        chats = [archive.conversation(f"c{n}") for n in range(400)]
        for chat in chats:
            chat.record("user", "x")
        assert len(os.listdir("/proc/self/fd")) - before < 150
        for chat in chats:
            chat.record("user", "y", id="again")
            assert len(chat.tail(9)) == 2


def test_it_works_with_hardly_any_descriptors(root):
    """`ulimit -n 24` is a hostile host, not a reason to lose turns."""
    out = run(
        """
        import resource, sys, threading
        from convmem import Archive
        resource.setrlimit(resource.RLIMIT_NOFILE, (24, 24))
        with Archive.open(sys.argv[1], durability="none") as archive:
            def work(name):
                for n in range(60):
                    archive.conversation(f"{name}-{n}").record("user", "x")
            threads = [threading.Thread(target=work, args=(n,)) for n in range(3)]
            for thread in threads: thread.start()
            for thread in threads: thread.join()
            print(sum(len(chat.tail(9)) for chat in archive.conversations()))
        """,
        root,
    )
    assert out == "180\n"


def test_memory_stays_flat_over_many_conversations(root):
    """A16: no history is kept in memory, so nothing grows with the number of conversations."""
    out = run(
        """
        import resource, sys
        from convmem import Archive
        def resident():
            for line in open("/proc/self/status"):
                if line.startswith("VmRSS"):
                    return int(line.split()[1])
        with Archive.open(sys.argv[1], durability="none") as archive:
            def work(first, last):
                for n in range(first, last):
                    chat = archive.conversation(f"c{n}")
                    chat.record("user", "x" * 1000, id="1")
                    chat.tail(5)
            work(0, 300)
            before = resident()
            work(300, 1800)
            print(resident() - before)
        """,
        root,
    )
    assert int(out) < 4096, f"grew by {out.strip()} KiB over 1,500 conversations"


def test_a_forked_child_and_its_parent_both_go_on(root):
    """Pre-forking servers open the archive before they fork."""
    archive = Archive.open(root)
    chat = archive.conversation("c")
    chat.record("user", "before the fork")
    children = []
    for name in ("one", "two"):
        pid = os.fork()
        if pid == 0:
            status = 1
            try:
                for n in range(20):
                    chat.record("user", f"{name}-{n}")
                status = 0
            finally:
                os._exit(status)
        children.append(pid)
    for n in range(20):
        chat.record("user", f"parent-{n}")
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0]
    turns = list(chat.turns())
    assert [turn.seq for turn in turns] == list(range(1, 62))
    archive.close()


def test_a_fork_while_threads_record_leaves_the_child_able_to_record(root):
    """A lock that a thread of the parent held at the fork must not stay held in the child."""
    archive = Archive.open(root, durability="none", lock_timeout_seconds=5)
    chat = archive.conversation("c")
    chat.record("user", "first")
    stop = threading.Event()

    def work():
        while not stop.is_set():
            chat.record("user", "x")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for n in range(10):
            pid = os.fork()
            if pid == 0:
                status = 1
                try:
                    chat.record("user", f"child-{n}")
                    status = 0
                finally:
                    os._exit(status)
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()
    turns = list(chat.turns())
    assert [turn.seq for turn in turns] == list(range(1, len(turns) + 1))
    assert sum(turn.content.startswith("child") for turn in turns) == 10
    archive.close()


def test_a_killed_childs_lock_is_free_at_once(root):
    """P12: there are no stale locks, and no manual step after a crash."""
    with Archive.open(root, lock_timeout_seconds=5) as archive:
        chat = archive.conversation("c")
        chat.record("user", "first")
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            fd = os.open(root / "default" / ".locks" / "c.lock", os.O_RDWR)
            fcntl.flock(fd, fcntl.LOCK_EX)
            os.write(write, b"!")
            time.sleep(60)
            os._exit(0)
        assert os.read(read, 1) == b"!"
        os.kill(pid, 9)
        os.waitpid(pid, 0)
        os.close(read)
        os.close(write)
        chat.record("user", "second")


def test_threads_that_open_the_same_conversation_at_once_lose_nothing(root):
    """A18: fifty threads race for the first use."""
    with Archive.open(root, durability="none") as archive:
        gate = threading.Barrier(50)

        def work(n):
            gate.wait()
            archive.conversation("c").record("user", str(n))

        threads = [threading.Thread(target=work, args=(n,)) for n in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(int(turn.content) for turn in archive.conversation("c").turns()) == list(
            range(50)
        )


def test_an_archive_that_goes_away_is_an_error_and_comes_back(root):
    """K17: a folder that vanished must not look like a successful record."""
    with Archive.open(root) as archive:
        chat = archive.conversation("c")
        chat.record("user", "1")
        shutil.rmtree(root)
        for _ in range(2):
            with pytest.raises(StorageError, match="gone"):
                chat.record("user", "2")
        assert not root.exists()
        root.mkdir(mode=0o700)
        assert chat.record("user", "3").role == "user"
        assert len(list(chat.turns())) == 1


def test_a_file_that_another_process_removed_is_begun_anew(root):
    """A20: nothing is written to an inode that no name leads to."""
    with Archive.open(root) as archive:
        chat = archive.conversation("c")
        chat.record("user", "1")
        (root / "default" / "c.jsonl").unlink()
        turn = chat.record("user", "2")
        assert [found.content for found in chat.tail(9)] == ["2"]
        assert turn.seq == 2, "a seq that was answered is not used again"


def test_the_limit_of_open_files_is_looked_at(monkeypatch):
    """The pool of open logs follows what the system grants."""
    from convmem.stores import places

    monkeypatch.setattr(resource, "getrlimit", lambda which: (32, 32))
    assert places._descriptors_to_use() == 8
