"""ShareGPT out: one object a conversation, text alone, and the same when read."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from test_openai_export import TURN
from unnamed import TEXT, chain, taken, turns

from convmem.formats.heads import Head
from convmem.formats.openai import sharegpt, sharegpt_export
from convmem.turns import Turn

few = settings(max_examples=150, deadline=None)
HEAD = Head("oslo-trip", "default", "Oslo")


def written(*said):
    return b"".join(sharegpt_export.write(HEAD, said))


@few
@given(
    st.lists(
        st.fixed_dictionaries(
            {"from": st.sampled_from("human gpt system tool user bing x".split()), "value": TEXT},
            optional={"weight": st.integers(0, 1)},
        )
    )
)
def test_what_came_from_sharegpt_goes_out_with_the_same_turns(source):
    """Going through an archive must not change a dataset."""
    data = json.dumps([{"id": "a", "conversations": source}]).encode()
    (only,) = taken(sharegpt, data, "a.json")
    assert json.loads(written(*turns(only)))["conversations"] == source


@few
@given(st.lists(TURN, max_size=5))
def test_reading_an_export_gives_what_was_told_of_it(said):
    """So an export that is imported again is known, and adds nothing."""
    (only,) = taken(sharegpt, b"[" + written(*said) + b"]", "a.json")
    assert chain(only) == list(sharegpt_export.chain_items(said))
    assert only[0].turn.meta["id"] == "oslo-trip"


def test_tools_and_pictures_are_told_as_text():
    """The format knows nothing but text."""
    said = (
        Turn("event", "snapshot"),
        Turn("user", [{"type": "text", "text": "add"}, {"type": "image", "source": {}}]),
        Turn("assistant", [{"type": "thinking", "thinking": "hm"}]),
        Turn(
            "assistant",
            [
                {"type": "text", "text": "I add."},
                {"type": "tool_use", "id": "a", "name": "add", "input": {"x": 1}},
            ],
        ),
        Turn("user", [{"type": "tool_result", "tool_use_id": "a", "content": "1"}]),
    )
    assert json.loads(written(*said)) == {
        "id": "oslo-trip",
        "conversations": [
            {"from": "human", "value": "add\n\n<image>"},
            {
                "from": "gpt",
                "value": 'I add.\n\n<tool_call>\n{"name":"add","arguments":{"x":1}}\n</tool_call>',
            },
            {"from": "tool", "value": "<tool_response>\n1\n</tool_response>"},
        ],
    }
