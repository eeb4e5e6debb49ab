"""``convmem stats`` and ``convmem health``: figures that are measured, and a present tense."""

from __future__ import annotations

import fcntl
import json
import os
import re
import threading
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from convmem import Archive, ConversationNotFound, Observer
from convmem.cli.output import plot
from convmem.cli.output.prometheus import Gauge, write
from convmem.stores import examine as examine_module
from convmem.stores.health import STATUSES, Limits

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=30, microsecond=0)


@pytest.fixture
def talk(archive, log):
    """Two conversations of a day's and some older turns, one line by hand, one damaged line."""
    chat = archive.conversation("trip")
    chat.record("user", "long ago", ts="2001-02-03T04:05:06Z")
    chat.record("user", "And by train?", ts=TODAY - timedelta(days=1))
    chat.record("assistant", "Seven hours.", ts=TODAY)
    chat.record("tool", "x" * 1000, ts=TODAY)
    other = archive.conversation("dinner")
    other.record("rôle", "leeks", ts=TODAY)
    with log("dinner").open("ab") as file:
        file.write(b'{"role":"user","content":"by hand"}\n{"broken\n')
    return archive


# --- a strict reader of the exposition format ---------------------------------------------------

_SAMPLE = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(.*)\})? (\S+)")
_LABEL = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"(?:,|$)')


def metrics(text):
    """Return {(name, labels): value}; fail on anything that Prometheus would stumble over."""
    assert text.endswith("\n")
    found, helped, kinds = {}, set(), {}
    last = None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            _, _, name, words = line.split(" ", 3)
            assert name not in helped and words.strip()
            helped.add(name)
        elif line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name in helped and name not in kinds, "HELP, TYPE, then samples, once each"
            assert kind in ("gauge", "counter", "untyped")
            kinds[name] = kind
            last = name
        else:
            sample = _SAMPLE.fullmatch(line)
            assert sample, line
            assert sample[1] == last, "the samples of one metric stand together"
            labels, at = {}, 0
            while sample[2] and at < len(sample[2]):
                label = _LABEL.match(sample[2], at)
                assert label and label[1] not in labels, line
                labels[label[1]] = (
                    label[2].replace("\\n", "\n").replace('\\"', '"').replace("\\\\", "\\")
                )
                at = label.end()
            key = sample[1], tuple(sorted(labels.items()))
            assert key not in found, "no sample twice"
            found[key] = float(sample[3])
    assert helped == set(kinds) == {name for name, _ in found}
    return found


# --- stats --------------------------------------------------------------------------------------


def test_every_figure_is_measured(cli, talk, log):
    """S2n: "messages x 1024" is no size, and the time of the last access is no age."""
    (found,) = cli("stats", "--json").objects
    sizes = {name: log(name).stat().st_size for name in ("trip", "dinner")}
    damaged = len(b'{"broken')
    assert found["conversations"] == 2
    assert found["turns"] == 6
    assert found["roles"] == {"user": 3, "assistant": 1, "rôle": 1, "tool": 1}
    assert found["oldest"] == "2001-02-03T04:05:06.000000Z"
    assert found["newest"] == f"{TODAY:%Y-%m-%dT%H:%M:%S}.000000Z"
    assert (found["unsealed"], found["damaged"], found["damaged_bytes"]) == (1, 1, damaged)
    assert found["files"]["plain"] == {"files": 2, "bytes": sum(sizes.values())}
    assert found["files"]["locks"] == {"files": 2, "bytes": 0}
    assert found["largest"] == [
        {"continuation_id": "trip", "bytes": sizes["trip"], "turns": 4, "compressed": False},
        {"continuation_id": "dinner", "bytes": sizes["dinner"], "turns": 2, "compressed": False},
    ]
    assert {day: each["turns"] for day, each in found["days"].items()} == {
        "-": 1,
        "2001-02-03": 1,
        f"{TODAY - timedelta(days=1):%Y-%m-%d}": 1,
        f"{TODAY:%Y-%m-%d}": 3,
    }
    lines = sum(each["bytes"] for each in found["days"].values())
    assert lines == sum(sizes.values()) - damaged - 1
    room = os.statvfs(log("trip").parent)
    assert found["disk_bytes"] == room.f_blocks * room.f_frsize
    assert 0 < found["free_bytes"] <= found["disk_bytes"]


