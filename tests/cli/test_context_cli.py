"""``convmem context``: what a script pipes into a model."""

from __future__ import annotations

import json
import os

import pytest


@pytest.fixture
def trip(archive):
    """A conversation of nine turns."""
    chat = archive.conversation("trip")
    for at in range(1, 10):
        chat.record("user" if at % 2 else "assistant", f"say {at}", id=f"t{at}")
    return chat


def test_text_is_what_it_prints_by_default_in_a_pipe_and_at_a_terminal(cli, trip):
    """What was tried by hand is what the script gets."""
    answer = cli("context", "trip", "--max-turns", "2")
    assert answer.text == (
        'Conversation "trip": 2 turns, oldest first; about 7 older turns left out.'
        " Only indented lines are content.\n"
        "[8] assistant:\n  say 8\n\n[9] user:\n  say 9\n\n"
    )
    assert answer.err == ""
    assert cli.on_terminal("context", "trip", "--max-turns", "2").shown == answer.text


def test_messages_are_one_array_and_what_was_left_out_is_said_beside_it(cli, trip):
    """The array goes into a request as it is; a note in it would be read by the model."""
    answer = cli("context", "trip", "--max-turns=2", "--format", "messages")
    assert json.loads(answer.out) == [
        {"role": "assistant", "content": "say 8"},
        {"role": "user", "content": "say 9"},
    ]
    assert answer.out.count(b"\n") == 1
    assert answer.err == "convmem: warning: trip: about 7 older turns left out\n"
    assert cli("context", "trip", "--max-turns=2", "--format=messages", "-q").err == ""
    assert cli("context", "trip", "--format=messages").err == ""


def test_json_is_one_object_with_these_keys(cli, trip):
    """Stable for programs."""
    answer = cli("context", "trip", "--max-turns", "2", "--max-tokens", "500", "--json")
    (found,) = answer.objects
    assert (
        list(found)
        == (
            "continuation_id tokens max_tokens counter form first_seq last_seq left_out"
            " left_out_is_exact was_cut cuts pinned turns"
        ).split()
    )
    assert [turn["id"] for turn in found["turns"]] == ["t8", "t9"]
    assert (found["left_out"], found["counter"], found["max_tokens"]) == (7, "estimate", 500)
    assert (
        cli("context", "trip", "--max-turns=2", "--max-tokens=500", "--format=json").out
        == answer.out
    )


def test_without_a_bound_the_budget_is_8000_tokens(cli, archive):
    """A context that is everything fails on the day it matters."""
    archive.conversation("long").record_many([("user", "word " * 500)] * 30)
    (found,) = cli("context", "long", "--json").objects
    assert found["max_tokens"] == 8000 and 7400 < found["tokens"] <= 8000
    (found,) = cli("context", "long", "--json", "--max-turns", "15").objects
    assert (found["max_tokens"], len(found["turns"])) == (None, 15)


def test_the_budget_of_convmem_toml_counts_where_no_flag_does(cli, trip):
    """Every threshold is a setting."""
    with open(os.path.join(cli.root, "convmem.toml"), "w") as file:
        file.write("[context]\nmax_tokens = 20\n")
    (found,) = cli("context", "trip", "--json").objects
    assert found["max_tokens"] == 20 and len(found["turns"]) < 9


def test_the_newest_turn_is_cut_and_that_is_said(cli, archive):
    """A30: never empty, never in silence."""
    archive.conversation("long").record("user", "x " * 5000)
    answer = cli("context", "long", "--max-tokens", "100", "--format", "messages")
    assert "characters left out …]" in json.loads(answer.out)[0]["content"]
    assert "characters were cut to fit" in answer.err
    text = cli("context", "long", "--max-tokens", "100")
    assert "[1] user, 9," in text.text and text.err == ""
    tiny = cli("context", "long", "--max-tokens", "1", "--json")
    assert [each["kind"] for each in tiny.told] == ["over_budget"]


def test_what_is_pinned_comes_from_words_and_files(cli, trip, tmp_path):
    """Instructions live in a file; one that begins with @ is still a text."""
    rules = tmp_path / "rules.md"
    rules.write_text("Be brief.\n")
    answer = cli(
        *("context", "trip", "--max-turns", "1", "--format", "messages", "-q"),
        *("--pin", f"@{rules}", "--pin", "@@ann asks", "--pin=@-"),
        stdin=b"from a pipe",
    )
    assert [each["content"] for each in json.loads(answer.out)] == [
        "Be brief.\n",
        "@ann asks",
        "from a pipe",
        "say 9",
    ]
    rules.write_bytes(b"\xff")
    assert "not UTF-8" in cli("context", "trip", "--pin", f"@{rules}", code=2).err
    assert "cannot read" in cli("context", "trip", "--pin", "@/nowhere", code=4).err
    long = cli("context", "trip", "--pin", "x " * 999, "--max-tokens", "50", code=2)
    assert "what is pinned takes" in long.err and "is 50" in long.err


@pytest.mark.parametrize(
    "flags",
    [
        ["--max-tokens", "0"],
        ["--max-turns", "0"],
        ["--max-tokens", "many"],
        ["--format", "html"],
        ["--json", "--format", "text"],
        ["--tokenizer", "no-such-vocabulary"],
    ],
)
def test_wrong_usage_is_two(cli, trip, flags):
    """Nothing is printed that a pipe could take for a context."""
    assert cli("context", "trip", *flags, code=2).out == b""


def test_a_conversation_that_is_not_there_is_three(cli, trip):
    """An empty prompt would be answered by a model, and nobody would know."""
    assert cli("context", "nobody", code=3).out == b""
    (told,) = cli("context", "nobody", "--json", code=3).told
    assert told["kind"] == "not_found"


def test_damage_that_was_passed_over_is_told(cli, trip, log):
    """As with tail."""
    with log().open("ab") as file:
        file.write(b"nonsense\n")
    answer = cli("context", "trip", "--max-turns", "1")
    assert "1 damaged line skipped" in answer.err and "say 9" in answer.text
