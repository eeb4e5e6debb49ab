"""``convmem state``: session ids and tokens, for scripts."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from convmem.log import state
from convmem.log.files import Folder


@pytest.fixture
def file(root):
    """Where the state of the conversation is, or will be."""
    return Path(root, "default", ".state", "trip.json")


def test_what_was_set_is_got_as_a_script_wants_it(cli):
    """Text as it is, so that `$(…)` takes it; anything else as JSON."""
    assert cli("state", "trip", "set", "session=abc", "n:=3", 'o:={"a": [1, null]}').out == b""
    assert cli("state", "trip", "get", "session").text == "abc\n"
    assert cli("state", "trip", "get", "n").text == "3\n"
    assert cli("state", "trip", "get", "o").text == '{"a":[1,null]}\n'
    assert cli("state", "trip", "get").text == '{"session":"abc","n":3,"o":{"a":[1,null]}}\n'
    assert cli("state", "trip", "get", "session", "--json").text == '"abc"\n'


def test_set_merges_and_null_removes(cli):
    """A19: one worker's key is not another's; the empty text is a value, null is none."""
    cli("state", "trip", "set", "a=1", "b=2", "c=3")
    answer = cli("state", "trip", "set", "a=", "b:=null", "d:=true", "--json")
    assert answer.objects == [{"a": "", "c": "3", "d": True}]


@pytest.mark.parametrize(
    ("word", "key", "value"),
    [
        ("url=http://x/?a:=1", "url", "http://x/?a:=1"),
        ("a:b=c", "a:b", "c"),
        ("a.b=-1", "a.b", "-1"),
        ("a:=-1", "a", -1),
        ('a:="-"', "a", "-"),
        ("a:=1234567890123456789012345", "a", 1234567890123456789012345),
        ("a==", "a", "="),
        ("æ= \u2028 ", "æ", " \u2028 "),
    ],
)
def test_the_first_equals_sign_parts_key_and_value(cli, word, key, value):
    """A token may hold any sign; people should not have to guess which ones."""
    assert cli("state", "trip", "set", word, "--json").objects == [{key: value}]


def test_a_secret_comes_from_standard_input(cli):
    """What stands on a command line stands in the list of processes, for everybody to read."""
    cli("state", "trip", "set", "token=-", "n=1", stdin=b"se cr\net\n")
    assert cli("state", "trip", "get", "token").out == b"se cr\net\n"
    cli("state", "trip", "set", "o:=-", stdin=b'{"a":1}\n')
    assert cli("state", "trip", "get", "--json").objects == [
        {"token": "se cr\net", "n": "1", "o": {"a": 1}}
    ]


def test_without_a_key_standard_input_is_an_object_to_merge(cli):
    """Reading from a pipe needs no flag; and any text can be a key this way."""
    cli("state", "trip", "set", "a=1", "b=2")
    cli("state", "trip", "set", stdin=b'{"a": null, "c=d": [1.0]}')
    assert cli("state", "trip", "get").text == '{"b":"2","c=d":[1.0]}\n'
    copy = cli("state", "trip", "get").out
    cli("state", "other", "set", stdin=copy)
    assert cli("state", "other", "get").out == copy


def test_keys_with_a_time_to_live_are_gone_after_it(cli):
    """O3: on reading, whoever reads."""
    cli("state", "trip", "set", "token=x", "--ttl", "1ms")
    cli("state", "trip", "set", "kept=1", "later=2", "--ttl", "1h")
    assert cli("state", "trip", "get").objects == [{"kept": "1", "later": "2"}]
    assert cli("state", "trip", "get", "token", code=1).out == b""


def test_a_key_that_is_not_there_is_exit_1(cli):
    """So that `session=$(convmem state … get session) || …` works."""
    cli("state", "trip", "set", "a=1")
    answer = cli("state", "trip", "get", "b", code=1)
    assert answer.out == b""
    assert "no 'b'" in answer.err
    assert cli("state", "trip", "get", "b", "-q", code=1).err == ""
    assert cli("state", "trip", "get", "b", "--json", code=1).told[0]["kind"] == "no_key"


def test_unset_removes_keys_and_clear_all(cli, file):
    """Both may be said twice."""
    cli("state", "trip", "set", "a=1", "b=2", "c=3")
    cli("state", "trip", "unset", "a", "never")
    cli("state", "trip", "unset", "a")
    assert cli("state", "trip", "unset", "b", "--json").objects == [{"c": "3"}]
    assert cli("state", "trip", "clear", "--json").objects == [
        {"cleared": True, "dry_run": False, "keys": ["c"]}
    ]
    assert not file.exists()
    cli("record", "trip", "hello")
    cli("state", "trip", "unset", "a")
    cli("state", "trip", "clear")
    assert cli("state", "trip", "get").text == "{}\n"


def test_a_dry_run_says_what_would_go_and_changes_nothing(cli, file):
    """Everything that removes can be tried first."""
    cli("state", "trip", "set", "a=1", "b=2")
    before = file.read_bytes()
    assert cli("state", "trip", "unset", "a", "z", "--dry-run").text == "would remove a\n"
    assert cli("state", "trip", "unset", "a", "--dry-run", "--json").objects == [{"b": "2"}]
    assert cli("state", "trip", "clear", "--dry-run").text == "would remove a\nwould remove b\n"
    assert cli("state", "trip", "clear", "--dry-run", "--json").objects == [
        {"cleared": True, "dry_run": True, "keys": ["a", "b"]}
    ]
    assert file.read_bytes() == before


@pytest.mark.parametrize("words", [["get"], ["get", "a"], ["unset", "a"], ["clear"]])
@pytest.mark.parametrize("more", [[], ["--json"]])
def test_an_id_with_neither_turns_nor_state_is_exit_3_and_stays_so(cli, root, words, more):
    """A wrong id must not look like an empty state."""
    answer = cli("state", "trip", *words, *more, code=3)
    assert answer.out == b""
    assert not os.path.exists(root)
    cli("record", "other", "hello")
    cli("state", "trip", *words, *more, code=3)
    assert cli("list").text == "other\n"


def test_clear_removes_a_state_that_has_expired_from_the_disk(cli, file):
    """An old token is still a secret."""
    cli("state", "trip", "set", "token=secret", "--ttl", "1ms")
    assert file.exists()
    cli("state", "trip", "get", code=3)
    cli("state", "trip", "clear")
    assert not file.exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["fetch"], "'fetch' is no action: get, set, unset or clear"),
        (["get", "a", "b"], "get takes one KEY"),
        (["get", "--ttl", "1h"], "--ttl does not go with get"),
        (["set", "a=1", "--dry-run"], "--dry-run does not go with set"),
        (["set", "a"], "neither KEY=TEXT nor KEY:=JSON"),
        (["set", "=1"], "neither KEY=TEXT nor KEY:=JSON"),
        (["set", ":=1"], "neither KEY=TEXT nor KEY:=JSON"),
        (["set", "a=1", "a:=2"], "'a' is set twice"),
        (["set", "a=-", "b=-"], "only one value"),
        (["set", "a:=text"], "a: not JSON"),
        (["set", "a:=NaN"], "a: not JSON"),
        (["set", "_a=1"], "reserved"),
        (["set", b"a=\xff"], "a: not UTF-8"),
        (["set", b"\xff=a"], "surrogate"),
        (["set", "a=1", "--ttl", "soon"], "--ttl"),
        (["set", "a=1", "--ttl", "10000y"], "too long"),
        (["set"], "standard input: not JSON"),
        (["unset"], "needs a KEY"),
        (["clear", "a"], "clear takes no KEY"),
        ([], "ACTION"),
    ],
    ids=range(20),
)
def test_wrong_usage_is_exit_2_and_changes_nothing(cli, root, words, says):
    """What was meant is never guessed at where a secret is concerned."""
    answer = cli("state", "trip", *words, code=2)
    assert says in answer.err
    assert answer.out == b""
    assert not os.path.exists(root)


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"[1]", "not a JSON object"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b'{"a":"\\ud800"}', "surrogate"),
        (b'{"a":"' + b"x" * state.MAX_BYTES + b'"}', "too long"),
    ],
    ids=range(4),
)
def test_standard_input_that_is_no_state_is_exit_2(cli, root, data, says):
    """As above, from a pipe."""
    assert says in cli("state", "trip", "set", stdin=data, code=2).err
    assert not os.path.exists(root)


def test_set_at_a_terminal_does_not_wait_for_an_object(cli):
    """It would look as if it hung."""
    answer = cli.on_terminal("state", "trip", "set", code=2)
    assert "set needs KEY=VALUE" in answer.shown


def test_a_terminal_gets_a_laid_out_object_that_cannot_drive_it(cli):
    """A stranger's token may hold whatever a terminal takes for a command."""
    cli("state", "trip", "set", stdin=b'{"a":"\\u001b]0;x\\u0007","b":{"c":1},"d":"\\u009b1m"}')
    assert cli.on_terminal("state", "trip", "get").shown == (
        '{\n  "a": "\\u001b]0;x\\u0007",\n  "b": {\n    "c": 1\n  },\n  "d": "\\x9b1m"\n}\n'
    )
    assert cli.on_terminal("state", "trip", "get", "a").shown == "\\x1b]0;x\\x07\n"
    assert cli("state", "trip", "get", "a").out == b"\x1b]0;x\x07\n"