def test_what_stands_beside_the_conversations_is_measured_too(cli, talk, log):
    """Who runs out of disk must see what takes it: bytes in the trash count as any other."""
    cli("compact", "trip", "--keep-last", "1")
    folder = log("trip").parent
    (folder / ".trip.1.0123abcd.tmp").write_bytes(b"x" * 77)
    (folder / ".elsewhere").mkdir()
    (folder / ".elsewhere" / "file").write_bytes(b"x" * 23)
    (found,) = cli("stats", "--json").objects
    for name in ("trash", "dropped", "quarantine", "locks"):
        files = [path for path in (folder / f".{name}").rglob("*") if path.is_file()]
        assert found["files"].get(name, {}) == {
            "files": len(files),
            "bytes": sum(path.stat().st_size for path in files),
        }
    assert found["files"]["trash"]["bytes"] > 0
    assert found["files"]["other"] == {"files": 2, "bytes": 100}


def test_keys_and_their_order_are_stable(cli, talk):
    """Programs read them."""
    (found,) = cli("stats", "--json").objects
    assert list(found) == [
        *("namespace", "conversations", "compressed", "turns", "roles", "oldest", "newest"),
        *("unsealed", "damaged", "damaged_bytes", "days", "largest", "files"),
        *("free_bytes", "disk_bytes"),
    ]
    assert list(found["files"]) == [
        *("plain", "compressed", "trash", "quarantine", "state", "audit", "index", "dropped"),
        *("ids", "locks", "other"),
    ]


def test_an_archive_that_is_not_there_has_nothing_in_it(cli):
    """As with `list`; and nothing is made."""
    (found,) = cli("stats", "--json").objects
    assert (found["conversations"], found["oldest"], found["largest"]) == (0, None, [])
    assert "0 conversations" in cli("stats").text
    assert cli("stats", "--all-namespaces", "--json").objects == []
    cli("stats", "--all-namespaces")
    assert not os.path.exists(cli.root)


def test_a_tenants_figures_know_nothing_of_another(cli, archive):
    """O5, O6: the same id, the same turn id and the same text in two namespaces are two things."""
    for namespace in ("default", "bob"):
        for _ in range(2):
            archive.conversation("trip", namespace=namespace).record("user", "same", id="t1")
    archive.conversation("more", namespace="bob").record("user", "only bob's")
    assert [(each["namespace"], each["turns"]) for each in cli("stats", "--json").objects] == [
        ("default", 1)
    ]
    found = cli("stats", "--all-namespaces", "--json").objects
    assert [(each["namespace"], each["turns"]) for each in found] == [("bob", 2), ("default", 1)]
    assert "3 turns" in cli("stats", "--all-namespaces").text
    assert [each["title"] for each in cli("list", "--json").objects] == ["same"]


def test_figures_of_some_conversations(cli, talk, log):
    """What one of them takes, and whose turns they are."""
    (found,) = cli("stats", "trip", "--json").objects
    assert (found["conversations"], found["turns"]) == (1, 4)
    assert found["files"]["plain"]["bytes"] == log("trip").stat().st_size
    assert "dinner" not in cli("stats", "trip").text
    assert cli("stats", "trip", "dinner", "trip", "--json").objects[0]["turns"] == 6


