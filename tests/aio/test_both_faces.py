"""What an archive promises, held against both of its faces: one engine, one set of promises."""

from __future__ import annotations

import errno
import inspect
import json
import os
import threading
import typing
from datetime import UTC, datetime, timedelta

import pytest
from faces import Opener

import convmem
from convmem import (
    Archive,
    Conversation,
    ConversationNotFound,
    ConvmemError,
    Cursor,
    Durability,
    DurabilityUnknown,
    InvalidContinuationId,
    InvalidTurn,
    LockTimeout,
    Observer,
    RetentionPolicy,
    StorageFull,
    Turn,
    TurnConflict,
    TurnList,
    UsageError,
    aio,
)
from convmem.log import append, durability

NOON = datetime(2026, 1, 2, 12, 0, tzinfo=UTC)


@pytest.fixture(params=["sync", "async"])
def opened(request):
    """Open archives with the face that this run is about."""
    opener = Opener(request.param)
    yield opener
    opener.close()


@pytest.fixture
def archive(opened, root):
    """An archive for this test alone."""
    return opened(root)


@pytest.fixture
def chat(archive):
    """A conversation that is not there yet."""
    return archive.conversation("trip")


@pytest.fixture
def told(chat):
    """A conversation of ten turns."""
    chat.record_many([("user" if at % 2 else "assistant", f"turn {at}") for at in range(1, 11)])
    return chat


def said(turns):
    """Return what turns say."""
    return [turn.content for turn in turns]


# --- that the faces are twins ------------------------------------------------------------------

# Not for programs: what the command line reads, and what another method is made of.
_INNER = {"stored_tail", "stored_tail_and_cursor", "stored_turns"}
_OWN = {"run", "look", "of", "archive", "sync", "aclose"}


def _public(kind):
    return {
        name: member
        for name, member in inspect.getmembers(kind)
        if not name.startswith("_") and name not in _INNER
    }


@pytest.mark.parametrize("sync, other", [(Archive, aio.Archive), (Conversation, aio.Conversation)])
def test_every_name_has_its_twin_with_the_same_parameters(sync, other):
    """A face that lags behind is a second API to learn."""
    ours, theirs = _public(sync), _public(other)
    assert set(theirs) - set(ours) <= _OWN
    for name, member in ours.items():
        if isinstance(member, property) or not callable(member):
            assert name in theirs, name
            continue
        mine = inspect.signature(member).parameters
        twin = dict(inspect.signature(theirs[name]).parameters)
        if name == "open":
            assert twin.pop("threads").default >= 1
        assert list(mine.values()) == list(twin.values()), name


@pytest.mark.parametrize("sync, other", [(Archive, aio.Archive), (Conversation, aio.Conversation)])
def test_every_twin_is_awaited_or_iterated_and_answers_the_same(sync, other):
    """A method that is called in the loop must not do the work there."""
    for name, member in _public(sync).items():
        twin = getattr(other, name)
        if not inspect.isfunction(member) or name in ("conversation",):
            continue
        returns = inspect.get_annotations(member)["return"]
        now = inspect.get_annotations(twin)["return"]
        if returns.startswith("Iterator["):
            assert now == "Stream" + returns.removeprefix("Iterator")
        else:
            assert now == returns
            assert inspect.iscoroutinefunction(twin) or name == "follow", name
        assert inspect.getdoc(twin)


def test_following_has_its_twin():
    """Where to go on from is asked of both in the same way."""
    names = {name for name in vars(convmem.conversation.Following) if not name.startswith("_")}
    assert names - set(vars(aio.Following)) == {"stored", "close", "at_hand", "rest"}


# --- recording ---------------------------------------------------------------------------------


def test_a_turn_comes_back_as_it_was_stored(chat):
    """The answer is what any reader will see."""
    turn = chat.record("user", "Oslo?", id="q", meta={"a": 1}, ts=NOON, raw={"deep": [1]})
    assert isinstance(turn, Turn)
    assert (turn.seq, turn.id, turn.ts, turn.meta) == (1, "q", NOON, {"a": 1})
    assert turn.extra == {"raw": {"deep": [1]}}
    assert chat.tail(1) == [turn]


