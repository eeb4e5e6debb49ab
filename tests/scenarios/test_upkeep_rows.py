"""What goes, what comes back, and what an archive says of itself: lessons of earlier systems."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from convmem import Archive, ConversationNotFound, RetentionPolicy

ROOMY = {"CONVMEM_HEALTH_MIN_FREE": "0", "CONVMEM_HEALTH_MIN_FREE_FATAL": "0"}


@pytest.fixture
def fill(root):
    """Make conversations of so many turns."""

    def make(*names, turns=3, namespace="default"):
        with Archive.open(root, durability="none", namespace=namespace) as archive:
            for name in names:
                archive.conversation(name).record_many(
                    [("user", f"turn {at} of {name}") for at in range(turns)]
                )

    return make


@contextlib.contextmanager
def held(root, lock):
    """Hold a lock of the namespace as another process would."""
    with open(Path(root, "default", ".locks", lock), "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def health(cli, code, **options):
    """Return the status and that of each check."""
    (found,) = cli("health", "--json", code=code, **{**ROOMY, **options}).objects
    return found["status"], {each["check"]: each["status"] for each in found["checks"]}


# --- what expires -------------------------------------------------------------------------------


def test_what_has_expired_is_returned_to_nobody_before_anybody_has_cleaned_up(cli, root):
    """O3: it was returned until a clean-up came, and the clean-up found nothing."""
    cli("state", "trip", "set", "session=abc")
    with Archive.open(root) as archive:
        chat = archive.conversation("trip")
        chat.update_state({"token": "x"}, ttl=timedelta(seconds=0.3))
        assert chat.state() == {"session": "abc", "token": "x"}
        time.sleep(0.35)
        assert chat.state() == {"session": "abc"}
        assert cli("state", "trip", "get", "--json").objects == [{"session": "abc"}]
        cli("state", "trip", "get", "token", code=1)
        chat.update_state({"seen": 1})
    assert b"token" not in Path(root, "default", ".state", "trip.json").read_bytes()


def test_a_purge_takes_exactly_what_is_old_enough_and_counts_it(cli, fill, root):
    """O3, O26: a range filter that worked for one key only always counted 0."""
    fill("old", "new", "rest")
    cli("delete", "old", CONVMEM_NOW="2026-01-01T00:00:00Z")
    cli("delete", "new", CONVMEM_NOW="2026-03-01T00:00:00Z")
    words = ("trash", "purge", "--older-than", "31d", "--json")
    later = {"CONVMEM_NOW": "2026-03-02T00:00:00Z"}
    tried = cli(*words, "--dry-run", **later).objects
    done = cli(*words, **later).objects
    assert [each["continuation_id"] for each in done] == ["old"]
    assert [{**each, "dry_run": False} for each in tried] == done
    assert cli(*words, **later).objects == []
    left = cli("trash", "list", "--json").objects
    assert [each["continuation_id"] for each in left] == ["new"]


# --- tenants ------------------------------------------------------------------------------------


def test_no_verb_of_one_tenant_reaches_what_another_has(cli, fill):
    """O5: the namespace was stored and never looked at."""
    fill("trip", "spare", namespace="alice", turns=5)
    cli("-N", "alice", "state", "trip", "set", "token=x")
    cli("-N", "alice", "compact", "trip", "--keep-last", "3")
    before = {path: path.read_bytes() for path in Path(cli.root).rglob("*.json*")}
    for words in (
        ("tail", "trip"),
        ("show", "trip"),
        ("context", "trip"),
        ("state", "trip", "get"),
        ("state", "trip", "clear"),
        ("verify", "trip"),
        ("repair", "trip"),
        ("compact", "trip", "--keep-last", "1"),
        ("compress", "trip"),
        ("stats", "trip"),
        ("path", "trip"),
        ("delete", "trip"),
        ("trash", "restore", "trip"),
    ):
        cli("-N", "bob", *words, code=3)
    for words in (
        ("list",),
        ("trash", "list"),
        ("compact", "--all", "--keep-last", "0"),
        ("trash", "purge", "--older-than", "0s"),
        ("repair", "--all"),
    ):
        told = cli("-N", "bob", *words).text
        assert "trip" not in told and "spare" not in told
    assert {path: path.read_bytes() for path in Path(cli.root).rglob("*.json*")} == before


def test_nobody_learns_by_trying_an_id_what_another_tenant_said(cli):
    """O6: a check for duplicates that knew no user told Bob whether Alice had content H."""
    cli("-N", "alice", "record", "trip", "H", "--id", "req-1")
    cli("-N", "alice", "compact", "trip", "--keep-last", "0")  # its id is remembered: for alice
    for content in ("H", "other"):
        for name in ("trip", f"trip-{content}"):
            (told,) = cli(
                "-N", f"bob-{content}", "record", name, content, "--id", "req-1", "--json"
            ).objects
            assert told["seq"] == 1
            assert cli("-N", f"bob-{content}", "tail", name, "--json").contents == [content]
    answer = cli("-N", "alice", "record", "trip", "H", "--id", "req-1", "--json")
    assert answer.objects[0]["seq"] == 1, "and Alice's own retry is known"


# --- what is not there, not offered, not to be had ----------------------------------------------


@pytest.mark.parametrize(
    ("words", "named"),
    [
        ("replay trains", "replay"),
        ("context trip --tokenizer nosuch", "nosuch"),
        ("context trip --format xml", "xml"),
        ("stats --semantic", "--semantic"),
        ("trash empty", "empty"),
        ("state trip rotate", "rotate"),
        ("config set sync none", "sync none"),
    ],
)
def test_what_is_not_offered_is_an_error_and_no_empty_answer(cli, fill, words, named):
    """O8: a search that nobody had built answered "nothing found"."""
    fill("trip")
    answer = cli(*words.split(), code=2)
    assert named in answer.err and not answer.out


# --- health -------------------------------------------------------------------------------------


def test_health_is_judged_by_facts_and_never_by_words(cli, fill, log):
    """O12: an error whose text had "not found" in it passed for healthy."""
    fill("not found", "project not found", namespace="not found")
    fill("healthy")
    assert health(cli, 0)[0] == "healthy"
    path = Path(cli.root, "not%20found", "project%20not%20found.jsonl")
    assert path.exists()
    with path.open("ab") as file:
        file.write(b'{"error": "not found", "status": "healthy"}\n')
    status, checks = health(cli, 1)
    assert (status, checks["damage"]) == ("degraded", "degraded")
    answer = cli("health", "--json", "-A", f"{cli.root}/not found", code=4, **ROOMY)
    assert answer.objects[0]["status"] == "unhealthy"


def test_an_outage_is_one_of_three_words_and_named(cli, fill, log):
    """O13: the status was "error", which no document knew, and the count of errors 0."""
    fill("trip", "dinner")
    outages = []
    os.chmod(log("dinner"), 0)
    outages.append(health(cli, 1, prepare=cli.AS_ANYBODY))
    os.chmod(log("dinner"), 0o600)
    os.chmod(log().parent, 0)
    outages.append(health(cli, 4, prepare=cli.AS_ANYBODY))
    os.chmod(log().parent, 0o700)
    outages.append(health(cli, 4, prepare=cli.WITH_FULL_DISK))
    for status, checks in outages:
        assert status in ("degraded", "unhealthy")
        assert status in checks.values()
        assert set(checks.values()) <= {"healthy", "degraded", "unhealthy"}
    assert outages[0][1]["readable"] == "degraded"


def test_health_forgets_trouble_that_is_over(cli, fill, log):
    """O14: five errors, and it was degraded for ever, whatever came after."""
    fill("trip")
    for _ in range(5):
        cli("record", "trip", "x" * 900, code=4, prepare=cli.WITH_FULL_DISK)
    with log().open("ab") as file:
        file.write(b"nonsense\n")
    assert health(cli, 1)[0] == "degraded"
    cli("repair", "trip")
    assert health(cli, 0)[0] == "healthy"
    cli("record", "trip", "on we go")
    assert health(cli, 0)[0] == "healthy"


# --- done in part -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "lock", "done"),
    [
        ("delete c0 c1 c2 c3 c4", "c2.lock", "delete"),
        ("compact c0 c1 c2 c3 c4 --keep-last 2", "c2.lock.c", "dropped"),
        ("trash restore c0 c1 c2 c3 c4", "c2.lock", "restored"),
        ("repair c0 c1 c2 c3 c4", "c2.lock.c", "changed"),
    ],
)
def test_what_failed_in_part_is_told_exactly_and_done_by_the_next_run(
    cli, fill, log, root, words, lock, done
):
    """O26: batch 3 of 5 failed, and nobody knew what was gone."""
    names = [f"c{at}" for at in range(5)]
    fill(*names, "rest", turns=6)
    if done == "restored":
        cli("compact", "--all", "--keep-last", "1")
    for name in names:
        with log(name).open("ab") as file:
            file.write(b"nonsense\n")
        Path(root, "default", ".locks").mkdir(exist_ok=True, mode=0o700)
    before = log("c2").read_bytes()
    with held(root, lock):
        first = cli(*words.split(), "--json", code=7, CONVMEM_LOCK_TIMEOUT="200ms")
    assert [each["continuation_id"] for each in first.objects] == ["c0", "c1", "c3", "c4"]
    assert log("c2").read_bytes() == before
    (busy,) = (each for each in first.told if each["level"] == "error")
    assert (busy["kind"], busy["continuation_id"]) == ("busy", "c2")
    again = cli(*words.split(), "--json", code=None)
    (mended,) = (each for each in again.objects if each["continuation_id"] == "c2")
    if done == "delete":
        assert again.code == 7  # the four are gone already, and that is said
        assert not [name for name in names if log(name).exists()]
        assert mended["last_seq"] == 6
    else:
        assert again.code in (0, 7)
        assert bool(mended[done]) is True


def test_a_short_trouble_is_waited_for_and_a_retry_is_stored_once(cli, fill, root):
    """O27: there was no retry; or one that stored the turn twice."""
    fill("trip", turns=1)
    cli("state", "trip", "set", "a=b")
    for lock, words in (
        ("trip.lock", ("record", "trip", "second", "--id", "req-2")),
        ("trip+state.lock", ("state", "trip", "set", "a=c")),
    ):
        with contextlib.ExitStack() as until_released:
            until_released.enter_context(held(root, lock))
            answer = cli(*words, code=6, CONVMEM_LOCK_TIMEOUT="50ms")
            assert "convmem: error: " in answer.err
            with cli.running(*words) as running:
                time.sleep(0.3)
                assert running.process.poll() is None, "it waits"
                until_released.close()
                assert running.end().code == 0, "and goes on once it can"
        cli(*words)
    assert cli("show", "trip", "--json").contents == ["turn 0 of trip", "second"]
    assert cli("state", "trip", "get", "a").text == "c\n"


# --- looking changes nothing --------------------------------------------------------------------


def test_looking_at_another_conversation_changes_nothing_even_where_it_fails(cli, fill, log):
    """K10, K11: a view that failed midway left its session in the place of one's own."""
    fill("mine", "other", turns=5)
    with log("other").open("ab") as file:
        file.write(b'nonsense\n{"torn')
    cli("state", "mine", "set", "a=b")

    def files():
        return {
            path: (path.read_bytes(), path.stat().st_ino, path.stat().st_mtime_ns)
            for path in Path(cli.root).rglob("*")
            if path.is_file()
        }

    before = files()
    for words, code in (
        ("tail other -n +999", 0),
        ("tail other -n -1", 2),
        ("tail nowhere", 3),
        ("show other --since 2999-01-01", 0),
        ("show other --since sometime", 2),
        ("context other --max-tokens 40", 0),
        ("context other --max-tokens 0", 2),
        ("context nowhere", 3),
        ("context other --pin @/nowhere/at/all", 4),
        ("verify other", 5),
        ("verify other nowhere", None),
        ("stats other", 0),
        ("stats nowhere", 3),
        ("state other get", 0),
        ("state nowhere get", 3),
        ("repair other --dry-run", 0),
        ("compact other --keep-last 1 --dry-run", 0),
        ("compress other --dry-run", 0),
        ("delete other --dry-run", 0),
        ("trash list", 0),
        ("trash restore other --dry-run", 3),
        ("list -l", 0),
        ("health", 1),
        ("config", 0),
    ):
        cli(*words.split(), code=code, **ROOMY)
        assert files() == before, words
    assert cli("record", "mine", "on we go", "--json").objects[0]["seq"] == 6


