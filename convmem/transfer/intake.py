"""Records of one source on their way into one conversation: what is new is stored, in order."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime

from convmem import copied, jsontext
from convmem.errors import ConversationNotFound
from convmem.formats.own import OwnRecord
from convmem.formats.protocol import EVENT, Record
from convmem.log.durability import Durability
from convmem.log.removing.tombstones import BuriedMeanwhile
from convmem.log.sheet import Sheet
from convmem.quantities import format_time, parse_stored_time
from convmem.stores.values import Group
from convmem.transfer import there
from convmem.transfer.identity import (
    FIRST_SAMPLED,
    content_bytes,
    digest,
    sample_of,
    version_of,
)
from convmem.turns import MAX_TURN_BYTES, Turn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from convmem.archive import Archive
    from convmem.log.removing.tombstones import Buried
    from convmem.transfer.catalogue import Catalogue
    from convmem.transfer.summary import ImportSummary

_ROLES = {
    role: b'"role":"%b","content":' % role.encode()
    for role in ("user", "assistant", "system", "tool", EVENT)
}
# What is stored at once.
MOST_BYTES = 4 << 20
MOST_ROWS = 2000
# A run of copied records is referred to by so many turns at most.
_MOST_COPIED = 1000
# So many ids of a source are remembered, to tell a line that it repeats.
_MOST_SEEN = 100_000
# Synced once it is all written, or after this: import does it before it says that it is done.
DURABILITY = Durability.interval(turns=1 << 40, seconds=60)


class Reference(Record):
    """A turn that stands for records which lie elsewhere."""

    __slots__ = ()


def raw_bytes(raw: bytes | str | None) -> bytes | None:
    """Return a record as it stands in a turn: as it is where it is JSON, else as a text."""
    if raw is None or type(raw) is bytes:
        return raw
    if isinstance(raw, bytes):  # as it was read, but no JSON that others would read alike
        return jsontext.dumps(str(raw, "utf-8", "backslashreplace"))
    return content_bytes(raw)


def as_stored(raw: bytes | str | None) -> bytes | None:
    """Do as ``raw_bytes``; a JSON text is stored as the text that it was written as."""
    stored = raw_bytes(raw)
    if stored is not None and type(raw) is bytes and stored.lstrip()[:1] == b'"':
        return jsontext.dumps(str(stored, "utf-8"))
    return stored


def tail_of(record: Record) -> bytes:
    """Return the line of the turn that *record* becomes, from its role on."""
    role = _ROLES.get(record.role) or b'"role":%b,"content":' % content_bytes(record.role)
    parts = [role, content_bytes(record.content)]
    own = record.turn if isinstance(record, OwnRecord) else None
    if own is None or own.meta is not None:
        parts += [b',"meta":', content_bytes(record.meta)]
    if own is not None:
        for key, value in own.extra.items():
            parts += [b",", content_bytes(key), b":", content_bytes(value)]
    if record.raw is not None:
        parts += [b',"raw":', raw_bytes(record.raw) or b"null"]
    parts.append(b"}")
    return b"".join(parts)


def stored_time(ts: Any) -> str | None:
    """Return a source's time as convmem stores it, or ``None`` if it is none."""
    if type(ts) is str and len(ts) == 24 and ts[23] == "Z" and ts[19] == ".":
        try:
            datetime.fromisoformat(ts)
        except ValueError:
            return None
        return f"{ts[:23]}000Z"
    moment = None if ts is None else parse_stored_time(ts)
    return None if moment is None else format_time(moment)


