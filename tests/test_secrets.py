"""Likely credentials: which are found, what a mask covers, and that nothing else changes."""

from __future__ import annotations

import builtins
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from random import Random

import pytest
from credentials_made import AROUND, KINDS, NAMED, harmless
from hypothesis import given, settings
from hypothesis import strategies as st

from convmem import Turn
from convmem.errors import UsageError

pytest.importorskip("kingfisher_sdk", reason="needs kingfisher-secret-scanner")

from convmem.secrets import detector
from convmem.secrets.detector import find, mask_of
from convmem.secrets.masking import findings_in, places_in, redacted

few = settings(max_examples=int(os.environ.get("CONVMEM_EXAMPLES", "60")), deadline=None)
IN_A_LINE = [kind for kind in NAMED if kind != "password in yaml"]


def texts_of(value):
    """Return every text of a JSON value, keys too."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [*value, *(text for item in value.values() for text in texts_of(item))]
    return [text for item in value for text in texts_of(item)] if isinstance(value, list) else []


# What is found


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("kind", KINDS)
def test_a_credential_is_found_wherever_it_stands(kind, around):
    """People paste them into sentences, settings and diffs, and what is missed goes out."""
    secret = KINDS[kind](Random(kind))
    text = around % secret
    (found,) = find(text)
    assert text[found.start : found.end] == secret
    assert redacted(text) == (around % mask_of(found.rule), 1)


@pytest.mark.parametrize("around", AROUND)
@pytest.mark.parametrize("kind", IN_A_LINE)
def test_a_password_is_found_by_what_stands_beside_it(kind, around):
    """Alone it looks like any word; its address, name or header gives it away, and is kept."""
    before, secret, after = NAMED[kind](Random(3))
    text = around % (before + secret + after)
    (found,) = find(text)
    assert text[found.start : found.end] == secret


def test_a_password_is_found_in_a_line_of_settings():
    """YAML has no quotes to go by."""
    before, secret, after = NAMED["password in yaml"](Random(3))
    text = f"login:\n{before}{secret}{after}  port: 1\n"
    assert [text[each.start : each.end] for each in find(text)] == [secret]


@pytest.mark.parametrize("kind", harmless(Random(0)))
def test_what_is_no_credential_stays(kind):
    """A mask destroys what it covers: hashes, ids, pictures and code must come through."""
    for seed in range(10):
        text = harmless(Random(seed))[kind]
        assert find(text) == []
        assert redacted(text) == (text, 0)


def test_a_private_key_is_found_indented_numbered_quoted_and_cut_short():
    """Tools show files in their own ways, and cut what is long."""
    key = KINDS["rsa key"](Random(1))
    lines = key.split("\n")
    shapes = {
        "indented": "\n".join(f"    {line}" for line in lines).lstrip(),
        "numbered": "\n".join(f"{at:6}→{line}" for at, line in enumerate(lines, 7)).lstrip(" 7→"),
        "quoted": "\n> ".join(lines),
        "escaped": json.dumps(key)[1:-1],
        "escaped twice": json.dumps(json.dumps(key))[3:-3],
    }
    for name, shape in shapes.items():
        (found,) = find(f"see:\n{shape}\nthat was it")
        assert found.rule == "private-key", name
        assert redacted(f"see:\n{shape}\nthat was it")[0] == (
            "see:\n[redacted: private-key]\nthat was it"
        ), name
    cut = "\n".join(lines[:9])
    for rest in ("[... 16 lines more]", "and so on"):
        assert redacted(f"{cut}\n{rest}") == (f"[redacted: private-key]\n{rest}", 1)


def test_talk_between_the_beginning_and_the_end_of_a_key_is_no_key():
    """Else a page that explains keys would be masked, or hide what stands within it."""
    secret = KINDS["github"](Random(1))
    begin, end = "-----BEGIN PRIVATE" + " KEY-----", "-----END PRIVATE" + " KEY-----"
    talk = f"{begin}\nis how it begins. " + "Then come lines, many of them. " * 9
    assert redacted(f"{talk}{secret} {end}") == (f"{talk}[redacted: github-pat] {end}", 1)


def test_text_within_text_is_read_as_well():
    """A tool's arguments are JSON within JSON: there the sign for a line's end is two letters."""
    secret = KINDS["github"](Random(1))
    inner = json.dumps({"command": f"cat <<E\n{secret}\nE"})
    assert redacted({"arguments": inner})[0] == {
        "arguments": inner.replace(secret, "[redacted: github-pat]")
    }


def test_an_object_is_read_with_its_keys():
    """``{"password": …}`` is how most passwords stand in tool calls and settings."""
    words = {"user": "jo", "password": "Tr0ub4dor", "note": "Tr0ub4dor"}
    assert redacted(words) == ({**words, "password": "[redacted: password]"}, 1)
    secret = NAMED["aws secret"](Random(1))[1]
    assert redacted({"env": {"AWS_SECRET_ACCESS_KEY": secret}})[1] == 1


def test_both_halves_of_a_pair_are_masked():
    """The half that opens the door is the one without a shape of its own."""
    chance = Random(2)
    first, second = KINDS["aws key id"](chance), NAMED["aws secret"](chance)[1]
    masked, count = redacted({"aws": {"id": first, "secret": second}})
    assert count == 2
    assert second not in str(masked)
    # The same key has the same mask with its other half and without.
    assert masked["aws"]["id"] == redacted(first)[0] == "[redacted: aws-access-token]"


def test_places_are_told_and_secrets_are_not():
    """A report that holds the secrets is one more place to scrub."""
    chance = Random(4)
    github, slack, openai = (KINDS[kind](chance) for kind in ("github", "slack bot", "openai"))
    turn = Turn(
        "tool",
        [{"type": "text", "text": f"é {github}"}, {"input": {"env": {"K": slack}}}],
        meta={"note": [github]},
        extra={"raw": {"message": {openai: 1}}},
    )
    found = findings_in(turn)
    assert [(each.where, each.rule, each.start, each.length) for each in found] == [
        ("content[0].text", "github-pat", 2, 40),
        ("content[1].input.env.K", "slack-bot-token", 0, len(slack)),
        ("meta.note[0]", "github-pat", 0, 40),
        ("raw.message", "openai-api-key", 0, len(openai)),
    ]
    assert all(len(each.excerpt) <= 4 for each in found)
    for secret in (github, slack, openai):
        assert secret[:8] not in repr(found)


def test_a_key_that_is_a_credential_is_masked_and_loses_no_value():
    """Maps by token are common, and two masked keys must not become one."""
    chance = Random(5)
    first, second = KINDS["github"](chance), KINDS["github"](chance)
    value = {first: 1, "plain": 2, second: 3, "[redacted: github-pat]": 4}
    masked, count = redacted(value)
    assert count == 2
    assert list(masked.values()) == [1, 2, 3, 4]
    assert first not in str(masked) and second not in str(masked)
    assert redacted(masked) == (masked, 0)


# What a mask leaves


def test_a_turn_keeps_who_said_it_and_when():
    """It must still be the turn that replies and tool results refer to."""
    secret = KINDS["anthropic"](Random(1))
    moment = datetime(2026, 11, 21, tzinfo=UTC)
    turn = Turn(
        "user", secret, id=secret, seq=7, ts=moment, meta={"k": secret}, extra={"a": 1, "raw": "x"}
    )
    masked, count = redacted(turn)
    assert count == 2
    assert masked == Turn(
        "user",
        "[redacted: anthropic-api-key]",
        id=secret,
        seq=7,
        ts=moment,
        meta={"k": "[redacted: anthropic-api-key]"},
        extra={"a": 1, "raw": "x"},
    )
    assert list(masked.extra) == ["a", "raw"]
    assert turn.content == turn.meta["k"] == secret, "it was changed"


def test_what_holds_no_credential_comes_back_itself():
    """Most turns do, and copying them all would cost."""
    turn = Turn("user", [{"text": "hello"}], meta={"a": [1, None, True, 1.5, 2**70]})
    assert redacted(turn)[0] is turn
    assert redacted(turn.content)[0] is turn.content


def test_deep_nesting_is_no_way_out():
    """Recursion would end in an error, and the turn in a crash or in the clear."""
    secret = KINDS["github"](Random(1))
    value = secret
    for at in range(50_000):
        value = [value] if at % 2 else {"a": value}
    masked, count = redacted(value)
    assert count == 1
    while not isinstance(masked, str):
        (masked,) = masked if isinstance(masked, list) else masked.values()
    assert masked == "[redacted: github-pat]"


PLAIN = st.one_of(
    st.text(max_size=30),
    st.sampled_from([*harmless(Random(9)).values(), "\\n", "\0", "\ufeff", "é" * 20, ""]),
)
SECRETS = st.builds(
    lambda kind, seed: KINDS[kind](Random(seed)), st.sampled_from(sorted(KINDS)), st.integers(0, 99)
)
MIXED = st.lists(st.one_of(PLAIN, SECRETS), max_size=6).map("\n ".join)
VALUES = st.recursive(
    st.one_of(MIXED, st.none(), st.booleans(), st.integers()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["a", "password", "text", "k\0", "é"]), inner, max_size=4),
    ),
    max_leaves=12,
)


@few
@given(VALUES)
def test_only_credentials_change_and_doing_it_twice_changes_nothing(value):
    """Exports must be the same bytes each time, and lose nothing but what was asked for."""
    before = json.dumps(value)
    masked, count = redacted(value)
    assert json.dumps(value) == before
    assert redacted(masked) == (masked, 0)
    assert redacted(json.loads(before)) == (masked, count)
    assert len(places_in(value)) == count
    for old, new in zip(texts_of(value), texts_of(masked), strict=True):
        # What stands between the masks stood there before, in that order.
        at = 0
        for piece in detector._MASK.split(new):
            at = old.index(piece, at) + len(piece)


@few
@given(st.lists(st.one_of(PLAIN, SECRETS), min_size=1, max_size=8), st.integers(0, 3))
def test_nothing_that_one_text_holds_is_missed_among_others(texts, shape):
    """All texts of a turn are looked at in one go first; that look must miss nothing."""
    value = [texts, {str(at): text for at, text in enumerate(texts)}, {"a": [{"b": texts}]}, texts]
    alone = sum(len(find(text)) for text in texts if len(text) >= 8)
    assert redacted(value[shape])[1] >= alone


@few
@given(st.lists(st.one_of(st.text(max_size=20), SECRETS), max_size=5).map(" ".join))
def test_places_are_those_of_the_text_in_any_script(text):
    """The detector counts bytes, and a mask that is off by one leaves a letter of the secret."""
    for each in find(text):
        assert 0 <= each.start < each.end <= len(text)
        assert text[each.start : each.end] == text[each.start : each.end].strip()


@pytest.mark.parametrize("odd", ["\0a\0b\0c", "\ufeff", "\udcff", "\U0001f512" * 3, "ä\n"])
def test_odd_characters_do_not_move_a_mask(odd):
    """Some look like another encoding to the detector."""
    secret = KINDS["github"](Random(1))
    assert redacted(f"{odd} {secret} {odd}") == (f"{odd} [redacted: github-pat] {odd}", 1)


# Long and hostile texts


def test_a_long_text_hides_nothing_at_the_seams():
    """Long texts go through the detector in pieces; one lies over every seam."""
    secrets = [KINDS[kind](Random(at)) for at, kind in enumerate([*KINDS, *KINDS])]
    text = f" {'word ' * 3100}".join(secrets)
    assert len(text) > 3 * detector._PIECE_BYTES
    assert [text[each.start : each.end] for each in find(text)] == secrets
    for shift in range(0, 40, 3):
        secret = secrets[1]
        text = "x " * ((detector._PIECE_BYTES - shift) // 2) + secret + " y" * 90_000
        assert [text[each.start : each.end] for each in find(text)] == [secret]


HOSTILE = {
    "begins": "-----BEGIN RSA PRIVATE" + " KEY-----\n",
    "begins with a line": "-----BEGIN PRIVATE" + " KEY-----\n" + "A" * 64 + "\n",
    "backslashes": "\\",
    "escapes": "\\n",
    "masks": "[redacted: x]",
    "half masks": "[redacted: ",
    "names": "A_SECRET_",
    "assignments": "password='",
    "connection": "server=a;",
    "headers": "authorization: bearer ",
    "addresses": "https://a:bcdefgh1@x.y ",
    "dots": "eyJhbGciOiJIUzI1NiJ9.",
    "spaces": " ",
    "letters": "a",
    "keys": "AKIAQWERTYUI" + "OP234567 ",
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_text_neither_stops_the_search_nor_hides_what_follows(kind):
    """Who can write into a transcript must not be able to stop its export.

    With time that grows by the square, half a megabyte would take longer than any test may.
    """
    secret = KINDS["github"](Random(1))
    text = HOSTILE[kind] * ((1 << 19) // len(HOSTILE[kind]))
    last = find(f"{text}\n{secret}")[-1]
    assert (last.start, last.rule) == (len(text) + 1, "github-pat")


def test_the_benchmark_runs_and_finds_all_that_it_made():
    """Its table says what people may expect, so it must be made by what they get."""
    program = Path(__file__).parent / "benchmarks" / "credentials.py"
    ended = subprocess.run(
        [sys.executable, program, "--tiny"], capture_output=True, text=True, check=True
    )
    (row,) = [line for line in ended.stdout.splitlines() if line.startswith("convmem ")]
    assert row.split()[2:] == ["100.0%", "0"]


# Without the extra


def test_without_the_extra_it_says_which(monkeypatch):
    """An import error with a stranger's name in it helps nobody."""
    real = builtins.__import__

    def fake(name, *rest, **more):
        if name.startswith("kingfisher"):
            raise ImportError(name)
        return real(name, *rest, **more)

    monkeypatch.setattr(detector, "_scanner", None)
    monkeypatch.setattr(builtins, "__import__", fake)
    monkeypatch.setattr("importlib.import_module", fake)
    with pytest.raises(UsageError, match="not installed") as raised:
        find("x")
    assert "convmem[secrets]" in raised.value.hint
