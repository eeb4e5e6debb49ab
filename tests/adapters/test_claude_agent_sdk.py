"""The Claude Agent SDK over convmem: its own suite, batcher, resume and query on real files."""

from __future__ import annotations

import asyncio
import importlib.util
import itertools
import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("claude_agent_sdk")

from claude_agent_sdk import (
    AssistantMessage,
    ClaudeAgentOptions,
    InMemorySessionStore,
    ResultMessage,
    fold_session_summary,
    fork_session_via_store,
    get_session_messages_from_store,
    get_subagent_messages_from_store,
    import_session_to_store,
    list_sessions_from_store,
    list_subagents_from_store,
    project_key_for_directory,
    query,
    rename_session_via_store,
)
from claude_agent_sdk._internal.session_resume import materialize_resume_session
from claude_agent_sdk._internal.transcript_mirror_batcher import TranscriptMirrorBatcher
from claude_agent_sdk.testing import run_session_store_conformance
from crowd import killed, tear, together
from hypothesis import given
from hypothesis import strategies as st
from transcripts_made import SESSION, claude_record, claude_records, lines, uuid

from convmem import Archive, InvalidContinuationId, RetentionPolicy, UsageError, aio
from convmem.adapters.claude_agent_sdk import SUMMARY, ConvmemSessionStore, entry_of, turn_of
from convmem.formats import claude_code
from convmem.transfer.exporting import Exporter

HOUSE = Path(__file__).parents[2]
TRANSCRIPTS = sorted((HOUSE / "tests" / "data" / "transcripts" / "claude_code").glob("*.jsonl"))
PROJECT = "-home-ada-trips"
KEY = {"project_key": PROJECT, "session_id": SESSION.format(1)}
AGENT = {**KEY, "subpath": "subagents/agent-a1b2"}


@pytest.fixture
def store(archive):
    return ConvmemSessionStore(archive)


def run(awaitable):
    return asyncio.run(awaitable)


def by_id(rows):
    return {row["session_id"]: row for row in rows}


def example():
    """The example's module: it has a Claude Code that needs no network."""
    place = HOUSE / "examples" / "claude_agent_sdk_store.py"
    spec = importlib.util.spec_from_file_location("claude_example", place)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --- the SDK's own words --------------------------------------------------------------------------


def test_the_conformance_suite_of_the_sdk_passes(tmp_path):
    """Its fourteen contracts, unedited, with every optional method."""
    number = itertools.count()
    opened = []

    def made():
        opened.append(Archive.open(tmp_path / str(next(number))))
        return ConvmemSessionStore(opened[-1])

    run(run_session_store_conformance(made))
    run(run_session_store_conformance(lambda: ConvmemSessionStore(aio.Archive.of(made()._archive))))
    for each in opened:
        each.close()


def test_a_session_goes_on_after_a_restart_with_nothing_left_but_the_archive(tmp_path):
    """What a store is for: another machine, the transcript of Claude Code gone."""
    program = tmp_path / "claude"
    program.write_text(example().FAKE.replace("{python}", __import__("sys").executable))
    program.chmod(0o700)

    async def ask(archive, prompt, config, **how):
        options = ClaudeAgentOptions(
            session_store=ConvmemSessionStore(archive),
            cwd=tmp_path,
            cli_path=program,
            env={"CLAUDE_CONFIG_DIR": str(tmp_path / config)},
            **how,
        )
        told, session = [], None
        async for message in query(prompt=prompt, options=options):
            if isinstance(message, AssistantMessage):
                told += [block.text for block in message.content]
            if isinstance(message, ResultMessage):
                session = message.session_id
        return told, session

    with Archive.open(tmp_path / "archive") as archive:
        told, session = run(ask(archive, "one", "here"))
        assert told == ["You said: one"]
    with Archive.open(tmp_path / "archive") as archive:
        told, again = run(ask(archive, "two", "there", resume=session))
        assert (told, again) == (["You said: one; two"], session)
        told, again = run(ask(archive, "three", "elsewhere", continue_conversation=True))
        assert (told, again) == (["You said: one; two; three"], session)
        chat = ConvmemSessionStore(archive).conversation(
            {"project_key": project_key_for_directory(tmp_path), "session_id": session}
        )
        assert [turn.text for turn in chat.turns(roles=["user"])] == ["one", "two", "three"]


