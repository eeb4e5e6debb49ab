"""``convmem compact``: what it refuses, what it does, and what it says, by hand and from cron."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import sys
import threading
import time
from pathlib import Path

import pytest

from convmem import Archive


@pytest.fixture
def fill(archive):
    """Make conversations of so many turns, an hour apart, the newest a minute old."""

    def make(*names, turns=10):
        now = time.time()
        for name in names:
            chat = archive.conversation(name)
            for at in range(turns):
                chat.record("user", at, id=f"t{at}", ts=now - 60 - 3600 * (turns - 1 - at))

    return make


@contextlib.contextmanager
def compacting(root, name, namespace="default"):
    """Be another compaction of that conversation for a while."""
    locks = Path(root, namespace, ".locks")
    locks.mkdir(mode=0o700, exist_ok=True)
    with open(locks / f"{name}.lock.c", "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        yield


def snapshot(root):
    """Everything that is in the archive, but for the locks, which are only ever taken."""
    return {
        str(path): path.read_bytes()
        for path in Path(root).rglob("*")
        if path.is_file() and path.parent.name != ".locks"
    }


# --- what is refused --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "name the conversations to compact, or say --all"),
        (["--keep-last", "1"], "name the conversations to compact, or say --all"),
        (["trip"], "there is no policy"),
        (["--all"], "there is no policy"),
        (["--all", "--discard", "--dry-run"], "there is no policy"),
        (["--all", "trip", "--keep-last", "1"], "--all"),
        (["trip", "--keep-last", "-1"], "--keep-last"),
        (["trip", "--keep-last", "few"], "--keep-last"),
        (["trip", "--max-age", "30"], "--max-age"),
        (["trip", "--max-age", "30m"], "--max-age"),
        (["trip", "--max-bytes", "much"], "--max-bytes"),
        (["trip", "--keep-last", "1", "--jobs", "0"], "--jobs"),
        (["trip", "", "--keep-last", "1"], "empty"),
    ],
)
def test_wrong_usage_is_2_and_drops_nothing(cli, fill, words, said):
    """Nothing is thrown away by default, nor by half a sentence."""
    fill("trip")
    before = snapshot(cli.root)
    answer = cli("compact", *words, code=2)
    assert said in answer.err
    assert answer.out == b""
    assert snapshot(cli.root) == before


def test_a_conversation_that_is_not_there_is_3_and_makes_nothing(cli):
    """A mistyped id in a crontab must be heard of."""
    answer = cli("compact", "nothing", "--keep-last", "1", "--json", code=3)
    assert [each["kind"] for each in answer.told] == ["not_found"]
    cli("compact", "nothing", "--keep-last", "1", "--dry-run", code=3)
    assert not os.path.exists(cli.root)


def test_one_that_is_not_there_among_others_is_7_and_the_others_are_done(cli, fill):
    """Done in part is a result of its own: some went, and one is named."""
    fill("a", "b")
    answer = cli("compact", "a", "nothing", "b", "--keep-last", "1", "--json", code=7)
    assert [each["continuation_id"] for each in answer.objects] == ["a", "b"]
    assert [(each["kind"], each["continuation_id"]) for each in answer.told] == [
        ("not_found", "nothing")
    ]
    assert cli("show", "b").contents == [9]


# --- what is done -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "kept"),
    [
        (["--keep-last", "3"], [7, 8, 9]),
        (["--keep-last", "0"], []),
        (["--keep-last", "10"], range(10)),
        (["--max-age", "150min"], [7, 8, 9]),
        (["--max-age", "2h30min", "--keep-last", "5"], [5, 6, 7, 8, 9]),
        (["--max-age", "2h30min", "--keep-last", "1"], [7, 8, 9]),
        (["--max-age", "PT150M"], [7, 8, 9]),
        (["--max-age", "90d"], range(10)),
        (["--max-bytes", "1"], [9]),
        (["--max-bytes", "1.5GiB"], range(10)),
        (["--keep-last", "5", "--max-bytes", "250"], [8, 9]),
    ],
)
def test_each_policy_keeps_what_it_says(cli, fill, archive, words, kept):
    """Durations and sizes as people type them, and the meaning that the help gives them."""
    fill("trip")
    chat = archive.conversation("trip")
    before = chat.describe().bytes
    (told,) = cli("compact", "trip", *words, "--json").objects
    assert [turn.content for turn in chat.tail()] == list(kept)
    assert (told["kept"], told["dropped"]) == (len(kept), 10 - len(kept))
    assert sum(told["reasons"].values()) == told["dropped"]
    assert told["bytes_before"] == before
    assert told["bytes_after"] == chat.describe().bytes
    assert chat.describe().last_seq == 10


def test_dropped_turns_are_in_the_trash_whole(cli, fill, log):
    """Nothing is lost by a policy that was too sharp."""
    fill("trip")
    lines = log().read_bytes().splitlines()
    (told,) = cli("compact", "trip", "--keep-last", "4", "--json").objects
    assert list(told) == [
        "continuation_id",
        "namespace",
        "action",
        "dry_run",
        "because",
        "bytes_before",
        "bytes_after",
        "trash",
        "kept",
        "dropped",
        "reasons",
        "ranges",
        "dropped_bytes",
        "damaged",
        "quarantine",
        "summary",
    ]
    assert (told["continuation_id"], told["namespace"]) == ("trip", "default")
    assert (told["reasons"], told["ranges"]) == ({"keep_last": 6}, [[1, 6]])
    assert (log().parent / ".trash" / told["trash"]).read_bytes().splitlines() == lines[:6]
    assert log().read_bytes().splitlines() == lines[6:]
    assert told["dropped_bytes"] == sum(len(line) + 1 for line in lines[:6])


def test_with_discard_nothing_goes_to_the_trash(cli, fill, log):
    """Some things must really go; then that was said."""
    fill("trip")
    (told,) = cli("compact", "trip", "--keep-last", "4", "--discard", "--json").objects
    assert (told["dropped"], told["trash"]) == (6, None)
    assert not (log().parent / ".trash").exists()


def test_a_dry_run_says_the_same_and_changes_nothing(cli, fill):
    """Whoever tries a policy first must be able to trust the numbers, and the silence."""
    fill("a", "b")
    before = snapshot(cli.root)
    words = ["compact", "--all", "--max-bytes", "500", "--json"]
    tried = cli(*words, "--dry-run")
    assert snapshot(cli.root) == before
    assert cli("show", "a").contents == list(range(10))
    done = cli(*words)
    for one, other in zip(tried.objects, done.objects, strict=True):
        assert (one.pop("dry_run"), other.pop("dry_run")) == (True, False)
        assert (one.pop("trash"), bool(other.pop("trash"))) == (None, True)
        assert one == other


def test_where_nothing_is_to_be_dropped_nothing_is_rewritten(cli, fill, log):
    """A nightly run over ten thousand quiet conversations must not rewrite ten thousand files."""
    fill("trip")
    before = os.stat(log())
    (told,) = cli("compact", "trip", "--keep-last", "10", "--json").objects
    assert (told["dropped"], told["trash"]) == (0, None)
    after = os.stat(log())
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    (again,) = cli("compact", "trip", "--keep-last", "2", "--json").objects
    inode = os.stat(log()).st_ino
    (third,) = cli("compact", "trip", "--keep-last", "2", "--json").objects
    assert (again["dropped"], third["dropped"]) == (8, 0)
    assert os.stat(log()).st_ino == inode


def test_a_tool_call_and_its_result_go_or_stay_together(cli, archive):
    """K28's lesson: a result without its call makes the next model call fail."""
    chat = archive.conversation("trip")
    chat.record("user", "a")
    chat.record("assistant", None, tool_calls=[{"id": "c1", "type": "function"}])
    chat.record("tool", "result", tool_call_id="c1")
    chat.record("user", "b")
    cli("compact", "trip", "--keep-last", "2")
    assert [each["seq"] for each in cli("show", "trip").objects] == [2, 3, 4]


