"""Records as turns, and which of them continues which."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from pydantic import ConfigDict, TypeAdapter
from pydantic_ai.conversation_store import ConversationRecord
from pydantic_ai.exceptions import UserError

from convmem.adapters.exact import sayable
from convmem.adapters.pydantic_ai.entries import EVENT, SOURCE

if TYPE_CHECKING:
    from convmem import Turn

_RECORD = "conversation"
_RECORDS = TypeAdapter(
    list[ConversationRecord], config=ConfigDict(ser_json_bytes="base64", val_json_bytes="base64")
)


def turn_of_record(
    record: ConversationRecord, *, base: str | None, base_seq: int
) -> dict[str, Any]:
    """Return what is recorded of *record*, which continues revision *base*."""
    [raw] = _as_json([record])
    meta = {"source": SOURCE, "kind": _RECORD, "continues": base, "after": base_seq}
    # Named for what it continues: the log takes the first of those that continue the same.
    name = hashlib.sha256(f"{base is not None}{base}".encode("utf-8", "replace"))
    turn_id = f"record:{name.hexdigest()[:32]}"
    return {"id": turn_id, "role": EVENT, "content": "", "meta": meta, "raw": raw}


def _as_json(records: list[ConversationRecord]) -> Any:
    try:
        return json.loads(_RECORDS.dump_json(records))
    except ValueError:  # half of a surrogate pair in the title or the metadata
        return sayable(_RECORDS.dump_python(records, mode="json"))


def record_of(turn: Turn, conversation_id: str) -> ConversationRecord:
    """Return the record that *turn* holds.

    Raises:
        UserError: It is of another version of pydantic-ai.
    """
    try:
        [record] = _RECORDS.validate_json(json.dumps([turn.extra["raw"]]))
    except ValueError as error:
        raise UserError(
            f"The record of conversation {conversation_id!r} is not one that this version of "
            "pydantic-ai can read."
        ) from error
    record.conversation_id = conversation_id  # the log may be a copy under another name
    return record


def is_record(turn: Turn) -> bool:
    """Whether *turn* is the event that ends a save."""
    meta, raw = turn.meta or {}, turn.extra.get("raw")
    return (
        meta.get("source") == SOURCE
        and meta.get("kind") == _RECORD
        and type(meta.get("after", 0)) is int
        and isinstance(raw, dict)
        and isinstance(raw.get("revision"), str)
        and isinstance(raw.get("head_id", ""), str | None)
    )


def continues(record: Turn, earlier: Turn) -> bool:
    """Whether one record was saved as what follows on the other."""
    meta = record.meta or {}
    # By the revision; or by the place, where the line of the one between is damaged. Places are
    # never given out twice, also when a log is deleted.
    return bool(
        meta.get("continues") == earlier.extra["raw"].get("revision")
        or meta.get("after", 0) >= (earlier.seq or 0)
    )


def moment_of(record: ConversationRecord) -> datetime:
    """Return when the record was updated; without a zone it counts as UTC."""
    moment: datetime = record.updated_at
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
