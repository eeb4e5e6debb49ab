"""``compact --all`` by the rules of ``convmem.toml``: what goes, what stays, what is refused."""

from __future__ import annotations

import json
import os
import threading
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from inside import Inside

from convmem import Archive, maintenance

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
DAY = timedelta(days=1)


@pytest.fixture
def cli(root):
    """The program at a time of its own, in this process."""
    program = Inside(root)
    program.environment["CONVMEM_NOW"] = NOW.isoformat()
    return program


@pytest.fixture
def fill(root):
    """Make conversations of so many turns, a day apart; the newest so many days old."""

    def make(*names, turns=10, idle=0.0, size=1, namespace="default"):
        with Archive.open(root, durability="none", namespace=namespace) as archive:
            for name in names:
                chat = archive.conversation(name)
                for at in range(turns):
                    ts = NOW - (idle + turns - 1 - at) * DAY
                    chat.record("user", f"{at} " * size, ts=ts)

    return make


def rules(root, text):
    Path(root).mkdir(mode=0o700, exist_ok=True)
    Path(root, "convmem.toml").write_text(text)


def snapshot(root):
    """Everything that is in the archive, but for locks and what can be made anew."""
    return {
        str(path): path.read_bytes()
        for path in Path(root).rglob("*")
        if path.is_file() and path.parent.name not in (".locks", ".index")
    }


def run(cli, *words, **options):
    """Compact by the rules; return (namespace, id, action) of what went."""
    answer = cli("compact", "--all", "--json", *words, **options)
    return answer, [
        (each["namespace"], each["continuation_id"], each["action"])
        for each in answer.objects
        if each.get("dropped") != 0
    ]


def left(cli, *words):
    return sorted(each["continuation_id"] for each in cli("list", "--json", *words).objects)


# --- what counts for whom ---------------------------------------------------------------------


def test_the_first_rule_that_matches_is_the_one_that_counts(cli, fill):
    """Two rules never add up: what people read from the top is what happens."""
    fill("ci-1", "ci-2", "talk")
    rules(
        cli.root,
        '[[retention]]\nid = "ci-1"\nkeep_last = 8\n'
        '[[retention]]\nid = "ci-*"\nkeep_last = 5\n'
        "[[retention]]\nkeep_last = 2\n",
    )
    answer, _ = run(cli)
    assert {each["continuation_id"]: each["kept"] for each in answer.objects} == {
        "ci-1": 8,
        "ci-2": 5,
        "talk": 2,
    }
    assert {each["because"] for each in answer.objects} == {
        "retention rule 1",
        "retention rule 2",
        "retention rule 3",
    }


def test_a_kept_conversation_is_untouched_whatever_other_rules_say(cli, fill, log):
    """The keep-list comes first, wherever it stands in the file."""
    fill("legal-1", idle=1000, size=500)
    fill("other")
    rules(
        cli.root,
        '[archive]\nmax_bytes = "1k"\nmax_age = "1d"\nmin_idle = "0s"\nallow_empty = true\n'
        '[[retention]]\nkeep_last = 0\ndelete_idle = "1d"\n'
        '[trash]\nmax_age = "1s"\n'
        '[[keep]]\nid = "legal-*"\n',
    )
    before = os.stat(log("legal-1"))
    answer, gone = run(cli)
    after = os.stat(log("legal-1"))
    assert (before.st_ino, before.st_mtime_ns, before.st_size) == (
        after.st_ino,
        after.st_mtime_ns,
        after.st_size,
    )
    assert not [each for each in gone if each[1] == "legal-1"]
    # All that is left is too large, and that is said; not a failure, since nothing can be done.
    assert answer.told[-1]["kind"] == "archive_max_bytes"
    # Nor does an explicit policy touch it: quietly with --all, with a word where it is named.
    cli("compact", "--all", "--keep-last", "1")
    assert "keep-list" in cli("compact", "legal-1", "--keep-last", "1", code=2).err
    assert len(cli("show", "legal-1").objects) == 10


