"""What was imported is given back as it was, and comes in a second time without a trace."""

from __future__ import annotations

import gzip
import json
import random
import shutil

import pytest
from desk import Desk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transcripts_made import (
    LINES,
    MADE,
    SAMPLES,
    claude_file,
    claude_records,
    lines,
    uuid,
    values_in,
    when,
)

FEW = settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
every_format = pytest.mark.parametrize("name", MADE)
every_line_format = pytest.mark.parametrize("name", LINES)
FOREIGN = [name for name in MADE if name != "convmem"]


@pytest.mark.parametrize("name", FOREIGN)
def test_native_export_is_the_source(desk, sources, tmp_path, name):
    """Who leaves a tool wants to be able to go back: byte for byte, or value for value."""
    path = MADE[name](sources, 9)
    desk.take(sources)
    (back,) = desk.give(tmp_path / "out").values()
    if name in LINES:
        with open(back, "rb") as file:
            assert file.read() == path.read_bytes()
    else:
        assert values_in(back) == values_in(path)


@pytest.mark.parametrize("name", FOREIGN)
def test_a_native_export_imported_again_adds_nothing(desk, sources, tmp_path, name):
    """An export that lies in a folder somebody imports later must not double the archive."""
    MADE[name](sources, 9)
    desk.take(sources)
    before = desk.all_turns()
    desk.give(tmp_path / "out")
    assert desk.take(tmp_path / "out").added == 0
    desk.forget()
    assert desk.take(tmp_path / "out").added == 0
    assert desk.all_turns() == before


@every_format
def test_convmems_own_export_adds_nothing_here_and_everything_elsewhere(
    desk, sources, tmp_path, name
):
    """The way from machine to machine: the other archive is worth the same as the first."""
    path = MADE[name](sources, 9)
    desk.take(sources)
    exported = tmp_path / "all.jsonl"
    exported.write_bytes(desk.said(format="convmem"))
    before = desk.all_turns()
    assert desk.take(exported).added == 0
    assert desk.all_turns() == before

    other = Desk(tmp_path / "other")
    assert other.take(exported).added == sum(map(len, before.values()))
    assert other.all_turns() == before
    assert other.said(format="convmem") == exported.read_bytes()
    assert other.take(exported).added == 0
    if name != "convmem":
        (here,), (there,) = (
            each.give(tmp_path / folder).values() for each, folder in ((desk, "a"), (other, "b"))
        )
        assert values_or_bytes(there) == values_or_bytes(here)
        assert other.take(path).added == 0, "the source itself is known there, too"


def values_or_bytes(path):
    with open(path, "rb") as file:
        data = file.read()
    return values_in(path) if data.startswith(b"SQLite") else data


@every_line_format
@pytest.mark.parametrize(
    "changed",
    [
        pytest.param(lambda data: data[:-1], id="no newline at the end"),
        pytest.param(lambda data: data.replace(b"\n", b"\r\n"), id="CRLF"),
        pytest.param(lambda data: b"\xef\xbb\xbf" + data, id="BOM"),
        pytest.param(lambda data: data.replace(b"\n", b"\n\n"), id="blank lines"),
    ],
)
def test_line_endings_of_all_kinds_lose_no_record(desk, sources, tmp_path, name, changed):
    """Editors and other systems change what stands between the records, never a record."""
    path = MADE[name](sources, 6)
    plain = path.read_bytes()
    path.write_bytes(changed(plain))
    added = desk.take(sources).added
    reference = Desk(tmp_path / "reference")
    reference_sources = tmp_path / "plain"
    reference_sources.mkdir()
    MADE[name](reference_sources, 6)
    assert added == reference.take(reference_sources).added
    (back,) = desk.give(tmp_path / "out").values()
    with open(back, "rb") as file:
        given_back = file.read()
    expected = changed(plain).removeprefix(b"\xef\xbb\xbf")  # a mark of the file, of no record
    if name != "aider":
        expected = expected.replace(b"\n\n", b"\n")  # and so is a blank line between records
    assert given_back == expected
    assert desk.take(sources).added == 0
    desk.forget()
    assert desk.take(sources).added == 0
    assert desk.take(tmp_path / "out").added == 0


@pytest.mark.parametrize("kind", ["claude_code", "codex", "gemini", "chatgpt", "claude_ai"])
def test_real_transcripts_come_back_as_they_were(desk, tmp_path, kind):
    """What people's tools really wrote: records that no generator would think of."""
    sources = tmp_path / "sources"
    shutil.copytree(SAMPLES / kind, sources)
    desk.take(sources, include_agents=True)
    before = desk.all_turns()
    assert sum(map(len, before.values())) > 4
    assert desk.take(sources, include_agents=True).added == 0
    desk.forget()
    assert desk.take(sources, include_agents=True).added == 0
    desk.give(tmp_path / "out")
    given_back = {
        path.relative_to(tmp_path / "out"): path.read_bytes()
        for path in (tmp_path / "out").rglob("*.jsonl")
    }
    for relative, data in given_back.items():
        assert data == (sources / relative).read_bytes(), relative
    assert desk.take(tmp_path / "out", include_agents=True).added == 0
    assert desk.all_turns() == before