def test_a_batch_that_fails_is_tried_again_and_stored_once(store, monkeypatch):
    """The SDK's batcher retries; a store that took half of it, or all, must not double that."""
    tries = []
    append = ConvmemSessionStore.append

    async def flaky(self, key, entries):
        tries.append(len(entries))
        await append(self, key, entries)
        if len(tries) == 1:
            raise ConnectionError("the answer got lost")

    monkeypatch.setattr(ConvmemSessionStore, "append", flaky)
    monkeypatch.setattr(
        "claude_agent_sdk._internal.transcript_mirror_batcher.MIRROR_APPEND_BACKOFF_S", (0, 0)
    )
    failed = []

    async def mirror():
        async def on_error(key, message):
            failed.append(message)

        batcher = TranscriptMirrorBatcher(store=store, projects_dir="/p", on_error=on_error)
        batcher.enqueue(f"/p/{PROJECT}/{KEY['session_id']}.jsonl", claude_records(0, 5))
        await batcher.flush()
        return await store.load(KEY)

    assert run(mirror()) == claude_records(0, 5)
    assert (tries, failed) == ([5, 5], [])


def test_what_the_sdk_reads_is_the_same_as_of_its_own_store(store):
    """Its readers, renames and forks, over ours and over its reference in memory."""
    reference = InMemorySessionStore()
    agent = [claude_record(n, of=9, isSidechain=True, agentId="a1b2") for n in range(3)]
    agent.append({"type": "agent_metadata", "agentType": "Explore", "toolUseId": "t1"})

    async def told(each, directory):
        project = project_key_for_directory(directory)
        key = {"project_key": project, "session_id": KEY["session_id"]}
        await each.append(key, claude_records(0, 6))
        await each.append({**key, "subpath": "subagents/w/agent-a1b2"}, agent)
        await rename_session_via_store(each, KEY["session_id"], "My trip", str(directory))
        forked = await fork_session_via_store(each, KEY["session_id"], str(directory))
        of_fork = await get_session_messages_from_store(each, forked.session_id, str(directory))
        return (
            await get_session_messages_from_store(each, KEY["session_id"], str(directory)),
            await list_subagents_from_store(each, KEY["session_id"], str(directory)),
            await get_subagent_messages_from_store(each, KEY["session_id"], "a1b2", str(directory)),
            sorted(row.summary for row in await list_sessions_from_store(each, str(directory))),
            [message.message for message in of_fork],
        )

    assert run(told(store, HOUSE)) == run(told(reference, HOUSE))


def test_a_local_session_is_imported_and_resumed_whole(store, tmp_path, monkeypatch):
    """The SDK's way from Claude Code's files into a store, and out of it again."""
    session = KEY["session_id"]
    project = project_key_for_directory(tmp_path)
    config = tmp_path / "config"
    folder = config / "projects" / project
    agents = folder / session / "subagents"
    agents.mkdir(parents=True)
    (folder / f"{session}.jsonl").write_bytes(lines(claude_records(0, 7)))
    of_agent = lines([claude_record(n, of=5, isSidechain=True, agentId="z") for n in range(2)])
    (agents / "agent-z.jsonl").write_bytes(of_agent)
    (agents / "agent-z.meta.json").write_text('{"agentType":"Plan"}')
    monkeypatch.setenv("CLAUDE_CONFIG_DIR", str(config))

    async def there_and_back():
        for _ in range(2):  # the second time changes nothing but what has no uuid
            await import_session_to_store(session, store, directory=str(tmp_path))
        shutil.rmtree(config)
        options = ClaudeAgentOptions(session_store=store, resume=session, cwd=tmp_path)
        made = await materialize_resume_session(options)
        found = {
            str(path.relative_to(made.config_dir / "projects" / project)): path.read_text()
            for path in made.config_dir.rglob("*.json*")
        }
        await made.cleanup()
        return found

    found = run(there_and_back())
    assert [json.loads(line) for line in found[f"{session}.jsonl"].splitlines()] == claude_records(
        0, 7
    )
    of_agent_again = found[f"{session}/subagents/agent-z.jsonl"].splitlines()
    assert [json.loads(line) for line in of_agent_again] == [
        json.loads(line) for line in of_agent.splitlines()
    ]
    assert json.loads(found[f"{session}/subagents/agent-z.meta.json"]) == {"agentType": "Plan"}


