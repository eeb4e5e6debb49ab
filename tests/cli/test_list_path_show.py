"""``convmem list`` and ``path``, and where every verb looks: archive, namespace, odd ids."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys

import pytest

ODD_IDS = ["two\nlines", "-rf", "--all", ".hidden", "a/b", "../up", "æ \U0001f600", "CON", "a", "A"]


@pytest.fixture
def trips(archive):
    """Three conversations, whose names, sizes and times are in different orders."""
    for name, day, text in (("a", 2, "x" * 500), ("b", 3, "x"), ("c", 1, "x" * 50)):
        chat = archive.conversation(name)
        chat.record("user", text, ts="2026-11-01T12:00:00Z")
        chat.record("assistant", text, ts=f"2026-11-0{day}T12:00:00.5Z")
    return archive


# --- list -------------------------------------------------------------------------------------


def test_the_conversation_used_last_comes_first_judged_by_its_turns(cli, trips, log):
    """A copy, a backup or a touch changes the file's time; what was said last does not."""
    os.utime(log("c"), (4e9, 4e9))
    assert cli("list").text == "b\na\nc\n"
    cli("record", "c", "now")
    trips.conversation("d").record("user", "no time at all", ts="2001-01-01T00:00:00Z")
    assert cli("list").text == "c\nb\na\nd\n"


def test_json_has_one_object_a_conversation_with_these_keys_in_this_order(cli, trips, log):
    """Stable for programs; none of it needs a file to be read whole."""
    found = cli("list", "--json").objects
    assert [list(each) for each in found] == [
        [
            *("continuation_id", "namespace", "bytes", "first_ts", "last_ts", "last_seq"),
            *("title", "compressed"),
        ]
    ] * 3
    assert found[0] == {
        "continuation_id": "b",
        "namespace": "default",
        "bytes": os.path.getsize(log("b")),
        "first_ts": "2026-11-01T12:00:00.000000Z",
        "last_ts": "2026-11-03T12:00:00.500000Z",
        "last_seq": 2,
        "title": "x",
        "compressed": False,
    }


def test_long_adds_the_exact_number_of_turns(cli, trips, log):
    """`last_seq` is not it: damage and dropped turns do not count, lines by hand do."""
    cli("compact", "a", "--keep-last", "1")
    with log("a").open("ab") as file:
        file.write(b'nonsense\n{"role":"user","content":"by hand"}\n')
    found = cli("list", "-l", "--json").objects
    assert {each["continuation_id"]: each["turns"] for each in found} == {"a": 2, "b": 2, "c": 2}
    assert list(found[0])[-2:] == ["compressed", "turns"]
    assert cli("list", "--long", "--json").out == cli("list", "-l", "--json").out


def test_the_newest_few_are_asked_for_by_number(cli, trips):
    """`show "$(convmem list -n 1)"`: what one was just talking about."""
    assert cli("list", "-n", "1").text == "b\n"
    assert cli("list", "--newest=2", "-0").out == b"b\0a\0"
    assert [each["continuation_id"] for each in cli("list", "-n9", "--json").objects] == list("bac")
    assert cli("list", "-n", "0").text == ""
    cli("list", "-n", "-1", code=2)
    cli("list", "-n", "some", code=2)


def test_a_conversation_without_turns_or_times_is_listed_last(cli, trips, log):
    """K19: a value that is not there must not spoil the order of the others."""
    cli("compact", "b", "--keep-last", "0")
    log("by-hand").write_bytes(b'{"role":"user","content":"when?"}\n')
    log("empty").write_bytes(b"")
    found = {each["continuation_id"]: each for each in cli("list", "--json").objects}
    assert list(found) == ["a", "c", "b", "by-hand", "empty"]
    assert (found["b"]["last_ts"], found["b"]["last_seq"]) == (None, 2)
    assert (found["by-hand"]["first_ts"], found["by-hand"]["last_seq"]) == (None, 0)