def test_without_a_namespace_the_rules_are_for_all_of_them(cli, fill):
    """One crontab line for the whole archive."""
    fill("trip", namespace="a")
    fill("trip", namespace="b")
    fill("trip")
    rules(cli.root, '[[retention]]\nnamespace = ["a", "default"]\nkeep_last = 3\n')
    _, gone = run(cli)
    assert gone == [("a", "trip", "compact"), ("default", "trip", "compact")]


def test_with_a_namespace_only_that_one_is_touched_and_no_limit_of_the_whole_archive_counts(
    cli, fill
):
    """O5: who asks for one tenant must not delete another's, nor judge the whole by a part."""
    fill("old", "older", idle=20, size=50, namespace="a")
    fill("old", "older", idle=20, size=50, namespace="b")
    rules(
        cli.root,
        '[[retention]]\nkeep_last = 9\n[archive]\nmax_bytes = "3k"\nmin_idle = "1d"\n',
    )
    before = {path: data for path, data in snapshot(cli.root).items() if "/b/" in path}
    answer, gone = run(cli, "-N", "a")
    assert gone == [("a", "old", "compact"), ("a", "older", "compact")]
    assert answer.err == ""
    assert {p: data for p, data in snapshot(cli.root).items() if "/b/" in p} == before
    fill("more", namespace="a")
    _, gone = run(cli, CONVMEM_NAMESPACE="a")
    assert gone == [("a", "more", "compact")]
    _, gone = run(cli)
    assert ("b", "old", "compact") in gone and "delete" in {each[2] for each in gone}


def test_named_conversations_are_compacted_by_their_rule_and_nothing_else_happens(cli, fill):
    """`compact ID` without a policy: its turns, not its life, nor the trash of others."""
    fill("ci-1", "ci-2", idle=50)
    fill("gone")
    cli("delete", "gone", CONVMEM_NOW="2020-01-01")
    rules(
        cli.root,
        '[[retention]]\nid = "ci-*"\nkeep_last = 3\ndelete_idle = "1d"\n[trash]\nmax_age = "1d"\n',
    )
    (told,) = cli("compact", "ci-1", "--json").objects
    assert (told["action"], told["kept"]) == ("compact", 3)
    assert left(cli) == ["ci-1", "ci-2"]
    assert len(cli("trash", "list", "gone").text.splitlines()) == 1
    assert "no rule" in cli("compact", "gone", code=2).err


# --- whole conversations ------------------------------------------------------------------------


def test_idle_conversations_go_to_the_trash_and_come_back_from_it(cli, fill, log):
    """What nobody used for as long as the rule says; one use is enough to stay."""
    fill("idle", idle=31)
    fill("used", idle=31)
    fill("other", idle=29)
    cli("record", "used", "still here")
    rules(cli.root, '[[retention]]\ndelete_idle = "30d"\n')
    before = log("idle").read_bytes()
    dry, planned = run(cli, "--dry-run")
    answer, gone = run(cli)
    assert planned == gone == [("default", "idle", "delete")]
    assert dry.objects[0]["trash"] is None and answer.objects[0]["trash"]
    assert dry.objects[0]["because"] == answer.objects[0]["because"]
    assert left(cli) == ["other", "used"]
    cli("trash", "restore", "idle")
    assert log("idle").read_bytes() == before


def test_a_conversation_that_comes_to_life_during_the_run_stays(cli, fill, monkeypatch):
    """Ten thousand conversations take minutes; whoever says something meanwhile is not deleted."""
    fill("a", "b", idle=100)
    fill("c")
    rules(cli.root, '[[retention]]\ndelete_idle = "30d"\n')
    real = maintenance.carry_out

    def meddle(archive, work, **more):
        if work.continuation_id == "a":
            with Archive.open(cli.root) as other:
                other.conversation("a").record("user", "back again", ts=NOW)
        return real(archive, work, **more)

    monkeypatch.setattr(maintenance, "carry_out", meddle)
    answer, gone = run(cli)
    assert gone == [("default", "b", "delete")]
    assert left(cli) == ["a", "c"]
    assert answer.err == ""


