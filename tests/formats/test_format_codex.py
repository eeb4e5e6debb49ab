"""Codex's rollouts, three generations of them: said once, by whom, and every byte back again."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from record_lines import JSON, Lines, begins, kept, line_files, read, records, samples

from convmem.formats import codex
from convmem.formats.openai.response_items import ITEMS
from convmem.formats.protocol import EVENT

few = settings(max_examples=150, deadline=None)

PARENT = "019f5c5a-eb02-7ff0-90af-653b66eba9f4"
CHILD = "019f6000-0000-7000-8000-000000000001"
STEM = f"rollout-2026-07-13T16-41-30-{PARENT}"


def line(kind, payload, at=0, **more):
    return {"timestamp": f"2026-07-13T16:41:{at:02}.000Z", "type": kind, "payload": payload, **more}


def meta(id=PARENT, at=0, **more):
    return line("session_meta", {"id": id, "cwd": "/tmp", **more}, at)


def said(role, *texts, at=0, **more):
    kind = "output_text" if role == "assistant" else "input_text"
    parts = [{"type": kind, "text": text} for text in texts]
    return line("response_item", {"type": "message", "role": role, "content": parts, **more}, at)


def item(payload, at=0):
    return line("response_item", payload, at)


def event(kind, at=0, **payload):
    return line("event_msg", {"type": kind, **payload}, at)


def told(*values, stem=STEM):
    """Return ``(role, content)`` of what is said in a rollout of these records."""
    found = records(codex, Lines(meta(), *values, stem=stem))[1:]
    return [(record.role, record.content) for record in found]


# --- recognising -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("folder", "sample"), samples(), ids=lambda value: getattr(value, "name", value)
)
def test_only_codex_is_taken_for_codex(folder, sample):
    """A format that says yes to another's file loses that file's times, tools and titles."""
    assert codex.recognises(sample) is (folder == "codex")


@pytest.mark.parametrize(
    "value",
    [
        {"session_id": PARENT, "ts": 1780680560, "text": "a prompt"},
        {"id": PARENT, "thread_name": "x", "updated_at": "2026-01-01T00:00:00Z"},
        {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "hi"}]},
        {"type": "function_call", "name": "shell", "arguments": "{}", "call_id": "c"},
        {"role": "user", "content": "hi"},
        {"type": "user", "message": {"content": "hi"}, "uuid": "u", "sessionId": "s"},
        {"id": "a", "seq": 1, "ts": "x", "role": "user", "content": "", "raw": meta()},
        {"type": "event", "payload": {}},
    ],
)
def test_what_is_near_it_is_not_taken_for_it(value):
    """The prompt history, the index and bare Responses items share its words."""
    assert not codex.recognises(Lines(value).sample)


BARE = [
    {"id": PARENT, "timestamp": "2025-08-18T01:16:13.522Z", "instructions": None, "git": {}},
    {"record_type": "state"},
    {
        "type": "message",
        "id": None,
        "role": "user",
        "content": [{"type": "input_text", "text": "a"}],
    },
    {"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm."}]},
    {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "b"}]},
]


def test_all_three_generations_are_read():
    """Sessions of 2025 have no envelopes; nobody else can read them any more."""
    assert codex.recognises(Lines(*BARE).sample)
    found = read(codex, Lines(*BARE, stem=STEM))
    assert [name for name, _ in found] == [PARENT] * 5
    assert [(record.role, record.content) for _, record in found] == [
        (EVENT, ""),
        (EVENT, ""),
        ("user", "a"),
        ("assistant", [{"type": "thinking", "thinking": "Hm."}]),
        ("assistant", "b"),
    ]
    assert all(record.is_known for _, record in found)
    assert found[0][1].ts == "2025-08-18T01:16:13.522Z"


# --- back again --------------------------------------------------------------------------------


@pytest.mark.parametrize("path", line_files("codex"), ids=lambda path: path.stem)
def test_sample_files_come_back_byte_for_byte(path):
    """They outlive the tool that wrote them only if it could read them again."""
    found = records(codex, Lines.of_file(path))
    assert all(record.is_known for record in found)
    is_open = not path.read_bytes().endswith(b"\n")
    assert b"".join(codex.native(kept(found, unterminated=is_open))) == path.read_bytes()
    ids = [record.id for record in found]
    assert len(set(ids)) == len(ids)


PARTS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from(["input_text", "output_text", "input_image", "refusal"]) | JSON,
        "text": JSON,
        "image_url": JSON,
        "refusal": JSON,
    },
)
PAYLOADS = st.fixed_dictionaries(
    {},
    optional={
        "type": st.sampled_from([*sorted(ITEMS), "user_message", "item_completed", "new_call"])
        | JSON,
        **dict.fromkeys(
            "id call_id name arguments input action output summary message role text item "
            "model images success result forked_from_id session_id source timestamp phase".split(),
            JSON,
        ),
        "content": st.lists(PARTS | JSON, max_size=3) | JSON,
        "role": st.sampled_from(["user", "assistant", "developer", "tool"]) | JSON,
    },
)
ROWS = (
    st.fixed_dictionaries(
        {"type": st.sampled_from(["session_meta", "response_item", "event_msg", "turn_context"])},
        optional={"payload": PAYLOADS | JSON, "timestamp": JSON, "ordinal": JSON},
    )
    | PAYLOADS
    | st.sampled_from(BARE)
    | JSON
)


@few
@given(st.lists(ROWS, max_size=6), st.sampled_from([STEM, "x", ""]))
def test_no_record_is_lost_whatever_it_holds(values, stem):
    """Its vocabulary changes between versions without notice; the worst of it is an event."""
    source = Lines(*values, stem=stem)
    found = records(codex, source)
    assert [record.raw for record in found] == source.raws
    for record in found:
        assert record.role in ("user", "assistant", "system", "tool", EVENT)
        assert type(record.content) in (str, list)
        assert record.id
        assert type(record.ts) in (str, int, float, type(None))
        assert all(type(value) is str for value in record.meta.values())
    assert len({record.id for record in found}) == len(found)
    codex.recognises(source.sample)


@few
@given(st.lists(ROWS, max_size=8), st.integers(0, 8))
def test_a_file_that_grew_is_read_on_as_if_it_had_been_whole(values, cut):
    """Ids must not depend on how often a growing rollout was read, or it doubles."""
    cut = min(cut, len(values))
    memory = {}
    first = read(codex, Lines(*values[:cut], stem=STEM), memory)
    rest = read(codex, Lines(*values[cut:], stem=STEM), json.loads(json.dumps(memory)))
    whole = read(codex, Lines(*values, stem=STEM))
    assert [(name, record.id, record.raw) for name, record in first + rest] == [
        (name, record.id, record.raw) for name, record in whole
    ]


# --- what is said ------------------------------------------------------------------------------


def test_each_is_said_once():
    """Events tell the talk again for the screen: counted too, everybody would say all twice."""
    assert told(
        said("user", "hello"),
        event("user_message", message="hello"),
        event("agent_message", message="hi"),
        said("assistant", "hi"),
    ) == [("user", "hello"), (EVENT, ""), (EVENT, ""), ("assistant", "hi")]


def test_events_speak_where_nothing_else_does():
    """Some rollouts hold events alone; without them they would come out empty."""
    assert told(
        event("user_message", message="hello", images=["data:image/png;base64,AA=="]),
        event("agent_reasoning", text="Hm."),
        event("agent_message", message="hi"),
        event("item_completed", item={"type": "AgentMessage", "content": [{"text": "ho"}]}),
    ) == [
        (
            "user",
            [
                {"type": "text", "text": "hello"},
                {
                    "type": "image",
                    "source": {"type": "base64", "media_type": "image/png", "data": "AA=="},
                },
            ],
        ),
        ("assistant", [{"type": "thinking", "thinking": "Hm."}]),
        ("assistant", "hi"),
        ("assistant", "ho"),
    ]


def test_an_event_before_the_message_does_not_say_it_twice():
    """In which order the two are written is the race of two threads."""
    first = [event("user_message", message="hello")]
    assert told(*first, said("user", "hello")) == [(EVENT, ""), ("user", "hello")]
    late = [event("token_count")] * 100
    assert told(*late, *first, said("user", "hello"))[-1] == ("user", "hello")


def test_roles_and_parts_become_the_houses():
    """One shape for all formats is what search, context and exports read."""
    url = "data:image/png;base64,AA=="
    picture = {"type": "input_image", "image_url": url}
    made = {"type": "base64", "media_type": "image/png", "data": "AA=="}
    text = {"type": "input_text", "text": "look"}
    message = {"type": "message", "role": "user", "content": [text, picture]}
    assert told(
        said("developer", "be brief"),
        said("system", "be kind"),
        said("user", "a", "b"),
        item(message),
    ) == [
        ("system", "be brief"),
        ("system", "be kind"),
        ("user", [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]),
        ("user", [{"type": "text", "text": "look"}, {"type": "image", "source": made}]),
    ]


@pytest.mark.parametrize(
    ("payload", "name", "given"),
    [
        ({"type": "function_call", "name": "shell", "arguments": '{"a":1}'}, "shell", {"a": 1}),
        ({"type": "function_call", "name": "x", "arguments": "[1]"}, "x", {"input": "[1]"}),
        ({"type": "function_call", "name": "x", "arguments": '{"a":'}, "x", {"input": '{"a":'}),
        ({"type": "custom_tool_call", "name": "exec", "input": "go()"}, "exec", {"input": "go()"}),
        (
            {"type": "local_shell_call", "action": {"type": "exec", "command": ["ls"]}},
            "local_shell",
            {"type": "exec", "command": ["ls"]},
        ),
        (
            {"type": "web_search_call", "status": "completed", "action": {"query": "q"}},
            "web_search",
            {"query": "q"},
        ),
    ],
)
def test_calls_are_tool_uses(payload, name, given):
    """Whatever the vendor calls a call."""
    block = {"type": "tool_use", "id": "c1", "name": name, "input": given}
    assert told(item(payload | {"call_id": "c1"})) == [("assistant", [block])]


@pytest.mark.parametrize(
    ("output", "content"),
    [
        ("ok\n", "ok\n"),
        ({"content": "ok", "success": True}, "ok"),
        ([{"type": "input_text", "text": "ok"}], [{"type": "text", "text": "ok"}]),
        (None, ""),
    ],
)
def test_outputs_are_tool_results(output, content):
    """Text, parts, or text in an object, by version."""
    block = {"type": "tool_result", "tool_use_id": "c1", "content": content}
    payload = {"type": "function_call_output", "call_id": "c1", "output": output}
    assert told(item(payload)) == [("tool", [block])]


def test_an_output_says_that_it_failed():
    """Who reads on sees that the command did not work."""
    output = {"content": "no", "success": False}
    [(_, [block])] = told(item({"type": "custom_tool_call_output", "output": output}))
    assert (block["is_error"], block["content"]) == (True, "no")


def test_secret_reasoning_says_nothing():
    """Its summary is empty, and nobody but its maker can read the rest."""
    payload = {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}
    assert told(item(payload)) == [(EVENT, "")]
    payload["summary"] = [
        {"type": "summary_text", "text": "a"},
        {"type": "summary_text", "text": "b"},
    ]
    assert told(item(payload)) == [("assistant", [{"type": "thinking", "thinking": "a\n\nb"}])]


def test_the_model_is_that_of_the_turns_context():
    """Answers do not name it themselves; a later import must still know it."""
    values = [meta(), line("turn_context", {"model": "gpt-5"}), said("assistant", "a")]
    memory = {}
    assert records(codex, Lines(*values, stem=STEM), memory)[-1].meta["model"] == "gpt-5"
    more = Lines(said("user", "b"), said("assistant", "c"), stem=STEM)
    found = records(codex, more, json.loads(json.dumps(memory)))
    assert [record.meta.get("model") for record in found] == [None, "gpt-5"]


def test_what_compaction_left_is_an_event_that_says_so():
    """The history that replaced the talk is not said again."""
    payload = {"message": "Conversation compacted", "replacement_history": [{"type": "message"}]}
    [record] = records(codex, Lines(meta(), line("compacted", payload), stem=STEM))[1:]
    assert (record.role, record.content) == (EVENT, "Conversation compacted")
    assert record.meta["kind"] == "compacted"


def test_kinds_that_nobody_knows_are_kept_and_said_to_be_unknown():
    """A rollout of which nothing is recognised must fail loudly, not come out empty."""
    values = [line("brand_new", {}), item({"type": "brand_new"}), [1], {"a": 1}]
    found = records(codex, Lines(meta(), *values, stem=STEM))[1:]
    assert [(record.role, record.is_known) for record in found] == [(EVENT, False)] * 4


def test_the_time_is_the_lines_or_the_payloads():
    """Some writers put it within."""
    assert records(codex, Lines(said("user", "a", at=5)))[0].ts == "2026-07-13T16:41:05.000Z"
    inner = {"type": "message", "role": "user", "content": "a", "timestamp": "T"}
    assert records(codex, Lines({"type": "response_item", "payload": inner}))[0].ts == "T"


# --- whose it is -------------------------------------------------------------------------------


def test_a_rollout_is_named_by_its_first_line_or_its_file():
    """What was cut off at its beginning is found by its name."""
    assert begins(codex, Lines(meta(CHILD), stem=STEM)) == [(CHILD, None)]
    assert begins(codex, Lines(said("user", "a"), stem=STEM)) == [(PARENT, None)]
    assert begins(codex, Lines(said("user", "a"), stem="backup")) == [("backup", None)]
    assert begins(codex, Lines(stem=STEM)) == []


def test_a_sub_agent_is_part_of_the_session_that_spawned_it():
    """They lie in the same folders as sessions of people, and are far more."""
    source = {"subagent": {"thread_spawn": {"parent_thread_id": PARENT, "depth": 1}}}
    assert begins(codex, Lines(meta(CHILD, source=source))) == [(CHILD, PARENT)]


TALK = [
    line("turn_context", {"model": "gpt-5"}, 1),
    said("user", "continue", at=2),
    said("assistant", "done", at=3),
    said("user", "continue", at=4),
    said("assistant", "done", at=5),
]


def stamped(values, at=50):
    return [value | {"timestamp": f"2026-07-14T08:00:{at}.000Z", "ordinal": 7} for value in values]


def ids(*values):
    return [record.id for record in records(codex, Lines(*values))]


def test_a_forks_copies_have_the_ids_of_what_they_are_copies_of():
    """Forks tell hundreds of megabytes again, at new times; stored twice, they fill disks."""
    parent = ids(meta(), *TALK)
    assert len(set(parent)) == 6
    copied = stamped([meta(), *TALK[:3]])
    own = [said("user", "and now?", at=51), meta(CHILD, at=52), said("assistant", "so", at=53)]
    child = ids(meta(CHILD, forked_from_id=PARENT), *copied, *own)
    assert child[1:5] == parent[:4]
    assert not {child[0], *child[5:]} & set(parent)


def test_a_fork_of_a_fork_has_them_too():
    """Its copies were copies already."""
    child_rows = [meta(CHILD, forked_from_id=PARENT), *stamped([meta(), *TALK]), said("user", "b")]
    child = ids(*child_rows)
    grandchild = ids(meta("g", forked_from_id=CHILD), *stamped(child_rows))
    assert grandchild[1:] == child


def test_a_fork_that_leaves_out_whose_records_follow_is_known_too():
    """Not every version writes the parent's first line again."""
    parent = ids(meta(), *TALK)
    child = ids(meta(CHILD, forked_from_id=PARENT), *stamped(TALK), said("user", "b"))
    assert child[1:6] == parent[1:]


def test_the_same_words_in_two_sessions_are_two():
    """Most sessions begin alike; no one of them is a copy."""
    first = ids(meta("a"), *TALK)
    assert not set(first) & set(ids(meta("b"), *TALK))
    headless = [record.id for record in records(codex, Lines(*TALK, stem="x"))]
    assert not set(headless) & {record.id for record in records(codex, Lines(*TALK, stem="y"))}
