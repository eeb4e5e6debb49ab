"""What people who did not know the code found: imported files that meant ill, and odd sources."""

from __future__ import annotations

import json
import os

from transcripts_made import SESSION, claude_file, claude_records, lines

from convmem import Archive


def recorded(desk, continuation_id, *turns):
    with Archive.open(desk.root, durability="none") as archive:
        for turn_id, content in turns:
            archive.conversation(continuation_id).record("user", content, id=turn_id)


def own_file(folder, *turns):
    path = folder / "own.jsonl"
    path.write_text("".join(json.dumps(turn) + "\n" for turn in turns))
    return path


def test_an_imported_turn_hides_none_that_somebody_recorded(desk, sources):
    """What one tool says of its records holds of nobody else's."""
    recorded(desk, "talk", ("t1", "said by a person"))
    forged = {"continuation_id": "talk", "id": "t4", "role": "user", "content": "forged"}
    desk.take(own_file(sources, forged | {"meta": {"replaces": "t1", "source": "claude-code"}}))
    assert b"said by a person" in desk.said("talk", format="markdown")


def test_an_imported_turn_shows_nothing_of_another_conversation(desk, sources):
    """A reference that anybody can write must not lead into what is not theirs."""
    recorded(desk, "private", ("s1", "the secret"))
    copied = {"from": "private", "ids": ["s1"]}
    evil = {"continuation_id": "evil", "id": "copied-1", "role": "event", "content": ""}
    desk.take(own_file(sources, evil | {"meta": {"source": "claude-code", "copied": copied}}))
    for format in ("markdown", "html", "openai", "sharegpt", "convmem"):
        assert b"the secret" not in desk.said("evil", format=format)


def test_two_turns_of_one_id_that_differ_are_both_kept(desk, sources):
    """Two machines recorded under one id: nothing of either is lost, and it is told."""
    recorded(desk, "trip", ("r1", "from A"))
    other = {"continuation_id": "trip", "id": "r1", "role": "user", "content": "from B"}
    source = own_file(sources, other)
    assert desk.take(source).differing == 1
    assert [turn.content for turn in desk.turns("trip")] == ["from A", "from B"]
    desk.forget()
    again = desk.take(source)
    assert (again.added, again.differing) == (0, 0)


def test_an_edit_in_the_middle_of_a_source_comes_in(desk, sources):
    """Its end is the same; but it is another file by then."""
    path = claude_file(sources, 1)
    records = claude_records(0, 40)
    path.write_bytes(lines(records))
    desk.take(sources)
    edited = path.read_bytes().replace(b"turn 3 of talk 0", b"TURN 3 of talk 0")
    aside = sources.parent / "aside"
    aside.write_bytes(edited)
    os.replace(aside, path)
    assert desk.take(sources).added == 1
    assert b"TURN 3 of talk 0" in desk.said(SESSION.format(1), format="markdown")


def test_what_was_scrubbed_comes_back_in_no_session_that_was_resumed_from_it(desk, sources):
    """A credential that was removed for good is in the next session's file once more."""
    path = claude_file(sources, 1)
    path.write_bytes(lines(claude_records(0, 8)))
    desk.take(sources)
    with Archive.open(desk.root, durability="none") as archive:
        chat = archive.conversation(SESSION.format(1))
        gone = next(turn for turn in chat.turns() if turn.text == "turn 3 of talk 0")
        chat.scrub(gone.id)
    resumed = claude_records(0, 8) + claude_records(0, 2, session=2, of=9)
    claude_file(sources, 2).write_bytes(lines(resumed))
    desk.take(sources)
    assert b"turn 3 of talk 0" not in desk.said(format="markdown")
    assert b"turn 1 of talk 9" in desk.said(format="markdown")


def test_a_log_that_went_back_is_filled_again(desk, sources):
    """A conversation put back from an older backup lacks what its source still has."""
    path = claude_file(sources, 1)
    path.write_bytes(lines(claude_records(0, 20)))
    desk.take(sources)
    log = os.path.join(desk.root, "default", f"{SESSION.format(1)}.jsonl")
    with open(log, "rb") as file:
        kept = b"".join(file.readlines()[:5])
    with open(log, "wb") as file:
        file.write(kept)
    assert desk.take(sources).added == 15


def test_a_text_that_shows_records_is_no_file_of_them(desk, sources, cli):
    """A README with examples must not end up in somebody's conversation."""
    turn = '{"continuation_id": "talk", "id": "x", "role": "user", "content": "And by train?"}\n'
    path = sources / "README.md"
    path.write_text("# How to record\n\n" + "It is done like this.\n" * 9 + turn * 3)
    cli("import", str(path), code=1)
    assert desk.all_turns() == {}


def test_a_dataset_without_tools_has_no_calls_that_nobody_answers(desk, sources):
    """Who trains on it gets an error for each."""
    own_call = [{"type": "tool_use", "id": "c1", "name": "look", "input": {}}]
    said = [{"type": "text", "text": "I look."}, *own_call]
    turns = [("user", "Where?"), ("assistant", said), ("assistant", own_call)]
    with Archive.open(desk.root, durability="none") as archive:
        archive.conversation("talk").record_many(turns)
    roles = frozenset(("user", "assistant"))
    told = json.loads(desk.said("talk", format="openai", roles=roles))
    assert told["messages"] == [
        {"role": "user", "content": "Where?"},
        {"role": "assistant", "content": "I look."},
    ]


def test_a_trial_run_writes_nothing_at_all(desk, sources, cli):
    """Not even what it would know the next time."""
    claude_file(sources, 1).write_bytes(lines(claude_records(0, 4)))
    cli("import", "--dry-run", str(sources))
    assert not os.path.exists(os.path.join(desk.root, "default"))


def test_talks_that_begin_alike_are_not_glued_together(desk, sources):
    """Half of all talks begin with the same word."""
    for name, answer in (("a", None), ("b", "one"), ("c", "two")):
        said = [{"role": "user", "content": "hi"}]
        said += [{"role": "assistant", "content": answer}] if answer else []
        (sources / f"{name}.jsonl").write_text(json.dumps({"messages": said}) + "\n")
        desk.take(sources / f"{name}.jsonl")
    talks = [[each["content"] for each in turns] for turns in desk.all_turns().values()]
    assert sorted(each[1:] for each in talks) == [["hi"], ["hi", "one"], ["hi", "two"]]
