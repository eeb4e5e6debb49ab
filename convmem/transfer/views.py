"""A conversation as it is given out: copies unpacked, old versions and other branches left out.

Pure reads. Memory follows the longest turn, but for what links turns to each other: some 100 bytes
for each turn that has a parent, where a branch is asked for.
"""

from __future__ import annotations

from functools import cached_property

from convmem import copied
from convmem.formats.protocol import EVENT, Kept
from convmem.formats.raws import raw_of
from convmem.turns import Turn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime
    from typing import Any

    from convmem.conversation import Conversation
    from convmem.log.read import StoredTurn


class Wanted:
    """Which turns of a conversation are given out. Empty, it is all of them.

    Attributes:
        roles: Only turns of these roles.
        since: Only turns from then on; turns without a time are outside.
        active_branch: Only the branch that was shown last, where there are several.
    """

    def __init__(
        self,
        *,
        roles: frozenset[str] | None = None,
        since: datetime | None = None,
        active_branch: bool = False,
    ) -> None:
        self.roles = roles
        self.since = since
        self.active_branch = active_branch

    def wants(self, turn: Turn) -> bool:
        """Whether *turn* is of a wanted role and time."""
        if self.roles is not None and turn.role not in self.roles:
            return False
        if self.since is None:
            return True
        return turn.ts is not None and turn.ts >= self.since


class View:
    """One conversation, ready to be given out. What it is like is looked up when that is needed.

    Attributes:
        conversation: Which.
    """

    def __init__(self, conversation: Conversation, wanted: Wanted) -> None:
        self.conversation = conversation
        self._wanted = wanted

    @property
    def title(self) -> str | None:
        """What its source called it last. Reads it all, the first time."""
        return self._facts.title

    def turns(self) -> Iterator[Turn]:
        """Yield the turns as they are read: copies stand where one turn stood for them."""
        for _, turn in self._unpacked():
            if self._is_current(turn) and self._wanted.wants(turn):
                turn.extra.pop("raw", None)
                yield turn

    def stored(self) -> Iterator[tuple[StoredTurn, Turn]]:
        """Yield the turns as they lie there, with their lines: references too."""
        for stored in self.conversation.stored_turns(damaged=_unnoticed):
            turn = stored.turn
            if self._is_on_branch(turn) and self._wanted.wants(turn):
                yield stored, turn

    def kept(self) -> Iterator[Kept]:
        """Yield what was imported, with its source records: all versions, all branches."""
        for line, turn in self._unpacked(repeats=True):
            raw = raw_of(line)
            if raw is not None or (turn.meta or {}).get("source") is not None:
                yield Kept(turn, raw)

    def _unpacked(self, *, repeats: bool = False) -> Iterator[tuple[bytes, Turn]]:
        """Yield each turn with its line; with *repeats* also lines that came twice in a source."""
        own = self.conversation.continuation_id
        for stored in self.conversation.stored_turns(damaged=_unnoticed):
            turn = stored.turn
            if not copied.is_copy(turn):
                yield stored.line, turn
                continue
            if repeats or not copied.is_repeat(turn, own):
                yield from copied.unpacked(turn)

    def _is_on_branch(self, turn: Turn) -> bool:
        """Whether *turn* is current, where there is a branch to be on; else any is."""
        if not self._wanted.active_branch or self._facts.branch is None:
            return True
        return self._is_current(turn)

    def _is_current(self, turn: Turn) -> bool:
        turn_id = turn.id
        if turn_id is None:
            return True
        facts, meta = self._facts, turn.meta or {}
        if turn_id in facts.left_out and facts.left_out[turn_id] == meta.get("source"):
            return False
        if facts.branch is None or turn.role == EVENT:
            return True
        first = meta.get("replaces", turn_id)
        return first in facts.branch or ("parent" not in meta and "active" not in meta)

    @cached_property
    def _facts(self) -> _Facts:
        return _Facts(self._told(), active_branch=self._wanted.active_branch)

    def _told(self) -> Iterator[Turn]:
        for line, turn in self._unpacked():
            if b'"meta":' in line:
                yield turn


class _Facts:
    """What turns say of others, and of the whole: learnt from all of them, once.

    Attributes:
        title: What the source called the conversation last.
        left_out: The ids of turns that were replaced or taken back, and by which source: what one
            tool says of its records holds of no other's.
        branch: The ids of the active branch; ``None`` where there is but one, or none was wanted.
    """

    def __init__(self, turns: Iterable[Turn], *, active_branch: bool) -> None:
        self.title: str | None = None
        self.left_out: dict[str, object] = {}
        self.branch: set[str] | None = None
        latest: dict[str, str] = {}  # of a record that came in versions, the last one
        links = _Links()
        updated = ""
        for turn in turns:
            meta = turn.meta
            if meta is None or turn.id is None:
                continue
            replaced = meta.get("replaces")
            source = meta.get("source")
            if isinstance(replaced, str) and source is not None:
                self.left_out[latest.get(replaced, replaced)] = source
                latest[replaced] = turn.id
            # An older export may have been imported after a newer one.
            when = str(meta.get("updated", updated))
            if when >= updated:
                updated = when
                title = meta.get("title")
                if isinstance(title, str) and title.strip():
                    self.title = title
                if isinstance(meta.get("leaf"), str):
                    links.leaf = meta["leaf"]
            if active_branch:
                self.left_out |= dict.fromkeys(links.take(turn, meta), source)
        if active_branch:
            self.branch = links.branch()


class _Links:
    """What turns say of each other: who answered whom, and what was taken back."""

    def __init__(self) -> None:
        self.leaf: str | None = None
        self._parents: dict[str, str] = {}
        self._active: dict[str, bool] = {}
        self._order: list[str] = []

    def take(self, turn: Turn, meta: dict[str, Any]) -> set[str]:
        """Take the next turn; return the ids of those that it takes back."""
        turn_id = str(meta.get("replaces", turn.id))
        if isinstance(meta.get("active"), bool):
            self._active[turn_id] = meta["active"]
        if isinstance(meta.get("parent"), str):
            self._parents[turn_id] = meta["parent"]
        kind, order = meta.get("kind"), self._order
        gone: list[str] = []
        if kind == "rewind":
            # The turn that it names and all behind it; all, where nobody knows that one.
            at = order.index(meta["to"]) if meta.get("to") in order else 0
            gone, self._order = order[at:], order[:at]
        elif kind == "checkpoint" and isinstance(meta.get("keeps"), list):
            keeps = {each for each in meta["keeps"] if isinstance(each, str)}
            gone = [each for each in order if each not in keeps]
            self._order = [each for each in order if each in keeps]
        elif turn.role != EVENT and turn_id not in order[-1:]:
            order.append(turn_id)
        return set(gone)

    def branch(self) -> set[str] | None:
        """Return the ids of the active branch; ``None`` where there is but one."""
        if self.leaf is None and self._active:
            return {turn_id for turn_id, is_active in self._active.items() if is_active}
        if not self._parents or not self._order:
            return None
        current: str | None = self.leaf or self._order[-1]
        found: set[str] = set()
        while current is not None and current not in found:
            found.add(current)
            current = self._parents.get(current)
        return found


def _unnoticed(damage: object) -> None:
    """``verify`` tells of it."""