def test_turns_are_numbered_in_the_order_of_the_calls(chat):
    """A conversation out of order is another conversation."""
    assert [chat.record("user", str(at)).seq for at in range(5)] == [1, 2, 3, 4, 5]


def test_a_retry_is_stored_once_and_answered_with_the_first(chat):
    """A client that lost the answer must be able to ask again."""
    first = chat.record("user", "pay", id="once")
    chat.record("assistant", "paid")
    assert chat.record("user", "pay", id="once") == first
    assert said(chat.tail()) == ["pay", "paid"]


def test_another_turn_of_the_same_id_is_a_conflict(chat):
    """Whoever comes second must learn that what it said is not there."""
    chat.record("user", "left", id="way")
    with pytest.raises(TurnConflict) as caught:
        chat.record("user", "right", id="way")
    assert (caught.value.turn_id, caught.value.seq, caught.value.kind) == ("way", 1, "conflict")
    assert said(chat.tail()) == ["left"]


@pytest.mark.parametrize(
    "role, content, more",
    [
        ("", "x", {}),
        ("user", float("nan"), {}),
        ("user", {1: 2}, {}),
        ("user", "x", {"id": ""}),
        ("user", "x", {"ts": datetime(2026, 1, 1)}),
        ("user", "x", {"meta": [1]}),
        ("user", "x", {"_own": 1}),
        ("user", "\ud800", {}),
        (None, "x", {}),
    ],
)
def test_what_cannot_be_stored_is_refused_before_anything_is(chat, role, content, more):
    """A log never holds what its writer did not mean."""
    with pytest.raises(InvalidTurn):
        chat.record(role, content, **more)
    assert not chat.exists()


def test_a_batch_is_stored_whole(chat):
    """A question and its answer belong together."""
    turns = chat.record_many([("user", "a"), {"role": "assistant", "content": "b", "id": "b"}])
    assert [(turn.seq, turn.content) for turn in turns] == [(1, "a"), (2, "b")]
    assert chat.tail() == turns


def test_a_batch_may_be_any_iterable_and_an_empty_one_stores_nothing(chat):
    """A generator that finds nothing is no error."""
    assert chat.record_many([]) == []
    assert not chat.exists()
    assert said(chat.record_many(("user", str(at)) for at in range(3))) == ["0", "1", "2"]


def test_a_conflict_keeps_the_whole_batch_out(chat):
    """Half a batch is what a batch is there to prevent."""
    chat.record("user", "first", id="taken")
    with pytest.raises(TurnConflict):
        chat.record_many([("user", "new"), {"role": "user", "content": "x", "id": "taken"}])
    assert said(chat.tail()) == ["first"]


def test_a_turn_of_a_batch_that_cannot_be_stored_is_named(chat):
    """Of two hundred turns, which?"""
    with pytest.raises(InvalidTurn, match="turn 1: "):
        chat.record_many([("user", "fine"), ("user", float("inf"))])
    assert not chat.exists()


def test_an_error_of_the_callers_iterable_is_the_callers(chat):
    """What a generator raises is not dressed up as something else."""

    def broken():
        yield ("user", "a")
        raise LookupError("no more")

    with pytest.raises(LookupError, match="no more"):
        chat.record_many(broken())
    assert not chat.exists()


def test_many_conversations_at_once_each_for_itself(archive):
    """What cannot be stored does not stop the others."""
    answers = archive.record_to_many(
        [("a", ("user", "1")), ("", ("user", "2")), ("b", ("user", {3})), ("a", ("user", "4"))]
    )
    assert [type(each) for each in answers] == [Turn, InvalidContinuationId, InvalidTurn, Turn]
    assert [answers[0].seq, answers[3].seq] == [1, 2]


def test_lines_are_recorded_as_they_come(archive, chat):
    """The fast way in is there, too."""
    done = archive.record_lines([b'{"role":"user","content":"a"}', b"nonsense"], "trip")
    assert len(done.failures) == 1
    assert said(chat.tail()) == ["a"]


