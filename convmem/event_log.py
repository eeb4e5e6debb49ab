"""A log line for each event: through ``logging``, or as JSON to a stream. And several observers.

Lines hold conversations' ids, sizes and times, never content.
"""

from __future__ import annotations

import json
import logging
import time

from convmem.progress import Observer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, TextIO

    from convmem.errors import ConvmemError
    from convmem.log.records import Damage
    from convmem.log.removing.survey import CompactionReport


class EventLog(Observer):
    """Logs each event through ``logging``, to the logger ``convmem``, with its figures as fields.

    Records and compactions are logged as INFO, reads as DEBUG, and as WARNING failures and damage.
    The fields are attributes of the log record (``event``, ``continuation_id``, ``seconds``, …),
    so formatters that write JSON find them, ``JsonFormatter`` among them.
    """

    def __init__(self, logger: logging.Logger | None = None) -> None:
        self._logger = logger or logging.getLogger("convmem")

    @classmethod
    def to_stream(cls, stream: TextIO, *, level: int = logging.DEBUG) -> EventLog:
        """Return one that writes JSON lines to *stream*, whatever ``logging`` is set up to do."""
        handler = logging.StreamHandler(stream)
        handler.setFormatter(JsonFormatter())
        logger = logging.Logger("convmem", level)
        logger.addHandler(handler)
        return cls(logger)

    def recorded(
        self, continuation_id: str, turns: int, bytes: int, seconds: float, waited_seconds: float
    ) -> None:
        """Log it as INFO."""
        self._log(
            logging.INFO,
            "recorded",
            f"{turns} turns recorded",
            continuation_id,
            turns=turns,
            bytes=bytes,
            seconds=_rounded(seconds),
            waited_seconds=_rounded(waited_seconds),
        )

    def read(self, continuation_id: str, turns: int, seconds: float) -> None:
        """Log it as DEBUG."""
        self._log(
            logging.DEBUG,
            "read",
            f"{turns} turns read",
            continuation_id,
            turns=turns,
            seconds=_rounded(seconds),
        )

    def compacted(self, continuation_id: str, report: CompactionReport, seconds: float) -> None:
        """Log it as INFO."""
        self._log(
            logging.INFO,
            "compacted",
            f"{report.dropped} turns dropped, {report.kept} kept",
            continuation_id,
            dropped=report.dropped,
            kept=report.kept,
            reasons=dict(report.reasons),
            bytes_before=report.bytes_before,
            bytes_after=report.bytes_after,
            damaged=report.damaged,
            trash=report.trash,
            seconds=_rounded(seconds),
        )

    def failed(self, continuation_id: str, doing: str, error: ConvmemError) -> None:
        """Log it as WARNING."""
        self._log(
            logging.WARNING,
            "failed",
            f"cannot {doing}: {error}",
            continuation_id,
            doing=doing,
            kind=error.kind,
        )

    def damaged(self, continuation_id: str, damage: Damage) -> None:
        """Log it as WARNING."""
        self._log(
            logging.WARNING,
            "damaged",
            f"{damage.length} bytes at byte {damage.offset} passed over: {damage.reason}",
            continuation_id,
            offset=damage.offset,
            bytes=damage.length,
            reason=damage.reason,
        )

    def healed(self, continuation_id: str, quarantined: str) -> None:
        """Log it as WARNING."""
        what = "damaged compressed log" if quarantined.endswith(".zst") else "torn tail"
        self._log(
            logging.WARNING,
            "healed",
            f"{what} set aside in {quarantined}",
            continuation_id,
            quarantine=quarantined,
        )

    def set_aside(self, continuation_id: str, quarantined: str) -> None:
        """Log it as WARNING."""
        self._log(
            logging.WARNING,
            "set_aside",
            f"damaged state set aside in {quarantined}",
            continuation_id,
            quarantine=quarantined,
        )

    def _log(self, level: int, event: str, text: str, continuation_id: str, **fields: Any) -> None:
        if self._logger.isEnabledFor(level):
            self._logger.log(
                level,
                "%s: %s",
                continuation_id,
                text,
                extra={"event": event, "continuation_id": continuation_id, **fields},
            )


def _rounded(seconds: float) -> float:
    return round(seconds, 6)


# What every log record has; the rest was given as fields.
_USUAL = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}


class JsonFormatter(logging.Formatter):
    """Formats a log record as one JSON object: time, level, logger, its fields, and the message.

    For ``logging``'s own set-up too: ``{"()": "convmem.JsonFormatter"}``.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Return the object on one line, in ASCII, so that nothing in it can end the line."""
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        told: dict[str, Any] = {
            "ts": f"{at}.{int(record.created % 1 * 1e6):06d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
        }
        told.update((key, value) for key, value in vars(record).items() if key not in _USUAL)
        told["message"] = record.getMessage()
        if record.exc_info:
            told["exception"] = self.formatException(record.exc_info)
        return json.dumps(told, default=str, ensure_ascii=True)


class Observers(Observer):
    """Several observers as one: each is told of everything, in the order given.

    >>> Archive.open("chats", observer=Observers(metrics, EventLog()))
    """

    def __init__(self, *observers: Observer) -> None:
        self._observers = observers

    def recorded(
        self, continuation_id: str, turns: int, bytes: int, seconds: float, waited_seconds: float
    ) -> None:
        """See ``Observer.recorded``."""
        for each in self._observers:
            each.recorded(continuation_id, turns, bytes, seconds, waited_seconds)

    def read(self, continuation_id: str, turns: int, seconds: float) -> None:
        """See ``Observer.read``."""
        for each in self._observers:
            each.read(continuation_id, turns, seconds)

    def compacted(self, continuation_id: str, report: CompactionReport, seconds: float) -> None:
        """See ``Observer.compacted``."""
        for each in self._observers:
            each.compacted(continuation_id, report, seconds)

    def failed(self, continuation_id: str, doing: str, error: ConvmemError) -> None:
        """See ``Observer.failed``."""
        for each in self._observers:
            each.failed(continuation_id, doing, error)

    def damaged(self, continuation_id: str, damage: Damage) -> None:
        """See ``Observer.damaged``."""
        for each in self._observers:
            each.damaged(continuation_id, damage)

    def healed(self, continuation_id: str, quarantined: str) -> None:
        """See ``Observer.healed``."""
        for each in self._observers:
            each.healed(continuation_id, quarantined)

    def set_aside(self, continuation_id: str, quarantined: str) -> None:
        """See ``Observer.set_aside``."""
        for each in self._observers:
            each.set_aside(continuation_id, quarantined)

    def started(self, task: str, total: int) -> None:
        """See ``Observer.started``."""
        for each in self._observers:
            each.started(task, total)

    def advanced(self, task: str, amount: int) -> None:
        """See ``Observer.advanced``."""
        for each in self._observers:
            each.advanced(task, amount)

    def finished(self, task: str) -> None:
        """See ``Observer.finished``."""
        for each in self._observers:
            each.finished(task)
