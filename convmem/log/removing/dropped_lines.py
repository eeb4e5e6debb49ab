"""What is remembered of turns that leave a log: a short line for each, cut out of its own.

    {"id":"…","seq":17,"ts":"…Z","line":"9f3a01bc","until":1763720000}

``line`` is the checksum that the turn's own line had: a retry says the same if it would make that
very line. A turn whose line cannot be made again so, such as one of a batch, has a checksum of what
it said instead: ``substance``, and whether that is of what it means (``parsed``) or of its bytes.
"""

from __future__ import annotations

import os
import re
import zlib

from convmem import jsontext
from convmem.log import codec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convmem.turns import Draft, Turn

_BLOCK = 120 << 10  # see ``blocks.BLOCK_BYTES``


def substance(turn: Turn | Draft) -> int:
    """Return a CRC-32 that turns share which say the same, however their lines are spelled."""
    return zlib.crc32(jsontext.canonical([turn.role, turn.content, turn.meta, turn.extra]))


def whole_lines(fd: int, start: int = 0, end: int | None = None) -> Iterator[bytes]:
    """Yield whole lines, some hundred kilobytes at a time."""
    at = start
    take = _BLOCK
    while end is None or at < end:
        data = os.pread(fd, take if end is None else min(take, end - at), at)
        cut = data.rfind(b"\n") + 1
        if cut:
            yield data[:cut]
            at += cut
            take = _BLOCK
        elif len(data) == take:
            take *= 2  # a line that is longer than a block
        else:
            return


def remembered(
    fd: int, spans: Iterable[tuple[int, int]], until: float, *, is_discarded: bool
) -> Iterator[bytes]:
    """Yield what is to be remembered of the turns in byte *spans* of the log *fd*, by the block."""
    for start, end in spans:
        for block in whole_lines(fd, start, end):
            yield b"".join(_of_lines(block.split(b"\n")[:-1], until, is_discarded))


def _of_lines(found: list[bytes], until: float, is_discarded: bool) -> Iterator[bytes]:
    behind = b'","until":%d}\n' % until
    begins = _ONE_SPELLING_HEAD if is_discarded else _HEAD
    for line, head in zip(found, map(begins.match, found), strict=True):
        if (
            head is not None
            and line[-17:-10] == b',"_c":"'
            and (line[-18:-17] != b"]" or codec.batch_mark(line) is None)
            and (not is_discarded or _has_one_spelling(line))
        ):
            yield head[0] + b',"line":"' + line[-10:-2] + behind  # nearly every line
        else:
            yield _by_substance(line, until, is_discarded)


# A text is all of what such a turn says, but for ``meta`` or one more key.
_HEAD = re.compile(rb'\{"id":"[^"\\]*","seq":\d+,"ts":"[0-9A-Z.:-]*"(?=,"role":)')
_ONE_SPELLING_HEAD = re.compile(_HEAD.pattern[:-1] + rb'"[^"\\]*","content":")')
# Before each of seq, ts, role, content, _c, and of one more key at most.
_MOST_SEPARATORS = 6


def _has_one_spelling(line: bytes) -> bool:
    """Whether turns that say the same as *line*, whose content is text, all have its bytes.

    True where no object in it has two keys, whose order could be another, and no number.
    """
    return line.count(b',"') <= _MOST_SEPARATORS and (
        line[-18:-17] == b'"' or line[-19:-17] == b'"}'
    )


def _by_substance(line: bytes, until: float, is_discarded: bool) -> bytes:
    head = codec.head_of(line) if codec.is_sealed(line) else None
    if head is None:
        return b""  # a line by hand has no id that a client could retry
    if is_discarded:
        turn = codec.parse(line)
        says = 0 if turn is None else substance(turn)
    else:
        says = codec.substance_crc(line) or 0
    return b'{"id":%b,"seq":%d,"ts":%b,"substance":%d,"parsed":%b,"until":%d}\n' % (
        jsontext.dumps(codec.text_of(head[0])),
        head[1],
        jsontext.dumps(head[2]),
        says,
        b"true" if is_discarded else b"false",
        until,
    )
