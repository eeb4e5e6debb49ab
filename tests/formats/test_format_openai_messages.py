"""OpenAI messages: every shape of file comes in, keeps its lines, and is no other format's."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_lines import samples
from unnamed import JSON, TEXT, lines, native, said, sample, taken

from convmem.formats.openai import openai_messages

few = settings(max_examples=100, deadline=None)

HELLO = {"role": "user", "content": "hello"}
ANSWER = {"role": "assistant", "content": "hi"}
CALL = {
    "role": "assistant",
    "content": None,
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    ],
}
RESULT = {"role": "tool", "tool_call_id": "c1", "content": "2"}


@pytest.mark.parametrize(
    "data",
    [
        lines({"messages": [HELLO, ANSWER]}),
        lines({"messages": [HELLO]}, {"messages": [ANSWER]}),
        lines([HELLO, ANSWER], [HELLO]),
        json.dumps([{"messages": [HELLO]}]).encode(),
        json.dumps([HELLO, ANSWER], indent=2).encode(),
        json.dumps({"messages": [HELLO]}, indent=2).encode(),
        lines(HELLO, ANSWER),
        json.dumps([{"messages": [{"role": "user", "content": "x" * 300_000}]}]).encode(),
    ],
    ids="object objects arrays array messages document loose long".split(),
)
def test_messages_are_recognised_in_every_shape(data):
    """People have them from exports, from datasets and from their own scripts."""
    assert openai_messages.recognises(sample(data))
    assert said(taken(openai_messages, data)[0])


@pytest.mark.parametrize(
    "value",
    [
        {"role": "user", "content": "a", "continuation_id": "c", "id": "1", "seq": 1},
        {"type": "message", "role": "user", "content": []},
        {"conversations": [{"from": "human", "value": "a"}]},
        {"sessionId": "s", "messages": [{"id": "1", "type": "user", "content": "a"}]},
        {"type": "user", "uuid": "u", "message": {"role": "user", "content": "a"}},
        {"name": "convmem", "version": 1},
        "text",
    ],
)
def test_what_is_near_it_is_not_taken_for_it(value):
    """Other programs' messages have ids and times, which would be lost."""
    assert not openai_messages.recognises(sample(lines(value)))
    assert not openai_messages.recognises(sample(json.dumps(value, indent=1).encode()))


@pytest.mark.parametrize(
    ("folder", "other"), samples(), ids=lambda value: getattr(value, "name", value)
)
def test_no_sample_of_another_format_is_taken_for_messages(folder, other):
    """It would come without its ids, and be added again when it has grown."""
    assert not openai_messages.recognises(other)


def test_each_line_is_a_conversation_with_its_line_as_it_was():
    """A dataset is given back byte for byte, spaces and all."""
    data = b'{"messages" : [{"role":"user","content":"\\u00e4"}], "tools":[]}\n' + lines(
        {"messages": []}
    )
    first, second = taken(openai_messages, data)
    assert native(openai_messages, first) + native(openai_messages, second) == data
    assert said(first) == [("user", "ä")]
    assert said(second) == []


def test_messages_one_a_line_are_one_conversation():
    """A log of messages is one talk, not as many as it has lines."""
    data = lines(HELLO, ANSWER)
    (only,) = taken(openai_messages, data)
    assert said(only) == [("user", "hello"), ("assistant", "hi")]
    assert native(openai_messages, only) == data


def test_messages_in_an_array_come_back_as_an_array():
    """What was one JSON document must be one again."""
    (only,) = taken(openai_messages, json.dumps([HELLO, CALL, RESULT], indent=2).encode())
    assert json.loads(native(openai_messages, only)) == [HELLO, CALL, RESULT]


