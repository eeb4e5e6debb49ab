"""Ids and permissions: no name leads out of the archive, and no two names to one conversation."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import stat
from pathlib import Path

import pytest

from convmem import (
    Archive,
    ConversationNotFound,
    InvalidContinuationId,
    RetentionPolicy,
    StorageError,
)
from convmem.cli.verbs import TABLE

# Ids as a stranger, a script or a mistake would make them.
ODD_IDS = [
    *("../../x", "../outside", "/abs/x", "a/b", "a//b", "./a", "..", ".", ".hidden", "a.", "..."),
    *("-rf", "--all", "-", "~", "~root", "$HOME", "`id`", "a;b", "a b", " a", "a ", "a\nb", "\t"),
    *("CON", "con", "con.x", "NUL", "com1", "LPT9", "aux.jsonl", "a.jsonl", "a.jsonl.jsonl"),
    *("A", "a", "Trip", "trip", "TRIP", "é", "e\u0301", "ß", "ss", "ſ", "K", "\u212a", "İ", "i̇"),
    *("%41", "%2e", "%", "%%", "=", "a=b", "*", "?", "[a]", "trip*", "C:\\x", "a:b", "a|b"),
    *("x" * 300, "X" * 300, "x" * 180, "x" * 181, "é" * 512, "y" * 1024, "x" * 1023 + "y"),
    *(".locks", ".trash", ".locks/trip", "trip.lock", "\u202egnp", "\x7f", "\x01", "👍"),
]
REFUSED = ["", "a\0b", "\0", "half \ud800", "z" * 1025, "é" * 513]


def test_every_odd_id_is_a_conversation_of_its_own_inside_the_archive(tmp_path, root):
    """A9, K18: `../../escape` and `/abs/x` were made; `A` and `a`, `é` and `é`, were one file."""
    (tmp_path / "x").mkdir()
    with Archive.open(root, durability="none") as archive:
        for name in ODD_IDS:
            archive.conversation(name).record("user", name)
    with Archive.open(root) as archive:
        for name in ODD_IDS:
            assert [turn.content for turn in archive.conversation(name).tail()] == [name]
        assert sorted(chat.continuation_id for chat in archive.conversations()) == sorted(ODD_IDS)
        paths = [Path(archive.conversation(name).path) for name in ODD_IDS]
    assert {path.parent for path in paths} == {Path(root, "default")}
    folded = {path.name.casefold() for path in paths}
    assert len(folded) == len(ODD_IDS)
    assert all(path.name == path.name.lower() and len(path.name) < 200 for path in paths)
    assert not [path for path in paths if path.name[0] in ".-"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["archive", "x"]
    assert not list((tmp_path / "x").iterdir())


@pytest.mark.parametrize("name", REFUSED, ids=ascii)
def test_what_can_be_no_id_is_refused_by_every_way_in(archive, root, name):
    """A9: an empty id was ignored without a word, one of 300 letters "stored" nothing."""
    with pytest.raises(InvalidContinuationId):
        archive.conversation(name)
    with pytest.raises(InvalidContinuationId):
        archive.conversation("trip", namespace=name)
    with pytest.raises(InvalidContinuationId):
        Archive.open(root, namespace=name)
    (answer,) = archive.record_to_many([(name, ("user", "x"))])
    assert isinstance(answer, InvalidContinuationId)
    assert not os.path.exists(root)


@pytest.mark.parametrize("name", ["../../x", "/abs/x", "-rf", "z" * 300])
def test_every_verb_takes_an_odd_id_and_stays_inside(cli, tmp_path, name):
    """A9, K18: any command, not only the one that somebody thought of."""
    cli("record", "--", name, "hello")
    assert cli("tail", "--", name).contents == ["hello"]
    assert cli("show", "--", name).contents == ["hello"]
    path = cli("path", "--", name).text.removesuffix("\n")
    assert os.path.dirname(path) == os.path.join(os.path.realpath(cli.root), "default")
    assert len(cli("compact", "--keep-last", "0", "--json", "--", name).objects) == 1
    assert cli("list", "-0").text == f"{name}\0"
    assert [entry.name for entry in tmp_path.iterdir()] == ["archive"]


def test_every_verb_refuses_what_can_be_no_id(cli):
    """A9: refused means an exit code, and words that say why."""
    for name, verb in zip(["", "z" * 1025, b"\xff", "", ""], TABLE, strict=False):
        words = {"record": ["x"], "compact": ["--keep-last", "1"]}.get(verb, [])
        if verb != "list":
            assert "continuation id" in cli(verb, name, *words, code=2).err
    assert "continuation id" in cli("list", "-N", "z" * 1025, code=2).err
    assert not os.path.exists(cli.root)


def test_a_pattern_in_an_id_matches_only_itself(archive):
    """K18: looking for `{id}*` found the session whose name began the same."""
    archive.conversation("trip-1").record("user", "other")
    for name in ("trip", "trip-", "trip*", "trip-?", "tri"):
        assert not archive.conversation(name).exists()
        with pytest.raises(ConversationNotFound):
            archive.conversation(name).tail()


def test_one_tenant_never_sees_anothers_conversation(root):
    """O5: the namespace was stored and never looked at."""
    with Archive.open(root, namespace="a") as a, Archive.open(root, namespace="b") as b:
        a.conversation("trip").record("user", "secret", id="t1")
        with pytest.raises(ConversationNotFound):
            b.conversation("trip").tail()
        assert not list(b.conversations())
        stored = b.conversation("trip").record("user", "other", id="t1")
        assert stored.seq == 1
        assert [turn.content for turn in a.conversation("trip").tail()] == ["secret"]
        assert [turn.content for turn in b.conversation("trip").tail()] == ["other"]
        assert a.namespaces() == ["a", "b"]


def test_no_two_pairs_of_namespace_and_id_share_anything(root):
    """O19: user `a` with session `b:c`, and user `a:b` with session `c`, had one key."""
    pairs = [
        *(("a", "b:c"), ("a:b", "c"), ("a", "b/c"), ("a/b", "c"), ("a", "b.c"), ("a.b", "c")),
        *(("a%2fb", "c"), ("a", "b%2fc"), ("..", "a"), ("A", "b"), ("a", "b"), ("a", "B")),
        *((".locks", "a"), ("default", "a"), ("default.jsonl", "a"), ("a", "default")),
    ]
    with Archive.open(root, durability="none") as archive:
        for namespace, name in pairs:
            archive.conversation(name, namespace=namespace).record("user", [namespace, name])
        paths = set()
        for namespace, name in pairs:
            chat = archive.conversation(name, namespace=namespace)
            assert [turn.content for turn in chat.tail()] == [[namespace, name]]
            paths.add(chat.path.casefold())
        assert len(paths) == len(pairs)
        assert set(archive.namespaces()) == {namespace for namespace, _ in pairs}


class _Trap:
    def __reduce__(self):
        return (os.mkdir, ("sprung",))


def test_nothing_planted_beside_a_conversation_is_run(root, archive, cli, monkeypatch, tmp_path):
    """O20: a cache that was read with `pickle` ran whatever its writer wished."""
    monkeypatch.chdir(tmp_path)
    chat = archive.conversation("trip")
    for at in range(3):
        chat.record("user", at, id=f"t{at}")
    cli("compact", "trip", "--keep-last", "1")
    long_chat = archive.conversation("l" * 300)
    long_chat.record("user", "x")
    payload = pickle.dumps(_Trap()) + b"\n!!python/object/apply:os.mkdir [sprung]\n"
    for path in Path(root).rglob("*"):
        if path.is_file() and path.suffix != ".lock":
            path.write_bytes(payload)
    (tmp_path / "seen").write_bytes(payload)
    for words in (
        ["tail", "trip"],
        ["show", "trip"],
        ["tail", "trip", "--cursor-file", str(tmp_path / "seen")],
        ["list", "-l"],
        ["record", "trip", "x", "--id", "t0"],
        ["record", "l" * 300, "x"],
        ["compact", "--all", "--keep-last", "0"],
    ):
        cli(*words, code=None)
    assert not (tmp_path / "sprung").exists()


# --- planted links, pipes and folders ---------------------------------------------------------

PLACES = {
    "log": "default/trip.jsonl",
    "lock": "default/.locks/trip.lock",
    "compaction lock": "default/.locks/trip.lock.c",
    "lock folder": "default/.locks",
    "namespace": "default",
    "trash": "default/.trash",
    "dropped ids": "default/.dropped",
    "dropped ids of one": "default/.dropped/trip.jsonl",
    "quarantine": "default/.quarantine",
}


@pytest.fixture
def plant(root, archive, tmp_path):
    """Put a link or a pipe in the place of one of convmem's own files or folders."""
    (tmp_path / "outside").mkdir(mode=0o700)
    (tmp_path / "outside" / "trip.jsonl").write_text('{"role":"user","content":"precious"}\n')
    (tmp_path / "outside" / "file").write_text("precious\n")

    def put(place, kind):
        if place != "namespace":
            chat = archive.conversation("trip")
            for at in range(3):
                chat.record("user", at, id=f"t{at}")
            if place != "log":
                with open(chat.path, "ab") as file:
                    file.write(b'{"torn')  # so that appending has something to quarantine
        path = Path(root, PLACES[place])
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if path.is_dir():
            for inner in path.iterdir():
                inner.unlink()
            path.rmdir()
        path.unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(path)
        elif kind == "link to a folder":
            path.symlink_to(tmp_path / "outside")
        elif kind == "link to a file":
            path.symlink_to(tmp_path / "outside" / "file")
        elif kind == "link to nothing":
            path.symlink_to(tmp_path / "outside" / "new")
        else:
            path.mkdir()

    yield put
    inside = {path.name: path.read_bytes() for path in (tmp_path / "outside").iterdir()}
    assert inside == {
        "trip.jsonl": b'{"role":"user","content":"precious"}\n',
        "file": b"precious\n",
    }