def test_packed_sources_come_back_unpacked_under_their_name(desk, sources, tmp_path):
    """Codex packs what is a week old: it is the same conversation, and has the same name."""
    path = MADE["codex"](sources, 6)
    plain = path.read_bytes()
    with gzip.open(f"{path}.gz", "wb") as file:
        file.write(plain)
    path.unlink()
    desk.take(sources)
    (back,) = desk.give(tmp_path / "out").values()
    assert back == str(tmp_path / "out" / path.name)
    with open(back, "rb") as file:
        assert file.read() == plain
    path.write_bytes(plain)
    assert desk.take(sources).added == 0


# --- made at random ------------------------------------------------------------------------------

WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=3),
    max_leaves=6,
)
BLOCKS = st.lists(
    st.fixed_dictionaries({"type": st.just("text"), "text": WORDS})
    | st.fixed_dictionaries({"type": WORDS}, optional={"text": VALUES, "content": VALUES}),
    max_size=3,
)


@st.composite
def claude_sources(draw):
    records = []
    for nth in range(draw(st.integers(1, 8))):
        record = draw(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["user", "assistant", "system", "summary", "novel"])},
                optional={
                    "message": st.fixed_dictionaries({"content": WORDS | BLOCKS | VALUES}),
                    "extra": VALUES,
                    "timestamp": VALUES,
                    "parentUuid": VALUES,
                    "uuid": st.sampled_from([uuid(9, each) for each in range(4)]) | VALUES,
                },
            )
        )
        records.append(record)
        records += [record] * draw(st.integers(0, 1))
        if nth == 0:
            records += claude_records(0, 1)
    return records


@st.composite
def codex_sources(draw):
    head = {"timestamp": when(0), "type": "session_meta", "payload": {"id": uuid(0xC0DE, 7)}}
    kinds = st.sampled_from(["message", "reasoning", "function_call", "function_call_output", "x"])
    payloads = st.fixed_dictionaries(
        {"type": kinds}, optional={"role": WORDS, "content": VALUES, "output": VALUES, "x": VALUES}
    )
    records = st.fixed_dictionaries(
        {
            "timestamp": st.just(when(1)) | VALUES,
            "type": st.sampled_from(["response_item", "event_msg", "compacted", "novel"]),
            "payload": payloads | VALUES,
        }
    )
    drawn = draw(st.lists(records, max_size=8))
    return [head, *drawn, *drawn[:2]]


def _holds(folder, path, data):
    """Hold a source of lines against every promise at once."""
    sources = folder / "sources"
    sources.mkdir(parents=True)
    (sources / path).write_bytes(data)
    desk = Desk(folder / "archive")
    first = desk.take(sources)
    assert first.added + first.skipped == first.records == len(data.splitlines())
    before = desk.all_turns()
    desk.forget()
    assert desk.take(sources).added == 0
    desk.give(folder / "out")
    given_back = b"".join(each.read_bytes() for each in (folder / "out").rglob("*.jsonl"))
    assert given_back == data
    assert desk.take(folder / "out").added == 0
    assert desk.all_turns() == before


@FEW
@given(records=claude_sources())
def test_any_records_of_claude_code_come_back(tmp_path_factory, records):
    """Fields missing, of another type, records repeated: the source comes back, and once."""
    name = claude_file("").name
    _holds(tmp_path_factory.mktemp("claude"), name, lines(records))


@FEW
@given(records=codex_sources())
def test_any_records_of_codex_come_back(tmp_path_factory, records):
    """The vocabulary moves without notice; what is new in it is kept as it is."""
    name = f"rollout-2026-03-01T10-00-00-{uuid(0xC0DE, 7)}.jsonl"
    _holds(tmp_path_factory.mktemp("codex"), name, lines(records))


@st.composite
def chatgpt_trees(draw):
    chance = random.Random(draw(st.integers(0, 1 << 30)))
    names = [f"node-{nth}" for nth in range(draw(st.integers(1, 8)))]
    mapping = {
        name: {"id": name, "parent": None, "children": [], "message": None} for name in names
    }
    for nth, name in enumerate(names[1:], 1):
        parent = names[chance.randrange(nth)]
        mapping[name]["parent"] = parent
        mapping[parent]["children"].append(name)
        mapping[name]["message"] = draw(
            st.none()
            | st.fixed_dictionaries(
                {"author": st.fixed_dictionaries({"role": WORDS | st.just("user")})},
                optional={"content": VALUES, "create_time": VALUES, "metadata": VALUES},
            )
        )
    more = draw(st.dictionaries(WORDS, VALUES, max_size=2))
    talk = {"title": "A talk", "mapping": mapping, "current_node": names[-1]}
    return {**more, **talk, "conversation_id": "talk-1", "create_time": 1.5}


@FEW
@given(talk=chatgpt_trees())
def test_any_tree_of_chatgpt_comes_back(tmp_path_factory, talk):
    """All branches, in whatever shape the messages are."""
    folder = tmp_path_factory.mktemp("chatgpt")
    source = folder / "conversations.json"
    source.write_text(json.dumps([talk]))
    desk = Desk(folder / "archive")
    assert desk.take(source).added == 1 + len(talk["mapping"])
    before = desk.all_turns()
    desk.forget()
    assert desk.take(source).added == 0
    (back,) = desk.give(folder / "out").values()
    assert values_in(back) == [talk]
    assert desk.take(folder / "out").added == 0
    assert desk.all_turns() == before
