"""ChatGPT's export: every branch is kept and read, and every conversation comes back as it was."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shelf import Shelf, sample

from convmem.formats import chatgpt
from convmem.formats.reading.samples import Sample

DATA = Path(__file__).parent.parent / "data" / "transcripts"
EXPORT = DATA / "chatgpt" / "conversations.json"
BREAD = "6860a1b2-1111-8000-9000-000000000001"
VOICE = "6860a1b2-1111-8000-9000-000000000002"
SINGLE = DATA / "chatgpt" / "conversation.json"


@pytest.fixture
def bread():
    """Return a shelf with the export's conversations on it."""
    shelf = Shelf(chatgpt)
    shelf.take(EXPORT)
    return shelf


def put(tmp_path, value, name="conversations.json"):
    path = tmp_path / name
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


def conversation(nodes, **more):
    return {"conversation_id": "c", "title": "t", "mapping": nodes, **more}


def node(node_id, parent=None, children=(), **message):
    return {
        "id": node_id,
        "message": message or None,
        "parent": parent,
        "children": list(children),
    }


def said(role, text, **more):
    content = {"content_type": "text", "parts": [text]}
    return {"author": {"role": role}, "content": content, **more}


# --- what is recognised ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", [EXPORT, SINGLE], ids=["array", "single"])
def test_an_export_is_recognised_by_its_first_conversation(path):
    """People rename what they download; what is in it is what counts."""
    assert chatgpt.recognises(sample(path))


@pytest.mark.parametrize(
    "text",
    [
        '{"conversations": [{"title": "x", "mapping": {}}]}',
        '[{"mapping": {"a": {"id": "a", "children": []',
        '\ufeff[{"title":null,"create_time":1.5,"mapping":{"a":',
    ],
)
def test_an_export_is_recognised_before_its_end_is_seen(text):
    """The mapping of a long conversation is longer than what is looked at."""
    assert chatgpt.recognises(Sample("x", text.encode()))


def test_transcripts_of_others_are_not_taken_for_an_export():
    """Text about a mapping is in many conversations; only ChatGPT has one of nodes."""
    others = [
        path
        for path in DATA.rglob("*")
        if path.suffix in (".json", ".jsonl") and "chatgpt" not in path.parts
    ]
    assert others
    assert not [path for path in others if chatgpt.recognises(sample(path))]
    tricky = {"type": "user", "message": {"content": '{"mapping": {"title": 1}}', "mapping": 1}}
    assert not chatgpt.recognises(Sample("x.jsonl", json.dumps(tricky).encode()))


@pytest.mark.parametrize(
    "text", ["", "[", "{", "[]", "[[]]", '"', '{"mapping', "[1,2]", '{"a":"\\']
)
def test_what_hardly_begins_is_not_an_export(text):
    """Looking at a file never fails."""
    assert not chatgpt.recognises(Sample("x.json", text.encode()))


# --- what is given back ---------------------------------------------------------------------------


@pytest.mark.parametrize("path", [EXPORT, SINGLE], ids=["array", "single"])
def test_every_conversation_comes_back_deep_equal(path):
    """Whoever leaves convmem takes what he brought."""
    value = json.loads(path.read_text(encoding="utf-8"))
    shelf = Shelf(chatgpt)
    shelf.take(path)
    for each in value if isinstance(value, list) else [value]:
        assert json.loads(shelf.native(each["id"])) == each


def test_a_conversation_given_back_is_recognised_and_adds_nothing(bread, tmp_path):
    """An export imported again doubles nothing."""
    path = tmp_path / "one.json"
    path.write_bytes(bread.native(BREAD))
    assert chatgpt.recognises(sample(path))
    assert bread.take(path) == 0


def test_exports_in_an_object_and_in_many_files_are_read_alike(bread, tmp_path):
    """The shape of an export has changed more than once."""
    value = json.loads(EXPORT.read_text(encoding="utf-8"))
    assert bread.take(put(tmp_path, {"version": 2, "conversations": value})) == 0
    for at, each in enumerate(value):
        assert bread.take(put(tmp_path, [each], f"conversations-{at:03}.json")) == 0


