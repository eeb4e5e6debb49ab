"""Summaries of sessions: the SDK's own, kept beside the turns and brought up to now when asked."""

from __future__ import annotations

import os
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from claude_agent_sdk import fold_session_summary

from convmem import CorruptLog, Cursor, LockTimeout, StorageError, UsageError
from convmem.adapters.claude_agent_sdk.entries import entries_in
from convmem.adapters.claude_agent_sdk.keys import Key

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from claude_agent_sdk.types import SessionKey, SessionSummaryEntry

    from convmem import Conversation

# Where a session's summary is kept, in the state of its conversation.
SUMMARY = "claude-agent-sdk"
# Entries that are folded into a summary at once: what of a long session is held in memory.
_FOLDED_AT_ONCE = 500
# To read so many entries again takes less than the sync of a state.
_WORTH_KEEPING = 32


class Row(NamedTuple):
    """What the archive's list says of a session."""

    key: Key
    last_seq: int
    mtime: int  # of its last entry, in milliseconds since 1970


def data_of(chat: Conversation, row: Row) -> dict[str, Any]:
    """Return the data of a session's summary: what is kept of it, brought up to now."""
    key, file = row.key, _file(chat)
    kept, can_keep = _kept(chat)
    after: Cursor | int = 0
    folded: SessionSummaryEntry | None = None
    if kept is not None and kept["file"] == file:
        if kept["seq"] == row.last_seq:
            return dict(kept["data"])
        after = Cursor.parse(kept["upto"])
        folded = {"session_id": key.session, "mtime": 0, "data": kept["data"]}
    # From before the reading: what comes meanwhile is folded again, which changes nothing.
    upto = chat.cursor()
    sdk_key: SessionKey = {"project_key": key.project, "session_id": key.session}
    count = 0
    for batch in _batches(entries_in(chat, key, after)):
        folded = fold_session_summary(folded, sdk_key, batch)
        count += len(batch)
    data: dict[str, Any] = {} if folded is None else dict(folded["data"])
    if can_keep and (count >= _WORTH_KEEPING or (kept is not None and after == 0)):
        told = {"file": file, "seq": upto.seq, "upto": str(upto), "data": data}
        with suppress(StorageError, LockTimeout, UsageError):  # it only saves reading
            chat.update_state({SUMMARY: told})
    return data


def _kept(chat: Conversation) -> tuple[dict[str, Any] | None, bool]:
    """Return the summary that the state has, if it is one of ours, and whether it may be kept."""
    try:
        kept = chat.state().get(SUMMARY)
    except CorruptLog:
        return None, False  # whoever asks for the state is told
    if type(kept) is not dict or kept.keys() != {"file", "seq", "upto", "data"}:
        return None, True
    is_ours = type(kept["data"]) is dict and type(kept["upto"]) is str
    return (kept if is_ours else None), True


def _file(chat: Conversation) -> int | None:
    """Return what tells the log's file from the one that a compaction or scrub puts there."""
    with suppress(OSError):
        return os.stat(chat.path).st_ino
    return None


def _batches(entries: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    each = iter(entries)
    while batch := list(islice(each, _FOLDED_AT_ONCE)):
        yield batch
