"""Turns that many tasks record at once, gathered: one write and one sync for all that wait.

What waits for a conversation stands in its line. A thread takes as much from the front as fits
into one commit; what comes meanwhile goes with the next. So a line keeps the order of its calls,
lines are served in turn, and the more tasks record, the fewer syncs each of them costs.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from convmem.aio.answers import Call, send_back
from convmem.errors import DurabilityUnknown, StorageFull, TurnConflict
from convmem.stores.values import Group

if TYPE_CHECKING:
    from convmem.aio.threads import Threads
    from convmem.conversation import Conversation as SyncConversation
    from convmem.log.durability import Durability
    from convmem.stores.values import Answers
    from convmem.turns import Draft, Turn

# What one commit takes at most, so that nobody waits long for those before, and what is encoded
# but not yet written stays small.
_MOST_TURNS = 256
_MOST_BYTES = 4 << 20


class Recording(Call["list[Turn]"]):
    """Turns that are to be stored, all or none.

    ``make`` checks and encodes them; it is called in a thread, when it is their turn.
    """

    __slots__ = ("chat", "drafts", "durability", "make")

    def __init__(
        self, chat: SyncConversation, make: Callable[[], list[Draft]], durability: Durability
    ) -> None:
        super().__init__()
        self.chat = chat
        self.make = make
        self.durability = durability
        self.drafts: list[Draft] = []


class _Line:
    """What waits for one conversation, in order."""

    __slots__ = ("key", "recordings")

    def __init__(self, key: tuple[str, str]) -> None:
        self.key = key
        self.recordings: OrderedDict[Recording, None] = OrderedDict()

    def syncs(self) -> bool:
        """Whether what comes next waits for the disk."""
        following = next(iter(self.recordings), None)
        return following is not None and following.durability.name == "always"


class Recorder:
    """Takes what tasks record, and has it committed by threads."""

    def __init__(self, threads: Threads) -> None:
        self._threads = threads
        self.begin()

    def begin(self) -> None:
        """Begin with nothing in line, as a forked child must."""
        self._guard = threading.Lock()
        self._lines: dict[tuple[str, str], _Line] = {}
        self._new_lines: list[_Line] = []  # of which the threads do not know yet

    async def record(self, recording: Recording) -> list[Turn]:
        """Store *recording* and return its turns as stored.

        A task that is cancelled before a thread has taken them goes at once, and nothing is stored.
        Later the cancellation waits until they are stored, or are not.
        """
        key = (recording.chat.namespace, recording.chat.continuation_id)
        self._threads.check_open()
        with self._guard:
            line = self._lines.get(key)
            if line is None:
                line = self._lines[key] = _Line(key)
                self._new_lines.append(line)
            line.recordings[recording] = None
            has_new = bool(self._new_lines)
        if has_new:
            # Not at once: what other tasks record in the same round of the loop goes along, and
            # threads do not get into the way of those tasks.
            recording.after_this_round(self.hand_over)
        return await recording.outcome(lambda: self._withdraw(line, recording), settles=True)

    def hand_over(self) -> None:
        """Tell the threads of all that was recorded."""
        with self._guard:
            lines, self._new_lines = self._new_lines, []
            synced = [line for line in lines if line.syncs()]
            unsynced = [line for line in lines if not line.syncs()]
        for some, syncs in ((synced, True), (unsynced, False)):
            try:
                if some:
                    commits = [partial(self._commit, each) for each in some]
                    self._threads.commit(commits, syncs=syncs)
            except RuntimeError as error:  # no thread can be started
                self._give_up(some, error)

    def _give_up(self, lines: list[_Line], error: Exception) -> None:
        given_up: list[Recording] = []
        with self._guard:
            for line in lines:
                del self._lines[line.key]
                given_up += line.recordings
                line.recordings.clear()
        for each in given_up:
            each.error = error
        send_back(given_up)

    def _withdraw(self, line: _Line, recording: Recording) -> bool:
        with self._guard:
            if recording not in line.recordings:
                return False
            del line.recordings[recording]
            return True

    def _commit(self, line: _Line) -> None:
        """Store what stands at the front of *line*, and let it come again if there is more."""
        taken = self._take(line)
        try:
            _store(taken)
        except BaseException as error:  # noqa: BLE001 - nobody is to wait for ever
            for each in taken:
                each.error = each.error or error
        send_back(taken)
        with self._guard:
            if not line.recordings:
                del self._lines[line.key]
                return
            syncs = line.syncs()
        self._threads.commit([partial(self._commit, line)], syncs=syncs)

    def _take(self, line: _Line) -> list[Recording]:
        """Take from the front of *line* what goes together, and encode it."""
        taken: list[Recording] = []
        turns = size = 0
        while turns < _MOST_TURNS and size < _MOST_BYTES:
            with self._guard:
                following = next(iter(line.recordings), None)
                if following is None or (taken and following.durability != taken[0].durability):
                    break
                del line.recordings[following]
            taken.append(following)
            try:
                following.drafts = following.context.run(following.make)
            except BaseException as error:  # noqa: BLE001 - it is raised where it belongs
                following.error = error
            turns += len(following.drafts) or 1
            size += sum(len(draft.tail) for draft in following.drafts)
        return taken


def _store(taken: list[Recording]) -> None:
    """Store *taken*, which are for one conversation, and give each its turns or its error."""
    taken = [each for each in taken if each.error is None]
    for each in [each for each in taken if not each.drafts]:
        each.value = []
    taken = [each for each in taken if each.drafts]
    if not taken:
        return
    chat, durability = taken[0].chat, taken[0].durability
    store = chat._archive._open_store()
    run = taken[0].context.run
    if len(taken) == 1:
        (alone,) = taken
        name = chat.continuation_id
        stored = run(
            lambda: store.append(
                chat.namespace, name, alone.drafts, is_batch=True, durability=durability
            )
        )
        alone.value = stored  # type: ignore[assignment]  # a batch raises its conflict
        return
    together = _together(taken)
    groups = [
        Group(
            chat.namespace,
            chat.continuation_id,
            [draft for each in inside for draft in each.drafts],
            is_batch=True,
        )
        if len(inside) == 1
        else Group(
            chat.namespace,
            chat.continuation_id,
            [draft for each in inside for draft in each.drafts],
        )
        for inside in together
    ]
    settled = run(lambda: store.append_to_many(groups, durability=durability))
    for inside, answers in zip(together, settled, strict=True):
        _answer(inside, answers)


def _together(recordings: list[Recording]) -> list[list[Recording]]:
    """Put neighbours of a single turn together; a batch stays alone, since it is all or none."""
    found: list[list[Recording]] = []
    for each in recordings:
        if len(each.drafts) == 1 and found and len(found[-1][0].drafts) == 1:
            found[-1].append(each)
        else:
            found.append([each])
    return found


def _answer(inside: list[Recording], answers: Answers | Exception) -> None:
    if len(inside) == 1:
        if isinstance(answers, Exception):
            inside[0].error = answers
        else:
            inside[0].value = list(answers)  # type: ignore[arg-type]  # as above
        return
    for at, each in enumerate(inside):
        answer: Turn | Exception | None
        if not isinstance(answers, Exception):
            answer = answers[at]
        elif isinstance(answers, StorageFull) and answers.answers:
            answer = answers.answers[at]  # the disk took some of them
        else:
            answer = None
        if answer is None:
            assert isinstance(answers, Exception)
            each.error = _for_one(answers, each.drafts[0])
        elif isinstance(answer, TurnConflict):
            each.error = answer
        else:
            each.value = [answer]


def _for_one(error: Exception, draft: Draft) -> Exception:
    """Return *error*, which several share, as one of them alone would have got it."""
    own: Exception = error.__class__.__new__(error.__class__)
    own.args = error.args
    own.__dict__.update(error.__dict__)
    own.__cause__ = error.__cause__
    if isinstance(own, StorageFull):
        own.stored = own.answers = ()
        own.hint = "what was stored is as it was; make room and try again"
    if isinstance(own, DurabilityUnknown):
        own.ids = [draft.id]
    return own
