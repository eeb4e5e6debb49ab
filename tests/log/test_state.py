"""State: a small document beside a conversation: merged by key, exact, expiring, never shown."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from convmem import (
    Archive,
    CorruptLog,
    LockTimeout,
    Observer,
    RetentionPolicy,
    StorageError,
    UsageError,
)
from convmem.ids import encode_name
from convmem.log import state
from convmem.log.files import Folder
from convmem.log.locks import SidecarLock

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
LONG_ID = "a trip to " + "far " * 100


@pytest.fixture
def chat(archive):
    return archive.conversation("trip")


@pytest.fixture
def file(root):
    """Where the state of the conversation is, or will be."""
    return Path(root, "default", ".state", "trip.json")


@pytest.fixture
def at_noon(chat, root):
    """The state as the log's floor sees it, where the time of day is given."""
    chat.update_state({"kept": "as it is"})
    folder = Folder.open(os.path.join(root, "default"))

    def update(changes, *, ttl=None, now=NOON):
        until = state.expiry(ttl, now)
        return state.State(folder, "trip").update(changes, until=until, now=now, timeout_seconds=5)

    update.read = lambda now: state.State(folder, "trip").read(now=now)
    yield update
    folder.close()


# --- merging ----------------------------------------------------------------------------------


def test_a_conversation_that_has_none_or_is_not_there_has_an_empty_state(chat, root):
    """Asking is not making: a look, an unset and a clear leave the disk as it was."""
    assert chat.state() == {}
    assert chat.update_state({"token": None}) == {}
    assert chat.update_state({}) == {}
    assert chat.clear_state() is False
    assert not os.path.exists(root)
    chat.record("user", "hello")
    assert chat.state() == {}
    assert chat.clear_state() is False


def test_keys_are_merged_and_none_removes_one(chat):
    """A19: None never overwrites by accident, it deletes; what is not named stays."""
    assert chat.update_state({"session": "abc", "token": "x"}) == {"session": "abc", "token": "x"}
    assert chat.update_state({"token": None, "n": 1}) == {"session": "abc", "n": 1}
    assert chat.update_state({"never": None}) == {"session": "abc", "n": 1}
    assert chat.state() == {"session": "abc", "n": 1}


def test_a_value_is_replaced_as_a_whole(chat):
    """Merging inside values would make it impossible to say what a value is."""
    chat.update_state({"cache": {"a": 1, "b": None}})
    assert chat.update_state({"cache": {"c": 2}}) == {"cache": {"c": 2}}


def test_it_survives_the_archive_being_opened_again(chat, root):
    """K20: what was learned is loaded, and not overwritten by whoever starts next."""
    chat.update_state({"session": "abc"})
    with Archive.open(root) as again:
        other = again.conversation("trip")
        assert other.state() == {"session": "abc"}
        other.record("user", "first message")
        assert other.update_state({"n": 1}) == {"session": "abc", "n": 1}
    assert chat.state() == {"session": "abc", "n": 1}


def test_what_is_returned_and_what_was_given_are_the_callers(chat):
    """Changing a returned object changes nothing stored, nor does changing what was passed in."""
    given = {"list": [1], "object": {"a": {}}}
    answer = chat.update_state(given)
    given["list"].append(2)
    answer["object"]["a"]["b"] = 3
    read = chat.state()
    read["list"].clear()
    assert chat.state() == {"list": [1], "object": {"a": {}}}


def test_removing_the_last_key_leaves_no_file(chat, file):
    """No state and an empty state are the same thing, on the disk too."""
    chat.update_state({"a": 1, "b": 2})
    assert chat.update_state({"a": None, "b": None}) == {}
    assert list(file.parent.iterdir()) == []


def test_clear_removes_all_of_it_and_says_whether_there_was_any(chat, file):
    """Whoever ends a session wants no token left behind."""
    chat.update_state({"token": "secret"})
    assert chat.clear_state() is True
    assert chat.state() == {}
    assert list(file.parent.iterdir()) == []
    assert chat.clear_state() is False


