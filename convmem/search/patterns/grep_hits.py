"""What ``Archive.grep`` answers with: hits, each with its neighbours and the line that matches."""

from __future__ import annotations

from collections import deque
from contextlib import closing

from convmem.errors import ConversationNotFound
from convmem.search.hits import Hit, Snippet
from convmem.search.patterns.grep import found_in, names_in

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from convmem.log.read import StoredTurn
    from convmem.log.records import Damage
    from convmem.search.patterns.grep import Match, Search, Shown
    from convmem.stores.protocol import Store

    OnDamageIn = Callable[[str, Damage], None]

_SNIPPET_LETTERS = 240
_BEFORE_MATCH = 60


def hits(
    store: Store,
    namespace: str,
    continuation_ids: Iterable[str] | None,
    search: Search,
    damaged: OnDamageIn,
) -> Iterator[Hit]:
    """Yield the matching turns of conversations as hits; without ids those of all, sorted by id.

    Raises:
        ConversationNotFound: One of *continuation_ids* is not there; raised when it is its turn.
    """
    named = continuation_ids is not None
    for name in names_in(store, namespace) if continuation_ids is None else continuation_ids:

        def tell(damage: Damage, name: str = name) -> None:
            damaged(name, damage)

        found = found_in(store, namespace, name, search, tell)
        with closing(found):
            try:
                yield from _hits_of(found, namespace, name, search)
            except ConversationNotFound:
                if named:
                    raise


def snippet_of(match: Match) -> Snippet:
    """Return the first line that matches, cut around the match where it is long."""
    text = match.text
    first, behind = match.spans[0] if match.spans else (0, 0)
    start = text.rfind("\n", 0, first) + 1
    end = text.find("\n", max(first, behind - 1))
    end = len(text) if end < 0 else end
    left = right = ""
    if end - start > _SNIPPET_LETTERS:
        if first - start > _BEFORE_MATCH:
            start, left = first - _BEFORE_MATCH, "…"
        if end - start > _SNIPPET_LETTERS:
            end, right = start + _SNIPPET_LETTERS, "…"
    shift = len(left) - start
    marks = [
        (max(one, start) + shift, min(other, end) + shift)
        for one, other in match.spans
        if one < end and other > start
    ]
    return Snippet(left + text[start:end].replace("\n", " ") + right, marks)


def _hits_of(
    found: Iterator[Shown], namespace: str, continuation_id: str, search: Search
) -> Iterator[Hit]:
    """Yield hits in order, each once all its neighbours are known."""
    recent: deque[StoredTurn] = deque(maxlen=search.before)
    waiting: deque[Hit] = deque()
    for each in found:
        if each.is_apart:
            recent.clear()
            yield from waiting
            waiting.clear()
        for hit in waiting:
            if len(hit.after) < search.after:
                hit.after.append(each.stored.turn)
        if each.match is not None:
            waiting.append(
                Hit(
                    namespace=namespace,
                    continuation_id=continuation_id,
                    turn=each.stored.turn,
                    snippet=snippet_of(each.match),
                    before=[stored.turn for stored in recent],
                )
            )
        recent.append(each.stored)
        while waiting and len(waiting[0].after) == search.after:
            yield waiting.popleft()
    yield from waiting
