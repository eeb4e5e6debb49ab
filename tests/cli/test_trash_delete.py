"""``convmem delete`` and ``convmem trash``: what goes, what comes back, and what is refused."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest
from inside import Inside

from convmem import Archive, RetentionPolicy

LONG = "trip/" + "ö" * 120
HOSTILE = ["a\nb", "-rf", "--yes", LONG, "旅行 🚆", "a/b", "..", ".hidden", "A", "con", "\x1b[31m"]


@pytest.fixture
def cli(root):
    """In this process, but for terminals and full disks: a process takes longer than the rest."""
    return Inside(root)


@pytest.fixture
def fill(root):
    """Make conversations of so many turns."""

    def make(*names, turns=3, namespace="default"):
        with Archive.open(root, durability="none", namespace=namespace) as archive:
            for name in names:
                archive.conversation(name).record_many([("user", at) for at in range(turns)])

    return make


def snapshot(root):
    """Everything that is in the archive, but for the locks, which are only ever taken."""
    return {
        str(path): path.read_bytes()
        for path in Path(root).rglob("*")
        if path.is_file() and path.parent.name != ".locks"
    }


def trashed(root, namespace="default"):
    return sorted(path.name for path in Path(root, namespace, ".trash").glob("*"))


def listed(cli):
    return [each["continuation_id"] for each in cli("list", "--json").objects]


def audit(root, namespace="default"):
    lines = [
        line
        for path in sorted(Path(root, namespace, ".audit").glob("*.jsonl"))
        for line in path.read_text().splitlines()
    ]
    return [json.loads(line) for line in lines]


def rules(root, text):
    Path(root).mkdir(mode=0o700, exist_ok=True)
    Path(root, "convmem.toml").write_text(text)


@contextlib.contextmanager
def held(root, lock):
    """Hold a lock of the namespace as another process would."""
    with open(Path(root, "default", ".locks", lock), "a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


# --- delete -----------------------------------------------------------------------------------


def test_a_deleted_conversation_is_in_the_trash_as_it_was_and_the_answer_says_where(cli, fill, log):
    """Rule 4: it says exactly what it did."""
    fill("trip", "other")
    before = log().read_bytes()
    answer = cli("delete", "trip", "--json")
    (told,) = answer.objects
    assert answer.err == ""
    assert list(told) == [
        "continuation_id",
        "namespace",
        "action",
        "dry_run",
        "bytes",
        "last_seq",
        "trash",
    ]
    assert (told["continuation_id"], told["namespace"], told["action"]) == (
        "trip",
        "default",
        "delete",
    )
    assert (told["dry_run"], told["bytes"], told["last_seq"]) == (False, len(before), 3)
    assert Path(cli.root, "default", ".trash", told["trash"]).read_bytes() == before
    assert listed(cli) == ["other"]
    for verb in ("tail", "show", "path", "delete"):
        assert cli(verb, "trip", code=3).out == b""
    (noted,) = audit(cli.root)
    assert (noted["event"], noted["continuation_id"], noted["bytes"], noted["trash"]) == (
        "delete",
        "trip",
        len(before),
        told["trash"],
    )


def test_a_dry_run_says_the_same_and_touches_nothing(cli, fill):
    """Whoever tries it first must be able to trust the words, and the silence."""
    fill("trip", "other")
    before = snapshot(cli.root)
    (tried,) = cli("delete", "trip", "--dry-run", "--json").objects
    assert "would be deleted" in cli("delete", "trip", "--dry-run").text
    assert snapshot(cli.root) == before
    (done,) = cli("delete", "trip", "--json").objects
    assert (tried.pop("dry_run"), tried.pop("trash")) == (True, None)
    assert not done.pop("dry_run") and done.pop("trash")
    assert tried == done


@pytest.mark.parametrize("words", [[], [""], ["trip", ""], ["trip", "x" * 1025]], ids=repr)
def test_wrong_ids_are_2_and_delete_nothing(cli, fill, words):
    """The whole list is looked at before the first goes."""
    fill("trip", "other")
    before = snapshot(cli.root)
    cli("delete", *words, code=2)
    assert snapshot(cli.root) == before


def test_one_that_is_not_there_is_3_alone_and_7_among_others(cli, fill):
    """Done in part is a result of its own: some went, and one is named."""
    fill("a", "b", "c")
    answer = cli("delete", "nothing", "--json", code=3)
    assert [each["kind"] for each in answer.told] == ["not_found"]
    answer = cli("delete", "a", "nothing", "b", "--json", code=7)
    assert [each["continuation_id"] for each in answer.objects] == ["a", "b"]
    assert [(each["kind"], each["continuation_id"]) for each in answer.told] == [
        ("not_found", "nothing")
    ]
    assert listed(cli) == ["c"]


@pytest.mark.parametrize("dry_run", [False, True])
def test_several_that_are_not_there_are_not_everything(cli, fill, dry_run):
    """In a namespace without conversations nothing is "all there is"."""
    more = ["--dry-run"] if dry_run else []
    answer = cli("delete", "x", "y", "--json", *more, code=7)
    assert [each["kind"] for each in answer.told] == ["not_found", "not_found"]
    assert not os.path.exists(cli.root)


def test_all_conversations_in_one_go_are_refused_unless_that_is_said(cli, fill):
    """`convmem list | xargs convmem delete` is one slip away: P-"delete everything by accident"."""
    fill("a", "b", "c")
    fill("elsewhere", namespace="other")
    before = snapshot(cli.root)
    for names in (["a", "b", "c"], ["c", "b", "a", "nothing"], ["a", "b", "c", "a"]):
        answer = cli("delete", *names, "--yes", code=2)
        assert "--everything" in answer.err
        assert snapshot(cli.root) == before
    assert cli("delete", "a", "b", "c", "--everything", "--quiet").out == b""
    assert listed(cli) == []
    assert cli("tail", "elsewhere", "-N", "other").out


def test_an_id_named_twice_is_deleted_once(cli, fill):
    """`xargs` may pass an id twice; the second must not fail."""
    fill("a", "b")
    assert len(cli("delete", "a", "a", "--json").objects) == 1


def test_what_the_keep_list_names_is_refused_and_the_others_go(cli, fill):
    """The keep-list is for what nobody may remove, also not by hand."""
    fill("legal-1", "a", "b")
    rules(cli.root, '[[keep]]\nid = "legal-*"\n')
    before = snapshot(cli.root)
    for more in ([], ["--yes"], ["--dry-run"]):
        assert "keep-list" in cli("delete", "legal-1", *more, code=2).err
    assert snapshot(cli.root) == before
    answer = cli("delete", "legal-1", "a", "--json", code=7)
    assert [each["continuation_id"] for each in answer.objects] == ["a"]
    assert listed(cli) == ["b", "legal-1"] or listed(cli) == ["legal-1", "b"]


@pytest.mark.parametrize("verb", [["delete", "trip"], ["trash", "purge", "--older-than", "0s"]])
def test_with_broken_rules_nothing_is_removed(cli, fill, verb):
    """Half a keep-list would be worse than none: 2, and not a byte changes."""
    fill("trip", "other")
    cli("delete", "other")
    rules(cli.root, '[[keep]]\nid = "trip"\nwhat = 1\n')
    before = snapshot(cli.root)
    assert "convmem.toml" in cli(*verb, code=2).err
    assert snapshot(cli.root) == before


def test_one_that_is_busy_is_6_and_stays(cli, fill):
    """Who writes for longer than anybody waits keeps the conversation."""
    fill("trip", "other")
    cli("state", "trip", "set", "session=s1")
    before = snapshot(cli.root)
    for lock in ("trip.lock", "trip+state.lock"):
        with held(cli.root, lock):
            answer = cli("delete", "trip", "--json", code=6, CONVMEM_LOCK_TIMEOUT="100ms")
        assert [each["kind"] for each in answer.told] == ["busy"]
        after = {name: data for name, data in snapshot(cli.root).items() if ".audit" not in name}
        assert {name: data for name, data in after.items() if name in before} == before, lock
        assert trashed(cli.root) == []
    cli("delete", "trip")
    cli("state", "trip", "get", code=3)


def test_state_goes_with_the_conversation_and_comes_back_with_it(cli, fill):
    """A provider's session belongs to its conversation, not to the next of that name."""
    fill("trip", "other")
    cli("state", "trip", "set", "session=first")
    cli("delete", "trip")
    cli("record", "trip", "anew")
    assert cli("state", "trip", "get").out in (b"", b"{}\n")
    cli("state", "trip", "set", "session=second")
    cli("delete", "trip")
    kinds = [each["kind"] for each in cli("trash", "list", "--json").objects]
    assert sorted(kinds) == ["conversation", "conversation", "state", "state"]
    planned = cli("trash", "restore", "trip", "--dry-run", "--json").objects[0]
    (told,) = cli("trash", "restore", "trip", "--json").objects
    assert told["state"] and planned["state"]
    assert cli("state", "trip", "get", "session").text == "second\n"
    assert cli("show", "trip").contents == [0, 1, 2, "anew"]
    # There is one by now: the other one waits, and that is said before and after.
    planned = cli("trash", "restore", "trip", "--dry-run", "--json").objects[0]
    (told,) = cli("trash", "restore", "trip", "--json").objects
    assert (planned["state"], told["state"]) == (False, False)


