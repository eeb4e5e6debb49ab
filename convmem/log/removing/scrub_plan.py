"""What has to change in which file to scrub a turn, and changing it: each file as a whole.

The quarantine first, then the trash, then the log: what tells damaged bytes apart is in good lines,
and must be there until all of those are done.
"""

from __future__ import annotations

from convmem.errors import ConvmemError, UsageError
from convmem.log.files import chunks_of, read_exactly
from convmem.log.removing import audit, scrub_marker
from convmem.log.removing.scrub_files import AUDIT, LOG, QUARANTINE, replace
from convmem.log.removing.scrub_find import Wanted, survey
from convmem.log.removing.scrub_target import Target
from convmem.quantities import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from convmem.log.files import Folder, Piece
    from convmem.log.removing.rewrite import Rewrite
    from convmem.log.removing.scrub_files import File


class TurnNotFound(ConvmemError):
    """No file of the conversation says anything of such a turn."""

    kind = "not_found"


class Place:
    """A file that held what the turn said.

    Attributes:
        kind: ``LOG``, ``TRASH``, ``QUARANTINE``, ``AUDIT`` or ``TEMPORARY``.
        file: Its name inside its folder.
        turns: How many good lines of the turn it had.
        pieces: How many pieces of damaged bytes.
    """

    __slots__ = ("file", "kind", "pieces", "turns")

    def __init__(self, kind: str, file: str) -> None:
        self.kind = kind
        self.file = file
        self.turns = self.pieces = 0


class Scrubbed:
    """What was scrubbed, or would be.

    Attributes:
        turn_id, seq, role: Of the turn, as far as they are known.
        scrubbed: When, as the marker says it: also if that was earlier.
        places: The files that held it.
        replaced_by: Turns that say they are later versions of it: they stay as they are.
        summaries: Turns that sum up what it said, among other things: they stay, too.
        left: Files of the quarantine that cannot be looked into.
    """

    def __init__(self, target: Target, when: str) -> None:
        self.turn_id = target.turn_id
        self.seq = target.seq
        self.role = target.role
        self.scrubbed = when
        self.dry_run = False
        self.places: list[Place] = []
        self.replaced_by: list[str] = []
        self.summaries: list[str] = []
        self.left: list[str] = []

    @property
    def is_changed(self) -> bool:
        """Whether anything was there to go."""
        return bool(self.places)