def test_calls_that_are_made_together_keep_their_order(opened, root):
    """What one wrote first stands first, though all is written at once."""
    archive = opened(root)
    chat = archive.conversation("trip")
    calls = [_call(opened, chat, "record", "user", str(at)) for at in range(300)]
    answers = opened.together(calls)
    assert [turn.seq for turn in answers] == list(range(1, 301))
    assert said(chat.tail(300)) == [str(at) for at in range(300)]


def _call(opened, chat, name, *given, **named):
    inner = chat if opened.face == "sync" else chat._inner
    return lambda: getattr(inner, name)(*given, **named)


def test_calls_that_are_made_together_are_answered_each_as_if_alone(opened, root):
    """A neighbour's mistake is not ours, and a batch among single turns stays whole."""
    chat = opened(root).conversation("trip")
    make = [
        ("record", ("user", "a"), {"id": "1"}),
        ("record", ("user", {1}), {}),
        ("record_many", ([("user", "b"), ("user", "c")],), {}),
        ("record", ("user", "other"), {"id": "1"}),
        ("record_many", ([("user", "d"), {"role": "user", "content": "e", "id": "1"}],), {}),
        ("record_many", ([],), {}),
        ("record", ("user", "a"), {"id": "1"}),
        ("record", ("user", "f"), {"critical": True}),
        ("record", ("user", "g"), {}),
    ]
    first = chat.record("user", "0")
    answers = opened.together([_call(opened, chat, name, *a, **k) for name, a, k in make])
    kinds = [type(each) for each in answers]
    assert kinds == [Turn, InvalidTurn, list, TurnConflict, TurnConflict, list, Turn, Turn, Turn]
    assert answers[6] == answers[0]
    assert (answers[3].turn_id, answers[3].seq) == ("1", 2)
    assert answers[5] == []
    assert said(chat.tail()) == ["0", "a", "b", "c", "f", "g"]
    stored = [first, answers[0], *answers[2], answers[7], answers[8]]
    assert chat.tail() == stored


def test_a_full_disk_refuses_a_turn_and_leaves_all_as_it_was(opened, root, monkeypatch):
    """The log works again as soon as there is room."""
    chat = opened(root).conversation("trip")
    chat.record("user", "before")
    with monkeypatch.context() as patch:
        patch.setattr(append, "write_all", _full_after(10))
        with pytest.raises(StorageFull) as caught:
            chat.record("user", "lost")
        with pytest.raises(StorageFull):
            chat.record_many([("user", "lost"), ("user", "too")])
    assert (list(caught.value.stored), caught.value.errno) == ([], errno.ENOSPC)
    assert chat.record("user", "after").seq == 2
    assert said(chat.tail()) == ["before", "after"]


def test_a_disk_that_fills_up_among_many_calls_tells_each_its_own(opened, root, monkeypatch):
    """Of turns that went together, those that were kept are answered, the others refused."""
    chat = opened(root).conversation("trip")
    chat.record("user", "before")
    left = [3]

    def filling(fd, data):
        lines = data.splitlines(keepends=True)
        fits = lines[: left[0]]
        left[0] -= len(fits)
        os.write(fd, b"".join(fits))
        if len(fits) < len(lines):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(append, "write_all", filling)
    answers = opened.together([_call(opened, chat, "record", "user", str(at)) for at in range(6)])
    kept = [each for each in answers if isinstance(each, Turn)]
    refused = answers[len(kept) :]
    assert said(kept) == ["0", "1", "2"]
    assert all(type(each) is StorageFull and not each.stored for each in refused)
    assert len({id(each) for each in refused}) == len(refused)
    assert chat.tail(3) == kept


def _full_after(count):
    def write(fd, data):
        os.write(fd, data[:count])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return write


def test_a_failed_sync_is_told_to_all_who_wait_for_it(opened, root, monkeypatch):
    """Nobody may take for durable what nobody knows to be."""
    chat = opened(root, durability="always").conversation("trip")
    chat.record("user", "before")

    def fail(fd):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(durability, "sync_data", fail)
    calls = [_call(opened, chat, "record", "user", "x", id=str(at)) for at in range(3)]
    answers = opened.together(calls)
    assert [type(each) for each in answers] == [DurabilityUnknown] * 3
    assert list(answers[0].ids) == ["0"]
    monkeypatch.undo()
    with pytest.raises(DurabilityUnknown, match="earlier sync failed"):
        chat.record("user", "after")