def test_what_a_rewrite_put_there_is_what_every_reader_finds(cli, archive, fill, root):
    """K14: a rewrite changed one copy; what had been loaded before, and the index, had the old."""
    fill("trip", turns=8)
    chat = archive.conversation("trip")
    assert len(chat.tail()) == 8  # loaded before
    cli("stats")  # counted before
    cli("compact", "trip", "--keep-last", "2", "--summarize-with", "echo They spoke.")
    said = ["They spoke.\n", "turn 6 of trip", "turn 7 of trip"]
    said[0] = chat.tail()[0].content
    assert said[0].strip() == "They spoke."
    assert [turn.content for turn in chat.tail()] == said
    assert [turn.content for turn in chat.turns()] == said
    assert [turn.content for turn in chat.context(max_turns=9).turns] == said
    assert cli("show", "trip", "--json").contents == said
    assert cli("tail", "trip", "-n", "3", "--json").contents == said
    (row,) = cli("list", "-l", "--json").objects
    assert row["turns"] == 3 and row["title"] == "turn 6 of trip"
    assert cli("stats", "--json").objects[0]["turns"] == 3
    with Archive.open(root) as fresh:
        assert [turn.content for turn in fresh.conversation("trip").tail()] == said


def test_a_conversation_without_a_time_is_listed_like_any(cli, archive, log):
    """K19: one whose last activity was None left the whole list unsorted."""
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
    for at, name in enumerate(("first", "last", "middle")):
        archive.conversation(name).record("user", "x", ts=noon + timedelta(hours=(0, 9, 4)[at]))
    log("timeless").write_bytes(b'{"role":"user","content":"by hand"}\n')
    log("empty").touch()
    os.chmod(log("empty"), 0o600)
    names = [each["continuation_id"] for each in cli("list", "--json").objects]
    assert names[:3] == ["last", "middle", "first"]
    assert sorted(names[3:]) == ["empty", "timeless"]
    assert cli("list").text.split() == names


