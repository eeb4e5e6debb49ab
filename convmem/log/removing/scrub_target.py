"""Which bytes are one turn's: its lines, and damaged bytes of it.

A good line tells whose it is. Damaged bytes are the turn's from its id on, or from its ``seq`` and
time, up to the seal of the line or the next turn. And where damage has left nothing of that, every
longer run of text goes that stands in the turn's content: a torn line of a client that got no
answer, and said the same again under another id. So does a good line in the quarantine that says
the same: it was in a batch that was torn.
"""

from __future__ import annotations

import re

from convmem import jsontext
from convmem.log import codec
from convmem.log.removing import scrub_marker
from convmem.log.removing.scrub_find import HEAD, LEAST_TEXT_BYTES

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

    from convmem.log.removing.scrub_find import Sighting

# What ends a line of ours.
_SEAL = re.compile(rb',"_c":"[0-9a-f]{8}"\}(?=\n|$|\{"id":"|\0)')
# Runs of a text are looked for if they are as long as this.
_RUN_BYTES = 32
_MOST_BLOCKS = 1 << 16
_NEVER_WRITTEN = re.compile(rb"\0{16,}")
_NOTE = b"[scrubbed]"


class Target:
    """One turn, by all that tells its bytes apart.

    Attributes:
        turn_id, seq: Of which at least one is known.
        role, ts_text: Who spoke, and when, where a good line tells.
        scrubbed: When it was scrubbed first, if it was.
        copies: The ids of the turns that it stands for.
    """

    def __init__(self, turn_id: str | None, seq: int | None) -> None:
        self.turn_id = turn_id
        self.seq = seq
        self.role: str | None = None
        self.ts_text: str | None = None
        self.scrubbed: str | None = None
        self.copies: set[str] = set()
        self._marks: set[bytes] = set()
        self._texts: set[bytes] = set()
        self._contents: list[tuple[str | None, Any]] = []
        if turn_id is not None:
            self._marks.add(b'"id":%b,"seq":' % jsontext.dumps(turn_id))

    def learn(self, sighting: Sighting) -> None:
        """Take over what one good line of the turn tells."""
        self.seq = sighting.seq if self.seq is None else self.seq
        self.role = self.role or sighting.role
        self.ts_text = self.ts_text or sighting.ts_text
        if sighting.scrubbed is not None:
            self.scrubbed = min(self.scrubbed or sighting.scrubbed, sighting.scrubbed)
        if sighting.seq is not None and sighting.ts_text is not None:
            self._marks.add(b'"seq":%d,"ts":"%b"' % (sighting.seq, sighting.ts_text.encode()))
        self.copies.update(sighting.copies)
        self._texts.update(sighting.texts)
        if sighting.texts and (sighting.role, sighting.content) not in self._contents:
            self._contents.append((sighting.role, sighting.content))

    def owns(self, sighting: Sighting) -> bool:
        """Whether a good line is the turn's."""
        if self.turn_id is not None:
            return sighting.turn_id == self.turn_id
        return sighting.turn_id is None and sighting.seq == self.seq

    def is_repeated_by(self, line: bytes) -> bool:
        """Whether another good line says the same, and at some length."""
        turn = codec.parse(line) if self._contents else None
        return turn is not None and (turn.role, turn.content) in self._contents

    def without(self, damaged: bytes, when: str) -> tuple[bytes, int]:
        """Return *damaged* bytes without what the turn said, and how many pieces went."""
        heads = [found.start() for found in HEAD.finditer(damaged)]
        seals = [found.end() for found in _SEAL.finditer(damaged)]
        spans: list[tuple[int, int]] = []
        for at in sorted(_places_of(self._marks, damaged)):
            if spans and at < spans[-1][1]:
                continue
            # The head that the mark is a part of begins before it.
            start = max(
                [damaged.rfind(b"\n", 0, at) + 1]
                + [place for place in heads if place <= at]
                + [place for place in seals if place <= at]
            )
            stop = min([len(damaged)] + [place for place in (*heads, *seals) if place > at])
            stop -= len(damaged[start:stop]) - len(damaged[start:stop].rstrip(b"\n"))
            spans.append((start, stop))
        done = []
        count = behind = 0
        for start, stop in spans:
            rest, runs = self._without_runs(damaged[behind:start])
            said = damaged[start:stop]
            if not scrub_marker.are_remains(said):
                count += 1
                said = scrub_marker.remains_of(said, self.turn_id or "", self.seq, when)
            done += [rest, said]
            count += runs
            behind = stop
        rest, runs = self._without_runs(damaged[behind:])
        return b"".join([*done, rest]), count + runs

    def _without_runs(self, damaged: bytes) -> tuple[bytes, int]:
        count = 0
        for text in sorted(self._texts, key=len, reverse=True):
            if len(text) < _RUN_BYTES:
                count += damaged.count(text)
                damaged = damaged.replace(text, _NOTE)
                continue
            parts = []
            behind = 0
            for start, stop in _runs(damaged, text):
                parts += [damaged[behind:start], _NOTE]
                behind = stop
            count += len(parts) // 2
            damaged = b"".join([*parts, damaged[behind:]])
        return damaged, count


def _places_of(marks: Iterable[bytes], data: bytes) -> set[int]:
    """Return where any of *marks* stands in *data*."""
    found = set()
    for mark in marks:
        at = data.find(mark)
        while at >= 0:
            found.add(at)
            at = data.find(mark, at + 1)
    return found


def _runs(data: bytes, text: bytes) -> Iterator[tuple[int, int]]:
    """Yield where *data* holds runs of *text* that are long enough to be no chance."""
    # Blocks of the text at even distances: a run of that distance and a block holds one of them.
    step = max(LEAST_TEXT_BYTES, len(text) // _MOST_BLOCKS)
    blocks = {
        text[at : at + LEAST_TEXT_BYTES]: at
        for at in range(0, len(text) - LEAST_TEXT_BYTES + 1, step)
    }
    at = 0
    behind = 0
    while at <= len(data) - LEAST_TEXT_BYTES:
        place = blocks.get(data[at : at + LEAST_TEXT_BYTES])
        if place is None:
            hole = _NEVER_WRITTEN.match(data, at)
            at = at + 1 if hole is None else hole.end()
            continue
        start, first = at, place
        while start > behind and first and data[start - 1] == text[first - 1]:
            start, first = start - 1, first - 1
        stop, last = at + LEAST_TEXT_BYTES, place + LEAST_TEXT_BYTES
        while stop < len(data) and last < len(text) and data[stop] == text[last]:
            stop, last = stop + 1, last + 1
        if stop - start >= _RUN_BYTES or stop - start == len(text):
            yield start, stop
            behind = stop
            at = stop
        else:
            at += 1