def test_numbers_and_ids_outlive_their_turns(cli, fill):
    """P4, P6: a dropped turn's number is not given again, and its late retry not stored again."""
    fill("trip")
    cli("compact", "trip", "--keep-last", "0")
    retried = cli(
        "record", "trip", "--jsonl", "--json", stdin=b'{"role":"user","content":9,"id":"t9"}'
    )
    assert retried.objects[0]["seq"] == 10
    assert cli("show", "trip").out == b""
    assert cli("record", "trip", "new", "--json").objects[0]["seq"] == 11
    cli("record", "trip", "other", "--id", "t9", code=1)


def test_only_the_namespace_that_was_asked_for_is_compacted(cli, archive):
    """O5: one tenant's cron job must not tidy up another's."""
    for namespace in ("a", "b"):
        chat = archive.conversation("trip", namespace=namespace)
        chat.record_many([("user", 1), ("user", 2)])
    cli("compact", "--all", "--keep-last", "1", "-N", "a")
    assert cli("show", "trip", "-N", "a").contents == [2]
    assert cli("show", "trip", "-N", "b").contents == [1, 2]
    answer = cli("compact", "--all", "--keep-last", "1", "-N", "nobody")
    assert answer.out == b""


def test_an_id_named_twice_is_compacted_once(cli, fill):
    """`xargs` may pass an id twice; the second would find nothing to do and say so."""
    fill("trip")
    answer = cli("compact", "trip", "trip", "--keep-last", "1", "--json")
    assert [each["dropped"] for each in answer.objects] == [9]


