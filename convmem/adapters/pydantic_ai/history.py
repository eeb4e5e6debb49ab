"""The way back through a history: from an entry to the one before it, past what is damaged."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic_ai.conversation_store import ConversationEntry

from convmem.adapters.pydantic_ai.entries import Link, entry_id_of, is_message, is_ours
from convmem.adapters.pydantic_ai.forks import unpacked
from convmem.adapters.pydantic_ai.records import is_record
from convmem.adapters.pydantic_ai.standing import TooShort, ever_more
from convmem.adapters.pydantic_ai.to_messages import message_of

if TYPE_CHECKING:
    from convmem import Conversation, Turn


def history(chat: Conversation, head_id: str, limit: int | None) -> list[Link] | None:
    """Return the history up to *head_id*, oldest first, with one before the last *limit*.

    ``None`` where the conversation never had the entry; without what is damaged or scrubbed.
    """
    wanted = None if limit is None else limit + 1
    # A save adds some two messages and a record.
    count = None if wanted is None else wanted * 3 // 2 + 8
    for turns, is_all in ever_more(chat, count):
        try:
            return _way_back(chat.continuation_id, turns, is_all, head_id, wanted)
        except TooShort:
            continue
    raise AssertionError("a log has an end")


def entries_of(links: list[Link], limit: int | None) -> list[ConversationEntry]:
    """Return the last *limit* of *links* as entries; all where it is ``None``."""
    names: dict[str, str] = {}
    made: list[ConversationEntry] = []
    parent = None
    for link in links:
        message = message_of(link.turn, names)
        made.append(ConversationEntry(id=link.entry_id, parent_id=parent, message=message))
        parent = link.entry_id
    return made if limit is None else made[-limit:]


def _way_back(
    conversation_id: str, turns: list[Turn], is_all: bool, head_id: str, wanted: int | None
) -> list[Link] | None:
    """Return what ``history`` does, of *turns*.

    Raises:
        TooShort: They are too few.
    """
    turns = [each for turn in turns for each in unpacked(turn)]
    links: dict[int, Link] = {}
    places: dict[str, int] = {}
    heads: dict[str, int] = {}
    for at, turn in enumerate(turns):
        if is_message(turn):
            entry_id = entry_id_of(conversation_id, turn)
            links[at] = Link(entry_id, turn)
            places[entry_id] = at
        elif is_record(turn) and isinstance(turn.extra["raw"].get("head_id"), str):
            heads.setdefault(turn.extra["raw"]["head_id"], at)

    def before(at: int) -> int | None:
        """Return what stands before a turn that does not say it, or says what is not there."""
        while at > 0:
            at -= 1
            if at in links:
                return at
            if is_record(turns[at]):
                head = turns[at].extra["raw"].get("head_id")
                if head is None:
                    return None
                if places.get(head, at) < at:
                    return places[head]
                if not is_all:
                    raise TooShort
                # Its line is damaged: it stood before the first record that names it.
                at = heads[head]
        if not is_all:
            raise TooShort
        return None

    step = places.get(head_id)
    if step is None:
        if not is_all:
            raise TooShort
        if head_id not in heads:
            return None
        # Its own line is damaged, or was scrubbed; a record still names it.
        step = before(heads[head_id])
    found: list[Link] = []
    while step is not None and (wanted is None or len(found) < wanted):
        link = links[step]
        found.append(link)
        parent = (link.turn.meta or {}).get("parent")
        if not is_ours(link.turn):
            step = before(step)
        elif parent is None:
            step = None
        elif places.get(parent, step) < step:
            step = places[parent]
        elif is_all:
            step = before(min(step, heads.get(parent, step)))
        else:
            raise TooShort
    return found[::-1]