def test_damage_is_exit_5_until_clear_sets_it_aside(cli, file):
    """The next step stands in the hint, and loses no byte."""
    cli("state", "trip", "set", "token=secret")
    file.write_bytes(file.read_bytes().replace(b"secret", b"sekret"))
    damaged = file.read_bytes()
    for words in (["get"], ["get", "token"], ["set", "a=1"], ["unset", "token"]):
        answer = cli("state", "trip", *words, "--json", code=5)
        assert answer.told[0]["kind"] == "damaged"
        assert "clear" in answer.told[0]["hint"]
    assert "quarantine" in cli("state", "trip", "clear", "--dry-run").text
    assert file.read_bytes() == damaged
    (told,) = cli("state", "trip", "clear", "--json").told
    assert told["kind"] == "set_aside"
    assert Path(file.parents[1], ".quarantine", told["quarantine"]).read_bytes() == damaged
    cli("state", "trip", "set", "a=1")


def test_a_state_that_is_held_by_others_is_exit_6(cli, root):
    """Busy is not damaged and not forbidden: try again."""
    cli("state", "trip", "set", "a=1")
    folder = Folder.open(os.path.join(root, "default"))
    held = state.lock_of(folder, "trip")
    held.acquire(0)
    cli("state", "trip", "set", "a=2", code=6, CONVMEM_LOCK_TIMEOUT="1ms")
    held.release()
    assert cli("state", "trip", "get").objects == [{"a": "1"}]
    folder.close()


def test_a_full_disk_is_exit_4_and_leaves_the_state_as_it_was(cli, file):
    """K10: an action that fails changes nothing."""
    cli("state", "trip", "set", "a=1")
    before = file.read_bytes()
    answer = cli("state", "trip", "set", f"a={'x' * 1000}", prepare=cli.WITH_FULL_DISK, code=4)
    assert "file too large" in answer.err
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["trip.json"]


def test_ids_and_keys_that_look_like_flags_work_behind_two_dashes(cli):
    """As with every command."""
    cli("state", "--json", "--", "-rf", "set", "--all=1")
    assert json.loads(cli("state", "--", "-rf", "get").out) == {"--all": "1"}