# --- entries and turns ----------------------------------------------------------------------------

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec=None)),  # with half surrogate pairs, as cut emoji leave them
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(st.characters(codec=None)), inner, max_size=3)
    ),
    max_leaves=8,
)
ENTRIES = st.fixed_dictionaries(
    {"type": JSON | st.sampled_from(["user", "assistant", "system", "attachment", "tag"])},
    optional=dict.fromkeys(
        (
            "uuid timestamp parentUuid sessionId agentId isSidechain attachment data snapshot "
            "message forkedFrom subtype content summary customTitle tag raw meta role"
        ).split(),
        JSON,
    ),
)
MESSAGES = st.fixed_dictionaries(
    {
        "type": st.sampled_from(["user", "assistant"]),
        "message": st.fixed_dictionaries({"content": JSON}, optional={"model": JSON}),
    },
    optional={"uuid": st.text(max_size=300), "timestamp": st.text() | st.floats() | st.integers()},
)


@given(st.lists(ENTRIES | MESSAGES, min_size=1, max_size=4))
def test_any_entries_come_back_deep_equal(tmp_path_factory, entries):
    """An entry is the CLI's own affair: whatever it holds, resume needs the very same."""
    entries = [{**each, "uuid": f"{at}"} for at, each in enumerate(entries)] + [
        each for each in entries if not (type(each.get("uuid")) is str and each["uuid"])
    ]
    with Archive.open(tmp_path_factory.mktemp("any")) as archive:
        store = ConvmemSessionStore(archive)
        run(store.append(KEY, entries))
        loaded = run(store.load(KEY))
        assert json.dumps(loaded, sort_keys=True) == json.dumps(entries, sort_keys=True)


def test_a_turn_is_the_one_that_an_import_makes():
    """What was mirrored and what was imported are found, shown and exported alike."""
    made = [json.loads(line) for path in TRANSCRIPTS for line in path.read_bytes().splitlines()]
    made += claude_records(0, 4)
    made += [
        {"type": "summary", "summary": "A trip\nto Oslo", "leafUuid": "x"},
        {"type": "custom-title", "customTitle": "  "},
        {"type": "tag", "tag": "t" * 300},
        {"type": "system", "subtype": "compact_boundary", "content": "so far", "uuid": "s"},
        {"type": "progress", "data": {"type": "hook", "hookName": "Stop"}},
        {"type": "attachment", "attachment": {"type": "queued_command", "prompt": "wait"}},
        {"type": "attachment", "attachment": {"type": "file", "content": ["", {"text": "f"}]}},
        {"type": "file-history-snapshot", "snapshot": {"timestamp": "2026-01-01T00:00:00Z"}},
        {"type": "user", "message": {"content": None}, "logicalParentUuid": "p"},
        {"type": "user", "message": {"content": []}, "isMeta": True, "isCompactSummary": True},
        {"type": "assistant", "message": "none"},
        {"type": 7},
    ]
    records = claude_code._mapped([(b"{}", value) for value in made])
    for value, record in zip(made, records, strict=True):
        turn = turn_of(value)
        assert turn["meta"].pop("source") == claude_code.NAME
        turn["meta"].pop("copy_of", None)
        assert (turn["role"], turn["content"]) == (record.role, record.content)
        assert (turn["meta"], turn.get("id")) == (record.meta, record.id)
        assert turn["raw"] is value


