"""An index that is damaged, in the way or not to be written: the answers are the same."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
import subprocess
from pathlib import Path

import pytest
from index_asked import WITHOUT, asked, fresh_index, without_index

from convmem import Archive
from convmem.errors import StorageError
from convmem.progress import Observer
from convmem.search.index import database
from convmem.search.page import INDEX, SCAN

QUERIES = ("night train", '"night train" oslo', "oslo*", "turn 7", "nowhere")
needs_root = pytest.mark.skipif(
    os.name != "posix" or os.geteuid() != 0, reason="mounting needs root"
)


@pytest.fixture
def archive(tmp_path):
    with Archive.open(tmp_path / "archive", durability="none", observer=Observer()) as opened:
        opened.conversation("trip").record_many(
            [("user", f"turn {at}: the night train to Oslo") for at in range(90)]
        )
        opened.conversation("work").record("user", "no train at night")
        yield opened


@pytest.fixture
def place(tmp_path):
    return tmp_path / "archive" / "default" / ".index"


def _answers(archive: Archive, how: str = INDEX) -> list[object]:
    return [asked(archive, query, how, limit=60) for query in QUERIES]


def _damages():
    yield "empty", lambda data, chance: b""
    yield "short", lambda data, chance: data[: len(data) // 3]
    yield "text", lambda data, chance: b"this is no database\n" * 50
    yield "another layout", None
    yield "random pages", lambda data, chance: data[:4096] + chance.randbytes(len(data) - 4096)
    yield "a page of zeros", lambda data, chance: data[:4096] + bytes(4096) + data[8192:]


def index_in(place):
    """Return the index that lies there."""
    (found,) = place.glob("search-*.sqlite")
    return found


@pytest.mark.parametrize("damage", [each for _, each in _damages()], ids=[n for n, _ in _damages()])
def test_a_damaged_index_is_made_anew(archive, place, damage, request):
    """It is derived: nobody should have to know the command that repairs it."""
    before = _answers(archive)
    file = index_in(place)
    if damage is None:
        with contextlib.closing(sqlite3.connect(file)) as connection:
            connection.execute("pragma user_version = 99")
    else:
        for ending in ("-wal", "-shm"):
            file.with_name(file.name + ending).unlink(missing_ok=True)
        file.write_bytes(damage(file.read_bytes(), random.Random(request.node.name)))
    assert _answers(archive) == before
    archive.conversation("trip").record("user", "one more night train")
    with fresh_index():
        fresh = _answers(archive)
    assert _answers(archive) == fresh


@pytest.mark.parametrize("seed", range(12))
def test_a_damaged_index_never_makes_turns_up(archive, place, seed):
    """SQLite does not notice each damaged byte: a turn may be missed then, none is invented."""
    archive.search("oslo")
    chance = random.Random(seed)
    file = index_in(place)
    spoilt = bytearray(file.read_bytes())
    for _ in range(chance.choice((1, 20, 400))):
        spoilt[chance.randrange(len(spoilt))] = chance.randrange(256)
    file.write_bytes(spoilt)
    said = {(turn.id, turn.content) for turn in archive.conversation("trip").turns()}
    said.update((turn.id, turn.content) for turn in archive.conversation("work").turns())
    for query in QUERIES:
        hits = archive.search(query, limit=60).hits
        assert said.issuperset((hit.turn.id, hit.turn.content) for hit in hits)


@pytest.mark.parametrize("ending", ["", "-wal", "-shm"])
@pytest.mark.parametrize("is_open", [True, False])
def test_any_of_its_files_may_be_removed(archive, place, ending, is_open):
    """Also while another process has it open: a backup that left one out, or a tidy person."""
    before = _answers(archive)
    file = Path(f"{index_in(place)}{ending}")
    with contextlib.ExitStack() as stack:
        if is_open:
            other = stack.enter_context(contextlib.closing(sqlite3.connect(index_in(place))))
            other.execute("select * from total").fetchall()
        file.unlink(missing_ok=True)
        assert _answers(archive) == before
        archive.conversation("work").record("user", "one more night train")
        with without_index():
            scanned = _answers(archive, SCAN)
        assert _answers(archive) == scanned


@pytest.mark.parametrize("what", ["link", "file", "dangling", "folder"])
def test_what_is_in_the_index_s_way_is_left_alone(archive, place, tmp_path, what):
    """A link planted there must not make convmem write elsewhere; the search goes on without."""
    before = _answers(archive)
    shutil.rmtree(place)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    if what == "link":
        place.symlink_to(elsewhere)
    elif what == "dangling":
        place.symlink_to(tmp_path / "nowhere")
    elif what == "folder":
        (place / "search-0.sqlite").mkdir(parents=True)
        place.chmod(0o700)
    else:
        place.write_text("mine")
    assert _answers(archive, SCAN) == before
    page = archive.search("oslo")
    assert page.how == SCAN
    assert page.notes[0].startswith(WITHOUT)
    assert not list(elsewhere.iterdir())
    assert place.is_symlink() == (what in ("link", "dangling"))
    assert what != "file" or place.read_text() == "mine"


def test_without_fts5_a_scan_answers_and_says_so(archive, monkeypatch):
    """Some Pythons come with an SQLite that cannot do it."""
    before = _answers(archive)
    monkeypatch.setattr(database, "_SCHEMA", database._SCHEMA.replace("using fts5 ", "using fts9 "))
    with fresh_index():
        assert _answers(archive, SCAN) == before
        (note,) = archive.search("oslo").notes
    assert note.startswith(WITHOUT)
    assert "FTS5" in note


def test_a_turn_that_rots_is_not_shown_and_hides_no_other(archive, place):
    """No look at a file tells that one of its bytes changed: the turn's own checksum does."""
    log = Path(archive.conversation("trip").path)
    archive.search("oslo")
    data = log.read_bytes()
    at = data.index(b"turn 7:") + len(b"turn 7: the ")
    state = log.stat()
    with log.open("r+b") as file:
        file.seek(at)
        file.write(b"fight")
    os.utime(log, ns=(state.st_atime_ns, state.st_mtime_ns))
    _believe_the_index(place, log)
    found = archive.search('"turn 7" night', limit=50).hits
    assert "fight" not in str([hit.turn.content for hit in found])
    with fresh_index():
        fresh = _answers(archive)
    assert _answers(archive) == fresh