def test_durability_is_the_conversations_own_and_critical_is_above_it(opened, root, monkeypatch):
    """What must not be lost costs a sync, and only that."""
    synced = []
    monkeypatch.setattr(durability, "sync_data", synced.append)
    archive = opened(root, durability="none")
    archive.conversation("trip").record("user", "a")
    assert synced == []
    archive.conversation("trip").record("user", "b", critical=True)
    assert len(synced) == 1
    archive.conversation("trip").record_many([("user", "c")], critical=True)
    assert len(synced) == 2
    archive.conversation("trip", durability="always").record("user", "d")
    assert len(synced) == 3


def test_what_waits_under_interval_is_synced_by_flush_and_by_close(opened, root, monkeypatch):
    """The promise of `interval` does not depend on who keeps it."""
    synced = []
    monkeypatch.setattr(durability, "sync_data", synced.append)
    archive = opened(root, durability=Durability.interval(turns=100, seconds=1000))
    archive.conversation("trip").record("user", "a")
    assert synced == []
    archive.flush()
    assert len(synced) == 1
    archive.conversation("trip").record("user", "b")
    archive.close()
    assert len(synced) == 2


def test_a_held_lock_ends_in_an_error_and_nothing_is_stored(opened, root):
    """A writer that waits for ever is worse than one that says so."""
    archive = opened(root, lock_timeout_seconds=0.05)
    chat = archive.conversation("trip")
    chat.record("user", "a")
    with Archive.open(root) as other:
        log = other._store._places.log("default", "trip")
        log._acquire(1)
        try:
            with pytest.raises(LockTimeout):
                chat.record("user", "b")
        finally:
            log.unlock()
    assert said(chat.tail()) == ["a"]


# --- reading -----------------------------------------------------------------------------------


def test_the_tail_is_the_newest_oldest_first(told):
    """What a model is shown."""
    found = told.tail(3)
    assert isinstance(found, TurnList)
    assert said(found) == ["turn 8", "turn 9", "turn 10"]
    assert said(told.tail(2, roles=["user"])) == ["turn 7", "turn 9"]
    assert told.tail(0) == []
    with pytest.raises(UsageError):
        told.tail(-1)


def test_damage_is_passed_over_counted_and_told(opened, root, log):
    """A bad sector costs the turns that stood there, and no others."""
    seen = []

    class Watching(Observer):
        def damaged(self, continuation_id, damage):
            seen.append((continuation_id, threading.get_ident()))

    chat = opened(root, observer=Watching()).conversation("trip")
    chat.record_many([("user", str(at)) for at in range(3)])
    lines = log().read_bytes().splitlines(keepends=True)
    log().write_bytes(lines[0] + b"garbage\n" + lines[2])
    found = chat.tail()
    assert (said(found), found.damaged) == (["0", "2"], 1)
    heard = []
    assert said(chat.turns(on_damage=heard.append)) == ["0", "2"]
    assert len(heard) == 1
    assert [each[0] for each in seen] == ["trip"]


def test_turns_come_in_order_and_through_filters(told):
    """A reader that goes through all of it needs one line."""
    assert said(told.turns()) == [f"turn {at}" for at in range(1, 11)]
    assert said(told.turns(after=8)) == ["turn 9", "turn 10"]
    assert said(told.turns(roles=["assistant"], after=5)) == ["turn 6", "turn 8", "turn 10"]
    assert said(told.turns(after=told.cursor())) == []


def test_turns_of_many_blocks_are_all_there(chat):
    """Where a block ends is nobody's business."""
    chat.record_many([("user", str(at) + "x" * 3000) for at in range(1500)])
    assert [int(turn.content.rstrip("x")) for turn in chat.turns()] == list(range(1500))


def test_turns_are_bounded_by_times(chat):
    """From a day to another."""
    for hour in range(4):
        chat.record("user", str(hour), ts=NOON + timedelta(hours=hour))
    since, until = NOON + timedelta(hours=1), NOON + timedelta(hours=3)
    assert said(chat.turns(since=since, until=until)) == ["1", "2"]
    assert said(chat.tail(10, since=since, until=until)) == ["1", "2"]
    with pytest.raises(UsageError, match="time zone"):
        list(chat.turns(since=datetime(2026, 1, 1)))