def test_one_that_another_run_has_deleted_meanwhile_is_no_failure(cli, fill, monkeypatch):
    """Two runs at once do no harm, and nobody gets a mail about it."""
    fill("a", "b", idle=100)
    fill("c")
    rules(cli.root, '[[retention]]\nkeep_last = 5\ndelete_idle = "30d"\n')
    real = maintenance.carry_out

    def meddle(archive, work, **more):
        with Archive.open(cli.root) as other:
            chat = other.conversation(work.continuation_id)
            if work.delete is not None and chat.exists():
                chat.delete(now=NOW)
        return real(archive, work, **more)

    monkeypatch.setattr(maintenance, "carry_out", meddle)
    answer, _ = run(cli, code=None)
    assert (answer.code, answer.err) == (0, "")
    assert left(cli) == ["c"]


# --- the whole archive --------------------------------------------------------------------------


def test_room_is_looked_at_after_compaction_and_only_what_is_too_much_goes(cli, fill):
    """A conversation that a policy is about to shrink must not push another one out."""
    fill("large", turns=100, idle=1, size=100)
    fill("old", idle=90, size=10)
    fill("new", idle=10, size=10)
    rules(
        cli.root,
        '[[retention]]\nid = "large"\nkeep_last = 2\n'
        '[archive]\nmax_bytes = "8k"\nmin_idle = "5d"\n',
    )
    _, planned = run(cli, "--dry-run")
    answer, gone = run(cli)
    assert planned == gone == [("default", "large", "compact")]
    rules(
        cli.root,
        '[[retention]]\nid = "large"\nkeep_last = 2\n'
        '[archive]\nmax_bytes = "3k"\nmin_idle = "5d"\n',
    )
    _, planned = run(cli, "--dry-run")
    answer, gone = run(cli)
    assert planned == gone == [("default", "old", "delete")]
    assert left(cli) == ["large", "new"]
    assert answer.err == ""


def test_what_cannot_be_made_to_fit_is_said_and_is_no_failure(cli, fill):
    """Active conversations are not deleted for want of room; the operator hears of it."""
    fill("a", "b", size=100)
    rules(cli.root, '[archive]\nmax_bytes = "1k"\nmin_idle = "5d"\n')
    before = snapshot(cli.root)
    for words in (["--dry-run"], []):
        answer, gone = run(cli, *words)
        assert gone == []
        assert [each["kind"] for each in answer.told] == ["archive_max_bytes"]
        assert "min_idle" in answer.told[0]["hint"]
    assert snapshot(cli.root) == before
    assert cli("compact", "--all", "--quiet").err == ""


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ['[[retention]]\ndelete_idle = "1d"\n', '[archive]\nmax_age = "1d"\n']
)
def test_rules_that_would_leave_nothing_are_refused_before_anything_goes(cli, fill, text):
    """A slip in a rule is likelier than somebody who wants nothing left."""
    fill("a", "b", idle=40)
    fill("legal", idle=40)
    rules(cli.root, f'[[keep]]\nid = "legal"\n{text}')
    before = snapshot(cli.root)
    for words in (["--dry-run"], []):
        answer = cli("compact", "--all", "--json", *words, code=2)
        assert "every conversation" in answer.told[-1]["message"]
        assert answer.out == b""
        assert snapshot(cli.root) == before
    Path(cli.root, "convmem.toml").write_text(
        f'[[keep]]\nid = "legal"\n{text}'.replace("[archive]", "[archive]\nallow_empty = true")
        + ("" if "[archive]" in text else "[archive]\nallow_empty = true\n")
    )
    cli("compact", "--all")
    assert left(cli) == ["legal"]


def test_a_refusal_to_make_room_takes_back_no_more_than_itself(cli, fill):
    """Turns that went by their own rule have gone, and that is what is said; the purge goes on."""
    fill("a", "b", idle=40, size=50)
    fill("gone")
    cli("delete", "gone", CONVMEM_NOW="2020-01-01")
    rules(
        cli.root,
        '[[retention]]\nkeep_last = 5\n[archive]\nmax_bytes = "10"\nmin_idle = "1d"\n'
        '[trash]\nmax_age = "90d"\n',
    )
    _, planned = run(cli, "--dry-run", code=7)
    answer, gone = run(cli, code=7)
    assert (
        planned
        == gone
        == [
            ("default", "a", "compact"),
            ("default", "b", "compact"),
            ("default", "gone", "purge"),
        ]
    )
    assert left(cli) == ["a", "b"]
    (told,) = answer.told
    assert "every conversation (2)" in told["message"]
    assert "nothing was done" not in told["message"]