def test_an_answer_adds_itself_and_changes_no_node_that_was_there(bread, tmp_path):
    """Each monthly export holds everything again; only what is new may be stored."""
    value = json.loads(EXPORT.read_text(encoding="utf-8"))
    before = bread.raws(BREAD)
    mapping = value[0]["mapping"]
    mapping["a2-new"]["children"].append("u3")
    mapping["u3"] = node("u3", "a2-new", **said("user", "Thanks", create_time=1751000400.0))
    # A question asked again stands beside the first, also where its time is missing.
    mapping["client-created-root"]["children"].append("u0")
    mapping["u0"] = node("u0", "client-created-root", **said("user", "Hello?"))
    value[0] |= {"current_node": "u3", "title": "Crumb and steam", "update_time": 1751000400.0}
    assert bread.take(put(tmp_path, value)) == 3  # both, and the head
    after = bread.raws(BREAD)
    assert {turn_id: after[turn_id] for turn_id in before} == before
    assert json.loads(bread.native(BREAD)) == value[0]


def test_an_older_export_does_not_take_the_title_and_the_branch_back(bread, tmp_path):
    """Downloads are imported in the order of their names, which are digits and letters."""
    value = json.loads(EXPORT.read_text(encoding="utf-8"))[0]
    older = {**value, "title": "Old name", "current_node": "a2-old", "update_time": 1751000101.0}
    bread.take(put(tmp_path, [older]))
    assert json.loads(bread.native(BREAD)) == value


# --- what is said ---------------------------------------------------------------------------------


def test_all_branches_are_kept_and_the_shown_one_is_marked(bread):
    """Following the first child takes the branch that the user has left."""
    active = {turn.id: turn.meta["active"] for turn in bread.turns(BREAD) if turn.id != "head"}
    assert len(active) == 16
    assert [turn_id for turn_id, is_active in active.items() if not is_active] == [
        "u2-old",
        "a2-old",
    ]
    assert bread.turn(BREAD, "head").meta["leaf"] == "a2-new"
    assert bread.turn(BREAD, "u2-new").meta["parent"] == "a1"


def test_a_call_of_a_tool_and_its_answer_belong_together(bread):
    """Only so can a reader show which search brought which page."""
    call = bread.turn(BREAD, "c1").content[0]
    assert call == {
        "type": "tool_use",
        "id": "c1",
        "name": "python",
        "input": {
            "language": "python",
            "code": "import pandas as pd\nprint(pd.read_csv('notes.csv').mean())",
        },
    }
    answer = bread.turn(BREAD, "r1")
    assert answer.role == "tool"
    assert answer.content[0]["tool_use_id"] == "c1"
    assert answer.content[0]["content"] == [
        {"type": "text", "text": "hydration    0.72\n"},
        {"type": "image", "source": {"type": "file", "file_id": "file-service://file-Plot1"}},
    ]
    assert bread.turn(BREAD, "c2").content[0]["input"] == {
        "search_query": [{"q": "oven steam bread"}]
    }
    for turn_id in ("r2a", "r2b"):
        assert bread.turn(BREAD, turn_id).content[0]["tool_use_id"] == "c2"
    assert bread.turn(BREAD, "r2b").content[0]["is_error"] is True
    page = bread.turn(BREAD, "r2a").content[0]["content"]
    assert page == "Steam\nhttps://example.org/steam\nFirst ten minutes with steam."


def test_pictures_files_thoughts_and_voice_are_named(bread):
    """A turn that says nothing but a picture is not an empty one."""
    asked = bread.turn(BREAD, "u1").content
    assert [block["type"] for block in asked] == ["image", "text", "document"]
    assert asked[2]["title"] == "notes.csv"
    assert bread.turn(BREAD, "t2").content == [
        {"type": "thinking", "thinking": "Looking for sources\nThe user wants steam settings."}
    ]
    assert bread.turn(BREAD, "k2").content == "Thought for 3s"
    assert bread.turn(BREAD, "k2").meta["kind"] == "reasoning_recap"
    spoken = bread.turn(VOICE, "v1").content
    assert spoken[0] == {"type": "text", "text": "What time is it in Oslo?"}
    assert spoken[1]["source"]["file_id"] == "sediment://file_00a1"
    assert bread.turn(VOICE, "v2").content == "Half past nine."