def test_namespaces_share_nothing(archive):
    """Two tenants may use one id."""
    ours = archive.conversation("trip", namespace="ours")
    theirs = archive.conversation("trip", namespace="theirs")
    ours.update_state({"token": "ours"})
    assert theirs.state() == {}
    theirs.update_state({"token": "theirs"})
    theirs.clear_state()
    assert ours.state() == {"token": "ours"}


# --- values -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "",
        'æ \U0001f600 \u2028 \x00 \x7f " \\ \n',
        0,
        -0.0,
        1.0,
        0.1,
        1e308,
        5e-324,
        2**53 + 1,
        10**40,
        -(2**63),
        True,
        False,
        [],
        {},
        [None, {"a": None}, [[]]],
        {"": 1, "_inner": 2, "_c": "x", "é": [1.5, "1.5"]},
    ],
    ids=ascii,
)
def test_any_json_value_comes_back_exactly(chat, root, value):
    """A cache token that was rounded or normalised is no token."""
    stored = chat.update_state({"value": value, "before": 1})
    with Archive.open(root) as again:
        read = again.conversation("trip").state()
    assert json.dumps(read) == json.dumps(stored) == json.dumps({"value": value, "before": 1})


def test_odd_keys_come_back_exactly(chat):
    """A key is any text; only what begins with an underscore is convmem's."""
    keys = ["a b", "æ", "a=b", "a:", "-", "\n", '"', "x" * 5000, "__class__"[2:], "role", "content"]
    chat.update_state(dict.fromkeys(keys, 1))
    assert list(chat.state()) == keys


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"a": float("nan")}, "a: nan is not a JSON number"),
        ({"a": [1, {"b": float("-inf")}]}, "a[1].b: -inf"),
        ({"a": "\ud800"}, "a: a lone surrogate"),
        ({"a": ["\udfff"]}, "a: a lone surrogate"),
        ({"\ud800": 1}, "lone surrogate"),
        ({"a": b"bytes"}, "a: bytes is not a JSON value"),
        ({"a": {1: "x"}}, "a: a key must be text, not int"),
        ({"a": NOON}, "a: datetime is not a JSON value"),
        ({"a": {1, 2}}, "a: set"),
        ({"a": object()}, "a: object"),
        ({"a": 10**5000}, "4,300 digits"),
        ({"_a": 1}, "reserved"),
        ({"_a": None}, "reserved"),
        ({"": 1}, "text that is not empty"),
        ({1: 1}, "text that is not empty"),
        ({None: 1}, "text that is not empty"),
        ([("a", 1)], "a JSON object, not list"),
        (None, "a JSON object, not NoneType"),
        ("a=1", "a JSON object, not str"),
    ],
    ids=range(19),
)
def test_what_cannot_be_stored_exactly_is_refused_whole(chat, file, root, changes, says):
    """S0a: a caller's bug is an error at the edge, not lost data; nothing of the call is stored."""
    with pytest.raises(UsageError) as refused:
        chat.update_state(changes)
    assert says in str(refused.value)
    assert not os.path.exists(root)
    chat.update_state({"kept": 1})
    before = file.read_bytes()
    if isinstance(changes, dict):
        changes = {"good": 2, **changes}
    with pytest.raises(UsageError):
        chat.update_state(changes)
    assert file.read_bytes() == before


def test_nesting_without_end_is_refused(chat, root):
    """What could not be read back must not be written."""
    deep = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(UsageError, match="nested too deeply"):
        chat.update_state({"deep": deep})
    assert not os.path.exists(root)