def test_a_mirrored_session_is_an_ordinary_conversation(archive, store):
    """A person finds it, reads it, searches it, and takes it out as Claude Code's own file."""
    path = max(TRANSCRIPTS, key=lambda path: path.stat().st_size)
    entries = [json.loads(line) for line in path.read_bytes().splitlines()]
    key = {"project_key": PROJECT, "session_id": path.stem}
    run(store.append(key, entries))
    (row,) = archive.overview()
    assert row.continuation_id == f"{path.stem}@{PROJECT}"
    chat = archive.conversation(row.continuation_id)
    assert {turn.role for turn in chat.tail(100)} >= {"user", "assistant"}
    said = next(turn for turn in chat.turns(roles=["assistant"]) if turn.text.strip())
    word = max(said.text.split(), key=len)
    hits = [hit.turn.id for hit in archive.grep(word, fixed=True)]
    assert said.id in hits
    assert chat.context(max_turns=5).as_messages()
    native = b"".join(Exporter("default", "native").alone(chat))
    assert [json.loads(line) for line in native.splitlines()] == entries


def test_an_import_of_the_same_session_is_another_conversation_of_the_same_turns(store, archive):
    """``convmem import`` names a session by its file; neither gets into the other's way."""
    run(store.append(AGENT, claude_records(0, 2)))
    assert [each.continuation_id for each in archive.conversations()] == [
        f"{KEY['session_id']}.agent-a1b2@{PROJECT}"
    ]


def test_what_comes_twice_is_stored_once_and_what_differs_is_kept(store):
    """``uuid`` is the idempotency key; but nothing that was said may be lost for it."""
    first, other = claude_record(0), claude_record(0, says="something else")
    title = {"type": "custom-title", "customTitle": "Trip"}
    run(store.append(KEY, [first, first, title]))
    run(store.append(KEY, [first, title]))
    assert run(store.load(KEY)) == [first, title, title]
    for _ in range(2):
        run(store.append(KEY, [other, claude_record(1), first]))
    assert run(store.load(KEY)) == [first, title, title, other, claude_record(1)]
    # Whoever recorded it first, in whatever form: an import, the shell.
    imported = turn_of(claude_record(2))
    imported["meta"]["file"] = "x.jsonl"
    store.conversation(KEY).record_many([imported, {**imported, "id": uuid(0, 3), "raw": 1}])
    run(store.append(KEY, claude_records(2, 4)))
    assert run(store.load(KEY))[5::2] == [claude_record(2), claude_record(3)]


def test_several_versions_of_one_entry_in_a_batch_are_kept_once_each(store):
    """Whatever came first, and however often the batch is tried."""
    first, other = claude_record(0), claude_record(0, says="something else")
    third = claude_record(0, says="and a third")
    for _ in range(2):
        run(store.append(KEY, [first, first, other]))
        run(store.append(KEY, [other, third, first, third]))
    assert run(store.load(KEY)) == [first, other, third]


def test_an_entry_that_json_cannot_say_keeps_nothing_out(store, archive):
    """Output of a tool that was cut within an emoji: the SDK would drop the whole batch."""
    cut = claude_record(0, says="half an emoji \ud83d", also={"deep": 1.5})
    deep = claude_record(1)
    for _ in range(300):
        deep["also"] = [deep.get("also")]
    odd = {**claude_record(2), "uuid": "\ud83d" * 3}
    for _ in range(2):
        run(store.append(KEY, [cut, deep, odd, claude_record(3)]))
    assert run(store.load(KEY)) == [cut, deep, odd, claude_record(3)]
    texts = [turn.text for turn in store.conversation(KEY).turns()]
    assert texts[0] == "half an emoji \ufffd"
    assert [hit.turn.seq for hit in archive.search("emoji")] == [1]