def test_what_the_page_hides_is_marked_and_what_says_nothing_is_an_event(bread):
    """Instructions that ChatGPT adds by itself were not typed by the user."""
    hidden = [turn.id[-1] for turn in bread.turns(BREAD) if turn.meta.get("kind") == "hidden"]
    assert hidden == ["1", "2"]
    profile = bread.turns(BREAD)[3]
    assert profile.content == "I bake bread.\nAnswer briefly."
    assert bread.turn(BREAD, "client-created-root").role == "event"
    assert bread.turn(BREAD, "a1").meta["model"] == "gpt-4o"


def test_the_samples_thoughts_in_parts_are_thoughts(tmp_path):
    """One kind of content has had two shapes."""
    shelf = Shelf(chatgpt)
    shelf.take(SINGLE)
    content = shelf.turn("chatgpt-fixture-conversation", "thought-active").content
    assert content == [{"type": "thinking", "thinking": "Privacy-safe reasoning trace."}]
    call = shelf.turn("chatgpt-fixture-conversation", "tool-call").content
    assert call[0]["input"] == {"query": "fixture evidence"}


def test_a_kind_of_content_that_nobody_knows_keeps_its_text(tmp_path):
    """A new kind comes with every release; what it says must not wait for ours."""
    shelf = Shelf(chatgpt)
    content = {"content_type": "hologram", "text": "from above", "parts": ["and below"]}
    message = {"author": {"role": "assistant"}, "content": content}
    shelf.take(put(tmp_path, [conversation({"a": node("a", **message)})]))
    turn = shelf.turn("c", "a")
    assert (turn.role, turn.content) == ("assistant", "from above\nand below")
    assert turn.meta["kind"] == "hologram"


def test_turns_stand_behind_those_that_they_answer_whatever_the_order_of_the_file(tmp_path):
    """Some exports list nodes as a hash table does."""
    nodes = {
        "answer": node("answer", "question", **said("assistant", "4")),
        "question": node("question", "root", ["answer"], **said("user", "2+2")),
        "root": node("root", None, ["question"]),
    }
    shelf = Shelf(chatgpt)
    shelf.take(put(tmp_path, [conversation(nodes, current_node="answer")]))
    assert [turn.id for turn in shelf.turns("c")] == ["head", "root", "question", "answer"]
    assert json.loads(shelf.native("c"))["mapping"] == nodes


@pytest.mark.parametrize("mapping", [[], [1, {"id": "a"}], None, "x", 7, {}])
def test_a_mapping_that_is_none_is_kept_as_it_is(mapping, tmp_path):
    """What cannot be understood is not lost."""
    shelf = Shelf(chatgpt)
    value = conversation(mapping)
    shelf.take(put(tmp_path, [value]))
    assert json.loads(shelf.native("c")) == value


def test_nodes_in_a_circle_and_nodes_of_nobody_end_the_walk(tmp_path):
    """A damaged tree must not hang an import."""
    nodes = {
        "a": node("a", "b", ["b"], **said("user", "a")),
        "b": node("b", "a", ["a", "a", "nobody"], **said("user", "b")),
        "self": node("self", "self", ["self"]),
        "orphan": node("orphan", "gone", **said("user", "o")),
        "head": node("head", "orphan"),
        "": node("", 5),
        "odd": [1],
        "bare": {"message": 3},
    }
    shelf = Shelf(chatgpt)
    value = conversation(nodes, current_node="a")
    shelf.take(put(tmp_path, [value]))
    assert json.loads(shelf.native("c")) == value
    assert len(shelf.turns("c")) == 8