def test_more_than_a_mebibyte_is_refused_and_what_was_there_stays(chat, file):
    """A state is read whole each time; turns have a place of their own."""
    chat.update_state({"a": "x" * 600_000})
    before = file.read_bytes()
    with pytest.raises(UsageError, match="1,048,576 are allowed"):
        chat.update_state({"b": "x" * 600_000})
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["trip.json"]
    room = state.MAX_BYTES - len(before) - len(',"b":""')
    chat.update_state({"b": "x" * room})
    assert file.stat().st_size == state.MAX_BYTES
    assert len(chat.state()["b"]) == room
    with pytest.raises(UsageError):
        chat.update_state({"b": "x" * (room + 1)})


# --- expiry -----------------------------------------------------------------------------------


def test_what_has_expired_is_returned_to_nobody_and_leaves_the_file_with_the_next_write(
    at_noon, file
):
    """O3: expiry holds for every reader at once, not from the next clean-up on."""
    stored = at_noon({"token": "secret", "nonce": 1}, ttl=3600)
    assert stored == {"kept": "as it is", "token": "secret", "nonce": 1}
    assert at_noon.read(NOON + HOUR - timedelta(microseconds=1)) == stored
    for later in (HOUR, 2 * HOUR, 4000 * 24 * HOUR):
        assert at_noon.read(NOON + later) == {"kept": "as it is"}
    assert b"secret" in file.read_bytes()
    assert at_noon({"n": 1}, now=NOON + HOUR) == {"kept": "as it is", "n": 1}
    assert b"secret" not in file.read_bytes()
    assert b"_until" not in file.read_bytes()


def test_a_time_to_live_is_that_of_the_keys_in_the_call(at_noon):
    """Renewing one token must neither extend nor end the life of another."""
    at_noon({"a": 1, "b": 1, "c": 1}, ttl=3600)
    at_noon({"a": 2}, ttl=7200)
    at_noon({"b": 2})
    assert at_noon.read(NOON + HOUR) == {"kept": "as it is", "a": 2, "b": 2}
    assert at_noon.read(NOON + 2 * HOUR) == {"kept": "as it is", "b": 2}


def test_a_removed_key_that_is_set_anew_has_no_old_time(at_noon):
    """An expiry that outlived its key would end the next one."""
    at_noon({"a": 1}, ttl=3600)
    at_noon({"a": None}, ttl=3600)
    at_noon({"a": 2})
    assert at_noon.read(NOON + 2 * HOUR)["a"] == 2


@pytest.mark.parametrize(
    "ttl", [0, -1, -1e300, timedelta(seconds=-5), timedelta.min, float("-inf")]
)
def test_what_is_past_its_time_when_it_comes_is_never_stored(chat, file, ttl):
    """O3: `expires_at - now` of a slow client may be negative: that is no error, and no token."""
    chat.update_state({"token": "old", "kept": 1})
    assert chat.update_state({"token": "secret"}, ttl=ttl) == {"kept": 1}
    assert chat.state() == {"kept": 1}
    assert b"secret" not in file.read_bytes()
    assert chat.update_state({"kept": 2}, ttl=ttl) == {}


@pytest.mark.parametrize("ttl", [timedelta(hours=1), 3600, 3600.0])
def test_a_time_to_live_is_a_timedelta_or_seconds(chat, file, ttl):
    """As everywhere in convmem where a duration is asked for."""
    before = datetime.now(UTC)
    chat.update_state({"a": 1}, ttl=ttl)
    until = datetime.fromisoformat(json.loads(file.read_bytes())["_until"]["a"])
    assert before + HOUR <= until <= datetime.now(UTC) + HOUR


@pytest.mark.parametrize("ttl", ["1h", True, float("nan"), float("inf"), 1e300, timedelta.max])
def test_a_time_to_live_that_is_none_is_refused(chat, root, ttl):
    """A token that was meant to expire and never does is a leak."""
    with pytest.raises(UsageError, match="ttl"):
        chat.update_state({"a": 1}, ttl=ttl)
    assert not os.path.exists(root)


# --- at once ----------------------------------------------------------------------------------


