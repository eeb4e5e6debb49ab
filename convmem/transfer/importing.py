"""Importing: every source that changed is read once, and what is new of it is stored."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime

from convmem import jsontext
from convmem.errors import ConvmemError, InvalidContinuationId, UsageError, storage_error
from convmem.formats import known, own
from convmem.formats.protocol import EVENT, Begin, Record
from convmem.formats.reading import samples
from convmem.formats.reading.containers import InputOrigin
from convmem.formats.reading.sources import sources_in
from convmem.formats.reading.sources_walk import files_below
from convmem.ids import encode_name
from convmem.quantities import format_count, format_time, parse_stored_time
from convmem.transfer.catalogue import Catalogue, Entry
from convmem.transfer.identity import (
    Namer,
    content_bytes,
    digest,
    fitting,
    grown,
    link,
    place_of,
)
from convmem.transfer.intake import MOST_BYTES, MOST_ROWS, Intake, as_stored, raw_bytes, stored_time
from convmem.transfer.learning import learned
from convmem.transfer.summary import ImportSummary

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any

    from convmem.archive import Archive
    from convmem.formats.protocol import Format
    from convmem.formats.reading.sources import Source

TASK = "importing"
# What the catalogue says of a zip whose members were read.
_ZIP = "zip"
_EMPTY = "nothing"
# For another import into the same namespace, as cron may start one too many.
_PATIENCE_SECONDS = 5.0
# Written down together: what is not yet is read again after a crash, and found to be there.
_MOST_UNNOTED = 200
_MOST_UNNOTED_BYTES = 256 << 20
# Where the last time of a file of lines stands, if it does.
_TIME = re.compile(rb'"timestamp"\s*:\s*"([^"\\]{10,40})"')
_LAST_BYTES = 64 << 10
# So many conversations of one source are open at a time.
_MOST_INTAKES = 100
_MOST_PLAIN_CHARACTERS = 100


class Unrecognised(ConvmemError):
    """What was given holds no transcript that convmem knows."""

    kind = "unrecognised"


class Importer:
    """Imports sources into one namespace of an archive. Use ``run`` once.

    Args:
        archive: Where to.
        namespace: Which of its namespaces.
        forced: The format of all sources; ``None`` recognises each.
        since: Only conversations that went on since then.
        include_agents: Also what sub-agents said among themselves.
        revive: Bring back also what was deleted from the archive.
        dry_run: Say what would be done, and write nothing.
    """

    def __init__(
        self,
        archive: Archive,
        namespace: str,
        *,
        forced: str | None = None,
        since: datetime | None = None,
        include_agents: bool = False,
        revive: bool = False,
        dry_run: bool = False,
    ) -> None:
        self._archive = archive
        self._namespace = namespace
        self._forced = forced
        self._since = since
        self._include_agents = include_agents
        self.is_reviving = revive
        self._dry_run = dry_run
        self._observer = archive._observer
        self._catalogue: Catalogue | None = None
        self._entries: list[tuple[str, Entry]] = []
        self._samples: list[tuple[int, str]] = []
        self._chains: dict[str, str] = {}
        self._unnoted_bytes = 0
        # The zip whose members are read: its path and stamp, and what had gone wrong before it.
        self._zip: tuple[str, str, int, int] | None = None
        self.summary = ImportSummary()
        self.left_out_agents = 0
        self.left_out_old = 0

    def run(self, paths: Iterable[str]) -> ImportSummary:
        """Import what is in *paths*: files, folders with all below them, ``-`` for standard input.

        Each source is for itself: one that cannot be read is among the failures. What was stored
        is durable on return, and stored once however often this is called or killed.

        Raises:
            UsageError: There is no such path.
            StorageError, LockTimeout: The archive cannot be written.
        """
        places = list(paths)
        for place in places:
            if place != "-" and not os.path.exists(place):
                raise UsageError(f"there is no {place}", hint="give files or folders")
        self._catalogue = self._opened()
        self._observer.started(TASK, _bytes_in(places))
        try:
            for place in places:
                for source in sources_in(place, self._not_opened, is_wanted=self._has_changed):
                    self._in_zip(source)
                    self._import(source, is_one_of_many=source.key != _key_of(place))
                    if len(self._entries) >= _MOST_UNNOTED:
                        self._note()
                    if self._unnoted_bytes >= _MOST_UNNOTED_BYTES:
                        self._note()
            self._in_zip(None)
            self._note()
        finally:
            self._observer.finished(TASK)
            if self._catalogue is not None:
                self._catalogue.close()
        return self.summary

    # --- one source --------------------------------------------------------------------------

    def _has_changed(self, source: Source) -> bool:
        """Whether a file is to be opened: it is not as it was when it was read."""
        stamp = _stamp_of(source)
        if self._catalogue is None or stamp is None:
            return True
        entry = self._catalogue.entry(source.key)
        if entry is None or entry.stamp != stamp or self._is_to_be_read(entry):
            return True
        self.summary.files += 1
        if entry.format:
            self.summary.unchanged += 1
        else:
            self.summary.passed_over += 1
        self._observer.advanced(TASK, source.size or 0)
        return False

    def _in_zip(self, source: Source | None) -> None:
        """Notice when all members of a zip were read: then it need not be opened again."""
        zipped, before = None, self._zip
        if source is not None and source.path is not None and source.key != _key_of(source.path):
            zipped = source.path
        if before is not None and before[0] != zipped:
            path, stamp, failures, left_out = before
            if failures == len(self.summary.failures) and left_out == self._left_out():
                self._entries.append((_key_of(path), Entry(stamp, _ZIP)))
            self._zip = None
        if zipped is not None and self._zip is None and source is not None:
            stamp = _stamp_of(source) or ""
            self._zip = (zipped, stamp, len(self.summary.failures), self._left_out())

    def _left_out(self) -> int:
        return self.left_out_agents + self.left_out_old

    def _import(self, source: Source, *, is_one_of_many: bool) -> None:
        self.summary.files += 1
        stamp = _stamp_of(source)
        entry = None
        if self._catalogue is not None and stamp is not None:
            entry = self._catalogue.entry(source.key)
        try:
            try:
                noted = _Reading(self, source, entry).read()
            except _StartOver:
                source.start_at(0)
                noted = _Reading(self, source, None).read()
            if source.fault is not None:
                raise _SourceFailed(ConvmemError(f"{source.key}: {source.fault}"))
            if source.tally.too_long:
                self._failed(
                    source.key,
                    ConvmemError(
                        f"{source.key}: {format_count(source.tally.too_long, 'record')} too long"
                        " for any turn left out"
                    ),
                )
            if stamp is not None:
                noted.stamp = stamp
                noted.memory["held"] = self._held(noted)
                self._entries.append((source.key, noted))
        except _SourceFailed as failure:
            if isinstance(failure.error, Unrecognised) and is_one_of_many:
                # One of many: that is no failure, and it need not be looked at again.
                self.summary.unrecognised.append(source.key)
                if stamp is not None:
                    self._entries.append((source.key, Entry(stamp, "")))
            else:
                self._failed(source.key, failure.error)
        finally:
            self.summary.damaged += source.tally.damaged
            self._unnoted_bytes += source.size or 0
            source.close()
            self._observer.advanced(TASK, source.size or 0)

    def _is_to_be_read(self, entry: Entry) -> bool:
        """Whether a source that did not change is read all the same."""
        if self.is_reviving:
            return True
        if self._forced is not None and entry.format not in (self._forced, _ZIP, _EMPTY):
            return True
        if entry.memory.get("left_out") is not None:
            return bool(entry.memory["left_out"] != self._left_out_now(entry.memory))
        return self._held(entry) < int(entry.memory.get("held", 0))

    def _held(self, entry: Entry) -> int:
        """Return how long the log is that a source went to: shorter than it was, it lacks some.

        Compaction makes it shorter, too: then the source is read once more, and adds nothing.
        """
        if entry.conversation is None:
            return 0
        path = self._archive.conversation(entry.conversation, namespace=self._namespace).path
        try:
            return os.stat(path).st_size
        except OSError:
            return int(entry.memory.get("held", 0)) if os.path.exists(f"{path}.zst") else 0

    def _left_out_now(self, memory: dict[str, Any]) -> str | None:
        if memory.get("is_agent") and not self._include_agents:
            return "agents"
        last = parse_stored_time(memory.get("went_on"))
        if self._since is not None and last is not None and last < self._since:
            return "since"
        return None

    def recognised(self, source: Source) -> Format | None:
        """Return the format of *source*; ``None`` where there is nothing in it."""
        if self._forced is not None:
            return known.format_named(self._forced)
        sample = samples.Sample(source.name, source.head(samples.SAMPLE_BYTES))
        if not sample.head.strip():
            return None
        for name in known.MODULES:
            found = known.format_named(name)
            if found.recognises(sample):
                return found
        raise Unrecognised(
            f"{source.key} is in no format that convmem knows",
            hint=f"name one: --from {', '.join(known.MODULES)}",
        )

    def intake(self, continuation_id: str, format: Format) -> Intake:
        """Return what takes records for a conversation."""
        return Intake(
            self._archive,
            self._namespace,
            continuation_id,
            catalogue=self._catalogue,
            summary=self.summary,
            shares=format.SHARES,
            is_own=format.NAME == own.NAME,
            dry_run=self._dry_run,
            revive=self.is_reviving,
        )

    def is_wanted(self, begin: Begin, source: Source, memory: dict[str, Any]) -> bool:
        """Whether a conversation is to be imported; else *memory* says why not."""
        last = begin.last_ts
        if last is None and self._since is not None:
            last = _last_time(source)
        told: dict[str, Any] = {"is_agent": begin.parent is not None, "went_on": stored_time(last)}
        why = told["left_out"] = self._left_out_now(told)
        # Of several, what went on last is wanted first when less is left out.
        if why is not None and (told["went_on"] or "") >= (memory.get("went_on") or ""):
            memory.update(told)
        self.left_out_agents += why == "agents"
        self.left_out_old += why == "since"
        return why is None

    def conversation_of_chain(self, links: list[str], place: str) -> tuple[str | None, int]:
        """Return the conversation that holds these links from the first on, and how many.

        All of them, or those that the same source held before: what somebody else's file says
        after the same words is another talk.
        """
        for count in range(len(links), 0, -1):
            name = links[-1] if count == len(links) else grown(links[count - 1], place)
            found = self._chains.get(name)
            if found is None and self._catalogue is not None:
                found = self._catalogue.chained(name)
            if found is not None:
                return found, count
        return None, 0

    def note_chain(self, last_link: str, continuation_id: str, place: str) -> None:
        """Remember that a conversation's records end with this link, in the source *place*."""
        self._chains[last_link] = self._chains[grown(last_link, place)] = continuation_id

    def note_samples(self, intake: Intake) -> None:
        """Remember by which records a copy of a conversation is recognised."""
        self._samples += [
            (key, intake.continuation_id) for key in intake.samples if key not in intake.elsewhere
        ]
        intake.samples = []
        if self._samples and self._catalogue is not None and not self._dry_run:
            # At once: the next source may be the copy.
            self._catalogue.note_samples(self._samples)
            self._samples = []

    def _not_opened(self, key: str, error: Exception) -> None:
        self.summary.files += 1
        self._failed(key, error)

    def _failed(self, key: str, error: Exception) -> None:
        self.summary.failures.append((key, error))

    # --- the catalogue -----------------------------------------------------------------------

    def _opened(self) -> Catalogue | None:
        folder = os.path.dirname(
            self._archive.conversation("convmem", namespace=self._namespace).path
        )
        if self._dry_run:
            return Catalogue.peeked_at(folder)
        catalogue = Catalogue.open(folder, timeout_seconds=_PATIENCE_SECONDS)
        try:
            if catalogue.is_new:
                self._learn(catalogue)
        except BaseException:
            catalogue.close()
            raise
        return catalogue

    def _learn(self, catalogue: Catalogue) -> None:
        """Fill a new catalogue with what the conversations themselves say."""
        for conversation in self._archive.conversations(namespace=self._namespace):
            found, links = learned(conversation)
            catalogue.note_samples([(key, conversation.continuation_id) for key in found])
            catalogue.note_chains([(each, conversation.continuation_id) for each in links])

    def _note(self) -> None:
        """Make everything durable, then write down that it is there."""
        if self._dry_run or self._catalogue is None:
            return
        self._archive.flush()
        self._catalogue.note(self._entries, self._chains.items())
        self._entries, self._chains = [], {}
        self._unnoted_bytes = 0