# --- retention that can be trusted --------------------------------------------------------------


def test_a_trial_says_what_then_goes_and_a_slip_takes_nothing(cli, fill, root):
    """Wish 10: `--dupkeep 0` deleted everything; 403,437 became 22."""
    fill("a", "b", "c", turns=5)
    cli("delete", "a", "b", "c", code=2)
    cli("compact", "--all", code=2)
    Path(root, "convmem.toml").write_text('[archive]\nmax_age = "1d"\n')
    refused = cli("compact", "--all", code=2, CONVMEM_NOW="2031-01-01")
    assert "every conversation" in refused.err
    Path(root, "convmem.toml").write_text("[[retention]]\nkeep_last = 2\n")
    tried = cli("compact", "--all", "--dry-run", "--json").objects
    done = cli("compact", "--all", "--json").objects
    figures = ("continuation_id", "dropped", "dropped_bytes", "kept", "bytes_before", "bytes_after")
    assert [[each[name] for name in figures] for each in tried] == [
        [each[name] for name in figures] for each in done
    ]
    freed = sum(each["bytes_before"] - each["bytes_after"] for each in done)
    assert freed == sum(each["dropped_bytes"] for each in done) > 0


def test_what_was_dropped_does_not_come_back_with_the_next_import(cli, root):
    """Wish 10: an importer brought back each night what the policy had dropped."""
    source = b"".join(
        json.dumps({"id": f"s-{at}", "role": "user", "content": f"turn {at}"}).encode() + b"\n"
        for at in range(6)
    )
    cli("record", "trip", "--jsonl", stdin=source)
    cli("compact", "trip", "--keep-last", "2")
    cli("record", "trip", "--jsonl", stdin=source)
    assert cli("show", "trip", "--json").contents == ["turn 4", "turn 5"]
    cli("trash", "restore", "trip")
    cli("record", "trip", "--jsonl", stdin=source)
    assert cli("show", "trip", "--json").contents == [f"turn {at}" for at in range(6)]


