"""Drafts whose ids may be in the log already: looked for before the lock, answered under it.

A retry is answered with the turn that was stored first, and never stored twice: not when it comes
again in the same call, and not after a compaction has dropped the first.
"""

from __future__ import annotations

import os
import time

from convmem.errors import TurnConflict, storage_error
from convmem.log import heal, known_ids
from convmem.log.removing import dropped, trash
from convmem.quantities import parse_stored_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from convmem.errors import StorageError
    from convmem.log.durability import OpenLog
    from convmem.log.files import Folder
    from convmem.log.known_ids import Found, KnownIds
    from convmem.log.sieve import Sieve
    from convmem.turns import Draft, Turn


def search_ahead(folder: Folder, name: str, ids: list[str], known: KnownIds) -> Ahead:
    """Look the ids up in the log *name* without its lock: reading a large one would keep others
    waiting. What was recorded meanwhile is looked at under it.
    """
    known.lookups += 1
    try:
        gone = dropped.find_all(folder, name, ids, time.time())
    except OSError as error:
        raise _unreadable(error, folder, name) from error
    ahead = Ahead(folder, name, known, gone)
    wanted = known.perhaps(ids)
    if not wanted:
        return ahead
    try:
        fd = folder.open_file(f"{name}.jsonl", os.O_RDONLY)
    except FileNotFoundError:
        return ahead
    except OSError as error:
        raise _unreadable(error, folder, name) from error
    try:
        found = os.fstat(fd)
        ahead.identity = (found.st_dev, found.st_ino)
        # Not to the last finished line: a batch that is being written has lines there that
        # are not committed yet, and must be searched again once they are.
        end = heal.find_end(fd, found.st_size).committed
        if known.wants_sieve(len(ids), end):
            ahead.sieve = known_ids.sieve_of(fd, end)
            wanted = ahead.sieve.perhaps(ids)
        ahead.found = known_ids.search_all(fd, wanted, 0, end)
        ahead.wanted.update(wanted)
        ahead.searched = end
    except OSError as error:
        raise _unreadable(error, folder, name) from error
    finally:
        os.close(fd)
    return ahead


def _unreadable(error: OSError, folder: Folder, name: str) -> StorageError:
    return storage_error(error, f"cannot read {os.path.join(folder.path, name)}.jsonl")


class Ahead:
    """What a search before the lock has found, in which file, up to where."""

    __slots__ = (
        "_dropped",
        "_folder",
        "_is_current",
        "_known",
        "_name",
        "found",
        "identity",
        "searched",
        "sieve",
        "wanted",
    )

    def __init__(self, folder: Folder, name: str, known: KnownIds, gone: dropped.Known) -> None:
        self.identity = (0, 0)
        self.searched = 0
        self.found: dict[str, Found] = {}
        self.wanted: set[str] = set()
        self._folder = folder
        self._name = name
        self._known = known
        self.sieve: Sieve | None = None  # of all ids, where it was worth making one
        self._dropped = gone
        self._is_current: bool | None = None

    def answers(
        self, log: OpenLog, committed: int, drafts: Sequence[Draft], seq: int, now: datetime
    ) -> tuple[list[Turn | TurnConflict], list[Draft]]:
        """Return each draft's answer, and those that are new: they get *seq* and what follows.

        Called under the lock.
        """
        answers: list[Turn | TurnConflict] = []
        fresh: list[Draft] = []
        in_call: dict[str, tuple[Draft, Turn]] = {}
        for draft in drafts:
            answer: Turn | TurnConflict | None = None
            if draft.is_given:
                earlier = in_call.get(draft.id)
                if earlier is None:
                    answer = self._answer(log, committed, draft)
                elif draft.says_the_same_as(earlier[1]):
                    answer = earlier[0].stored_as(earlier[1].seq or 0, earlier[1].ts)
                else:
                    answer = _conflict(draft, None)
            if answer is None:
                answer = draft.stored_as(seq, now)
                seq += 1
                fresh.append(draft)
                in_call[draft.id] = draft, answer
            answers.append(answer)
        return answers, fresh

    def _answer(self, log: OpenLog, committed: int, draft: Draft) -> Turn | TurnConflict | None:
        """Return the answer to a draft that was recorded before, or ``None`` if it was not."""
        found = self._find(log, committed, draft.id) if self._known.may_hold(draft.id) else None
        if found is not None:
            # Of a turn that was scrubbed nobody knows what it said: no retry may bring it back.
            if draft.says_the_same_as(found.turn) or _is_scrubbed(found.turn):
                return found.turn
            return _conflict(draft, found.turn.seq)
        gone = self._find_dropped(draft.id)
        if gone is None:
            return None
        if not self._says_what_was_dropped(draft, gone):
            return _conflict(draft, gone.seq)
        return draft.stored_as(gone.seq, parse_stored_time(gone.ts_text))

    def _find(self, log: OpenLog, committed: int, turn_id: str) -> Found | None:
        """Return the first turn with *turn_id*, reading only what was not read before."""
        start = 0
        if log.identity == self.identity and self.searched <= committed and turn_id in self.wanted:
            start = self.searched
            earlier = self.found.get(turn_id)
            if earlier is not None:
                return earlier
        return known_ids.search(log.fd, turn_id, start, committed)

    def hand_on(self, log: OpenLog, known: KnownIds, committed: int) -> None:
        """Let *known* go on with the sieve, if it is still of the log's first bytes."""
        is_same = log.identity == self.identity and self.searched <= committed
        if self.sieve is not None and is_same:
            known.adopt(self.sieve, self.searched)

    def knows_none(self, log: OpenLog, committed: int) -> bool:
        """Whether all of the log was searched, and none of the ids found."""
        return log.identity == self.identity and self.searched == committed and not self.found

    def knows_dropped(self) -> bool:
        """Whether one of the ids may have been dropped: certainly not, or perhaps."""
        self._is_current = dropped.is_as_known(self._folder, self._name, self._dropped)
        return not self._is_current or bool(self._dropped.turns)

    def _find_dropped(self, turn_id: str) -> dropped.DroppedTurn | None:
        """Return the turn if it was dropped, reading again only after a compaction since."""
        if self._is_current is None:
            self._is_current = dropped.is_as_known(self._folder, self._name, self._dropped)
        if self._is_current:
            return self._dropped.turns.get(turn_id)
        return dropped.find(self._folder, self._name, turn_id, time.time())

    def _says_what_was_dropped(self, draft: Draft, gone: dropped.DroppedTurn) -> bool:
        if gone.is_said_by(draft):
            return True
        if gone.is_parsed:
            return False
        # Other bytes need not say other things (the order of keys): the turn itself tells.
        found = trash.find(self._folder, self._name, draft.id)
        return found is not None and (
            draft.says_the_same_as(found.turn) or _is_scrubbed(found.turn)
        )


def _is_scrubbed(turn: Turn) -> bool:
    from convmem.log.removing.scrub_marker import is_scrubbed  # hardly ever asked

    return is_scrubbed(turn)


def _conflict(draft: Draft, seq: int | None) -> TurnConflict:
    place = "earlier in the same call" if seq is None else f"as turn {seq}"
    return TurnConflict(
        f"turn id {draft.id!r} was recorded {place} with other content",
        turn_id=draft.id,
        seq=seq,
    )