@pytest.mark.parametrize("years", [3, 70])
def test_a_clock_that_jumped_ahead_deletes_nothing_whole_and_purges_nothing_new(cli, fill, years):
    """A battery that was empty, a machine restored from an image: the night after must not hurt."""
    fill("a", "b", "c")
    fill("gone")
    cli("delete", "gone", CONVMEM_NOW=(NOW - DAY).isoformat())
    rules(
        cli.root,
        '[[retention]]\nkeep_last = 5\nmax_age = "30d"\ndelete_idle = "1y"\n'
        '[trash]\nmax_age = "30d"\n',
    )
    before = snapshot(cli.root)
    later = (NOW + 365 * years * DAY).isoformat()
    answer = cli("compact", "--all", "--json", code=2, CONVMEM_NOW=later)
    assert "the clock says" in answer.told[0]["message"]
    assert snapshot(cli.root) == before


def test_a_clock_that_jumped_back_takes_nothing_that_is_not_too_old_by_it(cli, fill):
    """And the run after, with the right time, does what is due."""
    fill("a", turns=40)
    rules(cli.root, '[[retention]]\nmax_age = "30d"\ndelete_idle = "60d"\n')
    _, gone = run(cli, CONVMEM_NOW="1999-01-01")
    assert gone == []
    answer, gone = run(cli)
    assert gone == [("default", "a", "compact")]
    assert answer.objects[0]["dropped"] == 9


@pytest.mark.parametrize(
    "text",
    [
        "[[retention]\nkeep_last = 1\n",
        '[[retention]]\nkeep_last = "many"\n',
        "[[retention]]\nkeep_lost = 1\n",
        "[[retention]]\nkeep_last = -1\n",
        '[[keep]]\nids = "legal-*"\n[[retention]]\nkeep_last = 1\n',
        "[retention]\nkeep_last = 1\n",
        "[[retention]]\nkeep_last = 1\n[trash]\nmax_age = 30\n",
        '[[retention]]\nkeep_last = 1\n[retention.more]\nid = "x"\n',
        "[[retention]]\nkeep_last = 1\n\0",
        '[[retention]]\nid = "[a"\n',
    ],
)
def test_a_broken_file_of_rules_is_2_and_changes_nothing(cli, fill, text):
    """There is no carrying on with half of them, above all not without the keep-list."""
    fill("a", "b", idle=40)
    rules(cli.root, text)
    before = snapshot(cli.root)
    for words in (
        ["--all"],
        ["--all", "--dry-run"],
        ["a"],
        ["--all", "--keep-last", "1"],
        ["a", "--keep-last", "1"],
    ):
        assert "convmem.toml" in cli("compact", *words, code=2).err
        assert snapshot(cli.root) == before


@pytest.mark.parametrize("text", ["", "# nothing\n", '[[keep]]\nid = "a"\n', 'sync = "none"\n'])
def test_no_rules_and_no_policy_is_2_and_says_what_to_do(cli, fill, text):
    """Off by default, all of it; and whoever thinks it is on hears that it is not."""
    fill("a", "b", idle=400)
    rules(cli.root, text)
    before = snapshot(cli.root)
    for words in (["--all"], ["a"], ["--all", "--dry-run"], ["--all", "--discard"]):
        answer = cli("compact", *words, code=2)
        assert "convmem.toml" in answer.err and "--keep-last" in answer.err
        assert snapshot(cli.root) == before


def test_discard_does_not_go_with_rules(cli, fill):
    """What goes unattended goes to the trash."""
    fill("a", "b")
    rules(cli.root, "[[retention]]\nkeep_last = 1\n")
    before = snapshot(cli.root)
    cli("compact", "--all", "--discard", code=2)
    assert snapshot(cli.root) == before