@contextlib.contextmanager
def patience(seconds=10.0):
    """Give up instead of hanging."""

    def give_up(number, frame):
        raise TimeoutError("it hangs")

    before = signal.signal(signal.SIGALRM, give_up)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.parametrize("kind", ["link to a file", "link to nothing", "link to a folder", "pipe"])
@pytest.mark.parametrize("place", PLACES)
def test_nothing_planted_is_followed_or_waited_for(root, plant, place, kind):
    """P13: a link would let convmem write, or read out, a file elsewhere; a pipe would hang it."""
    plant(place, kind)

    def works(attempt):
        with Archive.open(root) as archive, patience():
            try:
                attempt(archive.conversation("trip"))
            except StorageError as error:
                assert "precious" not in str(error)
                return False
        return True

    recorded = works(lambda chat: chat.record("user", "x", id="t-new"))
    read = works(lambda chat: chat.tail())
    compacted = works(lambda chat: chat.compact(RetentionPolicy(keep_last=1)))
    assert (recorded, read) == {
        "log": (False, False),
        "lock": (False, True),
        "compaction lock": (True, True),
        "lock folder": (False, True),
        "namespace": (False, False),
        "trash": (True, True),
        "dropped ids": (False, True),
        "dropped ids of one": (False, True),
        "quarantine": (False, True),
    }[place]
    assert not compacted