def test_an_unknown_conversation_is_3_and_among_others_7(cli, talk):
    """A27, O7: "not there" is no zero."""
    answer = cli("stats", "nothing", code=3)
    assert answer.out == b""
    assert "there is no conversation 'nothing'" in answer.err
    answer = cli("stats", "nothing", "trip", "--json", code=7)
    assert answer.objects[0]["turns"] == 4
    assert [each["kind"] for each in answer.told] == ["not_found"]
    with pytest.raises(ConversationNotFound):
        talk.stats(continuation_ids=["trip", "nothing"])


def test_a_conversation_that_cannot_be_read_is_named_and_the_others_counted(cli, talk, log):
    """Done in part: exit 7, and never fewer turns without a word."""
    os.chmod(log("trip"), 0)
    try:
        answer = cli("stats", "--json", code=7, prepare=cli.AS_ANYBODY)
    finally:
        os.chmod(log("trip"), 0o600)
    assert answer.objects[0]["turns"] == 2
    assert [each["kind"] for each in answer.told] == ["permission"]


@pytest.mark.parametrize(
    "words",
    [
        ["trip", "--all-namespaces"],
        ["trip", "--prometheus", "x"],
        ["--json", "--prometheus", "-"],
        ["--prometheus", "."],
    ],
)
def test_flags_that_contradict_each_other_are_wrong_usage(cli, words):
    """Exit 2, and nothing is written."""
    cli("stats", *words, code=2)


def test_people_see_figures_and_a_plot(cli, talk):
    """In a narrow window too; a locale without UTF-8 gets ASCII."""
    for columns in (40, 100):
        shown = cli.on_terminal("stats", on="1", columns=columns, LC_ALL="C.UTF-8").shown
        shown = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        assert "2 conversations, 6 turns" in shown
        assert "█" in shown and "1 line" in shown and "trip" in shown
        assert max(map(len, shown.splitlines())) <= columns
    shown = cli.on_terminal("stats", on="1", LC_ALL="C").shown
    assert shown.isascii() or "rôle" in shown.replace("█", "!")
    assert "#" in shown


def test_in_a_pipe_the_words_are_the_same_without_colours(cli, talk):
    """Cron mails them."""
    answer = cli("stats", LC_ALL="C")
    assert "\x1b" not in answer.text
    assert "by role: user 3, assistant 1, rôle 1, tool 1" in answer.text
    assert "damaged: 1 line, 8 bytes, in dinner" in answer.text


def test_what_strangers_called_things_cannot_drive_the_terminal(cli, archive):
    """An id is a stranger's text."""
    archive.conversation("\x1b[2Jgone").record("user", "x")
    archive.conversation("other").record("user", "x")
    shown = cli.on_terminal("stats", on="1").shown
    assert "\x1b[2J" not in shown and "\\x1b[2Jgone" in shown


def test_a_second_run_reads_no_log(tmp_path, monkeypatch):
    """What was counted is known until it changes."""
    from convmem.stores import facts

    monkeypatch.setattr(facts, "_WORTH_BYTES", 0)
    monkeypatch.setattr(facts, "_TICK_NS", -(10**18))
    with Archive.open(tmp_path / "archive", durability="none", observer=Observer()) as archive:
        for name in "abc":
            archive.conversation(name).record("user", name)
        first = archive.stats()
        monkeypatch.setattr(facts, "_read", None)
        assert archive.stats().roles == first.roles == {"user": 3}


# --- the plot -----------------------------------------------------------------------------------


def test_a_plot_is_as_high_as_its_highest_day_and_shows_every_day_that_had_turns():
    """One turn beside ten thousand is little, but it is not nothing."""
    shown = list(
        plot.lines_of([0, 1, 5000, 10_000], most="10k", first="a", last="b", with_blocks=True)
    )
    assert len(shown) == plot.HEIGHT + 2
    assert shown[0] == "10k │   █"
    assert shown[-3] == "    │ ▁██"
    assert shown[-2] == "  0 └────"
    assert shown[-1] == "     a  b"
    plain = list(plot.lines_of([0, 3], most="3", first="a", last="b", with_blocks=False))
    assert plain[0] == "3 | #" and "".join(plain).isascii()
    assert len(list(plot.lines_of([0, 0], most="0", first="a", last="b", with_blocks=True))) == 7


