"""``convmem secrets`` and ``record --redact`` as people and cron use them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from random import Random

import pytest
from credentials_made import KINDS

pytest.importorskip("kingfisher_sdk", reason="needs kingfisher-secret-scanner")

GITHUB, SLACK = KINDS["github"](Random(1)), KINDS["slack bot"](Random(2))


@pytest.fixture
def without(cli, tmp_path):
    """Return the environment of a machine without the extra, and with nothing of ours for it."""
    folder = tmp_path / "without"
    folder.mkdir()
    (folder / "kingfisher_sdk.py").write_text("raise ImportError")
    return {"PYTHONPATH": f"{folder}{os.pathsep}{cli.environment['PYTHONPATH']}"}


@pytest.fixture
def chats(archive):
    """Two conversations with credentials, in turns and in a state, and one without."""
    trip = archive.conversation("trip")
    trip.record("user", f"my key is {GITHUB}, why?", id="t1", ts="2026-01-01T09:00:00Z")
    trip.record("assistant", "Do not show it to me.", id="t2", ts="2026-01-02T09:00:00Z")
    trip.record(
        "tool",
        [{"type": "tool_result", "content": f"a\n{SLACK}\nb"}],
        id="t 3",
        meta={"token": GITHUB},
        raw={"said": [SLACK]},
        ts="2026-01-03T09:00:00Z",
    )
    archive.conversation("-odd").record("user", f"{GITHUB} and {SLACK}", id="o1")
    archive.conversation("-odd").update_state({"session": SLACK})
    archive.conversation("clean").record("user", "hello")
    archive.close()


def stored(root):
    return {path: path.read_bytes() for path in Path(root).rglob("*") if path.is_file()}


def test_each_finding_is_told_with_its_place_and_not_with_its_secret(chats, cli, root):
    """What is printed ends in logs and tickets."""
    before = stored(root)
    answer = cli("secrets", "trip")
    assert answer.text.splitlines() == [
        "trip: turn t1 (user): github-pat in content: ghp_… (40)",
        f"trip: turn t 3 (tool): slack-bot-token in content[0].content: xoxb… ({len(SLACK)})",
        "trip: turn t 3 (tool): github-pat in meta.token: ghp_… (40)",
        f"trip: turn t 3 (tool): slack-bot-token in raw.said[0]: xoxb… ({len(SLACK)})",
        "4 likely credentials in 2 places; looked at 1 conversation, not at the trash",
    ]
    assert answer.err.splitlines() == [
        "convmem: warning: trip: 1 likely credential in turn t1",
        "convmem: hint: convmem scrub trip t1",
        "convmem: warning: trip: 3 likely credentials in turn t 3",
        "convmem: hint: convmem scrub trip 't 3'",
    ]
    assert stored(root) == before
    for secret in (GITHUB, SLACK):
        assert secret[:6] not in answer.text + answer.err


def test_programs_get_one_object_for_each_finding(chats, cli):
    """They know where to scrub, and can count."""
    found = cli("secrets", "--all", "--json").objects
    assert [(each["continuation_id"], each["id"], each["where"]) for each in found] == [
        ("-odd", "o1", "content"),
        ("-odd", "o1", "content"),
        ("-odd", None, "state.session"),
        ("trip", "t1", "content"),
        ("trip", "t 3", "content[0].content"),
        ("trip", "t 3", "meta.token"),
        ("trip", "t 3", "raw.said[0]"),
    ]
    assert found[3] == {
        "continuation_id": "trip",
        "namespace": "default",
        "seq": 1,
        "id": "t1",
        "role": "user",
        "ts": "2026-01-01T09:00:00.000000Z",
        "rule": "github-pat",
        "where": "content",
        "start": 10,
        "length": 40,
        "excerpt": "ghp_",
        "trash": None,
    }


def test_a_table_at_a_terminal_says_how_to_be_rid_of_them(chats, cli):
    """The next thing that anybody wants to do."""
    answer = cli.on_terminal("secrets", "--all", columns=160)
    shown = answer.shown
    assert "github-pat" in shown and "content[0].content" in shown
    assert "convmem scrub trip t1" in shown
    assert "convmem scrub -- -odd o1" in shown
    assert "convmem state -- -odd get" in shown
    assert GITHUB[:6] not in shown and SLACK[:6] not in shown
    assert "7 likely credentials" in shown


def test_turns_can_be_chosen_by_role_and_time(chats, cli):
    """To look at what is new costs what is new."""
    assert [each["id"] for each in cli("secrets", "trip", "-r", "user", "--json").objects] == ["t1"]
    since = cli("secrets", "--all", "--since", "2026-01-02T00:00Z", "--json").objects
    assert {each["id"] for each in since} == {"o1", "t 3"}


def test_nothing_found_is_an_answer(chats, cli):
    """Exit code 0 says that it was looked, and the sentence says what was found."""
    answer = cli("secrets", "clean")
    assert answer.text == "none; looked at 1 conversation, not at the trash\n"
    assert answer.err == ""
    assert cli("secrets", "clean", "--json").out == b""


@pytest.mark.parametrize(
    ("words", "code"),
    [((), 2), (("trip", "--all"), 2), (("nobody",), 3), (("nobody", "trip", "-q"), 7)],
)
def test_what_cannot_be_looked_at_is_said(chats, cli, words, code):
    """A conversation that was not looked at is not one without credentials."""
    assert cli("secrets", *words, code=code).err


def test_without_the_extra_nothing_is_done(chats, cli, root, without):
    """And the way to get it is said, before anything is recorded in the clear."""
    before = stored(root)
    for words in (("secrets", "--all"), ("record", "trip", "x", "--redact")):
        answer = cli(*words, code=2, **without)
        assert "convmem[secrets]" in answer.err
    assert stored(root) == before
    cli("record", "trip", "x", **without)  # which needs none


def test_the_trash_is_looked_at_when_asked(chats, cli, root):
    """What was deleted still lies there, and scrubbing reaches it."""
    cli("compact", "trip", "--keep-last", "1")
    cli("delete", "--", "-odd")
    assert {each["id"] for each in cli("secrets", "--all", "--json").objects} == {"t 3"}
    found = cli("secrets", "--all", "--trash", "--json").objects
    assert {each["id"]: each["trash"] is not None for each in found} == {
        "t 3": False,
        "t1": True,
        "o1": True,
    }
    for each in found:
        assert each["trash"] is None or Path(root, "default", ".trash", each["trash"]).exists()
    answer = cli("secrets", "--trash", "trip")
    assert "trip: turn t1 (user): github-pat in content, in the trash: ghp_… (40)" in answer.text
    assert "looked at 1 conversation, the trash too" in answer.text
    answer = cli("secrets", "--trash", "--since", "2020-01-01", "--", "-odd")
    assert answer.text.count("-odd: turn o1 (user)") == 2
    cli("secrets", "--", "-odd", code=3)


# Masked on the way in


def everything(root):
    return b"".join(stored(root).values())


def test_one_turn_is_masked_before_it_is_stored(cli, root):
    """A credential that was never on the disk needs no scrubbing."""
    answer = cli("record", "trip", "--redact", "--meta", f"key={SLACK}", f"use {GITHUB}, please")
    assert answer.err == "convmem: warning: 2 likely credentials were masked\n"
    cli("record", "trip", "--redact", "--quiet", stdin=f"a {GITHUB}\n".encode())
    turns = cli("show", "trip", "--json").objects
    assert [each["content"] for each in turns] == [
        "use [redacted: github-pat], please",
        "a [redacted: github-pat]",
    ]
    assert turns[0]["meta"] == {"key": "[redacted: slack-bot-token]"}
    assert GITHUB.encode() not in everything(root) and SLACK.encode() not in everything(root)


def test_lines_are_masked_before_they_are_stored(cli, root):
    """Each key of each line, the first of two of one name included; bad lines are told as ever."""
    lines = [
        {"role": "user", "content": [{"type": "text", "text": GITHUB}], "id": GITHUB[:9]},
        {"role": "user", "content": "x", "meta": {"a": [SLACK]}, "n": 2**80, "raw": {"b": SLACK}},
        {"role": "user", "content": "plain"},
        {"role": "user"},
    ]
    stdin = "\n".join(map(json.dumps, lines))
    stdin += f'\n{{"role":"user","content":"{GITHUB}","content":"y"}}\n{{"half'
    answer = cli("record", "trip", "--jsonl", "--redact", stdin=stdin.encode(), code=7)
    assert "3 likely credentials were masked" in answer.err
    assert "line 4: " in answer.err and "line 6: " in answer.err
    turns = cli("show", "trip", "--json").objects
    assert [each["content"] for each in turns] == [
        [{"type": "text", "text": "[redacted: github-pat]"}],
        "x",
        "plain",
        "y",
    ]
    assert turns[0]["id"] == GITHUB[:9]
    assert turns[1]["n"] == 2**80
    assert list(turns[1])[-1] == "raw"
    assert GITHUB.encode() not in everything(root) and SLACK.encode() not in everything(root)


def test_a_stream_of_many_conversations_is_masked_and_a_retry_stored_once(cli):
    """The same credential has the same mask, so the same line is the same turn."""
    line = {"continuation_id": "a", "role": "user", "content": GITHUB, "id": "1"}
    stdin = json.dumps(line).encode()
    for _ in range(2):
        cli("record", "-", "--jsonl", "--redact", stdin=stdin)
    assert [each["content"] for each in cli("show", "a", "--json").objects] == [
        "[redacted: github-pat]"
    ]


def test_without_the_flag_nothing_is_edited(cli):
    """Storage keeps what it is given."""
    assert cli("record", "trip", GITHUB).err == ""
    assert cli("show", "trip", "--json").objects[0]["content"] == GITHUB