class _SourceFailed(Exception):
    def __init__(self, error: Exception) -> None:
        super().__init__(str(error))
        self.error = error


class _StartOver(Exception):
    """The conversation lacks what was read before: it is not the one that the catalogue knows."""


class _Reading:
    """One source being read."""

    def __init__(self, importer: Importer, source: Source, entry: Entry | None) -> None:
        self._importer = importer
        self._source = source
        self._entry = entry
        self._name = source.relative or source.name
        self._summary = importer.summary
        self._memory: dict[str, Any] = {}
        self._intakes: dict[str, Intake] = {}
        self._begun: set[str] = set()
        self._last_ts = ""
        self._count = self._unknown = 0
        self._resumed = False  # it was understood before

    def read(self) -> Entry:
        """Read it all; return what the catalogue is to know of it."""
        source, entry = self._source, self._entry
        try:
            format = self._importer.recognised(source)
            begun = _first_time(source)
        except (OSError, ValueError, ConvmemError) as error:
            raise _SourceFailed(error) from error
        if format is None:
            return Entry("", _EMPTY)
        resumed = (
            entry is not None
            and not self._importer.is_reviving
            and format.GROWS
            and entry.format == format.NAME
            and entry.offset > 0
            and "namer" in entry.memory
            and "left_out" not in entry.memory
            and _only_grew(entry.stamp, _stamp_of(source))
            and source.matches(entry.offset, entry.tail)
        )
        self._resumed = resumed
        if entry is not None and resumed:
            source.start_at(entry.offset)
            self._memory = entry.memory
        modified = source.modified
        now = datetime.now(UTC) if modified is None else datetime.fromtimestamp(modified, UTC)
        self._last_ts = self._memory.get("ts") or begun or format_time(now)
        if format.HAS_IDS:
            self._read_with_ids(format)
        else:
            self._read_chains(format)
        if not self._count and source.tally.damaged and not resumed:
            raise _nothing_known(source, source.tally.damaged, "all of them are damaged")
        self._summary.records += self._count
        self._summary.unknown += self._unknown
        self._summary.formats[format.NAME] = self._summary.formats.get(format.NAME, 0) + 1
        only = next(iter(self._begun)) if len(self._begun) == 1 else None
        return Entry(
            "",
            format.NAME,
            offset=source.offset if format.GROWS else 0,
            tail=source.check() if format.GROWS else "",
            memory=self._memory,
            conversation=only or (entry.conversation if entry is not None and resumed else None),
        )

    # --- records with ids ----------------------------------------------------------------------

    def _read_with_ids(self, format: Format) -> None:
        source = self._source
        namer = Namer(self._memory.get("namer"))
        intake: Intake | None = None
        is_own = format.NAME == own.NAME
        name, file_name = format.NAME, None if self._resumed else self._name
        last_ts = self._last_ts
        waiting: list[Record] = []
        size = held = 0  # bytes waiting for the conversation that is read, and for the others
        passed: str | None = None  # the last id that a record had of its own
        # A loop for millions of records: each step does without a call where it can.
        for item in _guarded(format.read(source, self._memory.setdefault("format", {}))):
            if isinstance(item, Begin):
                held += size
                if held >= MOST_BYTES:
                    self._store(self._intakes.values())
                    held = 0
                intake = self._begin(format, item)
                waiting, size = [] if intake is None else intake.waiting, 0
                file_name = None if self._resumed else self._name
                continue
            if intake is None:
                continue
            if size >= MOST_BYTES or len(waiting) >= MOST_ROWS:
                self._store([intake])
                waiting, size = intake.waiting, 0
            raw, given = item.raw, item.id
            if given is None:
                if passed is not None:
                    namer.pass_by(passed)
                    passed = None
                item.id = namer.name(raw_bytes(raw) or content_bytes(item.content))
            else:
                passed = given
                if len(given) > _MOST_PLAIN_CHARACTERS:
                    item.id = fitting(given)
            last_ts = item.ts = stored_time(item.ts) or last_ts
            if not is_own:
                item.meta["source"] = name
                if file_name is not None:
                    item.meta["file"] = file_name
                    file_name = None
            if not item.is_known:
                item.raw = as_stored(raw)
            size += len(raw or b"")
            waiting.append(item)
        if passed is not None:
            namer.pass_by(passed)
        # The last one is waiting still.
        if source.unterminated and waiting and not is_own:
            waiting[-1].meta["unterminated"] = True
        last_id = waiting[-1].id if waiting else None
        self._store(self._intakes.values())
        for each in list(self._intakes.values()):
            self._end_conversation(each)
        if not self._resumed or last_id is not None:
            self._memory["last"] = last_id
        self._memory["namer"] = namer.memory
        self._memory["ts"] = last_ts

    def _begin(self, format: Format, begin: Begin) -> Intake | None:
        if not self._importer.is_wanted(begin, self._source, self._memory):
            return None
        continuation_id = _possible(begin.continuation_id or self._source.stem or "imported")
        if continuation_id in self._intakes:
            return self._intakes[continuation_id]
        if len(self._intakes) >= _MOST_INTAKES:
            first = next(iter(self._intakes.values()))
            self._store([first])
            self._end_conversation(first)
        intake = self._importer.intake(continuation_id, format)
        if self._resumed and not self._begun:
            earlier = self._memory.get("last")
            if earlier is not None and not intake.knows(earlier):
                raise _StartOver
        self._intakes[continuation_id] = intake
        self._begun.add(continuation_id)
        return intake

    def _store(self, intakes: Iterable[Intake]) -> None:
        """Store what is waiting, unless nothing of the source was understood up to now."""
        for intake in intakes:
            self._count += len(intake.waiting)
            self._unknown += sum(not record.is_known for record in intake.waiting)
        if self._unknown == self._count > 0 and not self._resumed:
            raise _nothing_known(self._source, self._count, "its format may have changed")
        for intake in intakes:
            intake.store()

    def _end_conversation(self, intake: Intake) -> None:
        del self._intakes[intake.continuation_id]
        if intake.last_id is not None:
            self._summary.note_conversation(intake.continuation_id)
            self._importer.note_samples(intake)

    # --- records that are known by what they say -----------------------------------------------

    def _read_chains(self, format: Format) -> None:
        records: list[Record] = []
        begin: Begin | None = None
        odd: list[tuple[Begin, list[Record]]] = []  # what came before the first known record
        for item in _guarded(format.read(self._source, self._memory.setdefault("format", {}))):
            if type(item) is Begin:
                if begin is not None:
                    odd = self._end_chains(format, [*odd, (begin, records)])
                begin, records = item, []
            elif type(item) is Record:
                records.append(item)
        if begin is not None:
            if self._source.unterminated:
                last = next((each for each in reversed(records) if type(each.raw) is bytes), None)
                if last is not None:
                    last.meta["unterminated"] = True
            odd = self._end_chains(format, [*odd, (begin, records)])
        if odd:
            count = sum(len(records) for _, records in odd)
            raise _nothing_known(self._source, count, "its format may have changed")
        self._memory["namer"] = {}

    def _end_chains(
        self, format: Format, chains: list[tuple[Begin, list[Record]]]
    ) -> list[tuple[Begin, list[Record]]]:
        """Take these; give them back where nothing of the source was understood up to now."""
        if self._count == 0 and not any(
            record.is_known for _, records in chains for record in records
        ):
            return chains
        for begin, records in chains:
            self._end_chain(format, begin, records)
        return []

    def _end_chain(self, format: Format, begin: Begin, records: list[Record]) -> None:
        if not records or not self._importer.is_wanted(begin, self._source, self._memory):
            return
        said: list[str] = []
        place = place_of(format.NAME, self._name)
        seed = _seed_of(records[0])
        for at, record in enumerate(records):
            record.meta["source"] = format.NAME
            self._last_ts = record.ts = stored_time(record.ts) or self._last_ts
            content = content_bytes(record.content)
            before = said[-1] if said else seed
            if record.role != EVENT:
                record.id = link(before, record.role, content)
                said.append(record.id)
            else:
                record.id = f"r-{digest(before.encode(), content)}" if at else "head"
            self._unknown += not record.is_known
        self._count += len(records)
        found, count = self._importer.conversation_of_chain(said, place)
        if found in self._begun and count < len(said):
            found = None  # both stand in this source: one is not the other gone on
        if found is not None and count == len(said):
            self._summary.skipped += len(records)
            self._summary.note_conversation(found)
            return
        made = said[-1] if said else f"c-{digest(raw_bytes(records[0].raw) or b'')}"
        continuation_id = found or f"{format.NAME}-{made[2:18]}"
        records[0].meta["file"] = self._name
        intake = self._importer.intake(continuation_id, format)
        intake.waiting = records
        intake.store()
        self._begun.add(continuation_id)
        self._summary.note_conversation(continuation_id)
        if said:
            self._importer.note_chain(said[-1], continuation_id, place)


