"""ShareGPT: the conversations that people shared, with their odd names, ids and gaps."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_lines import samples
from unnamed import JSON, lines, native, said, sample, taken

from convmem.formats.openai import openai_messages, openai_responses, sharegpt

few = settings(max_examples=100, deadline=None)

TALK = {
    "id": "identity_0",
    "conversations": [{"from": "human", "value": "Who are you?"}, {"from": "gpt", "value": "Me."}],
}


@pytest.mark.parametrize(
    "data",
    [
        json.dumps([TALK, {"id": "identity_0", "conversations": []}], indent=1).encode(),
        json.dumps([TALK]).encode(),
        lines(TALK, TALK),
        lines({"conversations": [{"role": "user", "content": "a"}]}),
        json.dumps(TALK, indent=2).encode(),
        json.dumps([TALK["conversations"]]).encode(),
    ],
    ids="array line lines keys document bare".split(),
)
def test_conversations_are_recognised_in_every_shape(data):
    """There is no one tool that writes them."""
    assert sharegpt.recognises(sample(data))
    assert not openai_messages.recognises(sample(data))
    assert not openai_responses.recognises(sample(data))
    assert said(taken(sharegpt, data, "a.json")[0])


@pytest.mark.parametrize(
    "value",
    [
        {"messages": [{"role": "user", "content": "a"}]},
        [{"role": "user", "content": "a"}],
        {"conversations": [{"mapping": {}, "title": "x"}]},
        {"id": "a", "conversations": []},
        [1, 2],
    ],
)
def test_what_is_near_it_is_not_taken_for_it(value):
    """ChatGPT's export may stand under the same word."""
    assert not sharegpt.recognises(sample(lines(value)))


@pytest.mark.parametrize(
    ("folder", "other"), samples(), ids=lambda value: getattr(value, "name", value)
)
def test_no_sample_of_another_format_is_taken_for_sharegpt(folder, other):
    """It would lose its ids and its tools."""
    assert not sharegpt.recognises(other)


def test_ids_that_come_twice_are_two_conversations():
    """They are not unique: told by their id, one of them would be lost."""
    data = json.dumps([TALK, {**TALK, "conversations": TALK["conversations"][:1]}]).encode()
    first, second = taken(sharegpt, data, "a.json")
    assert said(first) == [("user", "Who are you?"), ("assistant", "Me.")]
    assert said(second) == [("user", "Who are you?")]
    assert first[0].turn.meta["id"] == second[0].turn.meta["id"] == "identity_0"
    assert json.loads(native(sharegpt, first)) == TALK


def test_an_empty_conversation_is_kept():
    """Its id may be all that is left of it."""
    (only,) = taken(sharegpt, lines({"id": "x", "conversations": []}))
    assert [kept.turn.role for kept in only] == ["event"]


def test_speakers_have_many_names():
    """People shared what other models said, too."""
    names = "human user gpt chatgpt bing bard system tool observation function_call x".split()
    (only,) = taken(
        sharegpt, lines({"conversations": [{"from": name, "value": name} for name in names]})
    )
    assert [kept.turn.role for kept in only[1:]] == (
        "user user assistant assistant assistant assistant system tool tool assistant event".split()
    )
    assert "kind" not in only[1].turn.meta
    assert only[2].turn.meta["kind"] == "user"
    assert only[-1].turn.content == "x"
    assert only[-1].turn.meta["is_known"] is False


@few
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(["id", "conversations", "title"]),
            JSON
            | st.lists(
                st.dictionaries(st.sampled_from(["from", "value", "role", "content", "x"]), JSON)
            ),
        ),
        max_size=4,
    )
)
def test_reading_never_fails_and_gives_every_line_back(values):
    """What is shared has been through many hands."""
    data = lines(*values)
    found = taken(sharegpt, data)
    assert b"".join(native(sharegpt, each) for each in found) == data