def test_what_others_recorded_becomes_part_of_the_session(store, archive):
    """A turn from the shell is what the resumed model reads last; events of others are not."""
    run(store.append(KEY, claude_records(0, 2)))
    chat = store.conversation(KEY)
    chat.record("user", "from the shell", id="req-1")
    chat.record("event", "", meta={"source": "openai-agents"})
    blocks = [
        {"type": "text", "text": "see"},
        {"type": "tool_use", "id": "t", "name": "f", "input": {}},
    ]
    chat.record("assistant", blocks, meta={"model": "small"})
    chat.record("tool", [{"type": "tool_result", "tool_use_id": "t", "content": "42"}])
    chat.record("system", "be brief")
    chat.record("critic", {"odd": 1})
    loaded = run(store.load(KEY))
    assert loaded == run(store.load(KEY))  # the same uuids each time
    own, others = loaded[:2], loaded[2:]
    assert own == claude_records(0, 2)
    assert [each["type"] for each in others] == ["user", "assistant", "user", "system", "user"]
    assert [each["parentUuid"] for each in others] == [each["uuid"] for each in loaded[1:-1]]
    assert others[0]["message"] == {"role": "user", "content": "from the shell"}
    assert others[1]["message"]["content"] == blocks
    assert others[1]["message"]["model"] == "small"
    assert others[3]["content"] == "be brief"
    chat.scrub("req-1")
    assert len(run(store.load(KEY))) == 6
    # And what is appended behind them is the CLI's own again.
    run(store.append(KEY, [claude_record(2)]))
    assert run(store.load(KEY))[-1] == claude_record(2)


def test_a_turn_whose_raw_was_spoilt_is_read_by_what_it_says(archive):
    """Nothing that somebody wrote by hand may end a session."""
    chat = archive.conversation("x")
    for raw in ("{broken", 7, None, ["list"]):
        turn = chat.record("user", "hello", meta={"source": "claude-code"}, raw=raw)
        assert entry_of(turn, "s")["message"]["content"] == "hello"


# --- keys -----------------------------------------------------------------------------------------

PARTS = st.text(st.sampled_from("a.@/%-\0\ud800é") | st.characters(codec=None), max_size=12) | (
    st.sampled_from(["", ".", "..", "../x", "s.agent-1", "agent-1", "a@b", "a%40b", "%", "CON"])
)
SUBPATHS = st.none() | PARTS.filter(bool) | PARTS.map("subagents/agent-{}".format)
KEYS = st.tuples(PARTS, PARTS, SUBPATHS)


def key_of(parts):
    project, session, subpath = parts
    more = {} if subpath is None else {"subpath": subpath}
    return {"project_key": project, "session_id": session, **more}


@given(st.sets(KEYS, min_size=2, max_size=6))
def test_two_keys_are_never_one_conversation(tmp_path_factory, keys):
    """Names come from clients, and a wrong one must not open somebody else's session."""
    with Archive.open(tmp_path_factory.mktemp("keys"), namespace="tenant") as archive:
        store = ConvmemSessionStore(archive)
        ids = {store.conversation(key_of(parts)).continuation_id for parts in keys}
        assert len(ids) == len(keys)
        for parts in keys:
            run(store.append(key_of(parts), [{"type": "x", "of": list(parts)}]))
        for parts in keys:
            assert run(store.load(key_of(parts))) == [{"type": "x", "of": list(parts)}]
        for project in {parts[0] for parts in keys}:
            mains = [parts[1] for parts in keys if parts[0] == project and parts[2] is None]
            assert sorted(by_id(run(store.list_sessions(project)))) == sorted(mains)
        for project, session in {parts[:2] for parts in keys}:
            paths = [parts[2] for parts in keys if parts[:2] == (project, session) and parts[2]]
            key = {"project_key": project, "session_id": session}
            assert run(store.list_subkeys(key)) == sorted(paths)


