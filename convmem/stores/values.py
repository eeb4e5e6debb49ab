"""What goes into a store and comes out of it, beside turns."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import TypeAlias

    from convmem.errors import TurnConflict
    from convmem.log.removing.tombstones import Buried
    from convmem.log.sheet import Sheet, SheetAnswers
    from convmem.stores.facts_index import Facts
    from convmem.turns import Draft, Turn

    # For each draft: its turn, or the conflict that kept it out.
    Answers: TypeAlias = list[Turn | TurnConflict] | SheetAnswers


class Group:
    """Drafts, or a sheet of them, for one conversation among several.

    With *is_batch* all of them or none, as ``Store.append`` has it; there may then be several
    groups of one conversation, which are appended in their order. With *buried*, the answer of a
    store's trash, only if that still holds: ``BuriedMeanwhile`` else.
    """

    __slots__ = ("buried", "continuation_id", "drafts", "is_batch", "namespace")

    def __init__(
        self,
        namespace: str,
        continuation_id: str,
        drafts: list[Draft] | Sheet,
        buried: Buried | None = None,
        *,
        is_batch: bool = False,
    ) -> None:
        self.namespace = namespace
        self.continuation_id = continuation_id
        self.drafts = drafts
        self.buried = buried
        self.is_batch = is_batch


class Description:
    """What a list shows of a conversation.

    Attributes:
        bytes: The size of its log.
        first_ts, last_ts: The times of its first and last turn that have one; ``None`` with none.
        last_seq: The highest ``seq`` that was given out, 0 for none.
        turns: How many turns there are, where that was asked for.
    """

    __slots__ = (
        "bytes",
        "continuation_id",
        "first_ts",
        "last_seq",
        "last_ts",
        "namespace",
        "turns",
    )

    def __init__(
        self,
        *,
        continuation_id: str,
        namespace: str,
        bytes: int,
        first_ts: datetime | None,
        last_ts: datetime | None,
        last_seq: int,
        turns: int | None,
    ) -> None:
        self.continuation_id = continuation_id
        self.namespace = namespace
        self.bytes = bytes
        self.first_ts = first_ts
        self.last_ts = last_ts
        self.last_seq = last_seq
        self.turns = turns

    def as_dict(self) -> dict[str, object]:
        """Return the description as the JSON object that ``list --json`` prints."""
        from convmem.quantities import format_time

        shown: dict[str, object] = {
            "continuation_id": self.continuation_id,
            "namespace": self.namespace,
            "bytes": self.bytes,
            "first_ts": None if self.first_ts is None else format_time(self.first_ts),
            "last_ts": None if self.last_ts is None else format_time(self.last_ts),
            "last_seq": self.last_seq,
        }
        if self.turns is not None:
            shown["turns"] = self.turns
        return shown


class ListRow:
    """What a list of conversations shows of one.

    Attributes:
        bytes: The size of its file.
        last_seq: The highest ``seq`` that was given out, 0 for none.
        title: How its first user turn begins, else its first turn; at most 60 characters.
        turns: How many there are, where that was asked for.
        counts: What a whole reading told, where there was one since the last change.
        is_compressed: Whether the file is a compressed one.
        last_text: The time of its last turn as text that sorts, empty with none.
    """

    __slots__ = (
        "_first_text",
        "bytes",
        "continuation_id",
        "counts",
        "is_compressed",
        "last_seq",
        "last_text",
        "namespace",
        "title",
        "turns",
    )

    def __init__(
        self, namespace: str, continuation_id: str, facts: Facts, *, with_turns: bool
    ) -> None:
        self.namespace = namespace
        self.continuation_id = continuation_id
        self.bytes = facts.bytes
        self.last_seq = facts.last_seq
        self.title = facts.title
        self.turns = None if facts.counts is None or not with_turns else facts.counts.turns
        self.counts = facts.counts
        self.is_compressed = facts.is_compressed
        self.last_text = facts.last_ts or ""
        self._first_text = facts.first_ts

    @property
    def first_ts(self) -> datetime | None:
        """The time of its first turn that has one."""
        return _moment(self._first_text)

    @property
    def last_ts(self) -> datetime | None:
        """The time of its last turn that has one: its last activity."""
        return _moment(self.last_text)

    def as_dict(self) -> dict[str, object]:
        """Return the row as the JSON object that ``list --json`` prints."""
        shown: dict[str, object] = {
            "continuation_id": self.continuation_id,
            "namespace": self.namespace,
            "bytes": self.bytes,
            "first_ts": self._first_text,
            "last_ts": self.last_text or None,
            "last_seq": self.last_seq,
            "title": self.title,
            "compressed": self.is_compressed,
        }
        if self.turns is not None:
            shown["turns"] = self.turns
        return shown


def _moment(text: str | None) -> datetime | None:
    from convmem.quantities import parse_stored_time

    return parse_stored_time(text) if text else None
