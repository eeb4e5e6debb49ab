"""Names of conversations: no id reaches outside its archive, or into another conversation.

Property tests draw what people and programs hand over as ids; the hostile ones are recorded for
real. Ids of turns are here too.
"""

from __future__ import annotations

import os
import re
import time
import unicodedata

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convmem import Archive, ConversationNotFound, CorruptLog, InvalidContinuationId
from convmem.ids import (
    MAX_ID_BYTES,
    MAX_NAME_BYTES,
    decode_name,
    encode_name,
    is_hashed,
    new_turn_id,
)

few = settings(max_examples=int(os.environ.get("CONVMEM_EXAMPLES", "100")), deadline=None)

# Text made of what is dangerous in names finds more than text made of anything.
PIECES = """
a A b é e\u0301 ß \u017f \u212a % %41 %c3 = . .. - _ / // \\ : ~ ~/ con CON nul lpt1 com0 aux
.jsonl .tmp .locks \u2028 \u00a0 😀 \x01 \x7f * ? " '
""".split()
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1)
FRAGMENTS = st.lists(st.sampled_from([*PIECES, " ", "\n", "\t", "x" * 40]), min_size=1, max_size=40)
IDS = (TEXT | FRAGMENTS.map("".join)).filter(lambda text: len(text.encode()) <= MAX_ID_BYTES)

DEVICES = {"con", "prn", "aux", "nul"} | {
    f"{port}{digit}" for port in ("com", "lpt") for digit in range(10)
}

HOSTILE = [
    "../../x",
    "..",
    ".",
    "/abs/x",
    "x" * 300,
    "é" * 500,
    "a/b",
    "a\\b",
    "CON",
    "con",
    "con.foo",
    "lpt1",
    "NUL.jsonl",
    "-rf",
    "--help",
    ".hidden",
    ".locks",
    ".a.1.deadbeef.tmp",
    "trailing.",
    "trailing ",
    " ",
    "a.jsonl",
    "%41",
    "A",
    "a",
    "caf\u00e9",
    "cafe\u0301",
    "\U0001f600",
    "line\u2028separator",
    "new\nline",
    "bell\x07escape\x1b[2J",
    "~",
    "$HOME",
    "*",
]


def twins_of(text):
    """Return other ids that some file system or some program takes for *text*."""
    forms = [unicodedata.normalize(form, text) for form in ("NFC", "NFD", "NFKC", "NFKD")]
    cases = [text.upper(), text.lower(), text.casefold(), text.swapcase()]
    ends = [text + ".", text + " ", "." + text, "./" + text]
    return {twin for twin in [*forms, *cases, *ends] if twin != text}


@few
@given(IDS)
@example("x" * MAX_ID_BYTES)
@example("x" * MAX_NAME_BYTES)
@example("x" * (MAX_NAME_BYTES + 1))
@example("con" + "." * 400)
def test_every_name_is_safe_on_every_file_system(continuation_id):
    """P13, A9: a name is one component, shows in `ls`, and is no option, device or case twin."""
    name = encode_name(continuation_id)
    assert re.fullmatch(r"[a-z0-9_.%=-]+", name)
    assert name[0] not in ".-"
    assert name[-1] != "."
    assert name.partition(".")[0] not in DEVICES
    assert len(name) <= MAX_NAME_BYTES
    assert name == name.casefold() == unicodedata.normalize("NFKD", name)


@few
@given(IDS)
@example("A")
@example("%41")
@example("a=b")
def test_a_name_gives_its_id_back(continuation_id):
    """What `list` shows is what was recorded, to the byte; only long ids need their sidecar."""
    name = encode_name(continuation_id)
    if is_hashed(name):
        assert decode_name(name) is None
        assert len(continuation_id.encode()) > MAX_NAME_BYTES // 3
    else:
        assert decode_name(name) == continuation_id


@few
@given(IDS)
@example("A")
@example("e\u0301" * 300)
@example("\N{KELVIN SIGN}")
def test_two_ids_never_share_a_name(continuation_id):
    """A9: case twins, normalisation twins and near misses stay conversations of their own."""
    names = {encode_name(continuation_id)}
    twins = [twin for twin in twins_of(continuation_id) if len(twin.encode()) <= MAX_ID_BYTES]
    for twin in twins:
        names.add(encode_name(twin))
    assert len({name.casefold() for name in names}) == len(twins) + 1


@few
@given(st.text(alphabet="abAC%0123456789cef.-_=é \0", max_size=30) | st.text())
@example("%61")
@example("%+1")
@example("%C3%A9")
@example("")
def test_only_our_own_spelling_is_a_name(name):
    """A foreign file in the folder is passed over; it never turns up as a second spelling."""
    continuation_id = decode_name(name)
    assert continuation_id is None or encode_name(continuation_id) == name


@pytest.mark.parametrize(
    "continuation_id",
    ["", "a\0b", "\ud800", "a\udfffb", "x" * (MAX_ID_BYTES + 1), "é" * 513, None, 7, b"bytes"],
)
def test_what_can_be_no_id_is_refused_before_anything_is_touched(tmp_path, continuation_id):
    """A9: `""` and NUL are an error of their own, not silence, and make no file."""
    root = tmp_path / "archive"
    with Archive.open(root) as archive, pytest.raises(InvalidContinuationId):
        archive.conversation(continuation_id)
    with pytest.raises(InvalidContinuationId):
        Archive.open(root, namespace=continuation_id)
    assert not root.exists()