def test_the_audit_log_adds_up(cli, fill, root):
    """Wish 10: what went, what came back and what was purged, to the turn and the byte."""
    fill("trip", "other", turns=10)
    cli("compact", "trip", "--keep-last", "6")
    cli("compact", "trip", "--keep-last", "3")
    cli("trash", "restore", "trip")
    cli("delete", "other")
    cli("compact", "trip", "--keep-last", "4")
    cli("trash", "purge", "--older-than", "0s")
    entries = [
        json.loads(line)
        for path in sorted(Path(root, "default", ".audit").iterdir())
        for line in path.read_text().splitlines()
    ]
    balance = {"compact": 0, "restore": 0, "delete": 0, "purge": 0}
    for entry in entries:
        balance[entry["event"]] += entry["bytes"]
        assert {"ts", "pid", "namespace"} <= entry.keys() and "undone" not in entry
    left = sum(path.stat().st_size for path in Path(root, "default", ".trash").iterdir())
    came, went = balance["restore"] + balance["purge"], balance["compact"] + balance["delete"]
    assert went - came == left == 0
    turns = [each["turns"] for each in entries if each["event"] == "compact"]
    assert turns == [4, 3, 6]


# --- secrets ------------------------------------------------------------------------------------


def test_no_verb_leaves_a_file_that_others_can_read(cli, fill, root, log, tmp_path):
    """Wish 12: 0600 and 0700 whatever the umask, for all that stands beside the turns too."""
    loose = {"prepare": "os.umask(0)"}
    cli("record", "trip", "first", **loose)
    fill("trip", "cold", "gone", turns=300)
    cli("state", "trip", "set", "a=b", **loose)
    cli("compact", "trip", "--keep-last", "20", **loose)
    cli("delete", "gone", **loose)
    with log().open("ab") as file:
        file.write(b"nonsense\n")
    cli("repair", "trip", **loose)
    cli("list", "-l", **loose)
    cli("stats", **loose)
    cli("trash", "restore", "gone", **loose)
    cli("compress", "cold", code=None, **loose)
    cli("record", "L" * 400, "x", **loose)
    cli("state", "M" * 400, "set", "a=b", **loose)
    cli("tail", "trip", "--cursor-file", str(tmp_path / "cursor"), **loose)
    for path in [Path(root), *Path(root).rglob("*"), tmp_path / "cursor"]:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), (path, oct(mode))
    cli("stats", "--prometheus", str(tmp_path / "convmem.prom"), **loose)
    assert stat.S_IMODE((tmp_path / "convmem.prom").stat().st_mode) & 0o022 == 0