class Plan:
    """One scrubbing: what is to be changed in which file."""

    def __init__(
        self,
        folder: Folder,
        name: str,
        files: list[File],
        wanted: Wanted,
        now: datetime,
        advanced: Callable[[int], None],
    ) -> None:
        self._folder = folder
        self._name = name
        self._files = files
        # A summary that went when its turns came back is in no other place.
        self.in_audit: list[str] = []
        if wanted.turn_id is not None:
            self.in_audit = audit.summaries(folder, wanted.turn_id)
        target = self._find(wanted, advanced)
        self.copies = target.copies
        self.done = Scrubbed(target, target.scrubbed or format_time(now))
        self.changes: list[tuple[File, list[tuple[int, int, bytes]]]] = []
        # The good lines that go, each once: for who has derived something of what they say.
        self.lines: list[bytes] = []
        for file in files:
            place = Place(file.kind, file.name)
            edits = list(self._edits(file, target, place))
            if file.packed is not None:
                if file.packed.has_notes and target.role in (None, "user"):
                    place.pieces += 1  # they tell how the first turn of a user begins
                if file.packed.may_hide(target, edits):
                    self.done.left.append(file.name)
            if place.turns or place.pieces:
                self.changes.append((file, edits))
                self.done.places.append(place)
        self.done.places += [Place(AUDIT, name) for name in self.in_audit]
        self._note_relatives(target)

    def carry_out(self, rewrite: Rewrite | None, went: Callable[[], None]) -> None:
        """Write the files anew, the log last."""
        if self.in_audit and self.done.turn_id is not None:
            audit.scrub_summary(self._folder, self.done.turn_id)
            went()
        for file, edits in self.changes:
            if rewrite is not None and file.kind == LOG:
                try:
                    rewrite.copy(_around(edits, file.size))
                    rewrite.replace()
                finally:
                    if rewrite.is_replaced:
                        went()
                continue
            if file.packed is not None:
                replace(self._folder, self._name, file, file.packed.chunks(edits))
            else:
                replace(
                    self._folder, self._name, file, chunks_of(file.fd, _around(edits, file.size))
                )
            went()

    def _find(self, wanted: Wanted, advanced: Callable[[int], None]) -> Target:
        self._look(wanted, advanced)
        found = [file.survey for file in self._files]
        turn_id = wanted.turn_id
        seq: int | None = None
        is_there = any(
            each.by_id or any(claim[0] == turn_id for claim in each.claims) for each in found
        )
        if not is_there and not self.in_audit:
            turn_id, seq = self._by_seq(wanted)
            if turn_id is not None:
                self._look(Wanted(turn_id, None), _unheard)
        target = Target(turn_id, seq)
        for file in self._files:
            for sighting in (*file.survey.by_id, *file.survey.by_seq):
                if target.owns(sighting):
                    target.learn(sighting)
        claims = (claim for each in self._files for claim in each.survey.claims)
        if target.seq is None:
            target.seq = next((claim[1] for claim in claims if claim[0] == turn_id), None)
        return target

    def _by_seq(self, wanted: Wanted) -> tuple[str | None, int]:
        """Return id and ``seq`` of the one turn that has the ``seq``."""
        ids: set[str | None] = set()
        # What was set aside may never have been answered, and its number given out again.
        for is_set_aside in (False, True):
            found = [
                file.survey for file in self._files if (file.kind == QUARANTINE) == is_set_aside
            ]
            ids = ids or {sighting.turn_id for each in found for sighting in each.by_seq}
            # Damaged lines are believed only where no other is there.
            ids = ids or {
                claim[0] for each in found for claim in each.claims if claim[1] == wanted.seq
            }
        if wanted.seq is None or not ids:
            what = repr(wanted.turn_id) if wanted.seq is None else str(wanted.seq)
            raise TurnNotFound(
                f"there is no turn {what}, neither in the log nor in the trash",
                hint="see the turns' ids and numbers with: convmem show ID --json",
            )
        if len(ids) > 1:
            raise UsageError(
                f"{len(ids)} turns have the number {wanted.seq}, so nothing was scrubbed",
                hint="name it by its id: see them with: convmem verify ID",
            )
        return ids.pop(), wanted.seq

    def _look(self, wanted: Wanted, advanced: Callable[[int], None]) -> None:
        for file in self._files:
            file.survey = survey(
                file.fd,
                file.end,
                file.size,
                wanted,
                advanced,
                notes_others=file.is_of_pieces,
            )

    def _edits(self, file: File, target: Target, place: Place) -> Iterator[tuple[int, int, bytes]]:
        """Yield what has to change in a file, in order: from where to where, and to what."""
        when = self.done.scrubbed
        owned = [
            (each.offset, each.end)
            for each in (*file.survey.by_id, *file.survey.by_seq)
            if target.owns(each) and each.scrubbed is None
        ]
        others = list(file.survey.others)
        if file.is_of_pieces:
            others += [(each.offset, each.end) for each in file.survey.by_seq]
        owned += [
            (start, end)
            for start, end in others
            if (start, end) not in owned
            and target.is_repeated_by(read_exactly(file.fd, end - start, start))
        ]
        places = [(*each, True) for each in owned]
        places += [(*each, False) for each in file.survey.damaged]
        for start, end, is_turn in sorted(places):
            before = read_exactly(file.fd, end - start, start)
            if is_turn:
                after = scrub_marker.marker_of(before, when)[:-1]
                place.turns += 1
                if before not in self.lines:
                    self.lines.append(before)
            else:
                after, pieces = target.without(before, when)
                if not pieces:
                    continue
                place.pieces += pieces
            yield start, end, after

    def _note_relatives(self, target: Target) -> None:
        later: set[str] = set()
        summaries: set[str] = set()
        for file in self._files:
            later.update(file.survey.replaced_by)
            for turn_id, first, last in file.survey.summaries:
                if target.seq is not None and first <= target.seq <= last:
                    summaries.add(turn_id)
        self.done.replaced_by = sorted(later)
        self.done.summaries = sorted(summaries)


def _around(edits: list[tuple[int, int, bytes]], size: int) -> Iterator[Piece]:
    at = 0
    for start, end, after in edits:
        yield at, start
        yield after
        at = end
    yield at, size


def _unheard(amount: int) -> None:
    """The first reading told of its progress."""
