"""Sources: what stands between a path and whole records."""

from __future__ import annotations

import gzip
import json
import os
import sqlite3
import sys
import zipfile

import pytest

from convmem.errors import ConvmemError
from convmem.formats.reading import containers, sources
from convmem.formats.reading.containers import InputOrigin
from convmem.formats.reading.sources import Source, SourceUnreadable, sources_in

A = b'{"n":1}'
B = '{"n":2,"text":"zwei – 二 😀"}'.encode()
LINES = A + b"\n" + B + b"\n"


def found_in(path, **options):
    """Return the sources in *path* and what was reported."""
    reports = []
    found = list(sources_in(str(path), lambda *report: reports.append(report), **options))
    return found, reports


def read_in(path):
    """Return what each source in *path* holds, by its relative name, and what was reported."""
    reports = []
    raws = {}
    for source in sources_in(str(path), lambda *report: reports.append(report)):
        raws[source.relative] = [raw for raw, _ in source.records()]
        source.close()
    return raws, reports


def zstd():
    return pytest.importorskip(
        "compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd"
    )


@pytest.fixture(params=["plain", "gzip", "zstd", "utf-8 mark", "utf-16-le", "utf-16-be"])
def packed(request):
    """A way to pack."""
    text = LINES.decode()
    return {
        "plain": lambda: LINES,
        "gzip": lambda: gzip.compress(LINES),
        "zstd": lambda: zstd().compress(LINES),
        "utf-8 mark": lambda: b"\xef\xbb\xbf" + LINES,
        "utf-16-le": lambda: b"\xff\xfe" + text.encode("utf-16-le"),
        "utf-16-be": lambda: b"\xfe\xff" + text.encode("utf-16-be"),
    }[request.param]()


def test_content_says_how_a_file_is_packed(tmp_path, packed):
    """Names lie: what was renamed on the way is read all the same."""
    path = tmp_path / "misnamed.txt"
    path.write_bytes(packed)
    (source,), reports = found_in(path)
    assert source.head(4) == LINES[:4]
    assert [raw for raw, _ in source.records()] == [A, B]
    assert list(source.records()) == []
    source.start_at(0)
    assert [raw for raw, _ in source.records()] == [A, B]
    assert source.tally.records == 2
    assert source.tally.damaged == 0
    assert reports == []
    source.close()


def test_standard_input_is_read_once_and_may_be_packed(packed):
    """Through ``zstdcat`` or as it is: both are natural."""
    reading, writing = os.pipe()
    os.write(writing, packed)
    os.close(writing)
    source = Source(InputOrigin(reading), "")
    assert source.head(100) == LINES
    assert [raw for raw, _ in source.records()] == [A, B]
    assert (source.name, source.stem, source.folder, source.path) == ("", "", "", None)
    assert source.last_bytes(10) is None
    source.close()
    os.close(reading)


def test_a_zip_on_standard_input_is_opened_up(monkeypatch, tmp_path):
    """A download is piped as it comes."""
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("conversations.json", LINES)
    descriptor = os.open(tmp_path / "x.zip", os.O_RDONLY)
    monkeypatch.setattr(sources, "InputOrigin", lambda _: InputOrigin(descriptor))
    assert read_in("-") == ({"conversations.json": [A, B]}, [])
    os.close(descriptor)


def test_members_of_a_zip_are_sources(tmp_path):
    """An export is one file with many in it; pictures are not for us."""
    path = tmp_path / "export"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("b/conversations-001.json", LINES)
        archive.writestr("a.jsonl.gz", gzip.compress(LINES))
        archive.writestr("picture.png", b"x")
        archive.writestr("notes", LINES)
        archive.writestr("../../etc/evil.jsonl", LINES)
        archive.writestr("/absolute\\..\\evil.json", LINES)
    raws, reports = read_in(path)
    assert set(raws) == {
        *("b/conversations-001.json", "a.jsonl.gz", "notes", "etc/evil.jsonl"),
        "absolute/evil.json",
    }
    assert all(raw == [A, B] for raw in raws.values())
    assert reports == []
    found = sources_in(str(path), print)
    first = next(found)
    found.close()
    assert first.path == str(path)
    assert first.key == f"{path}: b/conversations-001.json"
    assert first.folder == "b"