# --- pipes --------------------------------------------------------------------------------------


def test_what_is_shown_can_be_recorded_again_and_is_the_same(cli, archive):
    """Wish 13: what was said, by whom and when, goes out and in without a change."""
    chat = archive.conversation("trip")
    chat.record("system", "Be brief.", meta={"model": "small"})
    chat.record("user", "déjà vu\u2028\x00\ud7ff 旅 \U0001f686", ts="2020-01-02T03:04:05.000006Z")
    chat.record("assistant", [{"type": "text", "text": "x"}, None, 1.5, {"a": {}}], extra_key=[1])
    first = cli("show", "trip", "--json").out
    cli("record", "copy", "--jsonl", stdin=first)
    second = cli("show", "copy", "--json").out
    assert second == first.replace(b'"continuation_id":"trip"', b'"continuation_id":"copy"')
    assert cli("show", "trip", "--json").out == first


CLOSED = [
    *("show trip", "tail trip -n all", "context trip --max-tokens 9999", "list --json", "stats"),
    *("stats --json", "verify --all --json", "trash list --json", "config show", "health"),
    *("compact --all --keep-last 1 --dry-run --json", "repair --all --dry-run --json"),
    *("stats --all-namespaces --prometheus -", "state trip get", "trash restore trip --dry-run"),
]


@pytest.mark.parametrize("words", CLOSED)
def test_a_pipe_that_is_closed_ends_every_verb_in_silence(cli, fill, log, words):
    """Wish 15: `| head` is no failure, and nothing to tell anybody of."""
    fill("trip", "other", turns=50)
    cli("state", "trip", "set", "a=b")
    cli("compact", "trip", "--keep-last", "40")
    reader, writer = os.pipe()
    os.close(reader)
    try:
        answer = cli(*words.split(), stdout=writer, code=None, **ROOMY)
    finally:
        os.close(writer)
    assert (answer.code, answer.err) == (0, "")