def test_what_is_not_there_is_told_from_what_is_empty(archive, chat):
    """An id with a typing error must not look like a new conversation."""
    for call in (chat.tail, chat.cursor, chat.describe, chat.verify, chat.delete):
        with pytest.raises(ConversationNotFound, match="'trip'"):
            call()
    with pytest.raises(ConversationNotFound):
        list(chat.turns())
    with pytest.raises(ConversationNotFound):
        chat.context(max_turns=1)
    assert not chat.exists()
    assert chat.state() == {}


def test_nothing_can_have_an_impossible_id(archive):
    """Said at once, and not with the first turn."""
    for name in ("", "a\0b", "x" * 2000, "\ud800"):
        with pytest.raises(InvalidContinuationId):
            archive.conversation(name)
    with pytest.raises(InvalidContinuationId):
        archive.conversation("fine", namespace="")


def test_a_description_says_what_a_list_shows(told, log):
    """Without reading it whole."""
    found = told.describe(count=True)
    assert (found.turns, found.last_seq) == (10, 10)
    assert found.bytes == log().stat().st_size
    assert told.path == str(log())
    assert told.exists()


def test_hostile_names_stay_apart_and_inside(archive, root, tmp_path):
    """A tenant's id is a stranger's text."""
    names = ["../x", "a/b", "a%2Fb", "A", "a", ".", "..", "con", "x" * 900, "é", "e\u0301"]
    for name in names:
        archive.conversation(name, namespace="ten/ant").record("user", name)
    for name in names:
        assert said(archive.conversation(name, namespace="ten/ant").tail()) == [name]
    assert {chat.continuation_id for chat in archive.conversations(namespace="ten/ant")} == {*names}
    assert archive.namespaces() == ["ten/ant"]
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


# --- following ---------------------------------------------------------------------------------


def test_a_follower_gets_what_is_there_and_what_comes(told, root):
    """Once, in order, whoever wrote it."""
    following = told.follow(idle_timeout=20)
    seen = [next(following) for _ in range(10)]
    with Archive.open(root) as other:
        other.conversation("trip").record("user", "from elsewhere")
    seen.append(next(following))
    told.record("user", "from here")
    seen.append(next(following))
    assert [turn.seq for turn in seen] == list(range(1, 13))
    assert following.cursor == told.cursor()
    assert (following.missed, following.diverged) == (0, 0)
    following.close()
    assert list(following) == []


def test_a_follower_ends_when_nothing_comes(told):
    """A program that waits must be able to stop waiting."""
    assert said(told.follow(after=8, idle_timeout=0.05)) == ["turn 9", "turn 10"]
    assert said(told.follow(after=told.cursor(), idle_timeout=0.0)) == []


def test_a_follower_goes_on_from_its_cursor(told):
    """A restart neither repeats nor leaves out."""
    first = told.follow(idle_timeout=0.05)
    assert [next(first).seq for _ in range(4)] == [1, 2, 3, 4]
    text = str(first.cursor)
    assert Cursor.parse(text).seq == 4
    first.close()
    assert [turn.seq for turn in told.follow(after=text, idle_timeout=0.05)] == [*range(5, 11)]
    assert [turn.seq for turn in told.follow(after=first.cursor, idle_timeout=0.0)] == [
        *range(5, 11)
    ]


def test_a_follower_with_roles_counts_what_it_passes_over_in_its_cursor(told):
    """Whoever wants answers only must not read the questions again."""
    following = told.follow(roles=["user"], idle_timeout=0.05)
    assert [next(following).seq for _ in range(2)] == [1, 3]
    assert following.cursor.seq == 3
    assert [turn.seq for turn in following] == [5, 7, 9]


def test_a_follower_waits_for_a_conversation_that_is_not_there_yet(archive, chat):
    """A watcher may be there first."""
    following = chat.follow(idle_timeout=20)
    chat.record("user", "first of all")
    assert next(following).content == "first of all"


