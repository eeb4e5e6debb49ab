"""OpenAI messages out: one line a conversation, valid for fine-tuning, and the same when read."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from unnamed import JSON, TEXT, chain, lines, taken, turns

from convmem.formats.heads import Head
from convmem.formats.openai import openai_export, openai_messages
from convmem.turns import Turn

few = settings(max_examples=150, deadline=None)
HEAD = Head("oslo-trip", "default", "Oslo")


def written(*said):
    return b"".join(openai_export.write(HEAD, said))


def messages(*said):
    return json.loads(written(*said))["messages"]


BLOCK = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}),
    st.fixed_dictionaries({"type": st.just("thinking"), "thinking": TEXT}),
    st.fixed_dictionaries(
        {
            "type": st.just("tool_use"),
            "id": TEXT,
            "name": TEXT,
            "input": st.dictionaries(TEXT, JSON),
        }
    ),
    st.fixed_dictionaries(
        {"type": st.just("tool_result"), "tool_use_id": TEXT, "content": TEXT | st.lists(JSON)}
    ),
    st.fixed_dictionaries({"type": st.just("image"), "source": JSON}),
    JSON,
)
TURN = st.builds(
    Turn,
    st.sampled_from(["user", "assistant", "system", "tool", "event", "narrator"]),
    TEXT | st.lists(BLOCK, max_size=4) | JSON,
    meta=st.none() | st.dictionaries(st.sampled_from(["kind", "fields", "source", "parts"]), JSON),
)

ARGUMENTS = st.dictionaries(TEXT, JSON, max_size=2).flatmap(
    lambda value: st.sampled_from([json.dumps(value), json.dumps(value, separators=(",", ":"))])
)
PART = st.one_of(
    st.fixed_dictionaries({"type": st.just("text"), "text": TEXT}),
    st.fixed_dictionaries(
        {
            "type": st.just("image_url"),
            "image_url": st.fixed_dictionaries(
                {"url": st.sampled_from(["data:image/png;base64,AAAA", "https://example.org/a"])},
                optional={"detail": st.sampled_from(["low", "high"])},
            ),
        }
    ),
)
WEIGHT = {"weight": st.sampled_from([0, 1]), "name": TEXT}
CANONICAL = st.one_of(
    st.fixed_dictionaries(
        {
            "role": st.sampled_from(["system", "developer", "user", "assistant"]),
            "content": TEXT | st.lists(PART, min_size=1, max_size=3),
        },
        optional=WEIGHT,
    ),
    st.fixed_dictionaries(
        {
            "role": st.just("assistant"),
            "tool_calls": st.lists(
                st.fixed_dictionaries(
                    {
                        "id": TEXT.filter(bool),
                        "type": st.just("function"),
                        "function": st.fixed_dictionaries(
                            {"name": TEXT, "arguments": ARGUMENTS | TEXT}
                        ),
                    }
                ),
                min_size=1,
                max_size=3,
            ),
        },
        optional={"content": st.none() | TEXT, **WEIGHT},
    ),
    st.fixed_dictionaries(
        {"role": st.just("tool"), "tool_call_id": TEXT.filter(bool), "content": TEXT}
    ),
    st.fixed_dictionaries(
        {
            "role": st.just("assistant"),
            "function_call": st.fixed_dictionaries({"name": TEXT, "arguments": ARGUMENTS}),
        }
    ),
    st.fixed_dictionaries({"role": st.just("function"), "name": TEXT, "content": TEXT}),
)


@few
@given(st.lists(CANONICAL, max_size=6))
def test_what_came_from_messages_goes_out_with_the_same_messages(source):
    """Going through an archive must not change a dataset."""
    (only,) = taken(openai_messages, lines({"messages": source}))
    assert messages(*turns(only)) == source


@few
@given(st.lists(TURN, max_size=5))
def test_reading_an_export_gives_what_was_told_of_it(said):
    """So an export that is imported again is known, and adds nothing."""
    line = written(*said)
    assert line.count(b"\n") == 1 and line.endswith(b"\n")
    (only,) = taken(openai_messages, line)
    assert chain(only) == list(openai_export.chain_items(said))


@few
@given(st.lists(TURN, max_size=5))
def test_an_export_that_came_in_goes_out_the_same(said):
    """Byte for byte: going round once more changes nothing more."""
    line = written(*said)
    (only,) = taken(openai_messages, line)
    assert json.loads(written(*turns(only))) == json.loads(line)


def test_tools_thoughts_and_pictures_take_the_shape_of_fine_tuning():
    """Claude's blocks mean nothing to OpenAI."""
    said = (
        Turn("system", "be brief"),
        Turn("event", "snapshot"),
        Turn("user", [{"type": "text", "text": "add"}]),
        Turn("assistant", [{"type": "thinking", "thinking": "hm"}]),
        Turn("assistant", [{"type": "text", "text": "I add."}]),
        Turn("assistant", [{"type": "tool_use", "id": "a", "name": "add", "input": {"x": 1}}]),
        Turn("assistant", [{"type": "tool_use", "id": "b", "name": "add", "input": {}}]),
        Turn(
            "user",
            [
                {"type": "tool_result", "tool_use_id": "a", "content": "1"},
                {
                    "type": "tool_result",
                    "tool_use_id": "b",
                    "content": [{"type": "text", "text": "2"}],
                },
                {"type": "text", "text": "and this?"},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"},
                },
            ],
        ),
    )
    assert messages(*said) == [
        {"role": "system", "content": "be brief"},
        {"role": "user", "content": "add"},
        {
            "role": "assistant",
            "content": "I add.",
            "tool_calls": [
                {
                    "id": "a",
                    "type": "function",
                    "function": {"name": "add", "arguments": '{"x":1}'},
                },
                {"id": "b", "type": "function", "function": {"name": "add", "arguments": "{}"}},
            ],
        },
        {"role": "tool", "tool_call_id": "a", "content": "1"},
        {"role": "tool", "tool_call_id": "b", "content": [{"type": "text", "text": "2"}]},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "and this?"},
                {"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}},
            ],
        },
    ]


def test_what_is_said_after_a_call_stays_after_it():
    """In one message of OpenAI's all text stands before all calls."""
    call = {"type": "tool_use", "id": "a", "name": "add", "input": {}}
    found = messages(Turn("assistant", [call, {"type": "text", "text": "done"}]))
    assert ["tool_calls" in each for each in found] == [True, False]
    assert found[1]["content"] == "done"


def test_a_role_that_openai_does_not_know_is_a_users_with_that_name():
    """Its API refuses a file with any other role."""
    assert messages(Turn("narrator", "night falls")) == [
        {"role": "user", "content": "night falls", "name": "narrator"}
    ]


def test_a_conversation_without_messages_is_a_line_too():
    """As many lines come out as conversations were asked for."""
    assert written() == b'{"messages":[]}\n'
