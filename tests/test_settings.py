"""Settings: the order in which places count, and that nothing wrong is taken for something else."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from convmem.errors import StorageDenied, StorageError, UsageError
from convmem.rules import Rules
from convmem.settings import FILE_NAME, RULE_TABLES, Settings
from convmem.thresholds import SETTINGS, shown

EXAMPLE = Path(__file__).parents[1] / "examples" / FILE_NAME


@pytest.fixture
def write(tmp_path):
    """Write the file of settings, and return the archive's path."""

    def written(text):
        (tmp_path / FILE_NAME).write_bytes(text if isinstance(text, bytes) else text.encode())
        return str(tmp_path)

    return written


def _told(root, env=None):
    problems = []
    return Settings.load(root, env or {}, on_problem=problems.append), problems


# --- the order ---------------------------------------------------------------------------------


def test_the_environment_comes_before_the_file_and_the_file_before_the_default(write):
    """S2o: one order for all of them, which a person can keep in mind."""
    root = write('lock_timeout = "3s"\nremember = "2d"\n[health]\nmin_free = "2G"\n')
    settings = Settings.load(root, {"CONVMEM_LOCK_TIMEOUT": "1min", "CONVMEM_JOBS": "4"})
    assert settings.seconds("lock_timeout") == 60
    assert settings.seconds("remember") == 2 * 86_400
    assert settings.number("health.min_free") == 2 << 30
    assert settings.number("jobs") == 4
    assert settings.word("sync") == "always"
    assert [settings.source(each) for each in ("lock_timeout", "remember", "sync")] == [
        "environment",
        "file",
        "default",
    ]
    assert settings.line_of("health", "min_free") == 4


@pytest.mark.parametrize("name", SETTINGS)
def test_every_setting_can_be_set_in_both_places_to_what_is_shown_for_it(name, write):
    """What `config show` prints can be copied into the file or the environment."""
    setting = SETTINGS[name]
    typed = shown(setting.kind, setting.default)
    table, _, key = name.rpartition(".")
    written = typed if setting.kind in ("count", "switch") else f'"{typed}"'
    root = write(f"[{table}]\n{key} = {written}" if table else f"{key} = {written}")
    from_file = Settings.load(root, {})
    assert (from_file.value(name), from_file.source(name)) == (setting.default, "file")
    from_env = Settings.load(root, {setting.variable: typed})
    assert (from_env.value(name), from_env.source(name)) == (setting.default, "environment")
    assert type(from_file.value(name)) is type(setting.default)


def test_without_a_file_everything_is_as_by_default(tmp_path):
    """Also where the archive is not there yet."""
    for root in (str(tmp_path), str(tmp_path / "not" / "there")):
        settings = Settings.load(root, {"CONVMEM_SYNC": ""})
        assert not settings.has_file and settings.tables == {}
        assert all(settings.value(name) == SETTINGS[name].default for name in SETTINGS)
        assert settings.line_of("sync") is None


def test_the_defaults_are_those_of_the_library():
    """Two truths about one threshold would drift apart."""
    from convmem import Durability, archive

    assert SETTINGS["lock_timeout"].default == archive.DEFAULT_LOCK_TIMEOUT_SECONDS
    assert SETTINGS["remember"].default == archive.DEFAULT_REMEMBER_SECONDS
    interval = Durability.interval()
    assert SETTINGS["interval_turns"].default == interval.turns
    assert SETTINGS["interval_time"].default == interval.seconds


# --- what is wrong -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "message", "hint"),
    [
        ("lock_timout = '3s'", 1, "unknown key 'lock_timout'", "did you mean lock_timeout?"),
        ("\n[helth]\nmin_free = '1G'", 2, "unknown table [helth]", None),
        ("[health]\n\nmin_fre = '1G'", 3, "unknown key 'min_fre' in [health]", "health.min_free"),
        ("[health]\nsync = 'none'", 2, "unknown key 'sync'", "before the first [table]"),
        ("min_free = '1G'", 1, "unknown key 'min_free'", "stands in [health]"),
        ("health = 3", 1, "health must be a table", "write [health]"),
        ("lock_timeout = 10", 1, "must be a duration in quotes, not 10", '"10s"'),
        ("lock_timeout = '10'", 1, "'10' has no unit", "10s"),
        ("lock_timeout = '-10s'", 1, "negative", None),
        ("lock_timeout = '2d'", 1, "must be at most 1d", None),
        ("lock_timeout = ['1s']", 1, "not an array", None),
        ("interval_time = '0s'", 1, "must be at least 1ms", None),
        ("remember = '30m'", 1, "could mean minutes or months", "30min"),
        ("jobs = true", 1, "must be a whole number, 0 or more, not true", None),
        ("jobs = -1", 1, "not -1", None),
        ("jobs = 1.5", 1, "not 1.5", None),
        ("jobs = '4'", 1, "not '4'", None),
        ("interval_turns = 0", 1, "must be at least 1", None),
        ("sync = 'allways'", 1, "must be always or interval or none", "did you mean always?"),
        ("sync = true", 1, "not true", None),
        ("[health]\nmin_free = '1 bag'", 2, "'1 bag' is not a size", None),
        ("[health]\nmin_free_fatal = '2G'", None, "min_free_fatal is more than", None),
        ("sync = 'none'\nsync = 'none'", 2, "the key is there twice", None),
        ("a = 1\nb = [", 2, "", "settings are TOML"),
        (b"# caf\xe9\n", 1, "not UTF-8", None),
        ("x" * (1 << 20) + "x", None, "larger than 1 MiB", None),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_its_line_and_a_way_out(
    write, text, line, message, hint
):
    """S2o: a slip must neither be ignored nor be guessed at."""
    root = write(text)
    with pytest.raises(UsageError) as caught:
        Settings.load(root, {})
    assert message in str(caught.value)
    if line is not None:
        assert str(caught.value).startswith(f"{root}/{FILE_NAME}:{line}: ")
    if hint is not None:
        assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("variable", "typed"),
    [
        ("CONVMEM_LOCK_TIMEOUT", "10"),
        ("CONVMEM_SYNC", "Always"),
        ("CONVMEM_JOBS", "-1"),
        ("CONVMEM_JOBS", "9" * 5000),
        ("CONVMEM_HEALTH_MIN_FREE", "much"),
    ],
)
def test_what_is_wrong_in_the_environment_is_named_by_its_variable(tmp_path, variable, typed):
    """The value in the file must not step in for one that somebody meant to change."""
    with pytest.raises(UsageError, match=f"{variable} must be") as caught:
        Settings.load(str(tmp_path), {variable: typed})
    assert len(str(caught.value)) < 300