def _believe_the_index(place: Path, log: Path) -> None:
    """Let the index take the log for the one that it knows."""
    from convmem.stores.log_files import stamp_of

    with contextlib.closing(sqlite3.connect(index_in(place))) as connection:
        stamp = (stamp_of(log.stat()), log.stem)
        connection.execute("update log set stamp = ? where name = ?", stamp)
        connection.commit()


def test_it_is_for_its_owner_alone(archive, place):
    """What is in it was said in private, word by word."""
    umask = os.umask(0)
    try:
        archive.search("oslo")
    finally:
        os.umask(umask)
    files = [place, *(each for each in place.rglob("*"))]
    assert len(files) > 1
    assert [oct(each.stat().st_mode & 0o077) for each in files] == ["0o0"] * len(files)


@contextlib.contextmanager
def _mounted(folder: Path, *words: str):
    done = subprocess.run(["mount", *words, str(folder)], capture_output=True)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@needs_root
@pytest.mark.parametrize("is_indexed", [True, False])
def test_a_read_only_archive_is_searched(archive, place, tmp_path, is_indexed):
    """A mounted backup, or a disk after its first error."""
    if is_indexed:
        archive.search("oslo")
    expected = _answers(archive)
    if not is_indexed:
        shutil.rmtree(place)
    bound = tmp_path / "bound"
    bound.mkdir()
    with _mounted(bound, "--bind", str(tmp_path / "archive")):
        subprocess.run(["mount", "-o", "remount,bind,ro", str(bound)], check=True)
        with Archive.open(bound) as there:
            assert _answers(there, INDEX if is_indexed else SCAN) == expected
            if not is_indexed:
                assert "ead-only" in there.search("oslo").notes[0]


@needs_root
def test_a_full_disk_is_searched(tmp_path):
    """Whoever looks for what to remove must find it. With room the index is made."""
    disk = tmp_path / "disk"
    disk.mkdir(mode=0o700)
    with (
        _mounted(disk, "-t", "tmpfs", "-o", "size=2m,mode=0700", "tmpfs"),
        Archive.open(disk / "archive", durability="none", observer=Observer()) as archive,
    ):
        for name in ("trip", "work"):
            archive.conversation(name).record_many(
                [("user", f"turn {at}: the night train to Oslo " * 5) for at in range(400)]
            )
        with fresh_index():
            expected = _answers(archive)
        for left in (0, 20_000, 100_000, 200_000):
            shutil.rmtree(disk / "archive" / "default" / ".index", ignore_errors=True)
            filler = disk / "everything else"
            with contextlib.suppress(OSError), filler.open("wb", 0) as file:
                while True:
                    file.write(b"x" * 4096)
            os.truncate(filler, max(0, filler.stat().st_size - left))
            for query, known in zip(QUERIES, expected, strict=True):
                page = archive.search(query)
                found = asked(archive, query, page.how, limit=60)
                assert found == known, (left, query)
                if page.how == SCAN:
                    assert page.notes[0].startswith(WITHOUT), left
            filler.unlink()
        assert _answers(archive) == expected


def test_what_cannot_be_read_is_an_error_in_words(tmp_path):
    """Neither an empty answer nor a traceback where there is no archive to look at."""
    (tmp_path / "archive").write_text("a file")
    with Archive.open(tmp_path / "archive") as archive, pytest.raises(StorageError):
        archive.search("oslo")


def test_where_nothing_can_be_written_an_index_in_step_is_used(archive, place, monkeypatch):
    """A snapshot, a read-only mount: reading all logs instead takes a hundred times as long."""
    before = _answers(archive)
    archive.close()

    def refuse(folder):
        raise StorageError("read-only file system")

    monkeypatch.setattr(database, "alone_with_index", refuse)
    with Archive.open(archive._root) as snapshot:
        assert _answers(snapshot) == before
        assert snapshot.search("oslo").how == INDEX
        chat = snapshot.conversation("trip")
        chat.record("user", "one more word: zanzibar")
        page = snapshot.search("zanzibar")
        assert [hit.turn.text for hit in page] == ["one more word: zanzibar"]
        assert page.how == SCAN
