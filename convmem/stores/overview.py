"""What a directory store knows of its conversations as a whole: the list, facts, figures.

All of it follows from the files. What is kept between two looks only saves reading.
"""

from __future__ import annotations

from convmem import ids
from convmem.errors import storage_error
from convmem.stores import facts
from convmem.stores.values import ListRow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from convmem.errors import ConvmemError
    from convmem.log.files import Folder
    from convmem.progress import Observer
    from convmem.stores.facts_index import Facts
    from convmem.stores.health import Health, Limits
    from convmem.stores.places import Places
    from convmem.stores.stats import Stats

    # Is told which conversation could not be read, and why.
    Failed = Callable[[str, ConvmemError], None]


class Overview:
    """Looks at all conversations of a namespace. What it costs follows what changed."""

    def __init__(self, places: Places, *, observer: Observer) -> None:
        self._places = places
        self._observer = observer

    def rows(self, namespace: str, *, count: bool, failed: Failed | None) -> list[ListRow]:
        """Return what a list shows, in order: the latest activity first, those without any last.

        The first time it reads the two ends of each log, and with *count* each log; after that
        only those of logs that changed. Nothing is ever unpacked for it.

        Args:
            namespace: Whose.
            count: Whether the exact number of turns is wanted.
            failed: Is told of what cannot be read; without it that is raised.
        """
        folder = self._folder(namespace)
        if folder is None:
            return []
        found = []
        for name, each in self.facts_of(namespace, count=count, failed=failed).items():
            continuation_id = self._places.id_of(folder, name)
            if continuation_id is not None:
                found.append(ListRow(namespace, continuation_id, each, with_turns=count))
        found.sort(key=lambda row: row.continuation_id)
        found.sort(key=lambda row: row.last_text, reverse=True)
        return found

    def facts_of(
        self,
        namespace: str,
        *,
        count: bool = False,
        most_bytes: int | None = None,
        names: Iterable[str] | None = None,
        failed: Failed | None = None,
    ) -> dict[str, Facts]:
        """Return the facts of each conversation by its file's name; see ``facts.facts_of``."""
        folder = self._folder(namespace)
        if folder is None:
            return {}

        def tell(name: str, error: ConvmemError) -> None:
            if failed is None:
                raise error
            continuation_id = self._places.id_of(folder, name)
            if continuation_id is not None:
                failed(continuation_id, error)

        try:
            return facts.facts_of(
                folder,
                count=count,
                most_bytes=most_bytes,
                names=names,
                failed=tell,
                observer=self._observer,
            )
        except OSError as error:
            raise storage_error(error, f"cannot read {folder.path}") from error

    def remember(self, namespace: str, learnt: Mapping[str, Facts]) -> None:
        """Keep what was learnt of conversations elsewhere; see ``facts.remember``."""
        folder = self._folder(namespace)
        if folder is not None:
            facts.remember(folder, learnt)

    def stats(
        self, namespace: str, *, continuation_ids: Iterable[str] | None, failed: Failed | None
    ) -> Stats:
        """Return measured figures of *namespace*, or of some of its conversations.

        Reads what was never counted, or changed since.
        """
        from convmem.stores import stats

        folder = self._folder(namespace)
        names = None
        if continuation_ids is not None:
            names = {ids.encode_name(each): each for each in continuation_ids}
        found = self.facts_of(namespace, count=True, names=names, failed=failed)
        for name, continuation_id in ({} if names is None else names).items():
            if name not in found:
                error = self._places.not_found(namespace, continuation_id)
                if failed is None:
                    raise error
                failed(continuation_id, error)
        if folder is None:
            return stats.Stats(namespace)
        named = {}
        for name, each in found.items():
            known = self._places.id_of(folder, name)
            if known is not None:
                named[known] = each
        return stats.measure(folder, namespace, named, is_whole=names is None)

    def health(self, limits: Limits) -> Health:
        """Return how the whole archive is, from what is so now; see ``examine``."""
        from convmem.stores.examine import examine

        return examine(self._places, self, limits)

    def _folder(self, namespace: str) -> Folder | None:
        try:
            return self._places.folder(namespace, create=False)
        except FileNotFoundError:
            return None
        except OSError as error:
            where = self._places.namespace_path(namespace)
            raise storage_error(error, f"cannot open {where}") from error
