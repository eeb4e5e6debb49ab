"""Sources for formats whose records are lines: made of values, of bytes, or of the sample files."""

from __future__ import annotations

import json
from pathlib import Path

from hypothesis import strategies as st

from convmem.formats.protocol import Begin, Kept
from convmem.formats.reading.samples import SAMPLE_BYTES, Sample
from convmem.turns import Turn

DATA = Path(__file__).parents[1] / "data" / "transcripts"

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=10,
)


class Lines:
    """A source that holds these values, one a line."""

    def __init__(self, *values, stem="", raws=None, path=None):
        self.raws = [json.dumps(value).encode() for value in values] if raws is None else raws
        self.stem = stem
        self.name = f"{stem}.jsonl" if stem else ""
        self.folder = ""
        self.path = path

    @classmethod
    def of_file(cls, path):
        raws = [line for line in path.read_bytes().split(b"\n") if line.strip()]
        return cls(stem=path.stem, raws=raws, path=str(path))

    def records(self):
        return ((raw, json.loads(raw)) for raw in self.raws)

    @property
    def sample(self):
        return Sample(self.name, b"\n".join(self.raws)[:SAMPLE_BYTES])


def read(form, source, memory=None):
    """Return ``(continuation id, record)`` for each record, in order."""
    name, found, is_begun = None, [], False
    for item in form.read(source, {} if memory is None else memory):
        if isinstance(item, Begin):
            name, is_begun = item.continuation_id, True
        else:
            assert is_begun, "a record of no conversation"
            found.append((name, item))
    return found


def begins(form, source):
    """Return ``(continuation id, parent)`` for each time that a conversation begins."""
    return [
        (item.continuation_id, item.parent)
        for item in form.read(source, {})
        if isinstance(item, Begin)
    ]


def records(form, source, memory=None):
    """Return the records alone."""
    return [record for _, record in read(form, source, memory)]


def kept(found, *, unterminated=False):
    """Return *found* as an archive would hand it back."""
    turns = [
        Kept(Turn(record.role, record.content, id=record.id, meta=dict(record.meta)), record.raw)
        for record in found
    ]
    if turns and unterminated:
        turns[-1].turn.meta["unterminated"] = True
    return turns


def line_files(folder):
    """Return the sample files of *folder* that hold something."""
    return sorted(path for path in (DATA / folder).rglob("*.jsonl") if path.stat().st_size)


def samples():
    """Return every sample of every format: (format's folder, sample)."""
    found = []
    for path in sorted(DATA.rglob("*")):
        folder = path.relative_to(DATA).parts[0]
        if path.is_file() and folder != "licenses" and path.suffix in (".jsonl", ".json"):
            if path.name.endswith(".meta.json") or not path.stat().st_size:
                continue
            found.append((folder, Sample(path.name, path.read_bytes()[:SAMPLE_BYTES])))
    return found