@pytest.mark.parametrize(
    ("env", "shows"),
    [
        ({"LANG": "nb_NO.UTF-8"}, True),
        ({"LC_ALL": "C.utf8"}, True),
        ({"LC_ALL": "C", "LANG": "en_US.UTF-8"}, False),
        ({"LC_ALL": "", "LC_CTYPE": "POSIX", "LANG": "en_US.UTF-8"}, False),
        ({}, False),
    ],
)
def test_the_locale_says_whether_blocks_can_be_seen(env, shows):
    """Question marks are no plot."""
    assert plot.shows_blocks(env) is shows


# --- for Prometheus -----------------------------------------------------------------------------


def test_a_textfile_holds_the_figures_of_every_namespace_and_of_no_conversation(
    cli, talk, tmp_path, log
):
    """Node exporter refuses a whole file for one bad line; and ids are nobody's label."""
    odd = 'te"am\\\na'
    talk.conversation("secret-id", namespace=odd).record("user", "x")
    file = tmp_path / "convmem.prom"
    answer = cli("stats", "--all-namespaces", "--prometheus", str(file))
    assert (answer.out, answer.err) == (b"", "")
    text = file.read_text()
    assert not {"secret-id", "trip", "dinner"} & set(re.findall(r"[\w-]+", text))
    found = metrics(text)

    def value(name, **labels):
        return found[f"convmem_{name}", tuple(sorted(labels.items()))]

    assert value("conversations", namespace="default", form="plain") == 2
    assert value("conversations", namespace=odd, form="plain") == 1
    assert value("turns", namespace="default", role="user") == 3
    assert value("turns", namespace="default", role="other") == 1
    assert value("damaged_lines", namespace="default") == 1
    assert value("size_bytes", namespace="default", kind="plain") == sum(
        log(name).stat().st_size for name in ("trip", "dinner")
    )
    assert value("newest_turn_timestamp_seconds", namespace="default") == TODAY.timestamp()
    assert value("unreadable_conversations") == 0
    assert abs(value("stats_timestamp_seconds") - time.time()) < 3600
    assert (
        metrics(cli("stats", "--all-namespaces", "--prometheus", "-").text).keys() == found.keys()
    )


def test_a_textfile_is_replaced_whole_and_can_be_read_by_its_reader(tmp_path):
    """It is read at any moment, by another user; and cron's umask is often tight."""
    file = tmp_path / "convmem.prom"
    gauge = Gauge("convmem_x", "Help with \\ and \n in it.")
    gauge.add(1, name='a"b\\c\nd')
    gauge.add(2.5)
    gauge.add(None, name="none")
    before = os.umask(0o077)
    try:
        write(str(file), [gauge, Gauge("convmem_empty", "No samples.")])
        seen = file.stat()
        write(str(file), [gauge])
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o644
    assert file.stat().st_ino != seen.st_ino
    assert metrics(file.read_text()) == {
        ("convmem_x", (("name", 'a"b\\c\nd'),)): 1,
        ("convmem_x", ()): 2.5,
    }
    assert list(tmp_path.iterdir()) == [file]


def test_a_textfile_that_cannot_be_written_is_4_and_the_old_one_stays(cli, talk, tmp_path):
    """The exporter goes on with the last good one, whose timestamp tells."""
    folder = tmp_path / "metrics"
    folder.mkdir()
    (folder / "convmem.prom").write_text("old")
    os.chmod(folder, 0o500)
    try:
        words = ["--prometheus", str(folder / "convmem.prom")]
        cli("stats", *words, code=4, prepare=cli.AS_ANYBODY)
        cli("health", *words, code=4, prepare=cli.AS_ANYBODY)
    finally:
        os.chmod(folder, 0o700)
    cli("stats", "--prometheus", str(folder / "no" / "such.prom"), code=4)
    assert [path.read_text() for path in folder.iterdir()] == ["old"]


