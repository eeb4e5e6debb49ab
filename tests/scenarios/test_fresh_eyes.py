"""What a stranger's first hours with convmem brought to light, so that it does not come back."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from convmem import Archive, RetentionPolicy


def run(code, *arguments, stdin=None):
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode()


@pytest.mark.parametrize("policy", ["always", "interval", "none"])
def test_one_stream_feeds_more_conversations_than_there_are_descriptors(root, policy):
    """1,024 is the usual limit; a stream of 10,000 chats must not stop at 1,017."""
    stream = b"".join(
        b'{"continuation_id":"c%d","role":"user","content":"x"}\n' % n for n in range(400)
    )
    out = run(
        """
        import resource, sys
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
        from convmem.cli.boundary import run
        sys.exit(run(["record", "-", "--jsonl", "--json", "-A", sys.argv[1],
                      "--sync", sys.argv[2]]))
        """,
        root,
        policy,
        stdin=stream,
    )
    assert len(out.splitlines()) == 400


def test_interval_holds_only_so_many_logs_open(root):
    """What waits for its sync must not take every descriptor of the process."""
    out = run(
        """
        import os, resource, sys
        resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
        from convmem import Archive, Durability
        policy = Durability.interval(turns=1000, seconds=60)
        with Archive.open(sys.argv[1], durability=policy) as archive:
            for n in range(500):
                archive.conversation(f"c{n}").record("user", "x")
            print(len(os.listdir("/proc/self/fd")))
        """,
        root,
    )
    assert int(out) < 128


def test_sealed_lines_appended_by_hand_do_not_make_a_seq_be_given_out_again(root, log):
    """An operator's `cat .trash/… >> log` is a mistake; using a `seq` twice would be ours."""
    with Archive.open(root) as archive:
        chat = archive.conversation("trip")
        chat.record_many([("user", str(n)) for n in range(200)])
        chat.compact(RetentionPolicy(keep_last=100))
    (trashed,) = (Path(root) / "default" / ".trash").iterdir()
    with log().open("ab") as file:
        file.write(trashed.read_bytes())
    with Archive.open(root) as archive:
        assert archive.conversation("trip").record("user", "new").seq == 201


def test_the_path_of_an_archive_in_the_home_directory_is_where_its_turns_are(cli, tmp_path):
    """crontab and systemd hand `~` over as it is."""
    env = {"HOME": str(tmp_path), "CONVMEM_ARCHIVE": "~/x"}
    cli("record", "a", "b", **env)
    assert cli("path", **env).text == f"{tmp_path}/x\n"
    assert cli("path", "a", **env).text == f"{tmp_path}/x/default/a.jsonl\n"


def test_a_first_turn_that_could_not_be_stored_leaves_no_conversation(root):
    """`tail` of it would say "no turns" where there is "no such conversation"."""
    run(
        """
        import resource, signal, sys
        from convmem import Archive, ConversationNotFound, StorageFull
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        with Archive.open(sys.argv[1]) as archive:
            archive.conversation("there").record("user", "x")
            resource.setrlimit(resource.RLIMIT_FSIZE, (50, resource.RLIM_INFINITY))
            try:
                archive.conversation("phantom").record("user", "x")
            except StorageFull:
                pass
            else:
                sys.exit("it was stored")
            assert [chat.continuation_id for chat in archive.conversations()] == ["there"]
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY,) * 2)
            assert archive.conversation("phantom").record("user", "y").seq == 1
        """,
        root,
    )


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no /dev/full here")
def test_an_answer_that_cannot_be_printed_is_no_full_archive(root):
    """A caller who takes it for one records the turn a second time."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "convmem", "record", "a", "x", "--json", "-A", str(root)],
            stdout=full,
            stderr=subprocess.PIPE,
        )
    told = json.loads(done.stderr)
    assert (done.returncode, told["kind"]) == (4, "io")
    assert "standard output" in told["message"] and "recorded" in told["hint"]
    with Archive.open(root) as archive:
        assert len(archive.conversation("a").tail(9)) == 1


def test_a_umask_that_takes_everything_takes_nothing(root):
    """`umask 777` is a mistake that must not make an archive nobody can open."""
    code = """
        import os, sys
        os.umask(0o777)
        from convmem import Archive
        with Archive.open(sys.argv[1]) as archive:
            archive.conversation("a").record("user", "x")
            archive.conversation("a").compact(
                __import__("convmem").RetentionPolicy(keep_last=0))
    """
    run(code, root)
    for folder, _, files in os.walk(root):
        assert os.stat(folder).st_mode & 0o777 == 0o700, folder
        for name in files:
            assert os.stat(os.path.join(folder, name)).st_mode & 0o777 == 0o600, name


def test_what_stands_in_place_of_the_long_ids_hides_no_other_conversation(root, cli):
    """One planted file must not take the whole list down."""
    with Archive.open(root) as archive:
        archive.conversation("x" * 500).record("user", "x")
        archive.conversation("short").record("user", "x")
    ids = Path(root) / "default" / ".ids"
    os.rename(ids, Path(root) / "elsewhere")
    os.symlink(Path(root) / "elsewhere", ids)
    assert cli("list", "-A", root).text == "short\n"
    cli("compact", "--all", "--keep-last", "0", "-A", root)


def test_a_cursor_file_that_is_a_link_stays_one_and_is_never_written_through_a_planted_one(
    cli, chat_with_turns, tmp_path
):
    """Cursors lie in shared folders, too."""
    real = tmp_path / "real"
    link = tmp_path / "link"
    os.symlink(real, link)
    cli("tail", "trip", "--cursor-file", str(link))
    assert link.is_symlink() and real.read_text().startswith("3:")


@pytest.fixture
def chat_with_turns(archive):
    chat = archive.conversation("trip")
    for n in range(3):
        chat.record("user", str(n))
    return chat


def test_many_given_ids_after_a_compaction_do_not_keep_other_writers_waiting(root):
    """What was dropped is looked through once for each call, not once for each id."""
    with Archive.open(root, durability="none") as archive:
        chat = archive.conversation("l")
        chat.record_many({"role": "user", "content": "x", "id": f"old-{n}"} for n in range(20_000))
        chat.compact(RetentionPolicy(keep_last=10))
        reads = []
        real = os.pread
        os.pread = lambda *given: (reads.append(given[1]), real(*given))[1]
        try:
            chat.record_many(
                {"role": "user", "content": "x", "id": f"new-{n}"} for n in range(2_000)
            )
        finally:
            os.pread = real
        assert len(reads) < 200, "each id read the file of its own"