# --- busy and damaged -------------------------------------------------------------------------


def test_one_that_another_compaction_holds_is_skipped_at_once_6_when_alone(cli, fill):
    """Two cron jobs that meet must not wait for each other."""
    fill("trip")
    began = time.monotonic()
    with compacting(cli.root, "trip"):
        answer = cli("compact", "trip", "--keep-last", "1", "--json", code=6)
        assert cli("show", "trip").contents == list(range(10))
        cli("record", "trip", "writers go on")
    assert time.monotonic() - began < 5
    assert [(each["kind"], each["continuation_id"]) for each in answer.told] == [("busy", "trip")]
    assert answer.out == b""


@pytest.mark.parametrize("words", [["--all"], ["a", "b", "c"], ["--all", "--jobs", "2"]], ids=str)
def test_one_that_is_busy_does_not_stop_the_others_7_and_named(cli, fill, words):
    """O26: what was done and what was not is exact, and the next run does the rest."""
    fill("a", "b", "c")
    words = ["compact", *words, "--keep-last", "1"]
    with compacting(cli.root, "b"):
        answer = cli(*words, "--json", code=7)
        assert [(each["continuation_id"], each["dropped"]) for each in answer.objects] == [
            ("a", 9),
            ("c", 9),
        ]
        assert [(each["kind"], each["continuation_id"]) for each in answer.told] == [("busy", "b")]
        told = cli(*words, code=7)
        assert "convmem: error: b: " in told.err
    answer = cli(*words, "--json")
    assert [(each["continuation_id"], each["dropped"]) for each in answer.objects] == [
        ("a", 0),
        ("b", 9),
        ("c", 0),
    ]


def test_all_with_one_busy_conversation_is_7(cli, fill):
    """`--all` asked for all there are; that there is one only does not make it "the only one"."""
    fill("a")
    with compacting(cli.root, "a"):
        cli("compact", "--all", "--keep-last", "1", code=7)


def test_damaged_lines_go_to_quarantine_and_stop_nobody(cli, fill, log):
    """P7: the bytes that are no turn are kept aside; the good turns round them stay in order."""
    fill("a", "b")
    lines = log("a").read_bytes().splitlines(keepends=True)
    lines[5] = b"\x00\xffnonsense\n"
    log("a").write_bytes(b"".join(lines))
    first, second = cli("compact", "--all", "--keep-last", "7", "--json").objects
    assert (first["damaged"], first["dropped"], first["kept"]) == (1, 2, 7)
    assert (second["damaged"], second["dropped"], second["quarantine"]) == (0, 3, None)
    assert cli("show", "a").contents == [2, 3, 4, 6, 7, 8, 9]
    assert cli("show", "a").err == ""
    assert (log("a").parent / ".quarantine" / first["quarantine"]).read_bytes() == lines[5]


def test_a_conversation_that_cannot_be_opened_does_not_stop_the_others(cli, fill, tmp_path):
    """A planted link is one conversation's trouble."""
    fill("a", "c")
    (tmp_path / "outside").write_text("precious\n")
    os.symlink(tmp_path / "outside", os.path.join(cli.root, "default", "b.jsonl"))
    answer = cli("compact", "a", "b", "c", "--keep-last", "1", "--json", code=7)
    assert [each["continuation_id"] for each in answer.objects] == ["a", "c"]
    assert [(each["kind"], each["continuation_id"]) for each in answer.told] == [
        ("permission", "b")
    ]
    assert cli("compact", "b", "--keep-last", "1", "--json", code=4).out == b""
    assert (tmp_path / "outside").read_text() == "precious\n"
    # It is not a conversation, so --all does not speak of it.
    assert len(cli("compact", "--all", "--keep-last", "1", "--json").objects) == 2