def test_an_archive_that_is_not_there_is_an_empty_list(cli):
    """The first thing that people try; it must neither fail nor make anything."""
    for flags in ([], ["--json"], ["-0"], ["-l"], ["--all-namespaces"], ["-N", "nobody"]):
        answer = cli("list", *flags)
        assert (answer.out, answer.err) == (b"", "")
    assert not os.path.exists(cli.root)


def test_with_0_any_id_is_told_apart_from_the_next(cli, archive):
    """An id may hold newlines; `list -0 | xargs -0` must not act on a piece of one."""
    for at, name in enumerate(ODD_IDS):
        archive.conversation(name).record("user", "x", ts=1e9 + at)
    assert cli("list", "-0").out == "".join(f"{name}\0" for name in reversed(ODD_IDS)).encode()
    assert cli("list", "--print0").out == cli("list", "-0").out
    assert [each["continuation_id"] for each in cli("list", "--json").objects] == ODD_IDS[::-1]


def test_list_feeds_back_into_every_verb(cli, archive):
    """`list -0 | xargs -0 -n1 convmem path --`: ids come out as they go in."""
    for name in ODD_IDS:
        archive.conversation(name).record("user", name)
    printed = cli("list", "-0").out.rstrip(b"\0").split(b"\0")
    assert sorted(printed) == sorted(name.encode() for name in ODD_IDS)
    for name in printed:
        assert cli("show", "--", name).contents == [name.decode()]
    assert len(cli("compact", "--keep-last", "0", "--json", "--", *printed).objects) == 10


def test_list_shows_one_namespace_and_with_a_flag_all(cli, archive):
    """O5: a tenant's list holds that tenant's conversations only."""
    for namespace in ("default", "team a", "B"):
        archive.conversation("trip", namespace=namespace).record("user", namespace)
    archive.conversation("other", namespace="B").record("user", "x")
    assert cli("list").text == "trip\n"
    assert cli("list", "-N", "B").text == "other\ntrip\n"
    found = cli("list", "--all-namespaces", "--json").objects
    assert sorted((each["namespace"], each["continuation_id"]) for each in found) == [
        ("B", "other"),
        ("B", "trip"),
        ("default", "trip"),
        ("team a", "trip"),
    ]


def test_what_is_no_conversation_is_not_listed(cli, trips, log):
    """K27: working files, links and strange names stand beside conversations, not among them."""
    folder = log().parent
    cli("compact", "--all", "--keep-last", "1")
    for name in (
        ".c.1.0123abcd.tmp",
        "notes.txt",
        "UPPER.jsonl",
        "%61.jsonl",
        ".x.jsonl",
        "b.json",
    ):
        (folder / name).write_text('{"role":"user","content":"x"}\n')
    (folder / "folder.jsonl").mkdir()
    os.symlink(log("a"), folder / "link.jsonl")
    os.mkfifo(folder / "pipe.jsonl")
    (folder.parent / "not-a-namespace").write_text("")
    (folder.parent / "%zz").mkdir()
    for flags in ([], ["-l"], ["--all-namespaces"]):
        answer = cli("list", *flags)
        assert (answer.text, answer.err) == ("b\na\nc\n", "")


def test_a_conversation_that_cannot_be_read_is_named_and_the_others_listed(cli, trips, log):
    """Done in part: exit 7."""
    os.chmod(log("b"), 0)
    try:
        answer = cli("list", "--json", code=7, prepare=cli.AS_ANYBODY)
    finally:
        os.chmod(log("b"), 0o600)
    assert [each["continuation_id"] for each in answer.objects] == ["a", "c"]
    assert [each["kind"] for each in answer.told] == ["permission"]
    assert "b.jsonl" in answer.told[0]["message"]


