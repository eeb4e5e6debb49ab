"""Claude.ai's export: what was said, attached and found comes in, and all of it comes back."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shelf import Shelf, sample

from convmem.formats import claude_ai
from convmem.formats.reading.samples import Sample

DATA = Path(__file__).parent.parent / "data" / "transcripts"
EXPORT = DATA / "claude_ai" / "conversations.json"


def uuid(number):
    return f"0197f000-0000-7000-8000-{number:012d}"


TIDES, EMPTY, OLD = uuid(1), uuid(2), uuid(3)


@pytest.fixture
def tides():
    """Return a shelf with the export's conversations on it."""
    shelf = Shelf(claude_ai)
    shelf.take(EXPORT)
    return shelf


def put(tmp_path, value, name="conversations.json"):
    path = tmp_path / name
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def message(uuid, sender="human", created="2026-01-01T00:00:00Z", **more):
    return {"uuid": uuid, "sender": sender, "created_at": created, **more}


# --- what is recognised ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '[{"uuid": "x", "name": "", "chat_messages": [{"uuid": "y", "text": "cut',
        '{"account": {"uuid": "x"}, "chat_messages": []}',
        '{"conversations": [{"uuid": "x", "chat_messages": []}]}',
    ],
)
def test_an_export_is_recognised_before_its_end_is_seen(text):
    """One conversation alone may be longer than what is looked at."""
    assert claude_ai.recognises(Sample("x", text.encode()))


def test_the_other_files_of_an_export_and_of_others_are_not_taken_for_one():
    """Projects and users lie beside the conversations, and hold no talk."""
    files = [path for path in DATA.rglob("*") if path.suffix in (".json", ".jsonl")]
    assert [path for path in files if claude_ai.recognises(sample(path))] == [EXPORT]
    assert {"projects.json", "users.json"} <= {path.name for path in files}


# --- what is given back ---------------------------------------------------------------------------


def test_every_conversation_comes_back_deep_equal(tides):
    """Whoever leaves convmem takes what he brought; also one in which nothing was said."""
    value = json.loads(EXPORT.read_text(encoding="utf-8"))
    assert [json.loads(tides.native(each["uuid"])) for each in value] == value
    assert [turn.id for turn in tides.turns(EMPTY)] == ["head"]


def test_a_conversation_given_back_is_recognised_and_adds_nothing(tides, tmp_path):
    """An export imported again doubles nothing."""
    path = tmp_path / "one.json"
    path.write_bytes(tides.native(TIDES))
    assert claude_ai.recognises(sample(path))
    assert tides.take(path) == 0
    assert tides.take(EXPORT) == 0


def test_a_longer_export_adds_what_is_new_and_the_head(tides, tmp_path):
    """Each export holds everything again; only what is new may be stored."""
    value = json.loads(EXPORT.read_text(encoding="utf-8"))
    before = tides.raws(TIDES)
    value[0]["chat_messages"].append(
        message(uuid(17), created="2026-03-01T09:00:00Z", text="Thanks", content=[])
    )
    value[0] |= {"updated_at": "2026-03-01T09:00:00Z", "name": "Tides"}
    assert tides.take(put(tmp_path, value)) == 2
    assert {key: tides.raws(TIDES)[key] for key in before} == before
    assert json.loads(tides.native(TIDES)) == value[0]


# --- what is said ---------------------------------------------------------------------------------


def test_blocks_are_taken_for_what_was_said_and_text_only_without_them(tides):
    """The text repeats the blocks, with an excuse in the place of each call."""
    assert tides.turn(TIDES, uuid(12)).content == [
        {"type": "thinking", "thinking": "They sail from Stavanger."},
        {"type": "text", "text": "Let me look."},
        {
            "type": "tool_use",
            "id": f"{uuid(12)}-2",
            "name": "web_search",
            "input": {"query": "high water Stavanger"},
        },
        {
            "type": "tool_result",
            "tool_use_id": f"{uuid(12)}-2",
            "content": "Tides\nhttps://example.org/tides\nHigh water 06:12",
        },
        {"type": "text", "text": "At 06:12."},
    ]
    assert tides.turn(OLD, uuid(32)).content == "Cod."
    assert [turn.role for turn in tides.turns(OLD)] == ["event", "user", "assistant"]