# --- health -------------------------------------------------------------------------------------

CHECKS = ["archive", "settings", "space", "writable", "readable", "damage", "locks"]
ROOMY = {"CONVMEM_HEALTH_MIN_FREE": "0", "CONVMEM_HEALTH_MIN_FREE_FATAL": "0"}


def health(cli, *, code=0, **options):
    """Return the answer of `health --json` and its checks by name."""
    answer = cli("health", "--json", code=code, **{**ROOMY, **options})
    (found,) = answer.objects
    assert found["status"] in ("healthy", "degraded", "unhealthy")
    assert {"healthy": 0, "degraded": 1, "unhealthy": 4}[found["status"]] == code
    return found["status"], {each["check"]: each for each in found["checks"]}


def trouble(checks):
    """Return the names of the checks that found something, each with words on what to do."""
    found = {name: each["status"] for name, each in checks.items() if each["status"] != "healthy"}
    assert all(checks[name]["message"] and checks[name]["hint"] for name in found)
    return found


def test_an_archive_that_is_well_is_healthy_and_left_as_it_was(cli, talk, log, archive):
    """And every check says what it looked at."""
    archive.conversation("trip", namespace="bob").record("user", "x")
    log("dinner").unlink()
    before = tree(cli.root)
    status, checks = health(cli)
    assert (status, list(checks)) == ("healthy", CHECKS)
    assert all(list(each) == ["check", "status", "message", "hint"] for each in checks.values())
    assert tree(cli.root) == before
    assert "healthy" in cli("health", **ROOMY).text


def tree(root):
    """Return what stands below *root*."""
    return {str(path.relative_to(root)) for path in Path(root).rglob("*")}


@pytest.mark.parametrize("there", ["nothing", "a file", "somebody's link"])
def test_an_archive_that_is_not_there_is_unhealthy(cli, there, tmp_path):
    """O12: an error whose text says "not found" was once taken for good news."""
    if there == "a file":
        Path(cli.root).write_text("")
    elif there == "somebody's link":
        Path(cli.root).symlink_to(tmp_path / "nowhere not found")
    status, checks = health(cli, code=4)
    assert (status, list(checks)) == ("unhealthy", ["archive"])
    answer = cli("health", code=4)
    assert answer.text.startswith("unhealthy\n")
    if there == "nothing":
        assert f"there is no archive at {cli.root}" in answer.text
        assert not os.path.exists(cli.root)


def test_an_empty_archive_is_healthy(cli):
    """Made, and nothing recorded yet."""
    os.mkdir(cli.root, 0o700)
    status, checks = health(cli)
    assert (status, list(checks)) == ("healthy", CHECKS)
    assert os.listdir(cli.root) == []


def test_an_archive_that_others_can_write_to_is_unhealthy(cli, talk):
    """It is no folder of ours any more."""
    os.chmod(cli.root, 0o777)
    _, checks = health(cli, code=4)
    assert trouble(checks) == {"archive": "unhealthy"}
    assert "chmod go-w" in checks["archive"]["hint"]


def test_trouble_that_is_over_leaves_no_trace(cli, talk, log):
    """O13, O14: judged by what is so now; not by a count of errors that never falls."""
    log("dinner").unlink()
    folder = log("trip").parent
    for _ in range(3):
        os.chmod(folder, 0o500)
        try:
            status, checks = health(cli, code=4, prepare=cli.AS_ANYBODY)
        finally:
            os.chmod(folder, 0o700)
        assert trouble(checks).keys() >= {"writable"}
        assert status == "unhealthy"
        assert health(cli)[0] == "healthy"


