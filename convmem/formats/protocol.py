"""What every transcript format is: a module that recognises its sources, reads them, writes them.

A format knows nothing of files, damage or archives: ``Source`` gives it whole records, and what it
yields says who spoke, when, and what. ``known.FORMATS`` lists the modules; mypy holds each
against ``Format``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from convmem.turns import EVENT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from convmem.formats.reading.samples import Sample
    from convmem.formats.reading.sources import Source
    from convmem.turns import Turn


__all__ = ["EVENT", "Begin", "Format", "Kept", "Record"]


class Begin:
    """From here on, records belong to this conversation. May come again for the same one.

    Attributes:
        continuation_id: The source's own id of it; ``None`` where it has none: then its turns are
            told by what they say and after what (see ``Format.HAS_IDS``).
        last_ts: When it last went on, where the format knows before its records are read.
        parent: The id of the conversation that it is a part of (a sub-agent's of its session's).
    """

    __slots__ = ("continuation_id", "last_ts", "parent")

    def __init__(
        self,
        continuation_id: str | None,
        *,
        last_ts: str | float | None = None,
        parent: str | None = None,
    ) -> None:
        self.continuation_id = continuation_id
        self.last_ts = last_ts
        self.parent = parent


class Record:
    """One record of a source, and what it says as a turn.

    Attributes:
        role: ``user``, ``assistant``, ``system``, ``tool`` or ``EVENT``.
        content: Text, or a list of blocks in the shape that the README documents.
        raw: The record as JSON, byte for byte; text (not bytes) where the source is text;
            ``None`` where an earlier record of the conversation holds it.
        id: The source's own id of the record, the same in every copy of it; ``None`` without.
        ts: When: ISO 8601 text or seconds since 1970; ``None`` where it says nothing of it.
        meta: What else is told; ``source`` is added by whoever imports.
        is_known: Whether the record's kind is one that the format knows.
        copy_of: The id of the record of which the source says that this is a copy.
    """

    # Made once for each of millions of records.
    __slots__ = ("content", "copy_of", "id", "is_known", "meta", "raw", "role", "ts")

    def __init__(
        self,
        role: str,
        content: Any,
        raw: bytes | str | None,
        id: str | None,
        ts: str | float | None,
        meta: dict[str, Any],
        is_known: bool = True,
        copy_of: str | None = None,
    ) -> None:
        self.role = role
        self.content = content
        self.raw = raw
        self.id = id
        self.ts = ts
        self.meta = meta
        self.is_known = is_known
        self.copy_of = copy_of


class Kept:
    """An imported turn on its way back into its format.

    Attributes:
        turn: The turn.
        raw: Its source record as it was: JSON bytes, or text; ``None`` where it has none.
    """

    __slots__ = ("raw", "turn")

    def __init__(self, turn: Turn, raw: bytes | str | None) -> None:
        self.turn = turn
        self.raw = raw


class Format(Protocol):
    """A transcript format. Modules are; nothing is made of it.

    Attributes:
        NAME: As ``--from`` takes it and ``meta.source`` says it.
        TITLE: As people call it.
        SUFFIX: How a file of it ends, such as ``.jsonl``.
        HAS_IDS: Whether records have ids of their own or a place in a file that is only appended
            to. Without, a conversation is known again by how it begins.
        GROWS: Whether its files are only ever appended to, a record a line, so that one that grew
            is read from where it ended.
        SHARES: Whether the ids of its records are the same in every copy and no other's: so
            that copies in other conversations (forks, sessions that were resumed) are known.
    """

    NAME: str
    TITLE: str
    SUFFIX: str
    HAS_IDS: bool
    GROWS: bool
    SHARES: bool

    def recognises(self, sample: Sample) -> bool:
        """Whether the beginning of a source is of this format. By content, not by name."""

    def read(self, source: Source, memory: dict[str, Any]) -> Iterator[Begin | Record]:
        """Yield what *source* holds. What must be known to read on after its end goes into
        *memory*, which holds JSON values only and is given back when the source has grown."""

    def native(self, kept: Iterable[Kept]) -> Iterator[bytes]:
        """Yield the bytes of a file of this format that holds one conversation again."""
