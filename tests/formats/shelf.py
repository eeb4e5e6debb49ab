"""What an import would keep of a source, in memory: for tests of one format, without an archive."""

from __future__ import annotations

import json

from convmem.formats.protocol import Begin, Kept
from convmem.formats.reading.samples import SAMPLE_BYTES, Sample
from convmem.formats.reading.sources import sources_in
from convmem.turns import Turn

ROLES = {"user", "assistant", "system", "tool", "event"}


class Shelf:
    """Turns by conversation, each record kept once; later versions of one beside the first."""

    def __init__(self, format):
        self.format = format
        self.conversations = {}
        self.begun = []

    def take(self, path, memory=None):
        """Import one file; return how many records were new."""
        added = 0
        (source,) = sources_in(str(path), _failed)
        seen = {}
        kept = None
        place = 0
        for item in self.format.read(source, {} if memory is None else memory):
            if isinstance(item, Begin):
                assert item.continuation_id
                self.begun.append(item)
                kept = self.conversations.setdefault(item.continuation_id, [])
                continue
            check(item)
            place += 1
            turn_id = item.id or f"place-{place}"
            known = [each for each in kept if _origin(each) == turn_id]
            key = (self.begun[-1].continuation_id, turn_id, item.raw)
            nth = seen[key] = seen.get(key, 0) + 1
            if sum(each.raw == item.raw for each in known) >= nth:
                continue
            meta = dict(item.meta)
            if known:
                meta["replaces"] = turn_id
                turn_id = f"{turn_id}~{len(known)}"
            turn = Turn(item.role, item.content, id=turn_id, meta=meta)
            kept.append(Kept(turn, item.raw))
            added += 1
        source.close()
        return added

    def native(self, conversation_id):
        return b"".join(self.format.native(self.conversations[conversation_id]))

    def turns(self, conversation_id):
        return [each.turn for each in self.conversations[conversation_id]]

    def turn(self, conversation_id, turn_id):
        return next(turn for turn in self.turns(conversation_id) if turn.id == turn_id)

    def raws(self, conversation_id):
        return {each.turn.id: each.raw for each in self.conversations[conversation_id]}


def check(record):
    """Hold a record against what every format promises."""
    assert record.role in ROLES
    assert record.raw is None or isinstance(record.raw, bytes | str)
    assert record.id is None or (record.id and record.id.isprintable())
    assert isinstance(record.is_known, bool)
    json.dumps(record.meta)
    if record.role == "event":
        assert isinstance(record.content, str)
        assert "\n" not in record.content or record.id == "head"
    elif not isinstance(record.content, str):
        assert isinstance(record.content, list)
        assert all(isinstance(block, dict) and "type" in block for block in record.content)
        assert any(block["type"] != "text" for block in record.content)


def sample(path):
    """Return the sample by which a file is recognised."""
    with open(path, "rb") as file:
        return Sample(path.name, file.read(SAMPLE_BYTES))


def _failed(name, error):
    raise AssertionError(name) from error


def _origin(kept):
    return (kept.turn.meta or {}).get("replaces") or kept.turn.id
