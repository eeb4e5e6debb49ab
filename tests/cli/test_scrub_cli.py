"""``convmem scrub``: what is asked, what is printed, and what is then nowhere any more."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from inside import Inside

from convmem import Archive, RetentionPolicy

SECRET = "my password is correct-horse-battery-staple-4711"


@pytest.fixture
def cli(root):
    """In this process, but for terminals."""
    return Inside(root)


@pytest.fixture
def trip(root):
    """Make a conversation of four turns, of which the second says the secret."""
    with Archive.open(root, durability="none") as archive:
        chat = archive.conversation("trip")
        for at in range(4):
            chat.record("user", SECRET if at == 1 else f"word {at}", id=f"t{at}")
    return chat


def holders(root):
    return [
        path.name
        for path in Path(root).rglob("*")
        if path.is_file() and SECRET.encode() in path.read_bytes()
    ]


@pytest.mark.parametrize("turn", ["2", "t1"])
def test_a_turn_is_scrubbed_by_its_number_or_its_id(cli, root, trip, turn):
    """People see both, and take the shorter one."""
    tried = cli("scrub", "trip", turn, "--dry-run")
    assert tried.text == "trip: turn 2 (t1): would be scrubbed from the log\n"
    assert holders(root) == ["trip.jsonl"]
    assert cli("scrub", "trip", turn).text == "trip: turn 2 (t1): scrubbed from the log\n"
    assert holders(root) == []
    assert cli("scrub", "trip", turn).text == "trip: turn 2 (t1): nothing is left to scrub\n"
    assert [each["content"] for each in cli("show", "trip", "--json").objects] == [
        "word 0",
        "",
        "word 2",
        "word 3",
    ]


def test_programs_get_one_object(cli, root, trip):
    """What went where, for who keeps a record of it."""
    with Archive.open(root) as archive:
        archive.conversation("trip").compact(RetentionPolicy(keep_last=2))
    dead = Path(root, "default", ".trip.99999.0a1b2c3d.tmp")
    dead.write_text(SECRET)
    (told,) = cli("scrub", "trip", "2", "--json", CONVMEM_NOW="2026-11-21T12:00:00Z").objects
    (trash,) = Path(root, "default", ".trash").glob("*.jsonl")
    assert told == {
        "continuation_id": "trip",
        "namespace": "default",
        "turn_id": "t1",
        "seq": 2,
        "dry_run": False,
        "changed": True,
        "scrubbed": "2026-11-21T12:00:00.000000Z",
        "places": [
            {"kind": "trash", "file": trash.name, "turns": 1, "pieces": 0},
            {"kind": "temporary", "file": dead.name, "turns": 0, "pieces": 0},
        ],
        "replaced_by": [],
        "summaries": [],
        "left": [],
    }
    assert holders(root) == []


def test_later_versions_are_named_on_standard_error(cli, root, trip):
    """They may hold the same secret, and nobody asked for them."""
    cli("record", "trip", "better", "--id", "v2", "--meta", "replaces=t1")
    answer = cli("scrub", "trip", "t1")
    assert "turn v2 is a later version of it, and was not touched" in answer.err
    quiet = cli("scrub", "trip", "t1", "--quiet")
    assert (quiet.out, quiet.err) == (b"", "")
    (told,) = cli("scrub", "trip", "t1", "--json").objects
    assert told["replaced_by"] == ["v2"]


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("trip", "9"), 3),
        (("trip", "nobody"), 3),
        (("other", "1"), 3),
        (("trip", ""), 2),
        (("trip",), 2),
        ((), 2),
    ],
)
def test_what_is_not_there_is_said_and_nothing_changes(cli, root, trip, words, code):
    """A slip must not look like a secret that is gone."""
    log = Path(root, "default", "trip.jsonl")
    before = log.read_bytes()
    answer = cli("scrub", *words, code=code)
    assert answer.out == b""
    assert log.read_bytes() == before
    assert sorted(path.name for path in Path(root).iterdir()) == ["default"]


def test_the_keep_list_does_not_hinder_it(cli, root, trip):
    """It is kept from rules, not from the person who owns it."""
    Path(root, "convmem.toml").write_text('[[keep]]\nid = ["trip"]\n')
    cli("delete", "trip", code=2)
    cli("scrub", "trip", "t1")
    assert holders(root) == []


@pytest.mark.parametrize(("typed", "goes"), [(b"y\n", True), (b"n\n", False), (b"\n", False)])
def test_at_a_terminal_it_asks_since_there_is_no_way_back(cli, root, trip, typed, goes):
    """A number is mistyped easily."""
    answer = cli.on_terminal("scrub", "trip", "2", typed=typed, code=0 if goes else 1)
    assert "Remove what turn 2 of trip said, for good? [y/N]" in answer.shown
    assert (holders(root) == []) == goes


def test_it_does_not_ask_with_yes_nor_for_a_dry_run(cli, root, trip):
    """Scripts cannot answer."""
    assert "[y/N]" not in cli.on_terminal("scrub", "trip", "2", "--dry-run").shown
    assert "[y/N]" not in cli.on_terminal("scrub", "trip", "2", "--yes").shown
    assert holders(root) == []


def test_the_object_is_one_line_whatever_the_ids_are(cli, root):
    """An id may hold what a terminal obeys."""
    name, turn = "a\nb\x1b[31m", "x\ny\x1b[0m"
    with Archive.open(root) as archive:
        archive.conversation(name).record("user", SECRET, id=turn)
    tried = cli("scrub", name, turn, "--dry-run")
    assert tried.text.count("\n") == 1
    assert "\x1b" not in tried.text
    answer = cli("scrub", name, turn, "--json")
    assert json.loads(answer.text)["turn_id"] == turn
    assert answer.text.count("\n") == 1