def test_a_key_that_nothing_can_have_is_refused(store, tmp_path):
    """Rather than shortened into somebody else's; and no name leads out of the archive."""
    with pytest.raises(InvalidContinuationId):
        run(store.append({**KEY, "session_id": "x" * 1100}, claude_records(0, 1)))
    with pytest.raises(UsageError):
        run(store.load({**KEY, "subpath": ""}))
    with pytest.raises(InvalidContinuationId):
        ConvmemSessionStore(store._archive, namespace="")
    run(store.append({"project_key": "../..", "session_id": "../../x"}, claude_records(0, 1)))
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_a_tenant_sees_its_own_namespace_only(archive):
    """Whatever project it names."""
    ours, theirs = (ConvmemSessionStore(archive, namespace=name) for name in ("ours", "theirs"))
    run(ours.append(KEY, claude_records(0, 1)))
    assert run(theirs.load(KEY)) is None
    assert run(theirs.list_sessions(PROJECT)) == []
    assert run(theirs.list_session_summaries(PROJECT)) == []
    run(theirs.delete(KEY))
    assert run(ours.load(KEY)) == claude_records(0, 1)


# --- lists and summaries --------------------------------------------------------------------------


def folded(entries, key=KEY):
    return fold_session_summary(None, key, entries)["data"]


def test_listing_reads_no_session_again_that_did_not_change(store, archive, monkeypatch):
    """A picker over thousands of sessions: each was read once, and then only what is new."""
    keys = [{**KEY, "session_id": SESSION.format(n)} for n in range(5)]
    for at, key in enumerate(keys):
        run(store.append(key, claude_records(0, 40, session=at)))
    assert len(run(store.list_session_summaries(PROJECT))) == 5
    read = []
    conversation = type(archive.conversation("x"))
    turns = conversation.turns

    def counted(chat, **how):
        for turn in turns(chat, **how):
            read.append(turn.seq)
            yield turn

    monkeypatch.setattr(conversation, "turns", counted)
    summaries = by_id(run(ConvmemSessionStore(archive).list_session_summaries(PROJECT)))
    assert read == []
    run(store.append(keys[2], claude_records(40, 42, session=2)))
    for _ in range(2):
        summaries = by_id(run(store.list_session_summaries(PROJECT)))
    assert read == [41, 42] * 2  # so few are not worth the sync of a state
    assert summaries[keys[2]["session_id"]]["data"] == folded(claude_records(0, 42, session=2))
    run(store.append(keys[2], claude_records(42, 80, session=2)))
    for _ in range(2):
        summaries = by_id(run(store.list_session_summaries(PROJECT)))
    assert read[4:] == list(range(41, 81))
    assert summaries[keys[2]["session_id"]]["data"] == folded(claude_records(0, 80, session=2))
    listed = by_id(run(store.list_sessions(PROJECT)))
    assert {name: row["mtime"] for name, row in listed.items()} == {
        name: row["mtime"] for name, row in summaries.items()
    }
    newest = max(listed.values(), key=lambda row: row["mtime"])
    assert newest == {"session_id": keys[2]["session_id"], "mtime": 1772323279123}


def test_the_sdk_lists_sessions_without_loading_one(store, monkeypatch):
    """Its fast path: that is what summaries are for."""
    key = {"project_key": project_key_for_directory(HOUSE), "session_id": KEY["session_id"]}
    run(store.append(key, claude_records(0, 3)))
    run(store.append(key, [{"type": "custom-title", "customTitle": "Oslo"}]))

    async def load(self, key):
        raise AssertionError("a session was loaded")

    monkeypatch.setattr(ConvmemSessionStore, "load", load)
    (info,) = run(list_sessions_from_store(store, str(HOUSE)))
    assert (info.summary, info.custom_title) == ("Oslo", "Oslo")


