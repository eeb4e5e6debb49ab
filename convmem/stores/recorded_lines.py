"""What became of JSON lines that were recorded: the answers, made when they are asked for."""

from __future__ import annotations

from convmem.errors import StorageFull, TurnConflict
from convmem.log.sheet import SheetAnswers
from convmem.quantities import format_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from convmem.log.sheet import Reading, Sheet
    from convmem.stores.values import Answers, Group
    from convmem.turns import Turn


class RecordedLine:
    """One line that is recorded: its number, counted from 0, and what its turn got."""

    __slots__ = ("continuation_id", "id", "number", "seq", "ts")

    def __init__(
        self, number: int, continuation_id: str, id: str | None, seq: int | None, ts: str | None
    ) -> None:
        self.number = number
        self.continuation_id = continuation_id
        self.id = id
        self.seq = seq
        self.ts = ts


class RecordedLines:
    """The answers to the lines that ``Archive.record_lines`` was given.

    Attributes:
        count: How many are recorded, now or before.
        failures: Number of the line, counted from 0, and why it is not recorded: first the lines
            that hold no turn at all, then the turns that could not be stored.
    """

    def __init__(
        self, reading: Reading, groups: Sequence[Group], settled: Sequence[Answers | Exception]
    ) -> None:
        self.count = 0
        self._stored: list[tuple[str, SheetAnswers]] = []
        self._single: list[RecordedLine] = []
        refused: list[tuple[int, Exception]] = list(reading.refused)
        for group, outcome in zip(groups, settled, strict=True):
            sheet = reading.sheets[group.continuation_id]
            if isinstance(outcome, Exception):
                refused += self._take_failure(group.continuation_id, sheet, outcome)
            elif isinstance(outcome, SheetAnswers):
                self._stored.append((group.continuation_id, outcome))
                self.count += len(outcome)
            else:
                refused += self._take(group.continuation_id, sheet, outcome)
        refused.sort(key=lambda failure: failure[0])
        self.failures: list[tuple[int, Exception]] = [*reading.broken, *refused]

    def answers(self) -> list[RecordedLine]:
        """Return the lines that are recorded, in their order."""
        found = list(self._single)
        for continuation_id, answers in self._stored:
            sheet = answers.sheet
            found += (
                RecordedLine(
                    number,
                    continuation_id,
                    sheet.id_of(row),
                    answers.first_seq + row,
                    answers.ts_of(row),
                )
                for row, number in enumerate(sheet.numbers)
            )
        found.sort(key=lambda line: line.number)
        return found

    def _take(
        self, continuation_id: str, sheet: Sheet, answers: list[Turn | TurnConflict]
    ) -> list[tuple[int, Exception]]:
        """Note what is stored, now or before, and return what is not."""
        failures: list[tuple[int, Exception]] = []
        for number, answer in zip(sheet.numbers, answers, strict=True):
            if isinstance(answer, TurnConflict):
                failures.append((number, answer))
            else:
                self._single.append(_line_of(number, continuation_id, answer))
        self.count += len(sheet) - len(failures)
        return failures

    def _take_failure(
        self, continuation_id: str, sheet: Sheet, error: Exception
    ) -> list[tuple[int, Exception]]:
        """Do the same where the sheet was not stored, or only its first rows."""
        answers = error.answers if isinstance(error, StorageFull) else ()
        failures: list[tuple[int, Exception]] = []
        for number, answer in zip(sheet.numbers, answers or [None] * len(sheet), strict=True):
            if answer is None or isinstance(answer, TurnConflict):
                failures.append((number, answer or error))
            else:
                self._single.append(_line_of(number, continuation_id, answer))
        self.count += len(sheet) - len(failures)
        return failures


def _line_of(number: int, continuation_id: str, turn: Turn) -> RecordedLine:
    ts = None if turn.ts is None else format_time(turn.ts)
    return RecordedLine(number, continuation_id, turn.id, turn.seq, ts)