def test_a_broken_member_does_not_keep_the_others_out(tmp_path):
    """A download that was damaged, or a member that is encrypted, is one source of many."""
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("1.jsonl", "2.jsonl", "3.jsonl"):
            archive.writestr(name, LINES)
    data = bytearray(path.read_bytes())
    at = data.index(A, data.index(b"2.jsonl"))
    data[at + 5 : at + 6] = b"7"  # its checksum is wrong now
    central = data.index(b"PK\x01\x02")
    data[central + 8] |= 1  # the first one says that it is encrypted
    path.write_bytes(data)
    seen = {}
    for source in sources_in(str(path), print):
        try:
            seen[source.name] = (len(list(source.records())), source.fault)
        except SourceUnreadable as error:
            seen[source.name] = str(error)
        source.close()
    assert "encrypted" in seen["1.jsonl"]
    assert seen["2.jsonl"][1] is not None
    assert seen["3.jsonl"] == (2, None)


def test_a_cut_download_gives_what_there_is(tmp_path):
    """Of half a file half of the records are there, and somebody says that it is half a file."""
    numbers = b"".join(
        b'{"n":%d,"x":"%s"}\n' % (n, os.urandom(20).hex().encode()) for n in range(9999)
    )
    for name, data in (("a.gz", gzip.compress(numbers)), ("a.zst", zstd().compress(numbers))):
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        (source,), _ = found_in(tmp_path / name)
        values = [value["n"] for _, value in source.records()]
        assert values == list(range(len(values)))
        assert len(values) > 3000
        assert source.fault is not None
        assert source.tally.unreadable == 1
        source.close()
    (tmp_path / "cut.zip").write_bytes(b"PK\x03\x04 and nothing")
    found, reports = found_in(tmp_path / "cut.zip")
    assert found == []
    assert isinstance(reports[0][1], SourceUnreadable)


def test_what_is_made_to_fill_disks_is_stopped(tmp_path, monkeypatch):
    """A few kilobytes that unpack to gigabytes of well-formed talk are no transcript."""
    monkeypatch.setattr(containers, "_ANY_RATIO_BYTES", 1 << 20)
    bomb = LINES * 400_000
    (tmp_path / "a.gz").write_bytes(gzip.compress(bomb))
    (tmp_path / "a.zst").write_bytes(zstd().compress(bomb))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.jsonl", bomb)
    for source in sources_in(str(tmp_path), print):
        count = sum(1 for _ in source.records())
        assert 10_000 < count < 700_000
        assert source.fault is not None
        assert "250 times" in source.fault
        source.close()


def test_a_missing_library_is_named_and_is_that_file_s_fault_alone(tmp_path, monkeypatch):
    """What is missing can be installed; what can be read without it is."""
    (tmp_path / "a.zst").write_bytes(zstd().compress(LINES))

    def nothing():
        raise containers.UsageError("not there")

    monkeypatch.setattr(containers, "zstd_library", nothing)
    (source,), reports = found_in(tmp_path)
    with pytest.raises(SourceUnreadable) as caught:
        source.head(10)
    assert "zstd" in (caught.value.hint or "")
    assert reports == []


# --- folders ------------------------------------------------------------------------------------