def test_threads_that_update_at_once_lose_nothing_of_each_other(archive):
    """A28: two adders on one conversation: both kept."""
    chat = archive.conversation("trip")
    start = threading.Barrier(6)
    failures = []

    def add(name):
        try:
            start.wait()
            for nth in range(15):
                answer = chat.update_state({f"{name}.{nth}": nth, f"{name}.last": nth})
                assert answer[f"{name}.last"] == nth
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=add, args=(name,)) for name in "abcdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(chat.state()) == 6 * 16


_ADDER = """
import sys
from convmem import Archive
with Archive.open(sys.argv[1]) as archive:
    chat = archive.conversation("trip")
    sys.stdin.readline()
    for nth in range(25):
        chat.update_state({f"{sys.argv[2]}.{nth}": nth, "both": sys.argv[2]}, ttl=3600)
"""


def test_processes_that_update_at_once_lose_nothing_of_each_other(chat, root):
    """A28: as above, for workers of a server."""
    workers = [
        subprocess.Popen([sys.executable, "-c", _ADDER, root, name], stdin=subprocess.PIPE)
        for name in "abcd"
    ]
    for worker in workers:
        worker.stdin.write(b"\n")
        worker.stdin.flush()
    for worker in workers:
        worker.communicate()
        assert worker.returncode == 0
    found = chat.state()
    assert found.pop("both") in "abcd"
    assert set(found) == {f"{name}.{nth}" for name in "abcd" for nth in range(25)}


def test_appends_and_updates_do_not_wait_for_each_other(root):
    """A provider's slow token refresh must not hold up a turn, nor the other way round."""
    with Archive.open(root, lock_timeout_seconds=0.0) as archive:
        chat = archive.conversation("trip")
        chat.record("user", "first")
        chat.update_state({"a": 1})
        folder = Folder.open(os.path.join(root, "default"))
        held = state.lock_of(folder, "trip")
        held.acquire(0)
        assert chat.record("user", "second").seq == 2
        with pytest.raises(LockTimeout):
            chat.update_state({"a": 2})
        with pytest.raises(LockTimeout):
            chat.clear_state()
        assert chat.state() == {"a": 1}  # readers wait for nobody
        held.release()
        held = SidecarLock(folder, "trip")
        held.acquire(0)
        assert chat.update_state({"a": 3}) == {"a": 3}
        with pytest.raises(LockTimeout):
            chat.record("user", "third")
        held.release()
        folder.close()


@pytest.mark.parametrize(
    "other", ["trip+state", "trip.state", "trip.lock", "trip%2bstate", "trip.json"]
)
def test_no_conversations_lock_is_the_lock_of_anothers_state(root, other):
    """Else appending to one would wait for whoever updates the other's state."""
    with Archive.open(root, lock_timeout_seconds=0.0) as archive:
        archive.conversation(other).record("user", "there")
        folder = Folder.open(os.path.join(root, "default"))
        held = [SidecarLock(folder, encode_name(other)), state.lock_of(folder, encode_name(other))]
        for lock in held:
            lock.acquire(0)
        assert archive.conversation("trip").update_state({"a": 1}) == {"a": 1}
        for lock in held:
            lock.release()
        folder.close()


# --- damage and edits by hand -----------------------------------------------------------------


def test_no_flipped_bit_and_no_lost_end_passes_for_a_state(chat, file):
    """A token with one wrong letter is refused by the provider, and nobody knows why."""
    chat.update_state({"token": "secret", "n": 1}, ttl=3600)
    good = file.read_bytes()
    was = chat.state()
    wrong = []
    cut = [good[:length] for length in range(len(good))]
    flipped = [
        good[:at] + bytes([good[at] ^ 1 << bit]) + good[at + 1 :]
        for at in range(len(good))
        for bit in range(8)
    ]
    for data in [*cut, *flipped, b"", b"null\n", b"[]\n", bytes(len(good)), good + good]:
        file.write_bytes(data)
        try:
            if chat.state() != was:
                wrong.append(data)
        except CorruptLog:
            continue
    assert wrong == []


