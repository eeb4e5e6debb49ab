"""What every format is told of a conversation beside its turns."""

from __future__ import annotations


class Head:
    """Whose turns these are."""

    __slots__ = ("continuation_id", "namespace", "title")

    def __init__(self, continuation_id: str, namespace: str, title: str | None = None) -> None:
        self.continuation_id = continuation_id
        self.namespace = namespace
        self.title = title

    @property
    def name(self) -> str:
        """What people call it: its title, or its id where it has none."""
        title = " ".join((self.title or "").split())
        return title or self.continuation_id
