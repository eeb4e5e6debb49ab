"""An archive: where conversations are kept, opened once and shared."""

from __future__ import annotations

import os
import sys

from convmem import turns as turns_module
from convmem.conversation import Conversation
from convmem.errors import StorageFull, UsageError
from convmem.ids import encode_name
from convmem.log.durability import Durability
from convmem.progress import LoggingObserver, Observer
from convmem.stores.directory import DirectoryStore
from convmem.stores.values import Group

TYPE_CHECKING = False
if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime, timedelta
    from types import TracebackType
    from typing import Any, Self

    from convmem.errors import ConvmemError
    from convmem.log.records import Damage
    from convmem.log.removing.trash import TrashFile
    from convmem.rules import Rules
    from convmem.search.hits import Hit
    from convmem.search.page import SearchPage
    from convmem.search.semantic.embedder import Watched
    from convmem.search.semantic.nearest import Asked
    from convmem.search.upkeep import IndexReport
    from convmem.stores.health import Health, Limits
    from convmem.stores.protocol import Store
    from convmem.stores.recorded_lines import RecordedLines
    from convmem.stores.stats import Stats
    from convmem.stores.values import Answers, ListRow
    from convmem.turns import Draft, Turn

DEFAULT_NAMESPACE = "default"
DEFAULT_LOCK_TIMEOUT_SECONDS = 10.0
DEFAULT_REMEMBER_SECONDS = 24 * 3600.0

_PLATFORM: str = sys.platform


def default_root() -> str:
    """Return the archive that is used when none is named: the platform's folder for user data."""
    if _PLATFORM == "linux":
        # What platformdirs answers here, a test holds; importing it costs more than a record.
        base = os.environ.get("XDG_DATA_HOME", "").strip()
        if not os.path.isabs(base):  # as the XDG rules have it
            base = "~/.local/share"
        return os.path.join(os.path.expanduser(base), "convmem")
    import platformdirs

    return platformdirs.user_data_dir("convmem", appauthor=False)