def test_a_damaged_state_is_an_error_that_says_where_and_what_next(chat, file):
    """Taking damage for "nothing there" would throw a session away without a word."""
    chat.update_state({"token": "secret"})
    file.write_bytes(file.read_bytes().replace(b"secret", b"sekret"))
    damaged = file.read_bytes()
    for ask in (chat.state, lambda: chat.update_state({"a": 1}), lambda: chat.update_state({})):
        with pytest.raises(CorruptLog, match="checksum wrong") as told:
            ask()
        assert str(file) in str(told.value)
        assert "clear" in told.value.hint
    assert file.read_bytes() == damaged
    assert chat.record("user", "turns do not mind").seq == 1


@pytest.mark.parametrize("damaged", [b"\x00" * 70, b"", b"{", b"x" * (state.MAX_BYTES + 5)])
def test_clearing_a_damaged_state_keeps_its_bytes_in_the_quarantine(root, file, damaged):
    """Nothing is thrown away silently: the token may still be picked out by hand."""
    told = []

    class Watch(Observer):
        def set_aside(self, continuation_id, quarantined):
            told.append((continuation_id, quarantined))

    with Archive.open(root, observer=Watch()) as archive:
        chat = archive.conversation("trip")
        chat.update_state({"a": 1})
        file.write_bytes(damaged)
        assert chat.clear_state() is True
        assert not file.exists()
        assert chat.state() == {}
        assert chat.update_state({"a": 2}) == {"a": 2}
        chat.clear_state()
    ((name, quarantined),) = told
    assert name == "trip"
    assert (file.parents[1] / ".quarantine" / quarantined).read_bytes() == damaged


def test_a_document_written_by_hand_is_read_and_sealed_by_the_next_update(chat, file):
    """A line without a seal is no damage in a log, and none here."""
    file.parent.mkdir(parents=True, mode=0o700)
    file.parents[1].chmod(0o700)
    file.write_text('{\n  "session": "abc",\n  "gone": null,\n  "_later": [1]\n}\n')
    assert chat.state() == {"session": "abc"}
    assert chat.update_state({"n": 1}) == {"session": "abc", "n": 1}
    line = file.read_bytes()
    stored = json.loads(line)
    assert stored.pop("_c") == f"{zlib.crc32(line[:-18] + b'}'):08x}"
    # Keys of a convmem to come survive a rewrite by this one.
    assert stored == {"_v": 1, "_later": [1], "session": "abc", "n": 1}
    assert line.count(b"\n") == 1


@pytest.mark.parametrize(
    "text",
    ['{"_v":2,"a":1}', '{"_until":[],"a":1}', '{"_until":{"a":"soon"},"a":1}', '{"a":NaN}'],
)
def test_what_cannot_be_understood_is_not_guessed_at(chat, file, text):
    """A time that nobody can read might be over; a later format might mean something else."""
    chat.update_state({"a": 1})
    file.write_text(text)
    with pytest.raises(CorruptLog):
        chat.state()
    with pytest.raises(CorruptLog):
        chat.update_state({"b": 1})
    assert file.read_text() == text


# --- files ------------------------------------------------------------------------------------


def test_the_file_and_its_folder_are_private_whatever_the_umask(chat, file):
    """It holds tokens."""
    before = os.umask(0)
    try:
        chat.update_state({"token": "secret"})
    finally:
        os.umask(before)
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("planted", ["file", "folder"])
def test_a_planted_link_is_not_followed(chat, file, tmp_path, planted):
    """Whoever can plant a link must not read or write elsewhere with our rights."""
    chat.record("user", "hello")
    target = tmp_path / "elsewhere"
    target.mkdir()
    (target / "trip.json").write_text('{"a":1}')
    if planted == "folder":
        file.parent.symlink_to(target)
    else:
        file.parent.mkdir()
        file.symlink_to(target / "trip.json")
    for ask in (chat.state, lambda: chat.update_state({"b": 1}), chat.clear_state):
        with pytest.raises(StorageError) as told:
            ask()
        assert told.value.kind == "permission"
    assert [path.name for path in target.iterdir()] == ["trip.json"]
    assert (target / "trip.json").read_text() == '{"a":1}'