def test_a_conversation_begun_anew_goes_on_with_the_numbers(cli, fill):
    """So that both can be put together again."""
    fill("trip", "other")
    cli("delete", "trip")
    assert cli("record", "trip", "anew", "--json").objects[0]["seq"] == 4
    cli("trash", "restore", "trip")
    assert [(each["seq"], each["content"]) for each in cli("show", "trip").objects] == [
        (1, 0),
        (2, 1),
        (3, 2),
        (4, "anew"),
    ]


def test_begun_anew_by_hand_it_goes_on_with_the_numbers_too(cli, fill, log):
    """`echo >>` is a way to begin a conversation."""
    fill("trip", "other")
    cli("delete", "trip")
    log().write_bytes(b'{"role":"user","content":"by hand"}\n')
    assert cli("record", "trip", "anew", "--json").objects[0]["seq"] == 4
    (told,) = cli("trash", "restore", "trip", "--json").objects
    assert (told["restored"], told["conflicts"]) == (3, 0)


# --- asking -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "goes"),
    [
        (b"y\n", True),
        (b"yes\n", True),
        (b" YES \n", True),
        (b"n\n", False),
        (b"\n", False),
        (b"yesterday\n", False),
        (b"\x04", False),
    ],
)
def test_at_a_terminal_it_asks_and_only_a_yes_is_one(cli, fill, typed, goes):
    """The answer that nobody thought about is the Enter key."""
    fill("trip", "other")
    answer = cli.on_terminal("delete", "trip", typed=typed, code=0 if goes else 1)
    assert "Move trip to the trash? [y/N]" in answer.shown
    assert ("trip" in listed(cli)) is not goes
    assert ("nothing was deleted" in answer.shown) is not goes