class Archive:
    """A directory of conversations. Open one per process and share it among threads.

    Use it as a context manager, or call ``close``. Nothing is cached that could go stale: what
    another process records is seen by the next read.
    """

    def __init__(
        self,
        store: Store,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        durability: Durability | str = "always",
        observer: Observer | None = None,
        embedder: Any = None,
    ) -> None:
        encode_name(namespace)
        self._store = store
        self._namespace = namespace
        self._durability = Durability.of(durability)
        self._observer = observer or LoggingObserver()
        self._root: str | None = None  # where convmem.toml is, if there can be one
        self._rules: tuple[tuple[int, ...] | None, Rules] | None = None
        self._embedder = embedder
        self._opened_embedder: Watched | None = None
        self._closed = False
        if self._durability.name == "interval":
            from convmem.log.flusher import flush_on_sigterm

            flush_on_sigterm()

    @classmethod
    def open(
        cls,
        root: str | os.PathLike[str] | None = None,
        *,
        namespace: str = DEFAULT_NAMESPACE,
        durability: Durability | str = "always",
        lock_timeout_seconds: float = DEFAULT_LOCK_TIMEOUT_SECONDS,
        remember_seconds: float = DEFAULT_REMEMBER_SECONDS,
        observer: Observer | None = None,
        embedder: Any = None,
    ) -> Archive:
        """Open the archive at *root*. Touches no disk: the first record makes the directory.

        Args:
            root: Where; ``~`` is expanded, and a relative path is made absolute now, so that a
                later change of the working directory changes nothing. ``None``: the platform's
                folder for user data.
            namespace: The tenant that ``conversation`` uses unless told another.
            durability: What an answered ``record`` promises; ``always``, ``interval``, ``none``,
                or a ``Durability``.
            lock_timeout_seconds: How long to wait for other writers of the same conversation.
            remember_seconds: How long the ids of compacted turns are remembered, so that a late
                retry is not stored twice.
            observer: Is told of damage and progress. By default damage is logged.
            embedder: What makes vectors, once meaning is searched: ``minilm``, the address of an
                endpoint, the name of an entry point, a function, or an object
                (``convmem.search.semantic.embedder``). ``None``: ``minilm``.
        """
        path = default_root() if root is None else os.path.expanduser(os.fspath(root))
        watched = observer or LoggingObserver()
        store = DirectoryStore(
            os.path.realpath(path),
            observer=watched,
            lock_timeout_seconds=lock_timeout_seconds,
            remember_seconds=remember_seconds,
        )
        archive = cls(
            store,
            namespace=namespace,
            durability=durability,
            observer=watched,
            embedder=embedder,
        )
        archive._root = os.path.realpath(path)
        return archive

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Sync what waits and give all resources back. Closing twice is harmless.

        Raises:
            DurabilityUnknown: A sync failed, now or in the background since the last answer.
        """
        self._closed = True
        self._store.close()

    def flush(self) -> None:
        """Return once everything recorded so far under ``interval`` survives a power cut."""
        self._store.flush()

    def conversation(
        self,
        continuation_id: str,
        *,
        namespace: str | None = None,
        durability: Durability | str | None = None,
    ) -> Conversation:
        """Return the conversation of that id, there or not yet. Touches no disk.

        Raises:
            InvalidContinuationId: Nothing can have that id.
        """
        encode_name(continuation_id)
        return Conversation(
            self,
            continuation_id,
            self._namespace if namespace is None else _checked_namespace(namespace),
            self._durability if durability is None else Durability.of(durability),
        )

    def conversations(self, *, namespace: str | None = None) -> Iterator[Conversation]:
        """Yield the conversations of a namespace, in no order. Costs one look at the directory."""
        place = self._namespace if namespace is None else _checked_namespace(namespace)
        for continuation_id in self._open_store().conversation_ids(place):
            yield Conversation(self, continuation_id, place, self._durability)

    def overview(
        self,
        *,
        namespace: str | None = None,
        count: bool = False,
        failed: Callable[[str, ConvmemError], None] | None = None,
    ) -> list[ListRow]:
        """Return what ``convmem list`` shows of a namespace, the latest activity first.

        Opens only the logs that are new or were changed since the last time, and reads a few
        kilobytes of each; to *count* turns exactly, it reads those whole.

        Args:
            namespace: Whose; the archive's own by default.
            count: Whether each row should have its number of turns.
            failed: Is told of each conversation that cannot be read (its id, and why), and the
                others are returned; without it the first such error is raised.
        """
        place = self._namespace if namespace is None else _checked_namespace(namespace)
        return self._open_store().overview.rows(place, count=count, failed=failed)

    def stats(
        self,
        *,
        namespace: str | None = None,
        continuation_ids: Iterable[str] | None = None,
        failed: Callable[[str, ConvmemError], None] | None = None,
    ) -> Stats:
        """Return figures of a namespace, or of some of its conversations: measured, not estimated.

        Reads whole what was never counted or changed since; the observer is told of it as the
        task ``reading``. *failed* is as ``overview`` has it.

        Raises:
            ConversationNotFound: One of *continuation_ids* is not there, and *failed* is not given.
        """
        place = self._namespace if namespace is None else _checked_namespace(namespace)
        return self._open_store().overview.stats(
            place, continuation_ids=continuation_ids, failed=failed
        )

    def health(self, limits: Limits | None = None) -> Health:
        """Return how the whole archive is, judged by what is so now and not by what once was.

        Writes and removes a small file; takes no lock that is in use. Waits for locks that others
        hold, at most ``limits.lock_held_seconds``. Never raises for what is wrong with the archive.
        """
        from convmem.stores.health import Limits

        return self._open_store().overview.health(limits or Limits())

    def grep(
        self,
        pattern: str | re.Pattern[str],
        *,
        continuation_ids: Iterable[str] | None = None,
        namespace: str | None = None,
        ignore_case: bool | None = None,
        fixed: bool = False,
        invert: bool = False,
        roles: Iterable[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        max_per_conversation: int | None = None,
        before: int = 0,
        after: int = 0,
    ) -> Iterator[Hit]:
        """Yield the turns whose text holds *pattern*, as they are found; no index is asked.

        Ordered by conversation, then as they stand in it. Takes no lock, and memory follows the
        longest line. Where every match holds a piece of plain text, logs are searched for it at
        gigabytes a second, and only lines that may hold it are parsed; else all are, some 100 MB
        a second. Damage goes to the observer where it is met. A regular expression such as
        ``(a+)+b`` can take for ever, as always in Python.

        Args:
            pattern: A regular expression, ``^`` and ``$`` being the ends of lines; or a compiled
                one, with its own flags.
            continuation_ids: Only these conversations, in this order; by default all, by id.
            namespace: Whose; the archive's own by default.
            ignore_case: ``None``: where no letter of the pattern is a capital.
            fixed: *pattern* is the text itself.
            invert: Yield the turns that do not match.
            roles: Only turns of these roles. Without it, events of imports and turns that were
                scrubbed are passed over.
            since: Only turns from this time on.
            until: Only turns before this time.
            max_per_conversation: At most so many of each.
            before: How many neighbours before each to give, too. A conversation with a hit is
                then read turn by turn.
            after: The same of those behind it.

        Raises:
            UsageError: The pattern is no regular expression, or a number is wrong. Raised by the
                call itself.
            ConversationNotFound: One of *continuation_ids* is not there; when it is its turn.

        >>> [(hit.continuation_id, hit.turn.seq) for hit in archive.grep("train")]
        [('oslo-trip', 3)]
        """
        from convmem.following import filter_of
        from convmem.search.patterns.grep import Search
        from convmem.search.patterns.grep_hits import hits
        from convmem.search.patterns.pattern import Pattern

        place = self._namespace if namespace is None else _checked_namespace(namespace)
        if isinstance(continuation_ids, str):
            continuation_ids = (continuation_ids,)
        search = Search(
            Pattern.of(pattern, ignore_case=ignore_case, fixed=fixed),
            filter_of(roles, since, until),
            inverts=invert,
            most=max_per_conversation,
            before=before,
            after=after,
        )
        return hits(self._open_store(), place, continuation_ids, search, self._observer.damaged)

    def namespaces(self) -> list[str]:
        """Return the names of all namespaces, sorted."""
        return self._open_store().namespaces()

    def expect_many_compactions(self, *, namespace: str | None = None) -> None:
        """Say that many conversations are about to be compacted, so that what is common to them
        is looked up once."""
        self._open_store().upkeep.expect_many(
            self._namespace if namespace is None else _checked_namespace(namespace)
        )

    def record_to_many(
        self, turns: Iterable[tuple[str, Any]], *, namespace: str | None = None
    ) -> list[Turn | Exception]:
        """Append (continuation id, turn) pairs, each for itself; return each one's answer in order.

        What cannot be stored is answered with its error and does not stop the others. Turns of
        one conversation keep their order, and all share as few writes and syncs as can be.
        """
        place = self._namespace if namespace is None else _checked_namespace(namespace)
        answers: list[Turn | Exception | None] = []
        groups: dict[str, tuple[list[Draft], list[int]]] = {}
        for continuation_id, turn in turns:
            at = len(answers)
            answers.append(None)
            try:
                if continuation_id not in groups:
                    encode_name(continuation_id)
                made = turns_module.draft_of(turn)
            except Exception as error:  # noqa: BLE001 - each is an answer
                answers[at] = error
                continue
            if continuation_id not in groups:
                groups[continuation_id] = ([], [])
            drafts, places = groups[continuation_id]
            drafts.append(made)
            places.append(at)
        settled = self._open_store().append_to_many(
            [Group(place, name, drafts) for name, (drafts, _) in groups.items()],
            durability=self._durability,
        )
        for (_, places), outcome in zip(groups.values(), settled, strict=True):
            for nth, at in enumerate(places):
                answers[at] = _one_of(outcome, nth)
        return [answer for answer in answers if answer is not None]

    def record_lines(
        self,
        lines: Sequence[bytes | None],
        continuation_id: str | None = None,
        *,
        namespace: str | None = None,
    ) -> RecordedLines:
        """Append turns given as JSON lines, each for itself: the fastest way to record many.

        Each line is an object as ``record_many`` takes them, for *continuation_id* or for the
        conversation that its own ``continuation_id`` names. Blank lines are passed over. What
        cannot be stored is among the failures of what is returned, and does not stop the others;
        all else is as ``record_to_many`` has it.
        """
        from convmem.log.sheet import read_lines
        from convmem.stores.recorded_lines import RecordedLines

        place = self._namespace if namespace is None else _checked_namespace(namespace)
        if continuation_id is not None:
            encode_name(continuation_id)
        reading = read_lines(lines, continuation_id)
        groups = [Group(place, name, sheet) for name, sheet in reading.sheets.items() if sheet]
        settled = self._open_store().append_to_many(groups, durability=self._durability)
        return RecordedLines(reading, groups, settled)

    def search(
        self,
        query: str,
        *,
        limit: int = 10,
        continuation_ids: Iterable[str] | None = None,
        namespace: str | None = None,
        all_namespaces: bool = False,
        roles: Iterable[str] | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
        meta: Mapping[str, str] | None = None,
        neighbours: int = 0,
        grouped: bool = False,
        cursor: str | None = None,
        semantic: bool = False,
    ) -> SearchPage:
        """Return the turns that fit *query* best: words, "phrases", prefix*, -word, and filters.

        Any text is a query; ``convmem.search.language.query`` says how it is read. Where fewer
        turns than *limit* hold all of it, those that hold some are ranked too, and
        ``page.matched`` says so.

        Never stale: an index in ``.index`` of each namespace is brought in step first, which
        costs a look at each log's file and a reading of what changed. It may be deleted at any
        time. Memory and time are bounded however much there is: of words that stand in more than
        20,000 turns the newest turns are ranked, and ``page.notes`` says so.

        Args:
            query: What is looked for. Filters in it add to the arguments.
            limit: The most hits of one page; with *grouped*, the most conversations.
            continuation_ids: Only in these conversations.
            namespace: Whose; the archive's own by default.
            all_namespaces: In all of them.
            roles: Only what these said. What an import kept and nobody said has role ``event``,
                and is only found so.
            since, until: Only turns from this time on, and before that one.
            meta: Only turns whose meta has these values, by dotted path.
            neighbours: How many turns before and after each hit to return with it.
            grouped: Put the hits of a conversation together, at most three of each.
            cursor: Of the page before, for the same query.
            semantic: Find turns of like meaning, too, and rank by words and meaning
                (``page.matched`` is then ``meaning``). Where all was quoted, every hit holds it. A
                few dozen new turns are embedded at once; where more lack a vector they are found
                by words, and ``page.notes`` says so: ``index`` makes the vectors.

        Raises:
            ConversationNotFound: One of the ids is in none of the namespaces.
            UsageError: *limit* or *cursor* is wrong; or, with *semantic*, the embedder is not to be
                had, or its vectors have other dimensions than those it made before.
            EmbedderError: The embedder failed.
            LockTimeout: Another process is indexing, and does not come to an end.
        """
        from convmem.search.engine import search
        from convmem.search.request import Request, query_of

        wanted = query_of(
            query, ids=continuation_ids, roles=roles, since=since, until=until, meta=meta
        )
        request = Request(
            wanted,
            limit=limit,
            cursor=cursor,
            reach=neighbours,
            is_grouped=grouped,
            asked=self._asked(wanted.said) if semantic else None,
        )
        store = self._open_store()
        if all_namespaces:
            places = store.namespaces()
        else:
            places = [self._namespace if namespace is None else _checked_namespace(namespace)]
        if wanted.namespaces is not None:  # a query only ever narrows: it may be a stranger's
            places = [each for each in places if each in wanted.namespaces]
        page = search(store.logs, places, request, self._observer)
        for missing in sorted((wanted.namespaces or frozenset()).difference(places)):
            page.notes.append(f"{missing!r} is not among the namespaces that were searched")
        return page

    def index(
        self, namespace: str | None = None, *, rebuild: bool = False, semantic: bool = False
    ) -> IndexReport:
        """Bring the index that ``search`` uses in step now, rather than with the next search.

        Costs what changed since, or with *rebuild* all: then it is made anew. The observer is
        told of it as the task ``indexing``.

        With *semantic* every turn gets its vector, too (task ``embedding``), which takes far
        longer: some hundred turns a second with ``minilm``. A kill loses a second's work; vectors
        that are there are never made again. Those of turns that are gone, and those of other
        embedders, go.

        Raises:
            StorageError: There can be no index here; ``search`` goes without one.
            UsageError, EmbedderError: As ``search`` has it.
            LockTimeout: Another process is indexing, or embedding, and does not come to an end.
        """
        from convmem.search.upkeep import bring_up

        place = self._namespace if namespace is None else _checked_namespace(namespace)
        return bring_up(
            self._open_store().logs,
            place,
            self._observer,
            rebuild=rebuild,
            embedder=self._open_embedder() if semantic else None,
        )

    def _asked(self, text: str) -> Asked | None:
        """Return what *text* means, to be embedded once it is needed; ``None`` of an empty one."""
        embedder = self._open_embedder()
        if not text.strip():
            return None
        from convmem.search.semantic.nearest import Asked

        return Asked(embedder, text)

    def _open_embedder(self) -> Watched:
        if self._opened_embedder is None:
            from convmem.search.semantic.embedder import DEFAULT, opened

            self._opened_embedder = opened(self._embedder or DEFAULT)
        return self._opened_embedder

    def drop_index(self, namespace: str | None = None, *, semantic: bool = False) -> int:
        """Remove the index of a namespace and return its bytes. The next search makes it anew.

        With *semantic* the vectors go, too, which take longer to make.
        """
        from convmem.search.upkeep import drop

        place = self._namespace if namespace is None else _checked_namespace(namespace)
        return drop(self._open_store().logs, place, vectors=semantic)

    def trash(self, *, namespace: str | None = None) -> list[TrashFile]:
        """Return what is in the trash of a namespace, oldest first."""
        place = self._namespace if namespace is None else _checked_namespace(namespace)
        return self._open_store().trash.files(place)

    def trash_turns(
        self,
        file: TrashFile,
        *,
        namespace: str | None = None,
        on_damage: Callable[[Damage], None],
    ) -> Iterator[Turn]:
        """Yield the turns in one of the files that ``trash`` returned, in the file's order.

        None of a file of state, and none where it was purged since. *on_damage* is told of lines
        that cannot be read.
        """
        from convmem.log.removing.trash import STATE

        place = self._namespace if namespace is None else _checked_namespace(namespace)
        if file.kind == STATE:
            return iter(())
        return self._open_store().trash.turns(place, file, damaged=on_damage)

    def purge_trash(
        self,
        older_than: timedelta,
        *,
        namespace: str | None = None,
        only: Collection[str] | None = None,
        dry_run: bool = False,
        now: datetime | None = None,
    ) -> list[TrashFile]:
        """Remove for good what was put into the trash of a namespace before *older_than* ago.

        What came from conversations on the keep-list stays. Returns what went.

        Args:
            older_than: How long it has been in the trash at least.
            namespace: Whose; the archive's own by default.
            only: Only what came from the conversations of these ids. With it, or where nothing
                is too young, the index of words goes, too: it may hold words of what went.
        """
        from datetime import UTC, datetime, timedelta

        place = self._namespace if namespace is None else _checked_namespace(namespace)
        moment = datetime.now(UTC) if now is None else now
        rules = self.rules()
        trash = self._open_store().trash
        old = [
            each
            for each in trash.files(place)
            # A clock that was set back since does not make it younger than new.
            if max(moment - each.removed, timedelta(0)) >= older_than
            and (only is None or each.continuation_id in only)
            and not (each.continuation_id and rules.is_kept(place, each.continuation_id))
        ]
        gone = trash.purge(place, old, now=moment, dry_run=dry_run)
        if gone and not dry_run and (only is not None or older_than <= timedelta(0)):
            # Who names what is to go wants nothing left of it; what goes by its age, by rules and
            # every night, is not worth an index that is made anew as often.
            self._open_store().logs.forget_words(place)
        return gone

    def rules(self) -> Rules:
        """Return what the archive's ``convmem.toml`` says of retention, read now.

        Raises:
            UsageError: The file says something that cannot be meant.
        """
        from convmem.rules import Rules
        from convmem.settings import FILE_NAME, Settings

        root = self._root or ""
        try:
            found = os.stat(os.path.join(root, FILE_NAME))
            stamp = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        except OSError:
            stamp = None  # none, or one that cannot be read: that is told by reading it
        known = self._rules
        if known is None or known[0] != stamp or stamp is None:
            self._rules = known = (stamp, Rules.of(Settings.load(root, {})))
        return known[1]

    def _refuse_if_kept(self, namespace: str, continuation_id: str) -> None:
        """Raise if the keep-list holds a conversation from which something is to go."""
        if self._root is not None and self.rules().is_kept(namespace, continuation_id):
            raise UsageError(
                f"{continuation_id!r} is on the keep-list of convmem.toml: nothing removes from it",
                hint="take it off that list first, if that is what you want",
            )

    def _open_store(self) -> Store:
        if self._closed:
            raise UsageError("the archive is closed", hint="open it again")
        return self._store


def _one_of(outcome: Answers | Exception, nth: int) -> Turn | Exception:
    if not isinstance(outcome, Exception):
        return outcome[nth]
    if isinstance(outcome, StorageFull) and outcome.answers:  # the disk took some of the lines
        return outcome.answers[nth] or outcome
    return outcome


def _checked_namespace(namespace: str) -> str:
    encode_name(namespace)
    return namespace
