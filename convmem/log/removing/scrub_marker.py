"""What stays where a turn was scrubbed: its id, its place, its time, who spoke, and since when.

    {"id":"…","seq":17,"ts":"…Z","role":"user","content":"","meta":{"scrubbed":"…Z"},"_c":"…"}

Such a marker keeps the mark of its batch. Of a damaged line stays a damaged one that says no more.
"""

from __future__ import annotations

from convmem import jsontext
from convmem.log import codec
from convmem.log.removing import summary
from convmem.quantities import parse_stored_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.turns import Turn

KEY = "scrubbed"
_TIME_BYTES = 27  # as ``format_time`` writes it
_BEFORE = b',"content":"","meta":{"scrubbed":"'
_BEHIND = b'"}'
_LENGTH = len(_BEFORE) + _TIME_BYTES + len(_BEHIND)
_MOST_MARK_BYTES = 64  # of a batch
_OF_SUMMARIES = ("turns", "first_seq", "last_seq", "first_ts", "last_ts", "trash", "made")
# Of a damaged line: a seal that does not hold, and what tells readers that bytes were never there.
_WRONG_SEAL = b',"_c":"00000000"}'
_DAMAGED_HOLE = b',"hole":"%b"' % codec.HOLE


def is_marker(line: bytes) -> bool:
    """Whether a good *line*, without its newline, says of a turn that it was scrubbed."""
    return time_of(line) is not None


def time_of(line: bytes) -> str | None:
    """Return when the turn of the marker *line* was scrubbed; ``None`` of any other line."""
    # All other lines are told at once by a few of their bytes.
    if _BEFORE not in line[-_LENGTH - codec.SEAL_BYTES - _MOST_MARK_BYTES :]:
        return None
    body = codec.body_of(line) if codec.is_sealed(line) else line[:-1]
    if not (body.endswith(_BEHIND) and body[-_LENGTH:].startswith(_BEFORE)):
        return None
    return str(body[-len(_BEHIND) - _TIME_BYTES : -len(_BEHIND)], "ascii", "replace")


def is_scrubbed(turn: Turn) -> bool:
    """Whether *turn* is a marker: what it said is gone for good."""
    return turn.content == "" and turn.meta is not None and list(turn.meta) == [KEY]


def marker_of(line: bytes, when: str) -> bytes:
    """Return the marker, with its newline, that takes the place of the good *line*.

    A line by hand stays one: without a seal. A summary goes on to say what it stands for.
    """
    is_sealed = codec.is_sealed(line)
    head = codec.head_of(line) if is_sealed else None
    if head is not None:
        body = b'{"id":%b,"seq":%d,"ts":"%b","role":%b' % (
            head[0],
            head[1],
            head[2].encode(),
            head[3],
        )
    else:
        body = _head_of(line)
    body += _BEFORE + when.encode() + _BEHIND
    if not is_sealed:
        return body + b"}\n"
    mark = codec.batch_mark(line)
    if mark is not None:
        body += b',"_b":["%b",%d,%d]' % mark
    return codec.sealed(body)


def _head_of(line: bytes) -> bytes:
    """Return what stays of a turn in any other order of keys than ours, without a brace."""
    said = codec.parse_object(line)
    kept: dict[str, object] = {}
    kept.update((key, said[key]) for key in ("id", "seq", "ts", "role") if key in said)
    if not isinstance(kept.get("id", ""), str):
        del kept["id"]
    if not isinstance(kept.get("seq"), int | None):
        del kept["seq"]
    if "ts" in kept and parse_stored_time(kept["ts"]) is None:
        del kept["ts"]  # it says something else than a time
    stands_for = summary.stands_for(line)
    if stands_for is not None:
        kept["summary"] = {key: stands_for[key] for key in _OF_SUMMARIES if key in stands_for}
    return jsontext.dumps(kept)[:-1]


def remains_of(damaged: bytes, turn_id: str, seq: int | None, when: str) -> bytes:
    """Return what takes the place of *damaged* bytes of a turn: as damaged, but without content.

    What readers and healers conclude from damage stays as it was: that a ``seq`` is spent, that a
    line was finished, that bytes were never written.
    """
    place = b"" if seq is None else b',"seq":%d' % seq
    hole = _DAMAGED_HOLE if codec.HOLE in damaged else b""
    body = b'{"id":%b%b%b' % (jsontext.dumps(turn_id), place, hole)
    body += _BEFORE + when.encode() + _BEHIND
    return body + (_WRONG_SEAL if codec.count_of_seals(damaged) else b"}")


def are_remains(damaged: bytes) -> bool:
    """Whether damaged bytes are what ``remains_of`` returned."""
    is_sealed = damaged.endswith(_WRONG_SEAL)
    body = damaged[: -len(_WRONG_SEAL)] if is_sealed else damaged[:-1]
    return body.endswith(_BEHIND) and body[-_LENGTH:].startswith(_BEFORE)