def test_what_was_attached_is_there_and_files_are_named(tides):
    """The text of an attachment is part of the question."""
    blocks = tides.turn(TIDES, uuid(11)).content
    assert blocks[1]["title"] == "harbour.txt"
    assert blocks[1]["source"]["data"] == "Harbour: Stavanger\nDatum: LAT"
    assert blocks[2]["title"] == "chart.png"
    assert blocks[2]["source"] == {"type": "file", "file_id": uuid(70)}
    assert tides.turn(OLD, uuid(31)).content[1]["source"]["file_id"] == "fish.jpg"


def test_the_newest_branch_is_marked_and_one_that_is_named_before_it(tides, tmp_path):
    """The export does not say which branch was shown; the site's own answer does."""
    turns = tides.turns(TIDES)[1:]
    assert [turn.id[-2:] for turn in turns if not turn.meta["active"]] == ["13", "14"]
    assert tides.turn(TIDES, "head").meta["leaf"] == uuid(16)
    assert tides.turn(TIDES, uuid(13)).meta["parent"] == uuid(12)
    assert "parent" not in tides.turn(TIDES, uuid(11)).meta
    assert all("active" not in turn.meta for turn in tides.turns(OLD))
    value = json.loads(EXPORT.read_text(encoding="utf-8"))[0]
    shelf = Shelf(claude_ai)
    shelf.take(put(tmp_path, {**value, "current_leaf_message_uuid": uuid(14)}))
    inactive = [turn.id[-2:] for turn in shelf.turns(TIDES)[1:] if not turn.meta["active"]]
    assert inactive == ["15", "16"]


def test_kinds_that_nobody_knows_keep_what_they_say(tmp_path):
    """The one sample that is public has made-up names for all its kinds."""
    part = {"type": "synthetic-1", "text": "said", "thinking": "thought", "input": {"a": 1}}
    value = {"uuid": "c", "chat_messages": [message("m", "assistant", content=[part])]}
    shelf = Shelf(claude_ai)
    shelf.take(put(tmp_path, value))
    assert shelf.turn("c", "m").content == [
        {"type": "thinking", "thinking": "thought"},
        {"type": "text", "text": "said"},
    ]
    assert json.loads(shelf.native("c")) == value


def test_messages_out_of_order_and_of_one_id_come_back_as_they_were(tmp_path):
    """Nothing but the file itself says in which order it stood."""
    value = {
        "uuid": "c",
        "chat_messages": [
            message("b", created="2026-02-01T00:00:00Z"),
            message("a", created="2026-01-01T00:00:00Z"),
            message("a", created="2026-01-01T00:00:00Z", text="twice"),
            message("head", "assistant"),
            {"sender": "human", "text": "no id"},
            None,
            [1],
        ],
    }
    shelf = Shelf(claude_ai)
    assert shelf.take(put(tmp_path, value)) == 8
    assert json.loads(shelf.native("c")) == value
    value["chat_messages"].insert(0, message("new"))
    assert shelf.take(put(tmp_path, value)) >= 2
    assert json.loads(shelf.native("c"))["chat_messages"][0] == message("new")


@pytest.mark.parametrize("depth", [300, 900, 5000])
def test_what_is_nested_deeply_is_kept(depth, tmp_path):
    """Arguments of tools are whatever a model has made of them."""
    deep = '{"a":' * depth + "1" + "}" * depth
    part = f'{{"type":"tool_use","name":"n","input":{deep}}}'
    text = (
        f'{{"uuid":"c","chat_messages":[{{"uuid":"m","sender":"assistant","content":[{part}]}}]}}'
    )
    path = tmp_path / "one.json"
    path.write_text(text, encoding="utf-8")
    shelf = Shelf(claude_ai)
    shelf.take(path)
    (name,) = shelf.conversations
    assert shelf.native(name).decode().strip() == text
    assert shelf.take(path) == 0