def test_hostile_ids_stay_inside_and_come_back(tmp_path):
    """P13, A9, K18: `../../x` and its kin are recorded, read and listed like any other id."""
    root = tmp_path / "deep" / "archive"
    with Archive.open(root, durability="none") as archive:
        for continuation_id in HOSTILE:
            archive.conversation(continuation_id).record("user", continuation_id)
    assert [path.name for path in tmp_path.iterdir()] == ["deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["archive"]
    assert [path.name for path in root.iterdir()] == ["default"]
    with Archive.open(root) as archive:
        found = list(archive.conversations())
        assert sorted(chat.continuation_id for chat in found) == sorted(HOSTILE)
        for chat in found:
            assert [turn.content for turn in chat.tail()] == [chat.continuation_id]
    for folder, _, files in os.walk(root):
        assert os.stat(folder).st_mode & 0o777 == 0o700
        for name in files:
            assert os.stat(os.path.join(folder, name)).st_mode & 0o777 == 0o600


def test_hostile_namespaces_stay_inside_and_apart(tmp_path):
    """O5, O19: a namespace is one folder of the archive; nothing joins two of them."""
    root = tmp_path / "archive"
    short = [name for name in HOSTILE if len(encode_name(name)) <= 100]
    with Archive.open(root, durability="none") as archive:
        for namespace in short:
            archive.conversation("same", namespace=namespace).record("user", namespace)
        assert archive.namespaces() == sorted(short)
        for namespace in short:
            chats = list(archive.conversations(namespace=namespace))
            assert [chat.continuation_id for chat in chats] == ["same"]
            assert chats[0].tail()[0].content == namespace
    assert [path.name for path in tmp_path.iterdir()] == ["archive"]


def test_a_namespace_too_long_for_a_folder_is_refused(tmp_path):
    """There is no sidecar for namespaces: better refused than listed under another name."""
    with Archive.open(tmp_path / "archive") as archive, pytest.raises(InvalidContinuationId):
        archive.conversation("a", namespace="n" * 300).record("user", "hello")
    assert not (tmp_path / "archive").exists() or not any((tmp_path / "archive").iterdir())


@pytest.fixture
def long_chat(tmp_path):
    """A conversation whose id needs a sidecar, and that sidecar."""
    continuation_id = "customer/" + "é" * 200
    with Archive.open(tmp_path) as archive:
        archive.conversation(continuation_id).record("user", "hello")
    (sidecar,) = (tmp_path / "default" / ".ids").iterdir()
    return continuation_id, sidecar


def test_a_long_id_is_listed_whole_and_opens_again(tmp_path, long_chat):
    """A9: the 300-character id "succeeded" with nothing stored, elsewhere."""
    continuation_id, sidecar = long_chat
    assert sidecar.read_text("utf-8") == continuation_id
    with Archive.open(tmp_path) as archive:
        (chat,) = archive.conversations()
        assert chat.continuation_id == continuation_id
        chat.record("assistant", "and hello")
        assert [turn.text for turn in chat.tail()] == ["hello", "and hello"]


def test_a_sidecar_of_another_id_is_damage_and_nothing_is_served(tmp_path, long_chat):
    """Serving a stranger's conversation would be worse than an error."""
    continuation_id, sidecar = long_chat
    sidecar.write_text("customer/" + "e" * 200, "utf-8")
    log = tmp_path / "default" / f"{sidecar.name}.jsonl"
    before = log.read_bytes()
    with Archive.open(tmp_path) as archive:
        chat = archive.conversation(continuation_id)
        for attempt in (chat.tail, chat.turns, chat.describe, lambda: chat.record("user", "more")):
            with pytest.raises(CorruptLog):
                attempt()
    assert log.read_bytes() == before


@pytest.mark.parametrize(
    "written", [b"", b"other", b"customer/" + b"e" * 200, b"\xff\xfe", b"a\0b"]
)
def test_a_wrong_sidecar_lists_no_conversation_that_cannot_be_opened(tmp_path, long_chat, written):
    """A program that walks the list must not stumble over an id that is not there."""
    _, sidecar = long_chat
    sidecar.write_bytes(written)
    with Archive.open(tmp_path) as archive:
        for chat in archive.conversations():
            encode_name(chat.continuation_id)
            try:
                chat.tail()
            except CorruptLog:
                pass
            except ConversationNotFound:
                pytest.fail(f"{chat.continuation_id!r} is listed and is not there")


def test_turn_ids_are_version_7_and_new():
    """Made ids are never looked up, so two alike would be one turn lost to a conflict."""
    before = time.time_ns() // 1_000_000
    made = [new_turn_id() for _ in range(20_000)]
    after = time.time_ns() // 1_000_000
    assert len(set(made)) == len(made)
    times = []
    for turn_id in made:
        assert re.fullmatch(
            r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", turn_id
        )
        times.append(int(turn_id[:8] + turn_id[9:13], 16))
    # Milliseconds: the order of creation, but for a clock that is set back meanwhile.
    assert times == sorted(times)
    assert before <= times[0] <= times[-1] <= after
    # All other bits are drawn: each is 0 in some ids and 1 in others.
    drawn = [int(turn_id.replace("-", ""), 16) for turn_id in made]
    ones = zeros = (1 << 128) - 1
    for value in drawn:
        ones &= value
        zeros &= ~value
    fixed = (ones | zeros) & ((1 << 80) - 1)
    assert fixed == (0xF << 76) | (0x3 << 62)