def test_a_disk_that_takes_no_byte_more_is_unhealthy(cli, talk, log):
    """Free space is a figure; only writing shows that one can write (quota, limits, read-only)."""
    log("dinner").unlink()
    _, checks = health(cli, code=4, prepare=cli.WITH_FULL_DISK)
    assert trouble(checks) == {"writable": "unhealthy"}
    assert "make room" in checks["writable"]["hint"]
    assert not list(Path(cli.root).rglob("*.tmp"))


@pytest.mark.parametrize(
    ("least", "fatal", "status", "code"),
    [("1E", "0", "degraded", 1), ("1E", "1E", "unhealthy", 4), ("0", "0", "healthy", 0)],
)
def test_free_space_is_judged_by_the_settings(cli, talk, log, least, fatal, status, code):
    """Before the disk is full is the time to hear of it."""
    log("dinner").unlink()
    limits = {"CONVMEM_HEALTH_MIN_FREE": least, "CONVMEM_HEALTH_MIN_FREE_FATAL": fatal}
    found, checks = health(cli, code=code, **limits)
    assert (found, checks["space"]["status"]) == (status, status)


def test_damage_is_degraded_until_it_is_gone(cli, talk, log):
    """Files in quarantine were set aside: they are told, and are no present damage."""
    _, checks = health(cli, code=1)
    assert trouble(checks) == {"damage": "degraded"}
    assert "1 damaged line in dinner" in checks["damage"]["message"]
    cli("compact", "dinner", "--keep-last", "1")
    _, checks = health(cli)
    assert "in quarantine: 1 file, 9 B" in checks["damage"]["message"]


def test_a_torn_end_is_degraded_until_the_next_turn(cli, talk, log):
    """A crash left it; the next append sets it aside."""
    log("dinner").unlink()
    with log("trip").open("ab") as file:
        file.write(b'{"id":"torn')
    time.sleep(0.1)
    _, checks = health(cli, code=1)
    assert trouble(checks) == {"damage": "degraded"}
    assert "trip" in checks["damage"]["message"]
    cli("record", "trip", "goes on")
    assert health(cli)[0] == "healthy"


def test_what_was_not_read_whole_is_said(talk, log, monkeypatch):
    """Health reads only so much; it does not call unknown what it never looked at well."""
    log("trip").write_bytes(b"nonsense\n" + log("trip").read_bytes())
    log("dinner").unlink()
    monkeypatch.setattr(examine_module, "_MOST_COUNTED_BYTES", 10)
    found = {each.name: each for each in talk.health(Limits(min_free_bytes=0)).checks}
    assert found["damage"].status == "healthy"
    assert "1 not read whole" in found["damage"].message
    monkeypatch.undo()
    found = {each.name: each for each in talk.health(Limits(min_free_bytes=0)).checks}
    assert found["damage"].status == "degraded"


def test_a_conversation_that_cannot_be_read_is_degraded(cli, talk, log):
    """The others still can."""
    log("dinner").unlink()
    os.chmod(log("trip"), 0)
    try:
        answer = cli("health", "--json", code=1, prepare=cli.AS_ANYBODY, **ROOMY)
    finally:
        os.chmod(log("trip"), 0o600)
    checks = {each["check"]: each for each in answer.objects[0]["checks"]}
    assert checks["readable"]["status"] == "degraded"
    assert "trip" in checks["readable"]["message"]


def test_settings_that_cannot_be_used_are_degraded(cli, talk, log):
    """Cron would refuse to compact; somebody should know before the disk is full."""
    log("dinner").unlink()
    Path(cli.root, "convmem.toml").write_text("sync = maybe\n")
    _, checks = health(cli, code=1)
    assert trouble(checks) == {"settings": "degraded"}
    assert "convmem.toml" in checks["settings"]["message"]
    Path(cli.root, "convmem.toml").write_text('[[retention]]\nkeep_last = "many"\n')
    _, checks = health(cli, code=1)
    assert trouble(checks) == {"settings": "degraded"}
    Path(cli.root, "convmem.toml").write_text('sync = "always"\n')
    assert health(cli)[0] == "healthy"