def test_every_json_line_is_one_object_and_so_is_every_error(cli, fill, log):
    """Wish 15: a program reads both streams by the line, whatever happens."""
    fill("trip", "bad\nname", turns=4)
    with log().open("ab") as file:
        file.write(b"nonsense\n")
    for words in (
        *("list", "list -l", "list --all-namespaces", "stats", "stats trip nowhere", "health"),
        *("verify --all", "verify trip nowhere", "repair --all --dry-run", "trash list"),
        *("compact --all --keep-last 1", "compact trip nowhere --keep-last 1", "repair --all"),
        *("delete nowhere", "trash restore trip", "trash restore nowhere", "state nowhere get"),
        *("delete trip", "context trip", "tail trip", "trash purge --older-than 0s", "config show"),
    ):
        answer = cli(*words.split(), "--json", code=None, **ROOMY)
        for value in (*answer.objects, *answer.told):
            assert isinstance(value, dict), words
        if answer.code not in (0, 1, 5):
            assert any(
                each.get("level", "error") == "error" and each["kind"] for each in answer.told
            ), words
    for words in ("stats --json --prometheus -", "trash", "state trip"):
        assert cli(*words.split(), code=2).err


def test_a_cursor_goes_on_through_compaction_restore_and_repair(cli, fill, log, tmp_path):
    """Wish 15: what a cron job has seen it does not see again, and nothing new escapes it."""
    fill("trip", turns=6)
    words = ("tail", "trip", "--cursor-file", str(tmp_path / "seen"), "-n", "all", "--json")
    assert len(cli(*words).objects) == 6
    for at, change in enumerate(
        (
            ("compact", "trip", "--keep-last", "2"),
            ("trash", "restore", "trip"),
            ("repair", "trip"),
            ("compact", "trip", "--keep-last", "0"),
            ("delete", "trip"),
        )
    ):
        if change[0] == "repair":
            with log().open("ab") as file:
                file.write(b"nonsense\n")
        cli(*change)
        cli("record", "trip", f"new {at}")
        assert cli(*words).contents == [f"new {at}"], change
        assert cli(*words).contents == [], change
    cli("trash", "restore", "trip")
    assert len(cli("show", "trip", "--json").objects) == 11


# --- workers ------------------------------------------------------------------------------------


@pytest.mark.skipif(not os.path.exists("/proc/self/task"), reason="no /proc here")
def test_a_run_over_many_conversations_takes_no_more_workers_than_it_was_given(cli, fill):
    """O29: a thread for each call; here `--jobs`, however much there is to do."""
    fill(*(f"c{at}" for at in range(300)), turns=60)
    with cli.running("compact", "--all", "--keep-last", "10", "--jobs", "3", "--json") as running:
        place = f"/proc/{running.process.pid}/task/{running.process.pid}/children"
        most, stop = 0, threading.Event()

        def watch():
            nonlocal most
            while not stop.is_set():
                with contextlib.suppress(OSError):
                    most = max(most, len(Path(place).read_text().split()))

        watcher = threading.Thread(target=watch)
        watcher.start()
        answer = running.end()
        stop.set()
        watcher.join()
    assert answer.code == 0, answer
    assert len(answer.objects) == 300
    assert 1 <= most <= 3 + 1  # and the one that looks after shared memory, if any


def test_errors_of_the_library_are_as_different_as_the_exit_codes(root, archive, fill):
    """§3.9: "not there" and "failed" call for different things."""
    fill("trip")
    chat = archive.conversation("nowhere")
    for call in (
        lambda: chat.compact(RetentionPolicy(keep_last=1)),
        chat.delete,
        chat.restore,
        chat.verify,
        chat.repair,
        chat.compress,
        lambda: chat.context(max_turns=1),
    ):
        with pytest.raises(ConversationNotFound):
            call()
    assert chat.state() == {} and not chat.exists()
    assert not list(Path(root).rglob("nowhere*.json*")), "and asking has made nothing"