def test_an_id_too_long_for_a_file_name_is_written_down_first(archive, root):
    """Else nobody could tell whose state a file with a hash for a name is."""
    chat = archive.conversation(LONG_ID)
    other = archive.conversation(LONG_ID + "!")
    assert chat.state() == {}
    assert chat.update_state({"n": 1}) == {"n": 1}
    assert other.state() == {}
    (known,) = Path(root, "default", ".ids").iterdir()
    assert known.read_text() == LONG_ID
    (stored,) = Path(root, "default", ".state").iterdir()
    assert stored.name == f"{known.name}.json"
    chat.record("user", "and then a turn")
    assert chat.state() == {"n": 1}
    known.write_text("somebody else's")
    for ask in (chat.state, lambda: chat.update_state({"n": 2}), chat.clear_state):
        with pytest.raises(CorruptLog, match="another conversation"):
            ask()


def test_an_interrupted_update_leaves_nothing_that_piles_up(chat, file):
    """A process that is killed while it writes leaves a file; the next update takes its place."""
    chat.update_state({"a": 1})
    left = file.with_name(".trip.0.00000000.tmp")
    left.write_bytes(b"half a sta")
    assert chat.update_state({"a": 2}) == {"a": 2}
    assert [path.name for path in file.parent.iterdir()] == ["trip.json"]
    left.write_bytes(b"half a sta")
    chat.clear_state()
    assert list(file.parent.iterdir()) == []


# --- apart from the turns ---------------------------------------------------------------------


def test_the_state_is_shown_with_no_turn_and_no_conversation(archive, cli):
    """A19: a token in the prompt is a token told to the model."""
    archive.conversation("only a state").update_state({"token": "sesame"})
    chat = archive.conversation("trip")
    chat.record("user", "hello")
    chat.update_state({"token": "sesame"})
    assert [other.continuation_id for other in archive.conversations()] == ["trip"]
    assert not archive.conversation("only a state").exists()
    for words in (("tail", "trip"), ("show", "trip", "--json"), ("list", "--json")):
        answer = cli(*words)
        assert "sesame" not in answer.text + answer.err
    assert [turn.extra for turn in chat.turns()] == [{}]


def test_compaction_leaves_it_alone(chat, file):
    """A policy is for turns; a session outlives them."""
    for nth in range(5):
        chat.record("user", f"turn {nth}")
    chat.update_state({"session": "abc"}, ttl=3600)
    before = file.read_bytes()
    assert chat.compact(RetentionPolicy(keep_last=0)).dropped == 5
    assert file.read_bytes() == before


def test_one_conversations_state_costs_the_same_among_any_number_of_others(archive, monkeypatch):
    """An agent server asks for it with every request: its work must not grow with the archive."""
    real = os.open
    opened = []

    def counting(*args, **kwargs):
        opened.append(args[0])
        return real(*args, **kwargs)

    def no_listing(*args):
        raise AssertionError("a folder was listed")

    def cost():
        chat = archive.conversation("trip")
        with monkeypatch.context() as patch:
            patch.setattr(os, "open", counting)
            patch.setattr(os, "scandir", no_listing)
            patch.setattr(os, "listdir", no_listing)
            opened.clear()
            chat.update_state({"n": 1})
            chat.state()
            chat.clear_state()
            return list(opened)

    cost()
    alone = cost()
    for nth in range(300):
        other = archive.conversation(f"other {nth}")
        other.update_state({"n": nth})
        other.record("user", "hello")
    assert cost() == alone