class Intake:
    """Takes records for one conversation; ``store`` stores what is waiting.

    A record that is taken has its turn's id, a stored time and its raw bytes by then.

    Attributes:
        continuation_id: The conversation's.
        waiting: What is to be stored next.
        last_id: The id of the last record that was stored, or found to be there.
        samples: Keys by which its records are found again if another conversation is a copy.
        elsewhere: Those of them whose records lie in another conversation.
    """

    def __init__(
        self,
        archive: Archive,
        namespace: str,
        continuation_id: str,
        *,
        catalogue: Catalogue | None,
        summary: ImportSummary,
        shares: bool,
        is_own: bool,
        dry_run: bool,
        revive: bool,
    ) -> None:
        self.continuation_id = continuation_id
        self.waiting: list[Record] = []
        self.last_id: str | None = None
        self.samples: list[int] = []
        self.elsewhere: set[int] = set()
        self._archive = archive
        self._namespace = namespace
        self._catalogue = catalogue
        self._summary = summary
        self._shares = shares
        self._is_own = is_own
        self._dry_run = dry_run
        self._revive = revive
        self._conversation = archive.conversation(continuation_id, namespace=namespace)
        if revive and not dry_run:
            self._conversation.unbury()
        self._there: there.There | None = None
        self._last_seq = 0
        with suppress(ConversationNotFound):  # else it begins with what is taken
            self._last_seq = self._conversation.describe().last_seq
            self._there = self._read()
        self._count = 0
        self._seen: set[str] = set()
        self._repeats: dict[str, int] = {}
        self._originals: dict[str, there.Original] | None = None if shares else {}

    def knows(self, turn_id: str) -> bool:
        """Whether the conversation has a turn of that id, or had one that was deleted."""
        if self._there is not None and self._there.has_id(turn_id):
            return True
        return bool(self._conversation.buried([turn_id]))

    def _read(self) -> there.There:
        return there.There.of(self._conversation, by_words=self._is_own)

    def store(self) -> None:
        """Store what is waiting: what is new of it."""
        rows, self.waiting = self.waiting, []
        if not rows:
            return
        self.last_id = rows[-1].id
        if self._shares:
            self._sample(rows)
        rows = self._told_apart(rows)
        if rows:
            rows = self._not_copied(rows)
        while rows:
            buried = None
            if not self._revive:
                buried = self._conversation.buried([row.id for row in rows])  # type: ignore[misc]
                if buried:
                    self._summary.buried += len(buried)
                    self._summary.skipped += len(buried)
                    rows = [row for row in rows if row.id not in buried]
            try:
                if rows:
                    self._append(rows, buried)
                return
            except BuriedMeanwhile:
                continue  # somebody deletes at this moment: what of these?

    def _sample(self, rows: list[Record]) -> None:
        samples, count = self.samples, self._count
        self._count += len(rows)
        for nth, row in enumerate(rows, count):
            name: str = row.copy_of or row.id  # type: ignore[assignment]
            # One of some, the same ones in every copy.
            if (name[-1:] == "0" or nth < FIRST_SAMPLED) and row.raw is not None:
                samples.append(sample_of(name))

    def _told_apart(self, rows: list[Record]) -> list[Record]:
        """Return what is not there; what says something else by now as versions."""
        if len(self._seen) > _MOST_SEEN:
            self._seen.clear()
        seen, known = self._seen, self._there
        ids: set[str] = {row.id for row in rows}  # type: ignore[misc]
        if known is None and len(ids) == len(rows) and seen.isdisjoint(ids):
            seen |= ids
            return rows
        batch: dict[str, bytes | None] = {}
        stored: there.There | None = None  # what this source has brought by now
        kept = []
        for row in rows:
            turn_id = _id_of(row)
            compared = _compared(row)
            if turn_id in seen:
                if turn_id in batch:
                    is_same = batch[turn_id] == compared
                else:
                    stored = stored or self._read()
                    is_same = stored.has(turn_id, compared)
                if is_same and isinstance(row, OwnRecord):
                    self._summary.skipped += 1
                    continue
                row = self._again(row, is_same)
                if known is not None and known.has_id(_id_of(row)):
                    self._summary.skipped += type(row) is not Reference
                    continue
            elif known is not None and known.has_id(turn_id):
                seen.add(turn_id)
                batch[turn_id] = compared
                if known.has(turn_id, compared):
                    self._summary.skipped += 1
                    continue
                row = self._again(row, False)
                if known.has_id(_id_of(row)):
                    self._summary.skipped += type(row) is not Reference
                    continue
            seen.add(_id_of(row))
            batch[_id_of(row)] = compared
            self._summary.differing += isinstance(row, OwnRecord) and row.id != turn_id
            kept.append(row)
        return kept

    def _again(self, row: Record, is_same: bool) -> Record:
        """Return what stands for a record of an id that has come before."""
        turn_id = _id_of(row)
        if not is_same:
            row.id = version_of(turn_id, raw_bytes(row.raw) or content_bytes(row.content))
            if isinstance(row, OwnRecord):
                return row  # both stay what they are: neither is said to be the newer one
            if row.id not in self._seen:
                row.meta["replaces"] = turn_id
                return row
        # The very same line again: referred to, so that the file can be given back.
        name = _id_of(row)
        nth = self._repeats[name] = self._repeats.get(name, 0) + 1
        self._summary.skipped += 1
        return _reference(self.continuation_id, [row], str(nth))

    # --- copies ------------------------------------------------------------------------------

    def _not_copied(self, rows: list[Record]) -> list[Record]:
        """Return *rows* with one turn in place of several that lie in another conversation."""
        if self._originals is None:
            self._originals = self._looked_up()
        originals = self._originals
        if not originals:
            for row in rows:
                if row.copy_of is not None:
                    row.meta["copy_of"] = row.copy_of  # for when the original comes
            return rows
        kept: list[Record] = []
        group: list[Record] = []
        source, size = "", 0
        for row in rows:
            found = originals.get(row.copy_of or _id_of(row)) if type(row) is Record else None
            if found is not None and found.content is None:
                self._summary.skipped += 1
                self._summary.buried += 1
                continue
            if found is not None and hash(content_bytes(row.content)) != found.content:
                found = None  # it says something else
            if found is not None:
                self.elsewhere.add(sample_of(row.copy_of or _id_of(row)))
            is_full = len(group) >= _MOST_COPIED or size >= MOST_BYTES
            if group and (found is None or found.conversation != source or is_full):
                kept.append(_reference(source, group))
                group, size = [], 0
            if found is None:
                if row.copy_of is not None:
                    row.meta["copy_of"] = row.copy_of  # for when the original comes
                kept.append(row)
            else:
                source = found.conversation
                group.append(row)
                size += len(row.raw or b"")
                self._summary.copied += 1
                self._summary.skipped += 1
        if group:
            kept.append(_reference(source, group))
        return kept

    def _looked_up(self) -> dict[str, there.Original]:
        found: dict[str, there.Original] = {}
        if self._catalogue is None:
            return found
        others = self._catalogue.conversations_with(self.samples) - {self.continuation_id}
        for other in sorted(others):
            conversation = self._archive.conversation(other, namespace=self._namespace)
            try:
                for key, original in there.originals(conversation):
                    found.setdefault(key, original)
            except ConversationNotFound:
                continue
        return found

    # --- storing -----------------------------------------------------------------------------

    def _append(self, rows: list[Record], buried: Buried | None) -> None:
        new = sum(type(row) is not Reference for row in rows)
        if self._dry_run:
            self._summary.added += new
            return
        sheet = Sheet()
        sheet.numbers = list(range(len(rows)))
        sheet.tails = _tails_of(rows)
        sheet.given = dict(enumerate([row.id for row in rows]))  # type: ignore[misc]
        sheet.times = dict(enumerate([row.ts for row in rows]))  # type: ignore[misc]
        outcome = self._archive._open_store().append_to_many(
            [Group(self._namespace, self.continuation_id, sheet, buried)], durability=DURABILITY
        )[0]
        if isinstance(outcome, Exception):
            raise outcome
        if not isinstance(outcome, list):
            self._last_seq = outcome.first_seq + len(rows) - 1
            self._summary.added += new
            return
        # Somebody else stored some of them meanwhile.
        before = self._last_seq
        for row, answer in zip(rows, outcome, strict=True):
            is_new = isinstance(answer, Turn) and (answer.seq or 0) > before
            if isinstance(answer, Turn):
                self._last_seq = max(self._last_seq, answer.seq or 0)
            if type(row) is not Reference:
                self._summary.added += is_new
                self._summary.skipped += not is_new


