"""One namespace, open for one search: its index in step with its logs, seen at one moment."""

from __future__ import annotations

from contextlib import ExitStack, closing

from convmem.errors import InvalidContinuationId, StorageError
from convmem.ids import encode_name
from convmem.quantities import format_count
from convmem.search.finding import Finding
from convmem.search.hits import Hit
from convmem.search.index.database import Database, NoIndex
from convmem.search.index.lookup import Lookup
from convmem.search.index.sync import bring_in_step, is_in_step
from convmem.search.language.snippets import snippet
from convmem.search.page import INDEX, SCAN
from convmem.search.reading import Changed, TurnReader
from convmem.search.said import text_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from typing import Self

    from convmem.log.files import Folder
    from convmem.progress import Observer
    from convmem.search.finding import Fit, Words
    from convmem.search.language.query import Query
    from convmem.search.page import Cursor
    from convmem.search.semantic.nearest import Asked, Nearest
    from convmem.stores.caretakers import Logs


class Space:
    """A namespace that is searched. Use it as a context manager.

    Attributes:
        namespace: Its name.
        how: By the ``index``, or by a ``scan``.
        notes: What one should know of its answers, in words.
        missing: The ids that the query names and that no conversation here has.
    """

    def __init__(
        self,
        logs: Logs,
        namespace: str,
        query: Query,
        observer: Observer,
        *,
        distrusted: Collection[str] = (),
        asked: Asked | None = None,
    ) -> None:
        """*distrusted*: see ``bring_in_step``. *asked*: find turns of like meaning, too."""
        self._logs = logs
        self._distrusted = distrusted
        self._asked = asked
        self._nearest: Nearest | None = None
        self._query = query
        self._observer = observer
        self._stack = ExitStack()
        self._names: dict[int, str] = {}
        self._words: Words | None = None
        self._database: Database | None = None
        self._finding: Finding | None = None
        self._reader: TurnReader | None = None
        self.namespace = namespace
        self.how = INDEX
        self.notes: list[str] = []
        self.missing: set[str] = set(query.ids or ())

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            words = self._words = self._opened(stack)
            if words is not None:
                self._names = words.log_names()
                self._reader = stack.enter_context(
                    TurnReader(self._logs, self.namespace, self._names)
                )
                self._finding = Finding(
                    words, self._reader.read, self._query, self.notes, self._nearest
                )
                known = set(self._names.values())
                self.missing = {each for each in self.missing if _name(each) not in known}
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def _opened(self, stack: ExitStack) -> Words | None:
        """Return what tells which turns hold what; ``None`` of a namespace that is not there."""
        wanted = self._query.ids
        names = None if wanted is None else {_name(each) for each in wanted}
        logs, namespace, observer = self._logs, self.namespace, self._observer
        words: Words
        try:
            folder = self._folder()
            if folder is None:
                self.notes.append(f"there is no namespace {namespace!r}")
                return None
            database = stack.enter_context(Database.open(folder))
            failed = bring_in_step(database, logs, namespace, observer, self._distrusted)
            missing = self._keep_up(database, is_whole=not failed)
            database.look()
            self._database = database
            words = indexed = Lookup(database, names)
            self._open_vectors(database, indexed, missing)
        except NoIndex as error:
            fixed = self._as_it_is(stack, names)
            if fixed is not None:
                return fixed
            self.how = SCAN
            by_words = "" if self._asked is None else ", by words only"
            self.notes.append(f"searched without an index{by_words}, which takes longer: {error}")
            from convmem.search.scan import ScannedWords

            words = scanned = ScannedWords(logs, namespace, self._query, names, observer)
            failed = scanned.failed
        for name, why in failed.items():
            if names is None or name in names:
                self.notes.append(f"{self._id_of(name)} was not searched (whole): {why}")
        return words

    def _as_it_is(self, stack: ExitStack, names: Collection[str] | None) -> Words | None:
        """Return what an index tells that cannot be written, if it is in step all the same."""
        try:
            folder = self._logs.index_folder(self.namespace, create=False)
        except StorageError:
            return None
        database = None if folder is None else Database.as_it_is(folder)
        if database is None:
            return None
        stack.enter_context(database)
        if self._distrusted or not is_in_step(database, self._logs, self.namespace):
            return None
        database.look()
        self._database = database
        if self._asked is not None:
            self.notes.append("searched by words only: the index cannot be written here")
        return Lookup(database, names)

    def _keep_up(self, database: Database, *, is_whole: bool) -> int:
        """Make the vectors that are wanted, if that is little; return how many are missing."""
        if self._asked is None:
            return 0
        from convmem.search.semantic.embedding import keep_up

        return keep_up(
            database,
            self._logs,
            self.namespace,
            self._asked.embedder,
            self._observer,
            is_whole=is_whole,
        )

    def _open_vectors(self, database: Database, words: Lookup, missing: int) -> None:
        if self._asked is None:
            return
        from convmem.search.semantic.nearest import Nearest

        folder = self._logs.index_folder(self.namespace, create=False)
        if folder is not None:
            with closing(folder):
                self._nearest = Nearest.open(database, folder, words, self._asked)
        if missing:
            which = "are" if self._nearest is None else "were"
            self.notes.append(
                f"{format_count(missing, 'turn')} without a vector {which} found by words only:"
                " convmem index --semantic makes the vectors"
            )

    @property
    def knows_meaning(self) -> bool:
        """Whether turns of like meaning can be told."""
        return self._nearest is not None

    def _folder(self) -> Folder | None:
        """Return the folder of the index; ``None`` of a namespace that is not there."""
        try:
            folder = self._logs.index_folder(self.namespace, create=False)
            if folder is None:
                folder = self._logs.index_folder(self.namespace, create=True)
        except StorageError as error:
            raise NoIndex(str(error)) from error
        return folder

    def check(self) -> None:
        """Raise ``Changed`` if the index was removed meanwhile, and may have told less than is."""
        if self._database is not None and not self._database.is_current():
            raise Changed(self.namespace, "")

    @property
    def has_less(self) -> bool:
        """Whether some of what is asked for can be asked for."""
        return self._finding is not None and self._finding.asking.has_less

    @property
    def is_one_thing(self) -> bool:
        """Whether one thing is asked for, which may have parts."""
        return self._finding is not None and self._finding.asking.is_one_thing

    def fits(self, mode: str, cursor: Cursor | None) -> Iterator[Fit]:
        """Yield what fits, best first; see ``Finding.fits``."""
        return iter(()) if self._finding is None else self._finding.fits(mode, cursor)

    def conversation_of(self, fit: Fit) -> str:
        """Return the id of the conversation that holds it."""
        assert self._words is not None
        return self._id_of(self._names[self._words.log_of(fit.turn)])

    def hit(self, fit: Fit, reach: int) -> Hit:
        """Return the hit to show, with so many neighbours each way."""
        assert self._words is not None and self._reader is not None
        words, read = self._words, self._reader.read
        before, after = words.beside([fit.turn], reach)[fit.turn] if reach else ([], [])
        turn = fit.stored.turn
        return Hit(
            namespace=self.namespace,
            continuation_id=self.conversation_of(fit),
            turn=turn,
            score=fit.score,
            snippet=snippet(text_of(turn), self._query.units),
            is_match=fit.is_match,
            before=[read(words.place(each)).turn for each in reversed(before)],
            after=[read(words.place(each)).turn for each in after],
        )

    def _id_of(self, name: str) -> str:
        return self._logs.continuation_id(self.namespace, name) or name


def _name(continuation_id: str) -> str:
    try:
        return encode_name(continuation_id)
    except InvalidContinuationId:
        return ""  # nothing can have that id
