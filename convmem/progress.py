"""What the core tells whoever watches: what was done and how long it took, damage, progress.

The core calls an ``Observer``; the command line draws one. All methods may be called from any
thread, and must not raise. They run while the caller waits: be quick.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from convmem.errors import ConvmemError
    from convmem.log.records import Damage
    from convmem.log.removing.survey import CompactionReport


class Observer:
    """Watches without a word. Override what is of interest."""

    def recorded(
        self, continuation_id: str, turns: int, bytes: int, seconds: float, waited_seconds: float
    ) -> None:
        """Turns were acknowledged: so many that are new, 0 for a retry, in so many bytes.

        *seconds* is what the caller waited, from the call to the answer; *waited_seconds* is how
        much of that went by while others held the conversation's lock.
        """

    def read(self, continuation_id: str, turns: int, seconds: float) -> None:
        """The last *turns* turns were read, for ``tail`` and the like."""

    def compacted(self, continuation_id: str, report: CompactionReport, seconds: float) -> None:
        """A compaction came to its end; perhaps there was nothing to drop."""

    def failed(self, continuation_id: str, doing: str, error: ConvmemError) -> None:
        """The caller got *error* for what it asked: ``"record"`` or ``"compact"``."""

    def damaged(self, continuation_id: str, damage: Damage) -> None:
        """Bytes of a log are no turn and were passed over by a reader."""

    def healed(self, continuation_id: str, quarantined: str) -> None:
        """The tail that a crash had torn was set aside in the file *quarantined*.

        With a name that ends in ``.zst`` it is a compressed log that did not unpack whole: what is
        left of it is plain again.
        """

    def set_aside(self, continuation_id: str, quarantined: str) -> None:
        """A damaged state was removed, and its bytes set aside in the file *quarantined*."""

    def started(self, task: str, total: int) -> None:
        """A long task begins; *total* is in bytes."""

    def advanced(self, task: str, amount: int) -> None:
        """The task went *amount* bytes further."""

    def finished(self, task: str) -> None:
        """The task is over, well or not."""


class LoggingObserver(Observer):
    """Says on the standard ``logging`` channel ``convmem`` what nobody asked to be told."""

    def damaged(self, continuation_id: str, damage: Damage) -> None:
        """Warn: a reader's answer is short of what once stood there."""
        _warn(
            "%s: %d bytes at byte %d passed over: %s",
            continuation_id,
            damage.length,
            damage.offset,
            damage.reason,
        )

    def healed(self, continuation_id: str, quarantined: str) -> None:
        """Warn: a crash had torn the log, or it did not unpack whole."""
        what = "damaged compressed log" if quarantined.endswith(".zst") else "torn tail"
        _warn("%s: %s set aside in %s", continuation_id, what, quarantined)

    def set_aside(self, continuation_id: str, quarantined: str) -> None:
        """Warn: a damaged state is gone from its place."""
        _warn("%s: damaged state set aside in %s", continuation_id, quarantined)


def _warn(text: str, *values: object) -> None:
    # Loaded with the first damage: most processes never meet any.
    import logging

    logging.getLogger("convmem").warning(text, *values)
