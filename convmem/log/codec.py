"""A line and what it says: sealing a turn with its checksum, and telling good lines from bad.

    {"id":"…","seq":17,"ts":"…Z","role":"user","content":"…","_b":["9f3a01bc",0,2],"_c":"9f3a01bc"}

``_c`` is the CRC-32 (as in zlib) of the line without it, closing brace included, and always
stands in the last 17 bytes, so that a line is checked without being parsed. ``_b`` marks a turn of
an atomic batch: the batch's name, the turn's place in it from 0, and how many they are. A line
without a seal was written by hand: it is read, and never taken for damage.
"""

from __future__ import annotations

import re
import struct
import zlib

from convmem import jsontext
from convmem.turns import turn_from_object

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from convmem.turns import Draft, Turn

SEAL_BYTES = 17
# The seal's fixed part: where in the line it stands never changes.
_SEAL_OPEN = b',"_c":"'
_SEAL_CLOSE = b'"}'
_SEAL = _SEAL_OPEN + b"%08x" + _SEAL_CLOSE

# The first keys of every line that we write ourselves, in their order. A string is plain bytes,
# then escapes with plain bytes behind each: three times faster than one byte at a time.
_STRING = rb'"[^"\\]*(?:\\.[^"\\]*)*"'
_HEAD = re.compile(
    rb'\{"id":(%b),"seq":(\d{1,19}),"ts":"([^"\\]*)","role":(%b),"content":' % (_STRING, _STRING)
)
_CLAIM = re.compile(rb'\{"id":"(?:[^"\\]|\\.)*","seq":(\d{1,18}),')
_BATCH = re.compile(rb',"_b":\["([0-9a-f]{8})",(\d+),(\d+)\]$')
_BATCH_BYTES = 64

# What stands before the seals of lines, a line each, where no batch lacks its end: the mark of
# a batch whose next line follows, the last mark of a few turns, or none. Batches of more turns, and
# content that ends in a bracket, take the longer way.
_FEW_BYTES = len(b',"_b":["9f3a01bc",0,2]')
_CLOSED = re.compile(
    rb"""(?: ,"_b":\["([0-9a-f]{8})",\d,\d\]\n (?=,"_b":\["\1",[1-9],\d\]\n)
    | ,"_b":\["[0-9a-f]{8}",(?:0,1|1,2|2,3|3,4|4,5|5,6|6,7|7,8|8,9)\]\n
    | [^\n]*[^]\n]\n
    )*+""",
    re.VERBOSE,
)

_SEQ_FLOOR = b'{"_last_seq":'
_SEQ_FLOOR_LINE = re.compile(rb'\{"_last_seq":(\d{1,19}),"_c":"[0-9a-f]{8}"\}')

# What was never written reads as NUL, by the block: one NUL alone is other damage.
HOLE = b"\0" * 16

# Why a line is not a turn. The words are what people read.
NUL = "NUL bytes"
CHECKSUM = "checksum wrong"
NOT_JSON = "not JSON"
NOT_A_TURN = "not a turn"
TOO_LONG = "too long to be a turn"
HALF_BATCH = "part of an unfinished batch"
TORN = "torn"


def sealed(body: bytes) -> bytes:
    """Return the whole line, newline included, for *body*: an object without its closing brace."""
    return b'%b,"_c":"%08x"}\n' % (body, zlib.crc32(b"}", zlib.crc32(body)))


def turn_line(draft: Draft, seq: int, ts_text: str, batch: tuple[str, int, int] | None) -> bytes:
    """Return the line that stores *draft* as turn *seq*."""
    body = b'%b,"seq":%d,"ts":"%b",%b' % (draft.head, seq, ts_text.encode(), draft.tail)
    if batch is not None:
        body += b',"_b":["%b",%d,%d]' % (batch[0].encode(), batch[1], batch[2])
    return sealed(body)


def turn_lines(heads: list[bytes], tails: list[bytes]) -> list[bytes]:
    """Return the lines of many turns: each head is what a line says before its role, and each
    tail the rest with its closing brace. What ``turn_line`` makes of one, in half the time."""
    crc32 = zlib.crc32
    sums = [crc32(tail, crc32(head)) for head, tail in zip(heads, tails, strict=True)]
    # All seals from one row of digits.
    digits = struct.pack(f">{len(sums)}I", *sums).hex("|", 4).encode()
    seals = (_SEAL_OPEN + digits.replace(b"|", _SEAL_CLOSE + b"\n|" + _SEAL_OPEN)).split(b"|")
    seals[-1] += _SEAL_CLOSE + b"\n"
    return [head + tail[:-1] + seal for head, tail, seal in zip(heads, tails, seals, strict=True)]


def seq_floor_line(last_seq: int) -> bytes:
    """Return the line that remembers the highest ``seq`` when its own turn was dropped."""
    return sealed(b"%b%d" % (_SEQ_FLOOR, last_seq))


