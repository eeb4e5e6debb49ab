"""The fast way finds what the slow way finds, whatever the texts, their spelling, the damage."""

from __future__ import annotations

import json
import os
import re
import tempfile
import zlib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from convmem import turns
from convmem.log import codec
from convmem.log.files import Folder
from convmem.log.read import Filter, Reader
from convmem.search.patterns import grep, raw_scan
from convmem.search.patterns.pattern import Pattern
from convmem.search.patterns.raw_scan import RawScan

few = settings(max_examples=int(os.environ.get("CONVMEM_EXAMPLES", "100")), deadline=None)

# What JSON escapes, what has relatives among the letters, what looks like numbers, escapes, keys.
LETTERS = 'aAkKſsSiIİıKßẞéÉσςΣ東😀𐐀𐐨 .-+eE01/"\\\n\r\t\x00\x1b\x7f\u2028u{}[]:,'
WORDS = ("content", '"content":', "\\u0041", "\\n", "1e5", "100.0", "\\/", "uuid", '","', "ß", "ss")
texts = st.lists(st.one_of(st.sampled_from(LETTERS), st.sampled_from(WORDS)), max_size=8).map(
    "".join
)
numbers = st.sampled_from(
    "0 -0 7 1e2 1E2 1.50 100.0 0.00001 1e400000 12345678901234567890123 -1.5e-7".split()
)


@st.composite
def spelled(draw, text):
    """Return *text* as a JSON string, each letter spelled in one of the ways that JSON has."""
    parts = []
    for letter in text:
        units = letter.encode("utf-16-be")
        codes = [units[at : at + 2].hex() for at in range(0, len(units), 2)]
        ways = ["".join(f"\\u{code}" for code in codes), "".join(f"\\u{c.upper()}" for c in codes)]
        ways.append(json.dumps(letter, ensure_ascii=False)[1:-1])
        ways += ["\\/"] if letter == "/" else []
        parts.append(draw(st.sampled_from(ways)))
    return '"' + "".join(parts) + '"'


@st.composite
def values(draw, depth=2):
    """Return content as JSON text: text mostly, else numbers, lists and objects of them."""
    kind = draw(st.integers(0, 9))
    if kind < 5 or not depth:
        return draw(spelled(draw(texts)))
    if kind < 7:
        number = draw(numbers)
        return "5" if number == "1e400000" else number
    inner = [draw(values(depth - 1)) for _ in range(draw(st.integers(0, 3)))]
    if kind == 7:
        keys = [draw(spelled(draw(texts))) for _ in inner]
        return (
            "{" + ",".join(f"{key}:{value}" for key, value in zip(keys, inner, strict=True)) + "}"
        )
    gap = draw(st.sampled_from(("", " ")))
    return "[" + f",{gap}".join(inner) + "]"


@st.composite
def line_by_hand(draw):
    gap = draw(st.sampled_from(("", " ")))
    pairs = [
        ('"role"', draw(st.sampled_from(('"user"', '"tool"', '"\\u0075ser"', '"event"')))),
        (draw(st.sampled_from(('"content"', '"\\u0063ontent"'))), draw(values())),
    ]
    if draw(st.booleans()):
        pairs.append(
            (draw(st.sampled_from(('"tool_calls"', '"tool\\u005fcalls"', '"x"'))), draw(values()))
        )
    return (
        "{" + f",{gap}".join(f"{key}{gap}:{gap}{value}" for key, value in pairs) + "}\n"
    ).encode()


@st.composite
def line_of_ours(draw, seq, batch=None):
    content = json.loads(draw(values()))
    extra = (
        {"tool_calls": [{"id": draw(texts), "args": draw(texts)}]} if draw(st.booleans()) else {}
    )
    made = turns.draft("user", content, meta={"k": draw(texts)}, extra=extra)
    return codec.turn_line(made, seq, "2026-11-22T00:00:00.000000Z", batch)