def _nothing_known(source: Source, count: int, why: str) -> _SourceFailed:
    return _SourceFailed(
        Unrecognised(
            f"{source.key}: 0 of {count} records recognised",
            hint=f"{why}; nothing of it was imported",
        )
    )


def _guarded(items: Iterable[Begin | Record]) -> Iterable[Begin | Record]:
    """Yield *items*; what goes wrong in reading them is the source's fault."""
    import sqlite3

    try:
        yield from items
    except OSError as error:
        raise _SourceFailed(storage_error(error, "cannot be read")) from error
    except (ValueError, ConvmemError, sqlite3.Error, EOFError) as error:
        raise _SourceFailed(error) from error


def _seed_of(head: Record) -> str:
    """Return what a chain begins with: what stands beside the messages, such as ``tools``."""
    if type(head.raw) is not bytes or b'"messages"' not in head.raw:
        return ""
    try:
        value = jsontext.loads(head.raw)
    except jsontext.NotJson:
        return ""
    beside = {key: each for key, each in value.items() if key != "messages"}
    return f"c-{digest(jsontext.canonical(beside))}" if beside else ""


def _possible(continuation_id: str) -> str:
    """Return *continuation_id*, or one made of it where none can be like that."""
    try:
        encode_name(continuation_id)
    except InvalidContinuationId:
        return f"imported-{digest(continuation_id.encode('utf-8', 'surrogatepass'))}"
    return continuation_id