def test_a_full_disk_is_4_and_every_file_is_as_before(cli, fill):
    """A15: a compaction for want of room must not make things worse."""
    fill("trip", turns=20)
    before = snapshot(cli.root)
    answer = cli(
        *("compact", "trip", "--keep-last", "10", "--json"), code=4, prepare=cli.WITH_FULL_DISK
    )
    assert [each["kind"] for each in answer.told] == ["full"]
    assert snapshot(cli.root) == before
    cli("record", "trip", "goes on")
    assert len(cli("compact", "trip", "--keep-last", "10", "--json").objects) == 1


def test_a_folder_that_may_not_be_written_is_4(cli, fill, log):
    """A15: not a warning in some log."""
    fill("trip")
    cli("compact", "trip", "--keep-last", "10")
    before = snapshot(cli.root)
    os.chmod(log().parent, 0o500)
    try:
        words = ["compact", "trip", "--keep-last", "1", "--json"]
        answer = cli(*words, code=4, prepare=cli.AS_ANYBODY)
    finally:
        os.chmod(log().parent, 0o700)
    assert [each["kind"] for each in answer.told] == ["permission"]
    assert snapshot(cli.root) == before


# --- many -------------------------------------------------------------------------------------


def test_with_jobs_many_are_done_and_the_numbers_are_the_same(cli, fill):
    """O26: more hands, the same result."""
    names = [f"trip-{at:02}" for at in range(70)]
    fill(*names, turns=3)
    answer = cli("compact", "--all", "--keep-last", "1", "--jobs", "2", "--json")
    assert [each["continuation_id"] for each in answer.objects] == names
    assert {each["dropped"] for each in answer.objects} == {2}
    again = cli("compact", "--all", "--keep-last", "1", "--jobs", "2")
    assert (again.out, again.err) == (b"", "")


def test_two_runs_over_all_at_once_do_not_fight(cli, fill):
    """Cron starts the next run though the last is not done: each turn goes once, none is lost."""
    names = [f"trip-{at:02}" for at in range(40)]
    fill(*names)
    words = ("compact", "--all", "--keep-last", "2", "--json")
    with cli.running(*words) as one, cli.running(*words) as other:
        answers = [one.end(), other.end()]
    assert {answer.code for answer in answers} <= {0, 7}
    busy = [each for answer in answers for each in answer.told]
    assert {each["kind"] for each in busy} <= {"busy"}
    done = [each for answer in answers for each in answer.objects]
    assert len(done) + len(busy) == 80
    for name in names:
        dropped = [each["dropped"] for each in done if each["continuation_id"] == name]
        assert sum(dropped) == 8, (name, dropped)
    with Archive.open(cli.root) as archive:
        for name in names:
            assert [turn.content for turn in archive.conversation(name).tail()] == [8, 9]
    trash = Path(cli.root, "default", ".trash")
    assert sum(path.read_bytes().count(b"\n") for path in trash.iterdir()) == 8 * 40


def test_a_turn_that_is_recorded_meanwhile_is_kept(cli, fill):
    """P8: nobody has to stop writing for the night's tidying up."""
    fill("trip", turns=200)
    done = threading.Event()
    recorded = []

    def write():
        with Archive.open(cli.root, durability="none") as archive:
            chat = archive.conversation("trip")
            while not done.is_set():
                recorded.append(chat.record("user", "meanwhile").seq)
                time.sleep(0.001)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(3):
            cli("compact", "trip", "--max-age", "30s")
    finally:
        done.set()
        writer.join()
    assert [each["seq"] for each in cli("show", "trip").objects] == recorded
    assert recorded == list(range(201, 201 + len(recorded)))


# --- what is said -----------------------------------------------------------------------------


def test_from_cron_one_line_says_what_was_done_and_none_that_nothing_was(cli, fill):
    """Cron mails every word: a quiet night must make no mail."""
    fill("a", "b")
    answer = cli("compact", "--all", "--keep-last", "4")
    assert answer.err == ""
    assert answer.text.startswith("dropped 12 turns (")
    assert answer.text.endswith(" to the trash, from 2 of 2 conversations\n")
    assert answer.text.count("\n") == 1
    answer = cli("compact", "--all", "--keep-last", "4")
    assert (answer.out, answer.err) == (b"", "")
    answer = cli("compact", "--all", "--keep-last", "1", "--quiet")
    assert (answer.out, answer.err) == (b"", "")
    assert "for good" in cli("compact", "--all", "--keep-last", "0", "--discard").text