@st.composite
def logs(draw):
    """Return a log: lines of ours and by hand, batches whole and not, holes and damage."""
    found = []
    for nth in range(draw(st.integers(1, 6))):
        kind = draw(st.integers(0, 9))
        if kind < 4:
            found.append(draw(line_of_ours(nth + 1)))
        elif kind < 7:
            found.append(draw(line_by_hand()))
        else:
            count = draw(st.integers(2, 4))
            name = draw(st.sampled_from(("0a0a0a0a", "0b0b0b0b", f"{nth:08x}")))
            batch = [draw(line_of_ours(nth + 1, (name, at, count))) for at in range(count)]
            kept = draw(st.lists(st.booleans(), min_size=count, max_size=count))
            found += [each for each, is_kept in zip(batch, kept, strict=True) if is_kept] or batch
    for _ in range(draw(st.sampled_from((0, 0, 1, 2)))):
        at = draw(st.integers(0, len(found) - 1))
        line = found[at]
        if not line:
            continue
        place = draw(st.integers(0, len(line) - 1))
        harm = draw(st.integers(0, 3))
        if harm == 0:
            found[at] = line[:place] + bytes([line[place] ^ 0x01 or 0x20]) + line[place + 1 :]
        elif harm == 1:
            found[at] = b"\0" * 40 + b"\n"
        elif harm == 2:
            found[at] = line[:place] + b"\0" + line[place + 1 :]
        else:
            found[at] = line[:place]  # runs into the next
    data = b"".join(found)
    return (
        data[: draw(st.integers(max(0, len(data) - 30), len(data)))]
        if draw(st.booleans())
        else data
    )


@st.composite
def patterns(draw, data):
    """Return a pattern that may well be found in *data*: a piece of one of its texts, changed."""
    said = []
    with _reader_of(data) as reader:
        said = [grep.text_of(each.turn) for each in reader.in_order(lambda _: None)]
    text = draw(st.sampled_from(said)) if said and draw(st.booleans()) else draw(texts)
    first = draw(st.integers(0, max(0, len(text) - 1)))
    piece = text[first : first + draw(st.integers(1, 6))] or "a"
    piece = draw(st.sampled_from((str, str.lower, str.upper, str.swapcase, str.title)))(piece)
    ignore = draw(st.sampled_from((None, True, False)))
    if draw(st.booleans()):
        return Pattern.of(piece, ignore_case=ignore, fixed=True)
    parts = [re.escape(piece)]
    parts += draw(
        st.lists(
            st.sampled_from(("a?", "[sS]", "(x|y)*", ".", "$", "^", "b{0,2}", "|z")), max_size=2
        )
    )
    return Pattern.of("".join(draw(st.permutations(parts))), ignore_case=ignore)


class _reader_of:  # noqa: N801 - reads as a function
    def __init__(self, data):
        self._folder = tempfile.TemporaryDirectory()
        with open(os.path.join(self._folder.name, "x.jsonl"), "wb") as file:
            file.write(data)

    def __enter__(self):
        folder = Folder.open(self._folder.name)
        self._reader = Reader(folder, "x")
        folder.close()
        return self._reader

    def __exit__(self, *exception):
        self._reader.close()
        self._folder.cleanup()


def _read(reader, search):
    """Return what must be found, and the damage, by the plainest reading there is."""
    damage = []
    read = [(each, search.match(each)) for each in reader.in_order(damage.append)]
    return (
        [(stored.offset, match.spans) for stored, match in read if match is not None],
        [(each.offset, each.length, each.reason) for each in damage],
    )


def _found(reader, search):
    """Return what is found, and the damage that was told."""
    damage = []
    found = [
        (stored.offset, match.spans)
        for stored, match in grep._matching(reader, search, lambda each: damage.append(each))
    ]
    return found, [(each.offset, each.length, each.reason) for each in damage]


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
    """A last line that is torn is looked at twice; nobody writes it here."""
    monkeypatch.setattr("convmem.log.read._WRITING_SECONDS", 0)


@pytest.mark.parametrize("block", [64, 1 << 18])
@pytest.mark.parametrize("with_library", [True, False], ids=["strstr", "python"])
def test_the_fast_way_finds_what_the_slow_way_finds(monkeypatch, block, with_library):
    """A search that misses a turn because of how its JSON is spelled is worse than none."""
    monkeypatch.setattr(raw_scan, "_BLOCK_BYTES", block)
    if not with_library:
        monkeypatch.setattr(raw_scan, "_found_strstr", [None])
    hits = 0

    @few
    @given(st.data())
    def holds(data):
        nonlocal hits
        log = data.draw(logs())
        pattern = data.draw(patterns(log))
        fast = grep.Search(pattern, Filter())
        slow = grep.Search(pattern, Filter())
        slow.scan = None
        beside = grep.Search(pattern, Filter(), after=1)
        with _reader_of(log) as reader:
            expected, all_damage = _read(reader, slow)
            found, damage = _found(reader, fast)
            assert _found(reader, slow) == (expected, all_damage)
            shown = list(grep._with_neighbours(reader, beside, lambda _: None))
        assert found == expected
        assert [(each.stored.offset, each.match.spans) for each in shown if each.match] == expected
        hits += bool(fast.scan) and bool(found)
        # Of the damage it may pass over some, and tells nothing twice or otherwise.
        assert len(set(damage)) == len(damage)
        assert set(damage) <= set(all_damage)

    holds()
    assert hits > 3  # else the trial says nothing


