"""aider's history: who said what, told from text that marks only some of its lines."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_lines import samples
from shelf import Shelf
from unnamed import native, said, sample, taken

from convmem.formats import aider
from convmem.formats.reading.sources import sources_in

few = settings(max_examples=200, deadline=None)

STARTED = "\n# aider chat started at 2026-01-10 14:30:00\n\n"
TOLD = "> Aider v0.86.2  \n> Model: gpt-5 with diff edit format  \n> Git repo: none  \n"
ASKED = "\n#### Refactor this  \n#### and that  \n"
ANSWERED = "\nSure.\n\n```python\n#### no question\n> no output\nx = 1\n```\n\n"
TOKENS = "> Tokens: 2.2k sent, 31 received.  \n"
SESSION = STARTED + TOLD + ASKED + ANSWERED + TOKENS
TALK = [
    ("tool", "Aider v0.86.2\nModel: gpt-5 with diff edit format\nGit repo: none"),
    ("user", "Refactor this\nand that"),
    ("assistant", "Sure.\n\n```python\n#### no question\n> no output\nx = 1\n```"),
    ("tool", "Tokens: 2.2k sent, 31 received."),
]


def read(text):
    data = text if isinstance(text, bytes) else text.encode()
    return taken(aider, data, ".aider.chat.history.md")


def test_a_history_is_recognised_by_its_sessions():
    """Its name may be any."""
    assert aider.recognises(sample(SESSION.encode()))
    assert not aider.recognises(sample(b"# Notes\n\n#### a\n> b\n"))
    assert not aider.recognises(sample(json.dumps({"a": SESSION}).encode()))


@pytest.mark.parametrize(
    ("folder", "other"), samples(), ids=lambda value: getattr(value, "name", value)
)
def test_no_sample_of_another_format_is_taken_for_aiders(folder, other):
    """Their texts may quote a history."""
    assert not aider.recognises(other)


def test_each_session_is_a_conversation():
    """A history holds all that was ever said in a folder."""
    first, second = read(SESSION + SESSION.replace("2026-01-10", "2026-02-11"))
    assert said(first) == said(second) == TALK
    assert second[0].turn.content == "aider chat started at 2026-02-11 14:30:00"


def test_all_turns_have_the_sessions_time_in_this_machines_zone(tmp_path):
    """There is no other time in the file, and it names no zone."""
    path = tmp_path / "history.md"
    path.write_text(SESSION)
    (source,) = sources_in(str(path), lambda name, error: pytest.fail(name))
    begin, *records = aider.read(source, {})
    source.close()
    expected = datetime(2026, 1, 10, 14, 30).astimezone().isoformat()
    assert begin.last_ts == expected
    assert {record.ts for record in records} == {expected}


def test_the_model_that_answers_is_told():
    """It stands in what aider says at the start."""
    (only,) = read(SESSION)
    assert [kept.turn.meta.get("model") for kept in only] == [None, None, None, "gpt-5", None]


def test_inputs_with_a_blank_line_between_them_are_two():
    """Commands follow each other without an answer."""
    (only,) = read(STARTED + "\n#### /add a.py  \n\n#### /clear  \n")
    assert said(only) == [("user", "/add a.py"), ("user", "/clear")]


def test_a_fence_that_is_never_closed_swallows_nothing():
    """An answer that was cut short must not take the rest of the session with it."""
    text = STARTED + ASKED + "\n```python\nx = (\n\n#### go on  \n\nSure.\n"
    (only,) = read(text)
    assert [role for role, _ in said(only)] == ["user", "assistant", "user", "assistant"]


def test_a_fence_that_is_never_closed_swallows_nothing_without_aiders_blanks():
    """Editors strip the blanks at the ends of lines, by which inputs are known in a fence."""
    text = STARTED + "#### a\n\n```python\nx = (\n\n#### go on\n\nSure.\n> Applied edit\n"
    first, second = read(text + SESSION)
    assert [role for role, _ in said(first)] == ["user", "assistant", "user", "assistant", "tool"]
    assert said(second) == TALK


def test_a_fence_may_hold_shorter_fences():
    """Answers about Markdown quote it."""
    text = STARTED + ASKED + "\n````md\n```\n#### heading\n```\n````\n"
    (only,) = read(text)
    assert [role for role, _ in said(only)] == ["user", "assistant"]


@pytest.mark.parametrize("more", [SESSION, ASKED, ASKED + ANSWERED], ids="run input answer".split())
def test_a_history_that_goes_on_changes_nothing_that_was_read_before(more):
    """Turns that are kept already must join with the new ones to the file as it is now."""
    for text in (STARTED + TOLD, STARTED + TOLD + ASKED, STARTED + ASKED + ANSWERED, SESSION):
        (before,) = read(text)
        after = read(text + more)[0]
        assert [kept.raw for kept in after[: len(before)]] == [kept.raw for kept in before]


def test_sessions_that_begin_with_the_same_words_are_not_one(tmp_path):
    """aider says the same at every start; many a session is nothing more than that."""
    path = tmp_path / "history.md"
    path.write_text("".join((STARTED + TOLD).replace("10 14", f"1{day} 14") for day in range(3)))
    shelf = Shelf(aider)
    assert shelf.take(path) == 6
    assert len(shelf.conversations) == 3
    assert shelf.take(path) == 0


def test_a_last_stretch_that_has_grown_is_a_version_of_it(tmp_path):
    """aider was in the middle of it when it was read first."""
    path = tmp_path / "history.md"
    shelf = Shelf(aider)
    path.write_text(SESSION)
    shelf.take(path)
    longer = SESSION + "> Applied edit to a.py  \n" + ASKED
    path.write_text(longer)
    assert shelf.take(path) == 2
    (name,) = shelf.conversations
    assert name == "aider-2026-01-10T14-30-00"
    assert shelf.native(name).decode() == longer


def test_an_export_of_one_session_is_the_same_session(tmp_path):
    """What is given out and taken in again adds nothing, though other sessions stood before it."""
    path = tmp_path / "history.md"
    path.write_text(SESSION.replace("2026-01-10", "2026-01-09") + SESSION)
    shelf = Shelf(aider)
    shelf.take(path)
    path.write_bytes(shelf.native("aider-2026-01-10T14-30-00"))
    assert shelf.take(path) == 0


def test_what_stands_before_the_first_session_is_kept():
    """Histories are cut with head and tail."""
    text = "\n\n#### question  \n\nanswer\n" + SESSION
    first, second = read(text)
    assert said(first) == [("user", "question"), ("assistant", "answer")]
    assert (native(aider, first) + native(aider, second)).decode() == text


def test_text_that_is_not_utf8_comes_back_as_it_was():
    """Old histories were written in whatever the terminal had."""
    data = SESSION.encode() + b"\n#### caf\xe9  \n"
    (only,) = read(data)
    assert said(only)[-1] == ("user", "caf�")
    assert native(aider, only) == data


LINE = st.sampled_from(
    [
        "",
        "text",
        "#### ask  ",
        "####",
        "#### ask",
        "> tool  ",
        ">",
        "> Tokens: 1k sent, 2 received.  ",
        "```",
        "```python",
        "~~~",
        "````",
        "# aider chat started at 2026-01-10 14:30:00",
        "# aider chat started at 9999-99-99 99:99:99",
        "\r",
        "  indented",
    ]
) | st.text(st.characters(exclude_characters="\ufeff"), max_size=10)  # no mark of a byte order


@few
@given(st.lists(LINE), st.booleans())
def test_what_was_read_joined_is_the_file(listed, is_ended):
    """Nothing is lost, whatever stands in it."""
    text = "\n".join(listed) + ("\n" if is_ended else "")
    data = text.encode("utf-8", "replace")
    assert b"".join(native(aider, each) for each in read(data)) == data