# --- the trash ----------------------------------------------------------------------------------


def test_what_is_in_the_trash_for_too_long_goes_for_good_but_for_what_is_kept(cli, fill):
    """Only then is the room free; and a keep-list written late still saves what it names."""
    fill("old", "new", "legal", "stays")
    for name, days in (("old", 31), ("new", 29), ("legal", 31)):
        cli("delete", name, CONVMEM_NOW=(NOW - days * DAY).isoformat())
    rules(cli.root, '[[keep]]\nid = "legal"\n[trash]\nmax_age = "30d"\n')
    before = snapshot(cli.root)
    dry, planned = run(cli, "--dry-run")
    assert snapshot(cli.root) == before
    answer, gone = run(cli)
    assert planned == gone == [("default", "old", "purge")]
    assert dry.objects[0] | {"dry_run": False} == answer.objects[0]
    files = {each["continuation_id"] for each in cli("trash", "list", "--json").objects}
    assert files == {"new", "legal"}
    answer = cli("compact", "--all")
    assert (answer.out, answer.err) == (b"", "")


# --- failures -----------------------------------------------------------------------------------


def test_one_conversation_that_cannot_be_worked_on_stops_no_other_7(cli, fill, log):
    """O26: each is named, the rest is done, the next night does it again."""
    fill("a", "b", "c", size=20)
    rules(cli.root, "[[retention]]\nkeep_last = 2\n")
    os.chmod(log("b"), 0o000)
    outside = Path(cli.root).parent / "outside"
    outside.write_text("precious")
    try:
        with Archive.open(cli.root) as archive:  # its own lock of compaction
            from convmem.log.removing.rewrite import exclusive

            folder = archive._store.upkeep._places.folder("default", create=False)
            with exclusive(folder, "c"):
                answer = cli("compact", "--all", "--json", code=7)
    finally:
        os.chmod(log("b"), 0o600)
    assert "a" in [each["continuation_id"] for each in answer.objects]
    assert "c" in [each["continuation_id"] for each in answer.told]
    _, gone = run(cli)
    assert ("default", "c", "compact") in gone


def test_two_runs_at_once_do_all_once(root, fill):
    """Cron starts the next though the last is not done: nothing is lost, nothing goes twice."""
    names = [f"talk-{at}" for at in range(25)]
    idle = [f"idle-{at}" for at in range(25)]
    fill(*names, turns=6)
    fill(*idle, turns=6, idle=100)
    fill("gone-1", "gone-2")
    with Archive.open(root) as archive:
        for name in ("gone-1", "gone-2"):
            archive.conversation(name).delete(now=NOW - 90 * DAY)
    rules(
        root,
        '[[retention]]\nkeep_last = 2\ndelete_idle = "50d"\n[trash]\nmax_age = "30d"\n',
    )
    from conftest import CommandLine

    program = CommandLine(root)
    program.environment["CONVMEM_NOW"] = NOW.isoformat()
    answers = []

    def once():
        answers.append(program("compact", "--all", "--json", code=None))

    runs = [threading.Thread(target=once) for _ in range(3)]
    for each in runs:
        each.start()
    for each in runs:
        each.join()
    assert {answer.code for answer in answers} <= {0, 7}, answers
    assert {each["kind"] for answer in answers for each in answer.told} <= {"busy"}
    done = [each for answer in answers for each in answer.objects]
    for name in names:
        assert sum(e.get("dropped", 0) for e in done if e["continuation_id"] == name) == 4
    for name in idle:
        went = [e for e in done if e["continuation_id"] == name and e["action"] == "delete"]
        assert len(went) == 1, name
    assert len([e for e in done if e["action"] == "purge"]) == 2
    noted = [
        json.loads(line)
        for path in Path(root).glob("*/.audit/*.jsonl")
        for line in path.read_text().splitlines()
    ]
    # Noted before it is done; who then finds it done by another notes that, too.
    events = Counter(each["event"] for each in noted if "undone" not in each)
    events.subtract(each["event"] for each in noted if "undone" in each)
    assert events["purge"] == 2
    assert events["delete"] == len(idle) + 2
    assert events["compact"] == len(names)