@pytest.mark.parametrize("place", ["log", "namespace", "lock"])
@pytest.mark.parametrize("kind", ["link to a file", "pipe"])
def test_a_command_that_meets_something_planted_ends_with_4(cli, plant, place, kind):
    """P13: at once, in words, and with the code that says "not allowed"."""
    plant(place, kind)
    (told,) = cli("record", "trip", "x", "--json", code=4).told
    assert told["kind"] == "permission"
    if place != "lock":
        assert "precious" not in cli("show", "trip", code=4).err
    cli("list", *(["--json"] if place == "log" else []), code=4 if place == "namespace" else 0)


def test_a_link_in_the_archives_place_is_the_owners_own_affair(tmp_path, root):
    """The way to the archive may have links, such as a data folder on another disk."""
    (tmp_path / "disk").mkdir(mode=0o700)
    os.symlink(tmp_path / "disk", root)
    with Archive.open(root) as archive:
        archive.conversation("trip").record("user", "a")
        assert archive.conversation("trip").path.startswith(str(tmp_path / "disk"))


def test_only_the_owner_can_read_what_is_kept(archive, root, monkeypatch):
    """P13: 0700 and 0600 for whatever convmem makes, so that nobody else reads along."""
    before = os.umask(0)
    try:
        for name in ("trip", "l" * 300):
            chat = archive.conversation(name)
            for at in range(4):
                chat.record("user", at, id=f"t{at}")
            with open(chat.path, "ab") as file:
                file.write(b"torn")
            chat.record("user", 5)
            chat.compact(RetentionPolicy(keep_last=1))
    finally:
        os.umask(before)
    for path, folders, files in os.walk(root):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o700
        for name in files:
            assert stat.S_IMODE(os.stat(os.path.join(path, name)).st_mode) == 0o600
        assert folders or files
    chat.record("user", 6)
    os.chmod(chat.path, 0o640)
    chat.compact(RetentionPolicy(keep_last=1))
    # Whoever opened a log to a group did so on purpose.
    assert stat.S_IMODE(os.stat(chat.path).st_mode) == 0o640


@pytest.mark.parametrize("mode", [0o770, 0o702])
def test_an_archive_where_others_may_write_is_refused(archive, root, mode):
    """P13: a folder that others write to is one where they can put anything in our place."""
    archive.conversation("trip").record("user", "a")
    os.chmod(root, mode)
    with Archive.open(root) as again:
        for attempt in (
            lambda: again.conversation("trip").record("user", "b"),
            lambda: again.conversation("trip").tail(),
        ):
            with pytest.raises(StorageError) as caught:
                attempt()
            assert caught.value.kind == "permission"


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="giving away needs root")
def test_an_archive_of_somebody_else_is_refused(archive, root):
    """P13: root must not write into a tree that its owner can turn against it."""
    archive.conversation("trip").record("user", "a")
    os.chown(root, 65534, 65534)
    os.chown(os.path.join(root, "default"), 65534, 65534)
    with Archive.open(root) as again:
        with pytest.raises(StorageError, match="another user"):
            again.conversation("trip").record("user", "b")
        with pytest.raises(StorageError, match="another user"):
            again.conversation("trip").tail()


def test_a_long_id_is_kept_whole_before_its_first_turn(archive, root, log):
    """A9: a file name that is a hash alone would leave nobody knowing whose turns these are."""
    name = "Long/" * 100
    archive.conversation(name).record("user", "x")
    (sidecar,) = Path(root, "default", ".ids").iterdir()
    assert sidecar.read_text() == name
    assert log(sidecar.name).exists()
    assert json.loads(log(sidecar.name).read_text())["content"] == "x"