def test_who_must_go_on_is_told_each_problem_and_keeps_what_is_right(write):
    """A slip of the pen may cost no turn: `record` warns and goes on."""
    root = write('lock_timeout = "3s"\nremember = 5\nnonsense = 1\n')
    settings, problems = _told(root, {"CONVMEM_LOCK_TIMEOUT": "?"})
    assert [re.search(r"remember|nonsense|CONVMEM_LOCK_TIMEOUT", str(e))[0] for e in problems] == [
        "remember",
        "nonsense",
        "CONVMEM_LOCK_TIMEOUT",
    ]
    assert settings.seconds("lock_timeout") == 3
    assert settings.source("remember") == "default"
    settings, problems = _told(write("["))
    assert len(problems) == 1 and settings.has_file and settings.tables == {}


def test_one_error_says_how_many_more_there_are(write):
    """Nobody should mend a file in five rounds."""
    with pytest.raises(UsageError) as caught:
        Settings.load(write("a = 1\nb = 2\nc = 3\n"), {})
    assert "2 more" in caught.value.hint and "config check" in caught.value.hint


def test_links_and_pipes_are_not_followed(tmp_path):
    """As nowhere in the archive; a pipe would hold every command until somebody writes to it."""
    other = tmp_path / "other.toml"
    other.write_text("sync = 'none'")
    os.symlink(other, tmp_path / FILE_NAME)
    with pytest.raises(StorageDenied):
        Settings.load(str(tmp_path), {})
    (tmp_path / FILE_NAME).unlink()
    os.mkfifo(tmp_path / FILE_NAME)
    with pytest.raises(StorageDenied, match="not a regular file"):
        Settings.load(str(tmp_path), {})
    (tmp_path / FILE_NAME).unlink()
    (tmp_path / FILE_NAME).mkdir()
    with pytest.raises(StorageError):
        Settings.load(str(tmp_path), {})
    settings, problems = _told(str(tmp_path))
    assert len(problems) == 1 and settings.word("sync") == "always"


def test_rules_are_left_to_those_who_carry_them_out(write):
    """A turn must not wait for somebody to mend a rule."""
    root = write('sync = "none"\n[[retention]]\nkep_last = 3\n')
    settings, problems = _told(root)
    assert problems == [] and settings.word("sync") == "none"
    with pytest.raises(UsageError, match="kep_last"):
        Rules.of(settings)


# --- the cost and the example ------------------------------------------------------------------


def test_settings_cost_nothing_where_there_are_none():
    """They are on the way of every `record`; TOML is loaded with the first file only."""
    look = (
        "import sys; before = set(sys.modules); from convmem.settings import Settings;"
        "s = Settings.load('/nowhere', {'CONVMEM_SYNC': 'none'}); assert s.word('sync') == 'none';"
        "print(*(set(sys.modules) - before))"
    )
    done = subprocess.run(
        [sys.executable, "-c", look],
        env={**os.environ, "PYTHONPATH": str(EXAMPLE.parents[1])},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
        timeout=60,
    )
    loaded = set(done.stdout.split())
    assert not loaded & {"tomllib", "re", "typing", "dataclasses", "enum", "json", "difflib"}
    assert "convmem.tomltext" not in loaded


def test_the_example_changes_nothing_as_it_stands(write):
    """It is copied into archives by people who want to look at it first."""
    settings = Settings.load(write(EXAMPLE.read_text()), {})
    assert settings.tables == {}
    assert Rules.of(settings) == Rules()


def test_the_example_taken_at_its_word_is_right_and_names_every_setting(write):
    """What it shows is the default, so that taking away one # changes one thing."""
    text = re.sub(r"^#(?=\S)", "", EXAMPLE.read_text(), flags=re.MULTILINE)
    settings = Settings.load(write(text), {})
    for name, setting in SETTINGS.items():
        assert (settings.value(name), settings.source(name)) == (setting.default, "file"), name
    rules = Rules.of(settings)
    assert rules.doubts() == []
    assert set(RULE_TABLES) <= set(settings.tables)
    assert len(rules.keep) == len(rules.retention) == 2
    last = rules.retention[-1]
    assert None not in (last.policy, last.delete_idle_seconds, last.compress_idle_seconds)