def test_it_does_not_ask_with_yes_nor_for_a_dry_run_nor_off_a_terminal(cli, fill):
    """Scripts and cron have nobody to ask."""
    fill("a", "b", "c", "d")
    assert "[y/N]" not in cli.on_terminal("delete", "a", "--dry-run").shown
    assert "[y/N]" not in cli.on_terminal("delete", "a", "--yes").shown
    assert "[y/N]" not in cli.on_terminal("delete", "b", on="12").shown
    cli("delete", "c")
    assert listed(cli) == ["d"]


def test_ctrl_c_at_the_question_is_130_and_deletes_nothing(cli, fill):
    """Whoever hesitates presses Ctrl-C."""
    fill("trip", "other")
    cli.on_terminal("delete", "trip", interrupt_at=b"[y/N]", code=130)
    assert "trip" in listed(cli)


def test_a_question_about_a_hostile_id_is_one_line_without_control_characters(cli, fill):
    """An id is a stranger's text: it may not write the answer for the person."""
    fill("evil\x1b[2J\r\nMove nothing", "other")
    name = "evil\x1b[2J\r\nMove nothing"
    shown = cli.on_terminal("delete", name, typed=b"n\n", code=1).shown
    assert "\x1b" not in shown
    assert "evil\\x1b[2J\\r\\nMove nothing" in shown