def test_a_summary_tells_nothing_of_what_is_gone(store):
    """A scrubbed prompt must not live on in a list; a session begun anew has its own."""
    run(store.append(KEY, claude_records(0, 40)))
    before = run(store.list_session_summaries(PROJECT))[0]["data"]
    assert before["first_prompt"] == "turn 0 of talk 0"
    chat = store.conversation(KEY)
    assert chat.state()[SUMMARY]["data"] == before
    chat.scrub(uuid(0, 0))
    assert run(store.list_session_summaries(PROJECT))[0]["data"]["first_prompt"] == (
        "turn 2 of talk 0"
    )
    assert "turn 0" not in json.dumps(chat.state())
    chat.compact(RetentionPolicy(keep_last=1))
    assert run(store.list_session_summaries(PROJECT))[0]["data"] == folded(claude_records(39, 40))
    run(store.delete(KEY))
    run(store.append(KEY, claude_records(0, 40, says="again")))
    again = run(store.list_session_summaries(PROJECT))[0]["data"]
    assert again["first_prompt"] == "again"


def test_a_state_that_is_damaged_or_not_ours_hinders_no_list(store):
    """The state is open to all; what is kept there only saves reading."""
    run(store.append(KEY, claude_records(0, 3)))
    chat = store.conversation(KEY)
    for odd in (7, {}, {"file": 1, "seq": 2, "upto": "x", "data": []}):
        chat.update_state({SUMMARY: odd})
        assert run(store.list_session_summaries(PROJECT))[0]["data"] == folded(claude_records(0, 3))
    chat.update_state({"own": 1})
    (place,) = [path for path in Path(chat.path).parent.rglob("*state*") if path.is_file()]
    place.write_bytes(b"garbage")
    assert run(store.list_session_summaries(PROJECT))[0]["data"] == folded(claude_records(0, 3))


LISTER = """
import asyncio
from convmem import Archive
from convmem.adapters.claude_agent_sdk import ConvmemSessionStore
from transcripts_made import claude_record
root, project, session, number = sys.argv[1:]
key = {"project_key": project, "session_id": session}

async def work(store):
    for nth in range(40):
        await store.append(key, [claude_record(nth, of=10 + int(number), says=f"{number} {nth}")])
        if nth % 4 == 0:
            await store.list_session_summaries(project)

with Archive.open(root) as archive:
    ready()
    asyncio.run(work(ConvmemSessionStore(archive)))
"""


def test_a_summary_is_right_after_many_have_appended_and_listed_at_once(store, archive, tmp_path):
    """Read, fold and write by four processes: no update may be lost, none told twice."""
    with_path = "import sys; sys.path.insert(0, sys.argv.pop(1))\n" + LISTER
    together(with_path, HOUSE / "tests", tmp_path / "archive", PROJECT, KEY["session_id"])
    entries = run(store.load(KEY))
    assert len(entries) == 160
    assert run(store.list_session_summaries(PROJECT))[0]["data"] == folded(entries)


# --- deleting -------------------------------------------------------------------------------------


def test_deleting_takes_the_sub_agents_along_and_the_trash_keeps_all(store, archive):
    """And a session of the same uuids may come again, as when it is imported anew."""
    other = {**KEY, "session_id": KEY["session_id"] + "0"}
    for key in (KEY, AGENT, {**KEY, "subpath": "x/y"}, other):
        run(store.append(key, claude_records(0, 2)))
    assert run(store.list_subkeys(KEY)) == ["subagents/agent-a1b2", "x/y"]
    run(store.delete({**KEY, "subpath": "x/y"}))
    assert run(store.list_subkeys(KEY)) == ["subagents/agent-a1b2"]
    run(store.delete(KEY))
    run(store.delete(KEY))
    assert [run(store.load(key)) for key in (KEY, AGENT)] == [None, None]
    assert run(store.load(other)) == claude_records(0, 2)
    assert len(archive.trash()) == 3
    run(store.append(KEY, claude_records(0, 2)))
    assert run(store.load(KEY)) == claude_records(0, 2)
    store.conversation(AGENT).restore()
    assert run(store.list_subkeys(KEY)) == ["subagents/agent-a1b2"]