def test_calls_and_results_become_blocks():
    """One shape for the tools of all formats."""
    old = {"role": "assistant", "function_call": {"name": "f", "arguments": "no json"}}
    answer = {"role": "function", "name": "f", "content": "42"}
    custom = {
        "role": "assistant",
        "content": "so",
        "tool_calls": [{"id": "c2", "type": "custom", "custom": {"name": "sh", "input": "ls"}}],
    }
    data = lines({"messages": [CALL, RESULT, old, answer, custom]})
    (only,) = taken(openai_messages, data)
    use = {"type": "tool_use", "id": "c1", "name": "add", "input": {"a": 1}}
    assert said(only) == [
        ("assistant", [{**use, "arguments": '{"a": 1}'}]),
        ("tool", [{"type": "tool_result", "tool_use_id": "c1", "content": "2"}]),
        (
            "assistant",
            [
                {
                    "type": "tool_use",
                    "id": "",
                    "name": "f",
                    "input": {"arguments": "no json"},
                    "arguments": "no json",
                }
            ],
        ),
        ("tool", [{"type": "tool_result", "tool_use_id": "", "content": "42"}]),
        (
            "assistant",
            [
                {"type": "text", "text": "so"},
                {"type": "tool_use", "id": "c2", "name": "sh", "input": {"input": "ls"}},
            ],
        ),
    ]


def test_parts_of_content_become_blocks():
    """Pictures, files and sound are shown where they can be, and kept where not."""
    parts = [
        {"type": "text", "text": "see"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA", "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}},
        {"type": "input_audio", "input_audio": {"data": "BBBB", "format": "wav"}},
        {"type": "file", "file": {"file_id": "f1", "filename": "a.pdf"}},
        {"type": "refusal", "refusal": "no"},
        {"type": "new", "x": 1},
    ]
    (only,) = taken(openai_messages, lines({"messages": [{"role": "user", "content": parts}]}))
    assert said(only)[0][1] == [
        {"type": "text", "text": "see"},
        {
            "type": "image",
            "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
            "detail": "low",
        },
        {"type": "image", "source": {"type": "url", "url": "https://example.org/a.png"}},
        {
            "type": "document",
            "source": {"type": "base64", "media_type": "audio/wav", "data": "BBBB"},
        },
        {"type": "document", "source": {"type": "file", "file_id": "f1"}, "title": "a.pdf"},
        {"type": "text", "text": "no", "refusal": True},
        {"type": "text", "text": '{"type":"new","x":1}'},
    ]


def test_a_developers_message_is_the_systems():
    """It is what was called system before; which it was is told."""
    data = lines({"messages": [{"role": "developer", "content": "be brief", "name": "boss"}]})
    (only,) = taken(openai_messages, data)
    assert said(only) == [("system", "be brief")]
    assert only[1].turn.meta["kind"] == "developer"
    assert only[1].turn.meta["fields"] == {"name": "boss"}


def test_what_nobody_knows_is_kept_as_an_event():
    """Nothing is dropped, and what was not understood can be counted."""
    data = lines(HELLO, {"role": "narrator", "content": "x"}, 7)
    (only,) = taken(openai_messages, data)
    assert [kept.turn.meta.get("is_known") for kept in only] == [None, False, False]
    assert native(openai_messages, only) == data


@few
@given(st.lists(JSON | st.fixed_dictionaries({"messages": st.lists(JSON)})))
def test_reading_never_fails_and_gives_every_line_back(values):
    """Vendors change their formats without notice, and people write them by hand."""
    data = lines(*({"v": value} if isinstance(value, list) else value for value in values))
    found = taken(openai_messages, data)
    assert b"".join(native(openai_messages, each) for each in found) == data


@few
@given(
    st.lists(
        st.fixed_dictionaries(
            {"role": st.sampled_from(["user", "assistant", "tool", "function", "x"])},
            optional={
                "content": JSON,
                "tool_calls": JSON | st.lists(st.fixed_dictionaries({"function": JSON})),
                "function_call": JSON | st.fixed_dictionaries({"name": TEXT, "arguments": JSON}),
                "tool_call_id": JSON,
                "name": JSON,
            },
        )
    )
)
def test_odd_messages_are_no_reason_to_fail(messages):
    """A field of another type says nothing, and is kept."""
    (only,) = taken(openai_messages, lines({"messages": messages}))
    assert len(only) == len(messages) + 1
