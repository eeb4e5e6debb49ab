"""Turns by a pattern: every turn of some conversations is looked at, no index is asked.

What is known of the pattern decides the way. With a piece of text that every match must hold, a
log's bytes are searched for it and only likely lines are parsed and matched; else all are.
"""

from __future__ import annotations

from collections import deque
from contextlib import closing

from convmem import ids
from convmem.errors import ConversationNotFound, UsageError, storage_error
from convmem.search.patterns.likely import all_turns, likely_turns
from convmem.search.patterns.raw_scan import RawScan
from convmem.search.said import text_of
from convmem.turns import EVENT, is_said

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

    from convmem.log.read import Filter, Reader, StoredTurn
    from convmem.log.records import Damage, OnDamage
    from convmem.search.patterns.pattern import Pattern
    from convmem.stores.protocol import Store

# What stands in the line of an event.
_EVENT = b"event"


class Search:
    """What is asked of each conversation. Use it for many, in one thread.

    Args:
        pattern: What to look for in the texts of turns.
        wanted: Which turns may match. What nobody said, or was scrubbed, is none of them unless
            roles are named.
        inverts: Whether the turns are sought in which the pattern is not.
        most: At most so many turns of each conversation; ``None``: all.
        before, after: How many neighbours of each to show, too.
    """

    __slots__ = ("after", "before", "inverts", "most", "pattern", "scan", "wanted")

    def __init__(
        self,
        pattern: Pattern,
        wanted: Filter,
        *,
        inverts: bool = False,
        most: int | None = None,
        before: int = 0,
        after: int = 0,
    ) -> None:
        for name, number in (("before", before), ("after", after), ("most", most)):
            if number is not None and (type(number) is not int or number < 0):
                raise UsageError(f"{name} must be a whole number, 0 or more, not {number!r}")
        self.pattern = pattern
        self.wanted = wanted
        self.inverts = inverts
        self.most = most
        self.before = before
        self.after = after
        self.scan: RawScan | None = None
        if pattern.literal and not inverts:
            self.scan = RawScan(pattern.literal, ignores_case=pattern.ignores_case)

    def match(self, stored: StoredTurn) -> Match | None:
        """Return how the turn matches, or ``None``."""
        if not self.wanted.wants(stored):
            return None
        turn = stored.turn
        if self.wanted.roles is None and not is_said(turn):
            return None
        text = text_of(turn)
        spans = [found.span() for found in self.pattern.regex.finditer(text)]
        return Match(text, spans) if bool(spans) != self.inverts else None


class Match:
    """How a turn matches: its text, and where in it the pattern is (nowhere, if inverted)."""

    __slots__ = ("spans", "text")

    def __init__(self, text: str, spans: list[tuple[int, int]]) -> None:
        self.text = text
        self.spans = spans


class Shown:
    """A turn to show.

    Attributes:
        stored: The turn.
        match: How it matches; ``None`` for a neighbour of one that does.
        is_apart: Whether turns are left out between it and the one shown before.
    """

    __slots__ = ("is_apart", "match", "stored")

    def __init__(self, stored: StoredTurn, match: Match | None, *, is_apart: bool) -> None:
        self.stored = stored
        self.match = match
        self.is_apart = is_apart


def found_in(
    store: Store, namespace: str, continuation_id: str, search: Search, damaged: OnDamage
) -> Generator[Shown]:
    """Yield the turns of a conversation that match, with neighbours, in the order of the log.

    Each is yielded as it is found, and none twice. Takes no lock. *damaged* is told of damage where
    it is met: lines that cannot hold the pattern are not looked at.

    Raises:
        ConversationNotFound: There is no such conversation.
    """
    if search.most == 0:
        return
    with _opened(store, namespace, continuation_id) as reader:
        if not search.before and not search.after:
            for found, (stored, match) in enumerate(_matching(reader, search, damaged), 1):
                yield Shown(stored, match, is_apart=False)
                if found == search.most:
                    return
            return
        # Most conversations hold nothing: only where one does are neighbours worth the reading.
        if search.scan is not None:
            with closing(_matching(reader, search, _untold)) as matching:
                if next(matching, None) is None:
                    return
        yield from _with_neighbours(reader, search, damaged)


def names_in(store: Store, namespace: str) -> list[str]:
    """Return the ids of all conversations of a namespace, sorted."""
    return sorted(store.conversation_ids(namespace))


# --- one conversation ----------------------------------------------------------------------------


def _opened(store: Store, namespace: str, continuation_id: str) -> Reader:
    name = ids.encode_name(continuation_id)
    try:
        return store.logs.open(namespace, name)
    except FileNotFoundError:
        store.describe(namespace, continuation_id, count=False)  # says what is missing
        raise ConversationNotFound(f"{continuation_id!r} was just removed") from None
    except OSError as error:
        where = store.path(namespace, continuation_id)
        raise storage_error(error, f"cannot read {where}") from error


def _matching(
    reader: Reader, search: Search, damaged: OnDamage
) -> Generator[tuple[StoredTurn, Match]]:
    """Yield the turns that match, in order."""
    if search.scan is None:
        found = all_turns(reader, damaged, is_parsed=True)
    else:
        found = likely_turns(reader, search.scan, damaged)
    for stored in found:
        match = search.match(stored)
        if match is not None:
            yield stored, match


def _with_neighbours(reader: Reader, search: Search, damaged: OnDamage) -> Iterator[Shown]:
    """Yield the turns that match and their neighbours. Reads the log turn by turn."""
    before: deque[StoredTurn] = deque(maxlen=search.before)
    following = found = skipped = 0  # skipped: what was left out since the last that was shown
    for stored, match in _judged(reader, search, damaged):
        if match is None or found == search.most:
            if _EVENT in stored.line and stored.role == EVENT and not is_said(stored.turn):
                continue  # nobody's neighbour
            if following:
                following -= 1
                yield Shown(stored, None, is_apart=False)
                if found == search.most and not following:
                    return
            else:
                skipped += len(before) == search.before
                before.append(stored)
            continue
        is_apart = bool(found and skipped)
        for neighbour in before:
            yield Shown(neighbour, None, is_apart=is_apart)
            is_apart = False
        yield Shown(stored, match, is_apart=is_apart)
        before.clear()
        skipped = 0
        found += 1
        following = search.after
        if found == search.most and not following:
            return


def _judged(
    reader: Reader, search: Search, damaged: OnDamage
) -> Iterator[tuple[StoredTurn, Match | None]]:
    """Yield every turn, in order, and how it matches."""
    if search.scan is None:
        for stored in all_turns(reader, damaged, is_parsed=True):
            yield stored, search.match(stored)
        return
    # Where the likely lines begin; and at the very end perhaps one by hand, without its newline.
    likely = (offset for offset, _ in search.scan.lines(reader.fd, 0, reader.end))
    following = 0
    for stored in all_turns(reader, damaged, is_parsed=False):
        while following < stored.offset:
            following = next(likely, reader.end)
        yield stored, search.match(stored) if stored.offset == following else None


def _untold(damage: Damage) -> None:
    """It is told by the reading that follows."""