def claimed_seq(line: bytes) -> int | None:
    """Return the ``seq`` that a damaged line of ours seems to have had."""
    found = _CLAIM.match(line)
    return None if found is None else int(found[1])


def claimed_seqs(data: bytes) -> list[int]:
    """Return every ``seq`` that damaged lines of ours, perhaps run together, seem to have had."""
    return [int(found[1]) for found in _CLAIM.finditer(data)]


def is_sealed(line: bytes) -> bool:
    """Whether *line* (without its newline) carries a seal, right or wrong."""
    return line[-SEAL_BYTES:-10] == _SEAL_OPEN and line[-2:] == _SEAL_CLOSE


def count_of_seals(data: bytes) -> int:
    """Return how many sealed lines *data* was, should their newlines have been damaged."""
    return data.count(_SEAL_OPEN)


def is_intact(line: bytes) -> bool:
    """Whether *line* carries a seal and is what was written: true of nearly every line."""
    crc = zlib.crc32(b"}", zlib.crc32(line[:-SEAL_BYTES]))
    return line.endswith(_SEAL % crc)


def are_intact(lines: list[bytes]) -> bool:
    """Whether ``is_intact`` is true of every line; in half the time."""
    return b"".join([line[-SEAL_BYTES:] for line in lines]) == seals_of(lines)


def seals_of(lines: list[bytes]) -> bytes:
    """Return the seals that sealed *lines* must have to be intact, one behind the other."""
    crc32 = zlib.crc32
    sums = [crc32(b"}", crc32(line[:-SEAL_BYTES])) for line in lines]
    return _SEAL * len(sums) % tuple(sums)


def heads_of(lines: list[bytes]) -> list[re.Match[bytes] | None]:
    """Match each line with the keys that a turn of ours begins with: groups as in ``head_of``."""
    return list(map(_HEAD.match, lines))


def ends_like_a_batch(line: bytes) -> bool:
    """Whether a sealed *line* may have a ``batch_mark``: certainly not, or perhaps."""
    return line[-SEAL_BYTES - 1 : -SEAL_BYTES] == b"]"


def any_ends_like_a_batch(lines: list[bytes]) -> bool:
    """Whether ``ends_like_a_batch`` is true of any line."""
    return b"]" in [line[-SEAL_BYTES - 1 : -SEAL_BYTES] for line in lines]


def place_in_batch(line: bytes) -> int:
    """Return how many turns of its batch stood before *line*; 0 where it is of none."""
    mark = batch_mark(line) if ends_like_a_batch(line) else None
    return 0 if mark is None or not is_sealed(line) else mark[1]


def leaves_a_batch_open(lines: list[bytes]) -> bool:
    """Whether among sealed *lines*, the last of a log, a batch lacks a line that came later."""
    ends = [line[-SEAL_BYTES - _FEW_BYTES : -SEAL_BYTES] for line in lines]
    if _CLOSED.fullmatch(b"\n".join([*ends, b""])) is not None:
        return False
    marks = list(
        map(_BATCH.search, [line[-SEAL_BYTES - _BATCH_BYTES : -SEAL_BYTES] for line in lines])
    )
    # One that begins is another batch, also by a name that came before.
    names = [None if mark is None or int(mark[2]) == 0 else mark[1] for mark in marks] + [None]
    return any(
        mark is not None and mark[1] != following and int(mark[2]) != int(mark[3]) - 1
        for mark, following in zip(marks, names[1:], strict=True)
    )


def seal_holds(line: bytes) -> bool:
    """Whether the sealed *line* is what was written."""
    return _crc_of(line) == line[-10:-2]


def _crc_of(line: bytes) -> bytes:
    return b"%08x" % zlib.crc32(b"}", zlib.crc32(line[:-SEAL_BYTES]))


def batch_mark(line: bytes) -> tuple[bytes, int, int] | None:
    """Return the (name, place, count) of a sealed line's batch, or ``None``."""
    if not ends_like_a_batch(line):
        return None
    found = _BATCH.search(line[-SEAL_BYTES - _BATCH_BYTES : -SEAL_BYTES])
    return None if found is None else (found[1], int(found[2]), int(found[3]))


def without_batch(line: bytes) -> bytes:
    """Return the sealed *line* as a turn of its own, with its newline."""
    body = line[:-SEAL_BYTES]
    return sealed(body[: body.rindex(b',"_b":[')])


def is_seq_floor(line: bytes) -> bool:
    """Whether *line* is no turn but remembers the highest ``seq``."""
    return line.startswith(_SEQ_FLOOR) and _SEQ_FLOOR_LINE.fullmatch(line) is not None


def head_of(line: bytes) -> tuple[bytes, int, str, bytes] | None:
    """Return (id as JSON, seq, ts, role as JSON) of a line that convmem wrote, unparsed else."""
    found = _HEAD.match(line)
    if found is None:
        return None
    return found[1], int(found[2]), str(found[3], "ascii", "replace"), found[4]


