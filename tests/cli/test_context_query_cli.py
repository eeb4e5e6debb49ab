"""``convmem context --query``: what a script pipes into a model, with what matters from before."""

from __future__ import annotations

import json

import pytest


@pytest.fixture
def trip(archive):
    """A conversation of 300 turns, one of which matters."""
    chat = archive.conversation("trip")
    chat.record_many(
        {
            "role": "user" if at % 2 else "assistant",
            "content": "The hotel is called Astoria." if at == 20 else f"say {at}",
            "id": f"t{at}",
            "ts": "2026-05-08T13:56:07Z",
        }
        for at in range(1, 301)
    )
    return chat


def test_the_text_has_the_older_turn_with_its_citation_and_then_the_newest(cli, trip):
    """The default, for a prompt."""
    answer = cli("context", "trip", "--max-turns", "2", "--query", "which hotel?")
    head, rest = answer.text.split("\n", 1)
    assert head.startswith('Conversation "trip": 2 turns, oldest first; about 298 older turns')
    assert "[20] assistant, 2026-05-08T13:56Z, id t20, recalled:\n" in rest
    assert "  The hotel is called Astoria.\n" in rest
    assert rest.endswith("[299] user:\n  say 299\n\n[300] assistant:\n  say 300\n\n")
    assert answer.err == ""


def test_messages_begin_with_what_is_recalled(cli, trip):
    """One message, and the newest turns as ever."""
    answer = cli("context", "trip", "--max-turns=2", "--query=hotel", "--format=messages", "-q")
    first, *rest = json.loads(answer.out)
    assert first["role"] == "user" and "id t20, recalled:\n  The hotel" in first["content"]
    plain = cli("context", "trip", "--max-turns=2", "--format=messages", "-q")
    assert rest == json.loads(plain.out)
    assert answer.err == ""


def test_json_says_what_was_recalled_and_from_where(cli, trip):
    """Stable for programs; the other keys are as without a query."""
    (plain,) = cli("context", "trip", "--max-turns=2", "--json").objects
    (found,) = cli("context", "trip", "--max-turns=2", "--json", "--query", "hotel").objects
    assert list(found) == [*plain, "query", "recalled", "notes"]
    (cited,) = [each for each in found["recalled"] if each["id"] == "t20"]
    assert list(cited) == ["id", "seq", "ts", "from", "score", "excerpt", "turn"]
    assert (cited["seq"], cited["ts"], cited["from"]) == (
        20,
        "2026-05-08T13:56:07.000000Z",
        "log",
    )
    assert cited["turn"]["content"] == "The hotel is called Astoria."
    assert (found["query"], found["notes"]) == ("hotel", [])


def test_what_a_summary_stands_for_is_recalled(cli, trip):
    """From the trash, and it says so."""
    cli("compact", "trip", "--keep-last", "10", "--summarize-with", "echo they travelled")
    answer = cli("context", "trip", "--query", "hotel")
    assert "id t20, recalled from the trash:\n  The hotel is called Astoria.\n" in answer.text
    (found,) = cli("context", "trip", "--query", "hotel", "--json").objects
    assert {each["from"] for each in found["recalled"] if each["id"] == "t20"} == {"trash"}


def test_a_query_that_fits_nothing_is_said_and_the_newest_are_given(cli, trip):
    """Whoever reads the answer must not think that everything was looked through and is there."""
    plain = cli("context", "trip", "--max-turns", "2")
    answer = cli("context", "trip", "--max-turns", "2", "--query", "zygomorphic")
    assert answer.out == plain.out
    assert answer.err == "convmem: warning: trip: no older turn was recalled for the query\n"
    assert cli("context", "trip", "--max-turns=2", "--query=zygomorphic", "-q").err == ""


def test_the_share_and_the_budget_hold_on_the_command_line(cli, trip):
    """What is asked for is what is given."""
    (found,) = cli("context", "trip", "--query=say", "--max-tokens=600", "--json").objects
    assert found["tokens"] <= 600 and found["recalled"]
    (more,) = cli(
        *("context", "trip", "--query=say", "--max-tokens=600", "--recall-tokens=500", "--json")
    ).objects
    assert more["tokens"] <= 600 and len(more["recalled"]) > len(found["recalled"])


@pytest.mark.parametrize(
    "flags",
    [
        ["--recall-tokens", "100"],
        ["--query", "x", "--recall-tokens", "-1"],
        ["--query", "x", "--recall-tokens", "many"],
        ["--query"],
    ],
)
def test_wrong_usage_is_two(cli, trip, flags):
    """As everywhere."""
    answer = cli("context", "trip", *flags, code=2)
    assert answer.out == b""


def test_a_conversation_that_is_not_there_is_three(cli, trip):
    """Nothing is made by looking."""
    assert cli("context", "other", "--query", "hotel", code=3).out == b""


def test_damage_elsewhere_is_no_news_of_this_conversation(cli, archive, trip, log):
    """The index looks at all logs; what is wrong with another one is said when that one is read."""
    other = archive.conversation("other")
    for at in range(5):
        other.record("user", f"hotel {at}")
    path = log("other")
    path.write_bytes(path.read_bytes().replace(b"hotel 2", b"hotel 9"))
    answer = cli("context", "trip", "--max-turns", "2", "--query", "hotel")
    assert answer.err == "" and "Astoria" in answer.text