def test_purge_asks_how_much_goes_and_a_no_keeps_it(cli, fill):
    """What leaves the trash does not come back."""
    fill("a", "b", "c")
    cli("delete", "a", "b")
    shown = cli.on_terminal("trash", "purge", "--older-than", "0s", typed=b"n\n", code=1).shown
    assert "Delete 2 files (" in shown and "for good? [y/N]" in shown
    assert len(trashed(cli.root)) == 2
    cli.on_terminal("trash", "purge", "--older-than", "0s", typed=b"y\n")
    assert trashed(cli.root) == []
    # Nothing to purge: nothing to ask.
    shown = cli.on_terminal("trash", "purge", "--older-than", "0s").shown
    assert "[y/N]" not in shown


# --- trash: what is refused -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "ACTION"),
        (["empty"], "list, restore or purge"),
        (["--json"], "ACTION"),
        (["list", "--older-than", "1d"], "--older-than"),
        (["list", "--since", "1d"], "--since"),
        (["list", "--dry-run"], "--dry-run"),
        (["restore"], "name the conversations"),
        (["restore", "trip", "--all-namespaces"], "--all-namespaces"),
        (["restore", "trip", "--older-than", "1d"], "--older-than"),
        (["restore", "trip", "--since", "gestern"], "--since"),
        (["restore", ""], "empty"),
        (["purge"], "--older-than"),
        (["purge", "trip"], "--older-than"),
        (["purge", "--yes", "--dry-run"], "--older-than"),
        (["purge", "--older-than", "30"], "--older-than"),
        (["purge", "--older-than", "-1d"], "--older-than"),
        (["purge", "--older-than", "1d", "--since", "1d"], "--since"),
        (["purge", "--older-than", "1d", "--removed-since", "1d"], "--removed-since"),
        (["purge", "trip", "", "--older-than", "0s"], "empty"),
    ],
    ids=" ".join,
)
def test_wrong_usage_of_the_trash_is_2_and_changes_nothing(cli, fill, words, said):
    """Above all a purge that does not say of what."""
    fill("trip", "other")
    cli("delete", "trip")
    before = snapshot(cli.root)
    answer = cli("trash", *words, code=2)
    assert said in answer.err
    assert answer.out == b""
    assert snapshot(cli.root) == before


@pytest.mark.parametrize("exists", [False, True])
def test_where_nothing_is_in_the_trash_restore_is_3_and_makes_nothing(cli, fill, exists):
    """A mistyped id must be heard of."""
    if exists:
        fill("trip")
    before = snapshot(cli.root)
    for name in ("trip", "nothing"):
        for more in ([], ["--dry-run"], ["--since", "1d"], ["--removed-since", "1d"]):
            answer = cli("trash", "restore", name, "--json", *more, code=3)
            assert [each["kind"] for each in answer.told] == ["not_found"]
    assert cli("trash", "list").out == cli("trash", "list", "nothing", "--json").out == b""
    assert cli("trash", "list", "--all-namespaces").out == b""
    assert "purged 0 files" in cli("trash", "purge", "--older-than", "0s").text
    assert cli("trash", "purge", "--older-than", "0s", "--json", "--all-namespaces").out == b""
    assert snapshot(cli.root) == before
    assert os.path.exists(cli.root) is exists


def test_restore_of_nothing_wanted_makes_no_conversation(cli, fill):
    """Nothing came back, so nothing is there."""
    fill("trip", "other")
    cli("delete", "trip")
    before = snapshot(cli.root)
    (told,) = cli("trash", "restore", "trip", "--since", "2099-01-01", "--json").objects
    assert (told["restored"], told["unwanted"]) == (0, 3)
    assert listed(cli) == ["other"]
    assert snapshot(cli.root) == before


