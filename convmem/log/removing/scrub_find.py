"""Where the files of one conversation say something of a turn, and where they are damaged."""

from __future__ import annotations

import re

from convmem import copied, jsontext
from convmem.log import codec, lines
from convmem.log.files import read_exactly
from convmem.log.removing import scrub_marker, summary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any

# What begins a line of ours, also where the rest of it is damaged.
HEAD = re.compile(rb'\{"id":("(?:[^"\\\n]|\\.)*"),"seq":(\d{1,18}),(?:"ts":"([0-9A-Z.:-]*)")?')
_BEGINNING = b'{"id":"'
# A shorter text is not looked for in damaged bytes: words that everybody uses.
LEAST_TEXT_BYTES = 16


class Wanted:
    """Which turn is meant: by its id, and by its ``seq`` if no turn has that id."""

    __slots__ = ("seq", "turn_id")

    def __init__(self, turn_id: str | None, seq: int | None) -> None:
        self.turn_id = turn_id
        self.seq = seq


class Sighting:
    """A line that says something of a wanted turn.

    Attributes:
        offset, end: Where it stands, newline not included.
        turn_id, seq, ts_text: Its own.
        role: Who spoke.
        scrubbed: When it was scrubbed, if it was.
        content: What was said.
        copies: The ids of the turns that it stands for.
        texts: The longer texts in it, as they stand in JSON.
    """

    __slots__ = (
        "content",
        "copies",
        "end",
        "offset",
        "role",
        "scrubbed",
        "seq",
        "texts",
        "ts_text",
        "turn_id",
    )

    def __init__(self, offset: int, end: int, turn_id: str | None, seq: int | None) -> None:
        self.offset = offset
        self.end = end
        self.turn_id = turn_id
        self.seq = seq
        self.ts_text: str | None = None
        self.role: str | None = None
        self.scrubbed: str | None = None
        self.content: Any = None
        self.copies: list[str] = []
        self.texts: list[bytes] = []


class Survey:
    """What one file says: of the wanted turn, of turns that have to do with it, and its damage.

    Attributes:
        by_id, by_seq: The good lines of turns with the id, and of others with the ``seq``.
        claims: The (id, seq) that damaged lines seem to have had, where one of them is wanted.
        damaged: Where damaged lines stand, together as far as one may go on in the next.
        replaced_by: The ids of later versions of the turn (``meta.replaces``).
        summaries: Of turns that stand for others: the id, and what ``seq`` they stand for.
        others: Where other good lines stand; only if that was asked for.
    """

    def __init__(self) -> None:
        self.by_id: list[Sighting] = []
        self.by_seq: list[Sighting] = []
        self.claims: list[tuple[str, int]] = []
        self.damaged: list[tuple[int, int]] = []
        self.replaced_by: list[str] = []
        self.summaries: list[tuple[str, int, int]] = []
        self.others: list[tuple[int, int]] = []


def survey(
    fd: int,
    end: int,
    size: int,
    wanted: Wanted,
    advanced: Callable[[int], None],
    *,
    notes_others: bool = False,
) -> Survey:
    """Read all lines of ``[0, end)``, and what stands behind them up to *size*."""
    found = Survey()
    behind = 0
    for offset, line_end, line in lines.forward(fd, 0, end):
        if line is None or codec.fault_of(line) is not None:
            _note_damage(found, fd, offset, line_end + 1, line, wanted)
        else:
            is_other = not _note_line(found, offset, line_end, line, wanted)
            if is_other and notes_others:
                found.others.append((offset, line_end))
        advanced(line_end + 1 - behind)
        behind = line_end + 1
    if behind < size:
        line = read_exactly(fd, size - behind, behind)
        if codec.fault_of(line) is None and not codec.is_sealed(line):
            _note_line(found, behind, size, line, wanted)
        else:
            _note_damage(found, fd, behind, size, line, wanted)
    return found


def _note_line(found: Survey, offset: int, end: int, line: bytes, wanted: Wanted) -> bool:
    """Note what a good line says; return whether its turn may be the wanted one."""
    head = codec.head_of(line) if codec.is_sealed(line) else None
    if head is not None:
        turn_id: str | None = codec.text_of(head[0])
        seq: int | None = head[1]
    else:
        turn = codec.parse(line)
        if turn is None:
            return False  # what convmem noted for itself
        turn_id, seq = turn.id, turn.seq
    if turn_id is not None and turn_id == wanted.turn_id:
        found.by_id.append(_sighting(offset, end, turn_id, seq, line))
    elif wanted.seq is not None and seq == wanted.seq:
        found.by_seq.append(_sighting(offset, end, turn_id, seq, line))
    elif seq is None and turn_id is not None:
        said = summary.stands_for(line) or {}
        first, last = said.get("first_seq"), said.get("last_seq")
        if type(first) is int and type(last) is int:
            found.summaries.append((turn_id, first, last))
    if b'"replaces"' in line and turn_id is not None:
        turn = codec.parse(line)
        if turn is not None and turn.meta and turn.meta.get("replaces") == wanted.turn_id:
            found.replaced_by.append(turn_id)
    return turn_id == wanted.turn_id or (wanted.seq is not None and seq == wanted.seq)


def _sighting(offset: int, end: int, turn_id: str | None, seq: int | None, line: bytes) -> Sighting:
    made = Sighting(offset, end, turn_id, seq)
    head = codec.head_of(line) if codec.is_sealed(line) else None
    made.ts_text = None if head is None else head[2]
    made.scrubbed = scrub_marker.time_of(line)
    turn = codec.parse(line)
    if turn is not None:
        made.role, made.content = turn.role, turn.content
        made.copies = copied.ids_in(turn)
        raw = turn.extra.get("raw")
        says = [turn.content, raw if isinstance(raw, str) else None]
        made.texts = [text for text in _texts_in(says) if len(text) >= LEAST_TEXT_BYTES]
    return made


def _note_damage(
    found: Survey, fd: int, offset: int, end: int, line: bytes | None, wanted: Wanted
) -> None:
    if line is None:
        line = read_exactly(fd, end - offset, offset)
    for head in HEAD.finditer(line):
        try:
            turn_id, seq = codec.text_of(head[1]), int(head[2])
        except ValueError:
            continue
        if turn_id == wanted.turn_id or seq == wanted.seq:
            found.claims.append((turn_id, seq))
    before = found.damaged[-1] if found.damaged else (0, -1)
    # A line that damage has cut in two goes on in the next one.
    if (
        before[1] == offset
        and not line.startswith(_BEGINNING)
        and end - before[0] <= lines.MAX_LINE_BYTES
    ):
        found.damaged[-1] = (before[0], end)
    else:
        found.damaged.append((offset, end))


def _texts_in(value: Any) -> Iterator[bytes]:
    """Yield every text in a JSON value, as it stands between its quotes. Keys are no content."""
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, str):
            yield jsontext.dumps(each)[1:-1]
        elif isinstance(each, dict):
            waiting.extend(each.values())
        elif isinstance(each, list):
            waiting.extend(each)