def test_a_dry_run_names_each_conversation_and_why(cli, fill):
    """Whoever tries it dry wants to see what would go, before it goes."""
    fill("a", "b", "c")
    cli("compact", "c", "--keep-last", "4")
    answer = cli("compact", "--all", "--keep-last", "4", "--dry-run")
    first, second, total = answer.text.splitlines()
    assert first.startswith("a: 6 turns (")
    assert "would go [6 by keep_last; seq 1-6]; 4 kept" in first
    assert second.startswith("b: 6 turns (")
    assert total.startswith("would drop 12 turns (")
    assert total.endswith("from 2 of 3 conversations")
    assert cli("compact", "c", "--keep-last", "4", "--dry-run").text == "nothing to drop\n"


def test_on_a_terminal_each_conversation_is_told_and_the_total(cli, fill):
    """O32: people see exactly what went."""
    fill("a", "b")
    shown = cli.on_terminal("compact", "--all", "--keep-last", "4").shown
    first, second, total = shown.splitlines()
    assert first.startswith("a: 6 turns (") and "dropped" in first
    assert second.startswith("b: 6 turns (")
    assert total.startswith("dropped 12 turns (")


def test_a_long_compaction_shows_a_bar_on_a_terminal_and_takes_it_away(cli, fill, log):
    """O32: hours without a sign of life are how people come to press Ctrl-C."""
    fill("a", "b", "c")
    with open(log().parent / ".locks" / "b.lock", "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        letting_go = threading.Timer(2.5, fcntl.flock, (held, fcntl.LOCK_UN))
        letting_go.start()
        answer = cli.on_terminal("compact", "--all", "--keep-last", "4", "--json", on="2")
        letting_go.join()
    assert "compacting" in answer.shown
    assert "\x1b[2K" in answer.shown
    assert [json.loads(line)["dropped"] for line in answer.out.splitlines()] == [6, 6, 6]


def test_ctrl_c_leaves_whole_conversations_behind(cli, fill, log):
    """P8, K27: whoever loses patience loses nothing else; the next run does the rest."""
    fill("a", "b", turns=50)
    with open(log().parent / ".locks" / "b.lock", "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with cli.running("compact", "--all", "--keep-last", "4") as running:
            deadline = time.monotonic() + 20
            while len(log("a").read_bytes().splitlines()) > 4:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            time.sleep(0.1)
            answer = running.interrupt()
    assert (answer.code, answer.err) == (130, "")
    assert len(cli("show", "b").objects) == 50
    assert "dropped 46 turns" in cli("compact", "--all", "--keep-last", "4").text
    assert not list(Path(cli.root).rglob("*.tmp"))


def test_leftovers_of_a_killed_run_are_swept_and_were_never_listed(cli, fill, log):
    """K27: a file in the making is no conversation, and does not stay for ever."""
    fill("trip")
    for folder in (log().parent, log().parent / ".trash"):
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / ".trip.99999.0123abcd.tmp").write_bytes(log().read_bytes())
    assert cli("list").text == "trip\n"
    assert len(cli("compact", "--all", "--keep-last", "99", "--json").objects) == 1
    assert not list(Path(cli.root).rglob("*.tmp"))


def test_jobs_end_with_ctrl_c(cli, fill, log):
    """With helpers at work too, Ctrl-C is quiet and leaves no process behind."""
    names = [f"trip-{at:02}" for at in range(70)]
    fill(*names, turns=2)
    with open(log().parent / ".locks" / "trip-03.lock", "a") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        words = ["compact", "--all", "--keep-last", "1", "--jobs", "2"]
        # As a shell does it: the whole group gets the signal.
        with cli.running(*words, start_new_session=True) as running:
            deadline = time.monotonic() + 20
            while len(log("trip-02").read_bytes().splitlines()) > 1:
                assert time.monotonic() < deadline
                time.sleep(0.01)
            os.killpg(running.process.pid, 2)
            answer = running.end()
    assert answer.code == 130
    assert answer.err == ""
    deadline = time.monotonic() + 20
    while sys.platform == "linux" and _in_group(running.process.pid):
        assert time.monotonic() < deadline, "a helper stayed behind"
        time.sleep(0.05)


def _in_group(group):
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", encoding="ascii", errors="replace") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            continue  # ended since
        if fields[2] == str(group) and fields[0] != "Z":
            found.append(name)
    return found