def test_some_to_restore_and_some_not_is_7(cli, fill):
    """Each that failed is named, and the others are back."""
    fill("a", "b", "c")
    cli("delete", "a", "b")
    answer = cli("trash", "restore", "a", "nothing", "b", "--json", code=7)
    assert [each["continuation_id"] for each in answer.objects] == ["a", "b"]
    assert [each["continuation_id"] for each in answer.told] == ["nothing"]
    assert sorted(listed(cli)) == ["a", "b", "c"]


# --- trash: list ------------------------------------------------------------------------------


def test_the_list_says_what_is_there_oldest_first(cli, fill, log):
    """People look here for what they want back, and scripts too."""
    fill("a", "b", turns=5)
    cli("compact", "a", "--keep-last", "2", CONVMEM_NOW="2026-01-02T03:04:05Z")
    cli("delete", "b", CONVMEM_NOW="2025-12-31T00:00:00Z")
    found = cli("trash", "list", "--json").objects
    assert [list(each) for each in found] == [
        ["continuation_id", "namespace", "kind", "removed", "bytes", "file"]
    ] * 2
    assert [(each["continuation_id"], each["kind"], each["removed"]) for each in found] == [
        ("b", "conversation", "2025-12-31T00:00:00.000000Z"),
        ("a", "turns", "2026-01-02T03:04:05.000000Z"),
    ]
    for each in found:
        assert each["bytes"] == (log().parent / ".trash" / each["file"]).stat().st_size
    lines = [line.split("\t") for line in cli("trash", "list").text.splitlines()]
    assert [line[:3] for line in lines] == [
        ["2025-12-31T00:00:00.000000Z", "b", "conversation"],
        ["2026-01-02T03:04:05.000000Z", "a", "turns"],
    ]
    assert [each["continuation_id"] for each in cli("trash", "list", "a", "--json").objects] == [
        "a"
    ]
    assert cli("trash", "list", "nothing").out == b""
    shown = cli.on_terminal("trash", "list").shown
    assert shown.index("b") < shown.index("turns")


def test_the_same_id_in_two_namespaces_is_two_conversations(cli, fill):
    """O5: what one tenant deletes, restores or purges is not another's."""
    fill("trip", "stays", namespace="one")
    fill("trip", "stays", turns=5, namespace="two")
    cli("delete", "trip", "-N", "one")
    cli("delete", "trip", "-N", "two")
    assert cli("trash", "list").out == b""
    found = cli("trash", "list", "--all-namespaces", "--json").objects
    assert [(each["namespace"], each["continuation_id"]) for each in found] == [
        ("one", "trip"),
        ("two", "trip"),
    ]
    first = cli("trash", "list", "--all-namespaces").text.splitlines()[0].split("\t")
    assert first[0] == "one" and first[2] == "trip"
    cli("trash", "restore", "trip", code=3)
    assert cli("trash", "restore", "trip", "-N", "one", "--json").objects[0]["restored"] == 3
    assert len(trashed(cli.root, "two")) == 1
    cli("delete", "trip", "-N", "one")
    cli("trash", "purge", "--older-than", "0s", "-N", "one")
    assert (trashed(cli.root, "one"), len(trashed(cli.root, "two"))) == ([], 1)
    cli("delete", "stays", "-N", "one", "--yes")
    told = cli("trash", "purge", "trip", "--older-than", "0s", "--all-namespaces", "--json")
    assert [each["namespace"] for each in told.objects] == ["two"]
    assert (len(trashed(cli.root, "one")), trashed(cli.root, "two")) == (1, [])


# --- trash: restore ---------------------------------------------------------------------------