def test_a_follower_survives_compaction_and_counts_what_it_missed(told):
    """Old turns go while somebody reads."""
    following = told.follow(idle_timeout=0.05)
    assert next(following).seq == 1
    following.attach()
    told.compact(RetentionPolicy(keep_last=2))
    told.record("user", "new")
    rest = [turn.seq for turn in following]
    assert rest[-3:] == [9, 10, 11]
    assert 1 + len(rest) + following.missed == 11


def test_a_follower_begins_again_where_the_log_was_made_anew(told, log):
    """Another conversation under the old name is told from more of the same."""
    following = told.follow(idle_timeout=0.05)
    assert len([next(following) for _ in range(10)]) == 10
    log().unlink()
    told.record("user", "another life")
    lines = log().read_bytes()
    log().unlink()
    log().write_bytes(lines.replace(b'"seq":11', b'"seq":1').split(b',"_c"')[0] + b"}\n")
    assert len(list(following)) == 1
    assert following.diverged == 1


def test_a_cursor_that_is_none_is_refused_at_once(told):
    """Starting over by mistake would repeat everything."""
    with pytest.raises(UsageError, match="not a cursor"):
        told.follow(after="yesterday")


# --- state and context -------------------------------------------------------------------------


def test_state_is_merged_by_key_and_goes_by_key(chat):
    """Beside the turns, and never among them."""
    assert chat.update_state({"session": "s", "n": 1}) == {"session": "s", "n": 1}
    assert chat.update_state({"n": None, "deep": {"a": [1]}}) == {
        "session": "s",
        "deep": {"a": [1]},
    }
    assert chat.state() == {"session": "s", "deep": {"a": [1]}}
    assert chat.update_state({"session": "s"}, ttl=0) == {"deep": {"a": [1]}}
    assert chat.clear_state() is True
    assert chat.clear_state() is False
    assert chat.state() == {}


def test_state_that_cannot_be_kept_is_refused_whole(chat):
    """A half-changed state is nobody's."""
    chat.update_state({"a": 1})
    for changes in ({"b": 2, "_c": 3}, {"b": {1}}, {"b": float("nan")}):
        with pytest.raises(UsageError):
            chat.update_state(changes)
    assert chat.state() == {"a": 1}


def test_a_context_fits_its_budget(told):
    """What a model is given never breaks its limit."""
    window = told.context(max_turns=3, pinned="Be brief.")
    assert [each["content"] for each in window.as_messages()][-3:] == [
        "turn 8",
        "turn 9",
        "turn 10",
    ]
    assert told.context(max_tokens=30).tokens <= 30
    with pytest.raises(UsageError):
        told.context()


def test_a_context_recalls_what_fits_the_query(chat):
    """What was said long ago, and matters now."""
    chat.record("user", "my passport number is in the blue folder")
    chat.record_many([("user", f"small talk {at}") for at in range(30)])
    window = chat.context(max_turns=2, query="passport", recall_tokens=200)
    assert [found.turn.seq for found in window.recalled] == [1]


# --- finding -----------------------------------------------------------------------------------


def test_search_finds_what_was_just_said(archive, told):
    """Never stale."""
    told.record("user", "the aquavit was excellent")
    page = archive.search("aquavit")
    assert [(hit.continuation_id, hit.turn.seq) for hit in page] == [("trip", 11)]
    assert archive.index().turns == 11
    assert archive.drop_index() > 0
    assert len(archive.search("turn", limit=3)) == 3
    with pytest.raises(UsageError):
        archive.search("turn", limit=0)


def test_grep_finds_by_pattern_as_it_goes(archive, told):
    """No index is asked."""
    assert [hit.turn.seq for hit in archive.grep(r"turn [12]\b")] == [1, 2]
    assert [hit.turn.seq for hit in archive.grep("turn", max_per_conversation=1)] == [1]
    hits = archive.grep("turn", continuation_ids="trip")
    assert next(hits).turn.seq == 1
    hits.close()
    with pytest.raises(UsageError):
        list(archive.grep("("))
    with pytest.raises(ConversationNotFound):
        list(archive.grep("x", continuation_ids=["none"]))


