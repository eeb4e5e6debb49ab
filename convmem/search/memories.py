"""Older turns of one conversation that fit a query: of its log, and of what summaries stand for.

Those of the log come by the index, those of the trash by a look at it; both are ranked together.
A turn of the trash counts where a summary in the log stands for it, itself or by the summaries
that went into it; what a person deleted, or a policy dropped without one, stays forgotten.
"""

from __future__ import annotations

from contextlib import ExitStack
from itertools import islice

from convmem.log.read import Filter
from convmem.log.removing import summary
from convmem.log.removing.trash import TURNS
from convmem.progress import Observer
from convmem.search.engine import until_unchanged
from convmem.search.finding import Finding
from convmem.search.language.query import parse
from convmem.search.language.snippets import snippet
from convmem.search.log_and_trash import LogAndTrash
from convmem.search.page import ALL, SOME
from convmem.search.said import text_of
from convmem.search.space import Space
from convmem.search.trashed import TrashedTurns, is_of_trash, is_trashed
from convmem.turns import EVENT, is_said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from datetime import datetime
    from typing import Self

    from convmem.log.read import StoredTurn
    from convmem.log.records import Damage
    from convmem.log.removing.trash import TrashFile
    from convmem.search.finding import Words
    from convmem.search.index.turn_facts import Place
    from convmem.search.language.query import Query, Unit
    from convmem.stores.protocol import Store
    from convmem.turns import Turn

MOST = 200
"""So many turns are found at most."""

MOST_TRASH_BYTES = 256 << 20
"""Of the trash the newest files are looked at, so many bytes of them; the newest one always."""

WORTH = 0.3
"""A turn that fits less than so much as well as the best one is none."""

# A summary stands where the last of the turns stood that it stands for: among the first, since
# what goes is old. Before it stand only turns that were kept, such as halves of exchanges.
_MOST_BEFORE = 10_000
_NO_SEQ = b'"seq":null'


class Memory:
    """A turn that was found.

    Attributes:
        turn: The turn, whole.
        score: How well it fits; only comparable within one answer.
        is_trashed: Whether it is in the trash.
        place: Of two turns of the log, the one further down has the greater place.
    """

    __slots__ = ("_units", "is_trashed", "place", "score", "turn")

    def __init__(
        self, turn: Turn, score: float, place: int, units: tuple[Unit, ...], *, is_trashed: bool
    ) -> None:
        self.turn = turn
        self.score = score
        self.place = place
        self.is_trashed = is_trashed
        self._units = units

    def excerpt(self, characters: int) -> str:
        """Return the piece of its text around what was found, on one line."""
        return snippet(text_of(self.turn), self._units, width=characters).text


class Memories:
    """What was found.

    Attributes:
        found: The turns, best first.
        notes: What one should know of the answer, in words.
    """

    __slots__ = ("found", "notes")

    def __init__(self, found: list[Memory], notes: list[str]) -> None:
        self.found = found
        self.notes = notes


def memories(
    store: Store,
    namespace: str,
    continuation_id: str,
    query: str,
    is_wanted: Callable[[Turn, bool], bool],
    *,
    now: datetime,
    observer: Observer,
) -> Memories:
    """Return the turns of one conversation that fit *query* and are wanted, best first.

    Brings the index of the namespace in step first. Where summaries stand for turns in the trash,
    their files are read, some 20 MB a second, and their turns that hold a word of the query are
    held in memory. Both are bounded; where that leaves something out, the notes say so.

    Args:
        query: As ``Archive.search`` takes it; ``id:`` and ``ns:`` in it mean nothing.
        is_wanted: Told a turn, and whether it is one of the trash.

    Raises:
        ConversationNotFound: There is no such conversation.
        LockTimeout: Another process is indexing, and does not come to an end.
        StorageError: The logs change faster than they can be read, or cannot be.
    """
    found = parse(query, now=now).changed(ids=frozenset([continuation_id]), namespaces=None)
    if not found.units:
        return Memories([], [])

    def look(distrusted: Collection[tuple[str, str]]) -> Memories:
        names = [name for _, name in distrusted]
        with _Past(store, namespace, continuation_id, found, observer, names) as past:
            return Memories(past.memories(is_wanted), list(dict.fromkeys(past.notes)))

    return until_unchanged(store.logs, [namespace], look)