def test_restore_says_what_came_back_and_gives_back_the_bytes(cli, fill, log):
    """Restore after compaction gives back byte-equal turns."""
    fill("trip", turns=9)
    before = log().read_bytes()
    for count in ("7", "4", "0"):
        cli("compact", "trip", "--keep-last", count)
    files = trashed(cli.root)
    untouched = snapshot(cli.root)
    (planned,) = cli("trash", "restore", "trip", "--dry-run", "--json").objects
    assert "9 turns" in cli("trash", "restore", "trip", "--dry-run").text
    assert snapshot(cli.root) == untouched
    (told,) = cli("trash", "restore", "trip", "--json").objects
    assert list(told) == [
        "continuation_id",
        "namespace",
        "action",
        "dry_run",
        "restored",
        "bytes",
        "first_seq",
        "last_seq",
        "already_there",
        "conflicts",
        "unwanted",
        "damaged",
        "summaries",
        "state",
        "files",
    ]
    assert (told["restored"], told["bytes"], told["first_seq"], told["last_seq"]) == (
        9,
        len(before),
        1,
        9,
    )
    assert sorted(told["files"]) == files
    assert (planned.pop("dry_run"), told.pop("dry_run")) == (True, False)
    assert planned == told
    assert log().read_bytes().replace(b"\n", b"") != b""
    assert [each["seq"] for each in cli("show", "trip").objects] == list(range(1, 10))
    assert trashed(cli.root) == []
    cli("trash", "restore", "trip", code=3)


def test_since_and_removed_since_narrow_what_comes_back(cli, archive):
    """ "Bring back what yesterday's run took", and "bring back the last week"."""
    chat = archive.conversation("trip")
    for day in range(1, 11):
        chat.record("user", day, ts=datetime(2026, 1, day, tzinfo=UTC))
    chat.compact(RetentionPolicy(keep_last=7), now=datetime(2026, 2, 1, tzinfo=UTC))
    chat.compact(RetentionPolicy(keep_last=2), now=datetime(2026, 3, 1, tzinfo=UTC))
    words = ["trash", "restore", "trip", "--json"]
    (told,) = cli(*words, "--removed-since", "2026-02-15", "--since", "2026-01-07").objects
    assert (told["restored"], told["unwanted"], told["first_seq"], told["last_seq"]) == (2, 3, 7, 8)
    (told,) = cli(*words, "--removed-since", "2026-02-15").objects
    assert (told["restored"], told["first_seq"]) == (3, 4)
    cli(*words, "--removed-since", "2026-02-15", code=3)
    assert cli("show", "trip").contents == list(range(4, 11))
    cli(*words)
    assert cli("show", "trip").contents == list(range(1, 11))


def test_a_turn_whose_id_is_another_turns_by_now_stays_and_is_told_7(cli):
    """Nothing is overwritten, nothing is lost, and the person knows where it is."""
    cli("record", "trip", "first", "--id", "a")
    cli("record", "trip", "second", "--id", "b")
    cli("record", "other", "x")
    cli("delete", "trip")
    cli("record", "trip", "another first", "--id", "a")
    planned = cli("trash", "restore", "trip", "--dry-run", "--json", code=7)
    answer = cli("trash", "restore", "trip", "--json", code=7)
    (told,) = answer.objects
    assert (told["restored"], told["conflicts"]) == (1, 1)
    assert planned.objects[0]["conflicts"] == 1
    (warned,) = answer.told
    assert (warned["kind"], warned["conflicts"]) == ("partial", 1)
    assert cli("show", "trip").contents == ["second", "another first"]
    (left,) = trashed(cli.root)
    kept = Path(cli.root, "default", ".trash", left).read_bytes()
    assert kept.count(b"\n") == 1 and b'"first"' in kept
    answer = cli("trash", "restore", "trip", code=7)
    assert cli("show", "trip").contents == ["second", "another first"]
    assert Path(cli.root, "default", ".trash", left).read_bytes() == kept


def test_two_deleted_conversations_with_one_id_do_not_come_back_as_two_turns(cli):
    """P6: one id, one turn, also where both lives of a conversation are in the trash."""
    cli("record", "other", "x")
    for content in ("first", "second"):
        cli("record", "trip", content, "--id", "a")
        cli("delete", "trip")
    (told,) = cli("trash", "restore", "trip", "--json", code=7).objects
    assert (told["restored"], told["conflicts"]) == (1, 1)
    assert cli("show", "trip").contents == ["second"]