def test_lists_and_figures_agree(archive, told):
    """What there is, for people and for programs."""
    archive.conversation("other").record("user", "hello")
    assert {each.continuation_id for each in archive.conversations()} == {"trip", "other"}
    assert {row.continuation_id: row.turns for row in archive.overview(count=True)} == {
        "trip": 10,
        "other": 1,
    }
    assert archive.stats().turns == 11
    assert archive.namespaces() == ["default"]
    assert list(archive.conversations(namespace="nobody")) == []
    assert "space" in {each["check"] for each in archive.health().as_dict()["checks"]}


def test_callbacks_are_told_and_their_errors_come_back(archive, told, root):
    """A function that is given is called, and what it raises is the caller's."""
    archive.conversation("bad").record("user", "x")
    path = archive.conversation("bad").path
    os.unlink(path)
    os.symlink("/nowhere", path)
    seen = []
    archive.stats(continuation_ids=["bad", "none"], failed=lambda name, error: seen.append(name))
    assert "none" in seen

    def broken(turns):
        raise LookupError("no summary today")

    with pytest.raises(LookupError, match="no summary"):
        told.compact(RetentionPolicy(keep_last=1), summarize=broken)
    assert len(told.tail(20)) == 10


# --- removing and bringing back ----------------------------------------------------------------


def test_compaction_drops_what_the_policy_does_not_keep(archive, told):
    """And says exactly what went."""
    assert told.compact(RetentionPolicy(keep_last=3), dry_run=True).dropped == 7
    assert len(told.tail(20)) == 10
    report = told.compact(RetentionPolicy(keep_last=3))
    assert (report.kept, report.dropped) == (3, 7)
    assert [turn.seq for turn in told.tail(20)] == [8, 9, 10]
    with pytest.raises(UsageError):
        told.compact(RetentionPolicy())


def test_a_summary_stands_in_the_place_of_what_went(told):
    """Written by the program's own function."""
    told.compact(
        RetentionPolicy(keep_last=1), summarize=lambda turns: f"{len(list(turns))} turns of talk"
    )
    assert said(told.tail(20)) == ["9 turns of talk", "turn 10"]


def test_what_was_compacted_comes_back(told):
    """Byte for byte, to its place."""
    before = told.tail(20)
    told.compact(RetentionPolicy(keep_last=1))
    told.restore()
    assert told.tail(20) == before


def test_a_deleted_conversation_is_in_the_trash_and_comes_back(archive, told):
    """Until the trash is purged."""
    told.update_state({"a": 1})
    removal = told.delete()
    assert removal.last_seq == 10
    assert not told.exists()
    assert told.state() == {}
    files = archive.trash()
    turns = [turn for file in files for turn in archive.trash_turns(file, on_damage=print)]
    assert len(turns) == 10
    told.restore()
    assert len(told.tail(20)) == 10
    assert told.state() == {"a": 1}
    told.delete()
    assert archive.purge_trash(timedelta(0))
    with pytest.raises(ConversationNotFound, match="in the trash"):
        told.restore()


def test_numbers_are_not_given_out_again_after_a_deletion(told):
    """A cursor from before must not fit what came after."""
    told.delete()
    assert told.record("user", "again").seq == 11


def test_single_turns_go_in_one_step(told):
    """Those that are there; the others are passed over."""
    ids = [turn.id for turn in told.tail(2)]
    gone = told.remove([*ids, "never there"])
    assert [turn.seq for turn in gone] == [9, 10]
    assert said(told.tail(1)) == ["turn 8"]
    assert told.remove(ids) == []


def test_turns_are_replaced_in_one_step(told):
    """Readers see the old or the new."""
    new = told.replace([("user", "shorter"), ("assistant", "yes")])
    assert [(turn.seq, turn.content) for turn in new] == [(11, "shorter"), (12, "yes")]
    assert told.tail(20) == new
    with pytest.raises(InvalidTurn):
        told.replace([{"role": "user", "content": "x", "id": "own"}])


def test_scrubbing_leaves_a_marker_and_nothing_of_what_was_said(told, log):
    """A person's right."""
    told.scrub(5)
    (turn,) = [turn for turn in told.turns() if turn.seq == 5]
    assert turn.content == ""
    assert "scrubbed" in turn.meta
    assert b'"turn 5"' not in log().read_bytes()


