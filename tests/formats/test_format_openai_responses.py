"""OpenAI Responses: items of every kind, alone, in lists and in responses."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_lines import samples
from unnamed import JSON, lines, native, said, sample, taken

from convmem.formats import codex
from convmem.formats.openai import openai_messages, openai_responses
from convmem.formats.openai.response_items import said_by

few = settings(max_examples=100, deadline=None)

ASKED = {
    "type": "message",
    "id": "msg_1",
    "role": "user",
    "content": [{"type": "input_text", "text": "add"}],
}
THOUGHT = {
    "type": "reasoning",
    "id": "rs_1",
    "summary": [{"type": "summary_text", "text": "I must add."}],
}
CALL = {
    "type": "function_call",
    "id": "fc_1",
    "call_id": "call_1",
    "name": "add",
    "arguments": '{"a": 1}',
}
RESULT = {"type": "function_call_output", "call_id": "call_1", "output": "2"}
ITEMS = [ASKED, THOUGHT, CALL, RESULT]
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1741476777,
    "model": "gpt-5",
    "output": [THOUGHT, CALL],
}
LIST = {"object": "list", "data": ITEMS, "first_id": "msg_1", "has_more": False}
TALK = [
    ("user", "add"),
    ("assistant", [{"type": "thinking", "thinking": "I must add."}]),
    ("assistant", [{"type": "tool_use", "id": "call_1", "name": "add", "input": {"a": 1}}]),
    ("tool", [{"type": "tool_result", "tool_use_id": "call_1", "content": "2"}]),
]


@pytest.mark.parametrize(
    "data",
    [
        lines(*ITEMS),
        json.dumps(ITEMS, indent=2).encode(),
        json.dumps(ITEMS).encode(),
        lines(LIST),
        json.dumps(LIST, indent=2).encode(),
    ],
    ids="lines array line list document".split(),
)
def test_items_are_recognised_in_every_shape(data):
    """They are what the API takes, gives and lists."""
    assert openai_responses.recognises(sample(data))
    (only,) = taken(openai_responses, data)
    assert said(only) == TALK
    value = native(openai_responses, only)
    assert value == data or json.loads(value) == json.loads(data)


@pytest.mark.parametrize(
    "value",
    [
        {"role": "user", "content": "a"},
        {"messages": [{"role": "user", "content": "a"}]},
        {"timestamp": "2026", "type": "response_item", "payload": ASKED},
        {"object": "list", "data": [{"id": "gpt-5", "object": "model"}]},
        {"type": "user", "uuid": "u", "sessionId": "s", "message": {}},
        {"type": "message", "payload": {}},
    ],
)
def test_what_is_near_it_is_not_taken_for_it(value):
    """Codex wraps the same items, with times and ids that would be lost."""
    assert not openai_responses.recognises(sample(lines(value)))


@pytest.mark.parametrize(
    ("folder", "other"), samples(), ids=lambda value: getattr(value, "name", value)
)
def test_no_sample_of_another_format_is_taken_for_items(folder, other):
    """Each format keeps what only it knows; Codex is asked before."""
    assert not openai_responses.recognises(other) or codex.recognises(other)


def test_items_are_not_messages_of_chat_completions():
    """Messages are items too, as far as they have no type."""
    assert not openai_messages.recognises(sample(lines(*ITEMS)))


def test_a_response_is_a_conversation_with_its_id_time_and_model():
    """One line is one response, given back byte for byte."""
    data = lines(RESPONSE, {**RESPONSE, "id": "resp_2", "output": []})
    first, second = taken(openai_responses, data)
    assert said(first) == TALK[1:3]
    assert first[1].turn.id == "rs_1"
    assert first[1].turn.meta["model"] == "gpt-5"
    assert native(openai_responses, first) + native(openai_responses, second) == data


def test_a_call_that_a_server_has_answered_holds_the_result():
    """No other item has it."""
    item = {
        "type": "code_interpreter_call",
        "id": "ci_1",
        "code": "1 + 1",
        "outputs": [{"type": "logs", "logs": "2"}, {"type": "image", "url": "https://x.org/a"}],
    }
    (only,) = taken(openai_responses, lines(item))
    use, result = said(only)[0][1]
    assert use["name"] == "code_interpreter"
    assert use["input"] == {"code": "1 + 1"}
    assert result["content"] == [
        {"type": "text", "text": "2"},
        {"type": "image", "source": {"type": "url", "url": "https://x.org/a"}},
    ]


@pytest.mark.parametrize("kind", sorted(openai_responses.KINDS))
def test_every_kind_of_item_is_known(kind):
    """What is known is not reported to the user as new."""
    (only,) = taken(
        openai_responses, lines({"type": kind, "id": "x", "role": "user", "content": []})
    )
    assert "is_known" not in only[-1].turn.meta


@pytest.mark.parametrize(
    "item", [{"type": "dream", "id": "d"}, {"type": "message", "role": "ghost", "content": "x"}, 7]
)
def test_what_nobody_knows_is_kept_and_said_to_be_unknown(item):
    """The API gains kinds of items every few months."""
    (only,) = taken(openai_responses, lines(ASKED, item))
    assert only[-1].turn.role == "event"
    assert only[-1].turn.meta["is_known"] is False
    assert native(openai_responses, only) == lines(ASKED, item)


@few
@given(
    st.lists(
        st.dictionaries(
            st.sampled_from(
                "type id call_id role content summary arguments input action output outputs"
                " results error name object data status result tools code url".split()
            ),
            JSON | st.sampled_from(sorted(openai_responses.KINDS)),
        )
        | JSON,
        max_size=5,
    )
)
def test_reading_never_fails_and_gives_every_line_back(values):
    """A field of another type says nothing, and is kept."""
    values = [{"v": value} if isinstance(value, list) else value for value in values]
    data = lines(*values)
    found = taken(openai_responses, data)
    assert b"".join(native(openai_responses, each) for each in found) == data


@few
@given(
    st.lists(
        st.fixed_dictionaries(
            {"type": st.sampled_from(["message", "function_call"])},
            optional={
                "content": JSON,
                "role": JSON,
                "arguments": JSON,
                "name": JSON,
                "call_id": JSON,
            },
        )
    )
)
def test_an_array_comes_back_as_an_array(values):
    """What was one document is one again."""
    found = taken(openai_responses, json.dumps(values).encode())
    if values:
        assert json.loads(native(openai_responses, found[0])) == values


def test_a_message_may_leave_out_that_it_is_one():
    """The API's input does: ``{"role": "user", "content": …}`` alone is a message."""
    assert said_by({"content": "And by train?", "role": "user"}) == ("user", "And by train?")
    assert said_by({"content": "And by train?"}) is None


def test_arguments_are_parsed_unless_they_are_nested_too_deeply():
    """However many things are given, they are found; what no turn can hold stays the text."""
    deep, wide = (
        '{"a":' * 300 + "1" + "}" * 300,
        json.dumps({"a": [{"b": at} for at in range(300)]}),
    )
    for arguments, expected in ((deep, {"input": deep}), (wide, json.loads(wide))):
        said = said_by({"type": "function_call", "name": "f", "arguments": arguments})
        assert said is not None
        assert said[1][0]["input"] == expected