def _sealed(body):
    return b'%b,"_c":"%08x"}\n' % (body, zlib.crc32(b"}", zlib.crc32(body)))


@pytest.mark.parametrize(
    ("content", "pattern"),
    [
        (r'"\u0063af\u00e9"', "café"),
        (r'"CAF\u00C9"', "café"),
        (r'"a\/b"', "a/b"),
        (r'"a\u002fb"', "a/b"),
        (r'"\ud83d\ude00!"', "😀!"),
        (r'"\u212Aelvin"', "kelvin"),
        (r'"say \u0022it\u0022"', 'say "it"'),
        (r'"C:\\users"', r"c:\\users"),
        (r'"tab\u0009here"', "tab\there"),
        ("[1e2]", "100.0"),
        ('{"a":1.50}', r"^1\.5$"),
    ],
)
@pytest.mark.parametrize("is_sealed", [True, False])
def test_a_text_is_found_however_its_json_is_spelled(content, pattern, is_sealed):
    """K15: raw JSON was searched, so that café was found by nobody."""
    body = b'{"role":"user","content":' + content.encode()
    with _reader_of(_sealed(body) if is_sealed else body + b"}\n") as reader:
        search = grep.Search(Pattern.of(pattern), Filter())
        assert search.scan is not None
        assert len(_found(reader, search)[0]) == 1


@pytest.mark.parametrize(
    ("content", "pattern"),
    [(r'"\u0063af\u00e9"', "café"), (r'"a\/b"', "a/b"), ("[1e2]", "100.0")],
)
def test_without_its_alarms_the_scan_would_miss_what_is_spelled_otherwise(
    monkeypatch, content, pattern
):
    """The control: the trials above see a scan that passes over too much."""
    monkeypatch.setattr(raw_scan, "_alarms", lambda letters, literal: [])
    with _reader_of(b'{"role":"user","content":%b}\n' % content.encode()) as reader:
        assert _found(reader, grep.Search(Pattern.of(pattern), Filter()))[0] == []


def test_every_case_is_one_that_regular_expressions_know():
    """The two must agree on every letter there is, or smart case loses turns."""
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    cased = [each for each in every if each.lower() != each or each.upper() != each]
    among = "".join(cased) + "0-é"
    for letter in [*cased, *'0-_ "\\東']:
        matched = set(re.findall(re.escape(letter), among, re.IGNORECASE))
        assert matched <= set(raw_scan._cases_of(letter)), letter
    # Letters beyond those that are looked through have no case.
    assert max(map(ord, cased)) < raw_scan._CASED_BELOW


def test_letters_without_a_case_match_only_themselves():
    """Else a letter outside every list of pairs could be a relative of one."""
    every = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x110000)]))
    for letter in "0 -_東あ한ก😀":
        assert set(re.findall(re.escape(letter), every, re.IGNORECASE)) == {letter}


@pytest.mark.parametrize("size", [10, 200, 5000])
def test_long_lines_and_block_ends_hide_nothing(monkeypatch, size):
    """What is looked for may stand across the end of a block, in a line longer than any."""
    monkeypatch.setattr(raw_scan, "_BLOCK_BYTES", 256)
    lines = [
        b'{"role":"user","content":"%bneedle%b"}\n' % (b"x" * at, b"y" * size) for at in range(300)
    ]
    data = b"".join(lines)
    starts = [0, *(sum(map(len, lines[: at + 1])) for at in range(len(lines) - 1))]
    with _reader_of(data) as reader:
        for literal, ignores_case in (("needle", False), ("NEEDLE", True)):
            scan = RawScan(literal, ignores_case=ignores_case)
            found = list(scan.lines(reader.fd, 0, reader.end))
            assert [offset for offset, _ in found] == starts
            assert [line + b"\n" for _, line in found] == lines
        assert list(RawScan("needles", ignores_case=True).lines(reader.fd, 0, reader.end)) == []