def test_a_folder_is_walked_in_order_and_nothing_is_opened(tmp_path, monkeypatch):
    """A run over a hundred thousand files that did not change costs a stat for each."""
    for name in ("b.jsonl", "a/2.jsonl", "a/1.json", "a.jsonl", ".claude/x.jsonl", "é.md"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(LINES)
    for name in ("x.PNG", ".git/a.json", "node_modules/a.json", "logs.db-wal"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(LINES)
    opened = []
    monkeypatch.setattr(containers.FileOrigin, "open", lambda self: opened.append(self.path))
    found, reports = found_in(tmp_path)
    names = [source.relative for source in found]
    assert names == [".claude/x.jsonl", "a.jsonl", "a/1.json", "a/2.jsonl", "b.jsonl", "é.md"]
    assert found[2].folder == "a"
    assert found[2].size == len(LINES)
    assert found[2].modified == os.stat(tmp_path / "a/1.json").st_mtime
    assert opened == reports == []


def test_links_are_followed_to_files_once_and_not_in_circles(tmp_path):
    """A link to a session is one way to keep it; two ways to one file are one source."""
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/real.jsonl").write_bytes(LINES)
    (tmp_path / "in/link.jsonl").symlink_to(tmp_path / "out/real.jsonl")
    (tmp_path / "in/again.jsonl").symlink_to(tmp_path / "out/real.jsonl")
    (tmp_path / "in/circle").symlink_to(tmp_path / "in")
    (tmp_path / "in/nowhere.jsonl").symlink_to(tmp_path / "gone")
    os.link(tmp_path / "out/real.jsonl", tmp_path / "in/zz.jsonl")
    raws, reports = read_in(tmp_path / "in")
    assert raws == {"again.jsonl": [A, B]}
    assert reports == []


def test_pipes_and_devices_are_passed_over(tmp_path):
    """Opening a pipe that nobody writes to would wait for ever."""
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "real.jsonl").write_bytes(LINES)
    assert read_in(tmp_path) == ({"real.jsonl": [A, B]}, [])
    found, reports = found_in(tmp_path / "pipe.jsonl")
    assert found == []
    assert isinstance(reports[0][1], ConvmemError)


def test_what_cannot_be_opened_is_told_and_the_walk_goes_on(tmp_path):
    """One file of somebody else's does not end an import of thousands."""
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    for name in ("a.jsonl", "b/x.jsonl", "c.zip", "d.jsonl"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(LINES)
    for name in ("a.jsonl", "b", "c.zip"):
        (tmp_path / name).chmod(0)
    found, reports = found_in(tmp_path)
    (tmp_path / "b").chmod(0o700)
    assert [source.relative for source in found] == ["a.jsonl", "d.jsonl"]
    assert len(reports) == 2
    with pytest.raises(ConvmemError):
        found[0].head(1)


def test_a_path_that_is_not_there_is_told(tmp_path):
    """Nothing there is not the same as nothing in it."""
    found, reports = found_in(tmp_path / "gone")
    assert found == []
    assert isinstance(reports[0][1], ConvmemError)


def test_what_is_not_wanted_is_not_opened(tmp_path):
    """A zip that did not change need not be looked into."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.jsonl", LINES)
    found, _ = found_in(tmp_path, is_wanted=lambda source: False)
    assert found == []


def test_names_without_their_suffixes(tmp_path):
    """A session's id is what its file is called, however it is packed."""
    for name, stem in (
        ("0b1c.jsonl", "0b1c"),
        ("rollout-2026.jsonl.zst", "rollout-2026"),
        ("agent-1.meta.json", "agent-1.meta"),
        (".aider.chat.history.md", ".aider.chat.history"),
        ("v1.2", "v1.2"),
        (".json", ".json"),
    ):
        (tmp_path / name).write_bytes(LINES)
        (source,), _ = found_in(tmp_path / name)
        assert (source.name, source.stem, source.folder) == (name, stem, tmp_path.name)
        source.close()


# --- going on ---------------------------------------------------------------------------------


def test_a_grown_file_is_read_from_where_it_ended(tmp_path):
    """Every quarter of an hour only what is new is read."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(LINES * 1000 + b'{"half":')
    (source,), _ = found_in(path)
    assert len(list(source.records())) == 2000
    offset, check = source.offset, source.check()
    assert offset == len(LINES) * 1000
    source.close()
    with path.open("ab") as file:
        file.write(b"1}\n" + A)
    (source,), _ = found_in(path)
    assert source.matches(offset, check)
    source.start_at(offset)
    assert [raw for raw, _ in source.records()] == [b'{"half":1}', A]
    assert source.unterminated
    assert source.offset == path.stat().st_size
    assert source.last_bytes(7) == A
    source.close()
    path.write_bytes(b" " + LINES * 2000)
    (source,), _ = found_in(path)
    assert not source.matches(offset, check)
    path.write_bytes(LINES)
    assert not source.matches(offset, check)
    assert source.matches(0, "")
    source.close()


def test_what_is_packed_is_not_taken_for_grown(tmp_path):
    """It is written anew when it changes, and read anew."""
    path = tmp_path / "a.jsonl"
    path.write_bytes(gzip.compress(LINES))
    (source,), _ = found_in(path)
    list(source.records())
    assert source.offset == len(LINES)
    assert source.check() == ""
    assert not source.matches(source.offset, source.check())
    assert source.last_bytes(3) is None
    source.close()


# --- other shapes -----------------------------------------------------------------------------


def test_a_document_is_read_whole(tmp_path):
    """Some formats are one value, over as many lines as somebody liked."""
    path = tmp_path / "a.json"
    path.write_bytes(json.dumps({"a": [1, 2]}, indent=2).encode())
    (source,), _ = found_in(path)
    source.head(3)
    assert source.document() == (path.read_bytes(), {"a": [1, 2]})
    path.write_bytes(b'{"a": [1')
    with pytest.raises(SourceUnreadable):
        source.document()
    source.close()


def test_text_comes_in_lines_with_their_ends(tmp_path, monkeypatch):
    """What is text is given back to the byte."""
    monkeypatch.setattr(containers, "MOST_TEXT_BYTES", 100)
    monkeypatch.setattr(sources, "_STEP", 64)
    text = b"# one\r\n\n  two  \n\xff" + b"x" * 1000 + b"\nend"
    path = tmp_path / "a.md"
    path.write_bytes(text)
    (source,), _ = found_in(path)
    lines = list(source.text_lines())
    assert b"".join(lines) == text
    assert lines[:3] == [b"# one\r\n", b"\n", b"  two  \n"]
    assert source.unterminated
    assert source.offset == len(text)
    source.close()


@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_database_is_read_while_its_owner_writes(tmp_path, mode):
    """Nobody closes their tools for an import, and an import stops nobody's."""
    path = tmp_path / "logs #1?.db"
    owner = sqlite3.connect(path)
    owner.execute(f"pragma journal_mode={mode}")
    owner.execute("create table t(x)")
    owner.execute("insert into t values ('kept'), (cast(x'ff41' as text))")
    owner.commit()
    (source,), _ = found_in(path)
    with_source = source.database()
    assert with_source.execute("select x from t").fetchall() == [("kept",), ("\ufffdA",)]
    owner.execute("insert into t values ('more')")
    owner.commit()
    assert with_source.execute("select count(*) from t").fetchone() == (3,)
    with pytest.raises(sqlite3.OperationalError):
        with_source.execute("insert into t values (1)")
    with_source.close()
    source.close()
    owner.close()


def test_a_packed_database_is_unpacked_aside(tmp_path):
    """SQLite wants a file; the one it gets is gone afterwards."""
    database = sqlite3.connect(tmp_path / "a.db")
    database.execute("create table t(x)")
    database.commit()
    database.close()
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.db", "logs.db")
    for source in sources_in(str(tmp_path / "a.zip"), print):
        assert source.head(15) == b"SQLite format 3"
        connection = source.database()
        assert connection.execute("select count(*) from t").fetchone() == (0,)
        spooled = connection.execute("pragma database_list").fetchone()[2]
        assert os.path.exists(spooled)
        connection.close()
        source.close()
        assert not os.path.exists(spooled)


def test_what_is_no_database_is_not_opened_as_one(tmp_path):
    """It would be an error of SQLite's, in its own words."""
    (tmp_path / "a.db").write_bytes(LINES)
    (source,), _ = found_in(tmp_path / "a.db")
    with pytest.raises(SourceUnreadable):
        source.database()
    source.close()