class _Past(Space):
    """One conversation: its log as the index has it, and what its summaries stand for."""

    def __init__(
        self,
        store: Store,
        namespace: str,
        continuation_id: str,
        query: Query,
        observer: Observer,
        distrusted: Collection[str],
    ) -> None:
        watch = _Progress(observer)
        super().__init__(store.logs, namespace, query, watch, distrusted=distrusted)
        self._store = store
        self._continuation_id = continuation_id
        self._trashed: TrashedTurns | None = None

    def __enter__(self) -> Self:
        super().__enter__()
        if self._trashed is not None and self._words is not None:
            self._finding = Finding(self._words, self._read, self._query, self.notes)
        return self

    def _opened(self, stack: ExitStack) -> Words | None:
        words = super()._opened(stack)
        files = {
            each.file_name: each
            for each in self._store.trash.files(self.namespace, self._continuation_id)
            if each.kind == TURNS
        }
        summed_up = self._files_of_summaries().intersection(files) if files else set()
        if words is None or not summed_up:
            return words
        self._trashed = TrashedTurns(self._query, words.roles())
        self._take(files, summed_up, self._trashed)
        return LogAndTrash(words, self._trashed)

    def _files_of_summaries(self) -> set[str]:
        """Return the files of the trash that summaries in the log name."""
        named = set()
        stored = self._store.in_order(
            self.namespace, self._continuation_id, after=0, filter=Filter(), damaged=_ignore
        )
        for each in islice(stored, _MOST_BEFORE):
            said = summary.stands_for(each.line) if _NO_SEQ in each.line else None
            if said is not None and isinstance(said.get("trash"), str):
                named.add(said["trash"])
        return named

    def _take(self, files: dict[str, TrashFile], named: set[str], trashed: TrashedTurns) -> None:
        """Look at the files *named*, and at those that summaries in them name; newest first."""
        waiting, known = set(named), set(named)
        damaged: list[Damage] = []

        def seen(turn: Turn) -> None:
            said = turn.extra.get("summary") if turn.seq is None else None
            name = said.get("trash") if isinstance(said, dict) else None
            if isinstance(name, str) and name in files and name not in known:
                known.add(name)
                waiting.add(name)

        looked_at = 0
        while waiting and not trashed.is_full:
            file = max((files[name] for name in waiting), key=lambda each: each.removed)
            if looked_at and looked_at + file.bytes > MOST_TRASH_BYTES:
                break
            looked_at += file.bytes
            waiting.remove(file.file_name)
            turns = self._store.trash.turns(self.namespace, file, damaged=damaged.append)
            trashed.take(turns, seen)
        if waiting or trashed.is_full:
            self.notes.append("the trash has more turns than are looked at: older ones were not")
        if damaged:
            count = f"{len(damaged)} damaged line{'' if len(damaged) == 1 else 's'}"
            self.notes.append(f"{count} in the trash could not be searched")

    def _read(self, place: Place) -> StoredTurn:
        assert self._reader is not None
        if self._trashed is not None and is_of_trash(place):
            return self._trashed.read(place)
        return self._reader.read(place)

    def memories(self, is_wanted: Callable[[Turn, bool], bool]) -> list[Memory]:
        """Return what fits and is wanted, best first."""
        found: list[Memory] = []
        known: set[object] = set()
        is_quoted = self._finding is not None and self._finding.asking.is_quoted
        for fit in self.fits(ALL if is_quoted else SOME, None):
            turn, in_trash = fit.stored.turn, is_trashed(fit.turn)
            key: object = turn.seq or turn.id or (fit.turn,)
            if turn.role == EVENT or not is_said(turn) or key in known:
                continue
            if not is_wanted(turn, in_trash):
                continue
            if found and fit.score < WORTH * found[0].score:
                break
            known.add(key)
            found.append(Memory(turn, fit.score, fit.turn, self._query.units, is_trashed=in_trash))
            if len(found) >= MOST:
                break
        return found


class _Progress(Observer):
    """Hands on how far a long task is; damage in the logs of others is no news here."""

    def __init__(self, observer: Observer) -> None:
        self._observer = observer

    def started(self, task: str, total: int) -> None:
        """Hand it on."""
        self._observer.started(task, total)

    def advanced(self, task: str, amount: int) -> None:
        """Hand it on."""
        self._observer.advanced(task, amount)

    def finished(self, task: str) -> None:
        """Hand it on."""
        self._observer.finished(task)


def _ignore(damage: Damage) -> None:
    """Told where the window is read, or by ``verify``."""
