"""What a check finds: the class of each line, and what is wrong, in words for people."""

from __future__ import annotations

from dataclasses import dataclass, field

from convmem.log import codec
from convmem.log.checks.verify_split import is_cut_short, split

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.log.checks.verify_split import Part

OK = "ok"
UNSEALED = "unsealed"
MARK = "mark"
BLANK = "blank"
TORN = "torn"
NUL = "nul"
FUSED = "fused"
CHECKSUM = "checksum"
NOT_JSON = "not_json"
NOT_A_TURN = "not_a_turn"
TOO_LONG = "too_long"
HALF_BATCH = "half_batch"
NOT_UNPACKED = "not_unpacked"
HARMLESS = (OK, UNSEALED, MARK, BLANK)
CLASSES = (
    *HARMLESS,
    *(TORN, NUL, FUSED, CHECKSUM, NOT_JSON, NOT_A_TURN, TOO_LONG, HALF_BATCH, NOT_UNPACKED),
)
"""Every byte of a log is of one of these."""

# What damage at the very end is told as, where it is the beginning of something.
UNFINISHED = (CHECKSUM, NOT_JSON, NOT_A_TURN)

DUPLICATE_ID = "duplicate_id"
SEQ_DISORDER = "seq_disorder"

_CLASS_OF = {
    codec.NUL: NUL,
    codec.CHECKSUM: CHECKSUM,
    codec.NOT_JSON: NOT_JSON,
    codec.NOT_A_TURN: NOT_A_TURN,
    codec.TOO_LONG: TOO_LONG,
    codec.HALF_BATCH: HALF_BATCH,
}
MOST_FINDINGS = 1000
"""How many findings a report keeps."""


@dataclass(slots=True, frozen=True)
class Finding:
    """Something wrong with one line.

    Attributes:
        line: The line's number, from 1.
        offset: Where it begins, in bytes from the start of the file.
        length: How many bytes it has, newline not included.
        kind: ``torn``, ``nul``, ``fused``, ``checksum``, ``not_json``, ``not_a_turn``,
            ``too_long`` or ``half_batch``; ``not_unpacked`` stands for what is missing of a
            compressed log, whose plain bytes these places are counted in; of good lines
            ``duplicate_id`` or ``seq_disorder``.
        words: What is wrong, for people.
        id, seq: The turn's, where they can be read.
    """

    line: int
    offset: int
    length: int
    kind: str
    words: str
    id: str | None = None
    seq: int | None = None


@dataclass(slots=True)
class VerifyReport:
    """What a log consists of. Counts are exact.

    Attributes:
        size: How many bytes were looked at: all, but for what was just being written.
        bytes, lines: How many bytes (newlines included) and lines there are of each class.
        found: How many findings there are of each kind; ``findings`` has the first 1,000.
        turns: Turns that readers see.
        first_seq, last_seq: The lowest and the highest ``seq``; ``None`` where there is none.
            Numbers that are missing in between are no damage: compaction drops turns.
    """

    size: int = 0
    bytes: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLASSES, 0))
    lines: dict[str, int] = field(default_factory=lambda: dict.fromkeys(CLASSES, 0))
    found: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    turns: int = 0
    first_seq: int | None = None
    last_seq: int | None = None

    @property
    def is_damaged(self) -> bool:
        """Whether anything was found. Lines by hand, marks and empty lines are no damage."""
        return bool(self.found)


def look_at(line: bytes, reason: str, last_seq: int) -> tuple[str, str, list[Part]]:
    """Return the class of a damaged *line*, words for people, and its parts if it has records."""
    if not line.strip(b" \t\r"):
        return BLANK, "empty", []
    if reason == codec.HALF_BATCH:
        return HALF_BATCH, codec.HALF_BATCH, []
    parts = [] if reason == codec.NOT_A_TURN else split(line, last_seq)
    whole = sum(is_record for _, _, is_record in parts)
    if not whole:
        if reason == codec.NOT_JSON and is_cut_short(line):
            return TORN, "cut short", []
        words = "JSON, but not a turn" if reason == codec.NOT_A_TURN else reason
        return _CLASS_OF[reason], words, []
    rest = b"".join(line[start:end] for start, end, is_record in parts if not is_record)
    if whole == 1 and not rest.strip(b"\0 \t\r"):
        return NUL, f"{len(rest)} NUL bytes beside a whole record", parts
    if whole == 1:
        return FUSED, f"a whole record beside {len(rest)} bytes of something else", parts
    words = f"{whole} records on one line"
    return FUSED, words + (f", and {len(rest)} other bytes" if rest else ""), parts
