"""``convmem config``, and what a ``convmem.toml`` that is wrong does to each verb."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from convmem import Durability
from convmem.cli.places import open_archive
from convmem.cli.spec import Context
from convmem.thresholds import SETTINGS

BROKEN = {
    "not toml": "sync = \n",
    "an unknown key": 'lock_timout = "3s"\n',
    "a wrong value": "remember = 24\n",
    "not utf-8": b"# caf\xe9\n",
}


@pytest.fixture
def write(root):
    """Write the archive's file of settings."""

    def written(text):
        Path(root).mkdir(mode=0o700, exist_ok=True)
        path = Path(root, "convmem.toml")
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return written


# --- show and path -----------------------------------------------------------------------------


def test_show_says_each_value_and_where_it_came_from(cli, write):
    """S2o: whoever wonders why a threshold is what it is needs one command."""
    path = write('\nlock_timeout = "3s"\n[health]\nmin_free = "2G"\n')
    rows = [line.split("\t") for line in cli("config", CONVMEM_JOBS="4").text.splitlines()]
    assert [name for name, _, _ in rows] == list(SETTINGS)
    told = {name: (value, source) for name, value, source in rows}
    assert told["lock_timeout"] == ("3s", f"{path}:2")
    assert told["health.min_free"] == ("2.0 GiB", f"{path}:4")
    assert told["jobs"] == ("4", "environment CONVMEM_JOBS")
    assert told["sync"] == ("always", "default")
    assert cli("config", "show", CONVMEM_JOBS="4").text == cli("config", CONVMEM_JOBS="4").text


def test_show_as_json_has_numbers_in_one_unit(cli, write):
    """Programs compare; they do not parse "2.0 GiB"."""
    path = write('lock_timeout = "1min"\n[health]\nmin_free = "2G"\n')
    told = {each["name"]: each for each in cli("config", "show", "--json").objects}
    assert list(told) == list(SETTINGS)
    assert told["lock_timeout"] == {
        "name": "lock_timeout",
        "value": 60.0,
        "unit": "seconds",
        "source": "file",
        "variable": "CONVMEM_LOCK_TIMEOUT",
        "path": str(path),
        "line": 1,
        "default": 10.0,
        "about": SETTINGS["lock_timeout"].doc,
    }
    assert (told["health.min_free"]["value"], told["health.min_free"]["unit"]) == (2 << 30, "bytes")
    assert (told["sync"]["unit"], told["sync"]["path"], told["sync"]["line"]) == (None, None, None)


def test_on_a_terminal_show_is_a_table_also_in_a_narrow_one(cli, write):
    """Nothing is cut off; long cells go on below."""
    write('lock_timeout = "3s"\n')
    for columns in (200, 30):
        shown = cli.on_terminal("config", columns=columns).shown
        lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
        assert lines[0].split() == ["setting", "value", "from"]
        assert all(len(line) <= columns for line in lines)
        assert not set(shown) & set("\t\N{HORIZONTAL ELLIPSIS}")
    assert len(lines) > len(SETTINGS) + 1


def test_path_says_where_the_file_is_or_would_be(cli, root, tmp_path):
    """`$EDITOR "$(convmem config path)"`; it makes nothing."""
    assert cli("config", "path").text == f"{root}/convmem.toml\n"
    assert not Path(root).exists()
    cli("config", "path", "-A", str(tmp_path / "other"))


def test_a_word_that_config_does_not_know_is_wrong_usage(cli):
    """With the one that was meant."""
    assert "did you mean check?" in cli("config", "chek", code=2).err
    assert "show, path, check" in cli("config", "xyz", code=2).err


# --- check -------------------------------------------------------------------------------------

RULES = """
[[keep]]
id = "legal-*"

[[retention]]
id = "ci-*"
keep_last = 200
max_age = "90d"
max_bytes = "20M"

[[retention]]
namespace = "b"
keep_last = 1
compress_idle = "60d"
delete_idle = "1y"

[archive]
max_age = "2y"
max_bytes = "20G"

[trash]
max_age = "30d"
"""


def test_check_says_what_each_rule_means_and_of_how_many_conversations(cli, write, archive):
    """A policy is read back in other words before it is let loose."""
    path = write(RULES)
    for namespace, name in (("default", "ci-1"), ("b", "ci-2"), ("b", "x"), ("default", "y")):
        archive.conversation(name, namespace=namespace).record("user", "x")
    archive.conversation("legal-ci-1").record("user", "x")
    assert cli("config", "check").text.splitlines() == [
        f"{path} is right",
        "keep 1 (line 2): id legal-* in any namespace: nothing touches it [1 conversation]",
        "retention 1 (line 5): id ci-* in any namespace: turns older than 90d go, but for the"
        " newest 200; the oldest turns go until it takes no more than 20.0 MiB [2 conversations]",
        "retention 2 (line 11): any id in namespace b: all turns but the newest 1 go;"
        " is compressed when idle for more than 60d;"
        " goes to the trash when idle for more than 1y [1 conversation]",
        "archive (line 17): whole conversations go to the trash when idle for more than 2y;"
        " whole conversations go to the trash, idle longest first, until all logs take no more"
        " than 20.0 GiB; none that was active within 7d [4 conversations]",
        "trash (line 21): what is in the trash for more than 30d is deleted for good",
        "no retention rule speaks of it [1 conversation]",
    ]
    told = cli("config", "check", "--json").objects
    assert [(each["table"], each.get("conversations")) for each in told] == [
        ("keep", 1),
        ("retention", 2),
        ("retention", 1),
        ("archive", 4),
        ("trash", None),
        (None, 1),
    ]
    assert told[2]["namespace"] == ["b"] and told[2]["id"] == ["*"]