def test_the_keep_list_holds_for_both(archive, told, root):
    """A rule in a file binds whoever comes."""
    with open(os.path.join(root, "convmem.toml"), "w") as file:
        file.write('[[keep]]\nid = "trip"\n')
    with pytest.raises(UsageError, match="keep-list"):
        told.delete()
    assert told.exists()


def test_verify_finds_damage_and_repair_sets_it_aside(told, log):
    """A log that was harmed is put in order without a loss."""
    assert told.verify().findings == []
    lines = log().read_bytes().splitlines(keepends=True)
    log().write_bytes(b"".join([*lines[:4], b"garbage\n", *lines[4:]]))
    found = []
    assert len(told.verify(on_finding=found.append).findings) == len(found) > 0
    told.repair()
    assert told.verify().findings == []
    assert len(told.tail(20)) == 10


def test_a_compressed_conversation_reads_as_before(told):
    """Until the next append makes it plain."""
    pytest.importorskip("backports.zstd")
    told.record("user", "a long story " * 1000)
    before = told.tail(20)
    told.compress()
    assert told.path.endswith(".zst")
    assert told.tail(20) == before
    assert told.record("user", "more").seq == 12
    told.compress()
    told.uncompress()
    assert not told.path.endswith(".zst")


def test_what_an_import_may_not_bring_back_is_known(told):
    """Nothing was imported here, so nothing is buried."""
    assert told.unbury() == 0
    assert told.buried(["x"]) == set()


# --- opening and closing -----------------------------------------------------------------------


def test_opening_touches_no_disk(opened, root):
    """A program that only asks must not leave an archive behind."""
    archive = opened(root)
    archive.conversation("trip")
    assert list(archive.conversations()) == []
    assert not os.path.exists(root)


def test_an_archive_remembers(opened, root):
    """What is answered is there for the next who opens."""
    opened(root).conversation("trip").record("user", "a")
    assert said(opened(root).conversation("trip").tail()) == ["a"]


def test_a_closed_archive_refuses_everything(opened, root):
    """Work after the end is a mistake in the program, and is told as one."""
    archive = opened(root)
    chat = archive.conversation("trip")
    chat.record("user", "a")
    archive.close()
    archive.close()
    calls = [
        lambda: chat.record("user", "b"),
        lambda: chat.record_many([("user", "b")]),
        chat.tail,
        lambda: list(chat.turns()),
        chat.state,
        lambda: chat.update_state({"a": 1}),
        lambda: list(chat.follow(idle_timeout=0)),
        chat.delete,
        lambda: archive.search("a"),
        lambda: list(archive.grep("a")),
        lambda: list(archive.conversations()),
        archive.overview,
    ]
    for call in calls:
        with pytest.raises(UsageError, match="closed"):
            call()


def test_every_error_is_one_of_convmems(archive, chat):
    """One except clause is enough, and `kind` tells them apart."""
    with pytest.raises(ConvmemError) as caught:
        chat.tail()
    assert caught.value.kind == "not_found"
    assert "convmem list" in caught.value.hint


def test_namespaces_are_apart(opened, root):
    """A tenant sees its own."""
    archive = opened(root, namespace="a")
    archive.conversation("trip").record("user", "of a")
    other = archive.conversation("trip", namespace="b")
    other.record("user", "of b")
    assert (other.namespace, other.continuation_id) == ("b", "trip")
    assert said(other.tail()) == ["of b"]
    assert archive.namespaces() == ["a", "b"]
    assert [each.namespace for each in archive.conversations()] == ["a"]


def test_the_shell_reads_what_was_recorded(chat, cli):
    """One archive for programs and people."""
    chat.record("user", "from the program")
    assert cli("tail", "trip", "--json").contents == ["from the program"]
    cli("record", "trip", "from the shell")
    assert said(chat.tail()) == ["from the program", "from the shell"]


def test_type_hints_can_be_had_of_the_async_face():
    """Tools that build servers from signatures ask for them."""
    assert json.dumps(sorted(typing.get_type_hints(aio.Archive.close))) == '["return"]'