def _key_of(place: str) -> str:
    """Return the key of the source that is all there is in *place*, if it is one."""
    if place == "-":
        return InputOrigin.place
    return os.path.abspath(place).encode("utf-8", "replace").decode()


def _only_grew(before: str, now: str | None) -> bool:
    """Whether a file of that stamp is still the same file, and longer: more was appended."""
    then, found = before.split(":"), (now or "").split(":")
    return then[:2] == found[:2] and len(then) == len(found) and int(found[2]) > int(then[2])


def _stamp_of(source: Source) -> str | None:
    if source.path is None:
        return None
    found = os.stat(source.path)
    return f"{found.st_dev}:{found.st_ino}:{found.st_size}:{found.st_mtime_ns}:{found.st_ctime_ns}"


def _first_time(source: Source) -> str | None:
    """Return the time for records that have none, in front of all that have one."""
    found = _TIME.search(source.head(samples.SAMPLE_BYTES))
    return None if found is None else stored_time(str(found[1], "ascii", "replace"))


def _last_time(source: Source) -> str | float | None:
    found = _TIME.findall(source.last_bytes(_LAST_BYTES) or b"")
    return str(found[-1], "ascii", "replace") if found else source.modified


def _bytes_in(places: Iterable[str]) -> int:
    """Return how many bytes there are to read, roughly, without opening anything."""
    total = 0
    for place in places:
        if os.path.isdir(place):
            total += sum(found.st_size for _, _, found in files_below(place, _untold))
        elif place != "-":
            total += os.stat(place).st_size
    return total


def _untold(folder: str, error: Exception) -> None:
    """It is told when it is read."""