@pytest.mark.parametrize("messages", [None, {}, "x", 7])
def test_messages_that_are_none_are_kept_as_they_are(messages, tmp_path):
    """What cannot be understood is not lost."""
    value = {"uuid": "c", "chat_messages": messages}
    shelf = Shelf(claude_ai)
    shelf.take(put(tmp_path, value))
    assert json.loads(shelf.native("c")) == value


# --- generated conversations ----------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)
kinds = st.sampled_from("text thinking tool_use tool_result token_budget image new".split())
names = "text thinking name input content is_error id tool_use_id file_uuid source".split()


@st.composite
def parts(draw):
    """Draw one part of a message, with fields of any type."""
    part = {"type": draw(kinds | values)}
    for name in draw(st.lists(st.sampled_from(names), max_size=4)):
        part[name] = draw(st.text(max_size=8) | values | st.lists(st.just(dict(part)), max_size=2))
    return part


@st.composite
def messages(draw, ids="abcdef"):
    """Draw a message, mostly one as it should be."""
    if draw(st.integers(0, 12)) == 0:
        return draw(values)
    drawn = {
        "uuid": draw(st.sampled_from(list(ids)) | values),
        "sender": draw(st.sampled_from(["human", "assistant", "assistant", "tool"]) | values),
        "created_at": draw(st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"])),
        "parent_message_uuid": draw(st.sampled_from(list(ids)) | values),
        "text": draw(st.text(max_size=8) | values),
        "content": draw(st.lists(parts() | values, max_size=3) | values),
        "attachments": draw(
            st.lists(st.fixed_dictionaries({"extracted_content": st.text() | values})) | values
        ),
        "files": draw(st.lists(st.fixed_dictionaries({"file_name": st.text()})) | values),
    }
    return {key: value for key, value in drawn.items() if draw(st.integers(0, 9))}


@settings(deadline=None, max_examples=100)
@given(
    given_messages=st.lists(messages(), max_size=6),
    more=st.dictionaries(
        st.sampled_from("name updated_at current_leaf_message_uuid".split()), values
    ),
)
def test_whatever_is_read_comes_back_deep_equal(given_messages, more, tmp_path_factory):
    """Nothing is dropped, whatever a vendor or a fault makes of a field."""
    value = {"uuid": "c", **more, "chat_messages": given_messages}
    shelf = Shelf(claude_ai)
    path = put(tmp_path_factory.mktemp("t"), [value])
    assert shelf.take(path) == len(given_messages) + 1
    assert exact(json.loads(shelf.native("c"))) == exact(value)
    assert shelf.take(path) == 0


@settings(deadline=None, max_examples=60)
@given(count=st.integers(0, 5), new=st.lists(messages(), min_size=1, max_size=3), data=st.data())
def test_a_conversation_that_grew_changes_no_old_message(count, new, data, tmp_path_factory):
    """An archive of monthly exports must not store every message every month."""
    old = [
        message(f"m{at}", "human", f"2026-01-01T00:00:{at:02}Z", text=str(at))
        for at in range(count)
    ]
    later = copy.deepcopy(old)
    fresh = [{**each, "uuid": f"new{at}"} for at, each in enumerate(new) if isinstance(each, dict)]
    for each in fresh:
        later.insert(data.draw(st.integers(0, len(later))), each)
    before = {"uuid": "c", "updated_at": "2026-01", "name": "a", "chat_messages": old}
    after = {"uuid": "c", "updated_at": "2026-02", "name": "b", "chat_messages": later}
    folder = tmp_path_factory.mktemp("t")
    shelf = Shelf(claude_ai)
    shelf.take(put(folder, [before]))
    raws = shelf.raws("c")
    assert shelf.take(put(folder, [after])) == len(fresh) + 1
    assert {key: shelf.raws("c")[key] for key in raws} == raws
    assert exact(json.loads(shelf.native("c"))) == exact(after)


def exact(value):
    """Return what tells 1 from True and 1.0, and does not mind the order of keys."""
    return json.dumps(value, sort_keys=True)
