"""What keeps an archive of JSONL files in order over the years, beside turns coming and going."""

from __future__ import annotations

from convmem import ids
from convmem.log import compact, rewrite, survey

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from convmem.log.summary import Summarizer
    from convmem.log.survey import CompactionReport
    from convmem.progress import Observer
    from convmem.retention import RetentionPolicy
    from convmem.stores.places import Places


class DirectoryUpkeep:
    """Compacts, deletes, restores, checks and repairs the logs of a directory store.

    Methods that name a conversation raise ``ConversationNotFound`` where there is none.
    """

    def __init__(
        self,
        places: Places,
        *,
        observer: Observer,
        lock_timeout_seconds: float,
        remember_seconds: float,
    ) -> None:
        self._places = places
        self._observer = observer
        self._lock_timeout_seconds = lock_timeout_seconds
        self._remember_seconds = remember_seconds
        self._leftovers: dict[str, dict[str, list[tuple[str, str]]]] = {}

    def compact(
        self,
        namespace: str,
        continuation_id: str,
        policy: RetentionPolicy,
        *,
        now: datetime,
        discard: bool,
        dry_run: bool,
        advanced: Callable[[int], None],
        summarize: Summarizer | None = None,
    ) -> CompactionReport:
        """Let the turns go that *policy* lets go at *now*; see ``log.compact``."""
        if dry_run:
            with self._places.reader(namespace, continuation_id) as reader:
                return survey.preview(
                    reader.fd,
                    reader.end,
                    reader.size,
                    policy,
                    now,
                    take_in_summaries=summarize is not None,
                )
        name = ids.encode_name(continuation_id)
        self._places.reader(namespace, continuation_id).close()  # there, and a file
        leftovers = self._leftovers.get(namespace)
        try:
            return compact.compact(
                self._places.log(namespace, continuation_id),
                policy,
                now=now,
                discard=discard,
                remember_seconds=self._remember_seconds,
                timeout_seconds=self._lock_timeout_seconds,
                leftovers=None if leftovers is None else leftovers.get(name, ()),
                healed=lambda kept: self._observer.healed(continuation_id, kept),
                advanced=advanced,
                summarize=summarize,
            )
        except FileNotFoundError:
            raise self._places.not_found(namespace, continuation_id) from None

    def expect_many(self, namespace: str) -> None:
        """Look for dead temporary files once, instead of once for each conversation."""
        try:
            self._leftovers[namespace] = rewrite.find_leftovers(
                self._places.folder(namespace, create=False)
            )
        except FileNotFoundError:
            return