def test_check_names_every_problem_at_once_and_ends_with_2(cli, write):
    """Settings, rules and the environment in one go."""
    path = write('lock_timout = "3s"\nremember = 24\n[[retention]]\nkeep_last = true\n')
    answer = cli("config", "check", code=2, CONVMEM_JOBS="many")
    assert answer.text == ""
    errors = [line for line in answer.err.splitlines() if line.startswith("convmem: error: ")]
    assert [line.split(": ")[2] for line in errors] == [
        f"{path}:1",
        f"{path}:2",
        "CONVMEM_JOBS must be a whole number, 0 or more, not 'many'",
        f"{path}:4",
    ]
    told = cli("config", "check", "--json", code=2).told
    assert [(each["level"], each["kind"]) for each in told] == [("error", "usage")] * 3


def test_check_warns_of_what_is_right_and_yet_without_effect(cli, write):
    """A rule below one that takes all, and a variable that nobody reads."""
    path = write("[[retention]]\nkeep_last = 1\n[[retention]]\nid = 'x'\nkeep_last = 2\n")
    answer = cli("config", "check", CONVMEM_LOCK_TIMOUT="3s")
    assert f"{path}:3: retention rule 2 never counts" in answer.err
    assert "CONVMEM_LOCK_TIMOUT in the environment is no setting" in answer.err
    assert "did you mean CONVMEM_LOCK_TIMEOUT?" in answer.err
    assert json.loads(cli("config", "check", "--json").err.splitlines()[0])["level"] == "warning"


def test_check_without_a_file_says_so_and_makes_nothing(cli, root):
    """The first thing that a new operator tries."""
    answer = cli("config", "check")
    assert f"there is no {root}/convmem.toml" in answer.text and answer.err == ""
    assert not Path(root).exists()


# --- what a broken file does --------------------------------------------------------------------


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_who_records_and_reads_warns_and_goes_on(cli, write, text):
    """A slip of the pen at noon must not cost the turns of the afternoon."""
    path = write(text)
    for words in (
        ("record", "trip", "one"),
        ("tail", "trip"),
        ("show", "trip"),
        ("list",),
        ("path", "trip"),
    ):
        answer = cli(*words)
        assert answer.err.startswith(f"convmem: warning: {path}:1: "), words
        assert "going on without it" in answer.err
    assert cli("tail", "trip").contents == ["one"]
    (told, *_) = cli("record", "trip", "two", "--json").told
    assert (told["level"], told["kind"]) == ("warning", "settings")
    assert cli("record", "-q", "trip", "three").err == ""
    write("")
    assert cli("tail", "trip").err == ""


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("words", [("compact", "--all", "--keep-last", "0"), ("config", "show")])
def test_who_removes_refuses_to_work_and_names_the_line(cli, write, log, text, words):
    """A broken file never means "the defaults" to what cannot be undone in a moment."""
    cli("record", "trip", "one")
    before = log().read_bytes()
    path = write(text)
    answer = cli(*words, code=2)
    assert f"convmem: error: {path}:1: " in answer.err
    assert json.loads(cli(*words, "--json", code=2).err)["kind"] == "usage"
    assert log().read_bytes() == before


def test_a_broken_rule_is_no_matter_of_who_records(cli, write):
    """They never read it."""
    write("[[retention]]\nkep_last = 3\n")
    assert cli("record", "trip", "one").err == ""
    assert cli("config", "check", code=2).text == ""


def test_the_wait_for_a_lock_is_the_one_that_is_set(cli, write, archive, log):
    """The file reaches the engine; the environment comes before it, a wrong one is told."""
    import fcntl

    archive.conversation("trip").record("user", "x")
    (lock,) = (log().parent / ".locks").glob("trip*")
    write('lock_timeout = "50ms"\n')
    with lock.open("rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        fcntl.lockf(held, fcntl.LOCK_EX)
        assert "0.05" in cli("record", "trip", "y", code=6).err
        assert "0.02" in cli("record", "trip", "y", code=6, CONVMEM_LOCK_TIMEOUT="20ms").err


def test_record_syncs_as_it_is_set_and_a_flag_comes_first(root, write):
    """The order, once more, where it decides what a power cut may take."""
    write('sync = "interval"\ninterval_turns = 5\ninterval_time = "200ms"\n')

    def durability(flag, **env):
        with open_archive(Context(archive=root, env=env), durability=flag) as archive:
            return archive.conversation("x")._durability

    interval = Durability.interval(turns=5, seconds=0.2)
    assert durability(None) == interval
    assert durability(None, CONVMEM_SYNC="none") == Durability.NONE
    assert durability("always", CONVMEM_SYNC="none") == Durability.ALWAYS
    assert durability("interval", CONVMEM_SYNC="none") == interval
