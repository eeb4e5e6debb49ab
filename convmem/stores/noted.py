"""Writing down in the audit log what is about to happen, and if it then does not, that too."""

from __future__ import annotations

from convmem.errors import storage_error
from convmem.log.removing import audit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from datetime import datetime
    from typing import Any

    from convmem.log.files import Folder


class Noted:
    """A ``with`` block around one removal or return: ``note`` before, ``went`` when it is done."""

    def __init__(self, folder: Folder, now: datetime, namespace: str) -> None:
        self._folder = folder
        self._now = now
        self._namespace = namespace
        self._entry: dict[str, Any] | None = None

    def __enter__(self) -> None:
        self._entry = None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or self._entry is None:
            return
        undone = {**self._entry, "undone": str(error)}
        try:
            audit.note(self._folder, self._now, undone)
        except OSError:
            return  # the error itself is raised, and says more

    def went(self) -> None:
        """It did happen, whatever fails from now on."""
        self._entry = None

    def note(self, event: str, continuation_id: str, **more: Any) -> None:
        """Write the line, durably but for a power cut that also takes what it speaks of."""
        self._entry = {
            "event": event,
            "namespace": self._namespace,
            "continuation_id": continuation_id,
            **{key: value for key, value in more.items() if value is not None},
        }
        try:
            audit.note(self._folder, self._now, self._entry)
        except OSError as error:
            self._entry = None
            raise storage_error(error, "cannot write the audit log") from error