def test_a_line_that_is_too_long_to_be_a_turn_is_passed_over(monkeypatch):
    """Memory follows the longest turn, and what is longer is no turn."""
    monkeypatch.setattr(raw_scan, "_BLOCK_BYTES", 64)
    monkeypatch.setattr("convmem.log.lines.MAX_LINE_BYTES", 1000)
    good = b'{"role":"user","content":"needle"}\n'
    data = good + b"x" * 5000 + b"needle\n" + good
    with _reader_of(data) as reader:
        found = RawScan("needle", ignores_case=False).lines(reader.fd, 0, reader.end)
        assert [offset for offset, _ in found] == [0, len(data) - len(good)]


def test_a_log_that_is_cut_under_the_reader_ends_there():
    """Another process may cut the file short at any time; that must not be waited for."""
    data = b'{"role":"user","content":"needle"}\n'
    with _reader_of(data) as reader:
        found = RawScan("needle", ignores_case=False).lines(reader.fd, 0, 10 * len(data))
        assert [offset for offset, _ in found] == [0]


@example("(?i)needle", False)
@given(st.text("ab(|)[]{}?*+.\\^$-,12:PiQ<=>!#", max_size=12), st.booleans())
@few
def test_every_match_of_an_expression_holds_the_text_that_is_looked_for(source, ignore_case):
    """What is required of a match decides which lines are ever parsed."""
    from convmem.errors import UsageError

    try:
        pattern = Pattern.of(source, ignore_case=ignore_case)
    except UsageError:
        return
    flags = re.IGNORECASE if pattern.ignores_case else 0
    # Texts that such expressions match: pieces of themselves, and all short ones of two letters.
    short = [
        "",
        *"abAB",
        "ab",
        "ba",
        "aab",
        "abb",
        "12",
        "1",
        "a1",
        source,
        source.replace("\\", ""),
    ]
    short += [source[:at] + source[at + 1 :] for at in range(len(source))]
    for text in short:
        for found in pattern.regex.finditer(text):
            assert re.search(re.escape(pattern.literal), found[0], flags) or not pattern.literal


@pytest.mark.parametrize(
    ("source", "literal"),
    [
        ("train", "train"),
        (r"a\.b", "a.b"),
        ("colou?r", "colo"),
        ("ab+c", "ab"),
        (r"\bfoo_bar\b", "foo_bar"),
        ("(cat|dog)food", "food"),
        ("cat|dog", ""),
        ("[abc]def", "def"),
        ("x{2,3}long", "long"),
        (r"\x41bc", ""),
        ("(?x) a b", ""),
        ("one\ntwo and", "two and"),
        ("", ""),
    ],
)
def test_what_a_match_must_hold(source, literal):
    """The longer it is, the fewer lines are parsed."""
    assert Pattern.of(source).literal == literal


def test_every_case_of_the_letters_that_are_looked_for_is_looked_for():
    """Letters with relatives have three or four spellings, and all must be among the needles."""
    scan = RawScan("kİ", ignores_case=True)
    assert [len(one) for one in scan._spellings] == [3, 4]
    for text in ("Kı", "KI", "ki", "kİ"):
        assert scan.is_likely(f'{{"role":"user","content":"{text}"}}'.encode())
    assert not scan.is_likely(b'{"role":"user","content":"a.b"}')


def test_a_choice_of_letters_that_proves_bad_is_made_again(monkeypatch):
    """The beginning of a log says little of its middle: what is rare there may be common here."""
    monkeypatch.setattr(raw_scan, "_BLOCK_BYTES", 8 << 10)
    said = ["nothing " * 20] * 100
    said += ["q-4 w-4 e-4 r-4 " * 10] * 200 + ["XYZ-42"] + ["xyz xyz xy yz " * 10] * 200
    said += ["xyZ-42"] + ["z-42 " * 30] * 200 + ["xYz-42"]
    data = b"".join(b'{"role":"user","content":"%b"}\n' % each.encode() for each in said)
    scan = RawScan("xyz-42", ignores_case=True)
    chosen = []
    with _reader_of(data) as reader:
        for nth, (_, line) in enumerate(scan.lines(reader.fd, 0, reader.end)):
            assert b"-42" in line
            chosen.append(scan._needles)
            assert nth < 3
    assert len(chosen) == 3
    assert chosen[0] != chosen[-1]