def _tails_of(rows: list[Record]) -> list[bytes]:
    """Return what ``tail_of`` does of each. A loop for millions: most are nothing but joined."""
    dumps = jsontext.fast()[1]
    roles, join = _ROLES, b"".join
    tails = []
    for row in rows:
        raw = row.raw
        try:
            if type(row) is not Record or type(raw) is not bytes:
                raise ValueError
            tail = join(
                (
                    roles[row.role],
                    dumps(row.content),
                    b',"meta":',
                    dumps(row.meta),
                    b',"raw":',
                    raw,
                    b"}",
                )
            )
        except (ValueError, TypeError, KeyError):
            tail = tail_of(row)
        if len(tail) > MAX_TURN_BYTES:
            row.content, row.meta["kind"] = "", "too long"
            tail = tail_of(row)
        tails.append(tail)
    return tails


def _id_of(row: Record) -> str:
    assert row.id is not None
    return row.id


def _compared(row: Record) -> bytes | None:
    """Return what tells *row* from another of its id."""
    if isinstance(row, OwnRecord) and row.raw is None:
        return there.words_of(row.turn)
    return raw_bytes(row.raw)


def _reference(source: str, rows: list[Record], nth: str = "") -> Record:
    """Return the turn that stands for records which lie in the conversation *source* as well."""
    ids = [_id_of(row) for row in rows]
    lines = [
        b'{"id":%b,"ts":%b,%b' % (jsontext.dumps(row.id), jsontext.dumps(row.ts), tail_of(row))
        for row in rows
    ]
    meta = {"source": rows[0].meta.get("source"), copied.KEY: copied.packed(source, ids, lines)}
    if "file" in rows[0].meta:
        meta["file"] = rows[0].meta["file"]
    made = digest(nth.encode(), *(turn_id.encode() for turn_id in ids))
    return Reference(EVENT, "", None, f"copied-{made}", rows[0].ts, meta)
