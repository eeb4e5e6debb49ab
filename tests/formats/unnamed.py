"""Conversations without ids, as an import would keep them: for formats that are told by content."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import strategies as st

from convmem.formats.protocol import Begin, Kept
from convmem.formats.reading.samples import SAMPLE_BYTES, Sample
from convmem.formats.reading.sources import sources_in
from convmem.turns import Turn

TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=30)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 53), 1 << 53) | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)


def lines(*values):
    """Return *values* as JSON lines, spelled as Python spells them."""
    return b"".join(json.dumps(value).encode() + b"\n" for value in values)


def sample(data, name=""):
    """Return the sample by which *data* is recognised."""
    return Sample(name, data[:SAMPLE_BYTES])


def taken(form, data, name="source.jsonl"):
    """Read *data* with a format; return its conversations, each a list of what is kept."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(data)
        (source,) = sources_in(str(path), _failed)
        found = []
        for item in form.read(source, {}):
            if isinstance(item, Begin):
                found.append([])
                continue
            assert item.role in ("user", "assistant", "system", "tool", "event")
            assert isinstance(item.content, str | list)
            meta = {**item.meta, "source": form.NAME}
            if not item.is_known:
                meta["is_known"] = False  # for these tests
            found[-1].append(Kept(Turn(item.role, item.content, id=item.id, meta=meta), item.raw))
        source.close()
    return found


def said(conversation):
    """Return role and content of each turn of one conversation, without events."""
    return [
        (kept.turn.role, kept.turn.content) for kept in conversation if kept.turn.role != "event"
    ]


def chain(conversation):
    """Return role and content of every record of one conversation."""
    return [(kept.turn.role, kept.turn.content) for kept in conversation]


def turns(conversation):
    """Return the turns alone."""
    return [kept.turn for kept in conversation]


def native(form, conversation):
    """Return the file that gives one conversation back."""
    return b"".join(form.native(conversation))


def _failed(name, error):
    raise AssertionError(name) from error