# --- crowds and crashes ---------------------------------------------------------------------------

WRITER = """
import asyncio
from convmem import Archive
from convmem.adapters.claude_agent_sdk import ConvmemSessionStore
root, project, session, number = sys.argv[1:]
key = {"project_key": project, "session_id": session}

async def work(store):
    for nth in range(100):
        mine = {"type": "user", "uuid": f"{number}-{nth}", "message": {"content": f"{nth}"}}
        shared = {"type": "user", "uuid": f"shared-{nth}", "message": {"content": "the same"}}
        await store.append(key, [mine, {"type": "tag", "tag": f"{number}-{nth}"}, shared])
        tell(nth)

with Archive.open(root) as archive:
    ready()
    asyncio.run(work(ConvmemSessionStore(archive)))
"""


def test_four_processes_on_one_session_lose_and_double_nothing(store, tmp_path):
    """A session that was opened twice; entries that all of them mirror are stored once."""
    together(WRITER, tmp_path / "archive", PROJECT, KEY["session_id"])
    entries = run(store.load(KEY))
    uuids = [each["uuid"] for each in entries if "uuid" in each]
    assert len(uuids) == len(set(uuids)) == 500
    assert len(entries) == 900
    for number in range(4):
        mine = [each for each in uuids if each.startswith(f"{number}-")]
        assert mine == [f"{number}-{nth}" for nth in range(100)]


def test_what_was_answered_is_there_after_a_kill_and_a_retry_doubles_nothing(store, tmp_path):
    """The batch in flight is there whole or not at all; the summary follows what is there."""
    answered = killed(WRITER, tmp_path / "archive", PROJECT, KEY["session_id"], after=30)
    entries = run(store.load(KEY))
    assert len(entries) % 3 == 0
    assert len(entries) // 3 in (len(answered), len(answered) + 1)
    assert run(store.list_session_summaries(PROJECT))[0]["data"] == folded(entries)
    run(store.append(KEY, [each for each in entries if "uuid" in each]))
    assert run(store.load(KEY)) == entries


def test_damage_costs_its_own_entry_and_no_other(store, archive):
    """Claude Code's own files end at the first bad line."""
    run(store.append(KEY, claude_records(0, 10)))
    with_hole = [each for nth, each in enumerate(claude_records(0, 10)) if nth != 4]
    tear(store.conversation(KEY).path, at_line=4)
    assert run(store.load(KEY)) == with_hole
    run(store.append(KEY, claude_records(4, 12)))
    loaded = run(store.load(KEY))
    assert loaded == [*with_hole, claude_record(4), *claude_records(10, 12)]
    assert len(run(store.list_sessions(PROJECT))) == 1
    assert run(store.list_session_summaries(PROJECT))[0]["data"] == folded(loaded)


def test_a_closed_archive_is_an_error_everywhere(tmp_path):
    """An answer would say that it is safe."""
    archive = Archive.open(tmp_path)
    store = ConvmemSessionStore(archive)
    run(store.append(KEY, claude_records(0, 1)))
    archive.close()
    for call in (
        lambda: store.append(KEY, claude_records(0, 1)),
        lambda: store.load(KEY),
        lambda: store.list_sessions(PROJECT),
        lambda: store.list_session_summaries(PROJECT),
        lambda: store.delete(KEY),
        lambda: store.list_subkeys(KEY),
    ):
        with pytest.raises(UsageError):
            run(call())


def test_an_append_that_is_cancelled_is_settled_first(store):
    """The SDK gives up after a while; what it takes for lost must not appear later."""
    chat = store.conversation(KEY)

    async def cancelled(nth):
        task = asyncio.create_task(store.append(KEY, claude_records(10 * nth, 10 * nth + 10)))
        for _ in range(nth % 3):
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return chat.describe().last_seq if chat.exists() else 0

    for nth in range(12):
        stored = run(cancelled(nth))
        assert stored % 10 == 0
        assert stored == (chat.describe().last_seq if chat.exists() else 0)