def test_a_lock_that_is_never_free_is_degraded_until_it_is_let_go(cli, talk, log):
    """Who holds it stops every writer of that conversation; one of a compaction is another lock."""
    log("dinner").unlink()
    folder = log("trip").parent / ".locks"
    (folder / "trip.lock.c").touch(mode=0o600)
    before = tree(folder)
    with (folder / "trip.lock").open("rb") as file, (folder / "trip.lock.c").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        assert health(cli)[0] == "healthy"
        fcntl.flock(file, fcntl.LOCK_EX)
        _, checks = health(cli, code=1, CONVMEM_HEALTH_LOCK_HELD="200ms")
        assert trouble(checks) == {"locks": "degraded"}
        assert "trip.lock" in checks["locks"]["message"]
        threading.Timer(0.3, fcntl.flock, (file, fcntl.LOCK_UN)).start()
        assert health(cli, CONVMEM_HEALTH_LOCK_HELD="30s")[0] == "healthy"
        talk.health(Limits(min_free_bytes=0, lock_held_seconds=0))
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nothing of it was left held
    assert tree(folder) == before


def test_health_for_prometheus(cli, talk, tmp_path):
    """One series for each status and each check; the exit code is the same as without."""
    file = tmp_path / "health.prom"
    answer = cli("health", "--prometheus", str(file), code=1, **ROOMY)
    assert (answer.out, answer.err) == (b"", "")
    found = metrics(file.read_text())
    status = {
        dict(labels)["status"]: value
        for (name, labels), value in found.items()
        if name == "convmem_health_status"
    }
    assert status == {"healthy": 0, "degraded": 1, "unhealthy": 0}
    checks = {
        dict(labels)["check"]: value
        for (name, labels), value in found.items()
        if name == "convmem_health_check"
    }
    assert checks == {name: float(name == "damage") for name in CHECKS}
    gone = cli("health", "--prometheus", "-", "-A", str(tmp_path / "gone"), code=4)
    assert metrics(gone.text)["convmem_health_status", (("status", "unhealthy"),)] == 1


@pytest.mark.parametrize("number", range(1, 40))
def test_whatever_the_system_refuses_the_status_is_one_of_three(archive, root, monkeypatch, number):
    """O13: an outage was once answered with a status that nothing else knew."""
    archive.conversation("trip").record("user", "x")
    calls = 0

    def failing(really):
        def call(*given, **more):
            nonlocal calls
            calls += 1
            if calls == number:
                raise OSError(5, "Input/output error")
            return really(*given, **more)

        return call

    with Archive.open(root) as again:
        for name in ("open", "stat", "fstat", "scandir", "fsync", "pread", "fstatvfs", "mkdir"):
            monkeypatch.setattr(os, name, failing(getattr(os, name)))
        status = again.health(Limits(min_free_bytes=0, lock_held_seconds=0)).status
        monkeypatch.undo()
        assert status in STATUSES
        assert again.health(Limits(min_free_bytes=0)).status == "healthy"


def test_people_see_what_to_do(cli, talk):
    """In a narrow window too, and without colours where none are wanted."""
    for columns in (40, 100):
        shown = cli.on_terminal("health", on="1", columns=columns, code=1, **ROOMY).shown
        assert "\x1b[" in shown
        shown = re.sub(r"\x1b\[[0-9;]*m", "", shown)
        assert shown.startswith("degraded\n")
        assert "convmem verify" in re.sub(r"\s+", " ", shown)
        assert max(map(len, shown.splitlines())) <= columns + 5
    assert "\x1b[3" not in cli.on_terminal("health", on="1", code=1, NO_COLOR="1", **ROOMY).shown
    assert json.loads(cli("health", "--json", code=1, **ROOMY).text)["status"] == "degraded"