def start_of(line: bytes) -> tuple[bytes, bytes] | None:
    """Return (id as JSON, seq as digits) of a line that convmem wrote; dearer parts are left."""
    found = _HEAD.match(line)
    return None if found is None else (found[1], found[2])


def has_head(line: bytes) -> bool:
    """Whether ``head_of`` finds the keys that a turn of ours begins with."""
    return _HEAD.match(line) is not None


def id_of(line: bytes) -> bytes | None:
    """Return the id, as JSON, of a line that convmem wrote."""
    found = _HEAD.match(line)
    return None if found is None else found[1]


def text_of(encoded: bytes) -> str:
    """Return the text that a JSON string holds."""
    return str(jsontext.loads(encoded) if b"\\" in encoded else str(encoded[1:-1], "utf-8"))


def json_of(text: str) -> bytes:
    """Return the JSON string that we write for *text*: what ``text_of`` undoes."""
    return jsontext.dumps(text)


def substance_crc(line: bytes) -> int | None:
    """Return the CRC-32 of what a sealed line says from its role on, without marks."""
    found = _HEAD.match(line)
    if found is None:
        return None
    end = len(line) - SEAL_BYTES
    mark = batch_mark(line)
    if mark is not None:
        end = line.rindex(b',"_b":[')
    return zlib.crc32(line[found.start(4) - len(b'"role":') : end])


def line_crc(line: bytes) -> str:
    """Return eight hex digits that stand for exactly this turn, in or out of its batch."""
    if not is_sealed(line):
        return f"{zlib.crc32(line):08x}"
    if batch_mark(line) is not None:
        line = without_batch(line)[:-1]
    return str(line[-10:-2], "ascii", "replace")  # it may have been damaged since


def seq_of(line: bytes) -> int | None:
    """Return the ``seq`` that a good line holds or remembers; ``None`` if it has none."""
    if is_sealed(line):
        head = head_of(line)
        if head is not None:
            return head[1]
        floor = _SEQ_FLOOR_LINE.fullmatch(line)
        if floor is not None:
            return int(floor[1])
    turn = parse(line)
    return None if turn is None else turn.seq


def parse(line: bytes) -> Turn | None:
    """Return the turn in *line*, or ``None`` if it holds none. The seal is not looked at."""
    try:
        turn = turn_from_object(jsontext.loads_roughly(line))
        if turn is not None and _may_hold_numbers(turn) and not jsontext.is_exact(line):
            turn = turn_from_object(jsontext.loads(line))
        return turn
    except jsontext.NotJson:
        return None


def parse_all(lines: list[bytes]) -> list[Turn] | None:
    """Return what ``parse`` does for each of *lines*, in two thirds of the time.

    ``None`` where each must be looked at, since one of them at least is no turn or unusual.
    """
    text = b"[%b]" % b",".join(lines)
    try:
        values = jsontext.loads_roughly(text)
    except jsontext.NotJson:
        return None
    turns = [turn for turn in map(turn_from_object, values) if turn is not None]
    if len(turns) != len(lines) or len(turns) != len(values):
        return None
    if any(map(_may_hold_numbers, turns)) and not jsontext.is_exact(text):
        return None
    return turns


def _may_hold_numbers(turn: Turn) -> bool:
    """Whether there is a place in it for any number but its own."""
    return type(turn.content) is not str or turn.meta is not None or bool(turn.extra)


def parse_object(line: bytes) -> dict[str, Any]:
    """Return the JSON object in a line that is known to hold one."""
    value: dict[str, Any] = jsontext.loads(line)
    return value


def fault_of(line: bytes) -> str | None:
    """Say why *line* is neither a turn nor a mark of ours, or ``None`` if it is good.

    A seal is believed without parsing; a line without one is parsed.
    """
    if is_intact(line):
        return None
    if is_sealed(line):
        return NUL if b"\0" in line else CHECKSUM
    if b"\0" in line:
        return NUL
    if line[-10:-2] == _crc_of(line) and line[-2:] == _SEAL_CLOSE:
        return CHECKSUM  # a seal whose own key was damaged; it would pass for a line by hand
    try:
        value = jsontext.loads(line)
    except jsontext.NotJson:
        return NOT_JSON
    return None if turn_from_object(value) is not None else NOT_A_TURN


def draft_substance(draft: Draft) -> int:
    """Return what ``substance_crc`` gives for the line that *draft* would become."""
    return zlib.crc32(draft.tail)


def body_of(line: bytes) -> bytes:
    """Return the sealed *line* without seal, batch mark and closing brace."""
    body = line[:-SEAL_BYTES]
    if batch_mark(line) is not None:
        body = body[: body.rindex(b',"_b":[')]
    return body