def test_a_busy_conversation_is_6_and_both_sides_are_as_they_were(cli, fill):
    """A compaction at work keeps a restore away, and the other way round."""
    fill("trip", turns=5)
    cli("compact", "trip", "--keep-last", "2")
    before = snapshot(cli.root)
    for lock in ("trip.lock.c", "trip.lock"):
        with held(cli.root, lock):
            told = cli(
                *("trash", "restore", "trip", "--json"), code=6, CONVMEM_LOCK_TIMEOUT="100ms"
            ).told
        assert [each["kind"] for each in told] == ["busy"]
        assert snapshot(cli.root) == before


def test_on_a_full_disk_a_restore_changes_nothing(cli, fill, log):
    """A15: also where the log has to be made anew, none is left behind."""
    fill("trip", "gone", "other", turns=30)
    cli("compact", "trip", "--keep-last", "2")
    cli("delete", "gone")
    before = snapshot(cli.root)
    for name in ("trip", "gone"):
        told = cli("trash", "restore", name, "--json", code=4, prepare=cli.WITH_FULL_DISK).told
        assert [each["kind"] for each in told] == ["full"]
    assert snapshot(cli.root) == before
    assert sorted(listed(cli)) == ["other", "trip"]
    assert cli("trash", "restore", "trip", "gone", "--json").objects[1]["restored"] == 30


def test_a_compressed_conversation_deletes_and_restores_like_any(cli, fill, log):
    """What is cold is no less there."""
    pytest.importorskip("convmem.log.compressed.cold_compress")
    fill("trip", "other", turns=300)
    before = log().read_bytes()
    cli("compact", "trip", "--keep-last", "100")
    cli("compress", "trip")
    (planned,) = cli("trash", "restore", "trip", "--dry-run", "--json").objects
    (told,) = cli("trash", "restore", "trip", "--json").objects
    assert planned | {"dry_run": False} == told
    assert log().read_bytes() == before
    cli("compress", "trip")
    cli("delete", "trip")
    assert listed(cli) == ["other"]
    cli("trash", "restore", "trip")
    assert log().read_bytes() == before
    # As a crash leaves it: both, and then the plain one is the truth.
    cli("compress", "trip")
    cold = log().with_name("trip.jsonl.zst").read_bytes()
    cli("compress", "--undo", "trip")
    cli("record", "trip", "more")
    log().with_name("trip.jsonl.zst").write_bytes(cold)
    cli("delete", "trip")
    assert listed(cli) == ["other"]
    cli("tail", "trip", code=3)


# --- trash: purge -----------------------------------------------------------------------------


def test_purge_takes_what_is_old_enough_and_says_so(cli, fill):
    """What is in the trash for a month is no longer an accident."""
    fill("a", "b", "c")
    cli("delete", "a", CONVMEM_NOW="2026-01-01")
    cli("delete", "b", CONVMEM_NOW="2026-01-31")
    words = ["trash", "purge", "--older-than", "30d"]
    at = {"CONVMEM_NOW": "2026-02-01"}
    before = snapshot(cli.root)
    (planned,) = cli(*words, "--dry-run", "--json", **at).objects
    assert "would purge 1 file (" in cli(*words, "--dry-run", **at).text
    assert snapshot(cli.root) == before
    (told,) = cli(*words, "--json", **at).objects
    assert list(told) == [
        "action",
        "dry_run",
        "continuation_id",
        "namespace",
        "kind",
        "removed",
        "bytes",
        "file",
    ]
    assert planned | {"dry_run": False} == told
    assert (told["action"], told["continuation_id"]) == ("purge", "a")
    cli("trash", "restore", "a", code=3)
    assert "purged 0 files" in cli(*words, **at).text
    assert cli("trash", "purge", "--older-than", "0s", "-q", **at).out == b""
    events = [(each["event"], each["continuation_id"]) for each in audit(cli.root)]
    assert events == [("delete", "a"), ("delete", "b"), ("purge", "a"), ("purge", "b")]


