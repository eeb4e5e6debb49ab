"""How a conversation stands: its record, as the end of its log says."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from pydantic_ai.conversation_store import ConversationRecord

from convmem import ConversationNotFound
from convmem.adapters.pydantic_ai.entries import entry_id_of, is_message
from convmem.adapters.pydantic_ai.records import continues, is_record, moment_of, record_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem import Conversation, Turn

_FIRST_LOOK = 12  # two records, most often


@dataclass(frozen=True, slots=True)
class Standing:
    """What the end of a log says.

    Attributes:
        record: The record, with what others recorded since then as the end of its history.
        base: The revision of the stored record; ``None`` without one.
        base_seq: The ``seq`` of its event, or 0.
        last_seq, last_ts: Of the last turn, whoever recorded it.
    """

    record: ConversationRecord | None
    base: str | None
    base_seq: int
    last_seq: int
    last_ts: datetime | None

    @property
    def revision(self) -> str | None:
        """The record's, with what others recorded since; ``None`` without a record."""
        return None if self.record is None else self.record.revision


def standing(chat: Conversation) -> Standing:
    """Return how *chat* stands now. Reads the end of its log, and more where it is damaged."""
    for turns, is_all in ever_more(chat, _FIRST_LOOK):
        try:
            return _standing_in(chat.continuation_id, turns, is_all)
        except TooShort:
            continue
    raise AssertionError("a log has an end")


def stands(chat: Conversation, mine: Turn, now: Standing) -> bool:
    """Whether the record that was just stored holds."""
    since = chat.turns(after=max(now.base_seq - 1, 0))
    records = [turn for turn in since if is_record(turn) and (turn.seq or 0) <= (mine.seq or 0)]
    latest = _latest(records, is_all=True)
    return latest is not None and latest.id == mine.id


class TooShort(Exception):
    """More of the log has to be read to tell."""


def ever_more(chat: Conversation, count: int | None) -> Iterator[tuple[list[Turn], bool]]:
    """Yield the last *count* turns, and whether these are all; then more and more of them."""
    while True:
        turns: list[Turn] = []
        try:
            turns = list(chat.turns()) if count is None else chat.tail(count)
        except ConversationNotFound:
            pass  # it has no turns
        if count is None:
            yield turns, True
            return
        yield turns, len(turns) < count
        count *= 4


def _standing_in(conversation_id: str, turns: list[Turn], is_all: bool) -> Standing:
    """Return what *turns* say.

    Raises:
        TooShort: They are too few to say it.
    """
    records = [at for at, turn in enumerate(turns) if is_record(turn)]
    latest = _latest([turns[at] for at in records], is_all)
    since = turns[records[-1] + 1 :] if records else turns
    said = [turn for turn in since if is_message(turn)]
    record, base, base_seq = None, None, 0
    if latest is not None:
        record = record_of(latest, conversation_id)
        base, base_seq = record.revision, latest.seq or 0
    elif said:
        record = ConversationRecord(conversation_id=conversation_id, head_id=None, revision="")
        record.updated_at = datetime.fromtimestamp(0, UTC)
    if record is not None and said:
        last = said[-1]
        record.head_id = entry_id_of(conversation_id, last)
        record.revision += f"+{record.head_id}"
        record.updated_at = max(moment_of(record), last.ts or moment_of(record))
    last_seq, last_ts = (turns[-1].seq or 0, turns[-1].ts) if turns else (0, None)
    return Standing(record, base, base_seq, last_seq, last_ts)


def _latest(records: list[Turn], is_all: bool) -> Turn | None:
    """Return the record that holds: the last that continues one that holds.

    Each does, but where a save met a conversation that was deleted and begun anew meanwhile: the
    id that would have kept it out went with the old log.
    """
    if len(records) > 1 and continues(records[-1], records[-2]):
        return records[-1]
    if not is_all:
        raise TooShort
    latest = None
    for record in records:
        if latest is None or continues(record, latest):
            latest = record
    return latest