def test_a_long_thread_is_not_walked_by_recursion(tmp_path):
    """Threads of thousands of messages exist, and hang one below the other."""
    count = 20_000
    nodes = {
        f"n{at}": node(f"n{at}", f"n{at - 1}" if at else None, [f"n{at + 1}"], **said("tool", "x"))
        for at in range(count)
    }
    nodes = dict(reversed(nodes.items()))
    shelf = Shelf(chatgpt)
    shelf.conversations["c"] = kept = _Counted()
    shelf.take(put(tmp_path, [conversation(nodes)]))
    assert len(kept) == count + 1


@pytest.mark.parametrize("depth", [150, 300, 900, 5000])
def test_what_is_nested_deeply_is_kept(depth, tmp_path):
    """Arguments of tools are whatever a model has made of them."""
    deep = "[" * depth + "]" * depth
    arguments = json.dumps('{"a":' + deep + "}")
    content = f'{{"content_type":"code","text":{arguments},"x":{deep}}}'
    message = f'{{"author":{{"role":"assistant"}},"recipient":"bio","content":{content}}}'
    node = f'{{"id":"a","message":{message},"parent":null,"children":[]}}'
    text = f'{{"conversation_id":"c","title":"t","mapping":{{"a":{node}}}}}'
    path = tmp_path / "conversations.json"
    path.write_text(f"[{text}]", encoding="utf-8")
    shelf = Shelf(chatgpt)
    assert shelf.take(path) == (2 if depth < 1000 else 1)
    (name,) = shelf.conversations
    assert shelf.native(name).decode().strip() == text
    assert shelf.take(path) == 0


def test_what_is_no_strict_json_is_kept(tmp_path):
    """Half an emoji and NaN are in files, whatever the standard says."""
    half = json.loads('"\\ud83d"')
    nodes = {
        "a": node("a", None, [half], **said("user", half, create_time=float("nan"))),
        half: node(half, "a", **said("assistant", "x", weight=float("inf"))),
        "b": node("b", "a", big=12345678901234567890123),
    }
    nodes["a"]["children"].append("b")
    value = conversation(nodes, title=half, current_node=half)
    shelf = Shelf(chatgpt)
    assert shelf.take(put(tmp_path, [value])) == 4
    assert exact(json.loads(shelf.native("c"))) == exact(value)
    assert shelf.turns("c")[-2].meta["active"] is True


class _Counted(list):
    """A list that claims to hold nothing when it is searched: what is counted is all new."""

    def __iter__(self):
        return iter(())


# --- generated trees ------------------------------------------------------------------------------

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner),
    max_leaves=6,
)
kinds = st.sampled_from(
    "text multimodal_text code execution_output thoughts reasoning_recap tether_quote "
    "tether_browsing_display sonic_webpage system_error user_editable_context new".split()
)
names = "text parts content thoughts result summary title url name language".split()


@st.composite
def contents(draw):
    """Draw a content that may have each field, of any type."""
    picture = st.fixed_dictionaries(
        {"content_type": st.just("image_asset_pointer"), "asset_pointer": st.text()}
    )
    parts = st.lists(st.text(max_size=8) | picture | values, max_size=3)
    content = {"content_type": draw(kinds | values), "parts": draw(parts | values)}
    for name in draw(st.lists(st.sampled_from(names), max_size=3)):
        content[name] = draw(st.text(max_size=8) | values)
    return content


@st.composite
def messages(draw):
    """Draw a message, mostly one as it should be."""
    if draw(st.integers(0, 5)) == 0:
        return draw(st.none() | values)
    message = {
        "author": draw(
            st.fixed_dictionaries(
                {"role": st.sampled_from(["user", "assistant", "tool", "system", "critic"])}
            )
            | values
        ),
        "content": draw(contents() | values),
        "create_time": draw(st.floats(0, 2e9) | st.integers(0, 3) | values),
        "recipient": draw(st.sampled_from(["all", "python", "web.run"]) | values),
        "metadata": draw(st.just({}) | values),
        "weight": draw(st.sampled_from([0, 1.0])),
    }
    return {key: value for key, value in message.items() if draw(st.integers(0, 9))}