def test_purge_leaves_what_came_from_kept_conversations(cli, fill):
    """Whoever is on the keep-list later than the deletion gets time to restore it."""
    fill("legal-1", "a", "b", "legal-" + "x" * 200)
    cli("delete", "legal-1", "a", "legal-" + "x" * 200)
    rules(cli.root, '[[keep]]\nid = "legal-*"\n')
    gone = cli("trash", "purge", "--older-than", "0s", "--json").objects
    assert [each["continuation_id"] for each in gone] == ["a"]
    gone = cli("trash", "purge", "legal-1", "--older-than", "0s", "--json").objects
    assert gone == []
    assert cli("trash", "restore", "legal-1", "--json").objects[0]["restored"] == 3


def test_zero_seconds_is_everything_whatever_the_clock_said(cli, fill):
    """A clock that was ahead once must not leave files that no purge gets."""
    fill("a", "b")
    cli("delete", "a", CONVMEM_NOW="2090-01-01")
    cli("trash", "purge", "--older-than", "0s")
    assert trashed(cli.root) == []


def test_purge_leaves_strangers_files_alone(cli, fill):
    """What convmem did not put there it does not take."""
    fill("a", "b")
    cli("delete", "a")
    trash = Path(cli.root, "default", ".trash")
    strangers = ["notes.txt", "a.jsonl", "a.20261121.jsonl", ".a.jsonl", "a..x.log"]
    for name in strangers:
        (trash / name).write_text("precious\n")
    cli("trash", "purge", "--older-than", "0s")
    assert trashed(cli.root) == sorted(strangers)


def test_what_is_purged_leaves_nothing_of_its_content(cli, fill):
    """On request of the person who said it: not in any sidecar either."""
    cli("record", "trip", "a SECRET that has to go", "--id", "one")
    cli("record", "other", "x")
    cli("state", "trip", "set", "session=SECRET too")
    cli("compact", "trip", "--keep-last", "0")
    cli("delete", "trip")
    cli("trash", "purge", "--older-than", "0s")
    assert not [path for path, data in snapshot(cli.root).items() if b"SECRET" in data]


# --- hostile ids ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_any_id_can_be_deleted_listed_restored_and_purged(cli, fill, name):
    """A4: what can be recorded can be removed and come back."""
    fill(name, "other")
    before = cli("show", "--", name).out
    words = ["--json", "--", name]
    (told,) = cli("delete", *words).objects
    assert told["continuation_id"] == name
    (found,) = cli("trash", "list", *words).objects
    assert (found["continuation_id"], found["file"]) == (name, told["trash"])
    text = cli("trash", "list").text
    assert len(text.splitlines()) == 1 and "\x1b" not in text
    (back,) = cli("trash", "restore", *words).objects
    assert (back["continuation_id"], back["restored"]) == (name, 3)
    assert cli("show", "--", name).out == before
    assert "\x1b" not in cli("delete", "--", name).text
    (gone,) = cli("trash", "purge", "--older-than", "0s", *words).objects
    assert gone["continuation_id"] == name
    assert trashed(cli.root) == []
    assert listed(cli) == ["other"]


def test_names_that_begin_alike_are_kept_apart(cli, fill):
    """`trip`, `trip.2` and `trip.20261121T…` share a folder for their trash."""
    names = ["trip", "trip.2", "trip.20260101T000000000000Z.0123abcd.jsonl", "trip.jsonl"]
    fill(*names, "other")
    for at, name in enumerate(names):
        cli("record", name, f"of {at}")
    cli("delete", *names)
    for at, name in enumerate(names):
        (told,) = cli("trash", "restore", name, "--json").objects
        assert told["restored"] == 4
        assert cli("show", name).contents == [0, 1, 2, f"of {at}"]
    assert trashed(cli.root) == []


# --- the help is right -----------------------------------------------------------------------


def test_the_examples_of_the_help_work(cli, fill):
    """What people copy first."""
    for verb in ("delete", "trash"):
        fill("oslo-trip", "dinner", "other")
        text = cli(verb, "--help").text
        found = re.findall(r"^ +convmem (\w+ .*)$", text, re.MULTILINE)
        if verb == "trash":
            cli("delete", "oslo-trip")
        done = [line for line in found if line.startswith(("delete", "trash"))]
        assert len(done) >= 3
        for line in done:
            cli(*line.split(), code=None if "restore" in line else 0)