def test_people_see_a_table(cli, trips):
    """On a terminal: when, which, how large; in order, under headings."""
    for flags, headings in (
        (["-l"], ["last activity", "conversation", "title", "turns", "size"]),
        (
            ["-l", "--all-namespaces"],
            ["last activity", "namespace", "conversation", "title", "turns", "size"],
        ),
    ):
        shown = cli.on_terminal("list", *flags, on="1", TZ="UTC").shown
        first, *rows = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
        assert re.split(r"\s{2,}", first.strip()) == headings
        assert [row.split()[:2] for row in rows] == [
            ["2026-11-03", "12:00:00"],
            ["2026-11-02", "12:00:00"],
            ["2026-11-01", "12:00:00"],
        ]
    assert cli.on_terminal("list", "-0", on="1").shown == "b\0a\0c\0"


def test_a_long_id_is_listed_whole(cli):
    """The file's name has only the start of it; the sidecar has the rest."""
    long_id = "A" * 1024
    cli("record", long_id, "x")
    assert cli("list").text == f"{long_id}\n"
    assert cli("show", long_id).objects[0]["continuation_id"] == long_id
    shown = cli.on_terminal("list", on="1", columns=60).shown
    assert shown.count("A") == 1024


# --- path -------------------------------------------------------------------------------------


def test_path_prints_the_archive_or_the_file_of_a_conversation(cli, trips, log):
    """`grep … "$(convmem path trip)"` works on the very file, and the file can be read by cat."""
    assert cli("path").text == f"{os.path.realpath(cli.root)}\n"
    assert cli("path", "a").text == f"{os.path.realpath(log('a'))}\n"
    assert log("a").read_bytes().count(b"\n") == 2
    (tmp := log("a").parents[2] / "link").symlink_to(cli.root)
    assert cli("path", "-A", str(tmp)).text == f"{os.path.realpath(cli.root)}\n"


def test_path_of_an_archive_that_is_not_there_yet_says_where_it_will_be(cli):
    """To be put into a backup's configuration before the first turn."""
    assert cli("path").text == f"{os.path.realpath(cli.root)}\n"
    assert not os.path.exists(cli.root)


def test_path_of_an_unknown_conversation_is_3_and_prints_nothing(cli, trips):
    """`rm "$(convmem path typo)"` must not get a name to remove."""
    answer = cli("path", "nothing", code=3)
    assert answer.out == b""
    assert "there is no conversation 'nothing'" in answer.err
    cli("path", "a", "-N", "other", code=3)
    cli("path", "", code=2)


def test_path_of_a_conversation_whose_turns_were_all_dropped_is_there(cli, trips, log):
    """It exists: it is an empty conversation."""
    cli("compact", "a", "--keep-last", "0")
    assert cli("path", "a").text == f"{os.path.realpath(log('a'))}\n"


def test_a_path_may_hold_any_bytes(tmp_path, cli):
    """On Linux a folder's name need not be text; it must come out as it is."""
    root = os.fsencode(tmp_path) + b"/caf\xe9 \n"
    try:
        os.mkdir(root, 0o700)
    except OSError:
        pytest.skip("this file system takes only names that are text")
    cli("record", "trip", "hello", "-A", root)
    assert cli("path", "-A", root).out == os.path.realpath(root) + b"\n"
    assert cli("path", "trip", "--archive", root, LC_ALL="C").out.endswith(b"/trip.jsonl\n")


# --- where to look ----------------------------------------------------------------------------


@pytest.mark.parametrize("fast", [True, False], ids=["plain words", "through typer"])
def test_archive_and_namespace_before_and_after_the_verb_and_from_the_environment(
    tmp_path, cli, fast
):
    """The nearest word wins: after the verb, before it, the environment, the platform's folder."""
    more = [] if fast else ["-qr", "user"]
    places = {name: str(tmp_path / name) for name in ("after", "before", "env")}
    given = ["-A", places["before"], "-N", "before"]
    env = {"CONVMEM_ARCHIVE": places["env"], "CONVMEM_NAMESPACE": "env"}
    cli(*given, "record", "trip", "1", *more, "-A", places["after"], "--namespace=after", **env)
    cli(*given, "record", "trip", "2", *more, **env)
    cli("record", "trip", "3", *more, **env)
    cli("record", "trip", "4", *more, CONVMEM_ARCHIVE="", XDG_DATA_HOME=str(tmp_path / "home"))
    for at, path in enumerate(["after/after", "before/before", "env/env"]):
        assert f'"content":"{at + 1}"' in (tmp_path / path / "trip.jsonl").read_text()
    if sys.platform == "linux":
        path = tmp_path / "home" / "convmem" / "default" / "trip.jsonl"
        assert '"content":"4"' in path.read_text()
    assert cli("--archive", places["env"], "show", "trip", "-N", "env").contents == ["3"]