@st.composite
def trees(draw):
    """Draw a mapping: a tree, with faults here and there."""
    count = draw(st.integers(0, 7))
    ids = [f"n{at}" for at in range(count)]
    nodes = {}
    for at, node_id in enumerate(ids):
        parent = draw(st.sampled_from(ids[:at])) if at else None
        nodes[node_id] = {"id": node_id, "message": draw(messages()), "parent": parent}
    for node_id, each in nodes.items():
        each["children"] = [other for other in ids if nodes[other]["parent"] == node_id]
    for node_id in ids:
        fault = draw(st.integers(0, 30))
        if fault == 0:
            nodes[node_id]["children"] = draw(st.lists(st.sampled_from(ids), max_size=3) | values)
        elif fault == 1:
            del nodes[node_id]["children"]
        elif fault == 2:
            nodes[node_id]["parent"] = draw(st.sampled_from(ids) | values)
        elif fault == 3:
            nodes[draw(st.text(max_size=5))] = draw(values)
        elif fault == 4:
            nodes[draw(st.text(max_size=5))] = nodes.pop(node_id)
    order = draw(st.permutations(list(nodes))) if draw(st.booleans()) else list(nodes)
    return {key: nodes[key] for key in order}


@st.composite
def conversations(draw):
    """Draw a conversation with what may be beside its mapping."""
    value = {"conversation_id": "c", "mapping": draw(trees())}
    for key in draw(st.lists(st.sampled_from("title current_node update_time x".split()))):
        value[key] = draw(st.sampled_from(["n0", "n3"]) | values)
    return value


@settings(deadline=None, max_examples=80)
@given(value=conversations())
def test_whatever_tree_is_read_comes_back_deep_equal(value, tmp_path_factory):
    """Nothing is dropped, whatever a vendor or a fault makes of a field."""
    shelf = Shelf(chatgpt)
    path = put(tmp_path_factory.mktemp("t"), [value])
    count = sum(isinstance(each, dict) for each in value["mapping"].values())
    assert shelf.take(path) == count + 1
    back = json.loads(shelf.native("c"))
    assert exact(back) == exact(value)
    assert shelf.take(path) == 0


@settings(deadline=None, max_examples=50)
@given(value=conversations(), grown=trees(), data=st.data())
def test_a_tree_that_grew_changes_no_old_node_and_comes_back(value, grown, data, tmp_path_factory):
    """An archive of monthly exports must not store every message every month."""
    later = copy.deepcopy(value)
    mapping = later["mapping"]
    old = [key for key, each in mapping.items() if isinstance(each, dict)]
    for key, each in grown.items():
        if not isinstance(each, dict):
            continue
        parent = data.draw(st.sampled_from(old)) if old else None
        mapping[f"new-{key}"] = {**each, "id": f"new-{key}", "parent": parent, "children": []}
        if parent is not None and isinstance(mapping[parent].get("children"), list):
            mapping[parent]["children"].append(f"new-{key}")
        later["current_node"] = f"new-{key}"
    later["title"] = "another name"
    later["update_time"] = 3e9
    value["update_time"] = 1e9
    folder = tmp_path_factory.mktemp("t")
    shelf = Shelf(chatgpt)
    shelf.take(put(folder, [value]))
    before = shelf.raws("c")
    added = shelf.take(put(folder, [later]))
    assert added == len(mapping) - len(value["mapping"]) + 1
    after = shelf.raws("c")
    assert {key: after[key] for key in before} == before
    assert exact(json.loads(shelf.native("c"))) == exact(later)


@settings(deadline=None, max_examples=30)
@given(value=st.lists(values, max_size=3))
def test_an_array_of_anything_is_read_and_given_back(value, tmp_path_factory):
    """Reading never fails, and what is no conversation is kept."""
    shelf = Shelf(chatgpt)
    shelf.take(put(tmp_path_factory.mktemp("t"), value))
    back = [json.loads(shelf.native(each)) for each in shelf.conversations]
    assert all(exact(each) in map(exact, back) for each in value if not isinstance(each, dict))


def exact(value):
    """Return what tells 1 from True and 1.0, and does not mind the order of keys."""
    return json.dumps(value, sort_keys=True)