@pytest.mark.parametrize("verb", ["record", "tail", "show", "compact", "path"])
def test_an_id_that_begins_with_a_dash_comes_after_two_dashes(cli, verb):
    """`-rf` is a legal id; without the dashes it is a flag, and a wrong one is not guessed at."""
    cli("record", "--", "-x", "hello")
    words = {"record": ["-r", "tool"], "compact": ["--keep-last", "9"]}.get(verb, [])
    cli(verb, *words, "--", "-x", *(["again"] if verb == "record" else []))
    cli(verb, "-x", code=2)
    assert cli("list").text == "-x\n"


@pytest.mark.parametrize(
    "locale",
    [
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"LC_ALL": "en_US.ISO-8859-1", "PYTHONIOENCODING": "latin-1", "PYTHONUTF8": "0"},
        {"LC_ALL": "POSIX", "LANG": "", "PYTHONIOENCODING": "ascii"},
    ],
    ids=["C", "latin-1", "ascii streams"],
)
def test_text_is_utf8_in_every_locale(tmp_path, cli, locale):
    """K24: cron has no locale; ids, text, notes, paths and messages are UTF-8 all the same."""
    said = "blåbær \u2028 \U0001f600"
    root = str(tmp_path / "blå")
    cli("record", "æ", said, "--meta", f"å={said}", "-A", root, **locale)
    cli("record", "æ", "-A", root, "-r", "rôle", stdin=f"{said}\n".encode(), **locale)
    given = f'{{"role":"user","content":"{said}"}}\n'.encode()
    cli("record", "æ", "-A", root, "--jsonl", stdin=given, **locale)
    answer = cli("show", "æ", "-A", root, **locale)
    assert answer.contents == [said] * 3
    assert said.encode() in answer.out
    assert answer.objects[0]["meta"] == {"å": said}
    assert cli("list", "-A", root, **locale).out == "æ\n".encode()
    assert cli("path", "æ", "-A", root, **locale).out == f"{root}/default/%c3%a6.jsonl\n".encode()
    assert "'ø'" in cli("show", "ø", "-A", root, code=3, **locale).err
    shown = cli.on_terminal("show", "æ", "-A", root, on="1", **locale).shown
    assert "blåbær" in shown and "\U0001f600" in shown
    (answer,) = cli("show", "æ", "-A", root, "-r", "rôle", **locale).objects
    assert answer["role"] == "rôle"


def test_the_shell_completes_the_ids_that_are_there(cli, archive):
    """TAB after `convmem tail` is how people find out how they had called it."""
    for name in ("trip-oslo", "trip-rome", "other"):
        archive.conversation(name).record("user", "x")
    for line, found in (("tail trip-", ["trip-oslo", "trip-rome"]), ("compact other tr", None)):
        words = f"convmem {line}"
        asked = {"_CONVMEM_COMPLETE": "complete_bash", "COMP_WORDS": words}
        answer = cli(COMP_CWORD=str(len(words.split()) - 1), **asked)
        assert answer.text.split() == (found or ["trip-oslo", "trip-rome"])


def test_the_program_and_the_module_are_the_same(cli):
    """`python -m convmem` where the script is not on the path; both know their version."""
    from convmem import __version__

    assert cli("--version").text == f"convmem {__version__}\n"
    script = shutil.which("convmem", path=os.path.dirname(sys.executable))
    if script is None:
        pytest.skip("the package is not installed here")
    done = subprocess.run([script, "--version"], capture_output=True, timeout=60, check=True)
    assert done.stdout.decode() == f"convmem {__version__}\n"
